//! E2: address space, mappings and limits of the target that leave no room for the patch. Where some room is left, it is
//! used; where it is not enough, that is found before anything is mapped, and the limit is named.

use lp_tests::lab::run;
use lp_tests::obstacle::Obstacle;
use lp_tests::{Outcome, Patient, lp_apply, lp_compile, needs, turns};
use serde_json::Value;
use std::process::Command;

/// No memory of the target may become executable later; the patch's never does.
#[test]
fn e2_memory_deny_write_execute() {
    Obstacle::of("mdwe").works();
}

/// The lowest mapping comes and goes: the process is the same all the same.
#[test]
fn e2_lowest_page_comes_and_goes() {
    let mut patient = Patient::of("e2_low_page.c");
    patient.come_and_go(turns(30, 300));
    patient.board.wait_growth(0, 2);
    assert_eq!(patient.target.ask("x"), "1");
    patient.target.finish();
}

/// No hole within 2 GiB of the program.
#[test]
fn e2_no_room_near() {
    Obstacle::of("full").stands_in_the_way(Outcome::Refused, &["no hole", "within 2 GiB of e_obstacles"]);
}

/// Single pages are free within 2 GiB of the program: one of them holds the thunks, the image lies far away.
#[test]
fn e2_island_near_and_image_far() {
    const GIB: u64 = 1 << 30;
    let mut obstacle = Obstacle::of("pages");
    let before = obstacle.target.snapshot();
    let process = obstacle.apply(&["-v"]).expect(Outcome::Applied);
    let plan = &process["plan"];
    let function = address(&plan["sites"][0]["at"]);
    let starts: Vec<u64> = plan["mappings"].as_array().unwrap().iter().map(|m| address(&m["start"])).collect();
    let near = starts.iter().filter(|start| start.abs_diff(function) < 2 * GIB).count();
    assert_eq!(near, 1, "{plan:#}");
    assert!(starts.iter().any(|start| start.abs_diff(function) > 2 * GIB), "{plan:#}");
    assert_eq!(obstacle.target.ask("x"), "2");
    obstacle.target.snapshot().assert_w_xor_x();
    lp_apply(["revert", &obstacle.bundle, "--pid", &obstacle.pid]).expect(Outcome::Reverted);
    assert_eq!(obstacle.target.ask("x"), "1");
    before.assert_same(&obstacle.target.snapshot());
    obstacle.works(); // once more, into the same page
}

/// The same for several functions, whose one gate lies in the image far away.
#[test]
fn e2_gate_far_away() {
    let mut obstacle = Obstacle::of("pages");
    let [exe, patch, out] = [&obstacle.built.exe, &obstacle.built.patch, &obstacle.built.lab.path("both.lpb")]
        .map(|path| path.to_str().unwrap().to_owned());
    let replace = ["--replace", "answer=new_answer", "--replace", "second=new_second"];
    lp_compile(["build", "--target", &exe, "--patch", &patch, "-o", &out].iter().chain(&replace)).expect(0);
    obstacle.bundle = out;
    assert_eq!(obstacle.target.ask("both"), "1 10");
    let before = obstacle.target.snapshot();
    obstacle.apply(&[]).expect(Outcome::Applied);
    assert_eq!(obstacle.target.ask("both"), "2 20");
    lp_apply(["revert", &obstacle.bundle, "--pid", &obstacle.pid]).expect(Outcome::Reverted);
    assert_eq!(obstacle.target.ask("both"), "1 10");
    before.assert_same(&obstacle.target.snapshot());
    obstacle.target.finish();
}

fn address(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Limits with room for the first of the mappings, but not for all; raised as the hint says, and no byte further than the
/// message says, they let the patch in.
#[test]
fn e2_limits() {
    if !needs("util-linux") {
        return;
    }
    for (state, limit, option) in [
        ("limit-as", "RLIMIT_AS", "--as"),
        ("limit-data", "RLIMIT_DATA", "--data"),
        ("limit-memlock", "RLIMIT_MEMLOCK", "--memlock"),
    ] {
        println!("{state}");
        let mut obstacle = Obstacle::of(state);
        obstacle.target.expect_line("limited");
        let obstacle = obstacle.stands_in_the_way(Outcome::Refused, &[limit]);
        let verdict = obstacle.apply(&["--dry-run"]);
        let (hint, message) = (verdict.hint().unwrap(), verdict.message());
        assert!(hint.contains(&format!("prlimit --pid {} {option}=BYTES:", obstacle.pid)), "{hint}");
        let number = |behind: &str| {
            let rest = message.split(behind).nth(1).unwrap_or_else(|| panic!("no {behind:?} in {message}"));
            rest.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        let enough = number("it uses ") + number("the patch needs ");
        let raise = |to: u64| run(Command::new("prlimit").args(["--pid", &obstacle.pid, &format!("{option}={to}:")]));
        raise(enough - 4096);
        obstacle.apply(&["--dry-run"]).expect_saying(Outcome::Refused, &[limit]);
        raise(enough);
        obstacle.works();
    }
}

/// Nearly as many mappings as the system allows.
#[test]
fn e2_number_of_mappings() {
    Obstacle::of("mappings").stands_in_the_way(Outcome::Refused, &["vm.max_map_count"]);
}
