//! The tutorial of README.md is true: its files are written, its commands run, and what they print is what it shows, but
//! for process ids, patch ids, sizes and times.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is a failed test")]

use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// The fenced blocks of this language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(fence.as_str()).skip(1).map(|behind| behind.split("```").next().unwrap()).collect()
}

/// `(command, what it prints)` of all console blocks.
fn steps() -> Vec<(&'static str, String)> {
    let mut steps: Vec<(&str, String)> = Vec::new();
    for line in blocks("console").into_iter().flat_map(str::lines) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command, String::new())),
            (None, Some((_, output))) => output.push_str(&format!("{line}\n")),
            (None, None) => panic!("output before the first command: {line}"),
        }
    }
    steps
}

/// The text of the tools without what differs from run to run: ids, and all numbers.
fn blurred(text: &str) -> String {
    let is_tool = |line: &str| ["lied: ", "reverted: ", "active: ", ".lpb: "].iter().any(|word| line.contains(word));
    text.lines().map(|line| if is_tool(line) { without_numbers(line) } else { line.to_owned() } + "\n").collect()
}

fn without_numbers(line: &str) -> String {
    let is_id = |word: &str| word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit());
    let word = |word: &str| match word.trim_matches(['(', ')', ',']) {
        core if is_id(core) => word.replace(core, "ID"),
        core if core.starts_with(|c: char| c.is_ascii_digit()) => word.replace(|c: char| c.is_ascii_digit(), ""),
        _ => word.to_owned(),
    };
    let line = line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    // Whether there was anything to wait for is chance.
    line.replace(" after  ms", "")
}

/// Builds the tools beside this package's own program, in its profile, and gives their directory.
fn tools() -> &'static Path {
    let dir = Path::new(env!("CARGO_BIN_EXE_lp-samples")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "-q", "-p", "lp-compile", "-p", "lp-apply", "--target-dir"]).arg(dir.parent().unwrap());
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success());
    dir
}

#[test]
fn the_tutorial_is_true() {
    let dir = tempfile::tempdir().unwrap();
    let [shop, fix] = blocks("c")[..] else { panic!("the tutorial has two C files") };
    std::fs::write(dir.path().join("shop.c"), shop).unwrap();
    std::fs::write(dir.path().join("fix.c"), fix).unwrap();
    let steps = steps();
    // A mark in front of each command tells whose output is whose; the trap ends the program in any case.
    let mark = "\u{1e}";
    let mut script = String::from("trap 'kill $! 2>/dev/null' EXIT\n");
    steps.iter().for_each(|(command, _)| script.push_str(&format!("printf '{mark}'\n{command}\n")));
    let path = format!("{}:{}", tools().display(), std::env::var("PATH").unwrap());
    let run = Command::new("bash").args(["-c", &script]).current_dir(dir.path()).env("PATH", path).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let outputs: Vec<_> = out.split(mark).skip(1).collect();
    assert_eq!(outputs.len(), steps.len(), "{out}{err}");
    for ((command, want), have) in steps.iter().zip(outputs) {
        assert_eq!(blurred(have), blurred(want), "$ {command}\n{err}");
    }
}
