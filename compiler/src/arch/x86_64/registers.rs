//! Registers that a call may change, as sets, and what one instruction does with them.
//!
//! ```text
//! bit  0..16      16..48      48..80           80..112          112..120
//!      rax..r15   xmm0..31    bits 128 to 255  bits 256 to 511  k0..k7
//! ```
//! A vector register counts as three, because code without AVX leaves its upper parts alone and `vzeroupper` only the lowest.
//! x87 and MMX registers are not here: gcc never keeps a value in one across a call.
//!
//! Source: System V ABI, AMD64 supplement, 3.2.1 "Registers" and 3.2.3 "Parameter Passing"; gcc `final.cc`,
//! `collect_fn_hard_reg_usage` (what IPA-RA takes as changed).

use iced_x86::{EncodingKind, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// A set of registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegSet(u128);

const VECTORS: u32 = 32;
const XMM: u32 = 16;
const YMM: u32 = XMM + VECTORS;
const ZMM: u32 = YMM + VECTORS;
const MASK: u32 = ZMM + VECTORS;

const fn bits(first: u32, count: u32) -> u128 {
    !(u128::MAX << count) << first
}

/// The bytes of a vector register that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    Xmm,
    Ymm,
    Zmm,
}

impl RegSet {
    pub const NONE: Self = Self(0);
    /// rax, rcx, rdx, rsi, rdi, r8 to r11, all vector and mask registers.
    pub const CALLER_SAVED: Self = Self(0b1111_1100_0111 | bits(XMM, 3 * VECTORS) | bits(MASK, 8));
    /// rdi, rsi, rdx, rcx, r8, r9, r10 (static chain), xmm0 to xmm7.
    pub const ARGUMENTS: Self = Self(0b111_1100_0110 | bits(XMM, 8) | bits(YMM, 8) | bits(ZMM, 8));
    /// rdi, rsi, rdx, rcx, r8, r9: numbers in the order in which arguments take them.
    pub const IN_ORDER: [u32; 6] = [7, 6, 2, 1, 8, 9];
    pub const RAX: Self = Self(1);
    pub const RDX: Self = Self(1 << 2);
    pub const XMM0: Self = Self::vector(0);
    const XMM1: Self = Self::vector(1);
    /// xmm0 and xmm1.
    pub const VECTOR_RESULTS: Self = Self(Self::XMM0.0 | Self::XMM1.0);
    /// Where results are returned.
    pub const RESULTS: Self = Self(Self::RAX.0 | Self::RDX.0 | Self::XMM0.0 | Self::XMM1.0);

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The general register of this number.
    pub const fn general(number: u32) -> Self {
        Self(1 << (number & 15))
    }

    /// The vector register of this number, to its full width.
    pub const fn vector(number: u32) -> Self {
        let number = number & 31;
        Self((1 << XMM | 1 << YMM | 1 << ZMM) << number)
    }

    #[cfg(test)]
    pub const fn xmm(number: u32) -> Self {
        Self((1 << XMM) << number)
    }

    /// Numbers of its general registers, ascending.
    pub fn generals(self) -> impl Iterator<Item = u32> {
        (0..XMM).filter(move |n| self.has(*n))
    }

    /// Numbers of its vector registers, ascending, and how much of each is in the set.
    pub fn vectors(self) -> impl Iterator<Item = (u32, Width)> {
        (0..VECTORS).filter_map(move |n| {
            let parts = [(ZMM, Width::Zmm), (YMM, Width::Ymm), (XMM, Width::Xmm)];
            parts.into_iter().find(|(first, _)| self.has(first.saturating_add(n))).map(|(_, width)| (n, width))
        })
    }

    pub fn has_masks(self) -> bool {
        self.0 & bits(MASK, 8) != 0
    }

    /// The widest of its vector registers.
    pub fn width(self) -> Option<Width> {
        self.vectors().map(|(_, width)| width).max()
    }

    /// Without the parts of vector registers beyond this width, and without xmm16 to xmm31 unless it is the widest.
    pub fn narrowed(self, width: Option<Width>) -> Self {
        let keep = match width {
            None => 0,
            Some(Width::Xmm) => bits(XMM, 16),
            Some(Width::Ymm) => bits(XMM, 16) | bits(YMM, 16),
            Some(Width::Zmm) => bits(XMM, 3 * VECTORS),
        };
        Self(self.0 & (bits(0, 16) | keep))
    }

    fn has(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }

    /// All of a register, as far as it is counted here. Of a part of a general register: the whole.
    fn of(register: Register) -> Self {
        let number = u32::try_from(register.full_register().number()).unwrap_or(0);
        if register.is_gpr() {
            return Self::general(number);
        }
        if register.is_k() {
            return Self(1 << MASK.saturating_add(number & 7));
        }
        if !register.is_vector_register() {
            return Self::NONE;
        }
        let mut all = 1 << XMM.saturating_add(number & 31);
        if !register.is_xmm() {
            all |= 1 << YMM.saturating_add(number & 31);
        }
        if register.is_zmm() {
            all |= 1 << ZMM.saturating_add(number & 31);
        }
        Self(all)
    }

    /// With the upper parts of its vector registers.
    fn widened(self) -> Self {
        let low = self.0 & bits(XMM, VECTORS);
        Self(self.0 | low << VECTORS | low << (2 * VECTORS))
    }
}

impl BitOr for RegSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for RegSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for RegSet {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for RegSet {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// `rcx, rsi, xmm1, ymm2, k3`
impl fmt::Display for RegSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 16] = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
            "r15",
        ];
        let general = NAMES.iter().zip(0..).filter(|(_, n)| self.has(*n)).map(|(name, _)| (*name).to_owned());
        let vector = self.vectors().map(|(n, width)| match width {
            Width::Xmm => format!("xmm{n}"),
            Width::Ymm => format!("ymm{n}"),
            Width::Zmm => format!("zmm{n}"),
        });
        let mask = (0..8).filter(|n| self.has(MASK.saturating_add(*n))).map(|n| format!("k{n}"));
        f.write_str(&general.chain(vector).chain(mask).collect::<Vec<_>>().join(", "))
    }
}

/// What an instruction does with registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Their old values matter.
    pub reads: RegSet,
    /// They may have other values behind it.
    pub writes: RegSet,
    /// They certainly have new ones.
    pub kills: RegSet,
}

/// The effect of one instruction; of a call, only that of the instruction itself.
pub fn effect(factory: &mut InstructionInfoFactory, i: &Instruction) -> Effect {
    let mut all = Effect::default();
    if i.is_invalid() || i.mnemonic() == Mnemonic::Nop {
        return all;
    }
    if i.mnemonic() == Mnemonic::Vzeroupper {
        let upper = RegSet(bits(YMM, 16) | bits(ZMM, 16));
        return Effect { reads: RegSet::NONE, writes: upper, kills: upper };
    }
    for used in factory.info(i).used_registers() {
        let set = RegSet::of(used.register());
        match used.access() {
            OpAccess::Read | OpAccess::CondRead => all.reads |= set,
            OpAccess::Write => {
                all.writes |= set;
                all.kills |= set;
            }
            OpAccess::CondWrite => all.writes |= set,
            OpAccess::ReadWrite => {
                all.reads |= set;
                all.writes |= set;
                all.kills |= set;
            }
            OpAccess::ReadCondWrite => {
                all.reads |= set;
                all.writes |= set;
            }
            _ => {}
        }
    }
    if i.mnemonic() == Mnemonic::Syscall {
        all.writes |= RegSet::RAX;
    }
    let legacy = matches!(i.encoding(), EncodingKind::Legacy | EncodingKind::D3NOW);
    if !legacy {
        // Instructions of AVX make the rest of the register zero.
        all.writes = all.writes.widened();
        all.kills = all.kills.widened();
    }
    if let Some(result) = unused(i) {
        all.reads = all.reads.without(result);
    }
    all
}

/// The register whose old value an instruction names but does not use: `sbb eax, eax`, `pcmpeqd xmm0, xmm0`, and
/// conversions, which leave upper bits alone that nobody asks for.
fn unused(i: &Instruction) -> Option<RegSet> {
    use Mnemonic as M;
    let register = |n: u32| matches!(i.try_op_kind(n), Ok(OpKind::Register)).then(|| i.op_register(n));
    let first = register(0)?;
    let last = register(i.op_count().checked_sub(1)?);
    let same = matches!(i.mnemonic(), M::Sbb | M::Pcmpeqb | M::Pcmpeqw | M::Pcmpeqd | M::Pcmpeqq | M::Sub | M::Xor)
        && last == Some(first);
    let merges = matches!(
        i.mnemonic(),
        M::Cvtsi2sd
            | M::Cvtsi2ss
            | M::Cvtsd2ss
            | M::Cvtss2sd
            | M::Sqrtsd
            | M::Sqrtss
            | M::Roundsd
            | M::Roundss
            | M::Rcpss
            | M::Rsqrtss
            | M::Movsd
            | M::Movss
            | M::Movhlps
    ) && last != Some(first);
    let constant = || i.try_immediate(i.op_count().saturating_sub(1)).ok();
    let forced = match i.mnemonic() {
        M::And => constant() == Some(0),
        M::Or => constant().is_some_and(|value| value.cast_signed() == -1),
        _ => false,
    };
    if same || merges || forced {
        return Some(RegSet::of(first));
    }
    // vcvtsi2sd xmm0, xmm1, eax: xmm1 only gives the upper bits.
    let three = matches!(
        i.mnemonic(),
        M::Vcvtsi2sd | M::Vcvtsi2ss | M::Vcvtsd2ss | M::Vcvtss2sd | M::Vsqrtsd | M::Vsqrtss | M::Vroundsd | M::Vroundss
    );
    let source = register(1).filter(|r| three && last != Some(*r));
    source.map(RegSet::of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyse::prologue::decode;
    use lpb::LinkAddr;

    /// Bytes: GNU as.
    #[test]
    fn effects() {
        for (why, bytes, reads, writes, kills) in [
            ("imul esi,esi,1000", &[0x69, 0xf6, 0xe8, 3, 0, 0][..], "rsi", "rsi", "rsi"),
            ("lea eax,[rsi+rdx]", &[0x8d, 0x04, 0x16], "rdx, rsi", "rax", "rax"),
            ("mov al,1", &[0xb0, 1], "", "rax", "rax"),
            ("xor ecx,ecx", &[0x31, 0xc9], "", "rcx", "rcx"),
            ("sbb eax,eax", &[0x19, 0xc0], "", "rax", "rax"),
            ("or eax,-1", &[0x83, 0xc8, 0xff], "", "rax", "rax"),
            ("or eax,1", &[0x83, 0xc8, 1], "rax", "rax", "rax"),
            ("cmovne eax,edx", &[0x0f, 0x45, 0xc2], "rax, rdx", "rax", "rax"),
            ("nop [rax+rax]", &[0x0f, 0x1f, 0x44, 0, 0], "", "", ""),
            ("syscall", &[0x0f, 0x05], "", "rax, rcx, r11", "rcx, r11"),
            ("pxor xmm0,xmm0", &[0x66, 0x0f, 0xef, 0xc0], "", "xmm0", "xmm0"),
            ("pcmpeqd xmm1,xmm1", &[0x66, 0x0f, 0x76, 0xc9], "", "xmm1", "xmm1"),
            ("cvtsi2sd xmm0,edi", &[0xf2, 0x0f, 0x2a, 0xc7], "rdi", "xmm0", "xmm0"),
            ("movhlps xmm4,xmm0", &[0x0f, 0x12, 0xe0], "xmm0", "xmm4", "xmm4"),
            ("movhps xmm1,[rdi]", &[0x0f, 0x16, 0x0f], "rdi, xmm1", "xmm1", "xmm1"),
            ("addsd xmm1,xmm0", &[0xf2, 0x0f, 0x58, 0xc8], "xmm0, xmm1", "xmm1", "xmm1"),
            ("movapd xmm1,xmm3", &[0x66, 0x0f, 0x28, 0xcb], "xmm3", "xmm1", "xmm1"),
            ("vmovapd xmm1,xmm3", &[0xc5, 0xf9, 0x28, 0xcb], "xmm3", "zmm1", "zmm1"),
            ("vaddpd ymm0,ymm1,ymm2", &[0xc5, 0xf5, 0x58, 0xc2], "ymm1, ymm2", "zmm0", "zmm0"),
            ("vcvtsi2sd xmm1,xmm0,eax", &[0xc5, 0xfb, 0x2a, 0xc8], "rax", "zmm1", "zmm1"),
            ("kmovq k1,rax", &[0xc4, 0xe1, 0xfb, 0x92, 0xc8], "rax", "k1", "k1"),
        ] {
            let i = decode(bytes, LinkAddr(0)).next().unwrap();
            let e = effect(&mut InstructionInfoFactory::new(), &i);
            let all = [e.reads, e.writes, e.kills].map(|set| (set & RegSet::CALLER_SAVED).to_string());
            let want = [reads, writes, kills].map(str::to_owned);
            assert_eq!(all, want, "{why}");
        }
        // vzeroupper: the lower halves stay.
        let i = decode(&[0xc5, 0xf8, 0x77], LinkAddr(0)).next().unwrap();
        let e = effect(&mut InstructionInfoFactory::new(), &i);
        assert!(!e.writes.has(XMM) && !e.reads.has(XMM + 15), "{e:?}");
        assert!(e.writes.has(YMM) && e.writes.has(ZMM + 15) && !e.writes.has(YMM + 16), "{e:?}");
    }

    #[test]
    fn sets_are_cut_to_a_width() {
        let all = RegSet::CALLER_SAVED;
        assert_eq!(all.narrowed(None).to_string(), "rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11");
        assert_eq!(all.narrowed(Some(Width::Ymm)).vectors().collect::<Vec<_>>().len(), 16);
        assert_eq!(all.narrowed(Some(Width::Xmm)).width(), Some(Width::Xmm));
        assert_eq!(all.narrowed(Some(Width::Zmm)).vectors().last(), Some((31, Width::Zmm)));
        assert_eq!(all.without(RegSet::RESULTS).narrowed(Some(Width::Xmm)).vectors().next(), Some((2, Width::Xmm)));
    }
}
