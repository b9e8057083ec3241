//! Every relocation of the patch becomes an ordered list of ways to get its value.
//!
//! ```text
//! name@version ─► --bind / LP_BIND ─► ELF lookup order ─► the target's local symbols ─► weak: 0
//!                                           │
//!                                           ▼
//!                      witness slots, then module + address     (an IFUNC: a thunk that asks its resolver)
//!                                           (closed, unless nothing can come before it: see `interpose`)
//! ```

pub mod chosen;
mod interpose;
pub mod local;
pub mod merge;
pub mod near;
pub mod scope;
mod symbol;
pub mod tls;
pub mod witness;

pub use symbol::theirs;

use crate::analyse::users::Users;
use crate::arch::x86_64::{RelocKind, reloc_name};
use crate::demangle;
use crate::finding::{Explain, Finding, Findings};
use crate::layout::added::Added;
use crate::layout::image::Image;
use crate::read::dynamic::Reloc;
use crate::read::elf::Object;
use crate::read::symbols::Symbol;
use crate::spec::Qualified;
use local::LocateError;
use lpb::{Candidate, LinkAddr, ModuleId, Value};
use object::elf;
use scope::{Class, ObjectId, Scope};
use std::collections::{BTreeMap, HashMap, HashSet};
use witness::Slots;

/// Prefix of the names that `LP_ORIGINAL` makes.
pub const ORIGINAL_PREFIX: &str = "lp_original.";

static NO_BINDS: BTreeMap<String, Qualified> = BTreeMap::new();

/// Why a relocation has no value.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("undefined symbol {}{}, used by {used_by}; searched {}", demangle::readable(symbol),
        .of.as_ref().map(|f| format!(" of {f}")).unwrap_or_default(), searched.join(", "))]
    Unresolved {
        symbol: String,
        of: Option<String>,
        used_by: String,
        searched: Vec<String>,
        near: Vec<String>,
        /// A module that has it, for those who name the module.
        module: Option<String>,
        linked: bool,
    },
    #[error("{symbol}, used by {used_by}: {source}")]
    Local { symbol: String, used_by: String, source: LocateError },
    #[error("{symbol}, used by {used_by}, is thread-local in {module}, but not in the patch")]
    Tls { symbol: String, used_by: String, module: String },
    #[error("{symbol}, used by {used_by}, is defined by {module} and by {}, and no slot shows which of them comes first",
        rivals.join(", "))]
    Rivals { symbol: String, name: String, used_by: String, module: String, rivals: Vec<String> },
    #[error("relocation {kind} at {used_by} is not supported in a patch")]
    Kind { kind: String, used_by: String },
    #[error("relocation {kind} at {used_by} lies outside the patch or points there")]
    Outside { kind: String, used_by: String },
    #[error("{symbol}, used by {used_by}: the patch does not replace {old}")]
    NoOriginal { symbol: String, used_by: String, old: String },
    #[error("{symbol}, used by {used_by}: the patch replaces several functions called {old}")]
    ManyOriginals { symbol: String, used_by: String, old: String },
}

impl Explain for ResolveError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unresolved { symbol, .. } if symbol.starts_with("__emutls_v.") => {
                "the target's own thread-local variables are not emulated: compile without -femulated-tls the file that uses them"
                    .to_owned()
            }
            Self::Unresolved { symbol, .. } if symbol.starts_with("__emutls_get_address") => {
                "the target has to load libgcc_s.so.1 for that; else keep the value in a pthread key".to_owned()
            }
            Self::Unresolved { module: Some(module), symbol, .. } => {
                let name = plain(symbol);
                format!("{module} has it, whose names others do not see: --bind {name}={module}:{name}")
            }
            Self::Unresolved { near, symbol, linked, .. } => {
                let name = plain(symbol);
                let near =
                    if near.is_empty() { String::new() } else { format!("; similar names: {}", near.join(", ")) };
                let bring = match linked {
                    true => "the target was linked without it: bring an own copy in the patch",
                    false => "name the library that has it with --lib",
                };
                format!("{bring}, or say what it means with --bind {name}=FILE.c:SYM{near}")
            }
            Self::Local { symbol, source: LocateError::Ambiguous { files, .. }, .. } => {
                let (name, file) = (plain(symbol), files.first().map_or("FILE.c", String::as_str));
                format!("say which one: --bind {name}={file}:{name}, or LP_BIND(\"{file}\", {name}) in the patch")
            }
            Self::Local { source, .. } => return source.hint(),
            Self::Tls { .. } => "declare it as the target does: extern __thread, thread_local or _Thread_local".to_owned(),
            Self::Rivals { name, module, .. } => format!("say which one is meant: --bind {name}={module}:{name}"),
            Self::Kind { .. } => "compile every file of the patch with -fPIC and link it with -shared".to_owned(),
            Self::Outside { .. } => "link the patch again with an ordinary linker script".to_owned(),
            Self::ManyOriginals { old, .. } => format!("say which one: LP_ORIGINAL_IN(\"FILE.c\", {old})"),
            Self::NoOriginal { old, .. } => format!("replace {old} in this patch, or call it by its name"),
        })
    }
}

/// A symbol without its version.
fn plain(symbol: &str) -> &str {
    symbol.split('@').next().unwrap_or_default()
}

/// Where the value of a place comes from.
#[derive(Clone, Debug)]
pub enum Binding {
    Candidates(Vec<Candidate>),
    /// The relocated prologue of a replaced function, by the number of the replacement.
    Original(usize),
}

/// One word of the patch's image that depends on the process.
#[derive(Clone, Debug)]
pub struct Import {
    /// Link address in the patch.
    pub place: LinkAddr,
    /// `name@version`; empty for a pointer into the patch itself.
    pub name: String,
    /// The relocation's name.
    pub relocation: String,
    /// Section and offset in the patch.
    pub used_by: String,
    pub binding: Binding,
}

/// Numbers the modules of a bundle in order of first use.
#[derive(Debug, Default)]
pub struct Modules(Vec<ObjectId>);

impl Modules {
    pub fn id(&mut self, object: ObjectId) -> ModuleId {
        let index = self.0.iter().position(|o| *o == object).unwrap_or_else(|| {
            self.0.push(object);
            self.0.len().saturating_sub(1)
        });
        // The closure is limited to 1024 objects, so the number always fits.
        ModuleId(u16::try_from(index).unwrap_or(u16::MAX))
    }

    pub fn objects(&self) -> &[ObjectId] {
        &self.0
    }
}

/// Everything that resolution needs to know about the target.
pub struct Resolver<'a> {
    pub scope: &'a Scope<'a>,
    /// Objects that the patch changes.
    pub patched: &'a [ObjectId],
    pub binds: &'a BTreeMap<String, Qualified>,
    pub slots: Slots,
    pub modules: &'a mut Modules,
    pub tls_slots: tls::Slots,
    /// Whether the patch's `__tls_get_addr` has to be ours.
    pub own_get_addr: bool,
    /// Code that some values need.
    pub added: &'a mut Added,
    /// What is right by the rules but may surprise.
    pub notes: Vec<String>,
    /// How many more unresolved names are worth a search for similar ones.
    pub near_searches: u32,
}

/// Who asks, for messages.
struct Asked {
    symbol: String,
    used_by: String,
}

/// What of the patch itself resolution has to know.
pub struct Own<'a> {
    pub patch: &'a Object,
    pub image: &'a Image,
    /// Which of its functions use a slot.
    pub users: &'a Users,
    /// Addresses of the new functions.
    pub new_functions: &'a HashSet<LinkAddr>,
    /// Names of the replaced functions, with the numbers of the replacements.
    pub originals: &'a HashMap<String, Vec<usize>>,
}

/// The names that the patch refers to, bound ones included.
pub fn wanted_names(patch: &Object, binds: &BTreeMap<String, Qualified>) -> HashSet<Vec<u8>> {
    let relocs = patch.dynamic.relocs.iter().filter_map(|r| patch.dynamic.symbol_of(r));
    let names = relocs.map(|s| patch.dynamic.symbols.name(s).to_vec());
    names.chain(binds.values().map(|q| q.name.clone().into_bytes())).collect()
}

impl Resolver<'_> {
    /// Resolves every relocation of the patch; what cannot be resolved becomes a finding.
    pub fn imports(&mut self, own: &Own<'_>, findings: &mut Findings) -> Vec<Import> {
        let mut all = Vec::new();
        let patch = own.patch;
        // Thread-local ones first: they decide which `__tls_get_addr` the patch gets.
        let used = || patch.dynamic.relocs.iter().filter(|r| r.kind() != RelocKind::None);
        for reloc in used().filter(|r| tls::is_tls(r)).chain(used().filter(|r| !tls::is_tls(r))) {
            let asked = asked(own, reloc);
            match self.bindings(own, reloc, &asked) {
                Ok(list) => all.extend(list.into_iter().map(|(place, binding)| Import {
                    place,
                    name: if patch.dynamic.symbol_of(reloc).is_some() { asked.symbol.clone() } else { String::new() },
                    relocation: reloc_name(reloc.number),
                    used_by: asked.used_by.clone(),
                    binding,
                })),
                Err(finding) => findings.add(finding),
            }
        }
        for place in &patch.dynamic.relr {
            let used_by = place_name(own, *place);
            let target = patch.word(*place).ok().and_then(|word| own.image.value(LinkAddr(word)));
            match target {
                Some(value) => all.push(Import {
                    place: *place,
                    name: String::new(),
                    relocation: "DT_RELR".to_owned(),
                    used_by,
                    binding: Binding::Candidates(vec![Candidate::of(value)]),
                }),
                None => findings.add(ResolveError::Outside { kind: "DT_RELR".to_owned(), used_by }),
            }
        }
        all.sort_by_key(|i| i.place);
        all
    }

    /// The words that a relocation fills: one, or the two of a TLS descriptor.
    fn bindings(&mut self, own: &Own<'_>, reloc: &Reloc, asked: &Asked) -> Result<Vec<(LinkAddr, Binding)>, Finding> {
        if tls::is_tls(reloc) {
            let words = self.thread_local(own, reloc, asked)?;
            return Ok(words.into_iter().map(|(place, c)| (place, Binding::Candidates(c))).collect());
        }
        Ok(vec![(reloc.place, self.binding(own, reloc, asked)?)])
    }

    fn binding(&mut self, own: &Own<'_>, reloc: &Reloc, asked: &Asked) -> Result<Binding, Finding> {
        let outside = || ResolveError::Outside { kind: reloc_name(reloc.number), used_by: asked.used_by.clone() };
        if !own.image.is_data(reloc.place, 8) {
            return Err(outside().into());
        }
        let (class, addend) = match reloc.kind() {
            RelocKind::Relative => {
                let value = own.image.value(LinkAddr(reloc.addend.cast_unsigned())).ok_or_else(outside)?;
                return Ok(Binding::Candidates(vec![Candidate::of(value)]));
            }
            RelocKind::GlobDat => (Class::Address, 0),
            RelocKind::JumpSlot => (Class::Call, 0),
            RelocKind::Abs64 => (Class::Address, reloc.addend),
            _ => {
                let (kind, used_by) = (reloc_name(reloc.number), asked.used_by.clone());
                return Err(ResolveError::Kind { kind, used_by }.into());
            }
        };
        let Some(symbol) = own.patch.dynamic.symbol_of(reloc) else { return Err(outside().into()) };
        let mut binding = self.symbol(own, symbol, class, asked)?;
        if let Binding::Candidates(list) = &mut binding {
            list.iter_mut().for_each(|c| c.delta = c.delta.wrapping_add(addend));
        }
        Ok(binding)
    }

    fn symbol(&mut self, own: &Own<'_>, symbol: &Symbol, class: Class, asked: &Asked) -> Result<Binding, Finding> {
        let name = own.patch.dynamic.symbols.text(symbol);
        // gcc's assembler needs quotes around a name with a file in it, and takes them off; clang keeps them.
        if let Some(old) = name.trim_matches('"').strip_prefix(ORIGINAL_PREFIX) {
            let (symbol, used_by) = (asked.symbol.clone(), asked.used_by.clone());
            let numbers = own.originals.get(old);
            let old = old.split_once(':').map_or_else(|| old.to_owned(), |(name, file)| format!("{file}:{name}"));
            return match numbers.map(Vec::as_slice) {
                Some([number]) => Ok(Binding::Original(*number)),
                // Why it cannot be replaced has been said already.
                Some([]) => Ok(Binding::Candidates(Vec::new())),
                Some(_) => Err(ResolveError::ManyOriginals { symbol, used_by, old }.into()),
                None => Err(ResolveError::NoOriginal { symbol, used_by, old }.into()),
            };
        }
        let version = own.patch.dynamic.version(symbol).cloned();
        let list = if symbol.is_defined() {
            self.defined(own, symbol, &name, class, asked)?
        } else {
            let list = self.undefined(symbol, &name, version.as_ref(), class, asked)?;
            if name == tls::KEY_CREATE { self.key_create(own, list, asked)? } else { list }
        };
        Ok(Binding::Candidates(list))
    }

    /// The ways to get the address of a symbol of the target that a `--set ...=addr:` names.
    pub fn address(&mut self, given: &Qualified, used_by: &str) -> Result<Vec<Candidate>, Finding> {
        let asked = Asked { symbol: given.to_string(), used_by: used_by.to_owned() };
        self.bound(&given.name.clone(), given, Class::Address, &asked)
    }

    /// The values that the dynamic linker may have stored at an 8-byte place of an object's data.
    pub fn stored(&mut self, object: ObjectId, at: LinkAddr) -> Result<Vec<Candidate>, Finding> {
        let Some(o) = self.scope.get(object) else { return Ok(vec![Candidate::of(Value::Abs(0))]) };
        let word = o.word(at)?;
        let module = self.modules.id(object);
        let relative = |addr: u64| Candidate::of(Value::Module { module, addr: LinkAddr(addr) });
        if o.dynamic.relr.binary_search(&at).is_ok() {
            return Ok(vec![relative(word)]);
        }
        let Some(reloc) = o.dynamic.relocs.iter().find(|r| r.place == at).copied() else {
            return Ok(vec![Candidate::of(Value::Abs(word))]);
        };
        match (reloc.kind(), o.dynamic.symbol_of(&reloc)) {
            (RelocKind::Relative, _) => Ok(vec![relative(reloc.addend.cast_unsigned())]),
            (RelocKind::Abs64 | RelocKind::GlobDat | RelocKind::JumpSlot, Some(symbol)) => {
                let name = o.dynamic.symbols.text(symbol);
                let version = o.dynamic.version(symbol).cloned();
                let asked = Asked { symbol: name.clone(), used_by: format!("{}+{at}", o.name) };
                let (class, addend) = match reloc.kind() {
                    RelocKind::JumpSlot => (Class::Call, 0),
                    RelocKind::Abs64 => (Class::Address, reloc.addend),
                    _ => (Class::Address, 0),
                };
                // What the patch's names are bound to is the patch's affair.
                let binds = std::mem::replace(&mut self.binds, &NO_BINDS);
                let list = self.undefined(symbol, &name, version.as_ref(), class, &asked);
                self.binds = binds;
                let mut list = list?;
                // The dynamic linker never stores an address of the patch.
                list.retain(|c| !matches!(c.value, Value::Patch { .. }));
                list.iter_mut().for_each(|c| c.delta = c.delta.wrapping_add(addend));
                if reloc.kind() == RelocKind::JumpSlot {
                    // Not bound yet: the slot still leads to the dynamic linker.
                    list.push(relative(word));
                }
                Ok(list)
            }
            (_, _) => {
                let (kind, used_by) = (reloc_name(reloc.number), format!("{}+{at}", o.name));
                Err(ResolveError::Kind { kind, used_by }.into())
            }
        }
    }
}

fn asked(own: &Own<'_>, reloc: &Reloc) -> Asked {
    let patch = own.patch;
    let symbol = patch.dynamic.symbol_of(reloc).map(|s| {
        let name = patch.dynamic.symbols.text(s);
        match patch.dynamic.version(s) {
            Some(version) => format!("{name}@{}", version.name),
            None => name,
        }
    });
    Asked { symbol: symbol.unwrap_or_default(), used_by: place_name(own, reloc.place) }
}

/// Section and offset of a place of the patch, and the variable that it is part of or the functions that use it.
fn place_name(own: &Own<'_>, place: LinkAddr) -> String {
    let patch = own.patch;
    let section = patch.sections.iter().find(|s| s.has(elf::SHF_ALLOC) && s.range().contains(place));
    let section = section.map(|s| format!("{}+{:#x}", s.name, place.since(s.addr).unwrap_or(0)));
    let text = section.unwrap_or_else(|| place.to_string());
    match patch.symtab.variable_at(place) {
        Some(symbol) => format!("{text} ({})", patch.symtab.text(symbol)),
        None if own.users.of(place).is_empty() => text,
        None => format!("{} ({text})", own.users.of(place).join(", ")),
    }
}
