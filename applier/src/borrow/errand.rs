//! An errand: a thread makes a list of calls and goes home, all by itself. What came of it is read from its stack, and where
//! that tells nothing any more, from the memory map.

use super::{BorrowError, Borrowed, PATIENCE};
use crate::arch::x86_64::SYS_MUNMAP;
use crate::arch::x86_64::stub::{self, Noted};
use crate::identify::Target;
use crate::identify::maps::{Mapping, Maps};
use crate::identify::seccomp::Call;
use crate::sys::fault::step;
use lpb::RunAddr;
use std::time::{Duration, Instant};

/// How long the thread is left alone, and for each call: whoever reads its memory meanwhile makes its calls wait.
const HEAD_START: Duration = Duration::from_micros(30);
const EACH_CALL: Duration = Duration::from_micros(3);
/// First and longest pause between two looks.
const FIRST_NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(2);

/// A thread on its way.
pub(super) struct Errand<'c> {
    calls: &'c [Call],
    notes_at: RunAddr,
}

impl Borrowed<'_> {
    /// Sends it through as many of these calls as one list can have.
    pub(super) fn send_on_errand<'c>(&mut self, calls: &'c [Call]) -> Result<Errand<'c>, BorrowError> {
        let calls = calls.get(..stub::MAX_CALLS).unwrap_or(calls);
        self.write_below(calls)?;
        let original = self.hold(calls)?.original;
        self.ask_again(calls)?;
        let notes_at = stub::notes_at(&original).unwrap_or(RunAddr(0));
        self.set_off(&stub::through_list(&original, self.place.at, calls))?;
        self.let_off()?;
        Ok(Errand { calls, notes_at })
    }
}

impl Errand<'_> {
    /// Waits for it: how many calls were made, and where the next has made a mapping that nobody asked for.
    pub(super) fn outcome(&self, thread: &Borrowed<'_>) -> Result<(usize, Option<RunAddr>), BorrowError> {
        let (target, tid) = (thread.target, thread.tid);
        let outcome = match self.wait(target) {
            Noted::All => (self.calls.len(), None),
            Noted::Failed(n, _) => (n, None),
            Noted::Elsewhere(n, at) => (n, Some(at)),
            Noted::Lost if target.process.alive() => {
                let maps = target.maps()?;
                (self.calls.iter().take_while(|call| took_effect(call, &maps)).count(), None)
            }
            Noted::Lost => return Err(BorrowError::Gone { pid: target.process.pid }),
            Noted::Nothing => {
                // Until it has been found and called back, nothing may be done in the target.
                target.astray.set(Some(tid));
                return Err(BorrowError::Slow { what: "make the injected calls", tid });
            }
        };
        step("errand-done").map_err(thread.failed("waiting"))?;
        Ok(outcome)
    }

    /// Waits until something is noted, at most [`PATIENCE`].
    fn wait(&self, target: &Target) -> Noted {
        let begun = Instant::now();
        let head_start =
            HEAD_START.saturating_add(EACH_CALL.saturating_mul(u32::try_from(self.calls.len()).unwrap_or(0)));
        while begun.elapsed() < head_start {
            std::thread::yield_now();
        }
        let mut nap = FIRST_NAP;
        loop {
            let noted = self.look(target);
            if noted != Noted::Nothing || begun.elapsed() >= PATIENCE {
                return noted;
            }
            std::thread::sleep(nap);
            nap = nap.saturating_mul(2).min(LONGEST_NAP);
        }
    }

    fn look(&self, target: &Target) -> Noted {
        let word = |off| self.notes_at.plus(off).and_then(|at| target.memory.read_u64(at).ok());
        // The result is written last, so it is read first.
        let (Some(result), Some(address)) = (word(8), word(0)) else { return Noted::Lost };
        stub::noted([address, result], self.calls)
    }
}

/// Whether the memory map is as this call has left it, if it was made.
fn took_effect(call: &Call, maps: &Maps) -> bool {
    let [at, len, prot, ..] = call.args;
    let (start, end) = (RunAddr(at), RunAddr(at.saturating_add(len)));
    let is = |prots: &[u64]| {
        let ours = |m: &Mapping| m.is_plain_anonymous() && prots.contains(&u64::from(m.prot));
        maps.covers(start, end, ours)
    };
    match call.nr {
        // What is to go is never writable; the target may have put something else there since.
        SYS_MUNMAP => !is(&[1, 5]),
        _ => is(&[prot]),
    }
}
