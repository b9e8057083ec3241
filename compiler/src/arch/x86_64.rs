//! x86-64: relocation numbers and the few byte sequences that lp-compile writes.
//!
//! Source: System V ABI, AMD64 supplement, "Relocation Types"; Intel SDM vol. 2.

pub mod frames;
pub mod lazy;
pub mod preserve;
pub mod registers;
pub mod registrar;
pub mod tls;

use object::elf::{self, RelocationType};

/// What the dynamic linker does for a relocation, in words of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocKind {
    /// Load bias + addend.
    Relative,
    /// The symbol's address, in a GOT slot.
    GlobDat,
    /// The symbol's address, in a GOT slot that only calls go through; may be bound late.
    JumpSlot,
    /// The symbol's address + addend, in data.
    Abs64,
    /// What the resolver at the addend returns.
    IRelative,
    /// A variable of a library copied into the executable.
    Copy,
    /// Number of the module that has a thread-local variable; without a symbol: of the object itself.
    TlsModule,
    /// Offset of a thread-local variable in its module.
    TlsOffset,
    /// Offset of a thread-local variable from the thread pointer.
    TlsStatic,
    /// Two words: a function, and what it needs to find a thread-local variable.
    TlsDescriptor,
    /// Nothing to do.
    None,
    /// Anything else.
    Other,
}

impl RelocKind {
    /// A slot of the GOT.
    pub fn is_slot(self) -> bool {
        matches!(self, Self::GlobDat | Self::JumpSlot)
    }
}

/// The kind of a relocation number.
pub fn reloc_kind(number: u32) -> RelocKind {
    match RelocationType(number) {
        elf::R_X86_64_NONE => RelocKind::None,
        elf::R_X86_64_RELATIVE => RelocKind::Relative,
        elf::R_X86_64_GLOB_DAT => RelocKind::GlobDat,
        elf::R_X86_64_JUMP_SLOT => RelocKind::JumpSlot,
        elf::R_X86_64_64 => RelocKind::Abs64,
        elf::R_X86_64_IRELATIVE => RelocKind::IRelative,
        elf::R_X86_64_COPY => RelocKind::Copy,
        elf::R_X86_64_DTPMOD64 => RelocKind::TlsModule,
        elf::R_X86_64_DTPOFF64 => RelocKind::TlsOffset,
        elf::R_X86_64_TPOFF64 => RelocKind::TlsStatic,
        elf::R_X86_64_TLSDESC => RelocKind::TlsDescriptor,
        _ => RelocKind::Other,
    }
}

/// The name of a relocation number, as the ABI spells it.
pub fn reloc_name(number: u32) -> String {
    let name = match RelocationType(number) {
        elf::R_X86_64_NONE => "NONE",
        elf::R_X86_64_64 => "64",
        elf::R_X86_64_PC32 => "PC32",
        elf::R_X86_64_GOT32 => "GOT32",
        elf::R_X86_64_PLT32 => "PLT32",
        elf::R_X86_64_COPY => "COPY",
        elf::R_X86_64_GLOB_DAT => "GLOB_DAT",
        elf::R_X86_64_JUMP_SLOT => "JUMP_SLOT",
        elf::R_X86_64_RELATIVE => "RELATIVE",
        elf::R_X86_64_32 => "32",
        elf::R_X86_64_32S => "32S",
        elf::R_X86_64_16 => "16",
        elf::R_X86_64_8 => "8",
        elf::R_X86_64_PC64 => "PC64",
        elf::R_X86_64_DTPMOD64 => "DTPMOD64",
        elf::R_X86_64_DTPOFF64 => "DTPOFF64",
        elf::R_X86_64_TPOFF64 => "TPOFF64",
        elf::R_X86_64_TLSDESC => "TLSDESC",
        elf::R_X86_64_IRELATIVE => "IRELATIVE",
        elf::R_X86_64_SIZE32 => "SIZE32",
        elf::R_X86_64_SIZE64 => "SIZE64",
        _ => return format!("relocation type {number}"),
    };
    format!("R_X86_64_{name}")
}

/// `endbr64`, the landing pad of indirect branches.
pub const ENDBR64: [u8; 4] = [0xF3, 0x0F, 0x1E, 0xFA];
/// `int3`, which fills what must never run.
pub const INT3: u8 = 0xCC;
/// `jmp rel32`; the four bytes are a fix-up.
pub const JMP_REL32: [u8; 5] = [0xE9, 0, 0, 0, 0];
/// `push rax; lea rax, [rip+rel32]`; the four bytes are a fix-up. With [`PUSHED_RETURN`] behind it, it pushes an address and
/// changes no register and no flag.
pub const PUSH_RETURN: [u8; 8] = [0x50, 0x48, 0x8D, 0x05, 0, 0, 0, 0];
/// `xchg [rsp], rax`.
pub const PUSHED_RETURN: [u8; 4] = [0x48, 0x87, 0x04, 0x24];

/// `jcc rel32` for the condition code of a `jcc rel8` (`70+cc`) or `jcc rel32` (`0F 80+cc`).
pub fn jcc_rel32(condition: u8) -> [u8; 6] {
    [0x0F, 0x80 | (condition & 0x0F), 0, 0, 0, 0]
}

/// Bytes of a far thunk.
pub const FAR_LEN: usize = 16;
/// Where in a far thunk the address of the new code stands; 8-aligned.
pub const FAR_SLOT: u64 = 8;

/// `jmp *[rip+2]`, padding, and the address it reads (a fix-up): reaches any address and changes no register.
pub fn far_thunk() -> [u8; FAR_LEN] {
    [0xFF, 0x25, 0x02, 0, 0, 0, INT3, INT3, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Bytes of a gate thunk.
pub const GATE_LEN: usize = 40;
/// Where in a gate thunk the address of the gate word stands.
pub const GATE_WORD: u64 = 2;
/// Where in a gate thunk the address of the new code stands; 8-aligned.
pub const GATE_SLOT: u64 = 32;
const GATE_JE_END: i32 = 20;

/// To the new code if the gate word is not 0, else to `original`.
///
/// ```text
///  0  50                 push rax              rax counts the vector registers of a variadic call: keep it
///  1  A1 <gate>          mov eax, [gate]       absolute address, so the gate may lie anywhere
/// 10  85 C0              test eax, eax
/// 12  58                 pop rax
/// 13  0F 84 <original>   je original           flags carry nothing at a function's entry
/// 19  90                 nop                   (je ends at 19; the jump starts even)
/// 20  FF 25 06 00 00 00  jmp *[rip+6]
/// 26  CC x 6
/// 32  <new>              address of the new code
/// ```
/// `original`: distance in bytes from the thunk's start to the relocated prologue, in the same island.
pub fn gate_thunk(original: i32) -> [u8; GATE_LEN] {
    let je_end = GATE_JE_END.wrapping_sub(1);
    let [a, b, c, d] = original.wrapping_sub(je_end).to_le_bytes();
    [
        0x50, 0xA1, 0, 0, 0, 0, 0, 0, 0, 0, // push, mov
        0x85, 0xC0, 0x58, 0x0F, 0x84, a, b, c, d, 0x90, // test, pop, je, nop
        0xFF, 0x25, 0x06, 0, 0, 0, INT3, INT3, INT3, INT3, INT3, INT3, // jmp
        0, 0, 0, 0, 0, 0, 0, 0,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};
    use std::process::Command;

    /// What the bytes say, address by address, in iced's words.
    pub(super) fn listing(code: &[u8], at: u64) -> Vec<String> {
        let all = Decoder::with_ip(64, code, at, DecoderOptions::NONE).into_iter();
        all.map(|i| format!("{:#x} {}", i.ip(), crate::analyse::prologue::text(&i))).collect()
    }

    #[test]
    fn thunks_read_as_documented() {
        let gate = gate_thunk(-0x40);
        let want = [
            "0x1000 push rax",
            "0x1001 mov eax,[0]",
            "0x100a test eax,eax",
            "0x100c pop rax",
            "0x100d je 0xFC0",
            "0x1013 nop",
            "0x1014 jmp qword ptr [0x1020]",
        ];
        assert_eq!(listing(&gate[..26], 0x1000), want);
        assert_eq!((0x1000 + GATE_SLOT, GATE_SLOT % 8, gate.len()), (0x1020, 0, GATE_LEN));
        assert_eq!(gate[1], 0xA1);
        assert_eq!(GATE_WORD, 2);
        let far = far_thunk();
        assert_eq!(listing(&far[..6], 0x2000), ["0x2000 jmp qword ptr [0x2008]"]);
        assert_eq!((FAR_SLOT, far.len()), (8, FAR_LEN));
    }

    #[test]
    fn relocation_names() {
        // As readelf prints them.
        for (number, name, kind) in [
            (1, "R_X86_64_64", RelocKind::Abs64),
            (5, "R_X86_64_COPY", RelocKind::Copy),
            (6, "R_X86_64_GLOB_DAT", RelocKind::GlobDat),
            (7, "R_X86_64_JUMP_SLOT", RelocKind::JumpSlot),
            (8, "R_X86_64_RELATIVE", RelocKind::Relative),
            (16, "R_X86_64_DTPMOD64", RelocKind::TlsModule),
            (17, "R_X86_64_DTPOFF64", RelocKind::TlsOffset),
            (18, "R_X86_64_TPOFF64", RelocKind::TlsStatic),
            (36, "R_X86_64_TLSDESC", RelocKind::TlsDescriptor),
            (37, "R_X86_64_IRELATIVE", RelocKind::IRelative),
            (2, "R_X86_64_PC32", RelocKind::Other),
            (9999, "relocation type 9999", RelocKind::Other),
        ] {
            assert_eq!((reloc_name(number), reloc_kind(number)), (name.to_owned(), kind));
        }
    }

    /// What GNU as makes of the comments in the constant `name` of a source: each line ends with one instruction (or is
    /// a label), and a remark behind two spaces.
    pub(super) fn assembled(source: &str, name: &str) -> Vec<u8> {
        let (_, rest) = source.split_once(&format!("pub const {name}: [u8;")).unwrap();
        let (body, _) = rest.split_once("\n];").unwrap();
        let comments = body.lines().filter_map(|line| Some(line.split_once("// ")?.1));
        let lines = comments.map(|c| c.split_once("  ").map_or(c, |(code, _)| code)).collect::<Vec<_>>();
        let dir = tempfile::tempdir().unwrap();
        let [asm, object, binary] = ["code.s", "code.o", "code.bin"].map(|file| dir.path().join(file));
        std::fs::write(&asm, format!(".intel_syntax noprefix\n{}\n", lines.join("\n"))).unwrap();
        for command in [
            Command::new("as").arg(&asm).arg("-o").arg(&object),
            Command::new("objcopy").args(["-O", "binary", "-j", ".text"]).arg(&object).arg(&binary),
        ] {
            let out = command.output().unwrap();
            assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
        }
        std::fs::read(&binary).unwrap()
    }
}
