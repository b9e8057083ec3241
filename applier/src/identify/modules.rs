//! Which build of a module is loaded, and where.
//!
//! "The first mapping of the file" is not its base: programs map their own file a second time as data, linkers leave
//! gaps, and several loads may share a page. So every mapping proposes a bias for every `PT_LOAD` that could have made it,
//! and a proposal counts only if *all* `PT_LOAD`s are where they must be and the build-id in memory is the right one.

use super::maps::{Mapping, Maps};
use lpb::limits::PAGE;
use lpb::{Build, BuildIdx, ElfType, LinkAddr, LoadBias, Module, RunAddr, Segment};

const PF_X: u32 = 1;
const PROT_WRITE: u32 = 2;
/// As [`super::maps::Mapping::prot`] has it.
pub const PROT_EXEC: u32 = 4;

/// How the note of a build-id begins: lengths of name and id, `NT_GNU_BUILD_ID`, name.
const NOTE_HEAD: [u8; 16] = *b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
/// Bytes of the id: SHA-1, which linkers make unless told otherwise.
const ID_LEN: usize = 20;

/// A module found in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which of its builds.
    pub build: BuildIdx,
    /// Where.
    pub bias: LoadBias,
}

/// Why a module was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No mapping looks like it.
    NotLoaded,
    /// Something of that name is loaded, but it is no build that the patch knows. Its build-id, if it could be read.
    OtherBuild(Option<Vec<u8>>),
    /// It is loaded more than once (dlmopen, or a copy).
    Ambiguous(Vec<LoadBias>),
}

/// Finds the one loaded build of `module`. `read(at, len)`: bytes of the process, if they can be read.
pub fn find(
    module: &Module<'_>,
    maps: &Maps,
    read: impl Fn(RunAddr, usize) -> Option<Vec<u8>>,
) -> Result<Found, Missing> {
    let mut found = Vec::new();
    let mut other = None;
    for (index, build) in (0..).zip(&module.builds) {
        for bias in candidate_biases(build, maps) {
            let mut file = None;
            if !build.segments.iter().all(|s| segment_fits(build, s, bias, maps, &mut file)) {
                continue;
            }
            if proof_holds(build, bias, &read) {
                found.push(Found { build: BuildIdx(index), bias });
            } else if file.is_some_and(|m| m.file_name() == module.name) {
                // Small programs have segments of the same size: without the name it would be any of them.
                other = Some(read(build.build_id_addr.loaded_at(bias), build.build_id.len()));
            }
        }
    }
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(match other {
            // If it is known by now, the library has only just come.
            Some(id) => Missing::OtherBuild(id.filter(|id| !id.is_empty() && !is_known(module, id))),
            None if maps.iter().any(is_code_of(&module.name)) => Missing::OtherBuild(foreign_id(module, maps, &read)),
            None => Missing::NotLoaded,
        }),
        several => Err(Missing::Ambiguous(several.iter().map(|f| f.bias).collect())),
    }
}

/// A file that is only read or written, or mapped only in part so far, is no loaded module, whatever its name.
fn is_code_of(name: &str) -> impl Fn(&Mapping) -> bool {
    move |m| m.inode != 0 && m.prot & PROT_EXEC != 0 && m.file_name() == name
}

/// The build-id of the file of that name, if its first page shows one that the patch does not know. The file is another
/// one, so where its notes are is not known: what looks like the header of one is searched for (gABI, "Note Section").
fn foreign_id(module: &Module<'_>, maps: &Maps, read: &impl Fn(RunAddr, usize) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let code = maps.iter().find(|m| is_code_of(&module.name)(m))?;
    let same_file =
        |m: &&Mapping| m.dev == code.dev && m.inode == code.inode && m.offset.0 == 0 && m.prot & PROT_WRITE == 0;
    let head = maps.iter().filter(same_file).rfind(|m| m.start <= code.start)?;
    let page = read(head.start, usize::try_from(PAGE).ok()?)?;
    let behind = page.windows(NOTE_HEAD.len()).position(|w| w == NOTE_HEAD)?.checked_add(NOTE_HEAD.len())?;
    let id = page.get(behind..behind.checked_add(ID_LEN)?)?;
    (!is_known(module, id)).then(|| id.to_vec())
}

fn is_known(module: &Module<'_>, id: &[u8]) -> bool {
    module.builds.iter().any(|b| b.build_id == id)
}

fn page_down(at: u64) -> u64 {
    at & !PAGE.wrapping_sub(1)
}

fn candidate_biases(build: &Build<'_>, maps: &Maps) -> Vec<LoadBias> {
    let mut biases: Vec<_> = build
        .segments
        .iter()
        .filter(|s| s.filesz != 0)
        .flat_map(|s| {
            let page = LinkAddr(page_down(s.vaddr.0));
            let from = page_down(s.offset.0);
            maps.iter().filter(move |m| m.inode != 0 && m.offset.0 == from).map(move |m| m.start.bias_of(page))
        })
        .filter(|bias| build.e_type == ElfType::Dyn || *bias == LoadBias(0))
        .collect();
    biases.sort_unstable();
    biases.dedup();
    biases
}

/// Whether the pages of one `PT_LOAD` are mapped as the loader maps them. `file`: a mapping of the file that all segments
/// of the build must share, once one of them has shown it.
fn segment_fits<'m>(
    build: &Build<'_>,
    s: &Segment,
    bias: LoadBias,
    maps: &'m Maps,
    file: &mut Option<&'m Mapping>,
) -> bool {
    if s.filesz == 0 {
        return true;
    }
    let start = LinkAddr(page_down(s.vaddr.0)).loaded_at(bias);
    let Some(end) = s.vaddr.loaded_at(bias).plus(s.filesz) else {
        return false;
    };
    let executable = s.flags & PF_X != 0;
    let shares_page = build.segments.iter().any(|x| x.flags & PF_X != 0 && x != s && pages_meet(x, s));
    if file.is_none() {
        *file = maps.within(start, end).iter().find(|m| m.inode != 0);
    }
    maps.covers(start, end, |m| {
        let prot_fits = shares_page || executable == (m.prot & PROT_EXEC != 0);
        if m.inode == 0 {
            // Text remapped to huge pages is anonymous; data never is.
            return executable && prot_fits;
        }
        let at = m.start.0.wrapping_sub(start.0).wrapping_add(page_down(s.offset.0));
        prot_fits && m.offset.0 == at && file.is_some_and(|f| f.dev == m.dev && f.inode == m.inode)
    })
}

fn pages_meet(a: &Segment, b: &Segment) -> bool {
    let pages = |s: &Segment| (page_down(s.vaddr.0), s.vaddr.0.saturating_add(s.filesz).next_multiple_of(PAGE));
    let ((a_start, a_end), (b_start, b_end)) = (pages(a), pages(b));
    a_start < b_end && b_start < a_end
}

fn proof_holds(build: &Build<'_>, bias: LoadBias, read: &impl Fn(RunAddr, usize) -> Option<Vec<u8>>) -> bool {
    let stands = |at: LinkAddr, want: &[u8]| {
        want.is_empty() || read(at.loaded_at(bias), want.len()).is_some_and(|have| have == want)
    };
    stands(build.build_id_addr, &build.build_id) && stands(build.proof_addr, &build.proof)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of our own")]
mod tests {
    use super::*;
    use lpb::FileOff;

    fn load(vaddr: u64, offset: u64, filesz: u64, flags: u32) -> Segment {
        Segment { vaddr: LinkAddr(vaddr), offset: FileOff(offset), filesz, memsz: filesz, flags }
    }

    fn module(e_type: ElfType, base: u64) -> Module<'static> {
        let segments = vec![load(base, 0, 0x600, 4), load(base + 0x1000, 0x1000, 0x200, 5)];
        let build_id_addr = LinkAddr(base + 0x300);
        let build_id = vec![1, 2, 3].into();
        let build = Build { e_type, build_id, build_id_addr, segments, proof: vec![].into(), proof_addr: LinkAddr(0) };
        Module { name: "prog".into(), optional: false, builds: vec![build] }
    }

    #[test]
    fn the_base_is_found_among_decoys() {
        let copy = "10000000-10002000 r--p 00000000 fe:01 7 /prog\n";
        let pie = "55000000-55001000 r--p 00000000 fe:01 7 /prog\n55001000-55002000 r-xp 00001000 fe:01 7 /prog\n";
        let mixed = pie.replacen("fe:01 7", "fe:01 8", 1);
        let huge = "55000000-55001000 r--p 00000000 fe:01 7 /prog\n55001000-55002000 r-xp 00000000 00:00 0\n";
        let twin = pie.replace("55", "66");
        let fixed = pie.replace("55", "00");
        let found = |bias| Ok(Found { build: BuildIdx(0), bias: LoadBias(bias) });
        let other = Err(Missing::OtherBuild(Some(vec![9, 9, 9])));
        let two = Err(Missing::Ambiguous(vec![LoadBias(0x5500_0000), LoadBias(0x6600_0000)]));
        for (why, kind, base, maps, id, want) in [
            ("plain", ElfType::Dyn, 0, pie.to_owned(), [1, 2, 3], found(0x5500_0000)),
            ("a data copy below", ElfType::Dyn, 0, format!("{copy}{pie}"), [1, 2, 3], found(0x5500_0000)),
            ("text on huge pages", ElfType::Dyn, 0, huge.to_owned(), [1, 2, 3], found(0x5500_0000)),
            ("another build", ElfType::Dyn, 0, pie.to_owned(), [9, 9, 9], other),
            ("only a data copy", ElfType::Dyn, 0, copy.to_owned(), [1, 2, 3], Err(Missing::NotLoaded)),
            (
                "a program of the same shape",
                ElfType::Dyn,
                0,
                pie.replace("/prog", "/cat"),
                [9, 9, 9],
                Err(Missing::NotLoaded),
            ),
            (
                "the same under another name",
                ElfType::Dyn,
                0,
                pie.replace("/prog", "/cat"),
                [1, 2, 3],
                found(0x5500_0000),
            ),
            ("parts of two files", ElfType::Dyn, 0, mixed, [1, 2, 3], Err(Missing::OtherBuild(None))),
            ("not there", ElfType::Dyn, 0, String::new(), [1, 2, 3], Err(Missing::NotLoaded)),
            ("twice", ElfType::Dyn, 0, format!("{pie}{twin}"), [1, 2, 3], two),
            ("fixed address", ElfType::Exec, 0, fixed, [1, 2, 3], found(0)),
        ] {
            let got = find(&module(kind, base), &Maps::parse(&maps), |_, _| Some(id.to_vec()));
            assert_eq!(got, want, "{why}");
        }
    }
    #[test]
    fn the_id_of_an_unknown_build_is_told() {
        let maps = "55000000-55001000 r--p 00000000 fe:01 7 /prog\n55001000-55005000 r-xp 00002000 fe:01 7 /prog\n";
        let head = [&[0x7f; 40], NOTE_HEAD.as_slice(), &[8; ID_LEN], &[0; 9]].concat();
        let got = |head: &[u8], known: u8| {
            let mut module = module(ElfType::Dyn, 0);
            module.builds[0].build_id = vec![known; ID_LEN].into();
            find(&module, &Maps::parse(maps), |_, _| Some(head.to_vec()))
        };
        assert_eq!(got(&head, 7), Err(Missing::OtherBuild(Some(vec![8; ID_LEN]))));
        assert_eq!(got(&head, 8), Err(Missing::OtherBuild(None)), "not loaded whole");
        assert_eq!(got(&head[..70], 7), Err(Missing::OtherBuild(None)), "cut short");
        assert_eq!(got(&[], 7), Err(Missing::OtherBuild(None)));
    }
}
