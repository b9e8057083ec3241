//! A. Replace: the new function is called instead of the old one, with the same arguments, and reverting undoes it.

use lp_tests::lab::run;
use lp_tests::scenario::Scenario;
use lp_tests::skip::skip;
use lp_tests::{Kind, Lab, Outcome, Target, lp_apply, lp_compile, needs, workspace};
use std::process::Command;

/// A1: the sample of the README, patched while it sleeps inside the old function.
#[test]
fn a1_testlive() {
    let lab = Lab::new();
    let dir = workspace().join("samples/testlive");
    let [source, patch_source] = ["testlive.c", "libfoo.c"].map(|name| dir.join(name));
    let [exe, patch, bundle] = ["testlive", "libfoo.so", "foo.lpb"].map(|name| lab.path(name));
    run(Command::new("cc").arg(source).arg("-o").arg(&exe));
    run(Command::new("cc").args(["-shared", "-fPIC"]).arg(patch_source).arg("-o").arg(&patch));
    let [exe_arg, patch_arg, bundle_arg] = [&exe, &patch, &bundle].map(|path| path.to_str().unwrap());
    let names = ["--target", exe_arg, "--patch", patch_arg, "--replace", "func_J=func1", "-o", bundle_arg];
    lp_compile(["build"].iter().chain(&names)).expect(0);

    let mut target = Target::spawn(&mut Command::new(&exe));
    target.expect_line("No, this is not the right answer....(3)");
    target.expect_line("in I'm wrong function...QQ"); // and now it sleeps in there for 3 s
    lp_apply([bundle_arg, "--pid", &target.pid().to_string(), "--wait", "30s"]).expect(Outcome::Applied);
    target.expect_line("exit I'm wrong function...QQ"); // the call in flight ends in the old code
    target.expect_line("in fixup");
    target.expect_line("You fix it !!! (12)");
    assert!(target.wait_exit().success());
}

macro_rules! a2 {
    ($($name:ident: $kind:ident $flag:literal,)*) => {$(
        #[test]
        fn $name() {
            if Kind::$kind.available() {
                Scenario::of("a2_each_kind.c").without_library().kind(Kind::$kind).flag($flag).run();
            }
        }
    )*};
}

// A2: one function, each kind of executable.
a2! {
    a2_pie_o0: Pie "-O0",
    a2_pie_o2: Pie "-O2",
    a2_pie_endbr64: Pie "-fcf-protection",
    a2_non_pie_o0: NonPie "-O0",
    a2_non_pie_o2: NonPie "-O2",
    a2_static_o0: Static "-O0",
    a2_static_o2: Static "-O2",
    a2_static_pie_o0: StaticPie "-O0",
    a2_static_pie_o2: StaticPie "-O2",
    a2_gold_o0: Gold "-O0",
    a2_gold_o2: Gold "-O2",
    a2_lld_o0: Lld "-O0",
    a2_lld_o2: Lld "-O2",
    a2_musl_static_o0: MuslStatic "-O0",
    a2_musl_static_o2: MuslStatic "-O2",
}

/// A2 in a shared library, which is the patch's target.
#[test]
fn a2_shared_library() {
    for flag in ["-O0", "-O2"] {
        let scenario = Scenario::of("a2_each_kind.c").option("--target {lab}/liba2_each_kind.so").flag(flag);
        // The library itself calls nothing of libc; the patch does, so the library has to name it as a library would.
        // And it has no slot that says whose printf this process uses: its own, or one of the program, which is unknown.
        scenario.flag("-Wl,--no-as-needed").apply_option("--allow-module a2_each_kind").run();
    }
}

#[test]
fn a3_arguments() {
    Scenario::of("a3_arguments.c").run();
    Scenario::of("a3_arguments.c").kind(Kind::NonPie).flag("-O0").run();
}

#[test]
fn a4_recursion() {
    Scenario::of("a4_recursion.c").run();
    Scenario::of("a4_recursion.c").flag("-O2").run();
}

#[test]
fn a5_exe_and_library() {
    Scenario::of("a5_exe_and_library.c").run();
}

/// A5: a thread stays in the library's function, so the executable's function keeps its old code too.
#[test]
fn a5_all_or_nothing() {
    let (built, bundle) = Scenario::of("a5_exe_and_library.c").bundle();
    let mut target = Target::start(&built.exe);
    let pid = target.pid().to_string();
    let bundle = bundle.to_str().unwrap();
    assert_eq!(target.ask("stay"), "0");
    let before = target.snapshot();

    let verdict = lp_apply([bundle, "--pid", &pid, "--wait", "300ms"]);
    verdict.expect_saying(Outcome::Blocked, &["in_library"]);
    assert_eq!([target.ask("exe"), target.ask("library")], ["10", "20"]);
    before.assert_same(&target.snapshot());

    lp_apply([bundle, "--pid", &pid, "--consistency", "immediate"]).expect(Outcome::Applied);
    assert_eq!([target.ask("exe"), target.ask("library")], ["11", "22"]);
}

/// A6: the static function of the named file, whichever file comes first in the link.
#[test]
fn a6_static_functions() {
    for (file, before, after) in [("a6_statics.c", "101 1201", "901 1201"), ("a6_other.c", "101 1201", "101 1901")] {
        let replace = format!("--replace {file}:helper=new_helper");
        let (built, bundle) = Scenario::of("a6_statics.c").option(&replace).bundle();
        let mut target = Target::start(&built.exe);
        assert_eq!(target.ask("x"), before, "{file}");
        lp_apply([bundle.to_str().unwrap(), "--pid", &target.pid().to_string()]).expect(Outcome::Applied);
        assert_eq!(target.ask("x"), after, "{file}");
        target.finish();
    }
}

/// A6: without a file the name is ambiguous, and the message names both files.
#[test]
fn a6_ambiguous_static_function() {
    Scenario::of("a6_statics.c").option("--replace helper=new_helper").run_refused();
}

#[test]
fn a9_calls_the_original() {
    Scenario::of("a9_original.c").run();
    Scenario::of("a9_original.c").kind(Kind::NonPie).run();
}

#[test]
fn a11_data_writes() {
    Scenario::of("a11_set.c").run();
    Scenario::of("a11_set.c").kind(Kind::NonPie).run();
}

/// A11: the program has changed the number since: refused, and nothing at all is written.
#[test]
fn a11_data_differs() {
    let (built, bundle) = Scenario::of("a11_set.c").bundle();
    let mut target = Target::start(&built.exe);
    let changed = target.ask("level 8");
    assert_eq!(changed, "8 old 01020304 5 hook 20");
    let before = target.snapshot();
    let verdict = lp_apply([bundle.to_str().unwrap(), "--pid", &target.pid().to_string()]);
    verdict.expect_saying(Outcome::Refused, &["level"]);
    assert_eq!(target.ask("all"), changed);
    before.assert_same(&target.snapshot());
}

/// A12: the target is stripped; symbols come from a separate debug file, found in each of the usual ways.
#[test]
fn a12_separate_debug_file() {
    if !needs("binutils") {
        return;
    }
    for (why, place, option) in [
        ("named", "elsewhere/symbols.debug", "--debug-file {lab}/elsewhere/symbols.debug"),
        (".gnu_debuglink, same directory", "a2_each_kind.debug", ""),
        (".gnu_debuglink, .debug/", ".debug/a2_each_kind.debug", ""),
        ("by build-id, in a sysroot", "root/usr/lib/debug/.build-id/ab/cdef0123.debug", "--sysroot {lab}/root"),
    ] {
        let scenario =
            Scenario::of("a2_each_kind.c").without_library().option(option).flag("-Wl,--build-id=0xabcdef0123");
        let built = scenario.build();
        for library in ["lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2"] {
            built.lab.write(&format!("root/{library}"), std::fs::read(format!("/{library}")).unwrap());
        }
        let debug = built.lab.write(place, "");
        run(Command::new("objcopy").arg("--only-keep-debug").arg(&built.exe).arg(&debug));
        run(Command::new("objcopy").arg("--strip-all").arg(&built.exe));
        if option.is_empty() {
            run(Command::new("objcopy").arg("--add-gnu-debuglink").arg(&debug).arg(&built.exe));
        }
        let bundle = built.lab.path("fix.lpb");
        let compiled = lp_compile(scenario.build_args(&built, &bundle));
        assert!(compiled.status.success(), "{why}: {compiled}");
        let mut target = Target::start(&built.exe);
        scenario.check(&mut target, &bundle);
        target.finish();
    }
}

/// A13: an upgrade has replaced the file that the target was started from.
#[test]
fn a13_replaced_file() {
    let scenario = Scenario::of("a13_own_view.c");
    let (built, bundle) = scenario.bundle();
    let mut target = Target::start(&built.exe);
    let new = built.lab.write("new", "not even a program");
    std::fs::rename(new, &built.exe).unwrap();
    scenario.check(&mut target, &bundle);
    target.finish();
}

/// A13: the target sees neither its own file nor libc.
#[test]
fn a13_chroot() {
    let scenario = Scenario::of("a13_own_view.c");
    let (built, bundle) = scenario.bundle();
    let empty = built.lab.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut target = Target::start_command(Command::new(&built.exe).arg(empty));
    scenario.check(&mut target, &bundle);
    target.finish();
}

/// A13: the target is process 1 of its own namespaces.
#[test]
fn a13_namespaces() {
    if !needs("util-linux") {
        return;
    }
    let scenario = Scenario::of("a13_own_view.c");
    let (built, bundle) = scenario.bundle();
    let own = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"];
    let allowed = Command::new("unshare").args(own).arg("true").status().unwrap().success();
    if !allowed && !skip("user namespaces, which this machine does not allow") {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(own).arg(&built.exe);
    let mut target = Target::start_child_of(&mut command);
    scenario.check(&mut target, &bundle);
    target.finish();
}
