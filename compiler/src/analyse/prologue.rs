//! Moving the first instructions of a function: what the jump overwrites must run elsewhere.
//!
//! ```text
//! old function             relocated prologue (in the island, near the module)
//! site:  push rbp          push rbp
//!        mov rbp, rsp      mov rbp, rsp
//!        lea rdi, [rip+x]  lea rdi, [rip+x']     same target: a Rel32 fix-up
//! next:  call puts         jmp next              a Rel32 fix-up
//! ```
//! rel8 branches become rel32. Instructions that only have a rel8 form are refused. A direct call is made so that it returns
//! into the old function, as if it had been made there: exceptions find what the old function does about them.

use crate::arch::x86_64::{JMP_REL32, PUSH_RETURN, PUSHED_RETURN, jcc_rel32};
use crate::finding::Explain;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Formatter, Instruction, IntelFormatter, Mnemonic, OpKind};
use lpb::addr::{to_u64, to_usize};
use lpb::{JUMP_LEN, LinkAddr};

/// A displacement of moved code: the value is `target + delta - place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rel32 {
    /// Offset of the 4 bytes in the code.
    pub at: usize,
    pub target: LinkAddr,
    pub delta: i64,
}

/// Moved instructions, and the jump back behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prologue {
    pub code: Vec<u8>,
    pub fixups: Vec<Rel32>,
}

/// Why the first instructions cannot be moved.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrologueError {
    #[error("{at}: bytes that are no instruction")]
    Invalid { at: LinkAddr },
    #[error("{at}: `{text}` has no form that can be moved")]
    ShortOnly { at: LinkAddr, text: String },
    #[error("{at}: `{text}` reads its own address")]
    GetPc { at: LinkAddr, text: String },
    #[error("{at}: `{text}` branches into the bytes that the jump overwrites")]
    IntoSelf { at: LinkAddr, text: String },
}

impl Explain for PrologueError {
    fn hint(&self) -> Option<String> {
        Some("replace its callers instead".to_owned())
    }
}

/// The text of an instruction, for messages.
pub fn text(instruction: &Instruction) -> String {
    let mut out = String::new();
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_branch_leading_zeros(false);
    formatter.format(instruction, &mut out);
    out
}

/// All instructions of `code`, which starts at `at`.
pub fn decode(code: &[u8], at: LinkAddr) -> impl Iterator<Item = Instruction> {
    Decoder::with_ip(64, code, at.0, DecoderOptions::NONE).into_iter()
}

/// Where an instruction branches to, if the address stands in it.
pub fn branch_target(i: &Instruction) -> Option<LinkAddr> {
    let direct = matches!(
        i.flow_control(),
        FlowControl::ConditionalBranch
            | FlowControl::UnconditionalBranch
            | FlowControl::Call
            | FlowControl::XbeginXabortXend
    );
    let near = matches!(i.try_op_kind(0), Ok(OpKind::NearBranch64));
    (direct && near).then(|| LinkAddr(i.near_branch_target()))
}

/// Whether nothing runs behind this instruction.
pub fn is_final(i: &Instruction) -> bool {
    let flow = i.flow_control();
    matches!(flow, FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return)
        || i.mnemonic() == Mnemonic::Ud2
}

/// Moves the instructions that the jump at `site` overwrites.
///
/// `code`: the bytes of the function from `site` on. Returns the moved code and its fix-ups.
/// # Errors
/// [`PrologueError`] for the first instruction that cannot be moved.
pub fn relocate(code: &[u8], site: LinkAddr) -> Result<Prologue, PrologueError> {
    let mut moved = Prologue::default();
    let mut taken = 0_u64;
    let mut ends = false;
    let mut decoder = Decoder::with_ip(64, code, site.0, DecoderOptions::NONE);
    while taken < JUMP_LEN && !ends {
        let at = LinkAddr(decoder.ip());
        if !decoder.can_decode() {
            return Err(PrologueError::Invalid { at });
        }
        let i = decoder.decode();
        let bytes = code.get(to_usize(taken)..to_usize(taken.saturating_add(to_u64(i.len()))));
        let bytes = bytes.filter(|_| !i.is_invalid()).ok_or(PrologueError::Invalid { at })?;
        if let Some(target) = branch_target(&i) {
            if target > site && target.since(site).is_some_and(|n| n < JUMP_LEN) {
                return Err(PrologueError::IntoSelf { at, text: text(&i) });
            }
            ends = branch(&mut moved, &i, bytes, target)?;
        } else {
            plain(&mut moved, &decoder, &i, bytes);
        }
        taken = taken.saturating_add(to_u64(i.len()));
        ends |= is_final(&i);
    }
    if !ends {
        let back = LinkAddr(decoder.ip());
        rel32(&mut moved, &JMP_REL32, back);
    }
    Ok(moved)
}

/// Appends an instruction whose last 4 bytes are a displacement to `target`.
fn rel32(moved: &mut Prologue, bytes: &[u8], target: LinkAddr) {
    moved.code.extend_from_slice(bytes);
    moved.fixups.push(Rel32 { at: moved.code.len().saturating_sub(4), target, delta: -4 });
}

/// Appends a branch. Returns whether nothing runs behind it.
fn branch(moved: &mut Prologue, i: &Instruction, bytes: &[u8], target: LinkAddr) -> Result<bool, PrologueError> {
    let at = LinkAddr(i.ip());
    match i.flow_control() {
        FlowControl::Call if target.0 == i.next_ip() => return Err(PrologueError::GetPc { at, text: text(i) }),
        FlowControl::Call => {
            // It is the last one moved, as it has 5 bytes itself. It returns into the old function: there, unwinders know
            // the frame and what to do in it.
            rel32(moved, &PUSH_RETURN, LinkAddr(i.next_ip()));
            moved.code.extend_from_slice(&PUSHED_RETURN);
            rel32(moved, &JMP_REL32, target);
            return Ok(true);
        }
        FlowControl::UnconditionalBranch => rel32(moved, &JMP_REL32, target),
        FlowControl::ConditionalBranch if i.is_jcc_short_or_near() => {
            // The condition is in the low bits of the opcode: 7x rel8, or 0F 8x rel32, behind any branch hints.
            let opcode = bytes.iter().rev().nth(if i.is_jcc_short() { 1 } else { 4 });
            let opcode = opcode.ok_or(PrologueError::Invalid { at })?;
            rel32(moved, &jcc_rel32(*opcode), target);
        }
        _ => return Err(PrologueError::ShortOnly { at, text: text(i) }),
    }
    Ok(false)
}

/// Copies an instruction; a rip-relative operand keeps its target.
fn plain(moved: &mut Prologue, decoder: &Decoder<'_>, i: &Instruction, bytes: &[u8]) {
    let start = moved.code.len();
    moved.code.extend_from_slice(bytes);
    if i.is_ip_rel_memory_operand() && i.code() != Code::INVALID {
        let field = decoder.get_constant_offsets(i).displacement_offset();
        let behind = i64::try_from(i.len().saturating_sub(field)).unwrap_or(0);
        let target = LinkAddr(i.ip_rel_memory_address());
        moved.fixups.push(Rel32 { at: start.saturating_add(field), target, delta: behind.wrapping_neg() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Input bytes are GNU as's output for the text in the first column, at 0x1000.
    #[test]
    fn moves_or_refuses() {
        let fix = |at, target, delta| Rel32 { at, target: LinkAddr(target), delta };
        let site = LinkAddr(0x1000);
        for (why, code, want, fixups) in [
            (
                "push rbp; mov rbp,rsp; sub rsp,16",
                &[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10][..],
                &[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0xe9, 0, 0, 0, 0][..],
                vec![fix(9, 0x1008, -4)],
            ),
            (
                "lea rdi,[rip+0x100]",
                &[0x48, 0x8d, 0x3d, 0, 1, 0, 0],
                &[0x48, 0x8d, 0x3d, 0, 1, 0, 0, 0xe9, 0, 0, 0, 0],
                vec![fix(3, 0x1107, -4), fix(8, 0x1007, -4)],
            ),
            (
                "cmp dword ptr [rip+0x100],5: an immediate behind the displacement",
                &[0x83, 0x3d, 0, 1, 0, 0, 5],
                &[0x83, 0x3d, 0, 1, 0, 0, 5, 0xe9, 0, 0, 0, 0],
                vec![fix(2, 0x1107, -5), fix(8, 0x1007, -4)],
            ),
            (
                "test edi,edi; je +0x10; nop",
                &[0x85, 0xff, 0x74, 0x10, 0x90],
                &[0x85, 0xff, 0x0f, 0x84, 0, 0, 0, 0, 0x90, 0xe9, 0, 0, 0, 0],
                vec![fix(4, 0x1014, -4), fix(10, 0x1005, -4)],
            ),
            (
                "jg rel32",
                &[0x0f, 0x8f, 0, 1, 0, 0],
                &[0x0f, 0x8f, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0],
                vec![fix(2, 0x1106, -4), fix(7, 0x1006, -4)],
            ),
            (
                "call rel32",
                &[0xe8, 0, 1, 0, 0],
                &[0x50, 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0x48, 0x87, 0x04, 0x24, 0xe9, 0, 0, 0, 0],
                vec![fix(4, 0x1005, -4), fix(13, 0x1105, -4)],
            ),
            ("jmp rel8 ends it", &[0xeb, 0x20, 0x90, 0x90, 0x90], &[0xe9, 0, 0, 0, 0], vec![fix(1, 0x1022, -4)]),
            ("xor eax,eax; ret ends it", &[0x31, 0xc0, 0xc3, 0x90, 0x90], &[0x31, 0xc0, 0xc3], vec![]),
        ] {
            let want = Prologue { code: want.to_vec(), fixups };
            assert_eq!(relocate(code, site), Ok(want), "{why}");
        }
        for (why, code, want) in [
            ("loop", &[0xe2, 0x20, 0x90, 0x90, 0x90][..], "no form that can be moved"),
            ("jrcxz", &[0xe3, 0x20, 0x90, 0x90, 0x90], "no form that can be moved"),
            ("xbegin", &[0xc7, 0xf8, 0, 1, 0, 0], "no form that can be moved"),
            ("call next", &[0xe8, 0, 0, 0, 0], "reads its own address"),
            ("jmp into itself", &[0xeb, 0x01, 0x90, 0x90, 0x90], "overwrites"),
            ("cut off", &[0x48, 0x8d], "no instruction"),
            ("ud", &[0x06, 0, 0, 0, 0], "no instruction"),
        ] {
            let error = relocate(code, site).unwrap_err().to_string();
            assert!(error.contains(want), "{why}: {error}");
        }
    }
}
