//! Why a thread could not be borrowed, or did not do its work.

use crate::identify::IdentifyError;
use crate::outcome::{Outcome, Verdict};
use crate::sys::ptrace::{Event, Tid};
use lpb::RunAddr;
use std::io;

use super::PATIENCE;

/// Why no thread could be borrowed, or why a borrowed one did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum BorrowError {
    /// The process ended.
    #[error("process {pid} ended")]
    Gone {
        /// The target.
        pid: i32,
    },
    /// No thread can be used.
    #[error("no thread of process {pid} can be borrowed: {why}")]
    NoThread {
        /// The target.
        pid: i32,
        /// About the last one that was tried.
        why: String,
    },
    /// A system call on the thread failed.
    #[error("{what} of thread {tid} failed: {source}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// The thread.
        tid: Tid,
        /// Why.
        source: io::Error,
    },
    /// The thread did not come back in time.
    #[error("thread {tid} did not {what} within {} s", PATIENCE.as_secs())]
    Slow {
        /// What it should have done.
        what: &'static str,
        /// The thread.
        tid: Tid,
    },
    /// Something happened to the thread that should not.
    #[error("thread {tid} met {event:?} inside the injected code")]
    Strange {
        /// The thread.
        tid: Tid,
        /// What came.
        event: Event,
    },
    /// Another process traces the thread.
    #[error("thread {tid} cannot be traced: {source}")]
    Seize {
        /// The thread.
        tid: Tid,
        /// Why.
        source: io::Error,
    },
    /// Another lp-apply has put its hands on the same record.
    #[error("the patch record at {at} is no longer the one that was written there")]
    Disowned {
        /// Where.
        at: RunAddr,
    },
    /// The program catches system calls from most of its code.
    #[error("thread {tid} uses syscall user dispatch: an injected call would be caught by its SIGSYS handler")]
    Dispatch {
        /// The thread.
        tid: Tid,
    },
    /// A seccomp filter is in the way.
    #[error("a seccomp filter of thread {tid} {answer} when it is asked for system call {nr}")]
    Seccomp {
        /// The thread.
        tid: Tid,
        /// Number of the call.
        nr: u64,
        /// What the filter does.
        answer: &'static str,
    },
    /// A seccomp filter cannot be read.
    #[error("the seccomp filter of thread {tid} cannot be read: {source}")]
    FilterUnread {
        /// The thread.
        tid: Tid,
        /// Why.
        source: io::Error,
    },
    /// The memory map cannot be read.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
}

impl Verdict for BorrowError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Gone { .. } => Outcome::Gone,
            Self::NoThread { .. } | Self::Slow { .. } | Self::Disowned { .. } => Outcome::Blocked,
            Self::Dispatch { .. } | Self::Seize { .. } | Self::Seccomp { .. } | Self::FilterUnread { .. } => {
                Outcome::Refused
            }
            Self::Call { .. } | Self::Strange { .. } => Outcome::Failed,
            Self::Identify(e) => e.outcome(),
        }
    }

    fn is_permission(&self) -> bool {
        match self {
            Self::Seize { source, .. } | Self::FilterUnread { source, .. } => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            Self::Identify(e) => e.is_permission(),
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Gone { .. } => "find the program's new pid".into(),
            Self::NoThread { .. } => "run the command again when a thread sleeps, or runs on a stack of its own".into(),
            Self::Slow { .. } => {
                "run the command again when the process is not stuck in the kernel (state D) or overloaded".into()
            }
            Self::Seize { .. } => {
                "end other tracers (gdb, strace); check CAP_SYS_PTRACE and kernel.yama.ptrace_scope".into()
            }
            Self::Disowned { .. } => "another lp-apply works on this process; wait until it is done".into(),
            Self::Dispatch { .. } => "this process cannot be patched live (Wine, or another emulator of system calls)".into(),
            Self::Call { .. } | Self::Strange { .. } => "run the command again; the process goes on as before".into(),
            Self::Seccomp { .. } => "the filter would harm the process; allow mmap, munmap and rt_sigprocmask in it".into(),
            Self::FilterUnread { .. } => {
                "reading filters needs CAP_SYS_ADMIN, a kernel with CONFIG_CHECKPOINT_RESTORE, and lp-apply not under seccomp".into()
            }
            Self::Identify(e) => return e.hint(),
        })
    }
}
