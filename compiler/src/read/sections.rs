//! Section headers, and the bytes of sections, inflated if they are compressed.
//!
//! Source: ELF gABI ch. 4 "Sections", "Section Compression". Before that there was GNU's own form: a section `.zdebug_info`
//! holds "ZLIB", the size as 8 bytes of which the highest comes first, and the stream.

use super::elf::{Range, table};
use super::symbols::names_end;
use super::{ReadError, Source};
use lpb::addr::to_usize;
use lpb::{FileOff, LinkAddr, limits};
use object::LittleEndian as Le;
use object::elf;
use object::pod;
use object::{CompressedData, CompressionFormat};

/// How the bytes of a section are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    /// `SHF_COMPRESSED`.
    Gabi,
    /// `.zdebug_*`.
    Gnu,
}

/// One section header, as far as anything here asks.
#[derive(Clone, Debug)]
pub struct Section {
    /// Without the `z` of `.zdebug_*`.
    pub name: String,
    pub kind: elf::SectionType,
    pub flags: elf::SectionFlags,
    pub addr: LinkAddr,
    pub offset: FileOff,
    pub size: u64,
    pub link: u32,
    packing: Packing,
}

impl Section {
    pub fn range(&self) -> Range {
        Range { start: self.addr, size: self.size }
    }

    pub fn has(&self, flag: elf::SectionFlags) -> bool {
        self.flags.0 & flag.0 != 0
    }
}

/// Reads the section headers; none if the file has none.
pub fn read(source: &Source, header: &elf::FileHeader64<Le>) -> Result<Vec<Section>, ReadError> {
    let what = "it has a bad section header table";
    let at = FileOff(header.e_shoff.get(Le));
    if at.0 == 0 || usize::from(header.e_shentsize.get(Le)) != size_of::<elf::SectionHeader64<Le>>() {
        return Ok(Vec::new());
    }
    let first: Vec<elf::SectionHeader64<Le>> = table(source, at, 1, what)?;
    let (mut count, mut names) = (u64::from(header.e_shnum.get(Le)), u32::from(header.e_shstrndx.get(Le).0));
    if let Some(zero) = first.first() {
        // gABI: counts that do not fit 16 bits are kept in section 0.
        if count == 0 {
            count = zero.sh_size.get(Le);
        }
        if names == u32::from(elf::SHN_XINDEX.0) {
            names = zero.sh_link.get(Le);
        }
    }
    let raw: Vec<elf::SectionHeader64<Le>> = table(source, at, count, what)?;
    let strings = match raw.get(to_usize(u64::from(names))).filter(|s| s.sh_type.get(Le) == elf::SHT_STRTAB) {
        Some(s) => source.bytes(FileOff(s.sh_offset.get(Le)), s.sh_size.get(Le))?,
        None => Vec::new(),
    };
    if !names_end(raw.iter().map(|s| s.sh_name.get(Le)), &strings) {
        return Err(source.damaged(what));
    }
    let section = |s: &elf::SectionHeader64<Le>| {
        let name = strings.get(to_usize(u64::from(s.sh_name.get(Le)))..).unwrap_or_default();
        let name = String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default());
        let flags = s.sh_flags.get(Le);
        let (name, packing) = match name.strip_prefix(".zdebug_") {
            Some(rest) => (format!(".debug_{rest}"), Packing::Gnu),
            None if flags.0 & elf::SHF_COMPRESSED.0 != 0 => (name.into_owned(), Packing::Gabi),
            None => (name.into_owned(), Packing::None),
        };
        Section {
            name,
            packing,
            kind: s.sh_type.get(Le),
            flags,
            addr: LinkAddr(s.sh_addr.get(Le)),
            offset: FileOff(s.sh_offset.get(Le)),
            size: s.sh_size.get(Le),
            link: s.sh_link.get(Le),
        }
    };
    Ok(raw.iter().map(section).collect())
}

/// The bytes of a section, inflated if it is compressed.
pub fn bytes(source: &Source, section: &Section) -> Result<Vec<u8>, ReadError> {
    if section.kind == elf::SHT_NOBITS {
        return Ok(Vec::new());
    }
    let raw = source.bytes(section.offset, section.size)?;
    let packed = match section.packing {
        Packing::None => return Ok(raw),
        Packing::Gabi => gabi(&raw),
        Packing::Gnu => gnu(&raw),
    };
    let inflated = packed
        .filter(|p| p.uncompressed_size <= limits::AREA_BYTES)
        .and_then(|p| p.decompress().ok().map(std::borrow::Cow::into_owned));
    inflated.ok_or_else(|| source.damaged("a compressed section cannot be inflated"))
}

fn gabi(raw: &[u8]) -> Option<CompressedData<'_>> {
    let (head, data) = pod::from_bytes::<elf::CompressionHeader64<Le>>(raw).ok()?;
    let format = match head.ch_type.get(Le) {
        elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
        elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
        _ => return None,
    };
    Some(CompressedData { format, data, uncompressed_size: head.ch_size.get(Le) })
}

fn gnu(raw: &[u8]) -> Option<CompressedData<'_>> {
    let (size, data) = raw.strip_prefix(b"ZLIB")?.split_first_chunk()?;
    Some(CompressedData { format: CompressionFormat::Zlib, data, uncompressed_size: u64::from_be_bytes(*size) })
}
