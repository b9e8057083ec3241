//! All threads of the target stopped at once, for as short as can be.
//!
//! ```text
//! SEIZE each            nobody is stopped; threads born from now on are ours too
//! INTERRUPT + wait      the threads that sleep; their stacks are judged while the others still run
//! INTERRUPT + wait      the threads that run: they stand still the shortest time
//! count                 a thread that was being made meanwhile may be missing: once more, then
//! ...                   the stacks, the commit
//! DETACH each           those that run first
//! ```
//! After a stop in vain those that run are seized and stopped first: a stop breaks off what sleepers wait for, and timeouts that
//! start anew each time would never be over while a thread computes where it must not be.
//!
//! What is found of a thread that stands still stays true: its frames lie on its own stack, which nobody else returns through,
//! and it does not run before all are let go.
//!
//! Looking at a stop does not consume it (see [`crate::sys::ptrace`]), so if lp-apply dies here, the kernel lets every
//! thread go on with the signals it had.

mod error;
mod glance;
mod seized;

pub use error::PauseError;
pub use glance::{Glance, glance};

use crate::borrow;
use crate::identify::Target;
use crate::sys::ptrace::{Regs, Tid};
use crate::sys::sched::Urgent;
use seized::Seized;
use std::time::{Duration, Instant};

/// How long all threads together may take to stop.
const PATIENCE: Duration = Duration::from_secs(2);
/// What threads that run have before a crowd of more than [`CROWD`] that sleep: until they are on a processor, which these
/// would take from them.
const HEAD_START: Duration = Duration::from_micros(25);
const CROWD: usize = 8;

/// Which threads are stopped first, and judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Those that sleep: those that run stand still the shortest time.
    Sleepers,
    /// Those that run: if one of them is in the way, those that sleep are not touched.
    Runners,
}

/// One stopped thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its number.
    pub tid: Tid,
    /// Its registers, as it was stopped.
    pub regs: Regs,
    /// It was asleep when it was looked at.
    pub asleep: bool,
}

/// A target whose threads all stand still.
#[must_use = "the target stands still: resume it"]
pub struct Paused<'a> {
    target: &'a Target,
    /// All its threads.
    pub threads: Vec<Thread>,
    /// Forgotten only when all go on: that takes time.
    seized: Seized<'a>,
    started: Instant,
    _urgent: Urgent,
}

impl<'a> Paused<'a> {
    /// Stops every thread; those of `glance` were seen before. `judge` is asked about threads as soon as they stand still, while
    /// the next ones are on their way; the inner error is what it found.
    ///
    /// # Errors
    /// If one cannot be stopped in time. After every error all go on.
    pub fn begin<E>(
        target: &'a Target,
        glance: &Glance,
        first: First,
        mut judge: impl FnMut(&[Thread]) -> Result<(), E>,
    ) -> Result<Result<Self, E>, PauseError> {
        let mut seized = Seized::none(target)?;
        match first {
            First::Sleepers => seized.seize_all(glance)?,
            First::Runners => seized.seize_runners(glance)?,
        }
        let urgent = Urgent::raise(target.priority.get());
        let started = Instant::now();
        let deadline = started.checked_add(PATIENCE).unwrap_or(started);
        let mut threads = Vec::with_capacity(glance.threads.len());
        if first == First::Runners {
            if let Err(found) = seized.stop_wave(false, deadline, &mut threads, &mut judge)? {
                return Ok(Err(found));
            }
            seized.seize_all(glance)?;
        }
        loop {
            for asleep in [true, false] {
                if let Err(found) = seized.stop_wave(asleep, deadline, &mut threads, &mut judge)? {
                    return Ok(Err(found));
                }
            }
            if !seized.seize_missing(glance)? {
                break;
            }
        }
        target.memory.with_stopped(threads.first().map(|t| t.tid));
        if threads.is_empty() {
            Err(PauseError::Gone { pid: target.process.pid })
        } else {
            Ok(Ok(Self { target, threads, seized, started, _urgent: urgent }))
        }
    }

    /// Lets every thread go on; how long the target stood still.
    pub fn resume(mut self) -> Duration {
        self.release();
        self.started.elapsed()
    }

    fn release(&mut self) {
        self.target.memory.with_stopped(None);
        let threads = std::mem::take(&mut self.threads);
        let (asleep, awake) = (threads.iter().filter(|t| t.asleep), threads.iter().filter(|t| !t.asleep));
        let crowded = asleep.clone().nth(CROWD).is_some() && awake.clone().next().is_some();
        awake.for_each(let_go);
        if crowded {
            let started = Instant::now();
            while started.elapsed() < HEAD_START {
                std::hint::spin_loop();
            }
        }
        asleep.for_each(let_go);
    }
}

fn let_go(t: &Thread) {
    // If it has been killed, there is nothing more to be done for it.
    let _ = borrow::detach(t.tid);
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.release();
        // They are nobody's any more.
        self.seized.threads.clear();
    }
}
