//! Thread-local variables of the program: the offsets that lp-compile computes are those that the program itself has.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod common;

use common::{Lab, fixup};
use lpb::{Patch, Value};

/// The constant that stands for a name.
fn constant(patch: &Patch<'_>, name: &str) -> u64 {
    match fixup(patch, name).candidates.as_slice() {
        [only] => match only.value {
            Value::Abs(value) => value.wrapping_add_signed(only.delta),
            other => panic!("{name} is {other:?}"),
        },
        many => panic!("{name}: {many:?}"),
    }
}

/// Sizes and alignments of the block that leave gaps in front and behind, in every kind of program.
#[test]
fn offsets_in_the_program() {
    for link in ["-fPIE -pie", "-fno-pie -no-pie", "-static", "-static-pie"] {
        for (head, align, tail) in [(1, 1, 3), (100, 64, 1), (8, 4096, 24), (33, 16, 128)] {
            let lab = Lab::new();
            let sizes = format!("-DHEAD={head} -DALIGN={align} -DTAIL={tail}");
            lab.cc(
                "exe",
                &format!("-O1 {link} {sizes}"),
                "#include <stdio.h>
                 __thread char head[HEAD] = {1}; __thread char wide[8] __attribute__((aligned(ALIGN))); __thread char tail[TAIL];
                 int old(int a) { return a * 3 + 1000; }
                 int main(int c, char **v) {
                     unsigned long self; __asm__(\"mov %%fs:0, %0\" : \"=r\"(self));
                     printf(\"%lu %lu %lu\\n\", (unsigned long)head - self, (unsigned long)wide - self, (unsigned long)tail - self);
                     return old(c) * 0;
                 }",
            );
            lab.cc(
                "fix.so",
                "-shared -fPIC -ftls-model=initial-exec",
                "extern __thread char head[], wide[], tail[];
                 int fresh(int a) { return head[0] + wide[0] + tail[0] + a; }",
            );
            let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
            let patch = lpb::read(&bytes).unwrap().patch;
            let said = lab.run(&lab.path("exe").display().to_string());
            let said: Vec<u64> = said.split_whitespace().map(|n| n.parse().unwrap()).collect();
            let computed = ["head", "wide", "tail"].map(|name| constant(&patch, name));
            assert_eq!(computed.as_slice(), said, "{link} {sizes}");
        }
    }
}
