//! Whether the patch's unwind table has to be made known in the process, and to which unwinder.
//!
//! The dynamic linker tells the unwinder of every object it loads; nobody tells it of a patch. libgcc takes tables at run
//! time (`__register_frame_info`), from a shared libgcc_s or from the copy that is linked into a program or library.

use crate::finding::{Explain, Findings};
use crate::read::ReadError;
use crate::read::elf::Object;
use crate::read::frames::{self, Frames};
use crate::read::symbols::Symbol;
use crate::resolve::scope::{Class, ObjectId, Scope, Want, lookup_in};
use lpb::LinkAddr;

/// libgcc's functions, and the version that both have had since GCC 3.0.
pub const REGISTER: &str = "__register_frame_info";
pub const DEREGISTER: &str = "__deregister_frame_info";
pub const VERSION: &str = "GCC_3.0";

/// Why a patch cannot do with the unwinders of the target.
#[derive(Debug, thiserror::Error)]
enum UnwindError {
    #[error("the patch uses exceptions, but nothing in the target takes its unwind table ({REGISTER}); searched {}", searched.join(", "))]
    NoUnwinder { searched: Vec<String>, stripped: bool },
}

impl Explain for UnwindError {
    fn hint(&self) -> Option<String> {
        let Self::NoUnwinder { stripped, .. } = self;
        let text = match stripped {
            true => "give the target's separate debug file with --debug-file, so that a libgcc inside it can be found",
            false => {
                "compile the patch with -fno-exceptions, or name the library that the program has loaded with --lib"
            }
        };
        Some(text.to_owned())
    }
}

/// An unwinder of the target that takes tables.
#[derive(Clone, Debug)]
pub struct Provider {
    pub object: ObjectId,
    /// The functions of each of its builds.
    pub builds: Vec<Functions>,
    /// Its text shows whether a thread is inside it. Not so where program and unwinder, or program and `malloc`, are one.
    pub separate: bool,
}

/// Where an unwinder has the two functions.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    pub register: LinkAddr,
    pub deregister: LinkAddr,
}

/// The table, and all unwinders that need it.
#[derive(Debug, Default)]
pub struct Plan {
    pub table: Option<Frames>,
    pub providers: Vec<Provider>,
}

/// Decides. A patch of plain C in a program without unwinder needs none.
pub fn plan(
    scope: &Scope<'_>,
    patched: &[ObjectId],
    patch: &Object,
    findings: &mut Findings,
) -> Result<Plan, ReadError> {
    let Some(found) = frames::find(patch)? else { return Ok(Plan::default()) };
    let providers = providers(scope, patched);
    if providers.is_empty() {
        if found.is_ok_and(|f| f.personality) || throws(patch) {
            let searched = scope.iter().map(|(_, o)| o.name.clone()).collect();
            let stripped = scope.get(Scope::TARGET).is_some_and(|o| o.symtab.is_empty());
            findings.add(UnwindError::NoUnwinder { searched, stripped });
        }
        return Ok(Plan::default());
    }
    Ok(Plan { table: findings.keep(found), providers })
}

/// Whether it throws, although no function of its own has anything to do when that happens.
fn throws(patch: &Object) -> bool {
    let names = [&b"__cxa_throw"[..], b"__cxa_rethrow", b"_Unwind_Resume", b"_Unwind_RaiseException"];
    names.into_iter().any(|name| patch.dynamic.symbols.named(name).any(|s| !s.is_defined()))
}

/// The shared one that names bind to, then copies inside the target and the patched objects.
fn providers(scope: &Scope<'_>, patched: &[ObjectId]) -> Vec<Provider> {
    let mut own = vec![Scope::TARGET];
    own.extend(patched.iter().filter(|id| **id != Scope::TARGET));
    let allocates = own.iter().filter_map(|id| scope.get(*id)).any(|o| defines(o, b"malloc") || defines(o, b"free"));
    // What is named with --lib but not needed may not be there, unless it is what the patch changes.
    let late = own.iter().filter_map(|id| scope.get(*id)).any(|o| !o.at_startup);
    let there = |o: &Object| o.at_startup || o.private || late;
    let shared = scope.in_sight().find(|(_, o)| there(o) && exported(o).is_some()).map(|(id, _)| id);
    own.retain(|id| Some(*id) != shared);
    let all = shared.into_iter().chain(own).filter_map(|object| {
        let find = if Some(object) == shared { exported } else { internal };
        let builds: Option<Vec<Functions>> = scope.closure().builds(object).iter().map(find).collect();
        let program = object == Scope::TARGET && scope.target_is_program();
        Some(Provider { object, builds: builds?, separate: !program && !allocates })
    });
    all.collect()
}

/// Other unwinders have functions of these names that do nothing; the version tells.
fn exported(object: &Object) -> Option<Functions> {
    let find = |name: &str| {
        let symbol = lookup_in(object, name.as_bytes(), &Want::Version(VERSION.to_owned()), Class::Call)?;
        object.dynamic.version(symbol).filter(|v| v.name == VERSION).map(|_| symbol.value)
    };
    Some(Functions { register: find(REGISTER)?, deregister: find(DEREGISTER)? })
}

/// A copy that is linked into the object.
fn internal(object: &Object) -> Option<Functions> {
    let is = |s: &&Symbol| s.is_function() && s.is_defined();
    let find = |name: &str| object.symtab.named(name.as_bytes()).find(is).map(|s| s.value);
    Some(Functions { register: find(REGISTER)?, deregister: find(DEREGISTER)? })
}

fn defines(object: &Object, name: &[u8]) -> bool {
    let is = |s: &Symbol| s.is_function() && s.is_defined();
    object.dynamic.symbols.named(name).any(is) || object.symtab.named(name).any(is)
}
