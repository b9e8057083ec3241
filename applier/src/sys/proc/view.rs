//! The thread that shows the memory of a process: the first one, or another once that has ended.

use super::{Process, field};
use crate::patience::Patience;
use crate::sys::ptrace::Tid;
use std::io;
use std::time::Duration;

/// How long threads are asked, each of which ends before it has answered.
const PATIENCE: Duration = Duration::from_secs(2);

impl Process {
    /// Asks for what one of its files tells: again, of another thread, if the one that it was of has ended.
    pub(super) fn ask<T>(
        &self,
        name: &str,
        ask: impl Fn(&str) -> io::Result<T>,
        is_nothing: impl Fn(&T) -> bool,
    ) -> io::Result<T> {
        let patience = Patience::of(PATIENCE);
        loop {
            let answer = ask(&self.in_view(name));
            let gone = match &answer {
                Ok(answer) => is_nothing(answer),
                Err(e) => matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
            };
            if !gone || !tells_of_memory(name) || !self.choose_view() || patience.is_over() {
                return answer;
            }
        }
    }

    /// The thread whose files tell of the memory.
    pub(super) fn viewed(&self) -> Tid {
        self.view.get().unwrap_or(Tid(self.pid))
    }

    /// The name of a file, or of the one of the thread that is in view.
    fn in_view(&self, name: &str) -> String {
        match self.view.get() {
            Some(tid) if tells_of_memory(name) => format!("task/{tid}/{name}"),
            _ => name.to_owned(),
        }
    }

    /// Looks for a thread that has memory. Whether it is another than before.
    fn choose_view(&self) -> bool {
        let first = Some(Tid(self.pid)).filter(|tid| self.has_memory(*tid));
        let chosen = match first.map_or_else(|| self.living(), |first| Ok(Some(first))) {
            Ok(Some(tid)) => Some(tid).filter(|tid| tid.0 != self.pid),
            Ok(None) | Err(_) => None,
        };
        self.view.replace(chosen) != chosen
    }

    /// One of its threads that has memory. They may end as fast as they are listed, and the kernel breaks off a list at one that
    /// does, so that an empty list proves nothing.
    pub(super) fn living(&self) -> io::Result<Option<Tid>> {
        let patience = Patience::of(PATIENCE);
        loop {
            let tids = self.threads()?;
            if let Some(tid) = tids.iter().find(|tid| self.has_memory(**tid)) {
                return Ok(Some(*tid));
            }
            let zombies = tids.iter().filter(|tid| self.thread_state(**tid) == Some('Z')).count();
            if self.thread_count() == Some(zombies) || patience.is_over() {
                return Ok(None);
            }
        }
    }

    /// Whether a thread has memory: the kernel's have none, nor have those that have ended, or are about to.
    pub(super) fn has_memory(&self, tid: Tid) -> bool {
        self.line(&format!("task/{tid}/statm")).is_ok_and(|sizes| !sizes.is_empty() && !sizes.starts_with("0 "))
    }
}

/// Whether this file of a thread tells of its memory, or of what it has in common with the others as long as it has not ended.
fn tells_of_memory(name: &str) -> bool {
    matches!(name, "maps" | "smaps" | "pagemap" | "mem" | "status" | "limits" | "auxv")
}

/// Whether this `status` is of a thread that has no memory.
pub(super) fn is_without_memory(status: &[u8]) -> bool {
    field(status, "VmSize").is_none()
}
