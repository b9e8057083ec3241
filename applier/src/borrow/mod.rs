//! Borrowing one thread of the target for a few system calls, so that it survives our death at any instant.
//!
//! ```text
//! SEIZE, INTERRUPT ─► stopped                     its registers, signal mask and stack are as it left them
//!
//! a thread that computes, on a stack of its own: an errand
//!   write calls and context below its stack         still as it left them
//!   block all signals, SETREGS(stub), DETACH        the stub makes the calls and brings it back; it is not stopped again
//!   read what it noted
//!
//! any other: live
//!   write context below its stack                   still as it left them
//!   block all signals, SETREGS(stub)                from here on the stub brings it back by itself:
//!     CONT to the system call's entry                 finish the call, restore the mask, restore the registers
//!     INTERRUPT, CONT ─► stopped behind the call
//!     (more calls)
//!   restore mask, registers and stack, DETACH       as it left it; the kernel resumes an interrupted sleep
//! ```
//! A thread that sleeps does not notice how long it stands still; one that computes does. But an errand leaves its traces
//! below the stack, where a stack that is too small has somebody else's data.

mod choice;
mod errand;
mod error;
mod leave;
mod live;
mod mend;
mod seize;
mod take;

pub use choice::{by_reluctance, own_stack};
pub use error::BorrowError;
pub use leave::{await_end, detach, goes_on_with, let_go, nap};
pub use mend::mended;
pub use seize::{reap, seize};

use crate::arch::x86_64::stub::{self, STUB};
use crate::identify::Target;
use crate::identify::maps::Maps;
use crate::identify::seccomp::Call;
use crate::identify::stub::{INTENT_LEN, StubPlace, encode_intent, stub_up_to_intent};
use crate::sys::fault::step;
use crate::sys::ptrace::{self, Regs, Tid};
use crate::sys::sched::Urgent;
use choice::Aids;
use leave::Held;
use lpb::RunAddr;
use std::io;
use std::time::Duration;

/// How long one thread may take to stop, or to make one system call.
const PATIENCE: Duration = Duration::from_secs(2);
const ALL_SIGNALS: u64 = u64::MAX;

/// A thread that makes system calls for us.
#[must_use = "give it back"]
pub struct Borrowed<'a> {
    target: &'a Target,
    place: &'a StubPlace,
    tid: Tid,
    /// `None`: it goes its own way.
    stopped: Option<Stopped>,
    /// The stub is in place.
    stub: bool,
    /// The mappings that it was judged by, and what else served for that. They are forgotten when it goes on: that takes time.
    kept: (Option<Maps>, Option<Aids>),
}

/// A stopped thread.
struct Stopped {
    /// As it was stopped.
    live: Regs,
    /// What it goes on with.
    original: Regs,
    mask: u64,
    /// It computes, and has room for a list of calls below its stack.
    errands: bool,
    /// The context is in place, and its registers may no longer be its own.
    armed: bool,
    /// It has made a call since it was stopped.
    called: bool,
    /// What stood where the context is.
    below: Option<(RunAddr, Vec<u8>)>,
    _urgent: Option<Urgent>,
}

/// A call that the kernel has refused, and why.
pub type Refused = (Call, io::Error);

impl<'a> Borrowed<'a> {
    /// The thread's number.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Its registers, as it was stopped; `None`: it goes its own way.
    pub fn live(&self) -> Option<&Regs> {
        self.stopped.as_ref().map(|s| &s.live)
    }

    /// Names the mapping that the next call will make, where a later lp-apply finds it; `None` clears it.
    pub fn note_intent(&mut self, intent: Option<(RunAddr, u64)>) -> Result<(), BorrowError> {
        let (at, mut bytes) = match self.stub {
            true => (self.place.intent_at(), Vec::with_capacity(INTENT_LEN)),
            // Both in one: the thread stands still.
            false => (self.place.at, stub_up_to_intent()),
        };
        bytes.extend(encode_intent(intent));
        let written = self.target.memory.write(at, &bytes).and_then(|()| step("intent"));
        written.map_err(self.failed("writing the intent"))?;
        self.stub = true;
        Ok(())
    }

    /// Makes the thread run these system calls, up to the first that fails: it is the inner error. All of one kind, and for
    /// different addresses.
    pub fn run(&mut self, calls: &[Call]) -> Result<Result<(), Refused>, BorrowError> {
        let mut left = calls;
        while let Some(call) = left.first() {
            self.hold(left)?;
            self.write_stub()?;
            let errand = self.hold(left)?.errands && !self.target.memory.refuses();
            let made = if errand { self.run_errand(left)? } else { self.run_live(call)? };
            match made {
                Ok(n) => left = left.get(n..).unwrap_or_default(),
                Err(e) => return Ok(Err((*call, e))),
            }
            step("called").map_err(self.failed("the injected call"))?;
        }
        Ok(Ok(()))
    }

    /// Sends it on an errand. How many calls it has made; if it has not made the first, it makes that one live.
    fn run_errand(&mut self, calls: &[Call]) -> Result<io::Result<usize>, BorrowError> {
        let errand = self.send_on_errand(calls)?;
        let (made, misplaced) = errand.outcome(self)?;
        if let (Some(at), Some(call)) = (misplaced, calls.get(made)) {
            let _ = self.call(&live::unmap(at, call))?;
        }
        match calls.first() {
            Some(first) if made == 0 => self.run_live(first),
            _ => Ok(Ok(made)),
        }
    }

    /// The thread, stopped; or another that may make these calls, if it has ended or gone where it cannot be borrowed.
    fn hold(&mut self, calls: &[Call]) -> Result<&mut Stopped, BorrowError> {
        if self.stopped.is_none() {
            let maps = self.target.maps()?;
            self.kept = (None, None);
            let mut again = match Self::stop(self.target, self.place, self.tid, &maps, calls) {
                Err(BorrowError::NoThread { .. }) => Self::take(self.target, self.place, calls),
                again => again,
            }?;
            again.stub = self.stub;
            again.kept.0.get_or_insert(maps);
            *self = again;
        }
        let gone = BorrowError::Gone { pid: self.target.process.pid };
        self.stopped.as_mut().ok_or(gone)
    }

    /// Writes the stub: dead bytes until the registers of a thread point there.
    fn write_stub(&mut self) -> Result<(), BorrowError> {
        if self.stub {
            return Ok(());
        }
        let written = self.target.memory.write(self.place.at, &STUB).and_then(|()| step("stub"));
        written.map_err(self.failed("writing the stub"))?;
        self.stub = true;
        Ok(())
    }

    /// Writes what the thread goes home with, and the calls that it makes before, below its stack.
    fn write_below(&mut self, calls: &[Call]) -> Result<(), BorrowError> {
        let failed = self.failed("writing the saved context");
        let memory = &self.target.memory;
        let Some(stopped) = &mut self.stopped else { return Ok(()) };
        let no_room = || io::Error::other("the stack pointer is 0");
        let saved = stub::saved_list(&stopped.original, stopped.mask, calls).ok_or_else(no_room);
        let written = saved.and_then(|(at, bytes)| {
            // A small stack may have ended above, and this may be somebody's data: it comes back when the thread goes home.
            // Who runs errands has room.
            if stopped.below.is_none() && calls.is_empty() {
                stopped.below = Some((at, memory.read_vec(at, bytes.len())?));
            }
            memory.write(at, &bytes)
        });
        written.and_then(|()| step("context")).map_err(failed)
    }

    /// Gives it these registers and blocks its signals. From here on it comes home by itself.
    fn set_off(&mut self, regs: &Regs) -> Result<(), BorrowError> {
        if let Some(stopped) = &mut self.stopped {
            (stopped.armed, stopped.called) = (true, true);
        }
        let mut sent = self.target.sent.borrow_mut();
        if !sent.contains(&self.tid) {
            sent.push(self.tid);
        }
        drop(sent);
        ptrace::set_regs(self.tid, regs).map_err(self.failed("PTRACE_SETREGS"))?;
        ptrace::set_signal_mask(self.tid, ALL_SIGNALS).map_err(self.failed("PTRACE_SETSIGMASK"))
    }

    /// Asks its seccomp filters once more if there are more of them: it has stood still, but the other threads have not.
    fn ask_again(&mut self, calls: &[Call]) -> Result<(), BorrowError> {
        let aids = self.kept.1.as_mut();
        aids.map_or(Ok(()), |aids| choice::ask_seccomp_again(self.target, self.place, self.tid, aids, calls))
    }

    /// Lets it go where it has set off to. Nobody waits for it.
    fn let_off(&mut self) -> Result<(), BorrowError> {
        // Forgotten once it has gone: that takes time.
        let _stopped = self.stopped.take();
        self.target.memory.with_stopped(None);
        let target = self.target;
        detach(self.tid).map_err(self.failed("PTRACE_DETACH")).inspect_err(|_| {
            // It may be on its way all the same.
            target.astray.set(Some(self.tid));
        })
    }

    /// Sends it through `code`, which takes it home by itself. Nobody waits for it any more.
    ///
    /// # Errors
    /// It may be on its way all the same if letting it go has failed.
    pub fn send(mut self, code: RunAddr) -> Result<(), BorrowError> {
        self.write_below(&[])?;
        self.ask_again(&[])?;
        let Some(stopped) = &self.stopped else { return Ok(()) };
        self.set_off(&stub::sent(&stopped.original, code))?;
        self.let_off()
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> BorrowError + use<> {
        let tid = self.tid;
        move |source| BorrowError::Call { what, tid, source }
    }

    /// Lets the thread go on as if nothing had been.
    pub fn give_back(mut self) -> Result<(), BorrowError> {
        self.go_home()
    }

    fn go_home(&mut self) -> Result<(), BorrowError> {
        let Some(stopped) = self.stopped.take() else { return Ok(()) };
        let _held = Held { pid: self.target.process.pid, tid: self.tid };
        let restored = match stopped.armed {
            true => ptrace::set_signal_mask(self.tid, stopped.mask).map_err(self.failed("PTRACE_SETSIGMASK")),
            false => Ok(()),
        };
        let set = || ptrace::set_regs(self.tid, &stopped.original).map_err(self.failed("PTRACE_SETREGS"));
        let restored = restored.and_then(|()| set());
        let tidied = match (&restored, &stopped.below) {
            (Ok(()), Some((at, bytes))) => {
                self.target.memory.write(*at, bytes).map_err(self.failed("tidying the stack"))
            }
            _ => Ok(()),
        };
        self.target.memory.with_stopped(None);
        if restored.is_err() {
            // It is on its way, and will make its call when it runs again. Until then nothing may be done in the target.
            self.target.astray.set(Some(self.tid));
        }
        restored.and(tidied)
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        // An error is on its way already; the stub brings the thread back if this fails too.
        let _ = self.go_home();
    }
}
