//! Scenarios on live processes: builds a C program, starts it, patches it, asks it what it does now.
//!
//! ```text
//! tests/tests/*.rs      one #[test] per scenario, named by its id (A2, C3, ...)
//! tests/programs/*.c    its C source: target and patch in one file, told apart by `#ifdef PATCH`
//! tests/src/            this harness
//!   scenario   runs a source by its `//#` lines: build, ask, apply, ask, revert, ask
//!   lab        a temporary directory and the C compiler
//!   obstacle   a program in a state that stands in the way of a patch
//!   patient    a running program with its bundle, patched while it works
//!   target     a running program: ask it, wait for its lines, its end
//!   tools      lp-compile and lp-apply, and their verdicts
//!   memory     what the target has mapped, and the bytes of all its code
//!   kills      what becomes of targets when lp-apply dies or fails: `lp-tests --kills N`
//!   bench      how long targets stand still: `lp-bench`
//!   skip       tests that need a Debian package that is not installed
//! ```
//! To add a scenario, write one C file with `//#` lines (see [`scenario`]) and one line in `tests/tests/*.rs`.
//!
//! Every wait is for something observed, with [`DEADLINE`] as its bound. A failing wait stops the test, and dropping a
//! [`Target`] ends its process; so nothing is left running.

pub mod bench;
pub mod kills;
pub mod lab;
pub mod memory;
pub mod obstacle;
pub mod patient;
pub mod scenario;
pub mod skip;
pub mod target;
pub mod tools;

pub use lab::{Kind, Lab};
pub use memory::Snapshot;
pub use patient::{Patient, turns};
pub use skip::{needs, skip};
pub use target::{Board, Target};
pub use tools::{Outcome, Verdict, lp_apply, lp_compile};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for anything. Generous: the machine may be busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `look` sees something.
///
/// # Panics
/// At the deadline, naming `what`.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "not seen within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2)); // between two looks; nothing depends on its length
    }
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}
