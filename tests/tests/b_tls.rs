//! B7, B8: thread-local variables.

use lp_tests::lab::{programs, run};
use lp_tests::scenario::Scenario;
use lp_tests::{Kind, Lab, Outcome, Target, lp_apply, lp_compile, needs};
use std::path::PathBuf;
use std::process::Command;

// Bits of an answer of b7_tls.c.
const EXE: u32 = 0b11;
const LIB: u32 = 0b1100;
const ERRNO: u32 = 0b1_0000;
const RAW_ERRNO: u32 = 0b10_0000;

const GENERAL: &str = "-ftls-model=global-dynamic";
const LOCAL: &str = "-ftls-model=local-dynamic";
const INITIAL: &str = "-ftls-model=initial-exec";
const DESCRIPTOR: &str = "-mtls-dialect=gnu2";

/// How the program comes to its library.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Library {
    None,
    Linked,
    Opened,
}

/// A program, its library in one model, and a patch.
struct World {
    lab: Lab,
    exe: PathBuf,
    place: Library,
}

impl World {
    #[track_caller]
    fn new(kind: Kind, library: Library, model: &str) -> Self {
        let lab = Lab::new();
        if library != Library::None {
            lab.shared_library("libb7.so", &["b7_tls.c"], &["-O2", model]);
        }
        let mut flags = vec!["-O2", "-pthread"];
        if library == Library::Linked {
            flags.extend(["-DLINKED", "-L{lab}", "-Wl,-rpath,{lab}", "-lb7"]);
        }
        if [Kind::Static, Kind::StaticPie].contains(&kind) {
            flags.push("-Wl,-w"); // "Using 'dlopen' in statically linked applications ..."
        }
        let exe = lab.exe("b7", kind, &["b7_tls.c"], &flags);
        Self { lab, exe, place: library }
    }

    /// Arguments of `lp-compile` for a patch in this model.
    #[track_caller]
    fn build(&self, flags: &[&str]) -> Vec<String> {
        let mut flags = flags.to_vec();
        if self.place != Library::None {
            flags.push("-DWITH_LIBRARY");
        }
        let patch = self.lab.patch("b7_tls.c", &flags);
        let [exe, patch, out] = [&self.exe, &patch, &self.lab.path("fix.lpb")].map(|p| p.to_str().unwrap().to_owned());
        let options = ["build", "--target", &exe, "--patch", &patch, "--replace", "answer=new_answer", "-o", &out];
        let mut args: Vec<String> = options.map(str::to_owned).to_vec();
        if self.place != Library::None {
            let binds = ["lib_value", "lib_static"].map(|name| format!("{name}=libb7.so:{name}"));
            args.extend(binds.into_iter().flat_map(|bind| ["--bind".to_owned(), bind]));
        }
        if self.place == Library::Opened {
            args.extend(["--module".to_owned(), self.lab.path("libb7.so").to_str().unwrap().to_owned()]);
        }
        args
    }

    /// With the patch, every thread sees these variables at their place.
    #[track_caller]
    fn check(&self, flags: &[&str], bits: u32) {
        lp_compile(self.build(flags)).expect(0);
        self.check_built(flags, bits);
    }

    #[track_caller]
    fn check_built(&self, flags: &[&str], bits: u32) {
        let bundle = self.lab.path("fix.lpb");
        let bundle = bundle.to_str().unwrap();
        let mut command = Command::new(&self.exe);
        if self.place == Library::Opened {
            command.arg(self.lab.path("libb7.so"));
        }
        let mut target = Target::start_command(&mut command);
        let pid = target.pid().to_string();
        assert_eq!(target.ask("where"), "0 0 0");
        lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
        let want = format!("{bits:x} {bits:x} {bits:x}");
        assert_eq!(target.ask("where"), want, "{flags:?}");
        assert_eq!(target.ask("where"), want, "{flags:?}, again");
        target.snapshot().assert_w_xor_x();
        lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("where"), "0 0 0");
        target.finish();
    }

    /// The patch in this model is refused, for this reason.
    #[track_caller]
    fn refused(&self, flags: &[&str], words: &[&str]) {
        let run = lp_compile(self.build(flags));
        run.expect(4);
        words.iter().for_each(|w| _ = run.says(w));
    }
}

#[test]
fn b7_program_without_library() {
    for kind in [Kind::Pie, Kind::NonPie, Kind::Static, Kind::StaticPie, Kind::Gold, Kind::Lld, Kind::MuslStatic] {
        if !kind.available() {
            continue;
        }
        let world = World::new(kind, Library::None, "");
        for model in [GENERAL, INITIAL, DESCRIPTOR] {
            world.check(&[model], EXE | ERRNO);
        }
    }
}

/// errno as the C library's own code reaches it, too: in glibc it is an ordinary thread-local variable.
#[test]
fn b7_errno() {
    let world = World::new(Kind::Pie, Library::None, "");
    for model in [GENERAL, INITIAL, DESCRIPTOR] {
        world.check(&[model, "-DWITH_RAW_ERRNO"], EXE | ERRNO | RAW_ERRNO);
    }
}

#[test]
fn b7_library_loaded_at_start_up() {
    for library_model in [GENERAL, LOCAL, INITIAL, DESCRIPTOR] {
        let world = World::new(Kind::Pie, Library::Linked, library_model);
        world.check(&[GENERAL], EXE | LIB | ERRNO);
        if [GENERAL, LOCAL].contains(&library_model) {
            let words = ["no slot of a running process tells its offset in libb7.so", "-ftls-model=global-dynamic"];
            world.refused(&[INITIAL], &words);
            world.refused(&[DESCRIPTOR], &words);
        } else {
            world.check(&[INITIAL], EXE | LIB | ERRNO);
            world.check(&[DESCRIPTOR], EXE | LIB | ERRNO);
        }
    }
}

#[test]
fn b7_library_opened_later() {
    for library_model in [GENERAL, LOCAL, INITIAL, DESCRIPTOR] {
        let world = World::new(Kind::Pie, Library::Opened, library_model);
        world.check(&[GENERAL], EXE | LIB | ERRNO);
        match library_model {
            INITIAL => {
                world.check(&[INITIAL], EXE | LIB | ERRNO);
                world.check(&[DESCRIPTOR], EXE | LIB | ERRNO);
            }
            DESCRIPTOR => {
                world.refused(&[INITIAL], &["no slot of a running process tells its offset in libb7.so"]);
                world.check(&[DESCRIPTOR], EXE | LIB | ERRNO);
            }
            _ => world.refused(&[INITIAL], &["no slot of a running process tells its offset in libb7.so"]),
        }
    }
}

/// One bundle for two builds of a library: one has module numbers to read, the other offsets, the third descriptors.
#[test]
fn b7_several_builds() {
    let world = World::new(Kind::Pie, Library::Linked, GENERAL);
    let library = world.lab.path("libb7.so");
    let others = [INITIAL, DESCRIPTOR].map(|model| {
        let copy = world.lab.path(format!("{}.so", &model[2..]));
        // Other code too, so that their build-ids differ.
        world.lab.shared_library("libb7.so", &["b7_tls.c"], &["-O1", model]);
        std::fs::rename(&library, &copy).unwrap();
        copy
    });
    world.lab.shared_library("libb7.so", &["b7_tls.c"], &["-O2", GENERAL]);
    let mut args = world.build(&[GENERAL]);
    for build in [&library, &others[0], &others[1]] {
        args.extend(["--lib".to_owned(), build.to_str().unwrap().to_owned()]);
    }
    lp_compile(args).expect(0);
    world.check_built(&[GENERAL], EXE | LIB | ERRNO);
    for other in &others {
        std::fs::rename(other, &library).unwrap();
        world.check_built(&[GENERAL], EXE | LIB | ERRNO);
    }
}

/// A program of musl's dynamic linker, without and with a library.
#[test]
fn b7_musl() {
    if !needs("musl-tools") {
        return;
    }
    for library in [Library::None, Library::Linked, Library::Opened] {
        for library_model in [GENERAL, INITIAL, DESCRIPTOR] {
            if library == Library::Opened && library_model == INITIAL {
                continue; // musl does not open such a library
            }
            let world = musl(library, library_model);
            let bits = if library == Library::None { EXE | ERRNO } else { EXE | LIB | ERRNO };
            world.check(&[GENERAL], bits);
            if library == Library::None || library_model == INITIAL {
                world.check(&[INITIAL], bits);
                world.check(&[DESCRIPTOR], bits);
            }
        }
    }
}

#[track_caller]
fn musl(library: Library, model: &str) -> World {
    let lab = Lab::new();
    let exe = lab.path("b7");
    let source = programs().join("b7_tls.c");
    let build = |args: &[&str]| run(Command::new("musl-gcc").args(["-O2", "-pthread"]).arg(&source).args(args));
    let [so, dir, out] = ["libb7.so", "", "b7"].map(|name| lab.path(name).to_str().unwrap().to_owned());
    build(&["-shared", "-fPIC", "-DLIBRARY", model, "-Wl,-soname,libb7.so", "-o", &so]);
    let rpath = format!("-Wl,-rpath,{dir}");
    let linked = ["-DLINKED", "-L", &dir, &rpath, "-lb7"];
    let linked = if library == Library::Linked { linked.as_slice() } else { &[] };
    build(&[&["-fPIE", "-pie", "-o", &out], linked].concat());
    World { lab, exe, place: library }
}

#[test]
fn b8_own_variables() {
    Scenario::of("b8_own.c").run_refused();
    Scenario::of("b8_emulated.c").run();
}

/// Emulated thread-local variables as clang makes them, in each form that they have.
#[test]
fn b8_emulated_by_clang() {
    if !needs("clang") {
        return;
    }
    let source = "__thread int calls = 40;\n__thread char zero;\nstatic __thread long own[3] = {1, 2, 3};\n\
                  int new_answer(void) { zero ^= 1; own[2] -= 1; return ++calls + (own[2] + calls != 43); }\n";
    for flags in ["-O2", "-O0 -fcommon", "-O2 -fno-common -static-libgcc", "-O1 -fuse-ld=lld"] {
        if flags.contains("lld") && !needs("lld") {
            continue;
        }
        let scenario = Scenario::of("b8_emulated.c");
        let built = scenario.build();
        let source = built.lab.write("own.c", source);
        let mut clang = Command::new("clang");
        clang.args(["-g", "-shared", "-fPIC", "-femulated-tls"]).args(flags.split(' '));
        run(clang.arg(source).arg("-o").arg(&built.patch));
        let bundle = built.lab.path("fix.lpb");
        lp_compile(scenario.build_args(&built, &bundle)).expect(0);
        let mut target = Target::start(&built.exe);
        scenario.check(&mut target, &bundle);
        target.finish();
    }
}

/// A thread that has used the patch's variables ends after the revert: nothing calls into the patch then, wherever the
/// emulation is.
#[test]
fn b8_thread_ends_after_the_revert() {
    for flags in ["-shared-libgcc -Wl,--no-as-needed -lgcc_s", "-static-libgcc"] {
        let lab = Lab::new();
        let exe = lab.exe("b8", Kind::Pie, &["b8_emulated.c"], &["-O2", "-pthread", "-Wl,--no-as-needed", "-lgcc_s"]);
        let patch = lab.patch("b8_emulated.c", &flags.split(' ').collect::<Vec<_>>());
        let bundle = lab.path("fix.lpb");
        let [exe, patch, bundle] = [&exe, &patch, &bundle].map(|path| path.to_str().unwrap());
        let args = ["build", "--target", exe, "--patch", patch, "--replace", "answer=new_answer", "-o", bundle];
        lp_compile(args).expect(0);
        let mut target = Target::start(exe);
        let pid = target.pid().to_string();
        lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
        assert_eq!(target.ask("main"), "41", "{flags}");
        assert_eq!(target.ask("thread"), "41 42", "{flags}");
        assert_eq!(target.ask("stay"), "41", "{flags}");
        lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
        assert_eq!(target.ask("leave"), "left", "{flags}");
        assert_eq!(target.ask("main"), "0", "{flags}");
        target.finish();
    }
}
