//! One symbol: which definition is meant, and the ways to get its address.

use super::interpose::{How, is_harmless};
use super::local::{self, LocateError};
use super::scope::{Class, Def, ObjectId, Scope, Want, lookup_in};
use super::tls::GET_ADDR;
use super::{Asked, Own, ResolveError, Resolver, near};
use crate::arch::x86_64::RelocKind;
use crate::finding::Finding;
use crate::read::dynamic::Version;
use crate::read::elf::Object;
use crate::read::symbols::Symbol;
use crate::spec::Qualified;
use lpb::{Candidate, Value};
use object::elf;

/// The definition that a name means.
pub(super) struct Found {
    /// The name by which slots refer to it.
    pub name: String,
    pub def: Def,
    pub how: How,
}

impl Resolver<'_> {
    /// A name that the patch itself defines: listed new code is meant; else the dynamic linker would let the target win.
    pub(super) fn defined(
        &mut self,
        own: &Own<'_>,
        symbol: &Symbol,
        name: &str,
        class: Class,
        asked: &Asked,
    ) -> Result<Vec<Candidate>, Finding> {
        if let Some(given) = self.binds.get(name).cloned() {
            return self.bound(name, &given, class, asked);
        }
        let outside = || ResolveError::Outside { kind: asked.symbol.clone(), used_by: asked.used_by.clone() };
        let mine = own.image.value(symbol.value).map(|v| vec![Candidate::of(v)]);
        let preemptible = symbol.visibility == elf::STV_DEFAULT && symbol.bind != elf::STB_LOCAL;
        if !preemptible || own.new_functions.contains(&symbol.value) {
            return Ok(mine.ok_or_else(outside)?);
        }
        let vague = symbol.bind == elf::STB_WEAK || symbol.bind == elf::STB_GNU_UNIQUE;
        let is_function = own.patch.is_executable(symbol.value);
        match theirs_of(self.scope, self.patched, symbol, name, class) {
            // A function and a variable that happen to have one name.
            Some((def, _)) if self.is_code(&def) != is_function => Ok(mine.ok_or_else(outside)?),
            // Inline variables, static locals of inline functions, type information: one copy per program is meant.
            Some((def, how)) if is_function || vague => {
                self.of_def(&Found { name: name.to_owned(), def, how }, class, asked)
            }
            // Its own copy of a variable: `analyse::forks` has found it, so it is accepted.
            _ => Ok(mine.ok_or_else(outside)?),
        }
    }

    fn is_code(&self, def: &Def) -> bool {
        self.scope.get(def.object).is_some_and(|o| o.is_executable(def.symbol.value))
    }

    pub(super) fn undefined(
        &mut self,
        symbol: &Symbol,
        name: &str,
        version: Option<&Version>,
        class: Class,
        asked: &Asked,
    ) -> Result<Vec<Candidate>, Finding> {
        if name == GET_ADDR && self.own_get_addr {
            return self.get_addr(symbol, version, asked);
        }
        match self.definition(symbol, name, version, class, asked)? {
            Some(found) => self.of_def(&found, class, asked),
            None => {
                let closed = !self.is_surely_absent(name);
                Ok(vec![Candidate { closed, ..Candidate::of(Value::Abs(0)) }])
            }
        }
    }

    /// What an undefined name means; `None`: a weak one that is nowhere.
    pub(super) fn definition(
        &mut self,
        symbol: &Symbol,
        name: &str,
        version: Option<&Version>,
        class: Class,
        asked: &Asked,
    ) -> Result<Option<Found>, Finding> {
        if let Some(given) = self.binds.get(name).cloned() {
            return self.bound_def(name, &given, class, asked).map(Some);
        }
        let want = self.scope.want(name.as_bytes(), version.map(|v| v.name.as_str()));
        if let Some(def) = self.scope.lookup(name.as_bytes(), &want, class) {
            return Ok(Some(Found { name: name.to_owned(), def, how: How::Lookup }));
        }
        // A version was given by the library that the patch was linked with: no local symbol is that one, unless the
        // library is a part of the target. There, even strlen is local.
        let inside = |v: &Version| v.file.as_deref().is_some_and(|file| self.is_inside(file));
        if version.is_none_or(inside) || self.scope.get(Scope::TARGET).is_some_and(Object::is_static) {
            let local = self.local(name).map_err(|source| {
                let (symbol, used_by) = (asked.symbol.clone(), asked.used_by.clone());
                ResolveError::Local { symbol, used_by, source }
            })?;
            if let Some(def) = local {
                return Ok(Some(Found { name: name.to_owned(), def, how: How::Direct }));
            }
        }
        if symbol.bind == elf::STB_WEAK {
            return Ok(None);
        }
        Err(ResolveError::Unresolved {
            symbol: asked.symbol.clone(),
            of: version.and_then(|v| v.file.clone()),
            used_by: asked.used_by.clone(),
            searched: self.scope.in_sight().map(|(_, o)| o.path().display().to_string()).collect(),
            near: self.near(name),
            module: self.out_of_sight(name, &want, class),
            linked: self.scope.get(Scope::TARGET).is_some_and(Object::is_static),
        }
        .into())
    }

    /// Whether this library of gcc's own is a part of the target: linked with -static-libgcc, -static-libstdc++.
    fn is_inside(&self, library: &str) -> bool {
        ["libgcc_s.so.1", "libstdc++.so.6"].contains(&library) && self.scope.by_name(library).is_none()
    }

    /// A module that exports this name where the patch does not see it.
    fn out_of_sight(&self, name: &str, want: &Want, class: Class) -> Option<String> {
        let has_it = |o: &Object| lookup_in(o, name.as_bytes(), want, class).is_some();
        let (id, _) = self.scope.iter().find(|(_, o)| o.private && has_it(o))?;
        Some(self.scope.name(id))
    }

    /// Similar names. Looking for them takes time in proportion to all symbols, so not for every name of a hostile patch.
    fn near(&mut self, name: &str) -> Vec<String> {
        match self.near_searches.checked_sub(1) {
            Some(left) => {
                self.near_searches = left;
                near::names(self.scope, name, None)
            }
            None => Vec::new(),
        }
    }

    /// A symbol that the dynamic linker would not see: of a patched module, else of the target.
    fn local(&self, name: &str) -> Result<Option<Def>, LocateError> {
        let mut found: Vec<Def> = Vec::new();
        for id in self.patched {
            found.extend(local::find(self.scope, *id, name)?);
        }
        match found.as_slice() {
            [] => local::find(self.scope, Scope::TARGET, name),
            [one] => Ok(Some(*one)),
            many => {
                let modules = many.iter().map(|def| self.scope.name(def.object)).collect();
                Err(LocateError::Several { name: name.to_owned(), modules })
            }
        }
    }

    pub(super) fn bound(
        &mut self,
        name: &str,
        given: &Qualified,
        class: Class,
        asked: &Asked,
    ) -> Result<Vec<Candidate>, Finding> {
        let found = self.bound_def(name, given, class, asked)?;
        self.of_def(&found, class, asked)
    }

    fn bound_def(&self, name: &str, given: &Qualified, class: Class, asked: &Asked) -> Result<Found, Finding> {
        let plain = given.prefixes.is_empty();
        let exported = self.scope.lookup(given.name.as_bytes(), &self.scope.want(given.name.as_bytes(), None), class);
        let found = match exported.filter(|_| plain) {
            Some(def) => Ok((def, How::Lookup)),
            None => local::locate(self.scope, given).map(|def| (def, How::Direct)),
        };
        let (def, how) = found.map_err(|source| {
            let (symbol, used_by) = (asked.symbol.clone(), asked.used_by.clone());
            ResolveError::Local { symbol, used_by, source }
        })?;
        Ok(Found { name: if plain { given.name.clone() } else { name.to_owned() }, def, how })
    }

    /// The ways to get the address of a definition.
    pub(super) fn of_def(&mut self, found: &Found, class: Class, asked: &Asked) -> Result<Vec<Candidate>, Finding> {
        let Found { name, def, how } = found;
        if def.symbol.kind == elf::STT_TLS {
            let (symbol, used_by) = (asked.symbol.clone(), asked.used_by.clone());
            return Err(ResolveError::Tls { symbol, used_by, module: self.scope.name(def.object) }.into());
        }
        let settled = self.is_settled(def, *how);
        let closed = !settled && !is_harmless(name);
        if def.symbol.section == elf::SHN_ABS {
            return Ok(vec![Candidate { closed, ..Candidate::of(Value::Abs(def.symbol.value.0)) }]);
        }
        self.note_stale_copy(name, def);
        let ifunc = def.symbol.kind == elf::STT_GNU_IFUNC;
        let rivals = if closed { self.rivals(name, def) } else { Vec::new() };
        let mut list = Vec::new();
        let mut surely_filled = false;
        if !settled || ifunc {
            let slots = self.slots.of(self.scope, self.patched, name.as_bytes(), def, class)?;
            for slot in slots.into_iter().filter(|slot| slot.by_lookup || rivals.is_empty()) {
                let module = self.modules.id(slot.object);
                let value = Value::Witness { module, slot: slot.place, unbound: slot.unbound };
                let closed = closed && !slot.by_lookup;
                list.push(Candidate { guard: None, closed, value, delta: slot.addend.wrapping_neg() });
                // An IRELATIVE slot is filled at start-up, whatever the binding.
                surely_filled |= !slot.by_lookup;
            }
        }
        let module = self.modules.id(def.object);
        let file = Candidate::of(Value::Module { module, addr: def.symbol.value });
        match ifunc {
            _ if !rivals.is_empty() => {}
            false => list.push(Candidate { closed, ..file }),
            true if surely_filled => {}
            // The symbol of an IFUNC is its resolver: a thunk in the patch asks it at the first call.
            true => {
                list.push(Candidate { closed, ..Candidate::of(self.added.thunk(&asked.symbol, vec![file])) });
                if class == Class::Address {
                    let note = "is that of a thunk in the patch, unless a slot of the process holds it";
                    self.note(format!("the address of {name} {note}"));
                }
            }
        }
        if list.is_empty() {
            let (symbol, used_by, module) = (asked.symbol.clone(), asked.used_by.clone(), self.scope.name(def.object));
            return Err(ResolveError::Rivals { symbol, name: name.to_owned(), used_by, module, rivals }.into());
        }
        Ok(list)
    }

    /// A variable that the program copied under another name (`environ`, but not `_environ`): by the rules of the dynamic
    /// linker this name means the library's original, which nobody uses any more.
    fn note_stale_copy(&mut self, name: &str, def: &Def) {
        let Some(target) = self.scope.get(Scope::TARGET).filter(|_| def.object != Scope::TARGET) else { return };
        let copies = target.dynamic.relocs.iter().filter(|r| r.kind() == RelocKind::Copy);
        for symbol in copies.filter_map(|r| target.dynamic.symbol_of(r)) {
            let used = target.dynamic.symbols.text(symbol);
            let want = self.scope.want(used.as_bytes(), target.dynamic.version(symbol).map(|v| v.name.as_str()));
            let original =
                self.scope.get(def.object).and_then(|o| lookup_in(o, used.as_bytes(), &want, Class::Address));
            if original.is_some_and(|o| o.value == def.symbol.value) {
                let library = self.scope.name(def.object);
                let note = format!("{name} is the original in {library}; the program uses its copy, called {used}");
                self.note(note);
            }
        }
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// What the target has by the name of a variable that the patch defines.
pub fn theirs(scope: &Scope<'_>, patched: &[ObjectId], symbol: &Symbol, name: &str) -> Option<Def> {
    let (def, _) = theirs_of(scope, patched, symbol, name, Class::Address)?;
    let is_code = scope.get(def.object).is_some_and(|o| o.is_executable(def.symbol.value));
    let variable = def.symbol.kind != elf::STT_TLS && !def.symbol.is_function() && !is_code;
    Some(def).filter(|_| variable)
}

/// What the dynamic linker would choose, or a global variable of a patched module that is not exported.
fn theirs_of(scope: &Scope<'_>, patched: &[ObjectId], symbol: &Symbol, name: &str, class: Class) -> Option<(Def, How)> {
    if let Some(def) = scope.lookup(name.as_bytes(), &Want::Default, class) {
        return Some((def, How::Lookup));
    }
    if symbol.kind != elf::STT_OBJECT {
        return None;
    }
    patched.iter().find_map(|id| {
        let object = scope.get(*id)?;
        let same = |s: &&Symbol| s.is_place() && s.kind == elf::STT_OBJECT && s.bind != elf::STB_LOCAL;
        object.symtab.named(name.as_bytes()).find(same).map(|s| (Def { object: *id, symbol: *s }, How::Direct))
    })
}
