//! The threads of a process, and what they do.

use super::{Process, field};
use crate::sys::ptrace::Tid;
use lpb::RunAddr;
use lpb::addr::to_u64;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::OnceLock;

impl Process {
    /// Its threads, in the order of the kernel.
    pub fn threads(&self) -> io::Result<Vec<Tid>> {
        let tids = self.threads_one_by_one()?.collect::<io::Result<Vec<_>>>()?;
        if tids.is_empty() { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(tids) }
    }

    /// The same for whoever may not want all of them: a list of many takes its time.
    pub fn threads_one_by_one(&self) -> io::Result<impl Iterator<Item = io::Result<Tid>> + use<>> {
        let tid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().map(Tid);
        Ok(fs::read_dir(self.path("task"))?.filter_map(move |entry| entry.map(tid).transpose()))
    }

    /// Whether a thread is one of this process: asked after seizing it by number.
    pub fn has_thread(&self, tid: Tid) -> bool {
        self.path(&format!("task/{tid}/stat")).exists()
    }

    /// State letter of a thread, as in proc(5).
    pub fn thread_state(&self, tid: Tid) -> Option<char> {
        state(&self.line(&format!("task/{tid}/stat")).ok()?)
    }

    /// Whether a thread that is listed runs no code of the program: it is a zombie, or the kernel's own. The kernel makes such
    /// threads for io_uring(7), sockets of virtual machines and the like; a stop would break off what they are doing.
    pub fn never_runs(&self, tid: Tid) -> bool {
        let Ok(stat) = self.line(&format!("task/{tid}/stat")) else { return false };
        let flags = stat_field(&stat, 9).and_then(|flags| flags.parse().ok()).unwrap_or(0);
        state(&stat) == Some('Z') || is_worker(flags, worker_flags) && !self.thread_doing(tid).has_stack()
    }

    /// What a thread is doing; `None`: it [never runs](Self::never_runs).
    pub fn doing_if_it_runs(&self, tid: Tid) -> Option<Doing> {
        let doing = self.thread_doing(tid);
        (doing.has_stack() || !self.never_runs(tid)).then_some(doing)
    }

    /// Whether a thread of this process is there and has not ended.
    pub fn lives(&self, tid: Tid) -> bool {
        self.thread_state(tid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    /// How many threads it has, with zombies that a tracer or their parent has not yet taken note of.
    pub fn thread_count(&self) -> Option<usize> {
        stat_field(&self.line("stat").ok()?, 20)?.parse().ok()
    }

    /// Opens the folder of its threads, to count them.
    pub fn open_count(&self) -> io::Result<ThreadCount> {
        self.open_file("task").map(ThreadCount)
    }

    /// Name of a thread, without control characters; "?": it has ended, or has none.
    pub fn thread_name(&self, tid: Tid) -> String {
        let name = self.text(&format!("task/{tid}/comm")).unwrap_or_default();
        let name = name.trim_end().replace(char::is_control, "?");
        if name.is_empty() { "?".into() } else { name }
    }

    /// What a thread is doing, without stopping it.
    pub fn thread_doing(&self, tid: Tid) -> Doing {
        self.line(&format!("task/{tid}/syscall")).map_or(Doing::Unknown, |text| Doing::parse(&text))
    }

    /// The `status` of a thread, to be read later, and then in one piece.
    pub fn open_status(&self, tid: Tid) -> io::Result<StatusFile> {
        self.open_file(&format!("task/{tid}/status")).map(StatusFile::of)
    }

    /// Whether all its threads have ended, or are about to: none has memory.
    pub fn has_ended(&self) -> bool {
        match self.living() {
            Ok(living) => living.is_none(),
            Err(_) => !self.alive(),
        }
    }
}

fn state(stat: &str) -> Option<char> {
    stat_field(stat, 3)?.chars().next()
}

/// Whether these flags of a thread say that it is the kernel's own. `meaning`: which of them say so here, asked for if need be.
fn is_worker(flags: u64, meaning: impl FnOnce() -> u64) -> bool {
    flags & (PF_IO_WORKER | PF_USER_WORKER) != 0 && flags & meaning() != 0
}

/// Source: linux/sched.h.
const PF_IO_WORKER: u64 = 0x10;
const PF_USER_WORKER: u64 = 0x4000;

/// The flags of threads that are the kernel's own. They mean something else in older kernels.
fn worker_flags() -> u64 {
    static FLAGS: OnceLock<u64> = OnceLock::new();
    *FLAGS.get_or_init(|| meaning_in(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()))
}

fn meaning_in(release: &str) -> u64 {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= (6, 4) => PF_IO_WORKER | PF_USER_WORKER,
        (Some(major), Some(minor)) if (major, minor) >= (5, 12) => PF_IO_WORKER,
        _ => 0,
    }
}

/// The threads of a process whose first one has ended: that one has no memory any more.
pub(super) fn heirs(pid: i32) -> impl Iterator<Item = Tid> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    let count = fs::metadata(file("task")).ok().and_then(|folder| threads_in(&folder));
    let is_zombie = || fs::read_to_string(file("stat")).is_ok_and(|stat| state(&stat) == Some('Z'));
    // Most processes have one thread, and need not be asked for more.
    let tasks = (count > Some(1) && is_zombie()).then(|| fs::read_dir(file("task")).ok()).flatten();
    tasks.into_iter().flatten().filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok().map(Tid))
}

/// A field of a `stat`, counted from 1 as in proc(5): one behind the name.
pub fn stat_field(stat: &str, number: usize) -> Option<&str> {
    // The name in parentheses may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

/// What `/proc/PID/task/TID/syscall` says. Source: proc(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// On a processor, or about to be.
    Running,
    /// Blocked in this system call (-1: elsewhere in the kernel).
    Blocked {
        /// Number of the call.
        nr: i64,
        /// Its stack pointer.
        sp: RunAddr,
        /// Its instruction pointer.
        pc: RunAddr,
    },
    /// Not to be had.
    Unknown,
}

impl Doing {
    /// Whether it shows where the thread's stack is. Threads of the kernel's own have none: their stack and instruction pointers
    /// are 0.
    ///
    /// Source: `copy_thread` of arch/x86/kernel/process.c.
    fn has_stack(&self) -> bool {
        matches!(self, Self::Blocked { sp, pc, .. } if (sp.0, pc.0) != (0, 0))
    }

    fn parse(text: &str) -> Self {
        if text.starts_with("running") {
            return Self::Running;
        }
        let mut words = text.split_ascii_whitespace();
        let nr = words.next().and_then(|w| w.parse().ok());
        let hex = |w: Option<&str>| u64::from_str_radix(w?.strip_prefix("0x")?, 16).ok().map(RunAddr);
        let pc = hex(words.next_back());
        let sp = hex(words.next_back());
        match (nr, sp, pc) {
            (Some(nr), Some(sp), Some(pc)) => Self::Blocked { nr, sp, pc },
            _ => Self::Unknown,
        }
    }
}

/// An open `/proc/PID/task`.
#[derive(Debug)]
pub struct ThreadCount(File);

impl ThreadCount {
    /// As [`Process::thread_count`], with a single system call: the threads may stand still meanwhile.
    pub fn now(&self) -> Option<usize> {
        threads_in(&self.0.metadata().ok()?)
    }
}

/// How many threads a `/proc/PID/task` lists.
///
/// Source: `proc_task_getattr` of fs/proc/base.c: each is a link to the folder, beside the two that every folder has.
fn threads_in(folder: &Metadata) -> Option<usize> {
    usize::try_from(folder.nlink()).ok()?.checked_sub(2)
}

/// An open `/proc/PID/task/TID/status`, and room for its text.
#[derive(Debug)]
pub struct StatusFile {
    file: File,
    text: Vec<u8>,
}

/// Room is made in steps of so many bytes, up to a limit far above the text of a process in 65,536 groups.
const STATUS_STEP: usize = 4096;
const MAX_STATUS: usize = 4 << 20;

impl StatusFile {
    fn of(file: File) -> Self {
        Self { file, text: vec![u8::MAX; STATUS_STEP] }
    }

    /// The value of a field now; `None`: the whole text has none. Once it has been asked there is room: a thread may stand still
    /// when it is asked again.
    pub fn field(&mut self, key: &str) -> io::Result<Option<String>> {
        let mut len = 0_usize;
        loop {
            let room = self.text.get_mut(len..).unwrap_or_default();
            let wanted = room.len();
            let read = self.file.read_at(room, to_u64(len))?;
            len = len.saturating_add(read);
            // The kernel fills all the room unless it comes to the end.
            if read < wanted {
                return Ok(field(self.text.get(..len).unwrap_or_default(), key));
            }
            if len >= MAX_STATUS {
                return Err(io::Error::other("it is too long"));
            }
            self.text.resize(len.saturating_add(STATUS_STEP), u8::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_kernels_own_threads() {
        for (release, io_uring, others) in [
            ("5.10.0-30-amd64", false, false),
            ("5.12.0", true, false),
            ("6.1.0-28-amd64", true, false),
            ("6.4", true, true),
            ("10.0-rc1", true, true),
            ("", false, false),
            ("6", false, false),
            ("99999999999.1", false, false),
        ] {
            let told = [PF_IO_WORKER, PF_USER_WORKER].map(|flag| is_worker(flag, || meaning_in(release)));
            assert_eq!(told, [io_uring, others], "{release}");
        }
        assert!(!is_worker(0x40_0040, || unreachable!()));
    }

    #[test]
    fn syscall_lines() {
        let blocked = Doing::Blocked { nr: 230, sp: RunAddr(0x7ffc_0000_1000), pc: RunAddr(0x7f00_0000_2000) };
        for (why, text, want) in [
            ("on a processor", "running\n", Doing::Running),
            ("asleep", "230 0x0 0x0 0x7ffc00001010 0x0 0x0 0x0 0x7ffc00001000 0x7f0000002000\n", blocked),
            ("not in a call", "-1 0x10 0x20\n", Doing::Blocked { nr: -1, sp: RunAddr(0x10), pc: RunAddr(0x20) }),
            ("hidden", "", Doing::Unknown),
            ("hostile", "7 0x 0xzz", Doing::Unknown),
        ] {
            assert_eq!(Doing::parse(text), want, "{why}");
        }
    }
}
