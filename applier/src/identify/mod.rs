//! Step 1: what the process is, whether the patch belongs to it, and what stands in the way. Nothing is stopped and
//! nothing is written.

pub mod access;
mod error;
pub mod limits;
pub mod lock;
pub mod maps;
pub mod modules;
pub mod preflight;
pub mod records;
pub mod seccomp;
mod snapshot;
pub mod strangers;
pub mod stub;

use crate::patience::Patience;
use crate::progress;
use crate::sys::memory::Memory;
use crate::sys::proc::{Births, Process};
use crate::sys::ptrace::Tid;
pub use error::IdentifyError;
use limits::Rare;
use lpb::RunAddr;
use maps::Maps;
pub use modules::Found;
use preflight::Obstacle;
use records::Record;
pub use snapshot::{Snapshot, snapshot, stub_place};
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use std::{fs, io};

/// Pause between two looks for a process that shares the memory.
const NAP: Duration = Duration::from_millis(5);
/// How long a process without memory may take to end.
const ENDING: Duration = Duration::from_millis(100);

/// An open process that lp-apply may work on, and that no other lp-apply works on.
#[derive(Debug)]
pub struct Target {
    /// Its `/proc` directory.
    pub process: Process,
    /// Its memory.
    pub memory: Memory,
    /// How long this run waits for it.
    pub patience: Patience,
    /// A thread that was sent into the stub and did not come back in time. It may make its call at any moment.
    pub astray: Cell<Option<Tid>>,
    /// The highest real-time priority of its threads when they were looked at; 0: none has one.
    pub priority: Cell<libc::c_int>,
    /// The threads that were sent into the stub by this run.
    pub sent: RefCell<Vec<Tid>>,
    /// Who has been made since it was found that no other process shares its memory.
    births: RefCell<Option<Births>>,
}

impl Target {
    /// Opens a process to look at it only.
    pub fn look(pid: i32) -> Result<Self, IdentifyError> {
        Self::with_memory(open_process(pid)?, Patience::of(Duration::ZERO))
    }

    /// Opens and locks a process, and looks for obstacles. A child on its way to exec shares the memory for a moment, so that
    /// is waited for.
    pub fn open(pid: i32, allow_init: bool, patience: Patience) -> Result<Self, IdentifyError> {
        if pid == 1 && !allow_init {
            return Err(IdentifyError::Init);
        }
        let process = open_process(pid)?;
        let name_of = |pid| Process::open(pid).and_then(|p| p.text("comm")).unwrap_or_default().trim_end().to_owned();
        // The lock comes first: while another lp-apply is at work, it is the tracer.
        if !process.lock().map_err(|source| IdentifyError::Proc { pid, what: "", source })? {
            return Err(IdentifyError::Locked { pid, holder: lock::holder(&process) });
        }
        let status = process.text("status").map_err(|_| IdentifyError::NoProcess { pid })?;
        let stat = process.text("stat").unwrap_or_default();
        preflight::check(&status, &stat, name_of).map_err(|obstacle| IdentifyError::Obstacle { pid, obstacle })?;
        let target = Self::with_memory(process, patience)?;
        if target.process.bytes("auxv").is_ok_and(|auxv| preflight::is_32_bit(&auxv)) {
            return Err(IdentifyError::Obstacle { pid, obstacle: Obstacle::ThirtyTwoBit });
        }
        while let Err(shared) = target.is_still_alone(None) {
            if patience.is_over() {
                return Err(shared);
            }
            progress::waiting(pid, patience, || shared.to_string());
            std::thread::sleep(NAP);
        }
        Ok(target)
    }

    /// Fails if another process shares the memory: its threads could not be stopped. All are asked once, then those that have
    /// been made since. `member`: a thread that has not ended, if one is known.
    pub fn is_still_alone(&self, member: Option<Tid>) -> Result<(), IdentifyError> {
        let mut births = self.births.borrow_mut();
        let other = match births.as_mut().and_then(Births::given) {
            Some(numbers) => self.process.shares_memory_with(numbers, member),
            None => {
                *births = Births::begin();
                self.process.shares_memory()
            }
        };
        let Some(other) = other else { return Ok(()) };
        *births = None;
        Err(IdentifyError::SharedMemory { pid: self.process.pid, other })
    }

    /// Fails if the process has ended or become another program since it was opened: `memory` is the old one's.
    pub fn still_there(&self) -> Result<(), IdentifyError> {
        let pid = self.process.pid;
        if !self.memory.is_nobodys() {
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
                Ok(maps) if maps.iter().next().is_some() => return self.still_there().err(),
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
            mappings: lpb::addr::to_u64(maps.iter().count()),
            max_map_count: &system("/proc/sys/vm/max_map_count"),
        };
        let rare = |text| match text {
            Rare::UidMap => own("uid_map"),
            Rare::Smaps => own("smaps"),
            Rare::IgnoreRlimitData => system("/sys/module/kernel/parameters/ignore_rlimit_data"),
        };
        limits::check(&texts, need, rare).map_err(|full| IdentifyError::Limit { pid, full })
    }

    fn with_memory(process: Process, patience: Patience) -> Result<Self, IdentifyError> {
        let pid = process.pid;
        match process.memory() {
            Ok(memory) => Ok(Self {
                process,
                memory,
                patience,
                astray: Cell::default(),
                priority: Cell::default(),
                sent: RefCell::default(),
                births: RefCell::default(),
            }),
            Err(_) if !process.alive() => Err(IdentifyError::NoProcess { pid }),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
                Err(IdentifyError::Obstacle { pid, obstacle: Obstacle::Zombie })
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                Err(IdentifyError::Access { pid, control: access::control(&process) })
            }
            Err(source) => Err(IdentifyError::Proc { pid, what: "/mem", source }),
        }
    }

    /// Its mappings, now.
    pub fn maps(&self) -> Result<Maps, IdentifyError> {
        let pid = self.process.pid;
        match self.process.text("maps") {
            Ok(text) => Ok(Maps::parse(&text)),
            Err(_) if !self.process.alive() => Err(IdentifyError::NoProcess { pid }),
            Err(source) => Err(IdentifyError::Proc { pid, what: "/maps", source }),
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
