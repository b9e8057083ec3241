//! How a thread is stopped and let go, and with which registers it goes on.

use super::mend::mended;
use super::{BorrowError, PATIENCE};
use crate::identify::Target;
use crate::sys::ptrace::{self, Event, Regs, Tid};
use crate::sys::sched;
use lpb::RunAddr;
use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long threads that are to be let go may take to stop, all together, and how long they are polled for at first.
const FAREWELL: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_micros(50);
/// So many are let go at a time that nobody knows.
const MAX_STRAYS: usize = 1000;
/// Pause between two looks at those that take longer.
const LATE_LOOK: Duration = Duration::from_millis(1);
/// And for those that nobody knows.
const STRAY_LOOK: Duration = Duration::from_millis(50);

/// Detaches a thread when dropped, stopping it first if it must.
pub(super) struct Held {
    pub(super) pid: i32,
    pub(super) tid: Tid,
}

impl Drop for Held {
    fn drop(&mut self) {
        let_go(self.pid, [self.tid]);
    }
}

/// Threads that did not stop when they were to be let go: they are in uninterruptible sleep, mostly. When that ends they come to
/// the stop that they were asked for, and would stand still as long as lp-apply lives. Or they have been killed in a stop: until
/// lp-apply takes note of their end, nobody else is told of it.
static LINGERING: Mutex<Vec<Tid>> = Mutex::new(Vec::new());

/// The processes whose threads were let go. A thread that calls exec loses its own number, and stops with the one of its process,
/// under which it may be nobody's to let go.
static PROCESSES: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn release_after_exec() {
    let Ok(processes) = PROCESSES.lock() else { return };
    for tid in processes.iter().copied().map(Tid) {
        if matches!(ptrace::poll(tid), Ok(Some(Event::Exec))) {
            let _ = ptrace::detach_after_exec(tid);
        }
    }
}

/// Lets traced threads go wherever they are, with the signals they were about to get: those that stand still at once. The others
/// have to stop for that, which they do together. `pid`: their process.
pub fn let_go(pid: i32, tids: impl IntoIterator<Item = Tid>) {
    if let Ok(mut processes) = PROCESSES.lock() {
        processes.insert(pid);
    }
    let mut newborn = Vec::new();
    let mut left: Vec<Tid> = tids.into_iter().filter(|tid| !release(*tid, &mut newborn)).collect();
    for tid in &left {
        // One that has ended is found out by the next look.
        let _ = ptrace::interrupt(*tid);
    }
    let begun = Instant::now();
    loop {
        left.append(&mut newborn);
        left.retain(|tid| !release(*tid, &mut newborn));
        let waited = begun.elapsed();
        if left.is_empty() && newborn.is_empty() || waited >= FAREWELL {
            break;
        }
        if waited < SOON {
            std::thread::yield_now();
        } else {
            sched::wait_child(Duration::from_millis(2));
        }
    }
    release_after_exec();
    await_end(left.into_iter().chain(newborn));
}

/// Lets go of those that could not be let go before and have stopped since. Whether some are left.
fn let_go_late() -> bool {
    release_after_exec();
    let Ok(mut lingering) = LINGERING.lock() else { return false };
    let mut newborn = Vec::new();
    lingering.retain(|tid| !release(*tid, &mut newborn));
    lingering.extend(newborn);
    !lingering.is_empty()
}

/// Whether a thread is still ours although it was to be let go.
pub(super) fn lingers(tid: Tid) -> bool {
    let_go_late() && LINGERING.lock().is_ok_and(|lingering| lingering.contains(&tid))
}

/// Lets go of those that nobody knows: born to threads of ours that were killed before they had told of them. No other may be
/// held.
fn let_strays_go() {
    let mut newborn = Vec::new();
    for tid in std::iter::from_fn(ptrace::any).take(MAX_STRAYS) {
        release(tid, &mut newborn);
    }
    await_end(newborn);
}

/// Sleeps between two attempts, while no thread is held. Who stops late does not have to wait for the next one.
pub fn nap(time: Duration) {
    let begun = Instant::now();
    loop {
        let some_left = let_go_late();
        let_strays_go();
        let left = time.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(if some_left { LATE_LOOK } else { STRAY_LOOK }));
    }
}

/// Lets a thread go if it stands still. `false`: it does not. Newborns of it are ours too.
fn release(tid: Tid, newborns: &mut Vec<Tid>) -> bool {
    match ptrace::poll(tid) {
        Ok(None) => return false,
        Ok(Some(Event::Exited)) | Err(_) => return true,
        // It stops right behind the delivery. A signal that is ignored would not have come but for us, and must break nothing.
        Ok(Some(Event::Signal(signal))) => {
            let _ = ptrace::interrupt(tid).and_then(|()| ptrace::cont(tid, signal));
            return false;
        }
        Ok(Some(Event::Clone(newborn))) => newborns.push(newborn),
        Ok(Some(Event::Exec)) => return ptrace::detach_after_exec(tid).is_ok(),
        Ok(Some(Event::Stop | Event::GroupStop)) => {
            if let Some(regs) = ptrace::regs(tid).ok().and_then(|regs| mended(tid, &regs)) {
                let _ = ptrace::set_regs(tid, &regs);
            }
        }
        Ok(Some(_)) => {}
    }
    // If not, it has been killed, which the next look tells.
    ptrace::detach(tid, 0).is_ok()
}

/// Lets a stopped thread go. If that fails, it has been killed.
pub fn detach(tid: Tid) -> io::Result<()> {
    ptrace::detach(tid, 0).inspect_err(|_| await_end([tid]))
}

/// Threads of ours whose end is to be taken note of later.
pub fn await_end(tids: impl IntoIterator<Item = Tid>) {
    if let Ok(mut lingering) = LINGERING.lock() {
        lingering.extend(tids);
    }
}

/// Waits for the stop that INTERRUPT asked for, or SIGSTOP has brought; signals that come first are delivered. `None`: the thread
/// has ended.
pub(super) fn wait_for_stop(tid: Tid) -> Result<Option<Event>, BorrowError> {
    let deadline = Instant::now().checked_add(PATIENCE).unwrap_or_else(Instant::now);
    let call = |what| move |source| BorrowError::Call { what, tid, source };
    loop {
        match ptrace::next(tid, deadline).map_err(call("waiting"))? {
            None => return Err(BorrowError::Slow { what: "stop", tid }),
            Some(stop @ (Event::Stop | Event::GroupStop)) => return Ok(Some(stop)),
            // Who has called exec is another program's, and goes on as soon as it is let go.
            Some(Event::Exited | Event::Exec) => return Ok(None),
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
    mended(tid, &live).unwrap_or_else(|| match rseq_abort(target, tid, RunAddr(live.rip)) {
        Some(abort) => Regs { rip: abort.0, ..live },
        None => live,
    })
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
