//! The samples. Their C files are part of this program, so it runs from anywhere.

/// A program and the patch for it.
#[derive(Debug)]
pub struct Sample {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// The program to be patched.
    pub target: Source,
    /// The patch: a shared library.
    pub patch: Source,
    /// `OLD=NEW` for `lp-compile build --replace`.
    pub replace: &'static str,
    /// What the program prints while it is wrong; it starts the patching.
    pub before: &'static str,
    /// What only the patched program prints.
    pub after: &'static str,
}

/// A C file and what it becomes.
#[derive(Debug)]
pub struct Source {
    /// Name of the C file.
    pub file: &'static str,
    /// Its content.
    pub text: &'static str,
    /// Name of the program or library made from it.
    pub output: &'static str,
    /// Flags for the C compiler, besides `-o`.
    pub flags: &'static [&'static str],
}

/// All samples.
pub const SAMPLES: &[Sample] = &[Sample {
    name: "testlive",
    about: "a program that gets a wrong answer for ever, until its function is replaced",
    target: Source {
        file: "testlive.c",
        text: include_str!("../testlive/testlive.c"),
        output: "testlive",
        flags: &["-g"],
    },
    patch: Source {
        file: "libfoo.c",
        text: include_str!("../testlive/libfoo.c"),
        output: "libfoo.so",
        flags: &["-g", "-shared", "-fPIC"],
    },
    replace: "func_J=func1",
    before: "=== No, this is not the right answer....(3) ===",
    after: "=== You fix it !!! (12)",
}];

impl Sample {
    /// The sample of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SAMPLES.iter().find(|s| s.name == name)
    }
}
