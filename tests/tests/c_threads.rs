//! C. Threads that run, come and go while they are patched: every call is all old or all new, and nobody comes to harm.

use lp_tests::scenario::Scenario;
use lp_tests::skip::skip;
use lp_tests::tools::lp_apply_start;
use lp_tests::{Board, Outcome, Patient, Target, lp_apply, lp_compile, turns, wait_for};
use std::process::Command;

// Places on the boards of these programs.
const ROUNDS: usize = 0;
const ERRORS: usize = 1;
const OLD: usize = 2;
const NEW: usize = 3;

/// C1 and C4: eight threads call two functions without pause. The first calls the second: no call mixes the versions.
#[test]
fn c1_c4_hot_functions_of_one_version() {
    let mut patient = Patient::of("c1_hot.c");
    let board = |place| patient.board.get(place);
    for turn in 0..turns(60, 1000) {
        patient.apply(&["--wait", "60s"]).expect(Outcome::Applied);
        let new = board(NEW);
        patient.board.wait_growth(ROUNDS, 100);
        assert!(board(NEW) > new, "turn {turn}: nobody calls the new functions");
        patient.revert(&["--wait", "60s"]).expect(Outcome::Reverted);
        let (old, new) = (board(OLD), board(NEW));
        patient.board.wait_growth(ROUNDS, 100);
        assert!(board(OLD) > old, "turn {turn}: nobody calls the old functions");
        // Each of the eight threads may count a call only now that ended before.
        assert!(board(NEW) <= new + 8, "turn {turn}: {} calls of reverted functions", board(NEW) - new);
        assert_eq!(board(ERRORS), 0, "turn {turn}: mixed results");
    }
    assert_eq!(patient.target.ask("x"), "11");
    patient.target.finish();
}

/// C1: one of the functions ends with a jump into the other one.
#[test]
fn c1_tail_calls_of_one_version() {
    let patient = Patient::of("c1_tail.c");
    for _ in 0..turns(100, 1000) {
        patient.apply(&["--wait", "60s"]).expect(Outcome::Applied);
        patient.board.wait_growth(NEW, 2);
        patient.revert(&["--wait", "60s"]).expect(Outcome::Reverted);
        patient.board.wait_growth(OLD, 2);
    }
    assert_eq!(patient.board.get(ERRORS), 0, "calls that mixed the versions");
}

/// C5: the function is interrupted by a signal handler, on its own stack and on an alternate one: that is being inside.
#[test]
fn c5_interrupted_by_a_handler() {
    for stack in ["same", "own"] {
        let mut patient = Patient::of("c5_signal.c");
        assert_eq!(patient.target.ask(stack), "in handler");
        patient.apply(&["--wait", "300ms"]).expect_saying(Outcome::Blocked, &["work"]);
        assert_eq!(patient.target.ask("x"), "10");
        patient.target.send_line("end");
        assert_eq!(patient.target.next_line(), "worked 1", "the call in flight ends as it began");
        patient.apply(&["--wait", "30s"]).expect(Outcome::Applied);
        assert_eq!(patient.target.ask("x"), "20");
        patient.target.finish();
    }
}

/// C6: a coroutine is parked inside the function. Its stack is seen only if one asks for it.
#[test]
fn c6_parked_coroutine() {
    let mut patient = Patient::of("c6_coroutine.c");
    assert_eq!(patient.target.ask("park"), "parked");
    patient.apply(&["--scan-memory", "--wait", "300ms"]).expect_saying(Outcome::Blocked, &["work", "coroutine"]);
    assert_eq!(patient.target.ask("x"), "10");
    patient.apply(&[]).expect(Outcome::Applied);
    assert_eq!(patient.target.ask("x"), "20");
    assert_eq!(patient.target.ask("go on"), "worked 1", "the old code is all still there");
    patient.target.finish();
}

/// C6: it is parked on a stack below the one, in the same memory, that a thread is on.
#[test]
fn c6_parked_below_another_coroutine() {
    let mut patient = Patient::of("c6_pool.c");
    patient.apply(&["--scan-memory", "--wait", "300ms"]).expect_saying(Outcome::Blocked, &["work", "coroutine"]);
    assert_eq!(patient.target.ask("go on"), "worked 1", "the old code is all still there");
    patient.apply(&[]).expect(Outcome::Applied);
    assert_eq!(patient.target.ask("x"), "20");
    patient.target.finish();
}

/// C6: a coroutine is parked in the new code, or an address of the patch is kept: when reverted with --scan-memory, the memory of the
/// patch stays until that is over.
#[test]
fn c6_revert_leaves_what_is_needed() {
    let mut patient = Patient::of("c6_revert.c");
    let pid = patient.pid().to_owned();
    for (begin, begun, end, ended) in
        [("park", "parked", "go on", "worked 2"), ("keep", "kept", "forget", "the new one")]
    {
        let before = patient.target.snapshot();
        patient.apply(&[]).expect(Outcome::Applied);
        assert_eq!(patient.target.ask(begin), begun);
        let scan = ["--scan-memory", "--wait", "300ms"];
        patient.revert(&scan).expect_saying(Outcome::Reverted, &["memory stays", "--scan-memory", "c6_revert"]);
        assert_eq!(patient.target.ask("x"), "10");
        patient.revert(&[]).expect(Outcome::NotApplied);
        assert_eq!(lp_apply(["list", "--pid", &pid]).patches().len(), 1, "its memory has gone");
        assert_eq!(patient.target.ask(end), ended);
        patient.revert(&["--scan-memory"]).expect(Outcome::NotApplied);
        before.assert_same(&patient.target.snapshot());
    }
    patient.target.finish();
}

/// C6: the same where the address is in a register alone.
#[test]
fn c6_revert_leaves_what_is_in_a_register() {
    let mut patient = Patient::of("c6_revert.c");
    let before = patient.target.snapshot();
    patient.apply(&[]).expect(Outcome::Applied);
    assert_eq!(patient.target.ask("hold"), "holding");
    let call = format!("/proc/{}/syscall", patient.pid());
    wait_for("read(2)", || std::fs::read_to_string(&call).unwrap().starts_with("0 0x0 ").then_some(()));
    let scan = ["--scan-memory", "--wait", "300ms"];
    patient.revert(&scan).expect_saying(Outcome::Reverted, &["memory stays", "in a register"]);
    assert_eq!(patient.target.ask("go on"), "the new one");
    patient.revert(&["--scan-memory"]).expect(Outcome::NotApplied);
    before.assert_same(&patient.target.snapshot());
    patient.target.finish();
}

/// C6: a patch that is out of force, and whose memory stays, has no say in what it had set: the program, or another patch, may set it
/// to the same.
#[test]
fn c6_what_a_held_patch_had_set() {
    let built = Scenario::of("c6_set.c").build();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let bundle = |name: &str, options: &[&str]| {
        let path = built.lab.path(name).to_str().unwrap().to_owned();
        let [exe, patch] = [&built.exe, &built.patch].map(|path| path.to_str().unwrap());
        let args = ["build", "--target", exe, "--patch", patch, "--name", name, "-o", &path];
        lp_compile(args.iter().chain(options)).expect(0);
        path
    };
    let first = bundle("first", &["--replace", "name=new_name", "--set", "way=addr:another"]);
    let second = bundle("second", &["--replace", "work=new_work", "--set", "way=addr:another"]);
    let third = bundle("third", &["--replace", "other=new_other"]);
    let apply = |bundle: &str| lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
    let revert = |bundle: &str| lp_apply(["revert", bundle, "--pid", &pid, "--scan-memory", "--wait", "300ms"]);
    apply(&first);
    assert_eq!(target.ask("keep"), "another");
    revert(&first).expect_saying(Outcome::Reverted, &["memory stays"]);
    // The program sets it.
    assert_eq!([target.ask("set"), target.ask("way")], ["set", "another"]);
    apply(&third);
    assert_eq!([target.ask("way"), target.ask("unset"), target.ask("way")], ["another", "unset", "one"]);
    lp_apply(["revert", &third, "--pid", &pid]).expect(Outcome::Reverted);
    // Another patch does.
    apply(&second);
    apply(&third);
    assert_eq!(target.ask("way"), "another");
    let mut states: Vec<_> = lp_apply(["list", "--pid", &pid]).patches();
    states.sort();
    let want = [("first", "inactive"), ("second", "active"), ("third", "active")];
    assert_eq!(states, want.map(|(name, state)| (name.to_owned(), state.to_owned())));
    for bundle in [&third, &second] {
        lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
    }
    // The same patch again, beside what it has left.
    apply(&first);
    revert(&first).expect(Outcome::Reverted);
    assert_eq!(lp_apply(["list", "--pid", &pid]).patches(), [("first".to_owned(), "inactive".to_owned())]);
    assert_eq!([target.ask("forget"), target.ask("way")], ["the new one", "one"]);
    revert(&first).expect(Outcome::NotApplied);
    assert_eq!(lp_apply(["list", "--pid", &pid]).patches(), []);
    target.finish();
}

/// C6: lp-apply is killed after each step of such a revert, and the patch applied again: what the dead run has left is out of force for
/// good, and not taken for a second patch of the same name.
#[test]
fn c6_applied_again_after_a_kill() {
    let built = Scenario::of("c6_set.c").build();
    let path = built.lab.path("again").to_str().unwrap().to_owned();
    let [exe, patch] = [&built.exe, &built.patch].map(|path| path.to_str().unwrap());
    let build = ["build", "--target", exe, "--patch", patch, "--name", "again", "-o", &path];
    lp_compile(build.iter().chain(&["--replace", "name=new_name", "--set", "way=addr:another"])).expect(0);
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let before = target.snapshot();
    for step in 1.. {
        lp_apply([&path, "--pid", &pid]).expect(Outcome::Applied);
        let revert = ["revert", &path, "--pid", &pid, "--scan-memory"];
        let killed = Patient::with_fault(&revert, &format!("kill:{step}")).was_killed();
        let again = lp_apply([&path, "--pid", &pid]);
        assert!(again.is(Outcome::Applied) || again.is(Outcome::AlreadyApplied), "step {step}: {}", again.run);
        assert_eq!(target.ask("way"), "another", "step {step}");
        lp_apply(["revert", "again", "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("way"), "one", "step {step}");
        lp_apply(["revert", "again", "--pid", &pid, "--scan-memory"]).expect(Outcome::NotApplied);
        before.assert_same(&target.snapshot());
        if !killed {
            break;
        }
    }
    target.finish();
}

/// C6: the same, with lp-apply killed after each step of such a revert: once the patch is out of force, no later run removes what the
/// coroutine needs.
#[test]
fn c6_killed_while_it_reverts() {
    let mut patient = Patient::of("c6_revert.c");
    let pid = patient.pid().to_owned();
    let mut held = 0;
    for step in 1.. {
        patient.apply(&[]).expect(Outcome::Applied);
        assert_eq!(patient.target.ask("park"), "parked");
        let revert: Vec<&str> = patient.revert_args().into_iter().chain(["--scan-memory", "--wait", "0ms"]).collect();
        let verdict = Patient::with_fault(&revert, &format!("kill:{step}"));
        let in_force = lp_apply(["list", "--pid", &pid]).patches().iter().any(|(_, state)| state == "active");
        if !in_force {
            patient.revert(&[]).expect(Outcome::NotApplied);
            held += 1;
        }
        assert_eq!(patient.target.ask("go on"), "worked 2", "step {step}");
        patient.revert(&["--scan-memory"]).expect(if in_force { Outcome::Reverted } else { Outcome::NotApplied });
        assert_eq!(lp_apply(["list", "--pid", &pid]).patches(), [], "step {step}");
        if !verdict.was_killed() {
            break;
        }
    }
    assert!(held > 2, "killed only {held} times once it was out of force: is this a debug build of lp-apply?");
    patient.target.finish();
}

/// C7: threads are made and end without pause: applied or blocked, and every call is right.
#[test]
fn c7_thread_storm() {
    storm("0", turns(15, 100));
}

/// C7: the same beside a thousand threads that sleep.
#[test]
fn c7_thread_storm_among_a_thousand() {
    storm("1000", turns(5, 50));
}

fn storm(sleepers: &str, times: usize) {
    let mut patient = Patient::start("c7_storm.c", &[sleepers]);
    let mut blocked = 0;
    // What is blocked must leave the target as it was: then the next one finds nothing in its way.
    let mut until_done = |what: &dyn Fn() -> lp_tests::Verdict, outcome: Outcome| {
        for _ in 0..20 {
            let verdict = what();
            if verdict.run.status.success() {
                println!("{}", verdict.run);
                verdict.expect(outcome);
                return;
            }
            verdict.expect(Outcome::Blocked);
            blocked += 1;
        }
        panic!("blocked twenty times");
    };
    for _ in 0..times {
        until_done(&|| patient.apply(&[]), Outcome::Applied);
        patient.board.wait_growth(ROUNDS, 20);
        until_done(&|| patient.revert(&[]), Outcome::Reverted);
        patient.board.wait_growth(ROUNDS, 20);
        assert_eq!(patient.board.get(ERRORS), 0, "wrong results");
    }
    println!("blocked {blocked} times in {times} turns");
    assert_eq!(patient.target.ask("x"), "41");
}

/// A run stops all threads once. To know that the injected code is free, only those that were sent there are asked.
#[test]
fn c_all_threads_are_stopped_once() {
    const THREADS: usize = 40;
    let (built, bundle) = Scenario::of("bench.c").bundle();
    let board = Board::new(built.lab.path("board"));
    let target = Target::start_command(Command::new(&built.exe).arg(THREADS.to_string()).arg(board.path()));
    let (bundle, pid) = (bundle.to_str().unwrap(), target.pid().to_string());
    let original = target.snapshot();
    for (args, outcome) in [([bundle].as_slice(), Outcome::Applied), (&["revert", bundle], Outcome::Reverted)] {
        let args = [args, &["--pid", &pid]].concat();
        let done = Patient::with_fault(&args, "trace");
        done.expect(outcome);
        let stops = done.run.stderr.lines().filter(|line| line.ends_with(" stopped")).count();
        assert_eq!(stops, THREADS, "{args:?}");
    }
    original.assert_same(&target.snapshot());
}

/// C8: a thread stays in the new function, in code of the patch it has jumped to, in its cold part. When the time is up, or
/// at once, revert takes the patch out of force and leaves its memory; a later run removes it.
#[test]
fn c8_revert_while_a_thread_is_in_new_code() {
    let rows = ["inside", "tail", "cold"].map(|how| (how, ["--wait", "300ms"]));
    for (how, patience) in rows.into_iter().chain([("inside", ["--consistency", "immediate"])]) {
        let mut patient = Patient::of("c8_revert.c");
        let before = patient.target.snapshot();
        patient.apply(&[]).expect(Outcome::Applied);
        assert_eq!(patient.target.ask(&format!("stay {how}")), "staying 0");
        patient.revert(&patience).expect_saying(Outcome::Reverted, &["memory stays", "the code of patch"]);
        assert_eq!(patient.target.ask("x"), "100", "{how}: out of force");
        patient.revert(&[]).expect(Outcome::NotApplied);
        patient.target.send_line("end");
        assert_eq!(patient.target.next_line(), "worked 101", "{how}: the call in flight ends in the new code");
        // The next run removes what the thread needed.
        patient.apply(&["--wait", "30s"]).expect(Outcome::Applied);
        assert_eq!(patient.target.ask("x"), "101", "{how}");
        patient.revert(&["--wait", "30s"]).expect(Outcome::Reverted);
        before.assert_same(&patient.target.snapshot());
        patient.target.finish();
    }
}

/// C7: an interrupt that comes while a thread makes another one is not lost: nobody stands still until lp-apply gives up.
#[test]
fn c7_threads_that_make_threads() {
    let (built, bundle) = Scenario::of("c7_creators.c").bundle();
    let board = Board::new(built.lab.path("board"));
    let target = Target::start_command(Command::new(&built.exe).arg(board.path()));
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    let [made, late] = [0, 1];
    for _ in 0..turns(200, 2000) {
        for (args, done) in [([bundle].as_slice(), Outcome::Applied), (&["revert", bundle], Outcome::Reverted)] {
            // At once, or because a thread is stuck in the kernel at that moment, not at all.
            let tries = (0..100).map(|_| lp_apply(args.iter().chain(&["--pid", &pid, "--wait", "0s"])));
            let mut tries = tries.inspect(|v| assert!(!v.message().contains("in kernel state S"), "{}", v.run));
            let verdict = tries.find(|v| !v.is(Outcome::Blocked));
            verdict.expect("a moment when no thread is stuck").expect(done);
        }
    }
    board.wait_growth(made, 10);
    // A number for people: on a busy machine it says more about the machine than about lp-apply.
    println!("the first thread was late by {} us at most", board.get(late) / 1000);
}

/// C9: the only thread has little room left on a stack that the program has cut out of its own memory.
#[test]
fn c9_the_neighbours_of_a_small_stack() {
    let (built, bundle) = Scenario::of("c9_neighbour.c").bundle();
    for left in ["150", "400", "3000"] {
        let board = Board::new(built.lab.path(left));
        let target = Target::start_command(Command::new(&built.exe).arg(left).arg(board.path()));
        let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
        let [rounds, changed] = [0, 1];
        board.wait_growth(rounds, 2);
        for _ in 0..5 {
            lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
            lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
        }
        board.wait_growth(rounds, 2);
        assert_eq!(board.get(changed), 0, "{left}: bytes that are none of its stack");
    }
}

/// C9: no thread has room on its stack: one that has is waited for.
#[test]
fn c9_no_thread_can_be_borrowed_yet() {
    let (built, bundle) = Scenario::of("c9_no_room.c").bundle();
    let board = Board::new(built.lab.path("board"));
    let target = Target::start_command(Command::new(&built.exe).arg(board.path()));
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    let [leave, rounds, answer] = [0, 1, 2];
    let verdict = lp_apply([bundle, "--pid", &pid, "--wait", "0s"]);
    verdict.expect(Outcome::Blocked);
    assert!(verdict.message().contains("has no room on its stack"), "{}", verdict.message());
    let applying = lp_apply_start([bundle, "--pid", &pid, "--wait", "60s"]);
    wait_for("a nap between two attempts", || {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", applying.pid())).unwrap();
        // nanosleep(2) or clock_nanosleep(2).
        (call.starts_with("35 ") || call.starts_with("230 ")).then_some(())
    });
    board.set(leave, 1);
    applying.verdict().expect(Outcome::Applied);
    board.wait_growth(rounds, 2);
    assert_eq!(board.get(answer), 2);
    lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
    board.wait_growth(rounds, 2);
    assert_eq!(board.get(answer), 1);
}

/// C9: the kernel's own threads, which work for the program, are left alone, and so is what they are doing.
#[test]
fn c9_threads_of_io_uring() {
    let (built, bundle) = Scenario::of("c9_io_uring.c").bundle();
    let mut target = Target::spawn(&mut Command::new(&built.exe));
    if target.next_line() == "no io_uring" {
        skip("io_uring, which this kernel has not or does not allow");
        return;
    }
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    // One that polls, one for each read.
    wait_for("three threads of the kernel", || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        (tasks.count() == 4).then_some(())
    });
    for _ in 0..turns(10, 100) {
        lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
        assert_eq!(target.ask("answer"), "2");
        lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("answer"), "1");
        assert_eq!(target.ask("reads"), "0", "a read was broken off");
    }
    assert_eq!(target.ask("write"), "7 7");
    target.finish();
}

/// C9: a thread in a restartable sequence, on an alternate stack with signals blocked, with vector registers in use, with
/// all registers and its red zone in use.
#[test]
fn c9_nothing_of_a_thread_is_lost() {
    for kind in ["sequences", "alarms", "vectors", "red-zone"] {
        let patient = Patient::start("state.c", &[kind]);
        patient.come_and_go(turns(20, 1000));
        patient.board.wait_growth(ROUNDS, 2);
        assert_eq!(patient.board.get(ERRORS), 0, "{kind}: wrong in {} rounds", patient.board.get(ROUNDS));
    }
}

/// The first thread ends while lp-apply waits: the process goes on, and so does lp-apply.
#[test]
fn c7_first_thread_leaves_meanwhile() {
    let (built, bundle) = Scenario::of("c7_leaves.c").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let applying = lp_apply_start([bundle.to_str().unwrap(), "--pid", &pid, "--wait", "60s"]);
    wait_for("a staged patch", || {
        let patches = lp_apply(["list", "--pid", &pid]).patches();
        patches.iter().any(|(_, state)| state == "staged").then_some(())
    });
    assert_eq!(target.ask("leave"), "leaving");
    wait_for("the end of the first thread", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).unwrap();
        stat.contains(") Z ").then_some(())
    });
    assert_eq!(target.ask("end"), "1");
    applying.verdict().expect(Outcome::Applied);
    assert_eq!(target.ask("new"), "2");
    lp_apply(["revert", bundle.to_str().unwrap(), "--pid", &pid]).expect(Outcome::Reverted);
}

/// Threads end while they are listed, asked and stopped, the first one among them: none is missed.
#[test]
fn c7_threads_that_live_for_a_moment() {
    let (built, bundle) = Scenario::of("c7_heirs.c").bundle();
    let [old, new, mixed] = [0, 1, 2];
    for first_thread in ["stays", "leaves"] {
        let board = Board::new(built.lab.path(first_thread));
        let target = Target::start_command(Command::new(&built.exe).arg(first_thread).arg(board.path()));
        let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
        for _ in 0..turns(150, 2000) {
            lp_apply([bundle, "--pid", &pid, "--wait", "60s"]).expect(Outcome::Applied);
            board.wait_growth(new, 2);
            lp_apply(["revert", bundle, "--pid", &pid, "--wait", "60s"]).expect(Outcome::Reverted);
            board.wait_growth(old, 2);
        }
        assert_eq!(board.get(mixed), 0, "{first_thread}: calls that mixed the versions");
    }
}

/// A thread is made while all are seized and listed, and is there only after that: it is not missed.
#[test]
fn c7_a_thread_that_is_being_made() {
    let (built, bundle) = Scenario::of("c7_births.c").bundle();
    let board = Board::new(built.lab.path("board"));
    let target = Target::start_command(Command::new(&built.exe).arg(board.path()));
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    let [old, new, mixed] = [0, 1, 2];
    for _ in 0..turns(60, 1000) {
        lp_apply([bundle, "--pid", &pid, "--wait", "60s"]).expect(Outcome::Applied);
        board.wait_growth(new, 2);
        lp_apply(["revert", bundle, "--pid", &pid, "--wait", "60s"]).expect(Outcome::Reverted);
        board.wait_growth(old, 2);
    }
    assert_eq!(board.get(mixed), 0, "calls that mixed the versions");
}

/// A thread calls exec while others are seized: the kernel lets neither go on until lp-apply has taken note of those that exec has
/// ended.
#[test]
fn c7_exec_among_threads_that_live_for_a_moment() {
    let (built, bundle) = Scenario::of("c7_heirs.c").bundle();
    let board = Board::new(built.lab.path("board"));
    for turn in 0..turns(80, 2000) {
        let mut target = Target::start_command(Command::new(&built.exe).arg("execs").arg(board.path()));
        let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
        let applying = lp_apply_start([bundle, "--pid", &pid, "--wait", "2s"]);
        target.send_line(&(turn % 25 * 1000).to_string());
        wait_for("the other program", || {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            (name == "sleep\n").then_some(())
        });
        let verdict = applying.verdict();
        let said = [Outcome::Gone, Outcome::Applied, Outcome::NotApplicable, Outcome::Blocked];
        assert!(said.iter().any(|outcome| verdict.is(*outcome)), "{}", verdict.run);
    }
}

/// A thread goes into uninterruptible sleep when it is to be stopped: that attempt fails. The thread does not wait for the next
/// one that succeeds: for that, another one would have to leave the function.
#[test]
fn c7_late_for_a_stop() {
    let [_, took, _] = late_for_a_stop(1, 1, "8s");
    assert!((1500..5000).contains(&took), "a vfork of 1,500 ms took {took} ms");
}

/// The same with more than are stopped at a time: a thread that was to come behind them goes on at once, and does not wait for
/// each of them in turn.
#[test]
fn c7_many_late_for_a_stop() {
    let [late, _, gap] = late_for_a_stop(80, 65, "0");
    assert!(gap < 1000, "a thread stood still for {gap} ms beside {late} in vfork");
}

/// Applies until `enough` of `watchers` threads are late for its stop. How many were, how long the longest vfork took, and the
/// largest gap of a thread that computes, in ms.
fn late_for_a_stop(watchers: usize, enough: u32, wait: &str) -> [u32; 3] {
    let (built, bundle) = Scenario::of("c7_leaves.c").bundle();
    for _ in 0..50 {
        let mut target = Target::start_command(Command::new(&built.exe).arg("later"));
        let (bundle, pid) = (bundle.to_str().unwrap(), target.pid().to_string());
        assert_eq!(target.ask(&format!("watch {watchers}")), "0");
        let verdict = lp_apply([bundle, "--pid", &pid, "--wait", wait]);
        let answer = target.ask("late");
        println!("{answer}: {}", verdict.message());
        let numbers: Vec<u32> = answer.split(' ').map(|number| number.parse().unwrap()).collect();
        // They may be stopped before they know.
        if numbers[0] >= enough {
            verdict.expect(Outcome::Blocked);
            target.finish();
            return numbers.try_into().unwrap();
        }
    }
    panic!("they were always in time");
}
