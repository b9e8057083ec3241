//! What functions of other modules take.

use super::live::{Taken, Walker};
use crate::analyse::users::stub_slot;
use crate::arch::x86_64::registers::RegSet;
use crate::read::elf::Object;
use crate::resolve::scope::{self, Scope, Want};
use lpb::LinkAddr;
use object::elf;
use std::cell::RefCell;
use std::collections::HashMap;

/// Functions of other modules: which arguments they take.
pub(super) struct Imports<'a> {
    object: &'a Object,
    scope: Scope<'a>,
    known: RefCell<HashMap<Vec<u8>, Option<Taken>>>,
}

impl<'a> Imports<'a> {
    pub(super) fn of(object: &'a Object, scope: Scope<'a>) -> Self {
        Self { object, scope, known: RefCell::default() }
    }

    /// Of the function that is called through a stub or a slot at `at`.
    pub(super) fn arguments(&self, at: LinkAddr) -> Option<Taken> {
        const STUB: u64 = 16;
        let slot = match self.object.is_executable(at) {
            true => stub_slot(&self.object.memory(at, STUB).ok()?, at)?,
            false => at,
        };
        let reloc = self.object.dynamic.relocs.iter().find(|r| r.place == slot)?;
        let symbol = self.object.dynamic.symbol_of(reloc)?;
        let name = self.object.dynamic.symbols.name(symbol).to_vec();
        if let Some(known) = self.known.borrow().get(&name) {
            return *known;
        }
        let want = self.object.dynamic.version(symbol).map_or(Want::Default, |v| Want::Version(v.name.clone()));
        let found = self.read(&name, &want);
        self.known.borrow_mut().insert(name, found);
        found
    }

    fn read(&self, name: &[u8], want: &Want) -> Option<Taken> {
        let def = self.scope.lookup(name, want, scope::Class::Call)?;
        if def.symbol.kind == elf::STT_GNU_IFUNC {
            // memcpy, strlen and their like: all take something.
            return Some(Taken { certain: RegSet::general(7), ..Taken::default() });
        }
        let walker = Walker::new(self.scope.get(def.object)?, Box::new(|_| None));
        Some(walker.arguments_of(def.symbol.value))
    }
}
