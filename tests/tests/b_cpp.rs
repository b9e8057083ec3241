//! B10. C++: exceptions pass through code of the patch, because the process's unwinder is told of it.

use lp_tests::scenario::{Built, Scenario};
use lp_tests::tools::{Running, lp_apply_command};
use lp_tests::{Board, Kind, Outcome, Target, lp_apply, lp_compile};
use std::path::Path;
use std::process::Command;

/// Out of, through, caught inside; virtual functions, templates, types that both know. After the revert as before.
#[test]
fn b10_exceptions() {
    Scenario::of("b10_exceptions.cpp").run();
}

#[test]
fn b10_exceptions_non_pie() {
    Scenario::of("b10_exceptions.cpp").kind(Kind::NonPie).run();
}

/// The unwinder is a part of the program.
#[test]
fn b10_exceptions_with_gcc_inside() {
    Scenario::of("b10_exceptions.cpp").flag("-static-libgcc").flag("-static-libstdc++").run();
}

#[test]
fn b10_exceptions_static() {
    Scenario::of("b10_exceptions.cpp").kind(Kind::Static).run();
}

/// `-v` says who was sent, and why that one.
#[test]
fn b10_says_which_thread_was_sent() {
    let (built, bundle) = Scenario::of("b10_exceptions.cpp").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    for (args, outcome, did) in [
        (vec![bundle.to_str().unwrap()], Outcome::Applied, "register"),
        (vec!["revert", "fix"], Outcome::Reverted, "deregister"),
    ] {
        let process = lp_apply(args.iter().chain(&["--pid", &pid, "-v"])).expect(outcome);
        let sent = process["unwind"].as_array().unwrap_or_else(|| panic!("nobody was sent: {process:#}"));
        assert_eq!(sent.len(), 1, "{process:#}");
        assert_eq!(sent[0]["thread"].to_string(), pid);
        assert_eq!(sent[0]["did"], did);
        assert_eq!(sent[0]["why"], "asleep in read");
    }
    assert_eq!(target.ask("twice"), "42");
    // For people.
    for (args, did) in [(vec![bundle.to_str().unwrap()], "register"), (vec!["revert", "fix"], "deregister")] {
        let run = Running::start(lp_apply_command().args(args.iter().chain(&["--pid", &pid, "-v"]))).finish();
        let says = format!("thread {pid} was sent to {did} it, as it was asleep in read");
        assert!(run.expect(0).stdout.contains(&says), "{run}");
    }
    target.finish();
}

/// Two threads throw through the function while it is replaced and put back again and again.
#[test]
fn b10_applied_and_reverted_under_load() {
    let (built, bundle) = Scenario::of("b10_load.cpp").bundle();
    let board = Board::new(built.lab.path("board"));
    let target = Target::start_command(Command::new(&built.exe).arg(board.path()));
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    for _ in 0..50 {
        lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
        grows(&board);
        lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
        grows(&board);
    }
    assert!(lp_apply(["list", "--pid", &pid]).patches().is_empty());
}

/// The thread that is sent has all its registers in use, the widest too, and finds them as they were.
#[test]
fn b10_registers_of_the_thread_that_was_sent() {
    let (built, bundle) = Scenario::of("b10_registers.c").bundle();
    let board = Board::new(built.lab.path("board"));
    let target = Target::start_command(Command::new(&built.exe).arg(board.path()));
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    let sent = |args: &[&str], outcome| {
        let process = lp_apply(args.iter().chain(&["--pid", &pid, "-v", "--wait", "60s"])).expect(outcome);
        assert_eq!(process["unwind"][0]["why"], "computing in b10_registers", "{process:#}");
        board.wait_growth(0, 2);
        assert_eq!(board.get(1), 0, "registers were changed");
    };
    for _ in 0..20 {
        sent(&[bundle], Outcome::Applied);
        assert_eq!(board.get(2), 2);
        sent(&["revert", bundle], Outcome::Reverted);
        assert_eq!(board.get(2), 1);
    }
}

/// A thread that waits inside the unwinder, or inside the allocator, is not the one: another is, or none.
#[test]
fn b10_no_thread_inside_the_unwinder_or_the_allocator() {
    for (question, why) in [("unwind", "may return into the unwinder"), ("allocate", "unwind table")] {
        let (built, bundle) = Scenario::of("b10_inside.c").bundle();
        let mut target = Target::start(&built.exe);
        let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
        let quick = ["--pid", &pid, "--wait", "300ms"];
        assert_eq!(target.ask(question), "inside", "{question}");
        let inside = target.snapshot();
        lp_apply([bundle].iter().chain(&quick)).expect_saying(Outcome::Blocked, &["no thread", "register", why]);
        inside.assert_same(&target.snapshot());
        assert_eq!(target.ask("out"), "1", "{question}");
        lp_apply([bundle].iter().chain(&quick)).expect(Outcome::Applied);
        if question == "unwind" {
            // On the way back the memory stays until somebody is fit to go; then another thread is there.
            assert_eq!(target.ask(question), "inside");
            let words = ["no longer in force; its memory stays", "deregister", why];
            lp_apply(["revert", bundle].iter().chain(&quick)).expect_saying(Outcome::Reverted, &words);
            assert_eq!(target.ask("out"), "1");
            assert_eq!(target.ask("another"), "1");
            lp_apply([bundle].iter().chain(&quick)).expect(Outcome::Applied);
            assert_eq!(target.ask(question), "inside");
            let process = lp_apply(["revert", bundle].iter().chain(&quick).chain(&["-v"])).expect(Outcome::Reverted);
            assert_ne!(process["unwind"][0]["thread"].to_string(), pid, "{process:#}");
            assert_eq!(process["unwind"][0]["why"], "asleep in pause");
            assert_eq!(target.ask("out"), "1");
        }
        target.finish();
    }
}

#[track_caller]
fn grows(board: &Board) {
    (0..2).for_each(|thread| board.wait_growth(thread, 20));
    assert_eq!(board.get(2), 0, "wrong results");
}

/// Plain C needs no unwinder; where there is one, it is told all the same.
#[test]
fn b10_plain_c() {
    for (flags, want) in [(&[][..], 0), (&["-Wl,--no-as-needed", "-lgcc_s"], 1)] {
        let scenario = flags.iter().fold(Scenario::of("b10_plain.c"), |s, flag| s.flag(flag));
        let (built, bundle) = scenario.bundle();
        assert_eq!(unwind_tables(&bundle), want, "with {flags:?}");
        let mut target = Target::start(&built.exe);
        scenario.check(&mut target, &bundle);
        target.finish();
    }
}

fn unwind_tables(bundle: &Path) -> usize {
    let run = lp_compile(["inspect".as_ref(), bundle.as_os_str()]);
    run.expect(0);
    run.stdout.matches("\nUnwind table at ").count()
}

/// C++ for a program that has no unwinder at all.
#[test]
fn b10_no_unwinder() {
    let scenario = Scenario::of("b10_plain.c");
    let Built { lab, exe, patch } = scenario.build();
    lab.write("throws.cpp", "extern \"C\" int new_answer(int n) { if (n) throw n; return 1; }\n");
    let mut cc = Command::new("c++");
    lp_tests::lab::run(cc.args(["-shared", "-fPIC", "-o"]).arg(&patch).arg(lab.path("throws.cpp")));
    let out = lab.path("fix.lpb");
    let run = lp_compile(scenario.build_args(&Built { lab, exe, patch }, &out));
    run.expect(4).says("nothing in the target takes its unwind table");
    assert!(!out.exists());
}

/// A table without end mark would have the unwinder read on behind it.
#[test]
fn b10_no_end_mark() {
    let scenario = Scenario::of("b10_exceptions.cpp");
    let Built { lab, exe, patch } = scenario.build();
    lab.write("bare.cpp", "extern \"C\" int new_twice(int n) { if (n) throw n; return 1; }\n");
    let mut cc = Command::new("c++");
    lp_tests::lab::run(cc.args(["-shared", "-fPIC", "-nostartfiles", "-o"]).arg(&patch).arg(lab.path("bare.cpp")));
    let out = lab.path("fix.lpb");
    let option = ["--target", exe.to_str().unwrap(), "--patch", patch.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let run = lp_compile(["build", "--replace", "_Z5twiceIiET_S0_=new_twice"].iter().chain(&option));
    run.expect(4).says("has no end mark");
}
