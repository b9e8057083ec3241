//! E. Obstacles: a verdict that names the control and what to do, before anything is touched; and where it can be done, it
//! is done. In either case the target goes on.

use lp_tests::obstacle::Obstacle;
use lp_tests::scenario::{Built, Scenario};
use lp_tests::tools::{Running, lp_apply_command, lp_apply_start};
use lp_tests::{Kind, Outcome, Patient, Target, lp_apply, needs, skip, turns, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// E1: a filter that does not mind what lp-apply has the target do.
#[test]
fn e1_seccomp_allows() {
    Obstacle::of("seccomp-allow").works();
}

/// E1: filters that forbid a call, or would kill the target for it.
#[test]
fn e1_seccomp_forbids() {
    for state in ["seccomp-errno", "seccomp-kill", "seccomp-trap", "seccomp-homeward"] {
        println!("{state}");
        Obstacle::of(state).stands_in_the_way(Outcome::Refused, &["seccomp filter"]);
    }
}

/// E1: a filter that does not know the call by which the kernel resumes a sleep after a stop: the sleep is begun again instead.
#[test]
fn e1_seccomp_forbids_to_resume() {
    let mut patient = Patient::of("e1_resume.c");
    patient.come_and_go(turns(15, 200));
    patient.board.wait_growth(0, 8);
    assert_eq!(patient.board.get(1), 0, "sleeps that ended early");
    assert_eq!(patient.target.ask("x"), "1");
    patient.target.finish();
}

/// E1: strict mode, which kills for anything but read, write and exit.
#[test]
fn e1_seccomp_strict() {
    Obstacle::of("strict").stands_in_the_way(Outcome::Refused, &["strict"]);
}

/// E2: no memory of the target may become executable later; the patch's never does.
#[test]
fn e2_memory_deny_write_execute() {
    Obstacle::of("mdwe").works();
}

/// E4: a breakpoint in the function.
#[test]
fn e4_breakpoint() {
    Obstacle::of("breakpoint").stands_in_the_way(Outcome::Refused, &["answer", "0xcc"]);
}

/// E5: one thread is in uninterruptible sleep: blocked, in bounded time, and nobody stands still for it.
#[test]
fn e5_thread_in_state_d() {
    let obstacle = Obstacle::of("in-vfork");
    wait_for_state_d(&obstacle.pid);
    obstacle.stands_in_the_way(Outcome::Blocked, &["kernel state D"]);
}

fn wait_for_state_d(pid: &str) {
    let tasks =
        || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path().join("stat"));
    let is_d = |stat: std::path::PathBuf| std::fs::read_to_string(stat).is_ok_and(|text| text.contains(") D "));
    wait_for("a thread in state D", || tasks().any(is_d).then_some(()));
}

/// E5: another process shares the memory.
#[test]
fn e5_shared_memory() {
    Obstacle::of("shared").stands_in_the_way(Outcome::Blocked, &["shares the memory"]);
}

/// E5: the same, and its first thread, which shows the memory, has ended.
#[test]
fn e5_memory_shared_by_an_heir() {
    let obstacle = Obstacle::of("shared-by-heir");
    let pid = &obstacle.pid;
    wait_for("the end of the first thread", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", children.trim())).unwrap();
        stat.contains(") Z ").then_some(())
    });
    obstacle.stands_in_the_way(Outcome::Blocked, &["shares the memory"]);
}

/// E5: the same, by a process that is made only while lp-apply waits.
#[test]
fn e5_memory_shared_meanwhile() {
    let (built, bundle) = Scenario::of("e5_late.c").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let applying = lp_apply_start([bundle.to_str().unwrap(), "--pid", &pid, "--wait", "3s"]);
    wait_for("a staged patch", || {
        let patches = lp_apply(["list", "--pid", &pid]).patches();
        patches.iter().any(|(_, state)| state == "staged").then_some(())
    });
    assert_eq!(target.ask("share"), "shared");
    assert_eq!(target.ask("let go"), "1", "the old function");
    applying.verdict().expect_saying(Outcome::Blocked, &["shares the memory"]);
    target.finish();
}

/// E5: such processes come and go all the time, also while the threads are being stopped.
#[test]
fn e5_memory_shared_for_a_moment() {
    let patient = Patient::of("e5_brief.c");
    let [old, new, mixed, broken] = [0, 1, 2, 3];
    for _ in 0..turns(60, 1000) {
        patient.apply(&["--wait", "60s"]).expect(Outcome::Applied);
        patient.board.wait_growth(new, 1);
        patient.revert(&["--wait", "60s"]).expect(Outcome::Reverted);
        patient.board.wait_growth(old, 1);
    }
    assert_eq!(
        [mixed, broken].map(|place| patient.board.get(place)),
        [0, 0],
        "calls that mixed the versions, and crashes"
    );
}

/// E5: process 1 needs a word of its own. It is not opened here, with or without it.
#[test]
fn e5_init() {
    let (_built, bundle) = Scenario::of("e_obstacles.c").bundle();
    let verdict = lp_apply([bundle.to_str().unwrap(), "--pid", "1", "--dry-run"]);
    verdict.expect_saying(Outcome::Refused, &["init"]);
    assert!(verdict.run.stdout.contains("--allow-init"), "{}", verdict.run);
}

/// E5: process 1 of a pid namespace, seen from inside: with that word it is patched like any other.
#[test]
fn e5_init_of_a_namespace() {
    if !needs("util-linux") {
        return;
    }
    let own = ["--user", "--map-root-user", "--mount-proc", "--pid", "--fork", "--kill-child"];
    let allowed = Command::new("unshare").args(own).arg("true").status().unwrap().success();
    if !allowed && !skip("user namespaces, which this machine does not allow") {
        return;
    }
    let (built, bundle) = Scenario::of("e_obstacles.c").bundle();
    let mut target = Target::start_child_of(Command::new("unshare").args(own).arg(&built.exe).arg("none"));
    let outside = target.pid().to_string();
    let inside = |args: &[&str]| {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &outside, "--user", "--preserve-credentials", "--mount", "--pid"]);
        nsenter.arg(lp_apply_command().get_program()).args(args).args(["--pid", "1", "--json"]);
        Running::start(&mut nsenter).verdict()
    };
    let bundle = bundle.to_str().unwrap();
    let before = target.snapshot();
    inside(&[bundle]).expect_saying(Outcome::Refused, &["process 1 is init"]);
    inside(&["revert", bundle]).expect_saying(Outcome::Refused, &["process 1 is init"]);
    assert_eq!(target.ask("x"), "1");
    before.assert_same(&target.snapshot());
    inside(&[bundle, "--allow-init"]).expect(Outcome::Applied);
    assert_eq!(target.ask("x"), "2");
    inside(&["revert", bundle, "--allow-init"]).expect(Outcome::Reverted);
    assert_eq!(target.ask("x"), "1");
    before.assert_same(&target.snapshot());
    target.finish();
}

/// E5: the numbers in /proc are not those of lp-apply's own pid namespace, where others may have them: refused before any is
/// used.
#[test]
fn e5_proc_of_another_namespace() {
    if !needs("util-linux") {
        return;
    }
    let own = ["--user", "--map-root-user", "--pid", "--fork", "--kill-child"];
    let allowed = Command::new("unshare").args(own).arg("true").status().unwrap().success();
    if !allowed && !skip("user namespaces, which this machine does not allow") {
        return;
    }
    let (_built, bundle) = Scenario::of("e_obstacles.c").bundle();
    for args in [&[bundle.to_str().unwrap()][..], &["list"], &["revert", "e_obstacles"]] {
        let mut command = Command::new("unshare");
        command.args(own).arg(lp_apply_command().get_program()).args(args).args(["--pid", "2", "--json"]);
        Running::start(&mut command).verdict().expect_saying(Outcome::Failed, &["/proc", "another pid namespace"]);
    }
}

/// E5: a 32-bit process.
#[test]
fn e5_32_bit() {
    let (built, bundle) = Scenario::of("e_obstacles.c").bundle();
    let exe = built.lab.exe("i386", Kind::Static, &["e5_i386.c"], &["-m32", "-nostdlib"]);
    let runs = Command::new(&exe).stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !runs && !skip("a kernel that runs 32-bit programs") {
        return;
    }
    let mut target = Target::start(&exe);
    let before = target.snapshot();
    let begun = Instant::now();
    for args in [&[bundle.to_str().unwrap()][..], &["revert", "fix"]] {
        let verdict = lp_apply(args.iter().chain(&["--pid", &target.pid().to_string()]));
        verdict.expect_saying(Outcome::Refused, &["32-bit"]);
        assert!(verdict.hint().is_some_and(|hint| hint.contains("64-bit")), "{}", verdict.run);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    assert_eq!(target.ask("still there"), "still there");
    before.assert_same(&target.snapshot());
    target.finish();
}

/// E5: a kernel thread, if this pid namespace has one.
#[test]
fn e5_kernel_thread() {
    let (_built, bundle) = Scenario::of("e_obstacles.c").bundle();
    if std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd") {
        // Blocked: another run of this test has it just now.
        let verdict = wait_for("nobody else", || {
            let verdict = lp_apply([bundle.to_str().unwrap(), "--pid", "2", "--dry-run"]);
            (!verdict.is(Outcome::Blocked)).then_some(verdict)
        });
        verdict.expect_saying(Outcome::NotApplicable, &["kernel thread"]);
    }
}

/// E5: nobody can tell where a thread has come from that has no stack: blocked, and nothing of the attempt stays.
#[test]
fn e5_thread_without_stack() {
    let obstacle = Obstacle::of("no-stack").stands_in_the_way(Outcome::Blocked, &["0x12340", "cannot be checked"]);
    obstacle.target.finish();
}

/// E5: the target calls exec, or ends, while lp-apply waits for it.
#[test]
fn e5_exec_and_exit_halfway() {
    for (last_words, goes_on) in [("exec", true), ("", false)] {
        let (built, bundle) = Scenario::of("e_obstacles.c").bundle();
        // Blocked by a thread in the kernel, so that lp-apply is at work when it happens.
        let mut target = Target::start_command(Command::new(&built.exe).arg("in-vfork"));
        let pid = target.pid().to_string();
        wait_for_state_d(&pid);
        let applying = lp_apply_start([bundle.to_str().unwrap(), "--pid", &pid, "--wait", "40s"]);
        std::thread::sleep(Duration::from_millis(300)); // it may take less: any instant will do
        if goes_on {
            target.send_line(last_words);
        } else {
            kill(Pid::from_raw(target.pid().cast_signed()), Signal::SIGKILL).unwrap();
        }
        applying.verdict().expect(Outcome::Gone);
        if goes_on {
            assert_eq!(target.ask("still there"), "still there");
        }
    }
}

/// E5: a program is killed while it stands still: whoever waits for its end is told at once, although lp-apply is at work on
/// another one.
#[test]
fn e5_killed_in_a_stop() {
    let (built, bundle) = Scenario::of("e5_killed.c").bundle();
    let holding = Target::start_command(Command::new(&built.exe).arg("hold"));
    let mut hits = 0;
    for _ in 0..turns(20, 200) {
        let mut target = Target::start(&built.exe);
        let [first, second] = [&target, &holding].map(|target| target.pid().to_string());
        let pids = ["--pid", &first, "--pid", &second];
        let mut applying = lp_apply_start([bundle.to_str().unwrap(), "--wait", "60s"].iter().chain(&pids));
        let status = format!("/proc/{first}/status");
        let stands_still = || std::fs::read_to_string(&status).unwrap().contains("State:\tt");
        // Unless the stop is missed: a killed program is one in any case.
        let begun = Instant::now();
        let hit = std::iter::repeat_with(stands_still).any(|stands| stands || begun.elapsed() > Duration::from_secs(1));
        hits += usize::from(hit && begun.elapsed() < Duration::from_secs(1));
        kill(Pid::from_raw(target.pid().cast_signed()), Signal::SIGKILL).unwrap();
        target.wait_exit();
        assert!(applying.is_running(), "nobody was told before lp-apply had ended");
        applying.kill();
    }
    println!("{hits} of them in a stop");
}

/// E5: a thread that is not the first one calls exec, wherever lp-apply is: the new program does not wait for the end of lp-apply,
/// which is at work on another process.
#[test]
fn e5_exec_of_another_thread() {
    let (built, bundle) = Scenario::of("e5_exec.c").bundle();
    let holding = Target::start_command(Command::new(&built.exe).arg("hold"));
    for turn in 0..turns(80, 1000) {
        let mut target = Target::start(&built.exe);
        let [first, second] = [&target, &holding].map(|target| target.pid().to_string());
        let args = [bundle.to_str().unwrap(), "--wait", "60s", "--pid", &first, "--pid", &second];
        let mut applying = lp_apply_start(args);
        std::thread::sleep(Duration::from_micros(500 + u64::try_from(turn).unwrap() * 150 % 3000)); // any instant will do
        target.send_line("exec");
        let command_line = format!("/proc/{first}/cmdline");
        wait_for("the other program", || {
            let words = std::fs::read(&command_line).unwrap();
            words.windows(5).any(|word| word == b"again").then_some(())
        });
        assert_eq!(target.ask("x"), "another one");
        assert!(applying.is_running(), "it went on only when lp-apply ended");
        applying.kill();
    }
}

/// E5: the target calls exec all the time, or is killed, wherever lp-apply is: nothing but that is made of it.
#[test]
fn e5_exec_and_kill_at_any_instant() {
    use Outcome::{AlreadyApplied, Applied, BuildMismatch, Gone, NotApplicable, NotApplied, Reverted};
    let (built, bundle) = Scenario::of("e_obstacles.c").bundle();
    let bundle = bundle.to_str().unwrap();
    let check = |args: &[&str], pid: &str, expected: &[Outcome]| {
        let verdict = lp_apply(args.iter().chain(&["--pid", pid]));
        // On a busy machine the dynamic linker may stand still half way for so long that it looks as if it had done all.
        let fine = expected.iter().any(|outcome| verdict.is(*outcome))
            || (verdict.is(NotApplicable) && verdict.message().contains("not loaded"))
            || (verdict.is(BuildMismatch) && verdict.message().contains("not loaded whole"));
        assert!(fine, "neither of {expected:?}: {}", verdict.run);
        assert!(!verdict.message().contains("could not be removed"), "{}", verdict.run);
    };
    let again = Target::start_command(Command::new(&built.exe).arg("exec-again"));
    for _ in 0..turns(40, 1000) {
        check(&[bundle], &again.pid().to_string(), &[Applied, AlreadyApplied, Gone]);
        check(&["revert", bundle], &again.pid().to_string(), &[Reverted, NotApplied, Gone]);
    }
    for turn in 0..turns(30, 1000) {
        let target = Target::start_command(Command::new(&built.exe).arg("none"));
        let pid = target.pid();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(u64::try_from(turn).unwrap() * 1000 % 30_000)); // any instant will do
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
        });
        check(&[bundle], &pid.to_string(), &[Applied, Gone]);
        killer.join().unwrap();
    }
}

/// E5: a program that is still loading its libraries is waited for; one that lacks a library is not.
#[test]
fn e5_program_that_is_loading() {
    let (built, bundle) = Scenario::of("e5_loading.c").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let args = [bundle.to_str().unwrap(), "--pid", &pid];
    let mut applying = lp_apply_start(args.iter().chain(&["--wait", "40s"]));
    std::thread::sleep(Duration::from_millis(500)); // much longer than a program at rest is looked at
    assert!(applying.is_running(), "it did not wait: {}", applying.verdict().run);
    lp_apply(args.iter().chain(&["--wait", "1ms"])).expect(Outcome::Blocked);
    assert_eq!(target.ask("load"), "loaded");
    applying.verdict().expect(Outcome::Applied);
    assert_eq!(target.ask("x"), "2");
    target.finish();
}

/// E5: a program that the dynamic linker has not relocated yet: its slots say nothing.
#[test]
fn e5_program_that_is_not_relocated() {
    let (built, bundle) = Scenario::of("e5_starting.c").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let args = [bundle.to_str().unwrap(), "--pid", &pid];
    let early = lp_apply(args.iter().chain(&["--wait", "300ms"]));
    println!("{}", early.run);
    assert_eq!(target.ask("go"), "started 1");
    assert_eq!(target.ask("7"), if early.is(Outcome::Applied) { "18" } else { "9" });
    lp_apply(args).expect(if early.is(Outcome::Applied) { Outcome::AlreadyApplied } else { Outcome::Applied });
    assert_eq!(target.ask("7"), "18");
    target.finish();
}

/// E6: the text lies in anonymous memory; the program's file is mapped elsewhere too.
#[test]
fn e6_odd_mappings() {
    for state in ["remapped", "mapped-twice"] {
        println!("{state}");
        Obstacle::of(state).works();
    }
}

/// E6: paths with blanks, newlines and " (deleted)".
#[test]
fn e6_odd_paths() {
    for name in ["a name", "new\nline", "x (deleted)", "back\\slash", "\u{e4}"] {
        println!("{name:?}");
        let renamed = |built: &Built| {
            let odd = built.lab.path(name);
            std::fs::rename(&built.exe, &odd).unwrap();
            Command::new(odd)
        };
        Obstacle::started_by("none", renamed).works();
    }
}

/// E6: the patched library is there once, and patched; or a second time by dlmopen, and refused by its name.
#[test]
fn e6_library_in_two_namespaces() {
    let (built, bundle) = Scenario::of("e6_dlmopen.c").bundle();
    let bundle = bundle.to_str().unwrap();
    let mut target = Target::start(&built.exe);
    lp_apply([bundle, "--pid", &target.pid().to_string()]).expect(Outcome::Applied);
    assert_eq!(target.ask("x"), "2");
    target.finish();

    let copy = built.lab.path("libe6_dlmopen.so");
    let mut target = Target::start_command(Command::new(&built.exe).arg(copy));
    assert_eq!(target.ask("x"), "11");
    let before = target.snapshot();
    let verdict = lp_apply([bundle, "--pid", &target.pid().to_string()]);
    verdict.expect_saying(Outcome::Refused, &["libe6_dlmopen.so 2 times"]);
    assert!(verdict.hint().is_some(), "no hint in {}", verdict.run);
    assert_eq!(target.ask("x"), "11");
    before.assert_same(&target.snapshot());
    target.finish();
}

/// E7: somebody else holds the lock of the target: blocked, and named; patched when it has ended.
#[test]
fn e7_lock_held_by_somebody() {
    let obstacle = Obstacle::of("none");
    let locker = Target::start_command(Command::new(&obstacle.built.exe).args([&obstacle.pid, "locks"]));
    let holder = format!("process {} (e_obstacles) holds the lock of process {}", locker.pid(), obstacle.pid);
    let obstacle = obstacle.stands_in_the_way(Outcome::Blocked, &[&holder]);
    locker.finish();
    obstacle.works();
}

/// E7: two lp-apply at once: one works, the other is told so.
#[test]
fn e7_two_at_once() {
    let mut patient = Patient::start("c7_storm.c", &["200"]);
    let mut both = 0;
    for _ in 0..10 {
        let applying = [(), ()].map(|()| lp_apply_start(patient.apply_args()));
        let outcomes = applying.map(|running| {
            let verdict = running.verdict();
            let document = verdict.run.json();
            (document["processes"][0]["outcome"].as_str().unwrap().to_owned(), verdict)
        });
        let locked = outcomes.iter().filter(|(_, verdict)| verdict.run.stdout.contains("another lp-apply")).count();
        for (outcome, verdict) in &outcomes {
            let known = ["applied", "already-applied", "blocked"].contains(&outcome.as_str());
            assert!(known, "{}", verdict.run);
        }
        both += locked;
        wait_for("a quiet moment", || patient.revert(&[]).run.status.success().then_some(()));
        assert_eq!(patient.target.ask("x"), "41");
    }
    assert!(both > 0, "never both at once");
    assert_eq!(patient.board.get(1), 0, "wrong results");
}

/// `/proc/PID/mem` may not be written: lp-apply writes by ptrace.
#[test]
fn writes_by_ptrace() {
    let mut patient = Patient::of("d2_signals.c");
    let before = patient.target.snapshot();
    Patient::with_fault(&patient.apply_args(), "no-mem-write").expect(Outcome::Applied);
    assert_eq!(patient.target.ask("x"), "2");
    Patient::with_fault(&patient.revert_args(), "no-mem-write").expect(Outcome::Reverted);
    assert_eq!(patient.target.ask("x"), "1");
    before.assert_same(&patient.target.snapshot());
}
