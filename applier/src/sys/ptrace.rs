//! One traced thread. Every rule here comes from measurements of what survives the tracer's own `kill -9`:
//!
//! * SEIZE, never ATTACH: a seized thread is not stopped and gets no SIGSTOP of ours.
//! * `PTRACE_O_TRACESYSGOOD` always: without it a system-call stop whose tracer dies becomes a SIGTRAP for the target.
//! * Stops are looked at with `WNOWAIT`, never consumed: a signal that the tracer has taken in hand but not given back
//!   dies with the tracer.
//! * Never `PTRACE_SINGLESTEP`, for the same reason as the second.
//!
//! Source: ptrace(2), waitid(2); linux/ptrace.h for the numbers that libc does not name.

use super::alarm::Alarm;
use super::{fault, sched};
use lpb::RunAddr;
use std::time::{Duration, Instant};
use std::{fmt, io, mem, ptr};

/// Thread id, as in `/proc/PID/task`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub i32);

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `struct user_regs_struct` of sys/user.h: what PTRACE_GETREGS fills, 27 words in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs, reason = "register names of the processor manual")]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}
const _: () = assert!(size_of::<Regs>() == 216);

impl Regs {
    /// Those that hold whatever a program likes.
    pub fn general(&self) -> [u64; 15] {
        let r = self;
        [r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15]
    }
}

/// `struct ptrace_rseq_configuration` of linux/ptrace.h.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct RseqConfiguration {
    abi_pointer: u64,
    abi_size: u32,
    signature: u32,
    flags: u32,
    pad: u32,
}

/// What a thread's stop means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// PTRACE_EVENT_STOP: after INTERRUPT, or a newborn thread.
    Stop,
    /// The same, and SIGSTOP or the like holds it, so that it will not run once it is let go.
    GroupStop,
    /// At the entry or exit of a system call, after PTRACE_SYSCALL.
    Syscall,
    /// About to get this signal.
    Signal(i32),
    /// Has made a thread with this id.
    Clone(Tid),
    /// Has replaced its program.
    Exec,
    /// Is dead.
    Exited,
}

/// In the request's register.
pub(super) const SEIZE: libc::c_long = 0x4206;

mod request {
    use std::ffi::c_long;
    pub const POKEDATA: c_long = 5;
    pub const CONT: c_long = 7;
    pub const GETREGS: c_long = 12;
    pub const SETREGS: c_long = 13;
    pub const DETACH: c_long = 17;
    pub const SYSCALL: c_long = 24;
    pub const SETOPTIONS: c_long = 0x4200;
    pub const GETEVENTMSG: c_long = 0x4201;
    pub const INTERRUPT: c_long = 0x4207;
    pub const GETSIGMASK: c_long = 0x420a;
    pub const SETSIGMASK: c_long = 0x420b;
    pub const GET_RSEQ_CONFIGURATION: c_long = 0x420f;
    pub const GET_SYSCALL_USER_DISPATCH_CONFIG: c_long = 0x4211;
}

/// How long an exec of the target may hold up the seizing before the dead are looked for.
const REAPING: Duration = Duration::from_millis(5);
const O_TRACESYSGOOD: usize = 1;
const O_TRACECLONE: usize = 8;
const O_TRACEEXEC: usize = 0x10;
const O_SUSPEND_SECCOMP: usize = 1 << 21;
const EVENT_CLONE: i32 = 3;
const EVENT_EXEC: i32 = 4;
const EVENT_STOP: i32 = 128;
/// Bytes of the kernel's sigset.
const SIGSET_LEN: usize = 8;

/// ptrace(2) whose `data` is a number.
fn plain(request: libc::c_long, tid: Tid, data: usize) -> io::Result<()> {
    // SAFETY: the requests of this module that come here take numbers, so the kernel touches no memory of ours.
    let n = unsafe { libc::syscall(libc::SYS_ptrace, request, libc::c_long::from(tid.0), 0_usize, data) };
    if n == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// ptrace(2) whose `data` points to a value that the kernel reads or writes.
fn with_data<T>(request: libc::c_long, tid: Tid, addr: usize, data: &mut T) -> io::Result<()> {
    let data = ptr::from_mut(data);
    // SAFETY: `data` is a live, exclusively borrowed value. Each caller pairs a request with the type that ptrace(2) names
    // for it, made of integers only, and passes its size where the request wants one.
    let n = unsafe { libc::syscall(libc::SYS_ptrace, request, libc::c_long::from(tid.0), addr, data) };
    if n == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Seizes threads, and does not wait longer for it than [`REAPING`].
pub struct Seizer {
    _alarm: Alarm,
}

impl Seizer {
    /// As long as it lives, other calls that wait are interrupted too.
    pub fn new() -> io::Result<Self> {
        Ok(Self { _alarm: Alarm::every(REAPING)? })
    }

    /// Begins to trace a running thread without stopping it. Its future threads are traced too if `newborns`.
    ///
    /// # Errors
    /// EINTR: the target is in exec.
    pub fn seize(&self, tid: Tid, newborns: bool) -> io::Result<()> {
        let clones = if newborns { O_TRACECLONE } else { 0 };
        plain(SEIZE, tid, O_TRACESYSGOOD | O_TRACEEXEC | clones)?;
        fault::step("seize")
    }
}

/// Has the seccomp filters of a stopped thread do nothing as long as it is ours; its newborns are not. If the kernel does not
/// allow that (it needs CAP_SYS_ADMIN and CONFIG_CHECKPOINT_RESTORE), nothing changes.
pub fn suspend_seccomp(tid: Tid) {
    let _ = plain(request::SETOPTIONS, tid, O_TRACESYSGOOD | O_TRACEEXEC | O_SUSPEND_SECCOMP);
}

/// Asks a seized thread to stop; [`Event::Stop`] follows.
pub fn interrupt(tid: Tid) -> io::Result<()> {
    plain(request::INTERRUPT, tid, 0)?;
    fault::step("interrupt")
}

/// Lets a stopped thread run, delivering `signal` (0: none).
pub fn cont(tid: Tid, signal: i32) -> io::Result<()> {
    plain(request::CONT, tid, usize::try_from(signal).unwrap_or(0))?;
    fault::step("cont")
}

/// Lets a stopped thread run up to the next system-call stop.
pub fn cont_to_syscall(tid: Tid) -> io::Result<()> {
    plain(request::SYSCALL, tid, 0)?;
    fault::step("cont-to-syscall")
}

/// Lets a stopped thread go, delivering `signal` (0: none).
pub fn detach(tid: Tid, signal: i32) -> io::Result<()> {
    plain(request::DETACH, tid, usize::try_from(signal).unwrap_or(0))?;
    fault::step("detach")
}

/// Lets a thread go that has called exec. It may not have been the first thread of its process, whose number it has now: the kernel
/// takes requests for mistakes until somebody has been told of the exec. No signal goes with this stop.
///
/// Source: `looks_like_a_spurious_pid` of kernel/ptrace.c, since Linux 5.13.
pub fn detach_after_exec(tid: Tid) -> io::Result<()> {
    wait_id(tid, libc::WSTOPPED | libc::WNOHANG | libc::__WALL)?;
    detach(tid, 0)
}

/// General registers of a stopped thread.
pub fn regs(tid: Tid) -> io::Result<Regs> {
    let mut regs = Regs::default();
    with_data(request::GETREGS, tid, 0, &mut regs)?;
    Ok(regs)
}

/// Sets the general registers of a stopped thread.
pub fn set_regs(tid: Tid, regs: &Regs) -> io::Result<()> {
    with_data(request::SETREGS, tid, 0, &mut { *regs })?;
    fault::step("set-regs")
}

/// Blocked signals of a stopped thread, one bit each.
pub fn signal_mask(tid: Tid) -> io::Result<u64> {
    let mut mask = 0_u64;
    with_data(request::GETSIGMASK, tid, SIGSET_LEN, &mut mask)?;
    Ok(mask)
}

/// Sets the blocked signals of a stopped thread.
pub fn set_signal_mask(tid: Tid, mask: u64) -> io::Result<()> {
    with_data(request::SETSIGMASK, tid, SIGSET_LEN, &mut { mask })?;
    fault::step("set-signal-mask")
}

/// Writes one word into the memory of a stopped thread, read-only or not.
pub fn poke(tid: Tid, at: RunAddr, word: u64) -> io::Result<()> {
    let tid = libc::c_long::from(tid.0);
    // SAFETY: PTRACE_POKEDATA takes an address of the other process and a number; no memory of ours is touched.
    let n = unsafe { libc::syscall(libc::SYS_ptrace, request::POKEDATA, tid, at.0, word) };
    if n == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Where the thread's `struct rseq` is; `None`: it has none, or the kernel (before 5.13) cannot say.
pub fn rseq_area(tid: Tid) -> Option<RunAddr> {
    let mut conf = RseqConfiguration::default();
    with_data(request::GET_RSEQ_CONFIGURATION, tid, size_of::<RseqConfiguration>(), &mut conf).ok()?;
    (conf.abi_pointer != 0).then_some(RunAddr(conf.abi_pointer))
}

/// Whether a thread has its system calls caught by SIGSYS (`PR_SET_SYSCALL_USER_DISPATCH`). Before Linux 6.4 nobody can tell.
///
/// Source: `struct ptrace_sud_config` of linux/ptrace.h: mode, selector, offset, length.
pub fn dispatches_syscalls(tid: Tid) -> bool {
    let mut config = [0_u64; 4];
    let told = with_data(request::GET_SYSCALL_USER_DISPATCH_CONFIG, tid, size_of_val(&config), &mut config);
    told.is_ok() && config[0] != 0
}

fn event_message(tid: Tid) -> io::Result<u64> {
    let mut message = 0_u64;
    with_data(request::GETEVENTMSG, tid, 0, &mut message)?;
    Ok(message)
}

/// The thread's present stop, without consuming it; `None`: it is running. An exit is consumed, so that the thread can go.
pub fn poll(tid: Tid) -> io::Result<Option<Event>> {
    let look = libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    let Some((code, status)) = wait_id(tid, look)? else {
        return Ok(None);
    };
    if matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) {
        wait_id(tid, libc::WEXITED | libc::WNOHANG | libc::__WALL)?;
        return Ok(Some(Event::Exited));
    }
    Ok(Some(match (status & 0xff, status >> 8) {
        // Source: ptrace(2) "Group-stop": an interrupt stops with SIGTRAP, a group-stop with its signal.
        (libc::SIGTRAP, EVENT_STOP) => Event::Stop,
        (_, EVENT_STOP) => Event::GroupStop,
        (_, EVENT_CLONE) => Event::Clone(Tid(i32::try_from(event_message(tid)?).unwrap_or(0))),
        (_, EVENT_EXEC) => Event::Exec,
        (signal, 0) if signal == libc::SIGTRAP | 0x80 => Event::Syscall,
        (signal, _) => Event::Signal(signal),
    }))
}

/// Any thread or process of ours that has something to report.
pub fn any() -> Option<Tid> {
    any_of(libc::WSTOPPED | libc::WEXITED)
}

/// Any thread or process of ours that has ended.
pub fn any_dead() -> Option<Tid> {
    any_of(libc::WEXITED)
}

fn any_of(states: libc::c_int) -> Option<Tid> {
    // SAFETY: siginfo_t is made of integers and pointers, for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let look = states | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: waitid(2) writes only `info`, which lives until it returns.
    let looked = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, look) };
    // SAFETY: waitid filled in the SIGCHLD fields of `info`, or left it all zeroes.
    let pid = unsafe { info.si_pid() };
    (looked == 0 && pid != 0).then_some(Tid(pid))
}

/// waitid(2) for one thread: `(si_code, si_status)`, or `None` if there is nothing to report.
fn wait_id(tid: Tid, options: libc::c_int) -> io::Result<Option<(i32, i32)>> {
    let Ok(id) = libc::id_t::try_from(tid.0) else {
        return Err(io::Error::from_raw_os_error(libc::ECHILD));
    };
    // SAFETY: siginfo_t is made of integers and pointers, for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: waitid(2) writes only `info`, which lives until it returns.
    if unsafe { libc::waitid(libc::P_PID, id, &raw mut info, options) } == -1 {
        let e = io::Error::last_os_error();
        // ECHILD: nothing of ours by that number, so the thread is gone.
        return if e.raw_os_error() == Some(libc::ECHILD) { Ok(Some((libc::CLD_EXITED, 0))) } else { Err(e) };
    }
    // SAFETY: waitid filled in the SIGCHLD fields of `info`, or left it all zeroes.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok((pid != 0).then_some((info.si_code, status)))
}

/// Waits until this thread has something to report, at most about `limit`. After some polling it sleeps: what others report does
/// not wake lp-apply, which would take the processor from those that are still on their way.
pub fn wait_for(tid: Tid, polling: Duration, limit: Duration) -> io::Result<()> {
    let look = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    let begun = Instant::now();
    while !polling.is_zero() && begun.elapsed() < polling {
        if wait_id(tid, look | libc::WNOHANG)?.is_some() {
            return Ok(());
        }
        std::thread::yield_now();
    }
    let _alarm = Alarm::every(limit)?;
    match wait_id(tid, look) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        _ => Ok(()),
    }
}

/// How long a stop is polled for before lp-apply sleeps for it.
const SOON: Duration = Duration::from_micros(50);

/// The thread's next stop. `Ok(None)`: none came before `deadline`.
pub fn next(tid: Tid, deadline: Instant) -> io::Result<Option<Event>> {
    // Most stops come at once: being woken for them would take longer.
    let soon = Instant::now().checked_add(SOON).unwrap_or(deadline);
    loop {
        if let Some(event) = poll(tid)? {
            fault::step("stop-seen")?;
            return Ok(Some(event));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        if Instant::now() < soon {
            std::thread::yield_now();
            continue;
        }
        // SIGCHLD wakes us at once; the limit only covers a signal that another wait has taken.
        sched::wait_child(left.min(Duration::from_millis(2)));
    }
}
