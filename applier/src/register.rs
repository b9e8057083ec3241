//! Between staging and commit: the unwinder of the process is told of the patch's unwind tables; and told to forget them
//! before the image goes. A thread of the process has to say it, for the unwinder has locks.
//!
//! ```text
//! choose a thread   asleep, or computing in the patched module; on its own stack; not in a signal handler; no word on
//!                   its live stack points into the unwinder
//! stop it, write its context below its stack, SETREGS(enter), block its signals, DETACH
//!                   the code registers, sets the done word, and takes the thread home
//! wait              for the done word
//! ```
//! So the thread comes home whatever becomes of lp-apply. What is registered is seen from the done word as soon as no thread
//! is in the patch's code: that is all that a later lp-apply needs to know.

use crate::arch::x86_64 as arch;
use crate::borrow::{self, BorrowError, Borrowed};
use crate::commit::{self, Quietness};
use crate::identify::maps::Maps;
use crate::identify::stub::StubPlace;
use crate::identify::{IdentifyError, Target};
use crate::leftovers::own_code;
use crate::outcome::{Outcome, Verdict};
use crate::sys::fault::step;
use crate::sys::proc::Doing;
use crate::sys::ptrace::{Regs, Tid};
use crate::trouble::Trouble;
use lpb::RunAddr;
use lpb::addr::{to_u64, to_usize};
use lpb::life::{Life, SiteKind, State, UnwindCode};
use std::time::{Duration, Instant};

/// How long a thread that was sent may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// First and longest pause between two looks for a thread, and between two looks at the done word.
const FIRST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(5);
/// Bytes below its stack pointer that a thread needs: extended state (up to 11 KiB), lazy binding (as much again), libgcc.
const STACK_ROOM: u64 = 32 << 10;
/// Longest stack that is searched.
const MAX_STACK: u64 = 64 << 20;
const CHUNK: usize = 8 << 10;

/// Why a table was not registered, or is registered still.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Every thread may hold a lock that is needed.
    #[error("no thread of process {pid} can {journey} the patch's unwind table: {why}; waited {} ms", .waited.as_millis())]
    NoThread {
        /// The target.
        pid: i32,
        /// What it is for.
        journey: Journey,
        /// About the last one that was looked at.
        why: String,
        /// How long.
        waited: Duration,
    },
    /// The thread that was sent is not back.
    #[error("thread {tid} did not {journey} the patch's unwind table within {} s", PATIENCE.as_secs())]
    Slow {
        /// The thread.
        tid: Tid,
        /// What it was sent for.
        journey: Journey,
    },
    /// A copy of a process that was forked in the middle of it.
    #[error("it is not known whether the patch's unwind table is registered (done word {word:#x} at {at})")]
    Unknown {
        /// The done word.
        at: RunAddr,
        /// What it holds.
        word: u32,
    },
    /// Stopping or sending a thread failed.
    #[error(transparent)]
    Borrow(#[from] BorrowError),
    /// The process.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
}

impl RegisterError {
    /// Whether the table may be registered still, so that its memory must stay.
    pub fn keeps_image(&self) -> bool {
        matches!(self, Self::NoThread { .. } | Self::Slow { .. } | Self::Unknown { .. })
    }
}

impl Verdict for RegisterError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::NoThread { .. } | Self::Slow { .. } => Outcome::Blocked,
            Self::Unknown { .. } => Outcome::Refused,
            Self::Borrow(e) => e.outcome(),
            Self::Identify(e) => e.outcome(),
        }
    }

    fn is_permission(&self) -> bool {
        match self {
            Self::Borrow(e) => e.is_permission(),
            Self::Identify(e) => e.is_permission(),
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoThread { .. } => {
                "wait longer (--wait 60s): some thread has to sleep in a system call, or compute in the patched module"
                    .into()
            }
            Self::Slow { .. } => "run the command again when the process is not stopped or overloaded".into(),
            Self::Unknown { .. } => "the memory stays; it does no harm".into(),
            Self::Borrow(e) => return e.hint(),
            Self::Identify(e) => return e.hint(),
        })
    }
}

/// What a thread is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journey {
    /// Through `enter`.
    Register,
    /// Through `leave`.
    Deregister,
}

impl std::fmt::Display for Journey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Register => "register",
            Self::Deregister => "deregister",
        })
    }
}

impl Journey {
    fn code(self, unwind: &UnwindCode) -> RunAddr {
        match self {
            Self::Register => unwind.enter,
            Self::Deregister => unwind.leave,
        }
    }

    /// What the done word holds afterwards.
    fn done(self) -> u32 {
        match self {
            Self::Register => 1,
            Self::Deregister => 0,
        }
    }
}

/// A thread that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The thread.
    pub tid: Tid,
    /// What for.
    pub journey: Journey,
    /// Why this one.
    pub why: String,
}

/// Registers all tables of a staged patch, and adds the threads that did it to `sent`.
///
/// # Errors
/// What is registered then, the done words tell: [`leave`] takes it back.
pub fn enter(
    target: &Target,
    place: &StubPlace,
    life: &Life,
    wait: Duration,
    sent: &mut Vec<Sent>,
) -> Result<(), RegisterError> {
    life.unwind.iter().try_for_each(|unwind| {
        sent.push(send(target, place, life, unwind, Journey::Register, wait)?);
        Ok(())
    })
}

/// Takes back all that is registered. The sites are old. Afterwards no thread is in the patch's code.
///
/// # Errors
/// The image must stay mapped.
pub fn leave(target: &Target, place: &StubPlace, life: &Life, wait: Duration) -> Result<Vec<Sent>, Trouble> {
    // Before all mappings exist nothing is registered, and none is removed before all is taken back.
    let never = matches!((life.state, life.progress), (State::Staging, _) | (State::Inactive, 1..));
    if life.unwind.is_empty() || never {
        return Ok(Vec::new());
    }
    let code = own_code(life);
    let quiet = || commit::when_quiet(target, Quietness::of(&code, wait), |_| Ok(())).map(drop);
    quiet()?;
    let mut sent = Vec::new();
    for unwind in life.unwind.iter().rev() {
        match done_word(target, unwind.done) {
            Some(0) => {}
            Some(1) => sent.push(send(target, place, life, unwind, Journey::Deregister, wait)?),
            word => {
                return Err(RegisterError::Unknown { at: unwind.done, word: word.unwrap_or(u32::MAX) }.into());
            }
        }
    }
    quiet()?;
    Ok(sent)
}

fn done_word(target: &Target, at: RunAddr) -> Option<u32> {
    target.read(at, 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
}

/// Sends one thread, as soon as one is fit, and waits until it has done its work.
fn send(
    target: &Target,
    place: &StubPlace,
    life: &Life,
    unwind: &UnwindCode,
    journey: Journey,
    wait: Duration,
) -> Result<Sent, RegisterError> {
    let (pid, begun) = (target.process.pid, Instant::now());
    let mut nap = FIRST_NAP;
    loop {
        let maps = target.maps()?;
        let judge = Judge { target, maps: &maps, life, provider: unwind.provider };
        let mut last = "it has no thread that runs".to_owned();
        for tid in borrow::by_reluctance(target) {
            match try_thread(&judge, place, tid, journey.code(unwind))? {
                Ok(why) => {
                    await_done(target, unwind, tid, journey)?;
                    return Ok(Sent { tid, journey, why });
                }
                Err(why) => last = format!("thread {tid} {why}"),
            }
        }
        if !target.process.alive() {
            return Err(BorrowError::Gone { pid }.into());
        }
        let waited = begun.elapsed();
        if waited >= wait {
            return Err(RegisterError::NoThread { pid, journey, why: last, waited });
        }
        std::thread::sleep(nap.min(wait.saturating_sub(waited)));
        nap = nap.saturating_mul(2).min(LONGEST_NAP);
    }
}

/// Sends this thread if it is fit; why it is, or is not.
fn try_thread(
    judge: &Judge<'_>,
    place: &StubPlace,
    tid: Tid,
    code: RunAddr,
) -> Result<Result<String, String>, RegisterError> {
    if let Err(why) = judge.at_a_glance(tid) {
        return Ok(Err(why));
    }
    let thread = match Borrowed::stop(judge.target, place, tid, judge.maps, &[]) {
        Ok(thread) => thread,
        Err(e) if e.outcome() == Outcome::Blocked => return Ok(Err(format!("cannot be used: {e}"))),
        Err(e) => return Err(e.into()),
    };
    let Some(live) = thread.live() else { return Ok(Err("cannot be stopped".into())) };
    match judge.stopped(live) {
        Ok(why) => {
            thread.send(code)?;
            Ok(Ok(why))
        }
        Err(why) => {
            thread.give_back()?;
            Ok(Err(why))
        }
    }
}

fn await_done(target: &Target, unwind: &UnwindCode, tid: Tid, journey: Journey) -> Result<(), RegisterError> {
    let begun = Instant::now();
    let mut nap = FIRST_NAP;
    while done_word(target, unwind.done) != Some(journey.done()) {
        if begun.elapsed() >= PATIENCE || !target.process.alive() {
            return Err(RegisterError::Slow { tid, journey });
        }
        std::thread::sleep(nap);
        nap = nap.saturating_mul(2).min(LONGEST_NAP);
    }
    step("unwind-done").map_err(|source| BorrowError::Call { what: "waiting", tid, source }.into())
}

/// What is known when a thread is judged.
struct Judge<'a> {
    target: &'a Target,
    maps: &'a Maps,
    life: &'a Life,
    provider: Option<(RunAddr, u64)>,
}

impl Judge<'_> {
    /// Rules out threads without stopping them.
    fn at_a_glance(&self, tid: Tid) -> Result<(), String> {
        if matches!(self.target.process.thread_state(tid), None | Some('T' | 't' | 'Z' | 'X' | 'D')) {
            return Err("is stopped, stuck in the kernel or ending".into());
        }
        match self.target.process.thread_doing(tid) {
            Doing::Blocked { nr, .. } if nr >= 0 && arch::sleeps_in(nr).is_none() => {
                Err(format!("is in system call {nr}, which may hold a lock"))
            }
            Doing::Running if self.provider.is_none() => Err("runs".into()),
            _ => Ok(()),
        }
    }

    /// Judges a stopped thread: why it is fit, or why not.
    fn stopped(&self, live: &Regs) -> Result<String, String> {
        let why = match arch::asleep(live) {
            Some(call) => format!("asleep in {call}"),
            None => self.computing(live)?,
        };
        self.own_stack(live)?;
        self.search(RunAddr(live.rsp))?;
        Ok(why)
    }

    /// Code of the patched module holds no lock of libraries: it would have to be in their code for that.
    fn computing(&self, live: &Regs) -> Result<String, String> {
        let pc = RunAddr(live.rip);
        let unfit = || format!("is at {pc}: neither asleep nor in the code of a patched module");
        let mapping = self.maps.at(pc).filter(|_| self.provider.is_some() && !arch::in_call(live)).ok_or_else(unfit)?;
        let patched = self.life.sites.iter().any(|s| s.kind == SiteKind::Jump && mapping.holds(s.at));
        if patched { Ok(format!("computing in {}", mapping.file_name())) } else { Err(unfit()) }
    }

    /// The stack that it was born with: the kernel's, or the one that its thread-local data ends.
    fn own_stack(&self, live: &Regs) -> Result<(), String> {
        let sp = RunAddr(live.rsp);
        let unfit = "is not on its own stack (a coroutine, or a signal handler)";
        let mapping = borrow::own_stack(self.maps, live).ok_or(unfit)?;
        if mapping.path != "[stack]" && sp.minus(STACK_ROOM).is_none_or(|low| low < mapping.start) {
            return Err(format!("has less than {STACK_ROOM} bytes of stack left"));
        }
        Ok(())
    }

    /// Looks through its live stack for signal frames and return addresses into the unwinder.
    fn search(&self, sp: RunAddr) -> Result<(), String> {
        let unreadable = "has a stack that cannot be read";
        let mut at = RunAddr(sp.0 & !7);
        let end = self.maps.at(at).map_or(at, |m| m.end);
        if end.since(at).is_none_or(|len| len > MAX_STACK) {
            return Err("has a stack that is too deep to search".into());
        }
        let mut buf = [0; CHUNK];
        while at < end {
            let len = to_u64(CHUNK).min(end.since(at).unwrap_or(0));
            let chunk = buf.get_mut(..to_usize(len)).ok_or(unreadable)?;
            self.target.memory.read(at, chunk).map_err(|_| unreadable)?;
            if arch::has_signal_frame(chunk) {
                return Err("is in a signal handler".into());
            }
            for word in chunk.chunks_exact(8).map(|w| w.try_into().map(u64::from_le_bytes).unwrap_or(0)) {
                if self.provider.is_some_and(|(start, len)| RunAddr(word).since(start).is_some_and(|n| n <= len)) {
                    return Err(format!("may return into the unwinder (to {})", RunAddr(word)));
                }
            }
            at = RunAddr(at.0.saturating_add(len));
        }
        Ok(())
    }
}
