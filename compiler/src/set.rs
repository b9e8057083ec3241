//! `--set`: plain data of the target, and pointers in it.

use crate::arch::x86_64::RelocKind;
use crate::finding::{Explain, Finding, Findings};
use crate::read::elf::Object;
use crate::resolve::Resolver;
use crate::resolve::local::{self, LocateError};
use crate::resolve::scope::ObjectId;
use crate::spec::{SetSpec, SetValue};
use lpb::addr::to_u64;
use lpb::{BuildIdx, Candidate, Change, Data, LinkAddr, Slot};
use object::elf;
use std::borrow::Cow;

/// Why data cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error("cannot set {name}: {source}")]
    Locate { name: String, source: LocateError },
    #[error("cannot set {name}: {len} bytes at offset {offset} do not fit its {size} bytes")]
    Size { name: String, offset: u64, len: u64, size: u64 },
    #[error("cannot set {name} at {at}: it is {what}")]
    Place { name: String, at: LinkAddr, what: &'static str },
    #[error("cannot set {name}: the old value has {old} bytes, the new one {new}")]
    Lengths { name: String, old: u64, new: u64 },
    #[error("cannot set {name} at {at}: {why}, so its content is not known from the file")]
    Unknown { name: String, at: LinkAddr, why: &'static str },
}

impl Explain for SetError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Locate { source, .. } => return source.hint(),
            Self::Size { .. } => "choose the type that the variable has, or a shorter value",
            Self::Place { .. } => "set variables in data segments; pointers must be 8-aligned",
            Self::Lengths { .. } => "give old and new value the same length",
            Self::Unknown { .. } => "write pointers with addr:SYMBOL; for other data say the old value: TYPE:OLD->NEW",
        };
        Some(text.to_owned())
    }
}

/// One change of the data of one build.
#[derive(Debug)]
pub struct Write {
    /// Which `--set` or, behind these, which `--slot` it is for. All slots of a `--slot` may hold the same values.
    pub number: usize,
    pub object: ObjectId,
    pub build: BuildIdx,
    pub name: String,
    pub change: Change<'static>,
    /// What `--slot` calls the new function.
    pub new: Option<String>,
}

/// Turns every `--set` into a change.
pub fn changes(resolver: &mut Resolver<'_>, sets: &[SetSpec], findings: &mut Findings) -> Vec<Write> {
    sets.iter().enumerate().filter_map(|(number, set)| findings.keep(change(resolver, number, set))).collect()
}

fn change(resolver: &mut Resolver<'_>, number: usize, set: &SetSpec) -> Result<Write, Finding> {
    let name = match set.offset {
        0 => set.symbol.to_string(),
        n => format!("{}+{n:#x}", set.symbol),
    };
    let def =
        local::locate(resolver.scope, &set.symbol).map_err(|source| SetError::Locate { name: name.clone(), source })?;
    let at = def.symbol.value;
    let place = |what| SetError::Place { name: name.clone(), at, what };
    let object = resolver.scope.get(def.object).ok_or_else(|| place("in no module"))?;
    if def.symbol.kind == elf::STT_TLS {
        return Err(place("thread-local").into());
    }
    let len = match &set.value {
        SetValue::Bytes { new, .. } => to_u64(new.len()),
        SetValue::Address { .. } => 8,
    };
    let end = set.offset.checked_add(len);
    if def.symbol.size != 0 && end.is_none_or(|e| e > def.symbol.size) {
        return Err(SetError::Size { name, offset: set.offset, len, size: def.symbol.size }.into());
    }
    let at = at.plus(set.offset).ok_or_else(|| place("outside the module"))?;
    let load = object.load_of(at, len).ok_or_else(|| place("outside the module"))?;
    if load.flags & elf::PF_X.0 != 0 {
        return Err(place("in an executable segment").into());
    }
    let change = match &set.value {
        SetValue::Bytes { old, new } => bytes(object, &name, at, old.as_deref(), new)?,
        SetValue::Address { old, new } => {
            if at.0 % 8 != 0 {
                return Err(place("not 8-aligned").into());
            }
            let expected: Vec<Candidate> = match old {
                Some(old) => resolver.address(old, &name)?,
                None => resolver.stored(def.object, at)?,
            };
            // What stands there says for itself who was found.
            let expected = expected.into_iter().map(|c| Candidate { closed: false, ..c }).collect();
            Change::Slot(Slot { slot: at, expected, new: resolver.address(new, &name)? })
        }
    };
    let build = resolver.scope.build(def.object);
    Ok(Write { number, object: def.object, build, name, change, new: None })
}

fn bytes(
    object: &Object,
    name: &str,
    at: LinkAddr,
    old: Option<&[u8]>,
    new: &[u8],
) -> Result<Change<'static>, Finding> {
    let len = to_u64(new.len());
    let touches = |place: LinkAddr, width: u64| {
        let before = at.since(place).is_some_and(|n| n < width);
        before || place.since(at).is_some_and(|n| n < len)
    };
    if let Some(old) = old.filter(|o| o.len() != new.len()) {
        return Err(SetError::Lengths { name: name.to_owned(), old: to_u64(old.len()), new: len }.into());
    }
    let unknown = |why| Finding::from(SetError::Unknown { name: name.to_owned(), at, why });
    let relocs = &object.dynamic.relocs;
    let copied = relocs.iter().filter(|r| r.kind() == RelocKind::Copy).any(|r| {
        let size = object.dynamic.symbol_of(r).map_or(8, |s| s.size);
        touches(r.place, size)
    });
    let pointer = relocs.iter().filter(|r| r.kind() != RelocKind::Copy).any(|r| touches(r.place, 8))
        || object.dynamic.relr.iter().any(|p| touches(*p, 8));
    if old.is_none() && copied {
        return Err(unknown("it is a copy of a library's variable"));
    }
    if old.is_none() && pointer {
        return Err(unknown("the loader stores an address there"));
    }
    let expected = match old {
        Some(old) => old.to_vec(),
        None => object.memory(at, len)?,
    };
    Ok(Change::Data(Data { addr: at, expected: Cow::Owned(expected), new: Cow::Owned(new.to_vec()) }))
}
