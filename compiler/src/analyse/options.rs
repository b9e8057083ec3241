//! What the options of a compiler let it tell callers about the inside of a function, as `DW_AT_producer` has them.
//!
//! Source: gcc manual, "Options That Control Optimization": -fipa-ra is part of -O2, -fipa-pure-const and -fipa-modref of -O1;
//! -flive-patching turns all of them off.

/// The options of gcc; clang and rustc do not say theirs.
pub struct Options<'p> {
    /// `GNU C17`: not gcc's assembler, and nobody else.
    compiler: Compiler,
    words: Vec<&'p str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    Gcc,
    Assembler,
    Other,
}

impl<'p> Options<'p> {
    pub fn of(producer: &'p str) -> Self {
        let words: Vec<&str> = producer.split_whitespace().collect();
        let compiler = match words.as_slice() {
            ["GNU", "AS", ..] => Compiler::Assembler,
            ["GNU", ..] => Compiler::Gcc,
            _ => Compiler::Other,
        };
        Self { compiler, words }
    }

    /// Whether it takes every call to change all registers that the ABI lets a function change. clang and rustc know better
    /// only when asked by an option for their developers; who writes assembly may know anything.
    pub fn take_every_call_alike(&self) -> bool {
        match self.compiler {
            Compiler::Other => true,
            Compiler::Assembler => false,
            Compiler::Gcc => {
                let by_level = !matches!(self.level(), "" | "0" | "1" | "g");
                self.live_patching() || !self.last("-fipa-ra", "-fno-ipa-ra").unwrap_or(by_level)
            }
        }
    }

    /// Whether gcc uses for callers that it has seen a function change no memory.
    pub fn look_inside(&self) -> bool {
        let on = |yes, no| self.last(yes, no).unwrap_or(self.level() != "0");
        let looks = on("-fipa-pure-const", "-fno-ipa-pure-const") || on("-fipa-modref", "-fno-ipa-modref");
        self.compiler == Compiler::Gcc && !self.live_patching() && looks
    }

    /// Of two options that say the opposite, the one that counts.
    fn last(&self, yes: &str, no: &str) -> Option<bool> {
        self.words.iter().rev().find(|o| **o == yes || **o == no).map(|o| *o == yes)
    }

    fn level(&self) -> &str {
        self.words.iter().rev().find_map(|o| o.strip_prefix("-O")).unwrap_or("0")
    }

    fn live_patching(&self) -> bool {
        self.words.iter().any(|o| o.starts_with("-flive-patching"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers() {
        for (producer, alike, inside) in [
            ("GNU C17 12.2.0 -mtune=generic -march=x86-64 -g -O2", false, true),
            ("GNU C17 12.2.0 -mtune=generic -march=x86-64 -g -O3 -fno-ipa-ra", true, true),
            ("GNU C17 12.2.0 -g -O2 -fno-ipa-ra -fipa-ra", false, true),
            ("GNU C17 12.2.0 -g -O2 -flive-patching=inline-clone", true, false),
            ("GNU C17 12.2.0 -g -O2 -fno-ipa-pure-const", false, true),
            ("GNU C17 12.2.0 -g -O2 -fno-ipa-pure-const -fno-ipa-modref", false, false),
            ("GNU C17 12.2.0 -g -O", true, true),
            ("GNU C++17 12.2.0 -g -O1", true, true),
            ("GNU C++17 12.2.0 -g -O1 -fipa-ra", false, true),
            ("GNU C17 12.2.0 -g -O2 -O0", true, false),
            ("GNU C17 12.2.0 -g -Os", false, true),
            ("GNU C17 12.2.0 -g", true, false),
            ("GNU GIMPLE 12.2.0 -g -O2 -flto", false, true),
            ("GNU AS 2.40", false, false),
            ("Debian clang version 14.0.6", true, false),
            ("clang LLVM (rustc version 1.75.0)", true, false),
        ] {
            let options = Options::of(producer);
            assert_eq!((options.take_every_call_alike(), options.look_inside()), (alike, inside), "{producer}");
        }
    }
}
