//! Why a process cannot be patched.

use super::{access, limits, lock, preflight};
use crate::outcome::{Outcome, Verdict};
use access::Control;
use lpb::{LoadBias, RunAddr};
use preflight::Obstacle;
use std::io;

/// Why a process cannot be patched, found without touching it.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoProcess {
        /// As asked for.
        pid: i32,
    },
    /// It has ended since it was opened.
    #[error("process {pid} ended")]
    Ended {
        /// The target.
        pid: i32,
    },
    /// The first process of the machine.
    #[error("process 1 is init: if it came to harm, the machine would stop")]
    Init,
    /// Another process runs in the same memory.
    #[error(
        "process {other} shares the memory of process {pid} (vfork, or clone with CLONE_VM): its threads would not be stopped"
    )]
    SharedMemory {
        /// The target.
        pid: i32,
        /// The other one.
        other: i32,
    },
    /// The process has become another program.
    #[error("process {pid} has replaced its program (exec)")]
    Exec {
        /// The target.
        pid: i32,
    },
    /// A limit leaves no room.
    #[error("process {pid} has no room for the patch: {full}")]
    Limit {
        /// The target.
        pid: i32,
        /// Which one.
        full: limits::Full,
    },
    /// Another lp-apply works on it.
    #[error("{}", lock::message(*.pid, .holder.as_ref()))]
    Locked {
        /// The target.
        pid: i32,
        /// Who holds the lock, as far as can be told.
        holder: Option<lock::Holder>,
    },
    /// The kernel forbids it.
    #[error("the memory of process {pid} cannot be opened: {control}")]
    Access {
        /// The target.
        pid: i32,
        /// What forbids it.
        control: Control,
    },
    /// See [`Obstacle`].
    #[error("process {pid} cannot be patched: {obstacle}")]
    Obstacle {
        /// The target.
        pid: i32,
        /// What is in the way.
        obstacle: Obstacle,
    },
    /// A module of the patch is not there.
    #[error("process {pid} has not loaded {module}")]
    NotLoaded {
        /// The target.
        pid: i32,
        /// Name of the module.
        module: String,
    },
    /// A module is there, but another build of it.
    #[error("process {pid} runs another build of {module}: build-id {found}; the patch is for {known}")]
    OtherBuild {
        /// The target.
        pid: i32,
        /// Name of the module.
        module: String,
        /// Build-id in memory, in hex.
        found: String,
        /// Build-ids that the patch knows, in hex.
        known: String,
    },
    /// A file of that name is there, but its mappings are those of no known build. Its build-id cannot be told.
    #[error("process {pid} maps {module}, but not as the patch knows it: it is another build, or not loaded whole")]
    Unlike {
        /// The target.
        pid: i32,
        /// Name of the module.
        module: String,
    },
    /// A module is there twice.
    #[error("process {pid} has loaded {module} {} times (biases {})", .biases.len(), list(.biases))]
    Ambiguous {
        /// The target.
        pid: i32,
        /// Name of the module.
        module: String,
        /// Where.
        biases: Vec<LoadBias>,
    },
    /// A life record that cannot be trusted.
    #[error("process {pid} holds a damaged patch record at {at}: {why}")]
    DamagedRecord {
        /// The target.
        pid: i32,
        /// Where.
        at: RunAddr,
        /// Why.
        why: lpb::life::LifeError,
    },
    /// No place for the stub.
    #[error("process {pid} has no unused executable bytes for the injected code (no vdso, no padding behind the text)")]
    NoStubPlace {
        /// The target.
        pid: i32,
    },
    /// Something of /proc cannot be read.
    #[error("/proc/{pid}{what} cannot be read: {source}")]
    Proc {
        /// The target.
        pid: i32,
        /// The file, behind a slash; empty: the folder itself.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn list(biases: &[LoadBias]) -> String {
    biases.iter().map(|b| format!("{:#x}", b.0)).collect::<Vec<_>>().join(", ")
}

impl Verdict for IdentifyError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::NoProcess { .. }
            | Self::Ended { .. }
            | Self::Exec { .. }
            | Self::Obstacle { obstacle: Obstacle::Zombie | Obstacle::Ending, .. } => Outcome::Gone,
            Self::NotLoaded { .. } | Self::Obstacle { obstacle: Obstacle::KernelThread, .. } => Outcome::NotApplicable,
            Self::OtherBuild { .. } | Self::Unlike { .. } => Outcome::BuildMismatch,
            Self::Locked { .. } | Self::SharedMemory { .. } => Outcome::Blocked,
            Self::Proc { .. } => Outcome::Failed,
            _ => Outcome::Refused,
        }
    }

    fn is_permission(&self) -> bool {
        matches!(self, Self::Access { .. } | Self::Obstacle { obstacle: Obstacle::Traced { .. }, .. })
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::NoProcess { .. } => "name a pid as this pid namespace sees it (pgrep, ps)",
                Self::Ended { .. } => "find the program's new pid",
                Self::Init => "if it must be, say --allow-init",
                Self::SharedMemory { .. } => {
                    "wait until the other process has ended or called exec, then run the command again"
                }
                Self::Exec { .. } => "check whether the new program needs the patch too",
                Self::Limit { pid, full } => return Some(full.hint(*pid)),
                Self::Locked { holder, .. } => lock::hint(holder.as_ref()),
                Self::Access { pid, control } => return Some(control.hint(*pid)),
                Self::Obstacle { obstacle, .. } => match obstacle {
                    Obstacle::Traced { .. } => "end the tracer, then run the command again",
                    Obstacle::Strict => "strict mode leaves it only read, write and exit; restart it with the fix",
                    Obstacle::ShadowStack => "restart the program without user shadow stack (glibc.cpu.x86_shstk=off)",
                    Obstacle::Zombie | Obstacle::Ending | Obstacle::KernelThread => "name the pid of a running program",
                    Obstacle::ThirtyTwoBit => "restart it with the fix, or as a 64-bit program",
                },
                Self::NotLoaded { .. } => "check with `lp-compile inspect` which program the bundle is for",
                Self::OtherBuild { .. } => "build the patch against the files that this process runs",
                Self::Unlike { .. } => {
                    "build the patch against the files that this process runs; if it is only starting, run the command again"
                }
                Self::Ambiguous { .. } => "this version cannot choose between copies of a module",
                Self::DamagedRecord { .. } => "restart the program: its patch state is unknown",
                Self::NoStubPlace { .. } => "this process cannot be patched live; restart it with the fix",
                Self::Proc { .. } => {
                    "check that /proc is mounted (for this pid namespace), the process still runs and files can be opened (ulimit -n)"
                }
            }
            .to_owned(),
        )
    }
}
