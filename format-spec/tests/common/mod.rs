//! A second, careless view of a bundle: takes it apart without checks, changes anything, and seals it again, so that a
//! damaged bundle gets past the digest to the rule it breaks.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "each test file uses a part of this; test inputs are our own, and a panic is a failed test"
)]

use sha2::{Digest, Sha256};
use std::ops::Range;

/// Bytes of the header and of one row of the section table (`SPEC.md`, "Header" and "Section").
pub const HEADER: usize = 64;
pub const ROW: usize = 32;
/// Where the digest stands.
pub const DIGEST: Range<usize> = 32..64;

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    bytes[at..at + new.len()].copy_from_slice(new);
}

/// Writes the digest of the signed bytes into the header; a length that makes no sense is left to the reader.
pub fn seal(bytes: &mut [u8]) {
    bytes[DIGEST].fill(0);
    let signed = usize::try_from(u64_at(bytes, 16)).unwrap_or(usize::MAX).min(bytes.len());
    let digest = Sha256::digest(&bytes[..signed]);
    put(bytes, DIGEST.start, &digest);
}

/// One section, apart from the others.
#[derive(Clone, Debug)]
pub struct Section {
    pub kind: u32,
    pub flags: u32,
    pub record_size: u32,
    pub body: Vec<u8>,
}

/// A bundle in pieces.
#[derive(Clone, Debug)]
pub struct Pieces {
    pub header: Vec<u8>,
    pub sections: Vec<Section>,
    pub behind: Vec<u8>,
}

impl Pieces {
    pub fn of(bytes: &[u8]) -> Self {
        let sections = (0..usize::from(u16_at(bytes, 12))).map(|i| {
            let row = &bytes[HEADER + i * ROW..][..ROW];
            let (start, len) = (u64_at(row, 8).try_into().unwrap(), usize::try_from(u64_at(row, 16)).unwrap());
            let body = bytes[start..][..len].to_vec();
            Section { kind: u32_at(row, 0), flags: u32_at(row, 4), record_size: u32_at(row, 24), body }
        });
        let signed: usize = u64_at(bytes, 16).try_into().unwrap();
        Self { header: bytes[..HEADER].to_vec(), sections: sections.collect(), behind: bytes[signed..].to_vec() }
    }

    /// The body of the section of this kind.
    pub fn body(&mut self, kind: u32) -> &mut Vec<u8> {
        &mut self.sections.iter_mut().find(|s| s.kind == kind).unwrap().body
    }

    /// Adds a section of single bytes, in its place by kind.
    pub fn add(&mut self, kind: u32, flags: u32, body: &[u8]) {
        let at = self.sections.partition_point(|s| s.kind < kind);
        self.sections.insert(at, Section { kind, flags, record_size: 1, body: body.to_vec() });
    }

    /// The bundle, laid out and sealed.
    pub fn join(&self) -> Vec<u8> {
        let mut header = self.header.clone();
        let (mut table, mut bodies) = (Vec::new(), Vec::new());
        for s in &self.sections {
            let start = HEADER + self.sections.len() * ROW + bodies.len();
            table.extend_from_slice(&s.kind.to_le_bytes());
            table.extend_from_slice(&s.flags.to_le_bytes());
            table.extend_from_slice(&u64::try_from(start).unwrap().to_le_bytes());
            table.extend_from_slice(&u64::try_from(s.body.len()).unwrap().to_le_bytes());
            table.extend_from_slice(&s.record_size.to_le_bytes());
            table.extend_from_slice(&[0; 4]);
            bodies.extend_from_slice(&s.body);
            bodies.resize(bodies.len().next_multiple_of(8), 0);
        }
        put(&mut header, 12, &u16::try_from(self.sections.len()).unwrap().to_le_bytes());
        let signed = u64::try_from(HEADER + table.len() + bodies.len()).unwrap();
        put(&mut header, 16, &signed.to_le_bytes());
        let mut all = [header, table, bodies].concat();
        seal(&mut all);
        all.extend_from_slice(&self.behind);
        all
    }
}
