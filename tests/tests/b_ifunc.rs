//! B3: IFUNCs. The patch gets what the program itself would: by a slot, or by asking the resolver at the first call.

use lp_tests::lab::{run, system_library};
use lp_tests::scenario::Scenario;
use lp_tests::{Kind, Lab, Outcome, Target, lp_apply, lp_compile, needs};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environments of a target: as it is, bound at start-up, and with another choice of processor features.
const ENVIRONMENTS: [(&str, &str); 3] = [
    ("LANG", "C"),
    ("LD_BIND_NOW", "1"),
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX_Fast_Unaligned_Load"),
];

/// An allocator that may be loaded before libc, and brings more libraries with it.
const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";

#[test]
fn b3_with_and_without_slot_in_two_threads() {
    for kind in [Kind::Pie, Kind::NonPie] {
        let scenario = Scenario::of("b3_ifunc.c").kind(kind);
        let (built, bundle) = scenario.bundle();
        for (name, value) in ENVIRONMENTS {
            let mut target = Target::start_command(Command::new(&built.exe).env(name, value));
            scenario.check(&mut target, &bundle);
            target.finish();
        }
    }
}

/// The first call of a thunk changes no argument, in whatever register.
#[test]
fn b3_a_resolver_sees_no_argument() {
    Scenario::of("b3_registers.c").run();
    Scenario::of("b3_registers.c").kind(Kind::NonPie).flag("-Wl,-z,now").run();
}

/// A resolver may look at its callers: the thunk has an unwind table, which is registered.
#[test]
fn b3_a_resolver_sees_its_callers() {
    for kind in [Kind::Pie, Kind::NonPie] {
        Scenario::of("b3_backtrace.c").kind(kind).run();
    }
}

/// A static program: its own IRELATIVE slots, and a thunk where it has none.
#[test]
fn b3_static_programs() {
    for kind in [Kind::Static, Kind::StaticPie] {
        Scenario::of("b3_static.c").kind(kind).run();
    }
    Scenario::of("b3_static.c").run();
}

/// Name and version of each exported symbol for which `wanted` holds; it sees the line of readelf.
fn symbols(library: &str, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let table = Command::new("readelf").args(["-W", "--dyn-syms"]).arg(system_library(library)).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let lines = table.lines().filter(|l| wanted(l) && !l.contains(" UND "));
    let symbols = lines.filter_map(|l| l.split_whitespace().nth(7)?.split_once('@'));
    let mut all: Vec<_> = symbols.map(|(n, v)| (n.to_owned(), v.trim_start_matches('@').to_owned())).collect();
    all.sort();
    all.dedup();
    all
}

/// A target and a patch that brings a table with the address of every IFUNC of libc and libm.
fn every_ifunc(lab: &Lab) -> (PathBuf, PathBuf) {
    let is_ifunc = |line: &str| line.contains(" IFUNC ");
    let mut all = symbols("libc.so.6", is_ifunc);
    all.extend(symbols("libm.so.6", is_ifunc));
    assert!(all.len() > 100, "libc and libm of Debian 12 have 143: {all:?}");
    table_of(lab, &all)
}

/// A target and a patch that brings a table with the address of each of these symbols. The target compares each with what
/// dlvsym says; if it is a thunk, it calls it and compares what the thunk's slot holds then.
fn table_of(lab: &Lab, all: &[(String, String)]) -> (PathBuf, PathBuf) {
    let (mut patch, mut names) = (String::new(), String::new());
    for (number, (name, version)) in all.iter().enumerate() {
        writeln!(patch, "extern char s{number}[]; __asm__(\".symver s{number}, {name}@{version}\");").unwrap();
        writeln!(names, "{{\"{name}\", \"{version}\"}},").unwrap();
    }
    let places: Vec<String> = (0..all.len()).map(|number| format!("s{number}")).collect();
    write!(patch, "void *table[] = {{{}}};\nvoid **new_answer(void) {{ return table; }}\n", places.join(", ")).unwrap();
    lab.write("names.h", names);
    let source = lab.write("patch.c", patch);
    let fix = lab.path("fix.so");
    run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&fix).arg(&source).arg("-lm"));
    let exe =
        lab.exe("every", Kind::Pie, &["b3_every.c"], &["-O2", "-fno-builtin", "-Wl,-z,lazy,--no-as-needed", "-lm"]);
    let bundle = lab.path("fix.lpb");
    let [target, patch, out] = [&exe, &fix, &bundle].map(|path| path.to_str().unwrap());
    let build = ["build", "--target", target, "--patch", patch, "--replace", "answer=new_answer", "-o", out];
    let preloaded: &[&str] = if needs("libjemalloc2") { &["--lib", JEMALLOC] } else { &[] };
    lp_compile(build.iter().chain(preloaded)).expect(0);
    (exe, bundle)
}

/// Every environment, as it is and, where it is there, with the other allocator.
fn environments() -> Vec<Vec<(&'static str, &'static str)>> {
    let plain = ENVIRONMENTS.iter().map(|e| vec![*e]);
    let preloaded = ENVIRONMENTS.iter().filter(|_| needs("libjemalloc2")).map(|e| vec![*e, ("LD_PRELOAD", JEMALLOC)]);
    plain.chain(preloaded).collect()
}

/// How many are the same, how many thunks; and where `memcpy` is: in one environment, with the program's own slots for
/// `strstr` and `time` bound before or not.
#[track_caller]
fn compare(exe: &Path, bundle: &Path, environment: &[(&str, &str)], bind: bool) -> (u32, u32, String) {
    let mut target = Target::start_command(Command::new(exe).envs(environment.iter().copied()));
    assert_eq!(target.ask("compare"), "no table");
    if bind {
        assert_eq!(target.ask("bind"), "1");
    }
    let memcpy = target.ask("memcpy");
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
    let result = target.ask("compare");
    assert_eq!(target.ask("compare"), result, "once more, now that all are bound");
    lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
    target.finish();
    let words: Vec<_> = result.split(' ').collect();
    let ["same", same, "thunks", thunks, "wrong", "0"] = words.as_slice() else { panic!("{environment:?}: {result}") };
    (same.parse().unwrap(), thunks.parse().unwrap(), memcpy)
}

/// B5: each version of every name of which libc and libm have several is the one that dlvsym finds.
#[test]
fn b5_every_name_of_several_versions() {
    let is_plain = |line: &str| !line.contains(" TLS ") && !line.contains("GLIBC_PRIVATE");
    let mut several = Vec::new();
    for library in ["libc.so.6", "libm.so.6"] {
        let all = symbols(library, is_plain);
        let count = |name: &str| all.iter().filter(|(other, _)| other == name).count();
        several.extend(all.iter().filter(|(name, _)| count(name) > 1).cloned());
    }
    assert!(several.len() > 400, "libc and libm of Debian 12 have more than {}", several.len());
    let lab = Lab::new();
    let (exe, bundle) = table_of(&lab, &several);
    for environment in environments() {
        let (same, thunks, _) = compare(&exe, &bundle, &environment, false);
        assert_eq!(usize::try_from(same + thunks), Ok(several.len()), "{environment:?}");
    }
}

#[test]
fn b3_every_ifunc_of_libc_and_libm() {
    let lab = Lab::new();
    let (exe, bundle) = every_ifunc(&lab);
    let all: Vec<_> = environments().iter().map(|e| compare(&exe, &bundle, e, false)).collect();
    let (lazy, now, masked) = (&all[0], &all[1], &all[2]);
    let bound = compare(&exe, &bundle, &[ENVIRONMENTS[0]], true);
    // Debian 12: 92 of 143 have a slot.
    assert!(lazy.0 > 50 && lazy.1 > 30, "{lazy:?}");
    assert_eq!((lazy.0, lazy.1), (masked.0, masked.1));
    // The program's own slots, once they are bound, come before a thunk.
    assert_eq!((bound.0, bound.1), (lazy.0 + 2, lazy.1 - 2));
    assert_eq!((now.0, now.1), (bound.0, bound.1));
    // The preloaded libraries bring slots of their own.
    for (plain, preloaded) in all.iter().zip(&all[ENVIRONMENTS.len()..]) {
        assert_eq!(plain.0 + plain.1, preloaded.0 + preloaded.1);
        assert!(preloaded.0 >= plain.0, "{plain:?} {preloaded:?}");
    }
    // That the masked features mattered.
    if std::fs::read_to_string("/proc/cpuinfo").unwrap().contains("avx2") {
        assert_ne!(lazy.2, masked.2);
    }
}
