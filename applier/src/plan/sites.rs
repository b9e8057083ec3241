//! The changes to the target's own memory: what stands there, what will, and where no thread may be meanwhile. Pure.

use super::values::Context;
use super::{CodeRange, PlanError, no_value};
use crate::arch::x86_64::{self as arch, encode_jmp};
use crate::identify::maps::Maps;
use lpb::addr::to_u64;
use lpb::life::{Life, Site, SiteKind};
use lpb::{Candidate, Change, Consistency, Jump, LinkAddr, LoadBias, ModuleId, Redirect, RunAddr, Value};

/// The change at one place of the target, after checking what stands there.
pub fn site<R: Fn(RunAddr) -> Option<u64>>(
    cx: &Context<'_, R>,
    r: &Redirect<'_>,
    bias: LoadBias,
    maps: &Maps,
    read: &dyn Fn(RunAddr, usize) -> Option<Vec<u8>>,
    others: &[&Life],
) -> Result<Site, PlanError> {
    let name = r.name.clone().into_owned();
    let value = |list: &[lpb::Candidate]| cx.value(list).map_err(|reasons| no_value(&r.name, reasons));
    let (kind, at, old, new, gated) = match &r.change {
        Change::Jump(j) => {
            let at = j.site.loaded_at(bias);
            untouched(&name, at, to_u64(j.expected.len()), others)?;
            for f in &j.fragments {
                expect(&f.name, f.addr.loaded_at(bias), &f.bytes, true, read)?;
            }
            expect(&name, at, &j.expected, true, read)?;
            let base = *cx.bases.get(j.island.index()).ok_or_else(|| PlanError::Inconsistent(name.clone()))?;
            let new = jump(&name, at, RunAddr(value(&j.new)?), j.far.and_then(|off| off.placed_at(base)))?;
            let gate = j.gate.and_then(|off| off.placed_at(base));
            let gated = gate.map(|gate| jump(&name, at, gate, None)).transpose()?.unwrap_or_default();
            (SiteKind::Jump, at, j.expected.to_vec(), new, gated)
        }
        Change::Slot(s) => {
            let at = s.slot.loaded_at(bias);
            untouched(&name, at, 8, others)?;
            let live = (cx.read_u64)(at).ok_or_else(|| PlanError::Unreadable { name: name.clone(), at })?;
            // The slot may hold any of the expected values: bound, or not bound yet.
            let (own, others): (Vec<&Candidate>, Vec<&Candidate>) =
                s.expected.iter().partition(|c| is_itself(c, r.module, s.slot));
            let mut expected: Vec<u64> = others.into_iter().filter_map(|c| cx.value(&[*c]).ok()).collect();
            expected.dedup();
            let bound = own.into_iter().any(|c| cx.value(&[*c]).is_ok()) && is_code_of_a_file(maps, RunAddr(live));
            if !expected.contains(&live) && !bound {
                let list = expected.iter().map(|v| format!("{v:#x}")).collect::<Vec<_>>().join(" or ");
                return Err(PlanError::Changed { name, at, found: format!("{live:#x}"), expected: list });
            }
            (SiteKind::Slot, at, live.to_le_bytes().to_vec(), value(&s.new)?.to_le_bytes().to_vec(), vec![])
        }
        Change::Data(d) => {
            let at = d.addr.loaded_at(bias);
            untouched(&name, at, to_u64(d.new.len()), others)?;
            expect(&name, at, &d.expected, false, read)?;
            (SiteKind::Data, at, d.expected.to_vec(), d.new.to_vec(), vec![])
        }
    };
    Ok(Site { at, kind, name, old, new, gated })
}

/// Whether a candidate reads the very slot that it is to vouch for.
pub fn is_itself(c: &Candidate, module: ModuleId, at: LinkAddr) -> bool {
    matches!(c.value, Value::Witness { module: m, slot, .. } if m == module && slot == at)
}

/// What the dynamic linker may store for a function, whoever defines it: code of a file, or of the kernel's vdso.
fn is_code_of_a_file(maps: &Maps, at: RunAddr) -> bool {
    const PROT_EXEC: u32 = 4;
    maps.at(at).is_some_and(|m| m.prot & PROT_EXEC != 0 && (m.inode != 0 || m.path == "[vdso]"))
}

/// A jump from `at` to `to`, or to the far thunk if `to` is out of reach.
fn jump(name: &str, at: RunAddr, to: RunAddr, far: Option<RunAddr>) -> Result<Vec<u8>, PlanError> {
    let direct = encode_jmp(at, to);
    let jump = direct.or_else(|e| far.map_or(Err(e), |far| encode_jmp(at, far)));
    let out_of_reach = |_| PlanError::OutOfReach { name: name.to_owned(), from: at, to };
    jump.map(|bytes| bytes.to_vec()).map_err(out_of_reach)
}

/// No other patch in the process may own these bytes.
fn untouched(name: &str, at: RunAddr, len: u64, others: &[&Life]) -> Result<(), PlanError> {
    let end = RunAddr(at.0.saturating_add(len));
    let meets = |s: &Site| s.at < end && at.0 < s.at.0.saturating_add(to_u64(s.old.len()));
    match others.iter().find(|life| life.sites.iter().any(meets)) {
        None => Ok(()),
        Some(life) => {
            Err(PlanError::Taken { name: name.to_owned(), other: life.name.clone(), digest: life.digest.short() })
        }
    }
}

/// `want` must stand at `at`; in code, a lone 0xcc is recognised as what it is.
fn expect(
    name: &str,
    at: RunAddr,
    want: &[u8],
    code: bool,
    read: &dyn Fn(RunAddr, usize) -> Option<Vec<u8>>,
) -> Result<(), PlanError> {
    let have = read(at, want.len()).ok_or_else(|| PlanError::Unreadable { name: name.to_owned(), at })?;
    let Some(off) = have.iter().zip(want).position(|(a, b)| a != b) else {
        return Ok(());
    };
    let first = RunAddr(at.0.saturating_add(to_u64(off)));
    if code && have.get(off) == Some(&0xcc) {
        return Err(PlanError::Breakpoint { name: name.to_owned(), at: first });
    }
    let show = |bytes: &[u8]| {
        let part = bytes.iter().skip(off).take(8).map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
        if bytes.len() > off.saturating_add(8) { format!("{part} ...") } else { part }
    };
    Err(PlanError::Changed { name: name.to_owned(), at: first, found: show(&have), expected: show(want) })
}

/// Where threads must not be, for the wanted consistency. `several`: other functions change too.
pub fn code_ranges(j: &Jump<'_>, bias: LoadBias, consistency: Consistency, several: bool) -> Vec<CodeRange> {
    let site = j.site.loaded_at(bias);
    let entry = j.fragments.first().map(|f| f.name.clone().into_owned()).unwrap_or_default();
    if consistency == Consistency::Immediate {
        let end = RunAddr(site.0.saturating_add(lpb::JUMP_LEN));
        return vec![CodeRange {
            name: entry,
            start: site,
            end,
            harmless_to: Some(site),
            tail_called: false,
            may_end_in_call: false,
            pushed: None,
        }];
    }
    let fragments = j.fragments.iter().enumerate();
    fragments
        .map(|(index, f)| {
            let start = f.addr.loaded_at(bias);
            CodeRange {
                name: f.name.clone().into_owned(),
                start,
                end: RunAddr(start.0.saturating_add(f.size)),
                harmless_to: (index == 0).then_some(site),
                tail_called: several,
                may_end_in_call: f.bytes.is_empty() || arch::may_end_in_call(&f.bytes),
                pushed: None,
            }
        })
        .collect()
}
