//! Symbol tables: names kept in one block as they are in the file, symbols as small records, two sorted indexes.
//!
//! ```text
//! .symtab of a linked object (locals follow the STT_FILE they come from):
//!   FILE a.c │ handle counter ... │ FILE b.c │ handle ... │ FILE "" │ linker's own │ globals
//! ```

use super::elf::{Object, table};
use super::sections::Section;
use super::{ReadError, Source};
use lpb::addr::{to_u64, to_usize};
use lpb::{FileOff, LinkAddr};
use object::LittleEndian as Le;
use object::elf;
use std::ffi::CStr;

/// No `STT_FILE` precedes the symbol, or it is global.
const NO_FILE: u32 = u32::MAX;
/// Bit of a version index: matches only a reference that names this version. Source: glibc `elf.h`, `VERSYM_HIDDEN`.
pub const VERSYM_HIDDEN: u16 = 0x8000;

/// One symbol.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    name: u32,
    file: u32,
    /// Version index (`.gnu.version`), 1 where there are no versions.
    pub version: u16,
    pub section: elf::SymbolSection,
    pub kind: elf::SymbolType,
    pub bind: elf::SymbolBind,
    pub visibility: elf::SymbolVisibility,
    pub value: LinkAddr,
    pub size: u64,
}

impl Symbol {
    /// A function that no symbol table tells of.
    pub fn nameless(value: LinkAddr, size: u64) -> Self {
        let (section, kind) = (elf::SymbolSection(1), elf::STT_FUNC);
        let (bind, visibility) = (elf::STB_LOCAL, elf::STV_DEFAULT);
        Self { name: 0, file: NO_FILE, version: 1, section, kind, bind, visibility, value, size }
    }

    pub fn is_defined(&self) -> bool {
        self.section != elf::SHN_UNDEF
    }

    pub fn is_function(&self) -> bool {
        self.kind == elf::STT_FUNC || self.kind == elf::STT_GNU_IFUNC
    }

    /// Whether it names a place in memory of the object.
    pub fn is_place(&self) -> bool {
        let kinds = [elf::STT_FUNC, elf::STT_GNU_IFUNC, elf::STT_OBJECT, elf::STT_NOTYPE, elf::STT_COMMON];
        self.is_defined() && self.section != elf::SHN_ABS && kinds.contains(&self.kind)
    }
}

/// A symbol table with its names.
#[derive(Debug, Default)]
pub struct SymbolTable {
    strings: Vec<u8>,
    symbols: Vec<Symbol>,
    by_name: Vec<u32>,
    by_address: Vec<u32>,
}

impl SymbolTable {
    /// Decodes raw records; `versions` is `.gnu.version` or empty. `None` if the names have more bytes than can be meant.
    pub fn new(raw: &[elf::Sym64<Le>], strings: Vec<u8>, versions: &[u16]) -> Option<Self> {
        if !names_end(raw.iter().map(|s| s.st_name.get(Le)), &strings) {
            return None;
        }
        let mut file = NO_FILE;
        let mut symbols = Vec::with_capacity(raw.len());
        for (index, s) in raw.iter().enumerate() {
            let (kind, bind) = (s.st_info.st_type(), s.st_info.st_bind());
            if kind == elf::STT_FILE {
                file = s.st_name.get(Le);
            }
            symbols.push(Symbol {
                name: s.st_name.get(Le),
                file: if bind == elf::STB_LOCAL { file } else { NO_FILE },
                version: versions.get(index).copied().unwrap_or(1),
                section: s.st_shndx.get(Le),
                kind,
                bind,
                visibility: s.st_other.visibility(),
                value: LinkAddr(s.st_value.get(Le)),
                size: s.st_size.get(Le),
            });
        }
        let mut table = Self { strings, symbols, by_name: Vec::new(), by_address: Vec::new() };
        table.index();
        Some(table)
    }

    fn index(&mut self) {
        let numbered = || self.symbols.iter().zip(0_u32..);
        let mut by_name: Vec<_> = numbered()
            .filter(|(s, _)| s.name != 0 && s.kind != elf::STT_FILE)
            .map(|(s, i)| (self.name(s), i))
            .collect();
        by_name.sort_unstable();
        let mut by_address: Vec<_> = numbered().filter(|(s, _)| s.is_place()).map(|(s, i)| (s.value, i)).collect();
        by_address.sort_unstable();
        let by_name = by_name.into_iter().map(|(_, i)| i).collect();
        self.by_address = by_address.into_iter().map(|(_, i)| i).collect();
        self.by_name = by_name;
    }

    /// `.symtab` of an object; empty if it is stripped.
    pub fn of_sections(object: &Object) -> Result<Self, ReadError> {
        let Some(symtab) = object.sections.iter().find(|s| s.kind == elf::SHT_SYMTAB) else {
            return Ok(Self::default());
        };
        let strings = object.sections.get(to_usize(u64::from(symtab.link)));
        let strings = strings.ok_or_else(|| object.source().damaged("its symbol table names no string table"))?;
        let table = Self::new(&records(object.source(), object, symtab)?, object.section_bytes(strings)?, &[]);
        table.ok_or_else(|| object.source().damaged("the names of its symbols overlap without end"))
    }

    fn text_at(&self, at: u32) -> &[u8] {
        let tail = self.strings.get(to_usize(u64::from(at))..).unwrap_or_default();
        CStr::from_bytes_until_nul(tail).map_or(tail, CStr::to_bytes)
    }

    /// The bytes of a symbol's name.
    pub fn name(&self, symbol: &Symbol) -> &[u8] {
        self.text_at(symbol.name)
    }

    /// The name for messages.
    pub fn text(&self, symbol: &Symbol) -> String {
        printable(self.name(symbol))
    }

    /// The `STT_FILE` that a local symbol belongs to.
    pub fn file(&self, symbol: &Symbol) -> Option<String> {
        Some(symbol.file).filter(|f| *f != NO_FILE).map(|f| printable(self.text_at(f))).filter(|f| !f.is_empty())
    }

    pub fn get(&self, index: u32) -> Option<&Symbol> {
        self.symbols.get(to_usize(u64::from(index)))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// All symbols of exactly this name.
    pub fn named<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a Symbol> {
        let name_of = |i: u32| self.get(i).map(|s| self.name(s)).unwrap_or_default();
        let start = self.by_name.partition_point(|i| name_of(*i) < name);
        let tail = self.by_name.get(start..).unwrap_or_default();
        tail.iter().filter_map(|i| self.get(*i)).take_while(move |s| self.name(s) == name)
    }

    /// All symbols whose name starts so.
    pub fn prefixed<'a>(&'a self, prefix: &[u8]) -> impl Iterator<Item = &'a Symbol> {
        let name_of = |i: u32| self.get(i).map(|s| self.name(s)).unwrap_or_default();
        let start = self.by_name.partition_point(|i| name_of(*i) < prefix);
        let tail = self.by_name.get(start..).unwrap_or_default();
        tail.iter().filter_map(|i| self.get(*i)).take_while(move |s| self.name(s).starts_with(prefix))
    }

    /// All symbols at exactly this address.
    pub fn at(&self, address: LinkAddr) -> impl Iterator<Item = &Symbol> {
        self.from(address).take_while(move |s| s.value == address)
    }

    /// The variable that an address is part of.
    pub fn variable_at(&self, address: LinkAddr) -> Option<&Symbol> {
        let end = self.by_address.partition_point(|i| self.get(*i).is_some_and(|s| s.value <= address));
        let head = self.by_address.get(..end).unwrap_or_default();
        // Looking back a few symbols steps over labels and aliases.
        let holds = |s: &&Symbol| s.kind == elf::STT_OBJECT && address.since(s.value).is_some_and(|n| n < s.size);
        head.iter().rev().take(16).filter_map(|i| self.get(*i)).find(holds)
    }

    /// Places from this address on, ascending.
    pub fn from(&self, address: LinkAddr) -> impl Iterator<Item = &Symbol> {
        let start = self.by_address.partition_point(|i| self.get(*i).is_some_and(|s| s.value < address));
        self.by_address.get(start..).unwrap_or_default().iter().filter_map(|i| self.get(*i))
    }
}

/// Whether names that start at these offsets are worth reading. They may share their ends, so that all of them together have
/// more bytes than the table of strings, but not that many: a hostile file has a single string without an end, and a
/// hundred thousand names that begin in it.
pub fn names_end(mut starts: impl Iterator<Item = u32>, strings: &[u8]) -> bool {
    const SHARED: usize = 16;
    let mut left = strings.len().saturating_mul(SHARED).saturating_add(1 << 20);
    starts.all(|at| {
        let tail = strings.get(to_usize(u64::from(at))..).unwrap_or_default();
        let rest = left.checked_sub(tail.iter().take(left).position(|b| *b == 0).unwrap_or(tail.len()));
        left = rest.unwrap_or(0);
        rest.is_some()
    })
}

/// Raw records of a symbol section.
fn records(source: &Source, object: &Object, section: &Section) -> Result<Vec<elf::Sym64<Le>>, ReadError> {
    let what = "it has a bad symbol table";
    if section.has(elf::SHF_COMPRESSED) {
        let bytes = object.section_bytes(section)?;
        return object::pod::slice_from_all_bytes(&bytes).map(<[_]>::to_vec).map_err(|()| source.damaged(what));
    }
    table(
        source,
        FileOff(section.offset.0),
        section.size.checked_div(to_u64(size_of::<elf::Sym64<Le>>())).unwrap_or(0),
        what,
    )
}

/// Text that may reach a terminal: control characters of a hostile file are replaced.
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, "?"),
        false => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_an_end() {
        let mut strings = vec![b'a'; 2 << 20];
        assert!(names_end([0, 5, 2 << 20, u32::MAX].into_iter(), &strings));
        assert!(!names_end((0..100).map(|_| 1), &strings));
        strings.iter_mut().step_by(64).for_each(|b| *b = 0);
        assert!(names_end((0..100_000).map(|n| n % 4096), &strings));
    }
}
