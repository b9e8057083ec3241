//! IFUNCs that are replaced: the implementation that the process has chosen, and no other.

use lp_tests::scenario::{Built, Scenario};
use lp_tests::{Kind, Outcome, Target, lp_apply, lp_compile};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "ifunc.c";

/// An empty directory, and one with the file that makes the resolver choose `heavy`.
fn directories(built: &Built) -> [PathBuf; 2] {
    ["without", "with"].map(|name| {
        let directory = built.lab.path(name);
        fs::create_dir(&directory).unwrap();
        if name == "with" {
            fs::write(directory.join("heavy"), "").unwrap();
        }
        directory
    })
}

/// The bundle applies and reverts; `asks`: question, answer before and after, answer with the patch.
#[track_caller]
fn check(target: &mut Target, bundle: &Path, asks: &[(&str, &str, &str)]) {
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    for (question, before, _) in asks {
        assert_eq!(target.ask(question), *before, "{question} before");
    }
    let original = target.snapshot();
    lp_apply([bundle, "--pid", &pid, "--dry-run"]).run.expect(0);
    original.assert_same(&target.snapshot());
    lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
    for (question, _, after) in asks {
        assert_eq!(target.ask(question), *after, "{question} with the patch");
    }
    target.snapshot().assert_w_xor_x();
    lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
    for (question, before, _) in asks {
        assert_eq!(target.ask(question), *before, "{question} after the revert");
    }
    original.assert_same(&target.snapshot());
}

/// Direct calls show which of the two has changed.
const LIGHT: [(&str, &str, &str); 2] = [("weigh", "2", "1002"), ("each", "2 3", "1002 3")];
const HEAVY: [(&str, &str, &str); 2] = [("weigh", "3", "1003"), ("each", "2 3", "2 1003")];

/// One bundle for both choices of a program, however it is linked; LP_ORIGINAL calls the one that was chosen.
#[test]
fn the_chosen_one_of_a_program() {
    for kind in [Kind::Pie, Kind::NonPie, Kind::Static, Kind::StaticPie] {
        let scenario = Scenario::of(SOURCE).kind(kind).without_library().option("--replace weigh=new_weigh");
        let (built, bundle) = scenario.bundle();
        for (directory, asks) in directories(&built).iter().zip([LIGHT, HEAVY]) {
            let mut target = Target::start_command(Command::new(&built.exe).current_dir(directory));
            check(&mut target, &bundle, &asks);
            target.finish();
        }
    }
}

/// A function of a library that the program has not called yet: nobody knows what will be chosen.
#[test]
fn the_chosen_one_of_a_library_once_it_is_bound() {
    let (built, bundle) = Scenario::of(SOURCE).option("--replace libifunc.so:weigh=new_weigh").bundle();
    for (directory, asks) in directories(&built).iter().zip([LIGHT, HEAVY]) {
        let mut target = Target::start_command(Command::new(&built.exe).current_dir(directory));
        let pid = target.pid().to_string();
        let original = target.snapshot();
        let refused = lp_apply([bundle.to_str().unwrap(), "--pid", &pid]);
        let words = ["which implementation of weigh is chosen does not show yet", "not bound yet"];
        refused.expect_saying(Outcome::Refused, &words);
        original.assert_same(&target.snapshot());
        check(&mut target, &bundle, &asks);
        target.finish();
        let mut eager = Command::new(&built.exe);
        let mut target = Target::start_command(eager.current_dir(directory).env("LD_BIND_NOW", "1"));
        let pid = target.pid().to_string();
        lp_apply([bundle.to_str().unwrap(), "--pid", &pid]).expect(Outcome::Applied);
        assert_eq!(target.ask("weigh"), asks[0].2);
        target.finish();
    }
}

/// What is called is a function of a preloaded library, which the patch does not know.
#[test]
fn one_that_the_patch_does_not_know() {
    let (built, bundle) = Scenario::of(SOURCE).option("--replace libifunc.so:weigh=new_weigh").bundle();
    let preload = built.lab.shared_library("libother.so", &[SOURCE], &["-DPRELOAD"]);
    let mut target = Target::start_command(Command::new(&built.exe).env("LD_PRELOAD", preload));
    assert_eq!(target.ask("weigh"), "8");
    let original = target.snapshot();
    let refused = lp_apply([bundle.to_str().unwrap(), "--pid", &target.pid().to_string()]);
    let words = ["weigh", "none of the implementations that the patch knows", "light", "heavy"];
    refused.expect_saying(Outcome::Refused, &words);
    original.assert_same(&target.snapshot());
    assert_eq!(target.ask("weigh"), "8");
    target.finish();
}

/// Processor features, as they are and without AVX2.
const ENVIRONMENTS: [(&str, &str); 2] = [
    ("LANG", "C"),
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX_Fast_Unaligned_Load"),
];

/// One bundle for the two implementations that libc chooses on this processor.
#[test]
fn the_chosen_one_of_libc() {
    let scenario = Scenario::of("ifunc_libc.c").option("--replace libc.so.6:strrchr=new_strrchr");
    let (built, bundle) = scenario.bundle();
    let mut seen = Vec::new();
    for (name, value) in ENVIRONMENTS {
        let mut target = Target::start_command(Command::new(&built.exe).env(name, value));
        seen.push(target.ask("which"));
        check(&mut target, &bundle, &[("@a/b/c", "4", "0"), ("a/b/c", "3", "3")]);
        target.finish();
    }
    let avx2 = fs::read_to_string("/proc/cpuinfo").unwrap().contains(" avx2 ");
    assert_eq!(seen[0] != seen[1], avx2, "{seen:?}");
}

/// Nothing but the program's own slot shows which `strstr` it is.
#[test]
fn one_of_libc_once_it_is_bound() {
    let scenario = Scenario::of("ifunc_libc.c")
        .option("--replace libc.so.6:strrchr=new_strrchr --replace libc.so.6:strstr=new_strstr");
    let (built, bundle) = scenario.bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let refused = lp_apply([bundle.to_str().unwrap(), "--pid", &pid]);
    refused.expect_saying(Outcome::Refused, &["strstr is chosen does not show yet", "not bound yet"]);
    check(&mut target, &bundle, &[("@ word", "2", "0"), ("a word", "2", "2")]);
    target.finish();
}

/// What the bundle says about the implementations.
#[test]
fn inspect_names_the_implementations() {
    let scenario = Scenario::of(SOURCE).without_library().option("--replace weigh=new_weigh");
    let (built, bundle) = scenario.bundle();
    let page = lp_compile(["inspect", bundle.to_str().unwrap()]);
    page.expect(0);
    for words in [
        "2 of its implementations are replaced, and of these the one that the process has chosen [ifunc-target]",
        "the old code of light, if that was chosen",
        "function weigh of ifunc",
        "part      light",
        "part      heavy",
        "only if   it is what the slot",
    ] {
        assert!(page.stdout.contains(words), "no {words}: {page}");
    }
    let both = scenario.option("--replace light=new_weigh");
    let run = lp_compile(both.build_args(&built, &built.lab.path("both.lpb")));
    run.expect(4);
    run.says("light and weigh are to be replaced, and can be the same code");
}

/// A library of two builds, one of them stripped: a function without symbol is found by the unwind table.
#[test]
fn the_chosen_one_of_either_build_of_a_library() {
    let scenario = Scenario::of(SOURCE);
    let built = scenario.build();
    let flags = ["-O2", "-fno-builtin", "-DHIDDEN", "-s"];
    fs::create_dir(built.lab.path("other")).unwrap();
    let other =
        built.lab.shared_library("other/libifunc.so", &[SOURCE], &[&flags[..], &["-Wl,-soname,libifunc.so"]].concat());
    let bundle = built.lab.path("both.lpb");
    let mut args = scenario.build_args(&built, &bundle);
    let first = built.lab.path("libifunc.so");
    let more = [
        "--replace",
        "libifunc.so:weigh=new_weigh",
        "--lib",
        first.to_str().unwrap(),
        "--lib",
        other.to_str().unwrap(),
    ];
    args.extend(more.map(str::to_owned));
    lp_compile(args).expect(0);
    for (directory, [light, heavy]) in directories(&built).iter().zip([["2", "1002"], ["3", "1003"]]) {
        for library in [None, Some(built.lab.path("other"))] {
            let mut command = Command::new(&built.exe);
            command.current_dir(directory);
            library.iter().for_each(|path| _ = command.env("LD_LIBRARY_PATH", path));
            let mut target = Target::start_command(&mut command);
            let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid())).unwrap();
            assert_eq!(maps.contains("/other/libifunc.so"), library.is_some());
            check(&mut target, &bundle, &[("weigh", light, heavy)]);
            target.finish();
        }
    }
}

/// A library that does not call its own function, alone and with a program that does.
#[test]
fn a_library_without_the_program() {
    let scenario = Scenario::of(SOURCE).option("--target {lab}/libifunc.so --replace weigh=new_weigh");
    let (built, bundle) = (scenario.build(), "fix.lpb");
    let run = lp_compile(scenario.build_args(&built, &built.lab.path(bundle)));
    run.expect(4);
    run.says("no slot shows which implementation was chosen (name the programs that call it with --lib)");
    assert!(!built.lab.path(bundle).exists());
    let (built, bundle) = scenario.option("--lib {lab}/ifunc").bundle();
    let mut target = Target::start(&built.exe);
    check(&mut target, &bundle, &LIGHT);
    target.finish();
}
