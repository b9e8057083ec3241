//! Why a table was not registered, or is registered still.

use super::{Journey, PATIENCE};
use crate::borrow::BorrowError;
use crate::identify::IdentifyError;
use crate::outcome::{Outcome, Verdict};
use crate::sys::ptrace::Tid;
use lpb::RunAddr;
use std::time::Duration;

/// Why a table was not registered, or is registered still.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Every thread may hold a lock that is needed.
    #[error("no thread of process {pid} can {journey} the patch's unwind table: {why}; waited {} ms", .waited.as_millis())]
    NoThread {
        /// The target.
        pid: i32,
        /// What it is for.
        journey: Journey,
        /// About the last one that was looked at.
        why: String,
        /// How long.
        waited: Duration,
    },
    /// The thread that was sent is not back.
    #[error("thread {tid} did not {journey} the patch's unwind table within {} s", PATIENCE.as_secs())]
    Slow {
        /// The thread.
        tid: Tid,
        /// What it was sent for.
        journey: Journey,
    },
    /// A copy of a process that was forked in the middle of it.
    #[error("it is not known whether the patch's unwind table is registered (done word {word:#x} at {at})")]
    Unknown {
        /// The done word.
        at: RunAddr,
        /// What it holds.
        word: u32,
    },
    /// Stopping or sending a thread failed.
    #[error(transparent)]
    Borrow(#[from] BorrowError),
    /// The process.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
}

impl RegisterError {
    /// Whether the table may be registered still, so that its memory must stay.
    pub fn keeps_image(&self) -> bool {
        matches!(self, Self::NoThread { .. } | Self::Slow { .. } | Self::Unknown { .. })
    }
}

impl Verdict for RegisterError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::NoThread { .. } | Self::Slow { .. } => Outcome::Blocked,
            Self::Unknown { .. } => Outcome::Refused,
            Self::Borrow(e) => e.outcome(),
            Self::Identify(e) => e.outcome(),
        }
    }

    fn is_permission(&self) -> bool {
        match self {
            Self::Borrow(e) => e.is_permission(),
            Self::Identify(e) => e.is_permission(),
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoThread { .. } => {
                "wait longer (--wait 60s): some thread has to sleep in a system call, or compute in the patched module"
                    .into()
            }
            Self::Slow { .. } => "run the command again when the process is not stopped or overloaded".into(),
            Self::Unknown { .. } => "the memory stays; it does no harm".into(),
            Self::Borrow(e) => return e.hint(),
            Self::Identify(e) => return e.hint(),
        })
    }
}
