//! The harness notices what it is there to notice: without this a broken check would look like a passing test.

use lp_tests::{Kind, Lab, Target};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

fn target() -> (Lab, Target) {
    let lab = Lab::new();
    let target = Target::start(lab.exe("harness", Kind::Pie, &["harness.c"], &["-O1"]));
    (lab, target)
}

/// The message of the panic that `check` ends with.
#[track_caller]
fn panic_of(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("it noticed nothing");
    panic.downcast_ref::<String>().expect("a panic with a message").clone()
}

#[test]
fn sees_no_change_where_there_is_none() {
    let (_lab, mut target) = target();
    let before = target.snapshot();
    assert_eq!(target.ask("nothing"), "0");
    before.assert_same(&target.snapshot());
    before.assert_w_xor_x();
    target.finish();
}

#[test]
fn sees_changed_memory() {
    for (question, message) in [("map", "new: "), ("code", "bytes differ"), ("w+x", "rwxp")] {
        let (_lab, mut target) = target();
        let before = target.snapshot();
        assert_eq!(target.ask(question), "0");
        let seen = panic_of(|| before.assert_same(&target.snapshot()));
        assert!(seen.contains(message), "{question}: {seen}");
    }
}

#[test]
fn sees_writable_code() {
    let (_lab, mut target) = target();
    assert_eq!(target.ask("w+x"), "0");
    assert!(panic_of(|| target.snapshot().assert_w_xor_x()).contains("W+X"));
}

#[test]
fn sees_a_bad_end() {
    let (_lab, mut target) = target();
    target.send_line("fail");
    assert!(panic_of(|| _ = target.next_line()).contains("no line"));
    assert!(panic_of(|| target.finish()).contains("exit status: 3"));
}

#[test]
fn leaves_nothing_running() {
    let (lab, target) = target();
    let proc = format!("/proc/{}", target.pid());
    let dir = lab.path("");
    assert!(Path::new(&proc).exists() && dir.exists());
    drop((target, lab));
    assert!(!Path::new(&proc).exists() && !dir.exists());
}
