//! Section headers, and the bytes of sections, inflated if they are compressed.
//!
//! Source: ELF gABI ch. 4 "Sections", "Section Compression". Before that there was GNU's own form: a section `.zdebug_info`
//! holds "ZLIB", the size as 8 bytes of which the highest comes first, and the stream.

use super::elf::{Range, table};
use super::symbols::names_end;
use super::{ReadError, Source};
use flate2::{Decompress, FlushDecompress, Status};
use lpb::addr::{to_u64, to_usize};
use lpb::{FileOff, LinkAddr, limits};
use object::LittleEndian as Le;
use object::elf;
use object::pod;
use object::{CompressedData, CompressionFormat};
use std::borrow::Cow;

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
    let inflated = match section.packing {
        Packing::None => return Ok(raw),
        Packing::Gabi => gabi(&raw),
        Packing::Gnu => gnu(&raw),
    };
    inflated.ok_or_else(|| source.damaged("a compressed section cannot be inflated"))
}

fn gabi(raw: &[u8]) -> Option<Vec<u8>> {
    let (head, data) = pod::from_bytes::<elf::CompressionHeader64<Le>>(raw).ok()?;
    let size = head.ch_size.get(Le);
    match head.ch_type.get(Le) {
        elf::ELFCOMPRESS_ZLIB => zlib(data, size),
        elf::ELFCOMPRESS_ZSTD => {
            let format = CompressionFormat::Zstandard;
            let packed =
                (size <= limits::AREA_BYTES).then_some(CompressedData { format, data, uncompressed_size: size })?;
            packed.decompress().ok().filter(|inflated| to_u64(inflated.len()) == size).map(Cow::into_owned)
        }
        _ => None,
    }
}

fn gnu(raw: &[u8]) -> Option<Vec<u8>> {
    let (size, data) = raw.strip_prefix(b"ZLIB")?.split_first_chunk()?;
    zlib(data, u64::from_be_bytes(*size))
}

/// Most bytes that one byte of a stream can become. Source: zlib.net, "zlib Technical Details", maximum compression factor.
const ZLIB_FACTOR: u64 = 1032;

/// A stream that ends where its header says: what is cut off would be missed by nobody.
fn zlib(data: &[u8], size: u64) -> Option<Vec<u8>> {
    let most = to_u64(data.len()).saturating_mul(ZLIB_FACTOR).min(limits::AREA_BYTES);
    let size = Some(size).filter(|size| *size <= most).map(to_usize)?;
    let mut inflated = Vec::new();
    inflated.try_reserve_exact(size).ok()?;
    let status = Decompress::new(true).decompress_vec(data, &mut inflated, FlushDecompress::Finish).ok()?;
    (status == Status::StreamEnd && inflated.len() == size).then_some(inflated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_the_size_that_they_say() {
        // "aaaaaaaaaa", made by zlib.
        let stream = [0x78, 0x9c, 0x4b, 0x84, 0x03, 0x00, 0x14, 0xe1, 0x03, 0xcb];
        for (size, whole) in [(10, true), (9, false), (0, false), (11, false), (u64::MAX, false)] {
            assert_eq!(zlib(&stream, size).is_some(), whole, "{size}");
        }
        assert_eq!(zlib(&stream[..6], 10), None);
        // A megabyte of zeroes is as small as can be, and is inflated; what no stream can become is not even tried.
        let mut zeroes = Vec::with_capacity(4096);
        let mut packer = flate2::Compress::new(flate2::Compression::best(), true);
        packer.compress_vec(&[0; 1 << 20], &mut zeroes, flate2::FlushCompress::Finish).unwrap();
        assert_eq!(zlib(&zeroes, 1 << 20).map(|bytes| bytes.len()), Some(1 << 20));
        assert_eq!(zlib(&zeroes, 1 << 29), None);
        let old = [b"ZLIB".as_slice(), &10_u64.to_be_bytes(), &stream].concat();
        assert_eq!(gnu(&old).as_deref(), Some([b'a'; 10].as_slice()));
        assert_eq!(gnu(&old[..9]), None);
    }
}
