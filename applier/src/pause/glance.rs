//! What the threads are doing, seen without stopping them.

use super::PauseError;
use crate::arch::x86_64 as arch;
use crate::borrow;
use crate::identify::Target;
use crate::sys::proc::Doing;
use crate::sys::ptrace::Tid;
use crate::sys::sched;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A look as young as this is good in any case: most threads that sleep do so for longer.
const FRESH: Duration = Duration::from_millis(10);

/// What every thread was doing when it was looked at.
#[derive(Debug)]
pub struct Glance {
    /// Those that had not ended, but for the kernel's own.
    pub threads: BTreeMap<Tid, Doing>,
    /// How long the look took, and when it was over.
    took: Duration,
    over: Instant,
}

impl Glance {
    /// Whether another look would tell little more: this one is young, or it would be no younger once it is over. A thread that
    /// has moved since is found where it stands, at the price of a stop that comes to nothing.
    pub fn is_fresh(&self) -> bool {
        self.over.elapsed() < self.took.max(FRESH)
    }
}

/// Looks at every thread.
///
/// # Errors
/// If one is in uninterruptible sleep: it would not stop, and the others would stand still for it in vain.
pub fn glance(target: &Target) -> Result<Glance, PauseError> {
    let (process, begun) = (&target.process, Instant::now());
    let mut threads = BTreeMap::new();
    for tid in process.threads().unwrap_or_default() {
        let Some(doing) = process.doing_if_it_runs(tid) else { continue };
        // Whoever is seen on a processor, or in a call that waits for what may never come, need not be asked for its state.
        let told = match doing {
            Doing::Running => true,
            Doing::Blocked { nr, .. } => arch::waits_interruptibly(nr),
            Doing::Unknown => false,
        };
        match (!told).then(|| process.thread_state(tid)) {
            Some(Some('D')) => {
                // It may be in exec, which waits for those of ours that it has ended.
                borrow::reap(process);
                return Err(stuck(target, tid));
            }
            Some(None | Some('Z' | 'X')) => {}
            Some(Some(_)) | None => _ = threads.insert(tid, doing),
        }
    }
    target.priority.set(threads.keys().map(|tid| sched::priority(*tid)).max().unwrap_or_default());
    Ok(Glance { threads, took: begun.elapsed(), over: Instant::now() })
}

pub(super) fn stuck(target: &Target, tid: Tid) -> PauseError {
    let state = target.process.thread_state(tid).unwrap_or('?');
    PauseError::Stuck { tid, name: target.process.thread_name(tid), state }
}
