//! Where pieces of code begin and end, as the unwinder is told: what is left of functions when symbols are stripped.
//!
//! Source: LSB Core, "Exception Frames": Frame Description Entry, "PC Begin" and "PC Range"; DWARF 5, 6.4.2 "Call Frame
//! Instructions"; System V ABI, AMD64 supplement, 3.2.2 "The Stack Frame".

use super::elf::{Object, Range};
use super::frames;
use gimli::{BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CieOrFde, EhFrame};
use gimli::{EndianSlice, LittleEndian, UnwindSection, X86_64};
use lpb::LinkAddr;
use std::collections::HashMap;

/// Linkers merge what is equal; a hostile table may have one for each byte.
const MOST_CIES: usize = 1 << 16;

/// One piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    pub range: Range,
    /// At its first instruction there is more on the stack than the return address: nothing can call it.
    pub within: bool,
}

/// What `.eh_frame` describes, ascending by start. A damaged table is used as far as it can be read.
pub fn read(object: &Object) -> Vec<Body> {
    let mut found = Vec::new();
    let Ok(Some(place)) = frames::place(object) else { return found };
    let Ok(bytes) = object.memory(place.start, place.size) else { return found };
    let mut table = EhFrame::new(&bytes, LittleEndian);
    table.set_address_size(8);
    let bases = BaseAddresses::default().set_eh_frame(place.start.0);
    let mut cies: HashMap<usize, _> = HashMap::new();
    let mut entries = table.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(fde) = entry else { continue };
        if cies.len() >= MOST_CIES {
            break;
        }
        let fde = fde.parse(|table: &EhFrame<EndianSlice<'_, LittleEndian>>, bases, at| {
            let cie = cies.entry(at.0).or_insert_with(|| table.cie_from_offset(bases, at));
            cie.clone()
        });
        let Ok(fde) = fde else { continue };
        let range = Range { start: LinkAddr(fde.initial_address()), size: fde.len() };
        if range.size != 0 && object.load_of(range.start, range.size).is_some() {
            let within = is_within(fde.instructions(&table, &bases));
            found.push(Body { range, within });
        }
    }
    found.sort_unstable_by_key(|b| (b.range.start, b.range.size));
    found.dedup();
    found
}

/// Whether a frame has been made before the first instruction. A call leaves the stack pointer 8 bytes below the CFA.
fn is_within(mut instructions: CallFrameInstructionIter<'_, EndianSlice<'_, LittleEndian>>) -> bool {
    const MOST: usize = 16;
    for _ in 0..MOST {
        match instructions.next() {
            Ok(Some(CallFrameInstruction::DefCfaOffset { offset })) if offset > 8 => return true,
            Ok(Some(CallFrameInstruction::DefCfa { register: X86_64::RBP, offset })) if offset > 8 => return true,
            Ok(Some(CallFrameInstruction::AdvanceLoc { .. }) | None) | Err(_) => return false,
            Ok(Some(_)) => {}
        }
    }
    false
}

/// The piece that an address lies in.
pub fn around(bodies: &[Body], at: LinkAddr) -> Option<Body> {
    let behind = bodies.partition_point(|b| b.range.start <= at);
    behind.checked_sub(1).and_then(|n| bodies.get(n)).copied().filter(|b| b.range.contains(at))
}
