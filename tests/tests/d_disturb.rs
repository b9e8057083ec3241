//! D. Disturb nothing: the target's system calls end as if nobody had been there.

use lp_tests::scenario::Scenario;
use lp_tests::{Board, Outcome, Target, lp_apply};
use std::process::Command;

/// D1: threads blocked in read, nanosleep, poll and futex while the patch comes and goes a hundred times.
#[test]
fn d1_blocked_threads_notice_nothing() {
    const CALLS: [&str; 4] = ["read", "nanosleep", "poll", "futex"];
    const FIELDS: usize = 4;
    let [rounds, errors, early, latest_us] = [0, 1, 2, 3];

    let (built, bundle) = Scenario::of("d1_blocked.c").bundle();
    let bundle = bundle.to_str().unwrap();
    let board = Board::new(built.lab.path("board"));
    let mut target = Target::start_command(Command::new(&built.exe).arg(board.path()));
    let pid = target.pid().to_string();
    for turn in 0..50 {
        lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
        assert_eq!(target.ask("x"), "2", "turn {turn}");
        lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("x"), "1", "turn {turn}");
    }
    for (which, call) in CALLS.iter().enumerate() {
        let field = |field: usize| board.get(which * FIELDS + field);
        board.wait_growth(which * FIELDS + rounds, 2);
        assert_eq!(
            (field(errors), field(early)),
            (0, 0),
            "(errors, early returns) of {call} in {} calls",
            field(rounds)
        );
        // For people: how late a 200 ms call came back depends on the machine.
        println!("{call}: {} calls, longest {} us", field(rounds), field(latest_us));
    }
    target.finish();
}
