//! Seizing a thread of a target that may be in exec.
//!
//! exec ends all other threads and waits until they are gone. Those of ours are not gone before lp-apply has taken note of it. But
//! SEIZE waits for the exec: nobody would ever go on. ptrace(2) tells of it under "execve(2) under ptrace".

use super::PATIENCE;
use crate::patience::Patience;
use crate::sys::proc::Process;
use crate::sys::ptrace::{self, Seizer, Tid};
use std::io;

/// Seizes a thread, and its newborns. Does not wait for ever.
pub fn seize(seizer: &Seizer, process: &Process, tid: Tid, newborns: bool) -> io::Result<()> {
    let patience = Patience::of(PATIENCE);
    loop {
        match seizer.seize(tid, newborns) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted && !patience.is_over() => reap(process),
            done => return done,
        }
    }
}

/// Takes note of threads of ours that have ended, also of those that were born ours and killed before anybody knew of them.
pub fn reap(process: &Process) {
    for tid in process.threads().unwrap_or_default() {
        // Who is not ours is not there; others are only looked at.
        let _ = ptrace::poll(tid);
    }
}
