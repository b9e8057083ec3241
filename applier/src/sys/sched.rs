//! lp-apply's own standing with the kernel: how it is woken, how it is scheduled, how it dies in tests.

use super::alarm;
use super::ptrace::Tid;
use std::fs::File;
use std::time::Duration;
use std::{io, mem, ptr};

/// Fails if lp-apply may not have so many files open as it does at a time: a file of a process that could not be opened for that
/// reason would look as if it was not there.
pub fn have_files() -> io::Result<()> {
    const FILES: usize = 12;
    let file = File::open("/")?;
    let files: io::Result<Vec<File>> = (1..FILES).map(|_| file.try_clone()).collect();
    files.map(drop)
}

/// A file that may not grow (RLIMIT_FSIZE) is an error of the write, and does not end lp-apply.
pub fn survive_full_files() {
    // SAFETY: signal(2) with SIG_IGN installs no handler; it only changes the disposition of SIGXFSZ.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

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

/// Brings lp-apply's program into memory and keeps there what it has: a page that had to be fetched, perhaps from a disk, would be
/// waited for by threads that stand still. What is asked for later is not kept: that could fail. A refusal (RLIMIT_MEMLOCK) changes
/// nothing.
pub fn stay_in_memory() {
    // SAFETY: dl_iterate_phdr(3) calls the function before it returns, which touches no other data.
    unsafe { libc::dl_iterate_phdr(Some(touch_segments), ptr::null_mut()) };
    // SAFETY: mlockall(2) changes no memory, only whether pages of ours may be absent.
    if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) } != 0 {
        // Before Linux 4.4.
        // SAFETY: as above.
        unsafe { libc::mlockall(libc::MCL_CURRENT) };
    }
}

/// Reads the segments of the first object, which is the program: not only a byte of each page, as code that is not in the
/// processor's caches takes its time in a stop, too.
extern "C" fn touch_segments(object: *mut libc::dl_phdr_info, _: libc::size_t, _: *mut libc::c_void) -> libc::c_int {
    const CACHE_LINE: u64 = 64;
    // SAFETY: dl_iterate_phdr(3) passes a `struct dl_phdr_info` that lives until this function returns.
    let object = unsafe { &*object };
    // SAFETY: so many program headers stand there, as long as the object is loaded.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()) };
    for h in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_R != 0) {
        let start = object.dlpi_addr.wrapping_add(h.p_vaddr);
        let mut off = 0;
        while off < h.p_filesz {
            let at = ptr::with_exposed_provenance::<u8>(lpb::addr::to_usize(start.wrapping_add(off)));
            // SAFETY: the segment is mapped there, readable, for at least `p_filesz` bytes, and no other thread writes to it.
            unsafe { at.read_volatile() };
            off = off.saturating_add(CACHE_LINE);
        }
    }
    1
}

/// While it lives, lp-apply runs before ordinary threads and before those of the target, if the system allows it.
///
/// A thread that is resumed would otherwise preempt the tool before it has resumed the next one.
pub struct Urgent {
    before: Option<(libc::c_int, libc::sched_param)>,
}

impl Urgent {
    /// Raises this thread above real-time threads of this priority (0: there are none). A refusal (no privilege) changes nothing;
    /// nor does it change what comes first already, or what would have to wait for such a thread more than before: the kernel sets
    /// some time apart for ordinary threads.
    pub fn raise(above: libc::c_int) -> Self {
        const HIGHEST: libc::c_int = 99;
        // SAFETY: sched_getscheduler(2) of the calling thread touches no memory of ours.
        let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
        let (Ok(policy), Ok(before)) = (libc::c_int::try_from(policy), scheduling(0)) else {
            return Self { before: None };
        };
        let comes_first = policy == libc::SCHED_DEADLINE || before.sched_priority > above;
        if comes_first || above >= HIGHEST {
            return Self { before: None };
        }
        let mut urgent = before;
        urgent.sched_priority = above.max(before.sched_priority).saturating_add(1);
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

/// The real-time priority of a thread; 0 if it has none.
pub fn priority(tid: Tid) -> libc::c_int {
    scheduling(tid.0).map_or(0, |param| param.sched_priority)
}

fn scheduling(tid: i32) -> io::Result<libc::sched_param> {
    // SAFETY: sched_param is a struct of integers, for which all zeroes is a valid value.
    let mut param: libc::sched_param = unsafe { mem::zeroed() };
    // SAFETY: sched_getparam(2) writes only `param`, which lives until it returns. The raw call, as below.
    match unsafe { libc::syscall(libc::SYS_sched_getparam, tid, &raw mut param) } {
        0 => Ok(param),
        _ => Err(io::Error::last_os_error()),
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
