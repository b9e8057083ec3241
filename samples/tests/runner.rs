//! The runner when something goes wrong: it says what, ends with 1 (or 2 for a wrong command line), and leaves neither a
//! process nor a file behind. That all goes well is shown by the sample itself.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::path::Path;
use std::process::Command;

/// Runs `lp-samples` with its temporary files in a directory of its own, which must be empty afterwards. Gives exit code,
/// standard output and standard error.
fn run(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let tmp = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lp-samples"));
    let done = command.args(args).envs(env.iter().copied()).env("TMPDIR", tmp.path()).output().unwrap();
    let left: Vec<_> = std::fs::read_dir(tmp.path()).unwrap().collect();
    assert!(left.is_empty(), "{args:?} left files: {left:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn a_wrong_name_gets_the_list() {
    for (args, first) in [
        (&["nope"][..], "lp-samples: error: there is no sample called `nope`\n"),
        (&[], "usage: lp-samples NAME\n"),
        (&["testlive", "more"], "usage: lp-samples NAME\n"),
    ] {
        let (code, out, err) = run(args, &[]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}");
        assert!(err.starts_with(first) && err.contains("\n  testlive "), "{err}");
    }
}

#[test]
fn without_c_compiler_it_says_how_to_get_one() {
    let tools = [("LP_COMPILE", "/bin/true"), ("LP_APPLY", "/bin/true"), ("CC", "/nowhere/cc")];
    let (code, _, err) = run(&["testlive"], &tools);
    assert_eq!(code, Some(1));
    assert!(err.contains("no C compiler: `/nowhere/cc`") && err.contains("hint: install one"), "{err}");
}

#[test]
fn after_a_failed_tool_the_program_is_gone() {
    let (code, out, err) = run(&["testlive"], &[("LP_COMPILE", "/bin/true"), ("LP_APPLY", "/bin/false")]);
    assert_eq!(code, Some(1));
    assert!(err.contains("lp-apply failed (exit status: 1)"), "{err}");
    assert!(out.contains("| === No, this is not the right answer....(3) ===\n"), "{out}");
    let (_, behind) = out.split_once("$ lp-apply testlive.lpb --pid ").unwrap();
    let pid = behind.split_whitespace().next().unwrap();
    assert!(!Path::new("/proc").join(pid).exists(), "process {pid} still runs");
}
