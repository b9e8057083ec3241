//! Processes that run in the memory of another one, as clone(2) with CLONE_VM makes them.

use super::{Process, threads};
use crate::sys::ptrace::Tid;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Numbers are given in turn. So many of the last ones may be of processes that were still being made, and not there to be asked,
/// when they were looked for.
const BEING_MADE: i32 = 8;
/// More newcomers than this are not asked one by one.
const MAX_NEW: i32 = 1 << 12;
/// Within this time, the numbers do not go round unnoticed: there are at least 300 for each processor, mostly 32,768 or four million.
const NO_ROUND: Duration = Duration::from_millis(50);

/// Which numbers the kernel has given to new threads and processes.
#[derive(Debug)]
pub struct Births {
    loadavg: File,
    /// The next one to look at.
    next: i32,
    looked: Instant,
}

impl Births {
    /// From now on.
    pub fn begin() -> Option<Self> {
        let mut births = Self { loadavg: File::open("/proc/loadavg").ok()?, next: 0, looked: Instant::now() };
        births.next = births.last()?.saturating_sub(BEING_MADE);
        Some(births)
    }

    /// Those given since this was asked last, and a few before; `None`: that cannot be told.
    pub fn given(&mut self) -> Option<Range<i32>> {
        let looked = std::mem::replace(&mut self.looked, Instant::now());
        let end = self.last()?.checked_add(1)?;
        // They start anew when the highest one has been given.
        let told = end.checked_sub(self.next).is_some_and(|new| (0..MAX_NEW).contains(&new));
        let first = std::mem::replace(&mut self.next, end.saturating_sub(BEING_MADE));
        (told && looked.elapsed() < NO_ROUND).then_some(first..end)
    }

    /// The last field. Source: proc(5).
    fn last(&self) -> Option<i32> {
        let mut text = [0; 128];
        let len = self.loadavg.read_at(&mut text, 0).ok()?;
        str::from_utf8(text.get(..len)?).ok()?.split_ascii_whitespace().nth(4)?.parse().ok()
    }
}

impl Process {
    /// A thread by which to ask who shares the memory. Those that are ending have none in common.
    fn member(&self) -> Option<Tid> {
        let viewed = self.viewed();
        if self.has_memory(viewed) { Some(viewed) } else { self.living().ok().flatten() }
    }

    /// Another process that runs in the same memory, as far as may be known.
    pub fn shares_memory(&self) -> Option<i32> {
        let member = self.member()?;
        let pids = fs::read_dir("/proc").ok()?.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let shares =
            |other: i32| same_memory(member, Tid(other)) || threads::heirs(other).any(|tid| same_memory(member, tid));
        pids.into_iter().find(|other| *other != self.pid && shares(*other))
    }

    /// The same, if it is among `numbers`, which may be of threads too. `member`: a thread of this process that has not ended, if one
    /// is known.
    pub fn shares_memory_with(&self, numbers: Range<i32>, member: Option<Tid>) -> Option<i32> {
        let member = member.or_else(|| self.member())?;
        numbers.into_iter().find(|other| same_memory(member, Tid(*other)) && !self.has_thread(Tid(*other)))
    }
}

/// kcmp(2) with KCMP_VM; a refusal counts as "no". A thread that is ending has as little memory as one of the kernel's: none.
fn same_memory(a: Tid, b: Tid) -> bool {
    const KCMP_VM: libc::c_int = 1;
    // SAFETY: kcmp(2) takes numbers and touches no memory of ours.
    let same = unsafe { libc::syscall(libc::SYS_kcmp, a.0, b.0, KCMP_VM, 0, 0) == 0 };
    same && fs::read(format!("/proc/{b}/statm")).is_ok_and(|pages| !pages.starts_with(b"0 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_process_is_among_the_numbers_given() {
        let mut births = Births::begin().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let number = i32::try_from(child.id()).unwrap();
        // Unless the numbers have started anew meanwhile.
        assert!(births.given().is_none_or(|given| given.contains(&number)));
        child.wait().unwrap();
    }
}
