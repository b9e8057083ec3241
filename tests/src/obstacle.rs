//! A program in a state that stands in the way of a patch (`programs/e_obstacles.c`), and its bundle.

use crate::scenario::{Built, Scenario};
use crate::{Outcome, Target, Verdict, lp_apply};
use std::process::Command;
use std::time::{Duration, Instant};

/// The program in one of its states, and its bundle.
#[derive(Debug)]
pub struct Obstacle {
    /// Where everything was built.
    pub built: Built,
    /// The path of the bundle.
    pub bundle: String,
    /// The program.
    pub target: Target,
    /// Its process id, as an argument.
    pub pid: String,
}

impl Obstacle {
    /// Starts the program in this state.
    #[track_caller]
    pub fn of(state: &str) -> Self {
        Self::started_by(state, |built| Command::new(&built.exe))
    }

    /// Starts it by a command, to which the state is added.
    #[track_caller]
    pub fn started_by(state: &str, command: impl FnOnce(&Built) -> Command) -> Self {
        let (built, bundle) = Scenario::of("e_obstacles.c").bundle();
        let target = Target::start_command(command(&built).arg(state));
        let pid = target.pid().to_string();
        Self { bundle: bundle.to_str().unwrap().to_owned(), built, target, pid }
    }

    /// Runs `lp-apply` on it.
    #[track_caller]
    pub fn apply(&self, more: &[&str]) -> Verdict {
        lp_apply([&self.bundle, "--pid", &self.pid].iter().chain(more))
    }

    /// It is patched, and reverted, and leaves nothing.
    #[track_caller]
    pub fn works(mut self) {
        let before = self.target.snapshot();
        self.apply(&[]).expect(Outcome::Applied);
        assert_eq!(self.target.ask("x"), "2");
        self.target.snapshot().assert_w_xor_x();
        lp_apply(["revert", &self.bundle, "--pid", &self.pid]).expect(Outcome::Reverted);
        assert_eq!(self.target.ask("x"), "1");
        before.assert_same(&self.target.snapshot());
        self.target.finish();
    }

    /// It is not patched, for a reason that has all these words and a hint, and is not touched. Returns the program.
    #[track_caller]
    pub fn stands_in_the_way(mut self, outcome: Outcome, words: &[&str]) -> Self {
        let before = self.target.snapshot();
        let begun = Instant::now();
        let verdict = self.apply(&["--wait", "500ms"]);
        println!("{}", verdict.run);
        assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
        verdict.expect_saying(outcome, words);
        assert!(verdict.hint().is_some(), "no hint in {}", verdict.run);
        assert_eq!(self.target.ask("x"), "1");
        before.assert_same(&self.target.snapshot());
        self
    }
}
