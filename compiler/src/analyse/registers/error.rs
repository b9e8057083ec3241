//! What is wrong, or was done about it.

use crate::finding::Explain;
use crate::rule::{self, Rule};

/// See its rules.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegisterError {
    #[error("{name} is entered through a thunk that preserves registers: {callers} {} on {relied}", if *several { "rely" } else { "relies" })]
    Kept { name: String, callers: String, several: bool, relied: String, evidence: Vec<String> },
    #[error("{name} is entered through a thunk that aligns the stack: {callers} {} it with a stack that is not 16-aligned", if *several { "call" } else { "calls" })]
    Misaligned { name: String, callers: String, several: bool, evidence: Vec<String> },
    #[error("{name} needs a thunk for its callers, but {why}")]
    NoThunk { name: String, why: String, hint: &'static str, evidence: Vec<String> },
}

impl Explain for RegisterError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoThunk { hint, .. } => Some((*hint).to_owned()),
            _ => None,
        }
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(match self {
            Self::Kept { .. } => &rule::REGISTER_THUNK,
            Self::Misaligned { .. } => &rule::ALIGNMENT_THUNK,
            Self::NoThunk { .. } => &rule::NO_THUNK,
        })
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Kept { evidence, .. } | Self::Misaligned { evidence, .. } | Self::NoThunk { evidence, .. } => {
                evidence.clone()
            }
        }
    }
}
