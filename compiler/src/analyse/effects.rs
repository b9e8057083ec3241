//! Does a function change memory? Where the compiler has seen that it does not, callers may make one call of two, or go on with
//! what they have read before.
//!
//! ```text
//! source:  a = rate(n); log(a); b = rate(n);        compiled, as rate has no effect:  a = b = rate(n); log(a);
//! ```
//! What a caller has made of it does not show in its code: the call that is missing is not there. So this is a word of
//! warning, about calls where the compiler may have done it.
//!
//! Source: gcc manual, "-fipa-pure-const", "-fipa-modref", "-flive-patching".

use super::function::Function;
use super::graph::{Edge, Kind};
use super::options::Options;
use super::registers::code::Code;
use super::{Study, evidence};
use crate::finding::{Explain, Findings};
use crate::read::elf::Object;
use crate::read::patch::Wanted;
use crate::rule::{self, Rule};
use lpb::LinkAddr;
use std::collections::HashSet;

/// A function that reaches more functions than this is taken for one with effects.
const MOST_FUNCTIONS: usize = 2000;

/// Callers may count on what the new function does not keep.
#[derive(Debug, thiserror::Error)]
#[error("{name} changes no memory, and {new} does or may do: callers may have been compiled with that knowledge")]
struct EffectsNow {
    name: String,
    new: String,
    lines: Vec<String>,
}

impl Explain for EffectsNow {
    fn hint(&self) -> Option<String> {
        None
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(&rule::SIDE_EFFECTS)
    }

    fn evidence(&self) -> Vec<String> {
        evidence(&self.lines)
    }
}

/// Notes of each replaced function without effects which callers may count on that.
pub fn note(study: &mut Study<'_>) {
    let Some(dwarf) = study.dwarf else { return };
    let trusts = |f: &Function, edge: &Edge| {
        let knows = || dwarf.producer(edge.at).is_some_and(|producer| Options::of(&producer).look_inside());
        edge.kind == Kind::Call && dwarf.same_unit(f.addr, edge.at) && knows()
    };
    let trusting = |f: &Function| -> Vec<String> {
        if has_effects(study.known.code(), f.addr) {
            return Vec::new();
        }
        let calls = study.graph.callers(f.addr).filter(|(_, edge)| trusts(f, edge));
        calls.map(|(node, edge)| study.place(&node.name, edge.at, edge.kind)).collect()
    };
    let all: Vec<Vec<String>> = study.functions.iter().map(|f| trusting(f)).collect();
    for (f, lines) in study.functions.iter_mut().zip(all) {
        f.trusting_calls = lines;
    }
}

/// Looks at what replaces such a function.
pub fn check(patch: &Object, wanted: &[Wanted], functions: &[Function], findings: &mut Findings) {
    let code = Code::of(patch);
    for f in functions.iter().filter(|f| !f.trusting_calls.is_empty()) {
        let Some(w) = wanted.get(f.number).filter(|w| has_effects(&code, w.new_addr)) else { continue };
        findings.add(EffectsNow { name: f.name.clone(), new: w.new.clone(), lines: f.trusting_calls.clone() });
    }
}

/// Whether a call may change memory that is not on the stack, as far as its own module shows it.
fn has_effects(code: &Code<'_>, entry: LinkAddr) -> bool {
    let (mut seen, mut todo) = (HashSet::new(), vec![entry]);
    while let Some(at) = todo.pop() {
        let Some(body) = code.body(at) else { return true };
        if !seen.insert(body.start) {
            continue;
        }
        if body.unknown || body.stores || seen.len() > MOST_FUNCTIONS {
            return true;
        }
        todo.extend(&body.reaches);
    }
    false
}
