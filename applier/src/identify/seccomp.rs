//! What a seccomp filter says to a system call, found out by running the filter here. Pure.
//!
//! A filter is a classic BPF program over `struct seccomp_data`; it only jumps forwards, so it ends. Several filters may
//! be installed: all run, and the strictest answer counts.
//!
//! ```text
//! struct seccomp_data    0 nr    4 arch    8 instruction pointer    16 args[6]        64 bytes
//! ```
//! Source: linux/seccomp.h, linux/filter.h, linux/bpf_common.h; seccomp(2) "Filters" for the order of the answers.

use lpb::RunAddr;

/// One instruction, `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Forward jump if true.
    pub jt: u8,
    /// Forward jump if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}
const _: () = assert!(size_of::<Instruction>() == 8);

/// What becomes of a system call, from strictest to mildest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// The process is killed.
    KillProcess,
    /// The thread is killed.
    KillThread,
    /// SIGSYS.
    Trap,
    /// The call fails.
    Errno,
    /// A supervisor decides.
    Notify,
    /// A tracer decides.
    Trace,
    /// Logged and made.
    Log,
    /// Made.
    Allow,
}

impl Answer {
    /// Whether the call is made as if there were no filter.
    pub fn harmless(self) -> bool {
        matches!(self, Self::Log | Self::Allow)
    }

    /// What happens, for messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::KillProcess => "kills the process",
            Self::KillThread => "kills the thread",
            Self::Trap => "sends SIGSYS",
            Self::Errno => "makes the call fail",
            Self::Notify => "asks a supervisor",
            Self::Trace => "asks a tracer",
            Self::Log | Self::Allow => "allows the call",
        }
    }

    /// The kernel treats an action that it does not know as `KILL_PROCESS`.
    fn of(value: u32) -> Self {
        match value & 0xffff_0000 {
            0x7fff_0000 => Self::Allow,
            0x7ffc_0000 => Self::Log,
            0x7ff0_0000 => Self::Trace,
            0x7fc0_0000 => Self::Notify,
            0x0005_0000 => Self::Errno,
            0x0003_0000 => Self::Trap,
            0 => Self::KillThread,
            _ => Self::KillProcess,
        }
    }
}

/// One system call as a filter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub nr: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// `AUDIT_ARCH_X86_64` of linux/audit.h.
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const DATA_LEN: u32 = 64;
/// Words of scratch memory, `BPF_MEMWORDS`.
const SCRATCH: usize = 16;

/// The answer of all `filters` to `call`, made at `ip`.
pub fn answer(filters: &[Vec<Instruction>], call: &Call, ip: RunAddr) -> Answer {
    let data = data(call, ip);
    // A program that the kernel would not have accepted is judged by its worst case.
    let one = |program: &Vec<Instruction>| run(program, &data).map_or(Answer::KillProcess, Answer::of);
    filters.iter().map(one).min().unwrap_or(Answer::Allow)
}

fn data(call: &Call, ip: RunAddr) -> [u8; 64] {
    let mut data = [0; 64];
    let head = call.nr & 0xffff_ffff | u64::from(AUDIT_ARCH_X86_64) << 32;
    let words = [head, ip.0].into_iter().chain(call.args);
    data.chunks_exact_mut(8).zip(words).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
    data
}

/// The machine: accumulator, index, scratch memory.
#[derive(Default)]
struct Machine {
    a: u32,
    x: u32,
    scratch: [u32; SCRATCH],
}

/// Runs a program to its return value; `None`: it is not one that seccomp accepts.
fn run(program: &[Instruction], data: &[u8; 64]) -> Option<u32> {
    let mut m = Machine::default();
    let mut pc = 0_usize;
    loop {
        let i = program.get(pc)?;
        pc = pc.checked_add(1)?;
        // The lowest three bits are the class.
        match i.code & 7 {
            0 => m.a = m.load(i, data)?,
            1 => m.x = m.load(i, data)?,
            2 => *m.scratch.get_mut(usize::try_from(i.k).ok()?)? = m.a,
            3 => *m.scratch.get_mut(usize::try_from(i.k).ok()?)? = m.x,
            4 => m.a = m.alu(i)?,
            5 => pc = pc.checked_add(m.jump(i)?)?,
            6 => return Some(if i.code & 0x18 == 0x10 { m.a } else { i.k }),
            _ if i.code == 0x07 => m.x = m.a,
            _ if i.code == 0x87 => m.a = m.x,
            _ => return None,
        }
    }
}

impl Machine {
    fn load(&self, i: &Instruction, data: &[u8; 64]) -> Option<u32> {
        // The upper three bits are the mode.
        match i.code & 0xe0 {
            0x00 => Some(i.k),
            0x20 => {
                let at = usize::try_from(i.k).ok()?;
                let word = data.get(at..at.checked_add(4)?)?;
                word.try_into().ok().map(u32::from_le_bytes)
            }
            0x60 => self.scratch.get(usize::try_from(i.k).ok()?).copied(),
            0x80 => Some(DATA_LEN),
            _ => None,
        }
    }

    fn operand(&self, i: &Instruction) -> u32 {
        if i.code & 8 == 0 { i.k } else { self.x }
    }

    fn alu(&self, i: &Instruction) -> Option<u32> {
        let (a, b) = (self.a, self.operand(i));
        Some(match i.code & 0xf0 {
            0x00 => a.wrapping_add(b),
            0x10 => a.wrapping_sub(b),
            0x20 => a.wrapping_mul(b),
            0x30 => a.checked_div(b)?,
            0x40 => a | b,
            0x50 => a & b,
            0x60 => a.checked_shl(b)?,
            0x70 => a.checked_shr(b)?,
            0x80 => a.wrapping_neg(),
            0xa0 => a ^ b,
            _ => return None,
        })
    }

    /// How many instructions are skipped.
    fn jump(&self, i: &Instruction) -> Option<usize> {
        let (a, b) = (self.a, self.operand(i));
        let holds = match i.code & 0xf0 {
            0x00 => return usize::try_from(i.k).ok(),
            0x10 => a == b,
            0x20 => a > b,
            0x30 => a >= b,
            0x40 => a & b != 0,
            _ => return None,
        };
        Some(usize::from(if holds { i.jt } else { i.jf }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ins(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    /// As libseccomp writes it: check the machine, then compare the number.
    fn deny(nr: u32, action: u32) -> Vec<Instruction> {
        vec![
            ins(0x20, 0, 0, 4),
            ins(0x15, 0, 3, AUDIT_ARCH_X86_64),
            ins(0x20, 0, 0, 0),
            ins(0x15, 0, 1, nr),
            ins(0x06, 0, 0, action),
            ins(0x06, 0, 0, 0x7fff_0000),
        ]
    }

    #[test]
    fn the_strictest_filter_counts() {
        let mmap = Call { nr: 9, args: [0, 4096, 5, 0x22, u64::MAX, 0] };
        // Denies mmap with PROT_EXEC: tests bit 2 of the third argument.
        let no_exec = vec![
            ins(0x20, 0, 0, 0),
            ins(0x15, 0, 3, 9),
            ins(0x20, 0, 0, 32),
            ins(0x45, 0, 1, 4),
            ins(0x06, 0, 0, 0x0005_0001),
            ins(0x06, 0, 0, 0x7fff_0000),
        ];
        let loops = vec![ins(0x05, 0, 0, u32::MAX)];
        for (why, filters, want) in [
            ("none", vec![], Answer::Allow),
            ("another call", vec![deny(41, 0x8000_0000)], Answer::Allow),
            ("kill", vec![deny(9, 0x8000_0000)], Answer::KillProcess),
            ("errno and log", vec![deny(9, 0x7ffc_0000), deny(9, 0x0005_0001)], Answer::Errno),
            ("an argument", vec![no_exec], Answer::Errno),
            ("runs off its end", vec![loops], Answer::KillProcess),
            ("empty", vec![vec![]], Answer::KillProcess),
        ] {
            assert_eq!(answer(&filters, &mmap, RunAddr(0x7000)), want, "{why}");
        }
    }
}
