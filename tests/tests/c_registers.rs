//! C10. Callers that know which registers the old function leaves alone, and that it needs no aligned stack.

use lp_tests::patient::Patient;
use lp_tests::scenario::Scenario;
use lp_tests::{Kind, Outcome, Target, lp_compile};

/// Builds, checks that `lp-compile` says what it did and why, and that the callers' values stay.
#[track_caller]
fn check(scenario: &Scenario, said: &[&str]) {
    let (built, bundle) = scenario.bundle();
    let report = lp_compile(["inspect", bundle.to_str().unwrap()]);
    report.expect(0);
    for words in said {
        assert!(report.stdout.contains(words), "nothing of {words:?} in {report}");
    }
    let mut target = Target::start(&built.exe);
    scenario.check(&mut target, &bundle);
    target.finish();
}

/// The new functions change all that the ABI allows; gcc keeps values of `int` and `double` across the calls.
#[test]
fn c10_callers_keep_values_in_registers() {
    for kind in [Kind::Pie, Kind::NonPie] {
        for level in ["-O2", "-O3"] {
            let scenario = Scenario::of("c10_ipa_ra.c").kind(kind).flag(level);
            check(&scenario, &["[register-thunk]", "caller relies on", "outer relies on", "rsi", "xmm2"]);
        }
    }
}

/// Without debug information.
#[test]
fn c10_stripped_of_debug_information() {
    check(&Scenario::of("c10_ipa_ra.c").flag("-g0"), &["[register-thunk]", "caller relies on", "xmm2"]);
}

/// Values stay in registers no more, but the stack is as unaligned as before.
#[test]
fn c10_unaligned_stack() {
    for flag in ["-fno-ipa-ra", "-O1", "-O0"] {
        check(&Scenario::of("c10_ipa_ra.c").flag(flag), &["[alignment-thunk]"]);
    }
}

/// Arguments on the stack, and registers of 32 bytes.
#[test]
fn c10_wide_registers_and_stack_arguments() {
    if std::arch::is_x86_feature_detected!("avx") {
        check(&Scenario::of("c10_wide.c"), &["caller relies on", "ymm0"]);
    }
}

/// The unwinder finds its way through the thunk.
#[test]
fn c10_exception_through_the_thunk() {
    for kind in [Kind::Pie, Kind::NonPie] {
        check(&Scenario::of("c10_throws.cpp").kind(kind), &["[register-thunk]", "relies on rcx"]);
    }
}

/// Code of the patch is on a thread's stack as long as the thunk has registers to give back.
#[test]
fn c10_revert_while_a_thread_comes_back_to_the_thunk() {
    let mut patient = Patient::of("c10_revert.c");
    let before = patient.target.snapshot();
    assert_eq!(patient.target.ask("x"), "2006");
    patient.apply(&[]).expect(Outcome::Applied);
    assert_eq!(patient.target.ask("x"), "2007");
    assert_eq!(patient.target.ask("stay"), "staying 0");
    patient.revert(&["--wait", "300ms"]).expect_saying(Outcome::Reverted, &["memory stays", "the code of patch"]);
    assert_eq!(patient.target.ask("x"), "2006", "out of force");
    patient.target.send_line("end");
    assert_eq!(patient.target.next_line(), "worked 2007", "the call in flight ends in the thunk");
    patient.apply(&["--wait", "30s"]).expect(Outcome::Applied);
    patient.revert(&["--wait", "30s"]).expect(Outcome::Reverted);
    before.assert_same(&patient.target.snapshot());
    patient.target.finish();
}
