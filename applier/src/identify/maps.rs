//! `/proc/PID/maps` as data. Pure: text in, mappings out.
//!
//! Source: proc(5). Paths are for messages only: they may be deleted, replaced, or lies.

use lpb::{FileOff, RunAddr};

/// Most mappings that are looked at; the kernel's default limit for a process is 65,530.
const MAX_LINES: usize = 1 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First byte.
    pub start: RunAddr,
    /// First byte behind it.
    pub end: RunAddr,
    /// `PROT_READ` 1, `PROT_WRITE` 2, `PROT_EXEC` 4.
    pub prot: u32,
    /// Not `MAP_SHARED`.
    pub private: bool,
    /// Offset in the file.
    pub offset: FileOff,
    /// Major and minor number.
    pub dev: (u64, u64),
    /// 0: no file.
    pub inode: u64,
    /// Path, `[heap]`, ..., or empty.
    pub path: String,
}

impl Mapping {
    /// Whether `at` lies in it.
    pub fn holds(&self, at: RunAddr) -> bool {
        self.start <= at && at < self.end
    }

    /// Private, without file and without name.
    pub fn is_plain_anonymous(&self) -> bool {
        self.private && self.inode == 0 && self.path.is_empty()
    }

    /// Last part of the path, without the kernel's " (deleted)".
    pub fn file_name(&self) -> &str {
        file_name(&self.path)
    }
}

/// Last part of a path as maps shows it, without the kernel's " (deleted)".
pub fn file_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}

/// The mappings of a process, ascending.
#[derive(Clone, Debug, Default)]
pub struct Maps(Vec<Mapping>);

impl Maps {
    /// Parses the text; lines that are not mappings are left out.
    pub fn parse(text: &str) -> Self {
        let mut list: Vec<Mapping> = text.lines().take(MAX_LINES).filter_map(line).collect();
        list.sort_by_key(|m| m.start);
        Self(list)
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Mapping> {
        self.0.iter()
    }

    /// The mapping that holds `at`.
    pub fn at(&self, at: RunAddr) -> Option<&Mapping> {
        let behind = self.0.partition_point(|m| m.start <= at);
        self.0.get(behind.checked_sub(1)?).filter(|m| m.holds(at))
    }

    /// The mappings that touch `[start, end)`.
    pub fn within(&self, start: RunAddr, end: RunAddr) -> &[Mapping] {
        let first = self.0.partition_point(|m| m.end <= start);
        let last = self.0.partition_point(|m| m.start < end);
        self.0.get(first..last).unwrap_or_default()
    }

    /// Whether every byte of `[start, end)` is mapped by mappings for which `rule` holds.
    pub fn covers(&self, start: RunAddr, end: RunAddr, rule: impl Fn(&Mapping) -> bool) -> bool {
        let mut next = start;
        for m in self.within(start, end) {
            if m.start > next || !rule(m) {
                return false;
            }
            next = m.end;
        }
        next >= end
    }
}

fn line(text: &str) -> Option<Mapping> {
    let mut rest = text.as_bytes();
    let start = RunAddr(number::<16>(&mut rest, b'-')?);
    let end = RunAddr(number::<16>(&mut rest, b' ')?);
    let (rights, behind) = rest.split_first_chunk()?;
    rest = behind.strip_prefix(b" ")?;
    let offset = FileOff(number::<16>(&mut rest, b' ')?);
    let dev = (number::<16>(&mut rest, b':')?, number::<16>(&mut rest, b' ')?);
    let inode = number::<10>(&mut rest, b' ')?;
    let [r, w, x, shared] = *rights;
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    let path = text.get(text.len().checked_sub(rest.len())?..)?.trim_start().to_owned();
    let prot = bit(r == b'r', 1) | bit(w == b'w', 2) | bit(x == b'x', 4);
    (start < end).then_some(Mapping { start, end, prot, private: shared == b'p', offset, dev, inode, path })
}

/// Takes a number from the front, and what ends it: `last`, or the end of the line.
fn number<const BASE: u32>(rest: &mut &[u8], last: u8) -> Option<u64> {
    let len = rest.iter().position(|byte| *byte == last).unwrap_or(rest.len());
    let (digits, behind) = rest.split_at_checked(len)?;
    *rest = behind.get(1..).unwrap_or_default();
    let add = |value: u64, byte: &u8| {
        let digit = char::from(*byte).to_digit(BASE)?;
        value.checked_mul(BASE.into())?.checked_add(digit.into())
    };
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
00400000-00401000 r--p 00000000 fe:01 17                                 /opt/a b (deleted)
00401000-00403000 r-xp 00001000 fe:01 17                                 /opt/a b (deleted)
nonsense
7f0000000000-7f0000001000 rw-s 00000000 00:05 9 /dev/zero
7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                          [stack]
";

    #[test]
    fn lines_become_mappings() {
        let maps = Maps::parse(TEXT);
        assert_eq!(maps.iter().count(), 4);
        let text = maps.at(RunAddr(0x402fff)).unwrap();
        assert_eq!((text.prot, text.offset, text.inode, text.file_name()), (5, FileOff(0x1000), 17, "a b"));
        assert_eq!(text.dev, (0xfe, 1));
        assert_eq!(maps.at(RunAddr(0x403000)), None);
        let device = maps.at(RunAddr(0x7f00_0000_0000)).unwrap();
        assert_eq!((device.private, device.prot, device.dev, device.inode), (false, 3, (0, 5), 9));
    }

    #[test]
    fn cover_means_every_byte() {
        let maps = Maps::parse(TEXT);
        for (why, start, end, want) in [
            ("two adjacent mappings", 0x400000, 0x403000, true),
            ("one byte too many", 0x400000, 0x403001, false),
            ("nothing there", 0x500000, 0x501000, false),
        ] {
            assert_eq!(maps.covers(RunAddr(start), RunAddr(end), |_| true), want, "{why}");
        }
        assert!(!maps.covers(RunAddr(0x400000), RunAddr(0x403000), |m| m.prot & 4 != 0), "the rule counts");
    }
}
