//! x86-64: the injected stub, what a thread must look like to run it, and the jump over an old function.
//!
//! Source: Linux x86-64 system call convention (syscall(2)); Intel SDM vol. 2 for the encodings.

pub mod plt;
pub mod stub;

use crate::sys::ptrace::Regs;
use lpb::{JUMP_LEN, RunAddr};

/// Stands at the start of code that is reached by indirect branches, where CET is used.
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// `mmap`, `mprotect`, `munmap` of asm/unistd_64.h.
pub const SYS_MMAP: u64 = 9;
/// See [`SYS_MMAP`].
pub const SYS_MPROTECT: u64 = 10;
/// See [`SYS_MMAP`].
pub const SYS_MUNMAP: u64 = 11;
/// restart_syscall(2).
pub const SYS_RESTART_SYSCALL: u64 = 219;

const SYSCALL_LEN: u64 = 2;
/// `cs` of a 64-bit user thread on Linux.
const USER_CS: u64 = 0x33;

/// System calls that any ptrace stop makes return EINTR although no signal came, and that can simply be made again:
/// nothing has been consumed when they fail so.
///
/// semop msgsnd msgrcv rt_sigtimedwait io_getevents semtimedop epoll_wait epoll_pwait io_pgetevents epoll_pwait2.
/// Source: signal(7), "Interruption of system calls and library functions by stop signals".
const EINTR_ON_STOP: [u64; 10] = [65, 69, 70, 128, 208, 220, 232, 281, 333, 441];

/// The same, but only if a socket has a timeout, if the time that is left cannot be written back, or without anything submitted.
///
/// read write readv writev select connect accept sendto recvfrom sendmsg recvmsg pselect6 ppoll accept4 recvmmsg sendmmsg
/// preadv2 pwritev2 io_uring_enter.
/// Source: signal(7), as above; `sock_intr_errno`, `poll_select_finish` and `io_cqring_wait` of Linux.
const EINTR_AT_TIMES: [u64; 19] = [0, 1, 19, 20, 23, 42, 43, 44, 45, 46, 47, 270, 271, 288, 299, 307, 327, 328, 426];

/// Whether a stop disturbs a thread that is blocked in this call.
pub fn disturbed_by_stop(nr: i64) -> bool {
    u64::try_from(nr).is_ok_and(|nr| EINTR_ON_STOP.contains(&nr))
}

/// Source: linux/errno.h.
const ERESTART_RESTARTBLOCK: u64 = 516;

/// Negative errno as the kernel leaves it in `rax`.
fn kernel_error(errno: u64) -> u64 {
    errno.wrapping_neg()
}

/// The error number in the result of a system call, if it is one.
pub fn error_of(result: u64) -> Option<i32> {
    let errno = result.wrapping_neg();
    (1..=4095).contains(&errno).then(|| i32::try_from(errno).unwrap_or(libc::EINVAL))
}

/// Whether the registers belong to 64-bit code.
pub fn is_64_bit(regs: &Regs) -> bool {
    regs.cs == USER_CS
}

/// Whether the thread was stopped in a call that failed with EINTR only because of the stop.
pub fn interrupted_by_stop(regs: &Regs) -> bool {
    regs.rax == kernel_error(4) && [&EINTR_ON_STOP[..], &EINTR_AT_TIMES].iter().any(|set| set.contains(&regs.orig_rax))
}

/// Whether the thread was stopped in a sleep that the kernel resumes by restart_syscall(2): it remembers how much of it is left.
pub fn resumed_by_call(regs: &Regs) -> bool {
    regs.rax == kernel_error(ERESTART_RESTARTBLOCK) && regs.orig_rax.cast_signed() >= 0
}

/// The registers with which the call of [`interrupted_by_stop`] is made again, unless a signal handler is about to run:
/// then it returns EINTR, as it should. The kernel decides, when the stop ends: this is its own code for such a call
/// (ERESTARTNOHAND), and so nothing is lost if the signal comes only now.
pub fn call_again(regs: &Regs) -> Regs {
    Regs { rax: kernel_error(514), ..*regs }
}

/// The registers with which a thread goes on without the kernel's help: a call that the kernel would restart when a stop
/// ends is restarted by hand. Source: the ERESTART codes of linux/errno.h.
fn unaided(regs: &Regs) -> Regs {
    let in_call = regs.orig_rax.cast_signed() >= 0;
    let rip = regs.rip.wrapping_sub(SYSCALL_LEN);
    match regs.rax.wrapping_neg() {
        512..=514 if in_call => Regs { rax: regs.orig_rax, rip, ..*regs },
        ERESTART_RESTARTBLOCK if in_call => Regs { rax: SYS_RESTART_SYSCALL, rip, ..*regs },
        _ => *regs,
    }
}

/// System calls in which a thread waits for something outside the process and holds no lock of a library.
/// `restart_syscall` is one of them that was stopped before.
const SLEEPS: [(u64, &str); 31] = [
    (0, "read"),
    (1, "write"),
    (7, "poll"),
    (SYS_PAUSE, "pause"),
    (19, "readv"),
    (20, "writev"),
    (23, "select"),
    (35, "nanosleep"),
    (42, "connect"),
    (43, "accept"),
    (44, "sendto"),
    (45, "recvfrom"),
    (46, "sendmsg"),
    (47, "recvmsg"),
    (61, "wait4"),
    (70, "msgrcv"),
    (128, "rt_sigtimedwait"),
    (130, "rt_sigsuspend"),
    (SYS_FUTEX, "futex"),
    (208, "io_getevents"),
    (SYS_RESTART_SYSCALL, "restart_syscall"),
    (230, "clock_nanosleep"),
    (232, "epoll_wait"),
    (247, "waitid"),
    (270, "pselect6"),
    (271, "ppoll"),
    (281, "epoll_pwait"),
    (288, "accept4"),
    (299, "recvmmsg"),
    (426, "io_uring_enter"),
    (441, "epoll_pwait2"),
];
const SYS_PAUSE: u64 = 34;
const SYS_FUTEX: u64 = 202;

/// The name of a call of [`SLEEPS`].
pub fn sleeps_in(nr: i64) -> Option<&'static str> {
    let nr = u64::try_from(nr).ok()?;
    SLEEPS.iter().find(|(known, _)| *known == nr).map(|(_, name)| *name)
}

/// Calls of [`SLEEPS`] that may wait for a disk or the like, which a stop has to wait for too.
const TOUCH_FILES: [&str; 6] = ["read", "write", "readv", "writev", "io_getevents", "io_uring_enter"];

/// Whether a thread that is blocked in this call waits so that a stop can interrupt it.
pub fn waits_interruptibly(nr: i64) -> bool {
    sleeps_in(nr).is_some_and(|name| !TOUCH_FILES.contains(&name))
}

/// Whether the registers are those of a thread that was stopped in a system call.
pub fn in_call(regs: &Regs) -> bool {
    regs.orig_rax.cast_signed() >= 0
}

/// The call that a stopped thread is asleep in, if it is one of [`SLEEPS`].
pub fn asleep(regs: &Regs) -> Option<&'static str> {
    let name = sleeps_in(regs.orig_rax.cast_signed())?;
    let waiting = matches!(regs.rax.wrapping_neg(), 512..=514 | 516) || interrupted_by_stop(regs);
    // FUTEX_WAIT is a lock, perhaps the allocator's; FUTEX_WAIT_BITSET a condition variable, semaphore or join of glibc.
    let operation = regs.rsi & 0x7f;
    let lock = regs.orig_rax == SYS_FUTEX && operation != FUTEX_WAIT_BITSET;
    (waiting && !lock).then_some(name)
}

/// Source: linux/futex.h.
const FUTEX_WAIT_BITSET: u64 = 9;

/// The interrupted thread's stack pointer, if `words` are the middle of a signal frame: `rsp rip eflags cs/gs/fs/ss`.
///
/// The last word is as good as a signature: `cs` 0x33 and `ss` 0x2b with zeroes between them.
/// Source: `struct sigcontext` of asm/sigcontext.h.
pub fn signal_frame_rsp(words: [u64; 4]) -> Option<RunAddr> {
    let [rsp, _, _, segments] = words;
    (segments == FRAME_MARK).then_some(RunAddr(rsp))
}

/// The last of the words of [`signal_frame_rsp`].
pub const FRAME_MARK: u64 = 0x002b_0000_0000_0033;

/// Whether a signal frame lies in these bytes of a stack, which begin with a word.
pub fn has_signal_frame(stack: &[u8]) -> bool {
    // Without a branch: a thread may stand still for it.
    stack.as_chunks().0.iter().fold(false, |found, word| found | (u64::from_le_bytes(*word) == FRAME_MARK))
}

/// Whether code that ends with these bytes may end in a call, so that a return address may point right behind it.
pub fn may_end_in_call(code: &[u8]) -> bool {
    let from_end = |n: usize| code.len().checked_sub(n).and_then(|i| code.get(i)).copied();
    // call rel32; call r/m64 with no, 8-bit or 32-bit displacement, with or without SIB.
    from_end(5) == Some(0xe8) || (2..=7).any(|n| from_end(n) == Some(0xff))
}

/// Why a jump cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a jump at {site} cannot reach {target}")]
pub struct OutOfReach {
    /// Where the jump would stand.
    pub site: RunAddr,
    /// Where it would go.
    pub target: RunAddr,
}

/// Encodes the `jmp rel32` written over the first 5 bytes of an old function.
///
/// Returns `E9`, then `target - (site + 5)` as little-endian `i32`. Source: Intel SDM vol. 2A, "JMP—Jump", row `E9 cd`.
///
/// # Errors
/// If the distance does not fit 32 bits.
pub fn encode_jmp(site: RunAddr, target: RunAddr) -> Result<[u8; 5], OutOfReach> {
    let fail = OutOfReach { site, target };
    let next = site.plus(JUMP_LEN).ok_or(fail)?;
    let [d0, d1, d2, d3] = distance(next, target).ok_or(fail)?.to_le_bytes();
    Ok([0xe9, d0, d1, d2, d3])
}

/// Where a jump that [`encode_jmp`] has made goes.
pub fn jump_target(site: RunAddr, jump: &[u8]) -> Option<RunAddr> {
    let (0xe9, displacement) = jump.split_first().map(|(op, rest)| (*op, rest))? else { return None };
    let displacement = i32::from_le_bytes(displacement.try_into().ok()?);
    Some(RunAddr(site.plus(JUMP_LEN)?.0.wrapping_add_signed(i64::from(displacement))))
}

/// Where a jump at `site` can go if only its first `free` bytes may be chosen and the rest must be `tail`: the displacement is
/// little-endian, so its upper bytes are given and the lower ones span a window. First and last address.
pub fn jump_window(site: RunAddr, free: usize, tail: &[u8]) -> Option<(RunAddr, RunAddr)> {
    let fill = |low: u8| {
        let mut displacement = [low; 4];
        let given = displacement.get_mut(free.checked_sub(1)?..)?;
        (given.len() == tail.len()).then(|| given.copy_from_slice(tail))?;
        let next = site.plus(JUMP_LEN)?;
        Some(RunAddr(next.0.wrapping_add_signed(i64::from(i32::from_le_bytes(displacement)))))
    };
    Some((fill(0)?, fill(0xff)?))
}

/// Bytes of [`absolute_jump`].
pub const ABSOLUTE_JUMP_LEN: u64 = 14;

/// `jmp *0(%rip)` and the address. Source: Intel SDM vol. 2A, "JMP—Jump", row `FF /4`.
pub fn absolute_jump(to: RunAddr) -> Vec<u8> {
    [&[0xff, 0x25, 0, 0, 0, 0][..], &to.0.to_le_bytes()].concat()
}

/// `to - from`, if it fits the displacement of a relative operand.
pub fn distance(from: RunAddr, to: RunAddr) -> Option<i32> {
    i32::try_from(to.0.wrapping_sub(from.0).cast_signed()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encode_jmp_up_to_and_past_its_limit() {
        // Expected bytes: GNU as + ld 2.40.
        let too_far = OutOfReach { site: RunAddr(0x1000), target: RunAddr(0x8000_1005) };
        for (why, target, want) in [
            ("itself", 0x1000, Ok([0xe9, 0xfb, 0xff, 0xff, 0xff])),
            ("furthest forward", 0x8000_1004, Ok([0xe9, 0xff, 0xff, 0xff, 0x7f])),
            ("one byte too far", 0x8000_1005, Err(too_far)),
        ] {
            assert_eq!(encode_jmp(RunAddr(0x1000), RunAddr(target)), want, "{why}");
        }
    }

    #[test]
    fn half_a_jump_spans_a_window() {
        let site = RunAddr(0x1000_0ffd);
        for (why, free, tail, first, last) in [
            ("one byte given", 4, &[0x00][..], 0x1000_1002, 0x1100_1001),
            ("two bytes given", 3, &[0x34, 0x12], 0x1000_1002 + 0x1234_0000, 0x1000_1002 + 0x1234_ffff),
            ("backwards", 4, &[0xff], 0x0f00_1002, 0x1000_1001),
            ("all given", 1, &[1, 0, 0, 0], 0x1000_1003, 0x1000_1003),
        ] {
            let window = jump_window(site, free, tail).unwrap();
            assert_eq!(window, (RunAddr(first), RunAddr(last)), "{why}");
            let jump = encode_jmp(site, window.1).unwrap();
            assert_eq!(&jump[free..], tail, "{why}");
        }
        assert_eq!(jump_window(site, 4, &[1, 2]), None, "the parts are not five bytes");
    }

    #[test]
    fn a_thread_goes_on_without_the_kernel() {
        let at = |rax: i64, orig: i64| Regs {
            rax: rax.cast_unsigned(),
            orig_rax: orig.cast_unsigned(),
            rip: 0x1002,
            ..Regs::default()
        };
        for (why, rax, orig, want_rax, want_rip) in [
            ("computing", 7, -1, 7, 0x1002),
            ("computing, with an odd value in rax", -516, -1, -516, 0x1002),
            ("read, to be restarted", -512, 0, 0, 0x1000),
            ("nanosleep, to be resumed", -516, 35, 219, 0x1000),
            ("a call that failed for good", -11, 0, -11, 0x1002),
        ] {
            let got = unaided(&at(rax, orig));
            assert_eq!((got.rax.cast_signed(), got.rip), (want_rax, want_rip), "{why}");
        }
    }

    #[test]
    fn sleeping_threads_hold_no_lock() {
        let regs = |rax: i64, orig_rax: i64, rsi| Regs {
            rax: rax.cast_unsigned(),
            orig_rax: orig_rax.cast_unsigned(),
            rsi,
            ..Regs::default()
        };
        for (why, regs, want) in [
            ("nanosleep", regs(-516, 35, 0), Some("nanosleep")),
            ("read that waits", regs(-512, 0, 0), Some("read")),
            ("read that has just returned", regs(5, 0, 0), None),
            ("epoll_wait, broken by the stop", regs(-4, 232, 0), Some("epoll_wait")),
            ("a condition variable", regs(-512, 202, 0x189), Some("futex")),
            ("a lock", regs(-512, 202, 0x80), None),
            ("mmap", regs(-512, 9, 0), None),
            ("computing", regs(-512, -1, 0), None),
        ] {
            assert_eq!(asleep(&regs), want, "{why}");
        }
    }

    #[test]
    fn only_calls_broken_by_the_stop_are_made_again() {
        let regs = |rax: i64, orig_rax| Regs { rax: rax.cast_unsigned(), orig_rax, rip: 0x1002, ..Regs::default() };
        for (why, rax, nr, want) in [
            ("epoll_wait with EINTR", -4, 232, true),
            ("epoll_wait with two events", 2, 232, false),
            ("read of a socket with a timeout", -4, 0, true),
            ("read with four bytes", 4, 0, false),
            ("nanosleep with EINTR: a real signal", -4, 35, false),
        ] {
            assert_eq!(interrupted_by_stop(&regs(rax, nr)), want, "{why}");
        }
        let again = call_again(&regs(-4, 232));
        assert_eq!((again.rax.cast_signed(), again.rip, again.orig_rax), (-514, 0x1002, 232));
        let dead = unaided(&again);
        assert_eq!((dead.rax, dead.rip), (232, 0x1000), "without the kernel's help");
    }

    #[test]
    fn code_that_may_end_in_a_call() {
        for (why, code, want) in [
            ("call rel32", &[0x90, 0xe8, 1, 2, 3, 4][..], true),
            ("call *%rax", &[0x90, 0xff, 0xd0], true),
            ("call *8(%rip)", &[0xff, 0x15, 8, 0, 0, 0], true),
            ("ret", &[0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3], false),
            ("nothing", &[], false),
        ] {
            assert_eq!(may_end_in_call(code), want, "{why}");
        }
    }
}
