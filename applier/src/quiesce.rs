//! Whether a thread is inside code that is about to change, or will return into it.
//!
//! The scan is conservative: every aligned word between the stack pointer and the end of the stack's mapping counts as a
//! return address. It follows signal frames to the stack that the signal interrupted.
//!
//! ```text
//! alternate stack                         thread stack
//! ┌──────────────┐ rsp of the handler     ┌──────────────┐ rsp in the signal frame
//! │ frames       │ scanned                │ frames       │ scanned
//! │ signal frame ├───────────────────────►│ ...          │
//! └──────────────┘ end of mapping         └──────────────┘ end of mapping
//! ```

use crate::arch::x86_64 as arch;
use crate::identify::maps::{self, Maps};
use crate::plan::CodeRange;
use lpb::RunAddr;
use lpb::addr::{to_u64, to_usize};
use lpb::life::Mapping;
use lpb::limits::PAGE;
use std::cell::Cell;
use std::ops::Range;

/// Most bytes scanned for all threads of a stop; a stack beyond counts as busy.
pub const MAX_STACKED: u64 = 256 << 20;
/// Stacks that are followed through signal frames.
const MAX_STACKS: usize = 8;
/// Bytes read at a time: most live stacks have less.
const CHUNK: usize = 8 << 10;
/// Bytes of each piece that are judged together with the next: three words.
const CARRIED: usize = 24;
/// The same for memory outside the stacks.
const PARKED_CHUNK: usize = 1 << 20;
const PROT_READ: u32 = 1;
const PROT_WRITE: u32 = 2;

/// Where a thread is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Executing the function.
    Inside {
        /// The function.
        function: String,
        /// Instruction pointer.
        pc: RunAddr,
    },
    /// Will return into it.
    Returns {
        /// The function.
        function: String,
        /// The return address.
        to: RunAddr,
        /// Bytes of stack below it.
        depth: u64,
    },
    /// Has gone through it and is not done.
    Passed {
        /// The function.
        function: String,
        /// Where its stack says so.
        place: RunAddr,
    },
    /// Something outside the stacks of the threads looks like a return address into it, or a pointer to it.
    Parked {
        /// The function.
        function: String,
        /// The return address.
        to: RunAddr,
        /// Where it was found.
        place: RunAddr,
    },
    /// The stack cannot be judged.
    Unknown {
        /// Stack pointer.
        sp: RunAddr,
    },
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inside { function, pc } => write!(f, "is inside {function} (at {pc})"),
            Self::Returns { function, to, depth } => {
                write!(f, "will return into {function} (to {to}, {depth} bytes up its stack)")
            }
            Self::Passed { function, place } => write!(f, "is in {function} (its stack says so at {place})"),
            Self::Parked { function, to, place } => {
                write!(
                    f,
                    "shares memory that holds an address in {function} ({to}, at {place}): a parked coroutine, or a pointer?"
                )
            }
            Self::Unknown { sp } => write!(f, "has a stack at {sp} that cannot be checked"),
        }
    }
}

/// The forbidden code, and how to read the process.
pub struct Scan<'a> {
    code: &'a [CodeRange],
    /// Pairs of words that give a thread away.
    pushed: Vec<(&'a CodeRange, [u64; 2])>,
    /// From the first to the last address of all ranges: most words of a stack lie outside.
    bounds: (RunAddr, RunAddr),
    maps: &'a Maps,
    read: &'a dyn Fn(RunAddr, &mut [u8]) -> bool,
    /// Stack pointers of all threads, ascending. Where stacks lie in one mapping, each is scanned up to the next.
    tops: &'a [RunAddr],
    /// Bytes that may still be read.
    budget: Cell<u64>,
}

impl<'a> Scan<'a> {
    /// `code`: ranges in any order; `maps`: for the ends of stacks; `read` fills a buffer from an address.
    pub fn new(code: &'a [CodeRange], maps: &'a Maps, read: &'a dyn Fn(RunAddr, &mut [u8]) -> bool) -> Self {
        let lowest = code.iter().map(|r| r.start).min().unwrap_or_default();
        let highest = code.iter().map(|r| r.end).max().unwrap_or_default();
        let pushed = code.iter().filter_map(|r| Some((r, r.pushed?))).collect();
        Self { code, pushed, bounds: (lowest, highest), maps, read, tops: &[], budget: Cell::new(MAX_STACKED) }
    }

    /// Names the stack pointers of all threads that will be judged, ascending: what lies above the next one is that thread's
    /// to answer for, so no byte is read twice.
    pub fn with_tops(mut self, tops: &'a [RunAddr]) -> Self {
        self.tops = tops;
        self
    }

    /// Limits the bytes that may be read, to those that an earlier scan has left.
    pub fn with_budget(self, left: u64) -> Self {
        self.budget.set(left);
        self
    }

    /// Bytes that may still be read.
    pub fn budget(&self) -> u64 {
        self.budget.get()
    }

    /// Judges a thread by instruction and stack pointer. `tls`: where its thread-local data is, if that is known: on the top of
    /// the stack that it was born with. `None`: it is not in the way.
    pub fn thread(&self, pc: RunAddr, sp: RunAddr, tls: Option<RunAddr>) -> Option<Busy> {
        let inside = |r: &&CodeRange| r.start <= pc && pc < r.end && r.harmless_to.is_none_or(|to| pc > to);
        if let Some(r) = self.code.iter().find(inside) {
            return Some(Busy::Inside { function: r.name.clone(), pc });
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

    fn stack(&self, sp: RunAddr, tls: Option<RunAddr>, stacks: &mut Vec<RunAddr>) -> Option<Busy> {
        let start = RunAddr(sp.0 & !7);
        let Some(mapping) = self.maps.at(start).filter(|m| m.prot & PROT_WRITE != 0) else {
            return Some(Busy::Unknown { sp });
        };
        // What is mapped behind it, a heap perhaps, may be large.
        let top = tls.filter(|tls| sp < *tls && mapping.holds(*tls) && mapping.path != "[stack]");
        let end = end_of_stack(mapping, self.tops, sp).min(top.unwrap_or(mapping.end));
        let mut at = start;
        // The last words of the piece before stand in front of each piece.
        let mut buf = [0; CARRIED + CHUNK];
        while at < end {
            let len = to_u64(CHUNK).min(end.since(at).unwrap_or(0));
            let Some(left) = self.budget.get().checked_sub(len) else { return Some(Busy::Unknown { sp }) };
            self.budget.set(left);
            let Some(filled) = buf.get_mut(..CARRIED.saturating_add(to_usize(len))) else {
                return Some(Busy::Unknown { sp });
            };
            if !filled.get_mut(CARRIED..).is_some_and(|chunk| (self.read)(at, chunk)) {
                return Some(Busy::Unknown { sp });
            }
            if let Some(busy) = self.words(filled, sp, at, stacks) {
                return Some(busy);
            }
            let tail = filled.len().saturating_sub(CARRIED);
            filled.copy_within(tail.., 0);
            at = RunAddr(at.0.saturating_add(len));
        }
        None
    }

    /// Judges the words of a stack that was read to `at`, behind those that were judged before.
    fn words(&self, filled: &[u8], sp: RunAddr, at: RunAddr, stacks: &mut Vec<RunAddr>) -> Option<Busy> {
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        for (index, end) in (CARRIED..filled.len()).step_by(8).zip((CARRIED..).step_by(8).skip(1)) {
            let Some(last) = filled.get(index..end).map(word).filter(|word| self.matters(*word)) else { continue };
            let place = RunAddr(at.0.saturating_add(to_u64(index.saturating_sub(CARRIED))));
            if let Some(r) = self.return_into(RunAddr(last)) {
                let depth = place.since(RunAddr(sp.0 & !7)).unwrap_or(0);
                return Some(Busy::Returns { function: r.name.clone(), to: RunAddr(last), depth });
            }
            let before = |n: usize| {
                index.checked_sub(n.saturating_mul(8)).and_then(|i| filled.get(i..)?.get(..8)).map_or(0, word)
            };
            let window = [before(3), before(2), before(1), last];
            if let Some((r, _)) = self.pushed.iter().find(|(_, pushed)| *pushed == [before(1), last]) {
                return Some(Busy::Passed { function: r.name.clone(), place });
            }
            if !self.follow(arch::signal_frame_rsp(window), stacks) {
                return Some(Busy::Unknown { sp });
            }
        }
        None
    }

    /// Whether a word may say anything: most of them do not.
    fn matters(&self, word: u64) -> bool {
        let (lowest, highest) = self.bounds;
        word.wrapping_sub(lowest.0) <= highest.0.wrapping_sub(lowest.0)
            || word == arch::FRAME_MARK
            || self.pushed.iter().any(|(_, [_, last])| *last == word)
    }

    fn return_into(&self, word: RunAddr) -> Option<&CodeRange> {
        let (lowest, highest) = self.bounds;
        if word < lowest || word > highest {
            return None;
        }
        self.code.iter().find(|r| is_return_into(r, word))
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

    /// Looks for return addresses in all other writable memory: stacks of coroutines that no thread runs now. What lies
    /// below the stack pointers in `live` is dead; mappings in `own` are left out. `touched`: the first run of bytes that the
    /// process has ever written in a part of a mapping; reading the others would cost time, and the target memory.
    pub fn parked(
        &self,
        live: &[RunAddr],
        own: &[Mapping],
        touched: impl Fn(&maps::Mapping, Range<RunAddr>) -> Option<Range<RunAddr>>,
    ) -> Option<Busy> {
        let is_own = |at: RunAddr| own.iter().any(|o| o.range().contains(&at));
        let writable = self.maps.iter().filter(|m| m.prot & PROT_WRITE != 0 && m.prot & PROT_READ != 0);
        let mut buf = vec![0; PARKED_CHUNK];
        for m in writable.filter(|m| !is_own(m.start)) {
            let mut at = live.iter().copied().filter(|sp| m.holds(*sp)).min().map_or(m.start, |sp| RunAddr(sp.0 & !7));
            while let Some(run) = touched(m, at..m.end) {
                if let Some(busy) = self.parked_in(run.clone(), &mut buf) {
                    return Some(busy);
                }
                at = run.end;
            }
        }
        None
    }

    fn parked_in(&self, run: Range<RunAddr>, buf: &mut [u8]) -> Option<Busy> {
        let mut at = run.start;
        while at < run.end {
            let rest = run.end.since(at).unwrap_or(0);
            let mut len = to_u64(buf.len()).min(rest);
            if !(self.read)(at, buf.get_mut(..to_usize(len))?) {
                // Page by page: one that cannot be read (a guard, a file that was cut short) holds no stack.
                len = PAGE.saturating_sub(at.0 % PAGE).min(rest);
                if !(self.read)(at, buf.get_mut(..to_usize(len))?) {
                    at = RunAddr(at.0.saturating_add(len));
                    continue;
                }
            }
            let words = buf.get(..to_usize(len))?.chunks_exact(8);
            let words = words.map(|w| w.try_into().map(u64::from_le_bytes).unwrap_or(0));
            let hit = words.enumerate().find_map(|(i, word)| Some((i, word, self.return_into(RunAddr(word))?)));
            if let Some((index, word, range)) = hit {
                let place = RunAddr(at.0.saturating_add(to_u64(index).saturating_mul(8)));
                return Some(Busy::Parked { function: range.name.clone(), to: RunAddr(word), place });
            }
            at = RunAddr(at.0.saturating_add(len));
        }
        None
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

/// A function's first address is a function pointer more often than a return address, and harmless.
fn is_return_into(r: &CodeRange, word: RunAddr) -> bool {
    if r.pushed.is_some() {
        return false;
    }
    let after_start = if r.harmless_to.is_some() { word > r.start } else { word >= r.start };
    after_start && (word < r.end || (word == r.end && r.may_end_in_call))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of our own")]
mod tests {
    use super::*;

    const STACKS: &str = "10000-11000 rw-p 0 00:00 0\n20000-21000 rw-p 0 00:00 0\n30000-31000 r--p 0 00:00 0\n";

    fn judge(pc: u64, sp: u64, words: &[(u64, u64)]) -> Option<Busy> {
        let range = |name: &str, start, end, harmless_to: Option<u64>| CodeRange {
            name: name.into(),
            start: RunAddr(start),
            end: RunAddr(end),
            harmless_to: harmless_to.map(RunAddr),
            may_end_in_call: true,
            pushed: None,
        };
        let code = [range("f", 0x5000, 0x5100, Some(0x5004)), range("f.cold", 0x4000, 0x4010, None)];
        let read = |at: RunAddr, buf: &mut [u8]| {
            for (place, word) in words.iter().copied() {
                if let Some(part) = buf.get_mut(lpb::addr::to_usize(place - at.0)..) {
                    part[..8].copy_from_slice(&word.to_le_bytes());
                }
            }
            true
        };
        Scan::new(&code, &Maps::parse(STACKS), &read).thread(RunAddr(pc), RunAddr(sp), None)
    }

    #[test]
    fn a_thread_that_is_binding_a_slot() {
        let way = CodeRange {
            name: "b".into(),
            start: RunAddr(0x6000),
            end: RunAddr(0x6010),
            harmless_to: None,
            may_end_in_call: false,
            pushed: Some([0x7f00_1180, 3]),
        };
        let judge = |pc, words: [u64; 4]| {
            let read = |_: RunAddr, buf: &mut [u8]| {
                buf.fill(0);
                buf[..32].copy_from_slice(&words.map(u64::to_le_bytes).concat());
                true
            };
            Scan::new(std::slice::from_ref(&way), &Maps::parse(STACKS), &read).thread(
                RunAddr(pc),
                RunAddr(0x10f00),
                None,
            )
        };
        let passed = Some(Busy::Passed { function: "b".into(), place: RunAddr(0x10f10) });
        for (why, pc, words, want) in [
            ("elsewhere", 0x9000, [3, 0x7f00_1180, 4, 3], None),
            ("about to push", 0x6000, [0; 4], Some(Busy::Inside { function: "b".into(), pc: RunAddr(0x6000) })),
            ("in the dynamic linker", 0x9000, [1, 0x7f00_1180, 3, 0x5000], passed),
            ("the address of the entry in a variable", 0x9000, [0x6000, 0x6005, 0, 0], None),
        ] {
            assert_eq!(judge(pc, words), want, "{why}");
        }
    }

    #[test]
    fn threads_in_the_way_and_others() {
        let inside = |name: &str, pc| Some(Busy::Inside { function: name.into(), pc: RunAddr(pc) });
        let returns = |name: &str, to, depth| Some(Busy::Returns { function: name.into(), to: RunAddr(to), depth });
        for (why, pc, sp, words, want) in [
            ("elsewhere", 0x9000, 0x10f00, vec![(0x10f80, 0x9999)], None),
            ("at its entry: nothing has run", 0x5000, 0x10f00, vec![], None),
            ("behind its endbr64: nothing has run", 0x5004, 0x10f00, vec![], None),
            ("in it", 0x5005, 0x10f00, vec![], inside("f", 0x5005)),
            ("in its cold part, at the first byte", 0x4000, 0x10f00, vec![], inside("f.cold", 0x4000)),
            ("will return", 0x9000, 0x10f00, vec![(0x10f80, 0x5030)], returns("f", 0x5030, 0x80)),
            ("behind a last call", 0x9000, 0x10f00, vec![(0x10f80, 0x5100)], returns("f", 0x5100, 0x80)),
            ("a pointer to it", 0x9000, 0x10f00, vec![(0x10f80, 0x5000)], None),
            ("sp in read-only memory", 0x9000, 0x30f00, vec![], Some(Busy::Unknown { sp: RunAddr(0x30f00) })),
        ] {
            assert_eq!(judge(pc, sp, &words), want, "{why}");
        }
    }

    #[test]
    fn a_signal_frame_leads_to_the_interrupted_stack() {
        let words: [(u64, u64); 3] = [(0x10f00, 0x20f00), (0x10f18, 0x002b_0000_0000_0033), (0x20f10, 0x5030)];
        let code = [CodeRange {
            name: "f".into(),
            start: RunAddr(0x5000),
            end: RunAddr(0x5100),
            harmless_to: None,
            may_end_in_call: false,
            pushed: None,
        }];
        let read = |at: RunAddr, buf: &mut [u8]| {
            for (place, word) in words.iter().copied() {
                let Some(off) = place.checked_sub(at.0) else { continue };
                if let Some(part) = buf.get_mut(lpb::addr::to_usize(off)..).map(|part| &mut part[..8]) {
                    part.copy_from_slice(&word.to_le_bytes());
                }
            }
            true
        };
        let busy = Scan::new(&code, &Maps::parse(STACKS), &read).thread(RunAddr(1), RunAddr(0x10e00), None);
        let want = Busy::Returns { function: "f".into(), to: RunAddr(0x5030), depth: 0x10 };
        assert_eq!(busy, Some(want));
    }
    #[test]
    fn a_stack_ends_at_the_data_of_its_thread() {
        let code = [CodeRange {
            name: "f".into(),
            start: RunAddr(0x5000),
            end: RunAddr(0x5100),
            harmless_to: None,
            may_end_in_call: false,
            pushed: None,
        }];
        let maps = Maps::parse("10000-30000000 rw-p 0 00:00 0\n7ffc00000000-7ffc00021000 rw-p 0 00:00 0 [stack]\n");
        // All words are return addresses from here on: a heap, behind the stack.
        let read = |from: u64| {
            move |at: RunAddr, buf: &mut [u8]| {
                for (n, word) in (0..).zip(buf.chunks_exact_mut(8)) {
                    let hit = at.0 + 8 * n >= from;
                    word.copy_from_slice(&if hit { 0x5030_u64 } else { 0 }.to_le_bytes());
                }
                true
            }
        };
        for (why, sp, from, tls, busy) in [
            ("its own data", 0x18000, 0x20000, Some(0x20000), false),
            ("a frame below", 0x18000, 0x1fff8, Some(0x20000), true),
            ("its data is elsewhere", 0x18000, 0x20000, Some(0x5000_0000), true),
            ("it is above its data: another stack", 0x28000, 0x29000, Some(0x20000), true),
            ("it is not known", 0x18000, 0x20000, None, true),
            ("on the first stack", 0x7ffc_0000_1000, 0x7ffc_0000_3000, Some(0x7ffc_0000_2000), true),
        ] {
            let read = read(from);
            let found = Scan::new(&code, &maps, &read).thread(RunAddr(1), RunAddr(sp), tls.map(RunAddr));
            assert_eq!(found.is_some(), busy, "{why}");
        }
    }
}
