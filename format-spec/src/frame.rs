//! The outer layers of a bundle: header, digest, section table and signatures, down to the bare bytes of each section.
//!
//! ```text
//! 0            header             64 bytes, with the digest of everything up to signed_len
//! 64           section table      32 bytes each
//!              sections           in order of kind, each at a multiple of 8, no gaps
//! signed_len   signatures         16 bytes and a body each, to the end of the file
//! ```

use crate::addr::{to_u64, to_usize};
use crate::read::{Read, ReadError, Signature};
use crate::wire::{self, kind};
use crate::{Digest, limits};
use sha2::{Digest as _, Sha256};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Checks the header; gives the number of signed bytes.
pub(crate) fn header_rules(h: &wire::Header) -> Read<u64> {
    let frame = |why| ReadError::Frame { part: "header", why };
    if h.version.get() != wire::VERSION {
        return Err(ReadError::Version(h.version.get()));
    }
    if h.machine.get() != wire::EM_X86_64 {
        return Err(ReadError::Machine(h.machine.get()));
    }
    if h.reserved.get() != 0 || h.reserved2.get() != 0 {
        return Err(frame("a reserved field is not 0"));
    }
    if !h.signed_len.get().is_multiple_of(8) || h.signed_len.get() < to_u64(size_of::<wire::Header>()) {
        return Err(frame("the signed length is not a multiple of 8 that holds the header"));
    }
    Ok(h.signed_len.get())
}

/// SHA-256 of the signed bytes, with the digest's own field taken as zeroes.
pub(crate) fn digest(header: &wire::Header, signed: &[u8]) -> Digest {
    let blank = wire::Header { digest: [0; 32], ..*header };
    let body = signed.get(size_of::<wire::Header>()..).unwrap_or_default();
    Digest(Sha256::new().chain_update(blank.as_bytes()).chain_update(body).finalize().into())
}

/// Everything behind the signed bytes.
pub(crate) fn signatures(mut rest: &[u8]) -> Read<Vec<Signature<'_>>> {
    let frame = |why| ReadError::Frame { part: "signature block", why };
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (rec, tail) =
            wire::SignatureRec::ref_from_prefix(rest).map_err(|_| frame("bytes follow that are no signature"))?;
        if rec.magic != wire::SIGNATURE_MAGIC {
            return Err(frame("bytes follow that are no signature"));
        }
        let len = to_usize(u64::from(rec.len.get()));
        if len > limits::SIGNATURE || found.len() >= limits::SIGNATURES {
            return Err(frame("more than 16 signatures, or one longer than 8192 bytes"));
        }
        let (body, tail) = tail.split_at_checked(len).ok_or(frame("it is cut off"))?;
        found.push(match rec.kind.get() {
            1 => Signature::Minisign(body),
            other => Signature::Unknown(other),
        });
        rest = tail;
    }
    Ok(found)
}

/// The bodies of the known sections; an absent one is empty.
pub(crate) struct Sections<'a> {
    bodies: [&'a [u8]; KNOWN.len()],
}

/// Known sections in file order, with the size of a record and their name in `SPEC.md`.
pub(crate) const KNOWN: [(u32, usize, &str); 15] = [
    (kind::PATCH, size_of::<wire::PatchRec>(), "PATCH"),
    (kind::MODULES, size_of::<wire::ModuleRec>(), "MODULES"),
    (kind::BUILDS, size_of::<wire::BuildRec>(), "BUILDS"),
    (kind::SEGMENTS, size_of::<wire::SegmentRec>(), "SEGMENTS"),
    (kind::AREAS, size_of::<wire::AreaRec>(), "AREAS"),
    (kind::IMAGE_SEGMENTS, size_of::<wire::ImageSegmentRec>(), "IMAGE_SEGMENTS"),
    (kind::IMAGE, 1, "IMAGE"),
    (kind::FIXUPS, size_of::<wire::FixupRec>(), "FIXUPS"),
    (kind::CANDIDATES, size_of::<wire::CandidateRec>(), "CANDIDATES"),
    (kind::REDIRECTS, size_of::<wire::RedirectRec>(), "REDIRECTS"),
    (kind::FRAGMENTS, size_of::<wire::FragmentRec>(), "FRAGMENTS"),
    (kind::UNWIND, size_of::<wire::UnwindRec>(), "UNWIND"),
    (kind::STRINGS, 1, "STRINGS"),
    (kind::BYTES, 1, "BYTES"),
    (kind::META, 1, "META"),
];

impl<'a> Sections<'a> {
    /// Splits the signed bytes. Sections tile them: in order of kind, each at the next multiple of 8, zero padding.
    pub(crate) fn split(signed: &'a [u8], count: usize) -> Read<Self> {
        if count > limits::SECTIONS {
            return Err(ReadError::Frame { part: "header", why: "more than 64 sections" });
        }
        let body = signed.get(size_of::<wire::Header>()..).unwrap_or_default();
        let (table, mut rest) = <[wire::Section]>::ref_from_prefix_with_elems(body, count)
            .map_err(|_| ReadError::Frame { part: "header", why: "the section table is cut off" })?;
        let mut bodies = [<&[u8]>::default(); KNOWN.len()];
        let mut last_kind = 0;
        for (index, s) in table.iter().enumerate() {
            let kind = s.kind.get();
            let fail = |why| ReadError::Section { index, kind, why };
            if kind <= last_kind {
                return Err(fail("kinds do not ascend"));
            }
            last_kind = kind;
            if s.offset.get() != to_u64(signed.len().saturating_sub(rest.len())) {
                return Err(fail("it does not follow the section before"));
            }
            let (body, tail) = split_padded(rest, s.len.get()).ok_or(fail("it is cut off, or its padding is not 0"))?;
            rest = tail;
            let slot = KNOWN.iter().zip(&mut bodies).find(|((k, _, _), _)| *k == kind);
            match slot {
                None if s.flags.get() & wire::CRITICAL != 0 => return Err(ReadError::UnknownCritical(kind)),
                None => {}
                Some(((_, record_size, _), slot)) => {
                    section_rules(s, *record_size).map_err(fail)?;
                    *slot = body;
                }
            }
        }
        match rest.is_empty() {
            true => Ok(Self { bodies }),
            false => Err(ReadError::Frame { part: "header", why: "bytes follow the last section" }),
        }
    }

    pub(crate) fn body(&self, kind: u32) -> (&'a [u8], &'static str) {
        let found = KNOWN.iter().zip(&self.bodies).find(|((k, _, _), _)| *k == kind);
        found.map_or((&[], "?"), |((_, _, name), body)| (body, name))
    }

    pub(crate) fn table<T: FromBytes + Immutable + KnownLayout + Unaligned>(
        &self,
        kind: u32,
    ) -> Read<(&'a [T], &'static str)> {
        let (body, name) = self.body(kind);
        let why = "the section is not a whole number of records";
        let table = <[T]>::ref_from_bytes(body).map_err(|_| ReadError::Record { table: name, index: 0, why })?;
        Ok((table, name))
    }
}

fn split_padded(bytes: &[u8], len: u64) -> Option<(&[u8], &[u8])> {
    let padded = len.checked_next_multiple_of(8)?;
    let (body, tail) = bytes.split_at_checked(usize::try_from(padded).ok()?)?;
    let (body, padding) = body.split_at_checked(usize::try_from(len).ok()?)?;
    padding.iter().all(|b| *b == 0).then_some((body, tail))
}

fn section_rules(s: &wire::Section, record_size: usize) -> Result<(), &'static str> {
    if s.len.get() == 0 {
        return Err("it is empty: an empty section is left out");
    }
    if u64::from(s.record_size.get()) != to_u64(record_size) {
        return Err("its record size is not the one of this version");
    }
    let critical = if s.kind.get() == kind::META { 0 } else { wire::CRITICAL };
    if s.flags.get() != critical || s.reserved.get() != 0 {
        return Err("its flags are not the ones of this kind");
    }
    Ok(())
}
