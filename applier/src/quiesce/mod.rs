//! Whether a thread is inside code that is about to change, or will return into it.
//!
//! The scan is conservative: every aligned word between the stack pointer and the end of the stack's mapping counts as a
//! return address. It follows signal frames to the stack that the signal interrupted.
//!
//! ```text
//! alternate stack                         thread stack
//! ┌──────────────┐ rsp of the handler     ┌──────────────┐ rsp in the signal frame
//! │ frames       │ scanned                │ frames       │ scanned
//! │ signal frame ├───────────────────────►│ ...          │
//! └──────────────┘ end of mapping         └──────────────┘ end of mapping
//! ```

mod code;
mod parked;
mod scan;
#[cfg(test)]
mod tests;

pub use parked::{Own, in_registers, parked};
pub use scan::{Extent, MAX_STACKED, Piece, Scan, first_piece};

use lpb::RunAddr;

/// Where a thread is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Executing the function.
    Inside {
        /// The function.
        function: String,
        /// Instruction pointer.
        pc: RunAddr,
    },
    /// Will return into it.
    Returns {
        /// The function.
        function: String,
        /// The return address.
        to: RunAddr,
        /// Bytes of stack below it.
        depth: u64,
    },
    /// Has gone through it and is not done.
    Passed {
        /// The function.
        function: String,
        /// Where its stack says so.
        place: RunAddr,
    },
    /// Something outside the stacks of the threads looks like a return address into it, or a pointer to it.
    Parked {
        /// The function.
        function: String,
        /// The return address.
        to: RunAddr,
        /// Where it was found.
        place: RunAddr,
    },
    /// Has an address in it in a register.
    Keeps {
        /// The function.
        function: String,
        /// The address.
        to: RunAddr,
    },
    /// The stack cannot be judged.
    Unknown {
        /// Stack pointer.
        sp: RunAddr,
    },
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inside { function, pc } => write!(f, "is inside {function} (at {pc})"),
            Self::Returns { function, to, depth } => {
                write!(f, "will return into {function} (to {to}, {depth} bytes up its stack)")
            }
            Self::Passed { function, place } => write!(f, "is in {function} (its stack says so at {place})"),
            Self::Parked { function, to, place } => {
                write!(
                    f,
                    "shares memory that holds an address in {function} ({to}, at {place}): a parked coroutine, or a pointer?"
                )
            }
            Self::Keeps { function, to } => write!(f, "has an address in {function} in a register ({to})"),
            Self::Unknown { sp } => write!(f, "has a stack at {sp} that cannot be checked"),
        }
    }
}
