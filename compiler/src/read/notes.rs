//! The build-id, in the notes of a file.
//!
//! Source: ELF gABI ch. 5 "Note Section".

use super::elf::{Object, Range};
use lpb::addr::{to_u64, to_usize};
use lpb::{FileOff, LinkAddr, limits};
use object::LittleEndian as Le;
use object::elf;
use object::pod;

/// Descriptor of `NT_GNU_BUILD_ID` and where it is mapped.
pub fn find_build_id(object: &Object, headers: &[elf::ProgramHeader64<Le>]) -> Option<(LinkAddr, Vec<u8>)> {
    let notes = headers.iter().filter(|p| p.p_type.get(Le) == elf::PT_NOTE).map(|p| {
        let range = Range { start: LinkAddr(p.p_vaddr.get(Le)), size: p.p_filesz.get(Le) };
        (range, FileOff(p.p_offset.get(Le)), p.p_align.get(Le))
    });
    // Some linkers map the note without a PT_NOTE; a debug file has it in a section only.
    let sections = object.sections.iter().filter(|s| s.kind == elf::SHT_NOTE && s.has(elf::SHF_ALLOC));
    let all = notes.chain(sections.map(|s| (s.range(), s.offset, 4)));
    for (range, offset, align) in all {
        let Ok(data) = object.source().bytes(offset, range.size.min(1 << 16)) else { continue };
        let Some((at, id)) = build_id_in(&data, align) else { continue };
        let fits = |_: &LinkAddr| id.len() <= limits::BUILD_ID && !id.is_empty();
        if let Some(addr) = range.start.plus(at).filter(fits) {
            return Some((addr, id));
        }
    }
    None
}

/// Finds `NT_GNU_BUILD_ID` in a run of notes: offset and bytes of its descriptor.
fn build_id_in(data: &[u8], align: u64) -> Option<(u64, Vec<u8>)> {
    let align = to_usize(align.clamp(4, 8)).next_power_of_two();
    let mut at = 0_usize;
    while let Some(note) = data.get(at..) {
        let (head, _) = pod::from_bytes::<elf::NoteHeader64<Le>>(note).ok()?;
        let name_at = at.checked_add(size_of::<elf::NoteHeader64<Le>>())?;
        let name_end = name_at.checked_add(to_usize(u64::from(head.n_namesz.get(Le))))?;
        let desc_at = name_end.checked_next_multiple_of(align)?;
        let desc_end = desc_at.checked_add(to_usize(u64::from(head.n_descsz.get(Le))))?;
        let desc = data.get(desc_at..desc_end)?;
        if head.n_type.get(Le) == elf::NT_GNU_BUILD_ID && data.get(name_at..name_end)? == b"GNU\0" {
            return Some((to_u64(desc_at), desc.to_vec()));
        }
        at = desc_end.checked_next_multiple_of(align)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_id_among_other_notes() {
        let gnu = |kind: u32, desc: &[u8]| {
            let mut note = Vec::new();
            note.extend_from_slice(&4_u32.to_le_bytes());
            note.extend_from_slice(&u32::try_from(desc.len()).unwrap().to_le_bytes());
            note.extend_from_slice(&kind.to_le_bytes());
            note.extend_from_slice(b"GNU\0");
            note.extend_from_slice(desc);
            note
        };
        let id = [0xab; 20];
        for (why, data, want) in [
            ("alone", gnu(3, &id), Some((16, id.to_vec()))),
            ("behind an ABI tag", [gnu(1, &[0; 16]), gnu(3, &id)].concat(), Some((48, id.to_vec()))),
            ("another kind", gnu(1, &id), None),
            ("cut off", gnu(3, &id)[..30].to_vec(), None),
            ("empty", Vec::new(), None),
        ] {
            assert_eq!(build_id_in(&data, 4), want, "{why}");
        }
    }
}
