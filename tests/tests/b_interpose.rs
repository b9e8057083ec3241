//! B4, B12. Interposition: the patch uses the definition that the process uses, or is refused where nothing shows which.

use lp_tests::scenario::{Built, Scenario};
use lp_tests::{Kind, Lab, Outcome, Target, lp_apply, lp_compile, needs};
use std::path::{Path, PathBuf};
use std::process::Command;

const JEMALLOC: &str = "libjemalloc.so.2";
/// As on a processor that has neither.
const OLD_CPU: (&str, &str) = ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX2_Usable");
const LINKS: [&str; 2] = ["-Wl,-z,lazy", "-Wl,-z,now"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn start(exe: &Path, env: &[(&str, &str)]) -> Target {
    Target::start_command(Command::new(exe).envs(env.iter().copied()))
}

/// The arguments that apply a bundle.
fn apply<'a>(bundle: &'a Path, pid: &'a str) -> [&'a str; 3] {
    [text(bundle), "--pid", pid]
}

/// B4: with and without preloaded allocator, lazy and not, before and after the program has called it.
#[test]
fn b4_the_programs_malloc() {
    if !needs("libjemalloc2") {
        return;
    }
    for link in LINKS {
        let (built, bundle) = Scenario::of("b4_malloc.c").flag(link).bundle();
        for env in [
            &[][..],
            &[("LD_PRELOAD", JEMALLOC)],
            &[("LD_PRELOAD", JEMALLOC), ("LD_BIND_NOW", "1")],
            &[("LD_PRELOAD", JEMALLOC), OLD_CPU],
        ] {
            for warm in [false, true] {
                println!("{link}, {env:?}, called before: {warm}");
                let mut target = start(&built.exe, env);
                if warm {
                    assert_eq!(target.ask("warm"), "- 0");
                    assert_eq!(target.ask("x"), "o 1");
                }
                let pid = target.pid().to_string();
                let process = lp_apply(apply(&bundle, &pid)).expect(Outcome::Applied);
                let unexpected: Vec<&str> =
                    process["unexpected"].as_array().into_iter().flatten().filter_map(|u| u["path"].as_str()).collect();
                assert_eq!(unexpected.iter().any(|path| path.ends_with(JEMALLOC)), !env.is_empty(), "{unexpected:?}");
                (0..50).for_each(|_| assert_eq!(target.ask("x"), "n 1"));
                lp_apply(["revert", text(&bundle), "--pid", &pid]).expect(Outcome::Reverted);
                (0..50).for_each(|_| assert_eq!(target.ask("x"), "o 1"));
                target.finish();
            }
        }
    }
}

/// The preloaded allocator is named when the bundle is built: expected where it is loaded, and not missed where it is not.
#[test]
fn b4_a_known_allocator() {
    if !needs("libjemalloc2") {
        return;
    }
    let (built, bundle) =
        Scenario::of("b4_malloc.c").option(&format!("--lib {LIBRARIES}/{JEMALLOC}")).flag("-Wl,-z,lazy").bundle();
    for env in [&[][..], &[("LD_PRELOAD", JEMALLOC)]] {
        let mut target = start(&built.exe, env);
        let process = lp_apply(apply(&bundle, &target.pid().to_string())).expect(Outcome::Applied);
        assert!(process["unexpected"].is_null(), "{process}");
        (0..50).for_each(|_| assert_eq!(target.ask("x"), "n 1"));
        target.finish();
    }
}

/// A program, a library that it calls, and one that may be preloaded and defines the same name.
struct Interposed {
    built: Built,
    bundle: PathBuf,
    preload: PathBuf,
}

impl Interposed {
    fn new(link: &str, patch: &[&str]) -> Self {
        let scenario = Scenario::of("b4_interposed.c").flag(link);
        let built = scenario.build();
        let bundle = built.lab.path("fix.lpb");
        let built = Built { patch: built.lab.patch("b4_interposed.c", patch), ..built };
        lp_compile(scenario.build_args(&built, &bundle)).expect(0);
        let preload = built.lab.shared_library("libpreloaded.so", &["b4_interposed.c"], &["-DPRELOADED"]);
        Self { built, bundle, preload }
    }

    fn start(&self, preloaded: bool) -> Target {
        let preload = ("LD_PRELOAD", text(&self.preload));
        start(&self.built.exe, if preloaded { std::slice::from_ref(&preload) } else { &[] })
    }
}

/// A slot shows who defines the name as soon as it is bound; before that, a preloaded library makes it uncertain.
#[test]
fn b4_a_preloaded_library_defines_it_too() {
    let [lazy, now] = LINKS.map(|link| Interposed::new(link, &[]));
    // (program, preloaded, called before, answer with the patch; none: refused)
    for (program, preloaded, warm, want) in [
        (&lazy, false, false, Some("1003")),
        (&lazy, false, true, Some("1003")),
        (&lazy, true, false, None),
        (&lazy, true, true, Some("1021")),
        (&now, false, false, Some("1003")),
        (&now, true, false, Some("1021")),
    ] {
        let mut target = program.start(preloaded);
        if warm {
            assert_eq!(target.ask("warm"), if preloaded { "7" } else { "1" });
        }
        let pid = target.pid().to_string();
        let verdict = lp_apply(apply(&program.bundle, &pid));
        match want {
            Some(answer) => {
                verdict.expect(Outcome::Applied);
                assert_eq!(target.ask("3"), answer);
            }
            None => {
                verdict.expect_saying(Outcome::Refused, &["helper", "libpreloaded.so", "not bound yet"]);
                assert_eq!(target.ask("3"), "-3");
            }
        }
        target.finish();
    }
}

/// Names that no slot shows: refused in a process with a preloaded library, all together, until that is accepted.
#[test]
fn b4_unexpected_modules_are_named_and_can_be_accepted() {
    let program = Interposed::new("-Wl,-z,now", &["-DSPARE"]);
    let mut target = program.start(true);
    let pid = target.pid().to_string();
    let before = target.snapshot();
    let verdict = lp_apply(apply(&program.bundle, &pid));
    verdict.expect_saying(Outcome::Refused, &["spare", "unused", "libpreloaded.so"]);
    let process = verdict.expect(Outcome::Refused);
    assert_eq!(process["unexpected"][0]["allowed"], false, "{process}");
    let hint = process["hint"].to_string();
    assert!(hint.contains("--allow-module libpreloaded.so"), "{hint}");
    let other = lp_apply(apply(&program.bundle, &pid).iter().chain(&["--allow-module", "libother.so"]));
    other.expect_saying(Outcome::Refused, &["spare", "libpreloaded.so"]);
    before.assert_same(&target.snapshot());
    assert_eq!(target.ask("3"), "-3");

    let options = ["--allow-module", "libother.so", "--allow-module", "libpreloaded.so"];
    let process = lp_apply(apply(&program.bundle, &pid).iter().chain(&options)).expect(Outcome::Applied);
    assert_eq!(process["unexpected"].as_array().map(Vec::len), Some(1), "{process}");
    assert_eq!(process["unexpected"][0]["path"], text(&program.preload));
    assert_eq!(process["unexpected"][0]["allowed"], true);
    assert_eq!(target.ask("3"), "2003");
    target.finish();
}

/// A library that the program opens later is as unexpected as a preloaded one; one that the bundle lists is not.
#[test]
fn b4_an_opened_library_is_unexpected_unless_listed() {
    let program = Interposed::new("-Wl,-z,now", &["-DSPARE"]);
    let plugin = program.built.lab.shared_library("libplugin.so", &["b4_interposed.c"], &["-DPLUGIN"]);
    let listing = program.built.lab.path("listing.lpb");
    let scenario = Scenario::of("b4_interposed.c").option(&format!("--module {}", text(&plugin)));
    lp_compile(scenario.build_args(&program.built, &listing)).expect(0);

    let open = || {
        let mut target = Target::start_command(Command::new(&program.built.exe).arg(&plugin));
        assert_eq!(target.ask("open"), "1");
        target
    };
    let mut target = open();
    let pid = target.pid().to_string();
    lp_apply(apply(&program.bundle, &pid)).expect_saying(Outcome::Refused, &["spare", "libplugin.so"]);
    let process = lp_apply(apply(&listing, &pid)).expect(Outcome::Applied);
    assert!(process["unexpected"].is_null(), "{process}");
    assert_eq!(target.ask("3"), "2003");
    target.finish();
    // And a process that has not opened it is patched as well.
    let mut target = program.start(false);
    lp_apply(apply(&listing, &target.pid().to_string())).expect(Outcome::Applied);
    assert_eq!(target.ask("3"), "2003");
    target.finish();
}

/// B12: one bundle for a library, two programs that it does not know; one of them defines what the library calls.
#[test]
fn b12_a_library_in_two_programs() {
    let lab = Lab::new();
    let source = "b12_library.c";
    let library = lab.shared_library("libb12.so", &[source], &["-O2", "-Wl,-z,lazy", "-Wl,--no-as-needed"]);
    let flags = ["-L{lab}", "-Wl,-rpath,{lab}", "-lb12"];
    let plain = lab.exe("plain", Kind::Pie, &[source], &flags);
    let own = lab.exe("own", Kind::NonPie, &[source], &[&flags[..], &["-DOWN_RATE", "-rdynamic"]].concat());
    let bundle = |name: &str, flags: &[&str]| {
        let (patch, out) = (lab.patch(source, flags), lab.path(name));
        let replace = "answer=new_answer";
        let args = ["build", "--target", text(&library), "--patch", text(&patch), "--replace", replace];
        lp_compile(args.iter().chain(&["-o", text(&out)])).expect(0);
        out
    };
    let (called, spare) = (bundle("called.lpb", &[]), bundle("spare.lpb", &["-DSPARE"]));
    for (program, rate) in [(&plain, 1), (&own, 7)] {
        for env in [&[][..], &[OLD_CPU], &[("LD_BIND_NOW", "1")]] {
            let name = program.file_name().unwrap().to_str().unwrap();
            println!("{name}, {env:?}");
            let mut target = start(program, env);
            let pid = target.pid().to_string();
            assert_eq!(target.ask("3"), "3");
            if env != [("LD_BIND_NOW", "1")] {
                // The library has not called rate() yet, so nothing shows whose it would call.
                lp_apply(apply(&called, &pid)).expect_saying(Outcome::Refused, &["rate", name, "not bound yet"]);
                assert_eq!(target.ask("6"), format!("{}", 10 * rate + 6));
            }
            let original = target.snapshot();
            lp_apply(apply(&called, &pid)).expect(Outcome::Applied);
            assert_eq!(target.ask("3"), format!("{}", 1000 * rate + 3));
            lp_apply(["revert", text(&called), "--pid", &pid]).expect(Outcome::Reverted);
            original.assert_same(&target.snapshot());

            // Nobody calls spare(): the program has to be accepted.
            lp_apply(apply(&spare, &pid)).expect_saying(Outcome::Refused, &["spare", name]);
            lp_apply(apply(&spare, &pid).iter().chain(&["--allow-module", name])).expect(Outcome::Applied);
            assert_eq!(target.ask("3"), "5003");
            target.finish();
        }
    }
}

/// B12: programs that are known when the bundle is built. The compiler sees who of them defines what.
#[test]
fn b12_known_programs() {
    let lab = Lab::new();
    let source = "b12_library.c";
    let library = lab.shared_library("libb12.so", &[source], &["-O2", "-Wl,--no-as-needed"]);
    let flags = ["-L{lab}", "-Wl,-rpath,{lab}", "-lb12"];
    let plain = lab.exe("plain", Kind::Pie, &[source], &flags);
    let own = lab.exe("own", Kind::Pie, &[source], &[&flags[..], &["-DOWN_SPARE", "-rdynamic"]].concat());
    let (patch, out) = (lab.patch(source, &["-DSPARE"]), lab.path("spare.lpb"));
    let build = |more: &[&str]| {
        let replace = "answer=new_answer";
        let args = ["build", "--target", text(&library), "--patch", text(&patch), "--replace", replace];
        lp_compile(args.iter().chain(&["-o", text(&out), "--lib", text(&plain)]).chain(more))
    };
    build(&[]).expect(0);
    let mut target = Target::start(&plain);
    let process = lp_apply(apply(&out, &target.pid().to_string())).expect(Outcome::Applied);
    assert!(process["unexpected"].is_null(), "{process}");
    assert_eq!(target.ask("3"), "5003");
    target.finish();
    let target = Target::start(&own);
    lp_apply(apply(&out, &target.pid().to_string())).expect_saying(Outcome::Refused, &["spare", "own"]);
    target.finish();

    build(&["--lib", text(&own)]).expect(4).says("spare").says("libb12.so").says("own");
    build(&["--lib", text(&own), "--bind", "spare=libb12.so:spare"]).expect(0);
    for program in [&plain, &own] {
        let mut target = Target::start(program);
        lp_apply(apply(&out, &target.pid().to_string())).expect(Outcome::Applied);
        assert_eq!(target.ask("3"), "5003");
        target.finish();
    }
}

/// A preloaded library that is named when the bundle is built: only slots are trusted for what it defines.
#[test]
fn b4_a_known_preloaded_library() {
    let program = Interposed::new("-Wl,-z,lazy", &[]);
    let scenario = Scenario::of("b4_interposed.c").option(&format!("--lib {}", text(&program.preload)));
    lp_compile(scenario.build_args(&program.built, &program.bundle)).expect(0);
    for (preloaded, warm, want) in
        [(false, false, None), (true, false, None), (false, true, Some("1003")), (true, true, Some("1021"))]
    {
        let mut target = program.start(preloaded);
        if warm {
            target.ask("warm");
        }
        let verdict = lp_apply(apply(&program.bundle, &target.pid().to_string()));
        match want {
            None => verdict.expect_saying(Outcome::Refused, &["helper", "not bound yet"]),
            Some(answer) => {
                assert!(verdict.expect(Outcome::Applied)["unexpected"].is_null());
                assert_eq!(target.ask("3"), answer);
            }
        }
        target.finish();
    }
}

/// Functions that a library exports in their default version, as `nm` lists them, without those of jemalloc.
fn exported(library: &str, most: usize) -> Vec<String> {
    let names = |library: &str| {
        let out = Command::new("nm").args(["-D", "--defined-only"]).arg(format!("{LIBRARIES}/{library}")).output();
        let list = String::from_utf8(out.unwrap().stdout).unwrap();
        let name = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "T" | "W", name] => match name.split_once('@') {
                Some((name, version)) => version.starts_with('@').then(|| name.to_owned()),
                None => Some(name.to_owned()),
            },
            _ => None,
        };
        list.lines().filter_map(name).filter(|name| name.len() < 200).collect::<Vec<_>>()
    };
    let interposed = names(JEMALLOC);
    let mut all: Vec<String> = names(library).into_iter().filter(|name| !interposed.contains(name)).collect();
    assert!(all.len() >= 50, "{library} exports only {}", all.len());
    // Any order does, if it is the same in every run.
    all.sort_by_key(|name| name.bytes().fold(17_u64, |hash, b| hash.wrapping_mul(0x0100_0193) ^ u64::from(b)));
    all.truncate(most);
    all
}

const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// 100 functions of each library: the patch has the addresses that dlsym gives in the process.
#[test]
fn names_are_what_dlsym_says() {
    if !(needs("libjemalloc2") && needs("zlib1g") && needs("libssl3") && needs("libstdc++6") && needs("binutils")) {
        return;
    }
    let libraries = ["libz.so.1", "libcrypto.so.3", "libstdc++.so.6"];
    let names: Vec<String> = libraries.iter().flat_map(|library| exported(library, 100)).collect();
    let lab = Lab::new();
    let mut source = String::from("#include \"livepatch.h\"\n");
    for (n, name) in names.iter().enumerate() {
        source.push_str(&format!("extern void f{n}(void) __asm__(\"{name}\");\n"));
    }
    let table: Vec<String> = (0..names.len()).map(|n| format!("(void *)f{n}")).collect();
    source.push_str(&format!("static void *const table[] = {{ {} }};\n", table.join(", ")));
    source.push_str("extern void *address(int n);\nLP_REPLACE(address) void *fresh(int n) { return table[n]; }\n");
    let mut flags = vec!["-Wl,--no-as-needed".to_owned()];
    flags.extend(libraries.iter().map(|library| format!("-l:{library}")));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let patch = lab.patch(text(&lab.write("names.c", source)), &flags);

    for link in LINKS {
        let exe = lab.exe("b_names", Kind::Pie, &["b_names.c"], &[&[link], &flags[..]].concat());
        let bundle = lab.path("names.lpb");
        lp_compile(["build", "--target", text(&exe), "--patch", text(&patch), "-o", text(&bundle)]).expect(0);
        for env in [&[][..], &[("LD_BIND_NOW", "1")], &[("LD_PRELOAD", JEMALLOC)], &[OLD_CPU]] {
            println!("{link}, {env:?}");
            let mut target = start(&exe, env);
            let pid = target.pid().to_string();
            let process = lp_apply(apply(&bundle, &pid).iter().chain(&["--allow-module", JEMALLOC]));
            process.expect(Outcome::Applied);
            for (n, name) in names.iter().enumerate() {
                let (ours, theirs) = (target.ask(&format!("#{n}")), target.ask(name));
                assert!(theirs.starts_with("0x") && ours == theirs, "{name}: patch {ours}, dlsym {theirs}");
            }
            target.finish();
        }
    }
}
