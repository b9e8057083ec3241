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

/// Looks for return addresses into `code` in all writable memory but live stacks: stacks of coroutines that no thread runs
/// now. What lies below the stack pointers in `live`, of threads that are on stacks of their own, is dead; mappings in `own`
/// are left out. `touched`: the first run of bytes that the process has ever written in a part of a mapping; reading the
/// others would cost time, and the target memory.
pub fn parked(
    code: &[CodeRange],
    maps: &Maps,
    read: &dyn Fn(RunAddr, &mut [u8]) -> bool,
    live: &[RunAddr],
    own: &[Mapping],
    touched: impl Fn(&Mapped, Range<RunAddr>) -> Option<Range<RunAddr>>,
) -> Option<Busy> {
    let code = Code::of(code);
    let is_own = |at: RunAddr| own.iter().any(|o| o.range().contains(&at));
    let writable = maps.iter().filter(|m| m.prot & PROT_WRITE != 0 && m.prot & PROT_READ != 0);
    let mut buf = vec![0; CHUNK];
    for m in writable.filter(|m| !is_own(m.start)) {
        let mut at = live.iter().copied().filter(|sp| m.holds(*sp)).min().map_or(m.start, |sp| RunAddr(sp.0 & !7));
        while let Some(run) = touched(m, at..m.end) {
            if let Some(busy) = parked_in(run.clone(), &code, read, &mut buf) {
                return Some(busy);
            }
            at = run.end;
        }
    }
    None
}

fn parked_in(
    run: Range<RunAddr>,
    code: &Code<'_>,
    read: &dyn Fn(RunAddr, &mut [u8]) -> bool,
    buf: &mut [u8],
) -> Option<Busy> {
    let mut at = run.start;
    while at < run.end {
        let rest = run.end.since(at).unwrap_or(0);
        let mut len = to_u64(buf.len()).min(rest);
        if !read(at, buf.get_mut(..to_usize(len))?) {
            // Page by page: one that cannot be read (a guard, a file that was cut short) holds no stack.
            len = PAGE.saturating_sub(at.0 % PAGE).min(rest);
            if !read(at, buf.get_mut(..to_usize(len))?) {
                at = RunAddr(at.0.saturating_add(len));
                continue;
            }
        }
        let words = buf.get(..to_usize(len))?.as_chunks().0;
        let telling = if code.may_be_told_by(words) { words } else { &[] };
        let addresses = telling.iter().map(|word| RunAddr(u64::from_le_bytes(*word)));
        let hit = addresses.enumerate().find_map(|(index, word)| Some((index, word, code.returned_into(word)?)));
        if let Some((index, to, range)) = hit {
            let place = RunAddr(at.0.saturating_add(to_u64(index).saturating_mul(8)));
            return Some(Busy::Parked { function: range.name.clone(), to, place });
        }
        at = RunAddr(at.0.saturating_add(len));
    }
    None
}
