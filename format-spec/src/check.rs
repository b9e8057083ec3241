//! What must hold between the parts of a patch. Reader and writer run the same checks, so a file that can be written
//! can be read, and a file that can be read means something.

use crate::addr::{AreaOff, LinkAddr, to_u64, to_usize};
use crate::limits;
use crate::model::*;
use std::collections::HashSet;

/// What is wrong with a patch, and with which part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}{}: {why}", .index.map(|i| format!(" {i}")).unwrap_or_default())]
pub struct CheckError {
    /// "module", "fixup", ...
    pub part: &'static str,
    /// Its number, if it has one.
    pub index: Option<usize>,
    /// The rule that it breaks.
    pub why: &'static str,
}

type Checked = Result<(), &'static str>;

fn ensure(holds: bool, why: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(why) }
}

/// Checks every rule of `SPEC.md` that is about meaning rather than bytes. Strings are checked with [`text`] where
/// they are read or written, once each.
pub(crate) fn check(patch: &Patch<'_>) -> Result<(), CheckError> {
    let whole = |part| move |why| CheckError { part, index: None, why };
    // First the bounds on everything, then the areas, whose order the rules after them rely on.
    counts(patch).map_err(whole("patch"))?;
    each("module", &patch.modules, module)?;
    each("area", &patch.areas, |a| area(patch, a))?;
    head(patch).map_err(whole("patch"))?;
    each("fixup", &patch.fixups, |f| fixup(patch, f))?;
    fixups_apart(&patch.fixups)?;
    each("redirect", &patch.redirects, |r| redirect(patch, r))?;
    redirects_apart(&patch.redirects)?;
    jumps_gated(&patch.redirects)?;
    each("unwind table", &patch.unwind, |u| unwind(patch, u))
}

fn each<T>(part: &'static str, items: &[T], rule: impl Fn(&T) -> Checked) -> Result<(), CheckError> {
    items
        .iter()
        .enumerate()
        .try_for_each(|(index, item)| rule(item).map_err(|why| CheckError { part, index: Some(index), why }))
}

/// Text that may reach a terminal: bounded, and without control characters.
pub(crate) fn text(s: &str) -> Checked {
    ensure(to_u64(s.len()) <= limits::STRING, "a string is longer than 4096 bytes")?;
    ensure(!s.chars().any(char::is_control), "a string holds a control character")
}

fn head(patch: &Patch<'_>) -> Checked {
    ensure(!patch.name.is_empty(), "the name is empty")?;
    if let Some((id, off)) = patch.gate {
        ensure(off.0.is_multiple_of(4), "the gate is not 4-aligned")?;
        inside(patch, id, off, 4, Some(Prot::ReadWrite))?;
    }
    Ok(())
}

fn counts(patch: &Patch<'_>) -> Checked {
    ensure(!patch.redirects.is_empty(), "there is nothing to redirect")?;
    ensure(patch.modules.len() <= limits::MODULES, "more than 1024 modules")?;
    ensure(patch.modules.iter().map(|m| m.builds.len()).sum::<usize>() <= limits::BUILDS, "more than 16384 builds")?;
    ensure(patch.areas.len() <= limits::AREAS, "more than 1024 areas")?;
    let mappings = patch.areas.iter().map(|a| a.segments.len()).sum::<usize>();
    ensure(mappings <= limits::IMAGE_SEGMENTS, "more than 4096 image segments")?;
    let bytes = patch.areas.iter().try_fold(0_u64, |sum, a| sum.checked_add(a.size));
    ensure(bytes.is_some_and(|b| b <= limits::AREA_BYTES), "the areas are larger than 1 GiB")?;
    ensure(patch.fixups.len() <= limits::FIXUPS, "more than 1048576 fixups")?;
    ensure(patch.redirects.len() <= limits::REDIRECTS, "more than 65536 redirects")?;
    ensure(patch.unwind.len() <= limits::UNWIND, "more than 64 unwind tables")
}

fn module(m: &Module<'_>) -> Checked {
    ensure(!m.builds.is_empty(), "it has no build")?;
    m.builds.iter().try_for_each(build)
}

fn build(b: &Build<'_>) -> Checked {
    ensure(!b.segments.is_empty(), "a build has no PT_LOAD")?;
    ensure(b.segments.len() <= limits::SEGMENTS_PER_BUILD, "a build has more than 64 PT_LOADs")?;
    let mut end = 0;
    for s in &b.segments {
        ensure(s.flags <= 7, "a PT_LOAD has unknown flags")?;
        ensure(s.filesz <= s.memsz, "a PT_LOAD is larger in the file than in memory")?;
        ensure(s.offset.0.checked_add(s.filesz).is_some(), "a PT_LOAD wraps in the file")?;
        ensure(s.vaddr.0 >= end, "the PT_LOADs are not in ascending order")?;
        end = s.vaddr.0.checked_add(s.memsz).ok_or("a PT_LOAD wraps in memory")?;
    }
    ensure(end <= 1 << 47, "a PT_LOAD lies outside user space")?;
    ensure(b.build_id.len() <= limits::BUILD_ID, "a build-id is longer than 64 bytes")?;
    ensure(b.proof.len() <= limits::PROOF, "a proof is longer than 4096 bytes")?;
    ensure(!b.build_id.is_empty() || !b.proof.is_empty(), "a build has neither build-id nor proof")?;
    let mapped = |at: LinkAddr, bytes: &[u8]| match bytes.is_empty() {
        true => at.0 == 0,
        false => in_segment(b, at, to_u64(bytes.len()), |s| s.filesz),
    };
    ensure(mapped(b.build_id_addr, &b.build_id), "a build-id lies outside the PT_LOADs")?;
    ensure(mapped(b.proof_addr, &b.proof), "a proof lies outside the PT_LOADs")
}

/// Whether `[at, at + len)` lies in the first `extent` bytes of one PT_LOAD.
fn in_segment(b: &Build<'_>, at: LinkAddr, len: u64, extent: impl Fn(&Segment) -> u64) -> bool {
    b.segments.iter().any(|s| {
        let end = at.since(s.vaddr).and_then(|from| from.checked_add(len));
        end.is_some_and(|end| end <= extent(s))
    })
}

/// Bytes of a segment that may be changed without looking where threads are: nothing there runs.
fn data_extent(s: &Segment) -> u64 {
    if s.flags & 1 == 1 { 0 } else { s.memsz }
}

/// Bytes of a segment that hold file content and can run.
fn text_extent(s: &Segment) -> u64 {
    if s.flags & 1 == 1 { s.filesz } else { 0 }
}

fn area(patch: &Patch<'_>, a: &Area<'_>) -> Checked {
    if let Some(near) = a.near {
        required(patch, near, "`near` names no module", "`near` names an optional module")?;
    }
    ensure(a.size != 0 && a.size.is_multiple_of(limits::PAGE), "its size is not a multiple of 4096")?;
    ensure(!a.segments.is_empty(), "it has no segment")?;
    let mut end = 0;
    for s in &a.segments {
        let aligned = s.off.0.is_multiple_of(limits::PAGE) && s.size.is_multiple_of(limits::PAGE);
        ensure(aligned && s.size != 0, "a segment is not made of whole pages")?;
        ensure(s.off.0 >= end, "its segments are not in ascending order")?;
        ensure(to_u64(s.data.len()) <= s.size, "a segment has more data than size")?;
        end = s.off.0.checked_add(s.size).ok_or("a segment wraps")?;
    }
    ensure(end <= a.size, "a segment lies outside the area")
}

/// Whether `[off, off + len)` lies in one segment of the area (with this protection, if given).
fn inside(patch: &Patch<'_>, id: AreaId, off: AreaOff, len: u64, prot: Option<Prot>) -> Checked {
    let area = patch.areas.get(id.index()).ok_or("it names no area")?;
    // The segments ascend, so the last one that starts at or below `off` is the only one that can hold it.
    let after = area.segments.partition_point(|s| s.off <= off);
    let fits = after.checked_sub(1).and_then(|last| area.segments.get(last)).is_some_and(|s| {
        let end = off.since(s.off).and_then(|from| from.checked_add(len));
        end.is_some_and(|end| end <= s.size) && prot.is_none_or(|p| p == s.prot)
    });
    ensure(fits, "it does not lie in one segment of its area with the right protection")
}

/// A module that must be in the process.
fn required<'p, 'a>(
    patch: &'p Patch<'a>,
    id: ModuleId,
    none: &'static str,
    optional: &'static str,
) -> Result<&'p Module<'a>, &'static str> {
    let module = patch.modules.get(id.index()).ok_or(none)?;
    ensure(!module.optional, optional).map(|()| module)
}

fn fixup(patch: &Patch<'_>, f: &Fixup<'_>) -> Checked {
    inside(patch, f.area, f.place, f.form.width(), None)?;
    candidates(patch, &f.candidates)
}

/// Fix-ups ascend by (area, place) and do not overlap: their order means nothing.
fn fixups_apart(fixups: &[Fixup<'_>]) -> Result<(), CheckError> {
    let mut next = (AreaId(0), AreaOff(0));
    for (index, f) in fixups.iter().enumerate() {
        let why = "it overlaps the fixup before, or stands before it";
        let fail = CheckError { part: "fixup", index: Some(index), why };
        let end = f.place.plus(f.form.width()).ok_or_else(|| fail.clone())?;
        if (f.area, f.place) < next {
            return Err(fail);
        }
        next = (f.area, end);
    }
    Ok(())
}

fn candidates(patch: &Patch<'_>, list: &[Candidate]) -> Checked {
    ensure(!list.is_empty(), "a value has no candidate")?;
    ensure(list.len() <= limits::CANDIDATES_PER_VALUE, "a value has more than 4096 candidates")?;
    for c in list {
        if let Some((m, b)) = c.guard {
            let module = patch.modules.get(m.index()).ok_or("a guard names no module")?;
            ensure(b.index() < module.builds.len(), "a guard names no build")?;
        }
        match c.value {
            Value::Abs(_) => {}
            Value::Patch { area, off } => {
                let area = patch.areas.get(area.index()).ok_or("a value names no area")?;
                ensure(off.0 <= area.size, "a value lies outside its area")?;
            }
            Value::Module { module, .. } | Value::Witness { module, .. } => {
                ensure(module.index() < patch.modules.len(), "a value names no module")?;
            }
            Value::Original { redirect } => {
                let redirect = patch.redirects.get(to_usize(redirect.into())).ok_or("a value names no redirect")?;
                let original = matches!(&redirect.change, Change::Jump(j) if j.original.is_some());
                ensure(original, "a value names a redirect without relocated prologue")?;
            }
        }
    }
    Ok(())
}

fn redirect(patch: &Patch<'_>, r: &Redirect<'_>) -> Checked {
    let module = required(patch, r.module, "it names no module", "it changes an optional module")?;
    let build = module.builds.get(r.build.index()).ok_or("it names no build")?;
    match &r.change {
        Change::Jump(j) => jump(patch, r.module, build, j),
        Change::Slot(s) => {
            ensure(s.slot.0.is_multiple_of(8), "the slot is not 8-aligned")?;
            ensure(in_segment(build, s.slot, 8, data_extent), "the slot lies outside the data segments")?;
            candidates(patch, &s.expected)?;
            ensure(s.expected.iter().all(|c| !c.closed), "an expected value is closed")?;
            candidates(patch, &s.new)
        }
        Change::Data(d) => {
            ensure(!d.new.is_empty() && d.new.len() == d.expected.len(), "old and new bytes differ in length")?;
            ensure(to_u64(d.new.len()) <= limits::FRAGMENT, "a data write is longer than 16 MiB")?;
            ensure(
                in_segment(build, d.addr, to_u64(d.new.len()), data_extent),
                "the data lies outside the data segments",
            )
        }
    }
}

fn jump(patch: &Patch<'_>, module: ModuleId, build: &Build<'_>, j: &Jump<'_>) -> Checked {
    ensure(to_u64(j.expected.len()) == JUMP_LEN, "a jump does not replace 5 bytes")?;
    ensure(in_segment(build, j.site, JUMP_LEN, text_extent), "the jump lies outside the text")?;
    let first = j.fragments.first().ok_or("the function has no fragment")?;
    ensure(first.addr == j.function, "the first fragment is not the function")?;
    ensure(j.site.since(j.function).is_some_and(|n| n < first.size), "the jump is not in the function")?;
    ensure(j.fragments.len() <= limits::FRAGMENTS_PER_FUNCTION, "the function has more than 256 fragments")?;
    for f in &j.fragments {
        ensure(f.size != 0 && f.size <= limits::FRAGMENT, "a fragment is empty or longer than 16 MiB")?;
        ensure(in_segment(build, f.addr, f.size, text_extent), "a fragment lies outside the text")?;
        ensure(f.bytes.is_empty() || to_u64(f.bytes.len()) == f.size, "a fragment's bytes are not its size")?;
    }
    candidates(patch, &j.new)?;
    if !j.chosen.is_empty() {
        candidates(patch, &j.chosen)?;
        let slot = |c: &Candidate| matches!(c.value, Value::Witness { .. }) && !c.closed;
        ensure(j.chosen.iter().all(slot), "what was chosen is not read from a slot, or is closed")?;
    }
    let island = patch.areas.get(j.island.index()).ok_or("it names no island")?;
    ensure(island.near == Some(module), "the island is not near the module")?;
    for off in [j.original, j.gate, j.far].into_iter().flatten() {
        inside(patch, j.island, off, 1, Some(Prot::ReadExec))?;
    }
    ensure(j.gate.is_none() || (patch.gate.is_some() && j.original.is_some()), "a gate thunk without gate or prologue")
}

/// Functions that change together change behind the gate: else there would be no way to change them all at once. Jumps
/// for different builds of one module are never in force together.
fn jumps_gated(redirects: &[Redirect<'_>]) -> Result<(), CheckError> {
    let jumps = || {
        redirects.iter().enumerate().filter_map(|(index, r)| match &r.change {
            Change::Jump(j) => Some((index, r.module, r.build, j)),
            Change::Slot(_) | Change::Data(_) => None,
        })
    };
    let first = jumps().next().map(|(_, module, ..)| module);
    let mut builds = HashSet::new();
    if jumps().all(|(_, module, build, _)| Some(module) == first && builds.insert(build)) {
        return Ok(());
    }
    let why = "functions change together, but this one has no gate thunk";
    let bare = jumps().find(|(.., j)| j.gate.is_none());
    bare.map_or(Ok(()), |(index, ..)| Err(CheckError { part: "redirect", index: Some(index), why }))
}

/// No two redirects of one build change the same byte.
fn redirects_apart(redirects: &[Redirect<'_>]) -> Result<(), CheckError> {
    let mut spans: Vec<_> = redirects
        .iter()
        .enumerate()
        .map(|(index, r)| {
            let (start, len) = match &r.change {
                Change::Jump(j) => (j.site, JUMP_LEN),
                Change::Slot(s) => (s.slot, 8),
                Change::Data(d) => (d.addr, to_u64(d.new.len())),
            };
            ((r.module, r.build, start), len, index)
        })
        .collect();
    spans.sort_unstable();
    for pair in spans.windows(2) {
        let [((m, b, start), len, _), ((m2, b2, start2), _, index)] = pair else { continue };
        if (m, b) == (m2, b2) && start2.since(*start).is_some_and(|gap| gap < *len) {
            let why = "it changes a byte that another redirect changes too";
            return Err(CheckError { part: "redirect", index: Some(*index), why });
        }
    }
    Ok(())
}

fn unwind(patch: &Patch<'_>, u: &Unwind) -> Checked {
    ensure(u.eh_frame_len != 0, "it is empty")?;
    inside(patch, u.area, u.eh_frame, u.eh_frame_len, None)?;
    if let Some(provider) = u.provider {
        required(patch, provider, "its provider names no module", "its provider is an optional module")?;
    }
    inside(patch, u.area, u.enter, 1, Some(Prot::ReadExec))?;
    inside(patch, u.area, u.leave, 1, Some(Prot::ReadExec))?;
    ensure(u.done.0.is_multiple_of(4), "its done word is not 4-aligned")?;
    inside(patch, u.area, u.done, 4, Some(Prot::ReadWrite))
}
