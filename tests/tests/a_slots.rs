//! A10. GOT slots: the calls of one module to one function go elsewhere, and nobody else's.

use lp_tests::lab::run;
use lp_tests::tools::lp_apply_start;
use lp_tests::{Kind, Lab, Outcome, Target, lp_apply, lp_compile, wait_for};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "a_slots.c";
const LIBRARY: &str = "liba_slots.so";
const EAGER: &str = "-Wl,-z,relro,-z,now";
const LAZY: &str = "-Wl,-z,lazy";
/// What the program says before: its call, its pointer, the library's call, the library's pointer | `strlen` of both.
const BEFORE: &str = "2 2 2 2 | 4 4";

/// The program with its two libraries, and the patch.
struct Shop {
    lab: Lab,
    exe: PathBuf,
    patch: PathBuf,
}

impl Shop {
    fn new(kind: Kind, flags: &[&str]) -> Self {
        let lab = Lab::new();
        let common = ["-O2", "-fno-builtin"];
        lab.shared_library("libbase.so", &[SOURCE], &["-DBASE"]);
        let library = [&common[..], flags, &["-L{lab}", "-lbase"]].concat();
        lab.shared_library(LIBRARY, &[SOURCE], &library);
        let exe = [&common[..], flags, &["-L{lab}", "-Wl,-rpath,{lab}", "-la_slots", "-lbase"]].concat();
        let exe = lab.exe("a_slots", kind, &[SOURCE], &exe);
        let patch = lab.patch(SOURCE, &["-fno-builtin"]);
        Self { lab, exe, patch }
    }

    fn args(&self, name: &str, options: &[&str]) -> Vec<String> {
        let [exe, patch, out] = [&self.exe, &self.patch, &self.lab.path(name)].map(|p| p.to_str().unwrap().to_owned());
        let args = ["build", "--target", &exe, "--patch", &patch, "-o", &out, "--name", name];
        args.iter().chain(options).map(|a| (*a).to_owned()).collect()
    }

    #[track_caller]
    fn bundle(&self, name: &str, options: &[&str]) -> String {
        lp_compile(self.args(name, options)).expect(0);
        self.lab.path(name).to_str().unwrap().to_owned()
    }

    /// Applies and reverts; `after`: what the program says in between. `called`: it has made all its calls before.
    #[track_caller]
    fn check(&self, options: &[&str], called: bool, after: &str) {
        let bundle = self.bundle("fix.lpb", options);
        let mut target = Target::start(&self.exe);
        let pid = target.pid().to_string();
        if called {
            assert_eq!(target.ask("all"), BEFORE, "{options:?}");
        }
        let original = target.snapshot();
        lp_apply([bundle.as_str(), "--pid", &pid]).expect(Outcome::Applied);
        assert_eq!([target.ask("all"), target.ask("all")], [after, after], "{options:?}, called: {called}");
        target.snapshot().assert_w_xor_x();
        assert_eq!(lp_apply(["list", "--pid", &pid]).patches(), [("fix.lpb".to_owned(), "active".to_owned())]);
        lp_apply(["revert", &bundle, "--pid", &pid]).expect(Outcome::Reverted);
        original.assert_same(&target.snapshot());
        assert_eq!([target.ask("all"), target.ask("all")], [BEFORE, BEFORE], "{options:?}, called: {called}");
        target.finish();
    }
}

/// Calls and pointers of the program; calls and pointers of its library; an IFUNC; several at once.
fn each_slot(shop: &Shop, called: bool, canonical: bool) {
    // Where the function's address is an entry of the program's PLT, pointers of all modules lead through its slot; and
    // the linker has joined the library's slots for call and pointer, because it has both.
    let program = if canonical { "1002 1002 1002 1002 | 4 4" } else { "1002 1002 2 2 | 4 4" };
    let (program_shape, library_shape) = ("a_slots:shape=new_shape", "liba_slots.so:shape=new_shape");
    shop.check(&["--slot", program_shape], called, program);
    shop.check(&["--slot", library_shape], called, "2 2 1002 1002 | 4 4");
    shop.check(&["--slot", "a_slots:strlen=new_strlen"], called, "2 2 2 2 | 1004 4");
    let both = ["--slot", "a_slots:strlen=other_strlen", "--slot", "liba_slots.so:strlen@GLIBC_2.2.5=new_strlen"];
    shop.check(&both, called, "2 2 2 2 | 2004 1004");
}

macro_rules! a10 {
    ($($name:ident: $kind:ident $flags:expr, $called:literal;)*) => {$(
        #[test]
        fn $name() {
            if Kind::$kind.available() {
                each_slot(&Shop::new(Kind::$kind, &$flags), $called, Kind::$kind == Kind::NonPie);
            }
        }
    )*};
}

a10! {
    a10_full_relro: Pie [EAGER], false;
    a10_lazy_before_the_first_call: Pie [LAZY], false;
    a10_lazy_bound: Pie [LAZY], true;
    a10_without_plt: Pie [LAZY, "-fno-plt"], true;
    a10_endbr64: Pie [LAZY, "-fcf-protection", "-Wl,-z,ibtplt"], false;
    a10_non_pie_full_relro: NonPie [EAGER], false;
    a10_non_pie_lazy: NonPie [LAZY], false;
    a10_gold: Gold [LAZY], false;
    a10_lld: Lld [LAZY], false;
    a10_lld_full_relro: Lld [EAGER], false;
}

/// An address of the function in plain data is no slot: it stays, and the report says so.
#[test]
fn a10_pointers_in_data_stay() {
    let shop = Shop::new(Kind::Pie, &[LAZY]);
    let bundle = shop.bundle("fix.lpb", &["--slot", "a_slots:shape=new_shape"]);
    let mut target = Target::start(&shop.exe);
    lp_apply([bundle.as_str(), "--pid", &target.pid().to_string()]).expect(Outcome::Applied);
    assert_eq!([target.ask("kept"), target.ask("direct")], ["2", "1002"]);
    let page = lp_compile(["inspect", &bundle]);
    for words in ["slot a_slots:shape of a_slots at", "(new_shape)", "1 pointer in its data"] {
        assert!(page.expect(0).stdout.contains(words), "no {words:?} in {page}");
    }
    target.finish();
}

/// A revert that searches memory finds the slots that the patch itself has set, where they are writable: they are no reason to wait.
#[test]
fn a10_revert_that_searches_memory() {
    let shop = Shop::new(Kind::Pie, &[LAZY]);
    let bundle = shop.bundle("fix.lpb", &["--slot", "a_slots:shape=new_shape", "--slot", "a_slots:getenv=new_getenv"]);
    let mut target = Target::start(&shop.exe);
    let pid = target.pid().to_string();
    let original = target.snapshot();
    let revert = |wait| lp_apply(["revert", &bundle, "--pid", &pid, "--scan-memory", "--wait", wait]);
    lp_apply([bundle.as_str(), "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!(target.ask("direct"), "1002");
    let verdict = revert("100s");
    let waited = verdict.expect(Outcome::Reverted)["waited_ms"].as_u64();
    assert!(waited.is_some_and(|ms| ms < 50_000), "for what? {}", verdict.run);
    original.assert_same(&target.snapshot());
    // What the program keeps is one.
    lp_apply([bundle.as_str(), "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!(target.ask("keep"), "1002");
    revert("300ms").expect_saying(Outcome::Reverted, &["its memory stays", "--scan-memory"]);
    assert_eq!([target.ask("direct"), target.ask("kept")], ["2", "1002"]);
    target.finish();
}

/// The program has read the new address from a slot and keeps it: the patch's memory stays for that, after the revert too.
#[test]
fn a10_addresses_that_are_kept() {
    let shop = Shop::new(Kind::Pie, &[EAGER]);
    let bundle = shop.bundle("fix.lpb", &["--slot", "a_slots:shape=new_shape"]);
    let other = shop.bundle("other.lpb", &["--slot", "a_slots:getenv=new_getenv"]);
    let mut target = Target::start(&shop.exe);
    let pid = target.pid().to_string();
    let original = target.snapshot();
    lp_apply([bundle.as_str(), "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!(target.ask("keep"), "1002");
    lp_apply(["revert", &bundle, "--pid", &pid]).expect_saying(Outcome::Reverted, &["its memory stays"]);
    assert_eq!([target.ask("direct"), target.ask("kept")], ["2", "1002"]);
    lp_apply([other.as_str(), "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!(target.ask("kept"), "1002", "a later run has to leave it too");
    lp_apply(["revert", &other, "--pid", &pid]).expect(Outcome::Reverted);
    assert_eq!(target.ask("keep"), "2");
    // Now nothing leads there, and any run removes it.
    lp_apply([other.as_str(), "--pid", &pid]).expect(Outcome::Applied);
    lp_apply(["revert", &other, "--pid", &pid]).expect(Outcome::Reverted);
    original.assert_same(&target.snapshot());
    assert_eq!(target.ask("kept"), "2");
    target.finish();
}

/// A slot may lead to another function of the target itself; no code of the patch is needed.
#[test]
fn a10_to_a_function_of_the_target() {
    let shop = Shop::new(Kind::Pie, &[EAGER]);
    shop.check(&["--slot", "liba_slots.so:shape=answer"], false, "2 2 41 41 | 4 4");
}

/// Only the program calls `getenv`, so nothing but its own slot tells that a preloaded library has taken it over.
#[test]
fn a10_interposed_function() {
    let source = "#include <string.h>\nchar *getenv(const char *n) { return strcmp(n, \"A_SLOTS\") ? 0 : \"x\"; }\n";
    for flag in [EAGER, LAZY] {
        let shop = Shop::new(Kind::Pie, &[flag]);
        let (preload, source) = (shop.lab.path("libenv.so"), shop.lab.write("env.c", source));
        run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&preload).arg(source));
        let bundle = shop.bundle("fix.lpb", &["--slot", "a_slots:getenv=new_getenv"]);
        for (env, before, after) in [(None, "unset", "set"), (Some(&preload), "set", "unset")] {
            let mut target = Target::start_command(Command::new(&shop.exe).envs(env.map(|p| ("LD_PRELOAD", p))));
            let pid = target.pid().to_string();
            assert_eq!([target.ask("all"), target.ask("env")], [BEFORE, before], "{flag} {env:?}");
            lp_apply([bundle.as_str(), "--pid", &pid]).expect(Outcome::Applied);
            assert_eq!(target.ask("env"), after, "{flag} {env:?}");
            lp_apply(["revert", &bundle, "--pid", &pid]).expect(Outcome::Reverted);
            assert_eq!(target.ask("env"), before, "{flag} {env:?}");
            target.finish();
        }
    }
}

/// What no dynamic linker stores is refused: nothing, data, generated code.
#[test]
fn a10_garbage_in_the_slot() {
    let shop = Shop::new(Kind::Pie, &[EAGER]);
    let bundle = shop.bundle("fix.lpb", &["--slot", "a_slots:getenv=new_getenv"]);
    let mut target = Target::start(&shop.exe);
    let pid = target.pid().to_string();
    let plan = lp_apply([bundle.as_str(), "--pid", &pid, "--dry-run"]).expect(Outcome::Applied);
    let at = plan["plan"]["sites"][0]["at"].as_str().unwrap();
    let at = u64::from_str_radix(at.trim_start_matches("0x"), 16).unwrap();
    let memory: File = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let start = |name: &str| {
        let line = maps.lines().find(|l| l.ends_with(name)).unwrap();
        u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
    };
    let mut good = [0; 8];
    memory.read_exact_at(&mut good, at).unwrap();
    for garbage in [0, 0x1234, start("[stack]"), start("a_slots"), start("libc.so.6")] {
        memory.write_all_at(&garbage.to_le_bytes(), at).unwrap();
        lp_apply([bundle.as_str(), "--pid", &pid]).expect_saying(Outcome::Refused, &["a_slots:getenv"]);
    }
    memory.write_all_at(&good, at).unwrap();
    lp_apply([bundle.as_str(), "--pid", &pid]).expect(Outcome::Applied);
    assert_eq!(target.ask("env"), "set");
    target.finish();
}

/// A thread is in the dynamic linker and will store the function's address when it comes back: the new one has to wait.
#[test]
fn a10_while_a_thread_binds_the_slot() {
    for kind in [Kind::Pie, Kind::NonPie, Kind::Lld] {
        if !kind.available() {
            continue;
        }
        let shop = Shop::new(kind, &[LAZY]);
        let bundle = shop.bundle("fix.lpb", &["--slot", "a_slots:slow=new_slow"]);
        let mut target = Target::start(&shop.exe);
        let pid = target.pid().to_string();
        assert_eq!(target.ask("bind"), "0");
        wait_for("the thread to bind", || {
            lp_apply([bundle.as_str(), "--pid", &pid, "--dry-run"]).expect(Outcome::Applied);
            let verdict = lp_apply([bundle.as_str(), "--pid", &pid, "--wait", "50ms"]);
            if verdict.run.status.success() {
                lp_apply(["revert", &bundle, "--pid", &pid]).expect(Outcome::Reverted);
                return None;
            }
            verdict.expect_saying(Outcome::Blocked, &["the binding of a_slots:slow"]);
            Some(())
        });
        // Bound while lp-apply waits.
        let waiting = lp_apply_start([bundle.as_str(), "--pid", &pid, "--wait", "30s"]);
        assert_eq!(target.ask("release"), "8");
        waiting.verdict().expect(Outcome::Applied);
        assert_eq!([target.ask("slow"), target.ask("slow")], ["101", "101"]);
        lp_apply(["revert", &bundle, "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("slow"), "8");
        target.finish();
    }
}

/// Another patch that calls the function gets the function, not the first patch, and does not need that one.
#[test]
fn a10_beside_another_patch() {
    for (flag, called) in [(EAGER, false), (LAZY, false), (LAZY, true)] {
        let shop = Shop::new(Kind::Pie, &[flag]);
        let slot = shop.bundle("slot.lpb", &["--slot", "a_slots:shape=new_shape"]);
        let function = shop.bundle("function.lpb", &["--replace", "answer=new_answer"]);
        let mut target = Target::start(&shop.exe);
        let pid = target.pid().to_string();
        if called {
            assert_eq!(target.ask("direct"), "2");
        }
        lp_apply([slot.as_str(), "--pid", &pid]).expect(Outcome::Applied);
        lp_apply([function.as_str(), "--pid", &pid]).expect(Outcome::Applied);
        assert_eq!([target.ask("direct"), target.ask("answer")], ["1002", "5002"], "{flag}");
        lp_apply(["revert", &slot, "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!([target.ask("direct"), target.ask("answer")], ["2", "5002"], "{flag}");
        lp_apply(["revert", &function, "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("answer"), "41");
        target.finish();
    }
}

/// Builds of the program that have other slots for the same function, and two builds of the library behind it.
#[test]
fn a10_several_builds() {
    let shop = Shop::new(Kind::Pie, &[LAZY]);
    let link = ["-O2", "-fno-builtin", "-L{lab}", "-Wl,-rpath,{lab}", "-la_slots", "-lbase"];
    let eager = shop.lab.exe("eager", Kind::Pie, &[SOURCE], &[&link[..], &[EAGER, "-fno-plt"]].concat());
    let fixed = shop.lab.exe("fixed", Kind::NonPie, &[SOURCE], &link);
    std::fs::create_dir(shop.lab.path("other")).unwrap();
    let flags = ["-DBASE", "-O2", "-fcf-protection", "-Wl,-soname,libbase.so"];
    let other = shop.lab.shared_library("other/libbase.so", &[SOURCE], &flags);
    let [eager_arg, fixed_arg, other_arg] = [&eager, &fixed, &other].map(|p| p.to_str().unwrap());
    let base = shop.lab.path("libbase.so");
    let slots = ["--slot", "a_slots:shape=new_shape", "--slot", "a_slots:strlen=new_strlen"];
    let builds = ["--target", eager_arg, "--target", fixed_arg, "--lib", base.to_str().unwrap(), "--lib", other_arg];
    let bundle = shop.bundle("fix.lpb", &[&slots[..], &builds].concat());
    for (exe, after) in [
        (&shop.exe, "1002 1002 2 2 | 1004 4"),
        (&eager, "1002 1002 2 2 | 1004 4"),
        (&fixed, "1002 1002 1002 1002 | 1004 4"),
    ] {
        for libraries in [shop.lab.path(""), shop.lab.path("other")] {
            let mut target = Target::start_command(Command::new(exe).env("LD_LIBRARY_PATH", &libraries));
            let pid = target.pid().to_string();
            lp_apply([bundle.as_str(), "--pid", &pid]).expect(Outcome::Applied);
            assert_eq!(target.ask("all"), after, "{exe:?} {libraries:?}");
            lp_apply(["revert", &bundle, "--pid", &pid]).expect(Outcome::Reverted);
            assert_eq!(target.ask("all"), BEFORE, "{exe:?} {libraries:?}");
            target.finish();
        }
    }
}

/// What cannot be redirected is said when the bundle is built, with what may have been meant.
#[test]
fn a10_refusals() {
    let shop = Shop::new(Kind::Pie, &[LAZY]);
    for (slot, message, hint) in [
        ("libnone.so:shape=new_shape", "the target loads no module libnone.so", LIBRARY),
        ("a_slots:shap=new_shape", "a_slots has no slot for shap", "shape"),
        ("a_slots:strlen@GLIBC_9=new_strlen", "no slot for strlen", "strlen@GLIBC_2.2.5"),
        ("a_slots:answer=new_answer", "which it defines itself", "--replace a_slots:answer=NEW"),
        ("libbase.so:strlen=new_strlen", "libbase.so has no slot for strlen", "readelf -rW"),
        ("liba_slots.so:environ=new_shape", "environ is a variable of", "--set"),
        ("a_slots:shape=new_shap", "neither the patch nor the target has a function new_shap", "new_shape"),
    ] {
        let run = lp_compile(shop.args("fix.lpb", &["--slot", slot]));
        run.expect(4).says(message).says(hint);
    }
    lp_compile(shop.args("fix.lpb", &["--slot", "shape=new_shape"])).expect(2).says("MODULE:SYM[@VERSION]=NEW");
}
