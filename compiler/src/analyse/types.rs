//! Do patch and target mean the same by the functions, variables and types that they share? Their debug information tells.
//!
//! ```text
//! prototype   replaced function ─ new function          layout   types of these, and of the variables that the patch
//!             function that the patch calls ─ its own            imports; types of one name in the files of an old
//!             declaration of it                                  function and of its new one
//! ```
//! Nothing is known of what a compiler does not write down: clang of variables that are only declared, and by default both
//! compilers of a class whose first virtual function is defined elsewhere (`-femit-class-debug-always`,
//! `-fstandalone-debug` write it down).

use super::function::Function;
use super::layouts::{Comparison, Difference};
use super::limits::LimitError;
use crate::finding::{Explain, Findings};
use crate::read::dwarf::shape::{EntryId, Source};
use crate::read::dwarf::types::Types;
use crate::read::elf::Object;
use crate::read::patch::Wanted;
use crate::resolve::local;
use crate::resolve::scope::{Class, Def, ObjectId, Scope};
use crate::rule::{self, Rule};
use crate::spec::Qualified;
use lpb::LinkAddr;
use object::elf;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How patch and target differ.
#[derive(Debug, thiserror::Error)]
pub enum TypeError {
    #[error("{name} has another prototype in the patch{}", new.as_ref().map(|new| format!(" ({new})")).unwrap_or_default())]
    Prototype { name: String, new: Option<String>, lines: Vec<String> },
    #[error("{name} {}", differs(*sizes))]
    Layout { name: String, sizes: (Option<u64>, Option<u64>), lines: Vec<String> },
    #[error("variable {name}: {text}")]
    Variable { name: String, text: String, resized: bool, lines: Vec<String> },
    #[error("{target} has debug information and the patch has none: types and prototypes are not compared")]
    NotCompared { target: String },
}

fn differs(sizes: (Option<u64>, Option<u64>)) -> String {
    match sizes {
        (Some(old), Some(new)) if old != new => format!("has {old} bytes in the target and {new} in the patch"),
        _ => "is not the same in the target and in the patch".to_owned(),
    }
}

impl Explain for TypeError {
    fn hint(&self) -> Option<String> {
        None
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(match self {
            Self::Prototype { .. } => &rule::PROTOTYPE,
            Self::Layout { .. } | Self::Variable { resized: false, .. } => &rule::LAYOUT,
            Self::Variable { .. } => &rule::CHANGED_SIZE,
            Self::NotCompared { .. } => &rule::PATCH_NO_DEBUG_INFO,
        })
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Prototype { lines, .. } | Self::Layout { lines, .. } | Self::Variable { lines, .. } => lines.clone(),
            Self::NotCompared { .. } => Vec::new(),
        }
    }
}

/// The patch, and what it is compared with.
pub struct Checked<'a> {
    pub scope: &'a Scope<'a>,
    /// Objects that the patch changes.
    pub patched: &'a [ObjectId],
    pub patch: &'a Object,
    pub wanted: &'a [Wanted],
    pub functions: &'a [Function],
    pub binds: &'a BTreeMap<String, Qualified>,
}

impl Checked<'_> {
    /// Compares everything that both describe.
    pub fn check(&self, findings: &mut Findings) {
        let debug = self.scope.closure().debug();
        let patch = debug.dwarf(self.patch).map(Types::of);
        let imports = self.imports(patch.as_ref());
        for id in self.patched {
            let Some(object) = self.scope.get(*id) else { continue };
            match (debug.dwarf(object), &patch) {
                (Some(dwarf), Some(patch)) => self.object(*id, &Types::of(dwarf), patch, &imports, findings),
                (Some(_), None) => findings.add(TypeError::NotCompared { target: object.name.clone() }),
                (None, Some(patch)) => sizes(*id, patch, &imports, findings),
                (None, None) => {}
            }
        }
    }

    fn object(
        &self,
        id: ObjectId,
        target: &Types<'_>,
        patch: &Types<'_>,
        imports: &[(String, Def, EntryId)],
        findings: &mut Findings,
    ) {
        let functions: Vec<&Function> = self.functions.iter().filter(|f| f.object == id).collect();
        let imports: Vec<_> = imports.iter().filter(|(_, def, _)| def.object == id).collect();
        let new_at = |f: &&Function| self.wanted.get(f.number).map(|w| w.new_addr);
        let code = imports.iter().filter(|(_, def, _)| def.symbol.is_function()).map(|(_, def, _)| def.symbol.value);
        // The value of a thread-local one is no address.
        let is_data = |def: &Def| !def.symbol.is_function() && def.symbol.kind != elf::STT_TLS;
        let data = imports.iter().filter(|(_, def, _)| is_data(def)).map(|(_, def, _)| def.symbol.value);
        let old_code = target.functions_at(&functions.iter().map(|f| f.addr).chain(code).collect());
        let new_code = patch.functions_at(&functions.iter().filter_map(new_at).collect());
        let old_data = target.variables_at(&data.collect::<HashSet<LinkAddr>>());
        let mut comparison = Comparison::new(target, patch);
        let mut homes = HashSet::new();
        for f in functions {
            let new = new_at(&f).and_then(|at| new_code.get(&at));
            let (Some(old), Some(new)) = (old_code.get(&f.addr), new) else { continue };
            let name = self.wanted.get(f.number).map(|w| w.new.clone());
            self.prototype(&mut comparison, target, patch, (old.entry, new.entry), (&f.name, name), findings);
            homes.insert((target.home(old.entry), patch.home(new.entry)));
        }
        for (name, def, mine) in imports {
            let at = def.symbol.value;
            if def.symbol.kind == elf::STT_TLS {
                continue;
            }
            if let Some(old) = old_code.get(&at) {
                self.prototype(&mut comparison, target, patch, (old.entry, *mine), (name, None), findings);
            } else if let Some(old) = old_data.get(&at) {
                variable(&mut comparison, target, patch, (old.entry, *mine), name, findings);
            }
        }
        let mut named: HashMap<usize, BTreeMap<String, EntryId>> = HashMap::new();
        for (old, new) in homes {
            let mine = named.entry(new).or_insert_with(|| patch.defined_in(new)).clone();
            let theirs = target.defined_in(old);
            for (name, id) in mine {
                if let Some(other) = theirs.get(&name) {
                    comparison.same(Some(*other), Some(id));
                }
            }
        }
        for Difference { name, sizes, lines } in comparison.differences() {
            findings.add(TypeError::Layout { name, sizes, lines });
        }
        if comparison.is_cut() {
            let name = self.scope.get(id).map(|object| object.name.clone()).unwrap_or_default();
            let limit = "they hold more types or fields, or types inside more types, than are compared".to_owned();
            findings.add(LimitError { what: "the types of", several: true, name, limit });
        }
    }

    fn prototype(
        &self,
        comparison: &mut Comparison<'_>,
        target: &Types<'_>,
        patch: &Types<'_>,
        (old, new): (EntryId, EntryId),
        (name, new_name): (&str, Option<String>),
        findings: &mut Findings,
    ) {
        let known = |types: &Types<'_>, id| types.is_c(id) && types.has_prototypes(id);
        if !known(target, old) || !known(patch, new) {
            return;
        }
        let mut lines = comparison.prototypes(&target.prototype(old), &patch.prototype(new));
        if lines.is_empty() {
            return;
        }
        lines.extend(places(target, patch, old, new));
        let new = new_name.filter(|new| new != name);
        findings.add(TypeError::Prototype { name: name.to_owned(), new, lines });
    }

    /// What the patch declares and the objects that it changes define: name, definition, the patch's declaration.
    fn imports(&self, patch: Option<&Types<'_>>) -> Vec<(String, Def, EntryId)> {
        let Some(patch) = patch else { return Vec::new() };
        let declared = patch.declarations();
        let symbols = &self.patch.dynamic.symbols;
        let mut seen = HashSet::new();
        let undefined = symbols.iter().filter(|s| !s.is_defined()).map(|s| symbols.text(s));
        let found = undefined.filter(|name| seen.insert(name.clone())).filter_map(|name| {
            let mine = *declared.get(&name)?;
            let def = self.definition(&name).filter(|def| self.patched.contains(&def.object))?;
            // What lies at the address of an IFUNC is its resolver, which takes and returns other things.
            let def = Some(def).filter(|def| def.symbol.kind != elf::STT_GNU_IFUNC)?;
            Some((name, def, mine))
        });
        found.collect()
    }

    /// The definition that a name of the patch means; the resolver says it if there is none or more than one.
    fn definition(&self, name: &str) -> Option<Def> {
        if let Some(given) = self.binds.get(name) {
            return local::locate(self.scope, given).ok();
        }
        let want = self.scope.want(name.as_bytes(), None);
        let inside = || self.patched.iter().find_map(|id| local::find(self.scope, *id, name).ok().flatten());
        self.scope.lookup(name.as_bytes(), &want, Class::Call).or_else(inside)
    }
}

/// A variable that the patch imports.
fn variable(
    comparison: &mut Comparison<'_>,
    target: &Types<'_>,
    patch: &Types<'_>,
    (old, new): (EntryId, EntryId),
    name: &str,
    findings: &mut Findings,
) {
    let (before, after) = (target.type_of(old), patch.type_of(new));
    if !target.is_c(old) || !patch.is_c(new) || before.is_none() || after.is_none() {
        return;
    }
    let sizes = (target.size(before), patch.size(after));
    // `extern int table[];` says nothing about the size.
    if comparison.same(before, after) {
        return;
    }
    let resized = sizes.0.is_some() && sizes.1.is_some() && sizes.0 != sizes.1;
    let (old_type, new_type) = comparison.describe(before, after);
    let text = format!("{old_type} in the target, {new_type} in the patch");
    let lines = places(target, patch, old, new).into_iter().collect();
    findings.add(TypeError::Variable { name: name.to_owned(), text, resized, lines });
}

/// Without debug information of the target, its symbols say how large its variables are.
fn sizes(id: ObjectId, patch: &Types<'_>, imports: &[(String, Def, EntryId)], findings: &mut Findings) {
    for (name, def, mine) in imports.iter().filter(|(_, def, _)| def.object == id && !def.symbol.is_function()) {
        let (old, of) = (def.symbol.size, patch.type_of(*mine));
        // A struct may be followed by the elements of its flexible array: only what is smaller is wrong for sure.
        let Some(new) = patch.size(of).filter(|new| patch.is_c(*mine) && old != 0 && *new != 0 && *new != old) else {
            continue;
        };
        let is_record = matches!(of.map(|of| patch.of(of).shape), Some(crate::read::dwarf::shape::Shape::Record(_)));
        if is_record && new < old {
            continue;
        }
        let text = format!("{old} bytes in the target, {} ({new} bytes) in the patch", patch.spell(of));
        let lines = patch.declared_at(*mine).map(|at| format!("declared in the patch at {at}")).into_iter().collect();
        findings.add(TypeError::Variable { name: name.clone(), text, resized: true, lines });
    }
}

/// `shop.c:12 in the target, fix.c:9 in the patch`
fn places(target: &Types<'_>, patch: &Types<'_>, old: EntryId, new: EntryId) -> Option<String> {
    let (old, new) = (target.declared_at(old)?, patch.declared_at(new)?);
    Some(format!("{old} in the target, {new} in the patch"))
}
