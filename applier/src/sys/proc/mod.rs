//! A process through `/proc/PID`, held open: a recycled pid can never be taken for it.
//!
//! Names are resolved below the open directory, so they fail once the process is gone. All
//! files are untrusted text of bounded size.

mod sharers;
mod threads;
mod view;

pub use sharers::Births;
pub use threads::{Doing, StatusFile, ThreadCount, stat_field};

use super::memory::{Memory, PageMap};
use super::ptrace::Tid;
use std::cell::Cell;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest file read from /proc, in bytes: far above the maps of a process with 65,530 mappings.
const MAX_TEXT: u64 = 64 << 20;

/// An open process.
#[derive(Debug)]
pub struct Process {
    /// Its number, for messages.
    pub pid: i32,
    dir: File,
    /// The thread whose files tell of its memory, if it is not the first one.
    view: Cell<Option<Tid>>,
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
            let pidfd = pidfd(pid);
            // There is none for a thread that is not the first of its process.
            let is_process = pidfd.is_some();
            let identity = pidfd.map_or_else(|| dir.try_clone(), Ok)?;
            io::Result::Ok((Self { pid, dir, view: Cell::default(), identity }, is_process))
        };
        // Its numbers are not those that ptrace(2) takes from us.
        if fs::read_link("/proc/self").is_ok_and(|own| own != Path::new(&std::process::id().to_string())) {
            return Err(io::Error::other("/proc is of another pid namespace than lp-apply, with other process ids"));
        }
        let (process, is_process) = open(pid)?;
        if is_process {
            return Ok(process);
        }
        match field(&process.bytes("status")?, "Tgid").and_then(|tgid| tgid.parse().ok()) {
            Some(tgid) if tgid != pid => open(tgid).map(|(process, _)| process),
            _ => Ok(process),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
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
        let lossy = |e: std::string::FromUtf8Error| String::from_utf8_lossy(e.as_bytes()).into_owned();
        self.bytes(name).map(|bytes| String::from_utf8(bytes).unwrap_or_else(lossy))
    }

    /// As [`Process::text`], of a file that has one line: the kernel gives it in one piece.
    fn line(&self, name: &str) -> io::Result<String> {
        let mut bytes = [0; 4096];
        let len = self.open_file(name)?.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()).into_owned())
    }

    /// The bytes of one of its files.
    pub fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        // Most of its files are short, and each read of one makes the kernel look at the thread again.
        let ask = |name: &str| {
            let mut bytes = Vec::with_capacity(4096);
            self.open_file(name)?.take(MAX_TEXT).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        self.ask(name, ask, |bytes| bytes.is_empty() || name == "status" && view::is_without_memory(bytes))
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

    /// Opens the list of its pages.
    pub fn page_map(&self) -> io::Result<PageMap> {
        self.ask("pagemap", |name| self.open_file(name).map(PageMap::of), |_| false)
    }

    /// Opens its memory.
    pub fn memory(&self) -> io::Result<Memory> {
        let open = |name: &str| OpenOptions::new().read(true).write(true).open(self.path(name)).map(Memory::of);
        self.ask("mem", open, |_| false)
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

/// The value of one line (`Name: value`) of a `status`: looked for from the end, as a thread may stand still for one that comes late.
pub fn field(status: &[u8], key: &str) -> Option<String> {
    let value = |line: &[u8]| line.strip_prefix(key.as_bytes())?.strip_prefix(b":").map(<[u8]>::to_owned);
    let value = status.rsplit(|byte| *byte == b'\n').find_map(value)?;
    Some(String::from_utf8_lossy(value.trim_ascii()).into_owned())
}
