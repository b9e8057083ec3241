//! Source functions and the places where the compiler has put their code.
//!
//! ```text
//! subprogram f            abstract root: name, file, line of f; DW_AT_inline
//! subprogram  low_pc      a body of f: DW_AT_abstract_origin ──► f (or f itself has the address)
//! subprogram g  low_pc
//!   inlined_subroutine    f inside g: DW_AT_abstract_origin ──► f, DW_AT_call_file, DW_AT_call_line
//! ```
//! Two roots of one name, file and line are one function of a header that several units include.
//! Source: DWARF 5, 3.3.8 "Inlinable and Inlined Subroutines".

use super::{Dwarf, Entry, LTO_UNIT, MOST_STEPS, Reader, Unit, clean, path};
use crate::demangle::written;
use crate::read::elf::Range;
use crate::read::symbols::printable;
use gimli::{AttributeValue, DebugInfoOffset, Reader as _, UnitOffset};
use lpb::LinkAddr;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// A function as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// As it is linked, where C++ and Rust have such a name.
    pub name: String,
    pub file: PathBuf,
    pub line: u64,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}:{}", self.name, base(&self.file), self.line)
    }
}

/// A copy of a function inside another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inlined {
    /// Its first address.
    pub at: Option<LinkAddr>,
    /// The body that it is in.
    pub into: LinkAddr,
    pub into_name: Rc<str>,
    /// Where it was called in the source: file name and line.
    pub call: Option<(String, u64)>,
}

impl fmt::Display for Inlined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A thunk that the compiler has made was called at no line.
        if let Some((file, line)) = self.call.as_ref().filter(|(_, line)| *line != 0) {
            write!(f, "{file}:{line} ")?;
        }
        write!(f, "in {}", written(&self.into_name))?;
        self.at.map_or(Ok(()), |at| write!(f, ", at {at}"))
    }
}

/// Every function of an object, and where its code is.
#[derive(Debug, Default)]
pub struct Functions {
    /// Bodies by address: of one function, or of several that were folded.
    bodies: BTreeMap<LinkAddr, BTreeSet<Source>>,
    places: BTreeMap<Source, Vec<LinkAddr>>,
    inlined: BTreeMap<Source, Vec<Inlined>>,
    /// What describes each body: the number of its unit, and the entry there.
    entries: HashMap<LinkAddr, (usize, UnitOffset)>,
    /// Bytes from the start of a body to its end; one that several functions were folded into has several such.
    lengths: BTreeMap<LinkAddr, Vec<u64>>,
    /// Code of a body that lies elsewhere, such as its unlikely part.
    parts: BTreeMap<LinkAddr, Vec<Range>>,
    /// Functions that are defined, by name; also those without a body.
    defined: HashMap<String, BTreeSet<Source>>,
    /// Units that cannot be read to their end.
    damaged: usize,
}

impl Functions {
    /// How many units cannot be read to their end.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// The source functions whose code starts here.
    pub fn at(&self, addr: LinkAddr) -> impl Iterator<Item = &Source> {
        self.bodies.get(&addr).into_iter().flatten()
    }

    /// All bodies of a function.
    pub fn bodies(&self, source: &Source) -> &[LinkAddr] {
        self.places.get(source).map(Vec::as_slice).unwrap_or_default()
    }

    /// Other ranges of the body that starts here.
    pub fn parts(&self, addr: LinkAddr) -> &[Range] {
        self.parts.get(&addr).map(Vec::as_slice).unwrap_or_default()
    }

    /// The number of the unit, and the entry in it, of the body that starts here.
    pub(super) fn entry(&self, addr: LinkAddr) -> Option<(usize, UnitOffset)> {
        self.entries.get(&addr).copied()
    }

    /// How many bytes the body that starts here has in one piece.
    pub fn lengths(&self, addr: LinkAddr) -> &[u64] {
        self.lengths.get(&addr).map(Vec::as_slice).unwrap_or_default()
    }

    /// Where a function was inlined.
    pub fn inlined(&self, source: &Source) -> &[Inlined] {
        self.inlined.get(source).map(Vec::as_slice).unwrap_or_default()
    }

    /// Functions of this name that are defined in the object, with a body or without.
    pub fn defined(&self, name: &str) -> impl Iterator<Item = &Source> {
        self.defined.get(name).into_iter().flatten()
    }
}

/// The body that the entries below it belong to.
struct Within {
    depth: isize,
    start: Option<LinkAddr>,
    name: Rc<str>,
}

struct Reading<'a> {
    dwarf: &'a Dwarf,
    units: HashMap<usize, Option<Rc<Unit>>>,
    /// Source functions by the offset of an entry; `None`: it leads to nothing that has a name.
    sources: HashMap<usize, Option<Source>>,
    found: Functions,
}

impl Reading<'_> {
    /// Reads one unit. Damaged debug information is used as far as it can be read; `None`: it is damaged.
    fn scan(&mut self, number: usize) -> Option<()> {
        let unit = self.unit(number)?;
        let mut within: Vec<Within> = Vec::new();
        let mut entries = unit.entries();
        while let Some(entry) = entries.next_dfs().ok()? {
            let depth = entry.depth();
            while within.last().is_some_and(|w| w.depth >= depth) {
                within.pop();
            }
            match entry.tag() {
                gimli::DW_TAG_subprogram => {
                    // An address of 0 is that of a function that the linker has dropped or folded.
                    let start = self.dwarf.first_address(&unit, entry).filter(|at| at.0 != 0);
                    let source = self.source(number, entry.offset());
                    self.note(&unit, entry, start, source.as_ref());
                    if let Some(start) = start {
                        self.found.entries.entry(start).or_insert((number, entry.offset()));
                        self.extent(&unit, entry, start);
                    }
                    let name = source.map(|s| s.name).unwrap_or_default();
                    within.push(Within { depth, start, name: name.into() });
                }
                gimli::DW_TAG_inlined_subroutine => {
                    let Some((into, into_name)) = within.last().and_then(|w| Some((w.start?, w.name.clone()))) else {
                        continue;
                    };
                    let Some(source) = self.source(number, entry.offset()) else { continue };
                    let at = self.dwarf.first_address(&unit, entry);
                    let inlined = Inlined { at, into, into_name, call: self.dwarf.call(&unit, entry) };
                    self.found.inlined.entry(source).or_default().push(inlined);
                }
                _ => {}
            }
        }
        Some(())
    }

    fn note(&mut self, unit: &Unit, entry: &Entry, start: Option<LinkAddr>, source: Option<&Source>) {
        let Some(source) = source else { return };
        if let Some(start) = start
            && self.found.bodies.entry(start).or_default().insert(source.clone())
        {
            self.found.places.entry(source.clone()).or_default().push(start);
        }
        let is_definition = entry.attr_value(gimli::DW_AT_declaration).is_none();
        if is_definition && !path(unit).ends_with(LTO_UNIT) {
            self.found.defined.entry(source.name.clone()).or_default().insert(source.clone());
        }
    }

    /// Notes where the body that starts here ends, and what of it lies elsewhere.
    fn extent(&mut self, unit: &Unit, entry: &Entry, start: LinkAddr) {
        let (first, others): (Vec<Range>, Vec<Range>) =
            self.dwarf.ranges(unit, entry).into_iter().partition(|r| r.start == start);
        if let Some(length) = first.iter().map(|r| r.size).max() {
            self.found.lengths.entry(start).or_default().push(length);
        }
        if entry.attr_value(gimli::DW_AT_ranges).is_some() {
            self.found.parts.insert(start, others);
        }
    }

    fn unit(&mut self, number: usize) -> Option<Rc<Unit>> {
        let dwarf = self.dwarf;
        let open = || dwarf.sections.unit(dwarf.units.get(number)?.clone()).ok().map(Rc::new);
        self.units.entry(number).or_insert_with(open).clone()
    }

    /// The function that an entry is a body or a copy of.
    fn source(&mut self, mut number: usize, mut offset: UnitOffset) -> Option<Source> {
        let mut passed = Vec::new();
        let mut found = None;
        for _ in 0..MOST_STEPS {
            let place = offset.to_debug_info_offset(self.dwarf.units.get(number)?)?.0;
            if let Some(known) = self.sources.get(&place) {
                found = known.clone();
                break;
            }
            passed.push(place);
            let unit = self.unit(number)?;
            let entry = unit.entry(offset).ok()?;
            match entry.attr_value(gimli::DW_AT_abstract_origin).and_then(|next| self.dwarf.target(number, &next)) {
                Some(next) => (number, offset) = next,
                None => {
                    found = self.root(number, &unit, &entry);
                    break;
                }
            }
        }
        self.sources.extend(passed.into_iter().map(|place| (place, found.clone())));
        found
    }

    /// Name and place of the entry at the end of the chain; a member function has them in its class.
    fn root(&mut self, number: usize, unit: &Unit, entry: &Entry) -> Option<Source> {
        let class = entry.attr_value(gimli::DW_AT_specification).and_then(|to| self.dwarf.target(number, &to));
        let class = class.and_then(|(n, at)| {
            let unit = self.unit(n)?;
            let entry = unit.entry(at).ok()?;
            Some((unit, entry))
        });
        let both = || std::iter::once((unit, entry)).chain(class.iter().map(|(unit, entry)| (&**unit, entry)));
        let names = [gimli::DW_AT_linkage_name, gimli::DW_AT_MIPS_linkage_name, gimli::DW_AT_name];
        let name = names
            .into_iter()
            .find_map(|name| both().find_map(|(unit, entry)| self.dwarf.text(unit, entry.attr_value(name)?)))?;
        let place = both().find_map(|(unit, entry)| {
            let line = entry.attr_value(gimli::DW_AT_decl_line)?.udata_value()?;
            let file = entry.attr_value(gimli::DW_AT_decl_file).and_then(|file| self.dwarf.file(unit, &file));
            Some((file.unwrap_or_else(|| path(unit)), line))
        });
        let (file, line) = place.unwrap_or_else(|| (path(unit), 0));
        Some(Source { name, file, line })
    }
}

impl Dwarf {
    /// Every function and where its code is, read at the first call.
    pub fn functions(&self) -> &Functions {
        self.functions.get_or_init(|| {
            let (units, sources) = (HashMap::new(), HashMap::new());
            let mut reading = Reading { dwarf: self, units, sources, found: Functions::default() };
            let damaged = (0..self.units.len()).filter(|number| reading.scan(*number).is_none()).count();
            reading.found.damaged = damaged.saturating_add(self.lost);
            reading.found
        })
    }

    /// The source line that the code at an address comes from: file name and line.
    pub fn line(&self, at: LinkAddr) -> Option<(String, u32)> {
        let context =
            self.lines.get_or_init(|| addr2line::Context::from_arc_dwarf(Arc::clone(&self.sections)).ok().map(Lines));
        let location = context.as_ref()?.0.find_location(at.0).ok()??;
        Some((base(Path::new(&printable(location.file?.as_bytes()))), location.line?))
    }

    /// The unit, and the entry in it, that a reference leads to.
    fn target(&self, number: usize, to: &AttributeValue<Reader>) -> Option<(usize, UnitOffset)> {
        match to {
            AttributeValue::UnitRef(offset) => Some((number, *offset)),
            AttributeValue::DebugInfoRef(offset) => self.unit_with(*offset),
            _ => None,
        }
    }

    fn unit_with(&self, offset: DebugInfoOffset) -> Option<(usize, UnitOffset)> {
        let behind = self.units.partition_point(|u| u.debug_info_offset().is_some_and(|o| o.0 <= offset.0));
        let number = behind.checked_sub(1)?;
        Some((number, offset.to_unit_offset(self.units.get(number)?)?))
    }

    /// Where the code of an entry begins: `DW_AT_low_pc`, or the start of the first range.
    fn first_address(&self, unit: &Unit, entry: &Entry) -> Option<LinkAddr> {
        if let Some(low) = entry.attr_value(gimli::DW_AT_low_pc) {
            return self.sections.attr_address(unit, low).ok()?.map(LinkAddr);
        }
        let mut ranges = self.sections.die_ranges(unit, entry).ok()?;
        ranges.next().ok()?.map(|range| LinkAddr(range.begin))
    }

    /// The ranges of an entry.
    fn ranges(&self, unit: &Unit, entry: &Entry) -> Vec<Range> {
        const MOST: usize = 1024;
        let mut found = Vec::new();
        let Ok(mut ranges) = self.sections.die_ranges(unit, entry) else { return found };
        while let Ok(Some(range)) = ranges.next() {
            let size = range.end.saturating_sub(range.begin);
            if size != 0 && found.len() < MOST {
                found.push(Range { start: LinkAddr(range.begin), size });
            }
        }
        found
    }

    /// Where an inlined function was called.
    fn call(&self, unit: &Unit, entry: &Entry) -> Option<(String, u64)> {
        let line = entry.attr_value(gimli::DW_AT_call_line)?.udata_value()?;
        let file = entry.attr_value(gimli::DW_AT_call_file).and_then(|file| self.file(unit, &file));
        Some((base(&file.unwrap_or_else(|| path(unit))), line))
    }

    /// A file of the unit's line table.
    fn file(&self, unit: &Unit, index: &AttributeValue<Reader>) -> Option<PathBuf> {
        let index = match index {
            AttributeValue::FileIndex(index) => *index,
            other => other.udata_value()?,
        };
        let header = unit.line_program.as_ref()?.header();
        let file = header.file(index)?;
        let name = self.text(unit, file.path_name())?;
        let folder = file.directory(header).and_then(|dir| self.text(unit, dir)).unwrap_or_default();
        let unit_folder = unit.comp_dir.as_ref().and_then(|dir| Some(printable(&dir.to_slice().ok()?)));
        Some(clean(&Path::new(&unit_folder.unwrap_or_default()).join(folder).join(name)))
    }

    /// A string, if it is one that a person may have written.
    fn text(&self, unit: &Unit, value: AttributeValue<Reader>) -> Option<String> {
        const LONGEST: usize = 1 << 14;
        let text = self.sections.attr_string(unit, value).ok().filter(|text| text.len() <= LONGEST)?;
        Some(printable(&text.to_slice().ok()?))
    }
}

/// Source lines by address.
pub(super) struct Lines(addr2line::Context<Reader>);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

fn base(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
