//! The programs that make programs: the system's C compiler, found by the `cc` crate as a build script would find it
//! (`CC` is respected), and cargo for our own two tools.

use crate::samples::Source;
use crate::{Error, show};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Writes the C file into `dir` and compiles it there; gives the path of what it became.
pub(crate) fn compile_c(dir: &Path, source: &Source) -> Result<PathBuf, Error> {
    std::fs::write(dir.join(source.file), source.text).map_err(Error::io("writing the C file"))?;
    let mut compiler = c_compiler(dir)?;
    let args = [source.flags, &["-o", source.output, source.file]].concat();
    let program = compiler.get_program().to_string_lossy().into_owned();
    show::command(&[&[program.as_str()], args.as_slice()].concat());
    let failed = |source| Error::NoCompiler { program, source };
    let done = compiler.args(&args).current_dir(dir).output().map_err(failed)?;
    if !done.status.success() {
        let output = String::from_utf8_lossy(&done.stderr).into_owned();
        return Err(Error::Compile { file: source.file, output });
    }
    Ok(dir.join(source.output))
}

/// The plain compiler: what a user gets who types `cc`, without the flags that build scripts want.
fn c_compiler(dir: &Path) -> Result<Command, Error> {
    const HOST: &str = "x86_64-unknown-linux-gnu";
    let mut build = cc::Build::new();
    build.cargo_metadata(false).cargo_warnings(false).no_default_flags(true).warnings(false);
    build.host(HOST).target(HOST).opt_level(0).out_dir(dir);
    let found = build.try_get_compiler();
    found
        .map(|tool| tool.to_command())
        .map_err(|e| Error::NoCompiler { program: "cc".to_owned(), source: std::io::Error::other(e.to_string()) })
}

/// Our two tools.
pub(crate) struct Tools {
    pub(crate) compile: PathBuf,
    pub(crate) apply: PathBuf,
}

impl Tools {
    /// Those that `LP_COMPILE` and `LP_APPLY` name; cargo builds what they do not name, in the profile of this program.
    pub(crate) fn get() -> Result<Self, Error> {
        let named = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let (compile, apply) = (named("LP_COMPILE"), named("LP_APPLY"));
        let missing = [("lp-compile", &compile), ("lp-apply", &apply)].into_iter().filter(|(_, path)| path.is_none());
        let missing: Vec<_> = missing.map(|(name, _)| name).collect();
        let built = if missing.is_empty() { String::new() } else { cargo_build(&missing)? };
        let pick = |given: Option<PathBuf>, name| given.or_else(|| executable(&built, name)).ok_or(Error::NoTool(name));
        Ok(Self { compile: pick(compile, "lp-compile")?, apply: pick(apply, "lp-apply")? })
    }
}

/// Builds packages of this workspace; gives cargo's messages, one JSON object a line.
fn cargo_build(packages: &[&str]) -> Result<String, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut words = vec!["build"];
    if !cfg!(debug_assertions) {
        words.push("--release");
    }
    packages.iter().for_each(|package| words.extend(["-p", package]));
    show::command(&[&["cargo"], words.as_slice()].concat());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut command = Command::new(&cargo);
    command.args(&words).args(["--message-format", "json-render-diagnostics", "--manifest-path", manifest]);
    let failed = |source| Error::Start { program: cargo.to_string_lossy().into_owned(), source };
    let done = command.stderr(Stdio::inherit()).output().map_err(failed)?;
    if !done.status.success() {
        return Err(Error::Cargo);
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Where cargo put the program, from its messages.
/// Source: The Cargo Book, "External tools", "Artifact messages".
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name")? == name && message.pointer("/target/kind/0")? == "bin";
        let path = message.get("executable").filter(|_| is_it)?.as_str()?;
        Some(PathBuf::from(path))
    })
}

#[test]
fn executable_is_taken_from_the_right_message() {
    let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"lp-apply"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"lp-compile"},"executable":"/t/lp-compile"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"lp-apply"},"executable":"/t/lp-apply"}
{"reason":"build-finished","success":true}"#;
    assert_eq!(executable(messages, "lp-apply"), Some(PathBuf::from("/t/lp-apply")));
    assert_eq!(executable(messages, "lp-other"), None);
}
