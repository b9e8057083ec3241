//! Which values are certain in every process, and which only where no unexpected module is loaded; and what is expected.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{Lab, fixup, short};
use lpb::{Change, Patch};

/// All candidates in short, `?` in front of those that an unexpected module makes uncertain.
fn marked(patch: &Patch<'_>, name: &str) -> Vec<String> {
    let mark = |c: &lpb::Candidate| format!("{}{}", if c.closed { "?" } else { "" }, short(patch, c));
    fixup(patch, name).candidates.iter().map(mark).collect()
}

const EXE: &str = "
int shared(int), hooked(int);
int mine(int a) { return a; }
static __attribute__((noinline)) int hidden(int a) { return a * 5; }
__attribute__((noinline)) int old(int a) { return hidden(shared(a)); }
int (*hook)(int) = hooked;
int main(void) { return old(1); }
";
const LIBRARY: &str = "
int shared(int a) { return a; }
int hooked(int a) { return a; }
int spare(int a) { return a; }
__attribute__((visibility(\"protected\"))) int guarded(int a) { return a; }
";
const FIX: &str = "
int shared(int), spare(int), guarded(int), mine(int), hidden(int), named(int);
__attribute__((weak)) int perhaps(int);
int own(int a) { return a; }
void *memcpy(void *, const void *, unsigned long);
int fresh(int a) {
    char copy[100];
    memcpy(copy, &a, (unsigned long)a);
    return shared(a) + spare(a) + guarded(a) + mine(a) + hidden(a) + named(a) + own(a) + copy[a] + (perhaps ? perhaps(a) : 0);
}
";

#[test]
fn only_a_slot_tells_what_came_first() {
    let lab = Lab::new();
    lab.cc("libs.so", "-shared -fPIC -Wl,-soname,libs.so -Wl,--no-as-needed", LIBRARY);
    lab.cc("exe", "-O1 -rdynamic -L. -ls -Wl,-rpath,$ORIGIN -Wl,-z,lazy", EXE);
    lab.cc("fix.so", "-shared -fPIC -O1 -fno-builtin", FIX);
    let args = ["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh", "--bind", "named=libs.so:spare"];
    let bytes = lab.bundle(&[&args[..], &["--set", "hook=addr:spare"]].concat());
    let patch = &lpb::read(&bytes).unwrap().patch;
    let last = |name: &str| marked(patch, name).pop().unwrap();
    let first = |name: &str| marked(patch, name).swap_remove(0);
    let lib = |name: &str| format!("libs.so+{:#x}", lab.nm("-D", "libs.so", name));
    let exe = |name: &str| format!("exe+{:#x}", lab.nm("", "exe", name));

    assert!(first("shared").starts_with("slot exe+"), "the program's own slot shows it: {}", first("shared"));
    for (why, name, want) in [
        ("found by name", "shared", format!("?{}", lib("shared"))),
        ("found by name, no slot", "spare", format!("?{}", lib("spare"))),
        ("protected, but the patch is none of its library's code", "guarded", format!("?{}", lib("guarded"))),
        ("the program comes first", "mine", exe("mine")),
        ("not exported", "hidden", exe("hidden")),
        ("said by --bind", "named", lib("spare")),
        ("weak", "perhaps", "?=0".to_owned()),
        ("weak, but only start files use it", "__gmon_start__", "=0".to_owned()),
    ] {
        assert_eq!(last(name), want, "{why}");
    }
    let memcpy = &marked(patch, "memcpy@GLIBC_2.14");
    assert!(memcpy.iter().any(|c| c.starts_with("?slot libc.so.6+")), "what libc chose for itself: {memcpy:?}");
    assert!(!last("__cxa_finalize@GLIBC_2.2.5").starts_with('?'));

    let slot =
        patch.redirects.iter().find_map(|r| if let Change::Slot(s) = &r.change { Some(s) } else { None }).unwrap();
    assert!(slot.expected.iter().all(|c| !c.closed), "what stands there says for itself: {slot:?}");
    assert!(slot.new.last().unwrap().closed);
    let mut listed: Vec<_> = patch.modules.iter().map(|m| (m.name.as_ref(), m.optional)).collect();
    listed.sort_unstable();
    let want = [("exe", false), ("ld-linux-x86-64.so.2", true), ("libc.so.6", false), ("libs.so", false)];
    assert_eq!(listed, want);
}

/// The library is the target: what it binds to itself is certain, the rest is in the note.
#[test]
fn in_a_library_the_program_is_unknown() {
    let lab = Lab::new();
    let source = format!("{LIBRARY} int old(int a) {{ return a + 100 * guarded(a); }} int mine(int a) {{ return a; }}");
    let fix = "int spare(int), guarded(int); int fresh(int a) { return spare(a) + guarded(a); }";
    lab.cc("fix.so", "-shared -fPIC -O1", fix);
    let args = ["--target", "libs.so", "--patch", "fix.so", "--replace", "old=fresh"];
    for (flags, spare, note) in [("", "?", true), ("-Wl,-Bsymbolic", "", false)] {
        lab.cc("libs.so", &format!("-shared -fPIC -Wl,-soname,libs.so -Wl,--no-as-needed {flags}"), &source);
        let bytes = lab.bundle(&args);
        let patch = &lpb::read(&bytes).unwrap().patch;
        let at = |name: &str| format!("libs.so+{:#x}", lab.nm("-D", "libs.so", name));
        assert_eq!(marked(patch, "spare"), [format!("{spare}{}", at("spare"))], "{flags}");
        assert_eq!(marked(patch, "guarded"), [at("guarded")], "{flags}");
        let out = String::from_utf8(lab.build(&args).stdout).unwrap();
        assert_eq!(out.contains("who defines spare there"), note, "{out}");
    }
}

/// One that is named with --lib and defines the same name leaves only slots.
#[test]
fn a_rival_leaves_only_slots() {
    let lab = Lab::new();
    lab.cc("libs.so", "-shared -fPIC -Wl,-soname,libs.so -Wl,--no-as-needed", LIBRARY);
    lab.cc("rival.so", "-shared -fPIC", "int shared(int a) { return -a; } int spare(int a) { return -a; }");
    lab.cc("exe", "-O1 -L. -ls -Wl,-rpath,$ORIGIN", EXE);
    let args = ["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh", "--lib", "rival.so"];
    lab.cc("fix.so", "-shared -fPIC -O1", "int shared(int); int fresh(int a) { return shared(a); }");
    let bytes = lab.bundle(&args);
    let patch = &lpb::read(&bytes).unwrap().patch;
    assert!(marked(patch, "shared").iter().all(|c| c.starts_with("slot ")), "{:?}", marked(patch, "shared"));
    lab.cc("fix.so", "-shared -fPIC -O1", "int spare(int); int fresh(int a) { return spare(a); }");
    let text = lab.refused(4, &args);
    assert!(text.contains("libs.so and by rival.so") && text.contains("--bind spare=libs.so:spare"), "{text}");
}
