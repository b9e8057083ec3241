//! Step 1: what the process is, whether the patch belongs to it, and what stands in the way. Nothing is stopped and
//! nothing is written.

pub mod access;
pub mod limits;
pub mod lock;
pub mod maps;
pub mod modules;
pub mod preflight;
pub mod records;
pub mod seccomp;
pub mod strangers;
pub mod stub;

use crate::outcome::{Outcome, Verdict};
use crate::sys::memory::Memory;
use crate::sys::proc::Process;
use crate::sys::ptrace::Tid;
use access::Control;
use lpb::{LoadBias, Patch, RunAddr};
use maps::Maps;
pub use modules::Found;
use modules::Missing;
use preflight::Obstacle;
use records::Record;
use std::cell::Cell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use std::{fs, io};
use strangers::Stranger;

/// Pause between two looks for a process that shares the memory.
const NAP: Duration = Duration::from_millis(5);
/// How long a process without memory may take to end.
const ENDING: Duration = Duration::from_millis(100);

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
    #[error("/proc/{pid}/{what} cannot be read: {source}")]
    Proc {
        /// The target.
        pid: i32,
        /// The file.
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
            | Self::Obstacle { obstacle: Obstacle::Zombie, .. } => Outcome::Gone,
            Self::NotLoaded { .. } | Self::Obstacle { obstacle: Obstacle::KernelThread, .. } => Outcome::NotApplicable,
            Self::OtherBuild { .. } => Outcome::BuildMismatch,
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
                    Obstacle::Zombie | Obstacle::KernelThread => "name the pid of a running program",
                    Obstacle::ThirtyTwoBit => "restart it with the fix, or as a 64-bit program",
                },
                Self::NotLoaded { .. } => "check with `lp-compile inspect` which program the bundle is for",
                Self::OtherBuild { .. } => "build the patch against the files that this process runs",
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

/// An open process that lp-apply may work on, and that no other lp-apply works on.
#[derive(Debug)]
pub struct Target {
    /// Its `/proc` directory.
    pub process: Process,
    /// Its memory.
    pub memory: Memory,
    /// A thread that was sent into the stub and did not come back in time. It may make its call at any moment.
    pub astray: Cell<Option<Tid>>,
}

impl Target {
    /// Opens a process to look at it only.
    pub fn look(pid: i32) -> Result<Self, IdentifyError> {
        Self::with_memory(open_process(pid)?)
    }

    /// Opens and locks a process, and looks for obstacles. A child on its way to exec shares the memory for a moment, so that
    /// is waited for.
    pub fn open(pid: i32, allow_init: bool, wait: Duration) -> Result<Self, IdentifyError> {
        if pid == 1 && !allow_init {
            return Err(IdentifyError::Init);
        }
        let process = open_process(pid)?;
        let name_of = |pid| Process::open(pid).and_then(|p| p.text("comm")).unwrap_or_default().trim_end().to_owned();
        // The lock comes first: while another lp-apply is at work, it is the tracer.
        if !process.lock().map_err(|source| IdentifyError::Proc { pid, what: ".", source })? {
            return Err(IdentifyError::Locked { pid, holder: lock::holder(&process) });
        }
        let status = process.text("status").map_err(|_| IdentifyError::NoProcess { pid })?;
        preflight::check(&status, name_of).map_err(|obstacle| IdentifyError::Obstacle { pid, obstacle })?;
        let target = Self::with_memory(process)?;
        if target.process.bytes("auxv").is_ok_and(|auxv| preflight::is_32_bit(&auxv)) {
            return Err(IdentifyError::Obstacle { pid, obstacle: Obstacle::ThirtyTwoBit });
        }
        let begun = Instant::now();
        while let Some(other) = target.process.shares_memory() {
            if begun.elapsed() >= wait {
                return Err(IdentifyError::SharedMemory { pid, other });
            }
            std::thread::sleep(NAP);
        }
        Ok(target)
    }

    /// Fails if the process has ended or become another program since it was opened: `memory` is the old one's.
    pub fn still_there(&self, maps: &Maps) -> Result<(), IdentifyError> {
        let pid = self.process.pid;
        let readable = maps.iter().find(|m| m.prot & 1 != 0).map(|m| m.start);
        if readable.is_some_and(|at| self.read(at, 1).is_some()) {
            return Ok(());
        }
        // One that is ending has no memory for a moment before it counts as ended.
        let has_memory = self.maps().is_ok_and(|maps| maps.iter().next().is_some());
        Err(if has_memory && !self.process.has_ended() {
            IdentifyError::Exec { pid }
        } else {
            IdentifyError::Ended { pid }
        })
    }

    /// That the process has ended or become another program, if it has: it explains whatever else failed.
    pub fn fate(&self) -> Option<IdentifyError> {
        let pid = self.process.pid;
        let begun = Instant::now();
        loop {
            if self.process.has_ended() {
                return Some(IdentifyError::Ended { pid });
            }
            match self.maps() {
                Ok(maps) if maps.iter().next().is_some() => return self.still_there(&maps).err(),
                // As in `still_there`; or its first thread has left the others.
                Ok(_) if begun.elapsed() < ENDING => std::thread::sleep(NAP),
                _ => return None,
            }
        }
    }

    /// Whether the limits of the process leave room for the patch.
    pub fn has_room(&self, maps: &Maps, need: &limits::Need) -> Result<(), IdentifyError> {
        let pid = self.process.pid;
        let own = |name| self.process.text(name).unwrap_or_default();
        let system = |path| fs::read_to_string(path).unwrap_or_default();
        let texts = limits::Texts {
            limits: &own("limits"),
            status: &own("status"),
            uid_map: &own("uid_map"),
            mappings: lpb::addr::to_u64(maps.iter().count()),
            max_map_count: &system("/proc/sys/vm/max_map_count"),
            ignore_rlimit_data: &system("/sys/module/kernel/parameters/ignore_rlimit_data"),
        };
        let checked = limits::check(&texts, need, || limits::locks_all(&own("smaps")));
        checked.map_err(|full| IdentifyError::Limit { pid, full })
    }

    fn with_memory(process: Process) -> Result<Self, IdentifyError> {
        let pid = process.pid;
        match process.memory() {
            Ok(memory) => Ok(Self { process, memory, astray: Cell::new(None) }),
            Err(_) if !process.alive() => Err(IdentifyError::NoProcess { pid }),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
                Err(IdentifyError::Obstacle { pid, obstacle: Obstacle::Zombie })
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                Err(IdentifyError::Access { pid, control: access::control(&process) })
            }
            Err(source) => Err(IdentifyError::Proc { pid, what: "mem", source }),
        }
    }

    /// Its mappings, now.
    pub fn maps(&self) -> Result<Maps, IdentifyError> {
        let pid = self.process.pid;
        match self.process.text("maps") {
            Ok(text) => Ok(Maps::parse(&text)),
            Err(_) if !self.process.alive() => Err(IdentifyError::NoProcess { pid }),
            Err(source) => Err(IdentifyError::Proc { pid, what: "maps", source }),
        }
    }

    /// Bytes of its memory, or `None`.
    pub fn read(&self, at: RunAddr, len: usize) -> Option<Vec<u8>> {
        self.memory.read_vec(at, len).ok()
    }

    /// Its patches.
    pub fn records(&self, maps: &Maps) -> Vec<Record> {
        records::find(maps, |at, len| self.read(at, len))
    }
}

fn open_process(pid: i32) -> Result<Process, IdentifyError> {
    Process::open(pid).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => IdentifyError::NoProcess { pid },
        _ => IdentifyError::Proc { pid, what: "", source },
    })
}

/// All that the plan is made from.
#[derive(Debug)]
pub struct Snapshot {
    /// Mappings.
    pub maps: Maps,
    /// The modules of the patch, in their order; `None`: an optional one that is not there.
    pub modules: Vec<Option<Found>>,
    /// Modules that the patch does not expect.
    pub strangers: Vec<Stranger>,
    /// Where the stub goes.
    pub stub: stub::StubPlace,
}

/// Matches the patch with the process. `allowed`: names of unexpected files that the user accepts.
pub fn snapshot(target: &Target, patch: &Patch<'_>, allowed: &[String]) -> Result<Snapshot, IdentifyError> {
    let maps = target.maps()?;
    let pid = target.process.pid;
    let mut modules = Vec::new();
    for m in &patch.modules {
        let module = m.name.clone().into_owned();
        let found = modules::find(m, &maps, |at, len| target.read(at, len));
        modules.push(found.map(Some).or_else(|missing| match missing {
            _ if m.optional => Ok(None),
            Missing::NotLoaded => Err(IdentifyError::NotLoaded { pid, module }),
            Missing::Ambiguous(biases) => Err(IdentifyError::Ambiguous { pid, module, biases }),
            Missing::OtherBuild(id) => {
                let known = m.builds.iter().map(|b| hex(&b.build_id)).collect::<Vec<_>>().join(", ");
                let found = id.map_or_else(|| "not readable".to_owned(), |id| hex(&id));
                Err(IdentifyError::OtherBuild { pid, module, found, known })
            }
        })?);
    }
    let stub = stub::find(Some((patch, &modules)), &maps, |at, len| target.read(at, len));
    let stub = stub.ok_or(IdentifyError::NoStubPlace { pid })?;
    let strangers = strangers::find(patch, &modules, &maps, allowed);
    Ok(Snapshot { maps, modules, strangers, stub })
}

/// Bytes as hex digits; "none" if there are none.
pub fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "none".into();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
