//! A running target together with its bundle and its board: what a test needs that patches while the target works.

use crate::scenario::{Built, Scenario};
use crate::tools::{Running, lp_apply_command};
use crate::{Board, Outcome, Target, Verdict, lp_apply};
use std::process::Command;

/// How often a test repeats itself: `usual` times, or `long` times if `LP_LONG` is set.
pub fn turns(usual: usize, long: usize) -> usize {
    if std::env::var_os("LP_LONG").is_none_or(|v| v == "0") { usual } else { long }
}

/// A target that publishes what it sees on its board, and the bundle for it.
#[derive(Debug)]
pub struct Patient {
    /// Where everything was built.
    pub built: Built,
    /// The numbers that the target publishes.
    pub board: Board,
    /// The target.
    pub target: Target,
    bundle: String,
    pid: String,
}

impl Patient {
    /// Starts `tests/programs/<source>`.
    #[track_caller]
    pub fn of(source: &str) -> Self {
        Self::start(source, &[])
    }

    /// Starts `tests/programs/<source>` with these arguments before the path of the board.
    #[track_caller]
    pub fn start(source: &str, args: &[&str]) -> Self {
        Self::start_by(source, |built| {
            let mut command = Command::new(&built.exe);
            command.args(args);
            command
        })
    }

    /// Starts it by another command, to which the path of the board is added.
    #[track_caller]
    pub fn start_by(source: &str, command: impl FnOnce(&Built) -> Command) -> Self {
        let (built, bundle) = Scenario::of(source).bundle();
        let board = Board::new(built.lab.path("board"));
        let target = Target::start_command(command(&built).arg(board.path()));
        let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap().to_owned());
        Self { built, board, target, bundle, pid }
    }

    /// Its process id, as an argument.
    pub fn pid(&self) -> &str {
        &self.pid
    }

    /// The arguments of `lp-apply` that apply the bundle.
    pub fn apply_args(&self) -> Vec<&str> {
        vec![&self.bundle, "--pid", &self.pid]
    }

    /// The arguments of `lp-apply` that revert it.
    pub fn revert_args(&self) -> Vec<&str> {
        vec!["revert", &self.bundle, "--pid", &self.pid]
    }

    /// Applies the bundle.
    #[track_caller]
    pub fn apply(&self, more: &[&str]) -> Verdict {
        lp_apply(self.apply_args().iter().chain(more))
    }

    /// Reverts it.
    #[track_caller]
    pub fn revert(&self, more: &[&str]) -> Verdict {
        lp_apply(self.revert_args().iter().chain(more))
    }

    /// Applies and reverts it so many times; each has to succeed within a minute.
    #[track_caller]
    pub fn come_and_go(&self, times: usize) {
        for turn in 0..times {
            println!("turn {turn}");
            self.apply(&["--wait", "60s"]).expect(Outcome::Applied);
            self.revert(&["--wait", "60s"]).expect(Outcome::Reverted);
        }
    }

    /// Runs lp-apply with this wish in `LP_FAULT`.
    #[track_caller]
    pub fn with_fault(args: &[&str], fault: &str) -> Verdict {
        let mut command = lp_apply_command();
        Running::start(command.args(args).arg("--json").env("LP_FAULT", fault)).verdict()
    }
}
