//! What a patch may say of itself (livepatch.h), and what it must not bring.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod common;

use common::{Lab, chosen, lp_compile};
use lpb::{Change, Value};

const TARGET: &str = "static int count; static __attribute__((noinline)) int part(int a) { return a * 3 + count++; }
    __attribute__((noinline)) int old(int a) { return part(a) * 5 + 1000; } int main(int c, char **v) { (void)v; return old(c); }";

const PATCH: &str = r#"
#include "livepatch.h"
#ifdef __cplusplus
extern "C" {
#endif
extern int count;
LP_BIND("exe.c", count);
int old(int);
int part(int);
LP_REPLACE(old) int new_old(int a) { return LP_ORIGINAL(old)(a) + count; }
LP_REPLACE_IN("exe.c", part) int new_part(int a) { int (*f)(int) = LP_ORIGINAL(part); return f(a) - 1; }
#ifdef __cplusplus
}
#endif
"#;

#[test]
fn livepatch_h_with_every_compiler_and_linker() {
    let lab = Lab::new();
    // Jumps lead to the new code itself, and not to a thunk that aligns the stack.
    lab.cc("exe", "-O1 -fno-ipa-stack-alignment", TARGET);
    lab.write("fix.c", PATCH);
    let mut compilers = vec![
        "gcc -std=gnu89 -Wall -Wextra -Werror",
        "gcc -pedantic -Wall -Wextra -Werror",
        "g++ -x c++ -Wall -Wextra -Werror",
    ];
    if std::process::Command::new("clang").arg("--version").output().is_ok() {
        compilers.push("clang -Wall -Werror");
    }
    for compiler in compilers {
        for linker in ["bfd", "gold", "lld"] {
            for level in ["-O0", "-O2", "-O2 -ffunction-sections -Wl,--gc-sections"] {
                let why = format!("{compiler} {linker} {level}");
                lab.run(&format!("{compiler} {level} -fuse-ld={linker} -shared -fPIC -nostdlib -o fix.so fix.c"));
                let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so"]);
                let patch = lpb::read(&bytes).unwrap().patch;
                let count = format!("exe+{:#x}", lab.nm("", "exe", "count"));
                assert_eq!(chosen(&patch, "count"), [count], "{why}");
                assert_eq!(patch.redirects.len(), 2, "{why}");
                for redirect in &patch.redirects {
                    let Change::Jump(jump) = &redirect.change else { panic!("{why}: {redirect:?}") };
                    let base = lab.run("readelf -lW fix.so");
                    let base = base.lines().find(|l| l.trim_start().starts_with("LOAD")).unwrap();
                    let base = u64::from_str_radix(&base.split_whitespace().nth(2).unwrap()[2..], 16).unwrap();
                    let new = lab.nm("", "fix.so", &format!("new_{}", redirect.name)) - base;
                    let new = Value::Patch { area: lpb::AreaId(0), off: lpb::AreaOff(new) };
                    assert_eq!(jump.new, [lpb::Candidate::of(new)], "{why}");
                    let original = format!("patch {}+{}", jump.island.0, jump.original.unwrap());
                    assert_eq!(chosen(&patch, &format!("lp_original.{}", redirect.name)), [original], "{why}");
                }
            }
        }
    }
}

/// The header is printed as it is, and is what the tests above use.
#[test]
fn header() {
    let lab = Lab::new();
    let out = lp_compile(lab.dir(), ["header"]);
    assert_eq!(String::from_utf8(out.stdout).unwrap(), include_str!("../src/livepatch.h"));
    assert!(lp_compile(lab.dir(), ["header", "-o", "copy.h"]).status.success());
    assert_eq!(std::fs::read_to_string(lab.path("copy.h")).unwrap(), include_str!("../src/livepatch.h"));
}

/// Each row: flags, source of the patch, words that the refusal must have.
#[test]
fn refused_patches() {
    let rows: &[(&str, &str, &str, &[&str])] = &[
        (
            "own thread-local",
            "",
            "static __thread int t; int fresh(int a) { return t += a; }",
            &["thread-local", "-femulated-tls"],
        ),
        (
            "local-dynamic model, for a variable that is not the patch's",
            "-ftls-model=local-dynamic",
            "extern __thread int foreign; int fresh(int a) { return foreign + a; }",
            &["local-dynamic", "-ftls-model=global-dynamic"],
        ),
        (
            "thread-local in libc only",
            "-nostdlib",
            "extern int errno; int fresh(int a) { return errno + a; }",
            &["errno", "thread-local in libc.so.6, but not in the patch"],
        ),
        (
            "thread-local in the patch only",
            "-nostdlib",
            "extern __thread int optind; int fresh(int a) { return optind + a; }",
            &["optind", "thread-local in the patch, but not in libc.so.6"],
        ),
        (
            "emulated, where libgcc_s is not loaded",
            "",
            "extern void *__emutls_get_address(void *); int fresh(int a) { return *(int *)__emutls_get_address(&a); }",
            &["__emutls_get_address", "libgcc_s"],
        ),
        (
            "IFUNC",
            "",
            "static int f(int a) { return a; } static void *pick(void) { return (void *)f; }
             int chosen(int) __attribute__((ifunc(\"pick\"))); int fresh(int a) { return chosen(a); }",
            &["IFUNC", "chosen"],
        ),
        (
            "constructor",
            "",
            "__attribute__((constructor)) static void begin(void) {} int fresh(int a) { return a; }",
            &["constructor", "begin"],
        ),
        (
            "destructor",
            "",
            "__attribute__((destructor)) static void end(void) {} int fresh(int a) { return a; }",
            &["destructor", "end"],
        ),
        (
            "stripped constructor",
            "-s",
            "__attribute__((constructor)) static void begin(void) {} int fresh(int a) { return a; }",
            &["constructor"],
        ),
        (
            "init function",
            "-Wl,-init=begin",
            "void begin(void) {} int fresh(int a) { return a; }",
            &["DT_INIT", "begin"],
        ),
        (
            "writable code",
            "-Wl,-N -nostdlib",
            "int x = 1; int fresh(int a) { return a + x; }",
            &["writable and executable"],
        ),
        (
            "text relocations",
            "-Wl,-z,notext",
            "__asm__(\".text\\n.globl p\\np: .quad sleep\"); int fresh(int a) { return a; }",
            &["DT_TEXTREL", "-fPIC"],
        ),
        (
            "missing symbols",
            "",
            "int nowhere(int); extern int nothing; int other(void) { return nothing; } int fresh(int a) { return nowhere(a) + other(); }",
            &[
                "undefined symbol nowhere, used by fresh (.got.plt+0x",
                "undefined symbol nothing, used by other (.got+0x",
                "libc.so.6",
            ],
        ),
        ("near miss", "", "int sleeep(int); int fresh(int a) { return sleeep(a); }", &["sleeep", "sleep@GLIBC_2.2.5"]),
        (
            "original of nothing",
            "",
            "#include \"livepatch.h\"\nint part(int); int fresh(int a) { return LP_ORIGINAL(part)(a); }",
            &["does not replace part"],
        ),
        (
            "a replacement of two",
            "",
            "#include \"livepatch.h\"\nLP_REPLACE(old) int f(int a) { return a; } LP_REPLACE(old) int g(int a) { return -a; } int fresh(int a) { return a; }",
            &["2 functions"],
        ),
    ];
    let lab = Lab::new();
    // Jumps lead to the new code itself, and not to a thunk that aligns the stack.
    lab.cc("exe", "-O1 -fno-ipa-stack-alignment", TARGET);
    for (why, flags, source, words) in rows {
        lab.cc("fix.so", &format!("-shared -fPIC {flags}"), source);
        let text = lab.refused(4, &["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
        assert!(words.iter().all(|w| text.contains(w)), "{why}: not all of {words:?} in {text}");
    }
    // A function that cannot be replaced is reported once, and not again by LP_ORIGINAL.
    let source =
        "#include \"livepatch.h\"\nint olds(int); LP_REPLACE(olds) int fresh(int a) { return LP_ORIGINAL(olds)(a); }";
    lab.cc("fix.so", "-shared -fPIC", source);
    let text = lab.refused(4, &["--target", "exe", "--patch", "fix.so"]);
    assert_eq!((text.matches("error: ").count(), text.contains("similar names: old")), (1, true), "{text}");
    lab.cc("fix.so", "", "int fresh(int a) { return a; } int main(void) { return fresh(1); }");
    let text = lab.refused(4, &["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
    assert!(text.contains("a program") && text.contains("-shared"), "{text}");
    lab.cc("fix.so", "-shared -fPIC", "int fresh(int a) { return a; }");
    assert!(lab.refused(4, &["--target", "exe", "--patch", "fix.so"]).contains("replaces nothing"));
}

/// gcc's own copies of the new function, in the same section, are not candidates.
#[test]
fn clones_in_the_section() {
    let lab = Lab::new();
    // Jumps lead to the new code itself, and not to a thunk that aligns the stack.
    lab.cc("exe", "-O1 -fno-ipa-stack-alignment", TARGET);
    let source = "#include \"livepatch.h\"\nLP_REPLACE(old) int fresh(int a) { return a; }
        __asm__(\".section .lp.replace.old,\\\"ax\\\",@progbits\\n.type fresh.constprop.0, @function\\nfresh.constprop.0: ret\\n.size fresh.constprop.0, 1\\n.text\");";
    lab.cc("fix.so", "-shared -fPIC", source);
    assert!(lab.run("nm fix.so").contains("fresh.constprop.0"));
    lab.bundle(&["--target", "exe", "--patch", "fix.so"]);
}

/// An ordinary stripped patch has gcc's own constructor entries; they are recognised without their names.
#[test]
fn stripped_patch() {
    for linker in ["bfd", "gold", "lld"] {
        let lab = Lab::new();
        // Jumps lead to the new code itself, and not to a thunk that aligns the stack.
        lab.cc("exe", "-O1 -fno-ipa-stack-alignment", TARGET);
        lab.cc("fix.so", &format!("-shared -fPIC -s -fuse-ld={linker}"), "int fresh(int a) { return a; }");
        lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
    }
}

/// The memory that a patch brings is R, R-X or RW, holds the file's bytes, and relocated read-only data is read-only.
#[test]
fn image() {
    let lab = Lab::new();
    // Jumps lead to the new code itself, and not to a thunk that aligns the stack.
    lab.cc("exe", "-O1 -fno-ipa-stack-alignment", TARGET);
    let source = "static int zero[5000]; int set = 0x2a2a2a2a; static int *const table[] = { &set, zero };
                  int fresh(int i) { return *table[i]; }";
    for linker in ["bfd", "gold", "lld"] {
        lab.cc("fix.so", &format!("-shared -fPIC -O1 -fuse-ld={linker}"), source);
        let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
        let patch = lpb::read(&bytes).unwrap().patch;
        let segment = |name: &str| {
            let at = lab.nm("", "fix.so", name);
            let s = patch.areas[0].segments.iter().find(|s| (s.off.0..s.off.0 + s.size).contains(&at)).unwrap();
            (s, usize::try_from(at - s.off.0).unwrap())
        };
        let (data, at) = segment("set");
        assert_eq!((data.prot, &data.data[at..at + 4]), (lpb::Prot::ReadWrite, &[42; 4][..]), "{linker}");
        let (zero, at) = segment("zero");
        assert_eq!(zero.prot, lpb::Prot::ReadWrite);
        assert!(zero.data.len() <= at && zero.size >= 20000, "{linker}: .bss is stored");
        assert_eq!(segment("table").0.prot, lpb::Prot::Read, "{linker}");
        let (code, at) = segment("fresh");
        let disk = std::fs::read(lab.path("fix.so")).unwrap();
        assert_eq!(code.prot, lpb::Prot::ReadExec);
        assert!(disk.windows(8).any(|w| w == &code.data[at..at + 8]), "{linker}");
    }
}
