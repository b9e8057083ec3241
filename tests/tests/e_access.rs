//! E3: controls that keep lp-apply from the target: each is named, with what to do about it, by exit code 6. And another
//! tracer, by its process.

use lp_tests::obstacle::Obstacle;
use lp_tests::scenario::Scenario;
use lp_tests::tools::{Running, lp_apply_command};
use lp_tests::{Outcome, Target, Verdict, lp_apply, needs, skip, turns, wait_for};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Somebody who is not root.
const NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"];
/// Root without any capability.
const BARE_ROOT: [&str; 4] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"];
/// Root in a user namespace of its own.
const OWN_NAMESPACE: [&str; 3] = ["unshare", "--user", "--map-root-user"];

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// What keeps the tests' user from tracing, if it is not root: nothing more has to be given up then.
fn as_nobody() -> &'static [&'static str] {
    if is_root() { &NOBODY } else { &[] }
}

/// `program`, started by means of these words.
fn by(words: &[&str], program: &Path) -> Command {
    let Some((first, rest)) = words.split_first() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

/// The program in this state, started by means of these words; `nobody` may start it, and read its bundle.
fn target(words: &[&str], state: &str) -> Obstacle {
    Obstacle::started_by(state, |built| {
        set_permissions(built.lab.path(""), Permissions::from_mode(0o755)).unwrap();
        by(words, &built.exe)
    })
}

/// Runs lp-apply by means of these words.
fn apply(words: &[&str], obstacle: &Obstacle, more: &[&str]) -> Verdict {
    // A copy, because the one in the target directory may be out of reach for `nobody`.
    let tool = obstacle.built.lab.copy(lp_apply_command().get_program());
    let mut command = by(words, &tool);
    Running::start(command.args(more).args([&obstacle.bundle, "--pid", &obstacle.pid, "--json"])).verdict()
}

/// It is refused by a control, named with its cure; the target is not touched.
#[track_caller]
fn forbidden(mut obstacle: Obstacle, words: &[&str], control: &str, cure: &str) {
    // Only root sees the memory of what lp-apply may not.
    let before = is_root().then(|| obstacle.target.snapshot());
    let verdict = apply(words, &obstacle, &[]);
    println!("{}", verdict.run);
    verdict.expect_forbidden(&[control], cure);
    assert_eq!(obstacle.target.ask("x"), "1");
    if let Some(before) = before {
        before.assert_same(&obstacle.target.snapshot());
    }
    obstacle.target.finish();
}

/// RLIMIT_SIGPENDING is used up: lp-apply can do without timers that count.
#[test]
fn e3_no_room_for_signals() {
    if !needs("util-linux") {
        return;
    }
    let words = ["prlimit", "--sigpending=0:0"];
    let mut obstacle = target(&[], "none");
    apply(&words, &obstacle, &[]).expect(Outcome::Applied);
    assert_eq!(obstacle.target.ask("x"), "2");
    obstacle.target.finish();
}

/// E1: a process that is in so many groups that what the kernel says of its filters stands far behind them.
#[test]
fn e1_seccomp_in_many_groups() {
    if !needs("util-linux") || !(is_root() || skip("many groups: they need root")) {
        return;
    }
    let groups: Vec<String> = (1_000_000_000..1_000_001_000).map(|group| group.to_string()).collect();
    let mut obstacle = target(&["setpriv", "--groups", &groups.join(",")], "seccomp-kill");
    let before = obstacle.target.snapshot();
    let verdict = apply(&[], &obstacle, &["--wait", "500ms"]);
    println!("{}", verdict.run);
    verdict.expect_saying(Outcome::Refused, &["seccomp filter"]);
    assert_eq!(obstacle.target.ask("x"), "1");
    before.assert_same(&obstacle.target.snapshot());
}

/// E1: another thread gives all threads a filter, wherever lp-apply is: it is asked before the thread makes a call that it kills for.
/// On one processor, so that this thread runs whenever lp-apply sleeps.
#[test]
fn e1_filter_from_another_thread() {
    if !needs("util-linux") {
        return;
    }
    let (built, bundle) = Scenario::of("e1_tsync.c").bundle();
    let here = ["taskset", "-c", "0"];
    let start = || {
        let target = Target::start_command(&mut by(&here, &built.exe));
        let (pid, tool) = (target.pid().to_string(), lp_apply_command());
        let mut command = by(&here, Path::new(tool.get_program()));
        (target, Running::start(command.args([bundle.to_str().unwrap(), "--pid", &pid, "--json"])))
    };
    let begun = Instant::now();
    let (_unfiltered, applying) = start();
    applying.verdict().expect(Outcome::Applied);
    let (took, turns) = (begun.elapsed(), turns(80, 3000));
    let (mut refused, mut killed) = (0, 0);
    for turn in 0..turns {
        let (mut target, applying) = start();
        let after = took * u32::try_from(turn).unwrap() / u32::try_from(turns).unwrap();
        target.send_line(&(1 + after.as_micros()).to_string());
        let verdict = applying.verdict();
        if verdict.is(Outcome::Gone) {
            killed += 1;
            continue;
        }
        if !verdict.is(Outcome::Applied) {
            verdict.expect_saying(Outcome::Refused, &["seccomp filter"]);
            refused += 1;
        }
        // Unless it was killed, it answers.
        let answer = target.ask("0");
        assert!(["1", "2"].contains(&answer.as_str()), "{answer}: {}", verdict.run);
    }
    println!("{refused} refused, {killed} killed");
    // Between question and call there are microseconds: README says so. Where the question comes too early, one of ten is killed.
    assert!(killed * 40 <= turns, "{killed} of {turns} were killed by their filter");
}

/// RLIMIT_NOFILE: a process whose files cannot be opened would look as if there was none. Whoever may open enough gets through.
#[test]
fn e3_too_few_files() {
    if !needs("util-linux") {
        return;
    }
    let mut obstacle = target(&[], "none");
    let before = obstacle.target.snapshot();
    for files in 4..20 {
        let words = ["prlimit", &format!("--nofile={files}:{files}")];
        let verdict = apply(&words, &obstacle, &[]);
        if verdict.run.status.success() {
            verdict.expect(Outcome::Applied);
            assert!(files > 8, "with {files} files open?");
            assert_eq!(obstacle.target.ask("x"), "2");
            return obstacle.target.finish();
        }
        verdict.run.expect(7);
        let hint = verdict.run.json()["error"]["hint"].to_string();
        assert!(hint.contains("ulimit -n"), "{files}: {}", verdict.run);
        before.assert_same(&obstacle.target.snapshot());
    }
    panic!("20 files are too few");
}

/// Another user's process. Without root there is one that certainly exists: init, which is not opened.
#[test]
fn e3_other_user() {
    if !needs("util-linux") {
        return;
    }
    if is_root() {
        forbidden(target(&[], "none"), &NOBODY, "belongs to user 0, lp-apply runs as user 65534", "CAP_SYS_PTRACE");
    } else if std::fs::metadata("/proc/1").unwrap().uid() == 0 || skip("an init that belongs to root") {
        let obstacle = Obstacle::of("none");
        let verdict = lp_apply([&obstacle.bundle, "--pid", "1", "--allow-init", "--dry-run"]);
        verdict.expect_forbidden(&["belongs to user 0"], "CAP_SYS_PTRACE");
    }
}

/// A process of the same user that has capabilities lp-apply has not: root, or else "root" of a user namespace.
#[test]
fn e3_missing_capability() {
    if !needs("util-linux") {
        return;
    }
    let (control, cure) = ("has capabilities", "CAP_SYS_PTRACE");
    if is_root() {
        forbidden(target(&[], "none"), &BARE_ROOT, control, cure);
    } else if user_namespaces() {
        let obstacle = target(&OWN_NAMESPACE, "none");
        let pid = obstacle.pid.clone();
        let enter = ["nsenter", "--target", &pid, "--user", "--preserve-credentials"];
        forbidden(obstacle, &[&enter[..], &BARE_ROOT].concat(), control, cure);
    }
}

/// The user's own process, but it is not dumpable.
#[test]
fn e3_not_dumpable() {
    if needs("util-linux") {
        forbidden(target(as_nobody(), "undumpable"), as_nobody(), "PR_SET_DUMPABLE", "CAP_SYS_PTRACE");
    }
}

/// lp-apply is root in a user namespace, the target outside of it.
#[test]
fn e3_user_namespace() {
    if needs("util-linux") && user_namespaces() {
        forbidden(target(&[], "none"), &OWN_NAMESPACE, "user namespace", "nsenter");
    }
}

fn user_namespaces() -> bool {
    let allowed = by(&OWN_NAMESPACE, Path::new("true")).status().unwrap().success();
    allowed || skip("user namespaces, which this machine does not allow")
}

/// The user's own process, without any capability: patched, unless Yama forbids it. The target permits it, so that Yama's
/// scope 1 does not count.
#[test]
fn e3_own_process_without_capabilities() {
    if !needs("util-linux") {
        return;
    }
    let mut obstacle = target(as_nobody(), "none");
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if yama.trim() > "1" {
        return forbidden(obstacle, as_nobody(), &format!("ptrace_scope is {}", yama.trim()), "root");
    }
    let before = obstacle.target.snapshot();
    apply(as_nobody(), &obstacle, &[]).expect(lp_tests::Outcome::Applied);
    assert_eq!(obstacle.target.ask("x"), "2");
    apply(as_nobody(), &obstacle, &["revert"]).expect(lp_tests::Outcome::Reverted);
    assert_eq!(obstacle.target.ask("x"), "1");
    before.assert_same(&obstacle.target.snapshot());
    obstacle.target.finish();
}

/// A tracer at work; ended by its process id, and the target goes on.
struct Tracer(Child);

impl Tracer {
    fn start(command: &mut Command, obstacle: &Obstacle) -> Self {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tracer = Self(child);
        let line = format!("TracerPid:\t{}\n", tracer.0.id());
        let status = || std::fs::read_to_string(format!("/proc/{}/status", obstacle.pid)).unwrap();
        wait_for("the tracer to attach", || status().contains(&line).then_some(()));
        tracer
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Both fail only if it has been reaped already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A debugger has it: named with its process id, and nothing is touched; patched once the debugger has gone.
#[track_caller]
fn traced_by(name: &str, command: impl FnOnce(&Obstacle) -> Command) {
    let obstacle = Obstacle::of("none");
    let before = obstacle.target.snapshot();
    let mut tracer = Tracer::start(&mut command(&obstacle), &obstacle);
    let pid = tracer.0.id();
    obstacle.apply(&[]).expect_forbidden(&[&format!("process {pid} ({name}) traces it")], "end the tracer");
    obstacle.apply(&["--dry-run"]).expect_forbidden(&[&format!("process {pid} ({name}) traces it")], "end the tracer");
    drop(tracer.0.stdin.take()); // gdb lets the target go and ends at the end of its input
    if name != "gdb" {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::SIGINT).unwrap();
    }
    wait_for("the tracer's end", || tracer.0.try_wait().unwrap());
    before.assert_same(&obstacle.target.snapshot());
    obstacle.works();
}

#[test]
fn e3_gdb() {
    if needs("gdb") {
        traced_by("gdb", |obstacle| {
            let mut gdb = Command::new("gdb");
            gdb.args(["-nx", "-q", "-iex", "set debuginfod enabled off", "-p", &obstacle.pid]);
            gdb
        });
    }
}

#[test]
fn e3_strace() {
    if needs("strace") {
        traced_by("strace", |obstacle| {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-o", "/dev/null", "-p", &obstacle.pid]);
            strace
        });
    }
}

/// A thread of the target's parent traces it; lp-apply names the process.
#[test]
fn e3_traced_by_a_thread() {
    let obstacle = Obstacle::of("traced");
    let tracer = std::fs::read_to_string("/proc/self/comm").unwrap();
    obstacle.apply(&[]).expect_forbidden(&[&format!("({}) traces it", tracer.trim())], "end the tracer");
}
