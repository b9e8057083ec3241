//! Who holds the lock that keeps two lp-apply off one process.
//!
//! ```text
//! 3: FLOCK  ADVISORY  WRITE 4711 00:04:1234 0 EOF        a line of /proc/locks: the process, device:inode of the file
//! ```
//! Any user may take that lock, so the holder may be anybody. Source: proc_locks(5).

use crate::sys::proc::Process;
use std::fs::File;
use std::io::Read;

/// Longest `/proc/locks` that is read, in bytes.
const MAX_LOCKS: u64 = 4 << 20;

/// A process that holds the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// Its name; empty if it is not to be had.
    pub name: String,
}

impl Holder {
    fn is_lp_apply(&self) -> bool {
        self.name == "lp-apply"
    }
}

/// Looks for the holder. `None`: `/proc/locks` does not show it, as for a process of another pid namespace.
pub fn holder(process: &Process) -> Option<Holder> {
    let mut text = Vec::new();
    File::open("/proc/locks").and_then(|f| f.take(MAX_LOCKS).read_to_end(&mut text)).ok()?;
    let (dev, inode) = process.lock_file().ok()?;
    let pid = find(&String::from_utf8_lossy(&text), libc::major(dev), libc::minor(dev), inode)?;
    let name = Process::open(pid).map(|p| p.thread_name(crate::sys::ptrace::Tid(pid))).unwrap_or_default();
    Some(Holder { pid, name })
}

/// The process in the line for a file. Lines of waiting processes have an arrow.
fn find(locks: &str, major: u32, minor: u32, inode: u64) -> Option<i32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().take(6).collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, at] if *at == file => pid.parse().ok().filter(|pid| *pid > 0),
            _ => None,
        }
    })
}

/// What is wrong.
pub fn message(pid: i32, holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) if holder.is_lp_apply() => {
            format!("another lp-apply (process {}) is working on process {pid}", holder.pid)
        }
        Some(Holder { pid: other, name }) => {
            format!("process {other} ({name}) holds the lock of process {pid}, as another lp-apply at work would")
        }
        None => format!("another lp-apply is working on process {pid}, or somebody else holds its lock"),
    }
}

/// What to do.
pub fn hint(holder: Option<&Holder>) -> &'static str {
    match holder {
        Some(holder) if holder.is_lp_apply() => "wait until it is done, then run the command again",
        Some(_) => "wait until that process has ended, or end it, then run the command again",
        None => {
            "wait until it is done, then run the command again; who holds locks (FLOCK) is in /proc/locks of the host, \
             outside of containers"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_file() {
        let text = "\
1: POSIX  ADVISORY  READ  5 fd:01:7 128 128
2: FLOCK  ADVISORY  WRITE 6 fd:01:77 0 EOF
3: FLOCK  ADVISORY  WRITE 8 fd:01:7 0 EOF
3: -> FLOCK  ADVISORY  WRITE 9 fd:01:8 0 EOF
";
        for (why, minor, inode, want) in [
            ("not the POSIX lock", 1, 7, Some(8)),
            ("another inode", 1, 77, Some(6)),
            ("another device", 2, 7, None),
            ("it only waits", 1, 8, None),
        ] {
            assert_eq!(find(text, 0xfd, minor, inode), want, "{why}");
        }
        assert_eq!(find(&text.replace(" 8 ", " -1 "), 0xfd, 1, 7), None, "no number");
    }
}
