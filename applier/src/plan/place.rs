//! Free addresses for what the patch brings. Pure.
//!
//! ```text
//!        ◄──────────── 2 GiB ────────────►◄──────────── 2 GiB ────────────►
//! ──┬─────────┬───── free ─────┬─────────┬──────────┬─ free ─┬──────────┬──
//!   │ mapping │       ████ ◄── │ margin  │  module  │ margin │  [heap]  │ kept free for brk
//! ──┴─────────┴────────────────┴─────────┴──────────┴────────┴──────────┴──
//! ```
//! Below the module is tried first: above it the heap grows, and below the stack the stack does.

use crate::identify::maps::Maps;
use lpb::RunAddr;
use lpb::limits::PAGE;
use std::ops::Range;

/// How far a `rel32` reaches, with a page to spare on both sides.
const REACH: u64 = (1 << 31) - 2 * PAGE;
/// Room left between an area and what was there before.
const MARGIN: u64 = 16 * PAGE;
/// Lowest address used; vm.mmap_min_addr is below it everywhere.
const LOWEST: u64 = 0x10000;
/// First address that user space cannot use with four-level page tables.
const HIGHEST: u64 = 0x7fff_ffff_f000;
/// Kept free above the heap, where `brk` grows, and below the stack.
const GROWTH: u64 = 1 << 30;
const STACK_GROWTH: u64 = 128 << 20;

/// Address space that is taken.
#[derive(Clone, Debug)]
pub struct Space {
    /// Ascending, apart.
    taken: Vec<Range<u64>>,
}

impl Space {
    /// What the mappings leave.
    pub fn new(maps: &Maps) -> Self {
        let mut taken: Vec<Range<u64>> = maps
            .iter()
            .map(|m| match m.path.as_str() {
                "[heap]" => m.start.0..m.end.0.saturating_add(GROWTH),
                "[stack]" => m.start.0.saturating_sub(STACK_GROWTH)..m.end.0,
                _ => m.start.0..m.end.0,
            })
            .collect();
        taken.push(0..LOWEST);
        taken.push(HIGHEST..u64::MAX);
        Self { taken: joined(taken) }
    }

    /// Counts these addresses as taken.
    pub fn keep_free(&mut self, range: Range<RunAddr>) {
        self.taken.push(range.start.0..range.end.0);
        self.taken = joined(std::mem::take(&mut self.taken));
    }

    /// Takes `len` bytes (a multiple of the page size) within reach of all of `near`, or anywhere below it. A margin is kept,
    /// unless only holes without room for one are within reach.
    ///
    /// `None`: there is no such hole.
    pub fn take(&mut self, len: u64, near: &Range<RunAddr>, reach: bool) -> Option<RunAddr> {
        let start = match reach {
            // Every byte of the area must reach every byte of `near`.
            true => {
                let window = near.end.0.saturating_sub(REACH)..near.start.0.saturating_add(REACH);
                self.hole(len, MARGIN, near, window.clone()).or_else(|| self.hole(len, 0, near, window))
            }
            false => self.hole(len, MARGIN, near, LOWEST..HIGHEST),
        }?;
        self.taken.push(start..start.checked_add(len)?);
        self.taken = joined(std::mem::take(&mut self.taken));
        Some(RunAddr(start))
    }

    /// Where `len` bytes fit inside `window` with `margin` on both sides, below `near` or else above it.
    fn hole(&self, len: u64, margin: u64, near: &Range<RunAddr>, window: Range<u64>) -> Option<u64> {
        let with_margins = len.checked_add(margin.checked_mul(2)?)?;
        let holes: Vec<Range<u64>> = self.holes(window.start, window.end).collect();
        let fits = |hole: &&Range<u64>| hole.end.saturating_sub(hole.start) >= with_margins;
        let below = holes.iter().rev().filter(|h| h.end <= near.start.0).find(fits);
        let start = match below {
            Some(hole) => hole.end.checked_sub(margin)?.checked_sub(len)?,
            None => holes.iter().filter(|h| h.start >= near.start.0).find(fits)?.start.checked_add(margin)?,
        };
        Some(start & !PAGE.wrapping_sub(1))
    }

    /// Takes the pages of `len` bytes that start at any address of `window`, first and last included.
    pub fn take_at(&mut self, window: (RunAddr, RunAddr), len: u64) -> Option<RunAddr> {
        let (first, last) = (window.0.0, window.1.0);
        let page_starts = (first.checked_next_multiple_of(PAGE)?..=last).step_by(usize::try_from(PAGE).ok()?);
        let pages = |at: u64| Some(at & !PAGE.wrapping_sub(1)..at.checked_add(len)?.checked_next_multiple_of(PAGE)?);
        let free = |at: &u64| {
            pages(*at)
                .is_some_and(|p| p.end <= HIGHEST && self.taken.iter().all(|t| t.end <= p.start || t.start >= p.end))
        };
        let at = std::iter::once(first).chain(page_starts).find(free)?;
        self.taken.push(pages(at)?);
        self.taken = joined(std::mem::take(&mut self.taken));
        Some(RunAddr(at))
    }

    /// Free ranges inside `[low, high)`, ascending.
    fn holes(&self, low: u64, high: u64) -> impl Iterator<Item = Range<u64>> {
        let pairs = self.taken.iter().zip(self.taken.iter().skip(1));
        pairs.map(move |(a, b)| a.end.max(low)..b.start.min(high)).filter(|hole| hole.start < hole.end)
    }
}

/// Sorts ranges and joins those that meet.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|r| r.start);
    let mut out: Vec<Range<u64>> = Vec::new();
    for r in ranges {
        match out.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => out.push(r),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(text: &str) -> Space {
        Space::new(&Maps::parse(text))
    }

    #[test]
    fn below_first_then_above_the_heap() {
        let pie = "555500000000-555500004000 r-xp 0 fe:01 7 /p\n555510000000-555510021000 rw-p 0 00:00 0 [heap]\n";
        let fixed = "400000-404000 r-xp 0 fe:01 7 /p\n1000000-1021000 rw-p 0 00:00 0 [heap]\n";
        let near = |start, end| RunAddr(start)..RunAddr(end);
        for (why, maps, near, len, want) in [
            ("below", pie, near(0x5555_0000_0000, 0x5555_0000_4000), 0x3000, Some(0x5555_0000_0000 - 0x10000 - 0x3000)),
            ("little room below a fixed program", fixed, near(0x400000, 0x404000), 0x3000, Some(0x400000 - 0x13000)),
            ("too large for below: between text and heap", fixed, near(0x400000, 0x404000), 0x80_0000, Some(0x414000)),
            ("too large for that: above the heap", fixed, near(0x400000, 0x404000), 0x200_0000, Some(0x4103_1000)),
            ("nowhere", fixed, near(0x400000, 0x404000), 0x7000_0000, None),
        ] {
            assert_eq!(space(maps).take(len, &near, true), want.map(RunAddr), "{why}");
        }
    }

    #[test]
    fn what_is_taken_stays_taken() {
        let mut s = space("555500000000-555500004000 r-xp 0 fe:01 7 /p\n");
        let near = RunAddr(0x5555_0000_0000)..RunAddr(0x5555_0000_4000);
        let first = s.take(0x1000, &near, true).unwrap();
        let second = s.take(0x1000, &near, true).unwrap();
        assert!(second.0 + 0x1000 + MARGIN <= first.0, "{first} {second}");
    }

    #[test]
    fn a_single_page_will_do_if_it_is_near() {
        // All is full below and above, but for one page and a hole far away.
        let text = "10000000-ffff0000 ---p 0 00:00 0\nffff1000-100000000 ---p 0 00:00 0\n\
                    100000000-100001000 r-xp 0 f:1 7 /p\n100001000-200000000 ---p 0 00:00 0\n";
        let near = RunAddr(0x1_0000_0000)..RunAddr(0x1_0000_1000);
        let mut s = space(text);
        assert_eq!(s.take(0x2000, &near, true), None, "two pages");
        assert_eq!(s.take(0x1000, &near, true), Some(RunAddr(0xffff_0000)));
        assert_eq!(s.take(0x1000, &near, true), None, "it is taken now");
        assert_eq!(s.take(0x2000, &near, false), Some(RunAddr(0x1000_0000 - 0x12000)), "far away");
    }

    #[test]
    fn a_window_of_addresses() {
        let text = "10000000-10003000 rw-p 0 00:00 0\n10004000-10005000 rw-p 0 00:00 0\n";
        for (why, first, last, want) in [
            ("free where it starts", 0x1000_5010, 0x1000_5010, Some(0x1000_5010)),
            ("taken", 0x1000_2010, 0x1000_2010, None),
            ("its end would reach what is taken", 0x1000_3ffa, 0x1000_3ffa, None),
            ("free further on", 0x1000_2010, 0x1000_3100, Some(0x1000_3000)),
        ] {
            assert_eq!(space(text).take_at((RunAddr(first), RunAddr(last)), 16), want.map(RunAddr), "{why}");
        }
    }

    #[test]
    fn the_edge_of_reach() {
        // Everything within 2 GiB is full but for one hole at the far end.
        let text = "10000000-fff00000 rw-p 0 00:00 0\nfff80000-100000000 rw-p 0 00:00 0\n100000000-100001000 r-xp 0 f:1 7 /p\n";
        let near = RunAddr(0x1_0000_0000)..RunAddr(0x1_0000_1000);
        assert_eq!(space(text).take(0x1000, &near, true), Some(RunAddr(0xfff8_0000 - 0x11000)));
        assert_eq!(space(text).take(0x1000_0000, &near, true), Some(RunAddr(0x1_0001_1000)), "above");
    }
}
