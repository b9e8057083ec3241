//! Runs a sample from its C files to the patched process, and says on the way what happens.
//!
//! ```text
//! toolchain   C compiler ─► program + patch        cargo ─► lp-compile, lp-apply
//! target      the running program: its lines are shown as they come, it is killed when dropped
//! samples     which samples there are
//! story       build, start, compile, inspect, apply, watch
//! ```
//! What a sample shows is also what it checks: [`run`] fails if the program does not come to the end that only the
//! patched program reaches.

mod samples;
mod show;
mod story;
mod target;
mod toolchain;

pub use samples::{SAMPLES, Sample};
pub use story::run;

use std::io;
use std::time::Duration;

/// Why a sample did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such sample.
    #[error("there is no sample called `{0}`")]
    Unknown(String),
    /// The C compiler cannot be started.
    #[error("no C compiler: `{program}` cannot be started: {source}")]
    NoCompiler {
        /// What was tried.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// The C compiler refuses the source.
    #[error("the C compiler failed on {file}:\n{output}")]
    Compile {
        /// The source file.
        file: &'static str,
        /// What it printed.
        output: String,
    },
    /// Cargo cannot build a tool.
    #[error("cargo could not build lp-compile and lp-apply")]
    Cargo,
    /// Cargo built no such program.
    #[error("cargo did not say where it put {0}")]
    NoTool(&'static str),
    /// A program cannot be started.
    #[error("{program} cannot be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// One of the tools failed; its own words are already on the screen.
    #[error("{tool} failed ({status})")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The program is silent or says something else.
    #[error("the program did not print \"{line}\" within {} s", .within.as_secs())]
    Silent {
        /// What was expected.
        line: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// The program ended before it printed what it should.
    #[error("the program ended ({status}) without printing \"{line}\"")]
    Ended {
        /// How it ended.
        status: std::process::ExitStatus,
        /// What was expected.
        line: &'static str,
    },
    /// The program does not end.
    #[error("the program has said its last line, but does not end within {} s", .within.as_secs())]
    Stays {
        /// How long was waited.
        within: Duration,
    },
    /// The file system, or a process, gave an error.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What went wrong.
        source: io::Error,
    },
}

impl Error {
    /// What the user can do about it, if anything is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoCompiler { .. } => Some("install one (Debian: apt-get install gcc), or name yours in CC"),
            Self::Compile { .. } => Some("on Debian the C library's headers are in the package libc6-dev"),
            Self::Cargo | Self::NoTool(_) => Some("or name built tools in LP_COMPILE and LP_APPLY"),
            _ => None,
        }
    }

    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
