//! The patch's own memory: its `PT_LOAD`s as mappings of area 0.
//!
//! ```text
//! link address   base          base+0x1000       base+0x3000            base+0x5000
//!                │ R  headers  │ R-X  .text      │ R  RELRO │ RW .data  │ added code, gate (if any)
//! area 0         0             0x1000            0x3000                 0x5000
//! ```
//! RELRO pages are read-only from the start: lp-apply writes through /proc/PID/mem, not through the mapping.

use crate::finding::Explain;
use crate::read::ReadError;
use crate::read::elf::{Object, Range};
use lpb::addr::{to_u64, to_usize};
use lpb::{AreaId, AreaOff, ImageSegment, LinkAddr, Prot, Value, limits};
use std::borrow::Cow;

/// The area of the image.
pub const IMAGE: AreaId = AreaId(0);

/// Why the segments of a patch cannot be mapped.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("the patch has two segments with different protection in the page at {at}")]
    SharedPage { at: LinkAddr },
    #[error("the patch takes {size} bytes of address space; at most 1 GiB fits near the target")]
    TooLarge { size: u64 },
}

impl Explain for ImageError {
    fn hint(&self) -> Option<String> {
        Some("link the patch with -z separate-code and an ordinary linker script".to_owned())
    }
}

/// Area 0.
#[derive(Debug)]
pub struct Image {
    base: LinkAddr,
    pub size: u64,
    pub segments: Vec<ImageSegment<'static>>,
}

impl Image {
    /// Where an address of the patch lies in the area.
    pub fn offset(&self, at: LinkAddr) -> Option<AreaOff> {
        at.since(self.base).filter(|n| *n <= self.size).map(AreaOff)
    }

    /// An address of the patch as a value.
    pub fn value(&self, at: LinkAddr) -> Option<Value> {
        self.offset(at).map(|off| Value::Patch { area: IMAGE, off })
    }

    /// Whether `[at, at + len)` lies in one mapping that is not code.
    pub fn is_data(&self, at: LinkAddr, len: u64) -> bool {
        self.segment(at, len).is_some_and(|s| s.prot != Prot::ReadExec)
    }

    /// Whether an address lies in the code.
    pub fn is_code(&self, at: LinkAddr) -> bool {
        self.segment(at, 1).is_some_and(|s| s.prot == Prot::ReadExec)
    }

    fn segment(&self, at: LinkAddr, len: u64) -> Option<&ImageSegment<'static>> {
        let off = self.offset(at)?;
        let inside =
            |s: &&ImageSegment<'_>| off.since(s.off).and_then(|n| n.checked_add(len)).is_some_and(|end| end <= s.size);
        self.segments.iter().find(inside)
    }

    /// Appends a page for the gate word.
    pub fn add_gate(&mut self) -> AreaOff {
        self.append(Prot::ReadWrite, vec![0; 4])
    }

    /// Appends a segment of whole pages that begins with `bytes`.
    pub fn append(&mut self, prot: Prot, mut bytes: Vec<u8>) -> AreaOff {
        let off = AreaOff(self.size);
        let size = page_up(to_u64(bytes.len()));
        let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i.saturating_add(1));
        bytes.truncate(used);
        self.segments.push(ImageSegment { off, size, prot, data: Cow::Owned(bytes) });
        self.size = self.size.saturating_add(size);
        off
    }
}

fn page_down(at: u64) -> u64 {
    at & !(limits::PAGE.wrapping_sub(1))
}

fn page_up(at: u64) -> u64 {
    at.checked_next_multiple_of(limits::PAGE).unwrap_or(page_down(u64::MAX))
}

/// What went wrong while building the image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl Explain for BuildError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read(e) => e.hint(),
            Self::Image(e) => e.hint(),
        }
    }
}

/// Lays out the `PT_LOAD`s of the patch.
pub fn build(patch: &Object) -> Result<Image, BuildError> {
    let base = patch.loads.iter().map(|l| page_down(l.vaddr.0)).min().unwrap_or(0);
    let end = patch.loads.iter().map(|l| page_up(l.vaddr.0.saturating_add(l.memsz))).max().unwrap_or(base);
    let size = end.saturating_sub(base);
    if size > limits::AREA_BYTES {
        return Err(ImageError::TooLarge { size }.into());
    }
    let mut image = Image { base: LinkAddr(base), size, segments: Vec::new() };
    let mut last = base;
    for load in patch.loads.iter().filter(|l| l.memsz != 0) {
        let start = page_down(load.vaddr.0);
        let end = page_up(load.vaddr.0.saturating_add(load.memsz));
        if start < last {
            return Err(ImageError::SharedPage { at: LinkAddr(start) }.into());
        }
        last = end;
        let mut data = vec![0; to_usize(load.vaddr.0.saturating_sub(start))];
        data.extend(patch.memory(load.vaddr, load.filesz)?);
        let prot = match (load.flags & 1 != 0, load.flags & 2 != 0) {
            (true, _) => Prot::ReadExec,
            (false, true) => Prot::ReadWrite,
            (false, false) => Prot::Read,
        };
        let whole = Range { start: LinkAddr(start), size: end.saturating_sub(start) };
        for (part, prot) in split_relro(whole, prot, patch.relro) {
            push(&mut image, whole, part, prot, &data);
        }
    }
    Ok(image)
}

/// Cuts the RELRO pages off a writable segment: whole pages only, as ld.so protects them.
fn split_relro(whole: Range, prot: Prot, relro: Option<Range>) -> Vec<(Range, Prot)> {
    let all = vec![(whole, prot)];
    let Some(relro) = relro.filter(|_| prot == Prot::ReadWrite) else { return all };
    let whole_end = whole.start.0.saturating_add(whole.size);
    let start = page_down(relro.start.0).clamp(whole.start.0, whole_end);
    let end = page_down(relro.start.0.saturating_add(relro.size)).clamp(start, whole_end);
    let part = |from: u64, to: u64| Range { start: LinkAddr(from), size: to.saturating_sub(from) };
    let parts = [
        (part(whole.start.0, start), Prot::ReadWrite),
        (part(start, end), Prot::Read),
        (part(end, whole_end), Prot::ReadWrite),
    ];
    parts.into_iter().filter(|(r, _)| r.size != 0).collect()
}

fn push(image: &mut Image, whole: Range, part: Range, prot: Prot, data: &[u8]) {
    let from = to_usize(part.start.since(whole.start).unwrap_or(0)).min(data.len());
    let to = from.saturating_add(to_usize(part.size)).min(data.len());
    let mut bytes = data.get(from..to).unwrap_or_default().to_vec();
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i.saturating_add(1));
    bytes.truncate(used);
    let Some(off) = image.offset(part.start) else { return };
    image.segments.push(ImageSegment { off, size: part.size, prot, data: Cow::Owned(bytes) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relro_in_whole_pages() {
        let range = |start, size| Range { start: LinkAddr(start), size };
        let (rw, r) = (Prot::ReadWrite, Prot::Read);
        for (why, relro, want) in [
            ("none", None, vec![(range(0x3000, 0x3000), rw)]),
            ("first page", Some(range(0x3df8, 0x208)), vec![(range(0x3000, 0x1000), r), (range(0x4000, 0x2000), rw)]),
            ("ends inside a page", Some(range(0x3000, 0x800)), vec![(range(0x3000, 0x3000), rw)]),
            ("all", Some(range(0x3000, 0x3000)), vec![(range(0x3000, 0x3000), r)]),
            ("of another segment", Some(range(0x9000, 0x1000)), vec![(range(0x3000, 0x3000), rw)]),
        ] {
            assert_eq!(split_relro(range(0x3000, 0x3000), rw, relro), want, "{why}");
        }
        assert_eq!(split_relro(range(0, 0x1000), r, Some(range(0, 0x1000))), vec![(range(0, 0x1000), r)]);
    }
}
