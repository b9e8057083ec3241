//! Jumps whose five bytes lie in two pages. Pure.
//!
//! The commit is one write inside one page, so the bytes in the second page must stay as they are. They are the upper bytes
//! of the displacement, and that leaves a window of addresses to which the jump can go. A hop is put there:
//!
//! ```text
//!   first page ┊ second page
//!  ...  E9 d0  ┊ 48 89 e5 ...      d0 is chosen, 48 89 e5 stays: a window of 256 addresses, 0xe5894800 bytes away
//!        └──────────────────────►  hop: jmp *0(%rip), the gate thunk or the new code
//! ```

use super::PlanError;
use super::place::Space;
use crate::arch::x86_64 as arch;
use lpb::RunAddr;
use lpb::addr::{to_u64, to_usize};
use lpb::life::{Mapping, Site};
use lpb::limits::PAGE;

const PROT_READ_EXEC: u32 = 5;

/// Code that an extra mapping brings.
#[derive(Debug)]
pub struct Hop {
    /// The mapping.
    pub mapping: Mapping,
    /// Where in it the code is.
    pub at: RunAddr,
    /// The code.
    pub code: Vec<u8>,
}

/// Retargets the jump of a site that crosses a page boundary to a hop; `None`: it does not cross one. A gated jump then goes
/// to its gate thunk for good, since the window may hold no second address.
pub fn across_pages(site: &mut Site, space: &mut Space) -> Result<Option<Hop>, PlanError> {
    let in_first = PAGE.saturating_sub(site.at.0 % PAGE);
    if in_first >= to_u64(site.old.len()) {
        return Ok(None);
    }
    let no_hole = || PlanError::NoHole { len: arch::ABSOLUTE_JUMP_LEN, near: Some(site.name.clone()) };
    let goes_to = if site.gated.is_empty() { &site.new } else { &site.gated };
    let to = arch::jump_target(site.at, goes_to).ok_or_else(no_hole)?;
    let stays = site.old.get(to_usize(in_first)..).unwrap_or_default();
    let window = arch::jump_window(site.at, to_usize(in_first), stays).ok_or_else(no_hole)?;
    let at = space.take_at(window, arch::ABSOLUTE_JUMP_LEN).ok_or_else(no_hole)?;
    let jump = arch::encode_jmp(site.at, at).map_err(|_| no_hole())?.to_vec();
    if !site.gated.is_empty() {
        site.gated = jump.clone();
    }
    site.new = jump;
    let start = RunAddr(at.0 & !PAGE.wrapping_sub(1));
    let end = at.0.saturating_add(arch::ABSOLUTE_JUMP_LEN).next_multiple_of(PAGE);
    let mapping = Mapping { start, len: end.saturating_sub(start.0), prot: PROT_READ_EXEC };
    Ok(Some(Hop { mapping, at, code: arch::absolute_jump(to) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::maps::Maps;
    use lpb::life::SiteKind;

    #[test]
    fn only_the_first_page_changes() {
        for in_first in 1..=4_u64 {
            let at = RunAddr(0x5555_0000_1000 - in_first);
            let gate = RunAddr(0x5554_f000_0000);
            let jump = |to| arch::encode_jmp(at, to).unwrap().to_vec();
            let mut site = Site {
                at,
                kind: SiteKind::Jump,
                name: "f".into(),
                old: vec![0x55, 0x48, 0x89, 0xe5, 0x41],
                new: jump(RunAddr(0x5554_f000_1000)),
                gated: jump(gate),
            };
            let hop = across_pages(&mut site, &mut Space::new(&Maps::default())).unwrap().unwrap();
            let stays = to_usize(in_first)..;
            assert_eq!(site.new[stays.clone()], site.old[stays], "{in_first} bytes in the first page");
            assert_eq!(site.gated, site.new);
            assert_eq!(arch::jump_target(at, &site.new), Some(hop.at));
            assert_eq!(hop.code, arch::absolute_jump(gate));
        }
    }

    #[test]
    fn most_jumps_need_no_hop() {
        let at = RunAddr(0x5555_0000_0ffb);
        let bytes = vec![0x90; 5];
        let mut site =
            Site { at, kind: SiteKind::Jump, name: "f".into(), old: bytes.clone(), new: bytes, gated: vec![] };
        assert!(across_pages(&mut site, &mut Space::new(&Maps::default())).unwrap().is_none());
    }
}
