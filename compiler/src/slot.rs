//! `--slot`: the calls that one module makes to a function of another.
//!
//! ```text
//! shop   call puts@plt ─► jmp *[slot] ─► slot of shop ──┬─(before)─► puts of libc ◄─────────────┐
//!                                                       └─(after)──► new_puts of the patch ─────┤
//! libx   call puts@plt ─► jmp *[slot] ─► slot of libx ──────(always)────────────────────────────┘
//! ```
//! A module has up to two slots for a function: a JUMP_SLOT that its calls go through, and a GLOB_DAT that it takes the
//! address from (and with `-fno-plt` calls through). Both are redirected. What the patch itself calls by that name stays
//! what it was: its imports are looked up before anything is changed.

use crate::arch::x86_64::RelocKind;
use crate::finding::{Explain, Finding, Findings};
use crate::read::dynamic::Reloc;
use crate::read::elf::Object;
use crate::read::patch;
use crate::resolve::scope::{Class, ObjectId, Scope};
use crate::resolve::witness::has_canonical_plt;
use crate::resolve::{Own, Resolver, near};
use crate::set::Write;
use crate::spec::SlotSpec;
use lpb::{Candidate, Change, LinkAddr, Slot};
use object::elf;

/// Why an import cannot be redirected.
#[derive(Debug, thiserror::Error)]
enum SlotError {
    #[error("--slot {given}: the target loads no module {module}")]
    NoModule { given: String, module: String, modules: Vec<String> },
    #[error("--slot {given}: {module} has no slot for {symbol}{}", if *.own { ", which it defines itself" } else { "" })]
    NoSlot { given: String, module: String, symbol: String, own: bool, near: Vec<String> },
    #[error("--slot {given}: {symbol} is a variable of {module}")]
    Variable { given: String, symbol: String, module: String },
    #[error("--slot {given}: neither the patch nor the target has a function {new}")]
    NoNew { given: String, new: String, near: Vec<String>, hint: Option<String> },
    #[error("--slot {given}: {new} at {at} does not lie in the code of the patch")]
    NewOutside { given: String, new: String, at: LinkAddr },
}

impl Explain for SlotError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoModule { modules, .. } => format!("the modules are {}", modules.join(", ")),
            Self::NoSlot { near, .. } if !near.is_empty() => {
                format!("similar names that it calls through slots: {}", near.join(", "))
            }
            Self::NoSlot { own: true, module, symbol, .. } => {
                format!("its calls do not go through a slot: replace the function with --replace {module}:{symbol}=NEW")
            }
            Self::NoSlot { module, .. } => {
                format!(
                    "see what it calls through slots: `readelf -rW {module}`, R_X86_64_JUMP_SLOT and R_X86_64_GLOB_DAT"
                )
            }
            Self::Variable { .. } => "set data with --set".to_owned(),
            Self::NoNew { near, hint, .. } if near.is_empty() => return hint.clone(),
            Self::NoNew { near, .. } => format!("similar names in the patch: {}", near.join(", ")),
            Self::NewOutside { .. } => "link the patch again: its symbol table and its segments disagree".to_owned(),
        })
    }
}

/// Turns every `--slot` into changes, one for each slot; they are numbered from `first`.
pub fn changes(
    resolver: &mut Resolver<'_>,
    own: &Own<'_>,
    slots: &[SlotSpec],
    first: usize,
    findings: &mut Findings,
) -> Vec<Write> {
    let numbered = (first..).zip(slots);
    numbered.filter_map(|(n, slot)| findings.keep(redirect(resolver, own, n, slot))).flatten().collect()
}

/// The function of the patch that a `--slot` names.
pub fn new_code(patch: &Object, slot: &SlotSpec) -> Option<LinkAddr> {
    if !slot.new.prefixes.is_empty() {
        return None;
    }
    let is_new = |name: &str| name == slot.new.name;
    patch::symbols(patch).find(|(s, name)| s.is_function() && s.is_defined() && is_new(name)).map(|(s, _)| s.value)
}

fn redirect(
    resolver: &mut Resolver<'_>,
    own: &Own<'_>,
    number: usize,
    given: &SlotSpec,
) -> Result<Vec<Write>, Finding> {
    let scope = resolver.scope;
    let module = scope.by_name(&given.module).and_then(|id| Some((id, scope.get(id)?)));
    let (id, object) = module.ok_or_else(|| SlotError::NoModule {
        given: given.to_string(),
        module: given.module.clone(),
        modules: scope.iter().map(|(_, o)| o.name.clone()).collect(),
    })?;
    let relocs = relocs(object, given);
    if !relocs.iter().any(|r| r.kind().is_slot()) {
        let defined =
            object.dynamic.symbols.named(given.symbol.as_bytes()).chain(object.symtab.named(given.symbol.as_bytes()));
        return Err(SlotError::NoSlot {
            given: given.to_string(),
            module: object.name.clone(),
            symbol: given.symbol.clone(),
            own: defined.into_iter().any(|s| s.is_function() && s.is_defined()),
            near: near::slots_of(object, &given.symbol),
        }
        .into());
    }
    let new = new_value(resolver, own, given)?;
    let mut places: Vec<(LinkAddr, String)> = Vec::new();
    let mut expected: Vec<Candidate> = Vec::new();
    for reloc in relocs.iter().filter(|r| r.kind().is_slot()) {
        refuse_variable(scope, object, reloc, given)?;
        for candidate in resolver.stored(id, reloc.place)? {
            // What stands there says for itself who was found.
            let candidate = Candidate { closed: false, ..candidate };
            if !expected.contains(&candidate) {
                expected.push(candidate);
            }
        }
        let version = object.dynamic.symbol_of(reloc).and_then(|s| object.dynamic.version(s));
        let version = version.map(|v| format!("@{}", v.name)).unwrap_or_default();
        places.push((reloc.place, format!("{}:{}{version}", given.module, given.symbol)));
    }
    note_limits(resolver, id, object, &relocs, given);
    let build = resolver.scope.build(id);
    let write = |(slot, name)| {
        let change = Change::Slot(Slot { slot, expected: expected.clone(), new: new.clone() });
        let new = Some(given.new.to_string());
        Write { number, object: id, build, name, change, new }
    };
    Ok(places.into_iter().map(write).collect())
}

/// The module's relocations for the symbol.
fn relocs(object: &Object, given: &SlotSpec) -> Vec<Reloc> {
    let dynamic = &object.dynamic;
    let meant = |r: &&Reloc| {
        dynamic.symbol_of(r).is_some_and(|s| {
            let version = dynamic.version(s).map(|v| v.name.as_str());
            dynamic.symbols.name(s) == given.symbol.as_bytes()
                && (given.version.is_none() || given.version.as_deref() == version)
        })
    };
    dynamic.relocs.iter().filter(meant).copied().collect()
}

/// A slot may lead to data as well (`stdout`): calls do not go there.
fn refuse_variable(scope: &Scope, object: &Object, reloc: &Reloc, given: &SlotSpec) -> Result<(), SlotError> {
    let Some(symbol) = object.dynamic.symbol_of(reloc) else { return Ok(()) };
    let name = given.symbol.as_bytes();
    let want = scope.want(name, object.dynamic.version(symbol).map(|v| v.name.as_str()));
    let def = scope.lookup(name, &want, Class::Address);
    let data = |kind| [elf::STT_OBJECT, elf::STT_COMMON, elf::STT_TLS].contains(&kind);
    match def.filter(|d| data(d.symbol.kind)) {
        None => Ok(()),
        Some(def) => Err(SlotError::Variable {
            given: given.to_string(),
            symbol: given.symbol.clone(),
            module: scope.name(def.object),
        }),
    }
}

fn new_value(resolver: &mut Resolver<'_>, own: &Own<'_>, given: &SlotSpec) -> Result<Vec<Candidate>, Finding> {
    let new = given.new.to_string();
    if let Some(at) = new_code(own.patch, given) {
        let value = own.image.value(at).filter(|_| own.image.is_code(at));
        let outside = || SlotError::NewOutside { given: given.to_string(), new, at };
        return Ok(vec![Candidate::of(value.ok_or_else(outside)?)]);
    }
    resolver.address(&given.new, &given.to_string()).map_err(|finding| {
        let near = near::defined_by(own.patch, &given.new.name);
        SlotError::NoNew { given: given.to_string(), new, near, hint: finding.hint }.into()
    })
}

/// Says what of the module does not go through the slots, or more than the module does.
fn note_limits(resolver: &mut Resolver<'_>, id: ObjectId, object: &Object, relocs: &[Reloc], given: &SlotSpec) {
    let pointers: Vec<LinkAddr> = relocs.iter().filter(|r| r.kind() == RelocKind::Abs64).map(|r| r.place).collect();
    let mut notes = Vec::new();
    if let Some(first) = pointers.first() {
        let count = match pointers.len() {
            1 => "1 pointer".to_owned(),
            n => format!("{n} pointers"),
        };
        notes.push(format!("{given}: {count} in its data (first at {first}) still to the old function: see --set"));
    }
    if id == Scope::TARGET && has_canonical_plt(resolver.scope, given.symbol.as_bytes()) {
        notes.push(format!(
            "{given}: the function's address is a PLT entry of {} in all modules, so their calls by pointer change too",
            object.name
        ));
    }
    for note in notes {
        if !resolver.notes.contains(&note) {
            resolver.notes.push(note);
        }
    }
}
