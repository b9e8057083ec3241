//! Step 2: exact addresses and exact bytes. Pure: bundle, snapshot and a way to read the process come in; nothing of the
//! process is changed, so `--dry-run` ends here.

mod binding;
mod chosen;
mod error;
pub mod hop;
pub mod place;
pub mod sites;
mod uncertain;
pub mod values;

use crate::arch::x86_64::distance;
use crate::identify::{Found, Snapshot};
pub use error::PlanError;
use lpb::addr::to_usize;
use lpb::life::{Life, Mapping, Site, SiteKind, State, UnwindCode};
use lpb::{AreaId, Change, Consistency, Digest, Fixup, Form, LinkAddr, LoadBias, Patch, Prot, Redirect, RunAddr};
use place::Space;
use std::ops::Range;
pub use uncertain::Uncertain;
use values::{Context, Unfit};

/// Everything that will be done to one process.
#[derive(Debug)]
pub struct Plan {
    /// The record to leave there: mappings, sites, gate.
    pub life: Life,
    /// Contents of the mappings, fixed up.
    pub contents: Vec<(RunAddr, Vec<u8>)>,
    /// Where no thread may be at the commit.
    pub code: Vec<CodeRange>,
}

/// Part of a function that is about to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeRange {
    /// Its symbol.
    pub name: String,
    /// First byte.
    pub start: RunAddr,
    /// First byte behind it.
    pub end: RunAddr,
    /// A thread may stand at any address up to this one: nothing of the function has run yet.
    pub harmless_to: Option<RunAddr>,
    /// But another function that changes too may have jumped there (a tail call), which leaves nothing on the stack.
    pub tail_called: bool,
    /// The code may end in a call, so a return address may equal `end`.
    pub may_end_in_call: bool,
    /// Code that calls nothing, and two words that stand side by side on the stack of a thread which has gone through it
    /// and is not done.
    pub pushed: Option<[u64; 2]>,
}

/// The redirects that are in force in this process.
fn active<'p, 'a>(
    patch: &'p Patch<'a>,
    in_force: &'p [Option<LoadBias>],
) -> impl Iterator<Item = (&'p Redirect<'a>, LoadBias)> {
    patch.redirects.iter().zip(in_force).filter_map(|(r, bias)| Some((r, (*bias)?)))
}

/// Makes the plan. `staying`: all records that are in the process; `others`: those whose patches own their sites;
/// `consistency`: overrides the bundle.
///
/// # Errors
/// The first reason why the patch cannot be applied to this process as it is now.
pub fn plan(
    patch: &Patch<'_>,
    digest: Digest,
    snapshot: &Snapshot,
    staying: &[&Life],
    others: &[&Life],
    consistency: Option<Consistency>,
    read: &dyn Fn(RunAddr, usize) -> Option<Vec<u8>>,
) -> Result<Plan, PlanError> {
    if patch.replace {
        return Err(PlanError::Unsupported("to retire older patches of its name"));
    }
    let mut space = Space::new(&snapshot.maps);
    // A record that is to be dissolved yet may list mappings that are gone: new ones in their place would be taken for them.
    staying.iter().flat_map(|life| &life.mappings).for_each(|m| space.keep_free(m.range()));
    let bases = place_areas(patch, snapshot, &mut space)?;
    let read_u64 = |at: RunAddr| {
        let live = read(at, 8)?;
        // A slot that another patch has redirected: its record knows what the dynamic linker had stored.
        let redirected = |s: &&Site| s.at == at && s.kind == SiteKind::Slot && s.new == live;
        let site = others.iter().flat_map(|life| &life.sites).find(redirected);
        site.map_or(live.as_slice(), |s| &s.old).try_into().ok().map(u64::from_le_bytes)
    };
    let expected_only = snapshot.strangers.iter().all(|s| s.allowed);
    let cx = Context { patch, modules: &snapshot.modules, expected_only, bases: &bases, in_force: &[], read_u64 };
    let in_force = chosen::in_force(&cx)?;
    let cx = Context { in_force: &in_force, ..cx };
    uncertain::check(&cx, &snapshot.strangers)?;
    let mut contents = contents(&cx)?;
    let mut hops = Vec::new();
    let mut sites = Vec::new();
    let mut code = Vec::new();
    let several = active(patch, cx.in_force).filter(|(r, _)| matches!(r.change, Change::Jump(_))).nth(1).is_some();
    for (r, bias) in active(patch, cx.in_force) {
        let mut site = sites::site(&cx, r, bias, &snapshot.maps, read, others)?;
        match &r.change {
            Change::Jump(j) => {
                code.extend(sites::code_ranges(j, bias, consistency.unwrap_or(r.consistency), several));
                hops.extend(hop::across_pages(&mut site, &mut space)?);
            }
            Change::Slot(s) => code.extend(binding::ranges(&cx, r, s, &site, read)?),
            Change::Data(_) => {}
        }
        sites.push(site);
    }
    if sites.is_empty() {
        return Err(PlanError::Inconsistent("the redirects: none is for the builds of this process".into()));
    }
    let gate = patch.gate.and_then(|(area, off)| off.placed_at(*bases.get(area.index())?));
    let name = patch.name.clone().into_owned();
    let mut mappings = mappings(patch, &bases);
    mappings.extend(hops.iter().map(|h| h.mapping));
    // Writable ones last: of the first, an inactive record does not tell whether its removal has begun (see `record`).
    mappings.sort_by_key(|m| m.prot == 3);
    contents.extend(hops.into_iter().map(|h| (h.at, h.code)));
    let at = RunAddr(0);
    let unwind = patch.unwind.iter().map(|u| unwind(&cx, u)).collect::<Result<_, _>>()?;
    let mut life = Life { at, len: 0, state: State::Staging, progress: 0, digest, name, gate, mappings, sites, unwind };
    life.encode()?;
    let near = bases.first().copied().unwrap_or_else(|| first_text(snapshot));
    life.at = space.take(life.len, &(near..near), false).ok_or(PlanError::NoHole { len: life.len, near: None })?;
    Ok(Plan { life, contents, code })
}

/// Where the code for an unwind table lies, and the unwinder.
fn unwind<R: Fn(RunAddr) -> Option<u64>>(cx: &Context<'_, R>, u: &lpb::Unwind) -> Result<UnwindCode, PlanError> {
    let wrong = || PlanError::Inconsistent("an unwind table".into());
    let base = *cx.bases.get(u.area.index()).ok_or_else(wrong)?;
    let placed = |off: lpb::AreaOff| off.placed_at(base).ok_or_else(wrong);
    let text = |m| text(cx.patch, cx.modules, m).ok_or_else(wrong);
    Ok(UnwindCode {
        enter: placed(u.enter)?,
        leave: placed(u.leave)?,
        done: placed(u.done)?,
        provider: u.provider.map(text).transpose()?,
    })
}

/// The executable segments of a module, as one range.
fn text(patch: &Patch<'_>, found: &[Option<Found>], module: lpb::ModuleId) -> Option<(RunAddr, u64)> {
    let f = (*found.get(module.index())?)?;
    let segments = &patch.modules.get(module.index())?.builds.get(f.build.index())?.segments;
    let code = || segments.iter().filter(|s| s.flags & 1 != 0);
    let start = code().map(|s| s.vaddr).min()?;
    let end = code().filter_map(|s| s.vaddr.plus(s.memsz)).max()?;
    Some((start.loaded_at(f.bias), end.since(start)?))
}

fn first_text(snapshot: &Snapshot) -> RunAddr {
    snapshot.maps.iter().next().map_or(RunAddr(0), |m| m.start)
}

/// The addresses from the first to the last byte of a module.
fn span(patch: &Patch<'_>, found: &[Option<Found>], module: lpb::ModuleId) -> Option<Range<RunAddr>> {
    let f = (*found.get(module.index())?)?;
    let segments = &patch.modules.get(module.index())?.builds.get(f.build.index())?.segments;
    let start = segments.first()?.vaddr;
    let end = segments.iter().filter_map(|s| s.vaddr.plus(s.memsz)).max().unwrap_or(LinkAddr(0));
    Some(start.loaded_at(f.bias)..end.loaded_at(f.bias))
}

/// Places every area near its module. The patch's own image may lie anywhere if it must: the far thunks reach it. So those
/// that must be near come first.
fn place_areas(patch: &Patch<'_>, snapshot: &Snapshot, space: &mut Space) -> Result<Vec<RunAddr>, PlanError> {
    let bound = |id: &AreaId| reaches_out(patch, *id);
    let ids = || (0..).map(AreaId).take(patch.areas.len());
    let mut bases = vec![RunAddr(0); patch.areas.len()];
    for id in ids().filter(bound).chain(ids().filter(|id| !bound(id))) {
        let Some((area, base)) = patch.areas.get(id.index()).zip(bases.get_mut(id.index())) else { continue };
        let near = area.near.and_then(|m| span(patch, &snapshot.modules, m));
        let name = area.near.and_then(|m| patch.modules.get(m.index())).map(|m| m.name.clone().into_owned());
        let anywhere = first_text(snapshot);
        let range = near.clone().unwrap_or(anywhere..anywhere);
        let placed = space.take(area.size, &range, near.is_some());
        let placed = placed.or_else(|| if bound(&id) { None } else { space.take(area.size, &range, false) });
        *base = placed.ok_or(PlanError::NoHole { len: area.size, near: name })?;
    }
    Ok(bases)
}

/// Whether an area must be near its module: an island, or code with relative operands that point out of it.
fn reaches_out(patch: &Patch<'_>, id: AreaId) -> bool {
    let island = |r: &Redirect<'_>| matches!(&r.change, Change::Jump(j) if j.island == id);
    let relative = |f: &Fixup<'_>| f.area == id && f.form == Form::Rel32;
    patch.redirects.iter().any(island) || patch.fixups.iter().any(relative)
}

fn mappings(patch: &Patch<'_>, bases: &[RunAddr]) -> Vec<Mapping> {
    let mut list = Vec::new();
    for (area, base) in patch.areas.iter().zip(bases) {
        for s in &area.segments {
            let prot = match s.prot {
                Prot::Read => 1,
                Prot::ReadWrite => 3,
                Prot::ReadExec => 5,
            };
            list.extend(s.off.placed_at(*base).map(|start| Mapping { start, len: s.size, prot }));
        }
    }
    list
}

/// The bytes of all areas with every fix-up applied.
fn contents<R: Fn(RunAddr) -> Option<u64>>(cx: &Context<'_, R>) -> Result<Vec<(RunAddr, Vec<u8>)>, PlanError> {
    let mut out = Vec::new();
    for (index, (area, base)) in (0..).zip(cx.patch.areas.iter().zip(cx.bases)) {
        for s in &area.segments {
            let inconsistent = || PlanError::Inconsistent(format!("area {index}"));
            let start = s.off.placed_at(*base).ok_or_else(inconsistent)?;
            let mut bytes = s.data.clone().into_owned();
            // Fix-ups ascend by area and place.
            let first = cx.patch.fixups.partition_point(|f| (f.area.0, f.place) < (index, s.off));
            for f in cx.patch.fixups.iter().skip(first) {
                let Some(at) = f.place.since(s.off).filter(|at| f.area.0 == index && *at < s.size) else { break };
                let value = cx.value(&f.candidates).map_err(|reasons| no_value(&f.name, reasons))?;
                let place = f.place.placed_at(*base).ok_or_else(inconsistent)?;
                let word = match f.form {
                    Form::Abs64 => value.to_le_bytes().to_vec(),
                    Form::Rel32 => distance(place, RunAddr(value))
                        .ok_or_else(|| PlanError::OutOfReach { name: label(&f.name), from: place, to: RunAddr(value) })?
                        .to_le_bytes()
                        .to_vec(),
                };
                let range = to_usize(at)..to_usize(at.saturating_add(f.form.width()));
                if bytes.len() < range.end {
                    bytes.resize(range.end, 0);
                }
                bytes.get_mut(range).ok_or_else(inconsistent)?.copy_from_slice(&word);
            }
            out.push((start, bytes));
        }
    }
    Ok(out)
}

fn label(name: &str) -> String {
    if name.is_empty() { "a relocated address".into() } else { name.to_owned() }
}

fn no_value(name: &str, reasons: Vec<Unfit>) -> PlanError {
    PlanError::NoValue { symbol: label(name), reasons }
}
