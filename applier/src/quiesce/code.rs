//! The code that no thread may be in or return into, and how the words of a stack tell of it.

use super::Busy;
use crate::arch::x86_64 as arch;
use crate::plan::CodeRange;
use lpb::RunAddr;

/// Forbidden code.
pub(super) struct Code<'a> {
    ranges: &'a [CodeRange],
    /// Pairs of words that give a thread away.
    pushed: Vec<(&'a CodeRange, [u64; 2])>,
    /// From the first to the last address of all ranges: most words of a stack lie outside.
    lowest: u64,
    span: u64,
}

impl<'a> Code<'a> {
    /// `ranges`: in any order.
    pub(super) fn of(ranges: &'a [CodeRange]) -> Self {
        let lowest = ranges.iter().map(|r| r.start.0).min().unwrap_or_default();
        let highest = ranges.iter().map(|r| r.end.0).max().unwrap_or_default();
        let pushed = ranges.iter().filter_map(|r| Some((r, r.pushed?))).collect();
        Self { ranges, pushed, lowest, span: highest.wrapping_sub(lowest) }
    }

    /// Whether a thread at `pc` executes it.
    pub(super) fn executed_at(&self, pc: RunAddr) -> Option<Busy> {
        let inside =
            |r: &&CodeRange| r.start <= pc && pc < r.end && (r.tail_called || r.harmless_to.is_none_or(|to| pc > to));
        self.ranges.iter().find(inside).map(|r| Busy::Inside { function: r.name.clone(), pc })
    }

    /// Whether any of the words may say something: in most stacks none does, and threads stand still while this is found out.
    pub(super) fn may_be_told_by(&self, words: &[[u8; 8]]) -> bool {
        let telling = words.iter().fold(false, |told, word| told | self.tells(u64::from_le_bytes(*word)));
        telling || !self.pushed.is_empty()
    }

    /// Whether a word may say something.
    pub(super) fn matters(&self, word: u64) -> bool {
        self.tells(word) || self.pushed.iter().any(|(_, [_, last])| *last == word)
    }

    fn tells(&self, word: u64) -> bool {
        (word.wrapping_sub(self.lowest) <= self.span) | (word == arch::FRAME_MARK)
    }

    /// The range that a thread returns into if this is a return address.
    pub(super) fn returned_into(&self, word: RunAddr) -> Option<&CodeRange> {
        if word.0.wrapping_sub(self.lowest) > self.span {
            return None;
        }
        self.ranges.iter().find(|r| is_return_into(r, word))
    }

    /// The range that a thread has gone through if it has pushed these words.
    pub(super) fn passed(&self, words: [u64; 2]) -> Option<&CodeRange> {
        self.pushed.iter().find(|(_, pushed)| *pushed == words).map(|(r, _)| *r)
    }
}

/// A function's first address is a function pointer more often than a return address, and harmless.
fn is_return_into(r: &CodeRange, word: RunAddr) -> bool {
    if r.pushed.is_some() {
        return false;
    }
    let after_start = if r.harmless_to.is_some() { word > r.start } else { word >= r.start };
    after_start && (word < r.end || (word == r.end && r.may_end_in_call))
}
