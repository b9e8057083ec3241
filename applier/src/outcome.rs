//! What can become of a process: a closed set, and the exit code that follows.

use std::error::Error;

/// Outcome for one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The patch is in force now.
    Applied,
    /// It was in force before; nothing was done.
    AlreadyApplied,
    /// It is no longer in force.
    Reverted,
    /// It was not in force; nothing was done.
    NotApplied,
    /// The process has nothing that the patch is for.
    NotApplicable,
    /// The process runs another build.
    BuildMismatch,
    /// Something is in the way that may go away.
    Blocked,
    /// Patching would not be safe, or is forbidden.
    Refused,
    /// A system call failed; what was done is undone.
    Failed,
    /// The process ended or became another program.
    Gone,
}

impl Outcome {
    /// As it stands in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::AlreadyApplied => "already-applied",
            Self::Reverted => "reverted",
            Self::NotApplied => "not-applied",
            Self::NotApplicable => "not-applicable",
            Self::BuildMismatch => "build-mismatch",
            Self::Blocked => "blocked",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }

    fn exit(self) -> Exit {
        match self {
            Self::Applied | Self::AlreadyApplied | Self::Reverted | Self::NotApplied => Exit::Done,
            Self::NotApplicable | Self::BuildMismatch => Exit::NotApplicable,
            Self::Blocked => Exit::Blocked,
            Self::Refused | Self::Failed | Self::Gone => Exit::Failed,
        }
    }
}

/// Exit codes of lp-apply. They are a contract: `--help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything is as wished.
    Done,
    /// The command line makes no sense.
    Usage,
    /// The bundle is invalid or not trusted.
    Bundle,
    /// Nothing matches.
    NotApplicable,
    /// Try again.
    Blocked,
    /// A control forbids it.
    Permission,
    /// Failed and rolled back, refused, or gone.
    Failed,
    /// Several processes with different outcomes.
    Different,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 2,
            Self::Bundle => 3,
            Self::NotApplicable => 4,
            Self::Blocked => 5,
            Self::Permission => 6,
            Self::Failed => 7,
            Self::Different => 8,
        }
    }
}

/// An error that decides an outcome.
pub trait Verdict: Error {
    /// What has become of the process.
    fn outcome(&self) -> Outcome;

    /// What the user can do next.
    fn hint(&self) -> Option<String>;

    /// Whether a control of the system forbids it.
    fn is_permission(&self) -> bool {
        false
    }
}

/// What is reported of one process.
#[derive(Debug)]
pub struct Report {
    /// The process.
    pub pid: i32,
    /// What became of it; `None`: it was only looked at.
    pub outcome: Option<Outcome>,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// A control forbids it.
    pub permission: bool,
    /// More about it, for `--json` and `-v`.
    pub details: serde_json::Map<String, serde_json::Value>,
    /// What would be done, for people: whole lines.
    pub plan: String,
}

impl Report {
    /// A report without details.
    pub fn new(pid: i32, outcome: Option<Outcome>, message: String) -> Self {
        Self {
            pid,
            outcome,
            message,
            hint: None,
            permission: false,
            details: serde_json::Map::new(),
            plan: String::new(),
        }
    }

    /// A report of an error.
    pub fn of(pid: i32, error: &dyn Verdict) -> Self {
        let report = Self::new(pid, Some(error.outcome()), error.to_string());
        Self { hint: error.hint(), permission: error.is_permission(), ..report }
    }

    /// The exit code, were it the only process.
    pub fn exit(&self) -> Exit {
        match self.outcome {
            _ if self.permission => Exit::Permission,
            Some(outcome) => outcome.exit(),
            None => Exit::Done,
        }
    }
}

/// The exit code of a run over several processes: theirs if they agree, else [`Exit::Different`].
pub fn exit_of(reports: &[Report]) -> Exit {
    let mut exits = reports.iter().map(Report::exit);
    let Some(first) = exits.next() else { return Exit::Done };
    if exits.all(|e| e == first) { first } else { Exit::Different }
}
