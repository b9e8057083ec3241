//! Why the threads could not be stopped.

use crate::outcome::{Outcome, Verdict};
use crate::sys::ptrace::Tid;
use std::io;

/// Why the threads could not be stopped. They go on.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The process ended.
    #[error("process {pid} ended")]
    Gone {
        /// The target.
        pid: i32,
    },
    /// The process became another program.
    #[error("process {pid} has replaced its program (exec)")]
    Exec {
        /// The target.
        pid: i32,
    },
    /// A thread does not stop.
    #[error("thread {tid} ({name}) does not stop: it is in kernel state {state}")]
    Stuck {
        /// The thread.
        tid: Tid,
        /// Its name.
        name: String,
        /// State letter of proc(5).
        state: char,
    },
    /// Threads are born faster than they can be seized.
    #[error("process {pid} makes threads faster than they can be stopped")]
    Storm {
        /// The target.
        pid: i32,
    },
    /// A system call on a thread failed.
    #[error("{what} of thread {tid} failed: {source}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// The thread.
        tid: Tid,
        /// Why.
        source: io::Error,
    },
}

impl Verdict for PauseError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Gone { .. } | Self::Exec { .. } => Outcome::Gone,
            Self::Stuck { .. } | Self::Storm { .. } => Outcome::Blocked,
            Self::Call { what: "PTRACE_SEIZE", .. } => Outcome::Refused,
            Self::Call { .. } => Outcome::Failed,
        }
    }

    fn is_permission(&self) -> bool {
        matches!(self, Self::Call { what: "PTRACE_SEIZE", source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Gone { .. } => "find the program's new pid",
                Self::Exec { .. } => "check whether the new program needs the patch too",
                Self::Stuck { .. } | Self::Storm { .. } => "run the command again, with a longer --wait",
                Self::Call { .. } => "end other tracers (gdb, strace), then run the command again",
            }
            .to_owned(),
        )
    }
}

pub(super) fn call(what: &'static str, tid: Tid) -> impl Fn(io::Error) -> PauseError {
    move |source| PauseError::Call { what, tid, source }
}
