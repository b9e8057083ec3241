//! Whether another definition may come before the one that was found.
//!
//! ```text
//! lookup order:  program ─► LD_PRELOAD ─► libraries of the closure ─► opened with RTLD_GLOBAL
//!                           (unknown)                                 (unknown)
//! target is a library: the program is unknown as well, and comes first
//! ```
//! Only a slot that the dynamic linker filled by the same lookup shows what it chose. Everything else is a *closed*
//! candidate: lp-apply takes it only in processes without unexpected modules.
//! Source: ld.so(8), LD_PRELOAD; gABI ch. 5, "Shared Object Dependencies".

use super::Resolver;
use super::scope::{Def, Scope};
use crate::read::elf::Object;
use crate::read::symbols::Symbol;
use object::elf;

/// Names for which it makes no difference who defines them.
const HARMLESS: [&str; 7] = [
    // Only the compiler's start files refer to them (crti.o, crtbeginS.o), and those of a patch never run.
    "__cxa_finalize",
    "__gmon_start__",
    "_ITM_registerTMCloneTable",
    "_ITM_deregisterTMCloneTable",
    "_Jv_RegisterClasses",
    // The dynamic linker's own: nobody else knows where it has put the blocks of its modules.
    "__tls_get_addr",
    // Every one of them ends the process.
    "__stack_chk_fail",
];

/// How a definition was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As the dynamic linker does: by name in lookup order.
    Lookup,
    /// In an object that was named, or among names that are not exported.
    Direct,
}

impl Resolver<'_> {
    /// Whether nothing in any process can come before this definition.
    pub(super) fn is_settled(&self, def: &Def, how: How) -> bool {
        let first = def.object == Scope::TARGET && self.scope.target_is_program();
        // Code of the patch stands for code of the objects it changes, and they look no further than themselves.
        let symbolic = self.scope.get(def.object).is_some_and(|o| o.dynamic.symbolic);
        let inward = symbolic || def.symbol.visibility == elf::STV_PROTECTED;
        let own = inward && self.patched.contains(&def.object);
        how == How::Direct || first || own || def.symbol.bind == elf::STB_LOCAL || self.no_lookup()
    }

    /// Objects that define the name as well, and of which nothing says whether they come before: those that are named with
    /// --lib but that the target does not need. They may be preloaded, or opened later, or be programs that use a target
    /// library. Since they are expected modules, only a slot tells then.
    pub(super) fn rivals(&self, name: &str, def: &Def) -> Vec<String> {
        let global = |s: &Symbol| s.is_place() && s.bind != elf::STB_LOCAL;
        let others = self.scope.iter().filter(|(id, o)| *id != def.object && !o.at_startup && !o.private);
        let defines = |o: &Object| o.dynamic.symbols.named(name.as_bytes()).any(global);
        others.filter(|(_, o)| defines(o)).map(|(_, o)| o.name.clone()).collect()
    }

    /// Whether the absence of a weak name is certain.
    pub(super) fn is_surely_absent(&self, name: &str) -> bool {
        is_harmless(name) || self.no_lookup()
    }

    fn no_lookup(&self) -> bool {
        self.scope.get(Scope::TARGET).is_some_and(Object::is_static)
    }
}

/// Whether it makes no difference who defines the name.
pub fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name)
}
