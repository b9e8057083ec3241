//! Thread-local variables of the target.
//!
//! ```text
//! thread pointer (fs:0) ──────────────────────────────────┐
//!        ... │ block of a library │ block of the program  │      block of a library opened later: elsewhere,
//!             ◄──── TPOFF ────────────────────────────────┘      reached by module number + offset
//! ```
//! Where the program's block lies follows from its `PT_TLS`. Where a library's lies is the dynamic linker's choice: a slot
//! of the live process tells, any slot for any variable of that library, as all of them move together.
//!
//! A word read from such a slot is a module number (1, 2, ...), an offset below the thread pointer (2^64 - n), or an
//! address. None of them is 0 or, with the 0 that files have there, the load bias: the test of a witness holds for them.
//!
//! Source: "ELF Handling For Thread-Local Storage" (Drepper), 3 and 4.4.6; glibc `elf/dl-tls.c`, `csu/libc-tls.c` and
//! musl `ldso/dynlink.c`, `src/env/__init_tls.c` for where the program's block lies.

use super::scope::{Class, ObjectId, Scope};
use super::symbol::Found;
use super::{Asked, Own, Resolver};
use crate::arch::x86_64::{RelocKind, tls as arch};
use crate::finding::{Explain, Finding};
use crate::read::dynamic::{Reloc, Version};
use crate::read::elf::Object;
use crate::read::symbols::Symbol;
use lpb::{BuildIdx, Candidate, LinkAddr, Value};
use object::elf;

/// What compilers call for a variable of another module.
pub const GET_ADDR: &str = "__tls_get_addr";

/// What emulated thread-local variables call once.
pub const KEY_CREATE: &str = "pthread_key_create";

/// What they have called when a thread ends; in libgcc and in compiler-rt.
const EMULATION_ENDS: [&[u8]; 2] = [b"emutls_destroy", b"emutls_key_destructor"];

/// Slots that are kept for one word.
const MOST: usize = 2;

/// Why the patch cannot reach a thread-local variable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{symbol}, used by {used_by}, is thread-local in the patch, but not in {module}")]
    Plain { symbol: String, used_by: String, module: String },
    #[error("{used_by} asks for thread-local variables of the patch itself (local-dynamic model), which has none")]
    LocalDynamic { used_by: String },
    #[error("thread-local {symbol}, used by {used_by}, is nowhere")]
    Nowhere { symbol: String, used_by: String },
    #[error(
        "thread-local {symbol}, used by {used_by} ({kind}): no slot of a running process tells its offset in {module}"
    )]
    NoOffset { symbol: String, used_by: String, kind: String, module: String },
    #[error("thread-local {symbol}, used by {used_by}: no slot of a running process tells where {module} has it")]
    NoSlot { symbol: String, used_by: String, module: String },
}

impl Explain for TlsError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Plain { .. } => "declare it as the target does, without __thread",
            Self::LocalDynamic { .. } => "compile every file of the patch with -ftls-model=global-dynamic",
            Self::Nowhere { .. } => "take the weak declaration out, or name the library that defines it with --lib",
            Self::NoOffset { .. } => {
                "compile the patch with -ftls-model=global-dynamic -mtls-dialect=gnu: that works for libraries opened later too"
            }
            Self::NoSlot { .. } => "reach it through a function of the library that returns its address",
        };
        Some(text.to_owned())
    }
}

/// Whether a relocation is about a thread-local variable.
pub fn is_tls(reloc: &Reloc) -> bool {
    use RelocKind::{TlsDescriptor, TlsModule, TlsOffset, TlsStatic};
    matches!(reloc.kind(), TlsModule | TlsOffset | TlsStatic | TlsDescriptor)
}

/// A thread-local variable: the object that has it, and its place in that object's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variable {
    object: ObjectId,
    at: u64,
}

/// The variable that the patch means.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    variable: Variable,
    /// Another module may define the name too, and come first.
    closed: bool,
}

/// A slot that the dynamic linker fills, and the variable that it is for.
#[derive(Clone, Copy, Debug)]
struct Slot {
    object: ObjectId,
    place: LinkAddr,
    kind: RelocKind,
    variable: Variable,
    /// Filled by a lookup of the variable's name.
    by_lookup: bool,
}

/// All such slots.
#[derive(Debug, Default)]
pub struct Slots(Vec<Slot>);

impl Slots {
    /// One pass over the relocations of all objects, if the patch has any use for it.
    pub fn gather(scope: &Scope, patch: &Object) -> Self {
        let mut all = Vec::new();
        if patch.dynamic.relocs.iter().any(is_tls) {
            for (id, object) in scope.iter() {
                all.extend(
                    object.dynamic.relocs.iter().filter(|r| is_tls(r)).filter_map(|r| slot(scope, id, object, r)),
                );
            }
        }
        Self(all)
    }

    /// Slots of one kind for variables of an object, its own first. Those of an object that may not be there when the
    /// variable's is are left out.
    fn of(&self, scope: &Scope, object: ObjectId, kind: RelocKind) -> Vec<Slot> {
        let there = |s: &Slot| s.object == object || scope.get(s.object).is_some_and(|o| o.at_startup);
        let fits = |s: &&Slot| s.kind == kind && s.variable.object == object && there(s);
        let mut found: Vec<Slot> = self.0.iter().filter(fits).copied().collect();
        found.sort_by_key(|s| (s.object != object, s.object, s.place));
        found.truncate(MOST);
        found
    }
}

fn slot(scope: &Scope, id: ObjectId, object: &Object, reloc: &Reloc) -> Option<Slot> {
    let (variable, by_lookup) = match object.dynamic.symbol_of(reloc) {
        None => (Variable { object: id, at: 0 }, false),
        Some(s) => {
            let name = object.dynamic.symbols.name(s);
            let want = scope.want(name, object.dynamic.version(s).map(|v| v.name.as_str()));
            let found = scope.lookup(name, &want, Class::Address).filter(|_| !binds_inside(object, s));
            match found.filter(|d| d.symbol.kind == elf::STT_TLS) {
                Some(def) => (Variable { object: def.object, at: def.symbol.value.0 }, true),
                None if s.is_defined() => (Variable { object: id, at: s.value.0 }, false),
                None => return None,
            }
        }
    };
    let at = variable.at.wrapping_add_signed(reloc.addend);
    Some(Slot { object: id, place: reloc.place, kind: reloc.kind(), variable: Variable { at, ..variable }, by_lookup })
}

fn binds_inside(object: &Object, s: &Symbol) -> bool {
    object.dynamic.symbolic || s.bind == elf::STB_LOCAL || s.visibility != elf::STV_DEFAULT
}

/// Distance from the start of the program's block to the thread pointer.
fn program_block(object: &Object) -> u64 {
    let Some((range, align)) = object.tls else { return 0 };
    let mask = align.max(1).wrapping_sub(1);
    let first = range.start.0.wrapping_neg() & mask;
    let rest = range.size.wrapping_sub(first).wrapping_add(mask) & !mask;
    rest.wrapping_add(first)
}

/// How a variable is reached through `__tls_get_addr`.
enum Pair {
    /// It lies at these offsets from the thread pointer.
    Static(Vec<Candidate>),
    /// Its object has these module numbers.
    Module(Vec<Candidate>),
    /// A descriptor of the live process knows.
    Borrowed(Value),
}

type Word = (LinkAddr, Vec<Candidate>);

impl Resolver<'_> {
    /// The words that a thread-local relocation of the patch fills.
    pub(super) fn thread_local(&mut self, own: &Own<'_>, reloc: &Reloc, asked: &Asked) -> Result<Vec<Word>, Finding> {
        let width = if reloc.kind() == RelocKind::TlsDescriptor { 16 } else { 8 };
        let second = reloc.place.plus(8).filter(|_| own.image.is_data(reloc.place, width));
        let Some(second) = second else {
            let (kind, used_by) = (crate::arch::x86_64::reloc_name(reloc.number), asked.used_by.clone());
            return Err(super::ResolveError::Outside { kind, used_by }.into());
        };
        let symbol = own.patch.dynamic.symbol_of(reloc);
        // Variables of the patch itself are refused already, by name.
        if own.patch.tls.is_some() && symbol.is_none_or(Symbol::is_defined) {
            return Ok(Vec::new());
        }
        let symbol = symbol.ok_or_else(|| TlsError::LocalDynamic { used_by: asked.used_by.clone() })?;
        let name = own.patch.dynamic.symbols.text(symbol);
        let version = own.patch.dynamic.version(symbol).cloned();
        let found = self.definition(symbol, &name, version.as_ref(), Class::Address, asked)?;
        let wanted = self.wanted(found, reloc, asked)?;
        let one = |list| Ok(vec![(reloc.place, list)]);
        match reloc.kind() {
            RelocKind::TlsStatic => one(self.static_offset(wanted, reloc, asked)?),
            RelocKind::TlsDescriptor => {
                let (function, argument) = self.descriptor(wanted, reloc, asked)?;
                Ok(vec![(reloc.place, vec![Candidate::of(function)]), (second, argument)])
            }
            kind => {
                let is_module = kind == RelocKind::TlsModule;
                one(match (self.pair(wanted, asked)?, is_module) {
                    (Pair::Static(_), true) => vec![Candidate::of(Value::Abs(arch::STATIC))],
                    (Pair::Static(offsets), false) => offsets,
                    (Pair::Module(numbers), true) => numbers,
                    (Pair::Module(_), false) => vec![Candidate::of(Value::Abs(wanted.variable.at))],
                    (Pair::Borrowed(_), true) => vec![Candidate::of(Value::Abs(arch::BORROWED))],
                    (Pair::Borrowed(at), false) => vec![Candidate::of(at)],
                })
            }
        }
    }

    fn wanted(&self, found: Option<Found>, reloc: &Reloc, asked: &Asked) -> Result<Wanted, TlsError> {
        let (symbol, used_by) = (asked.symbol.clone(), asked.used_by.clone());
        let Some(Found { def, how, .. }) = found else { return Err(TlsError::Nowhere { symbol, used_by }) };
        if def.symbol.kind != elf::STT_TLS {
            return Err(TlsError::Plain { symbol, used_by, module: self.scope.name(def.object) });
        }
        let at = def.symbol.value.0.wrapping_add_signed(reloc.addend);
        Ok(Wanted { variable: Variable { object: def.object, at }, closed: !self.is_settled(&def, how) })
    }

    /// The ways to get a variable's offset from the thread pointer; empty if there is none.
    fn offsets(&mut self, w: Wanted) -> Result<Vec<Candidate>, Finding> {
        let scope = self.scope;
        let object = scope.get(w.variable.object);
        if w.variable.object == Scope::TARGET && scope.target_is_program() {
            let block = object.map_or(0, program_block);
            return Ok(vec![Candidate::of(Value::Abs(w.variable.at.wrapping_sub(block)))]);
        }
        let mut slots = self.tls_slots.of(scope, w.variable.object, RelocKind::TlsStatic);
        if slots.is_empty() && object.is_some_and(|o| o.at_startup) && scope.target_is_program() {
            // What is loaded at start-up has its block beside the program's: the argument is the offset.
            for slot in self.eager_descriptors(w.variable.object) {
                slots.extend(slot.place.plus(8).map(|place| Slot { place, ..slot }));
            }
        }
        slots.iter().map(|s| self.witness(s, w, w.variable.at.wrapping_sub(s.variable.at).cast_signed())).collect()
    }

    /// Descriptors that are filled when their object is loaded. Before glibc 2.34 only objects bound at start-up have them.
    fn eager_descriptors(&self, object: ObjectId) -> Vec<Slot> {
        let glibc = |version| self.scope.iter().any(|(_, o)| o.dynamic.defines(version));
        let all = !glibc("GLIBC_2.2.5") || glibc("GLIBC_2.34");
        let mut slots = self.tls_slots.of(self.scope, object, RelocKind::TlsDescriptor);
        slots.retain(|s| all || self.scope.get(s.object).is_some_and(|o| o.dynamic.bind_now));
        slots
    }

    fn witness(&mut self, slot: &Slot, w: Wanted, delta: i64) -> Result<Candidate, Finding> {
        let unbound = self.scope.get(slot.object).map_or(Ok(0), |o| o.word(slot.place))?;
        let module = self.modules.id(slot.object);
        // What a slot for another variable of the object says holds only if the name means this object.
        let closed = w.closed && !(slot.by_lookup && slot.variable == w.variable);
        let value = Value::Witness { module, slot: slot.place, unbound };
        Ok(Candidate { closed, delta, ..Candidate::of(value) })
    }

    fn static_offset(&mut self, w: Wanted, reloc: &Reloc, asked: &Asked) -> Result<Vec<Candidate>, Finding> {
        let offsets = self.offsets(w)?;
        if offsets.is_empty() {
            let kind = crate::arch::x86_64::reloc_name(reloc.number);
            let (symbol, used_by, module) =
                (asked.symbol.clone(), asked.used_by.clone(), self.scope.name(w.variable.object));
            return Err(TlsError::NoOffset { symbol, used_by, kind, module }.into());
        }
        Ok(offsets)
    }

    /// Both words of a pair are asked for one after the other: the answer depends on the files alone.
    fn pair(&mut self, w: Wanted, asked: &Asked) -> Result<Pair, Finding> {
        let numbers = self.tls_slots.of(self.scope, w.variable.object, RelocKind::TlsModule);
        let program = w.variable.object == Scope::TARGET && self.scope.target_is_program();
        if !numbers.is_empty() && !program {
            return Ok(Pair::Module(numbers.iter().map(|s| self.witness(s, w, 0)).collect::<Result<_, _>>()?));
        }
        self.own_get_addr = true;
        let offsets = self.offsets(w)?;
        if !offsets.is_empty() {
            return Ok(Pair::Static(offsets));
        }
        self.borrowed(w, asked)?.map(Pair::Borrowed).ok_or_else(|| {
            let (symbol, used_by, module) =
                (asked.symbol.clone(), asked.used_by.clone(), self.scope.name(w.variable.object));
            TlsError::NoSlot { symbol, used_by, module }.into()
        })
    }

    /// A copy of a live descriptor of the variable's object.
    fn borrowed(&mut self, w: Wanted, asked: &Asked) -> Result<Option<Value>, Finding> {
        let Some(slot) = self.eager_descriptors(w.variable.object).into_iter().next() else { return Ok(None) };
        let Some(second) = slot.place.plus(8) else { return Ok(None) };
        let function = self.witness(&slot, w, 0)?;
        let argument = self.witness(&Slot { place: second, ..slot }, w, 0)?;
        let (function, argument) =
            (self.in_this_build(slot.object, function), self.in_this_build(slot.object, argument));
        Ok(Some(self.added.borrowed(&asked.symbol, function, argument, w.variable.at.wrapping_sub(slot.variable.at))))
    }

    /// A candidate for one build of an object; with another build nobody uses the value.
    fn in_this_build(&mut self, object: ObjectId, candidate: Candidate) -> Vec<Candidate> {
        let (module, this) = (self.modules.id(object), self.scope.build(object));
        let builds = (0_u16..).map(BuildIdx).zip(self.scope.closure().builds(object)).map(|(build, _)| build);
        let value = |build| if build == this { candidate } else { Candidate::of(Value::Abs(0)) };
        match self.scope.closure().builds(object) {
            [_] => vec![candidate],
            _ => builds.map(|build| Candidate { guard: Some((module, build)), ..value(build) }).collect(),
        }
    }

    /// Function and argument of the patch's own descriptor.
    fn descriptor(&mut self, w: Wanted, reloc: &Reloc, asked: &Asked) -> Result<(Value, Vec<Candidate>), Finding> {
        let offsets = self.offsets(w)?;
        if !offsets.is_empty() {
            return Ok((self.added.descriptor_static(), offsets));
        }
        match self.borrowed(w, asked)? {
            Some(at) => Ok((self.added.descriptor_borrowed(), vec![Candidate::of(at)])),
            None => self.static_offset(w, reloc, asked).map(|offsets| (Value::Abs(0), offsets)),
        }
    }

    /// Our `__tls_get_addr`, which passes on to the target's own what it does not know.
    pub(super) fn get_addr(
        &mut self,
        symbol: &Symbol,
        version: Option<&Version>,
        asked: &Asked,
    ) -> Result<Vec<Candidate>, Finding> {
        let real = match self.definition(symbol, GET_ADDR, version, Class::Call, asked) {
            Ok(Some(found)) => self.of_def(&found, Class::Call, asked)?,
            // A static program may have none, and its patch does not need it: there are no libraries.
            Err(finding) if self.scope.iter().count() > 1 => return Err(finding),
            _ => vec![Candidate::of(Value::Abs(0))],
        };
        Ok(vec![Candidate::of(self.added.get_addr(real))])
    }

    /// A patch that has the emulation of thread-local variables in itself (`-static-libgcc`) has libc call it when a thread
    /// ends, which may be after a revert. It calls `free` then, which frees the thread's list, but not what it lists.
    pub(super) fn key_create(
        &mut self,
        own: &Own<'_>,
        real: Vec<Candidate>,
        asked: &Asked,
    ) -> Result<Vec<Candidate>, Finding> {
        let named = |name: &[u8]| own.patch.symtab.named(name).find(|s| s.is_function() && s.is_defined()).copied();
        let ends = EMULATION_ENDS.into_iter().find_map(named).and_then(|s| own.image.value(s.value));
        let free = own.patch.dynamic.symbols.named(b"free").next().copied();
        let (Some(ends), Some(free)) = (ends, free) else { return Ok(real) };
        let version = own.patch.dynamic.version(&free).cloned();
        let free = self.undefined(&free, "free", version.as_ref(), Class::Address, asked)?;
        let note = "emulated thread-local variables of the patch stay allocated when a thread ends; link it with \
                    -shared-libgcc if the target loads libgcc_s";
        self.note(note.to_owned());
        Ok(vec![Candidate::of(self.added.key_create(vec![Candidate::of(ends)], free, real))])
    }
}
