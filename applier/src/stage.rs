//! Step 3: everything the patch brings is put into the target, beside what is there. Its behaviour does not change.
//!
//! ```text
//! borrow one thread ── mmap record ── write record ── mmap all segments ── give it back
//! write each segment through /proc/PID/mem ── compare /proc/PID/maps with the plan ── state: staged
//! ```

use crate::borrow::{BorrowError, Borrowed};
use crate::identify::stub::StubPlace;
use crate::identify::{IdentifyError, Target};
use crate::outcome::{Outcome, Verdict};
use crate::plan::Plan;
use crate::record;
use crate::sys::fault::step;
use lpb::RunAddr;
use lpb::life::{LifeError, State};
use std::io;

const PROT_READ_WRITE: u32 = 3;

/// Why staging failed. What was mapped is unmapped again unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Threads.
    #[error(transparent)]
    Borrow(#[from] BorrowError),
    /// The process.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
    /// The target has taken the addresses meanwhile.
    #[error("the target has mapped something at {at} meanwhile")]
    Raced {
        /// Where.
        at: RunAddr,
    },
    /// The kernel does not give the target this memory.
    #[error("the target cannot map {len} bytes ({prot}) at {at}: {source}")]
    Map {
        /// Where.
        at: RunAddr,
        /// Bytes.
        len: u64,
        /// "r-x" and the like.
        prot: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Writing into the target failed.
    #[error("writing into the target at {at} failed: {source}")]
    Write {
        /// Where.
        at: RunAddr,
        /// Why.
        source: io::Error,
    },
    /// The mappings are not the planned ones.
    #[error("the mapping at {at} is not as it was made")]
    Differs {
        /// Where.
        at: RunAddr,
    },
    /// The record cannot be written.
    #[error("the patch record: {0}")]
    Record(#[from] LifeError),
}

impl Verdict for StageError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Borrow(e) => e.outcome(),
            Self::Identify(e) => e.outcome(),
            Self::Raced { .. } => Outcome::Blocked,
            Self::Record(_) => Outcome::Refused,
            Self::Map { .. } | Self::Write { .. } | Self::Differs { .. } => Outcome::Failed,
        }
    }

    fn is_permission(&self) -> bool {
        matches!(self, Self::Borrow(e) if e.is_permission())
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Borrow(e) => return e.hint(),
            Self::Identify(e) => return e.hint(),
            Self::Raced { .. } => "run the command again".into(),
            Self::Map { source, .. } if source.raw_os_error() == Some(libc::ENOMEM) => {
                "the target is at a limit: RLIMIT_AS, vm.max_map_count or its memory cgroup".into()
            }
            Self::Map { source, .. } if source.raw_os_error() == Some(libc::EAGAIN) => {
                "the target has called mlockall, and RLIMIT_MEMLOCK is reached: raise it (`prlimit --memlock`)".into()
            }
            Self::Map { .. } => "a security module forbids executable memory to the target (SELinux execmem)".into(),
            Self::Write { .. } | Self::Differs { .. } => "check proc_mem.force_override and security modules".into(),
            Self::Record(_) => "split the patch into smaller ones".into(),
        })
    }
}

/// Rights of a mapping as `maps` shows them.
pub fn rights(prot: u32) -> &'static str {
    match prot {
        1 => "r--",
        3 => "rw-",
        _ => "r-x",
    }
}

/// Stages the plan.
///
/// # Errors
/// Nothing stays in the target then, or, if even the undoing failed, what the record lists: the next run finds it.
pub fn stage(target: &Target, place: &StubPlace, plan: &mut Plan) -> Result<(), StageError> {
    let staged = map_all(target, place, plan).and_then(|()| fill(target, place, plan).map_err(|e| (e, Left::Record)));
    match staged {
        Ok(()) => Ok(()),
        Err((e, Left::Nothing)) => Err(e),
        // The first error is the one to report; leftovers are listed by the record.
        Err((e, Left::Record)) => {
            let _ = record::dissolve(target, place, &mut plan.life);
            Err(e)
        }
        Err((e, Left::First(count))) => {
            let _ = record::dissolve_first(target, place, &mut plan.life, count);
            Err(e)
        }
    }
}

/// What a failed attempt leaves in the target.
enum Left {
    /// Nothing.
    Nothing,
    /// The record, and what it lists.
    Record,
    /// The record, and so many of the first mappings that it lists.
    First(usize),
}

/// Makes all mappings.
fn map_all(target: &Target, place: &StubPlace, plan: &mut Plan) -> Result<(), (StageError, Left)> {
    let unrecorded = |e: StageError| (e, Left::Nothing);
    let bytes = plan.life.encode().map_err(|e| unrecorded(e.into()))?;
    place.touch(&target.memory);
    let mut thread = Borrowed::take(target, place, &record::calls(&plan.life)).map_err(|e| unrecorded(e.into()))?;
    let (at, len) = (plan.life.at, plan.life.len);
    match record::begin(target, &mut thread, &plan.life, &bytes) {
        Ok(begun) => begun.map_err(|e| unrecorded(map_error(e, at, len, 1)))?,
        Err(e) => {
            drop(thread);
            // The first error is the one to report; the note of the intent is gone only if this succeeds.
            let _ = record::forget(target, place, at, len);
            return Err(unrecorded(e.into()));
        }
    }
    let recorded = |e: StageError| (e, Left::Record);
    let (calls, before): (Vec<_>, Vec<_>) = record::map_calls(&plan.life).into_iter().unzip();
    if let Err((call, source)) = thread.run(&calls).map_err(|e| recorded(e.into()))? {
        let made = calls.iter().position(|c| *c == call).and_then(|n| before.get(n));
        let ([at, len, ..], prot) = (call.args, call.args.get(2).map_or(0, |prot| u32::try_from(*prot).unwrap_or(0)));
        return Err((map_error(source, RunAddr(at), len, prot), made.map_or(Left::Record, |n| Left::First(*n))));
    }
    let all = u32::try_from(plan.life.mappings.len()).unwrap_or(u32::MAX);
    let noted = record::set_state(target, &mut plan.life, State::Staging, all);
    noted.map_err(|source| recorded(StageError::Write { at, source }))?;
    record::protect(&mut thread, &plan.life.mappings, PROT_READ_WRITE).map_err(|e| recorded(e.into()))?;
    thread.give_back().map_err(|e| recorded(e.into()))
}

fn map_error(source: io::Error, at: RunAddr, len: u64, prot: u32) -> StageError {
    match source.raw_os_error() {
        Some(libc::EEXIST) => StageError::Raced { at },
        _ => StageError::Map { at, len, prot: rights(prot), source },
    }
}

/// Writes the contents and checks the result.
fn fill(target: &Target, place: &StubPlace, plan: &mut Plan) -> Result<(), StageError> {
    if let Err(StageError::Write { .. }) = write_contents(target, plan) {
        // Once more with a thread stopped: its debugger's interface may write where the memory file may not.
        let thread = Borrowed::take(target, place, &[])?;
        write_contents(target, plan)?;
        thread.give_back()?;
    }
    let maps = target.maps()?;
    for m in &plan.life.mappings {
        if !maps.covers(m.start, m.range().end, |have| have.prot == m.prot && have.is_plain_anonymous()) {
            return Err(StageError::Differs { at: m.start });
        }
    }
    Ok(())
}

fn write_contents(target: &Target, plan: &mut Plan) -> Result<(), StageError> {
    for (at, bytes) in plan.contents.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let written = target.memory.write(*at, bytes).and_then(|()| step("contents"));
        written.map_err(|source| StageError::Write { at: *at, source })?;
    }
    let at = plan.life.at;
    record::set_state(target, &mut plan.life, State::Staged, 0).map_err(|source| StageError::Write { at, source })
}
