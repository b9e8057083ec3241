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
pub fn programs(tid: Tid) -> io::Result<Vec<Vec<Instruction>>> {
    each(|index| {
        let mut program = vec![Instruction::default(); MAX_INSTRUCTIONS];
        let len = ask(tid, index, Some(&mut program))?;
        program.truncate(len);
        Ok(program)
    })
}

/// How many instructions each of them has.
///
/// # Errors
/// As of [`programs`].
pub fn lengths(tid: Tid) -> io::Result<Vec<usize>> {
    each(|index| ask(tid, index, None))
}

fn each<T>(ask: impl Fn(usize) -> io::Result<T>) -> io::Result<Vec<T>> {
    let mut all = Vec::new();
    for index in 0..MAX_FILTERS {
        match ask(index) {
            Ok(one) => all.push(one),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(all),
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("it has more than 1024 filters"))
}

/// The length of one; it is written to `program`, which has [`MAX_INSTRUCTIONS`].
fn ask(tid: Tid, index: usize, program: Option<&mut Vec<Instruction>>) -> io::Result<usize> {
    let program = program.map_or(ptr::null_mut(), |program| program.as_mut_ptr());
    let tid = libc::c_long::from(tid.0);
    // SAFETY: PTRACE_SECCOMP_GET_FILTER writes the filter's instructions, at most BPF_MAXINSNS of 8 bytes each, to `program`,
    // which has room for as many and lives until the call returns; nothing is written to a null pointer.
    let n = unsafe { libc::syscall(libc::SYS_ptrace, SECCOMP_GET_FILTER, tid, index, program) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
