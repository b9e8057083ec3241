//! Variables that the patch brings and the target has: two copies, of which each half of the program would use one.
//!
//! ```text
//! global    the definition that the dynamic linker would choose, or one of a patched module that it does not export
//! static    of the same name in a patched module, and known to be meant: same function, same file, or used by the
//!           replaced function itself
//! ```
//! A variable that no new function leads to is not used by anybody. What the loader makes read-only is no state: there only a changed size matters.

mod pairs;
mod words;

use super::function::Function;
use super::limits::LimitError;
use super::reach::Reach;
use super::users::Users;
use super::variable::{Place, Variable};
use crate::finding::Findings;
use crate::read::elf::{Object, Range};
use crate::read::patch::Wanted;
use crate::read::symbols::Symbol;
use crate::resolve::scope::{Def, ObjectId, Scope};
use crate::resolve::theirs;
use crate::spec::Qualified;
use lpb::LinkAddr;
use object::elf;
use std::collections::BTreeMap;
use words::ForkError;

/// So many pairs of variables are looked at.
const MOST_PAIRS: usize = 4096;
/// The patch, and what it is compared with.
pub struct Forks<'a> {
    pub scope: &'a Scope<'a>,
    /// Objects that the patch changes.
    pub patched: &'a [ObjectId],
    pub patch: &'a Object,
    pub users: &'a Users,
    /// What of it its new functions lead to.
    pub reach: &'a Reach,
    pub wanted: &'a [Wanted],
    pub functions: &'a [Function],
    pub binds: &'a BTreeMap<String, Qualified>,
}

/// A variable of the patch.
struct Mine<'a> {
    symbol: &'a Symbol,
    linked: String,
    variable: Variable,
    /// The source file it is in, without its directory.
    file: Option<String>,
    at: Option<String>,
}

/// One of the target that may be the same.
struct Theirs {
    def: Def,
    linked: String,
    file: Option<String>,
    at: Option<String>,
    place: Place,
}

/// A variable of the patch and one of the target.
struct Pair {
    /// Index of the patch's.
    mine: usize,
    theirs: Theirs,
    /// The rules of the language or of the dynamic linker say that they are one.
    certain: bool,
}

impl Forks<'_> {
    /// Compares every variable of the patch with those of the target.
    pub fn check(&self, findings: &mut Findings) {
        let mine = self.mine();
        if mine.is_empty() {
            return;
        }
        let mut pairs: Vec<Pair> = Vec::new();
        for (i, m) in mine.iter().enumerate() {
            let global = m.symbol.bind != elf::STB_LOCAL;
            if let Some(def) = global.then(|| theirs(self.scope, self.patched, m.symbol, &m.linked)).flatten() {
                let theirs = Theirs { def, linked: m.linked.clone(), file: None, at: None, place: Place::File };
                pairs.push(Pair { mine: i, theirs, certain: true });
            }
        }
        let left: Vec<usize> = (0..mine.len()).filter(|i| !pairs.iter().any(|p| p.mine == *i)).collect();
        for id in self.patched {
            let found = self.candidates(*id, &mine, &left);
            if found.len() >= MOST_PAIRS {
                let (name, limit) = (self.scope.name(*id), "more than 4096 have names of the patch's".to_owned());
                findings.add(LimitError { what: "the variables of", several: true, name, limit });
            }
            pairs.extend(found);
        }
        for id in self.patched {
            self.settle(*id, &mine, &mut pairs);
        }
        for Pair { mine: i, theirs: t, .. } in &pairs {
            let Some(m) = mine.get(*i) else { continue };
            let vague = m.symbol.bind == elf::STB_WEAK || m.symbol.bind == elf::STB_GNU_UNIQUE;
            // References to these go to the target's by the rules of C++, if they go through a relocation.
            let shared = vague && m.symbol.visibility == elf::STV_DEFAULT && self.direct(m.symbol).is_none();
            if self.is_state(&t.def) && !shared {
                self.forked(m, t, findings);
            } else if m.variable.place == Place::File && t.place == Place::File {
                self.compare_sizes(m, t, findings);
            }
        }
    }

    /// Names that are bound to the target although the patch defines them: its code must not know where its own is.
    pub fn check_binds(&self, findings: &mut Findings) {
        for name in self.binds.keys() {
            let own = self.patch.dynamic.symbols.named(name.as_bytes()).find(|s| s.is_place() && !s.is_function());
            let own = own.filter(|s| !self.patch.is_executable(s.value));
            if let Some(users) = own.and_then(|symbol| self.direct(symbol)) {
                findings.add(ForkError::Direct { name: name.clone(), users });
            }
        }
    }

    /// The functions of the patch that use a variable.
    fn users_of(&self, m: &Mine<'_>) -> Vec<String> {
        let mut users = self.users.within(m.symbol.value, m.symbol.size);
        let relocs = self.patch.dynamic.relocs.iter();
        let named = |s: &Symbol| self.patch.dynamic.symbols.name(s) == m.linked.as_bytes();
        for reloc in relocs.filter(|r| self.patch.dynamic.symbol_of(r).is_some_and(named)) {
            users.extend(self.users.of(reloc.place).iter().cloned());
        }
        users.sort();
        users.dedup();
        users
    }

    /// Who refers to a variable without a relocation that names it; `None`: nobody.
    fn direct(&self, symbol: &Symbol) -> Option<Vec<String>> {
        let range = Range { start: symbol.value, size: symbol.size.max(1) };
        let users = self.users.within(range.start, range.size);
        let d = &self.patch.dynamic;
        let unnamed = |r: &&crate::read::dynamic::Reloc| d.symbol_of(r).is_none();
        let pointed = d.relocs.iter().filter(unnamed).any(|r| range.contains(LinkAddr(r.addend.cast_unsigned())));
        let packed = d.relr.iter().any(|at| self.patch.word(*at).is_ok_and(|word| range.contains(LinkAddr(word))));
        (!users.is_empty() || pointed || packed).then_some(users)
    }

    /// Whether the program may change it while it runs.
    fn is_state(&self, def: &Def) -> bool {
        let Some(object) = self.scope.get(def.object) else { return false };
        let at = def.symbol.value;
        let writable = object.load_of(at, 1).is_some_and(|s| s.flags & elf::PF_W.0 != 0);
        let relro = object.relro.is_some_and(|r| r.contains(at));
        let constant = |s: &&crate::read::sections::Section| s.range().contains(at) && s.has(elf::SHF_ALLOC);
        let section = object.sections.iter().find(constant);
        writable && !relro && !section.is_some_and(|s| s.name.starts_with(".data.rel.ro"))
    }

    fn compare_sizes(&self, m: &Mine<'_>, t: &Theirs, findings: &mut Findings) {
        let (old, new) = (t.def.symbol.size, m.symbol.size);
        if old == 0 || old == new {
            return;
        }
        let (name, module) = (m.variable.name.clone(), self.scope.name(t.def.object));
        findings.add(ForkError::Resized { name, module, old, new, evidence: self.evidence(m, t) });
    }

    fn forked(&self, m: &Mine<'_>, t: &Theirs, findings: &mut Findings) {
        let (name, module) = (m.variable.name.clone(), self.scope.name(t.def.object));
        let mut evidence = self.evidence(m, t);
        if let Some(users) = self.direct(m.symbol).filter(|users| !users.is_empty() && m.symbol.bind != elf::STB_LOCAL)
        {
            evidence.push(format!("--bind cannot move it: {} refers to it without a relocation", users.join(", ")));
        }
        findings.add(ForkError::Forked { ways: self.ways(m, t), name, module, evidence });
    }
}
