//! Thread-local variables of the target that a patch reaches through a function, where the function has to be ours.
//!
//! ```text
//! model of the patch      GOT entry          [0]               [1]                 what it asks
//! general dynamic         GOT pair           module, or        offset in module    __tls_get_addr(&pair)
//!                                            0                 offset from fs:0    ours: fs:0 + [1]
//!                                            -1                &borrowed           ours: asks the library's descriptor
//! descriptor (gnu2)       TLS descriptor     ours: static      offset from fs:0    [0], with rax = &descriptor
//!                                            ours: borrowed    &borrowed
//! borrowed                { fn, arg, delta } fn and arg: copied from a descriptor that the dynamic linker filled in the
//!                                            live process; delta: from that variable to the wanted one
//! ```
//! Source: "ELF Handling For Thread-Local Storage" (Drepper), 3.4.6; "TLS Descriptors for x86" (Oliva, Araujo).

use super::INT3;

/// The word of a pair that says: add the other one to the thread pointer.
pub const STATIC: u64 = 0;
/// The word of a pair that says: the other one is the address of a borrowed descriptor. No module has such a number.
pub const BORROWED: u64 = u64::MAX;

/// Where in [`GET_ADDR`] the address of the target's own `__tls_get_addr` stands.
pub const GET_ADDR_REAL: u64 = 64;

/// `__tls_get_addr` for the pairs above; others go to the target's own.
pub const GET_ADDR: [u8; 72] = [
    0xF3, 0x0F, 0x1E, 0xFA, // endbr64
    0x48, 0x8B, 0x07, // mov rax, [rdi]
    0x48, 0x85, 0xC0, // test rax, rax
    0x75, 0x0E, // jne 1f
    0x64, 0x48, 0x8B, 0x04, 0x25, 0x00, 0x00, 0x00, 0x00, // mov rax, fs:0
    0x48, 0x03, 0x47, 0x08, // add rax, [rdi+8]
    0xC3, // ret
    0x48, 0x83, 0xF8, 0xFF, // 1: cmp rax, -1
    0x74, 0x06, // je 2f
    0xFF, 0x25, 0x1A, 0x00, 0x00, 0x00, // jmp [rip+26]              the target's own
    0x48, 0x8B, 0x47, 0x08, // 2: mov rax, [rdi+8]
    0x50, // push rax                  also aligns the stack
    0xFF, 0x10, // call [rax]                changes rax alone
    0x59, // pop rcx
    0x48, 0x03, 0x41, 0x10, // add rax, [rcx+16]         delta
    0x64, 0x48, 0x03, 0x04, 0x25, 0x00, 0x00, 0x00, 0x00, // add rax, fs:0
    0xC3, // ret
    INT3, INT3, INT3, INT3, // .balign 8, 0xCC
    0, 0, 0, 0, 0, 0, 0, 0, // .quad 0                   the target's own __tls_get_addr (fix-up)
];

/// A descriptor's function: its second word is the offset from the thread pointer.
pub const DESCRIPTOR_STATIC: [u8; 9] = [
    0xF3, 0x0F, 0x1E, 0xFA, // endbr64
    0x48, 0x8B, 0x40, 0x08, // mov rax, [rax+8]
    0xC3, // ret
];

/// A descriptor's function: its second word is the address of a borrowed one. Changes nothing but rax and the flags.
pub const DESCRIPTOR_BORROWED: [u8; 28] = [
    0xF3, 0x0F, 0x1E, 0xFA, // endbr64
    0x48, 0x8B, 0x40, 0x08, // mov rax, [rax+8]
    0x50, // push rax
    0xFF, 0x10, // call [rax]
    0x51, // push rcx
    0x48, 0x8B, 0x4C, 0x24, 0x08, // mov rcx, [rsp+8]
    0x48, 0x03, 0x41, 0x10, // add rax, [rcx+16]         delta
    0x59, // pop rcx
    0x48, 0x8D, 0x64, 0x24, 0x08, // lea rsp, [rsp+8]
    0xC3, // ret
];

/// Where in [`KEY_CREATE`] the three addresses stand that it knows: the destructor to replace, the one to take, and the
/// target's own `pthread_key_create`.
pub const KEY_CREATE_WORDS: [u64; 3] = [32, 40, 48];

/// `pthread_key_create(key, destructor)` with another destructor in place of one.
pub const KEY_CREATE: [u8; 56] = [
    0xF3, 0x0F, 0x1E, 0xFA, // endbr64
    0x48, 0x3B, 0x35, 0x15, 0x00, 0x00, 0x00, // cmp rsi, [rip+21]
    0x75, 0x07, // jne 1f
    0x48, 0x8B, 0x35, 0x14, 0x00, 0x00, 0x00, // mov rsi, [rip+20]
    0xFF, 0x25, 0x16, 0x00, 0x00, 0x00, // 1: jmp [rip+22]
    INT3, INT3, INT3, INT3, INT3, INT3, // .balign 8, 0xCC
    0, 0, 0, 0, 0, 0, 0, 0, // .quad 0                   fix-up
    0, 0, 0, 0, 0, 0, 0, 0, // .quad 0                   fix-up
    0, 0, 0, 0, 0, 0, 0, 0, // .quad 0                   fix-up
];

/// Bytes of a borrowed descriptor: function, argument (fix-ups) and delta.
pub const BORROWED_LEN: usize = 24;

#[cfg(test)]
mod tests {
    use super::super::tests::assembled;
    use super::*;

    #[test]
    fn the_bytes_are_what_the_comments_say() {
        let source = include_str!("tls.rs");
        assert_eq!(assembled(source, "GET_ADDR"), GET_ADDR);
        assert_eq!(assembled(source, "KEY_CREATE"), KEY_CREATE);
        assert_eq!(assembled(source, "DESCRIPTOR_STATIC"), DESCRIPTOR_STATIC);
        assert_eq!(assembled(source, "DESCRIPTOR_BORROWED"), DESCRIPTOR_BORROWED);
    }
}
