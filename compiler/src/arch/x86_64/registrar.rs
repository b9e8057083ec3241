//! Code in the image that tells the process's unwinder of a table, or takes it back: run once by a thread of the target
//! that lp-apply sends here and that finds its way home by itself (`SPEC.md` section 7).
//!
//! ```text
//! stack of the thread, growing down                  the code
//!   its own data and red zone                        save rbx, rbp
//!   rip eflags rax ... rdi, signal mask  ◄─ rsp      save the extended state, 64-aligned
//!   rbp, rbx                             ◄─ rbp      done = 2
//!   extended state (XSAVE, else FXSAVE)              call *register(eh_frame, object)
//!   frames of the unwinder                           done = 1
//!                                                    restore all, and the signal mask; ret $128
//! ```
//! Source: Intel SDM vol. 1 ch. 13 (XSAVE: 64-aligned, header of 64 zero bytes at 512, size by CPUID leaf 0xD);
//! System V ABI, AMD64 supplement, "Calling Conventions"; rt_sigprocmask(2).

use lpb::AreaOff;
use lpb::addr::to_u64;

/// Where the code finds what it works on; all in the area of the code.
#[derive(Clone, Debug)]
pub struct Places {
    /// The code's first byte.
    pub code: AreaOff,
    /// Each table and its storage for the unwinder: the arguments.
    pub tables: Vec<(AreaOff, AreaOff)>,
    /// The 8-byte slot with the function's address.
    pub slot: AreaOff,
    /// The word that says what is registered.
    pub done: AreaOff,
}

/// A jump target whose place is not known yet: the displacement byte to fill in.
struct Forward(usize);

#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// An instruction that ends in a rip-relative displacement and then `tail`.
    fn relative(&mut self, opcode: &[u8], to: AreaOff, at: AreaOff, tail: &[u8]) {
        self.put(opcode);
        let next = at.0.wrapping_add(to_u64(self.0.len())).wrapping_add(4).wrapping_add(to_u64(tail.len()));
        // An area has at most 1 GiB, so the low half is the whole distance.
        let [a, b, c, d, ..] = to.0.wrapping_sub(next).to_le_bytes();
        self.put(&[a, b, c, d]);
        self.put(tail);
    }

    fn jump(&mut self, opcode: u8) -> Forward {
        self.put(&[opcode, 0]);
        Forward(self.0.len())
    }

    /// The jump goes here. All jumps are shorter than 128 bytes.
    fn land(&mut self, from: &Forward) {
        let distance = u8::try_from(self.0.len().saturating_sub(from.0)).unwrap_or(0);
        if let Some(byte) = from.0.checked_sub(1).and_then(|at| self.0.get_mut(at)) {
            *byte = distance;
        }
    }
}

/// What the done word holds during the call: a process forked in that moment has a copy that says neither yes nor no.
const UNDECIDED: u32 = 2;

/// The code that calls the function in `slot` and then sets the done word to `done`.
pub fn code(places: &Places, done: u32) -> Vec<u8> {
    let mut c = Code::default();
    save(&mut c);
    let at = places.code;
    c.relative(&[0xC7, 0x05], places.done, at, &UNDECIDED.to_le_bytes()); // mov dword [done], 2
    for (eh_frame, object) in &places.tables {
        c.relative(&[0x48, 0x8D, 0x3D], *eh_frame, at, &[]); // lea rdi, [eh_frame]
        c.relative(&[0x48, 0x8D, 0x35], *object, at, &[]); //   lea rsi, [object]
        c.relative(&[0xFF, 0x15], places.slot, at, &[]); //     call [slot]
    }
    c.relative(&[0xC7, 0x05], places.done, at, &done.to_le_bytes()); // mov dword [done], imm
    restore(&mut c);
    c.0
}

/// Saves what the called function may change; `ebx` remembers how: 1 = XSAVE, 0 = FXSAVE.
#[rustfmt::skip]
fn save(c: &mut Code) {
    c.put(&[0x53]);                         // push rbx
    c.put(&[0x55]);                         // push rbp
    c.put(&[0x48, 0x89, 0xE5]);             // mov rbp, rsp
    c.put(&[0xFC]);                         // cld             as the ABI has it at a call
    c.put(&[0xB8, 1, 0, 0, 0]);             // mov eax, 1
    c.put(&[0x0F, 0xA2]);                   // cpuid
    c.put(&[0x0F, 0xBA, 0xE1, 27]);         // bt ecx, 27      OSXSAVE: may this thread use XSAVE?
    let old = c.jump(0x73);                 // jnc old
    c.put(&[0xB8, 0x0D, 0, 0, 0]);          // mov eax, 0xd
    c.put(&[0x31, 0xC9]);                   // xor ecx, ecx
    c.put(&[0x0F, 0xA2]);                   // cpuid           ebx = bytes that the enabled state takes
    c.put(&[0x48, 0x29, 0xDC]);             // sub rsp, rbx
    c.put(&[0x48, 0x83, 0xE4, 0xC0]);       // and rsp, -64
    c.put(&[0x31, 0xC0]);                   // xor eax, eax
    for word in [0, 8, 16, 24, 32, 40, 48, 56] {
        c.put(&[0x48, 0x89, 0x84, 0x24, word, 2, 0, 0]); // mov [rsp + 512 + word], rax
    }
    c.put(&[0x83, 0xC8, 0xFF]);             // or eax, -1      all components
    c.put(&[0x89, 0xC2]);                   // mov edx, eax
    c.put(&[0x48, 0x0F, 0xAE, 0x24, 0x24]); // xsave64 [rsp]
    c.put(&[0xBB, 1, 0, 0, 0]);             // mov ebx, 1
    let saved = c.jump(0xEB);               // jmp saved
    c.land(&old);                           // old:
    c.put(&[0x48, 0x81, 0xEC, 0, 2, 0, 0]); // sub rsp, 512
    c.put(&[0x48, 0x83, 0xE4, 0xC0]);       // and rsp, -64
    c.put(&[0x48, 0x0F, 0xAE, 0x04, 0x24]); // fxsave64 [rsp]
    c.put(&[0x31, 0xDB]);                   // xor ebx, ebx
    c.land(&saved);                         // saved:          rsp is 16-aligned, as the ABI has it at a call
}

/// Undoes [`save`] and takes the thread home.
#[rustfmt::skip]
fn restore(c: &mut Code) {
    c.put(&[0x85, 0xDB]);                   // test ebx, ebx
    let old = c.jump(0x74);                 // je old
    c.put(&[0x83, 0xC8, 0xFF]);             // or eax, -1
    c.put(&[0x89, 0xC2]);                   // mov edx, eax
    c.put(&[0x48, 0x0F, 0xAE, 0x2C, 0x24]); // xrstor64 [rsp]
    let home = c.jump(0xEB);                // jmp home
    c.land(&old);                           // old:
    c.put(&[0x48, 0x0F, 0xAE, 0x0C, 0x24]); // fxrstor64 [rsp]
    c.land(&home);                          // home:
    c.put(&[0x48, 0x89, 0xEC]);             // mov rsp, rbp
    c.put(&[0x5D]);                         // pop rbp
    c.put(&[0x5B]);                         // pop rbx
    c.put(&[0xB8, 14, 0, 0, 0]);            // mov eax, 14     rt_sigprocmask(
    c.put(&[0xBF, 2, 0, 0, 0]);             // mov edi, 2        SIG_SETMASK,
    c.put(&[0x48, 0x89, 0xE6]);             // mov rsi, rsp      saved mask,
    c.put(&[0x31, 0xD2]);                   // xor edx, edx      NULL,
    c.put(&[0x41, 0xBA, 8, 0, 0, 0]);       // mov r10d, 8       8)
    c.put(&[0x0F, 0x05]);                   // syscall
    c.put(&[0x5F]);                         // pop rdi         drops the mask
    c.put(&[0x5F, 0x5E, 0x5A]);             // pop rdi; pop rsi; pop rdx
    c.put(&[0x41, 0x5A, 0x41, 0x58]);       // pop r10; pop r8
    c.put(&[0x41, 0x59, 0x59]);             // pop r9; pop rcx
    c.put(&[0x41, 0x5B, 0x58]);             // pop r11; pop rax
    c.put(&[0x9D]);                         // popfq
    c.put(&[0xC2, 128, 0]);                 // ret 128         rip, and over the red zone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::prologue::{branch_target, decode, text};
    use lpb::LinkAddr;

    /// What a disassembler makes of the bytes.
    #[test]
    fn reads_as_written() {
        let places = Places {
            code: AreaOff(0x5000),
            tables: vec![(AreaOff(0x2000), AreaOff(0x6000)), (AreaOff(0x5800), AreaOff(0x6080))],
            slot: AreaOff(0x5400),
            done: AreaOff(0x6040),
        };
        let code = code(&places, 1);
        let start = LinkAddr(0x5000);
        // A jump reads as the instruction that it goes to.
        let at = |to: u64| decode(&code, start).find(|i| i.ip() == to).map(|i| text(&i));
        let read = |i: iced_x86::Instruction| match branch_target(&i).and_then(|to| at(to.0)) {
            Some(target) => format!("{:?} -> {target}", i.mnemonic()),
            None => text(&i),
        };
        let have: Vec<String> = decode(&code, start).map(read).collect();
        let want = "\
push rbx|push rbp|mov rbp,rsp|cld|mov eax,1|cpuid|bt ecx,0x1B|Jae -> sub rsp,0x200|mov eax,0xD|xor ecx,ecx|cpuid|\
sub rsp,rbx|and rsp,0xFFFFFFFFFFFFFFC0|xor eax,eax|mov [rsp+0x200],rax|mov [rsp+0x208],rax|mov [rsp+0x210],rax|\
mov [rsp+0x218],rax|mov [rsp+0x220],rax|mov [rsp+0x228],rax|mov [rsp+0x230],rax|mov [rsp+0x238],rax|\
or eax,0xFFFFFFFF|mov edx,eax|xsave64 [rsp]|mov ebx,1|Jmp -> mov dword ptr [0x6040],2|\
sub rsp,0x200|and rsp,0xFFFFFFFFFFFFFFC0|fxsave64 [rsp]|xor ebx,ebx|mov dword ptr [0x6040],2|\
lea rdi,[0x2000]|lea rsi,[0x6000]|call qword ptr [0x5400]|lea rdi,[0x5800]|lea rsi,[0x6080]|call qword ptr [0x5400]|mov dword ptr [0x6040],1|\
test ebx,ebx|Je -> fxrstor64 [rsp]|or eax,0xFFFFFFFF|mov edx,eax|xrstor64 [rsp]|Jmp -> mov rsp,rbp|fxrstor64 [rsp]|\
mov rsp,rbp|pop rbp|pop rbx|mov eax,0xE|mov edi,2|mov rsi,rsp|xor edx,edx|mov r10d,8|syscall|\
pop rdi|pop rdi|pop rsi|pop rdx|pop r10|pop r8|pop r9|pop rcx|pop r11|pop rax|popfq|ret 0x80";
        assert_eq!(have.join("|"), want);
    }
}
