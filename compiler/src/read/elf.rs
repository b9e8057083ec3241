//! One ELF file: header, segments, sections, build-id, and memory as the loader would map it.
//!
//! Source: ELF gABI ch. 4 and 5; System V ABI, AMD64 supplement.

use super::bodies::Body;
use super::dwarf::Dwarf;
use super::dynamic::{self, Dynamic};
use super::sections::{self, Section};
use super::symbols::{SymbolTable, printable};
use super::{ReadError, Source, base_name, notes};
use lpb::addr::{to_u64, to_usize};
use lpb::{ElfType, FileOff, LinkAddr, Segment, limits};
use object::LittleEndian as Le;
use object::elf;
use object::pod::{self, Pod};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// A contiguous range of link addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: LinkAddr,
    pub size: u64,
}

impl Range {
    pub fn contains(&self, at: LinkAddr) -> bool {
        at.since(self.start).is_some_and(|n| n < self.size)
    }

    pub fn holds(&self, at: LinkAddr, len: u64) -> bool {
        at.since(self.start).and_then(|n| n.checked_add(len)).is_some_and(|end| end <= self.size)
    }
}

/// One ELF object: an executable, a library, a patch or a debug file.
#[derive(Debug)]
pub struct Object {
    /// Soname, or file name if it has none.
    pub name: String,
    /// The last component of its path.
    pub file_name: String,
    pub e_type: ElfType,
    /// Every `PT_LOAD`, in file order.
    pub loads: Vec<Segment>,
    /// `PT_GNU_RELRO`: read-only once the loader has relocated it.
    pub relro: Option<Range>,
    /// `PT_GNU_EH_FRAME`: the search table over `.eh_frame`.
    pub eh_frame_hdr: Option<Range>,
    /// `PT_TLS`, if it is not empty: where the first values of thread-local variables are, and the block's alignment.
    pub tls: Option<(Range, u64)>,
    /// `PT_GNU_STACK` asks for an executable stack.
    pub executable_stack: bool,
    /// `PT_INTERP`.
    pub interpreter: Option<String>,
    /// Descriptor of `NT_GNU_BUILD_ID` and where it is mapped.
    pub build_id: Option<(LinkAddr, Vec<u8>)>,
    pub sections: Vec<Section>,
    pub dynamic: Dynamic,
    /// Mapped when the target starts; not so for what it opens later (dlopen).
    pub at_startup: bool,
    /// Opened later with RTLD_LOCAL: its names are seen by itself and by what is opened with it.
    pub private: bool,
    /// `.symtab`, or that of a separate debug file.
    pub symtab: SymbolTable,
    /// Its debug information or that of a separate debug file, once asked for.
    pub dwarf: OnceCell<Option<Dwarf>>,
    /// What `.eh_frame` describes, once asked for.
    bodies: OnceCell<Vec<Body>>,
    program_headers: Range,
    source: Source,
}

impl Object {
    /// Reads headers, dynamic section, dynamic symbols and relocations; `.symtab` only with [`Object::load_symtab`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let source = Source::open(path)?;
        let header = header(&source)?;
        let headers: Vec<elf::ProgramHeader64<Le>> = table(
            &source,
            FileOff(header.e_phoff.get(Le)),
            u64::from(header.e_phnum.get(Le)),
            "it has a bad program header table",
        )?;
        let e_type = match header.e_type.get(Le) {
            elf::ET_EXEC => ElfType::Exec,
            _ => ElfType::Dyn,
        };
        let mut object = Self {
            name: printable(base_name(path).as_bytes()),
            file_name: base_name(path),
            e_type,
            loads: headers.iter().filter(|p| p.p_type.get(Le) == elf::PT_LOAD).map(segment).collect(),
            relro: None,
            eh_frame_hdr: None,
            tls: None,
            executable_stack: false,
            interpreter: None,
            build_id: None,
            sections: sections::read(&source, &header)?,
            dynamic: Dynamic::default(),
            at_startup: true,
            private: false,
            symtab: SymbolTable::default(),
            dwarf: OnceCell::new(),
            bodies: OnceCell::new(),
            program_headers: Range { start: LinkAddr(0), size: 0 },
            source,
        };
        object.check_loads()?;
        object.note_headers(&header, &headers)?;
        object.build_id = notes::find_build_id(&object, &headers);
        object.dynamic = dynamic::read(&object, headers.iter().find(|p| p.p_type.get(Le) == elf::PT_DYNAMIC))?;
        if let Some(soname) = object.dynamic.soname.clone().filter(|s| !s.is_empty()) {
            object.name = soname;
        }
        Ok(object)
    }

    fn check_loads(&self) -> Result<(), ReadError> {
        if self.loads.is_empty() {
            return Err(self.source.damaged("it has no PT_LOAD segment"));
        }
        if self.loads.len() > limits::SEGMENTS_PER_BUILD {
            return Err(self.source.damaged("it has more than 64 PT_LOAD segments"));
        }
        let mut end = 0;
        for s in &self.loads {
            let sane = s.filesz <= s.memsz && s.vaddr.0 >= end && s.offset.0.checked_add(s.filesz).is_some();
            end = s.vaddr.0.checked_add(s.memsz).filter(|e| sane && *e <= 1 << 47).ok_or_else(|| {
                self.source.damaged("its PT_LOAD segments overlap, wrap or are larger in the file than in memory")
            })?;
        }
        Ok(())
    }

    fn note_headers(
        &mut self,
        header: &elf::FileHeader64<Le>,
        headers: &[elf::ProgramHeader64<Le>],
    ) -> Result<(), ReadError> {
        for p in headers {
            let range = Range { start: LinkAddr(p.p_vaddr.get(Le)), size: p.p_memsz.get(Le) };
            match p.p_type.get(Le) {
                elf::PT_GNU_RELRO => self.relro = Some(range),
                elf::PT_GNU_STACK => self.executable_stack = p.p_flags.get(Le).0 & elf::PF_X.0 != 0,
                elf::PT_GNU_EH_FRAME => self.eh_frame_hdr = Some(range),
                elf::PT_TLS => self.tls = Some((range, p.p_align.get(Le))).filter(|(range, _)| range.size != 0),
                elf::PT_INTERP => {
                    let size = p.p_filesz.get(Le).min(limits::STRING);
                    let text = self.source.bytes(FileOff(p.p_offset.get(Le)), size)?;
                    let text = text.split(|b| *b == 0).next().unwrap_or_default();
                    self.interpreter = Some(String::from_utf8_lossy(text).into_owned());
                }
                _ => {}
            }
        }
        let offset = FileOff(header.e_phoff.get(Le));
        let size = u64::from(header.e_phnum.get(Le)).saturating_mul(to_u64(size_of::<elf::ProgramHeader64<Le>>()));
        if let Some(start) = self.address_of(offset) {
            self.program_headers = Range { start, size };
        }
        Ok(())
    }

    /// Where a byte of the file is mapped, if it is.
    fn address_of(&self, at: FileOff) -> Option<LinkAddr> {
        self.loads.iter().find_map(|s| {
            let from = at.since(s.offset).filter(|n| *n < s.filesz)?;
            s.vaddr.plus(from)
        })
    }

    /// Reads `.symtab`, if the file has one.
    pub fn load_symtab(&mut self) -> Result<(), ReadError> {
        self.symtab = SymbolTable::of_sections(self)?;
        Ok(())
    }

    /// Memory as the loader maps it, before relocation: file bytes, zero past `p_filesz`.
    pub fn memory(&self, at: LinkAddr, len: u64) -> Result<Vec<u8>, ReadError> {
        let outside = || self.source.damaged("an address lies outside its PT_LOAD segments");
        let load = self.load_of(at, len).ok_or_else(outside)?;
        let from = at.since(load.vaddr).ok_or_else(outside)?;
        let stored = load.filesz.saturating_sub(from).min(len);
        if len.saturating_sub(stored) > limits::FRAGMENT {
            return Err(self.source.damaged("a table lies in memory that the file does not fill"));
        }
        let mut bytes = match stored {
            0 => Vec::new(),
            n => self.source.bytes(load.offset.plus(from).ok_or_else(outside)?, n)?,
        };
        bytes.resize(to_usize(len), 0);
        Ok(bytes)
    }

    /// The 8-byte word at an address.
    pub fn word(&self, at: LinkAddr) -> Result<u64, ReadError> {
        let bytes = self.memory(at, 8)?;
        Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
    }

    /// The `PT_LOAD` that holds `[at, at + len)`.
    pub fn load_of(&self, at: LinkAddr, len: u64) -> Option<&Segment> {
        self.loads.iter().find(|s| Range { start: s.vaddr, size: s.memsz }.holds(at, len))
    }

    /// Whether it is a program that is complete in itself: `-static` has no dynamic section, `-static-pie` needs nothing.
    pub fn is_static(&self) -> bool {
        let alone = self.dynamic.needed.is_empty() && self.interpreter.is_none();
        !self.dynamic.present || alone && self.is_program()
    }

    /// Whether the file's bytes fill `[at, at + len)`.
    pub fn stores(&self, at: LinkAddr, len: u64) -> bool {
        self.loads.iter().any(|s| Range { start: s.vaddr, size: s.filesz }.holds(at, len))
    }

    /// Whether it is a program rather than a library. libc.so.6 has an interpreter too, so a soname decides.
    pub fn is_program(&self) -> bool {
        let linked_so = self.interpreter.is_some() || self.dynamic.pie;
        self.e_type == ElfType::Exec || self.dynamic.soname.is_none() && linked_so
    }

    pub fn is_executable(&self, at: LinkAddr) -> bool {
        self.load_of(at, 1).is_some_and(|s| s.flags & elf::PF_X.0 != 0)
    }

    /// Whether the loader makes the 8 bytes at `at` read-only before the program runs.
    pub fn in_relro(&self, at: LinkAddr) -> bool {
        self.relro.is_some_and(|r| r.holds(at, 8))
    }

    /// Pieces of code that `.eh_frame` describes, ascending by start.
    pub fn bodies(&self) -> &[Body] {
        self.bodies.get_or_init(|| super::bodies::read(self))
    }

    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// The bytes of a section, inflated if it is compressed.
    pub fn section_bytes(&self, section: &Section) -> Result<Vec<u8>, ReadError> {
        sections::bytes(&self.source, section)
    }

    /// What tells this build from others when there is no build-id: ELF header and program headers; where these are not
    /// mapped near each other, the first page of the file, or else of the code.
    pub fn proof(&self) -> Option<(LinkAddr, Vec<u8>)> {
        let most = to_u64(limits::PROOF);
        let code = || self.loads.iter().find(|s| s.flags & elf::PF_X.0 != 0).map(|s| s.vaddr);
        let start = self.address_of(FileOff(0)).or_else(code)?;
        let headers_end = self.program_headers.start.plus(self.program_headers.size)?;
        let size = headers_end.since(start).filter(|n| *n <= most && *n >= self.program_headers.size);
        let load = self.load_of(start, 1)?;
        let stored = load.filesz.saturating_sub(start.since(load.vaddr)?);
        let size = size.filter(|n| *n != 0).unwrap_or(most).min(stored);
        Some((start, self.memory(start, size).ok()?)).filter(|(_, bytes)| !bytes.is_empty())
    }

    pub fn path(&self) -> PathBuf {
        self.source.path().to_owned()
    }

    pub fn source(&self) -> &Source {
        &self.source
    }
}

/// Reads `count` records of a table in the file.
pub fn table<T: Pod + Copy>(source: &Source, at: FileOff, count: u64, what: &'static str) -> Result<Vec<T>, ReadError> {
    let size = count.checked_mul(to_u64(size_of::<T>())).ok_or_else(|| source.damaged(what))?;
    let bytes = source.bytes(at, size)?;
    pod::slice_from_all_bytes::<T>(&bytes).map(<[T]>::to_vec).map_err(|()| source.damaged(what))
}

fn header(source: &Source) -> Result<elf::FileHeader64<Le>, ReadError> {
    let not_elf = || ReadError::NotElf { path: source.path().to_owned() };
    let foreign = |what: String| ReadError::Foreign { path: source.path().to_owned(), what };
    let ident = source.bytes(FileOff(0), 20.min(source.len()))?;
    if !ident.starts_with(&elf::ELFMAG) || ident.len() < 20 {
        return Err(not_elf());
    }
    match (ident.get(4), ident.get(5)) {
        (Some(2), Some(1)) => {}
        (Some(1), Some(1)) => return Err(foreign("a 32-bit ELF file".into())),
        _ => return Err(foreign("an ELF file of another class or byte order".into())),
    }
    let bytes = source.bytes(FileOff(0), to_u64(size_of::<elf::FileHeader64<Le>>()))?;
    let (head, _) = pod::from_bytes::<elf::FileHeader64<Le>>(&bytes).map_err(|()| not_elf())?;
    if head.e_machine.get(Le) != elf::EM_X86_64 {
        return Err(foreign(format!("an ELF file for machine {}", head.e_machine.get(Le).0)));
    }
    match head.e_type.get(Le) {
        elf::ET_EXEC | elf::ET_DYN => {}
        elf::ET_REL => {
            return Err(ReadError::Unfit {
                path: source.path().to_owned(),
                what: "it is a relocatable object (.o), not linked yet".to_owned(),
                hint: "link it: a patch with `cc -shared -fPIC`",
            });
        }
        elf::ET_CORE => return Err(foreign("a core dump".into())),
        other => return Err(foreign(format!("an ELF file of type {}", other.0))),
    }
    if usize::from(head.e_phentsize.get(Le)) != size_of::<elf::ProgramHeader64<Le>>() {
        return Err(source.damaged("it has a bad program header table"));
    }
    Ok(*head)
}

fn segment(p: &elf::ProgramHeader64<Le>) -> Segment {
    Segment {
        vaddr: LinkAddr(p.p_vaddr.get(Le)),
        offset: FileOff(p.p_offset.get(Le)),
        filesz: p.p_filesz.get(Le),
        memsz: p.p_memsz.get(Le),
        flags: p.p_flags.get(Le).0 & 7,
    }
}
