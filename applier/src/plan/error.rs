//! Why there is no plan.

use super::uncertain::{self, Uncertain};
use super::values::Unfit;
use crate::outcome::{Outcome, Verdict};
use lpb::RunAddr;
use lpb::life::LifeError;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The bundle needs something that this version does not do.
    #[error("the bundle needs {0}, which this version of lp-apply does not do")]
    Unsupported(&'static str),
    /// No candidate of a value holds.
    #[error("{symbol} has no value in this process: {}", .reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoValue {
        /// What it is for.
        symbol: String,
        /// Why each candidate does not hold.
        reasons: Vec<Unfit>,
    },
    /// Values that modules unknown to the patch make uncertain.
    #[error("{} may be defined by modules that the patch does not expect: {}", uncertain::list(.values), .modules.join(", "))]
    Uncertain {
        /// All of these values.
        values: Vec<Uncertain>,
        /// File names of the modules.
        modules: Vec<String>,
    },
    /// No slot shows which implementation of an IFUNC was chosen.
    #[error("which implementation of {name} is chosen does not show yet: {}", .reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NotChosen {
        /// The IFUNC.
        name: String,
        /// Why each slot tells nothing.
        reasons: Vec<Unfit>,
    },
    /// The chosen implementation is none of the patch's.
    #[error("{name} is the function at {at} in this process, which is none of the implementations that the patch knows: {}", .known.join(", "))]
    OtherChosen {
        /// The IFUNC.
        name: String,
        /// What was chosen.
        at: RunAddr,
        /// Those that the patch is for.
        known: Vec<String>,
    },
    /// Bytes of the target are not the expected ones.
    #[error("{name} at {at} is not what the patch was built for: {found} instead of {expected}")]
    Changed {
        /// Function or variable.
        name: String,
        /// First differing byte.
        at: RunAddr,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// A breakpoint or uprobe.
    #[error("{name} holds a breakpoint or uprobe (0xcc) at {at}")]
    Breakpoint {
        /// The function.
        name: String,
        /// Where.
        at: RunAddr,
    },
    /// A slot is not bound yet, and the way to the dynamic linker is not one of those that are known.
    #[error("{name} at {at} is not bound yet, and nothing would tell a thread that is just binding it")]
    Binding {
        /// The slot's function.
        name: String,
        /// Where.
        at: RunAddr,
    },
    /// Another patch changes the same bytes.
    #[error("{name} is already changed by patch {other} ({digest})")]
    Taken {
        /// Function or variable.
        name: String,
        /// The other patch.
        other: String,
        /// Its id.
        digest: String,
    },
    /// Memory of the target cannot be read.
    #[error("{name} at {at} cannot be read")]
    Unreadable {
        /// Function or variable.
        name: String,
        /// Where.
        at: RunAddr,
    },
    /// No hole.
    #[error("there is no hole of {len} bytes in the address space{}", .near.as_ref().map(|m| format!(" within 2 GiB of {m}")).unwrap_or_default())]
    NoHole {
        /// Bytes needed.
        len: u64,
        /// The module to be near to.
        near: Option<String>,
    },
    /// A relative operand does not reach.
    #[error("{name}: {from} is more than 2 GiB away from {to}")]
    OutOfReach {
        /// What it is for.
        name: String,
        /// The operand.
        from: RunAddr,
        /// The value.
        to: RunAddr,
    },
    /// The record would be too long.
    #[error("the patch record: {0}")]
    Record(#[from] LifeError),
    /// A redirect that no longer fits its own bundle.
    #[error("the bundle's parts do not fit together at {0}")]
    Inconsistent(String),
}

impl Verdict for PlanError {
    fn outcome(&self) -> Outcome {
        Outcome::Refused
    }

    fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Unsupported(_) => "use a newer lp-apply, or rebuild the bundle without it",
                Self::Uncertain { modules, .. } => {
                    let options: Vec<String> = modules.iter().map(|name| format!("--allow-module {name}")).collect();
                    return Some(format!("if none of them does (`nm -D`), accept them: {}", options.join(" ")));
                }
                Self::NoValue { .. } => {
                    "the program has not used that symbol yet, or it was built otherwise; see `lp-compile inspect`"
                }
                Self::NotChosen { .. } => {
                    "run the command again when the program has called the function, or start it with LD_BIND_NOW=1"
                }
                Self::OtherChosen { .. } => {
                    "it cannot be replaced (`lp-compile inspect` says why), or another definition comes before the IFUNC (a \
                     preloaded library?): replace that function by its own name, or the callers"
                }
                Self::Changed { .. } => "something else has changed the program; nothing was touched",
                Self::Breakpoint { .. } => {
                    "remove the breakpoint (gdb) or uprobe (perf, bpftrace), then run the command again"
                }
                Self::Binding { .. } => {
                    "run the command again when the program has called the function, or start it with LD_BIND_NOW=1"
                }
                Self::Taken { .. } => "revert that patch first (`lp-apply revert`)",
                Self::Unreadable { .. } => "check that the process still runs and the bundle is for it",
                Self::NoHole { .. } | Self::OutOfReach { .. } => {
                    "the address space is full there; restart the program with the fix"
                }
                Self::Record(_) => "split the patch into smaller ones",
                Self::Inconsistent(_) => "rebuild the bundle with `lp-compile build`",
            }
            .to_owned(),
        )
    }
}
