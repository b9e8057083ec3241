//! B14, A12: kinds of target beside a program with its libraries: plugins, musl, Rust, separate debug files.

use lp_tests::lab::run;
use lp_tests::scenario::Scenario;
use lp_tests::{Kind, Lab, Outcome, Target, lp_apply, lp_compile, needs};
use std::path::{Path, PathBuf};
use std::process::Command;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Applies and reverts: the answer to `question` changes from `before` to `after` and back.
#[track_caller]
fn check(target: &mut Target, bundle: &Path, question: &str, before: &str, after: &str) {
    let pid = target.pid().to_string();
    assert_eq!(target.ask(question), before);
    let original = target.snapshot();
    lp_apply([text(bundle), "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!(target.ask(question), after);
    target.snapshot().assert_w_xor_x();
    lp_apply(["revert", text(bundle), "--pid", &pid]).expect(Outcome::Reverted);
    original.assert_same(&target.snapshot());
}

/// A plugin: named beside the program that opens it (`--module`), or as the target itself.
#[test]
fn b14_plugin() {
    let lab = Lab::new();
    let source = "b14_plugin.c";
    let plugin = lab.shared_library("libb14_plugin.so", &[source], &["-O2"]);
    let program = lab.exe("program", Kind::Pie, &[source], &["-O2"]);
    let (patch, bundle) = (lab.patch(source, &[]), lab.path("fix.lpb"));
    for targets in [
        ["--target", text(&program), "--module", text(&plugin)].as_slice(),
        &["--target", text(&plugin), "--lib", text(&program)],
    ] {
        let build = ["build", "--patch", text(&patch), "-o", text(&bundle)];
        lp_compile(build.iter().chain(targets)).expect(0);
        let mut target = Target::start_command(Command::new(&program).arg(&plugin));
        check(&mut target, &bundle, "5", "6 977", "17508 977");
        assert_eq!(target.ask("5"), "18 977");
        target.finish();
    }
    // Without the plugin's name, `plugin_call` is nothing that the program could see.
    let replace = ["--replace", "plugin_call=new_plugin_call"];
    let build =
        ["build", "--patch", text(&patch), "--target", text(&program), "--module", text(&plugin), "-o", text(&bundle)];
    lp_compile(build.iter().chain(&replace)).expect(4).says("libb14_plugin.so:plugin_call");
    let caller = "extern int plugin_call(int x); int new_tweak(int x) { return plugin_call(x); }";
    let patch = lab.patch(text(&lab.write("caller.c", caller)), &[]);
    let build = ["build", "--patch", text(&patch), "--target", text(&program), "--module", text(&plugin)];
    let build = build.iter().copied().chain(["--replace", "tweak=new_tweak", "-o", text(&bundle)]);
    lp_compile(build.clone()).expect(4).says("--bind plugin_call=libb14_plugin.so:plugin_call");
    lp_compile(build.chain(["--bind", "plugin_call=libb14_plugin.so:plugin_call"])).expect(0);
    let mut target = Target::start_command(Command::new(&program).arg(&plugin));
    check(&mut target, &bundle, "5", "6 977", "8 2");
    assert_eq!(target.ask("5"), "9 977");
    target.finish();
}

#[test]
fn b14_musl_program() {
    for kind in [Kind::Musl, Kind::MuslStatic] {
        if kind.available() {
            Scenario::of("b14_musl.c").kind(kind).run();
        }
    }
}

const TWINS: [&str; 3] = ["a6_twins/main.c", "a6_twins/one/part.c", "a6_twins/two/part.c"];
const TWIN_PATCH: &str = "a6_twins/main.c";

/// A library on musl is the target: nothing in it names musl's loader, which is its libc.
#[test]
fn b14_musl_library() {
    if !needs("musl-tools") {
        return;
    }
    let lab = Lab::new();
    let source = "b14_plugin.c";
    let plugin = lab.path("libb14_plugin.so");
    let musl = |args: &[&str], out: &Path| {
        let include = lp_tests::lab::programs();
        let mut cc = Command::new("musl-gcc");
        run(cc.args(["-O2", "-fPIC", "-I"]).arg(&include).arg(include.join(source)).args(args).arg("-o").arg(out));
    };
    musl(&["-shared", "-DLIBRARY", "-Wl,-soname,libb14_plugin.so"], &plugin);
    let program = lab.path("program");
    musl(&["-pie"], &program);
    let (patch, bundle) = (lab.patch(source, &[]), lab.path("fix.lpb"));
    lp_compile(["build", "--target", text(&plugin), "--patch", text(&patch), "-o", text(&bundle)]).expect(0);
    let mut target = Target::start_command(Command::new(&program).arg(&plugin));
    check(&mut target, &bundle, "5", "6 977", "17508 977");
    target.finish();
}

/// Program and library linked by the other linkers.
#[test]
fn b14_other_linkers() {
    for (package, linker) in [("lld", "-fuse-ld=lld"), ("binutils", "-fuse-ld=gold")] {
        if needs(package) {
            Scenario::of("a5_exe_and_library.c").flag(linker).run();
        }
    }
}

/// A6: two files of one name are told apart by their directories, which only DWARF knows; after link-time optimisation
/// it alone knows the files at all.
#[test]
fn a6_files_of_one_name() {
    for flags in [
        ["-O2", "-gdwarf-5"].as_slice(),
        &["-O1", "-gdwarf-4", "-no-pie"],
        &["-O2", "-flto", "-flto-partition=none"],
        &["-O2", "-flto", "-flto-partition=max"],
        &["-O2", "-gz"],
        &["-O2", "-gz=zlib-gnu"],
    ] {
        let lab = Lab::new();
        let program = lab.exe("twins", Kind::Pie, &TWINS, flags);
        let (patch, bundle) = (lab.patch(TWIN_PATCH, &[]), lab.path("fix.lpb"));
        let build = ["build", "--target", text(&program), "--patch", text(&patch), "-o", text(&bundle)];
        lp_compile(build).expect(0);
        let mut target = Target::start(&program);
        check(&mut target, &bundle, "1", "104 206", "5104 206");
        target.finish();

        // The name of the file alone is not enough: both paths are named.
        let replace = ["--replace", "part.c:helper=new_helper"];
        let run = lp_compile(build.iter().chain(&replace));
        run.expect(4).says("a6_twins/one/part.c").says("a6_twins/two/part.c");
    }
}

/// A12: stripped, with symbols and debug information in a file of its own, found in each of the three ways.
#[test]
fn a12_separate_debug_files() {
    if !needs("binutils") {
        return;
    }
    for compress in ["none", "zlib", "zstd"] {
        let lab = Lab::new();
        let program =
            lab.exe("twins", Kind::Pie, &TWINS, &["-O2", "-Wl,--build-id=0x00112233445566778899aabbccddeeff"]);
        let debug = lab.path("twins.debug");
        let objcopy = |args: &[&str]| run(Command::new("objcopy").args(args));
        objcopy(&["--only-keep-debug", &format!("--compress-debug-sections={compress}"), text(&program), text(&debug)]);
        if compress != "none" {
            let sections = Command::new("readelf").arg("-tW").arg(&debug).output().unwrap().stdout;
            assert!(String::from_utf8_lossy(&sections).contains(&format!("{}, ", compress.to_uppercase())), "plain");
        }
        run(Command::new("strip").arg(&program));
        let (patch, bundle) = (lab.patch(TWIN_PATCH, &[]), lab.path("fix.lpb"));
        let build = ["build", "--target", text(&program), "--patch", text(&patch), "-o", text(&bundle)];
        lp_compile(build).expect(4).says("--debug-file");

        let check = |options: &[&str]| {
            lp_compile(build.iter().chain(options)).expect(0);
            let mut target = Target::start(&program);
            check(&mut target, &bundle, "1", "104 206", "5104 206");
            target.finish();
        };
        check(&["--debug-file", text(&debug)]);

        let root = lab.path("root");
        let store = lab.path("root/usr/lib/debug/.build-id/00");
        std::fs::create_dir_all(&store).unwrap();
        let kept = store.join("112233445566778899aabbccddeeff.debug");
        std::fs::rename(&debug, &kept).unwrap();
        // The libraries of the target's machine are those of this one.
        for dir in ["lib", "lib64"] {
            std::os::unix::fs::symlink(format!("/{dir}"), root.join(dir)).unwrap_or_default();
        }
        let libc = ["--lib", "/lib/x86_64-linux-gnu/libc.so.6", "--lib", "/lib64/ld-linux-x86-64.so.2"];
        check(&[&["--sysroot", text(&root)], libc.as_slice()].concat());

        std::fs::rename(&kept, &debug).unwrap();
        objcopy(&[&format!("--add-gnu-debuglink={}", text(&debug)), text(&program)]);
        check(&[]);

        // A debug file whose checksum is another is not the one.
        let mut bytes = std::fs::read(&debug).unwrap();
        bytes.push(0);
        std::fs::write(&debug, bytes).unwrap();
        lp_compile(build).expect(4).says("--debug-file");
    }
}

/// Builds tests/programs/b14_rust.rs.
fn rust(lab: &Lab, mangling: &str, linker: &str) -> PathBuf {
    let program = lab.path(format!("rust-{mangling}"));
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--edition", "2021", "--crate-name", "shop", "-O", "-C"])
        .arg(format!("symbol-mangling-version={mangling}"));
    rustc.arg("-C").arg(format!("link-arg=-fuse-ld={linker}"));
    if mangling == "legacy" {
        rustc.args(["-Z", "unstable-options"]).env("RUSTC_BOOTSTRAP", "1");
    }
    run(rustc.arg(lp_tests::lab::programs().join("b14_rust.rs")).arg("-o").arg(&program));
    program
}

/// A program in Rust, functions named as its author wrote them.
#[test]
fn b14_rust_program() {
    for (mangling, linker) in [("legacy", "bfd"), ("v0", "lld")] {
        if linker == "lld" && !needs("lld") {
            continue;
        }
        let lab = Lab::new();
        let program = rust(&lab, mangling, linker);
        let source = "long new_price(long pieces) { return pieces * 10 + 2; }\n";
        let (source, patch, bundle) = (lab.write("fix.c", source), lab.path("fix.so"), lab.path("fix.lpb"));
        run(Command::new("cc").args(["-shared", "-fPIC", "-O2"]).arg(source).arg("-o").arg(&patch));
        let build = ["build", "--target", text(&program), "--patch", text(&patch), "-o", text(&bundle)];
        lp_compile(build.iter().chain(&["--replace", "shop::till::price=new_price"])).expect(0);
        let mut target = Target::start(&program);
        check(&mut target, &bundle, "3", "31 131", "32 132");
        target.finish();

        let misspelt = lp_compile(build.iter().chain(&["--replace", "shop::till::prize=new_price"]));
        misspelt.expect(4).says("shop::till::price");
    }
}

/// Parts of functions that lie elsewhere are the same with symbols and without, where only the unwind table tells of them.
#[test]
fn parts_without_symbols() {
    let lab = Lab::new();
    let source = "b_parts.c";
    let patch = lab.patch(source, &[]);
    let parts = |program: &Path, function: &str| -> Vec<String> {
        let bundle = lab.path("fix.lpb");
        let replace = format!("{function}=fresh");
        let args = ["build", "--patch", text(&patch), "-o", text(&bundle), "--target", text(program)];
        let accepted = ["--replace", &replace, "--allow", "no-debug-info"];
        lp_compile(args.iter().chain(&accepted)).expect(0);
        let shown = lp_compile(["inspect", text(&bundle)]);
        shown.expect(0);
        let lines = shown.stdout.lines().filter_map(|line| line.trim().strip_prefix("part "));
        let places = lines.map(|line| line.split_once(" at ").unwrap_or_else(|| panic!("{line}")).1.to_owned());
        let mut places: Vec<String> = places.collect();
        places.sort();
        places
    };
    let full = lab.exe("full", Kind::Pie, &[source], &["-O2", "-rdynamic", "-fno-toplevel-reorder"]);
    let stripped = lab.path("stripped");
    run(Command::new("strip").arg("-o").args([&stripped, &full]));
    for (function, want) in [("comes_back", 2), ("ends", 2), ("last", 1)] {
        let known = parts(&full, function);
        assert_eq!(known.len(), want, "{function}: {known:?}");
        assert_eq!(parts(&stripped, function), known, "{function}");
    }
}
