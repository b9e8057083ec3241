//! What the threads are doing, seen without stopping them.

use super::PauseError;
use crate::identify::Target;
use crate::sys::proc::Doing;
use crate::sys::ptrace::Tid;
use std::collections::BTreeMap;

/// What every thread was doing when it was looked at.
pub type Glance = BTreeMap<Tid, Doing>;

/// Looks at every thread that has not ended.
///
/// # Errors
/// If one is in uninterruptible sleep: see [`nobody_stuck`].
pub fn glance(target: &Target) -> Result<Glance, PauseError> {
    let mut all = Glance::new();
    for tid in target.process.threads().unwrap_or_default() {
        match target.process.thread_state(tid) {
            Some('D') => return Err(stuck(target, tid)),
            None | Some('Z' | 'X') => {}
            Some(_) => _ = all.insert(tid, target.process.thread_doing(tid)),
        }
    }
    Ok(all)
}

/// A thread in uninterruptible sleep would not stop, and the others would stand still for it in vain.
///
/// # Errors
/// If there is one.
pub fn nobody_stuck(target: &Target) -> Result<(), PauseError> {
    let threads = target.process.threads().unwrap_or_default();
    let asleep = threads.into_iter().find(|tid| target.process.thread_state(*tid) == Some('D'));
    asleep.map_or(Ok(()), |tid| Err(stuck(target, tid)))
}

pub(super) fn stuck(target: &Target, tid: Tid) -> PauseError {
    let state = target.process.thread_state(tid).unwrap_or('?');
    PauseError::Stuck { tid, name: target.process.thread_name(tid), state }
}
