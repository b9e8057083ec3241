//! What callers know of a function's inside, and would be wrong about after it is replaced.
//!
//! ```text
//! caller:  mov edx, 3            old f leaves edx alone: gcc keeps the value there (-fipa-ra)
//!          call f                rsp is not 16-aligned: old f does not need it (-fipa-stack-alignment)
//!          add eax, edx
//! ```
//! The new function knows nothing of that. Where a caller is found that relies on it, the jump leads to a thunk that restores
//! the registers and aligns the stack (`arch/x86_64/preserve.rs`).
//!
//! gcc does neither for a function that another module may define in its place, nor for one that makes calls whose target it
//! does not know. Source: gcc manual, "-fipa-ra", "-fipa-stack-alignment", "-flive-patching".

mod clobber;
pub mod code;
mod error;
mod imports;
mod live;
mod stack;

use super::graph::instruction_text;
use super::limits::LimitError;
use super::options::Options;
use super::{Function, Study};
use crate::arch::x86_64::preserve::Thunk;
use crate::arch::x86_64::registers::{RegSet, effect};
use crate::finding::Findings;
use crate::read::dwarf::{Class, Convention, Dwarf};
use crate::read::elf::Object;
use crate::read::patch::Wanted;
use crate::resolve::scope::Scope;
use code::{Caller, Code};
use error::RegisterError;
use iced_x86::InstructionInfoFactory;
use imports::Imports;
use live::{Held, Walker};
use lpb::LinkAddr;
use stack::Depths;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Callers of callers that are looked at for one function.
const MOST_FUNCTIONS: usize = 1024;
/// Lines of evidence.
const MOST_LINES: usize = 8;

/// What the entry of a replaced function has to do for its callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Registers that it must not change. None: the stack has to be aligned only.
    pub keep: RegSet,
    /// Words of arguments on the stack that the old function reads; `None` if that cannot be told.
    pub words: Option<u32>,
    /// Its debug information says that it has none.
    pub in_registers: bool,
    /// What shows that callers need it.
    pub evidence: Vec<String>,
}

/// What is known of the registers of one module's functions: each is looked at once.
pub struct Known<'a> {
    walker: Walker<'a>,
    depths: RefCell<HashMap<LinkAddr, Rc<Depths>>>,
}

impl<'a> Known<'a> {
    /// Nothing yet. `scope` has the modules whose functions it calls.
    pub fn of(object: &'a Object, scope: Scope<'a>) -> Self {
        let imports = Imports::of(object, scope);
        let walker = Walker::new(object, Box::new(move |at| imports.arguments(at)));
        Self { walker, depths: RefCell::default() }
    }

    /// The functions themselves.
    pub fn code(&self) -> &Code<'a> {
        &self.walker.code
    }

    fn depths(&self, entry: LinkAddr) -> Rc<Depths> {
        let known = self.depths.borrow().get(&entry).cloned();
        known.unwrap_or_else(|| {
            let made = Rc::new(stack::depths(&self.walker.code, entry));
            self.depths.borrow_mut().insert(entry, Rc::clone(&made));
            made
        })
    }
}

/// Looks at the callers of every replaced function, and notes what each of these needs.
pub fn check(study: &mut Study<'_>, findings: &mut Findings) {
    let about = About { object: study.object, dwarf: study.dwarf, known: study.known, walker: &study.known.walker };
    for f in &mut study.functions {
        let code = &study.known.walker.code;
        code.met();
        f.need = about.function(f, findings);
        if let Some(limit) = code.met() {
            let (name, limit) = (f.name.clone(), limit.to_owned());
            findings.add(LimitError { what: "what callers know of", several: false, name, limit });
        }
    }
}

/// What one caller was found to do.
#[derive(Debug)]
struct Hazard {
    caller: String,
    /// It reads these after the call.
    reads: RegSet,
    evidence: String,
}

/// All that questions about one module need.
struct About<'a> {
    object: &'a Object,
    dwarf: Option<&'a Dwarf>,
    known: &'a Known<'a>,
    walker: &'a Walker<'a>,
}

/// Callers of this function are to be looked at.
#[derive(Clone, Copy)]
struct Level {
    entry: LinkAddr,
    /// Registers that nothing has written since the replaced function returned.
    set: RegSet,
    /// It enters the replaced function with the alignment that it was entered with.
    aligns: bool,
}

impl About<'_> {
    fn function(&self, f: &Function, findings: &mut Findings) -> Option<Need> {
        let code = &self.walker.code;
        let known = self.walker.clobbers.of(code, f.addr).zip(code.body(f.addr));
        let (clobber, _) = known.filter(|(_, body)| clobber::returns(body))?;
        let convention = self.dwarf.and_then(|d| d.convention(f.addr));
        let free = RegSet::CALLER_SAVED.without(clobber).without(convention.map_or(RegSet::NONE, results));
        let (kept, misaligned) = self.hazards(f.addr, free);
        let relied = kept.iter().fold(RegSet::NONE, |all, h| all | h.reads);
        if kept.is_empty() && misaligned.is_empty() {
            return None;
        }
        let name = || f.name.clone();
        if !kept.is_empty() {
            let vague = if convention.is_some() || self.returns_general(f.addr) { RegSet::NONE } else { VAGUE };
            if let Some((why, hint)) = impossible(relied, vague) {
                findings.add(RegisterError::NoThunk { name: name(), why, hint, evidence: lines(&kept) });
                return None;
            }
            let (callers, several) = callers(&kept);
            let (relied, evidence) = (relied.to_string(), lines(&kept));
            findings.add(RegisterError::Kept { name: name(), callers, several, relied, evidence });
        }
        if !misaligned.is_empty() {
            let (callers, several) = callers(&misaligned);
            findings.add(RegisterError::Misaligned { name: name(), callers, several, evidence: lines(&misaligned) });
        }
        let unclear = if convention.is_none() { VAGUE.without(relied) } else { RegSet::NONE };
        let keep = if kept.is_empty() { RegSet::NONE } else { free.without(unclear).narrowed(relied.width()) };
        let in_registers = convention.is_some_and(|c| c.in_registers);
        let evidence = kept.iter().chain(&misaligned).take(MOST_LINES).map(|h| h.evidence.clone()).collect();
        Some(Need { keep, words: stack::words(code, f.addr), in_registers, evidence })
    }

    /// Callers that rely on `free` registers, and callers that do not align the stack.
    fn hazards(&self, f: LinkAddr, free: RegSet) -> (Vec<Hazard>, Vec<Hazard>) {
        let (mut kept, mut misaligned) = (Vec::new(), Vec::new());
        let mut seen: HashMap<LinkAddr, (RegSet, bool)> = HashMap::new();
        let mut todo = vec![Level { entry: f, set: free, aligns: true }];
        while let Some(here) = todo.pop() {
            if !here.aligns && here.set.is_empty() {
                continue;
            }
            if seen.len() > MOST_FUNCTIONS {
                self.walker.code.meet("more than 1024 functions call it, directly or not");
                break;
            }
            let (set, aligns) = seen.entry(here.entry).or_insert((RegSet::NONE, false));
            if here.set.without(*set).is_empty() && (!here.aligns || *aligns) {
                continue;
            }
            (*set, *aligns) = (*set | here.set, *aligns || here.aligns);
            for caller in self.walker.code.callers(here.entry) {
                todo.push(self.caller(here, &caller, &mut kept, &mut misaligned));
            }
        }
        (kept, misaligned)
    }

    /// Looks at one call; returns what its callers are to be asked.
    fn caller(&self, here: Level, caller: &Caller, kept: &mut Vec<Hazard>, misaligned: &mut Vec<Hazard>) -> Level {
        let Caller { body, at, jump } = caller;
        let root = self.root(caller);
        let name = || body.name.clone();
        let call = || {
            let line = self.dwarf.and_then(|d| d.line(*at)).map(|(file, line)| format!("{file}:{line} "));
            format!("{}in {}, at {at}: {}", line.unwrap_or_default(), body.name, instruction_text(self.object, *at))
        };
        let mut up = here.set;
        if !jump && !here.set.is_empty() {
            let held = self.held(caller, root, here.entry);
            let walk = self.walker.walk(root, behind(caller), here.set, held);
            up = walk.at_return;
            let reads = walk.all();
            if !reads.is_empty() && !self.knows_nothing(root) {
                let lines = walk
                    .reads
                    .iter()
                    .take(2)
                    .map(|(at, set)| format!("{} at {at} reads {set}", instruction_text(self.object, *at)));
                let evidence = format!("{}, then {}", call(), lines.collect::<Vec<_>>().join(" and "));
                kept.push(Hazard { caller: name(), reads, evidence });
            }
        }
        let transparent = self.walker.clobbers.of(&self.walker.code, root);
        let mut aligns = false;
        if here.aligns {
            let odd = self.known.depths(root).get(at).is_some_and(|d| stack::misaligned(*d, *jump));
            if odd {
                misaligned.push(Hazard { caller: name(), reads: RegSet::NONE, evidence: call() });
            }
            aligns = !odd && transparent.is_some();
        }
        let clobbered = transparent.unwrap_or(RegSet::CALLER_SAVED);
        Level { entry: root, set: (up & RegSet::RESULTS) | up.without(clobbered), aligns }
    }

    /// Argument registers that have a value for later at a call.
    fn held(&self, caller: &Caller, root: LinkAddr, callee: LinkAddr) -> Held {
        let written = self.walker.held(&caller.body, caller.at, callee);
        let before = caller.body.code.iter().take_while(|i| i.ip() < caller.at.0);
        let first = caller.body.start == root && before.clone().all(|i| code::flow(i) == code::Flow::Next);
        let convention = self.dwarf.filter(|_| first).and_then(|d| d.convention(root));
        let mut factory = InstructionInfoFactory::new();
        let changed = before.fold(RegSet::NONE, |all, i| all | effect(&mut factory, i).writes);
        Held { written, parameters: convention.map_or(RegSet::NONE, parameters).without(changed) }
    }

    /// Whether a caller reads rax behind its call: then the result is there, and not in a vector register.
    fn returns_general(&self, f: LinkAddr) -> bool {
        let walk = |c: &Caller| self.walker.walk(c.body.start, behind(c), RegSet::RAX, Held::default());
        self.walker.code.callers(f).iter().any(|c| !c.jump && !walk(c).all().is_empty())
    }

    /// The function that a cold part belongs to.
    fn root(&self, caller: &Caller) -> LinkAddr {
        let start = caller.body.start;
        let Some((name, _)) = caller.body.name.split_once(".cold") else { return start };
        let owners = self.walker.code.named(name);
        let owns = |entry: &LinkAddr| self.known.depths(*entry).contains_key(&caller.at);
        owners.into_iter().find(owns).unwrap_or(start)
    }

    /// Whether the caller was compiled so that it takes every call to change what the ABI allows.
    fn knows_nothing(&self, caller: LinkAddr) -> bool {
        self.dwarf.and_then(|d| d.producer(caller)).is_some_and(|p| Options::of(&p).take_every_call_alike())
    }
}

/// The instruction behind a call.
fn behind(caller: &Caller) -> LinkAddr {
    let i = caller.body.index(caller.at).and_then(|n| caller.body.code.get(n));
    i.map_or(caller.at, |i| LinkAddr(i.next_ip()))
}

/// Registers in which a function returns its result.
fn results(convention: Convention) -> RegSet {
    match convention.result {
        None => RegSet::NONE,
        Some(Class::General) => RegSet::RAX,
        Some(Class::Wide) => RegSet::RAX | RegSet::RDX,
        Some(Class::Float) => RegSet::XMM0,
        Some(Class::Other(Some(size))) if size > 16 => RegSet::RAX,
        Some(Class::Other(_)) => RegSet::RESULTS,
    }
}

/// Without debug information these may hold the result, although the function never writes them: `double same(double)`.
const VAGUE: RegSet = RegSet::VECTOR_RESULTS;

/// Registers in which a function gets its parameters, as far as that is certain.
fn parameters(convention: Convention) -> RegSet {
    if !convention.in_registers {
        return RegSet::NONE;
    }
    let general = RegSet::IN_ORDER.into_iter().zip(0..convention.general);
    let general = general.fold(RegSet::NONE, |all, (number, _)| all | RegSet::general(number));
    (0..convention.float).fold(general, |all, number| all | RegSet::vector(number))
}

/// Why no thunk can preserve these registers; `vague`: those that may hold the result.
fn impossible(relied: RegSet, vague: RegSet) -> Option<(String, &'static str)> {
    if relied.has_masks() {
        return Some(("it would have to preserve mask registers".to_owned(), CALLERS));
    }
    let vague = relied & vague;
    (!vague.is_empty()).then(|| {
        let why = format!("it cannot be told whether {vague} holds its result or a value of the caller");
        (why, "give the target's debug information with --debug-file, or replace its callers instead")
    })
}

const CALLERS: &str = "replace its callers instead";

fn callers(hazards: &[Hazard]) -> (String, bool) {
    let mut names: Vec<&str> = hazards.iter().map(|h| h.caller.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    const MOST: usize = 4;
    let more = names.len().saturating_sub(MOST);
    let several = names.len() > 1;
    names.truncate(MOST);
    let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
    (format!("{}{tail}", names.join(", ")), several)
}

fn lines(hazards: &[Hazard]) -> Vec<String> {
    hazards.iter().take(MOST_LINES).map(|h| h.evidence.clone()).collect()
}

/// Decides how many words of arguments the thunk of each function has to pass on: by the debug information of the target or
/// of the patch, or from what the old and the new function read.
pub fn thunks(patch: &Object, wanted: &[Wanted], functions: &mut [Function], findings: &mut Findings) {
    let code = Code::of(patch);
    let dwarf = patch.dwarf.get_or_init(|| Dwarf::of(patch)).as_ref();
    for f in functions {
        let (Some(need), Some(w)) = (&f.need, wanted.get(f.number)) else { continue };
        let says = || dwarf.and_then(|d| d.convention(w.new_addr)).is_some_and(|c| c.in_registers);
        let words = match need.in_registers || says() {
            true => Some(0),
            false => need.words.zip(stack::words(&code, w.new_addr)).map(|(old, new)| old.max(new)),
        };
        match words {
            Some(words) => f.thunk = Some(Thunk { keep: need.keep, words }),
            None => {
                let why = "it cannot be told how many arguments it takes on the stack".to_owned();
                let (name, evidence) = (f.name.clone(), need.evidence.clone());
                findings.add(RegisterError::NoThunk { name, why, hint: CALLERS, evidence });
            }
        }
    }
}
