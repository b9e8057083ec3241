//! The stacks of threads.

use super::Busy;
use super::code::Code;
use crate::arch::x86_64 as arch;
use crate::identify::maps::{self, Maps};
use crate::plan::CodeRange;
use lpb::RunAddr;
use lpb::addr::{to_u64, to_usize};
use std::ops::Range;

/// Most bytes scanned for all threads of a stop; a stack beyond counts as busy.
pub const MAX_STACKED: u64 = 256 << 20;
/// Stacks that are followed through signal frames.
const MAX_STACKS: usize = 8;
/// Bytes read at a time: most live stacks have less.
const CHUNK: usize = 8 << 10;
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

/// The forbidden code, and how to read the process.
pub struct Scan<'a> {
    code: Code<'a>,
    maps: &'a Maps,
    read: &'a dyn Fn(RunAddr, &mut [u8]) -> bool,
    /// Stack pointers of all threads, ascending. Where stacks lie in one mapping, each is scanned up to the next.
    tops: &'a [RunAddr],
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
        Self { code: Code::of(code), maps, read, tops: &[], budget: MAX_STACKED, piece: &mut piece.0 }
    }

    /// Names the stack pointers of all threads that will be judged, ascending: what lies above the next one is that thread's
    /// to answer for, so no byte is read twice.
    pub fn with_tops(mut self, tops: &'a [RunAddr]) -> Self {
        self.tops = tops;
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
        let mut stacks = vec![sp];
        let mut next = 0;
        while let Some(sp) = stacks.get(next).copied() {
            if let Some(busy) = self.stack(sp, tls, &mut stacks) {
                return Some(busy);
            }
            next = next.saturating_add(1);
        }
        None
    }

    /// Whether `sp` points into memory that can be a stack.
    pub fn is_stack(&self, sp: RunAddr) -> bool {
        self.maps.at(sp).is_some_and(|m| m.prot & PROT_WRITE != 0)
    }

    fn stack(&mut self, sp: RunAddr, tls: Option<RunAddr>, stacks: &mut Vec<RunAddr>) -> Option<Busy> {
        let start = RunAddr(sp.0 & !7);
        let unknown = Some(Busy::Unknown { sp });
        let Some(mapping) = self.maps.at(start).filter(|m| m.prot & PROT_WRITE != 0) else { return unknown };
        // What is mapped behind it, a heap perhaps, may be large.
        let top = tls.filter(|tls| sp < *tls && mapping.holds(*tls) && mapping.path != "[stack]");
        let end = end_of_stack(mapping, self.tops, sp).min(top.unwrap_or(mapping.end));
        let mut at = start;
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
            if let Some(busy) = self.words(words, sp, at, stacks) {
                return Some(busy);
            }
            self.piece.copy_within(filled.saturating_sub(CARRIED)..filled, 0);
            at = RunAddr(at.0.saturating_add(len));
        }
        None
    }

    /// Judges the words of a stack that was read to `at`, behind those that were judged before.
    fn words(&self, words: &[[u8; 8]], sp: RunAddr, at: RunAddr, stacks: &mut Vec<RunAddr>) -> Option<Busy> {
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
            if !self.follow(arch::signal_frame_rsp([before(3), before(2), before(1), last]), stacks) {
                return Some(Busy::Unknown { sp });
            }
        }
        None
    }

    /// Adds the stack that a signal interrupted, unless a scan on the way covers it anyway. `false`: there are too many.
    fn follow(&self, interrupted: Option<RunAddr>, stacks: &mut Vec<RunAddr>) -> bool {
        let Some((sp, mapping)) = interrupted.and_then(|sp| Some((sp, self.maps.at(sp)?))) else { return true };
        if stacks.iter().any(|known| mapping.holds(*known) && *known <= sp) {
            return true;
        }
        stacks.push(sp);
        stacks.len() <= MAX_STACKS
    }
}

/// Where the stack of `sp` in this mapping ends: at the next stack pointer of `tops`, which are ascending.
fn end_of_stack(mapping: &maps::Mapping, tops: &[RunAddr], sp: RunAddr) -> RunAddr {
    let above = tops.get(tops.partition_point(|top| *top <= sp)).copied();
    above.map_or(mapping.end, |top| RunAddr(top.0 & !7).min(mapping.end))
}

/// The piece of the stack of `sp` that [`Scan::thread`] reads first: most stacks have no more.
pub fn first_piece(maps: &Maps, tops: &[RunAddr], sp: RunAddr) -> Option<Range<RunAddr>> {
    let start = RunAddr(sp.0 & !7);
    let mapping = maps.at(start).filter(|m| m.prot & PROT_WRITE != 0)?;
    let end = start.plus(to_u64(CHUNK))?.min(end_of_stack(mapping, tops, sp));
    (start < end).then_some(start..end)
}
