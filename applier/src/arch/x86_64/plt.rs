//! Lazy binding: what an unbound slot leads to, and how a thread that is binding it gives itself away.
//!
//! ```text
//! foo@plt    jmp *slot ──(unbound)──► entry   push $index         stack of the thread, growing down
//!                                             jmp  header           return address of the call
//!                                    header   push link_map         index    ┐ side by side until the dynamic linker
//!                                             jmp  *resolver        link_map ┘ has written the slot
//! ```
//! A thread on that way writes the slot when it is done, whatever stands there by then. GNU ld, gold and lld make the same
//! entries, with or without `endbr64` and `bnd`.
//!
//! Source: System V ABI, AMD64 supplement, "Procedure Linkage Table"; Intel SDM vol. 2 for the encodings.

use super::ENDBR64;
use lpb::RunAddr;
use lpb::addr::to_u64;

const PUSH_IMM32: u8 = 0x68;
const JMP_REL32: u8 = 0xe9;
const BND: u8 = 0xf2;
/// `push disp32(%rip)`.
const PUSH_MEMORY: [u8; 2] = [0xff, 0x35];
/// Bytes of the header: two instructions of 6 or 7 bytes.
const HEADER_LEN: u64 = 16;

/// The way from an unbound slot to the dynamic linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LazyEntry {
    /// First and last-but-one address of the entry.
    pub entry: (RunAddr, RunAddr),
    /// The same of the header, which all entries share.
    pub header: (RunAddr, RunAddr),
    /// What stands on the stack of a thread that is binding, at ascending addresses.
    pub pushed: [u64; 2],
}

/// Takes the code at `at` for an entry. `None`: it is something else.
pub fn lazy_entry(at: RunAddr, read: &dyn Fn(RunAddr, usize) -> Option<Vec<u8>>) -> Option<LazyEntry> {
    let mut cursor = Cursor { at, read };
    cursor.skip(&ENDBR64);
    let index = cursor.skip(&[PUSH_IMM32]).then(|| cursor.displacement())??;
    cursor.skip(&[BND]);
    let jump = cursor.skip(&[JMP_REL32]).then(|| cursor.displacement())??;
    let header = cursor.at.0.wrapping_add_signed(jump);
    let entry = (at, cursor.at);

    let mut cursor = Cursor { at: RunAddr(header), read };
    let link_map = cursor.skip(&PUSH_MEMORY).then(|| cursor.displacement())??;
    let link_map = RunAddr(cursor.at.0.wrapping_add_signed(link_map));
    let link_map = u64::from_le_bytes(read(link_map, 8)?.try_into().ok()?);
    let header = (RunAddr(header), RunAddr(header).plus(HEADER_LEN)?);
    (link_map != 0).then_some(LazyEntry { entry, header, pushed: [link_map, index.cast_unsigned()] })
}

struct Cursor<'a> {
    at: RunAddr,
    read: &'a dyn Fn(RunAddr, usize) -> Option<Vec<u8>>,
}

impl Cursor<'_> {
    /// Steps over these bytes if they are the next ones.
    fn skip(&mut self, bytes: &[u8]) -> bool {
        let next = self.at.plus(to_u64(bytes.len()));
        match next.filter(|_| (self.read)(self.at, bytes.len()).as_deref() == Some(bytes)) {
            Some(next) => {
                self.at = next;
                true
            }
            None => false,
        }
    }

    /// A signed 32-bit operand, as wide as the CPU makes it.
    fn displacement(&mut self) -> Option<i64> {
        let bytes = (self.read)(self.at, 4)?.try_into().ok()?;
        self.at = self.at.plus(4)?;
        Some(i64::from(i32::from_le_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PLT at 0x1000 with a GOT at 0x3000, as GNU ld 2.40 makes it; the second word of the GOT is the link map.
    fn read(plt: &'static [u8]) -> impl Fn(RunAddr, usize) -> Option<Vec<u8>> {
        move |at, len| {
            let got: Vec<u8> = [0_u64, 0x7f00_0000_1180, 0x7f00_0000_2000].map(u64::to_le_bytes).concat();
            let (base, bytes) = if at.0 >= 0x3000 { (0x3000, got.as_slice()) } else { (0x1000, plt) };
            let from = usize::try_from(at.0.checked_sub(base)?).ok()?;
            bytes.get(from..from.checked_add(len)?).map(<[u8]>::to_vec)
        }
    }

    #[test]
    #[rustfmt::skip]
    fn entries_of_each_kind() {
        const PLAIN: &[u8] = &[
            0xff, 0x35, 0x02, 0x20, 0, 0,  0xff, 0x25, 0x04, 0x20, 0, 0,  0x0f, 0x1f, 0x40, 0,
            0xff, 0x25, 0x02, 0x20, 0, 0,  0x68, 3, 0, 0, 0,  0xe9, 0xe0, 0xff, 0xff, 0xff,
        ];
        const IBT: &[u8] = &[
            0xff, 0x35, 0x02, 0x20, 0, 0,  0xf2, 0xff, 0x25, 0x03, 0x20, 0, 0,  0x0f, 0x1f, 0,
            0xf3, 0x0f, 0x1e, 0xfa,  0x68, 3, 0, 0, 0,  0xf2, 0xe9, 0xe1, 0xff, 0xff, 0xff,  0x90,
        ];
        let want = |from, to| Some(LazyEntry {
            entry: (RunAddr(from), RunAddr(to)),
            header: (RunAddr(0x1000), RunAddr(0x1010)),
            pushed: [0x7f00_0000_1180, 3],
        });
        assert_eq!(lazy_entry(RunAddr(0x1016), &read(PLAIN)), want(0x1016, 0x1020));
        assert_eq!(lazy_entry(RunAddr(0x1010), &read(IBT)), want(0x1010, 0x101f));
        assert_eq!(lazy_entry(RunAddr(0x1010), &read(PLAIN)), None, "the entry's first instruction");
        assert_eq!(lazy_entry(RunAddr(0x1000), &read(PLAIN)), None, "the header");
        assert_eq!(lazy_entry(RunAddr(0x9000), &read(PLAIN)), None, "nothing");
    }
}
