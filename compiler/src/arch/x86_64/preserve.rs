//! A function entered in the place of one whose callers know its inside: it changes no register that the old one left
//! alone, and does not expect an aligned stack.
//!
//! ```text
//! [rbp+16] stack arguments         endbr64
//! [rbp+8]  return address          push rbp; mov rbp, rsp; sub rsp, frame; and rsp, -16
//! [rbp]    the caller's rbp        mov [rbp-8], rcx ...; movups [rbp-x], xmm1 ...
//! [rbp-8]  saved registers         mov r11, [rbp+16]; mov [rsp], r11 ...
//! ...                              call new
//! [rsp]    copied arguments        mov rcx, [rbp-8] ...; movups xmm1, [rbp-x] ...; leave; ret
//! ```
//! Source: Intel SDM vol. 2, 2.3 (VEX) and 2.7 (EVEX); System V ABI, AMD64 supplement, 3.2.2 "The Stack Frame" and 3.7
//! "Stack Unwind Algorithm"; DWARF 5, 6.4; LSB Core, "Exception Frames".

use super::ENDBR64;
use super::frames::Described;
use super::registers::{RegSet, Width};
use lpb::AreaOff;
use lpb::addr::to_u64;

/// What one of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thunk {
    /// Registers that have their old values after the call.
    pub keep: RegSet,
    /// Words of arguments on the stack.
    pub words: u32,
}

/// Bytes to the end of `push rbp`, of `mov rbp, rsp` behind it, and of `ret`: where the unwind information changes.
const PUSHED: u8 = 5;
const FRAMED: u8 = 3;
const RET: u8 = 1;
/// `[rbp+disp32]` as the r/m half of a ModRM byte.
const RBP_DISP32: u8 = 0x85;

fn modrm(number: u32) -> u8 {
    RBP_DISP32 | low(number) << 3
}

/// The three bits of a register's number that stand in ModRM.
fn low(number: u32) -> u8 {
    u8::try_from(number & 7).unwrap_or(0)
}

fn extended(number: u32) -> bool {
    number & 8 != 0
}

/// `mov [rbp+at], r64`, or back.
fn general(code: &mut Vec<u8>, number: u32, at: i32, load: bool) {
    let opcode = if load { 0x8B } else { 0x89 };
    code.extend([if extended(number) { 0x4C } else { 0x48 }, opcode, modrm(number)]);
    code.extend(at.to_le_bytes());
}

/// `movups [rbp+at], xmm`, or back; `vmovups` for wider ones.
fn vector(code: &mut Vec<u8>, number: u32, width: Width, at: i32, load: bool) {
    let opcode = if load { 0x10 } else { 0x11 };
    match width {
        Width::Xmm if extended(number) => code.extend([0x44, 0x0F, opcode]),
        Width::Xmm => code.extend([0x0F, opcode]),
        Width::Ymm => code.extend([0xC5, if extended(number) { 0x7C } else { 0xFC }, opcode]),
        Width::Zmm => {
            // The bits of the number beyond ModRM are stored inverted.
            let first = 0x61 | if extended(number) { 0 } else { 0x80 } | if number & 16 != 0 { 0 } else { 0x10 };
            code.extend([0x62, first, 0x7C, 0x48, opcode]);
        }
    }
    code.push(modrm(number));
    code.extend(at.to_le_bytes());
}

fn bytes_of(width: Width) -> i32 {
    match width {
        Width::Xmm => 16,
        Width::Ymm => 32,
        Width::Zmm => 64,
    }
}

/// Saves or restores all of `keep`; returns the bytes below rbp that it takes.
fn registers(code: &mut Vec<u8>, keep: RegSet, load: bool) -> i32 {
    let mut at = 0_i32;
    for number in keep.generals() {
        at = at.saturating_sub(8);
        general(code, number, at, load);
    }
    for (number, width) in keep.vectors() {
        at = at.saturating_sub(bytes_of(width));
        vector(code, number, width, at, load);
    }
    at.saturating_neg()
}

/// The code of a thunk at `at` that calls `new`; both in one area, which is smaller than 1 GiB.
pub fn code(thunk: Thunk, at: AreaOff, new: AreaOff) -> Vec<u8> {
    let (mut save, mut restore) = (Vec::new(), Vec::new());
    let saved = registers(&mut save, thunk.keep, false);
    registers(&mut restore, thunk.keep, true);
    let words = i32::try_from(thunk.words).unwrap_or(0);
    let frame = saved.saturating_add(words.saturating_mul(8)).saturating_add(15) & !15;
    let mut code = ENDBR64.to_vec();
    code.extend([0x55, 0x48, 0x89, 0xE5, 0x48, 0x81, 0xEC]); // push rbp; mov rbp, rsp; sub rsp, frame
    code.extend(frame.to_le_bytes());
    code.extend([0x48, 0x83, 0xE4, 0xF0]); // and rsp, -16
    code.extend(save);
    for word in 0..words {
        let offset = word.saturating_mul(8);
        code.extend([0x4C, 0x8B, 0x9D]); // mov r11, [rbp+16+offset]
        code.extend(offset.saturating_add(16).to_le_bytes());
        code.extend([0x4C, 0x89, 0x9C, 0x24]); // mov [rsp+offset], r11
        code.extend(offset.to_le_bytes());
    }
    code.push(0xE8); // call new
    let next = at.0.wrapping_add(to_u64(code.len())).wrapping_add(4);
    let [a, b, c, d, ..] = new.0.wrapping_sub(next).to_le_bytes();
    code.extend([a, b, c, d]);
    code.extend(restore);
    code.extend([0xC9, 0xC3]); // leave; ret
    code
}

/// What an unwinder has to know of a thunk of `len` bytes at `start`.
pub fn described(start: AreaOff, len: u64) -> Described {
    let to_ret = u32::try_from(len).unwrap_or(0).saturating_sub(u32::from(PUSHED + FRAMED + RET));
    let mut rules = vec![0x40 | PUSHED, 0x0E, 16, 0x86, 2]; // CFA = rsp+16, rbp at CFA-16
    rules.extend([0x40 | FRAMED, 0x0D, 6, 0x04]); // CFA = rbp+16
    rules.extend(to_ret.to_le_bytes());
    rules.extend([0x0C, 7, 8, 0xC6]); // CFA = rsp+8, rbp as it is
    Described { start, len, rules }
}

#[cfg(test)]
mod tests {
    use super::super::frames;
    use super::super::tests::listing;
    use super::*;
    use gimli::{
        BaseAddresses, CfaRule, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext, UnwindSection as _,
    };

    fn example() -> Thunk {
        let keep = RegSet::general(6) | RegSet::general(9) | RegSet::xmm(2) | RegSet::xmm(9);
        Thunk { keep, words: 2 }
    }

    #[test]
    fn reads_as_documented() {
        let code = code(example(), AreaOff(0x1000), AreaOff(0x800));
        let have: Vec<String> =
            listing(&code, 0x1000).iter().map(|l| l.split_once(' ').unwrap().1.to_owned()).collect();
        let want = "endbr64|push rbp|mov rbp,rsp|sub rsp,0x40|and rsp,0xFFFFFFFFFFFFFFF0|mov [rbp-8],rsi|mov [rbp-0x10],r9|\
movups [rbp-0x20],xmm2|movups [rbp-0x30],xmm9|mov r11,[rbp+0x10]|mov [rsp],r11|mov r11,[rbp+0x18]|mov [rsp+8],r11|\
call 0x800|mov rsi,[rbp-8]|mov r9,[rbp-0x10]|movups xmm2,[rbp-0x20]|movups xmm9,[rbp-0x30]|leave|ret";
        assert_eq!(have.join("|"), want);
    }

    #[test]
    fn wide_registers() {
        for (number, width, want) in [
            (0, Width::Xmm, "movups [rbp-0x40],xmm0"),
            (15, Width::Xmm, "movups [rbp-0x40],xmm15"),
            (3, Width::Ymm, "vmovups [rbp-0x40],ymm3"),
            (12, Width::Ymm, "vmovups [rbp-0x40],ymm12"),
            (1, Width::Zmm, "vmovups [rbp-0x40],zmm1"),
            (9, Width::Zmm, "vmovups [rbp-0x40],zmm9"),
            (17, Width::Zmm, "vmovups [rbp-0x40],zmm17"),
            (31, Width::Zmm, "vmovups [rbp-0x40],zmm31"),
        ] {
            let mut code = Vec::new();
            vector(&mut code, number, width, -0x40, false);
            assert_eq!(listing(&code, 0), [format!("0x0 {want}")]);
            code.clear();
            vector(&mut code, number, width, -0x40, true);
            let (name, operands) = want.split_once(' ').unwrap();
            let (to, from) = operands.split_once(',').unwrap();
            assert_eq!(listing(&code, 0), [format!("0x0 {name} {from},{to}")]);
        }
    }

    /// What gimli reads out of the table.
    #[test]
    fn every_instruction_can_be_unwound() {
        let start = AreaOff(0x1000);
        let code = code(example(), start, AreaOff(0x800));
        let len = to_u64(code.len());
        let other = Described { start: AreaOff(0x2000), len: 16, rules: Vec::new() };
        let table = frames::table(AreaOff(0x3000), &[other, described(start, len)]);
        let table = EhFrame::new(&table, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(0x3000);
        let mut context = UnwindContext::new();
        for (at, cfa, rbp) in [
            (0, (7, 8), None),
            (5, (7, 16), Some(RegisterRule::Offset(-16))),
            (8, (6, 16), Some(RegisterRule::Offset(-16))),
            (len - 2, (6, 16), Some(RegisterRule::Offset(-16))),
            (len - 1, (7, 8), None),
        ] {
            let row =
                table.unwind_info_for_address(&bases, &mut context, 0x1000 + at, EhFrame::cie_from_offset).unwrap();
            let (register, offset) = cfa;
            assert_eq!(*row.cfa(), CfaRule::RegisterAndOffset { register: Register(register), offset }, "at {at}");
            assert_eq!(row.register(Register(6)), rbp, "at {at}");
            assert_eq!(row.register(Register(16)), Some(RegisterRule::Offset(-8)), "at {at}");
        }
    }
}
