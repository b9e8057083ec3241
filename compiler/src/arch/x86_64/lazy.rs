//! Calls of an IFUNC that no slot of the target holds: the first call asks its resolver, as the dynamic linker would.
//!
//! ```text
//! import of the patch ──► thunk:  jmp *[slot]           slot (RW) ──► after the first call: the implementation
//!                                                            └──► before: the thunk's second half
//!                         second half: descriptor on the stack, jmp bind
//!                                                                    │
//!                         descriptor: { resolver, &slot } ◄── bind: saves every register, slot = resolver(), goes there
//! ```
//! A resolver may use any register that a C function may, also vector ones, while these hold the caller's arguments. So
//! `bind` saves all of them, as wide as the processor and kernel have them. Several threads may bind at once: each stores
//! the same word. An unwinder that is told of the patch is told of this code too: a resolver may look at its callers.
//!
//! Source: System V ABI, AMD64 supplement, 3.2.3 "Parameter Passing"; Intel SDM vol. 1, 13.1 to 13.8 (XSAVE), vol. 2
//! (each instruction); glibc manual, `__attribute__((ifunc))`: on x86-64 a resolver takes no arguments.

use super::INT3;
use super::frames::Described;
use lpb::AreaOff;
use lpb::addr::to_u64;

/// Bytes of a thunk, and its alignment.
pub const THUNK_LEN: usize = 64;
/// Where in a thunk the half that binds begins: what the slot holds at first.
pub const THUNK_BIND: u64 = 16;
/// Where in a thunk the address of the resolver stands.
pub const THUNK_RESOLVER: u64 = 40;
/// Where in a thunk the address of the slot stands.
pub const THUNK_SLOT: u64 = 48;

/// Calls through the slot.
///
/// ```text
///  0  F3 0F 1E FA            endbr64
///  4  FF 25 <slot>           jmp *[rip+slot]
/// 10  CC x 6
/// 16  F3 0F 1E FA            endbr64               the slot points here at first
/// 20  50                     push rax
/// 21  48 8D 05 0C 00 00 00   lea rax, [rip+12]     the descriptor, at 40
/// 28  48 87 04 24            xchg [rsp], rax       it is on the stack; rax is as it was
/// 32  E9 <bind>              jmp bind
/// 37  CC x 3
/// 40  <resolver>             fix-up
/// 48  <address of the slot>  fix-up
/// 56  CC x 8
/// ```
/// `slot`, `bind`: distance in bytes from the thunk's start, all in one area.
pub fn thunk(slot: i32, bind: i32) -> [u8; THUNK_LEN] {
    const JMP_END: i32 = 10;
    const BIND_END: i32 = 37;
    let [s0, s1, s2, s3] = slot.wrapping_sub(JMP_END).to_le_bytes();
    let [b0, b1, b2, b3] = bind.wrapping_sub(BIND_END).to_le_bytes();
    let mut code = [INT3; THUNK_LEN];
    let head = [
        0xF3, 0x0F, 0x1E, 0xFA, 0xFF, 0x25, s0, s1, s2, s3, // endbr64, jmp
        INT3, INT3, INT3, INT3, INT3, INT3, 0xF3, 0x0F, 0x1E, 0xFA, // endbr64
        0x50, 0x48, 0x8D, 0x05, 0x0C, 0x00, 0x00, 0x00, // push, lea
        0x48, 0x87, 0x04, 0x24, 0xE9, b0, b1, b2, b3, INT3, INT3, INT3, // xchg, jmp
    ];
    code.iter_mut().zip(head).for_each(|(to, from)| *to = from);
    code
}

/// Entered by a thunk: `[rsp]` is its descriptor, `[rsp+8]` the caller's return address; all else is as at the call.
///
/// The state components 0 to 2 and 5 to 7 may hold arguments or are clobbered by ordinary code: x87, SSE, AVX, AVX-512.
/// Others (tiles, protection keys) are no business of a resolver. The save area takes `max(offset + size)` of those that
/// XCR0 enables, so that it stays below 3 KiB where XCR0 has tiles too: the caller may be on a small signal stack.
pub const BIND: [u8; 200] = [
    0x55, // push rbp
    0x48, 0x89, 0xE5, // mov rbp, rsp              [rbp+8] is the descriptor
    0x50, // push rax                  the number of vector arguments of a variadic call
    0x53, // push rbx                  cpuid writes it
    0x51, // push rcx
    0x52, // push rdx
    0x56, // push rsi
    0x57, // push rdi
    0x41, 0x50, // push r8
    0x41, 0x51, // push r9
    0x41, 0x52, // push r10                  static chain
    0x41, 0x53, // push r11
    0xB8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
    0x0F, 0xA2, // cpuid
    0x0F, 0xBA, 0xE1, 0x1B, // bt ecx, 27                OSXSAVE: the kernel has enabled xsave
    0x73, 0x52, // jae legacy
    0x31, 0xC9, // xor ecx, ecx
    0x0F, 0x01, 0xD0, // xgetbv                    edx:eax = XCR0
    0x25, 0xE4, 0x00, 0x00, 0x00, // and eax, 0xE4             components 2, 5, 6, 7
    0x89, 0xC6, // mov esi, eax
    0xBF, 0x40, 0x02, 0x00, 0x00, // mov edi, 576              legacy area and header: x87 and SSE
    // next:
    0x0F, 0xBC, 0xCE, // bsf ecx, esi
    0x74, 0x13, // je save
    0x0F, 0xB3, 0xCE, // btr esi, ecx
    0xB8, 0x0D, 0x00, 0x00, 0x00, // mov eax, 0xD
    0x0F, 0xA2, // cpuid                     eax = size, ebx = offset of component ecx
    0x01, 0xD8, // add eax, ebx
    0x39, 0xC7, // cmp edi, eax
    0x0F, 0x42, 0xF8, // cmovb edi, eax
    0xEB, 0xE8, // jmp next
    // save:
    0x48, 0x29, 0xFC, // sub rsp, rdi
    0x48, 0x83, 0xE4, 0xC0, // and rsp, -64              as xsave wants it; a call is 16-aligned too
    0x31, 0xC0, // xor eax, eax
    0x48, 0x8D, 0xBC, 0x24, 0x00, 0x02, 0x00, 0x00, // lea rdi, [rsp+512]        the header
    0xB9, 0x08, 0x00, 0x00, 0x00, // mov ecx, 8
    0xF3, 0x48, 0xAB, // rep stosq                 xrstor refuses garbage there
    0xBB, 0xE7, 0x00, 0x00, 0x00, // mov ebx, 0xE7             kept by the resolver: what to restore
    0x89, 0xD8, // mov eax, ebx
    0x31, 0xD2, // xor edx, edx
    0x48, 0x0F, 0xAE, 0x24, 0x24, // xsave64 [rsp]
    0xEB, 0x12, // jmp resolve
    // legacy:
    0x48, 0x81, 0xEC, 0x00, 0x02, 0x00, 0x00, // sub rsp, 512
    0x48, 0x83, 0xE4, 0xC0, // and rsp, -64
    0x31, 0xDB, // xor ebx, ebx              nothing for xrstor
    0x48, 0x0F, 0xAE, 0x04, 0x24, // fxsave64 [rsp]
    // resolve:
    0x48, 0x8B, 0x45, 0x08, // mov rax, [rbp+8]
    0xFF, 0x10, // call [rax]
    0x48, 0x8B, 0x4D, 0x08, // mov rcx, [rbp+8]
    0x48, 0x8B, 0x49, 0x08, // mov rcx, [rcx+8]
    0x48, 0x89, 0x01, // mov [rcx], rax            8 aligned bytes: later calls go there at once
    0x48, 0x89, 0x45, 0x08, // mov [rbp+8], rax
    0x89, 0xD8, // mov eax, ebx
    0x31, 0xD2, // xor edx, edx
    0x85, 0xDB, // test ebx, ebx
    0x74, 0x07, // je legacy2
    0x48, 0x0F, 0xAE, 0x2C, 0x24, // xrstor64 [rsp]
    0xEB, 0x05, // jmp done
    // legacy2:
    0x48, 0x0F, 0xAE, 0x0C, 0x24, // fxrstor64 [rsp]
    // done:
    0x48, 0x8D, 0x65, 0xB0, // lea rsp, [rbp-80]
    0x41, 0x5B, // pop r11
    0x41, 0x5A, // pop r10
    0x41, 0x59, // pop r9
    0x41, 0x58, // pop r8
    0x5F, // pop rdi
    0x5E, // pop rsi
    0x5A, // pop rdx
    0x59, // pop rcx
    0x5B, // pop rbx
    0x58, // pop rax
    0x5D, // pop rbp
    0x48, 0x8D, 0x64, 0x24, 0x08, // lea rsp, [rsp+8]          the caller's return address is on top again
    0xFF, 0x64, 0x24, 0xF8, // jmp [rsp-8]               in the red zone: signal handlers leave it alone
];

/// What an unwinder has to know of `bind` at `start`. Below the return address is the descriptor.
pub fn bind_described(start: AreaOff) -> Described {
    let mut rules = vec![0x0E, 16]; // CFA = rsp+16
    rules.extend([0x41, 0x0E, 24, 0x86, 3]); // 1: CFA = rsp+24, rbp at CFA-24
    rules.extend([0x43, 0x0D, 6]); // 4: CFA = rbp+24
    rules.extend([0x42, 0x83, 5]); // 6: rbx at CFA-40
    rules.extend([0x02, 183, 0xC3]); // 189: rbx as it is
    rules.extend([0x42, 0x0C, 7, 16, 0xC6]); // 191: CFA = rsp+16, rbp as it is
    rules.extend([0x45, 0x0E, 8]); // 196: CFA = rsp+8
    Described { start, len: to_u64(BIND.len()), rules }
}

/// What an unwinder has to know of a thunk at `start`: it pushes one word.
pub fn thunk_described(start: AreaOff) -> Described {
    Described { start, len: to_u64(THUNK_LEN), rules: vec![0x40 | 21, 0x0E, 16] }
}

#[cfg(test)]
mod tests {
    use super::super::frames;
    use super::super::tests::{assembled, listing};
    use super::*;
    use gimli::{
        BaseAddresses, CfaRule, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext, UnwindSection as _,
    };

    #[test]
    fn a_thunk_goes_through_its_slot_and_binds() {
        let code = thunk(0x1000, -0x100);
        assert_eq!(listing(&code[..10], 0x1000), ["0x1000 endbr64", "0x1004 jmp qword ptr [0x2000]"]);
        let bind = [
            "0x1010 endbr64",
            "0x1014 push rax",
            "0x1015 lea rax,[0x1028]",
            "0x101c xchg [rsp],rax",
            "0x1020 jmp 0xF00",
        ];
        assert_eq!(listing(&code[16..37], 0x1010), bind);
        assert_eq!(0x1000 + THUNK_RESOLVER, 0x1028);
    }

    #[test]
    fn the_bytes_are_what_the_comments_say() {
        assert_eq!(assembled(include_str!("lazy.rs"), "BIND"), BIND);
    }
    /// What gimli reads out of the table, where an instruction has changed something: (CFA register and offset, where rbp
    /// and rbx are).
    #[test]
    fn every_instruction_can_be_unwound() {
        const BASE: u64 = 0x1000;
        let table = frames::table(AreaOff(0x3000), &[thunk_described(AreaOff(0x2000)), bind_described(AreaOff(BASE))]);
        let table = EhFrame::new(&table, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(0x3000);
        let mut context = UnwindContext::new();
        let instructions = listing(&BIND, BASE);
        let behind = |text: &str| {
            let found = instructions.iter().rposition(|line| line.ends_with(text)).unwrap_or_else(|| panic!("{text}"));
            let address = instructions[found + 1].split_once(' ').unwrap().0;
            u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap()
        };
        let first = |text: &str| instructions.iter().position(|line| line.ends_with(text)).unwrap();
        assert_eq!([first("push rbp"), first("mov rbp,rsp"), first("push rbx")], [0, 1, 3]);
        for (at, cfa, rbp, rbx) in [
            (0x2000, (7, 8), None, None),
            (0x2000 + 20, (7, 8), None, None),
            (0x2000 + 21, (7, 16), None, None),
            (BASE, (7, 16), None, None),
            (behind("push rbp"), (7, 24), Some(-24), None),
            (behind("mov rbp,rsp"), (6, 24), Some(-24), None),
            (behind("push rbx"), (6, 24), Some(-24), Some(-40)),
            (behind("call qword ptr [rax]"), (6, 24), Some(-24), Some(-40)),
            (behind("pop rcx"), (6, 24), Some(-24), Some(-40)),
            (behind("pop rbx"), (6, 24), Some(-24), None),
            (behind("pop rax"), (6, 24), Some(-24), None),
            (behind("pop rbp"), (7, 16), None, None),
            (behind("lea rsp,[rsp+8]"), (7, 8), None, None),
        ] {
            let row = table.unwind_info_for_address(&bases, &mut context, at, EhFrame::cie_from_offset).unwrap();
            let (register, offset) = cfa;
            assert_eq!(*row.cfa(), CfaRule::RegisterAndOffset { register: Register(register), offset }, "at {at:#x}");
            for (number, want) in [(6, rbp), (3, rbx), (16, Some(-8))] {
                assert_eq!(row.register(Register(number)), want.map(RegisterRule::Offset), "{number} at {at:#x}");
            }
        }
    }
}
