//! The patch's `.eh_frame`: where it starts and ends, and whether anything in it needs an unwinder.
//!
//! ```text
//! length u32 │ 0 (CIE) or distance to its CIE (FDE) │ ...      again and again
//! 0                                                            the end: crtendS.o brings it
//! ```
//! Source: LSB Core, "Exception Frames": Common Information Entry, "augmentation string".

use super::ReadError;
use super::elf::{Object, Range};
use crate::finding::Explain;
use lpb::addr::{to_u64, to_usize};
use lpb::{LinkAddr, limits};

/// Why a table cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    #[error("the patch's unwind table at {at} is damaged at {place}")]
    Damaged { at: LinkAddr, place: LinkAddr },
    #[error("the patch's unwind table at {at} has no end mark, so an unwinder would read on behind it")]
    NoEnd { at: LinkAddr },
    #[error("the patch's unwind table at {at} has its end mark at {place}, and entries behind it")]
    EarlyEnd { at: LinkAddr, place: LinkAddr },
}

impl Explain for FramesError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Damaged { .. } => "link the patch again".to_owned(),
            Self::NoEnd { .. } | Self::EarlyEnd { .. } => {
                "link the patch with `gcc -shared` or `g++ -shared`, without -nostdlib and -nostartfiles: crtendS.o ends the table"
                    .to_owned()
            }
        })
    }
}

/// An unwind table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// From its first entry to its end mark, that included.
    pub table: Range,
    /// A function has something to do while an exception passes: destructors, catch clauses.
    pub personality: bool,
}

/// Finds the table; `None`: there is none, or nothing in it.
pub fn find(patch: &Object) -> Result<Option<Result<Frames, FramesError>>, ReadError> {
    let Some(range) = place(patch)? else { return Ok(None) };
    let bytes = patch.memory(range.start, range.size)?;
    Ok(walk(range.start, &bytes).transpose())
}

/// By section, or else by the search table that the linker made for it (DW_EH_PE_pcrel | sdata4, as all linkers write it).
pub(super) fn place(patch: &Object) -> Result<Option<Range>, ReadError> {
    if let Some(section) = patch.section(".eh_frame").filter(|s| s.size != 0) {
        return Ok(Some(section.range()));
    }
    let Some(header) = patch.eh_frame_hdr else { return Ok(None) };
    let bytes = patch.memory(header.start, 8)?;
    let [1, 0x1B, _, _, a, b, c, d] = bytes.as_slice() else { return Ok(None) };
    let distance = i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
    let start = LinkAddr(header.start.0.wrapping_add(4).wrapping_add_signed(distance));
    let Some(load) = patch.load_of(start, 4) else { return Ok(None) };
    let size = load.filesz.saturating_sub(start.since(load.vaddr).unwrap_or(0)).min(limits::FRAGMENT);
    Ok(Some(Range { start, size }))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    bytes.get(at..end)?.try_into().ok().map(u32::from_le_bytes)
}

/// Goes through the entries. `Ok(None)`: it describes no function.
fn walk(start: LinkAddr, bytes: &[u8]) -> Result<Option<Frames>, FramesError> {
    let (mut at, mut functions, mut personality) = (0_usize, 0_u32, false);
    let place = |at: usize| LinkAddr(start.0.saturating_add(to_u64(at)));
    loop {
        let damaged = || FramesError::Damaged { at: start, place: place(at) };
        if at == bytes.len() {
            return if functions == 0 { Ok(None) } else { Err(FramesError::NoEnd { at: start }) };
        }
        let length = to_usize(u64::from(u32_at(bytes, at).ok_or_else(damaged)?));
        let body = at.checked_add(4).ok_or_else(damaged)?;
        if length == 0 {
            let rest = bytes.get(body..).unwrap_or_default();
            if rest.iter().any(|b| *b != 0) {
                return Err(FramesError::EarlyEnd { at: start, place: place(at) });
            }
            let table = Range { start, size: to_u64(body) };
            return Ok((functions != 0).then_some(Frames { table, personality }));
        }
        let end = body.checked_add(length).ok_or_else(damaged)?;
        let entry = bytes.get(body..end).ok_or_else(damaged)?;
        match u32_at(entry, 0).ok_or_else(damaged)? {
            // Behind the id and a version byte stands the augmentation string.
            0 => {
                let text = entry.get(5..).unwrap_or_default().split(|b| *b == 0).next().unwrap_or_default();
                personality |= text.contains(&b'P');
            }
            _ => functions = functions.saturating_add(1),
        }
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CIE with this augmentation string, and an FDE of it.
    fn entries(augmentation: &[u8]) -> Vec<u8> {
        let mut cie = vec![0, 0, 0, 0, 1];
        cie.extend_from_slice(augmentation);
        cie.resize(cie.len().next_multiple_of(4), 0);
        let mut out = u32::try_from(cie.len()).unwrap().to_le_bytes().to_vec();
        out.extend_from_slice(&cie);
        let back = u32::try_from(out.len()).unwrap();
        out.extend_from_slice(&12_u32.to_le_bytes());
        out.extend_from_slice(&back.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out
    }

    #[test]
    fn from_the_first_entry_to_the_end_mark() {
        let end = [0; 4];
        let start = LinkAddr(0x2000);
        let found = |size, personality| Ok::<_, &str>(Some(Frames { table: Range { start, size }, personality }));
        let c = entries(b"zR\0");
        for (why, bytes, want) in [
            ("C", [&c[..], &end].concat(), found(32, false)),
            ("C++", [&c[..], &entries(b"zPLR\0"), &end].concat(), found(64, true)),
            ("padding behind it", [&c[..], &end, &end].concat(), found(32, false)),
            ("no function", end.to_vec(), Ok(None)),
            ("nothing at all", vec![], Ok(None)),
            ("no end mark", c.clone(), Err("no end mark")),
            ("an end mark in the middle", [&c[..], &end, &c, &end].concat(), Err("entries behind it")),
            ("cut off", c[..c.len() - 1].to_vec(), Err("damaged at 0x200c")),
            ("64-bit lengths", vec![0xff; 16], Err("damaged at 0x2000")),
        ] {
            match (walk(start, &bytes), want) {
                (Ok(have), Ok(want)) => assert_eq!(have, want, "{why}"),
                (have, want) => {
                    let (have, want) = (have.unwrap_err().to_string(), want.unwrap_err());
                    assert!(have.contains(want), "{why}: {have}");
                }
            }
        }
    }
}
