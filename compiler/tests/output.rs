//! What comes out: the same bytes from anywhere, documents for programs, pages for people, data writes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod common;

use common::{Lab, lp_compile, short};
use lpb::{Change, Patch};

const TARGET: &str = r#"
#include <stdio.h>
int level = 3; char name[16] = "old"; static volatile long hidden = 4; short zeros[8];
static void first(void) { puts("first"); } void second(void) { puts("second"); }
void (*hook)(void) = first; void (*library)(const char *) = (void (*)(const char *))puts; extern char **environ;
__attribute__((noinline)) int old(int a) { return a * 3 + level; }
int main(int c, char **v) { hook(); library(v[0]); puts(name); zeros[1] = 2; puts(*environ); return old(c) + (int)hidden; }
"#;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.cc("exe", "-O1", TARGET);
    lab.cc("fix.so", "-shared -fPIC -O1", "#include <stdio.h>\nint fresh(int a) { puts(\"x\"); return a; }");
    lab
}

const ARGS: [&str; 6] = ["--target", "exe", "--patch", "fix.so", "--replace", "old=fresh"];

#[test]
fn same_inputs_same_bytes() {
    let [one, two] = [lab(), Lab::new()];
    std::fs::create_dir(two.path("deep")).unwrap();
    for file in ["exe", "fix.so"] {
        std::fs::copy(one.path(file), two.path("deep").join(file)).unwrap();
    }
    let first = one.bundle(&ARGS);
    let full = two.path("deep/exe");
    let second = two.bundle(&["--target", full.to_str().unwrap(), "--patch", "deep/fix.so", "--replace", "old=fresh"]);
    assert_eq!(first, second);
    let text = String::from_utf8_lossy(&first).into_owned();
    assert!(!text.contains(one.dir().to_str().unwrap()), "a path of this machine is in the bundle");
}

/// What `--json` of inspect prints can be read back into the very patch.
#[test]
fn documents() {
    let lab = lab();
    let out = lab.build(&[&ARGS[..], &["--json", "--cve", "CVE-2024-1", "--description", "why"]].concat());
    let built: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let bytes = std::fs::read(lab.path("out.lpb")).unwrap();
    let bundle = lpb::read(&bytes).unwrap();
    assert_eq!(built["bundle"]["digest"], bundle.digest.to_string());
    assert_eq!(built["report"]["replacements"][0]["old"], "old");

    let out = lp_compile(lab.dir(), ["inspect", "out.lpb", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(document["digest"], bundle.digest.to_string());
    assert_eq!(document["meta"]["cve"][0], "CVE-2024-1");
    let mut patch = document["patch"].clone();
    patch["meta"] = bundle.patch.meta.as_ref().into();
    let again: Patch<'_> = serde_json::from_value(patch).unwrap();
    assert_eq!(again, bundle.patch);
    assert_eq!(lpb::write(&again).unwrap(), bytes);

    let out = lab.build(&["--json", "--target", "exe", "--patch", "fix.so", "--replace", "oId=fresh"]);
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((out.status.code(), &document["exit"]), (Some(4), &4.into()));
    assert!(document["errors"][0]["message"].as_str().unwrap().contains("oId"));
    assert!(document["errors"][0]["hint"].as_str().unwrap().contains("old"));
}

#[test]
fn pages() {
    let lab = lab();
    let bytes = lab.bundle(&[&ARGS[..], &["--set", "level=int:9", "--cve", "CVE-2024-1"]].concat());
    let digest = lpb::read(&bytes).unwrap().digest;
    let page = String::from_utf8(lp_compile(lab.dir(), ["inspect", "out.lpb"]).stdout).unwrap();
    let old = format!("function old of exe at {:#x}", lab.nm("", "exe", "old"));
    let level = format!("data level of exe at {:#x}, 4 bytes", lab.nm("", "exe", "level"));
    let words = [
        &digest.to_string(),
        "CVE-2024-1",
        "Signed       no",
        &old,
        &level,
        "from  03 00 00 00",
        "to    09 00 00 00",
        "puts@GLIBC_2.2.5",
        "what the slot exe+",
        "libc.so.6+0x",
        "new code",
        "(fresh)",
        "old code",
    ];
    assert!(words.iter().all(|w| page.contains(w)), "not all of {words:?} in\n{page}");
    // Not a bundle, cut off, damaged: exit 3 and no page.
    lab.write("text", "no bundle");
    std::fs::write(lab.path("cut"), &bytes[..bytes.len() / 2]).unwrap();
    let mut damaged = bytes;
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(lab.path("damaged"), damaged).unwrap();
    for file in ["text", "cut", "damaged"] {
        let out = lp_compile(lab.dir(), ["inspect", file]);
        assert_eq!((out.status.code(), out.stdout.len()), (Some(3), 0), "{file}");
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(text.contains(file) && text.contains("hint: "), "{text}");
    }
}

/// Each row: option, address by symbol and offset, old and new bytes.
#[test]
fn data() {
    let lab = lab();
    for (set, symbol, offset, old, new) in [
        ("level=int:-2", "level", 0, &[3, 0, 0, 0][..], &[0xfe, 0xff, 0xff, 0xff][..]),
        ("name=str:new", "name", 0, b"old\0", b"new\0"),
        ("name+1=hex:4142", "name", 1, b"ld", b"AB"),
        ("exe.c:hidden=u64:4->5", "hidden", 0, &[4, 0, 0, 0, 0, 0, 0, 0], &[5, 0, 0, 0, 0, 0, 0, 0]),
        ("zeros+2=i16:7", "zeros", 2, &[0, 0], &[7, 0]),
    ] {
        let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--set", set]);
        let patch = lpb::read(&bytes).unwrap().patch;
        let Change::Data(data) = &patch.redirects[0].change else { panic!("{set}: {patch:?}") };
        assert_eq!(data.addr.0, lab.nm("", "exe", symbol) + offset, "{set}");
        assert_eq!((data.expected.as_ref(), data.new.as_ref()), (old, new), "{set}");
    }
    for (set, words) in [
        ("level=u64:1", &["level", "8 bytes", "4 bytes"][..]),
        ("name=str:a name that is too long", &["name", "16 bytes"]),
        ("old=int:1", &["old", "executable"]),
        ("hook=u64:1", &["hook", "the loader stores an address"]),
        ("environ=hex:0000000000000000", &["environ", "copy"]),
        ("name+1=addr:second", &["name", "8-aligned"]),
        ("lefel=int:1", &["lefel", "level"]),
    ] {
        let text = lab.refused(4, &["--target", "exe", "--patch", "fix.so", "--set", set]);
        assert!(words.iter().all(|w| text.contains(w)), "{set}: not all of {words:?} in {text}");
    }
    for set in ["level=int:x", "level=thing:1", "level", "=int:1"] {
        lab.refused(2, &["--target", "exe", "--patch", "fix.so", "--set", set]);
    }
}

#[test]
fn pointers() {
    for flags in ["", "-no-pie -fno-pie", "-Wl,-z,pack-relative-relocs"] {
        pointers_with(flags);
    }
}

fn pointers_with(flags: &str) {
    let lab = lab();
    lab.run(&format!("cc -O1 -o exe exe.c {flags}"));
    // A non-PIE program has its own addresses in the file already.
    let fixed = flags.contains("no-pie");
    let first = lab.nm("", "exe", "first");
    let named = format!("exe+{first:#x}");
    let stored = if fixed { format!("={first}") } else { named.clone() };
    let second = format!("exe+{:#x}", lab.nm("", "exe", "second"));
    let list = |patch: &Patch<'_>, c: &[lpb::Candidate]| c.iter().map(|c| short(patch, c)).collect::<Vec<_>>();
    for (set, old) in [("hook=addr:second", &stored), ("hook=addr:exe.c:first->second", &named)] {
        let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--set", set]);
        let patch = lpb::read(&bytes).unwrap().patch;
        let Change::Slot(slot) = &patch.redirects[0].change else { panic!("{set}: {patch:?}") };
        assert_eq!(slot.slot.0, lab.nm("", "exe", "hook"), "{set}");
        assert_eq!((list(&patch, &slot.expected), list(&patch, &slot.new)), (vec![old.clone()], vec![second.clone()]));
    }
    let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--set", "library=addr:second"]);
    let patch = lpb::read(&bytes).unwrap().patch;
    let Change::Slot(slot) = &patch.redirects[0].change else { panic!("{patch:?}") };
    let expected = list(&patch, &slot.expected);
    assert!(expected.last().unwrap().starts_with("libc.so.6+"), "{flags}: {expected:?}");
}

/// A file is written whole or not at all; a device stays a device.
#[test]
fn outputs() {
    let lab = lab();
    let out = lp_compile(lab.dir(), [&["build"], &ARGS[..], &["-o", "none/out.lpb"]].concat());
    assert_eq!(out.status.code(), Some(7));
    let out = lp_compile(lab.dir(), ["header", "-o", "/dev/full"]);
    assert_eq!(out.status.code(), Some(7));
    use std::os::unix::fs::FileTypeExt;
    assert!(std::fs::metadata("/dev/full").unwrap().file_type().is_char_device());
    let before = std::fs::read_dir(lab.dir()).unwrap().count();
    lab.write("exe2", "not an ELF file");
    lab.refused(3, &["--target", "exe2", "--patch", "fix.so", "--replace", "old=fresh"]);
    assert_eq!(std::fs::read_dir(lab.dir()).unwrap().count(), before + 1, "something was left");
}

/// Without a build-id, the ELF header and the program headers tell the build.
#[test]
fn builds() {
    let lab = lab();
    for (flags, has_id) in
        [("-Wl,--build-id", true), ("-Wl,--build-id=none", false), ("-fuse-ld=gold -Wl,--build-id=none", false)]
    {
        lab.run(&format!("cc -O1 -o exe exe.c {flags}"));
        let bytes = lab.bundle(&ARGS);
        let patch = lpb::read(&bytes).unwrap().patch;
        let build = &patch.modules[0].builds[0];
        let file = std::fs::read(lab.path("exe")).unwrap();
        if has_id {
            let notes = lab.run("readelf -nW exe");
            let id: String = build.build_id.iter().map(|b| format!("{b:02x}")).collect();
            assert!(notes.contains(&id) && id.len() == 40 && build.proof.is_empty(), "{notes}");
            // The first PT_LOAD starts at file offset 0 and address 0.
            let at = usize::try_from(build.build_id_addr.0).unwrap();
            assert_eq!(file[at..at + 20], build.build_id[..]);
        } else {
            let headers = 64 + 56 * usize::from(file[56]); // e_phnum
            assert_eq!((build.build_id.len(), build.proof.as_ref()), (0, &file[..headers]), "{flags}");
        }
        let loads = lab.run("readelf -lW exe").lines().filter(|l| l.trim_start().starts_with("LOAD")).count();
        assert_eq!(build.segments.len(), loads);
    }
}
