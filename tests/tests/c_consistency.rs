//! C. Threads and consistency: no thread is moved from the old code to the new one in the middle of a function.

use lp_tests::scenario::Scenario;
use lp_tests::tools::{Running, lp_apply_command, lp_apply_start};
use lp_tests::{Board, Outcome, Target, lp_apply, lp_compile, needs, turns};
use std::process::Command;

/// C2: a thread is asleep inside the function; the default waits until it has left.
#[test]
fn c2_waits_for_a_thread_inside() {
    let (built, bundle) = Scenario::of("c2_asleep_inside.c").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    assert_eq!(target.ask("tick"), "ticking 0");
    assert_eq!(target.ask("hold 2000"), "holding 0");
    let applying = lp_apply_start([bundle.to_str().unwrap(), "--pid", &pid, "--wait", "30s"]);
    assert_eq!(target.next_line(), "held 2000", "the call in flight ends as it began");

    let process = applying.verdict().expect(Outcome::Applied);
    let waited = process["waited_ms"].as_u64().unwrap();
    assert!(waited > 0, "it did not wait: {process:#}");
    assert_eq!(target.ask("now"), "1000");
    // A number for people: on a busy machine it says more about the machine than about lp-apply.
    println!("waited {waited} ms; largest gap of another thread: {}", target.ask("gap"));
    target.finish();
}

/// C2: on a terminal a line says who is in the way, and is gone at the end; elsewhere there is no such line.
#[test]
fn c2_says_on_a_terminal_what_it_waits_for() {
    if !needs("bsdutils") {
        return;
    }
    let (built, bundle) = Scenario::of("c2_asleep_inside.c").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    for on_terminal in [true, false] {
        assert_eq!(target.ask("hold 3000"), "holding 0");
        let mut command = lp_apply_command();
        command.args([bundle.to_str().unwrap(), "--pid", &pid, "--wait", "60s"]);
        if on_terminal {
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            let line = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ");
            command = Command::new("script");
            command.args(["-qec", &line, "/dev/null"]);
        }
        let run = Running::start(&mut command).finish();
        assert_eq!(target.next_line(), "held 3000");
        run.expect(0);
        let [waits, wiped] = [format!("{pid}: waiting for 1 of 60 s: thread "), "\r\x1b[K\x1b".to_owned()];
        let told = run.stdout.contains(&waits) && run.stdout.contains("slow") && run.stdout.contains(&wiped);
        assert_eq!(told, on_terminal, "{run:?}");
        assert!(on_terminal || run.stderr.is_empty(), "{run:?}");
        let end = run.stdout.rsplit("\x1b[K").next().unwrap();
        assert!(end.starts_with(&format!("{pid}: applied: ")), "the line stands yet: {run:?}");
        lp_apply(["revert", "fix", "--pid", &pid]).expect(Outcome::Reverted);
    }
    target.finish();
}

/// C2: threads go in between the look at them and the stop. No call ends in another function than it began in.
#[test]
fn c2_threads_that_go_in_meanwhile() {
    let (built, bundle) = Scenario::of("c2_goes_in.c").bundle();
    let board = Board::new(built.lab.path("board"));
    let mut target = Target::start_command(Command::new(&built.exe).arg(board.path()));
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    let [rounds, replaced] = [0, 1];
    for _ in 0..turns(150, 2000) {
        lp_apply([bundle, "--pid", &pid, "--wait", "60s"]).expect(Outcome::Applied);
        lp_apply(["revert", bundle, "--pid", &pid, "--wait", "60s"]).expect(Outcome::Reverted);
        board.wait_growth(rounds, 4);
        assert_eq!(board.get(replaced), 0, "functions were replaced under their callers");
    }
    assert_eq!(target.ask("x"), "1");
    target.finish();
}

/// C3: a thread never leaves the function.
#[test]
fn c3_blocked_by_a_thread_that_stays() {
    let (built, bundle) = Scenario::of("c2_asleep_inside.c").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let bundle = bundle.to_str().unwrap();
    assert_eq!(target.ask("hold -1"), "holding 0");
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let tids = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    let holder = tids.filter(|tid| *tid != pid).max_by_key(|tid| tid.parse::<u32>().unwrap()).unwrap();
    let before = target.snapshot();

    let verdict = lp_apply([bundle, "--pid", &pid, "--wait", "500ms"]);
    verdict.expect_saying(Outcome::Blocked, &["slow", &holder]);
    assert_eq!(target.ask("now"), "0", "the old function");
    before.assert_same(&target.snapshot());
    assert_eq!(lp_apply(["list", "--pid", &pid]).patches(), []);

    lp_apply([bundle, "--pid", &pid, "--consistency", "immediate"]).expect(Outcome::Applied);
    assert_eq!(target.ask("now"), "1000", "the new function");
    assert_eq!(target.ask("hold 7"), "holding 0", "other threads call the new function too");
    assert_eq!(target.next_line(), "held 1007");
}

/// The author of the patch says that a function may be replaced while threads are inside it, and only that one.
#[test]
fn c3_immediate_by_the_authors_word() {
    let scenario = Scenario::of("c2_asleep_inside.c");
    let built = scenario.build();
    let bundle = built.lab.path("fix.lpb");
    let build = |name: &str| {
        let more = ["--immediate".to_owned(), name.to_owned()];
        lp_compile(scenario.build_args(&built, &bundle).into_iter().chain(more))
    };
    build("slwo").expect(4).says("--immediate slwo: the patch does not replace this function");
    build("slow").expect(0);
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    assert_eq!(target.ask("hold -1"), "holding 0");
    lp_apply([bundle.to_str().unwrap(), "--pid", &pid, "--wait", "500ms"]).expect(Outcome::Applied);
    assert_eq!(target.ask("now"), "1000", "the new function");
    // A wish of the operator goes before the author's.
    lp_apply(["revert", bundle.to_str().unwrap(), "--pid", &pid]).expect(Outcome::Reverted);
    let verdict = lp_apply([bundle.to_str().unwrap(), "--pid", &pid, "--wait", "500ms", "--consistency", "quiescent"]);
    verdict.expect_saying(Outcome::Blocked, &["slow"]);
    assert_eq!(target.ask("now"), "0", "the old function");
}

/// C2: where a function is in a vfork, its return address is on no stack.
#[test]
fn c2_vfork_inside() {
    let (built, bundle) = Scenario::of("c2_vfork_inside.c").bundle();
    let mut target = Target::start(&built.exe);
    let (bundle, pid) = (bundle.to_str().unwrap(), target.pid().to_string());
    for _ in 0..turns(8, 100) {
        lp_apply([bundle, "--pid", &pid, "--wait", "300ms"]).expect(Outcome::Blocked);
    }
    assert_eq!(target.ask("end"), "1");
    lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!(target.ask("new"), "2");
    target.finish();
}
