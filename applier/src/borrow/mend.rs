//! What a stop breaks is mended, so that a thread goes on as if there had been none.

use crate::arch::x86_64 as arch;
use crate::identify::seccomp::{self, Call};
use crate::sys::ptrace::{Regs, Tid};
use crate::sys::{filters, proc};
use lpb::RunAddr;
use std::fs;
use std::io;

/// The registers with which a stopped thread has to go on, if they are not those that it was stopped with: its call would fail with
/// EINTR, or the kernel would resume it by a call that a seccomp filter does not know.
pub fn mended(tid: Tid, regs: &Regs) -> Option<Regs> {
    let broken = arch::interrupted_by_stop(regs) || arch::resumed_by_call(regs) && !may_resume(tid, RunAddr(regs.rip));
    broken.then(|| arch::call_again(regs))
}

/// Whether the filters of a stopped thread let it call restart_syscall(2).
fn may_resume(tid: Tid, at: RunAddr) -> bool {
    let call = Call { nr: arch::SYS_RESTART_SYSCALL, args: [0; 6] };
    match filters::of(tid) {
        Ok(filters) => seccomp::answer(&filters, &call, at).harmless(),
        // It has none.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => true,
        // Only root may ask. A sleep that starts anew does less harm.
        Err(_) => has_no_filter(tid).unwrap_or(false),
    }
}

fn has_no_filter(tid: Tid) -> io::Result<bool> {
    let status = fs::read(format!("/proc/{tid}/status"))?;
    Ok(proc::field(&status, "Seccomp").as_deref() == Some("0"))
}
