//! The moment for a change: every thread is stopped, and none is where it must not be.

use super::CommitError;
use super::stacks::{self, Stacks};
use crate::arch::x86_64::stub;
use crate::identify::Target;
use crate::identify::maps::{self, Maps};
use crate::identify::stub::StubPlace;
use crate::outcome::{Outcome, Verdict};
use crate::pause::{self, Glance, PauseError, Paused, Thread};
use crate::plan::CodeRange;
use crate::progress;
use crate::quiesce::{Busy, MAX_STACKED, Scan};
use crate::sys::proc::Doing;
use crate::sys::ptrace::{self, Tid};
use lpb::RunAddr;
use lpb::life::Mapping;
use std::ops::Range;
use std::time::{Duration, Instant};

/// First and longest pause between two looks.
const FIRST_NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// When a target counts as quiet.
#[derive(Clone, Copy, Debug)]
pub struct Quietness<'a> {
    /// Code that no thread may be in.
    pub code: &'a [CodeRange],
    /// Whether memory outside the stacks counts too.
    pub scan_memory: bool,
    /// How long to wait.
    pub wait: Duration,
}

impl<'a> Quietness<'a> {
    /// By the stacks of the threads alone.
    pub fn of(code: &'a [CodeRange], wait: Duration) -> Self {
        Self { code, scan_memory: false, wait }
    }

    /// Any moment will do.
    pub fn any() -> Self {
        Self::of(&[], Duration::ZERO)
    }
}

/// A thread and what it is doing in the way.
pub type Obstacle = (Tid, Busy);

/// What a commit cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// How long the whole target stood still, in the last stop.
    pub stopped: Duration,
    /// How long lp-apply waited for a quiet moment.
    pub waited: Duration,
    /// Threads of the target.
    pub threads: usize,
    /// How long the search of all writable memory took, inside the stop.
    pub scanned: Option<Duration>,
}

/// A target that stands still, and its mappings as of just before.
pub struct Quiet<'a> {
    target: &'a Target,
    paused: Paused<'a>,
    maps: Maps,
    /// What the threads were doing, and their stacks: forgotten only when all go on, since that takes time.
    _seen: (Glance, Vec<RunAddr>, Stacks),
}

/// Runs `change` in a moment when every thread is stopped and the target is quiet.
///
/// # Errors
/// If no such moment came in time, or `change` failed; all threads go on in any case.
pub fn when_quiet<T>(
    target: &Target,
    Quietness { code, scan_memory, wait }: Quietness<'_>,
    mut change: impl FnMut(&Quiet<'_>) -> Result<T, CommitError>,
) -> Result<(T, Cost), CommitError> {
    let begun = Instant::now();
    let mut nap = FIRST_NAP;
    loop {
        let (tid, busy) = match Quiet::begin(target, code, scan_memory) {
            Ok(Ok((quiet, scanned))) => {
                let (waited, threads) = (begun.elapsed(), quiet.paused.threads.len());
                let done = change(&quiet);
                let stopped = quiet.paused.resume();
                return done.map(|value| (value, Cost { stopped, waited, threads, scanned }));
            }
            Ok(Err(obstacle)) => obstacle,
            Err(CommitError::Pause(e)) if e.outcome() == Outcome::Blocked && begun.elapsed() < wait => {
                progress::waiting(target.process.pid, begun, wait, || e.to_string());
                std::thread::sleep(nap);
                nap = nap.saturating_mul(2).min(LONGEST_NAP);
                continue;
            }
            Err(e) => return Err(e),
        };
        let waited = begun.elapsed();
        if waited >= wait {
            return Err(CommitError::Busy { tid, name: target.process.thread_name(tid), busy, waited });
        }
        let in_the_way = || format!("thread {tid} ({}) {busy}", target.process.thread_name(tid));
        progress::waiting(target.process.pid, begun, wait, in_the_way);
        std::thread::sleep(nap.min(wait.saturating_sub(waited)));
        nap = nap.saturating_mul(2).min(LONGEST_NAP);
    }
}

/// Waits until no thread is in a sleep that a stop cannot interrupt: before anything is staged for nothing.
///
/// # Errors
/// If one is still there when the time is up.
pub fn wait_until_stoppable(target: &Target, wait: Duration) -> Result<(), CommitError> {
    let begun = Instant::now();
    loop {
        match pause::nobody_stuck(target) {
            Err(stuck) if begun.elapsed() < wait => {
                progress::waiting(target.process.pid, begun, wait, || stuck.to_string());
                std::thread::sleep(LONGEST_NAP);
            }
            looked => return Ok(looked?),
        }
    }
}

/// Judges the sleeping threads without stopping anything. Those that run are not judged.
fn look(target: &Target, glance: &Glance, code: &[CodeRange], maps: &Maps, stacks: &mut Stacks) -> Option<Obstacle> {
    let doing = |(tid, doing): (&Tid, &Doing)| match *doing {
        Doing::Blocked { sp, pc, .. } => Some((*tid, pc, sp)),
        Doing::Running | Doing::Unknown => None,
    };
    let asleep: Vec<_> = glance.iter().filter_map(doing).collect();
    let mut tops: Vec<RunAddr> = asleep.iter().map(|(_, _, sp)| *sp).collect();
    tops.sort_unstable();
    let mut budget = MAX_STACKED;
    asleep.chunks(stacks::BATCH).find_map(|batch| {
        stacks.read_ahead(maps, &tops, batch.iter().map(|(tid, _, sp)| (*tid, *sp)));
        let read = |at: RunAddr, buf: &mut [u8]| stacks.read(target, at, buf);
        let scan = Scan::new(code, maps, &read).with_tops(&tops).with_budget(budget);
        let judged = batch.iter().filter_map(|(tid, pc, sp)| Some((*tid, scan.thread(*pc, *sp, None)?)));
        // A thread may run on between the reads, so a stack that makes no sense says nothing; the stop will tell.
        let found = judged.into_iter().find(|(_, busy)| !matches!(busy, Busy::Unknown { .. }));
        budget = scan.budget();
        found
    })
}

/// What stands against a moment: a thread in the way, or that it cannot be judged.
enum Unquiet {
    Busy(Obstacle),
    Failed(CommitError),
}

impl<'a> Quiet<'a> {
    /// Stops the target, unless or until a thread is found in `code`: those that sleep are judged before anything is stopped,
    /// and again before the others are. How long the search of all writable memory took, if that is wanted.
    fn begin(
        target: &'a Target,
        code: &[CodeRange],
        scan_memory: bool,
    ) -> Result<Result<(Self, Option<Duration>), Obstacle>, CommitError> {
        let (mut maps, glance) = (target.maps()?, pause::glance(target)?);
        let mut stacks = Stacks::default();
        if let Some(obstacle) = look(target, &glance, code, &maps, &mut stacks) {
            return Ok(Err(obstacle));
        }
        // Where each thread that stands still has its stack. Where it was seen before says nothing any more.
        let mut tops = Vec::with_capacity(glance.len());
        let mut budget = MAX_STACKED;
        let paused = Paused::begin(target, &glance, |stopped| {
            add_sorted(&mut tops, stopped.iter().map(|t| RunAddr(t.regs.rsp)));
            let there = target.still_there(&maps).map_err(CommitError::from);
            match there.and_then(|()| {
                Judge { target, code, tops: &tops, stacks: &mut stacks, budget: &mut budget }.busy(&mut maps, stopped)
            }) {
                Ok(None) => Ok(()),
                Ok(Some(obstacle)) => Err(Unquiet::Busy(obstacle)),
                Err(e) => Err(Unquiet::Failed(e)),
            }
        });
        let paused = match paused? {
            Ok(paused) => paused,
            Err(Unquiet::Busy(obstacle)) => return Ok(Err(obstacle)),
            Err(Unquiet::Failed(e)) => return Err(e),
        };
        let quiet = Self { target, paused, maps, _seen: (glance, tops, stacks) };
        if !scan_memory || code.is_empty() {
            return Ok(Ok((quiet, None)));
        }
        let begun = Instant::now();
        Ok(match quiet.parked(code, &[])? {
            Some(obstacle) => Err(obstacle),
            None => Ok((quiet, Some(begun.elapsed()))),
        })
    }

    /// The first thread that is in `code` or will return into it.
    pub fn busy(&self, code: &[CodeRange]) -> Result<Option<Obstacle>, CommitError> {
        let threads = &self.paused.threads;
        let mut tops: Vec<RunAddr> = threads.iter().map(|t| RunAddr(t.regs.rsp)).collect();
        tops.sort_unstable();
        let (mut stacks, mut budget) = (Stacks::default(), MAX_STACKED);
        Judge { target: self.target, code, tops: &tops, stacks: &mut stacks, budget: &mut budget }
            .busy(&mut self.maps.clone(), threads)
    }

    /// Whether no thread is in `code`, or will return into it. A thread without a stack has nothing to return through: it
    /// cannot be judged where functions are replaced, which it may have been called by, but it has not come through `code`
    /// that makes no calls.
    pub fn is_clear_of(&self, code: &[CodeRange]) -> Result<bool, CommitError> {
        let maps = self.target.maps()?;
        let read = |at: RunAddr, buf: &mut [u8]| self.target.memory.read(at, buf).is_ok();
        let scan = Scan::new(code, &maps, &read);
        Ok(self.paused.threads.iter().all(|t| match judged(&scan, t) {
            None => true,
            Some(Busy::Unknown { sp }) => !scan.is_stack(sp),
            Some(_) => false,
        }))
    }

    /// The first word of writable memory, but for that in `own`, that is an address in `code`; told of the first thread.
    pub fn parked(&self, code: &[CodeRange], own: &[Mapping]) -> Result<Option<Obstacle>, CommitError> {
        let maps = self.target.maps()?;
        let read = |at: RunAddr, buf: &mut [u8]| self.target.memory.read(at, buf).is_ok();
        let live: Vec<RunAddr> = self.paused.threads.iter().map(|t| RunAddr(t.regs.rsp)).collect();
        let pages = self.target.process.page_map().ok();
        let touched = |m: &maps::Mapping, part: Range<RunAddr>| match &pages {
            // Pages of a shared file may have been written, and be in memory, without being mapped here.
            Some(pages) if m.private => pages.first_run(part),
            _ => (part.start < part.end).then_some(part),
        };
        let parked = Scan::new(code, &maps, &read).parked(&live, own, touched);
        Ok(self.paused.threads.first().map(|t| t.tid).zip(parked))
    }

    /// Lets threads that an earlier, dead lp-apply has sent into the stub leave out the calls that they have not made yet: they
    /// would come at a time when nobody expects them any more.
    pub fn cancel_calls(&self, place: &StubPlace) -> Result<(), CommitError> {
        for t in &self.paused.threads {
            let cancelled =
                stub::without_calls(&t.regs, place.at).map_or(Ok(()), |regs| ptrace::set_regs(t.tid, &regs));
            cancelled.map_err(|source| PauseError::Call { what: "PTRACE_SETREGS", tid: t.tid, source })?;
        }
        Ok(())
    }
}

/// What a stopped thread is doing in the way.
fn judged(scan: &Scan<'_>, t: &Thread) -> Option<Busy> {
    scan.thread(RunAddr(t.regs.rip), RunAddr(t.regs.rsp), Some(RunAddr(t.regs.fs_base)))
}

/// Adds to an ascending list.
fn add_sorted(list: &mut Vec<RunAddr>, more: impl ExactSizeIterator<Item = RunAddr>) {
    if more.len() == 1 {
        // The one thread that runs, often: it stands still while this is done.
        more.for_each(|one| list.insert(list.partition_point(|known| *known <= one), one));
    } else {
        list.extend(more);
        // Nearly sorted already, which this sort makes use of.
        list.sort();
    }
}

/// What stopped threads are judged by.
struct Judge<'a> {
    target: &'a Target,
    code: &'a [CodeRange],
    /// The stack pointers of all that stand still, ascending.
    tops: &'a [RunAddr],
    stacks: &'a mut Stacks,
    /// Bytes that may be read.
    budget: &'a mut u64,
}

impl Judge<'_> {
    /// The first of `threads` that is in the code or will return into it.
    fn busy(&mut self, maps: &mut Maps, threads: &[Thread]) -> Result<Option<Obstacle>, CommitError> {
        if self.code.is_empty() {
            return Ok(None);
        }
        match self.judge(maps, threads) {
            // A stack may be younger than the list of mappings.
            Some((_, Busy::Unknown { .. })) => {
                *maps = self.target.maps()?;
                Ok(self.judge(maps, threads))
            }
            judged => Ok(judged),
        }
    }

    fn judge(&mut self, maps: &Maps, threads: &[Thread]) -> Option<Obstacle> {
        threads.chunks(stacks::BATCH).find_map(|batch| {
            self.stacks.read_ahead(maps, self.tops, batch.iter().map(|t| (t.tid, RunAddr(t.regs.rsp))));
            let read = |at: RunAddr, buf: &mut [u8]| self.stacks.read(self.target, at, buf);
            let scan = Scan::new(self.code, maps, &read).with_tops(self.tops).with_budget(*self.budget);
            let judge = |t: &Thread| Some((t.tid, judged(&scan, t)?));
            let found = batch.iter().find_map(judge);
            *self.budget = scan.budget();
            found
        })
    }
}
