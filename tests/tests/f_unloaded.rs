//! F. Life: patches of a library that the program closes.

use lp_tests::lab::{Kind, Lab};
use lp_tests::{Outcome, Patient, Target, lp_apply, lp_compile};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

/// A program, its plugin, and bundles: one for each alone, one for both.
struct Plugged {
    _lab: Lab,
    program: PathBuf,
    plugin: PathBuf,
    for_program: String,
    for_other: String,
    for_plugin: String,
    for_both: String,
}

impl Plugged {
    fn build() -> Self {
        let lab = Lab::new();
        let source = "f_unloaded.c";
        let plugin = lab.shared_library("libf_unloaded.so", &[source], &["-O2"]);
        let program = lab.exe("program", Kind::Pie, &[source], &["-O2", "-pthread"]);
        let patch = lab.patch(source, &[]);
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let bundle = |name: &str, args: &[&str]| {
            let out = text(&lab.path(name));
            let (patch, program) = (text(&patch), text(&program));
            let common = ["build", "--patch", &patch, "--target", &program, "-o", &out];
            lp_compile(common.iter().chain(args)).expect(0);
            out
        };
        let answer = ["--replace", "answer=new_answer"];
        let module = ["--module", &text(&plugin), "--replace", "libf_unloaded.so:plugin_answer=new_plugin_answer"];
        let for_program = bundle("program.lpb", &answer);
        let for_other = bundle("other.lpb", &["--replace", "other=new_other"]);
        let for_plugin = bundle("plugin.lpb", &module);
        let for_both = bundle("both.lpb", &[answer.as_slice(), &module].concat());
        Self { _lab: lab, program, plugin, for_program, for_other, for_plugin, for_both }
    }

    fn start(&self) -> Target {
        Target::start_command(Command::new(&self.program).arg(&self.plugin))
    }
}

fn states(target: &Target) -> Vec<String> {
    let patches = lp_apply(["list", "--pid", &target.pid().to_string()]).patches();
    patches.into_iter().map(|(_, state)| state).collect()
}

/// The first byte of the program's `answer`.
struct Entry {
    memory: File,
    at: u64,
}

impl Entry {
    fn of_answer(target: &mut Target) -> Self {
        let memory = format!("/proc/{}/mem", target.pid());
        let memory = File::options().read(true).write(true).open(memory).unwrap();
        Self { memory, at: u64::from_str_radix(target.ask("where").trim_start_matches("0x"), 16).unwrap() }
    }

    fn byte(&self) -> u8 {
        let mut byte = [0];
        self.memory.read_exact_at(&mut byte, self.at).unwrap();
        byte[0]
    }

    fn set(&self, byte: u8) {
        self.memory.write_all_at(&[byte], self.at).unwrap();
    }
}

/// `int3`, as a debugger sets it.
const BREAKPOINT: u8 = 0xcc;

#[test]
fn f_library_goes_and_its_patch_with_it() {
    let plugged = Plugged::build();
    let mut target = plugged.start();
    let pid = target.pid().to_string();
    assert_eq!(target.ask("load"), "1");
    lp_apply([&plugged.for_plugin, "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!(target.ask("call"), "20");
    assert_eq!(target.ask("unload"), "0");
    assert_eq!(states(&target), ["inactive"]);
    // Nothing of the other patch is in the way, and it is removed by the way.
    lp_apply([&plugged.for_program, "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!((target.ask("answer"), states(&target)), ("2".into(), vec!["active".to_owned()]));
    lp_apply(["revert", &plugged.for_program, "--pid", &pid]).expect(Outcome::Reverted);
    // The library comes back as it is on disk.
    assert_eq!((target.ask("load"), target.ask("call"), target.ask("answer")), ("1".into(), "10".into(), "1".into()));
    lp_apply([&plugged.for_plugin, "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!((target.ask("call"), target.ask("unload")), ("20".into(), "0".into()));
    lp_apply(["revert", &plugged.for_plugin, "--pid", &pid]).expect(Outcome::NotApplied);
    assert!(states(&target).is_empty());
    target.finish();
}

#[test]
fn f_half_of_a_patch_goes_with_its_library() {
    let plugged = Plugged::build();
    let mut target = plugged.start();
    let pid = target.pid().to_string();
    assert_eq!(target.ask("load"), "1");
    lp_apply([&plugged.for_both, "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!((target.ask("call"), target.ask("answer")), ("20".into(), "2".into()));
    assert_eq!((target.ask("unload"), target.ask("answer")), ("0".into(), "2".into()));
    assert_eq!(states(&target), ["mixed"]);
    lp_apply(["revert", &plugged.for_both, "--pid", &pid]).expect(Outcome::Reverted);
    assert_eq!((target.ask("answer"), states(&target)), ("1".into(), vec![]));
    assert_eq!((target.ask("load"), target.ask("call")), ("1".into(), "10".into()));
    target.finish();
}

/// Something else stands where the jump was: it is not overwritten.
#[test]
fn f_what_is_no_jump_of_ours_stays() {
    let plugged = Plugged::build();
    let mut target = plugged.start();
    let pid = target.pid().to_string();
    lp_apply([&plugged.for_program, "--pid", &pid]).expect(Outcome::Applied);
    let entry = Entry::of_answer(&mut target);
    let jump = entry.byte();
    entry.set(BREAKPOINT);
    let before = target.snapshot();
    for args in [["revert", "--dry-run"].as_slice(), &["revert", "--consistency", "immediate"], &["revert"]] {
        let refused = lp_apply(args.iter().copied().chain([plugged.for_program.as_str(), "--pid", &pid]));
        refused.expect_saying(Outcome::Refused, &["answer", "has been changed"]);
        before.assert_same(&target.snapshot());
    }
    entry.set(jump);
    assert_eq!(target.ask("answer"), "2");
    lp_apply(["revert", &plugged.for_program, "--pid", &pid]).expect(Outcome::Reverted);
    assert_eq!(target.ask("answer"), "1");
    target.finish();
}

/// The same halfway through a commit whose lp-apply has died: other patches do not mind.
#[test]
fn f_what_a_dead_run_left_under_a_breakpoint_stays() {
    let plugged = Plugged::build();
    let mut target = plugged.start();
    let pid = target.pid().to_string();
    assert_eq!(target.ask("load"), "1");
    let entry = Entry::of_answer(&mut target);
    let original = entry.byte();
    let args = [plugged.for_both.as_str(), "--pid", &pid];
    // Killed after one step more each time, until the first jump leads to its gate.
    let jump = (1..1000).find_map(|step| {
        let killed = Patient::with_fault(&args, &format!("kill:{step}")).was_killed();
        assert!(killed, "it was to be killed at step {step}");
        Some(entry.byte()).filter(|byte| *byte != original)
    });
    entry.set(BREAKPOINT);
    assert_eq!(states(&target), ["mixed"]);
    lp_apply([&plugged.for_other, "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!((target.ask("other"), entry.byte()), ("6".into(), BREAKPOINT));
    let revert = ["revert", &plugged.for_both, "--pid", &pid];
    lp_apply(revert).expect_saying(Outcome::Refused, &["answer", "has been changed"]);
    assert_eq!(entry.byte(), BREAKPOINT);
    entry.set(jump.unwrap());
    lp_apply(revert).expect(Outcome::NotApplied);
    assert_eq!((entry.byte(), target.ask("answer"), target.ask("call")), (original, "1".into(), "10".into()));
    assert_eq!(states(&target), ["active"]);
    target.finish();
}

/// lp-apply is killed after each of its steps, then the library is closed: the next runs clean up, and nobody comes to harm.
#[test]
fn f_killed_then_unloaded() {
    let plugged = Plugged::build();
    for reverting in [false, true] {
        let all_done = (1..1000).find(|step| {
            let mut target = plugged.start();
            let pid = target.pid().to_string();
            assert_eq!(target.ask("load"), "1");
            let mut args = vec![plugged.for_both.as_str(), "--pid", &pid];
            if reverting {
                lp_apply(&args).expect(Outcome::Applied);
                args.insert(0, "revert");
            }
            let killed = Patient::with_fault(&args, &format!("kill:{step}")).was_killed();
            assert_eq!(target.ask("unload"), "0");
            lp_apply([&plugged.for_other, "--pid", &pid]).expect(Outcome::Applied);
            assert_eq!(target.ask("other"), "6", "{args:?} killed at step {step}");
            let reverted = lp_apply(["revert", &plugged.for_both, "--pid", &pid]);
            assert!(reverted.is(Outcome::Reverted) || reverted.is(Outcome::NotApplied), "{}", reverted.message());
            lp_apply(["revert", &plugged.for_other, "--pid", &pid]).expect(Outcome::Reverted);
            let answers = ["load", "call", "answer", "other"].map(|question| target.ask(question));
            assert_eq!(answers, ["1", "10", "1", "5"], "{args:?} killed at step {step}");
            assert!(states(&target).is_empty());
            target.finish();
            !killed
        });
        assert!(all_done.is_some_and(|steps| steps > 20), "{all_done:?} steps");
    }
}

/// A library that is closed and opened without pause: its own patch finds it or not, and another patch does not mind.
#[test]
fn f_library_comes_and_goes_all_the_time() {
    let plugged = Plugged::build();
    let mut target = plugged.start();
    let pid = target.pid().to_string();
    assert_eq!(target.ask("reload"), "0");
    for turn in 0..30 {
        let ran = lp_apply([&plugged.for_plugin, "--pid", &pid, "--wait", "200ms"]);
        use Outcome::{AlreadyApplied, Applied, Blocked, BuildMismatch, NotApplicable, Refused};
        let known = [Applied, AlreadyApplied, Blocked, BuildMismatch, NotApplicable, Refused];
        assert!(known.into_iter().any(|outcome| ran.is(outcome)), "turn {turn}: {}", ran.message());
        lp_apply([&plugged.for_program, "--pid", &pid]).expect(Outcome::Applied);
        assert_eq!(target.ask("answer"), "2", "turn {turn}");
        lp_apply(["revert", &plugged.for_program, "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("answer"), "1", "turn {turn}");
    }
    target.finish();
}
