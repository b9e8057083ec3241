//! Slots of start-up modules that hold, in the live process, the very address a patch needs.
//!
//! ```text
//! 1. own slot of a patched module          exactly what the program itself calls
//! 2. (IFUNC) IRELATIVE slot of the library what its resolver chose for this CPU
//! 3. eager slots of other modules          GLOB_DAT, R_X86_64_64 in RELRO: filled at start-up
//! 4. lazy slots elsewhere                  JUMP_SLOT: hold only once bound
//! ```
//! A slot still unbound holds `bias + the word in the file`; lp-apply then takes the next candidate.

use super::scope::{Class, Def, ObjectId, Scope, lookup_in};
use crate::arch::x86_64::RelocKind;
use crate::read::ReadError;
use crate::read::dynamic::Reloc;
use crate::read::elf::Object;
use lpb::LinkAddr;
use std::collections::{HashMap, HashSet};

/// Slots of each rank that are kept, beside those of the patched modules. One that is filled at start-up will do; the
/// second is for a process in which that module is another build.
const EAGER: usize = 2;
/// Under lazy binding, any one of many may be the first that is bound.
const LAZY: usize = 8;

/// One slot.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub object: ObjectId,
    pub place: LinkAddr,
    /// What the slot holds beyond the symbol's address.
    pub addend: i64,
    /// The word in the file.
    pub unbound: u64,
    /// Filled by a lookup of the name, so that it shows an interposed definition. Not so an IRELATIVE slot.
    pub by_lookup: bool,
}

/// All slots of the closure for the names that a patch imports.
#[derive(Debug)]
pub struct Slots {
    by_name: HashMap<Vec<u8>, Vec<(ObjectId, Reloc)>>,
}

impl Slots {
    /// One pass over the relocations of all objects.
    pub fn gather(scope: &Scope, wanted: &HashSet<Vec<u8>>) -> Self {
        let mut by_name: HashMap<Vec<u8>, Vec<(ObjectId, Reloc)>> = HashMap::new();
        for (id, object) in scope.iter() {
            for reloc in &object.dynamic.relocs {
                let Some(symbol) = object.dynamic.symbol_of(reloc) else { continue };
                let name = object.dynamic.symbols.name(symbol);
                if is_witness(object, reloc) && wanted.contains(name) {
                    by_name.entry(name.to_vec()).or_default().push((id, *reloc));
                }
            }
        }
        Self { by_name }
    }

    /// Slots that the dynamic linker fills with the address of `def`, best first.
    pub fn of(
        &self,
        scope: &Scope,
        patched: &[ObjectId],
        name: &[u8],
        def: &Def,
        class: Class,
    ) -> Result<Vec<Slot>, ReadError> {
        let bound_here = |id: &ObjectId, reloc: &Reloc| binds_to(scope, *id, reloc, name, def, class);
        let all = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        let all: Vec<_> = all.iter().filter(|(id, reloc)| bound_here(id, reloc)).copied().collect();
        let own = |id: &ObjectId| patched.contains(id);
        let eager = |id: &ObjectId, r: &Reloc| {
            r.kind() != RelocKind::JumpSlot || scope.get(*id).is_some_and(|o| o.dynamic.bind_now)
        };
        let mut ranked: Vec<(ObjectId, Reloc)> = Vec::new();
        ranked.extend(all.iter().filter(|(id, _)| own(id)).copied());
        ranked.extend(irelative(scope, def).into_iter().map(|r| (def.object, r)));
        // What is opened later may have been opened with rules of its own, or be closed again. A program is not, though the
        // target may be a library that it uses.
        let lasting = |id: &ObjectId| scope.get(*id).is_some_and(|o| o.at_startup || o.is_program());
        let others = || all.iter().copied().filter(|(id, _)| !own(id) && lasting(id));
        ranked.extend(others().filter(|(id, r)| eager(id, r)).take(EAGER));
        ranked.extend(others().filter(|(id, r)| !eager(id, r)).take(LAZY));
        ranked.into_iter().map(|(id, reloc)| slot(scope, id, &reloc)).collect()
    }
}

fn slot(scope: &Scope, object: ObjectId, reloc: &Reloc) -> Result<Slot, ReadError> {
    let unbound = scope.get(object).map_or(Ok(0), |o| o.word(reloc.place))?;
    let addend = if reloc.kind() == RelocKind::Abs64 { reloc.addend } else { 0 };
    Ok(Slot { object, place: reloc.place, addend, unbound, by_lookup: reloc.kind() != RelocKind::IRelative })
}

/// Whether nobody but the dynamic linker writes there. A pointer in plain data may have been changed by the program.
fn is_witness(object: &Object, reloc: &Reloc) -> bool {
    match reloc.kind() {
        RelocKind::GlobDat | RelocKind::JumpSlot => true,
        RelocKind::Abs64 => object.in_relro(reloc.place),
        _ => false,
    }
}

/// Whether a slot's own reference (its version, its class) leads to the same definition.
fn binds_to(scope: &Scope, id: ObjectId, reloc: &Reloc, name: &[u8], def: &Def, class: Class) -> bool {
    let Some(object) = scope.get(id) else { return false };
    let Some(symbol) = object.dynamic.symbol_of(reloc) else { return false };
    let want = scope.want(name, object.dynamic.version(symbol).map(|v| v.name.as_str()));
    let slot_class = if reloc.kind() == RelocKind::JumpSlot { Class::Call } else { Class::Address };
    // An object that looks itself up first does not show what the others see.
    if object.dynamic.symbolic && lookup_in(object, name, &want, slot_class).is_some() {
        return false;
    }
    // With a canonical PLT entry, calls and addresses see different values.
    let found = scope.lookup(name, &want, slot_class).filter(|f| f.is_same(def));
    found.is_some() && (slot_class == class || !has_canonical_plt(scope, name))
}

/// Whether the executable's PLT entry is the function's address for everybody.
pub fn has_canonical_plt(scope: &Scope, name: &[u8]) -> bool {
    let target = scope.get(Scope::TARGET);
    target.is_some_and(|o| o.dynamic.symbols.named(name).any(|s| !s.is_defined() && s.value.0 != 0))
}

/// The slots that the defining object fills with what an IFUNC's resolver returns.
fn irelative(scope: &Scope, def: &Def) -> Vec<Reloc> {
    if def.symbol.kind != object::elf::STT_GNU_IFUNC {
        return Vec::new();
    }
    let relocs = scope.get(def.object).map(|o| o.dynamic.relocs.as_slice()).unwrap_or_default();
    let same = |r: &&Reloc| r.kind() == RelocKind::IRelative && r.addend.cast_unsigned() == def.symbol.value.0;
    relocs.iter().filter(same).take(EAGER).copied().collect()
}
