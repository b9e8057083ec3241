//! What a target has mapped, and the bytes of all its code: to show that something did not change.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// One line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    prot: String,
    /// Offset, device, inode and path, as the kernel prints them.
    rest: String,
    /// Its bytes if it is executable.
    code: Option<Vec<u8>>,
}

/// The mappings of a process at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    mappings: Vec<Mapping>,
}

impl Snapshot {
    /// Reads maps and code. The target may run meanwhile; take it while it waits for input.
    #[track_caller]
    pub fn of(pid: u32) -> Self {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        // Heap and stack grow by themselves; the vsyscall page is not in the process.
        let own = |line: &&str| !["[heap]", "[stack]", "[vsyscall]"].iter().any(|name| line.ends_with(name));
        Self { mappings: maps.lines().filter(own).map(|line| mapping(line, &memory)).collect() }
    }

    /// # Panics
    /// If `later` differs, naming every mapping and the first byte that does.
    #[track_caller]
    pub fn assert_same(&self, later: &Self) {
        let difference = self.difference(later);
        assert!(difference.is_empty(), "the target's memory changed:\n{difference}");
    }

    /// # Panics
    /// If a mapping is writable and executable.
    #[track_caller]
    pub fn assert_w_xor_x(&self) {
        for m in &self.mappings {
            assert!(!(m.prot.contains('w') && m.prot.contains('x')), "W+X mapping {}", m.name());
        }
    }

    /// Whether a mapping with these rights (`rw-p`) lies at this address.
    pub fn holds(&self, start: u64, len: u64, prot: &str) -> bool {
        self.mappings.iter().any(|m| m.start <= start && start + len <= m.end && m.prot.starts_with(prot))
    }

    /// What is different in `later`, a line each; empty if nothing is.
    pub fn difference(&self, later: &Self) -> String {
        fn by_name(list: &[Mapping]) -> HashMap<String, &Mapping> {
            list.iter().map(|m| (m.name(), m)).collect()
        }
        let (before, after) = (by_name(&self.mappings), by_name(&later.mappings));
        let mut text = String::new();
        for old in &self.mappings {
            match after.get(&old.name()) {
                None => writeln!(text, "  gone or changed: {}", old.name()).unwrap(),
                Some(new) => text.push_str(&code_difference(old, new)),
            }
        }
        for new in later.mappings.iter().filter(|new| !before.contains_key(&new.name())) {
            writeln!(text, "  new: {}", new.name()).unwrap();
        }
        text
    }
}

impl Mapping {
    fn name(&self) -> String {
        format!("{:x}-{:x} {} {}", self.start, self.end, self.prot, self.rest)
    }
}

fn mapping(line: &str, memory: &File) -> Mapping {
    let (range, rest) = line.split_once(' ').unwrap();
    let (prot, rest) = rest.split_once(' ').unwrap();
    let (start, end) = range.split_once('-').unwrap();
    let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
    let code = prot.contains('x').then(|| {
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.read_exact_at(&mut bytes, start).unwrap_or_else(|e| panic!("reading {line}: {e}"));
        bytes
    });
    Mapping { start, end, prot: prot.to_owned(), rest: rest.to_owned(), code }
}

fn code_difference(old: &Mapping, new: &Mapping) -> String {
    let (Some(a), Some(b)) = (&old.code, &new.code) else { return String::new() };
    let places: Vec<usize> = (0..a.len()).filter(|&i| a[i] != b[i]).collect();
    match (places.first(), places.last()) {
        (Some(&first), Some(&last)) => format!(
            "  {}: {} bytes differ from {:#x} on: {:02x?} became {:02x?}\n",
            old.name(),
            places.len(),
            old.start + first as u64,
            &a[first..=last.min(first + 63)],
            &b[first..=last.min(first + 63)]
        ),
        _ => String::new(),
    }
}
