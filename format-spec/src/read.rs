//! Bytes to model. Every byte is hostile until it is checked here; nothing is copied but the records.

use crate::addr::{AreaOff, FileOff, LinkAddr, to_u64, to_usize};
use crate::check::{CheckError, check, text};
use crate::frame::{Sections, digest, header_rules, signatures};
use crate::model::*;
use crate::wire::{self, kind};
use crate::{Digest, limits};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use zerocopy::FromBytes;

/// A bundle whose bytes have been checked.
#[derive(Debug)]
pub struct Bundle<'a> {
    /// Identity of the patch.
    pub digest: Digest,
    /// What the bundle says.
    pub patch: Patch<'a>,
    /// The bytes that digest and signatures cover.
    pub signed: &'a [u8],
    /// Signatures, not verified here.
    pub signatures: Vec<Signature<'a>>,
}

/// One signature over the signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature<'a> {
    /// The text of a `.minisig` file.
    Minisign(&'a [u8]),
    /// A kind that this version does not know.
    Unknown(u32),
}

/// Why bytes are not a usable bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The magic number is missing.
    #[error("this is not an lpb bundle: the file does not start with the bundle magic")]
    NotABundle,
    /// The file is longer than any bundle.
    #[error("the file has {len} bytes; a bundle has at most {}", limits::BUNDLE)]
    TooLong {
        /// Its length.
        len: u64,
    },
    /// The file ends early.
    #[error("the bundle is cut off: it has {have} bytes, but {want} are announced")]
    Truncated {
        /// Bytes in hand.
        have: u64,
        /// Bytes announced.
        want: u64,
    },
    /// Another version of the format.
    #[error("the bundle has format version {0}; this tool reads version {expected}", expected = wire::VERSION)]
    Version(u16),
    /// Another processor.
    #[error("the bundle is for ELF machine {0}; this tool handles x86-64 ({expected})", expected = wire::EM_X86_64)]
    Machine(u16),
    /// Content and digest disagree.
    #[error("the bundle is damaged: its SHA-256 digest does not match its content")]
    Digest,
    /// The section table breaks a rule.
    #[error("bad section {index} (kind {kind}): {why}")]
    Section {
        /// Row of the section table.
        index: usize,
        /// Its kind.
        kind: u32,
        /// The rule.
        why: &'static str,
    },
    /// A critical section that this version does not know.
    #[error("the bundle needs a feature that this tool does not know (critical section {0})")]
    UnknownCritical(u32),
    /// A record breaks a rule.
    #[error("bad record {index} in table {table}: {why}")]
    Record {
        /// Table, as `SPEC.md` names it.
        table: &'static str,
        /// Number of the record.
        index: usize,
        /// The rule.
        why: &'static str,
    },
    /// The header or a signature block breaks a rule.
    #[error("bad {part}: {why}")]
    Frame {
        /// "header" or "signature block".
        part: &'static str,
        /// The rule.
        why: &'static str,
    },
    /// The parts contradict each other.
    #[error("the bundle contradicts itself: {0}")]
    Check(#[from] CheckError),
}

impl ReadError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotABundle => "name a file made by `lp-compile build`",
            Self::Version(_) | Self::UnknownCritical(_) => {
                "use an lp-apply at least as new as the lp-compile that built it"
            }
            Self::Machine(_) => "build the patch for the machine of the target",
            Self::TooLong { .. } => "build a smaller patch: a bundle carries only the functions that change",
            _ => "copy the bundle again, or rebuild it with `lp-compile build`",
        }
    }
}

pub(crate) type Read<T> = Result<T, ReadError>;

/// Reads and checks a whole bundle.
///
/// # Errors
/// [`ReadError`] with the first rule of `SPEC.md` that the bytes break. Time and memory are linear in `bytes.len()`.
pub fn read(bytes: &[u8]) -> Read<Bundle<'_>> {
    let have = to_u64(bytes.len());
    if !bytes.starts_with(&wire::MAGIC) {
        return Err(match have < 8 && wire::MAGIC.starts_with(bytes) {
            true => ReadError::Truncated { have, want: to_u64(size_of::<wire::Header>()) },
            false => ReadError::NotABundle,
        });
    }
    if have > limits::BUNDLE {
        return Err(ReadError::TooLong { len: have });
    }
    let truncated = |want| ReadError::Truncated { have, want };
    let (header, _) = wire::Header::ref_from_prefix(bytes).map_err(|_| truncated(to_u64(size_of::<wire::Header>())))?;
    let signed_len = header_rules(header)?;
    if signed_len > have {
        return Err(truncated(signed_len));
    }
    let (signed, rest) = bytes.split_at_checked(to_usize(signed_len)).ok_or_else(|| truncated(signed_len))?;
    let digest = digest(header, signed);
    if digest.0 != header.digest {
        return Err(ReadError::Digest);
    }
    let sections = Sections::split(signed, usize::from(header.section_count.get()))?;
    let patch = Decoder::new(&sections)?.patch()?;
    check(&patch)?;
    Ok(Bundle { digest, patch, signed, signatures: signatures(rest)? })
}

/// Hands out the records of an owned table: each owner takes the next span, and all are taken in the end.
struct Spans<'a, T> {
    table: &'static str,
    rest: &'a [T],
    taken: u32,
}

impl<'a, T> Spans<'a, T> {
    fn take(&mut self, span: wire::Span) -> Read<&'a [T]> {
        let fail = |why| ReadError::Record { table: self.table, index: to_usize(u64::from(span.first.get())), why };
        if span.first.get() != self.taken {
            return Err(fail("it is not owned by the next record in order"));
        }
        let count = to_usize(u64::from(span.count.get()));
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(fail("its owner claims records past the end"))?;
        self.rest = rest;
        self.taken = self.taken.saturating_add(span.count.get());
        Ok(taken)
    }

    fn end(&self) -> Read<()> {
        let why = "it has no owner";
        let index = to_usize(u64::from(self.taken));
        if self.rest.is_empty() { Ok(()) } else { Err(ReadError::Record { table: self.table, index, why }) }
    }
}

/// STRINGS under the one rule that leaves no choice: each string stands there once, in order of first use.
///
/// A string that comes back is recognised by its place, so a file that names one long string a million times costs no
/// more than its bytes.
struct Strings<'a> {
    bytes: &'a [u8],
    /// Bytes of all strings so far; a new string starts here.
    used: u64,
    by_place: HashMap<(u32, u32), &'a str>,
    seen: HashSet<&'a str>,
}

impl<'a> Strings<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, used: 0, by_place: HashMap::new(), seen: HashSet::new() }
    }

    fn get(&mut self, r: wire::Ref) -> Result<Cow<'a, str>, &'static str> {
        let place = (r.off.get(), r.len.get());
        if let Some(known) = self.by_place.get(&place) {
            return Ok(Cow::Borrowed(known));
        }
        let (off, len) = (u64::from(place.0), u64::from(place.1));
        if off != self.used {
            return Err("a string is not the next one in STRINGS");
        }
        let end = off.saturating_add(len);
        let bytes = self.bytes.get(to_usize(off)..to_usize(end)).ok_or("a string lies outside STRINGS")?;
        let s = std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8")?;
        text(s)?;
        if !self.seen.insert(s) {
            return Err("a string stands in STRINGS twice");
        }
        self.used = end;
        self.by_place.insert(place, s);
        Ok(Cow::Borrowed(s))
    }

    fn end(&self) -> Result<(), &'static str> {
        if self.used == to_u64(self.bytes.len()) { Ok(()) } else { Err("bytes that no record names") }
    }
}

struct Decoder<'a> {
    patch: &'a wire::PatchRec,
    modules: &'a [wire::ModuleRec],
    areas: &'a [wire::AreaRec],
    fixups: &'a [wire::FixupRec],
    redirects: &'a [wire::RedirectRec],
    unwind: &'a [wire::UnwindRec],
    builds: Spans<'a, wire::BuildRec>,
    segments: Spans<'a, wire::SegmentRec>,
    image_segments: Spans<'a, wire::ImageSegmentRec>,
    candidates: Spans<'a, wire::CandidateRec>,
    fragments: Spans<'a, wire::FragmentRec>,
    bytes: Spans<'a, u8>,
    image: &'a [u8],
    image_len: usize,
    strings: Strings<'a>,
    meta: &'a [u8],
}

/// Names the record that a rule is about.
fn at<T>(table: &'static str, index: usize, r: Result<T, &'static str>) -> Read<T> {
    r.map_err(|why| ReadError::Record { table, index, why })
}

/// Reserved fields are 0, so that a later version can use them.
fn reserved(fields: &[u64]) -> Result<(), &'static str> {
    if fields.iter().all(|f| *f == 0) { Ok(()) } else { Err("a reserved field is not 0") }
}

impl<'a> Decoder<'a> {
    fn new(s: &Sections<'a>) -> Read<Self> {
        fn spans<'a, T>((rest, table): (&'a [T], &'static str)) -> Spans<'a, T> {
            Spans { table, rest, taken: 0 }
        }
        let [patch] = s.table(kind::PATCH)?.0 else {
            return at("PATCH", 0, Err("there must be exactly one"));
        };
        Ok(Self {
            patch,
            modules: s.table(kind::MODULES)?.0,
            areas: s.table(kind::AREAS)?.0,
            fixups: s.table(kind::FIXUPS)?.0,
            redirects: s.table(kind::REDIRECTS)?.0,
            unwind: s.table(kind::UNWIND)?.0,
            builds: spans(s.table(kind::BUILDS)?),
            segments: spans(s.table(kind::SEGMENTS)?),
            image_segments: spans(s.table(kind::IMAGE_SEGMENTS)?),
            candidates: spans(s.table(kind::CANDIDATES)?),
            fragments: spans(s.table(kind::FRAGMENTS)?),
            bytes: spans(s.table(kind::BYTES)?),
            image: s.body(kind::IMAGE).0,
            image_len: s.body(kind::IMAGE).0.len(),
            strings: Strings::new(s.body(kind::STRINGS).0),
            meta: s.body(kind::META).0,
        })
    }

    fn patch(mut self) -> Read<Patch<'a>> {
        let rec = self.patch;
        at("PATCH", 0, reserved(&[rec.reserved.get().into(), rec.reserved2.get(), u64::from(rec.flags.get() & !1)]))?;
        let patch = Patch {
            name: at("PATCH", 0, self.strings.get(rec.name))?,
            replace: rec.flags.get() & 1 == 1,
            gate: match (rec.gate_area.get(), rec.gate_off.get()) {
                (wire::NONE16, wire::NONE64) => None,
                (area, off) => Some((AreaId(area), AreaOff(off))),
            },
            modules: (0..).zip(self.modules).map(|(i, m)| self.module(i, m)).collect::<Read<_>>()?,
            areas: (0..).zip(self.areas).map(|(i, a)| self.area(i, a)).collect::<Read<_>>()?,
            fixups: (0..).zip(self.fixups).map(|(i, f)| self.fixup(i, f)).collect::<Read<_>>()?,
            redirects: (0..).zip(self.redirects).map(|(i, r)| self.redirect(i, r)).collect::<Read<_>>()?,
            unwind: (0..).zip(self.unwind).map(|(i, u)| unwind(i, u)).collect::<Read<_>>()?,
            meta: at("META", 0, std::str::from_utf8(self.meta).map_err(|_| "it is not UTF-8"))?.into(),
        };
        self.builds.end()?;
        self.segments.end()?;
        self.image_segments.end()?;
        self.candidates.end()?;
        self.fragments.end()?;
        self.bytes.end()?;
        at("IMAGE", 0, if self.image.is_empty() { Ok(()) } else { Err("bytes that no segment owns") })?;
        at("STRINGS", 0, self.strings.end())?;
        Ok(patch)
    }

    /// The next bytes of BYTES, which `r` must name.
    fn bytes(&mut self, r: wire::Ref) -> Read<Cow<'a, [u8]>> {
        self.bytes.take(wire::Span { first: r.off, count: r.len }).map(Cow::Borrowed)
    }

    fn module(&mut self, i: usize, m: &wire::ModuleRec) -> Read<Module<'a>> {
        at("MODULES", i, reserved(&[u64::from(m.flags.get() & !1), m.reserved.get().into()]))?;
        let name = at("MODULES", i, self.strings.get(m.name))?;
        let first = to_usize(u64::from(m.builds.first.get()));
        let builds = self.builds.take(m.builds)?;
        let builds = (first..).zip(builds).map(|(i, b)| self.build(i, b)).collect::<Read<_>>()?;
        Ok(Module { name, optional: m.flags.get() & 1 == 1, builds })
    }

    fn build(&mut self, i: usize, b: &wire::BuildRec) -> Read<Build<'a>> {
        at("BUILDS", i, reserved(&[b.reserved.get().into(), b.reserved2.get().into(), b.reserved3.get()]))?;
        let e_type = match b.e_type.get() {
            2 => ElfType::Exec,
            3 => ElfType::Dyn,
            _ => return at("BUILDS", i, Err("unknown e_type")),
        };
        let build_id = self.bytes(b.build_id)?;
        let first = to_usize(u64::from(b.segments.first.get()));
        let segments = self.segments.take(b.segments)?;
        let segment = |(i, s): (usize, &wire::SegmentRec)| {
            at("SEGMENTS", i, reserved(&[s.reserved.get().into()]))?;
            Ok(Segment {
                vaddr: LinkAddr(s.vaddr.get()),
                offset: FileOff(s.offset.get()),
                filesz: s.filesz.get(),
                memsz: s.memsz.get(),
                flags: s.flags.get(),
            })
        };
        Ok(Build {
            e_type,
            build_id,
            build_id_addr: LinkAddr(b.build_id_addr.get()),
            segments: (first..).zip(segments).map(segment).collect::<Read<_>>()?,
            proof: self.bytes(b.proof)?,
            proof_addr: LinkAddr(b.proof_addr.get()),
        })
    }

    fn area(&mut self, i: usize, a: &wire::AreaRec) -> Read<Area<'a>> {
        at("AREAS", i, reserved(&[a.reserved.get().into(), a.reserved2.get().into(), a.reserved3.get()]))?;
        let first = to_usize(u64::from(a.segments.first.get()));
        let segments = self.image_segments.take(a.segments)?;
        Ok(Area {
            near: (a.near.get() != wire::NONE16).then_some(ModuleId(a.near.get())),
            size: a.size.get(),
            segments: (first..).zip(segments).map(|(i, s)| self.image_segment(i, s)).collect::<Read<_>>()?,
        })
    }

    fn image_segment(&mut self, i: usize, s: &wire::ImageSegmentRec) -> Read<ImageSegment<'a>> {
        const TABLE: &str = "IMAGE_SEGMENTS";
        at(TABLE, i, reserved(&[s.reserved.get().into()]))?;
        let prot = match s.prot.get() {
            4 => Prot::Read,
            5 => Prot::ReadExec,
            6 => Prot::ReadWrite,
            _ => return at(TABLE, i, Err("its protection is not R, R-X or RW")),
        };
        let owned = to_u64(self.image_len.saturating_sub(self.image.len()));
        at(TABLE, i, if s.data_off.get() == owned { Ok(()) } else { Err("its data does not follow the one before") })?;
        let len = usize::try_from(s.data_len.get()).map_err(|_| "its data is cut off");
        let split = len.and_then(|len| self.image.split_at_checked(len).ok_or("its data is cut off"));
        let (data, rest) = at(TABLE, i, split)?;
        self.image = rest;
        Ok(ImageSegment { off: AreaOff(s.off.get()), size: s.size.get(), prot, data: data.into() })
    }

    fn fixup(&mut self, i: usize, f: &wire::FixupRec) -> Read<Fixup<'a>> {
        at("FIXUPS", i, reserved(&[f.reserved.into(), f.reserved2.get().into()]))?;
        let form = match f.form {
            1 => Form::Abs64,
            2 => Form::Rel32,
            _ => return at("FIXUPS", i, Err("unknown form")),
        };
        Ok(Fixup {
            area: AreaId(f.area.get()),
            place: AreaOff(f.place.get()),
            form,
            name: at("FIXUPS", i, self.strings.get(f.name))?,
            candidates: self.candidates(f.candidates)?,
        })
    }

    fn candidates(&mut self, span: wire::Span) -> Read<Vec<Candidate>> {
        let first = to_usize(u64::from(span.first.get()));
        let records = self.candidates.take(span)?;
        (first..).zip(records).map(|(i, c)| at("CANDIDATES", i, candidate(c))).collect()
    }

    fn redirect(&mut self, i: usize, r: &wire::RedirectRec) -> Read<Redirect<'a>> {
        const TABLE: &str = "REDIRECTS";
        at(TABLE, i, reserved(&[r.reserved.get().into(), r.reserved2.get().into(), r.reserved3.get().into()]))?;
        let name = at(TABLE, i, self.strings.get(r.name))?;
        let consistency = match r.consistency {
            0 => Consistency::Quiescent,
            1 => Consistency::Immediate,
            _ => return at(TABLE, i, Err("unknown consistency")),
        };
        let expected = self.bytes(r.expected)?;
        let first = to_usize(u64::from(r.fragments.first.get()));
        let fragments = self.fragments.take(r.fragments)?;
        let fragments = (first..).zip(fragments).map(|(i, f)| self.fragment(i, f)).collect::<Read<Vec<_>>>()?;
        let new_bytes = self.bytes(r.new_bytes)?;
        let new = self.candidates(r.new_value)?;
        let expected_value = self.candidates(r.expected_value)?;
        let code = [r.original.get(), r.gate.get(), r.far.get()];
        let no_code = r.island.get() == wire::NONE16 && code == [wire::NONE64; 3] && fragments.is_empty();
        let offset = |off: u64| (off != wire::NONE64).then_some(AreaOff(off));
        let change = match r.kind {
            1 if new_bytes.is_empty() => Change::Jump(Jump {
                function: LinkAddr(r.addr.get()),
                site: LinkAddr(r.site.get()),
                expected,
                fragments,
                new,
                island: AreaId(r.island.get()),
                original: offset(r.original.get()),
                gate: offset(r.gate.get()),
                far: offset(r.far.get()),
                chosen: expected_value,
            }),
            2 if no_code && expected.is_empty() && new_bytes.is_empty() && r.site.get() == 0 => {
                Change::Slot(Slot { slot: LinkAddr(r.addr.get()), expected: expected_value, new })
            }
            3 if no_code && new.is_empty() && expected_value.is_empty() && r.site.get() == 0 => {
                Change::Data(Data { addr: LinkAddr(r.addr.get()), expected, new: new_bytes })
            }
            1..=3 => return at(TABLE, i, Err("a field is set that its kind does not use")),
            _ => return at(TABLE, i, Err("unknown kind")),
        };
        Ok(Redirect { module: ModuleId(r.module.get()), build: BuildIdx(r.build.get()), name, consistency, change })
    }

    fn fragment(&mut self, i: usize, f: &wire::FragmentRec) -> Read<Fragment<'a>> {
        Ok(Fragment {
            name: at("FRAGMENTS", i, self.strings.get(f.name))?,
            addr: LinkAddr(f.addr.get()),
            size: f.size.get(),
            bytes: self.bytes(f.bytes)?,
        })
    }
}

fn unwind(i: usize, u: &wire::UnwindRec) -> Read<Unwind> {
    at("UNWIND", i, reserved(&[u.reserved.get().into()]))?;
    Ok(Unwind {
        area: AreaId(u.area.get()),
        provider: (u.provider.get() != wire::NONE16).then_some(ModuleId(u.provider.get())),
        enter: AreaOff(u.enter.get()),
        leave: AreaOff(u.leave.get()),
        done: AreaOff(u.done.get()),
        eh_frame: AreaOff(u.eh_frame.get()),
        eh_frame_len: u.eh_frame_len.get(),
    })
}

fn candidate(c: &wire::CandidateRec) -> Result<Candidate, &'static str> {
    reserved(&[u64::from(c.flags & !1)])?;
    let (index, value) = (c.index.get(), c.value.get());
    let decoded = match c.kind {
        1 => Value::Abs(value),
        2 => Value::Patch { area: AreaId(index), off: AreaOff(value) },
        3 => Value::Module { module: ModuleId(index), addr: LinkAddr(value) },
        4 => Value::Witness { module: ModuleId(index), slot: LinkAddr(value), unbound: c.unbound.get() },
        5 => Value::Original { redirect: u32::try_from(value).map_err(|_| "a value names no redirect")? },
        _ => return Err("unknown kind"),
    };
    if (matches!(c.kind, 1 | 5) && index != wire::NONE16) || (c.kind != 4 && c.unbound.get() != 0) {
        return Err("a field is set that its kind does not use");
    }
    let guard = match (c.guard_module.get(), c.guard_build.get()) {
        (wire::NONE16, wire::NONE16) => None,
        (module, build) => Some((ModuleId(module), BuildIdx(build))),
    };
    Ok(Candidate { guard, closed: c.flags & 1 == 1, value: decoded, delta: c.delta.get() })
}
