//! The moment for a change: every thread is stopped, and none is where it must not be.

use super::CommitError;
use super::judge::{Judge, Obstacle, judged};
use crate::arch::x86_64::stub;
use crate::borrow;
use crate::identify::Target;
use crate::identify::maps::{self, Maps};
use crate::identify::stub::StubPlace;
use crate::outcome::{Outcome, Verdict};
use crate::pace::Pace;
use crate::patience::Patience;
use crate::pause::{self, First, Glance, PauseError, Paused, Thread};
use crate::plan::CodeRange;
use crate::progress;
use crate::quiesce::{self, Busy, Own, Piece, Scan};
use crate::sys::ptrace;
use lpb::RunAddr;
use lpb::addr::to_u64;
use lpb::life::{Life, SiteKind};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Pause between two looks at a thread that cannot be stopped.
const NAP: Duration = Duration::from_millis(50);

/// When a target counts as quiet.
#[derive(Debug)]
pub struct Quietness<'a> {
    /// Code that no thread may be in.
    pub code: &'a [CodeRange],
    /// Whether memory outside the stacks counts too.
    pub scan_memory: Option<Search<'a>>,
    /// How long to wait.
    pub patience: Patience,
    /// What was seen of the threads just before, if anything.
    pub seen: Option<Glance>,
}

/// A search of all writable memory but the stacks of the threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search<'a> {
    /// The patch whose own memory, and whose words in the memory of others, do not count.
    pub of: Option<&'a Life>,
    /// Of what addresses are noted that are no reason to wait: see [`Quiet::kept`].
    pub also: &'a [CodeRange],
}

impl<'a> Quietness<'a> {
    /// By the stacks of the threads alone.
    pub fn of(code: &'a [CodeRange], patience: Patience) -> Self {
        Self { code, scan_memory: None, patience, seen: None }
    }

    /// Any moment will do.
    pub fn any() -> Self {
        Self::of(&[], Patience::of(Duration::ZERO))
    }
}

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
    /// The first address that a [`Search`] has noted.
    pub kept: Option<Obstacle>,
    /// What the threads were doing, and their stacks: forgotten only when all go on, since that takes time.
    _seen: (Glance, Judge<'a>),
}

/// Runs `change` in a moment when every thread is stopped and the target is quiet.
///
/// # Errors
/// If no such moment came in time, or `change` failed; all threads go on in any case.
pub fn when_quiet<T>(
    target: &Target,
    Quietness { code, scan_memory, patience, mut seen }: Quietness<'_>,
    mut change: impl FnMut(&Quiet<'_>) -> Result<T, CommitError>,
) -> Result<(T, Cost), CommitError> {
    let begun = Instant::now();
    let mut pace = Pace::begin();
    loop {
        let attempt = Instant::now();
        let seen = seen.take().filter(Glance::is_fresh);
        let (why, woken) = match Quiet::begin(target, code, scan_memory, pace.first(), seen) {
            Ok(Ok((quiet, scanned))) => {
                let (waited, threads) = (begun.elapsed(), quiet.paused.threads.len());
                let done = change(&quiet);
                let stopped = quiet.paused.resume();
                return done.map(|value| (value, Cost { stopped, waited, threads, scanned }));
            }
            Ok(Err(Vain { obstacle: (tid, busy), woken })) => {
                let (name, waited) = (target.process.thread_name(tid), begun.elapsed());
                if patience.is_over() {
                    return Err(CommitError::Busy { tid, name, busy, waited });
                }
                (format!("thread {tid} ({name}) {busy}"), woken)
            }
            Err(e @ (CommitError::Pause(_) | CommitError::Identify(_)))
                if e.outcome() == Outcome::Blocked && !patience.is_over() =>
            {
                // One that runs in the kernel all the time: all others have stood still for it.
                let woken = matches!(e, CommitError::Pause(PauseError::Stuck { state: 'R', .. }));
                (e.to_string(), woken)
            }
            Err(e) => return Err(e),
        };
        progress::waiting(target.process.pid, patience, || why);
        borrow::nap(pace.pause_after(attempt.elapsed(), woken).min(patience.left()));
    }
}

/// Waits until no thread is in a sleep that a stop cannot interrupt: before anything is staged for nothing. What all are doing
/// then.
///
/// # Errors
/// If one is still there when the time is up.
pub fn wait_until_stoppable(target: &Target) -> Result<Glance, CommitError> {
    let patience = target.patience;
    loop {
        match pause::glance(target) {
            Err(stuck) if !patience.is_over() => {
                progress::waiting(target.process.pid, patience, || stuck.to_string());
                borrow::nap(NAP.min(patience.left()));
            }
            looked => return Ok(looked?),
        }
    }
}

/// An attempt that came to nothing.
struct Vain {
    obstacle: Obstacle,
    /// Threads that slept were stopped for it.
    woken: bool,
}

/// What stands against a moment: a thread in the way, or that it cannot be judged.
enum Unquiet {
    Busy(Obstacle),
    Failed(CommitError),
}

impl<'a> Quiet<'a> {
    /// Stops the target, unless or until a thread is found in `code`: those that sleep are judged before anything is stopped,
    /// and again once they are. How long the search of all writable memory took, if that is wanted.
    fn begin(
        target: &'a Target,
        code: &[CodeRange],
        scan_memory: Option<Search<'_>>,
        first: First,
        seen: Option<Glance>,
    ) -> Result<Result<(Self, Option<Duration>), Vain>, CommitError> {
        let glance = seen.map_or_else(|| pause::glance(target), Ok)?;
        let mut maps = target.maps()?;
        // If it calls exec later than now, the record is missing when the sites are to change.
        target.still_there()?;
        let mut judge = Judge::new(target);
        if let Some(obstacle) = judge.look(code, &glance, &maps) {
            return Ok(Err(Vain { obstacle, woken: false }));
        }
        target.is_still_alone(None)?;
        let mut woken = false;
        let paused = Paused::begin(target, &glance, first, |stopped| {
            woken = woken || stopped.iter().any(|t| t.asleep);
            match judge.stopped(code, &mut maps, stopped) {
                Ok(None) => Ok(()),
                Ok(Some(obstacle)) => Err(Unquiet::Busy(obstacle)),
                Err(e) => Err(Unquiet::Failed(e)),
            }
        });
        let paused = match paused? {
            Ok(paused) => paused,
            Err(Unquiet::Busy(obstacle)) => return Ok(Err(Vain { obstacle, woken })),
            Err(Unquiet::Failed(e)) => return Err(e),
        };
        let mut quiet = Self { target, paused, maps, kept: None, _seen: (glance, judge) };
        // One may have been made until the last thread stood still.
        target.is_still_alone(quiet.paused.threads.first().map(|t| t.tid))?;
        let Some(search) = scan_memory.filter(|_| !code.is_empty()) else { return Ok(Ok((quiet, None))) };
        let begun = Instant::now();
        let [parked, kept] = quiet.parked(code, search)?;
        quiet.kept = kept;
        Ok(match parked {
            Some(obstacle) => Err(Vain { obstacle, woken }),
            None => Ok((quiet, Some(begun.elapsed()))),
        })
    }

    /// The first thread that is in `code` or will return into it.
    pub fn busy(&self, code: &[CodeRange]) -> Result<Option<Obstacle>, CommitError> {
        Judge::new(self.target).stopped(code, &mut self.maps.clone(), &self.paused.threads)
    }

    /// Whether no thread is in `code`, or will return into it. A thread without a stack has nothing to return through: it
    /// cannot be judged where functions are replaced, which it may have been called by, but it has not come through `code`
    /// that makes no calls.
    pub fn is_clear_of(&self, code: &[CodeRange]) -> Result<bool, CommitError> {
        let maps = self.target.maps()?;
        let read = |at: RunAddr, buf: &mut [u8]| self.target.memory.read(at, buf).is_ok();
        let mut piece = Piece::default();
        let mut scan = Scan::new(code, &maps, &read, &mut piece);
        Ok(self.paused.threads.iter().all(|t| match judged(&mut scan, t) {
            None => true,
            Some(Busy::Unknown { sp }) => !scan.is_stack(sp),
            Some(_) => false,
        }))
    }

    /// The first word of writable memory that is an address in `code`, or else one in `search.also`, told of the first thread; or else
    /// such an address in a register.
    pub fn parked(&self, code: &[CodeRange], search: Search<'_>) -> Result<[Option<Obstacle>; 2], CommitError> {
        let maps = self.target.maps()?;
        let read = |at: RunAddr, buf: &mut [u8]| self.target.memory.read(at, buf).is_ok();
        // Below the stack pointer of a coroutine there may be the stack of another one. The stack of a thread ends at its data; those
        // of the first thread may lie anywhere.
        let first = self.target.process.pid;
        let has_own_stack = |t: &&Thread| {
            let (sp, data) = (RunAddr(t.regs.rsp), RunAddr(t.regs.fs_base));
            let ends_at_data = |m: &maps::Mapping| t.tid.0 != first && sp < data && m.holds(data);
            maps.at(sp).is_some_and(|m| m.path == "[stack]" || ends_at_data(m))
        };
        let own_stacks = self.paused.threads.iter().filter(has_own_stack);
        let live: Vec<RunAddr> = own_stacks.map(|t| RunAddr(t.regs.rsp)).collect();
        let pages = self.target.process.page_map().ok();
        let touched = |m: &maps::Mapping, part: Range<RunAddr>| match &pages {
            // Pages of a shared file may have been written, and be in memory, without being mapped here.
            Some(pages) if m.private => pages.first_run(part),
            _ => (part.start < part.end).then_some(part),
        };
        let mappings = search.of.map_or(&[][..], |life| &life.mappings);
        let word = |at: RunAddr| search.of.is_some_and(|life| goes_with(self.target, life, at));
        let own = Own { mappings, word: &word };
        let [parked, also] = quiesce::parked([code, search.also], &maps, &read, &live, &own, touched);
        let told = |busy: Option<Busy>| self.paused.threads.first().map(|t| t.tid).zip(busy);
        let kept = |code: &[CodeRange]| {
            let kept = |t: &Thread| Some((t.tid, quiesce::in_registers(code, &t.regs.general())?));
            self.paused.threads.iter().find_map(kept)
        };
        Ok([told(parked).or_else(|| kept(code)), told(also).or_else(|| kept(search.also))])
    }

    /// Lets threads that an earlier, dead lp-apply has sent into the stub leave out the calls that they have not made yet: they
    /// would come at a time when nobody expects them any more.
    pub fn cancel_calls(&self, place: &StubPlace) -> Result<(), CommitError> {
        self.target.still_there()?;
        for t in &self.paused.threads {
            let cancelled =
                stub::without_calls(&t.regs, place.at).map_or(Ok(()), |regs| ptrace::set_regs(t.tid, &regs));
            cancelled.map_err(|source| PauseError::Call { what: "PTRACE_SETREGS", tid: t.tid, source })?;
        }
        Ok(())
    }
}

/// Whether this is in a slot or variable that the patch has set, and will set back when it is taken out of force.
fn goes_with(target: &Target, life: &Life, at: RunAddr) -> bool {
    let mut set = life.sites.iter().filter(|s| s.kind != SiteKind::Jump);
    set.any(|s| {
        let holds = at.since(s.at).is_some_and(|off| off < to_u64(s.new.len()));
        holds && target.read(s.at, s.new.len()).is_some_and(|now| now == s.new)
    })
}
