//! Model to bytes. There is one encoding of a patch: sections in order of kind, spans and byte references in order of
//! their owners, each string once, in order of first use.

use crate::addr::to_u64;
use crate::check::{CheckError, check, text};
use crate::limits;
use crate::model::*;
use crate::wire::{self, kind};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use zerocopy::{Immutable, IntoBytes};

/// Why a patch cannot be written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The patch breaks a rule of the format.
    #[error("the patch breaks a rule of the bundle format: {0}")]
    Check(#[from] CheckError),
    /// A table or blob outgrew its 32-bit field, or the file its limit.
    #[error("the bundle would be larger than {} MiB", limits::BUNDLE >> 20)]
    TooLarge,
}

/// Writes an unsigned bundle. Same patch, same bytes.
///
/// # Errors
/// [`WriteError::Check`] with the first rule that the patch breaks; [`WriteError::TooLarge`] past [`limits::BUNDLE`].
pub fn write(patch: &Patch<'_>) -> Result<Vec<u8>, WriteError> {
    check(patch)?;
    let mut tables = Tables::default();
    tables.patch(patch)?;
    tables.file()
}

/// The sections under construction.
#[derive(Default)]
struct Tables<'a> {
    patch: Vec<u8>,
    modules: Vec<u8>,
    builds: Table,
    segments: Table,
    areas: Vec<u8>,
    image_segments: Table,
    image: Vec<u8>,
    fixups: Vec<u8>,
    candidates: Table,
    redirects: Vec<u8>,
    fragments: Table,
    unwind: Vec<u8>,
    strings: Vec<u8>,
    bytes: Vec<u8>,
    meta: Vec<u8>,
    known: HashMap<&'a str, wire::Ref>,
}

/// A table whose records are owned in spans.
#[derive(Default)]
struct Table {
    bytes: Vec<u8>,
    count: u32,
}

impl Table {
    fn span(&mut self, records: Vec<impl IntoBytes + Immutable>) -> Result<wire::Span, WriteError> {
        let count = small(records.len())?;
        let span = wire::Span { first: self.count.into(), count: count.into() };
        self.count = self.count.checked_add(count).ok_or(WriteError::TooLarge)?;
        records.iter().for_each(|r| self.bytes.extend_from_slice(r.as_bytes()));
        Ok(span)
    }
}

fn small(n: usize) -> Result<u32, WriteError> {
    u32::try_from(n).map_err(|_| WriteError::TooLarge)
}

/// Appends `data` to `blob` and says where it is.
fn append(blob: &mut Vec<u8>, data: &[u8]) -> Result<wire::Ref, WriteError> {
    let at = wire::Ref { off: small(blob.len())?.into(), len: small(data.len())?.into() };
    blob.extend_from_slice(data);
    Ok(at)
}

impl<'a> Tables<'a> {
    fn string(&mut self, s: &'a str) -> Result<wire::Ref, WriteError> {
        if let Some(at) = self.known.get(s) {
            return Ok(*at);
        }
        text(s).map_err(|why| CheckError { part: "text", index: None, why })?;
        let at = append(&mut self.strings, s.as_bytes())?;
        self.known.insert(s, at);
        Ok(at)
    }

    fn patch(&mut self, patch: &'a Patch<'_>) -> Result<(), WriteError> {
        let (gate_area, gate_off) = patch.gate.map_or((wire::NONE16, wire::NONE64), |(a, off)| (a.0, off.0));
        let rec = wire::PatchRec {
            name: self.string(&patch.name)?,
            flags: u32::from(patch.replace).into(),
            gate_area: gate_area.into(),
            reserved: 0.into(),
            gate_off: gate_off.into(),
            reserved2: 0.into(),
        };
        self.patch.extend_from_slice(rec.as_bytes());
        patch.modules.iter().try_for_each(|m| self.module(m))?;
        patch.areas.iter().try_for_each(|a| self.area(a))?;
        patch.fixups.iter().try_for_each(|f| self.fixup(f))?;
        patch.redirects.iter().try_for_each(|r| self.redirect(r))?;
        patch.unwind.iter().for_each(|u| self.unwind(u));
        self.meta.extend_from_slice(patch.meta.as_bytes());
        Ok(())
    }

    fn module(&mut self, m: &'a Module<'_>) -> Result<(), WriteError> {
        let mut builds = Vec::new();
        for b in &m.builds {
            let e_type = match b.e_type {
                ElfType::Exec => 2,
                ElfType::Dyn => 3,
            };
            builds.push(wire::BuildRec {
                build_id: append(&mut self.bytes, &b.build_id)?,
                build_id_addr: b.build_id_addr.0.into(),
                segments: self.segments.span(b.segments.iter().map(segment).collect())?,
                e_type: e_type.into(),
                reserved: 0.into(),
                reserved2: 0.into(),
                proof: append(&mut self.bytes, &b.proof)?,
                proof_addr: b.proof_addr.0.into(),
                reserved3: 0.into(),
            });
        }
        let rec = wire::ModuleRec {
            name: self.string(&m.name)?,
            builds: self.builds.span(builds)?,
            flags: u32::from(m.optional).into(),
            reserved: 0.into(),
        };
        self.modules.extend_from_slice(rec.as_bytes());
        Ok(())
    }

    fn area(&mut self, a: &'a Area<'_>) -> Result<(), WriteError> {
        let mut segments = Vec::new();
        for s in &a.segments {
            let prot: u32 = match s.prot {
                Prot::Read => 4,
                Prot::ReadExec => 5,
                Prot::ReadWrite => 6,
            };
            segments.push(wire::ImageSegmentRec {
                off: s.off.0.into(),
                size: s.size.into(),
                data_off: to_u64(self.image.len()).into(),
                data_len: to_u64(s.data.len()).into(),
                prot: prot.into(),
                reserved: 0.into(),
            });
            self.image.extend_from_slice(&s.data);
        }
        let rec = wire::AreaRec {
            near: a.near.map_or(wire::NONE16, |m| m.0).into(),
            reserved: 0.into(),
            reserved2: 0.into(),
            size: a.size.into(),
            segments: self.image_segments.span(segments)?,
            reserved3: 0.into(),
        };
        self.areas.extend_from_slice(rec.as_bytes());
        Ok(())
    }

    fn fixup(&mut self, f: &'a Fixup<'_>) -> Result<(), WriteError> {
        let rec = wire::FixupRec {
            place: f.place.0.into(),
            name: self.string(&f.name)?,
            candidates: self.candidates(&f.candidates)?,
            area: f.area.0.into(),
            form: match f.form {
                Form::Abs64 => 1,
                Form::Rel32 => 2,
            },
            reserved: 0,
            reserved2: 0.into(),
        };
        self.fixups.extend_from_slice(rec.as_bytes());
        Ok(())
    }

    fn candidates(&mut self, list: &[Candidate]) -> Result<wire::Span, WriteError> {
        self.candidates.span(list.iter().map(candidate).collect())
    }

    fn redirect(&mut self, r: &'a Redirect<'_>) -> Result<(), WriteError> {
        let mut rec = wire::RedirectRec {
            kind: 0,
            consistency: match r.consistency {
                Consistency::Quiescent => 0,
                Consistency::Immediate => 1,
            },
            module: r.module.0.into(),
            build: r.build.0.into(),
            reserved: 0.into(),
            name: self.string(&r.name)?,
            addr: 0.into(),
            site: 0.into(),
            fragments: self.fragments.span(Vec::<wire::FragmentRec>::new())?,
            expected: append(&mut self.bytes, &[])?,
            new_value: self.candidates(&[])?,
            new_bytes: append(&mut self.bytes, &[])?,
            island: wire::NONE16.into(),
            reserved2: 0.into(),
            reserved3: 0.into(),
            original: wire::NONE64.into(),
            gate: wire::NONE64.into(),
            far: wire::NONE64.into(),
            expected_value: self.candidates(&[])?,
        };
        match &r.change {
            Change::Jump(j) => self.jump(&mut rec, j)?,
            Change::Slot(s) => {
                rec.kind = 2;
                rec.addr = s.slot.0.into();
                rec.new_value = self.candidates(&s.new)?;
                rec.expected_value = self.candidates(&s.expected)?;
            }
            Change::Data(d) => {
                rec.kind = 3;
                rec.addr = d.addr.0.into();
                rec.expected = append(&mut self.bytes, &d.expected)?;
                rec.new_bytes = append(&mut self.bytes, &d.new)?;
            }
        }
        self.redirects.extend_from_slice(rec.as_bytes());
        Ok(())
    }

    fn jump(&mut self, rec: &mut wire::RedirectRec, j: &'a Jump<'_>) -> Result<(), WriteError> {
        let offset = |off: Option<crate::AreaOff>| off.map_or(wire::NONE64, |o| o.0).into();
        rec.kind = 1;
        rec.addr = j.function.0.into();
        rec.site = j.site.0.into();
        rec.expected = append(&mut self.bytes, &j.expected)?;
        let mut fragments = Vec::new();
        for f in &j.fragments {
            fragments.push(wire::FragmentRec {
                addr: f.addr.0.into(),
                size: f.size.into(),
                bytes: append(&mut self.bytes, &f.bytes)?,
                name: self.string(&f.name)?,
            });
        }
        rec.fragments = self.fragments.span(fragments)?;
        rec.new_bytes = append(&mut self.bytes, &[])?;
        rec.new_value = self.candidates(&j.new)?;
        rec.expected_value = self.candidates(&j.chosen)?;
        rec.island = j.island.0.into();
        rec.original = offset(j.original);
        rec.gate = offset(j.gate);
        rec.far = offset(j.far);
        Ok(())
    }

    fn unwind(&mut self, u: &Unwind) {
        let rec = wire::UnwindRec {
            area: u.area.0.into(),
            provider: u.provider.map_or(wire::NONE16, |m| m.0).into(),
            reserved: 0.into(),
            enter: u.enter.0.into(),
            leave: u.leave.0.into(),
            done: u.done.0.into(),
            eh_frame: u.eh_frame.0.into(),
            eh_frame_len: u.eh_frame_len.into(),
        };
        self.unwind.extend_from_slice(rec.as_bytes());
    }

    /// Header, section table, sections, digest. Empty sections are left out.
    fn file(self) -> Result<Vec<u8>, WriteError> {
        let sections = [
            (kind::PATCH, self.patch, size_of::<wire::PatchRec>()),
            (kind::MODULES, self.modules, size_of::<wire::ModuleRec>()),
            (kind::BUILDS, self.builds.bytes, size_of::<wire::BuildRec>()),
            (kind::SEGMENTS, self.segments.bytes, size_of::<wire::SegmentRec>()),
            (kind::AREAS, self.areas, size_of::<wire::AreaRec>()),
            (kind::IMAGE_SEGMENTS, self.image_segments.bytes, size_of::<wire::ImageSegmentRec>()),
            (kind::IMAGE, self.image, 1),
            (kind::FIXUPS, self.fixups, size_of::<wire::FixupRec>()),
            (kind::CANDIDATES, self.candidates.bytes, size_of::<wire::CandidateRec>()),
            (kind::REDIRECTS, self.redirects, size_of::<wire::RedirectRec>()),
            (kind::FRAGMENTS, self.fragments.bytes, size_of::<wire::FragmentRec>()),
            (kind::UNWIND, self.unwind, size_of::<wire::UnwindRec>()),
            (kind::STRINGS, self.strings, 1),
            (kind::BYTES, self.bytes, 1),
            (kind::META, self.meta, 1),
        ];
        let present: Vec<_> = sections.into_iter().filter(|(_, body, _)| !body.is_empty()).collect();
        let table_end =
            present.len().saturating_mul(size_of::<wire::Section>()).saturating_add(size_of::<wire::Header>());
        let mut table = Vec::new();
        let mut bodies = Vec::new();
        for (kind, body, record_size) in &present {
            let section = wire::Section {
                kind: (*kind).into(),
                flags: if *kind == kind::META { 0 } else { wire::CRITICAL }.into(),
                offset: to_u64(table_end.saturating_add(bodies.len())).into(),
                len: to_u64(body.len()).into(),
                record_size: small(*record_size)?.into(),
                reserved: 0.into(),
            };
            table.extend_from_slice(section.as_bytes());
            bodies.extend_from_slice(body);
            bodies.resize(bodies.len().next_multiple_of(8), 0);
        }
        let signed_len = to_u64(table_end.saturating_add(bodies.len()));
        if signed_len > limits::BUNDLE {
            return Err(WriteError::TooLarge);
        }
        let mut header = wire::Header {
            magic: wire::MAGIC,
            version: wire::VERSION.into(),
            machine: wire::EM_X86_64.into(),
            section_count: u16::try_from(present.len()).map_err(|_| WriteError::TooLarge)?.into(),
            reserved: 0.into(),
            signed_len: signed_len.into(),
            reserved2: 0.into(),
            digest: [0; 32],
        };
        header.digest =
            Sha256::new().chain_update(header.as_bytes()).chain_update(&table).chain_update(&bodies).finalize().into();
        Ok([header.as_bytes(), &table, &bodies].concat())
    }
}

fn segment(s: &Segment) -> wire::SegmentRec {
    wire::SegmentRec {
        vaddr: s.vaddr.0.into(),
        offset: s.offset.0.into(),
        filesz: s.filesz.into(),
        memsz: s.memsz.into(),
        flags: s.flags.into(),
        reserved: 0.into(),
    }
}

fn candidate(c: &Candidate) -> wire::CandidateRec {
    let (kind, index, value, unbound) = match c.value {
        Value::Abs(v) => (1, wire::NONE16, v, 0),
        Value::Patch { area, off } => (2, area.0, off.0, 0),
        Value::Module { module, addr } => (3, module.0, addr.0, 0),
        Value::Witness { module, slot, unbound } => (4, module.0, slot.0, unbound),
        Value::Original { redirect } => (5, wire::NONE16, redirect.into(), 0),
    };
    let (guard_module, guard_build) = c.guard.map_or((wire::NONE16, wire::NONE16), |(m, b)| (m.0, b.0));
    wire::CandidateRec {
        kind,
        flags: u8::from(c.closed),
        index: index.into(),
        guard_module: guard_module.into(),
        guard_build: guard_build.into(),
        value: value.into(),
        delta: c.delta.into(),
        unbound: unbound.into(),
    }
}
