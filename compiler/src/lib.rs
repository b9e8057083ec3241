//! `lp-compile`: everything that needs ELF files, symbols and a disassembler happens here, at build time.
//!
//! ```text
//! read ─► resolve ─► analyse ─► lay out ─► emit          inspect: a bundle, for people and programs
//! ```
//! The bundle says all that `lp-apply` has to know; see `SPEC.md` of the format.

mod analyse;
mod arch;
mod build;
mod cli;
mod demangle;
mod emit;
mod finding;
mod inspect;
mod layout;
mod output;
mod read;
mod resolve;
mod rule;
mod set;
mod slot;
mod spec;
mod survey;
mod unwind;

pub use cli::Cli;
pub use output::{Failure, parse, run};
