//! Which registers are read behind a call although nothing has written them since.
//!
//! ```text
//!        call f              f leaves rcx, rsi, xmm2 alone
//!        add eax, esi        reads rsi: its value is from before the call
//!        call g              g reads rdi: as an argument it may be from before the call too
//!        ret                 what is still unwritten is looked for behind the calls of this function
//! ```
//! Code that the ABI alone has made never does that: it has a new value in each of these registers before it reads it.

use super::clobber::Clobbers;
use super::code::{Body, Code, Flow, flow};
use crate::arch::x86_64::registers::{RegSet, effect};
use crate::read::elf::Object;
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic};
use lpb::LinkAddr;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Steps of one walk: an instruction is walked again only if more registers arrive there.
const MOST_STEPS: u32 = 1_000_000;
/// Calls inside calls, when it is asked which arguments a function takes.
const DEPTH: u32 = 4;

/// What a walk has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// The first instructions that read registers from before the call, and these registers.
    pub reads: BTreeMap<LinkAddr, RegSet>,
    /// Registers that are still unwritten where the function returns.
    pub at_return: RegSet,
    /// Registers that are still unwritten where it is not known what follows.
    unclear: RegSet,
}

impl Seen {
    fn read(&mut self, at: LinkAddr, set: RegSet) {
        if !set.is_empty() {
            *self.reads.entry(at).or_default() |= set;
        }
    }

    pub fn all(&self) -> RegSet {
        self.reads.values().fold(RegSet::NONE, |all, set| all | *set)
    }
}

/// Argument registers that a function takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub certain: RegSet,
    /// One call has something in them, another has not: the unnamed ones of a variadic function.
    pub unnamed: RegSet,
    /// It is not known whether they are read.
    pub unclear: RegSet,
}

/// Of a function of which nothing is known.
const UNKNOWN: Taken = Taken { certain: RegSet::NONE, unnamed: RegSet::NONE, unclear: RegSet::ARGUMENTS };

/// Of a function behind a pointer: whatever the caller has ready.
const POINTER: Taken = Taken { certain: RegSet::NONE, unnamed: RegSet::ARGUMENTS, unclear: RegSet::ARGUMENTS };

/// Registers that have a value for later when a walk begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Written, and not for the call.
    pub written: RegSet,
    /// Parameters that are still there; perhaps nobody asks for them any more.
    pub parameters: RegSet,
}

/// What an imported function takes: `None` if that cannot be told.
pub type Imported<'a> = Box<dyn Fn(LinkAddr) -> Option<Taken> + 'a>;

/// Walks code of one module.
pub struct Walker<'a> {
    pub code: Code<'a>,
    pub clobbers: Clobbers,
    /// Asked with the address of a PLT stub or of the slot of an indirect call.
    pub imported: Imported<'a>,
    arguments: RefCell<HashMap<LinkAddr, Taken>>,
}

/// What a walk goes by.
#[derive(Clone, Copy)]
struct Trip<'t> {
    root: LinkAddr,
    depth: u32,
    /// Where it cannot be told whether these are read, they are.
    held: Held,
    /// Instructions that store registers whether or not anything is in them.
    spills: &'t [LinkAddr],
}

/// One way through the code.
struct Way {
    at: LinkAddr,
    set: RegSet,
}

impl<'a> Walker<'a> {
    pub fn new(object: &'a Object, imported: Imported<'a>) -> Self {
        Self { code: Code::of(object), clobbers: Clobbers::default(), imported, arguments: RefCell::default() }
    }

    /// Walks from `at` on, which lies in the function `root`, with registers that nothing has written yet; `held`: those of
    /// them that have a value for later.
    pub fn walk(&self, root: LinkAddr, at: LinkAddr, set: RegSet, held: Held) -> Seen {
        self.run(Trip { root, depth: DEPTH, held, spills: &[] }, at, set)
    }

    /// Registers that are written before a call which the called function does not take: their values are for later.
    pub fn held(&self, body: &Body, call: LinkAddr, callee: LinkAddr) -> RegSet {
        const BLOCK: usize = 40;
        let taken = self.arguments_of(callee);
        let mut factory = InstructionInfoFactory::new();
        let (mut held, mut used) = (RegSet::NONE, taken.certain | taken.unnamed | taken.unclear);
        let before = body.index(call).and_then(|n| body.code.get(..n)).unwrap_or_default();
        for i in before.iter().rev().take(BLOCK).take_while(|i| flow(i) == Flow::Next) {
            let e = effect(&mut factory, i);
            held |= e.kills.without(used);
            used |= e.reads | e.writes;
        }
        held & RegSet::ARGUMENTS
    }

    /// Registers with arguments that a function reads.
    fn arguments(&self, entry: LinkAddr, depth: u32) -> Taken {
        if let Some(known) = self.arguments.borrow().get(&entry) {
            return *known;
        }
        let Some(body) = self.code.body(entry) else { return (self.imported)(entry).unwrap_or(UNKNOWN) };
        let Some(depth) = depth.checked_sub(1) else { return UNKNOWN };
        // A function that calls itself takes what it takes.
        self.arguments.borrow_mut().insert(entry, Taken::default());
        let spills = [body.spills(), body.vector_spills()].concat();
        let trip = Trip { root: body.start, depth, held: Held::default(), spills: &spills };
        let seen = self.run(trip, entry, RegSet::ARGUMENTS);
        let certain = seen.all();
        let mut factory = InstructionInfoFactory::new();
        let stored = spills.iter().filter_map(|at| body.code.get(body.index(*at)?));
        let stored = stored.fold(RegSet::NONE, |all, i| all | effect(&mut factory, i).reads);
        let unnamed = (stored & RegSet::ARGUMENTS).without(certain);
        let taken = Taken { certain, unnamed, unclear: seen.unclear.without(certain | unnamed) };
        self.arguments.borrow_mut().insert(entry, taken);
        taken
    }

    /// The argument registers of the function at `entry` of this module.
    pub fn arguments_of(&self, entry: LinkAddr) -> Taken {
        self.arguments(entry, DEPTH)
    }

    fn run(&self, trip: Trip<'_>, at: LinkAddr, set: RegSet) -> Seen {
        let mut seen = Seen::default();
        let mut factory = InstructionInfoFactory::new();
        let mut arrived: HashMap<LinkAddr, RegSet> = HashMap::new();
        let mut todo = vec![Way { at, set }];
        let mut body: Option<Rc<Body>> = None;
        for _ in 0..MOST_STEPS {
            let Some(Way { at, set }) = todo.pop() else { break };
            let known = arrived.entry(at).or_default();
            if set.is_empty() || set.without(*known).is_empty() {
                continue;
            }
            *known |= set;
            let here = body.take().filter(|b| b.holds(at)).or_else(|| self.code.body(at));
            let Some(here) = here else { continue };
            if let Some(i) = here.index(at).and_then(|n| here.code.get(n)) {
                let e = effect(&mut factory, i);
                let reads = if trip.spills.contains(&at) { RegSet::NONE } else { e.reads };
                seen.read(at, reads & set);
                self.step(&mut todo, &mut seen, (trip, i), set.without(e.kills | reads));
            }
            body = Some(here);
        }
        if !todo.is_empty() {
            self.code.meet("there are more than 1000000 steps to follow registers from there");
            seen.unclear |= set;
        }
        seen
    }

    /// Goes on behind one instruction.
    fn step(&self, todo: &mut Vec<Way>, seen: &mut Seen, (trip, i): (Trip<'_>, &Instruction), set: RegSet) {
        let (at, next) = (LinkAddr(i.ip()), LinkAddr(i.next_ip()));
        let mut go = |at, set| todo.push(Way { at, set });
        let held = trip.held;
        let mut pass = |taken: Taken| {
            let unnamed = taken.unnamed & (held.written | held.parameters);
            seen.unclear |= taken.unclear & set;
            seen.read(at, (taken.certain | unnamed | (taken.unclear & held.written)) & set);
        };
        match flow(i) {
            Flow::Next => {
                if i.mnemonic() == Mnemonic::Syscall {
                    pass(UNKNOWN);
                }
                go(next, set);
            }
            Flow::Branch(to) => {
                go(next, set);
                go(to, set);
            }
            Flow::Jump(to) if self.is_other(trip.root, to) => {
                pass(self.arguments(to, trip.depth));
                seen.at_return |= set.without(self.clobbers.all_of(&self.code, to));
            }
            Flow::Jump(to) => go(to, set),
            Flow::Call(to) => {
                pass(self.arguments(to, trip.depth));
                go(next, set.without(self.clobbers.all_of(&self.code, to)));
            }
            Flow::CallUnknown | Flow::Leave => pass(self.behind_slot(i)),
            Flow::Return => seen.at_return |= set,
            Flow::Table => pass(POINTER),
            Flow::Stop => {}
        }
    }

    /// `call *[rip+slot]`, or through a pointer.
    fn behind_slot(&self, i: &Instruction) -> Taken {
        let slot = i.is_ip_rel_memory_operand().then(|| LinkAddr(i.ip_rel_memory_address()));
        slot.map_or(POINTER, |slot| (self.imported)(slot).unwrap_or(UNKNOWN))
    }

    /// Whether a jump there leaves the function: not into it, nor into a part of it that stands apart.
    fn is_other(&self, root: LinkAddr, to: LinkAddr) -> bool {
        self.code.body(to).is_none_or(|b| b.start != root && b.start == to && !is_part(&b.name))
    }
}

/// Cold parts stand apart from their function.
pub fn is_part(name: &str) -> bool {
    name.contains(".cold")
}
