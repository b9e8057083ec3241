//! Lookup by name and version in ELF order: the executable, then its needed libraries, breadth first.
//!
//! Source: glibc `elf/dl-lookup.c`, `check_match` and `do_lookup_x`, told in words in ld.so(8) and gABI ch. 5.

use crate::read::ReadError;
use crate::read::debug::DebugFiles;
use crate::read::elf::Object;
use crate::read::search::Builds;
use crate::read::symbols::{Symbol, VERSYM_HIDDEN};
use crate::spec::Qualified;
use lpb::BuildIdx;
use object::elf;
use std::collections::HashSet;

/// Number of an object in the closure, whatever its build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub usize);

/// The version a reference asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    Version(String),
    /// None named: the default version.
    Default,
}

/// What the address is used for. It matters for functions whose address a non-PIE executable takes: their address is a
/// PLT entry of the executable, but calls go to the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Call,
    Address,
}

/// A definition that a reference binds to.
#[derive(Clone, Copy, Debug)]
pub struct Def {
    pub object: ObjectId,
    pub symbol: Symbol,
}

impl Def {
    pub fn is_same(&self, other: &Self) -> bool {
        self.object == other.object && self.symbol.value == other.symbol.value
    }
}

/// The target and all objects that are loaded with it, in lookup order, each in one build or several.
#[derive(Debug)]
pub struct Closure {
    objects: Vec<Builds>,
    debug: DebugFiles,
    /// The privately opened objects whose names are looked up: those that the patch changes, with what they need.
    inside: HashSet<ObjectId>,
}

impl Closure {
    pub fn new(objects: Vec<Builds>, debug: DebugFiles) -> Self {
        Self { objects, debug, inside: HashSet::new() }
    }

    /// Reads the symbol tables of all builds of these objects.
    pub fn load_symbols(&mut self, ids: &[ObjectId]) -> Result<(), ReadError> {
        for id in ids {
            let builds = self.objects.get_mut(id.0).map(Vec::as_mut_slice).unwrap_or_default();
            builds.iter_mut().try_for_each(|object| self.debug.load_symbols(object))?;
        }
        Ok(())
    }

    /// Debug files named by the user, and where others are.
    pub fn debug(&self) -> &DebugFiles {
        &self.debug
    }

    /// Sets from where names are looked up: from inside the objects that the patch changes.
    pub fn look_from(&mut self, changed: &[ObjectId]) {
        let mut todo = changed.to_vec();
        while let Some(id) = todo.pop() {
            let private = self.builds(id).iter().filter(|o| o.private);
            let needed: Vec<String> = private.flat_map(|o| o.dynamic.needed.iter().cloned()).collect();
            let first = self.first();
            let found: Vec<ObjectId> = needed.iter().filter_map(|name| first.by_name(name)).collect();
            if self.inside.insert(id) {
                todo.extend(found);
            }
        }
    }

    pub fn builds(&self, id: ObjectId) -> &[Object] {
        self.objects.get(id.0).map(Vec::as_slice).unwrap_or_default()
    }

    /// All builds of all objects.
    pub fn all(&self) -> impl Iterator<Item = &Object> + Clone {
        self.objects.iter().flatten()
    }

    /// The first build of everything.
    pub fn first(&self) -> Scope<'_> {
        Scope { closure: self, other: None }
    }

    /// Every scope that tells something new: the first build of everything, then every other build in place of the
    /// first of its object. Builds of different objects do not depend on each other.
    pub fn scopes(&self) -> Vec<Scope<'_>> {
        let mut scopes = vec![self.first()];
        for (id, builds) in self.objects.iter().enumerate() {
            let others = (0_u16..).map(BuildIdx).zip(builds).skip(1);
            scopes.extend(others.map(|(build, _)| Scope { closure: self, other: Some((ObjectId(id), build)) }));
        }
        scopes
    }
}

/// What one process may consist of: one build of each object.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    closure: &'a Closure,
    /// The object that is not there in its first build.
    other: Option<(ObjectId, BuildIdx)>,
}

impl<'a> Scope<'a> {
    pub const TARGET: ObjectId = ObjectId(0);

    /// Which build of an object is meant here.
    pub fn build(&self, id: ObjectId) -> BuildIdx {
        self.other.filter(|(object, _)| *object == id).map_or(BuildIdx(0), |(_, build)| build)
    }

    /// The object whose build tells this scope from the first one.
    pub fn other(&self) -> Option<(ObjectId, BuildIdx)> {
        self.other
    }

    /// The file that tells this scope from the first one.
    pub fn other_file(&self) -> Option<String> {
        let (id, _) = self.other?;
        self.get(id).map(|o| o.path().display().to_string())
    }

    /// Whether no scope before this one has this build of the object.
    pub fn introduces(&self, id: ObjectId) -> bool {
        self.other.is_none_or(|(object, _)| object == id)
    }

    pub fn closure(&self) -> &'a Closure {
        self.closure
    }

    pub fn get(&self, id: ObjectId) -> Option<&'a Object> {
        self.closure.builds(id).get(self.build(id).index())
    }

    pub fn iter(&self) -> impl Iterator<Item = (ObjectId, &'a Object)> {
        let (closure, here) = (self.closure, *self);
        (0..closure.objects.len()).map(ObjectId).filter_map(move |id| here.get(id).map(|o| (id, o)))
    }

    /// The objects whose names the patch can use without naming the object.
    pub fn in_sight(&self) -> impl Iterator<Item = (ObjectId, &'a Object)> {
        let inside = &self.closure.inside;
        self.iter().filter(move |(id, o)| !o.private || inside.contains(id))
    }

    pub fn name(&self, id: ObjectId) -> String {
        self.get(id).map(|o| o.name.clone()).unwrap_or_default()
    }

    /// Whether the target is a program, so that nothing can come before it in lookup order.
    pub fn target_is_program(&self) -> bool {
        self.get(Self::TARGET).is_some_and(Object::is_program)
    }

    /// The object of this soname or file name.
    pub fn by_name(&self, name: &str) -> Option<ObjectId> {
        let same = |o: &Object| o.name == name || o.file_name == name;
        self.iter().find(|(id, _)| self.closure.builds(*id).iter().any(same)).map(|(id, _)| id)
    }

    /// Splits the prefixes of a name into module and source file.
    /// A single prefix is a module if the closure has one of this name, else a file.
    pub fn split(&self, name: &Qualified) -> Result<(ObjectId, Option<String>), String> {
        match name.prefixes.as_slice() {
            [] => Ok((Self::TARGET, None)),
            [one] => Ok(self.by_name(one).map_or((Self::TARGET, Some(one.clone())), |id| (id, None))),
            [module, file, ..] => self.by_name(module).map(|id| (id, Some(file.clone()))).ok_or_else(|| module.clone()),
        }
    }

    /// The version for a reference without one: what the target itself asks for, else the default.
    pub fn want(&self, name: &[u8], version: Option<&str>) -> Want {
        if let Some(version) = version {
            return Want::Version(version.to_owned());
        }
        let own = self.get(Self::TARGET).and_then(|o| {
            let symbol = o.dynamic.symbols.named(name).find(|s| !s.is_defined())?;
            o.dynamic.version(symbol)
        });
        own.map_or(Want::Default, |v| Want::Version(v.name.clone()))
    }

    /// The definition that the dynamic linker would choose.
    pub fn lookup(&self, name: &[u8], want: &Want, class: Class) -> Option<Def> {
        self.in_sight().find_map(|(object, o)| {
            let symbol = *lookup_in(o, name, want, class)?;
            Some(Def { object, symbol })
        })
    }
}

/// The definition of one object, if it has a matching one.
pub fn lookup_in<'a>(object: &'a Object, name: &'a [u8], want: &Want, class: Class) -> Option<&'a Symbol> {
    // A static executable has no dynamic symbols: its globals are what a linker would have bound to, in any version.
    match object.is_static() {
        true => object.symtab.named(name).find(|s| binds(s, class)),
        false => object.dynamic.symbols.named(name).find(|s| binds(s, class) && version_matches(object, s, want)),
    }
}

fn binds(s: &Symbol, class: Class) -> bool {
    let global = s.bind == elf::STB_GLOBAL || s.bind == elf::STB_WEAK || s.bind == elf::STB_GNU_UNIQUE;
    let visible = s.visibility == elf::STV_DEFAULT || s.visibility == elf::STV_PROTECTED;
    let has_value = s.value.0 != 0 || s.section == elf::SHN_ABS || s.kind == elf::STT_TLS;
    let kinds = [elf::STT_NOTYPE, elf::STT_OBJECT, elf::STT_FUNC, elf::STT_COMMON, elf::STT_TLS, elf::STT_GNU_IFUNC];
    let defined = s.is_defined() || class == Class::Address && s.kind == elf::STT_FUNC;
    global && visible && has_value && defined && kinds.contains(&s.kind)
}

fn version_matches(object: &Object, s: &Symbol, want: &Want) -> bool {
    let hidden = s.version & VERSYM_HIDDEN != 0;
    match (want, object.dynamic.version(s)) {
        (Want::Version(wanted), Some(has)) => has.name == *wanted,
        // An unversioned definition satisfies any reference, as does an object without versions.
        (Want::Version(_), None) => !hidden,
        (Want::Default, _) => !hidden,
    }
}
