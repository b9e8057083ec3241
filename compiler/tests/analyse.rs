//! Analysis and layout: what the jump overwrites, what moves to the island, and what is refused. objdump is the judge.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod common;

use common::Lab;
use lpb::{AreaOff, Change, Form, Jump, LinkAddr, Patch, Value};

/// Functions in assembly: nothing in them depends on a compiler.
const PROGRAM: &str = r#"
    .text
    .globl main, plain, pad, pushes, relative, immediate, short_jcc, long_jcc, calls, leaves, loops, tiny, packed, self, counted, getpc, sized0
    .macro fn name
    .balign 16, 0x90
    .type \name, @function
\name:
    .endm
    .macro end name
    .size \name, . - \name
    .endm
fn main
    xor %eax, %eax
    ret
end main
fn plain
    endbr64
    push %rbp
    mov %rsp, %rbp
    mov %edi, -4(%rbp)
    pop %rbp
    ret
end plain
fn pad
    ret
end pad
fn pushes
    push %r15
    push %r14
    push %r13
    pop %r13
    pop %r14
    pop %r15
    ret
end pushes
fn relative
    lea data(%rip), %rax
    mov (%rax), %eax
    ret
end relative
fn immediate
    cmpl $0x12345678, data(%rip)
    sete %al
    ret
end immediate
fn short_jcc
    test %edi, %edi
    js 1f
    mov $1, %eax
1:  ret
end short_jcc
fn long_jcc
    cmp $5, %edi
    jne.d32 relative
    ret
end long_jcc
fn calls
    call plain
    ret
end calls
fn leaves
    jmp plain
end leaves
fn loops
    mov $9, %ecx
1:  dec %ecx
    jnz 1b
    ret
end loops
fn counted
    mov %edi, %ecx
    loop 1f
    xor %eax, %eax
1:  ret
end counted
fn getpc
    call 1f
1:  pop %rax
    ret
end getpc
fn self
    dec %edi
1:  test %edi, %edi
    jg 1b
    ret
end self
fn tiny
    ret
end tiny
fn doubled
    xor %eax, %eax
    .type second, @function
second:
    xor %edx, %edx
    xor %ecx, %ecx
    ret
    .size second, . - second
end doubled
    .type packed, @function
packed:
    nop
    ret
end packed
    .type after, @function
after:
    ret
    .size after, 1
fn sized0
    mov %edi, %eax
    add $3, %eax
    ret
    .balign 16
    .type intruder, @function
intruder:
    jmp entered + 2
    .size intruder, . - intruder
    .globl entered
fn entered
    xor %eax, %eax
    xor %edx, %edx
    ret
end entered
    .data
    .globl data
data: .long 7
    .section .note.GNU-stack,"",@progbits
"#;

fn jump<'a>(patch: &'a Patch<'_>, name: &str) -> &'a Jump<'a> {
    let redirect = patch.redirects.iter().find(|r| r.name == name).unwrap();
    let Change::Jump(jump) = &redirect.change else { panic!("{redirect:?}") };
    jump
}

/// Bytes of the island from `from` on, with every displacement written as if module and island lay at bias 0 and `base`.
fn island(patch: &Patch<'_>, jump: &Jump<'_>, base: u64) -> Vec<u8> {
    let mut code = patch.areas[usize::from(jump.island.0)].segments[0].data.to_vec();
    for f in patch.fixups.iter().filter(|f| f.area == jump.island && f.form == Form::Rel32) {
        let Value::Module { addr, .. } = f.candidates[0].value else { panic!("{f:?}") };
        let value = addr.0.wrapping_add_signed(f.candidates[0].delta).wrapping_sub(base + f.place.0).cast_signed();
        let at = usize::try_from(f.place.0).unwrap();
        code[at..at + 4].copy_from_slice(&i32::try_from(value).unwrap().to_le_bytes());
    }
    code
}

/// Instructions as objdump prints them, without addresses, bytes, symbol names and jump lengths.
fn instructions(text: &str) -> Vec<String> {
    let line = |l: &str| {
        let text = l.split('\t').nth(2)?.split('#').next()?.split('<').next()?.trim().to_owned();
        let (op, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let op = op.strip_suffix(".d32").unwrap_or(op);
        Some(format!("{op} {}", rest.trim().replace("0x", "")))
    };
    text.lines().filter_map(line).collect()
}

/// The moved code means what the old code meant: objdump prints the same instructions with the same targets.
#[test]
fn prologues_move() {
    let lab = Lab::new();
    lab.write("exe.s", PROGRAM);
    lab.run("cc -o exe exe.s");
    let base = 0x1000_0000_u64;
    // Function, instructions moved, whether a jump back follows.
    let rows = [
        ("plain", 3, true),
        ("pad", 1, false),
        ("pushes", 3, true),
        ("relative", 1, true),
        ("immediate", 1, true),
        ("short_jcc", 3, true),
        ("long_jcc", 2, true),
        ("leaves", 1, false),
        ("loops", 1, true),
        ("sized0", 2, true),
    ];
    lab.cc("fix.so", "-shared -fPIC -nostdlib", "int fresh(int a) { return a; }");
    for (name, moved, returns) in rows {
        let replace = format!("{name}=fresh");
        let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", &replace]);
        let patch = lpb::read(&bytes).unwrap().patch;
        let jump = jump(&patch, name);
        assert_eq!(jump.function.0, lab.nm("", "exe", name));
        let skip = if name == "plain" { 4 } else { 0 };
        assert_eq!(jump.site.0, jump.function.0 + skip, "{name}");
        assert!(jump.gate.is_none() && patch.gate.is_none(), "one jump needs no gate");

        let old = lab.run(&format!("objdump -d --no-show-raw-insn --start-address={} exe", jump.site.0));
        let old = instructions(&old.replace(":\t", ":\t\t"));
        let start = usize::try_from(jump.original.unwrap().0).unwrap();
        std::fs::write(lab.path("island"), island(&patch, jump, base)).unwrap();
        let skip = u64::try_from(start).unwrap() + skip;
        let new = lab.run(&format!(
            "objdump -D -b binary -m i386:x86-64 --no-show-raw-insn --adjust-vma={base} --start-address={} island",
            base + skip
        ));
        let new = instructions(&new.replace(":\t", ":\t\t"));
        let relative = |lines: &[String]| lines.iter().map(|l| no_displacement(l)).collect::<Vec<_>>();
        assert_eq!(relative(&new[..moved]), relative(&old[..moved]), "{name}");
        if returns {
            let back = format!("jmp {:x}", next_address(&lab, jump.site, moved));
            assert_eq!(new[moved], back, "{name}");
        } else {
            assert_eq!(new[moved], "int3 ", "{name}");
        }
    }
}

/// The call goes where the old one went, and returns behind it.
#[test]
fn a_moved_call_returns_into_the_old_function() {
    let lab = Lab::new();
    lab.write("exe.s", PROGRAM);
    lab.run("cc -o exe exe.s");
    lab.cc("fix.so", "-shared -fPIC -nostdlib", "int fresh(int a) { return a; }");
    let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "calls=fresh"]);
    let patch = lpb::read(&bytes).unwrap().patch;
    let jump = jump(&patch, "calls");
    let old = lab.run(&format!("objdump -d --no-show-raw-insn --start-address={} exe", jump.site.0));
    let old = instructions(&old.replace(":\t", ":\t\t"));
    let base = 0x1000_0000;
    std::fs::write(lab.path("island"), island(&patch, jump, base)).unwrap();
    let start = base + jump.original.unwrap().0;
    let new = lab.run(&format!(
        "objdump -D -b binary -m i386:x86-64 --no-show-raw-insn --adjust-vma={base} --start-address={start} island"
    ));
    let back = format!("# 0x{:x}", next_address(&lab, jump.site, 1));
    assert!(new.lines().any(|l| l.contains("lea ") && l.ends_with(&back)), "no lea of {back} in {new}");
    let new = instructions(&new.replace(":\t", ":\t\t"));
    let want = ["push %rax", "lea RIP,%rax", "xchg %rax,(%rsp)", &old[0].replace("call", "jmp"), "int3 "];
    assert_eq!(new[..5].iter().map(|l| no_displacement(l)).collect::<Vec<_>>(), want);
}

/// A rip-relative operand has another displacement at another place; that its target is the same is checked by hand below.
fn no_displacement(line: &str) -> String {
    match line.split_once("(%rip)") {
        Some((head, tail)) => {
            format!("{}RIP{tail}", head.trim_end_matches(|c: char| c.is_ascii_hexdigit() || c == '-'))
        }
        None => line.to_owned(),
    }
}

fn next_address(lab: &Lab, site: LinkAddr, count: usize) -> u64 {
    let text = lab.run(&format!("objdump -d --no-show-raw-insn --start-address={} exe", site.0));
    let line = text.lines().filter(|l| l.contains(":\t")).nth(count).unwrap();
    u64::from_str_radix(line.trim().split(':').next().unwrap(), 16).unwrap()
}

#[test]
fn rip_relative_operands_keep_their_target() {
    let lab = Lab::new();
    lab.write("exe.s", PROGRAM);
    lab.run("cc -o exe exe.s");
    lab.cc("fix.so", "-shared -fPIC -nostdlib", "int fresh(int a) { return a; }");
    let data = lab.nm("", "exe", "data");
    for (name, behind) in [("relative", 4), ("immediate", 8)] {
        let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", &format!("{name}=fresh")]);
        let patch = lpb::read(&bytes).unwrap().patch;
        let fixup = patch.fixups.iter().find(|f| f.form == Form::Rel32).unwrap();
        let Value::Module { addr, .. } = fixup.candidates[0].value else { panic!("{fixup:?}") };
        assert_eq!((addr.0, fixup.candidates[0].delta), (data, -behind), "{name}");
    }
}

#[test]
fn what_cannot_take_a_jump_is_refused() {
    let lab = Lab::new();
    lab.write("exe.s", PROGRAM);
    lab.run("cc -o exe exe.s");
    lab.cc("fix.so", "-shared -fPIC -nostdlib", "int fresh(int a) { return a; }");
    for (name, words) in [
        ("counted", &["counted", "loop", "no form that can be moved"][..]),
        ("getpc", &["getpc", "reads its own address"]),
        ("self", &["self", "jg", "branches into the bytes"]),
        ("packed", &["packed", "2 bytes", "needs 5"]),
        ("doubled", &["doubled", "second at", "starts in the bytes"]),
        ("entered", &["entered", "intruder", "jmp"]),
        ("data", &["data", "not a function"]),
        ("pushs", &["pushs", "pushes"]),
    ] {
        let replace = format!("{name}=fresh");
        let text = lab.refused(4, &["--target", "exe", "--patch", "fix.so", "--replace", &replace]);
        assert_eq!(text.matches("error: ").count(), 1, "{name}: {text}");
        assert!(words.iter().all(|w| text.contains(w)), "{name}: not all of {words:?} in {text}");
    }
}

/// Parts that the compiler split off belong to the function; those of a namesake in another file do not.
#[test]
fn cold_parts() {
    let lab = Lab::new();
    let source = |name: &str| {
        format!(
            "extern void fail(int) __attribute__((cold, noreturn));
             static __attribute__((noinline)) int work(int a) {{ if (a > 100) fail(a); return a * 7 + {}; }}
             int {name}(int a) {{ return work(a) + 1; }}",
            name.len()
        )
    };
    lab.write("one.c", &source("one"));
    lab.write("second.c", &source("second"));
    lab.write("main.c", "#include <stdlib.h>\nint one(int); int second(int); void fail(int a) { exit(a); } int main(int c, char **v) { (void)v; return one(c) + second(c); }");
    lab.run("cc -O2 -o exe one.c second.c main.c");
    lab.cc("fix.so", "-shared -fPIC -nostdlib", "int fresh(int a) { return a; }");
    for file in ["one.c", "second.c"] {
        let bytes = lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", &format!("{file}:work=fresh")]);
        let patch = lpb::read(&bytes).unwrap().patch;
        let parts: Vec<_> = jump(&patch, "work").fragments.iter().map(|f| f.name.to_string()).collect();
        assert_eq!(parts, ["work", "work.cold"], "{file}");
        let symbols = lab.run("nm -p exe");
        let own = symbols.lines().filter(|l| l.ends_with(" work.cold")).nth(usize::from(file == "second.c")).unwrap();
        let own = u64::from_str_radix(own.split(' ').next().unwrap(), 16).unwrap();
        assert_eq!(jump(&patch, "work").fragments[1].addr.0, own, "{file}");
    }
}

/// Two jumps: one gate word in writable memory, a gate thunk each, and objdump reads the thunk as it is documented.
#[test]
fn several_functions_share_a_gate() {
    let lab = Lab::new();
    lab.write("exe.s", PROGRAM);
    lab.run("cc -o exe exe.s");
    lab.cc("fix.so", "-shared -fPIC -nostdlib", "int a(int x) { return x; } int b(int x) { return x + 1; }");
    let bytes =
        lab.bundle(&["--target", "exe", "--patch", "fix.so", "--replace", "relative=a", "--replace", "pushes=b"]);
    let patch = lpb::read(&bytes).unwrap().patch;
    let (area, word) = patch.gate.unwrap();
    for (name, new) in [("relative", "a"), ("pushes", "b")] {
        let jump = jump(&patch, name);
        let gate = jump.gate.unwrap();
        let code = island(&patch, jump, 0);
        std::fs::write(lab.path("island"), &code).unwrap();
        let text = lab.run(&format!(
            "objdump -D -b binary -m i386:x86-64 --no-show-raw-insn --start-address={} --stop-address={} island",
            gate.0,
            gate.0 + 26
        ));
        let original = jump.original.unwrap();
        assert_eq!(
            instructions(&text.replace(":\t", ":\t\t")),
            [
                "push %rax".to_owned(),
                "movabs 0,%eax".to_owned(),
                "test %eax,%eax".to_owned(),
                "pop %rax".to_owned(),
                format!("je {:x}", original.0),
                "nop ".to_owned(),
                "jmp *6(%rip)".to_owned(),
            ],
            "{text}"
        );
        let value = |off: u64| {
            let at = AreaOff(off);
            patch.fixups.iter().find(|f| f.area == jump.island && f.place == at).unwrap().candidates[0].value
        };
        assert_eq!(value(gate.0 + 2), Value::Patch { area, off: word });
        let target = Value::Patch { area: lpb::AreaId(0), off: AreaOff(lab.nm("", "fix.so", new)) };
        assert_eq!([value(gate.0 + 32), value(jump.far.unwrap().0 + 8)], [target; 2]);
    }
}
