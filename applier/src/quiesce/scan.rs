//! The stacks of threads.

use super::Busy;
use super::code::Code;
use crate::arch::x86_64 as arch;
use crate::identify::maps::Maps;
use crate::plan::CodeRange;
use lpb::RunAddr;
use lpb::addr::{to_u64, to_usize};
use std::ops::Range;

/// Most bytes scanned for all threads of a stop; a stack beyond counts as busy.
pub const MAX_STACKED: u64 = 256 << 20;
/// Stacks that are followed through signal frames.
const MAX_STACKS: usize = 8;
/// Bytes read at a time: most live stacks have less.
const CHUNK: usize = 16 << 10;
/// Words of each piece that are judged together with the next, and their bytes.
const CARRIED_WORDS: usize = 3;
const CARRIED: usize = 24;
const PROT_WRITE: u32 = 2;

/// Room for a piece of a stack, and in front of it for the last words of the piece before. It serves again: memory that the
/// kernel has yet to give would be waited for by threads that stand still.
pub struct Piece(Vec<u8>);

impl Default for Piece {
    fn default() -> Self {
        // Zeroes would not be there before they are used.
        Self(vec![u8::MAX; CARRIED.saturating_add(CHUNK)])
    }
}

/// A stack in use: from its stack pointer up to its end, as far as its thread can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// Its stack pointer.
    pub sp: RunAddr,
    /// Behind its last byte.
    pub end: RunAddr,
}

impl Extent {
    /// The stack of `sp`. `tls`: where its thread has its data, if that is known: on the top of the stack that it was born with.
    pub fn of(maps: &Maps, sp: RunAddr, tls: Option<RunAddr>) -> Option<Self> {
        let mapping = maps.at(RunAddr(sp.0 & !7)).filter(|m| m.prot & PROT_WRITE != 0)?;
        // What is mapped behind it, a heap perhaps, may be large.
        let top = tls.filter(|tls| sp < *tls && mapping.holds(*tls) && mapping.path != "[stack]");
        Some(Self { sp, end: top.unwrap_or(mapping.end) })
    }

    /// The part that is left to read if others answer for theirs: up to the first whose own end is no nearer.
    pub(super) fn part_below(self, others: &[Self]) -> Range<RunAddr> {
        let above = others.get(others.partition_point(|other| other.sp <= self.sp)..).unwrap_or_default();
        let mut within = above.iter().take_while(|other| other.sp < self.end);
        let next = within.find(|other| other.end >= self.end).map_or(self.end, |other| other.sp);
        RunAddr(self.sp.0 & !7)..RunAddr(next.0 & !7)
    }
}

/// The forbidden code, and how to read the process.
pub struct Scan<'a> {
    code: Code<'a>,
    maps: &'a Maps,
    read: &'a dyn Fn(RunAddr, &mut [u8]) -> bool,
    /// The stacks of all threads, ascending. Where they lie in one mapping, each is scanned up to the next.
    others: &'a [Extent],
    /// Bytes that may still be read.
    budget: u64,
    piece: &'a mut [u8],
}

impl<'a> Scan<'a> {
    /// `code`: ranges in any order; `maps`: for the ends of stacks; `read` fills a buffer from an address.
    pub fn new(
        code: &'a [CodeRange],
        maps: &'a Maps,
        read: &'a dyn Fn(RunAddr, &mut [u8]) -> bool,
        piece: &'a mut Piece,
    ) -> Self {
        Self { code: Code::of(code), maps, read, others: &[], budget: MAX_STACKED, piece: &mut piece.0 }
    }

    /// Names the stacks of all threads that will be judged, ascending: what lies in the next one is that thread's to answer
    /// for, so no byte is read twice.
    pub fn with_others(mut self, others: &'a [Extent]) -> Self {
        self.others = others;
        self
    }

    /// Limits the bytes that may be read, to those that an earlier scan has left.
    pub fn with_budget(mut self, left: u64) -> Self {
        self.budget = left;
        self
    }

    /// Bytes that may still be read.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Judges a thread by instruction and stack pointer. `tls`: where its thread-local data is, if that is known: on the top of
    /// the stack that it was born with. `None`: it is not in the way.
    pub fn thread(&mut self, pc: RunAddr, sp: RunAddr, tls: Option<RunAddr>) -> Option<Busy> {
        if let Some(busy) = self.code.executed_at(pc) {
            return Some(busy);
        }
        let Some(first) = Extent::of(self.maps, sp, tls) else { return Some(Busy::Unknown { sp }) };
        let mut stacks = vec![first];
        let mut next = 0;
        while let Some(stack) = stacks.get(next).copied() {
            if let Some(busy) = self.stack(stack, tls, &mut stacks) {
                return Some(busy);
            }
            next = next.saturating_add(1);
        }
        None
    }

    /// Judges what a thread has in its registers: a return address is there alone while `vfork` runs, which keeps it off the
    /// stack that it shares with the child, and while a context is switched.
    pub fn registers(&self, words: &[u64]) -> Option<Busy> {
        let into = |word: &u64| Some((*word, self.code.returned_into(RunAddr(*word))?));
        let (word, r) = words.iter().find_map(into)?;
        Some(Busy::Returns { function: r.name.clone(), to: RunAddr(word), depth: 0 })
    }

    /// Whether `sp` points into memory that can be a stack.
    pub fn is_stack(&self, sp: RunAddr) -> bool {
        Extent::of(self.maps, sp, None).is_some()
    }

    fn stack(&mut self, stack: Extent, tls: Option<RunAddr>, stacks: &mut Vec<Extent>) -> Option<Busy> {
        let sp = stack.sp;
        let unknown = Some(Busy::Unknown { sp });
        let Range { start: mut at, end } = stack.part_below(self.others);
        self.piece.iter_mut().take(CARRIED).for_each(|byte| *byte = 0);
        while at < end {
            let len = to_u64(CHUNK).min(end.since(at).unwrap_or(0));
            let Some(left) = self.budget.checked_sub(len) else { return unknown };
            self.budget = left;
            let filled = CARRIED.saturating_add(to_usize(len));
            if !self.piece.get_mut(CARRIED..filled).is_some_and(|chunk| (self.read)(at, chunk)) {
                return unknown;
            }
            let words = self.piece.get(..filled).unwrap_or_default().as_chunks().0;
            if let Some(busy) = self.words(words, (sp, tls), at, stacks) {
                return Some(busy);
            }
            self.piece.copy_within(filled.saturating_sub(CARRIED)..filled, 0);
            at = RunAddr(at.0.saturating_add(len));
        }
        None
    }

    /// Judges the words of a stack that was read to `at`, behind those that were judged before.
    fn words(
        &self,
        words: &[[u8; 8]],
        (sp, tls): (RunAddr, Option<RunAddr>),
        at: RunAddr,
        stacks: &mut Vec<Extent>,
    ) -> Option<Busy> {
        if !self.code.may_be_told_by(words) {
            return None;
        }
        let word = |index: usize| words.get(index).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        for index in CARRIED_WORDS..words.len() {
            let last = word(index);
            if !self.code.matters(last) {
                continue;
            }
            let new = index.saturating_sub(CARRIED_WORDS);
            let place = RunAddr(at.0.saturating_add(to_u64(new).saturating_mul(8)));
            if let Some(r) = self.code.returned_into(RunAddr(last)) {
                let depth = place.since(RunAddr(sp.0 & !7)).unwrap_or(0);
                return Some(Busy::Returns { function: r.name.clone(), to: RunAddr(last), depth });
            }
            let before = |n| word(index.saturating_sub(n));
            if let Some(r) = self.code.passed([before(1), last]) {
                return Some(Busy::Passed { function: r.name.clone(), place });
            }
            let interrupted = arch::signal_frame_rsp([before(3), before(2), before(1), last]);
            if !interrupted.is_none_or(|sp| self.follow(sp, tls, stacks)) {
                return Some(Busy::Unknown { sp });
            }
        }
        None
    }

    /// Adds the stack that a signal interrupted, unless a scan on the way covers it anyway. `false`: it is none, or there are too
    /// many.
    fn follow(&self, sp: RunAddr, tls: Option<RunAddr>, stacks: &mut Vec<Extent>) -> bool {
        // A word that only looks like a signal frame.
        let Some(interrupted) = Extent::of(self.maps, sp, tls) else { return self.maps.at(sp).is_none() };
        if stacks.iter().any(|known| known.sp <= interrupted.sp && interrupted.end <= known.end) {
            return true;
        }
        stacks.push(interrupted);
        stacks.len() <= MAX_STACKS
    }
}

/// The piece of a stack that [`Scan::thread`] reads first: most stacks have no more.
pub fn first_piece(stack: Extent, others: &[Extent]) -> Option<Range<RunAddr>> {
    let Range { start, end } = stack.part_below(others);
    let end = start.plus(to_u64(CHUNK))?.min(end);
    (start < end).then_some(start..end)
}
