//! Slots that are not bound yet: a thread that is binding one now would write over the new value. Pure.

use super::sites::is_itself;
use super::values::{Context, Unfit};
use super::{CodeRange, PlanError};
use crate::arch::x86_64::plt::lazy_entry;
use lpb::life::Site;
use lpb::{Redirect, RunAddr, Slot};

/// Where no thread may be when the slot is written: on its way to the dynamic linker, or in there on behalf of the slot.
pub fn ranges<R: Fn(RunAddr) -> Option<u64>>(
    cx: &Context<'_, R>,
    r: &Redirect<'_>,
    s: &Slot,
    site: &Site,
    read: &dyn Fn(RunAddr, usize) -> Option<Vec<u8>>,
) -> Result<Vec<CodeRange>, PlanError> {
    let live = site.old.as_slice().try_into().map(u64::from_le_bytes).unwrap_or(0);
    if let Some(way) = lazy_entry(RunAddr(live), read) {
        let name = format!("the binding of {}", site.name);
        let range = |(start, end)| CodeRange {
            name: name.clone(),
            start,
            end,
            harmless_to: None,
            tail_called: false,
            may_end_in_call: false,
            pushed: Some(way.pushed),
        };
        return Ok(vec![range(way.entry), range(way.header)]);
    }
    let unbound = |c: &lpb::Candidate| matches!(cx.value(&[*c]), Err(why) if matches!(*why, [Unfit::Unbound(..)]));
    match s.expected.iter().any(|c| is_itself(c, r.module, s.slot) && unbound(c)) {
        true => Err(PlanError::Binding { name: site.name.clone(), at: site.at }),
        false => Ok(vec![]),
    }
}
