//! Words of data that point into a function: tables of labels, of computed gotos and of `switch`.
//!
//! ```text
//! any module     a word that the loader makes an address of (R_X86_64_RELATIVE, R_X86_64_64, DT_RELR)
//! non-PIE        any aligned word of data that has such a value
//! ```
//! Source: System V ABI, AMD64 supplement, "Relocation Types"; gABI, "DT_RELR".

use crate::arch::x86_64::RelocKind;
use crate::read::ReadError;
use crate::read::elf::{Object, Range};
use lpb::addr::{to_u64, to_usize};
use lpb::{ElfType, LinkAddr};
use object::elf;

/// Where a word points, and where it is; ascending.
#[derive(Debug, Default)]
pub struct Pointers(Vec<(LinkAddr, LinkAddr)>);

impl Pointers {
    /// Every word of the module's data that points into one of the places.
    pub fn into(object: &Object, places: &[Range]) -> Result<Self, ReadError> {
        let mut sorted: Vec<Range> = places.to_vec();
        sorted.sort_unstable_by_key(|r| r.start);
        // Places are few bytes each and hardly overlap.
        let wanted = |at: LinkAddr| {
            let behind = sorted.partition_point(|r| r.start <= at);
            sorted.get(..behind).unwrap_or_default().iter().rev().take(4).any(|r| r.contains(at))
        };
        let mut found = Vec::new();
        for r in &object.dynamic.relocs {
            let base = match r.kind() {
                RelocKind::Relative => 0,
                RelocKind::Abs64 => object.dynamic.symbol_of(r).map_or(0, |s| s.value.0),
                _ => continue,
            };
            found.push((LinkAddr(base.wrapping_add_signed(r.addend)), r.place));
        }
        for place in &object.dynamic.relr {
            found.push((LinkAddr(object.word(*place)?), *place));
        }
        found.retain(|(to, _)| wanted(*to));
        let fixed = object.loads.iter().filter(|s| object.e_type == ElfType::Exec && s.flags & elf::PF_X.0 == 0);
        for load in fixed {
            let bytes = object.memory(load.vaddr, load.filesz)?;
            let skip = load.vaddr.0.wrapping_neg() & 7;
            let words = bytes.get(to_usize(skip)..).unwrap_or_default().chunks_exact(8);
            let words = words.map(|w| LinkAddr(w.try_into().map(u64::from_le_bytes).unwrap_or_default()));
            let start = load.vaddr.0.saturating_add(skip);
            found.extend(words.zip((start..).step_by(8).map(LinkAddr)).filter(|(to, _)| wanted(*to)));
        }
        found.sort_unstable();
        found.dedup();
        Ok(Self(found))
    }

    /// Words that point to an address of `[start, start + len)`: target and place.
    pub fn within(&self, start: LinkAddr, len: u64) -> &[(LinkAddr, LinkAddr)] {
        let end = LinkAddr(start.0.saturating_add(len));
        let [from, to] = [start, end].map(|at| self.0.partition_point(|(target, _)| *target < at));
        self.0.get(from..to).unwrap_or_default()
    }
}

/// The section that holds an address, for messages.
pub fn section_name(object: &Object, at: LinkAddr) -> String {
    let section = object.sections.iter().find(|s| s.addr.0 != 0 && s.range().contains(at));
    section.map_or_else(|| "data".to_owned(), |s| s.name.clone())
}

/// Most entries of a `switch` table that are read.
const MOST_CASES: u64 = 1 << 16;

/// Targets of a table of 32-bit offsets from the table itself, as position-independent code has for `switch`: where each entry
/// is, and where it leads. The table ends at `end`, or where an entry leads to something that is not code of the function.
pub fn relative_table(
    object: &Object,
    table: LinkAddr,
    end: Option<LinkAddr>,
    is_code: impl Fn(LinkAddr) -> bool,
) -> Vec<(LinkAddr, LinkAddr)> {
    let mut found = Vec::new();
    for n in 0..MOST_CASES {
        let place = table.plus(n.saturating_mul(4)).filter(|at| end.is_none_or(|end| *at < end));
        let Some(entry) = place.and_then(|at| object.memory(at, to_u64(size_of::<i32>())).ok()) else { break };
        let offset = i32::from_le_bytes(entry.get(..4).and_then(|b| b.try_into().ok()).unwrap_or_default());
        let to = LinkAddr(table.0.wrapping_add_signed(i64::from(offset)));
        match place {
            Some(place) if is_code(to) => found.push((place, to)),
            _ => break,
        }
    }
    found
}
