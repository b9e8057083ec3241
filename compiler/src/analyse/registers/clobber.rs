//! Registers that a call of a function may change, as far as its own module shows it: what gcc's IPA-RA tells callers.
//!
//! ```text
//! f ──► writes of its instructions
//! ├──► direct calls and tail jumps: their writes too, to any depth
//! └──► anything else (PLT, pointer): unknown, and gcc has told the callers nothing
//! ```

use super::code::{Body, Code, Flow, flow};
use crate::arch::x86_64::registers::RegSet;
use iced_x86::Instruction;
use lpb::LinkAddr;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// A function that reaches more functions than this is taken for an unknown one.
const MOST_FUNCTIONS: usize = 2000;

/// What a call may change. `None`: anything that the ABI allows.
pub type Clobber = Option<RegSet>;

/// Clobber sets of one module, each computed once.
#[derive(Default)]
pub struct Clobbers(RefCell<HashMap<LinkAddr, Known>>);

/// A clobber set, and whether it is unknown only because a limit was met.
#[derive(Clone, Copy)]
struct Known {
    clobber: Clobber,
    cut: bool,
}

impl Clobbers {
    /// Of the function at `entry`.
    pub fn of(&self, code: &Code<'_>, entry: LinkAddr) -> Clobber {
        let known = self.0.borrow().get(&entry).copied();
        let known = known.unwrap_or_else(|| {
            let made = reach(code, entry);
            self.0.borrow_mut().insert(entry, made);
            made
        });
        if known.cut {
            code.meet("it calls more than 2000 functions, directly or not");
        }
        known.clobber
    }

    /// As [`Clobbers::of`], with everything for an unknown one.
    pub fn all_of(&self, code: &Code<'_>, entry: LinkAddr) -> RegSet {
        self.of(code, entry).unwrap_or(RegSet::CALLER_SAVED)
    }
}

fn reach(code: &Code<'_>, entry: LinkAddr) -> Known {
    let (mut seen, mut todo) = (HashSet::new(), vec![entry]);
    let mut all = RegSet::NONE;
    while let Some(at) = todo.pop() {
        let Some(body) = code.body(at) else { return Known { clobber: None, cut: false } };
        if !seen.insert(body.start) {
            continue;
        }
        let cut = seen.len() > MOST_FUNCTIONS;
        if body.unknown || cut {
            return Known { clobber: None, cut: cut && !body.unknown };
        }
        all |= body.writes;
        todo.extend(&body.reaches);
    }
    Known { clobber: Some(all & RegSet::CALLER_SAVED), cut: false }
}

/// Whether the function ever returns: behind a call of one that does not stands code that has nothing to do with it.
pub fn returns(body: &Body) -> bool {
    let leaves = |i: &Instruction| match flow(i) {
        Flow::Return | Flow::Leave => true,
        Flow::Jump(to) | Flow::Branch(to) => !body.holds(to),
        _ => false,
    };
    body.code.iter().any(leaves)
}
