//! Which thread is borrowed, and whether it can be once it stands still.

use super::choice::{Aids, ask_seccomp, can_run_errands, guarded_stack, has_stack_room, sleeps_unguarded};
use super::leave::{self, Held, nap, wait_for_stop};
use super::{BorrowError, Borrowed, PATIENCE, Stopped, by_reluctance, goes_on_with, seize};
use crate::arch::x86_64::{in_call, is_64_bit};
use crate::identify::maps::Maps;
use crate::identify::seccomp::Call;
use crate::identify::stub::StubPlace;
use crate::identify::{IdentifyError, Target};
use crate::pace::Pace;
use crate::patience::Patience;
use crate::progress;
use crate::sys::proc::Doing;
use crate::sys::ptrace::{self, Event, Seizer, Tid};
use crate::sys::sched::{self, Urgent};
use lpb::RunAddr;
use std::time::Instant;

impl<'a> Borrowed<'a> {
    /// Stops the thread that minds it least and that may make all of `calls`. If none can be used now, one may be later, which is
    /// waited for.
    ///
    /// # Errors
    /// If there is none in time; those that were tried go on.
    pub fn take(target: &'a Target, place: &'a StubPlace, calls: &[Call]) -> Result<Self, BorrowError> {
        let pid = target.process.pid;
        if let Some(tid) = target.astray.get() {
            return Err(BorrowError::Slow { what: "come back from the injected code", tid });
        }
        let patience = Patience::of(PATIENCE);
        let mut pace = Pace::begin();
        loop {
            let attempt = Instant::now();
            let mut tried = Vec::new();
            let taken = Self::take_one(target, place, calls, &mut tried);
            // Threads may end as fast as they are tried, and others be there instead: unless all are listed, and each has been
            // tried or never runs.
            tried.sort_unstable();
            let process = &target.process;
            let is_other = |tid: &Tid| tried.binary_search(tid).is_err() && !process.never_runs(*tid);
            let others = || {
                let listed = process.threads().unwrap_or_default();
                listed.iter().any(is_other) || process.thread_count() != Some(listed.len())
            };
            match taken {
                // A process whose threads are all zombies has ended too.
                Err(_) if target.process.has_ended() => return Err(BorrowError::Gone { pid }),
                // The threads that are there now are another program's.
                Err(why @ BorrowError::Identify(IdentifyError::Exec { .. })) => return Err(why),
                Err(_) if !patience.is_over() && others() => {}
                Err(why @ BorrowError::NoThread { .. }) if !target.patience.is_over() => {
                    progress::waiting(pid, target.patience, || why.to_string());
                    nap(pace.pause_after(attempt.elapsed(), true).min(target.patience.left()));
                }
                taken => return taken,
            }
        }
    }

    /// The same, of the threads that are there now.
    fn take_one(
        target: &'a Target,
        place: &'a StubPlace,
        calls: &[Call],
        tried: &mut Vec<Tid>,
    ) -> Result<Self, BorrowError> {
        let pid = target.process.pid;
        let maps = target.maps()?;
        let mut last = BorrowError::NoThread { pid, why: "it has none that runs".into() };
        // What is written below a stack that ends in somebody else's data is put back, but that may be looked at meanwhile. So
        // such threads come last.
        let mut put_off = Vec::new();
        for tid in by_reluctance(target) {
            tried.push(tid);
            if sleeps_unguarded(target, &maps, tid) {
                put_off.push(tid);
                continue;
            }
            match Self::stop_or_next(target, place, tid, &maps, calls, &mut last)? {
                Some(borrowed) if borrowed.is_guarded(&maps) => return Ok(borrowed.keeping(maps)),
                Some(borrowed) => {
                    borrowed.give_back()?;
                    put_off.push(tid);
                }
                None => {}
            }
        }
        for tid in put_off {
            if let Some(borrowed) = Self::stop_or_next(target, place, tid, &maps, calls, &mut last)? {
                return Ok(borrowed.keeping(maps));
            }
        }
        Err(last)
    }

    /// [`Self::stop`] for one of several threads. `None`: another may do; why this one did not is in `last`.
    ///
    /// # Errors
    /// If no other will do either: they are another program's.
    fn stop_or_next(
        target: &'a Target,
        place: &'a StubPlace,
        tid: Tid,
        maps: &Maps,
        calls: &[Call],
        last: &mut BorrowError,
    ) -> Result<Option<Self>, BorrowError> {
        match Self::stop(target, place, tid, maps, calls) {
            Ok(borrowed) => Ok(Some(borrowed)),
            Err(why @ BorrowError::Identify(IdentifyError::Exec { .. })) => Err(why),
            Err(why) => {
                *last = why;
                Ok(None)
            }
        }
    }

    /// Stops this thread.
    ///
    /// # Errors
    /// If it cannot be borrowed; it goes on.
    pub fn stop(
        target: &'a Target,
        place: &'a StubPlace,
        tid: Tid,
        maps: &Maps,
        calls: &[Call],
    ) -> Result<Self, BorrowError> {
        Self::try_stop(target, place, tid, maps, calls).map_err(|why| match target.process.lives(tid) {
            true => why,
            false => BorrowError::NoThread { pid: target.process.pid, why: format!("thread {tid} ended") },
        })
    }

    fn try_stop(
        target: &'a Target,
        place: &'a StubPlace,
        tid: Tid,
        maps: &Maps,
        calls: &[Call],
    ) -> Result<Self, BorrowError> {
        let no_thread = |why| BorrowError::NoThread { pid: target.process.pid, why };
        if leave::lingers(tid) {
            return Err(no_thread(format!("thread {tid} is in uninterruptible sleep")));
        }
        let call = |what| move |source| BorrowError::Call { what, tid, source };
        let seizer = Seizer::new().map_err(call("setting an alarm for the seizing"))?;
        seize(&seizer, &target.process, tid, false).map_err(|source| BorrowError::Seize { tid, source })?;
        drop(seizer);
        // Whoever took the processor while a thread that computes stands still would hold that up too; a real-time thread would take
        // it for as long as it likes.
        let above = sched::priority(tid).max(target.priority.get());
        let raises = above > 0 || target.process.thread_doing(tid) == Doing::Running;
        let urgent = raises.then(|| Urgent::raise(above));
        let held = Held { pid: target.process.pid, tid };
        if !target.process.has_thread(tid) {
            return Err(no_thread(format!("thread {tid} ended")));
        }
        // It may have called exec before it was ours: the memory that was opened is another's then. From now on, that would show.
        target.still_there()?;
        let mut aids = Aids::new(target, tid).map_err(call("opening the status"))?;
        ptrace::interrupt(tid).map_err(call("PTRACE_INTERRUPT"))?;
        aids.look_on_the_way();
        let Some(stop) = wait_for_stop(tid)? else { return Err(no_thread(format!("thread {tid} ended"))) };
        let live = ptrace::regs(tid).map_err(call("PTRACE_GETREGS"))?;
        // At once, so that it is not broken either if lp-apply dies.
        let original = goes_on_with(target, tid, live);
        if original != live {
            ptrace::set_regs(tid, &original).map_err(call("PTRACE_SETREGS"))?;
        }
        if !is_64_bit(&live) {
            return Err(no_thread(format!("thread {tid} runs 32-bit code")));
        }
        if !has_stack_room(maps, RunAddr(live.rsp)) {
            return Err(no_thread(format!("thread {tid} has no room on its stack")));
        }
        if ptrace::dispatches_syscalls(tid) {
            return Err(BorrowError::Dispatch { tid });
        }
        // It may have made a call until now.
        aids.was_free &= !in_call(&live);
        ask_seccomp(target, place, tid, &mut aids, calls)?;
        let mask = ptrace::signal_mask(tid).map_err(call("PTRACE_GETSIGMASK"))?;
        // One that SIGSTOP holds would set off on an errand only when somebody lets it go on.
        let errands = !in_call(&live) && stop == Event::Stop && can_run_errands(target, maps, &live, &mut aids.room);
        std::mem::forget(held);
        target.memory.with_stopped(Some(tid));
        let stopped =
            Stopped { live, original, mask, errands, armed: false, called: false, below: None, _urgent: urgent };
        Ok(Self { target, place, tid, stopped: Some(stopped), stub: false, kept: (None, Some(aids)) })
    }

    fn keeping(mut self, maps: Maps) -> Self {
        self.kept.0 = Some(maps);
        self
    }

    fn is_guarded(&self, maps: &Maps) -> bool {
        self.live().is_some_and(|live| guarded_stack(maps, RunAddr(live.rsp)).is_some())
    }
}
