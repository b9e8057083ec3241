//! Functions of a module as instructions, decoded once each.

use crate::analyse::graph;
use crate::analyse::prologue::{branch_target, decode};
use crate::arch::x86_64::registers::{RegSet, effect};
use crate::read::elf::Object;
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use lpb::addr::to_u64;
use lpb::{LinkAddr, limits};
use object::elf;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// So many instructions are decoded for all questions about one module; what lies beyond counts as unknown.
const MOST: u64 = 4_000_000;

/// One function.
#[derive(Debug)]
pub struct Body {
    pub start: LinkAddr,
    pub end: LinkAddr,
    pub name: String,
    pub code: Vec<Instruction>,
    /// What its own instructions may change.
    pub writes: RegSet,
    /// Where it calls, and where it jumps to outside itself.
    pub reaches: Vec<LinkAddr>,
    /// It also goes where no address says.
    pub unknown: bool,
    /// Its own instructions change memory other than its frame, or enter the kernel.
    pub stores: bool,
}

impl Body {
    /// The number of the instruction at an address.
    pub fn index(&self, at: LinkAddr) -> Option<usize> {
        self.code.binary_search_by_key(&at.0, Instruction::ip).ok()
    }

    pub fn holds(&self, at: LinkAddr) -> bool {
        self.start <= at && at < self.end
    }

    /// The instructions by which a variadic function stores all registers that may hold an argument, used or not: rdi at D,
    /// rsi at D+8 and so on up to r9, as far as it has no names for them.
    pub fn spills(&self) -> Vec<LinkAddr> {
        const PROLOGUE: usize = 60;
        const ORDER: [Register; 6] =
            [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];
        let store = |i: &Instruction| {
            let on_stack =
                i.mnemonic() == Mnemonic::Mov && i.op0_kind() == OpKind::Memory && i.op1_kind() == OpKind::Register;
            let based = matches!(i.memory_base(), Register::RSP | Register::RBP) && i.memory_index() == Register::None;
            let number = ORDER.iter().zip(0_u64..).find(|(r, _)| **r == i.op1_register() && on_stack && based)?.1;
            Some((LinkAddr(i.ip()), number, i.memory_displacement64().wrapping_sub(number.wrapping_mul(8))))
        };
        let stores: Vec<_> = self.code.iter().take(PROLOGUE).filter_map(store).collect();
        let Some((.., area)) = stores.iter().find(|(_, number, _)| *number == 5) else { return Vec::new() };
        let all: Vec<LinkAddr> = stores.iter().filter(|(.., at)| at == area).map(|(ip, ..)| *ip).collect();
        if all.len() > 1 || self.asks_for_vectors() { all } else { Vec::new() }
    }

    /// Whether it looks at al first, which counts the vector registers with arguments of a variadic call.
    fn asks_for_vectors(&self) -> bool {
        const PROLOGUE: usize = 40;
        let asks = |i: &Instruction| {
            i.mnemonic() == Mnemonic::Test && i.op0_register() == Register::AL && i.op1_register() == Register::AL
        };
        let calls = |i: &Instruction| matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        self.code.iter().take(PROLOGUE).take_while(|i| !calls(i)).any(asks)
    }

    /// As [`Body::spills`], for vector registers.
    pub fn vector_spills(&self) -> Vec<LinkAddr> {
        const PROLOGUE: usize = 60;
        let store = |i: &&Instruction| {
            let vector = i.op1_kind() == OpKind::Register && i.op1_register().is_xmm();
            vector && i.op0_kind() == OpKind::Memory && matches!(i.memory_base(), Register::RSP | Register::RBP)
        };
        let all = self.code.iter().take(PROLOGUE).filter(store).map(|i| LinkAddr(i.ip()));
        if self.asks_for_vectors() { all.collect() } else { Vec::new() }
    }
}

/// Where an instruction leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Next,
    /// To the address, or to the next instruction.
    Branch(LinkAddr),
    Jump(LinkAddr),
    /// By a table inside the function.
    Table,
    /// A function that no address says, in the place of this one.
    Leave,
    Call(LinkAddr),
    CallUnknown,
    Return,
    /// Nothing runs behind it.
    Stop,
}

/// The flow behind one instruction.
pub fn flow(i: &Instruction) -> Flow {
    let target = branch_target(i);
    match (i.flow_control(), target) {
        (FlowControl::Next | FlowControl::XbeginXabortXend, _) => Flow::Next,
        (FlowControl::ConditionalBranch, Some(to)) => Flow::Branch(to),
        (FlowControl::UnconditionalBranch, Some(to)) => Flow::Jump(to),
        (FlowControl::Call, Some(to)) => Flow::Call(to),
        (FlowControl::Call | FlowControl::IndirectCall, _) if i.mnemonic() != Mnemonic::Syscall => Flow::CallUnknown,
        (FlowControl::Call | FlowControl::IndirectCall, _) => Flow::Next,
        (FlowControl::Return, _) => Flow::Return,
        (FlowControl::IndirectBranch, _) => {
            // A table is asked with an index; `jmp rax` comes behind the sum that makes the address.
            let tail = i.op0_kind() == OpKind::Memory && i.memory_index() == Register::None;
            if tail { Flow::Leave } else { Flow::Table }
        }
        // int3 and ud2 end the program.
        _ => Flow::Stop,
    }
}

/// The code of a module.
pub struct Code<'a> {
    pub object: &'a Object,
    /// Start, size and name of all functions, ascending.
    functions: OnceCell<Vec<(LinkAddr, u64, String)>>,
    bodies: RefCell<HashMap<LinkAddr, Option<Rc<Body>>>>,
    decoded: Cell<u64>,
    /// Limits that were met, since this was last asked.
    met: Cell<Option<&'static str>>,
    /// What may be a branch to the start of a function, and where it stands; ascending.
    suspects: OnceCell<Vec<(LinkAddr, LinkAddr)>>,
}

/// A direct branch to the start of a function, in another one.
pub struct Caller {
    pub body: Rc<Body>,
    pub at: LinkAddr,
    /// A tail call.
    pub jump: bool,
}

impl<'a> Code<'a> {
    pub fn of(object: &'a Object) -> Self {
        let (functions, bodies, suspects) = (OnceCell::new(), RefCell::default(), OnceCell::new());
        Self { object, functions, bodies, decoded: Cell::new(0), met: Cell::default(), suspects }
    }

    /// Notes that an answer is not the whole truth.
    pub fn meet(&self, limit: &'static str) {
        self.met.set(Some(limit));
    }

    /// The limit that was met, if there was one, since the last question.
    pub fn met(&self) -> Option<&'static str> {
        self.met.take()
    }

    fn functions(&self) -> &[(LinkAddr, u64, String)] {
        self.functions.get_or_init(|| {
            let loads = self.object.loads.iter().filter(|s| s.flags & elf::PF_X.0 != 0);
            let all = loads.flat_map(|s| graph::functions(self.object, s.vaddr, s.filesz));
            all.map(|(start, size, name)| (start, size, name.to_string())).collect()
        })
    }

    /// Functions of this name.
    pub fn named(&self, name: &str) -> Vec<LinkAddr> {
        self.functions().iter().filter(|(_, _, n)| n == name).map(|(at, ..)| *at).collect()
    }

    /// Who calls the function at `entry` or jumps there.
    pub fn callers(&self, entry: LinkAddr) -> Vec<Caller> {
        let suspects = self.suspects.get_or_init(|| self.find_suspects());
        let first = suspects.partition_point(|(to, _)| *to < entry);
        let sites =
            suspects.get(first..).unwrap_or_default().iter().take_while(|(to, _)| *to == entry).map(|(_, at)| *at);
        let caller = |at: LinkAddr| {
            let body = self.body(at).filter(|b| b.start != entry)?;
            let i = body.code.get(body.index(at)?).filter(|i| branch_target(i) == Some(entry))?;
            let jump = i.flow_control() != FlowControl::Call;
            Some(Caller { body, at, jump })
        };
        sites.filter_map(caller).collect()
    }

    /// Looks at every byte that can be the start of `call`, `jmp` or `jcc`: only a few of them lead to a function.
    fn find_suspects(&self) -> Vec<(LinkAddr, LinkAddr)> {
        let starts: HashSet<u64> = self.functions().iter().map(|(at, ..)| at.0).collect();
        let mut found = Vec::new();
        for load in self.object.loads.iter().filter(|s| s.flags & elf::PF_X.0 != 0) {
            let Ok(bytes) = self.object.memory(load.vaddr, load.filesz) else { continue };
            for (at, tail) in (load.vaddr.0..).zip((0..bytes.len()).map(|n| bytes.get(n..).unwrap_or_default())) {
                let word = |tail: &[u8]| tail.first_chunk::<4>().map(|b| i64::from(i32::from_le_bytes(*b)));
                let branch = match tail {
                    [0xE8 | 0xE9, rest @ ..] => word(rest).map(|d| (5, d)),
                    [0x0F, 0x80..=0x8F, rest @ ..] => word(rest).map(|d| (6, d)),
                    [0xEB | 0x70..=0x7F, d, ..] => Some((2, i64::from(d.cast_signed()))),
                    _ => None,
                };
                let to = branch.map(|(len, distance)| at.wrapping_add(len).wrapping_add_signed(distance));
                if let Some(to) = to.filter(|to| starts.contains(to)) {
                    found.push((LinkAddr(to), LinkAddr(at)));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// The function that an address lies in; none if no symbol says so.
    pub fn body(&self, at: LinkAddr) -> Option<Rc<Body>> {
        let functions = self.functions();
        let behind = functions.partition_point(|(start, ..)| *start <= at);
        // Looking back a few symbols steps over aliases and labels.
        let before = functions.get(..behind)?.iter().rev().take(16);
        let (start, size, name) = before.rev().find(|(start, size, _)| at.since(*start).is_some_and(|n| n < *size))?;
        let mut bodies = self.bodies.borrow_mut();
        let body = bodies.entry(*start).or_insert_with(|| self.decode(*start, *size, name).map(Rc::new));
        if body.is_none() {
            self.meet(
                "there is more code around it than is decoded for this (4000000 instructions, 16 MiB in one piece)",
            );
        }
        body.clone()
    }

    fn decode(&self, start: LinkAddr, size: u64, name: &str) -> Option<Body> {
        if size > limits::FRAGMENT || self.decoded.get() > MOST {
            return None;
        }
        let bytes = self.object.memory(start, size).ok()?;
        let code: Vec<Instruction> = decode(&bytes, start).collect();
        self.decoded.set(self.decoded.get().saturating_add(to_u64(code.len())));
        let (name, writes) = (name.to_owned(), RegSet::NONE);
        let end = start.plus(size)?;
        let mut body = Body { start, end, name, code, writes, reaches: Vec::new(), unknown: false, stores: false };
        let mut factory = InstructionInfoFactory::new();
        for i in &body.code {
            body.writes |= effect(&mut factory, i).writes;
            body.stores = body.stores || stores(&mut factory, i);
            match flow(i) {
                Flow::Call(to) => body.reaches.push(to),
                Flow::Jump(to) | Flow::Branch(to) if to < body.start || body.end <= to => body.reaches.push(to),
                Flow::CallUnknown | Flow::Leave => body.unknown = true,
                _ => {}
            }
        }
        Some(body)
    }
}

/// Whether an instruction changes memory that is not found by the stack or frame pointer, or enters the kernel.
fn stores(factory: &mut InstructionInfoFactory, i: &Instruction) -> bool {
    let changes =
        |access| !matches!(access, OpAccess::None | OpAccess::NoMemAccess | OpAccess::Read | OpAccess::CondRead);
    let framed = |base| matches!(base, Register::RSP | Register::RBP);
    let mut memory = factory.info(i).used_memory().iter();
    i.mnemonic() == Mnemonic::Syscall || memory.any(|m| changes(m.access()) && !framed(m.base()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes: GNU as.
    #[test]
    fn flows() {
        let to = LinkAddr(0x1000);
        for (why, bytes, want) in [
            ("nop", &[0x90][..], Flow::Next),
            ("syscall", &[0x0f, 0x05], Flow::Next),
            ("je", &[0x74, 0xfe], Flow::Branch(to)),
            ("jmp", &[0xeb, 0xfe], Flow::Jump(to)),
            ("call", &[0xe8, 0xfb, 0xff, 0xff, 0xff], Flow::Call(to)),
            ("call rax", &[0xff, 0xd0], Flow::CallUnknown),
            ("jmp rax", &[0xff, 0xe0], Flow::Table),
            ("jmp [rax*8+0]", &[0xff, 0x24, 0xc5, 0, 0, 0, 0], Flow::Table),
            ("jmp [rip+0]", &[0xff, 0x25, 0, 0, 0, 0], Flow::Leave),
            ("jmp [rdi+8]", &[0xff, 0x67, 0x08], Flow::Leave),
            ("ret", &[0xc3], Flow::Return),
            ("ud2", &[0x0f, 0x0b], Flow::Stop),
            ("int3", &[0xcc], Flow::Stop),
            ("hlt", &[0xf4], Flow::Next),
        ] {
            assert_eq!(flow(&decode(bytes, to).next().unwrap()), want, "{why}");
        }
    }

    fn body(bytes: &[u8]) -> Body {
        let code = decode(bytes, LinkAddr(0)).collect();
        let (start, end, writes) = (LinkAddr(0), LinkAddr(to_u64(bytes.len())), RegSet::NONE);
        Body { start, end, name: String::new(), code, writes, reaches: Vec::new(), unknown: false, stores: false }
    }

    /// Prologues as gcc makes them.
    #[test]
    fn unnamed_arguments() {
        // sub rsp,0xd8; mov [rsp+0x38],rcx; mov [rsp+0x40],r8; mov [rsp+0x48],r9
        let variadic = [
            0x48, 0x81, 0xec, 0xd8, 0, 0, 0, 0x48, 0x89, 0x4c, 0x24, 0x38, 0x4c, 0x89, 0x44, 0x24, 0x40, 0x4c, 0x89,
            0x4c, 0x24, 0x48,
        ];
        assert_eq!(body(&variadic).spills(), [7, 12, 17].map(LinkAddr));
        // mov [rbp-8],rdi; mov [rbp-16],rsi; mov [rbp-48],r9: without optimisation
        let plain = [0x48, 0x89, 0x7d, 0xf8, 0x48, 0x89, 0x75, 0xf0, 0x4c, 0x89, 0x4d, 0xd0];
        assert_eq!(body(&plain).spills(), []);
        assert_eq!(body(&[0xc3]).vector_spills(), []);
    }
}
