//! Interrupts system calls that wait too long.

use super::ptrace;
use super::sched::{change_mask, set_of};
use std::time::Duration;
use std::{io, mem, ptr};

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

/// Has `signal` interrupt calls.
fn interrupt_by(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: sigaction is a struct of integers and pointers, for which all zeroes is a valid value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // Without SA_RESTART.
    #[allow(clippy::as_conversions, reason = "there is no other way to the address of a function")]
    let handler = (on_alarm as extern "C" fn(_, _, _)) as libc::sighandler_t;
    (action.sa_sigaction, action.sa_flags) = (handler, libc::SA_SIGINFO);
    // SAFETY: sigaction(2) reads `action`, which lives until it returns; the handler makes no call and touches nothing but what
    // the kernel has saved for its end.
    if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    change_mask(libc::SIG_UNBLOCK, &set_of(signal))
}

/// Before the first [`Alarm`].
pub(super) fn install() -> io::Result<()> {
    interrupt_by(own_signal())
}

/// One that nobody else uses: an alarm(2) that lp-apply was started with still ends it.
fn own_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// While it lives, a system call that waits is interrupted (EINTR) again and again.
#[must_use]
pub struct Alarm(Timer);

enum Timer {
    /// A timer of timer_create(2).
    Own(libc::c_int),
    /// The timer of setitimer(2), and how it was set: by another alarm, or by an alarm(2) that lp-apply was started with. That one
    /// no longer ends it from then on.
    Lent(libc::itimerval),
}

impl Alarm {
    /// Interrupts after each `period` of less than a second, from now on.
    pub fn every(period: Duration) -> io::Result<Self> {
        match Self::own(period) {
            // RLIMIT_SIGPENDING: the user may not have another one. The timer that every process has is not counted.
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => Self::lent(period),
            own => own,
        }
    }

    fn own(period: Duration) -> io::Result<Self> {
        // SAFETY: sigevent is a struct of integers and pointers, for which all zeroes is a valid value.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        (event.sigev_notify, event.sigev_signo) = (libc::SIGEV_SIGNAL, own_signal());
        let mut timer: libc::c_int = 0;
        // SAFETY: timer_create(2) reads `event` and writes `timer`, the kernel's number of it; both live until it returns.
        let made =
            unsafe { libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        let alarm = Self(Timer::Own(timer));
        let time = libc::timespec { tv_sec: 0, tv_nsec: period.subsec_nanos().into() };
        let times = libc::itimerspec { it_interval: time, it_value: time };
        let old = ptr::null_mut::<libc::itimerspec>();
        // SAFETY: timer_settime(2) reads `times`, which lives until it returns; the old ones are not asked for.
        match unsafe { libc::syscall(libc::SYS_timer_settime, timer, 0, &raw const times, old) } {
            0 => Ok(alarm),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn lent(period: Duration) -> io::Result<Self> {
        interrupt_by(libc::SIGALRM)?;
        let time = libc::timeval { tv_sec: 0, tv_usec: period.subsec_micros().into() };
        set_timer(&libc::itimerval { it_interval: time, it_value: time }).map(|before| Self(Timer::Lent(before)))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        match self.0 {
            Timer::Own(timer) => {
                // SAFETY: timer_delete(2) takes a number and touches no memory of ours.
                unsafe { libc::syscall(libc::SYS_timer_delete, timer) };
            }
            // It was set like that before, so it can be.
            Timer::Lent(before) => _ = set_timer(&before),
        }
    }
}

/// Sets the timer that sends SIGALRM; how it was set.
fn set_timer(times: &libc::itimerval) -> io::Result<libc::itimerval> {
    // SAFETY: itimerval is a struct of integers, for which all zeroes is a valid value.
    let mut before: libc::itimerval = unsafe { mem::zeroed() };
    // SAFETY: setitimer(2) reads `times` and writes `before`, which live until it returns.
    match unsafe { libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, ptr::from_ref(times), &raw mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}
