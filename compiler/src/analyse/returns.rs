//! Does a function return? Where the compiler has seen that it does not, callers have no code behind the call.
//!
//! ```text
//! die:  call puts@plt         fail:  mov edi, 2
//!       call exit@plt                call die
//!       (the end)                    (the end: what comes back runs into the next function)
//! ```

use super::function::Function;
use super::graph::Kind;
use super::prologue::{self, branch_target};
use super::registers::code::{Flow, flow};
use super::users::stub_slot;
use super::{Study, evidence};
use crate::finding::{Explain, Findings};
use crate::read::elf::Object;
use crate::read::patch::Wanted;
use crate::rule::{self, Rule};
use iced_x86::{FlowControl, Instruction};
use lpb::addr::to_usize;
use lpb::{JUMP_LEN, LinkAddr, limits};
use std::collections::HashMap;

/// Functions of the C library, of POSIX and of the C++ runtime that do not return. Sources: ISO C, 7.22.4 and 7.13.2; POSIX,
/// "pthread_exit"; err(3); LSB, "__stack_chk_fail", "__assert_fail"; Itanium C++ ABI, Exception Handling, 2.4.
const NEVER: [&str; 25] = [
    "exit",
    "_exit",
    "_Exit",
    "quick_exit",
    "abort",
    "longjmp",
    "_longjmp",
    "siglongjmp",
    "__longjmp_chk",
    "pthread_exit",
    "thrd_exit",
    "err",
    "errx",
    "verr",
    "verrx",
    "__stack_chk_fail",
    "__chk_fail",
    "__assert_fail",
    "__assert",
    "_Unwind_Resume",
    "__cxa_throw",
    "__cxa_rethrow",
    "__cxa_bad_cast",
    "__cxa_throw_bad_array_new_length",
    "_ZSt9terminatev",
];
/// Of these, the ones that leave the function and not the thread.
const UNWINDS: [&str; 6] = ["longjmp", "_longjmp", "siglongjmp", "__longjmp_chk", "__cxa_throw", "__cxa_rethrow"];
/// A replaced function's old code, as a patch names it.
const ORIGINAL: &str = "lp_original.";

/// Callers are not ready for what the new function does.
#[derive(Debug, thiserror::Error)]
#[error("{name} never returns, and {new} does: its callers have no code behind the call")]
struct ReturnsNow {
    name: String,
    new: String,
    lines: Vec<String>,
}

impl Explain for ReturnsNow {
    fn hint(&self) -> Option<String> {
        Some(format!("end {} as {} ends, declared `__attribute__((noreturn))`", self.new, self.name))
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(&rule::RETURNS)
    }

    fn evidence(&self) -> Vec<String> {
        evidence(&self.lines)
    }
}

/// Notes of each replaced function that does not return which callers count on that: the call is the last thing that they do.
pub fn note(study: &mut Study<'_>) {
    let ends = study.ends;
    let unready = |f: &Function| -> Vec<String> {
        let calls = study.graph.callers(f.addr).filter(|(node, edge)| {
            let Some(behind) = edge.at.plus(CALL_LEN).filter(|_| edge.kind == Kind::Call) else { return false };
            Some(behind) == node.start.plus(node.size) || is_trap(study.object, behind)
        });
        let mut lines = calls.map(|(node, edge)| study.place(&node.name, edge.at, edge.kind)).peekable();
        match lines.peek() {
            Some(_) if !ends.may_leave(f) => lines.collect(),
            _ => Vec::new(),
        }
    };
    let all: Vec<Vec<String>> = study.functions.iter().map(|f| unready(f)).collect();
    for (f, lines) in study.functions.iter_mut().zip(all) {
        f.last_calls = lines;
    }
}

/// `call rel32`
const CALL_LEN: u64 = 5;
/// Whether a trap is all that runs from here on: rustc writes one behind such a call, or a jump to one for several.
fn is_trap(object: &Object, at: LinkAddr) -> bool {
    let starts = |at| object.memory(at, UD2_LEN).is_ok_and(|code| code == UD2);
    let jump = |at| {
        let code = [JUMP_LEN, SHORT_JUMP_LEN].into_iter().find_map(|len| object.memory(at, len).ok())?;
        let first = prologue::decode(&code, at).next()?;
        branch_target(&first).filter(|_| first.flow_control() == FlowControl::UnconditionalBranch)
    };
    starts(at) || jump(at).is_some_and(starts)
}

/// `ud2`
const UD2: [u8; 2] = [0x0F, 0x0B];
const UD2_LEN: u64 = 2;
/// `jmp rel8`
const SHORT_JUMP_LEN: u64 = 2;

/// Looks at what replaces such a function.
pub fn check(patch: &Object, wanted: &[Wanted], functions: &[Function], findings: &mut Findings) {
    let ends = Ends::of(patch);
    for f in functions.iter().filter(|f| !f.last_calls.is_empty()) {
        let Some(w) = wanted.get(f.number).filter(|w| ends.leaves(w.new_addr)) else { continue };
        findings.add(ReturnsNow { name: f.name.clone(), new: w.new.clone(), lines: f.last_calls.clone() });
    }
}

/// What is known of the calls of one object that do not come back.
pub struct Ends<'a> {
    object: &'a Object,
    /// Names by the slots of the GOT that hold their addresses.
    slots: HashMap<LinkAddr, String>,
}

impl<'a> Ends<'a> {
    pub fn of(object: &'a Object) -> Self {
        let table = &object.dynamic.symbols;
        let named = object.dynamic.relocs.iter().filter_map(|r| {
            let name = table.text(object.dynamic.symbol_of(r)?);
            (NEVER.contains(&name.as_str()) || name.starts_with(ORIGINAL)).then_some((r.place, name))
        });
        Self { object, slots: named.collect() }
    }

    /// The name of what runs at `to`, if that is known not to return.
    fn end(&self, to: LinkAddr) -> Option<String> {
        const STUB: u64 = 16;
        let of_stub = || {
            let code = self.object.memory(to, STUB).ok().filter(|_| !self.slots.is_empty())?;
            self.slots.get(&stub_slot(&code, to)?).cloned()
        };
        let table = &self.object.symtab;
        let names = || table.at(to).filter(|s| s.is_function()).map(|s| table.text(s));
        of_stub().or_else(|| names().find(|name| NEVER.contains(&name.as_str())))
    }

    fn called_end(&self, i: &Instruction) -> Option<String> {
        match flow(i) {
            Flow::Call(to) => self.end(to),
            Flow::CallUnknown => self.slots.get(&LinkAddr(i.ip_rel_memory_address())).cloned(),
            _ => None,
        }
    }

    /// Whether an instruction is a call that does not come back.
    pub fn ends_at(&self, i: &Instruction) -> bool {
        self.called_end(i).is_some()
    }

    /// Whether an instruction is a call that goes on in a function further out.
    pub fn unwinds_at(&self, i: &Instruction) -> bool {
        self.called_end(i).is_some_and(|name| UNWINDS.contains(&name.as_str()))
    }

    /// Whether a function may come to its end, or to that of another one, as far as its instructions tell.
    pub fn may_leave(&self, f: &Function) -> bool {
        f.fragments.iter().any(|part| {
            let mut last = None;
            let leaves = prologue::decode(&part.bytes, part.addr).any(|i| {
                last = Some(i);
                self.way_out(&i, |to| f.holds(to))
            });
            // What goes on behind its end is more than it seems; `nop` is the padding of a short function.
            leaves || last.is_none_or(|i| matches!(flow(&i), Flow::Next | Flow::Branch(_)) && !is_nothing(&i))
        })
    }

    /// Whether a function of the patch has a way to its end.
    fn leaves(&self, at: LinkAddr) -> bool {
        let table = &self.object.symtab;
        let Some(symbol) = table.at(at).find(|s| s.is_function() && s.size != 0 && s.size <= limits::FRAGMENT) else {
            return false;
        };
        let prefix = [table.name(symbol), b"."].concat();
        let parts = table.prefixed(&prefix).filter(|s| s.is_function() && s.size <= limits::FRAGMENT);
        let all: Vec<_> = parts.chain([symbol]).collect();
        let holds = |to: LinkAddr| all.iter().any(|s| to.since(s.value).is_some_and(|n| n < s.size));
        all.iter().any(|s| {
            let bytes = self.object.memory(s.value, s.size).unwrap_or_default();
            prologue::decode(bytes.get(..to_usize(s.size)).unwrap_or_default(), s.value)
                .any(|i| self.way_out(&i, holds))
        })
    }

    fn way_out(&self, i: &Instruction, inside: impl Fn(LinkAddr) -> bool) -> bool {
        match i.flow_control() {
            FlowControl::Return => true,
            FlowControl::IndirectBranch => !self.slots.contains_key(&LinkAddr(i.ip_rel_memory_address())),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                branch_target(i).is_none_or(|to| !inside(to) && self.end(to).is_none())
            }
            _ => false,
        }
    }
}

fn is_nothing(i: &Instruction) -> bool {
    use iced_x86::Mnemonic;
    matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Hlt)
}
