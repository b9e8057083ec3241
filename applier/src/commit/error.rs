//! Why nothing was changed.

use crate::identify::IdentifyError;
use crate::outcome::{Outcome, Verdict};
use crate::pause::PauseError;
use crate::quiesce::Busy;
use crate::sys::ptrace::Tid;
use lpb::RunAddr;
use std::io;
use std::time::Duration;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The process.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
    /// Its threads.
    #[error(transparent)]
    Pause(#[from] PauseError),
    /// A thread was in the way until the deadline.
    #[error("thread {tid} ({name}) {busy}; waited {} ms", .waited.as_millis())]
    Busy {
        /// The thread.
        tid: Tid,
        /// Its name.
        name: String,
        /// Where it is.
        busy: Busy,
        /// How long.
        waited: Duration,
    },
    /// Another lp-apply has taken the staged patch for the remains of a dead one.
    #[error("another lp-apply has removed the staged patch")]
    Disowned,
    /// The target was changed by somebody else.
    #[error("{name} at {at} has been changed meanwhile")]
    Changed {
        /// Function or variable.
        name: String,
        /// Where.
        at: RunAddr,
    },
    /// The library of a site is there no more.
    #[error("{name} at {at} has been unloaded meanwhile, with its library")]
    Unloaded {
        /// Function or variable.
        name: String,
        /// Where it was.
        at: RunAddr,
    },
    /// A slot holds another value than when the plan was made.
    #[error("{name} at {at} has been bound meanwhile")]
    Bound {
        /// The slot.
        name: String,
        /// Where.
        at: RunAddr,
    },
    /// Writing failed.
    #[error("writing {name} at {at} failed: {source}")]
    Write {
        /// Function or variable.
        name: String,
        /// Where.
        at: RunAddr,
        /// Why.
        source: io::Error,
    },
}

impl Verdict for CommitError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Identify(e) => e.outcome(),
            Self::Pause(e) => e.outcome(),
            Self::Busy { .. } | Self::Disowned => Outcome::Blocked,
            Self::Changed { .. } => Outcome::Refused,
            Self::Bound { .. } | Self::Unloaded { .. } => Outcome::Blocked,
            Self::Write { .. } => Outcome::Failed,
        }
    }

    fn is_permission(&self) -> bool {
        matches!(self, Self::Pause(e) if e.is_permission())
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Identify(e) => return e.hint(),
            Self::Pause(e) => return e.hint(),
            Self::Busy { busy: Busy::Unknown { .. }, .. } => {
                "wait longer (--wait 60s); as long as a thread has no stack of its own, functions cannot be replaced"
                    .into()
            }
            Self::Busy { .. } => {
                "wait longer (--wait 60s), or use --consistency immediate if old and new code may run at the same time"
                    .into()
            }
            Self::Disowned => "wait until the other one is done, then run the command again".into(),
            Self::Changed { .. } => {
                "end what else changes the program (debugger, uprobe), then run the command again; if another library is \
                 mapped there now, the patch stays until the process ends"
                    .into()
            }
            Self::Bound { .. } => {
                "run the command again: the program has just called the function for the first time".into()
            }
            Self::Unloaded { .. } => "run the command again when the program has the library loaded".into(),
            Self::Write { .. } => "check proc_mem.force_override and security modules".into(),
        })
    }
}
