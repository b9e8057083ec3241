//! Everything that can go wrong with one process, in one type.

use crate::borrow::BorrowError;
use crate::commit::CommitError;
use crate::identify::{IdentifyError, Target};
use crate::outcome::{Outcome, Verdict};
use crate::plan::PlanError;
use crate::register::RegisterError;
use crate::stage::StageError;

/// An error of any step.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is the error of the module that it names")]
pub enum Trouble {
    #[error(transparent)]
    Identify(#[from] IdentifyError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Borrow(#[from] BorrowError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Register(#[from] RegisterError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The undoing of a commit failed.
    #[error("a site is not as it was")]
    NotOld,
    /// Something failed, and so did the undoing.
    #[error("{first}; and the staged patch could not be removed: {second}")]
    Twice { first: Box<Trouble>, second: Box<Trouble> },
}

impl Trouble {
    fn inner(&self) -> Option<&dyn Verdict> {
        Some(match self {
            Self::Identify(e) => e,
            Self::Plan(e) => e,
            Self::Borrow(e) => e,
            Self::Stage(e) => e,
            Self::Register(e) => e,
            Self::Commit(e) => e,
            Self::Twice { first, .. } => first.as_ref(),
            Self::NotOld => return None,
        })
    }
}

impl Trouble {
    /// What has become of the target, if that explains it.
    pub fn explained(self, target: &Target) -> Self {
        target.fate().map_or(self, Self::from)
    }
}

impl Verdict for Trouble {
    fn outcome(&self) -> Outcome {
        self.inner().map_or(Outcome::Failed, Verdict::outcome)
    }

    fn is_permission(&self) -> bool {
        self.inner().is_some_and(Verdict::is_permission)
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Twice { .. } => {
                Some("run the command again: it finds the remains by their record and removes them".into())
            }
            _ => self.inner().and_then(Verdict::hint),
        }
    }
}
