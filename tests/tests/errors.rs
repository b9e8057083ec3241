//! What goes wrong is said once and clearly (what, where, what next), with its own exit code, and the target is untouched:
//! its memory is compared before and after.

use lp_tests::scenario::{Built, Scenario};
use lp_tests::tools::{Running, lp_apply_command};
use lp_tests::{Kind, Lab, Outcome, Target, Verdict, lp_apply, lp_compile, needs, wait_for};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const LP_COMPILE_OK: [&str; 8] = ["build", "--target", "EXE", "--patch", "FIX", "--replace", "answer=new_answer", "-o"];

/// Each row: arguments (with EXE, FIX and LAB for paths), exit code, words that the message must have.
#[test]
fn lp_compile_errors() {
    let built = Scenario::of("errors.c").build();
    let lab = &built.lab;
    lab.write("text", "not an ELF file\n");
    let exe = std::fs::read(&built.exe).unwrap();
    lab.write("short", &exe[..1000]);
    lab.write("library", &exe);
    // ET_REL in e_type. Source: gABI, "ELF Header".
    lab.write("object", [&exe[..16], &[1, 0], &exe[18..]].concat());
    let rows: &[(&str, &[&str], i32, &[&str])] = &[
        ("unknown command", &["biuld"], 2, &["biuld"]),
        ("unknown flag", &["build", "--tarject", "EXE"], 2, &["--tarject"]),
        ("no output named", &LP_COMPILE_OK[..7], 2, &["-o"]),
        ("no such target", &["build", "--target", "LAB/none", "--patch", "FIX", "-o", "LAB/out"], 3, &["LAB/none"]),
        ("target is text", &["build", "--target", "LAB/text", "--patch", "FIX", "-o", "LAB/out"], 3, &["LAB/text"]),
        (
            "target is cut off",
            &["build", "--target", "LAB/short", "--patch", "FIX", "-o", "LAB/out"],
            3,
            &["LAB/short"],
        ),
        ("target is a directory", &["build", "--target", "LAB", "--patch", "FIX", "-o", "LAB/out"], 3, &["LAB"]),
        ("no such patch", &["build", "--target", "EXE", "--patch", "LAB/none", "-o", "LAB/out"], 3, &["LAB/none"]),
        ("inspects text", &["inspect", "LAB/text"], 3, &["LAB/text"]),
        ("inspects nothing", &["inspect", "LAB/none"], 3, &["LAB/none"]),
        (
            "function misspelt",
            &["build", "--target", "EXE", "--patch", "FIX", "--replace", "anwser=new_answer", "-o", "LAB/out"],
            4,
            &["anwser", "answer"],
        ),
        (
            "new function misspelt",
            &["build", "--target", "EXE", "--patch", "FIX", "--replace", "answer=new_anwser", "-o", "LAB/out"],
            4,
            &["new_anwser", "new_answer"],
        ),
        (
            "output in a directory that is not there",
            &["build", "--target", "EXE", "--patch", "FIX", "--replace", "answer=new_answer", "-o", "LAB/no/out"],
            7,
            &["LAB/no"],
        ),
        (
            "output over a library that is not named",
            &["build", "--target", "EXE", "--patch", "FIX", "--replace", "answer=new_answer", "-o", "LAB/library"],
            2,
            &["LAB/library", "program or library", "hint: "],
        ),
        (
            "patch is not linked",
            &["build", "--target", "EXE", "--patch", "LAB/object", "-o", "LAB/out"],
            3,
            &["LAB/object", "not linked", "-shared"],
        ),
        (
            "no such sysroot",
            &["build", "--target", "EXE", "--patch", "FIX", "--sysroot", "LAB/none", "-o", "LAB/out"],
            3,
            &["LAB/none", "not a directory"],
        ),
        ("surveys with no debug file", &["survey", "EXE", "--debug-file", "LAB/none"], 3, &["LAB/none"]),
        (
            "surveys with the debug file of another build",
            &["survey", "EXE", "--debug-file", "FIX"],
            3,
            &["another build"],
        ),
        ("output on a full device", &["header", "-o", "/dev/full"], 7, &["/dev/full"]),
    ];
    for (why, args, exit, words) in rows {
        let run = lp_compile(args.iter().map(|arg| with_paths(arg, &built)));
        assert_eq!(run.status.code(), Some(*exit), "{why}: {run}");
        assert_eq!(run.stderr.matches("error: ").count(), 1, "{why}: not one error in {run}");
        let words: Vec<String> = words.iter().map(|word| with_paths(word, &built)).collect();
        assert!(words.iter().all(|word| run.stderr.contains(word)), "{why}: not all of {words:?} in {run}");
        if *exit != 2 {
            assert!(run.stderr.contains("hint: "), "{why}: no hint in {run}");
        }
        assert!(!run.stderr.contains(".lp-compile-"), "{why}: the name of a temporary file in {run}");
        assert!(!lab.path("out").exists(), "{why}: an output was left");
    }
    assert_eq!(std::fs::read(lab.path("library")).unwrap(), exe, "the library was written over");
}

fn with_paths(arg: &str, built: &Built) -> String {
    let [exe, fix] = [&built.exe, &built.patch].map(|path| path.to_str().unwrap());
    let lab = built.lab.path("");
    arg.replace("EXE", exe).replace("FIX", fix).replace("LAB", lab.to_str().unwrap().trim_end_matches('/'))
}

/// All that is missing is reported in one run; the output that was there before stays as it was.
#[test]
fn lp_compile_reports_every_missing_symbol() {
    let scenario = Scenario::of("errors.c").option("--replace no_such_target=new_answer");
    let built = scenario.build();
    let built = Built { patch: built.lab.patch("errors.c", &["-DMISSING"]), ..built };
    let out = built.lab.write("out", "an older bundle");
    let run = lp_compile(scenario.build_args(&built, &out));
    run.expect(4);
    for name in ["no_such_function", "no_such_variable", "no_such_target"] {
        run.says(name);
    }
    assert_eq!(std::fs::read(&out).unwrap(), b"an older bundle");
}

/// Neither a half-written bundle nor a temporary file is left in a directory that cannot be written.
#[test]
fn lp_compile_leaves_nothing_where_it_may_not_write() {
    let scenario = Scenario::of("errors.c");
    let built = scenario.build();
    let dir = built.lab.path("taken");
    std::fs::create_dir_all(dir.join("out")).unwrap(); // a directory has the output's name: that holds for root too
    let run = lp_compile(scenario.build_args(&built, &dir.join("out")));
    run.expect(7).says("taken/out");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1, "something was left beside the output");
}

/// A target and its bundle.
struct Patient {
    built: Built,
    bundle: String,
    target: Target,
    pid: String,
}

impl Patient {
    fn new() -> Self {
        let (built, bundle) = Scenario::of("errors.c").bundle();
        let target = Target::start(&built.exe);
        Self { bundle: bundle.to_str().unwrap().to_owned(), pid: target.pid().to_string(), built, target }
    }

    /// Runs `check`; the target must be the same afterwards, and still answer in the old way.
    fn stays_the_same(&mut self, check: impl FnOnce(&Self)) {
        let before = self.target.snapshot();
        check(self);
        before.assert_same(&self.target.snapshot());
        assert_eq!(self.target.ask("x"), "1");
    }
}

/// A run that ends before it looks at any process: an error with message and hint, no verdict on a process.
#[track_caller]
fn expect_error(verdict: &Verdict, exit: i32, words: &[&str]) {
    verdict.run.expect(exit);
    let document = verdict.run.json();
    let [message, hint] = ["message", "hint"].map(|key| document["error"][key].as_str().unwrap_or_default().to_owned());
    assert!(!message.is_empty() && !hint.is_empty(), "no message or no hint in {}", verdict.run);
    assert!(words.iter().all(|word| message.contains(word)), "not all of {words:?} in {}", verdict.run);
    assert_eq!(document["exit"], exit, "{}", verdict.run);
    assert_eq!(document["processes"], serde_json::json!([]), "{}", verdict.run);
}

#[test]
fn lp_apply_usage() {
    Patient::new().stays_the_same(|p| {
        let (bundle, pid) = (p.bundle.as_str(), p.pid.as_str());
        for (args, word) in [
            (&["--pid", pid, "--dry-rum", bundle][..], "--dry-rum"),
            (&["--pid", pid], "bundle"),
            (&[bundle], "--pid"),
            (&[bundle, "--pid", "abc"], "abc"),
            (&[bundle, "--pid", "0"], "0"),
            (&[bundle, "--pid", pid, "--wait", "soon"], "soon"),
            (&[bundle, "--pid", pid, "--consistency", "maybe"], "maybe"),
            (&["list"], "--pid"),
            (&["revert", "--pid", pid], "bundle"),
        ] {
            let verdict = lp_apply(args);
            verdict.run.expect(2);
            let message = verdict.run.json()["error"]["message"].to_string();
            assert!(message.to_lowercase().contains(word), "no {word:?} in {}", verdict.run);
        }
    });
}

/// Where nobody can read the message, the exit code says it all the same.
#[test]
fn lp_apply_exit_code_without_standard_error() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for (args, exit) in [(&["--frob"][..], 2), (&["/nowhere/fix.lpb", "--pid", "1"], 3)] {
        let status = lp_apply_command().args(args).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(exit), "{args:?}");
    }
    let status = lp_apply_command().arg("--help").stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(7), "the report is lost");
    if needs("util-linux") {
        let lab = Lab::new();
        let tool = lp_apply_command();
        let mut command = Command::new("prlimit");
        command.args(["--fsize=0", "--"]).arg(tool.get_program()).args(["list", "--pid", "1"]);
        let status = command.stdout(std::fs::File::create(lab.path("report")).unwrap()).status().unwrap();
        assert_eq!(status.code(), Some(7), "the report is lost");
    }
}

/// Damaged bundles: each is refused before the target is looked at.
#[test]
fn lp_apply_damaged_bundles() {
    Patient::new().stays_the_same(|p| {
        let good = std::fs::read(&p.bundle).unwrap();
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            bytes
        };
        let mut bad = vec![
            ("missing", None),
            ("empty", Some(Vec::new())),
            ("text", Some(b"#!/bin/sh\n".to_vec())),
            ("too long", Some([good.as_slice(), &[0; 16]].concat())),
        ];
        bad.extend(
            [1, 7, 8, 63, 64, 200, good.len() / 2, good.len() - 1].map(|len| ("cut off", Some(good[..len].to_vec()))),
        );
        bad.extend(
            [0, 8, 12, 20, 40, 70, 100, good.len() / 2, good.len() - 1].map(|at| ("bit flipped", Some(flipped(at)))),
        );
        for (why, bytes) in bad {
            let path = bytes.map_or_else(|| p.built.lab.path("none.lpb"), |bytes| p.built.lab.write("bad.lpb", bytes));
            println!("{why}: {}", path.display());
            let path = path.to_str().unwrap();
            expect_error(&lp_apply([path, "--pid", &p.pid]), 3, &[path]);
            expect_error(&lp_apply(["revert", path, "--pid", &p.pid]), 3, &[path]);
        }
    });
}

/// A word that is the name of a patch and of a file is the file. Who means the patch is told how to say so.
#[test]
fn lp_apply_revert_of_a_file_like_a_patch() {
    Patient::new().stays_the_same(|p| {
        let file = p.built.lab.write("fix", "no bundle");
        let mut command = lp_apply_command();
        command.current_dir(file.parent().unwrap()).args(["revert", "fix", "--pid", &p.pid, "--json"]);
        let verdict = Running::start(&mut command).verdict();
        expect_error(&verdict, 3, &["fix", "not an lpb bundle"]);
        let hint = verdict.run.json()["error"]["hint"].to_string();
        assert!(hint.contains("by its id"), "{hint}");
    });
}

/// What is no regular file, or larger than any bundle, is not read: the run neither waits nor takes memory for it.
#[test]
fn lp_apply_bundles_that_are_no_files() {
    Patient::new().stays_the_same(|p| {
        let fifo = p.built.lab.path("fifo");
        lp_tests::lab::run(Command::new("mkfifo").arg(&fifo));
        let huge = p.built.lab.path("huge");
        std::fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
        let link = p.built.lab.path("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let folder = p.built.lab.path("");
        for (path, word) in [
            (fifo.as_path(), "a pipe"),
            (&huge, "1099511627776 bytes"),
            (&link, "a device"),
            (Path::new("/dev/full"), "a device"),
            (&folder, "a directory"),
        ] {
            let path = path.to_str().unwrap();
            for args in [&[path, "--pid", &p.pid][..], &["revert", path, "--pid", &p.pid]] {
                let verdict = lp_apply(args);
                println!("{}", verdict.run);
                expect_error(&verdict, 3, &[path, word]);
            }
        }
    });
}

/// Without `--json`, a dry run says in lines what it would map and change; and that is what is then done.
#[test]
fn lp_apply_dry_run_for_people() {
    let mut p = Patient::new();
    let run = |args: &[&str]| {
        let mut command = lp_apply_command();
        let run = Running::start(command.arg(&p.bundle).args(["--pid", &p.pid]).args(args)).finish();
        run.expect(0);
        run
    };
    let before = p.target.snapshot();
    let told = run(&["--dry-run"]);
    before.assert_same(&p.target.snapshot());
    println!("{told}");
    assert!(!told.stdout.contains(['{', '"']), "JSON in {told}");
    let lines: Vec<Vec<&str>> = told.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(told.stdout.starts_with(&format!("{}: would apply fix: 1 function\n", p.pid)), "{told}");
    let jump = lines.iter().find(|words| words[0] == "jump").unwrap_or_else(|| panic!("no jump in {told}"));
    assert_eq!(jump[2..5], ["answer", "jumps", "to"], "{told}");
    let json = lp_apply([&p.bundle, "--pid", &p.pid, "--dry-run"]).expect(Outcome::Applied);
    assert_eq!(json["plan"]["sites"][0]["at"], jump[1]);
    let mapped = |mapping: &[&str]| {
        let start = u64::from_str_radix(mapping[1].trim_start_matches("0x"), 16).unwrap();
        (start, mapping[2].parse::<u64>().unwrap(), mapping[4].to_owned())
    };
    let planned: Vec<_> = lines.iter().filter(|w| ["map", "record"].contains(&w[0])).map(|w| mapped(w)).collect();
    assert!(planned.len() >= 3, "{told}");
    run(&["-v"]);
    let after = p.target.snapshot();
    for (start, len, rights) in planned {
        assert!(after.holds(start, len, &rights), "no {rights} mapping at {start:#x} in spite of {told}");
    }
    assert_eq!(p.target.ask("x"), "2");
}

/// Another build of the same program, under the same name: of the same layout, and of another one.
#[test]
fn lp_apply_wrong_build() {
    let (_built, bundle) = Scenario::of("errors.c").bundle();
    for flags in [&["-O1", "-DOTHER"][..], &["-O1", "-DOTHER", "-DMORE"]] {
        let lab = Lab::new();
        let mut target = Target::start(lab.exe("errors", Kind::Pie, &["errors.c"], flags));
        let before = target.snapshot();
        let verdict = lp_apply([bundle.to_str().unwrap(), "--pid", &target.pid().to_string()]);
        verdict.expect_saying(Outcome::BuildMismatch, &["errors"]);
        before.assert_same(&target.snapshot());
        assert_eq!(target.ask("x"), "1");
    }
}

/// A process that has nothing to do with the patch.
#[test]
fn lp_apply_wrong_process() {
    let (_built, bundle) = Scenario::of("errors.c").bundle();
    let mut stranger = stranger();
    let before = stranger.snapshot();
    let verdict = lp_apply([bundle.to_str().unwrap(), "--pid", &stranger.pid().to_string()]);
    verdict.expect(Outcome::NotApplicable);
    before.assert_same(&stranger.snapshot());
    assert_eq!(stranger.ask("still there"), "still there");
}

/// A running program that is none of ours.
fn stranger() -> Target {
    let mut cat = Target::spawn(&mut Command::new("cat"));
    assert_eq!(cat.ask("there"), "there");
    cat
}

/// A process that has ended: not reaped yet, then reaped.
#[test]
fn lp_apply_ended_process() {
    let (built, bundle) = Scenario::of("errors.c").bundle();
    let mut child = Command::new(&built.exe)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id().to_string();
    wait_for("a zombie", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().starts_with(" Z").then_some(())
    });
    lp_apply([bundle.to_str().unwrap(), "--pid", &pid]).expect_saying(Outcome::Gone, &[&pid]);
    child.wait().unwrap();
    // Nobody else gets the number at once: the kernel goes round all numbers first.
    for args in [&[bundle.to_str().unwrap()][..], &["list"], &["revert", "errors"]] {
        let verdict = lp_apply(args.iter().chain(&["--pid", &pid]));
        verdict.expect_saying(Outcome::Gone, &[&pid]);
    }
}

/// Somebody who may not trace the target: refused with exit code 6, naming the control.
#[test]
fn lp_apply_without_permission() {
    if !needs("util-linux") {
        return;
    }
    let mut patient = Patient::new();
    // A copy, because the one in the target directory may be out of reach for `nobody`.
    let tool = patient.built.lab.copy(lp_apply_command().get_program());
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = if root { as_nobody(&tool) } else { Command::new(&tool) };
    if !root {
        patient.target.ask("undumpable"); // what we could trace so far
    }
    let before = root.then(|| patient.target.snapshot());
    command.args([&patient.bundle, "--pid", &patient.pid, "--json"]);
    let verdict = Running::start(&mut command).verdict();
    verdict.run.expect(6);
    let process = &verdict.run.json()["processes"][0];
    assert_eq!(process["outcome"], "refused", "{}", verdict.run);
    assert!(process["hint"].as_str().is_some_and(|hint| hint.contains("CAP_SYS_PTRACE")), "{}", verdict.run);
    if let Some(before) = before {
        before.assert_same(&patient.target.snapshot());
    }
    assert_eq!(patient.target.ask("x"), "1");
}

fn as_nobody(tool: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(tool);
    command
}

/// Several processes with different outcomes: each gets its own, and the exit code says that they differ.
#[test]
fn lp_apply_several_processes() {
    let mut patient = Patient::new();
    let stranger = stranger();
    let verdict = lp_apply([&patient.bundle, "--pid", &patient.pid, "--pid", &stranger.pid().to_string()]);
    verdict.run.expect(8);
    let document = verdict.run.json();
    let outcomes: Vec<_> = document["processes"].as_array().unwrap().iter().map(|p| p["outcome"].clone()).collect();
    assert_eq!(outcomes, ["applied", "not-applicable"]);
    assert_eq!(patient.target.ask("x"), "2");
}
