//! Values that unexpected modules make uncertain. They are reported all together: who accepts a module accepts it for all.

use super::values::{Context, Unfit};
use super::{PlanError, active, label};
use crate::identify::strangers::Stranger;
use lpb::{Candidate, Change, RunAddr};
use std::fmt;

/// Most values that are named in a message.
const MOST: usize = 10;

/// A symbol that an unexpected module may define.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncertain {
    /// Its name.
    pub symbol: String,
    /// Why no slot shows who defines it; empty: there is no such slot.
    pub slots: Vec<Unfit>,
}

impl fmt::Display for Uncertain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.symbol)?;
        let slots: Vec<String> = self.slots.iter().map(ToString::to_string).collect();
        if slots.is_empty() { Ok(()) } else { write!(f, " ({})", slots.join("; ")) }
    }
}

/// As it stands in the message.
pub(super) fn list(values: &[Uncertain]) -> String {
    let named = values.iter().take(MOST).map(ToString::to_string);
    let more = values.len().checked_sub(MOST).filter(|n| *n != 0).map(|n| format!("{n} more"));
    named.chain(more).collect::<Vec<_>>().join(", ")
}

/// Looks for values of which only a closed candidate is left.
pub(super) fn check<R: Fn(RunAddr) -> Option<u64>>(
    cx: &Context<'_, R>,
    strangers: &[Stranger],
) -> Result<(), PlanError> {
    if cx.expected_only {
        return Ok(());
    }
    let fixups = cx.patch.fixups.iter().map(|f| (&f.name, f.candidates.as_slice()));
    let written = active(cx.patch, cx.in_force).map(|(r, _)| match &r.change {
        Change::Jump(j) => (&r.name, j.new.as_slice()),
        Change::Slot(s) => (&r.name, s.new.as_slice()),
        Change::Data(_) => (&r.name, [].as_slice()),
    });
    let mut values: Vec<Uncertain> = Vec::new();
    for value in fixups.chain(written).filter_map(|(name, list)| uncertain(cx, name, list)) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let modules = strangers.iter().filter(|s| !s.allowed).map(|s| s.name().to_owned()).collect();
    if values.is_empty() { Ok(()) } else { Err(PlanError::Uncertain { values, modules }) }
}

fn uncertain<R: Fn(RunAddr) -> Option<u64>>(
    cx: &Context<'_, R>,
    name: &str,
    candidates: &[Candidate],
) -> Option<Uncertain> {
    if candidates.iter().all(|c| !c.closed) {
        return None;
    }
    let reasons = cx.value(candidates).err().filter(|reasons| reasons.contains(&Unfit::Closed))?;
    let slots = reasons.into_iter().filter(|r| !matches!(r, Unfit::Closed | Unfit::OtherBuild)).collect();
    Some(Uncertain { symbol: label(name), slots })
}
