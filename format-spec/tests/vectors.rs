//! The golden vectors in `vectors/`: both directions, and the damaged ones.
//!
//! ```text
//! NAME.json + NAME.lpb        good: the description of a bundle and its bytes
//! bad-NAME.lpb + bad-NAME.txt bad:  bytes that a reader must refuse, and what this one says
//! ```
//! They are frozen: version 1 of the format is these bytes. Who changes the format on purpose (or adds a vector: a new
//! .json with an empty digest, or a row of [`DAMAGES`]) runs `LPB_BLESS=1 cargo test -p lpb --test vectors` and reads
//! the diff.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test inputs are our own, and a panic is a failed test"
)]

mod common;

use common::{HEADER, Pieces, ROW, put, seal};
use lpb::{Patch, read, write};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// The JSON file of a good vector.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    /// What it is an example of.
    about: String,
    digest: String,
    patch: Patch<'static>,
    /// A section that this version does not know.
    ancillary: Option<Ancillary>,
    /// The signature blocks behind the signed bytes, in hex.
    signatures: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ancillary {
    kind: u32,
    flags: u32,
    body: String,
}

impl Vector {
    /// The bytes that the description stands for.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = write(&self.patch).expect("a good vector can be written");
        if let Some(extra) = &self.ancillary {
            let mut pieces = Pieces::of(&bytes);
            pieces.add(extra.kind, extra.flags, &unhex(&extra.body));
            bytes = pieces.join();
        }
        bytes.extend_from_slice(&unhex(&self.signatures));
        bytes
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file)
}

fn blessing() -> bool {
    std::env::var_os("LPB_BLESS").is_some_and(|value| value == "1")
}

/// Compares a file with what it should hold, or writes it when blessing.
fn agree(file: &str, want: &[u8]) {
    if blessing() {
        // In one step: another test may be reading it.
        fs::write(path(&format!("{file}.tmp")), want).unwrap();
        return fs::rename(path(&format!("{file}.tmp")), path(file)).unwrap();
    }
    let have = fs::read(path(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    let differs = have.iter().zip(want).position(|(a, b)| a != b).unwrap_or(have.len().min(want.len()));
    assert!(have == want, "{file}: byte {differs} differs from what this code writes");
}

/// The names of the files with this ending, without it.
fn names(ending: &str) -> BTreeSet<String> {
    let files = fs::read_dir(path("")).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    files.filter_map(|f| f.strip_suffix(ending).map(str::to_owned)).collect()
}

#[test]
fn good_vectors_agree_in_both_directions() {
    let names = names(".json");
    assert!(names.len() >= 8, "the vectors are missing");
    for name in names {
        let mut vector: Vector = serde_json::from_slice(&fs::read(path(&format!("{name}.json"))).unwrap()).unwrap();
        let bytes = vector.bytes();
        if blessing() {
            vector.digest = hex(&bytes[common::DIGEST]);
        }
        let text = serde_json::to_string_pretty(&vector).unwrap() + "\n";
        agree(&format!("{name}.lpb"), &bytes);
        agree(&format!("{name}.json"), text.as_bytes());

        let bundle = read(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(bundle.patch, vector.patch, "{name}");
        assert_eq!(bundle.digest.to_string(), vector.digest, "{name}");
        assert_eq!([bundle.signed, &unhex(&vector.signatures)].concat(), bytes, "{name}");
    }
}

#[test]
fn signatures_are_found_and_not_judged() {
    if blessing() {
        return; // the files are being written
    }
    let bytes = fs::read(path("signed.lpb")).unwrap();
    let bundle = read(&bytes).unwrap();
    let [lpb::Signature::Minisign(text), lpb::Signature::Unknown(7)] = bundle.signatures.as_slice() else {
        panic!("{:?}", bundle.signatures);
    };
    assert!(text.starts_with(b"untrusted comment: "));
}

/// Section kinds of `SPEC.md`.
mod kind {
    pub const MODULES: u32 = 2;
    pub const BUILDS: u32 = 3;
    pub const SEGMENTS: u32 = 4;
    pub const IMAGE_SEGMENTS: u32 = 6;
    pub const FIXUPS: u32 = 8;
    pub const CANDIDATES: u32 = 9;
    pub const REDIRECTS: u32 = 10;
    pub const UNWIND: u32 = 12;
    pub const STRINGS: u32 = 13;
    pub const BYTES: u32 = 14;
    pub const PATCH: u32 = 1;
}

/// How a good vector becomes a bad one.
enum Damage {
    /// In the bytes, as they are: the digest is not touched.
    Raw(fn(&mut Vec<u8>)),
    /// In the bytes; then sealed again.
    Bytes(fn(&mut Vec<u8>)),
    /// In the pieces; then laid out and sealed again.
    Pieces(fn(&mut Pieces)),
}
use Damage::{Bytes, Pieces as Parts, Raw};

/// The last byte before the section BYTES of the vector `data`: padding behind its three bytes of strings.
const STRINGS_END: usize = 631;

/// Candidates of the vector `ifunc`: that of the first fix-up, and the first that says what was chosen.
const ORIGINAL: usize = 0;
const FIRST_CHOSEN: usize = 11 * 32;

/// `(name, good vector, damage)`.
const DAMAGES: &[(&str, &str, Damage)] = &[
    ("empty", "data", Raw(Vec::clear)),
    ("not-a-bundle", "data", Raw(|b| b[1] = b'l')),
    ("truncated-header", "data", Raw(|b| b.truncate(63))),
    ("truncated", "data", Raw(|b| b.truncate(b.len() - 1))),
    ("flipped-bit", "data", Raw(|b| *b.last_mut().unwrap() ^= 1)),
    ("flipped-bit-in-digest", "data", Raw(|b| b[40] ^= 0x80)),
    ("version", "data", Bytes(|b| put(b, 8, &2_u16.to_le_bytes()))),
    ("machine", "data", Bytes(|b| put(b, 10, &183_u16.to_le_bytes()))),
    ("reserved-header-field", "data", Bytes(|b| b[14] = 1)),
    ("signed-length-huge", "data", Bytes(|b| put(b, 16, &(u64::MAX - 7).to_le_bytes()))),
    ("signed-length-odd", "data", Bytes(|b| b[16] ^= 1)),
    ("section-count", "data", Bytes(|b| put(b, 12, &65_u16.to_le_bytes()))),
    ("section-table-cut", "data", Bytes(|b| put(b, 12, &60_u16.to_le_bytes()))),
    ("section-missing-row", "data", Bytes(|b| b[12] -= 1)),
    ("section-overlap", "data", Bytes(|b| b.copy_within(HEADER + ROW + 8..HEADER + ROW + 16, HEADER + 2 * ROW + 8))),
    ("section-length-huge", "data", Bytes(|b| put(b, HEADER + 16, &u64::MAX.to_le_bytes()))),
    ("section-order", "data", Parts(|p| p.sections.swap(0, 1))),
    ("section-twice", "data", Parts(|p| p.sections.insert(0, p.sections[0].clone()))),
    ("section-empty", "data", Parts(|p| p.add(0x100, 0, &[]))),
    ("section-record-size", "data", Parts(|p| p.sections[0].record_size = 40)),
    ("section-not-critical", "data", Parts(|p| p.sections[0].flags = 0)),
    ("section-unknown-critical", "data", Parts(|p| p.add(0x50, 1, b"?"))),
    ("section-partial-record", "data", Parts(|p| p.body(kind::MODULES).truncate(23))),
    ("padding", "data", Bytes(|b| b[STRINGS_END] = 1)),
    ("no-patch", "data", Parts(|p| drop(p.sections.remove(0)))),
    ("patch-flag", "data", Parts(|p| p.body(kind::PATCH)[8] = 2)),
    ("span-not-next", "data", Parts(|p| p.body(kind::MODULES)[8] = 1)),
    ("span-past-the-end", "data", Parts(|p| put(p.body(kind::MODULES), 12, &u32::MAX.to_le_bytes()))),
    ("orphan-record", "data", Parts(|p| p.body(kind::SEGMENTS).extend_from_within(..40))),
    ("orphan-bytes", "data", Parts(|p| p.body(kind::BYTES).push(0))),
    ("orphan-string", "data", Parts(|p| p.body(kind::STRINGS).push(b'x'))),
    ("orphan-image", "jump", Parts(|p| p.body(7).push(0x90))),
    ("string-too-long", "data", Parts(long_string)),
    ("string-twice", "data", Parts(|p| p.body(kind::STRINGS)[1] = b'd')),
    ("string-not-next", "data", Parts(|p| p.body(kind::PATCH)[0] = 1)),
    ("string-control-character", "data", Parts(|p| p.body(kind::STRINGS)[0] = 0x1b)),
    ("string-not-utf8", "data", Parts(|p| p.body(kind::STRINGS)[0] = 0xff)),
    ("too-many-segments", "data", Parts(many_segments)),
    ("segment-wraps", "data", Parts(|p| put(p.body(kind::SEGMENTS), 24, &u64::MAX.to_le_bytes()))),
    ("e-type", "data", Parts(|p| p.body(kind::BUILDS)[24] = 4)),
    ("no-identity", "data", Parts(no_identity)),
    ("writable-code", "jump", Parts(|p| p.body(kind::IMAGE_SEGMENTS)[32] = 7)),
    ("area-segment-outside", "jump", Parts(|p| put(p.body(kind::IMAGE_SEGMENTS), 8, &8192_u64.to_le_bytes()))),
    ("fixup-outside", "jump", Parts(|p| put(p.body(kind::FIXUPS), 0, &4089_u64.to_le_bytes()))),
    ("fixups-overlap", "fixups", Parts(|p| put(p.body(kind::FIXUPS), 64, &0x2007_u64.to_le_bytes()))),
    ("fixup-form", "jump", Parts(|p| p.body(kind::FIXUPS)[26] = 3)),
    ("candidate-kind", "jump", Parts(|p| p.body(kind::CANDIDATES)[0] = 6)),
    ("candidate-unused-field", "jump", Parts(|p| p.body(kind::CANDIDATES)[24] = 1)),
    ("candidate-no-area", "jump", Parts(|p| p.body(kind::CANDIDATES)[2] = 9)),
    ("candidate-flag", "jump", Parts(|p| p.body(kind::CANDIDATES)[1] = 2)),
    ("module-flag", "jump", Parts(|p| p.body(kind::MODULES)[16] = 2)),
    ("area-near-optional", "jump", Parts(|p| p.body(kind::MODULES)[16] = 1)),
    ("redirect-of-optional", "data", Parts(|p| p.body(kind::MODULES)[16] = 1)),
    ("expected-value-closed", "slot", Parts(|p| p.body(kind::CANDIDATES)[32 + 1] = 1)),
    ("chosen-closed", "ifunc", Parts(|p| p.body(kind::CANDIDATES)[FIRST_CHOSEN + 1] = 1)),
    ("chosen-not-a-slot", "ifunc", Parts(|p| chosen(p, 3))),
    ("original-no-redirect", "ifunc", Parts(|p| p.body(kind::CANDIDATES)[ORIGINAL + 8] = 2)),
    ("original-no-prologue", "ifunc", Parts(no_prologue)),
    ("original-unused-field", "ifunc", Parts(|p| p.body(kind::CANDIDATES)[ORIGINAL + 2] = 0)),
    ("guard-no-build", "builds", Parts(|p| p.body(kind::CANDIDATES)[2 * 32 + 6] = 2)),
    ("redirect-kind", "data", Parts(|p| p.body(kind::REDIRECTS)[0] = 4)),
    ("redirect-unused-field", "data", Parts(|p| p.body(kind::REDIRECTS)[24] = 1)),
    ("redirect-no-build", "data", Parts(|p| p.body(kind::REDIRECTS)[4] = 1)),
    ("redirect-outside", "data", Parts(|p| put(p.body(kind::REDIRECTS), 16, &0x40_301f_u64.to_le_bytes()))),
    ("data-in-text", "data", Parts(|p| put(p.body(kind::REDIRECTS), 16, &0x40_1000_u64.to_le_bytes()))),
    ("slot-in-text", "slot", Parts(|p| put(p.body(kind::REDIRECTS), 16, &0x1100_u64.to_le_bytes()))),
    ("redirects-collide", "gate", Parts(redirects_collide)),
    ("gate-not-writable", "gate", Parts(|p| put(p.body(kind::PATCH), 16, &0_u64.to_le_bytes()))),
    ("gate-thunk-without-gate", "gate", Parts(no_gate)),
    ("together-without-gate-thunk", "gate", Parts(|p| p.body(kind::REDIRECTS)[104 + 80..104 + 88].fill(0xff))),
    ("island-far", "jump", Parts(|p| p.body(5)[32..34].fill(0xff))),
    ("unwind-done", "gate", Parts(|p| put(p.body(kind::UNWIND), 24, &0x1000_u64.to_le_bytes()))),
    ("unwind-enter", "gate", Parts(|p| put(p.body(kind::UNWIND), 8, &0x1000_u64.to_le_bytes()))),
    ("unwind-optional-provider", "gate", Parts(|p| p.body(kind::MODULES)[24 + 16] = 1)),
    ("unwind-provider", "gate", Parts(|p| p.body(kind::UNWIND)[2] = 9)),
    ("behind-signed", "data", Parts(|p| p.behind.extend_from_slice(b"trailing"))),
    ("signature-cut", "signed", Parts(|p| p.behind.truncate(p.behind.len() - 1))),
    ("signature-too-long", "signed", Parts(|p| put(&mut p.behind, 12, &8193_u32.to_le_bytes()))),
];

/// A name of 4097 bytes, with everything behind it in its place.
fn long_string(p: &mut Pieces) {
    let name = p.body(kind::STRINGS)[0];
    p.body(kind::STRINGS).splice(0..1, [name; 4097]);
    put(p.body(kind::PATCH), 4, &4097_u32.to_le_bytes());
}

/// 65 PT_LOADs in one build.
fn many_segments(p: &mut Pieces) {
    let last = p.body(kind::SEGMENTS)[80..120].to_vec();
    for n in 1..=62_u64 {
        p.body(kind::SEGMENTS).extend_from_slice(&last);
        let at = p.body(kind::SEGMENTS).len() - 40;
        put(p.body(kind::SEGMENTS), at, &(0x40_3000 + 0x1000 * n).to_le_bytes());
    }
    put(p.body(kind::BUILDS), 20, &65_u32.to_le_bytes());
}

/// Neither build-id nor proof.
fn no_identity(p: &mut Pieces) {
    p.body(kind::BYTES).drain(..16);
    put(p.body(kind::BUILDS), 32, &[0; 16]);
    put(p.body(kind::REDIRECTS), 40, &0_u32.to_le_bytes());
    put(p.body(kind::REDIRECTS), 56, &4_u32.to_le_bytes());
}

/// Gate thunks, but no gate word.
fn no_gate(p: &mut Pieces) {
    p.body(kind::PATCH)[12..14].fill(0xff);
    p.body(kind::PATCH)[16..24].fill(0xff);
}

/// What was chosen, by a candidate of another kind.
fn chosen(p: &mut Pieces, kind: u8) {
    p.body(kind::CANDIDATES)[FIRST_CHOSEN] = kind;
    p.body(kind::CANDIDATES)[FIRST_CHOSEN + 24..FIRST_CHOSEN + 32].fill(0);
}

/// The old code of a redirect that has none, and no gate thunk either.
fn no_prologue(p: &mut Pieces) {
    p.body(kind::REDIRECTS)[72..88].fill(0xff);
}

/// The second jump over the last byte of the first.
fn redirects_collide(p: &mut Pieces) {
    put(p.body(kind::REDIRECTS), 104 + 16, &0x113d_u64.to_le_bytes());
    put(p.body(kind::REDIRECTS), 104 + 24, &0x113d_u64.to_le_bytes());
    put(p.body(11), 32, &0x113d_u64.to_le_bytes());
}

#[test]
fn bad_vectors_are_refused_with_the_right_words() {
    for (name, base, damage) in DAMAGES {
        let vector: Vector = serde_json::from_slice(&fs::read(path(&format!("{base}.json"))).unwrap()).unwrap();
        let mut bytes = vector.bytes();
        match damage {
            Raw(spoil) => spoil(&mut bytes),
            Bytes(spoil) => {
                spoil(&mut bytes);
                seal(&mut bytes);
            }
            Parts(spoil) => {
                let mut pieces = Pieces::of(&bytes);
                spoil(&mut pieces);
                bytes = pieces.join();
            }
        }
        let error = read(&bytes).err().unwrap_or_else(|| panic!("{name}: it was accepted"));
        agree(&format!("bad-{name}.lpb"), &bytes);
        agree(&format!("bad-{name}.txt"), format!("{error}\n").as_bytes());
    }
}

#[test]
fn every_file_belongs_to_a_vector() {
    if blessing() {
        return; // the files are being written
    }
    let bad: BTreeSet<_> = DAMAGES.iter().map(|(name, _, _)| format!("bad-{name}")).collect();
    assert_eq!(bad.len(), DAMAGES.len(), "two bad vectors have one name");
    let good = names(".json");
    assert_eq!(names(".lpb"), good.union(&bad).cloned().collect());
    assert_eq!(names(".txt"), bad);
}
