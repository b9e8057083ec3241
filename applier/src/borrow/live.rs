//! A live call: the thread makes one call while it is ours, and stands still behind it.

use super::{BorrowError, Borrowed, PATIENCE};
use crate::arch::x86_64::stub::{self, InStub};
use crate::arch::x86_64::{SYS_MMAP, SYS_MUNMAP, error_of, in_call};
use crate::identify::seccomp::Call;
use crate::sys::ptrace::{self, Event};
use lpb::RunAddr;
use std::io;
use std::time::Instant;

impl Borrowed<'_> {
    /// Makes one call live.
    pub(super) fn run_live(&mut self, call: &Call) -> Result<io::Result<usize>, BorrowError> {
        Ok(match self.call(call)? {
            Ok(got) if call.nr == SYS_MMAP && Some(&got) != call.args.first() => {
                // Somewhere else: an old kernel, or a hostile target. Take it back at once.
                let _ = self.call(&unmap(RunAddr(got), call))?;
                Err(io::Error::from_raw_os_error(libc::EEXIST))
            }
            made => made.map(|_| 1),
        })
    }

    /// Makes the thread run one system call. `Ok(Err(errno))`: the call itself failed.
    pub(super) fn call(&mut self, call: &Call) -> Result<io::Result<u64>, BorrowError> {
        let stopped = self.hold(std::slice::from_ref(call))?;
        // A thread that computes goes on between two calls, so that it never stands still for more than one of them; one that
        // sleeps does not notice.
        if stopped.called && !in_call(&stopped.live) {
            self.go_home()?;
        }
        self.write_stub()?;
        self.write_below(&[])?;
        let original = self.hold(std::slice::from_ref(call))?.original;
        self.ask_again(std::slice::from_ref(call))?;
        // The filters allow it. If another thread adds one from now on, that must not kill this one for what it does for us.
        ptrace::suspend_seccomp(self.tid);
        self.set_off(&stub::armed(&original, self.place.at, call))?;
        let result = self.run_call()?;
        Ok(error_of(result).map_or(Ok(result), |errno| Err(io::Error::from_raw_os_error(errno))))
    }

    fn run_call(&self) -> Result<u64, BorrowError> {
        let (tid, stub) = (self.tid, self.place.at);
        ptrace::cont_to_syscall(tid).map_err(self.failed("PTRACE_SYSCALL"))?;
        // A group-stop, or an interrupt still pending, may come in between: the registers tell how far the thread is.
        for _ in 0..64 {
            match self.next("enter the injected call")? {
                Event::Syscall => {
                    ptrace::interrupt(tid).map_err(self.failed("PTRACE_INTERRUPT"))?;
                    ptrace::cont(tid, 0).map_err(self.failed("PTRACE_CONT"))?;
                }
                stop @ (Event::Stop | Event::GroupStop) => {
                    let regs = ptrace::regs(tid).map_err(self.failed("PTRACE_GETREGS"))?;
                    match stub::in_stub(&regs, stub) {
                        InStub::Done(result) => return Ok(result),
                        InStub::Before => ptrace::cont_to_syscall(tid).map_err(self.failed("PTRACE_SYSCALL"))?,
                        InStub::Elsewhere => return Err(BorrowError::Strange { tid, event: stop }),
                    }
                }
                // SIGSTOP, which cannot be blocked. It takes effect, and the thread works on for us meanwhile.
                Event::Signal(signal) => {
                    ptrace::interrupt(tid).map_err(self.failed("PTRACE_INTERRUPT"))?;
                    ptrace::cont(tid, signal).map_err(self.failed("PTRACE_CONT"))?;
                }
                Event::Exited => return Err(BorrowError::Gone { pid: self.target.process.pid }),
                event => return Err(BorrowError::Strange { tid, event }),
            }
        }
        Err(BorrowError::Slow { what: "finish the injected call", tid })
    }

    fn next(&self, what: &'static str) -> Result<Event, BorrowError> {
        let event = ptrace::next(self.tid, Instant::now().checked_add(PATIENCE).unwrap_or_else(Instant::now));
        event.map_err(self.failed("waiting"))?.ok_or(BorrowError::Slow { what, tid: self.tid })
    }
}

/// The call that takes back what `call` has mapped at another place.
pub(super) fn unmap(at: RunAddr, call: &Call) -> Call {
    let [_, len, ..] = call.args;
    Call { nr: SYS_MUNMAP, args: [at.0, len, 0, 0, 0, 0] }
}
