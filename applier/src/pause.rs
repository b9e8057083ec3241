//! All threads of the target stopped at once, for as short as can be.
//!
//! ```text
//! SEIZE each            nobody is stopped; threads born from now on are ours too
//! INTERRUPT + wait      the threads that sleep; their stacks are judged while the others still run
//! INTERRUPT + wait      the threads that run: they stand still the shortest time
//! ...                   their stacks, the commit
//! DETACH each           those that run first
//! ```
//! What is found of a thread that stands still stays true: its frames lie on its own stack, which nobody else returns through,
//! and it does not run before all are let go.
//!
//! Looking at a stop does not consume it (see [`crate::sys::ptrace`]), so if lp-apply dies here, the kernel lets every
//! thread go on with the signals it had.

use crate::arch::x86_64 as arch;
use crate::borrow::let_go;
use crate::identify::Target;
use crate::outcome::{Outcome, Verdict};
use crate::sys::fault::step;
use crate::sys::proc::Doing;
use crate::sys::ptrace::{self, Event, Regs, Tid};
use crate::sys::sched::{self, Urgent};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

/// How long all threads together may take to stop, and how long nothing at all may happen meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
const STANDSTILL: Duration = Duration::from_millis(250);
/// More threads than these are waited for by the clock; the time that each of them takes to its stop; at most so long.
const CROWD: usize = 8;
const WAY: Duration = Duration::from_micros(4);
const LONGEST_WAY: Duration = Duration::from_millis(5);
/// So many sleeping threads are on their way to a stop at a time: more would crowd out those that run.
const WINDOW: usize = 64;
/// What threads that run have before many that sleep: until they are on a processor, which these would take from them.
const HEAD_START: Duration = Duration::from_micros(25);
/// Rounds over the thread list until no new thread turns up.
const ROUNDS: usize = 1000;

/// Why the threads could not be stopped. They go on.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The process ended.
    #[error("process {pid} ended")]
    Gone {
        /// The target.
        pid: i32,
    },
    /// The process became another program.
    #[error("process {pid} has replaced its program (exec)")]
    Exec {
        /// The target.
        pid: i32,
    },
    /// A thread does not stop.
    #[error("thread {tid} ({name}) does not stop: it is in kernel state {state}")]
    Stuck {
        /// The thread.
        tid: Tid,
        /// Its name.
        name: String,
        /// State letter of proc(5).
        state: char,
    },
    /// Threads are born faster than they can be seized.
    #[error("process {pid} makes threads faster than they can be stopped")]
    Storm {
        /// The target.
        pid: i32,
    },
    /// A system call on a thread failed.
    #[error("{what} of thread {tid} failed: {source}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// The thread.
        tid: Tid,
        /// Why.
        source: io::Error,
    },
}

impl Verdict for PauseError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Gone { .. } | Self::Exec { .. } => Outcome::Gone,
            Self::Stuck { .. } | Self::Storm { .. } => Outcome::Blocked,
            Self::Call { what: "PTRACE_SEIZE", .. } => Outcome::Refused,
            Self::Call { .. } => Outcome::Failed,
        }
    }

    fn is_permission(&self) -> bool {
        matches!(self, Self::Call { what: "PTRACE_SEIZE", source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Gone { .. } => "find the program's new pid",
                Self::Exec { .. } => "check whether the new program needs the patch too",
                Self::Stuck { .. } | Self::Storm { .. } => "run the command again, with a longer --wait",
                Self::Call { .. } => "end other tracers (gdb, strace), then run the command again",
            }
            .to_owned(),
        )
    }
}

/// One stopped thread.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its number.
    pub tid: Tid,
    /// Its registers.
    pub regs: Regs,
    /// It was asleep when it was looked at.
    pub asleep: bool,
}

/// A target whose threads all stand still.
#[must_use = "the target stands still: resume it"]
pub struct Paused<'a> {
    target: &'a Target,
    /// All its threads.
    pub threads: Vec<Thread>,
    /// Forgotten only when all go on: that takes time.
    _seized: BTreeMap<Tid, Seen>,
    started: Instant,
    _urgent: Urgent,
}

/// What is known of a thread while the target is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Running { asleep: bool },
    Stopped,
}

/// Threads that are ours; lets them go when dropped.
struct Seized<'a> {
    target: &'a Target,
    threads: BTreeMap<Tid, Seen>,
    /// Born in this wave, and not waited for yet.
    newborn: Vec<Tid>,
}

impl<'a> Paused<'a> {
    /// Stops every thread, first those that sleep, then the others; those of `glance` were seen before. `judge` is asked about
    /// threads as soon as they stand still, while the next ones are on their way; the inner error is what it found.
    ///
    /// # Errors
    /// If one cannot be stopped in time. After every error all go on.
    pub fn begin<E>(
        target: &'a Target,
        glance: &Glance,
        mut judge: impl FnMut(&[Thread]) -> Result<(), E>,
    ) -> Result<Result<Self, E>, PauseError> {
        let mut seized = Seized { target, threads: BTreeMap::new(), newborn: Vec::new() };
        seized.seize_all(glance)?;
        let urgent = Urgent::raise();
        let started = Instant::now();
        let deadline = started.checked_add(PATIENCE).unwrap_or(started);
        let mut threads = Vec::with_capacity(seized.threads.len());
        for asleep in [true, false] {
            if let Err(found) = seized.stop_wave(asleep, deadline, &mut threads, &mut judge)? {
                return Ok(Err(found));
            }
        }
        let (known, pid) = (std::mem::take(&mut seized.threads), target.process.pid);
        target.memory.with_stopped(threads.first().map(|t| t.tid));
        if threads.is_empty() {
            Err(PauseError::Gone { pid })
        } else {
            Ok(Ok(Self { target, threads, _seized: known, started, _urgent: urgent }))
        }
    }

    /// Lets every thread go on; how long the target stood still.
    pub fn resume(mut self) -> Duration {
        self.release();
        self.started.elapsed()
    }

    fn release(&mut self) {
        self.target.memory.with_stopped(None);
        let threads = std::mem::take(&mut self.threads);
        // In the order of their stops: those that slept first.
        let (asleep, awake) = threads.split_at(threads.partition_point(|t| t.asleep));
        awake.iter().for_each(go_on);
        if !awake.is_empty() && asleep.len() > CROWD {
            let started = Instant::now();
            while started.elapsed() < HEAD_START {
                std::hint::spin_loop();
            }
        }
        asleep.iter().for_each(go_on);
    }
}

/// Lets a thread go on as it was stopped.
fn go_on(t: &Thread) {
    if arch::interrupted_by_stop(&t.regs) {
        // Without it the thread sees EINTR, as after SIGSTOP and SIGCONT.
        let _ = ptrace::set_regs(t.tid, &arch::call_again(&t.regs));
    }
    // An error means that the thread is gone.
    let _ = ptrace::detach(t.tid, 0);
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

fn call(what: &'static str, tid: Tid) -> impl Fn(io::Error) -> PauseError {
    move |source| PauseError::Call { what, tid, source }
}

fn forgive_gone(e: io::Error) -> io::Result<()> {
    if e.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(e) }
}

fn stuck(target: &Target, tid: Tid) -> PauseError {
    let state = target.process.thread_state(tid).unwrap_or('?');
    PauseError::Stuck { tid, name: target.process.thread_name(tid), state }
}

/// What every thread was doing when it was looked at.
pub type Glance = BTreeMap<Tid, Doing>;

/// Looks at every thread that has not ended.
///
/// # Errors
/// If one is in uninterruptible sleep: see [`nobody_stuck`].
pub fn glance(target: &Target) -> Result<Glance, PauseError> {
    let mut all = Glance::new();
    for tid in target.process.threads().unwrap_or_default() {
        match target.process.thread_state(tid) {
            Some('D') => return Err(stuck(target, tid)),
            None | Some('Z' | 'X') => {}
            Some(_) => _ = all.insert(tid, target.process.thread_doing(tid)),
        }
    }
    Ok(all)
}

/// A thread in uninterruptible sleep would not stop, and the others would stand still for it in vain.
///
/// # Errors
/// If there is one.
pub fn nobody_stuck(target: &Target) -> Result<(), PauseError> {
    let threads = target.process.threads().unwrap_or_default();
    let asleep = threads.into_iter().find(|tid| target.process.thread_state(*tid) == Some('D'));
    asleep.map_or(Ok(()), |tid| Err(stuck(target, tid)))
}

impl Seized<'_> {
    fn running(&self, asleep: bool) -> impl Iterator<Item = Tid> {
        self.threads.iter().filter_map(move |(tid, seen)| (*seen == Seen::Running { asleep }).then_some(*tid))
    }

    /// Interrupts the threads of one wave, waits until all of them, and their newborns, stand still, and adds them to `stopped`.
    fn stop_wave<E>(
        &mut self,
        asleep: bool,
        deadline: Instant,
        stopped: &mut Vec<Thread>,
        judge: &mut impl FnMut(&[Thread]) -> Result<(), E>,
    ) -> Result<Result<(), E>, PauseError> {
        let mut waiting = self.running(asleep).collect::<Vec<_>>().into_iter();
        let mut pending = Vec::with_capacity(WINDOW);
        let mut moved = Instant::now();
        loop {
            for tid in waiting.by_ref().take(WINDOW.saturating_sub(pending.len())) {
                // A thread that has ended is found out by the wait.
                ptrace::interrupt(tid).or_else(forgive_gone).map_err(call("PTRACE_INTERRUPT", tid))?;
                pending.push(tid);
            }
            // They come to a stop by themselves.
            pending.append(&mut self.newborn);
            let Some(first) = pending.first().copied() else { return Ok(Ok(())) };
            let (known, count) = (stopped.len(), pending.len());
            let mut progress = false;
            let mut left = Vec::with_capacity(count);
            for tid in pending {
                match ptrace::poll(tid).map_err(call("waiting", tid))? {
                    Some(event) => {
                        progress = true;
                        let stops = self.on_event(tid, asleep, event)?;
                        left.extend(stops.is_none().then_some(tid).filter(|tid| self.threads.contains_key(tid)));
                        stopped.extend(stops);
                    }
                    None => left.push(tid),
                }
            }
            pending = left;
            if let Err(found) = judge(stopped.get(known..).unwrap_or_default()) {
                return Ok(Err(found));
            }
            let now = Instant::now();
            if progress {
                moved = now;
            }
            let time = deadline.saturating_duration_since(now);
            if time.is_zero() || now.saturating_duration_since(moved) > STANDSTILL {
                return Err(stuck(self.target, first));
            }
            let stopped_now = stopped.len().saturating_sub(known);
            let on_their_way = count.saturating_sub(stopped_now);
            if on_their_way > CROWD && stopped_now < on_their_way {
                // Being woken by each of them would take longer than all their ways to the stop.
                std::thread::sleep(WAY.saturating_mul(u32::try_from(on_their_way).unwrap_or(0)).min(LONGEST_WAY));
            } else if !progress {
                sched::wait_child(time.min(Duration::from_millis(2)));
            }
        }
    }

    /// Seizes the threads of the glance, then others until a look at the list shows no new one.
    fn seize_all(&mut self, glance: &Glance) -> Result<(), PauseError> {
        let process = &self.target.process;
        let pid = process.pid;
        let mut listed: Vec<Tid> = glance.keys().copied().collect();
        for _ in 0..ROUNDS {
            for tid in listed {
                if self.threads.contains_key(&tid) {
                    continue;
                }
                let doing = glance.get(&tid).copied().unwrap_or_else(|| process.thread_doing(tid));
                let asleep = !matches!(doing, Doing::Running);
                match ptrace::seize(tid, true) {
                    Ok(()) => {}
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => continue,
                    // A zombie cannot be seized and does not run; a newborn of ours is ours already.
                    Err(_) if self.has_ended(tid) => continue,
                    Err(_) if self.is_ours(tid) => {}
                    Err(source) => return Err(PauseError::Call { what: "PTRACE_SEIZE", tid, source }),
                }
                self.threads.insert(tid, Seen::Running { asleep });
            }
            listed = process.threads().map_err(|_| PauseError::Gone { pid })?;
            self.keep_only(&listed);
            if listed.iter().all(|tid| self.threads.contains_key(tid) || self.has_ended(*tid)) {
                return Ok(());
            }
        }
        Err(PauseError::Storm { pid })
    }

    /// Whether a thread that is still listed has ended: it cannot be seized and does not run.
    fn has_ended(&self, tid: Tid) -> bool {
        matches!(self.target.process.thread_state(tid), None | Some('Z' | 'X'))
    }

    /// Lets go of those that the process does not list: the number went to another process between a list and the call.
    fn keep_only(&mut self, listed: &[Tid]) {
        let listed: BTreeSet<Tid> = listed.iter().copied().collect();
        let (ours, others) = std::mem::take(&mut self.threads).into_iter().partition(|(tid, _)| listed.contains(tid));
        self.threads = ours;
        drop(Seized { target: self.target, threads: others, newborn: Vec::new() });
    }

    fn is_ours(&self, tid: Tid) -> bool {
        let text = self.target.process.text(&format!("task/{tid}/status")).unwrap_or_default();
        let tracer = self.target.process.status(&text, "TracerPid").and_then(|v| v.parse::<u32>().ok());
        tracer == Some(std::process::id())
    }

    /// The thread, if it stands still now.
    fn on_event(&mut self, tid: Tid, asleep: bool, event: Event) -> Result<Option<Thread>, PauseError> {
        let go_on = |signal| ptrace::cont(tid, signal).or_else(forgive_gone).map_err(call("PTRACE_CONT", tid));
        match event {
            Event::Stop => {
                let regs = match ptrace::regs(tid) {
                    Ok(regs) => regs,
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
                        self.threads.remove(&tid);
                        return Ok(None);
                    }
                    Err(source) => return Err(PauseError::Call { what: "PTRACE_GETREGS", tid, source }),
                };
                self.threads.insert(tid, Seen::Stopped);
                step("stopped").map_err(call("waiting", tid))?;
                return Ok(Some(Thread { tid, regs, asleep }));
            }
            Event::Exited => _ = self.threads.remove(&tid),
            Event::Exec => return Err(PauseError::Exec { pid: self.target.process.pid }),
            Event::Clone(newborn) => {
                if let Entry::Vacant(unknown) = self.threads.entry(newborn) {
                    unknown.insert(Seen::Running { asleep });
                    self.newborn.push(newborn);
                }
                go_on(0)?;
            }
            // The interrupt is still pending, so the thread stops right behind the delivery.
            Event::Signal(signal) => go_on(signal)?,
            Event::Syscall => go_on(0)?,
        }
        Ok(None)
    }
}

impl Drop for Seized<'_> {
    fn drop(&mut self) {
        self.threads.keys().copied().for_each(let_go);
    }
}
