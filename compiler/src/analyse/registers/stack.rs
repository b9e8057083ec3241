//! What instructions do with the stack pointer: whether a call is made with an aligned stack, and how many arguments on the
//! stack a function reads.
//!
//! ```text
//! CFA = rsp before the call, 16-aligned ──►  │ stack arguments: [CFA], [CFA+8] ...
//!                                  CFA-8     │ return address            depth 8 at the entry
//!                                  CFA-16    │ push rbp                  depth 16: a call is aligned here
//! ```
//! gcc calls a function that needs no aligned stack without aligning it, at every level of optimisation
//! (`-fipa-stack-alignment`; gcc `calls.cc`, `expand_call`, `preferred_incoming_stack_boundary`).

use super::code::{Body, Code, Flow, flow};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use lpb::LinkAddr;
use std::collections::HashMap;

/// More than the instructions that are ever decoded of one module: each is walked once.
const MOST_STEPS: u32 = 1 << 23;

/// Where rsp and rbp are below the CFA, in bytes. `None`: not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    pub rsp: Option<i64>,
    rbp: Option<i64>,
}

const ENTRY: Depth = Depth { rsp: Some(8), rbp: None };

/// By instruction.
pub type Depths = HashMap<LinkAddr, Depth>;

/// Depths of a function's instructions, parts that stand apart included. A block that only a jump table leads to is taken to
/// be as deep as that jump.
pub fn depths(code: &Code<'_>, entry: LinkAddr) -> Depths {
    let mut known = HashMap::new();
    let Some(root) = code.body(entry) else { return known };
    let mut table = None;
    walk(code, &root, vec![(entry, ENTRY)], &mut known, &mut table);
    if let Some(depth) = table {
        let behind = root.code.iter().zip(root.code.iter().skip(1));
        let blocks = behind.filter(|(i, next)| {
            let ends = matches!(flow(i), Flow::Jump(_) | Flow::Table | Flow::Leave | Flow::Return | Flow::Stop);
            ends && next.mnemonic() != Mnemonic::Nop
        });
        let blocks: Vec<LinkAddr> =
            blocks.map(|(_, next)| LinkAddr(next.ip())).filter(|at| !known.contains_key(at)).collect();
        for block in blocks {
            walk(code, &root, vec![(block, depth)], &mut known, &mut None);
        }
    }
    known
}

fn walk(code: &Code<'_>, root: &Body, mut todo: Vec<(LinkAddr, Depth)>, known: &mut Depths, table: &mut Option<Depth>) {
    for _ in 0..MOST_STEPS {
        let Some((at, depth)) = todo.pop() else { return };
        if known.contains_key(&at) {
            continue;
        }
        let part = if root.holds(at) { None } else { code.body(at) };
        let body = part.as_deref().unwrap_or(root);
        if body.start != root.start && !super::live::is_part(&body.name) {
            continue;
        }
        let Some(i) = body.index(at).and_then(|n| body.code.get(n)) else { continue };
        known.insert(at, depth);
        let (behind, next) = (after(i, depth), LinkAddr(i.next_ip()));
        match flow(i) {
            Flow::Next | Flow::Call(_) | Flow::CallUnknown => todo.push((next, behind)),
            Flow::Branch(to) => todo.extend([(to, behind), (next, behind)]),
            Flow::Jump(to) => todo.push((to, behind)),
            Flow::Table => *table = table.or(Some(depth)),
            Flow::Leave | Flow::Return | Flow::Stop => {}
        }
    }
}

/// Depths behind an instruction.
fn after(i: &Instruction, depth: Depth) -> Depth {
    use Mnemonic as M;
    let Depth { rsp, rbp } = depth;
    let moved = |by: i64| rsp.and_then(|d| d.checked_add(by));
    let (to, from) = (i.op0_register(), i.op1_register());
    let immediate = i.try_immediate(1).ok().map(u64::cast_signed);
    match (i.mnemonic(), to) {
        (M::Leave, _) => Depth { rsp: rbp.and_then(|d| d.checked_sub(8)), rbp: None },
        (M::Pop, Register::RBP) => Depth { rsp: moved(-8), rbp: None },
        (M::Pop, Register::RSP) => Depth { rsp: None, rbp },
        (M::Push | M::Pop, _) => Depth { rsp: moved(i64::from(i.stack_pointer_increment()).wrapping_neg()), rbp },
        (M::Mov, Register::RBP) if from == Register::RSP => Depth { rsp, rbp: rsp },
        (M::Mov, Register::RSP) if from == Register::RBP => Depth { rsp: rbp, rbp },
        (M::Sub, Register::RSP) => Depth { rsp: immediate.and_then(moved), rbp },
        (M::Add, Register::RSP) => Depth { rsp: immediate.and_then(i64::checked_neg).and_then(moved), rbp },
        (M::Lea, Register::RSP) if i.memory_index() == Register::None => {
            let base = match i.memory_base() {
                Register::RSP => rsp,
                Register::RBP => rbp,
                _ => None,
            };
            Depth { rsp: base.and_then(|d| d.checked_sub(i.memory_displacement64().cast_signed())), rbp }
        }
        (M::Lea, Register::RBP) if i.memory_base() == Register::RSP && i.memory_index() == Register::None => {
            Depth { rsp, rbp: rsp.and_then(|d| d.checked_sub(i.memory_displacement64().cast_signed())) }
        }
        (_, Register::RSP | Register::ESP) if writes_first(i) => Depth { rsp: None, rbp },
        (_, Register::RBP | Register::EBP) if writes_first(i) => Depth { rsp, rbp: None },
        _ => depth,
    }
}

/// Whether the first operand is more than compared.
fn writes_first(i: &Instruction) -> bool {
    !matches!(i.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push) && i.op0_kind() == OpKind::Register
}

/// Whether a call or tail jump at this depth enters the function with a stack that is not 16-aligned.
pub fn misaligned(depth: Depth, jump: bool) -> bool {
    let return_address = if jump { 8 } else { 0 };
    depth.rsp.is_some_and(|d| d.wrapping_sub(return_address) & 15 != 0)
}

/// The words of arguments on the stack that a function reads; `None` if that cannot be told.
pub fn words(code: &Code<'_>, entry: LinkAddr) -> Option<u32> {
    const MOST: i64 = 8 * 64;
    let body = code.body(entry)?;
    let depths = depths(code, entry);
    let (mut end, mut passes_on) = (0_i64, false);
    for (at, depth) in &depths {
        let part = if body.holds(*at) { None } else { code.body(*at) };
        let body = part.as_deref().unwrap_or(&body);
        let i = body.index(*at).and_then(|n| body.code.get(n))?;
        // A function that runs in its place may take the same arguments.
        passes_on |= match flow(i) {
            Flow::Jump(to) | Flow::Branch(to) => !depths.contains_key(&to),
            Flow::Leave => true,
            _ => false,
        };
        let uses = [0, 1, 2].into_iter().any(|n| matches!(i.try_op_kind(n), Ok(OpKind::Memory)));
        if !uses || i.mnemonic() == Mnemonic::Nop {
            continue;
        }
        let base = match i.memory_base() {
            Register::RSP => Some(depth.rsp?),
            Register::RBP => depth.rbp,
            _ => None,
        };
        let Some(base) = base else { continue };
        let from = i.memory_displacement64().cast_signed().checked_sub(base)?;
        if from < 0 {
            continue;
        }
        if i.mnemonic() == Mnemonic::Lea || i.memory_index() != Register::None {
            return None;
        }
        let size = i64::try_from(i.memory_size().size()).ok().filter(|n| *n != 0)?;
        end = end.max(from.checked_add(size)?);
    }
    u32::try_from(end.checked_add(7)?.checked_div(8)?).ok().filter(|_| end <= MOST && (end == 0 || !passes_on))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::prologue::decode;

    /// Bytes: GNU as.
    #[test]
    fn depths_of_instructions() {
        let at = |rsp, rbp| Depth { rsp, rbp };
        for (why, bytes, before, want) in [
            ("push rbx", &[0x53][..], ENTRY, at(Some(16), None)),
            ("pop rbx", &[0x5b], at(Some(16), None), ENTRY),
            ("sub rsp,24", &[0x48, 0x83, 0xec, 0x18], ENTRY, at(Some(32), None)),
            ("add rsp,24", &[0x48, 0x83, 0xc4, 0x18], at(Some(32), None), ENTRY),
            ("mov rbp,rsp", &[0x48, 0x89, 0xe5], at(Some(16), None), at(Some(16), Some(16))),
            ("leave", &[0xc9], at(None, Some(16)), ENTRY),
            ("lea rsp,[rbp-8]", &[0x48, 0x8d, 0x65, 0xf8], at(None, Some(16)), at(Some(24), Some(16))),
            ("and rsp,-32", &[0x48, 0x83, 0xe4, 0xe0], at(Some(16), Some(16)), at(None, Some(16))),
            ("sub rsp,rax", &[0x48, 0x29, 0xc4], at(Some(16), Some(16)), at(None, Some(16))),
            ("mov rbp,rdi", &[0x48, 0x89, 0xfd], at(Some(16), Some(16)), at(Some(16), None)),
            ("cmp rbp,rdi", &[0x48, 0x39, 0xfd], at(Some(16), Some(16)), at(Some(16), Some(16))),
            ("mov [rsp],rax", &[0x48, 0x89, 0x04, 0x24], ENTRY, ENTRY),
        ] {
            let i = decode(bytes, LinkAddr(0)).next().unwrap();
            assert_eq!(after(&i, before), want, "{why}");
        }
    }

    #[test]
    fn alignment() {
        for (rsp, jump, want) in [
            (Some(8), false, true),
            (Some(16), false, false),
            (Some(24), false, true),
            (Some(8), true, false),
            (Some(16), true, true),
            (None, false, false),
        ] {
            assert_eq!(misaligned(Depth { rsp, rbp: None }, jump), want, "{rsp:?} {jump}");
        }
    }
}
