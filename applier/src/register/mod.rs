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

mod error;
mod judge;

pub use error::RegisterError;

use crate::borrow::{self, BorrowError, Borrowed};
use crate::commit::{self, Quietness};
use crate::identify::Target;
use crate::identify::stub::StubPlace;
use crate::leftovers::own_code;
use crate::outcome::{Outcome, Verdict};
use crate::pace::Pace;
use crate::patience::Patience;
use crate::progress;
use crate::sys::fault::step;
use crate::sys::ptrace::Tid;
use crate::trouble::Trouble;
use judge::Judge;
use lpb::RunAddr;
use lpb::life::{Life, State, UnwindCode};
use std::time::{Duration, Instant};

/// How long a thread that was sent may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// First and longest pause between two looks at the done word.
const FIRST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(5);
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
pub fn enter(target: &Target, place: &StubPlace, life: &Life, sent: &mut Vec<Sent>) -> Result<(), RegisterError> {
    life.unwind.iter().try_for_each(|unwind| {
        sent.push(send(target, place, life, unwind, Journey::Register, target.patience)?);
        Ok(())
    })
}

/// Takes back all that is registered. The sites are old. Afterwards no thread is in the patch's code.
///
/// # Errors
/// The image must stay mapped.
pub fn leave(target: &Target, place: &StubPlace, life: &Life, patience: Patience) -> Result<Vec<Sent>, Trouble> {
    // Before all mappings exist nothing is registered, and none is removed before all is taken back.
    let never = matches!((life.state, life.progress), (State::Staging, _) | (State::Inactive, 1..));
    if life.unwind.is_empty() || never {
        return Ok(Vec::new());
    }
    let code = own_code(life);
    let quiet = || commit::when_quiet(target, Quietness::of(&code, patience), |_| Ok(())).map(drop);
    quiet()?;
    let mut sent = Vec::new();
    for unwind in life.unwind.iter().rev() {
        match done_word(target, unwind.done) {
            Some(0) => {}
            Some(1) => sent.push(send(target, place, life, unwind, Journey::Deregister, patience)?),
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
    patience: Patience,
) -> Result<Sent, RegisterError> {
    let (pid, begun) = (target.process.pid, Instant::now());
    let mut pace = Pace::begin();
    loop {
        let attempt = Instant::now();
        let maps = target.maps()?;
        target.still_there()?;
        let judge = Judge { target, maps: &maps, life, provider: unwind.provider };
        let mut last = "it has no thread that runs".to_owned();
        let mut woken = false;
        for tid in borrow::by_reluctance(target) {
            match try_thread(&judge, place, tid, journey.code(unwind), &mut woken)? {
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
        if patience.is_over() {
            return Err(RegisterError::NoThread { pid, journey, why: last, waited: begun.elapsed() });
        }
        progress::waiting(pid, patience, || last);
        borrow::nap(pace.pause_after(attempt.elapsed(), woken).min(patience.left()));
    }
}

/// Sends this thread if it is fit; why it is, or is not. `woken` is set if it slept and was stopped.
fn try_thread(
    judge: &Judge<'_>,
    place: &StubPlace,
    tid: Tid,
    code: RunAddr,
    woken: &mut bool,
) -> Result<Result<String, String>, RegisterError> {
    match judge.at_a_glance(tid) {
        Ok(asleep) => *woken |= asleep,
        Err(why) => return Ok(Err(why)),
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
    loop {
        match done_word(target, unwind.done) {
            Some(word) if word == journey.done() => break,
            Some(_) => {}
            None => target.still_there()?,
        }
        if begun.elapsed() >= PATIENCE || !target.process.alive() {
            return Err(RegisterError::Slow { tid, journey });
        }
        borrow::nap(nap);
        nap = nap.saturating_mul(2).min(LONGEST_NAP);
    }
    step("unwind-done").map_err(|source| BorrowError::Call { what: "waiting", tid, source }.into())
}
