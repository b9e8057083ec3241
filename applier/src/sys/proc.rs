//! A process through `/proc/PID`, held open: a recycled pid can never be taken for it.
//!
//! Names are resolved below the open directory, so they fail once the process is gone. All
//! files are untrusted text of bounded size.

use super::memory::{Memory, PageMap};
use super::ptrace::Tid;
use lpb::RunAddr;
use std::cell::RefCell;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Longest file read from /proc, in bytes: far above the maps of a process with 65,530 mappings.
const MAX_TEXT: u64 = 64 << 20;

/// An open process.
#[derive(Debug)]
pub struct Process {
    /// Its number, for messages.
    pub pid: i32,
    dir: File,
    /// Prefix of the files that tell of its memory: empty, or a live thread's folder if the first thread has ended.
    view: RefCell<String>,
    /// What the lock is on; see [`Process::lock`].
    identity: File,
}

impl Process {
    /// Opens `/proc/PID`. The number of any of its threads will do.
    ///
    /// # Errors
    /// `NotFound` if there is no such process; else something is wrong here.
    pub fn open(pid: i32) -> io::Result<Self> {
        let open = |pid| {
            let dir = File::open(format!("/proc/{pid}")).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound if !Path::new("/proc/self/fd").exists() => {
                    io::Error::other("no procfs is mounted on /proc")
                }
                _ => e,
            })?;
            let identity = pidfd(pid).map_or_else(|| dir.try_clone(), Ok)?;
            io::Result::Ok(Self { pid, dir, view: RefCell::default(), identity })
        };
        // Its numbers are not those that ptrace(2) takes from us.
        if fs::read_link("/proc/self").is_ok_and(|own| own != Path::new(&std::process::id().to_string())) {
            return Err(io::Error::other("/proc is of another pid namespace than lp-apply, with other process ids"));
        }
        let mut process = open(pid)?;
        let status = process.text("status")?;
        match process.status(&status, "Tgid").and_then(|tgid| tgid.parse().ok()) {
            Some(tgid) if tgid != pid => process = open(tgid)?,
            _ => {}
        }
        process.choose_view()?;
        Ok(process)
    }

    /// Looks whether the first thread has ended: then another one shows the memory of the process.
    pub fn choose_view(&self) -> io::Result<()> {
        let live = match self.ended(Tid(self.pid)) {
            true => self.threads()?.into_iter().find(|tid| !self.ended(*tid)),
            false => None,
        };
        self.view.replace(live.map(|tid| format!("task/{tid}/")).unwrap_or_default());
        Ok(())
    }

    fn ended(&self, tid: Tid) -> bool {
        matches!(self.thread_state(tid), Some('Z' | 'X'))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
    }

    /// The name of a file, or of the one of a live thread if it tells of the memory of the process.
    fn view(&self, name: &str) -> String {
        let in_view = matches!(name, "maps" | "smaps" | "pagemap" | "mem" | "status" | "limits" | "auxv");
        if in_view { format!("{}{name}", self.view.borrow()) } else { name.to_owned() }
    }

    /// Opens one of its files for reading: below the open directory, which is shorter than a path.
    fn open_file(&self, name: &str) -> io::Result<File> {
        let name = CString::new(name)?;
        // SAFETY: openat(2) reads `name`, which lives until it returns, and touches no other memory of ours.
        let fd = unsafe { libc::openat(self.dir.as_raw_fd(), name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just returned this descriptor, so it is open and nobody else's.
        Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Whether it still exists.
    pub fn alive(&self) -> bool {
        self.path("stat").exists()
    }

    /// Whether all its threads have ended, be it a zombie or gone.
    pub fn has_ended(&self) -> bool {
        match self.threads() {
            Ok(tids) => tids.into_iter().all(|tid| self.ended(tid) || !self.has_thread(tid)),
            Err(_) => !self.alive(),
        }
    }

    /// Takes the lock that keeps two lp-apply off one target; the kernel drops it when this tool ends, however it ends.
    /// `false`: another one holds it.
    ///
    /// It is on the process's pidfd, which is the same file for everybody (since Linux 6.9); before, on its folder in this
    /// mount of procfs, so that a tool in another container is only noticed by what it does to the record.
    pub fn lock(&self) -> io::Result<bool> {
        match self.identity.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    /// The bytes of one of its files, lossily as text: a path in it may be anything.
    pub fn text(&self, name: &str) -> io::Result<String> {
        self.bytes(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// As [`Process::text`], of a file that has one line: the kernel gives it in one piece.
    fn line(&self, name: &str) -> io::Result<String> {
        let mut bytes = [0; 4096];
        let len = self.open_file(&self.view(name))?.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()).into_owned())
    }

    /// The `status` of a thread, to be read later, and then in one piece.
    pub fn open_status(&self, tid: Tid) -> io::Result<StatusFile> {
        self.open_file(&self.view(&format!("task/{tid}/status"))).map(StatusFile)
    }

    /// The bytes of one of its files.
    pub fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        // Most of its files are short, and each read of one makes the kernel look at the thread again.
        let mut bytes = Vec::with_capacity(4096);
        self.open_file(&self.view(name))?.take(MAX_TEXT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// User that owns one of its files.
    pub fn owner(&self, name: &str) -> io::Result<u32> {
        fs::metadata(self.path(name)).map(|file| file.uid())
    }

    /// What a link among its files says.
    pub fn link(&self, name: &str) -> io::Result<PathBuf> {
        fs::read_link(self.path(name))
    }

    /// Device and inode of the file that [`Process::lock`] locks.
    pub fn lock_file(&self) -> io::Result<(u64, u64)> {
        self.identity.metadata().map(|file| (file.dev(), file.ino()))
    }

    /// The value of one line (`Name: value`) of `status`.
    pub fn status(&self, text: &str, key: &str) -> Option<String> {
        field(text, key)
    }

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
        let text = self.line(&format!("task/{tid}/stat")).ok()?;
        // The name in parentheses may hold anything; the state follows the last one.
        text.rsplit_once(')')?.1.trim_start().chars().next()
    }

    /// Name of a thread, without control characters.
    pub fn thread_name(&self, tid: Tid) -> String {
        let name = self.text(&format!("task/{tid}/comm")).unwrap_or_default();
        name.trim_end().replace(char::is_control, "?")
    }

    /// What a thread is doing, without stopping it.
    pub fn thread_doing(&self, tid: Tid) -> Doing {
        self.line(&format!("task/{tid}/syscall")).map_or(Doing::Unknown, |text| Doing::parse(&text))
    }

    /// Another process that runs in the same memory, as far as may be known.
    pub fn shares_memory(&self) -> Option<i32> {
        let pids = fs::read_dir("/proc").ok()?.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
        // A first thread that has ended has no memory, like kernel threads.
        let id = self
            .view
            .borrow()
            .trim_end_matches('/')
            .rsplit('/')
            .next()
            .and_then(|tid| tid.parse().ok())
            .unwrap_or(self.pid);
        // Nor has a process that is ending.
        if self.line(&format!("task/{id}/statm")).is_ok_and(|sizes| sizes.starts_with("0 ")) {
            return None;
        }
        pids.into_iter().find(|other| *other != self.pid && same_memory(id, *other))
    }

    /// Opens the list of its pages.
    pub fn page_map(&self) -> io::Result<PageMap> {
        self.open_file(&self.view("pagemap")).map(PageMap::of)
    }

    /// Opens its memory.
    pub fn memory(&self) -> io::Result<Memory> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(&self.view("mem")))?;
        Ok(Memory::of(file))
    }
}

/// The pidfd of a process, if pidfds are files of their own here.
fn pidfd(pid: i32) -> Option<File> {
    /// `PID_FS_MAGIC` of linux/magic.h; before Linux 6.9 all pidfds share one inode.
    const PID_FS_MAGIC: libc::c_long = 0x5049_4446;
    // SAFETY: pidfd_open(2) takes numbers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just returned this descriptor, so it is open and nobody else's.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: struct statfs is made of integers, for which all zeroes is a valid value.
    let mut fs: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: fstatfs(2) writes only `fs`, which lives until it returns.
    let told = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut fs) } == 0;
    #[allow(clippy::useless_conversion, reason = "the field has another type with musl")]
    (told && i64::try_from(fs.f_type).is_ok_and(|t| t == PID_FS_MAGIC)).then_some(file)
}

/// kcmp(2) with KCMP_VM; a refusal counts as "no".
fn same_memory(a: i32, b: i32) -> bool {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: kcmp(2) takes numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_kcmp, a, b, KCMP_VM, 0, 0) == 0 }
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

/// An open `/proc/PID/task/TID/status`.
#[derive(Debug)]
pub struct StatusFile(File);

impl StatusFile {
    /// The value of a field now. No more memory is asked for than it takes: a thread may stand still meanwhile.
    pub fn field(&self, key: &str) -> io::Result<Option<String>> {
        let mut bytes = [0; 4096];
        let len = self.0.read_at(&mut bytes, 0)?;
        Ok(field(&String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()), key))
    }
}

/// The value of a field of a `status`.
fn field(status: &str, key: &str) -> Option<String> {
    let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
