//! What earlier runs left in a process: patches in force, and the remains of an lp-apply that died.
//!
//! | record says         | sites say            | that is                                | done about it         |
//! |---------------------|----------------------|----------------------------------------|-----------------------|
//! | active              | new                  | a patch in force                       | nothing               |
//! | any                 | gate open            | committed, not settled                 | settle                |
//! | staging, staged     | old                  | never in force                         | unmap                 |
//! | any other           | old, or gate shut    | a commit or revert that was cut short  | sites old, then unmap |
//! | committing, reverting, held | mixed        | the same, without gate                 | sites old, then unmap |
//! | active              | mixed                | somebody else changed a site           | left alone            |
//! | inactive            | none leads in        | withdrawn, but not unmapped            | unmap                 |
//! | inactive, held and all old | mixed         | something wrote into the record        | left alone            |
//! | held                | none leads in        | withdrawn; the program keeps addresses | unmap if none is left, when told to search |
//! | any                 | one is none of these | somebody else changed a site           | left alone            |
//!
//! What cannot be unmapped because a thread is still in it stays, inactive, until a later run finds it free; what is held, until a
//! run that is told to searches all memory and finds it free.
//!
//! The lock on the process is held, so no record here belongs to a lp-apply that is alive.

use crate::borrow::{self, Borrowed};
use crate::commit::{self, CommitError, Cost, Judge, Obstacle, Quiet, Quietness, Search};
use crate::identify::maps::Maps;
use crate::identify::records::{self, Patched, Record, Truth};
use crate::identify::stub::StubPlace;
use crate::identify::{IdentifyError, Target};
use crate::patience::Patience;
use crate::pause::Thread;
use crate::plan::CodeRange;
use crate::quiesce::Busy;
use crate::record;
use crate::register::{self, Sent};
use crate::sys::ptrace::Tid;
use crate::trouble::Trouble;
use lpb::RunAddr;
use lpb::life::{Life, Mapping, SiteKind, State};
use std::time::Duration;

const PROT_READ_EXEC: u32 = 5;
/// How long a leftover may take to become quiet, and to be removed when the time is up. A thread may stay in its code for ever,
/// and nobody has asked about it; but often it is only a word on a busy stack that looks like a return address.
pub const COURTESY: Duration = Duration::from_millis(500);

/// Pause between two looks at a thread.
const NAP: Duration = Duration::from_millis(1);

/// Cleans up, and returns the patches that stay.
///
/// # Errors
/// If a record is damaged, or something cannot be cleaned up in time.
pub fn clear(target: &Target, place: &StubPlace, scan_memory: bool) -> Result<Vec<Patched>, Trouble> {
    let patience = target.patience;
    if place.before.is_none() {
        // Threads of a dead run may still be on their way into its last call.
        commit::when_quiet(target, Quietness::of(&[], patience), |quiet| quiet.cancel_calls(place))?;
    }
    record::forget_intent(target, place)?;
    let mut staying = Vec::new();
    for mut patched in sound_records(target)? {
        let life = &mut patched.life;
        match (patched.truth, life.state) {
            (Truth::New, State::Active) | (Truth::Mixed, State::Active | State::Staging | State::Staged) => {
                staying.push(patched)
            }
            (Truth::Mixed, _) if life.is_withdrawn() => staying.push(patched),
            (Truth::Old, State::Held) if !scan_memory => {
                // The run that withdrew it may have died before it could say so. If this fails, the next one tries again.
                if !life.is_withdrawn() {
                    let _ = record::set_state(target, life, State::Held, Life::ALL_OLD);
                }
                staying.push(patched);
            }
            (Truth::New | Truth::Gated { open: true }, _) => {
                commit::when_quiet(target, Quietness::of(&[], patience), |_| commit::settle(target, life))?;
                patched.truth = Truth::New;
                staying.push(patched);
            }
            (Truth::Old, State::Staging | State::Staged) => {
                match discard(target, place, life, patience) {
                    Ok(_) => {}
                    // It does no harm where it is.
                    Err(Trouble::Register(e)) if e.keeps_image() => staying.push(patched),
                    Err(e) => return Err(e),
                }
            }
            (Truth::Old | Truth::Gated { open: false } | Truth::Mixed, _) => {
                let scan_memory = scan_memory || life.state == State::Held;
                match undo(target, place, life, scan_memory, patience.at_most(COURTESY)) {
                    Ok((Undone { kept: None, .. }, _)) => {}
                    Ok(_) => staying.push(Patched { truth: Truth::Old, ..patched }),
                    // Where there is something else than a jump of ours now, nobody has asked to end that.
                    Err(Trouble::Commit(CommitError::Changed { .. })) => {
                        staying.push(Patched { truth: Truth::Mixed, ..patched });
                    }
                    Err(e) => return Err(e),
                }
            }
        }
    }
    Ok(staying)
}

/// The readable records.
///
/// # Errors
/// If one is damaged: then nothing is known of the sites it owns.
pub fn sound_records(target: &Target) -> Result<Vec<Patched>, IdentifyError> {
    let pid = target.process.pid;
    let records = target.records(&target.maps()?);
    records
        .into_iter()
        .map(|r| match r {
            Record::Sound(patched) => Ok(*patched),
            Record::Damaged { at, why } => Err(IdentifyError::DamagedRecord { pid, at, why }),
        })
        .collect()
}

/// What [`undo`] has done.
#[derive(Debug, Default)]
pub struct Undone {
    /// Why the image is still mapped, if it is.
    pub kept: Option<String>,
    /// Data that was left because the program has changed it since.
    pub left: Vec<String>,
    /// Threads that took unwind tables back.
    pub sent: Vec<Sent>,
}

/// All code that the patch has brought.
pub fn own_code(life: &Life) -> Vec<CodeRange> {
    image(life, |m| m.prot == PROT_READ_EXEC)
}

/// What the patch has brought.
fn image(life: &Life, wanted: impl Fn(&Mapping) -> bool) -> Vec<CodeRange> {
    let range = |m: &Mapping| CodeRange {
        name: format!("the {} of patch {}", if m.prot == PROT_READ_EXEC { "code" } else { "data" }, life.name),
        start: m.start,
        end: m.range().end,
        harmless_to: None,
        tail_called: false,
        may_end_in_call: false,
        pushed: None,
    };
    life.mappings.iter().filter(|m| wanted(m)).map(range).collect()
}

/// Where new functions may have jumped on their way into another one: nothing on the stack tells of it.
fn tail_called(life: &Life) -> impl Iterator<Item = CodeRange> {
    let jumps = life.sites.iter().filter(|s| s.kind == SiteKind::Jump);
    let several = jumps.clone().nth(1).is_some();
    jumps.filter(move |_| several).map(|s| CodeRange {
        name: s.name.clone(),
        start: s.at,
        end: RunAddr(s.at.0.saturating_add(1)),
        harmless_to: Some(s.at),
        tail_called: true,
        may_end_in_call: false,
        pushed: None,
    })
}

/// Takes a patch out of force, and unmaps it, as soon as no thread is in its code. If one stays there until the time is up,
/// the patch is out of force all the same, but its image is kept. `scan_memory`: what the program keeps outside the stacks of
/// its threads counts too.
pub fn undo(
    target: &Target,
    place: &StubPlace,
    life: &mut Life,
    scan_memory: bool,
    patience: Patience,
) -> Result<(Undone, Cost), Trouble> {
    let (own, also) = (life.clone(), image(life, |_| true));
    let mut code = own_code(life);
    code.extend(tail_called(life));
    let search = Search { of: Some(&own), also: &also };
    let when = Quietness { scan_memory: scan_memory.then_some(search), ..Quietness::of(&code, patience) };
    let done = commit::when_quiet(target, when, |quiet| {
        let left = withdraw(target, life, scan_memory)?;
        // All memory has been searched already, before the patch was withdrawn.
        let kept = if scan_memory { quiet.kept.clone() } else { held(quiet, life, false)? };
        Ok((left, kept))
    });
    match done {
        Ok(((left, None), cost)) => Ok((unmap(target, place, life, left, rest_of(patience)), cost)),
        Ok(((left, Some(busy)), cost)) => Ok((keep(target, busy, left), cost)),
        Err(CommitError::Busy { waited, .. }) => {
            let (undone, cost) = undo_at_once(target, place, life, scan_memory, rest_of(patience))?;
            Ok((undone, Cost { waited, ..cost }))
        }
        Err(e) => Err(e.into()),
    }
}

/// What is left, but something unless nobody wanted to wait.
fn rest_of(patience: Patience) -> Patience {
    patience.at_least(COURTESY.min(patience.limit()))
}

/// Takes a patch out of force at once. The image is kept if a thread is in its code. `patience`: for a thread that can
/// tell the unwinder.
pub fn undo_at_once(
    target: &Target,
    place: &StubPlace,
    life: &mut Life,
    scan_memory: bool,
    patience: Patience,
) -> Result<(Undone, Cost), Trouble> {
    let code = own_code(life);
    let ((left, busy), cost) = commit::when_quiet(target, Quietness::any(), |quiet| {
        let busy = quiet.busy(&code)?;
        let left = withdraw(target, life, scan_memory)?;
        Ok((left, if busy.is_some() { busy } else { held(quiet, life, scan_memory)? }))
    })?;
    let undone = match busy {
        None => unmap(target, place, life, left, patience),
        Some(busy) => keep(target, busy, left),
    };
    Ok((undone, cost))
}

/// Where the program keeps an address of the patch: of its code if it may have read it from a slot, to call it any time later; of
/// anything in it if all memory is to be searched.
fn held(quiet: &Quiet<'_>, life: &Life, scan_memory: bool) -> Result<Option<Obstacle>, CommitError> {
    let wanted = match scan_memory {
        true => image(life, |_| true),
        false if life.sites.iter().any(|s| s.kind == SiteKind::Slot) => own_code(life),
        false => return Ok(None),
    };
    let [parked, _] = quiet.parked(&wanted, Search { of: Some(life), also: &[] })?;
    Ok(parked)
}

fn keep(target: &Target, (tid, busy): Obstacle, left: Vec<String>) -> Undone {
    let name = target.process.thread_name(tid);
    Undone { kept: Some(format!("thread {tid} ({name}) {busy}")), left, sent: Vec::new() }
}

/// The patch is out of force; that its memory cannot be unmapped does not change that.
fn unmap(target: &Target, place: &StubPlace, life: &mut Life, left: Vec<String>, patience: Patience) -> Undone {
    match discard(target, place, life, patience) {
        Ok(sent) => Undone { kept: None, left, sent },
        Err(e) => Undone { kept: Some(e.to_string()), left, sent: Vec::new() },
    }
}

/// Unmaps a patch whose sites are old, once no unwinder knows it any more. Returns the threads that said so.
pub fn discard(target: &Target, place: &StubPlace, life: &mut Life, patience: Patience) -> Result<Vec<Sent>, Trouble> {
    let sent = register::leave(target, place, life, patience)?;
    record::dissolve(target, place, life)?;
    Ok(sent)
}

/// An inactive patch has old sites already, unless its record is wrong. `held`: whoever removes the image has to search all memory.
fn withdraw(target: &Target, life: &mut Life, held: bool) -> Result<Vec<String>, CommitError> {
    let withdrawn = life.is_withdrawn() && !records::leads_in(life, &|at, len| target.read(at, len));
    if withdrawn { Ok(vec![]) } else { commit::withdraw(target, life, held) }
}

/// Puts back the bytes under the stub if they are still changed, as soon as no thread is there. After a run that failed half-way
/// a thread may be on its way into calls that nobody waits for, and a mapping may have been made that only the intent tells of.
/// Both end before the stub does.
pub fn tidy(target: &Target, place: &StubPlace) -> Result<(), Trouble> {
    if record::stub_is_gone(target, place) {
        return Ok(());
    }
    let intent = place.present_intent(|at, len| target.read(at, len));
    if target.astray.get().is_some() || intent.is_some() {
        commit::when_quiet(target, Quietness::any(), |quiet| quiet.cancel_calls(place))?;
        target.astray.set(None);
    }
    if let Some((at, len)) = intent {
        record::forget(target, place, at, len)?;
    }
    let code = [place.code()];
    let remove = || {
        let name = "the bytes under the injected code".to_owned();
        record::remove_stub(target, place).map_err(|source| CommitError::Write { name, at: place.at, source })
    };
    if place.before.is_some() && all_home(target, place)? {
        return Ok(remove()?);
    }
    match commit::when_quiet(target, Quietness::of(&code, Patience::of(COURTESY)), |_| remove()) {
        Err(CommitError::Busy { busy: Busy::Unknown { .. }, .. }) => {
            commit::when_quiet(target, Quietness::any(), |quiet| match quiet.is_clear_of(&code)? {
                true => remove(),
                false => Ok(()),
            })?;
        }
        done => _ = done?,
    }
    Ok(())
}

/// Whether all threads that this run has sent into the stub have left it: nobody else has been there. They are stopped one by
/// one, and the others not at all.
fn all_home(target: &Target, place: &StubPlace) -> Result<bool, Trouble> {
    let patience = Patience::of(COURTESY);
    let maps = target.maps()?;
    let sent = target.sent.borrow().clone();
    for tid in sent {
        loop {
            match is_home(target, place, tid, &maps) {
                Some(true) => break,
                Some(false) if !patience.is_over() => borrow::nap(NAP),
                _ => return Ok(false),
            }
        }
    }
    Ok(true)
}

/// Whether this thread has left the stub; `None`: that cannot be told.
fn is_home(target: &Target, place: &StubPlace, tid: Tid, maps: &Maps) -> Option<bool> {
    let thread = match Borrowed::stop(target, place, tid, maps, &[]) {
        Ok(thread) => thread,
        // Nobody who has ended is anywhere.
        Err(_) => return (!target.process.lives(tid)).then_some(true),
    };
    let stopped = Thread { tid, regs: *thread.live()?, asleep: false };
    let found = Judge::new(target).stopped(&[place.code()], &mut maps.clone(), &[stopped]);
    thread.give_back().ok()?;
    match found {
        Ok(None) => Some(true),
        Ok(Some((_, Busy::Unknown { .. }))) | Err(_) => None,
        Ok(Some(_)) => Some(false),
    }
}
