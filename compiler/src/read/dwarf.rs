//! Which source file a symbol comes from, where the symbol table does not say it: DWARF, read only when that is asked.
//!
//! ```text
//! unit  name a.c, comp_dir /src            unit  <artificial>      (gcc -flto)
//!   subprogram handle  low_pc 0x1240         subprogram  low_pc 0x12f0
//!     ▲ concrete: this is the file             abstract_origin ──► subprogram handle in unit a.c: that is the file
//! ```
//! A symbol belongs to the unit at the end of the chain of origins of the entry that has its address.
//! Source: DWARF 5, 2.17 (addresses), 3.3.8 and 4.1 (`DW_AT_abstract_origin`, `DW_AT_specification`).

mod abi;
pub mod functions;
pub mod shape;
pub mod types;

pub use abi::{Class, Convention};

use self::functions::{Functions, Lines};
use super::elf::Object;
use super::symbols::printable;
use gimli::{AttributeValue, EndianRcSlice, LittleEndian, Operation, Reader as _, SectionId};
use lpb::LinkAddr;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

type Reader = EndianRcSlice<LittleEndian>;
type Unit = gimli::Unit<Reader>;
type Entry = gimli::DebuggingInformationEntry<Reader>;

/// Origins are one or two steps away; a longer chain is a cycle.
const MOST_STEPS: u32 = 8;
/// What gcc calls the units that hold the code of link-time optimisation.
const LTO_UNIT: &str = "<artificial>";

/// Debug information of one object.
#[derive(Debug)]
pub struct Dwarf {
    sections: Arc<gimli::Dwarf<Reader>>,
    units: Vec<gimli::UnitHeader<Reader>>,
    /// Units that are not among these, as their headers are damaged, as far as that can be counted.
    lost: usize,
    functions: OnceCell<Functions>,
    lines: OnceCell<Option<Lines>>,
    /// Which unit has which code, once asked for.
    code: OnceCell<Vec<(u64, u64, usize)>>,
    /// How functions are called, where that has been asked.
    conventions: RefCell<HashMap<LinkAddr, Option<Convention>>>,
}

impl Dwarf {
    /// The debug information in this file, if it has any that can be read.
    pub fn of(file: &Object) -> Option<Self> {
        let load = |id: SectionId| {
            let section = file.section(id.name()).filter(|_| is_used(id));
            let bytes = section.map_or(Ok(Vec::new()), |s| file.section_bytes(s))?;
            Ok::<_, super::ReadError>(EndianRcSlice::new(Rc::from(bytes), LittleEndian))
        };
        let sections = gimli::Dwarf::load(load).ok()?;
        let mut units = Vec::new();
        let mut headers = sections.units();
        // Damaged debug information is used as far as it can be read.
        let lost = loop {
            match headers.next() {
                Ok(Some(header)) => units.push(header),
                Ok(None) => break 0,
                Err(_) => break 1,
            }
        };
        let (functions, lines) = (OnceCell::new(), OnceCell::new());
        #[allow(clippy::arc_with_non_send_sync, reason = "addr2line takes an Arc; nothing here has threads")]
        let sections = Arc::new(sections);
        let (code, conventions) = (OnceCell::new(), RefCell::default());
        (!units.is_empty()).then_some(Self { sections, units, lost, functions, lines, code, conventions })
    }

    /// The source files of functions and variables, by address. With `wanted`, units of that file are read first, and
    /// the others only if they can hold code or data of it.
    pub fn files(&self, places: &[LinkAddr], wanted: Option<&str>) -> HashMap<LinkAddr, PathBuf> {
        let mut found = HashMap::new();
        let units: Vec<(Unit, PathBuf)> =
            self.units.iter().filter_map(|h| self.sections.unit(h.clone()).ok()).map(with_path).collect();
        let fits = |path: &Path| wanted.is_none_or(|w| is_tail(path, w));
        for (unit, _) in units.iter().filter(|(_, path)| fits(path)) {
            self.scan(unit, places, &mut found);
        }
        if wanted.is_some() && found.is_empty() {
            let lto = |path: &Path| path.ends_with(LTO_UNIT);
            for (unit, _) in units.iter().filter(|(_, path)| !fits(path) && lto(path)) {
                self.scan(unit, places, &mut found);
            }
        }
        found
    }

    /// Finds the entries of one unit that have one of these addresses.
    fn scan(&self, unit: &Unit, places: &[LinkAddr], found: &mut HashMap<LinkAddr, PathBuf>) {
        let mut entries = unit.entries();
        while let Ok(Some(entry)) = entries.next_dfs() {
            let Some(at) = self.address(unit, entry).filter(|at| places.contains(at)) else { continue };
            if let Some(path) = self.origin(unit, entry, MOST_STEPS) {
                found.insert(at, path);
            }
        }
    }

    /// Where the code of a function starts, or where a variable lies.
    fn address(&self, unit: &Unit, entry: &Entry) -> Option<LinkAddr> {
        let address = match entry.tag() {
            gimli::DW_TAG_subprogram => {
                let value = entry.attr_value(gimli::DW_AT_low_pc)?;
                self.sections.attr_address(unit, value).ok()?
            }
            gimli::DW_TAG_variable => {
                let AttributeValue::Exprloc(expression) = entry.attr_value(gimli::DW_AT_location)? else { return None };
                match expression.operations(unit.encoding()).next().ok()?? {
                    Operation::Address { address } => Some(address),
                    Operation::AddressIndex { index } => self.sections.address(unit, index).ok(),
                    _ => None,
                }
            }
            _ => None,
        };
        address.map(LinkAddr)
    }

    /// The file of the unit in which what this entry describes was written.
    fn origin(&self, unit: &Unit, entry: &Entry, steps: u32) -> Option<PathBuf> {
        let next = [gimli::DW_AT_abstract_origin, gimli::DW_AT_specification];
        let Some(next) = next.into_iter().find_map(|name| entry.attr_value(name)) else { return Some(path(unit)) };
        let steps = steps.checked_sub(1)?;
        match next {
            AttributeValue::UnitRef(offset) => self.origin(unit, &unit.entry(offset).ok()?, steps),
            AttributeValue::DebugInfoRef(offset) => {
                let behind = self.units.partition_point(|u| u.offset().0 <= offset.0);
                let header = self.units.get(behind.checked_sub(1)?)?;
                let other = self.sections.unit(header.clone()).ok()?;
                let offset = offset.to_unit_offset(&other.header)?;
                self.origin(&other, &other.entry(offset).ok()?, steps)
            }
            _ => None,
        }
    }
}

/// Sections that the questions asked here need. A unit cannot be opened without its line table.
fn is_used(id: SectionId) -> bool {
    matches!(
        id,
        SectionId::DebugInfo
            | SectionId::DebugAbbrev
            | SectionId::DebugStr
            | SectionId::DebugLine
            | SectionId::DebugLineStr
            | SectionId::DebugStrOffsets
            | SectionId::DebugAddr
            | SectionId::DebugAranges
            | SectionId::DebugRanges
            | SectionId::DebugRngLists
            | SectionId::DebugTypes
    )
}

fn with_path(unit: Unit) -> (Unit, PathBuf) {
    let path = path(&unit);
    (unit, path)
}

/// The source file of a unit, below its compilation directory.
fn path(unit: &Unit) -> PathBuf {
    let text = |r: &Option<Reader>| r.as_ref().and_then(|r| Some(printable(&r.to_slice().ok()?))).unwrap_or_default();
    clean(&Path::new(&text(&unit.comp_dir)).join(text(&unit.name)))
}

/// Without `.` and, as far as that can be told from the text, `..`.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = out.pop(),
            part => out.push(part),
        }
    }
    out
}

/// Whether a path ends with these components: `b.c` and `src/b.c` for `/home/me/src/b.c`.
pub fn is_tail(path: &Path, wanted: &str) -> bool {
    path.ends_with(clean(Path::new(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_of_paths() {
        for (path, wanted, want) in [
            ("/home/me/src/b.c", "b.c", true),
            ("/home/me/src/b.c", "src/b.c", true),
            ("/home/me/src/b.c", "./src/b.c", true),
            ("/home/me/src/b.c", "/home/me/src/b.c", true),
            ("/home/me/src/b.c", "c", false),
            ("/home/me/src/b.c", "rc/b.c", false),
            ("/home/me/src/b.c", "other/b.c", false),
        ] {
            assert_eq!(is_tail(&clean(Path::new(path)), wanted), want, "{path} {wanted}");
        }
        assert_eq!(clean(Path::new("/a/./b/../c.c")), Path::new("/a/c.c"));
    }
}
