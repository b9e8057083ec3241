//! D. Disturb nothing: signals, stops and system calls that a careless debugger breaks; and nothing is used up.

use lp_tests::obstacle::Obstacle;
use lp_tests::tools::{Running, lp_apply_command};
use lp_tests::{Outcome, Patient, turns, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// D1: epoll_wait, sigtimedwait and recv with a timeout, which any stop makes fail with EINTR, and accept.
#[test]
fn d1_calls_that_a_stop_breaks() {
    const CALLS: [&str; 4] = ["epoll_wait", "sigtimedwait", "accept", "recv"];
    const FIELDS: usize = 4;
    let mut patient = Patient::of("d1_known.c");
    for turn in 0..turns(25, 200) {
        patient.apply(&[]).expect(Outcome::Applied);
        assert_eq!(patient.target.ask("x"), "2", "turn {turn}");
        patient.revert(&[]).expect(Outcome::Reverted);
        assert_eq!(patient.target.ask("x"), "1", "turn {turn}");
    }
    for (which, call) in CALLS.iter().enumerate() {
        let field = |field: usize| patient.board.get(which * FIELDS + field);
        patient.board.wait_growth(which * FIELDS, 2);
        println!("{call}: {} calls, longest {} us", field(0), field(3));
        assert_eq!((field(1), field(2)), (0, 0), "(errors, early returns) of {call} in {} calls", field(0));
    }
    patient.target.finish();
}

/// D1: a timeout starts anew at a stop. It ends all the same while lp-apply waits for a thread that computes.
#[test]
fn d1_timeouts_end_while_a_thread_computes() {
    let mut patient = Patient::of("d1_computes.c");
    assert_eq!(patient.target.ask("compute"), "computing");
    let done = patient.apply(&["--wait", "20s"]).expect(Outcome::Applied);
    assert_eq!(patient.target.next_line(), "1", "{done:#}");
    assert_eq!(patient.target.ask("compute"), "computing");
    assert_eq!(patient.target.next_line(), "2");
    patient.target.finish();
}

/// D2: 2,000 queued real-time signals while the patch comes and goes: each is delivered, once, in order.
#[test]
fn d2_every_signal_arrives() {
    let mut patient = Patient::of("d2_signals.c");
    let signals = 2000;
    assert_eq!(patient.target.ask(&format!("send {signals}")), "sending");
    let mut turn = 0;
    while patient.board.get(0) < signals && turn < 500 {
        patient.apply(&[]).expect(Outcome::Applied);
        patient.revert(&[]).expect(Outcome::Reverted);
        turn += 1;
    }
    wait_for("the last signal", || (patient.board.get(0) >= signals).then_some(()));
    assert_eq!((patient.board.get(0), patient.board.get(1)), (signals, 0), "(signals, out of order)");
    assert!(turn > 3, "only {turn} turns: too fast to show anything");
    patient.target.finish();
}

/// D2: signals that the program ignores break nothing off, although lp-apply sees them.
#[test]
fn d2_ignored_signals() {
    let patient = Patient::of("d2_ignored.c");
    let [early, calls] = [0, 1];
    patient.come_and_go(turns(15, 200));
    patient.board.wait_growth(calls, 2);
    assert_eq!(patient.board.get(early), 0, "calls that were broken off");
}

/// D3: a stopped target stays stopped, and its parent, which waits for such changes, sees none.
#[test]
fn d3_stopped_stays_stopped() {
    stays_stopped("kill_asleep.c");
}

/// The same where the stop comes upon a thread that computes: it cannot be left to make calls on its own.
#[test]
fn d3_stopped_at_work_stays_stopped() {
    stays_stopped("kill_busy.c");
}

fn stays_stopped(source: &str) {
    let patient = Patient::of(source);
    let pid = patient.target.pid();
    let id = Pid::from_raw(pid.cast_signed());
    let parent_sees = |more: WaitPidFlag| {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG | more;
        waitid(Id::Pid(id), flags).unwrap()
    };
    let rounds = || patient.board.get(0);
    let check_stopped = |when: &str, rounds_before: u64| {
        // A thread that is let go passes through the kernel on its way back into the stop, but not through its program.
        wait_for(when, || (state(pid) == 'T').then_some(()));
        assert_eq!(rounds(), rounds_before, "{when}: it has run");
        assert_eq!(parent_sees(WaitPidFlag::WNOWAIT), WaitStatus::StillAlive, "{when}: the parent sees a change");
    };
    kill(id, Signal::SIGSTOP).unwrap();
    wait_for("the stop", || (parent_sees(WaitPidFlag::empty()) != WaitStatus::StillAlive).then_some(()));
    let before = rounds();
    for _ in 0..turns(20, 200) {
        patient.apply(&[]).expect(Outcome::Applied);
        check_stopped("applied", before);
        patient.revert(&[]).expect(Outcome::Reverted);
        check_stopped("reverted", before);
    }
    patient.apply(&[]).expect(Outcome::Applied);
    kill(id, Signal::SIGCONT).unwrap();
    patient.board.wait_growth(0, 3);
    assert_eq!([1, 2, 3].map(|place| patient.board.get(place)), [0, 2, 2], "(errors, results) after SIGCONT");
}

/// D3: Ctrl-Z waits until lp-apply has done its work: it would hold the threads that lp-apply has stopped.
#[test]
fn d3_the_tool_is_not_stopped() {
    let obstacle = Obstacle::of("shared");
    let mut command = lp_apply_command();
    // A group of its own, whose parent may start it again: else the signal would be ignored.
    command.args([&obstacle.bundle, "--pid", &obstacle.pid, "--wait", "3s", "--json"]).process_group(0);
    let applying = Running::start(&mut command);
    let status = format!("/proc/{}/status", applying.pid());
    let bits = |key: &str| {
        let text = std::fs::read_to_string(&status).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
        u64::from_str_radix(line.trim(), 16).unwrap() >> (Signal::SIGTSTP as i32 - 1) & 1
    };
    wait_for("the start", || (bits("SigBlk:") == 1).then_some(()));
    kill(Pid::from_raw(applying.pid().cast_signed()), Signal::SIGTSTP).unwrap();
    assert_eq!(bits("ShdPnd:"), 1, "SIGTSTP is not put off");
    applying.verdict().expect(Outcome::Blocked);
}

/// D3: SIGSTOP and SIGCONT come all the time: the parent sees each of them, however far lp-apply is.
#[test]
fn d3_every_stop_is_one() {
    let patient = Patient::of("kill_busy.c");
    let id = Pid::from_raw(patient.target.pid().cast_signed());
    let seen = |flag: WaitPidFlag, what: &str| {
        let change = || waitid(Id::Pid(id), flag | WaitPidFlag::WNOHANG).unwrap();
        wait_for(what, || (change() != WaitStatus::StillAlive).then_some(()));
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stops = scope.spawn(|| {
            let mut stops = 0;
            while !done.load(Ordering::Relaxed) {
                kill(id, Signal::SIGSTOP).unwrap();
                seen(WaitPidFlag::WSTOPPED, "the target stopped");
                kill(id, Signal::SIGCONT).unwrap();
                seen(WaitPidFlag::WCONTINUED, "the target going on");
                stops += 1;
                std::thread::sleep(Duration::from_micros(stops % 7 * 700)); // so as to meet lp-apply at any of its steps
            }
            stops
        });
        patient.come_and_go(turns(30, 300));
        done.store(true, Ordering::Relaxed);
        println!("{} stops", stops.join().unwrap());
    });
    patient.board.wait_growth(0, 2);
    assert_eq!([1, 2, 3].map(|place| patient.board.get(place)), [0, 1, 1], "(errors, results)");
}

/// D7: after many applies and reverts every mapping is as it was, and no memory has been used up.
#[test]
fn d7_nothing_is_used_up() {
    let mut patient = Patient::of("d2_signals.c");
    patient.come_and_go(2);
    let (before, rss) = (patient.target.snapshot(), rss_kib(patient.pid()));
    patient.come_and_go(turns(200, 1000));
    before.assert_same(&patient.target.snapshot());
    let now = rss_kib(patient.pid());
    assert!(now <= rss + 64, "{rss} KiB became {now} KiB");
    assert_eq!(patient.target.ask("x"), "1");
    patient.target.finish();
}

fn rss_kib(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// State letter of proc(5).
fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().chars().next().unwrap()
}
