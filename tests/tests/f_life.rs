//! F. Life: what a second apply, a list, a revert and another one find.

use lp_tests::scenario::Scenario;
use lp_tests::{Outcome, Target, lp_apply};
use std::os::unix::fs::FileExt;

/// F1: each step says what it did or that there was nothing to do, and `list` is right after each.
#[test]
fn f1_apply_list_revert() {
    use Outcome::{AlreadyApplied, Applied, NotApplied, Reverted};
    let (built, bundle) = Scenario::of("f1_life.c").bundle();
    let bundle = bundle.to_str().unwrap();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    for (step, args, outcome, answer) in [
        ("revert before all", &["revert", bundle][..], NotApplied, "1"),
        ("apply", &[bundle], Applied, "2"),
        ("apply again", &[bundle], AlreadyApplied, "2"),
        ("revert", &["revert", bundle], Reverted, "1"),
        ("revert again", &["revert", bundle], NotApplied, "1"),
        ("apply once more", &[bundle], Applied, "2"),
        ("revert by name", &["revert", "life"], Reverted, "1"),
    ] {
        println!("{step}");
        lp_apply(args.iter().chain(&["--pid", &pid])).expect(outcome);
        assert_eq!(target.ask("x"), answer, "after {step}");
        let active = [("life".to_owned(), "active".to_owned())];
        let listed = lp_apply(["list", "--pid", &pid]).patches();
        assert_eq!(listed, active[..usize::from(answer == "2")], "after {step}");
    }
    target.finish();
}

/// `list` tells the truth about the mappings, and a revert by id is a revert.
#[test]
fn f1_list_shows_id_and_mappings() {
    let (built, bundle) = Scenario::of("f1_life.c").bundle();
    let target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let before = target.snapshot();
    let applied = lp_apply([bundle.to_str().unwrap(), "--pid", &pid]);
    applied.expect(Outcome::Applied);

    let listed = lp_apply(["list", "--pid", &pid]);
    let patch = listed.run.json()["processes"][0]["patches"][0].clone();
    assert_eq!(patch["functions"], serde_json::json!(["answer"]), "{patch:#}");
    let digest = patch["digest"].as_str().unwrap();
    assert_eq!(applied.run.json()["bundle"]["digest"], digest);
    let mapped = target.snapshot();
    let mappings = patch["mappings"].as_array().unwrap();
    assert!(!mappings.is_empty(), "{patch:#}");
    for mapping in mappings {
        let (start, len) = (number(&mapping["start"]), number(&mapping["len"]));
        let rights = match mapping["prot"].as_u64().unwrap() {
            1 => "r--p",
            3 => "rw-p",
            5 => "r-xp",
            other => panic!("rights {other} of {mapping}"),
        };
        assert!(mapped.holds(start, len, rights), "{mapping} is not in the target's maps");
    }
    lp_apply(["revert", &digest[..16], "--pid", &pid]).expect(Outcome::Reverted);
    before.assert_same(&target.snapshot());
    target.finish();
}

/// Something overwrites the one word of the record that no checksum protects: the sites tell the truth, and the code that they
/// lead to stays where it is.
#[test]
fn a_wrong_state_in_the_record() {
    let (built, bundle) = Scenario::of("f1_life.c").bundle();
    let bundle = bundle.to_str().unwrap();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let before = target.snapshot();
    let active = [("life".to_owned(), "active".to_owned())];
    // 6: inactive, then with its mappings about to be removed.
    for (state, first) in
        [1, 2, 3, 5, 6, 6 | 1 << 8].into_iter().flat_map(|state| [(state, "apply"), (state, "revert")])
    {
        println!("state {state:#x}, then {first}");
        lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
        overwrite_state(&pid, state);
        assert_eq!(lp_apply(["list", "--pid", &pid]).patches(), active);
        if first == "apply" {
            lp_apply([bundle, "--pid", &pid]).expect(Outcome::AlreadyApplied);
            assert_eq!(target.ask("x"), "2");
        }
        lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("x"), "1");
        before.assert_same(&target.snapshot());
    }
    target.finish();
}

/// Writes the state word of the only record in the process. Source: format-spec/SPEC.md, section 11.
fn overwrite_state(pid: &str, state: u32) {
    let memory = std::fs::File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let starts = maps.lines().filter(|line| line.contains(" r--p ")).map(|line| line.split_once('-').unwrap().0);
    let record = starts.map(|start| u64::from_str_radix(start, 16).unwrap()).find(|start| {
        let mut magic = [0; 8];
        memory.read_exact_at(&mut magic, *start).is_ok() && magic == *b"\x89LPLIFE\n"
    });
    memory.write_all_at(&state.to_le_bytes(), record.expect("a record") + 12).unwrap();
}

/// An address, as a JSON number or as `"0x..."`.
fn number(value: &serde_json::Value) -> u64 {
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    value.as_u64().or_else(|| value.as_str().and_then(hex)).unwrap_or_else(|| panic!("{value} is no number"))
}
