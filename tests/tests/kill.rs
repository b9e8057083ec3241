//! `kill -9` of lp-apply after each of its steps: the target lives on with every register and system call right, the patch
//! is off or on as a whole, and the next run works and leaves no trace of the dead one. A step that fails is rolled back.

use lp_tests::scenario::{Built, Scenario};
use lp_tests::tools::{Running, lp_apply_command};
use lp_tests::{Board, Outcome, Snapshot, Target, Verdict, lp_apply};
use std::process::Command;

// Places on the board of both programs.
const ROUNDS: usize = 0;
const ERRORS: usize = 1;
const VALUE: usize = 2;
const SECOND: usize = 3;

/// The target is nearly always in nanosleep: no EINTR, no early return.
#[test]
fn killed_while_the_target_sleeps() {
    survives_every_kill("kill_asleep.c");
}

/// The target computes without pause: no register, vector lane or red-zone byte changes.
#[test]
fn killed_while_the_target_computes() {
    survives_every_kill("kill_busy.c");
}

/// The target throws exceptions without pause: each is caught where it should, and no thread is lost in the unwinder.
#[test]
fn killed_while_the_target_throws() {
    survives_every_kill("kill_throws.cpp");
}

fn survives_every_kill(source: &str) {
    let mut patient = Patient::new(source);
    let applies = patient.kill_after_each_step(&patient.apply(), |patient| {
        let outcome = if patient.value() == 2 { Outcome::AlreadyApplied } else { Outcome::Applied };
        lp_apply(patient.apply()).expect(outcome);
        assert_eq!(patient.value(), 2);
        lp_apply(patient.revert()).expect(Outcome::Reverted);
        assert_eq!(patient.value(), 1);
    });
    // The run that was not killed has applied the patch.
    assert_eq!(patient.value(), 2);
    let reverts = patient.kill_after_each_step(&patient.revert(), |patient| {
        let outcome = if patient.value() == 2 { Outcome::Reverted } else { Outcome::NotApplied };
        lp_apply(patient.revert()).expect(outcome);
        assert_eq!(patient.value(), 1);
    });
    println!("{source}: killed after {applies} steps of apply and {reverts} of revert");
    patient.assert_clean();
}

/// Each step that fails is reported; then the patch is off or on as reported, and the next run finds nothing in its way.
#[test]
fn each_step_fails_once() {
    each_step_of("kill_asleep.c");
}

/// The same with the steps that bring the unwinder in.
#[test]
fn each_step_fails_once_with_exceptions() {
    each_step_of("kill_throws.cpp");
}

fn each_step_of(source: &str) {
    let mut patient = Patient::new(source);
    let trace = with_fault(&patient.apply(), "trace");
    trace.expect(Outcome::Applied);
    lp_apply(patient.revert()).expect(Outcome::Reverted);
    let steps = trace.run.stderr.matches("lp-fault: ").count();
    assert!(steps > 10, "only {steps} steps: is this a debug build of lp-apply?");
    for step in 1..=steps {
        let verdict = with_fault(&patient.apply(), &format!("fail:{step}"));
        println!("step {step} fails: {}", verdict.run);
        if verdict.run.status.success() {
            verdict.expect(Outcome::Applied);
            assert_eq!(patient.value(), 2, "step {step}");
        } else {
            // "refused" if it is the first hold on the target that fails, as it does for a traced process.
            let refused = verdict.run.stdout.contains("\"refused\"");
            verdict.expect_saying(if refused { Outcome::Refused } else { Outcome::Failed }, &["fault injected"]);
            assert_eq!(patient.value(), 1, "step {step}");
            lp_apply(patient.apply()).expect(Outcome::Applied);
        }
        lp_apply(patient.revert()).expect(Outcome::Reverted);
        assert_eq!(patient.value(), 1, "step {step}");
        patient.look_for_remains(&format!("failed step {step}"));
    }
    patient.assert_clean();
}

/// A revert dies between the calls that unmap the patch, and the next apply fails in a step while it cleans up: what the record of
/// the first still lists is never taken for the new patch's, whose memory may lie where the first one's was.
#[test]
fn fails_while_it_cleans_up_after_a_kill() {
    let patient = Patient::new("kill_asleep.c");
    lp_apply(patient.apply()).expect(Outcome::Applied);
    let trace = with_fault(&patient.revert(), "trace");
    trace.expect(Outcome::Reverted);
    let is_call = |line: &&str| line.ends_with(" called");
    let number = |line: &str| line.split_whitespace().nth(1).unwrap().to_owned();
    let calls: Vec<String> = trace.run.stderr.lines().filter(is_call).map(number).collect();
    assert!(calls.len() > 1, "{}", trace.run);
    // The first, one in the middle, the last.
    for kill in [0, calls.len() / 2, calls.len() - 1].map(|n| &calls[n]) {
        for step in 1..60 {
            lp_apply(patient.apply()).expect(Outcome::Applied);
            assert!(with_fault(&patient.revert(), &format!("kill:{kill}")).was_killed());
            let verdict = with_fault(&patient.apply(), &format!("fail:{step}"));
            let applied = verdict.run.status.success();
            assert_eq!(patient.value(), if applied { 2 } else { 1 }, "revert killed at {kill}: {}", verdict.run);
            let outcome = if applied { Outcome::Reverted } else { Outcome::NotApplied };
            lp_apply(patient.revert()).expect(outcome);
            assert_eq!(patient.value(), 1, "revert killed at {kill}, apply failing in {step}");
        }
    }
}

/// A running target, its bundle, and what lp-apply has left in it so far.
struct Patient {
    built: Built,
    bundle: String,
    board: Board,
    target: Target,
    pid: String,
    clean: Snapshot,
    remains: String,
}

impl Patient {
    fn new(source: &str) -> Self {
        let (built, bundle) = Scenario::of(source).bundle();
        let board = Board::new(built.lab.path("board"));
        let target = Target::start_command(Command::new(&built.exe).arg(board.path()));
        board.wait_growth(ROUNDS, 1);
        let (pid, clean) = (target.pid().to_string(), target.snapshot());
        let bundle = bundle.to_str().unwrap().to_owned();
        Self { built, bundle, board, target, pid, clean, remains: String::new() }
    }

    fn apply(&self) -> Vec<String> {
        [self.bundle.as_str(), "--pid", &self.pid].map(str::to_owned).to_vec()
    }

    fn revert(&self) -> Vec<String> {
        ["revert", &self.bundle, "--pid", &self.pid].map(str::to_owned).to_vec()
    }

    /// Waits until the target has gone on with whole rounds; returns the result of its functions, which must agree.
    #[track_caller]
    fn value(&self) -> u64 {
        self.board.wait_growth(ROUNDS, 2);
        let [errors, value, second] = [ERRORS, VALUE, SECOND].map(|place| self.board.get(place));
        assert_eq!(errors, 0, "the target saw a wrong result");
        assert_eq!(value, second, "one function is patched, the other is not");
        assert!(value == 1 || value == 2, "neither old nor new: {value}");
        value
    }

    /// Runs lp-apply again and again, killed after its first step, its second, ..., until a run ends by itself, and well.
    /// `clean_up` runs after each kill and takes the patch out of force. Returns how many kills there were.
    fn kill_after_each_step(&mut self, args: &[String], clean_up: impl Fn(&Self)) -> u32 {
        let starts_applied = args[0] == "revert";
        for step in 1.. {
            assert!(step < 1000, "lp-apply {args:?} does not come to an end");
            let verdict = with_fault(args, &format!("kill:{step}"));
            if !verdict.was_killed() {
                verdict.run.expect(0);
                // Fewer would mean that this binary does not know LP_FAULT, and nothing was tested.
                assert!(step > 10, "killed only {} times: is this a debug build of lp-apply?", step - 1);
                return step - 1;
            }
            println!("killed after step {step} of {}", args[0]);
            clean_up(self);
            self.look_for_remains(&format!("kill after step {step} of {}", args[0]));
            if starts_applied {
                lp_apply(self.apply()).expect(Outcome::Applied);
            }
        }
        unreachable!()
    }

    /// The patch is out of force: is memory as it was at first?
    fn look_for_remains(&mut self, when: &str) {
        let now = self.target.snapshot();
        let difference = self.clean.difference(&now);
        if !difference.is_empty() {
            self.remains += &format!("{when}:\n{difference}");
            self.clean = now; // so that each remainder is reported once
        }
    }

    #[track_caller]
    fn assert_clean(mut self) {
        self.look_for_remains("at the end");
        assert!(self.remains.is_empty(), "remains in {}:\n{}", self.built.exe.display(), self.remains);
    }
}

fn with_fault(args: &[String], fault: &str) -> Verdict {
    let mut command = lp_apply_command();
    command.args(args).arg("--json").env("LP_FAULT", fault);
    Running::start(&mut command).verdict()
}
