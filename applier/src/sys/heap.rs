//! The heap of lp-apply.
//!
//! musl's malloc gives memory back to the kernel as soon as it can, and asks for it again: a fifth of the time of a run. Here what
//! is free is used again. The first region is part of the program; whoever has many threads to look at takes more from malloc.

use spinning_top::RawSpinlock;
use std::alloc::{GlobalAlloc, Layout, System};
use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

/// Bytes of the first region, and of a later one at least.
const FIRST: usize = 256 << 10;
const LATER: usize = 1 << 20;

#[global_allocator]
static HEAP: TalcLock<RawSpinlock, Regions> = TalcLock::new(Regions { first: true });

/// Where the regions come from.
#[derive(Debug)]
struct Regions {
    /// The first one is still to be given.
    first: bool,
}

// SAFETY: no memory is taken from the heap here, only from the program and from malloc.
unsafe impl Source for Regions {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        static mut REGION: [u8; FIRST] = [0; FIRST];
        if std::mem::take(&mut talc.source.first) {
            // SAFETY: nobody else knows of this memory, which lives as long as the program, and it is claimed once.
            return unsafe { talc.claim((&raw mut REGION).cast(), FIRST) }.map(drop).ok_or(());
        }
        // With room for what the heap itself notes, and for the alignment.
        let size = layout.size().checked_add(layout.align()).and_then(|size| size.checked_add(LATER)).ok_or(())?;
        let region = Layout::from_size_align(size, align_of::<usize>()).map_err(drop)?;
        // SAFETY: the size is not 0.
        let start = unsafe { System.alloc(region) };
        if start.is_null() {
            return Err(());
        }
        // SAFETY: malloc has just given away so many bytes, and they are never given back.
        unsafe { talc.claim(start, size) }.map(drop).ok_or(())
    }
}
