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
    /// Most words of a stack lie outside.
    clusters: [Cluster; CLUSTERS],
}

/// Ranges that lie close together are told apart only if need be.
const CLUSTERS: usize = 3;

/// From the first address of some ranges to the one behind the last, and how far that is.
#[derive(Clone, Copy, Default)]
struct Cluster {
    lowest: u64,
    span: u64,
}

impl Cluster {
    fn holds(self, word: u64) -> bool {
        word.wrapping_sub(self.lowest) <= self.span
    }
}

impl<'a> Code<'a> {
    /// `ranges`: in any order.
    pub(super) fn of(ranges: &'a [CodeRange]) -> Self {
        let pushed = ranges.iter().filter_map(|r| Some((r, r.pushed?))).collect();
        Self { ranges, pushed, clusters: clusters(ranges) }
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
        // Without a branch or a loop: it is asked of every word.
        let [a, b, c] = self.clusters;
        (word == arch::FRAME_MARK) | a.holds(word) | b.holds(word) | c.holds(word)
    }

    /// The range that a thread returns into if this is a return address.
    pub(super) fn returned_into(&self, word: RunAddr) -> Option<&CodeRange> {
        if !self.clusters.iter().any(|cluster| cluster.holds(word.0)) {
            return None;
        }
        self.ranges.iter().find(|r| is_return_into(r, word))
    }

    /// The range that a thread has gone through if it has pushed these words.
    pub(super) fn passed(&self, words: [u64; 2]) -> Option<&CodeRange> {
        self.pushed.iter().find(|(_, pushed)| *pushed == words).map(|(r, _)| *r)
    }
}

/// The ranges in clusters, parted at the widest gaps: functions in a program and in its libraries, and the vdso, lie far apart, and
/// all that is mapped in between would count.
fn clusters(ranges: &[CodeRange]) -> [Cluster; CLUSTERS] {
    let mut bounds: Vec<(u64, u64)> = ranges.iter().map(|r| (r.start.0, r.end.0)).collect();
    bounds.sort_unstable();
    let ends = bounds.iter().scan(0, |end, (_, e)| {
        *end = (*e).max(*end);
        Some(*end)
    });
    // How wide the gap behind each is, and what lies on both sides of it.
    let gap = |(end, (next, _)): (u64, &(u64, u64))| Some((next.checked_sub(end)?, end, *next));
    let mut gaps: Vec<(u64, u64, u64)> = ends.zip(bounds.iter().skip(1)).filter_map(gap).collect();
    gaps.sort_unstable_by_key(|(width, ..)| std::cmp::Reverse(*width));
    gaps.truncate(CLUSTERS.saturating_sub(1));
    gaps.sort_unstable_by_key(|(_, end, _)| *end);
    let mut lowest = bounds.first().map_or(0, |(start, _)| *start);
    let highest = bounds.iter().map(|(_, end)| *end).max().unwrap_or_default();
    let mut gaps = gaps.into_iter();
    [(); CLUSTERS].map(|()| {
        let (end, next) = gaps.next().map_or((highest, lowest), |(_, end, next)| (end, next));
        let cluster = Cluster { lowest, span: end.wrapping_sub(lowest) };
        lowest = next;
        cluster
    })
}

/// A function's first address is a function pointer more often than a return address, and harmless.
fn is_return_into(r: &CodeRange, word: RunAddr) -> bool {
    if r.pushed.is_some() {
        return false;
    }
    let after_start = if r.harmless_to.is_some() { word > r.start } else { word >= r.start };
    after_start && (word < r.end || (word == r.end && r.may_end_in_call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_parted_at_the_widest_gaps() {
        for (why, ranges, want) in [
            ("none", vec![], [(0, 0); 3]),
            ("one", vec![(5, 9)], [(5, 9); 3]),
            ("two, in any order", vec![(50, 60), (5, 9)], [(5, 9), (50, 60), (50, 60)]),
            ("the narrow gap is covered", vec![(5, 9), (12, 20), (90, 95), (60, 70)], [(5, 20), (60, 70), (90, 95)]),
            ("one inside another", vec![(5, 90), (10, 20), (200, 210)], [(5, 90), (200, 210), (200, 210)]),
        ] {
            let range = |(start, end): &(u64, u64)| CodeRange {
                name: "f".into(),
                start: RunAddr(*start),
                end: RunAddr(*end),
                harmless_to: None,
                tail_called: false,
                may_end_in_call: false,
                pushed: None,
            };
            let ranges: Vec<CodeRange> = ranges.iter().map(range).collect();
            let got = clusters(&ranges).map(|c| (c.lowest, c.lowest + c.span));
            let holds = |word| Code::of(&ranges).clusters.iter().any(|c| c.holds(word));
            assert!(ranges.iter().all(|r| (r.start.0..=r.end.0).all(holds)), "{why}");
            let mut distinct: Vec<_> = got.to_vec();
            distinct.dedup();
            let mut wanted = want.to_vec();
            wanted.dedup();
            assert_eq!(distinct, wanted, "{why}");
        }
    }
}
