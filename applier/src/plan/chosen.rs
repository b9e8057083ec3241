//! Which redirects are in force: those for the builds that were found, and of the implementations of an IFUNC the one that
//! the process has chosen.

use super::PlanError;
use super::values::Context;
use lpb::{Candidate, Change, LinkAddr, LoadBias, Redirect, RunAddr};

/// For each redirect the load bias of its module, if it is in force.
///
/// # Errors
/// If the process does not show which implementation it has chosen, or has chosen one that the patch does not know.
pub(super) fn in_force<R: Fn(RunAddr) -> Option<u64>>(cx: &Context<'_, R>) -> Result<Vec<Option<LoadBias>>, PlanError> {
    let mut all = Vec::new();
    for group in cx.patch.redirects.chunk_by(same_group) {
        let Some((r, (list, _))) = group.first().and_then(|r| Some((r, implementation(r)?))) else {
            all.extend(group.iter().map(|r| cx.of_build(r)));
            continue;
        };
        let Some(bias) = cx.of_build(r) else {
            all.extend(group.iter().map(|_| None));
            continue;
        };
        let name = || r.name.clone().into_owned();
        let at = cx.value(list).map_err(|reasons| PlanError::NotChosen { name: name(), reasons })?;
        let is_it = |r: &&Redirect<'_>| implementation(r).is_some_and(|(_, f)| f.loaded_at(bias).0 == at);
        if group.iter().filter(is_it).count() != 1 {
            let known = group.iter().filter_map(own_name).collect();
            return Err(PlanError::OtherChosen { name: name(), at: RunAddr(at), known });
        }
        all.extend(group.iter().map(|r| is_it(&r).then_some(bias)));
    }
    Ok(all)
}

/// Where the choice shows, and what is chosen if it is this redirect.
fn implementation<'p>(r: &'p Redirect<'_>) -> Option<(&'p [Candidate], LinkAddr)> {
    match &r.change {
        Change::Jump(j) if !j.chosen.is_empty() => Some((&j.chosen, j.function)),
        Change::Jump(_) | Change::Slot(_) | Change::Data(_) => None,
    }
}

fn same_group(a: &Redirect<'_>, b: &Redirect<'_>) -> bool {
    let list = |r| implementation(r).map(|(list, _)| list);
    (a.module, a.build) == (b.module, b.build) && list(a).is_some() && list(a) == list(b)
}

/// The symbol of an implementation.
fn own_name(r: &Redirect<'_>) -> Option<String> {
    match &r.change {
        Change::Jump(j) => j.fragments.first().map(|f| f.name.clone().into_owned()),
        Change::Slot(_) | Change::Data(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::Found;
    use lpb::{BuildIdx, Patch, Value};

    /// The vector `ifunc` of the format: the slots at 0x3fd0 and 0x3fd8 show the choice between 0x1139 and 0x1160.
    fn chosen(first: u64, second: u64) -> Result<Vec<bool>, String> {
        let bundle = lpb::read(include_bytes!("../../../format-spec/vectors/ifunc.lpb")).unwrap();
        let patch: &Patch<'_> = &bundle.patch;
        let modules = [Some(Found { build: BuildIdx(0), bias: LoadBias(0x10_0000) })];
        let words = |at: RunAddr| match at.0 {
            0x10_3fd0 => Some(first),
            0x10_3fd8 => Some(second),
            _ => None,
        };
        let bases = [RunAddr(0x20_0000), RunAddr(0x30_0000)];
        let cx =
            Context { patch, modules: &modules, expected_only: true, bases: &bases, in_force: &[], read_u64: words };
        let in_force = in_force(&cx).map_err(|e| e.to_string())?;
        let cx = Context { in_force: &in_force, ..cx };
        let list: Vec<bool> = in_force.iter().map(Option::is_some).collect();
        // The old code is that of the same implementation.
        let old = |redirect| Candidate::of(Value::Original { redirect });
        let value = cx.value(&[old(0), old(1)]).unwrap();
        assert_eq!(value, if list == [true, false] { 0x30_0000 } else { 0x30_0010 });
        Ok(list)
    }

    #[test]
    fn exactly_one_implementation_is_in_force() {
        const UNBOUND: u64 = 0x10_0000 + 4150;
        for (why, first, second, want) in [
            ("the first slot says the first", 0x10_1139, 0, Ok([true, false])),
            ("the first slot says the second", 0x10_1160, 0x10_1139, Ok([false, true])),
            ("the first is not bound yet, the second says it", UNBOUND, 0x10_1139, Ok([true, false])),
            ("none is bound", UNBOUND, 0, Err("not bound yet")),
            ("another function", 0x10_1100, 0, Err("none of the implementations that the patch knows: fast, plain")),
        ] {
            match (chosen(first, second), want) {
                (Ok(have), Ok(want)) => assert_eq!(have, want, "{why}"),
                (Err(have), Err(want)) => assert!(have.contains(want) && have.contains("chosen"), "{why}: {have}"),
                (have, want) => panic!("{why}: {have:?} instead of {want:?}"),
            }
        }
    }
}
