//! B11. Several builds of a library or of a program in one bundle: `lp-apply` picks by build-id.

use lp_tests::scenario::Scenario;
use lp_tests::{Kind, Lab, Outcome, Target, lp_apply, lp_compile, needs};
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "b11_builds.c";
const BUILDS: [(&str, &[&str]); 3] =
    [("plain", &["-O0"]), ("fast", &["-O2", "-fcf-protection"]), ("padded", &["-O1", "-DPADDED", "-Wl,-z,now"])];

/// Builds the library with these flags into a directory of its own.
fn library(lab: &Lab, dir: &str, flags: &[&str]) -> PathBuf {
    std::fs::create_dir_all(lab.path(dir)).unwrap();
    lab.shared_library(&format!("{dir}/libshop.so.1"), &[SOURCE], &[flags, &["-Wl,-soname,libshop.so.1"]].concat())
}

fn exe(lab: &Lab, name: &str, flags: &[&str]) -> PathBuf {
    lab.exe(name, Kind::Pie, &[SOURCE], &[&["-O2", "-DMAIN"], flags].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn start(exe: &Path, libraries: &Path) -> Target {
    Target::start_command(Command::new(exe).env("LD_LIBRARY_PATH", libraries))
}

/// The program counts its sales, so the answers are not those of a scenario's `ask:` lines.
#[track_caller]
fn check(target: &mut Target, bundle: &Path, options: &[&str]) {
    let pid = target.pid().to_string();
    assert_eq!(target.ask("3"), "31 1 100");
    let original = target.snapshot();
    lp_apply([text(bundle), "--pid", &pid].iter().chain(options)).expect(Outcome::Applied);
    assert_eq!([target.ask("3"), target.ask("4")], ["3131 1002 7", "4141 1003 7"]);
    target.snapshot().assert_w_xor_x();
    lp_apply(["revert", text(bundle), "--pid", &pid]).expect(Outcome::Reverted);
    assert_eq!(target.ask("3"), "31 4 100");
    original.assert_same(&target.snapshot());
}

fn args<'a>(patch: &'a Path, out: &'a Path) -> Vec<&'a str> {
    vec!["build", "--patch", text(patch), "-o", text(out)]
}

/// The library is the target, in three builds; the program is not known to the bundle.
#[test]
fn b11_three_builds_of_a_library() {
    let lab = Lab::new();
    let libraries = BUILDS.map(|(dir, flags)| library(&lab, dir, &[flags, &["-Wl,--no-as-needed"]].concat()));
    let program = exe(&lab, "shop", &["-L{lab}/plain", "-l:libshop.so.1"]);
    let (patch, bundle) = (lab.patch(SOURCE, &[]), lab.path("fix.lpb"));
    let mut build = args(&patch, &bundle);
    build.extend(["--set", "limit=int:100->7"]);
    libraries.iter().for_each(|l| build.extend(["--target", text(l)]));
    lp_compile(build).expect(0);
    for library in &libraries {
        let mut target = start(&program, library.parent().unwrap());
        // The program could define what the library has no slot for.
        check(&mut target, &bundle, &["--allow-module", "shop"]);
        target.finish();
    }

    // A build that the bundle does not know.
    let other = library(&lab, "other", &["-O3", "-DPADDED", "-DOTHER"]);
    let mut target = start(&program, other.parent().unwrap());
    lp_apply([text(&bundle), "--pid", &target.pid().to_string()]).expect(Outcome::BuildMismatch);
    assert_eq!(target.ask("3"), "31 1 100");
    target.finish();
}

/// The program is the target, in two builds, one of them lazy; its library has three: each program with each library.
#[test]
fn b11_builds_of_program_and_library() {
    let lab = Lab::new();
    let libraries = BUILDS.map(|(dir, flags)| library(&lab, dir, flags));
    let link = ["-L{lab}/plain", "-l:libshop.so.1"];
    let programs = [("eager", "-Wl,-z,now"), ("lazy", "-Wl,-z,lazy")]
        .map(|(name, flag)| exe(&lab, name, &[link.as_slice(), &["-DPADDED", flag]].concat()));
    let source = "extern int sum(int), limited(void), rate; extern int atoi(const char *);\n\
                  int new_price(int pieces) { return sum(pieces) * 2 + rate + atoi(\"1000\") * limited(); }\n";
    let source = lab.write("fix.c", source);
    let (patch, bundle) = (lab.path("fix.so"), lab.path("fix.lpb"));
    lp_tests::lab::run(Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&patch).arg(source));
    let mut build = args(&patch, &bundle);
    build.extend(["--replace", "libshop.so.1:price=new_price"]);
    programs.iter().for_each(|p| build.extend(["--target", text(p)]));
    libraries.iter().for_each(|l| build.extend(["--lib", text(l)]));
    lp_compile(build).expect(0);
    for (program, library) in programs.iter().flat_map(|p| libraries.iter().map(move |l| (p, l))) {
        let mut target = start(program, library.parent().unwrap());
        let pid = target.pid().to_string();
        assert_eq!(target.ask("3"), "31 1 100");
        lp_apply([text(&bundle), "--pid", &pid]).expect(Outcome::Applied);
        assert_eq!(target.ask("3"), "102063 1 100");
        lp_apply(["revert", text(&bundle), "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("3"), "31 2 100");
        target.finish();
    }
}

/// Three builds of the program itself, one of them at fixed addresses.
#[test]
fn b11_three_builds_of_a_program() {
    let lab = Lab::new();
    let programs = [
        lab.exe("plain", Kind::Pie, &[SOURCE], &["-O0"]),
        lab.exe("fast", Kind::Pie, &[SOURCE], &["-O2", "-DPADDED", "-fcf-protection"]),
        lab.exe("fixed", Kind::NonPie, &[SOURCE], &["-O1"]),
    ];
    let (patch, bundle) = (lab.patch(SOURCE, &[]), lab.path("fix.lpb"));
    let mut build = args(&patch, &bundle);
    build.extend(["--set", "limit=int:100->7"]);
    programs.iter().for_each(|p| build.extend(["--target", text(p)]));
    lp_compile(build).expect(0);
    for program in &programs {
        let mut target = Target::start(program);
        check(&mut target, &bundle, &[]);
        target.finish();
    }
}

/// What is missing in one build is an error that names the build; what is missing in all is said once.
#[test]
fn b11_a_build_that_lacks_something() {
    let lab = Lab::new();
    let good = library(&lab, "good", &["-O2", "-Wl,--no-as-needed"]);
    let bad = library(&lab, "bad", &["-O2", "-DNO_HELPER", "-Wl,--no-as-needed"]);
    let (patch, bundle) = (lab.patch(SOURCE, &[]), lab.path("fix.lpb"));
    let mut build = args(&patch, &bundle);
    build.extend(["--target", text(&good), "--target", text(&bad), "--replace", "nothing=new_price"]);
    let run = lp_compile(build);
    run.expect(4).says(&format!("with {}: undefined symbol rebate", text(&bad)));
    assert_eq!(run.stderr.matches("nothing was not found").count(), 1, "{run}");
    assert!(!bundle.exists());

    let program = exe(&lab, "shop", &["-L{lab}/good", "-l:libshop.so.1"]);
    let mut build = args(&patch, &bundle);
    build.extend(["--target", text(&good), "--target", text(&program)]);
    lp_compile(build).expect(3).says("no other build");
}

/// Three builds of libc itself, of Debian and of its cross compilers: IFUNCs with and without slots, COPY-relocated data,
/// versioned names and `errno` of the right one.
#[test]
fn b11_three_builds_of_libc() {
    if !needs("libc6-amd64-cross") || !needs("libc6-amd64-i386-cross") {
        return;
    }
    let libcs = ["/lib/x86_64-linux-gnu", "/usr/x86_64-linux-gnu/lib", "/usr/i686-linux-gnu/lib64"];
    for source in ["b1_imports.c", "b3_ifunc.c", "b5_versions.c", "b6_copy.c"] {
        let mut scenario = Scenario::of(source);
        for (libc, name) in
            libcs.iter().flat_map(|l| ["libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"].map(|n| (l, n)))
        {
            scenario = scenario.option(&format!("--lib {libc}/{name}"));
        }
        let (built, bundle) = scenario.bundle();
        let start = |exe, libc| {
            let mut command = Command::new(format!("{libc}/ld-linux-x86-64.so.2"));
            Target::start_command(command.arg("--library-path").arg(libc).arg(exe))
        };
        for libc in libcs {
            println!("{source} with {libc}");
            let mut target = start(&built.exe, libc);
            scenario.check(&mut target, &bundle);
            target.finish();
        }
        // Without the builds of the cross compilers in the bundle.
        let (built, bundle) = Scenario::of(source).bundle();
        let target = start(&built.exe, libcs[1]);
        let verdict = lp_apply([text(&bundle), "--pid", &target.pid().to_string()]);
        verdict.expect_saying(Outcome::BuildMismatch, &["runs another build of lib", ".so.6: build-id "]);
        target.finish();
    }
}
