//! How a thread is stopped and let go, and with which registers it goes on.

use super::{BorrowError, PATIENCE};
use crate::arch::x86_64 as arch;
use crate::identify::Target;
use crate::sys::ptrace::{self, Event, Regs, Tid};
use lpb::RunAddr;
use std::time::{Duration, Instant};

/// How long a thread that is to be let go may take to stop.
const FAREWELL: Duration = Duration::from_millis(200);

/// Detaches a thread when dropped, stopping it first if it must.
pub(super) struct Held {
    pub(super) tid: Tid,
}

impl Drop for Held {
    fn drop(&mut self) {
        let_go(self.tid);
    }
}

/// Lets a traced thread go wherever it is, with the signal it was about to get. It has to be stopped for that.
pub fn let_go(tid: Tid) {
    let mut event = ptrace::poll(tid);
    if matches!(event, Ok(None)) && ptrace::interrupt(tid).is_ok() {
        let deadline = Instant::now().checked_add(FAREWELL).unwrap_or_else(Instant::now);
        event = ptrace::next(tid, deadline);
    }
    // Born since it was seized, and so ours too.
    let newborn = match event {
        Ok(Some(Event::Clone(newborn))) => Some(newborn),
        _ => None,
    };
    // If anything fails here, the thread is gone, or the kernel detaches it when lp-apply ends.
    let signal = match event {
        Ok(Some(Event::Signal(signal))) => signal,
        Ok(Some(Event::Stop | Event::GroupStop)) => {
            if let Some(broken) = ptrace::regs(tid).ok().filter(arch::interrupted_by_stop) {
                let _ = ptrace::set_regs(tid, &arch::call_again(&broken));
            }
            0
        }
        Ok(Some(_)) => 0,
        Ok(None) | Err(_) => return,
    };
    let _ = ptrace::detach(tid, signal);
    if let Some(newborn) = newborn {
        let_go(newborn);
    }
}

/// Waits for the stop that INTERRUPT asked for, or SIGSTOP has brought; signals that come first are delivered.
pub(super) fn wait_for_stop(tid: Tid) -> Result<Event, BorrowError> {
    let deadline = Instant::now().checked_add(PATIENCE).unwrap_or_else(Instant::now);
    let call = |what| move |source| BorrowError::Call { what, tid, source };
    loop {
        match ptrace::next(tid, deadline).map_err(call("waiting"))? {
            None => return Err(BorrowError::Slow { what: "stop", tid }),
            Some(stop @ (Event::Stop | Event::GroupStop)) => return Ok(stop),
            Some(Event::Exited) => {
                return Err(BorrowError::NoThread { pid: tid.0, why: format!("thread {tid} ended") });
            }
            // Any stop clears an interrupt that is pending.
            Some(event) => {
                let signal = if let Event::Signal(signal) = event { signal } else { 0 };
                let asked = ptrace::interrupt(tid).and_then(|()| ptrace::cont(tid, signal));
                asked.map_err(call("PTRACE_CONT"))?;
            }
        }
    }
}

/// The registers with which a stopped thread goes on: usually its own.
///
/// * Inside a restartable sequence it goes on at the abort address, as after any interruption: the kernel would not
///   notice once the instruction pointer has been elsewhere.
/// * A call that a stop breaks is made again.
pub fn goes_on_with(target: &Target, tid: Tid, live: Regs) -> Regs {
    if arch::interrupted_by_stop(&live) {
        return arch::call_again(&live);
    }
    match rseq_abort(target, tid, RunAddr(live.rip)) {
        Some(abort) => Regs { rip: abort.0, ..live },
        None => live,
    }
}

/// The abort address of the restartable sequence around `pc`. Source: `struct rseq_cs` of linux/rseq.h.
fn rseq_abort(target: &Target, tid: Tid, pc: RunAddr) -> Option<RunAddr> {
    let section = RunAddr(target.memory.read_u64(ptrace::rseq_area(tid)?.plus(8)?).ok()?);
    if section.0 == 0 {
        return None;
    }
    let word = |off| target.memory.read_u64(section.plus(off)?).ok();
    let (start, length, abort) = (RunAddr(word(8)?), word(16)?, RunAddr(word(24)?));
    pc.since(start).is_some_and(|off| off < length).then_some(abort)
}
