//! Small C programs, built with the system's compiler, and lp-compile run on them.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, reason = "helpers of tests")]

use lpb::{Candidate, Fixup, Patch, Value};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory for one test.
pub struct Lab(tempfile::TempDir);

impl Lab {
    pub fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        lab.write("livepatch.h", include_str!("../../src/livepatch.h"));
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs a tool in the directory; arguments are split at spaces.
    pub fn run(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let out = Command::new(words.next().unwrap()).args(words).current_dir(self.0.path()).output().unwrap();
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// A library of the folder that the dynamic linker has taken libc from. The compiler may have another one in mind, if a
    /// cross compiler's is installed beside it.
    pub fn system_library(name: &str) -> PathBuf {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.lines().filter_map(|l| l.split_whitespace().nth(5)).find(|path| path.ends_with("/libc.so.6"));
        Path::new(libc.unwrap()).with_file_name(name)
    }

    /// Writes a source and compiles it: `gcc FLAGS -o OUT SOURCE`.
    pub fn cc(&self, out: &str, flags: &str, source: &str) -> PathBuf {
        let file = format!("{out}.c");
        self.write(&file, source);
        self.run(&format!("cc -o {out} {file} {flags}"));
        self.path(out)
    }

    /// `lp-compile build` in the directory.
    pub fn build(&self, args: &[&str]) -> Output {
        lp_compile(self.0.path(), [&["build"], args, &["-o", "out.lpb"]].concat())
    }

    /// Builds a bundle that must be good.
    pub fn bundle(&self, args: &[&str]) -> Vec<u8> {
        let out = self.build(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        std::fs::read(self.path("out.lpb")).unwrap()
    }

    /// What lp-compile says when it refuses; the exit code is checked, and that there is no bundle.
    pub fn refused(&self, code: i32, args: &[&str]) -> String {
        let _ = std::fs::remove_file(self.path("out.lpb"));
        let out = self.build(args);
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
        assert!(!self.path("out.lpb").exists(), "a bundle was written");
        assert!(text.starts_with("lp-compile: error: ") && text.contains("\n  hint: "), "{text}");
        text
    }

    /// Address of a symbol, from `nm`.
    pub fn nm(&self, flags: &str, file: &str, name: &str) -> u64 {
        let text = self.run(&format!("nm {flags} {file}"));
        let line = text.lines().find(|l| l.split_whitespace().nth(2) == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap()
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }
}

/// Runs lp-compile.
pub fn lp_compile<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lp-compile")).args(args).current_dir(dir).output().unwrap()
}

/// The fix-up of a symbol, named with its version.
pub fn fixup<'a>(patch: &'a Patch<'_>, name: &str) -> &'a Fixup<'a> {
    let found = patch.fixups.iter().find(|f| f.name == name);
    found.unwrap_or_else(|| panic!("no {name} among {:?}", patch.fixups.iter().map(|f| &f.name).collect::<Vec<_>>()))
}

/// A candidate in short: `libc.so.6+0x1`, `slot exe+0x2`, `patch 0+0x3`, `=0`, each with its addend.
pub fn short(patch: &Patch<'_>, c: &Candidate) -> String {
    let name = |m: lpb::ModuleId| patch.modules[m.index()].name.to_string();
    let base = match c.value {
        Value::Abs(v) => format!("={v}"),
        Value::Patch { area, off } => format!("patch {}+{off}", area.0),
        Value::Original { redirect } => format!("old code of redirect {redirect}"),
        Value::Module { module, addr } => format!("{}+{addr}", name(module)),
        Value::Witness { module, slot, .. } => format!("slot {}+{slot}", name(module)),
    };
    if c.delta == 0 { base } else { format!("{base} {:+}", c.delta) }
}

/// All candidates of a symbol in short.
pub fn chosen(patch: &Patch<'_>, name: &str) -> Vec<String> {
    fixup(patch, name).candidates.iter().map(|c| short(patch, c)).collect()
}
