//! Writable memory outside the stacks of the threads.

use super::Busy;
use super::code::Code;
use crate::identify::maps::{Mapping as Mapped, Maps};
use crate::plan::CodeRange;
use lpb::RunAddr;
use lpb::addr::{to_u64, to_usize};
use lpb::life::Mapping;
use lpb::limits::PAGE;
use std::ops::Range;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;
const PROT_READ: u32 = 1;
const PROT_WRITE: u32 = 2;

/// What a patch has put into the memory of a process: it is no reason to keep the patch.
pub struct Own<'a> {
    /// Mappings that are left out.
    pub mappings: &'a [Mapping],
    /// Whether the word at this place goes with the patch.
    pub word: &'a dyn Fn(RunAddr) -> bool,
}

/// Looks for return addresses into `code` in all writable memory but live stacks: stacks of coroutines that no thread runs
/// now. Without one, the first address in `also` is told instead: the second result. What lies below the stack pointers in `live`, of
/// threads that are on stacks of their own, is dead. `touched`: the first run of bytes that the process has ever written in a part
/// of a mapping; reading the others would cost time, and the target memory.
pub fn parked(
    [code, also]: [&[CodeRange]; 2],
    maps: &Maps,
    read: &dyn Fn(RunAddr, &mut [u8]) -> bool,
    live: &[RunAddr],
    own: &Own<'_>,
    touched: impl Fn(&Mapped, Range<RunAddr>) -> Option<Range<RunAddr>>,
) -> [Option<Busy>; 2] {
    let mut search = Search { all: [Code::of(code), Code::of(also)], read, own, buf: vec![0; CHUNK], also: None };
    let is_own = |at: RunAddr| own.mappings.iter().any(|o| o.range().contains(&at));
    let writable = maps.iter().filter(|m| m.prot & PROT_WRITE != 0 && m.prot & PROT_READ != 0);
    for m in writable.filter(|m| !is_own(m.start)) {
        let mut at = live.iter().copied().filter(|sp| m.holds(*sp)).min().map_or(m.start, |sp| RunAddr(sp.0 & !7));
        while let Some(run) = touched(m, at..m.end) {
            if let Some(busy) = search.run(run.clone()) {
                return [Some(busy), None];
            }
            at = run.end;
        }
    }
    [None, search.also]
}

/// The first address in `code` among the registers of a thread.
pub fn in_registers(code: &[CodeRange], registers: &[u64]) -> Option<Busy> {
    let code = Code::of(code);
    let address = |word: &u64| Some((RunAddr(*word), code.returned_into(RunAddr(*word))?));
    let (to, range) = registers.iter().find_map(address)?;
    Some(Busy::Keeps { function: range.name.clone(), to })
}

struct Search<'a> {
    /// What must not be there, and what is told if there is nothing of that.
    all: [Code<'a>; 2],
    read: &'a dyn Fn(RunAddr, &mut [u8]) -> bool,
    own: &'a Own<'a>,
    buf: Vec<u8>,
    also: Option<Busy>,
}

impl Search<'_> {
    /// Searches some bytes, up to the first address that must not be there.
    fn run(&mut self, run: Range<RunAddr>) -> Option<Busy> {
        let mut at = run.start;
        while at < run.end {
            let rest = run.end.since(at).unwrap_or(0);
            let mut len = to_u64(self.buf.len()).min(rest);
            if !(self.read)(at, self.buf.get_mut(..to_usize(len))?) {
                // Page by page: one that cannot be read (a guard, a file that was cut short) holds no stack.
                len = PAGE.saturating_sub(at.0 % PAGE).min(rest);
                if !(self.read)(at, self.buf.get_mut(..to_usize(len))?) {
                    at = RunAddr(at.0.saturating_add(len));
                    continue;
                }
            }
            let words = self.buf.get(..to_usize(len))?.as_chunks().0;
            let [code, also] = &self.all;
            if let Some(busy) = self.first(code, words, at) {
                return Some(busy);
            }
            if self.also.is_none() {
                self.also = self.first(also, words, at);
            }
            at = RunAddr(at.0.saturating_add(len));
        }
        None
    }

    /// The first of the words from `at` on that is an address in `code`.
    fn first(&self, code: &Code<'_>, words: &[[u8; 8]], at: RunAddr) -> Option<Busy> {
        if !code.may_be_told_by(words) {
            return None;
        }
        let addresses = words.iter().map(|word| RunAddr(u64::from_le_bytes(*word)));
        addresses.enumerate().find_map(|(index, to)| {
            let function = code.returned_into(to)?.name.clone();
            let place = RunAddr(at.0.saturating_add(to_u64(index).saturating_mul(8)));
            (!(self.own.word)(place)).then_some(Busy::Parked { function, to, place })
        })
    }
}
