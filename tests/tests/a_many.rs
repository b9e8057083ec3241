//! A14: many functions in one bundle change in one step.

use lp_tests::{Outcome, Patient, Verdict};

const ROUNDS: usize = 0;
const ERRORS: usize = 1;
const SUM: usize = 2;

/// No round through all 200 functions changes its mind more than once: old, old, new, new, ...
#[test]
fn a14_two_hundred_functions() {
    let patient = Patient::of("a14_many.c");
    let before = patient.target.snapshot();
    let check = |verdict: Verdict, outcome: Outcome, sum: u64| {
        let process = verdict.expect(outcome);
        println!("{outcome:?}: stopped for {} us", process["stop_us"]);
        patient.board.wait_growth(ROUNDS, 2);
        assert_eq!((patient.board.get(SUM), patient.board.get(ERRORS)), (sum, 0), "(sum, mixed rounds)");
    };
    for _ in 0..5 {
        check(patient.apply(&["--wait", "60s"]), Outcome::Applied, 400);
        check(patient.revert(&["--wait", "60s"]), Outcome::Reverted, 200);
    }
    before.assert_same(&patient.target.snapshot());
}
