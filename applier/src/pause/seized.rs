//! Threads on their way to a stop.

use super::Thread;
use super::error::{PauseError, call};
use super::glance::{Glance, stuck};
use crate::borrow::{self, let_go};
use crate::identify::Target;
use crate::sys::fault::step;
use crate::sys::proc::{Doing, ThreadCount, field};
use crate::sys::ptrace::{self, Event, Seizer, Tid};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::time::{Duration, Instant};

/// How long nothing at all may happen.
const STANDSTILL: Duration = Duration::from_millis(250);
/// How long the first of those that are on their way is waited for before the others are looked at. It is often the last to stop:
/// of threads that are woken together, the kernel runs the last one first.
const LOOK: Duration = Duration::from_micros(500);
/// How long a thread that runs is polled for before: it has a processor and stops at once, mostly, while going to sleep and being
/// woken for it takes longer.
const SOON: Duration = Duration::from_micros(20);
/// So many sleeping threads are on their way to a stop at a time: more would crowd out those that run.
const WINDOW: usize = 64;
/// Rounds over the thread list until no new thread turns up.
const ROUNDS: usize = 1000;

/// What is known of a thread while the target is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Running { asleep: bool },
    Stopped,
}

/// Threads that are ours; lets them go when dropped.
pub(super) struct Seized<'a> {
    target: &'a Target,
    pub(super) threads: BTreeMap<Tid, Seen>,
    count: ThreadCount,
    /// Born in this wave, and not waited for yet.
    newborn: Vec<Tid>,
}

impl<'a> Seized<'a> {
    /// No thread yet.
    pub(super) fn none(target: &'a Target) -> Result<Self, PauseError> {
        let count = target.process.open_count().map_err(|_| PauseError::Gone { pid: target.process.pid })?;
        Ok(Self { target, threads: BTreeMap::new(), count, newborn: Vec::new() })
    }

    /// Makes those threads ours that are missing now that all others stand still. Whether there was one.
    ///
    /// A thread that was making another one in the kernel when it was seized had settled before that nobody is told of it: that one
    /// is not ours, and was perhaps not in any list yet. A thread that stands still makes no more.
    pub(super) fn seize_missing(&mut self, glance: &Glance) -> Result<bool, PauseError> {
        let process = &self.target.process;
        // The first thread is counted even when it has ended.
        let first = Tid(process.pid);
        let ended = usize::from(!self.threads.contains_key(&first) && process.thread_state(first) == Some('Z'));
        if self.count.now() == Some(self.threads.len().saturating_add(ended)) {
            return Ok(false);
        }
        self.seize_all(glance)?;
        Ok(self.threads.values().any(|seen| *seen != Seen::Stopped))
    }

    fn running(&self, asleep: bool) -> impl Iterator<Item = Tid> {
        self.threads.iter().filter_map(move |(tid, seen)| (*seen == Seen::Running { asleep }).then_some(*tid))
    }

    /// Interrupts the threads of one wave, waits until all of them, and their newborns, stand still, and adds them to `stopped`.
    pub(super) fn stop_wave<E>(
        &mut self,
        asleep: bool,
        deadline: Instant,
        stopped: &mut Vec<Thread>,
        judge: &mut impl FnMut(&[Thread]) -> Result<(), E>,
    ) -> Result<Result<(), E>, PauseError> {
        let mut waiting = self.running(asleep).collect::<Vec<_>>().into_iter();
        let mut pending = Vec::with_capacity(WINDOW);
        let mut judged = stopped.len();
        let mut moved = Instant::now();
        // One that sleeps needs a processor first, perhaps this one.
        let mut poll = if asleep { Duration::ZERO } else { SOON };
        loop {
            for tid in waiting.by_ref().take(WINDOW.saturating_sub(pending.len())) {
                // A thread that has ended is found out by the wait.
                ptrace::interrupt(tid).or_else(forgive_gone).map_err(call("PTRACE_INTERRUPT", tid))?;
                pending.push(tid);
            }
            // They come to a stop by themselves.
            pending.append(&mut self.newborn);
            // While the next ones are on their way.
            if let Err(found) = judge(stopped.get(judged..).unwrap_or_default()) {
                return Ok(Err(found));
            }
            judged = stopped.len();
            let Some(first) = pending.first().copied() else { return Ok(Ok(())) };
            ptrace::wait_for(first, std::mem::take(&mut poll), LOOK).map_err(call("waiting", first))?;
            let news = self.collect(&mut pending, asleep, stopped)?;
            let now = Instant::now();
            if news {
                moved = now;
            } else {
                self.forget_ended(&mut pending);
                self.reap();
            }
            if !pending.is_empty() && (now >= deadline || now.saturating_duration_since(moved) > STANDSTILL) {
                return Err(stuck(self.target, first));
            }
        }
    }

    /// Moves those that stand still from `pending` to `stopped`. Whether there was news of any.
    fn collect(&mut self, pending: &mut Vec<Tid>, asleep: bool, stopped: &mut Vec<Thread>) -> Result<bool, PauseError> {
        let mut news = false;
        let mut left = Vec::with_capacity(WINDOW);
        for tid in pending.drain(..) {
            let event = ptrace::poll(tid).map_err(call("waiting", tid))?;
            news |= event.is_some();
            let stops = event.map_or(Ok(None), |event| self.on_event(tid, asleep, event))?;
            left.extend(stops.is_none().then_some(tid).filter(|tid| self.threads.contains_key(tid)));
            stopped.extend(stops);
        }
        *pending = left;
        Ok(news)
    }

    /// A first thread that ends before the others tells nobody: it neither stops nor is it gone.
    fn forget_ended(&mut self, pending: &mut Vec<Tid>) {
        let ended: Vec<Tid> = pending.iter().copied().filter(|tid| self.has_ended(*tid)).collect();
        pending.retain(|tid| !ended.contains(tid));
        self.threads.retain(|tid, _| !ended.contains(tid));
        // It does when the last of them ends.
        borrow::await_end(ended);
    }

    /// Takes note of those that have ended after they had stopped: a thread that is on its way to a stop may be in exec, which waits for
    /// that.
    fn reap(&mut self) {
        for tid in std::iter::from_fn(ptrace::any_dead).take(self.threads.len()) {
            if matches!(ptrace::poll(tid), Ok(Some(Event::Exited))) {
                self.threads.remove(&tid);
            }
        }
    }

    /// Makes those threads ours that ran at the glance.
    pub(super) fn seize_runners(&mut self, glance: &Glance) -> Result<(), PauseError> {
        let seizer = self.seizer()?;
        let running = glance.threads.iter().filter(|(_, doing)| **doing == Doing::Running);
        running.map(|(tid, _)| *tid).try_for_each(|tid| self.seize(&seizer, tid, Doing::Running))?;
        self.let_strangers_go(&[]);
        Ok(())
    }

    /// Makes all threads ours: those of the glance, then others until a look at the list shows no new one.
    pub(super) fn seize_all(&mut self, glance: &Glance) -> Result<(), PauseError> {
        let process = &self.target.process;
        let pid = process.pid;
        let seizer = self.seizer()?;
        let mut listed: Vec<Tid> = glance.threads.keys().copied().collect();
        for _ in 0..ROUNDS {
            for tid in listed {
                if self.threads.contains_key(&tid) {
                    continue;
                }
                let seen = glance.threads.get(&tid).copied();
                let Some(doing) = seen.or_else(|| process.doing_if_it_runs(tid)) else { continue };
                self.seize(&seizer, tid, doing)?;
            }
            listed = process.threads().map_err(|_| PauseError::Gone { pid })?;
            listed.sort_unstable();
            listed.dedup();
            self.let_strangers_go(&listed);
            // A list breaks off at a thread that ends meanwhile. Ours are counted as long as they are ours, and whoever is a zombie
            // or the kernel's own after the counting was counted: if these are all, nobody is missing.
            let is_known = |tid: &Tid| self.threads.contains_key(tid) || process.never_runs(*tid);
            if process.thread_count() == Some(listed.len()) && listed.iter().all(is_known) {
                return Ok(());
            }
        }
        Err(PauseError::Storm { pid })
    }

    fn seizer(&self) -> Result<Seizer, PauseError> {
        Seizer::new().map_err(call("setting an alarm for the seizing", Tid(self.target.process.pid)))
    }

    /// Makes one thread ours, unless it has ended.
    fn seize(&mut self, seizer: &Seizer, tid: Tid, doing: Doing) -> Result<(), PauseError> {
        match borrow::seize(seizer, &self.target.process, tid, true) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            // A zombie cannot be seized and does not run; a newborn of ours is ours already.
            Err(_) if self.has_ended(tid) => return Ok(()),
            Err(_) if self.is_ours(tid) => {}
            Err(source) => return Err(PauseError::Call { what: "PTRACE_SEIZE", tid, source }),
        }
        self.threads.insert(tid, Seen::Running { asleep: doing != Doing::Running });
        Ok(())
    }

    /// Whether a thread that is still listed has ended: it cannot be seized and does not run.
    fn has_ended(&self, tid: Tid) -> bool {
        matches!(self.target.process.thread_state(tid), None | Some('Z' | 'X'))
    }

    /// Lets go of those that are no threads of this process: the number went to another one between a list and the call. A thread
    /// that is not listed may be one of it, as a list breaks off at one that ends.
    fn let_strangers_go(&mut self, listed: &[Tid]) {
        let process = &self.target.process;
        let is_stranger = |tid: &Tid| listed.binary_search(tid).is_err() && !process.has_thread(*tid);
        let strangers: Vec<Tid> = self.threads.keys().copied().filter(is_stranger).collect();
        if !strangers.is_empty() {
            self.threads.retain(|tid, _| !strangers.contains(tid));
            let_go(process.pid, strangers);
        }
    }

    fn is_ours(&self, tid: Tid) -> bool {
        let status = self.target.process.bytes(&format!("task/{tid}/status")).unwrap_or_default();
        let tracer = field(&status, "TracerPid").and_then(|v| v.parse::<u32>().ok());
        tracer == Some(std::process::id())
    }

    /// The thread, if it stands still now.
    fn on_event(&mut self, tid: Tid, asleep: bool, event: Event) -> Result<Option<Thread>, PauseError> {
        // Any stop clears an interrupt that is pending (ptrace(2) does not say so; the kernel's `ptrace_stop` does).
        let go_on = |signal| {
            let asked = ptrace::interrupt(tid).and_then(|()| ptrace::cont(tid, signal));
            asked.or_else(forgive_gone).map_err(call("PTRACE_CONT", tid))
        };
        match event {
            Event::Stop | Event::GroupStop => {
                let regs = match ptrace::regs(tid) {
                    Ok(regs) => regs,
                    // It has been killed. The next look takes note of its end.
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
                    Err(source) => return Err(PauseError::Call { what: "PTRACE_GETREGS", tid, source }),
                };
                // Now, so that it is not broken either if lp-apply dies.
                if let Some(regs) = borrow::mended(tid, &regs) {
                    ptrace::set_regs(tid, &regs).or_else(forgive_gone).map_err(call("PTRACE_SETREGS", tid))?;
                }
                self.threads.insert(tid, Seen::Stopped);
                step("stopped").map_err(call("waiting", tid))?;
                return Ok(Some(Thread { tid, regs, asleep }));
            }
            Event::Exited => _ = self.threads.remove(&tid),
            Event::Exec => return Err(PauseError::Exec { pid: self.target.process.pid }),
            Event::Clone(newborn) => {
                // It may be a process: the kernel tells of those in the same way whose end is told by another signal than SIGCHLD.
                if !self.target.process.has_thread(newborn) {
                    let_go(self.target.process.pid, [newborn]);
                } else if let Entry::Vacant(unknown) = self.threads.entry(newborn) {
                    unknown.insert(Seen::Running { asleep });
                    self.newborn.push(newborn);
                }
                go_on(0)?;
            }
            // It stops right behind the delivery.
            Event::Signal(signal) => go_on(signal)?,
            Event::Syscall => go_on(0)?,
        }
        Ok(None)
    }
}

impl Drop for Seized<'_> {
    fn drop(&mut self) {
        let_go(self.target.process.pid, self.threads.keys().copied());
    }
}

fn forgive_gone(e: io::Error) -> io::Result<()> {
    if e.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(e) }
}
