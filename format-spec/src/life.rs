//! The life record: what an applied patch leaves in the target so that any later `lp-apply` can list and revert it.
//!
//! It is the only state there is. The record fills one anonymous read-only mapping of the target:
//!
//! ```text
//! 0      header     128 bytes: magic, state, own address and length, digest of the bundle, checksum
//! 128    mappings    24 bytes each: what the patch has mapped (the record itself is not listed)
//!        sites       48 bytes each: where the target was changed
//!        unwind      40 bytes each: the code that registers a table with the unwinder, and takes it back
//!        blob        the patch's name; each site's name, old, new and gated bytes
//! ```
//! The state word is the only part that changes after the record is written. Its low byte is the state, a hint: the truth
//! is in the sites, where bytes equal to `old` are not patched, bytes equal to `new` or `gated` are. Its high 24 bits count
//! the mappings that exist while staging, and those already gone while inactive: after a crash of the tool, only what is
//! certainly the patch's is unmapped, because the target may have reused any other address since.

use crate::Digest;
use crate::addr::{RunAddr, to_u64, to_usize};
use crate::limits::{PAGE, REDIRECTS, UNWIND};
use crate::wire::records;
use sha2::{Digest as _, Sha256};
use std::ops::Range;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First eight bytes of a life record.
pub const MAGIC: [u8; 8] = *b"\x89LPLIFE\n";
/// Version of the layout; another one is listed as unknown and left alone.
pub const VERSION: u16 = 1;
/// Bytes of the header; enough to recognise a record and know its length.
pub const HEADER_LEN: usize = size_of::<LifeHeader>();
/// Where in the record the 4-byte state word stands; 4-aligned.
pub const STATE_OFF: u64 = 12;
/// Longest record, in bytes: hostile memory cannot make us read more.
pub const MAX_LEN: u64 = 64 << 20;
/// Most mappings of one record.
pub const MAX_MAPPINGS: usize = 8192;
/// Most sites of one record: as many as a patch has redirects.
pub const MAX_SITES: usize = REDIRECTS;
/// Longest code change (a jump), in bytes.
pub const MAX_CODE: usize = 16;

/// How far a patch has come; see [`Life::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The record exists; the other mappings are being made.
    Staging,
    /// All mappings are complete; nothing of the target is changed.
    Staged,
    /// The sites are being changed.
    Committing,
    /// The patch is in force.
    Active,
    /// The sites are being changed back.
    Reverting,
    /// The sites are old again; mappings may remain.
    Inactive,
    /// The same, or they are being changed back; the mappings have to remain, as the program may keep addresses of them.
    Held,
}

impl State {
    /// The state word of the record; `progress` counts mappings and has 24 bits.
    pub fn word(self, progress: u32) -> u32 {
        self.code() | (progress << 8)
    }

    /// `None`: no such state.
    pub fn from_word(word: u32) -> Option<(Self, u32)> {
        use State::{Active, Committing, Held, Inactive, Reverting, Staged, Staging};
        let all = [Staging, Staged, Committing, Active, Reverting, Inactive, Held];
        all.into_iter().find(|s| s.code() == word & 0xff).map(|s| (s, word >> 8))
    }

    fn code(self) -> u32 {
        match self {
            Self::Staging => 1,
            Self::Staged => 2,
            Self::Committing => 3,
            Self::Active => 4,
            Self::Reverting => 5,
            Self::Inactive => 6,
            Self::Held => 7,
        }
    }
}

/// What was changed at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// A jump over a function's first bytes.
    Jump,
    /// A GOT slot.
    Slot,
    /// Plain data.
    Data,
}

/// One place of the target that the patch changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// First byte.
    pub at: RunAddr,
    /// What it is.
    pub kind: SiteKind,
    /// Name of the function or variable.
    pub name: String,
    /// Bytes before the patch.
    pub old: Vec<u8>,
    /// Bytes while the patch is active; as long as `old`.
    pub new: Vec<u8>,
    /// Bytes while the gate decides; as long as `old`, or empty if the site needs no gate.
    pub gated: Vec<u8>,
}

/// One mapping that the patch brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First byte.
    pub start: RunAddr,
    /// Bytes, a multiple of the page size.
    pub len: u64,
    /// `PROT_READ` 1, `PROT_WRITE` 2, `PROT_EXEC` 4.
    pub prot: u32,
}

impl Mapping {
    /// Its addresses.
    pub fn range(&self) -> Range<RunAddr> {
        self.start..RunAddr(self.start.0.saturating_add(self.len))
    }
}

/// One unwind table that the patch brought, as far as a later lp-apply has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindCode {
    /// Code that registers the table.
    pub enter: RunAddr,
    /// Code that takes it back.
    pub leave: RunAddr,
    /// The word that is 1 while the table is registered.
    pub done: RunAddr,
    /// Text of the module with the unwinder: start and bytes. `None`: see [`crate::Unwind::provider`].
    pub provider: Option<(RunAddr, u64)>,
}

/// A life record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Where the record's mapping starts.
    pub at: RunAddr,
    /// Its length, a multiple of the page size; [`Life::encode`] sets it.
    pub len: u64,
    /// A hint; the sites tell the truth.
    pub state: State,
    /// `Staging`: mappings made so far. `Inactive`: mappings already unmapped. Else 0.
    pub progress: u32,
    /// Identity of the bundle.
    pub digest: Digest,
    /// Name of the patch.
    pub name: String,
    /// The gate word, if the patch has one.
    pub gate: Option<RunAddr>,
    /// What the patch has mapped, without the record.
    pub mappings: Vec<Mapping>,
    /// What the patch changes.
    pub sites: Vec<Site>,
    /// What the patch registers with unwinders.
    pub unwind: Vec<UnwindCode>,
}

/// Why bytes in the target are not a life record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LifeError {
    /// A record of another version.
    #[error("it has version {0}; this tool knows version {VERSION}")]
    Version(u16),
    /// The content does not match its checksum.
    #[error("its checksum does not match: something wrote into it, or a tool died while writing it")]
    Checksum,
    /// A field breaks a rule.
    #[error("{0}")]
    Field(&'static str),
    /// A patch too large for a record.
    #[error("it would be longer than {} MiB", MAX_LEN >> 20)]
    TooLarge,
}

records! {
    /// Start of the record.
    LifeHeader = 128 {
        magic: [u8; 8],
        version: U16,
        reserved: U16,
        state: U32,
        /// Bytes of the mapping.
        len: U64,
        /// Address of the mapping.
        at: U64,
        digest: [u8; 32],
        /// SHA-256 of the first `used` bytes with `state` and this field taken as zeroes.
        checksum: [u8; 32],
        used: U64,
        mapping_count: U32,
        site_count: U32,
        /// 0 = none.
        gate: U64,
        name_len: U32,
        unwind_count: U32,
    }
    /// One mapping.
    LifeMapping = 24 {
        start: U64,
        len: U64,
        prot: U32,
        reserved: U32,
    }
    /// One site. The blob holds, site by site: name, old, new, gated.
    LifeSite = 48 {
        at: U64,
        kind: U32,
        name_len: U32,
        /// Bytes of old and of new each.
        len: U64,
        /// Bytes of gated: `len` or 0.
        gated_len: U64,
        reserved: [U64; 2],
    }
    /// One unwind table.
    LifeUnwind = 40 {
        enter: U64,
        leave: U64,
        done: U64,
        /// 0 = none.
        provider: U64,
        provider_len: U64,
    }
}
const _: () = assert!(std::mem::offset_of!(LifeHeader, state) == 12);

/// What the first [`HEADER_LEN`] bytes of a mapping say: `None`, no record; else the record's length in bytes, or why it
/// cannot be used. `at`, `mapped`: start and length of the mapping.
pub fn peek(header: &[u8], at: RunAddr, mapped: u64) -> Option<Result<u64, LifeError>> {
    let (h, _) = LifeHeader::ref_from_prefix(header).ok().filter(|(h, _)| h.magic == MAGIC)?;
    // A copy of the bytes elsewhere (a buffer, a file) is not a record.
    if h.at.get() != at.0 {
        return None;
    }
    if h.version.get() != VERSION {
        return Some(Err(LifeError::Version(h.version.get())));
    }
    let sound = h.len.get() <= mapped && h.len.get() <= MAX_LEN && h.len.get().is_multiple_of(PAGE);
    let sound = sound && h.used.get() <= h.len.get() && h.used.get() >= to_u64(HEADER_LEN);
    Some(if sound { Ok(h.len.get()) } else { Err(LifeError::Field("its length is wrong")) })
}

/// Cuts the next `len` bytes off `rest`.
fn cut<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], LifeError> {
    let len = usize::try_from(len).map_err(|_| LifeError::Field("a length is wrong"))?;
    let (head, tail) = rest.split_at_checked(len).ok_or(LifeError::Field("it is cut off"))?;
    *rest = tail;
    Ok(head)
}

fn cut_text(rest: &mut &[u8], len: U32) -> Result<String, LifeError> {
    let bytes = cut(rest, u64::from(len.get()))?;
    let text = std::str::from_utf8(bytes).map_err(|_| LifeError::Field("a name is not UTF-8"))?;
    crate::check::text(text).map_err(LifeError::Field)?;
    Ok(text.to_owned())
}

impl Life {
    /// The progress of a record that is [`State::Held`] once its sites are old again.
    pub const ALL_OLD: u32 = 1;

    /// Whether the sites are old again, and nobody's any more.
    pub fn is_withdrawn(&self) -> bool {
        self.state == State::Inactive || self.state == State::Held && self.progress == Self::ALL_OLD
    }

    /// Whether the header in the target is still the one of this record, in this state. Somebody else may have dissolved the
    /// record, or put another in its place.
    pub fn stands_in(&self, header: &[u8]) -> bool {
        LifeHeader::ref_from_prefix(header).is_ok_and(|(h, _)| {
            let state = self.state.word(self.progress);
            let place = (h.at.get(), h.len.get(), h.state.get()) == (self.at.0, self.len, state);
            h.magic == MAGIC && h.version.get() == VERSION && h.digest == self.digest.0 && place
        })
    }

    /// Reads the record whose mapping starts at `at`. `bytes`: as many as [`peek`] said.
    ///
    /// # Errors
    /// Any broken rule; nothing of a damaged record is used.
    pub fn decode(bytes: &[u8], at: RunAddr) -> Result<Self, LifeError> {
        peek(bytes, at, to_u64(bytes.len())).ok_or(LifeError::Field("its magic is missing"))??;
        let (h, _) = LifeHeader::ref_from_prefix(bytes).map_err(|_| LifeError::Field("it is cut off"))?;
        let used = bytes.get(..to_usize(h.used.get())).ok_or(LifeError::Field("it is cut off"))?;
        if checksum(h, used.get(HEADER_LEN..).unwrap_or_default()) != h.checksum {
            return Err(LifeError::Checksum);
        }
        let mut rest = used.get(HEADER_LEN..).unwrap_or_default();
        let mapping_count = to_usize(u64::from(h.mapping_count.get()));
        let site_count = to_usize(u64::from(h.site_count.get()));
        let unwind_count = to_usize(u64::from(h.unwind_count.get()));
        if mapping_count > MAX_MAPPINGS {
            return Err(LifeError::Field("too many mappings"));
        }
        if site_count > MAX_SITES {
            return Err(LifeError::Field("too many sites"));
        }
        let cut_off = LifeError::Field("it is cut off");
        let (maps, tail) = <[LifeMapping]>::ref_from_prefix_with_elems(rest, mapping_count).map_err(|_| cut_off)?;
        let (sites, tail) = <[LifeSite]>::ref_from_prefix_with_elems(tail, site_count).map_err(|_| cut_off)?;
        let (unwind, tail) = <[LifeUnwind]>::ref_from_prefix_with_elems(tail, unwind_count).map_err(|_| cut_off)?;
        rest = tail;
        let name = cut_text(&mut rest, h.name_len)?;
        let (state, progress) = State::from_word(h.state.get()).ok_or(LifeError::Field("unknown state"))?;
        let life = Self {
            at,
            len: h.len.get(),
            state,
            progress,
            digest: Digest(h.digest),
            name,
            gate: (h.gate.get() != 0).then_some(RunAddr(h.gate.get())),
            mappings: maps.iter().map(mapping).collect::<Result<_, _>>()?,
            sites: sites.iter().map(|s| site(s, &mut rest)).collect::<Result<_, _>>()?,
            unwind: unwind.iter().map(unwind_code).collect(),
        };
        life.unwind_rules()?;
        if rest.is_empty() { Ok(life) } else { Err(LifeError::Field("bytes follow its last site")) }
    }

    /// The bytes of the whole mapping, padded with zeroes to whole pages; sets [`Life::len`] to their number.
    ///
    /// # Errors
    /// [`LifeError::TooLarge`] past [`MAX_LEN`]; [`LifeError::Field`] for what [`Life::decode`] would refuse.
    pub fn encode(&mut self) -> Result<Vec<u8>, LifeError> {
        if self.mappings.len() > MAX_MAPPINGS {
            return Err(LifeError::Field("too many mappings"));
        }
        if self.sites.len() > MAX_SITES {
            return Err(LifeError::Field("too many sites"));
        }
        self.mappings.iter().try_for_each(mapping_rules)?;
        self.unwind_rules()?;
        crate::check::text(&self.name).map_err(LifeError::Field)?;
        let small = |n: usize| u32::try_from(n).map(U32::new).map_err(|_| LifeError::TooLarge);
        let mut body = Vec::new();
        for m in &self.mappings {
            let rec =
                LifeMapping { start: m.start.0.into(), len: m.len.into(), prot: m.prot.into(), reserved: 0.into() };
            body.extend_from_slice(rec.as_bytes());
        }
        let mut blob = Vec::from(self.name.as_bytes());
        for s in &self.sites {
            let (len, gated_len) = (to_u64(s.old.len()), to_u64(s.gated.len()));
            site_rules(s.at, s.kind, len, gated_len)?;
            if s.new.len() != s.old.len() {
                return Err(LifeError::Field("a site's old and new bytes differ in length"));
            }
            crate::check::text(&s.name).map_err(LifeError::Field)?;
            let kind: u32 = match s.kind {
                SiteKind::Jump => 1,
                SiteKind::Slot => 2,
                SiteKind::Data => 3,
            };
            let rec = LifeSite {
                at: s.at.0.into(),
                kind: kind.into(),
                name_len: small(s.name.len())?,
                len: len.into(),
                gated_len: gated_len.into(),
                reserved: [0.into(); 2],
            };
            body.extend_from_slice(rec.as_bytes());
            [s.name.as_bytes(), &s.old, &s.new, &s.gated].iter().for_each(|part| blob.extend_from_slice(part));
        }
        self.unwind.iter().for_each(|u| body.extend_from_slice(unwind_rec(u).as_bytes()));
        body.extend_from_slice(&blob);
        let used = to_u64(HEADER_LEN.saturating_add(body.len()));
        self.len = used.next_multiple_of(PAGE);
        if self.len > MAX_LEN {
            return Err(LifeError::TooLarge);
        }
        let mut header = LifeHeader {
            magic: MAGIC,
            version: VERSION.into(),
            reserved: 0.into(),
            state: self.state.word(self.progress).into(),
            len: self.len.into(),
            at: self.at.0.into(),
            digest: self.digest.0,
            checksum: [0; 32],
            used: used.into(),
            mapping_count: small(self.mappings.len())?,
            site_count: small(self.sites.len())?,
            gate: self.gate.map_or(0, |g| g.0).into(),
            name_len: small(self.name.len())?,
            unwind_count: small(self.unwind.len())?,
        };
        header.checksum = checksum(&header, &body);
        let mut bytes = [header.as_bytes(), &body].concat();
        bytes.resize(to_usize(self.len), 0);
        Ok(bytes)
    }

    /// A thread is sent to these addresses: they must be code of the patch itself.
    fn unwind_rules(&self) -> Result<(), LifeError> {
        let inside = |at: RunAddr, len: u64, prot: u32| {
            let holds = |m: &Mapping| m.start <= at && at.plus(len).is_some_and(|end| end <= m.range().end);
            self.mappings.iter().any(|m| m.prot == prot && holds(m))
        };
        let sound = |u: &UnwindCode| {
            let code = inside(u.enter, 1, 5) && inside(u.leave, 1, 5);
            let provider = u.provider.is_none_or(|(at, len)| at.0 != 0 && len != 0 && in_user_space(at, len));
            code && provider && u.done.0.is_multiple_of(4) && inside(u.done, 4, 3)
        };
        if self.unwind.len() > UNWIND || !self.unwind.iter().all(sound) {
            return Err(LifeError::Field("an unwind table is wrong"));
        }
        Ok(())
    }
}

fn unwind_code(rec: &LifeUnwind) -> UnwindCode {
    let provider = (rec.provider.get(), rec.provider_len.get());
    UnwindCode {
        enter: RunAddr(rec.enter.get()),
        leave: RunAddr(rec.leave.get()),
        done: RunAddr(rec.done.get()),
        provider: (provider != (0, 0)).then_some((RunAddr(provider.0), provider.1)),
    }
}

fn unwind_rec(u: &UnwindCode) -> LifeUnwind {
    let (provider, provider_len) = u.provider.map_or((0, 0), |(at, len)| (at.0, len));
    LifeUnwind {
        enter: u.enter.0.into(),
        leave: u.leave.0.into(),
        done: u.done.0.into(),
        provider: provider.into(),
        provider_len: provider_len.into(),
    }
}

fn checksum(header: &LifeHeader, body: &[u8]) -> [u8; 32] {
    let blank = LifeHeader { state: 0.into(), checksum: [0; 32], ..*header };
    Sha256::new().chain_update(blank.as_bytes()).chain_update(body).finalize().into()
}

fn mapping(rec: &LifeMapping) -> Result<Mapping, LifeError> {
    let m = Mapping { start: RunAddr(rec.start.get()), len: rec.len.get(), prot: rec.prot.get() };
    mapping_rules(&m).map(|()| m)
}

fn mapping_rules(m: &Mapping) -> Result<(), LifeError> {
    let whole = m.start.0.is_multiple_of(PAGE) && m.len.is_multiple_of(PAGE) && m.len != 0;
    let sound = whole && in_user_space(m.start, m.len) && matches!(m.prot, 1 | 3 | 5);
    if sound { Ok(()) } else { Err(LifeError::Field("a mapping is not made of whole pages, or writable code")) }
}

fn in_user_space(start: RunAddr, len: u64) -> bool {
    start.plus(len).is_some_and(|end| end.0 <= 1 << 47)
}

fn site_rules(at: RunAddr, kind: SiteKind, len: u64, gated_len: u64) -> Result<(), LifeError> {
    if len == 0 || (gated_len != 0 && gated_len != len) || (kind != SiteKind::Data && len > to_u64(MAX_CODE)) {
        return Err(LifeError::Field("a site's length is wrong"));
    }
    if in_user_space(at, len) { Ok(()) } else { Err(LifeError::Field("a site lies outside user space")) }
}

fn site(rec: &LifeSite, rest: &mut &[u8]) -> Result<Site, LifeError> {
    let kind = match rec.kind.get() {
        1 => SiteKind::Jump,
        2 => SiteKind::Slot,
        3 => SiteKind::Data,
        _ => return Err(LifeError::Field("unknown kind of site")),
    };
    let (len, gated_len) = (rec.len.get(), rec.gated_len.get());
    site_rules(RunAddr(rec.at.get()), kind, len, gated_len)?;
    let name = cut_text(rest, rec.name_len)?;
    let old = cut(rest, len)?.to_vec();
    let new = cut(rest, len)?.to_vec();
    let gated = cut(rest, gated_len)?.to_vec();
    Ok(Site { at: RunAddr(rec.at.get()), kind, name, old, new, gated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Life {
        Life {
            at: RunAddr(0x7000_0000),
            len: 0,
            state: State::Staged,
            progress: 0,
            digest: Digest([7; 32]),
            name: "fix-1".into(),
            gate: Some(RunAddr(0x7100_0010)),
            mappings: vec![
                Mapping { start: RunAddr(0x7100_0000), len: 8192, prot: 5 },
                Mapping { start: RunAddr(0x7200_0000), len: 4096, prot: 3 },
            ],
            sites: vec![Site {
                at: RunAddr(0x401_000),
                kind: SiteKind::Jump,
                name: "f".into(),
                old: vec![1, 2, 3, 4, 5],
                new: vec![6, 7, 8, 9, 10],
                gated: vec![],
            }],
            unwind: vec![UnwindCode {
                enter: RunAddr(0x7100_0100),
                leave: RunAddr(0x7100_0200),
                done: RunAddr(0x7200_0040),
                provider: Some((RunAddr(0x7f00_0000_1000), 0x2000)),
            }],
        }
    }

    #[test]
    fn a_record_survives_the_trip_and_damage_is_seen() {
        let mut life = sample();
        let bytes = life.encode().unwrap();
        assert_eq!(peek(&bytes, life.at, 4096), Some(Ok(4096)));
        assert_eq!(Life::decode(&bytes, life.at).unwrap(), life);
        assert_eq!(peek(&bytes, RunAddr(0x1000), 4096), None, "a copy elsewhere is no record");
        for at in (0..280).filter(|at| !(13..16).contains(at)) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            // Bytes 13 to 15 are the progress count, the one part that may hold anything.
            assert!(Life::decode(&bad, life.at).is_err(), "a flipped bit at {at} went unseen");
        }
    }

    #[test]
    fn the_state_word_may_change_alone() {
        let mut life = sample();
        let mut bytes = life.encode().unwrap();
        bytes[to_usize(STATE_OFF)..][..4].copy_from_slice(&State::Active.word(3).to_le_bytes());
        let read = Life::decode(&bytes, life.at).unwrap();
        assert_eq!((read.state, read.progress), (State::Active, 3));
    }

    #[test]
    fn what_cannot_be_read_is_not_written() {
        type Spoil = fn(&mut Life);
        let cases: [(&str, Spoil); 9] = [
            ("old and new differ in length", |l| l.sites[0].new.push(0)),
            ("gated of another length", |l| l.sites[0].gated = vec![1]),
            ("a long jump", |l| (l.sites[0].old, l.sites[0].new) = (vec![0; 17], vec![0; 17])),
            ("a site beyond user space", |l| l.sites[0].at = RunAddr(u64::MAX)),
            ("a writable and executable mapping", |l| l.mappings[0].prot = 7),
            ("unwind code outside the patch", |l| l.unwind[0].enter = RunAddr(0x401_000)),
            ("unwind code that is data", |l| l.unwind[0].leave = RunAddr(0x7200_0000)),
            ("a done word in code", |l| l.unwind[0].done = RunAddr(0x7100_0000)),
            ("a control character", |l| l.name = "\u{1b}[2J".into()),
        ];
        for (why, spoil) in cases {
            let mut life = sample();
            spoil(&mut life);
            assert!(matches!(life.encode(), Err(LifeError::Field(_))), "{why}");
        }
    }
}
