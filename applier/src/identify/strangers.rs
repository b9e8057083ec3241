//! Files with code in the process that the patch does not expect: preloaded libraries, plugins, programs that were unknown
//! when the patch was built.
//!
//! Any of them may define a symbol that the patch looks up, and come first. Their paths say nothing about that, and nor
//! does anything else in maps; so every one counts until the user accepts it.

use super::Found;
use super::maps::{Mapping, Maps, file_name};
use lpb::{Patch, Segment};
use std::collections::HashSet;

const PROT_EXEC: u32 = 4;

/// A file that has an executable mapping and belongs to no module of the patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// As in maps, safe for a terminal.
    pub path: String,
    /// The user accepts it.
    pub allowed: bool,
}

impl Stranger {
    /// The last part of the path, without the kernel's " (deleted)".
    pub fn name(&self) -> &str {
        file_name(&self.path)
    }
}

/// On btrfs, device and inode are equal for files of different subvolumes: only with the path do they tell files apart.
fn file(m: &Mapping) -> Option<((u64, u64), u64, &str)> {
    (m.inode != 0).then_some((m.dev, m.inode, m.path.as_str()))
}

/// The unexpected files, each once, in order of address. `allowed`: file names that the user accepts.
pub fn find(patch: &Patch<'_>, modules: &[Option<Found>], maps: &Maps, allowed: &[String]) -> Vec<Stranger> {
    let mut known = HashSet::new();
    for (module, found) in patch.modules.iter().zip(modules).filter_map(|(m, f)| Some((m, (*f)?))) {
        let segments = module.builds.get(found.build.index()).map(|b| b.segments.as_slice()).unwrap_or_default();
        for Segment { vaddr, filesz, .. } in segments {
            let start = vaddr.loaded_at(found.bias);
            known.extend(start.plus(*filesz).into_iter().flat_map(|end| maps.within(start, end)).filter_map(file));
        }
    }
    let mut found = Vec::new();
    for m in maps.iter().filter(|m| m.prot & PROT_EXEC != 0) {
        // Once reported, it is known.
        if file(m).is_some_and(|f| known.insert(f)) {
            let path = m.path.replace(char::is_control, "?");
            let allowed = allowed.iter().any(|name| name == file_name(&path));
            found.push(Stranger { path, allowed });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use lpb::{Build, BuildIdx, ElfType, FileOff, LinkAddr, LoadBias, Module};

    #[test]
    fn every_file_with_code_is_known_or_a_stranger() {
        let segment = Segment { vaddr: LinkAddr(0x1000), offset: FileOff(0x1000), filesz: 9, memsz: 9, flags: 5 };
        let build = Build {
            e_type: ElfType::Dyn,
            build_id: vec![1].into(),
            build_id_addr: LinkAddr(0x1000),
            segments: vec![segment],
            proof: vec![].into(),
            proof_addr: LinkAddr(0),
        };
        let module = |name: &str| Module { name: name.to_owned().into(), optional: true, builds: vec![build.clone()] };
        let patch = Patch {
            name: "p".into(),
            replace: false,
            gate: None,
            modules: vec![module("prog"), module("libgone.so")],
            areas: vec![],
            fixups: vec![],
            redirects: vec![],
            unwind: vec![],
            meta: "".into(),
        };
        let maps = "\
55000000-55001000 r--p 00000000 fe:01 7 /prog
55001000-55002000 r-xp 00001000 fe:01 7 /prog
56000000-56001000 r-xp 00004000 fe:01 7 /prog
57000000-57001000 r--p 00000000 fe:01 8 /data
58000000-58001000 r-xp 00000000 fe:01 9 /lib/libnew.so (deleted)
58001000-58002000 r-xp 00001000 fe:01 9 /lib/libnew.so (deleted)
59000000-59001000 r-xp 00000000 fe:01 7 /snapshot/prog2
5a000000-5a001000 r-xp 00000000 00:00 0
7fff0000-7fff1000 r-xp 00000000 00:00 0 [vdso]
";
        let modules = [Some(Found { build: BuildIdx(0), bias: LoadBias(0x5500_0000) }), None];
        let found = find(&patch, &modules, &Maps::parse(maps), &["prog2".into(), "other".into()]);
        let rows: Vec<_> = found.iter().map(|s| (s.name(), s.allowed)).collect();
        assert_eq!(rows, [("libnew.so", false), ("prog2", true)]);
    }
}
