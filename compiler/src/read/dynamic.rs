//! What `PT_DYNAMIC` says: needed libraries, dynamic symbols with their versions, relocations.
//!
//! Source: ELF gABI ch. 5, "Dynamic Section"; LSB 5.0 "Symbol Versioning"; the DT_RELR proposal as in gABI 4.3.

use super::ReadError;
use super::elf::{Object, Range};
use super::symbols::{Symbol, SymbolTable, VERSYM_HIDDEN, printable};
use crate::arch::x86_64::{RelocKind, reloc_kind};
use lpb::addr::{to_u64, to_usize};
use lpb::{FileOff, LinkAddr};
use object::LittleEndian as Le;
use object::elf;
use object::pod;
use object::read::elf::{GnuHashTable, RelrIterator};

/// One bit of `DT_RELR` becomes 8 bytes here; the largest programs have a tenth of this.
const RELR_MOST: usize = 1 << 23;

type File = elf::FileHeader64<Le>;

/// A version of a symbol: defined here, or needed from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub name: String,
    /// The library it is needed from; `None` for a version that the object defines.
    pub file: Option<String>,
}

/// One relocation with a symbol or an addend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reloc {
    pub place: LinkAddr,
    /// `R_X86_64_*`.
    pub number: u32,
    /// Index in the dynamic symbol table; 0 for none.
    pub symbol: u32,
    pub addend: i64,
}

impl Reloc {
    pub fn kind(&self) -> RelocKind {
        reloc_kind(self.number)
    }
}

/// The dynamic section, decoded. All empty for a static executable, but for `relocs`.
#[derive(Debug, Default)]
pub struct Dynamic {
    pub present: bool,
    pub needed: Vec<String>,
    pub soname: Option<String>,
    pub rpath: Option<String>,
    pub runpath: Option<String>,
    /// All slots are bound at start-up.
    pub bind_now: bool,
    /// The object looks its own definitions up first.
    pub symbolic: bool,
    /// Linked as a program (`-pie`).
    pub pie: bool,
    /// The loader changes the text.
    pub text_relocations: bool,
    pub init: Option<LinkAddr>,
    pub fini: Option<LinkAddr>,
    pub init_array: Option<Range>,
    pub fini_array: Option<Range>,
    pub symbols: SymbolTable,
    versions: Vec<Option<Version>>,
    /// `DT_RELA` and `DT_JMPREL`, ascending by place.
    pub relocs: Vec<Reloc>,
    /// `DT_RELR`, decoded: words to which the load bias is added.
    pub relr: Vec<LinkAddr>,
}

impl Dynamic {
    /// The version of a dynamic symbol; `None` where it has none.
    pub fn version(&self, symbol: &Symbol) -> Option<&Version> {
        self.versions.get(usize::from(symbol.version & !VERSYM_HIDDEN))?.as_ref()
    }

    /// Whether the object defines any version.
    pub fn has_versions(&self) -> bool {
        self.versions.iter().flatten().any(|v| v.file.is_none())
    }

    /// Whether the object defines this version.
    pub fn defines(&self, version: &str) -> bool {
        self.versions.iter().flatten().any(|v| v.file.is_none() && v.name == version)
    }

    /// The symbol of a relocation.
    pub fn symbol_of(&self, reloc: &Reloc) -> Option<&Symbol> {
        self.symbols.get(reloc.symbol).filter(|_| reloc.symbol != 0)
    }
}

/// The tags, each at most once, but for `DT_NEEDED`.
struct Tags(Vec<(elf::DynamicTag, u64)>);

impl Tags {
    fn value(&self, tag: elf::DynamicTag) -> Option<u64> {
        self.0.iter().find(|(t, _)| *t == tag).map(|(_, v)| *v)
    }

    fn number(&self, tag: elf::DynamicTag) -> u64 {
        self.value(tag).unwrap_or(0)
    }

    /// An address tag with its size tag.
    fn range(&self, addr: elf::DynamicTag, size: elf::DynamicTag) -> Option<Range> {
        let size = self.number(size);
        self.value(addr).filter(|_| size != 0).map(|start| Range { start: LinkAddr(start), size })
    }
}

/// Reads the dynamic section of an object; `header` is its `PT_DYNAMIC`.
pub fn read(object: &Object, header: Option<&elf::ProgramHeader64<Le>>) -> Result<Dynamic, ReadError> {
    let Some(header) = header else { return static_relocations(object) };
    let bytes = object.memory(LinkAddr(header.p_vaddr.get(Le)), header.p_filesz.get(Le))?;
    let bad = |what| object.source().damaged(what);
    let entries = pod::slice_from_all_bytes::<elf::Dyn64<Le>>(&bytes).map_err(|()| bad("bad dynamic section"))?;
    let entries = entries.iter().take_while(|d| d.d_tag.get(Le) != elf::DT_NULL);
    let tags = Tags(entries.map(|d| (d.d_tag.get(Le), d.d_val.get(Le))).collect());
    let strings = match tags.range(elf::DT_STRTAB, elf::DT_STRSZ) {
        Some(range) => object.memory(range.start, range.size)?,
        None => Vec::new(),
    };
    let text = |at: u64| {
        let tail = strings.get(to_usize(at)..).unwrap_or_default();
        printable(tail.split(|b| *b == 0).next().unwrap_or_default())
    };
    let flags = tags.number(elf::DT_FLAGS);
    let flags_1 = tags.number(elf::DT_FLAGS_1);
    let has = |tag| tags.value(tag).is_some();
    let needed = tags.0.iter().filter(|(tag, _)| *tag == elf::DT_NEEDED).map(|(_, at)| text(*at)).collect();
    let mut dynamic = Dynamic {
        present: true,
        needed,
        soname: tags.value(elf::DT_SONAME).map(text),
        rpath: tags.value(elf::DT_RPATH).map(text),
        runpath: tags.value(elf::DT_RUNPATH).map(text),
        bind_now: has(elf::DT_BIND_NOW) || flags & elf::DF_BIND_NOW.0 != 0 || flags_1 & elf::DF_1_NOW.0 != 0,
        symbolic: has(elf::DT_SYMBOLIC) || flags & elf::DF_SYMBOLIC.0 != 0,
        pie: flags_1 & elf::DF_1_PIE.0 != 0,
        text_relocations: has(elf::DT_TEXTREL) || flags & elf::DF_TEXTREL.0 != 0,
        init: tags.value(elf::DT_INIT).map(LinkAddr),
        fini: tags.value(elf::DT_FINI).map(LinkAddr),
        init_array: tags.range(elf::DT_INIT_ARRAY, elf::DT_INIT_ARRAYSZ),
        fini_array: tags.range(elf::DT_FINI_ARRAY, elf::DT_FINI_ARRAYSZ),
        symbols: SymbolTable::default(),
        versions: versions(object, &tags, &text)?,
        relocs: Vec::new(),
        relr: Vec::new(),
    };
    let count = symbol_count(object, &tags)?;
    dynamic.symbols = symbols(object, &tags, count, strings.clone())?;
    dynamic.relocs = relocations(object, &tags)?;
    dynamic.relr = relr(object, &tags)?;
    Ok(dynamic)
}

/// How many dynamic symbols there are: nothing but hash tables and section headers says it.
fn symbol_count(object: &Object, tags: &Tags) -> Result<u64, ReadError> {
    let start = LinkAddr(tags.number(elf::DT_SYMTAB));
    let record = to_u64(size_of::<elf::Sym64<Le>>());
    if start.0 == 0 {
        return Ok(0);
    }
    if let Some(s) = object.sections.iter().find(|s| s.kind == elf::SHT_DYNSYM && s.addr == start) {
        return Ok(s.size.checked_div(record).unwrap_or(0));
    }
    if let Some(at) = tags.value(elf::DT_HASH) {
        let head = object.word(LinkAddr(at))?;
        return Ok(head >> 32); // nbucket, nchain: as many chains as symbols
    }
    let Some(at) = tags.value(elf::DT_GNU_HASH).map(LinkAddr) else { return Ok(0) };
    let bytes = rest_of_segment(object, at, u64::MAX)?;
    let hash = GnuHashTable::<File>::parse(Le, &bytes).map_err(|_| object.source().damaged("bad DT_GNU_HASH"))?;
    Ok(u64::from(hash.symbol_table_length(Le).unwrap_or(hash.symbol_base())))
}

fn symbols(object: &Object, tags: &Tags, count: u64, strings: Vec<u8>) -> Result<SymbolTable, ReadError> {
    if count == 0 {
        return Ok(SymbolTable::default());
    }
    let what = "bad dynamic symbol table";
    let bad = || object.source().damaged(what);
    let size = count.checked_mul(to_u64(size_of::<elf::Sym64<Le>>())).ok_or_else(bad)?;
    let bytes = object.memory(LinkAddr(tags.number(elf::DT_SYMTAB)), size)?;
    let raw = pod::slice_from_all_bytes::<elf::Sym64<Le>>(&bytes).map_err(|()| bad())?;
    let versions = match tags.value(elf::DT_VERSYM) {
        Some(at) => object.memory(LinkAddr(at), count.saturating_mul(2))?,
        None => Vec::new(),
    };
    let versions: Vec<u16> = versions.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    SymbolTable::new(raw, strings, &versions).ok_or_else(bad)
}

/// Everything from an address to the end of its segment's file content, at most `cap` bytes: for tables without a size.
fn rest_of_segment(object: &Object, at: LinkAddr, cap: u64) -> Result<Vec<u8>, ReadError> {
    let load = object.load_of(at, 1).ok_or_else(|| object.source().damaged("a dynamic table lies outside"))?;
    let from = at.since(load.vaddr).unwrap_or(0);
    object.memory(at, load.filesz.saturating_sub(from).min(cap))
}

/// Bytes of a version table: as long as its section says, else what may reasonably be.
fn version_table(object: &Object, at: LinkAddr) -> Result<Vec<u8>, ReadError> {
    match object.sections.iter().find(|s| s.addr == at && s.size != 0) {
        Some(s) => object.memory(at, s.size),
        None => rest_of_segment(object, at, 1 << 20),
    }
}

/// Version names by version index.
fn versions(object: &Object, tags: &Tags, text: &impl Fn(u64) -> String) -> Result<Vec<Option<Version>>, ReadError> {
    let mut found: Vec<Option<Version>> = Vec::new();
    let mut set = |index: u16, version: Version| {
        let index = usize::from(index & !VERSYM_HIDDEN);
        if found.len() <= index {
            found.resize(index.saturating_add(1), None);
        }
        if let Some(slot) = found.get_mut(index) {
            *slot = Some(version);
        }
    };
    if let Some(at) = tags.value(elf::DT_VERDEF) {
        let data = version_table(object, LinkAddr(at))?;
        let mut next = 0;
        for _ in 0..tags.number(elf::DT_VERDEFNUM) {
            let def: &elf::Verdef<Le> = record(object, &data, next)?;
            let first: &elf::Verdaux<Le> = record(object, &data, step(next, def.vd_aux.get(Le)))?;
            // The base definition names the file, not a version.
            if def.vd_flags.get(Le).0 & elf::VER_FLG_BASE.0 == 0 {
                let name = text(u64::from(first.vda_name.get(Le)));
                set(def.vd_ndx.get(Le).0, Version { name, file: None });
            }
            match def.vd_next.get(Le) {
                0 => break,
                n => next = step(next, n),
            }
        }
    }
    if let Some(at) = tags.value(elf::DT_VERNEED) {
        let data = version_table(object, LinkAddr(at))?;
        let mut next = 0;
        for _ in 0..tags.number(elf::DT_VERNEEDNUM) {
            let need: &elf::Verneed<Le> = record(object, &data, next)?;
            let file = text(u64::from(need.vn_file.get(Le)));
            let mut aux_at = step(next, need.vn_aux.get(Le));
            for _ in 0..need.vn_cnt.get(Le) {
                let aux: &elf::Vernaux<Le> = record(object, &data, aux_at)?;
                let name = text(u64::from(aux.vna_name.get(Le)));
                set(aux.vna_other.get(Le).0, Version { name, file: Some(file.clone()) });
                match aux.vna_next.get(Le) {
                    0 => break,
                    n => aux_at = step(aux_at, n),
                }
            }
            match need.vn_next.get(Le) {
                0 => break,
                n => next = step(next, n),
            }
        }
    }
    Ok(found)
}

/// Offsets in version tables are relative to the record that holds them.
fn step(at: usize, n: u32) -> usize {
    at.saturating_add(to_usize(u64::from(n)))
}

fn record<'a, T: pod::Pod>(object: &Object, data: &'a [u8], at: usize) -> Result<&'a T, ReadError> {
    let bad = || object.source().damaged("bad symbol version table");
    pod::from_bytes(data.get(at..).ok_or_else(bad)?).map(|(record, _)| record).map_err(|()| bad())
}

fn decode(bytes: &[u8], object: &Object) -> Result<Vec<Reloc>, ReadError> {
    let raw = pod::slice_from_all_bytes::<elf::Rela64<Le>>(bytes);
    let raw = raw.map_err(|()| object.source().damaged("bad relocation table"))?;
    let one = |r: &elf::Rela64<Le>| Reloc {
        place: LinkAddr(r.r_offset.get(Le)),
        number: r.r_type(Le, false).0,
        symbol: r.r_sym(Le, false),
        addend: r.r_addend.get(Le),
    };
    Ok(raw.iter().map(one).collect())
}

fn relocations(object: &Object, tags: &Tags) -> Result<Vec<Reloc>, ReadError> {
    let mut all = Vec::new();
    let ranges = [tags.range(elf::DT_RELA, elf::DT_RELASZ), tags.range(elf::DT_JMPREL, elf::DT_PLTRELSZ)];
    for range in ranges.into_iter().flatten() {
        all.extend(decode(&object.memory(range.start, range.size)?, object)?);
    }
    // Some linkers count the PLT's relocations in DT_RELASZ as well.
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn relr(object: &Object, tags: &Tags) -> Result<Vec<LinkAddr>, ReadError> {
    let Some(range) = tags.range(elf::DT_RELR, elf::DT_RELRSZ) else { return Ok(Vec::new()) };
    let bytes = object.memory(range.start, range.size)?;
    let raw = pod::slice_from_all_bytes(&bytes).map_err(|()| object.source().damaged("bad DT_RELR"))?;
    let places: Vec<LinkAddr> =
        RelrIterator::<File>::new(Le, raw).take(RELR_MOST.saturating_add(1)).map(LinkAddr).collect();
    match places.len() > RELR_MOST {
        true => Err(object.source().damaged("bad DT_RELR")),
        false => Ok(places),
    }
}

/// A static executable has no dynamic section; its IRELATIVE relocations stand in allocated relocation sections.
fn static_relocations(object: &Object) -> Result<Dynamic, ReadError> {
    let mut dynamic = Dynamic::default();
    let sections = object.sections.iter().filter(|s| s.kind == elf::SHT_RELA && s.has(elf::SHF_ALLOC));
    for section in sections {
        dynamic.relocs.extend(decode(&object.source().bytes(FileOff(section.offset.0), section.size)?, object)?);
    }
    dynamic.relocs.sort_unstable();
    Ok(dynamic)
}
