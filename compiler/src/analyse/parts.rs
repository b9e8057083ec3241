//! Parts of a function in a module that has lost its symbols: code elsewhere that only `.eh_frame` tells of.
//!
//! ```text
//! f:      push rbx
//!         js ────────────►  call abort        a part of f: rbx is on the stack at its start,
//! 1:      ...               jmp 1             or it jumps back into the middle of f, or is entered in its own middle
//! ```
//! A function that f ends by jumping to has none of this: it is entered at its start, as if the caller of f had called it.

use super::function::{Fragment, Function, branches};
use crate::read::ReadError;
use crate::read::bodies::around;
use crate::read::elf::{Object, Range};
use iced_x86::FlowControl;

use lpb::{LinkAddr, limits};

/// Adds such parts.
pub fn add(object: &Object, function: &mut Function) -> Result<(), ReadError> {
    // Where symbols tell of parts, nothing has to be concluded.
    let section = object.sections.iter().find(|s| s.addr.0 != 0 && s.range().contains(function.addr));
    let Some(section) = section.filter(|_| object.symtab.is_empty()) else { return Ok(()) };
    let mut next = 0;
    while let Some(fragment) = function.fragments.get(next) {
        next = next.saturating_add(1);
        for to in jumps(fragment) {
            // The linkage table is one range, and is entered everywhere.
            if !section.range().contains(to) || function.holds(to) {
                continue;
            }
            let Some(body) = around(object.bodies(), to) else { continue };
            let full = function.fragments.len() >= limits::FRAGMENTS_PER_FUNCTION;
            if full || body.range.size > limits::FRAGMENT {
                function.left_out = function.left_out.saturating_add(1);
                continue;
            }
            let part = part(object, function, body.range)?;
            let start = body.range.start;
            if (to != start || body.within || returns(&part, function)) && !is_named(object, start) {
                function.fragments.push(part);
            }
        }
    }
    Ok(())
}

fn part(object: &Object, function: &Function, range: Range) -> Result<Fragment, ReadError> {
    let bytes = object.memory(range.start, range.size)?;
    Ok(Fragment { name: format!("{}.part", function.name), addr: range.start, bytes })
}

/// Where a fragment jumps to, each place once.
fn jumps(fragment: &Fragment) -> Vec<LinkAddr> {
    let all = branches(fragment).into_iter();
    let mut found: Vec<_> =
        all.filter(|(_, _, i)| i.flow_control() != FlowControl::Call).map(|(_, to, _)| to).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// It jumps into the middle of the function.
fn returns(part: &Fragment, function: &Function) -> bool {
    let into = |to: &LinkAddr| function.holds(*to) && function.fragments.iter().all(|f| f.addr != *to);
    jumps(part).iter().any(|to| into(to) && *to != function.site)
}

/// A function that others can call.
fn is_named(object: &Object, at: LinkAddr) -> bool {
    object.dynamic.symbols.from(at).next().is_some_and(|s| s.value == at && s.is_function())
}
