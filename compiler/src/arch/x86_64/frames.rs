//! An `.eh_frame` for code that lp-compile adds to a patch.
//!
//! Source: System V ABI, AMD64 supplement, 3.6.2 "DWARF Register Number Mapping" (rbx 3, rbp 6, rsp 7, return address 16);
//! LSB Core, "Exception Frames"; DWARF 5, 6.4.2 (DW_CFA_advance_loc 0x40+n, _advance_loc1 0x02, _advance_loc4 0x04,
//! _def_cfa 0x0C, _def_cfa_register 0x0D, _def_cfa_offset 0x0E, _offset 0x80+r, _restore 0xC0+r; factors 1 and -8).

use lpb::AreaOff;
use lpb::addr::to_u64;

/// Some code, and how it is unwound.
#[derive(Clone, Debug)]
pub struct Described {
    pub start: AreaOff,
    pub len: u64,
    /// Call frame instructions. At the start, CFA = rsp+8 and the return address is at CFA-8.
    pub rules: Vec<u8>,
}

/// The table, which will be at `at`; all in one area, which is smaller than 1 GiB.
pub fn table(at: AreaOff, code: &[Described]) -> Vec<u8> {
    // Version 1, "zR", code in units of 1, data of -8, the return address is register 16; pointers are pcrel | sdata4.
    let mut table = entry(0, &[1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1B, 0x0C, 7, 8, 0x90, 1]);
    for Described { start, len, rules } in code {
        let id_at = to_u64(table.len()).wrapping_add(4);
        let [a, b, c, d, ..] = start.0.wrapping_sub(at.0.wrapping_add(id_at).wrapping_add(4)).to_le_bytes();
        let mut body = vec![a, b, c, d];
        body.extend(u32::try_from(*len).unwrap_or(0).to_le_bytes());
        body.push(0); // no augmentation data
        body.extend(rules);
        table.extend(entry(u32::try_from(id_at).unwrap_or(0), &body));
    }
    table.extend([0; 4]);
    table
}

/// One entry: its length, its id, the body, filled up with DW_CFA_nop.
fn entry(id: u32, body: &[u8]) -> Vec<u8> {
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(4), 0);
    let length = u32::try_from(padded.len()).unwrap_or(0).saturating_add(4);
    [&length.to_le_bytes()[..], &id.to_le_bytes(), &padded].concat()
}
