//! The heap of lp-apply: short of time, not of memory.
//!
//! musl's malloc gives memory back to the kernel as soon as it can and asks for it again, which is a fifth of a run's time. Here
//! the first blocks lie one behind another in memory that the program has anyway; only the last is ever used again. What does not
//! fit comes from malloc.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const SIZE: usize = 256 << 10;

#[global_allocator]
static HEAP: Heap = Heap { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) };

/// Aligned as far as any type of ours asks for.
#[repr(align(64))]
struct Heap {
    bytes: UnsafeCell<[u8; SIZE]>,
    /// So many bytes are in use.
    used: AtomicUsize,
}

// SAFETY: `bytes` is only touched through blocks, each of which has one owner: `used` grows past a block before it is given away.
unsafe impl Sync for Heap {}

impl Heap {
    /// Where a block begins, if it is here.
    fn offset(&self, block: *const u8) -> Option<usize> {
        block.addr().checked_sub(self.bytes.get().addr()).filter(|offset| *offset < SIZE)
    }

    /// Gives the last block another size: whether it is the last one, and there is room.
    fn resize_last(&self, offset: usize, from: usize, to: usize) -> bool {
        let ends = |len| offset.checked_add(len).filter(|end| *end <= SIZE);
        let (Some(from), Some(to)) = (ends(from), ends(to)) else { return false };
        self.used.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }
}

// SAFETY: blocks are inside `bytes`, aligned, disjoint, and in use until they are given back; all others are malloc's.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let begin = |used: usize| used.checked_next_multiple_of(layout.align()).filter(|_| layout.align() <= 64);
        let end = |used| begin(used)?.checked_add(layout.size()).filter(|end| *end <= SIZE);
        match self.used.fetch_update(Relaxed, Relaxed, end).ok().and_then(begin) {
            // SAFETY: `begin + size <= SIZE`.
            Some(offset) => unsafe { self.bytes.get().cast::<u8>().add(offset) },
            // SAFETY: the caller's promise about `layout`.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(offset) => _ = self.resize_last(offset, layout.size(), 0),
            // SAFETY: it is not of this heap, so `System` has given it away.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(block) else {
            // SAFETY: as in `dealloc`; the caller's promise about `size`.
            return unsafe { System.realloc(block, layout, size) };
        };
        if self.resize_last(offset, layout.size(), size) {
            return block;
        }
        // SAFETY: the caller promises that `size` does not overflow when rounded up to `align`, which is a valid one.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both are valid for so many bytes, and disjoint: the old one is still in use.
            unsafe { new.copy_from_nonoverlapping(block, size.min(layout.size())) };
            // SAFETY: the caller gives it up.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}
