//! lp-apply's own standing with the kernel: how it is woken, how it is scheduled, how it dies in tests.

use super::alarm;
use std::time::Duration;
use std::{io, mem, ptr};

/// Makes stops of traced threads wake [`wait_child`]: SIGCHLD is blocked and not ignored. SIGTSTP is blocked as well. The
/// signal of [`alarm::Alarm`] only interrupts.
///
/// Source: signal(7): a blocked signal stays pending, even if its default action is to be ignored; ptrace(2): the tracer
/// gets SIGCHLD for stops of its tracees.
pub fn listen_for_children() -> io::Result<()> {
    // SAFETY: signal(2) with SIG_DFL installs no handler; it only changes the disposition of SIGCHLD.
    if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    let mut set = set_of(libc::SIGCHLD);
    // Ctrl-Z has to wait too: while lp-apply stands still, so do the threads that it has stopped.
    // SAFETY: sigaddset(3) writes only `set`, which is initialised and borrowed for the call.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGTSTP) };
    change_mask(libc::SIG_BLOCK, &set)?;
    alarm::install()
}

pub(super) fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: sigprocmask(2) reads `set`, which lives until it returns; the old mask is not asked for.
    match unsafe { libc::sigprocmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(super) fn set_of(signal: libc::c_int) -> libc::sigset_t {
    // SAFETY: sigset_t is a plain array of integers, for which all zeroes is a valid value.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: sigaddset(3) writes only `set`, which is initialised and borrowed for the call.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    set
}

/// Sleeps until a traced thread changes state, at most `limit`. It may return early for no reason.
pub fn wait_child(limit: Duration) {
    let set = set_of(libc::SIGCHLD);
    let limit = libc::timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    // SAFETY: sigtimedwait(2) reads `set` and `limit`, which live until it returns; siginfo is not asked for.
    unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const limit) };
}

/// Brings all of lp-apply into memory and keeps it there: a page of it that had to be fetched, perhaps from a disk, would be
/// waited for by threads that stand still. What is asked for later is not kept: that could fail. A refusal (RLIMIT_MEMLOCK)
/// changes nothing.
pub fn stay_in_memory() {
    // SAFETY: mlockall(2) changes no memory, only whether pages of ours may be absent.
    unsafe { libc::mlockall(libc::MCL_CURRENT) };
}

/// While it lives, lp-apply runs before ordinary threads, if the system allows it.
///
/// A thread that is resumed would otherwise preempt the tool before it has resumed the next one.
pub struct Urgent {
    before: Option<(libc::c_int, libc::sched_param)>,
}

impl Urgent {
    /// Raises this thread to SCHED_FIFO 1. A refusal (no privilege) changes nothing.
    pub fn raise() -> Self {
        // SAFETY: sched_param is a struct of integers, for which all zeroes is a valid value.
        let mut before: libc::sched_param = unsafe { mem::zeroed() };
        // SAFETY: sched_getscheduler(2) of the calling thread touches no memory of ours.
        let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
        // SAFETY: sched_getparam(2) writes only `before`, which lives until it returns.
        let read = unsafe { libc::syscall(libc::SYS_sched_getparam, 0, &raw mut before) };
        let (Ok(policy), 0) = (libc::c_int::try_from(policy), read) else {
            return Self { before: None };
        };
        let mut urgent = before;
        urgent.sched_priority = 1;
        Self { before: set_scheduler(libc::SCHED_FIFO, &urgent).then_some((policy, before)) }
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if let Some((policy, param)) = self.before.take() {
            set_scheduler(policy, &param);
        }
    }
}

/// The raw system call: musl's wrapper only returns ENOSYS.
fn set_scheduler(policy: libc::c_int, param: &libc::sched_param) -> bool {
    // SAFETY: sched_setscheduler(2) of the calling thread reads `param`, which lives until it returns.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, ptr::from_ref(param)) == 0 }
}

/// Dies as by `kill -9`: no destructor runs.
#[cfg(debug_assertions)]
pub fn kill_self() {
    // SAFETY: kill(2) touches no memory; getpid(2) cannot fail.
    let pid = unsafe { libc::getpid() };
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}
