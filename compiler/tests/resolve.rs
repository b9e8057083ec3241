//! Resolution: name and version, lookup order, locals, slots. Answers come from nm, readelf and live processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod common;

use common::{Lab, chosen};
use lpb::{Patch, RunAddr, Value};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

/// Says where the process itself sees each symbol, then waits.
const WITNESS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern char **environ;
__attribute__((noinline)) int old(int a) { return a * 3 + 1000; }
static void say(const char *name, const char *version) {
    printf("%s@%s %p\n", name, version, dlvsym(RTLD_DEFAULT, name, version));
}
int main(int argc, char **argv) {
    void *volatile taken = (void *)free;   /* a non-PIE program has a canonical PLT entry for it */
    char buffer[64];
    memcpy(buffer, argv[0], strlen(argv[0]) < 60 ? 8 : 4);
    void *p = malloc((size_t)argc);
    regex_t r;
    regcomp(&r, "x", 0);
    fprintf(stdout, "%s", environ[0] ? "" : buffer);
    ((void (*)(void *))taken)(p);
    say("memcpy", "GLIBC_2.14"); say("regexec", "GLIBC_2.2.5"); say("regexec", "GLIBC_2.3.4");
    say("stdout", "GLIBC_2.2.5"); say("environ", "GLIBC_2.2.5"); say("malloc", "GLIBC_2.2.5");
    say("realpath", "GLIBC_2.3"); say("puts", "GLIBC_2.2.5"); say("strlen", "GLIBC_2.2.5");
    say("free", "GLIBC_2.2.5"); say("optarg", "GLIBC_2.2.5"); say("strcspn", "GLIBC_2.2.5");
    printf("old %p\nend\n", (void *)old);
    fflush(stdout);
    pause();
    return old(argc);
}
"#;

/// Uses each symbol by a call or by its address.
const USES: &str = r#"
#define _GNU_SOURCE
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern int old_regexec(const regex_t *, const char *, size_t, regmatch_t *, int);
__asm__(".symver old_regexec,regexec@GLIBC_2.2.5");
extern int old(int);
void *table[] = { (void *)stpcpy, (char *)"own", (void *)free, (void *)old };
int fresh(int a) {
    regex_t r;
    char *copy = malloc((size_t)a);
    memcpy(copy, *environ, (size_t)a);
    regexec(&r, copy, 0, 0, 0);
    old_regexec(&r, copy, 0, 0, 0);
    puts(realpath(optarg, copy));
    free(copy);
    fputs(copy, stdout);
    return (int)(strlen(copy) + strcspn(copy, "x")) + (table[a] != 0);
}
"#;

struct Live(Child);

impl Drop for Live {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Live {
    /// Where a module is mapped: the first mapping of its file, whose first PT_LOAD has offset 0.
    fn bias(&self, patch: &Patch<'_>, module: lpb::ModuleId) -> u64 {
        let module = &patch.modules[module.index()];
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.0.id())).unwrap();
        let line = maps.lines().find(|l| l.ends_with(&format!("/{}", module.name))).unwrap();
        let start = u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        start - (module.builds[0].segments[0].vaddr.0 & !4095)
    }

    fn word(&self, at: RunAddr) -> u64 {
        let mut word = [0; 8];
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.0.id())).unwrap();
        memory.read_exact_at(&mut word, at.0).unwrap();
        u64::from_le_bytes(word)
    }

    /// Every value that the candidates give, in order; those that do not hold are left out.
    fn values(&self, patch: &Patch<'_>, name: &str) -> Vec<u64> {
        let one = |c: &lpb::Candidate| match c.value {
            Value::Module { module, addr } => Some(self.bias(patch, module) + addr.0),
            Value::Witness { module, slot, unbound } => {
                let bias = self.bias(patch, module);
                let word = self.word(RunAddr(bias + slot.0));
                (word != 0 && word != bias.wrapping_add(unbound)).then(|| word.wrapping_add_signed(c.delta))
            }
            _ => None,
        };
        common::fixup(patch, name).candidates.iter().filter_map(one).collect()
    }
}

/// Every candidate that holds gives the address that the process itself sees. Addends make R_X86_64_64 no exception.
#[test]
fn agrees_with_the_process() {
    let rows: &[(&str, &str)] = &[
        ("default", "-O1"),
        ("bind now", "-O1 -Wl,-z,now"),
        ("lazy", "-O1 -Wl,-z,lazy"),
        ("no pie", "-O1 -fno-pie -no-pie -Wl,-z,lazy"),
        ("no copy relocations", "-O1 -fPIC -pie"),
        ("no plt", "-O1 -fno-plt"),
        ("gold", "-O1 -fuse-ld=gold"),
        ("lld", "-O1 -fuse-ld=lld"),
    ];
    for (why, flags) in rows {
        let lab = Lab::new();
        let exe = lab.cc("witness", flags, WITNESS);
        lab.cc("fix.so", "-shared -fPIC -O1", USES);
        let bytes = lab.bundle(&["--target", "witness", "--patch", "fix.so", "--replace", "old=fresh"]);
        let patch = lpb::read(&bytes).unwrap().patch;
        let mut live = Live(Command::new(exe).stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(live.0.stdout.take().unwrap()).lines();
        let mut checked = 0;
        while let Some(line) = lines.next().map(Result::unwrap).filter(|l| l != "end") {
            let (name, address) = line.rsplit_once(" 0x").unwrap_or_else(|| panic!("{why}: {line}"));
            let address = u64::from_str_radix(address, 16).unwrap();
            let known = patch.fixups.iter().any(|f| f.name == name);
            let values = if known { live.values(&patch, name) } else { Vec::new() };
            if name == "free@GLIBC_2.2.5" {
                let canonical = *why == "no pie";
                // Calls go to the function; its address is the program's PLT entry, which dlvsym gives too.
                let all: Vec<_> = patch.fixups.iter().filter(|f| f.name == name).collect();
                assert_eq!(all.len(), 2, "{why}");
                let distinct = all[0].candidates.last().unwrap().value != all[1].candidates.last().unwrap().value;
                assert_eq!(distinct, canonical, "{why}: {:?}", all);
                if canonical {
                    let exe = Value::Module { module: lpb::ModuleId(0), addr: lpb::LinkAddr(address) };
                    assert!(
                        all.iter().any(|f| f.candidates == [lpb::Candidate::of(exe)]),
                        "{why}: {address:#x} {all:?}"
                    );
                    checked += 1;
                    continue;
                }
            }
            assert!(known && !values.is_empty(), "{why}: {name} has no value");
            assert!(values.iter().all(|v| *v == address), "{why}: {name} is {address:#x}, not {values:x?}");
            checked += 1;
        }
        assert_eq!(checked, 13, "{why}");
    }
}

#[test]
fn versions_are_part_of_the_name() {
    let lab = Lab::new();
    lab.cc("exe", "-O1", "int old(int a) { return a * 3 + 1000; } int main(void) { return old(1); }");
    lab.cc(
        "fix.so",
        "-shared -fPIC",
        r#"extern int realpath(); extern int old_realpath(); __asm__(".symver old_realpath,realpath@GLIBC_2.2.5");
           int fresh(int a) { return realpath(a) + old_realpath(a); }"#,
    );
    let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
    let patch = lpb::read(&bytes).unwrap().patch;
    let libc = Lab::system_library("libc.so.6");
    for version in ["realpath@GLIBC_2.2.5", "realpath@@GLIBC_2.3"] {
        let address = lab.nm("-D", libc.to_str().unwrap(), version);
        let want = format!("libc.so.6+{address:#x}");
        assert_eq!(chosen(&patch, &version.replace("@@", "@")).last(), Some(&want), "{version}");
    }
}

#[test]
fn static_programs_and_their_ifuncs() {
    for (flags, name) in [("-static", "static"), ("-static-pie", "static-pie")] {
        let lab = Lab::new();
        lab.cc(
            "exe",
            &format!("-O1 {flags}"),
            "#include <stdio.h>\n#include <string.h>\nstatic int hidden; int old(int a) { return a + hidden; }
             int main(int c, char **v) { hidden = c; puts(v[0]); return old((int)strlen(v[0])); }",
        );
        lab.cc(
            "fix.so",
            "-shared -fPIC",
            "#include <stdio.h>\n#include <string.h>\nextern int hidden;
             int fresh(int a) { puts(\"x\"); hidden++; return (int)strlen((char *)&a); }",
        );
        let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
        let patch = lpb::read(&bytes).unwrap().patch;
        assert_eq!(chosen(&patch, "puts@GLIBC_2.2.5"), [format!("exe+{:#x}", lab.nm("", "exe", "puts"))], "{name}");
        assert_eq!(chosen(&patch, "hidden"), [format!("exe+{:#x}", lab.nm("", "exe", "hidden"))], "{name}");
        let resolver = format!("{:x}", lab.nm("", "exe", "strlen"));
        let slots = chosen(&patch, "strlen@GLIBC_2.2.5");
        let relocs = lab.run("readelf -rW exe");
        let is_slot = |s: &String| {
            let place = s.strip_prefix("slot exe+0x").unwrap();
            relocs.lines().any(|l| l.contains("IRELATIV") && l.contains(place) && l.trim_end().ends_with(&resolver))
        };
        assert!(!slots.is_empty() && slots.iter().all(is_slot), "{name}: {slots:?}");
    }
}

/// The last way to an IFUNC is a thunk in the patch; a library's symbol is its resolver, and no place to go to.
#[test]
fn an_ifunc_without_a_slot_gets_a_thunk() {
    let lab = Lab::new();
    lab.cc("exe", "", "int old(int a) { return a * 3 + 1000; } int main(void) { return old(1); }");
    lab.cc(
        "fix.so",
        "-shared -fPIC -O0",
        "#include <string.h>\n#include <wchar.h>\nlong fresh(wchar_t *a) { return (long)wcsrchr(a, *a); }
         size_t (*taken)(const char *) = strlen; wchar_t *(*address)(const wchar_t *, wchar_t) = wcsrchr;",
    );
    let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
    let patch = lpb::read(&bytes).unwrap().patch;
    let [thunk] = chosen(&patch, "wcsrchr@GLIBC_2.2.5").try_into().unwrap();
    let slots = chosen(&patch, "strlen@GLIBC_2.2.5");
    assert!(slots.iter().all(|s| s.starts_with("slot libc.so.6")), "filled at start-up, so no thunk: {slots:?}");
    // The thunk knows the resolver: the symbol's value.
    let libc = Lab::system_library("libc.so.6");
    let resolver = format!("libc.so.6+{:#x}", lab.nm("-D", libc.to_str().unwrap(), "wcsrchr@@GLIBC_2.2.5"));
    let of_thunk =
        |f: &&lpb::Fixup| f.name == "wcsrchr@GLIBC_2.2.5" && common::short(&patch, &f.candidates[0]) == resolver;
    let found: Vec<_> = patch.fixups.iter().filter(of_thunk).collect();
    assert_eq!(found.len(), 1, "one thunk for call and address");
    assert!(thunk.starts_with("patch 0+0x"), "{thunk}");
    assert!(patch.meta.contains("the address of wcsrchr is that of a thunk"), "{}", patch.meta);
    assert!(!patch.meta.contains("the address of strlen"), "{}", patch.meta);
}

/// The patch's own RELR relocations, and those of the objects that the target loads.
#[test]
fn relr() {
    let lab = Lab::new();
    lab.cc(
        "exe",
        "-Wl,-z,pack-relative-relocs",
        "int old(int a) { return a * 3 + 1000; } int main(void) { return old(1); }",
    );
    let source = "static int a[8]; int *table[] = { &a[0], &a[3], &a[7] }; int fresh(int i) { return *table[i]; }";
    lab.cc("plain.so", "-shared -fPIC", source);
    lab.cc("fix.so", "-shared -fPIC -Wl,-z,pack-relative-relocs", source);
    assert!(lab.run("readelf -dW fix.so").contains("RELR"), "this linker makes no RELR");
    let base = lab.nm("", "fix.so", "a");
    let table = lab.nm("", "fix.so", "table");
    let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
    let patch = lpb::read(&bytes).unwrap().patch;
    for (i, offset) in [0, 12, 28].into_iter().enumerate() {
        let place = lpb::AreaOff(table + 8 * u64::try_from(i).unwrap());
        let fixup = patch.fixups.iter().find(|f| f.area.0 == 0 && f.place == place).unwrap();
        let want = Value::Patch { area: lpb::AreaId(0), off: lpb::AreaOff(base + offset) };
        assert_eq!(fixup.candidates, [lpb::Candidate::of(want)]);
    }
}

#[test]
fn locals_need_their_file_when_ambiguous() {
    let lab = Lab::new();
    lab.write("one.c", "static int state = 1; static int __attribute__((noinline)) f(int a) { return state += a; } int one(int a) { return f(a) * 2; }");
    lab.write("two.c", "static int state = 2; static int __attribute__((noinline)) f(int a) { return state -= a; } int two(int a) { return f(a) * 3; }");
    lab.write("main.c", "int one(int); int two(int); int main(int c, char **v) { (void)v; return one(c) + two(c); }");
    lab.run("cc -O1 -o exe one.c two.c main.c");
    lab.cc("fix.so", "-shared -fPIC", "extern int state; int fresh(int a) { return state * a; }");
    let text = lab.refused(4, &["--target", "exe", "--patch", "fix.so", "--replace", "f=fresh"]);
    assert_eq!(text.matches("one.c, two.c").count(), 2, "{text}"); // f and state, in one run

    let args = ["--target", "exe", "--patch", "fix.so", "--replace", "two.c:f=fresh", "--bind", "state=one.c:state"];
    let bytes = lab.bundle(&args);
    let patch = lpb::read(&bytes).unwrap().patch;
    let all = lab.run("nm -p exe");
    let of = |name: &str, nth: usize| {
        let line = all.lines().filter(|l| l.split_whitespace().nth(2) == Some(name)).nth(nth).unwrap();
        u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap()
    };
    assert_eq!(chosen(&patch, "state"), [format!("exe+{:#x}", of("state", 0))]);
    let lpb::Change::Jump(jump) = &patch.redirects[0].change else { panic!("{:?}", patch.redirects) };
    assert_eq!(jump.function.0, of("f", 1));
}

#[test]
fn stripped_targets_take_their_debug_file() {
    let source = "static int hidden = 5; static __attribute__((noinline)) int old(int a) { return a + hidden++; } int main(int c, char **v) { (void)v; return old(c); }";
    for (why, place, flags) in [
        ("debuglink beside it", "exe.debug", "-Wl,--build-id=none"),
        ("debuglink in .debug, compressed", ".debug/exe.debug", "-Wl,--build-id -gz=zlib"),
        ("debuglink beside it, compressed as in former times", "exe.debug", "-gz=zlib-gnu"),
        ("named", "elsewhere/my.debug", "-Wl,--build-id"),
        ("by build-id in a sysroot", "usr/lib/debug/.build-id", "-Wl,--build-id"),
    ] {
        let lab = Lab::new();
        lab.cc("exe", &format!("-g -O1 {flags}"), source);
        let hidden = format!("exe+{:#x}", lab.nm("", "exe", "hidden"));
        lab.cc("fix.so", "-shared -fPIC -nostdlib", "extern int hidden; int fresh(int a) { return a + hidden; }");
        lab.run("objcopy --only-keep-debug exe exe.debug");
        lab.run("objcopy --strip-all --add-gnu-debuglink=exe.debug exe");
        let mut args = vec!["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"];
        std::fs::rename(lab.path("exe.debug"), lab.path("kept")).unwrap();
        let text = lab.refused(4, &args);
        assert!(text.contains("no symbol table") && text.contains("--debug-file"), "{why}: {text}");
        let mut place = place.to_owned();
        if place.ends_with(".build-id") {
            let notes = lab.run("readelf -nW exe");
            let id = notes.lines().find_map(|l| l.split_once("Build ID: ").map(|(_, id)| id.trim())).unwrap();
            place = format!("{place}/{}/{}.debug", &id[..2], &id[2..]);
            args.extend(["--sysroot", ".", "--lib", "libc.so.6", "--lib", "ld-linux-x86-64.so.2"]);
            for lib in ["libc.so.6", "ld-linux-x86-64.so.2"] {
                std::fs::copy(Lab::system_library(lib), lab.path(lib)).unwrap();
            }
        }
        lab.write(&place, "");
        std::fs::rename(lab.path("kept"), lab.path(&place)).unwrap();
        if why == "named" {
            args.extend(["--debug-file", "elsewhere/my.debug"]);
        }
        let bytes = lab.bundle(&args);
        assert_eq!(chosen(&lpb::read(&bytes).unwrap().patch, "hidden"), [hidden], "{why}");
    }
}

/// A debug file that was changed after the link was made, or made from another build, does not count.
#[test]
fn a_wrong_debug_file_is_not_believed() {
    let lab = Lab::new();
    let source = "static __attribute__((noinline)) int old(int a) { return a * 3 + 1000; } int main(int c, char **v) { (void)v; return old(c); }";
    lab.cc("exe", "-g -O1", source);
    lab.cc("fix.so", "-shared -fPIC -nostdlib", "int fresh(int a) { return a; }");
    lab.run("objcopy --only-keep-debug exe exe.debug");
    lab.run("objcopy --strip-all --add-gnu-debuglink=exe.debug exe");
    lab.run("objcopy --add-section .x=fix.so exe.debug");
    let args = ["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"];
    assert!(lab.refused(4, &args).contains("no symbol table"));
    lab.cc("other", "-g -O1 -DX", &source.replace("+ 1", "+ 2"));
    let text = lab.refused(3, &[&args[..], &["--debug-file", "other"]].concat());
    assert!(text.contains("another build"), "{text}");
}

/// Data in both forks live state; functions bind as the dynamic linker would.
#[test]
fn names_that_both_define() {
    let lab = Lab::new();
    lab.cc("exe", "-O1 -rdynamic", "int count = 1; int help(int a) { return a + count; } int old(int a) { return help(a); } int main(void) { return old(1); }");
    lab.cc(
        "fix.so",
        "-shared -fPIC -O0",
        "int count = 7; int help(int a) { return a * 2; } int old(int a) { return help(a) + count; }",
    );
    let args = ["--target", "exe", "--patch", "fix.so", "--replace", "old=old"];
    let text = lab.refused(4, &args);
    assert!(text.contains("count") && text.contains("fork"), "{text}");
    let bytes = lab.bundle(&[&args[..], &["--bind", "count=count"]].concat());
    let patch = lpb::read(&bytes).unwrap().patch;
    assert_eq!(chosen(&patch, "count"), [format!("exe+{:#x}", lab.nm("", "exe", "count"))]);
    assert_eq!(chosen(&patch, "help"), [format!("exe+{:#x}", lab.nm("", "exe", "help"))]);
    // An own copy, by the user's choice; the bundle says so.
    let bytes = lab.bundle(&[&args[..], &["--allow", "forked-data"]].concat());
    let own = lpb::read(&bytes).unwrap().patch;
    assert_eq!(chosen(&own, "count"), [format!("patch 0+{:#x}", lab.nm("", "fix.so", "count"))]);
    let inspected = common::lp_compile(lab.dir(), ["inspect", "out.lpb"]).stdout;
    assert!(String::from_utf8(inspected).unwrap().contains("[forked-data]"));
    // Code that knows where its own variable is cannot be bound to another one.
    lab.run("cc -shared -fPIC -O0 -Wl,-Bsymbolic -o symbolic.so fix.so.c");
    let symbolic = ["--target", "exe", "--patch", "symbolic.so", "--replace", "old=old", "--bind", "count=count"];
    let text = lab.refused(4, &symbolic);
    assert!(text.contains("--bind count: the patch refers to its own count") && text.contains("extern"), "{text}");
    lab.cc("static.so", "-shared -fPIC -O0", "static int count = 7; int fresh(int a) { return a + count++; }");
    let text =
        lab.refused(4, &["--target", "exe", "--patch", "static.so", "--replace", "old=fresh", "--bind", "count=count"]);
    assert!(text.contains("the patch defines a static count of its own"), "{text}");
    // Without -rdynamic the linker would not see the target's: the patch's function is meant, the data still forks.
    lab.run("cc -O1 -o exe exe.c");
    assert!(lab.refused(4, &args).contains("count"));
    let bytes = lab.bundle(&[&args[..], &["--bind", "count=count"]].concat());
    let patch = lpb::read(&bytes).unwrap().patch;
    assert_eq!(chosen(&patch, "help"), [format!("patch 0+{:#x}", lab.nm("", "fix.so", "help"))]);
}

#[test]
fn musl() {
    let lab = Lab::new();
    lab.write("exe.c", "#include <stdio.h>\n__attribute__((noinline)) int old(int a) { return a * 3 + 1000; } int main(int c, char **v) { puts(v[0]); return old(c); }");
    lab.write("fix.c", "#include <stdio.h>\n#include <string.h>\nint fresh(int a) { puts(\"x\"); return a + (int)strlen((char *)&a); }");
    lab.run("musl-gcc -O1 -o exe exe.c");
    lab.run("musl-gcc -O1 -shared -fPIC -o fix.so fix.c");
    let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
    let patch = lpb::read(&bytes).unwrap().patch;
    let libc = patch.modules.iter().map(|m| m.name.as_ref()).find(|n| *n != "exe").unwrap();
    assert!(chosen(&patch, "strlen").last().unwrap().starts_with(libc), "{:?}", chosen(&patch, "strlen"));
    assert!(libc.contains("libc") || libc.contains("musl"), "{libc}");
    assert!(chosen(&patch, "puts")[0].starts_with("slot exe+"));
}

/// The program has its own copy of `environ`; `_environ` still is the library's, as ld.so has it. That deserves a word.
#[test]
fn copied_variables() {
    let lab = Lab::new();
    lab.cc("exe", "-O1 -no-pie", "#include <stdio.h>\nextern char **environ; __attribute__((noinline)) int old(int a) { return a * 3 + 1000; } int main(int c, char **v) { (void)v; puts(*environ); return old(c); }");
    lab.cc(
        "fix.so",
        "-shared -fPIC",
        "extern char **environ, **_environ; int fresh(int a) { return a + (environ == _environ); }",
    );
    let out = lab.build(&["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("note: _environ is the original in libc.so.6") && text.contains("environ"), "{text}");
    let bytes = std::fs::read(lab.path("out.lpb")).unwrap();
    let patch = lpb::read(&bytes).unwrap().patch;
    assert_eq!(
        chosen(&patch, "environ@GLIBC_2.2.5"),
        [format!("exe+{:#x}", lab.nm("-D", "exe", "environ@GLIBC_2.2.5"))]
    );
    assert!(chosen(&patch, "_environ@GLIBC_2.2.5").last().unwrap().starts_with("libc.so.6+"));
}

/// A version that the target's library lacks is missing, even if the target has a local symbol of that name.
#[test]
fn a_missing_version_is_missing() {
    let lab = Lab::new();
    lab.write("lib.map", "V_2 { *; };");
    lab.cc("libv.so", "-shared -fPIC -Wl,--version-script=lib.map", "int gone(int a) { return a; }");
    lab.cc("fix.so", "-shared -fPIC -L. -lv", "int gone(int); int fresh(int a) { return gone(a); }");
    lab.cc("exe", "-O1", "static __attribute__((noinline, used)) int gone(int a) { return a * 3 + 1; } int old(int a) { return a * 3 + 1000; } int main(void) { return old(gone(1)); }");
    let args = ["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"];
    let text = lab.refused(4, &args);
    assert!(text.contains("undefined symbol gone@V_2 of libv.so") && text.contains("exe.c:gone"), "{text}");
    // With the library named, as for a program that opens it later, it is there.
    let bytes = lab.bundle(&[&args[..], &["--lib", "libv.so"]].concat());
    let want = format!("libv.so+{:#x}", lab.nm("", "libv.so", "gone"));
    assert_eq!(chosen(&lpb::read(&bytes).unwrap().patch, "gone@V_2"), [want]);
}

/// Breadth first over DT_NEEDED, each library found as ld.so finds it; what ldd says is the order.
#[test]
fn lookup_order() {
    let lab = Lab::new();
    let who = |n: u32| format!("int who(void) {{ return {n}; }} int lib{n}(void) {{ return {n}; }}");
    std::fs::create_dir_all(lab.path("deep/er")).unwrap();
    lab.cc("deep/er/libd.so", "-shared -fPIC", &who(4));
    lab.cc(
        "deep/liba.so",
        "-shared -fPIC -Ldeep/er -ld -Wl,--enable-new-dtags,-rpath,$ORIGIN/er",
        "int lib4(void); int lib1(void) { return lib4(); }",
    );
    lab.cc("deep/libc1.so", "-shared -fPIC", &who(3));
    let main = "int lib1(void), lib3(void), who(void); __attribute__((noinline)) int old(int a) { return a * 3 + 1000; } int main(int c, char **v) { (void)v; return old(c) + lib1() + lib3(); }";
    for tags in ["--enable-new-dtags", "--disable-new-dtags"] {
        let flags = format!("-Ldeep -la -lc1 -Wl,-rpath-link,deep/er -Wl,{tags},-rpath,$ORIGIN/deep");
        lab.cc("exe", &flags, main);
        lab.cc(
            "fix.so",
            "-shared -fPIC -nostdlib",
            "int who(void), lib4(void); int fresh(int a) { return a + who() + lib4(); }",
        );
        let args = ["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"];
        let bytes = lab.bundle(&args);
        let patch = lpb::read(&bytes).unwrap().patch;
        let third = format!("libc1.so+{:#x}", lab.nm("", "deep/libc1.so", "who"));
        let fourth = format!("libd.so+{:#x}", lab.nm("", "deep/er/libd.so", "lib4"));
        assert_eq!(chosen(&patch, "who").last(), Some(&third), "{tags}");
        assert_eq!(chosen(&patch, "lib4").last(), Some(&fourth), "{tags}");
        let ldd = lab.run("ldd ./exe");
        let [a, c1, d] = ["liba.so", "libc1.so", "libd.so"].map(|n| ldd.find(n).unwrap());
        assert!(a < c1 && c1 < d, "{ldd}");

        // A library that --lib names is taken instead of the one that would be found.
        lab.cc("libc1.so", "-shared -fPIC", &format!("int shift[64]; int f(void) {{ return 7; }} {}", who(3)));
        let bytes = lab.bundle(&[&args[..], &["--lib", "libc1.so"]].concat());
        let other = format!("libc1.so+{:#x}", lab.nm("", "libc1.so", "who"));
        assert_ne!(other, third);
        assert_eq!(chosen(&lpb::read(&bytes).unwrap().patch, "who").last(), Some(&other));

        std::fs::rename(lab.path("deep/er/libd.so"), lab.path("gone")).unwrap();
        let text = lab.refused(4, &args);
        assert!(text.contains("library libd.so, needed by liba.so, was not found") && text.contains("--lib"), "{text}");
        std::fs::rename(lab.path("gone"), lab.path("deep/er/libd.so")).unwrap();
    }
}
