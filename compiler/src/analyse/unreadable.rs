//! Bytes that a function runs into and that are no instruction, as far as this decoder knows.
//!
//! ```text
//! f:      endbr64
//!         jmp 1f            ── walked: entry, targets of branches and of jump tables, what follows an instruction
//!         .byte 6, 6        ── not walked: data in the text, as assembly has it
//! 1:      ...
//!         call abort
//!         .byte 6           ── not said: the call may be one that does not return
//! ```

use super::branches::{cases, code};
use super::function::{Fragment, Function};
use super::prologue::branch_target;
use super::registers::code::{Flow, flow};
use super::{Study, evidence};
use crate::finding::{Explain, Findings};
use crate::rule::{self, Rule};
use iced_x86::{Decoder, DecoderError, DecoderOptions};
use lpb::LinkAddr;
use lpb::addr::{to_u64, to_usize};
use std::collections::{BTreeSet, HashSet};

/// The analysis cannot read a part of the function.
#[derive(Debug, thiserror::Error)]
#[error("{name} runs into bytes that are no known instruction, at {}", places.first().map(|(at, _)| at.to_string()).unwrap_or_default())]
struct Unreadable {
    name: String,
    /// Where, and the first bytes there.
    places: Vec<(LinkAddr, String)>,
}

impl Explain for Unreadable {
    fn hint(&self) -> Option<String> {
        None
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(&rule::UNREADABLE_CODE)
    }

    fn evidence(&self) -> Vec<String> {
        let lines: Vec<String> = self.places.iter().map(|(at, bytes)| format!("at {at}: {bytes}")).collect();
        evidence(&lines)
    }
}

/// Walks through every replaced function.
pub fn check(study: &Study<'_>, findings: &mut Findings) {
    for f in &study.functions {
        let found = walk(study, f);
        if !found.is_empty() {
            let places = found.into_iter().map(|at| (at, bytes_at(f, at))).collect();
            findings.add(Unreadable { name: f.name.clone(), places });
        }
    }
}

/// Where control flow meets what is no instruction.
fn walk(study: &Study<'_>, f: &Function) -> BTreeSet<LinkAddr> {
    let (mut seen, mut found) = (HashSet::new(), BTreeSet::new());
    let mut todo = vec![f.addr];
    // Linear disassembly, which every other check goes by, has met nothing of the kind in most functions.
    let code = code(f);
    if code.iter().all(|i| !i.is_invalid()) {
        return found;
    }
    todo.extend(cases(study, f, &code).into_iter().flat_map(|table| table.cases).map(|(_, to)| to));
    while let Some(start) = todo.pop() {
        let Some(part) = f.fragments.iter().find(|p| start.since(p.addr).is_some_and(|n| n < to_u64(p.bytes.len())))
        else {
            continue;
        };
        block(part, start, &mut seen, &mut todo, &mut found);
    }
    found
}

/// Follows one block up to where nothing runs on, or what has been seen.
fn block(
    part: &Fragment,
    start: LinkAddr,
    seen: &mut HashSet<LinkAddr>,
    todo: &mut Vec<LinkAddr>,
    found: &mut BTreeSet<LinkAddr>,
) {
    let from = to_usize(start.since(part.addr).unwrap_or(0));
    let bytes = part.bytes.get(from..).unwrap_or_default();
    let mut decoder = Decoder::with_ip(64, bytes, start.0, DecoderOptions::NONE);
    let mut behind_call = false;
    while decoder.can_decode() {
        let i = decoder.decode();
        let at = LinkAddr(i.ip());
        if !seen.insert(at) {
            return;
        }
        if i.is_invalid() {
            // What the end of the function cuts off is a matter of its size.
            if !behind_call && decoder.last_error() != DecoderError::NoMoreBytes {
                found.insert(at);
            }
            return;
        }
        let next = flow(&i);
        behind_call = matches!(next, Flow::Call(_) | Flow::CallUnknown);
        match next {
            Flow::Branch(to) => todo.push(to),
            Flow::Jump(_) => {
                todo.extend(branch_target(&i));
                return;
            }
            Flow::Table | Flow::Leave | Flow::Return | Flow::Stop => return,
            Flow::Next | Flow::Call(_) | Flow::CallUnknown => {}
        }
    }
}

/// The first bytes there, for people.
fn bytes_at(f: &Function, at: LinkAddr) -> String {
    const MOST: usize = 8;
    let bytes = f.fragments.iter().find_map(|p| p.bytes.get(to_usize(at.since(p.addr)?)..)).unwrap_or_default();
    let text: Vec<String> = bytes.iter().take(MOST).map(|b| format!("{b:02x}")).collect();
    text.join(" ")
}
