//! Damaged and hostile files: an error or a bundle, never a panic, and in bounded time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod common;

use common::Lab;
use std::time::{Duration, Instant};

/// A small generator with a fixed seed: a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

fn survives(lab: &Lab, why: &str) {
    let start = Instant::now();
    let out = lab.build(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh", "--set", "level=int:1"]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(matches!(out.status.code(), Some(0 | 3 | 4)), "{why}: {:?} {text}", out.status);
    assert!(start.elapsed() < Duration::from_secs(20), "{why}: it took {:?}", start.elapsed());
    if out.status.success() {
        lpb::read(&std::fs::read(lab.path("out.lpb")).unwrap()).unwrap();
    }
}

#[test]
fn damaged_files() {
    let lab = Lab::new();
    lab.cc("exe", "-O1", "#include <stdio.h>\nint level = 2; __attribute__((noinline)) int old(int a) { return a * 3 + 1000 + level; } int main(int c, char **v) { puts(v[0]); return old(c); }");
    lab.cc(
        "fix.so",
        "-shared -fPIC -O1",
        "#include <stdio.h>\nextern int level; int *p = &level; int fresh(int a) { puts(\"x\"); return a + *p; }",
    );
    let good = ["exe", "fix.so"].map(|f| std::fs::read(lab.path(f)).unwrap());
    let mut dice = Dice(42);
    for round in 0..240 {
        let which = round % 2;
        let mut bytes = good[which].clone();
        // Headers, dynamic tables and section headers are where the meaning is.
        let spots = [0..64, 64..800, 800..2000, bytes.len() - 2200..bytes.len(), 0x2d00..0x3100];
        for _ in 0..=dice.roll(4) {
            let spot = spots[dice.roll(spots.len())].clone();
            let at = (spot.start + dice.roll(spot.len())).min(bytes.len() - 9);
            match dice.roll(3) {
                0 => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
                1 => bytes[at & !7..(at & !7) + 8].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
                _ => bytes[at & !7..(at & !7) + 8].copy_from_slice(&u64::to_le_bytes(1 << dice.roll(63))),
            }
        }
        std::fs::write(lab.path(["exe", "fix.so"][which]), &bytes).unwrap();
        survives(&lab, &format!("round {round}"));
        std::fs::write(lab.path(["exe", "fix.so"][which]), &good[which]).unwrap();
    }
    for len in (0..good[0].len()).step_by(good[0].len() / 40) {
        std::fs::write(lab.path("exe"), &good[0][..len]).unwrap();
        survives(&lab, &format!("cut at {len}"));
    }
}

/// Debug information is asked which of two functions is meant; a damaged one gives another answer or none.
#[test]
fn damaged_debug_information() {
    let lab = Lab::new();
    let part = "static __attribute__((noipa)) int old(int x) { return x * 3 + N; } int NAME(int x) { return old(x); }";
    for (name, n) in [("left", "1"), ("right", "2")] {
        lab.write(&format!("{name}/part.c"), &part.replace("NAME", name).replace(" N;", &format!(" {n};")));
    }
    let main = "int left(int), right(int); int main(int c, char **v) { (void)v; return left(c) + right(c); }";
    lab.cc("exe", "-g -O1 left/part.c right/part.c", main);
    lab.cc("fix.so", "-shared -fPIC -O1", "int fresh(int a) { return a; }");
    let args = ["--target", "exe", "--patch", "fix.so", "--replace", "left/part.c:old=fresh"];
    lab.bundle(&args);
    let spots = debug_sections(&lab, "exe");
    let good = std::fs::read(lab.path("exe")).unwrap();
    let mut dice = Dice(7);
    for round in 0..150 {
        let mut bytes = good.clone();
        for _ in 0..=dice.roll(6) {
            let spot = spots[dice.roll(spots.len())].clone();
            bytes[spot.start + dice.roll(spot.len())] = u8::try_from(dice.roll(256)).unwrap();
        }
        std::fs::write(lab.path("exe"), &bytes).unwrap();
        let start = Instant::now();
        let out = lab.build(&args);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(matches!(out.status.code(), Some(0 | 4)), "round {round}: {:?} {text}", out.status);
        assert!(start.elapsed() < Duration::from_secs(20), "round {round}: it took {:?}", start.elapsed());
    }
}

/// What is not checked because debug information is damaged is said: sections that are shorter than they say, or nonsense.
#[test]
fn damage_is_said() {
    let lab = Lab::new();
    lab.cc("fix.so", "-shared -fPIC -O1 -g", "int fresh(int a) { return a; }");
    let args = ["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"];
    let source = "__attribute__((noipa)) int old(int x) { return x * 3 + 1000; } int main(int c, char **v) { (void)v; return old(c); }";
    for (flags, section, at, says) in [
        ("-gz=zlib-gnu", ".zdebug_abbrev", Some(4), "none of it can be read"), // "ZLIB", then the size, its highest byte first
        ("-gz=zlib", ".debug_abbrev", Some(8), "none of it can be read"),
        ("-gz=none", ".debug_abbrev", None, "units cannot be read to their end"),
    ] {
        lab.cc("exe", &format!("-g -O1 {flags}"), source);
        let note = |says: &str| {
            let out = lab.build(&args);
            let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{flags}: {text}");
            text.contains("the debug information of exe is damaged") && text.contains(says)
        };
        assert!(!note(says), "{flags}: a false alarm");
        let table = lab.run("readelf -SW exe");
        let row = table.lines().find(|l| l.contains(&format!(" {section} "))).unwrap();
        let offset = row.split(']').nth(1).unwrap().split_whitespace().nth(3).unwrap();
        let start = usize::from_str_radix(offset, 16).unwrap();
        let mut bytes = std::fs::read(lab.path("exe")).unwrap();
        let (from, len) = at.map_or((start, 16), |at| (start + at, 8));
        bytes[from..from + len].fill(0);
        std::fs::write(lab.path("exe"), &bytes).unwrap();
        assert!(note(says), "{flags}: not said");
    }
}

/// Where the debug information is in a file.
fn debug_sections(lab: &Lab, file: &str) -> Vec<std::ops::Range<usize>> {
    let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let sections = lab.run(&format!("readelf -SW {file}"));
    let debug = sections.lines().filter(|l| l.contains(" .debug_") && !l.contains("aranges"));
    let spots: Vec<_> = debug
        .map(|l| l.split(']').nth(1).unwrap().split_whitespace().collect::<Vec<_>>())
        .map(|words| number(words[3])..number(words[3]) + number(words[4]))
        .collect();
    assert!(spots.len() > 3, "{sections}");
    spots
}

/// Types are compared as far as they can be read: whatever is written there, it ends.
#[test]
fn damaged_types() {
    let lab = Lab::new();
    let types = "typedef struct { int x; struct node *in; } point; enum kind { A, B = -1, C = 200 };\n\
        struct node { struct node *next; union { long n; point p; char c[8]; }; unsigned a : 3, b : 5; enum kind kind;\n\
        int (*call)(struct node *, ...); point grid[2][3]; };\n";
    let source = "int old(struct node *n) { static int calls; return n->a + n->grid[1][2].x + ++calls; }";
    let main = "struct node node; int main(int c, char **v) { (void)v; node.a = c; return old(&node); }";
    let fresh =
        "extern struct node node; int fresh(struct node *n) { static int calls; return n->b + node.a + ++calls; }";
    for flags in ["-gdwarf-5", "-gdwarf-4 -fdebug-types-section"] {
        lab.cc("exe", &format!("-O0 {flags}"), &format!("{types}{source}{main}"));
        lab.cc("fix.so", &format!("-shared -fPIC -O0 {flags}"), &format!("{types}{fresh}"));
        let args = ["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh", "--allow", "forked-data"];
        lab.bundle(&args);
        let files =
            ["exe", "fix.so"].map(|file| (file, debug_sections(&lab, file), std::fs::read(lab.path(file)).unwrap()));
        let mut dice = Dice(11);
        for round in 0..160 {
            let (file, spots, good) = &files[round % 2];
            let mut bytes = good.clone();
            for _ in 0..=dice.roll(8) {
                let spot = spots[dice.roll(spots.len())].clone();
                bytes[spot.start + dice.roll(spot.len())] = u8::try_from(dice.roll(256)).unwrap();
            }
            std::fs::write(lab.path(file), &bytes).unwrap();
            let start = Instant::now();
            let out = lab.build(&args);
            let text = String::from_utf8_lossy(&out.stderr);
            assert!(matches!(out.status.code(), Some(0 | 4)), "{flags}, round {round}: {:?} {text}", out.status);
            assert!(start.elapsed() < Duration::from_secs(20), "{flags}, round {round}: it took {:?}", start.elapsed());
            std::fs::write(lab.path(file), good).unwrap();
        }
    }
}

/// A FIFO would block for ever, a directory and a missing file are no ELF files.
#[test]
fn not_files() {
    let lab = Lab::new();
    lab.run("mkfifo fifo");
    lab.write("script", "#!/bin/sh\n");
    lab.cc("fix.so", "-shared -fPIC", "int fresh(int a) { return a; }");
    lab.write("empty.c", "int x;");
    lab.run("cc -c -o object.o empty.c");
    for (target, word) in [
        ("fifo", "regular file"),
        (".", "regular file"),
        ("none", "No such file"),
        ("script", "not an ELF file"),
        ("object.o", "not linked"),
    ] {
        let text = lab.refused(3, &["--target", target, "--patch", "fix.so", "--replace", "old=fresh"]);
        assert!(text.contains(word) && text.contains(target), "{text}");
    }
}
