//! A program whose real-time thread has a processor for itself, and lp-apply on the same one: it ends, whatever its own priority, and
//! so nobody stands still for long.

use lp_tests::scenario::Scenario;
use lp_tests::tools::{Running, lp_apply_command};
use lp_tests::{Outcome, Target, needs, skip};
use std::process::Command;

#[test]
fn d7_on_the_processor_of_a_real_time_thread() {
    if !needs("util-linux") {
        return;
    }
    let allowed = Command::new("chrt").args(["-f", "60", "true"]).output().unwrap().status.success();
    let processors = std::thread::available_parallelism().unwrap().get();
    if !(allowed || skip("real-time priorities")) || !(processors > 1 || skip("a second processor")) {
        return;
    }
    let (built, bundle) = Scenario::of("d_realtime.c").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let on_its_processor = |policy: [&str; 2], command: &[&str]| {
        let tool = lp_apply_command();
        let words = ["taskset", "-c", "0", "chrt", policy[0], policy[1], tool.get_program().to_str().unwrap()];
        let args = [&words[1..], command, &[bundle.to_str().unwrap(), "--pid", &pid, "--json"]].concat();
        Running::start(Command::new(words[0]).args(args)).verdict()
    };
    on_its_processor(["--other", "0"], &[]).expect(Outcome::Applied);
    assert_eq!(target.ask("x"), "2");
    // This one would come first if it did not lower itself.
    on_its_processor(["--fifo", "60"], &["revert"]).expect(Outcome::Reverted);
    assert_eq!(target.ask("x"), "1");
    target.finish();
}
