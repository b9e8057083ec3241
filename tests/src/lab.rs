//! A temporary directory and the C compiler.

use crate::{needs, tools, workspace};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// How an executable is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Position-independent: what Debian's gcc makes by default.
    Pie,
    /// At fixed addresses (`-no-pie`).
    NonPie,
    /// Without dynamic linker, at fixed addresses.
    Static,
    /// Without dynamic linker, position-independent.
    StaticPie,
    /// [`Kind::Pie`] linked by gold.
    Gold,
    /// [`Kind::Pie`] linked by lld.
    Lld,
    /// [`Kind::Pie`] with musl instead of glibc.
    Musl,
    /// [`Kind::Static`] with musl instead of glibc.
    MuslStatic,
}

impl Kind {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Pie | Self::Musl => &["-fPIE", "-pie"],
            Self::NonPie => &["-fno-pie", "-no-pie"],
            Self::Static | Self::MuslStatic => &["-fno-pie", "-static"],
            Self::StaticPie => &["-fPIE", "-static-pie"],
            Self::Gold => &["-fPIE", "-pie", "-fuse-ld=gold"],
            Self::Lld => &["-fPIE", "-pie", "-fuse-ld=lld"],
        }
    }

    /// Whether it can be built here; if not, the calling test has been noted as skipped.
    #[track_caller]
    pub fn available(self) -> bool {
        match self {
            Self::Gold => needs("binutils"),
            Self::Lld => needs("lld"),
            Self::Musl | Self::MuslStatic => needs("musl-tools"),
            Self::Pie | Self::NonPie | Self::Static | Self::StaticPie => needs("libc6-dev"),
        }
    }

    fn compiler(self, sources: &[&str]) -> Command {
        if matches!(self, Self::Musl | Self::MuslStatic) { Command::new("musl-gcc") } else { cc(sources) }
    }
}

/// The system's C or C++ compiler; `CC` and `CXX` name others.
fn cc(sources: &[&str]) -> Command {
    let this = "x86_64-unknown-linux-gnu";
    let mut build = cc::Build::new();
    build
        .cpp(is_cpp(sources))
        .cpp_set_stdlib(None)
        .cargo_metadata(false)
        .no_default_flags(true)
        .warnings(false)
        .host(this)
        .target(this)
        .opt_level(0);
    build.get_compiler().to_command()
}

fn is_cpp(sources: &[&str]) -> bool {
    sources.iter().any(|s| s.ends_with(".cpp"))
}

/// A directory for one test; gone with it.
#[derive(Debug)]
pub struct Lab {
    dir: TempDir,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    /// An empty directory.
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("lp-test-").tempdir().unwrap() }
    }

    /// The path of `name` in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A copy of a program under its name, that every user may start. Another process makes it: a program that is open for
    /// writing cannot be started, and what this process has open its children have too, until they call exec.
    #[track_caller]
    pub fn copy(&self, program: impl AsRef<Path>) -> PathBuf {
        let copy = self.path(program.as_ref().file_name().unwrap());
        run(Command::new("cp").arg(program.as_ref()).arg(&copy));
        run(Command::new("chmod").arg("a+rx").arg(self.dir.path()).arg(&copy));
        copy
    }

    /// Builds the executable `name` from the sources; `flags` come after those of `kind`.
    #[track_caller]
    pub fn exe(&self, name: &str, kind: Kind, sources: &[&str], flags: &[&str]) -> PathBuf {
        self.build(name, kind.compiler(sources), kind.flags(), sources, flags)
    }

    /// Builds Lua 5.4 at -O2 with debug information; flags that link it.
    #[track_caller]
    pub fn lua(&self) -> [&'static str; 3] {
        let (out, this) = (self.path("lua"), "x86_64-unknown-linux-gnu");
        lua_src::Build::new().out_dir(out).target(this).opt_level("2").debug(true).build(lua_src::Lua54);
        ["-L{lab}/lua/lib", "-llua5.4", "-lm"]
    }

    /// Builds the library `name` from the parts of the sources under `#ifdef LIBRARY`.
    #[track_caller]
    pub fn shared_library(&self, name: &str, sources: &[&str], flags: &[&str]) -> PathBuf {
        let soname = format!("-Wl,-soname,{name}");
        self.build(name, cc(sources), &["-shared", "-fPIC", "-DLIBRARY", &soname], sources, flags)
    }

    /// Builds the patch `fix.so` from the part of the source under `#ifdef PATCH`.
    #[track_caller]
    pub fn patch(&self, source: &str, flags: &[&str]) -> PathBuf {
        let header = self.path("livepatch.h");
        tools::lp_compile(["header".as_ref(), "-o".as_ref(), header.as_os_str()]).expect(0);
        self.build("fix.so", cc(&[source]), &["-shared", "-fPIC", "-DPATCH", "-O2"], &[source], flags)
    }

    fn build(&self, name: &str, mut cc: Command, kind: &[&str], sources: &[&str], flags: &[&str]) -> PathBuf {
        let out = self.path(name);
        let language = if is_cpp(sources) { "-std=gnu++17" } else { "-std=gnu11" };
        cc.args([language, "-Wall", "-Werror", "-g"]).args(kind).arg("-I").arg(self.dir.path());
        cc.arg("-I").arg(programs()).args(sources.iter().map(|s| programs().join(s))).arg("-o").arg(&out);
        // `{lab}` in a flag is this directory: libraries that were built here.
        cc.args(flags.iter().map(|flag| flag.replace("{lab}", self.dir.path().to_str().unwrap())));
        run(&mut cc);
        out
    }
}

/// The directory of the C sources.
pub fn programs() -> PathBuf {
    workspace().join("tests/programs")
}

/// A library of the folder that the dynamic linker has taken libc from. The compiler may have another one in mind, if a cross
/// compiler's is installed beside it.
pub fn system_library(name: &str) -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.lines().filter_map(|l| l.split_whitespace().nth(5)).find(|path| path.ends_with("/libc.so.6"));
    Path::new(libc.expect("a test that is linked to libc.so.6")).with_file_name(name)
}

/// Runs a helper program that has to succeed.
///
/// # Panics
/// With its output if it does not.
#[track_caller]
pub fn run(command: &mut Command) {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
}
