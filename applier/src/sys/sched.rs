//! lp-apply's own standing with the kernel: how it is woken, how it is scheduled, how it dies in tests.

use super::ptrace;
use std::time::Duration;
use std::{io, mem, ptr};

/// Makes stops of traced threads wake [`wait_child`]: SIGCHLD is blocked and not ignored. SIGTSTP is blocked as well. The
/// signal of [`Alarm`] only interrupts.
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
    // SAFETY: sigaction is a struct of integers and pointers, for which all zeroes is a valid value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // Without SA_RESTART.
    #[allow(clippy::as_conversions, reason = "there is no other way to the address of a function")]
    let handler = (on_alarm as extern "C" fn(_, _, _)) as libc::sighandler_t;
    (action.sa_sigaction, action.sa_flags) = (handler, libc::SA_SIGINFO);
    // SAFETY: sigaction(2) reads `action`, which lives until it returns; its handler makes no call and touches
    // nothing but what the kernel has saved for its end.
    if unsafe { libc::sigaction(alarm_signal(), &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    change_mask(libc::SIG_UNBLOCK, &set_of(alarm_signal()))
}

/// The instruction that makes a system call.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Most calls that the alarm interrupts return EINTR. SEIZE does not: the kernel makes it again, whatever sigaction(2) says. So it is
/// skipped here, with EINTR for its result.
///
/// Source: `ptrace_attach` of Linux (ERESTARTNOINTR); `struct ucontext` of asm/ucontext.h and `struct sigcontext` of
/// asm/sigcontext.h, in words.
extern "C" fn on_alarm(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    const REGISTERS: usize = 5;
    const RDI: usize = REGISTERS + 8;
    const RAX: usize = REGISTERS + 13;
    const RIP: usize = REGISTERS + 16;
    // SAFETY: the kernel has written a `struct ucontext` there, which begins with so many words, and nobody else uses it.
    let words = unsafe { &mut *context.cast::<[u64; RIP + 1]>() };
    let (call, request) = (words[RAX].cast_signed(), words[RDI].cast_signed());
    if (call, request) != (libc::SYS_ptrace, ptrace::SEIZE) {
        return;
    }
    let code = ptr::with_exposed_provenance::<[u8; 2]>(lpb::addr::to_usize(words[RIP]));
    // SAFETY: this thread runs that code, or will, next.
    if unsafe { code.read_unaligned() } == SYSCALL {
        words[RAX] = i64::from(-libc::EINTR).cast_unsigned();
        words[RIP] = words[RIP].wrapping_add(2);
    }
}

fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: sigprocmask(2) reads `set`, which lives until it returns; the old mask is not asked for.
    match unsafe { libc::sigprocmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_of(signal: libc::c_int) -> libc::sigset_t {
    // SAFETY: sigset_t is a plain array of integers, for which all zeroes is a valid value.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: sigaddset(3) writes only `set`, which is initialised and borrowed for the call.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    set
}

/// While it lives, a system call that waits is interrupted (EINTR) again and again.
#[must_use]
pub struct Alarm {
    timer: libc::c_int,
}

impl Alarm {
    /// Interrupts after each `period` of less than a second, from now on.
    pub fn every(period: Duration) -> io::Result<Self> {
        // SAFETY: sigevent is a struct of integers and pointers, for which all zeroes is a valid value.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, alarm_signal());
        let mut timer: libc::c_int = 0;
        // SAFETY: timer_create(2) reads `event` and writes `timer`, the kernel's number of it; both live until it returns.
        let made =
            unsafe { libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        let alarm = Self { timer };
        let time = libc::timespec { tv_sec: 0, tv_nsec: period.subsec_nanos().into() };
        let times = libc::itimerspec { it_interval: time, it_value: time };
        let old = ptr::null_mut::<libc::itimerspec>();
        // SAFETY: timer_settime(2) reads `times`, which lives until it returns; the old ones are not asked for.
        match unsafe { libc::syscall(libc::SYS_timer_settime, alarm.timer, 0, &raw const times, old) } {
            0 => Ok(alarm),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: timer_delete(2) takes a number and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_timer_delete, self.timer) };
    }
}

/// One that nobody else uses: an alarm(2) that lp-apply was started with still ends it.
fn alarm_signal() -> libc::c_int {
    libc::SIGRTMIN()
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
