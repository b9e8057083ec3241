//! The only part of the project that talks to the kernel about another process, and the only one with `unsafe`.
//!
//! ```text
//! proc     /proc/PID: maps, status, threads; its pidfd      (unsafe: openat, pidfd_open, kcmp)
//! memory   /proc/PID/mem and pagemap                        (unsafe: ioctl)
//! ptrace   one thread: seize, stop, registers, resume       (unsafe: ptrace, waitid)
//! alarm    calls that wait are interrupted                   (unsafe: timers, a signal handler)
//! filters  seccomp filters                                  (unsafe: ptrace)
//! sched    scheduling class, signals, its own death          (unsafe: a handful of calls)
//! fault    named steps at which tests kill the tool or make it fail
//! unwind   what the static release binary has instead of an unwinder
//! ```
#![allow(unsafe_code, reason = "system calls; every block carries its proof")]

mod alarm;
pub mod fault;
pub mod filters;
#[cfg(all(target_env = "musl", not(test)))]
mod heap;
pub mod memory;
pub mod proc;
pub mod ptrace;
pub mod sched;
#[cfg(all(panic = "abort", target_env = "musl", not(test)))]
mod unwind;
