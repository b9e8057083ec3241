//! Stacks of many threads, read at once: a system call for each would take longer than all that is read.

use crate::identify::Target;
use crate::quiesce::{Extent, first_piece};
use crate::sys::memory::Memory;
use crate::sys::ptrace::Tid;
use lpb::RunAddr;
use lpb::addr::to_usize;
use std::ops::Range;

/// Of so many threads at a time.
pub const BATCH: usize = 64;

/// The first pieces of some stacks, and where they are in `bytes`. The memory serves again.
#[derive(Default)]
pub struct Stacks {
    pieces: Vec<(RunAddr, Range<usize>)>,
    bytes: Vec<u8>,
}

impl Stacks {
    /// Reads the stacks of these threads, `others` being those of all. What cannot be read is left out.
    pub fn read_ahead(&mut self, others: &[Extent], threads: impl ExactSizeIterator<Item = (Tid, Option<Extent>)>) {
        self.pieces.clear();
        if threads.len() < 2 {
            return;
        }
        let mut by = None;
        let mut places = Vec::with_capacity(threads.len());
        let mut all = 0_usize;
        for (tid, stack) in threads {
            by = by.or(Some(tid));
            let Some(place) = stack.and_then(|stack| first_piece(stack, others)) else { continue };
            let end = all.saturating_add(place.end.since(place.start).map_or(0, to_usize));
            self.pieces.push((place.start, all..end));
            places.push(place);
            all = end;
        }
        if self.bytes.len() < all {
            self.bytes.resize(all, 0);
        }
        let read = by.zip(self.bytes.get_mut(..all)).map_or(0, |(tid, buf)| Memory::read_many(tid, &places, buf));
        self.pieces.truncate(read);
        self.pieces.sort_unstable_by_key(|(start, _)| *start);
    }

    /// Fills `buf` from `at`, by what was read ahead, or now.
    pub fn read(&self, target: &Target, at: RunAddr, buf: &mut [u8]) -> bool {
        let ahead = self.pieces.binary_search_by_key(&at, |(start, _)| *start).ok();
        let piece = ahead.and_then(|n| self.bytes.get(self.pieces.get(n)?.1.clone())?.get(..buf.len()));
        match piece {
            Some(piece) => {
                buf.copy_from_slice(piece);
                true
            }
            None => target.memory.read(at, buf).is_ok(),
        }
    }
}
