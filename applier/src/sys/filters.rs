//! The seccomp filters of a stopped thread.

use super::ptrace::Tid;
use crate::identify::seccomp::Instruction;
use std::{io, ptr};

/// Most filters of one thread that are read, and most instructions of one (`BPF_MAXINSNS`).
const MAX_FILTERS: usize = 1024;
const MAX_INSTRUCTIONS: usize = 4096;
const SECCOMP_GET_FILTER: libc::c_long = 0x420c;

/// All of them. Needs CAP_SYS_ADMIN and a kernel with CONFIG_CHECKPOINT_RESTORE.
///
/// # Errors
/// EINVAL: the thread has none. EACCES: lp-apply may not ask.
pub fn of(tid: Tid) -> io::Result<Vec<Vec<Instruction>>> {
    // No room is made for those of a thread that has none: it stands still meanwhile.
    ask(tid, 0, None)?;
    let mut room = Box::new([Instruction::default(); MAX_INSTRUCTIONS]);
    let mut all = Vec::new();
    for index in 0..MAX_FILTERS {
        match ask(tid, index, Some(&mut room)) {
            Ok(len) => all.push(room.get(..len).unwrap_or_default().to_vec()),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(all),
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("it has more than 1024 filters"))
}

/// Whether it is certain that the thread has no more filters than these.
pub fn are_no_more(tid: Tid, known: usize) -> bool {
    let errno = ask(tid, known, None).err().and_then(|e| e.raw_os_error());
    errno == Some(if known == 0 { libc::EINVAL } else { libc::ENOENT })
}

/// The length of one, which is written to `room`.
fn ask(tid: Tid, index: usize, room: Option<&mut [Instruction; MAX_INSTRUCTIONS]>) -> io::Result<usize> {
    let room = room.map_or(ptr::null_mut(), |room| room.as_mut_ptr());
    let tid = libc::c_long::from(tid.0);
    // SAFETY: PTRACE_SECCOMP_GET_FILTER writes the filter's instructions, at most BPF_MAXINSNS of 8 bytes each, to `room`, which
    // has as many and lives until the call returns; nothing is written to a null pointer.
    let n = unsafe { libc::syscall(libc::SYS_ptrace, SECCOMP_GET_FILTER, tid, index, room) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
