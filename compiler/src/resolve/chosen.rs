//! Where a process shows which implementation of an IFUNC it has chosen: the slots of `witness.rs`, in their order.

use super::Modules;
use super::scope::{Class, ObjectId, Scope};
use super::witness::Slots;
use crate::analyse::Function;
use crate::analyse::ifunc::{Ifunc, IfuncError};
use crate::finding::Findings;
use crate::read::ReadError;
use lpb::{Candidate, Value};
use std::collections::HashSet;

/// Finds the slots of every IFUNC that is replaced, those of all builds of other objects among them.
pub fn find(
    scopes: &[Scope<'_>],
    patched: &[ObjectId],
    functions: &mut [Function],
    modules: &mut Modules,
    findings: &mut Findings,
) -> Result<(), ReadError> {
    let names = functions.iter().filter_map(|f| Some(f.ifunc.as_ref()?.name.clone().into_bytes()));
    let names: HashSet<Vec<u8>> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    for scope in scopes {
        let slots = Slots::gather(scope, &names);
        for f in functions.iter_mut().filter(|f| f.build == scope.build(f.object)) {
            let Some(ifunc) = &mut f.ifunc else { continue };
            add(scope, &slots, patched, ifunc, modules)?;
        }
    }
    for ifunc in functions.iter().filter_map(|f| f.ifunc.as_ref()).filter(|ifunc| ifunc.chosen.is_empty()) {
        let (name, module) = (ifunc.name.clone(), scopes.first().map(|s| s.name(ifunc.def.object)).unwrap_or_default());
        let why = "no slot shows which implementation was chosen (name the programs that call it with --lib)";
        let chosen_by = |f: &&Function| f.ifunc.as_ref().is_some_and(|other| other.name == name);
        let lines = functions.iter().filter(chosen_by).map(|f| format!("{} at {}", f.name, f.addr)).collect();
        findings.add(IfuncError::Unknown { name, module, why, lines });
    }
    Ok(())
}

/// Adds the slots of one scope.
fn add(
    scope: &Scope<'_>,
    slots: &Slots,
    patched: &[ObjectId],
    ifunc: &mut Ifunc,
    modules: &mut Modules,
) -> Result<(), ReadError> {
    // What calls go through: the address of a function may be that of a PLT entry.
    for slot in slots.of(scope, patched, ifunc.name.as_bytes(), &ifunc.def, Class::Call)? {
        let module = modules.id(slot.object);
        let several = scope.closure().builds(slot.object).len() > 1;
        let guard = several.then(|| (module, scope.build(slot.object)));
        let value = Value::Witness { module, slot: slot.place, unbound: slot.unbound };
        let candidate = Candidate { guard, closed: false, value, delta: slot.addend.wrapping_neg() };
        if !ifunc.chosen.contains(&candidate) {
            ifunc.chosen.push(candidate);
        }
    }
    Ok(())
}
