//! Fault points: named steps, each right after lp-apply has done something to a target.
//!
//! Debug builds read `LP_FAULT` once:
//! * `trace` writes `lp-fault: N NAME` to standard error at each step,
//! * `kill:N` kills lp-apply with SIGKILL after step N (counted from 1),
//! * `fail:N` makes step N report an error, as if the system call had failed,
//! * `no-mem-write` makes `/proc/PID/mem` unwritable, as `proc_mem.force_override=never` does for text.
//!
//! Release builds have none of it: [`step`] is empty.

/// Marks that the step `name` has been taken.
///
/// # Errors
/// Only in debug builds, and only when `LP_FAULT=fail:N` names this step.
#[cfg(not(debug_assertions))]
pub fn step(_name: &'static str) -> std::io::Result<()> {
    Ok(())
}

/// Whether `/proc/PID/mem` is to behave as if it could not be written.
#[cfg(not(debug_assertions))]
pub fn memory_refuses() -> bool {
    false
}

#[cfg(debug_assertions)]
pub use debug::{memory_refuses, step};

#[cfg(debug_assertions)]
mod debug {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    enum Wish {
        Nothing,
        Trace,
        Kill(u64),
        Fail(u64),
        NoMemWrite,
    }

    /// See the release version.
    pub fn memory_refuses() -> bool {
        matches!(wish(), Wish::NoMemWrite)
    }

    fn wish() -> &'static Wish {
        static WISH: OnceLock<Wish> = OnceLock::new();
        WISH.get_or_init(|| {
            let text = std::env::var("LP_FAULT").unwrap_or_default();
            let number = |prefix| text.strip_prefix(prefix).and_then(|n| n.parse().ok());
            match text.as_str() {
                "trace" => Wish::Trace,
                "no-mem-write" => Wish::NoMemWrite,
                _ => {
                    number("kill:").map(Wish::Kill).or_else(|| number("fail:").map(Wish::Fail)).unwrap_or(Wish::Nothing)
                }
            }
        })
    }

    /// See the release version.
    pub fn step(name: &'static str) -> io::Result<()> {
        static TAKEN: AtomicU64 = AtomicU64::new(0);
        let n = TAKEN.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        match wish() {
            Wish::Trace => eprintln!("lp-fault: {n} {name}"),
            Wish::Kill(at) if *at == n => super::super::sched::kill_self(),
            Wish::Fail(at) if *at == n => return Err(io::Error::other(format!("fault injected at step {n} ({name})"))),
            _ => {}
        }
        Ok(())
    }
}
