//! Symbols by name inside one object: exported or local, narrowed by source file, as C, C++ or Rust writes them.

use super::scope::{Def, ObjectId, Scope};
use crate::demangle;
use crate::finding::Explain;
use crate::read::debug::DebugFiles;
use crate::read::dwarf::is_tail;
use crate::read::elf::Object;
use crate::read::symbols::{Symbol, SymbolTable, VERSYM_HIDDEN};
use crate::spec::Qualified;
use lpb::LinkAddr;
use object::elf;
use std::collections::HashMap;

/// Why a name does not say one symbol.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error("the target loads no module {module} (asked for by {given})")]
    NoModule { module: String, given: String, modules: Vec<String> },
    #[error("{given} was not found in {module}{}", if *.stripped { " (it has no symbol table)" } else { "" })]
    NotFound {
        given: String,
        module: String,
        stripped: bool,
        /// Symbols of this name are there, but nothing says of which files they are.
        fileless: bool,
        elsewhere: Vec<String>,
        near: Vec<String>,
    },
    #[error("{given} is the name of several functions of {module}: {}",
        overloads.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", "))]
    Overloaded { given: String, module: String, overloads: Vec<(String, String)> },
    #[error("{name} is defined in several of the modules that the patch changes: {}", modules.join(", "))]
    Several { name: String, modules: Vec<String> },
    #[error("{given} is ambiguous in {module}: it is defined in {}", files.join(", "))]
    Ambiguous { given: String, module: String, files: Vec<String> },
}

impl Explain for LocateError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Overloaded { overloads, .. } => {
                let names: Vec<String> =
                    overloads.iter().map(|(linked, name)| format!("{linked} for {name}")).collect();
                format!("say which one: {}", names.join(", "))
            }
            Self::Several { name, modules } => {
                let module = modules.first().map_or("MODULE", String::as_str);
                format!("say which one: --bind {name}={module}:{name}")
            }
            Self::NoModule { modules, .. } => format!("the modules are {}", modules.join(", ")),
            Self::NotFound { elsewhere, given, .. } if !elsewhere.is_empty() => {
                let name = given.rsplit(':').next().unwrap_or_default();
                let names: Vec<String> = elsewhere.iter().map(|m| format!("{m}:{name}")).collect();
                format!("if that one is meant, say {}", names.join(" or "))
            }
            Self::NotFound { fileless: true, near, .. } => format!(
                "only debug information says of which files these are: {}; give the debug file with --debug-file, or \
                 name one of them as it is linked",
                near.join(", ")
            ),
            Self::NotFound { stripped: true, .. } => {
                "give its separate debug file with --debug-file, or install it under /usr/lib/debug".to_owned()
            }
            Self::NotFound { near, .. } if near.is_empty() => "check the spelling with `nm -C`".to_owned(),
            Self::NotFound { near, .. } => format!("similar names: {}", near.join(", ")),
            Self::Ambiguous { files, given, .. } => {
                let file = files.first().map_or("FILE.c", String::as_str);
                let name = given.rsplit(':').next().unwrap_or_default();
                format!("say which one: {file}:{name} (on the command line), or LP_REPLACE_IN / LP_BIND in the patch")
            }
        })
    }
}

/// Finds the one symbol that `given` names.
pub fn locate(scope: &Scope, given: &Qualified) -> Result<Def, LocateError> {
    let (object, file) = scope.split(given).map_err(|module| LocateError::NoModule {
        module,
        given: given.to_string(),
        modules: scope.iter().map(|(_, o)| o.name.clone()).collect(),
    })?;
    in_object(scope, object, file.as_deref(), &given.name)
}

/// Finds the one symbol of this name in an object; with `file`, only among the locals of that source file.
fn in_object(scope: &Scope, id: ObjectId, file: Option<&str>, name: &str) -> Result<Def, LocateError> {
    if let Some(def) = choose(scope, id, file, name, Reading::Written)? {
        return Ok(def);
    }
    let has = |o: &Object| !candidates(o, name, Reading::Written).is_empty();
    let elsewhere = scope.iter().filter(|(other, o)| *other != id && file.is_none() && has(o));
    Err(LocateError::NotFound {
        given: given(file, name),
        module: scope.name(id),
        stripped: scope.get(id).is_some_and(|o| o.symtab.is_empty()),
        fileless: file.is_some() && scope.get(id).is_some_and(|o| is_fileless(o, scope.closure().debug(), name)),
        elsewhere: elsewhere.map(|(_, o)| o.name.clone()).collect(),
        near: super::near::names(scope, name, Some(id)),
    })
}

/// The symbol of this name that an object may have.
///
/// # Errors
/// [`LocateError::Ambiguous`] if it is there more than once.
pub fn find(scope: &Scope, id: ObjectId, name: &str) -> Result<Option<Def>, LocateError> {
    choose(scope, id, None, name, Reading::Linked)
}

/// How a name is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// As it stands in symbol tables: what a compiler made of it.
    Linked,
    /// As people write it: if there is no such symbol, one of C++ or Rust that was mangled.
    Written,
}

fn choose(
    scope: &Scope,
    id: ObjectId,
    file: Option<&str>,
    name: &str,
    reading: Reading,
) -> Result<Option<Def>, LocateError> {
    let Some(object) = scope.get(id) else { return Ok(None) };
    let debug = scope.closure().debug();
    let mut found = candidates(object, name, reading);
    if let Some(file) = file {
        found = of_file(object, debug, found, file);
    }
    match narrow(&found).as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(Def { object: id, symbol: *one.symbol })),
        many if many.iter().all(|c| c.linked != name && !c.linked.contains(LTO_SUFFIX)) => {
            let describe = |c: &&Candidate<'_>| (c.linked.clone(), demangle::full(&c.linked).unwrap_or_default());
            let overloads = many.iter().map(describe).collect();
            Err(LocateError::Overloaded { given: given(file, name), module: scope.name(id), overloads })
        }
        many => {
            let files = origins(object, debug, many);
            Err(LocateError::Ambiguous { given: given(file, name), module: scope.name(id), files })
        }
    }
}

/// Those of one source file. The symbol table knows its name without the directory, and after link-time optimisation
/// not even that: then the debug information tells.
fn of_file<'a>(object: &Object, debug: &DebugFiles, all: Vec<Candidate<'a>>, file: &str) -> Vec<Candidate<'a>> {
    let base = file.rsplit('/').next().unwrap_or_default();
    let listed = |c: &&Candidate<'a>| c.file.as_deref() == Some(base);
    let by_table: Vec<Candidate<'a>> = all.iter().filter(listed).cloned().collect();
    if base == file && narrow(&by_table).len() == 1 {
        return by_table;
    }
    let open = if by_table.is_empty() { all.into_iter().filter(|c| c.file.is_none()).collect() } else { by_table };
    let places: Vec<LinkAddr> = open.iter().map(|c| c.symbol.value).collect();
    match debug.dwarf(object).filter(|_| !places.is_empty()) {
        Some(dwarf) => {
            let files = dwarf.files(&places, Some(file));
            let inside = |c: &Candidate<'a>| files.get(&c.symbol.value).is_some_and(|path| is_tail(path, file));
            open.into_iter().filter(inside).collect()
        }
        // Several of one file: still ambiguous. None: not there, as far as anybody knows.
        None => open.into_iter().filter(|c| c.file.is_some() && base == file).collect(),
    }
}

/// Whether symbols of this name are there, but nothing says of which files they are.
fn is_fileless(object: &Object, debug: &DebugFiles, name: &str) -> bool {
    let all = candidates(object, name, Reading::Written);
    debug.dwarf(object).is_none() && all.iter().any(|c| c.file.is_none())
}

/// Where each of several symbols comes from, for messages: with directories where the names of files alone do not tell
/// them apart.
fn origins(object: &Object, debug: &DebugFiles, many: &[&Candidate<'_>]) -> Vec<String> {
    let mut names: Vec<Option<&str>> = many.iter().map(|c| c.file.as_deref()).collect();
    names.sort();
    names.dedup();
    let vague = names.len() < many.len() || names.contains(&None);
    let places: Vec<LinkAddr> = many.iter().map(|c| c.symbol.value).collect();
    let paths = match debug.dwarf(object).filter(|_| vague) {
        Some(dwarf) => dwarf.files(&places, None),
        None => HashMap::new(),
    };
    let describe = |c: &&Candidate<'_>| match (paths.get(&c.symbol.value), &c.file) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(file)) if vague => format!("{file} (at {})", c.symbol.value),
        (None, Some(file)) => file.clone(),
        (None, None) => format!("an unknown file (at {})", c.symbol.value),
    };
    let mut files: Vec<String> = many.iter().map(describe).collect();
    files.sort();
    files
}

fn given(file: Option<&str>, name: &str) -> String {
    file.map_or_else(|| name.to_owned(), |f| format!("{f}:{name}"))
}

/// A symbol that may be meant.
#[derive(Clone, Debug)]
struct Candidate<'a> {
    symbol: &'a Symbol,
    /// The `STT_FILE` it belongs to.
    file: Option<String>,
    /// Its name in the symbol table.
    linked: String,
}

impl<'a> Candidate<'a> {
    fn of(table: &SymbolTable, symbol: &'a Symbol) -> Self {
        Self { symbol, file: table.file(symbol), linked: table.text(symbol) }
    }
}

/// gcc's name for a static function or variable that link-time optimisation made visible to other units.
const LTO_SUFFIX: &str = ".lto_priv.";

/// What a name may mean, in this order: itself, gcc's name for it after link-time optimisation, what C++ or Rust made
/// of it.
fn candidates<'a>(object: &'a Object, name: &str, reading: Reading) -> Vec<Candidate<'a>> {
    let usable = |s: &&Symbol| s.is_place() || s.kind == elf::STT_TLS && s.is_defined();
    // A name with several versions has one default definition.
    let current = |s: &&Symbol| s.version & VERSYM_HIDDEN == 0;
    let (table, exported) = (&object.symtab, &object.dynamic.symbols);
    let mut all: Vec<Candidate<'a>> =
        table.named(name.as_bytes()).filter(usable).map(|s| Candidate::of(table, s)).collect();
    let export = exported.named(name.as_bytes()).filter(usable).filter(current);
    all.extend(export.map(|s| Candidate::of(exported, s)));
    let lto = format!("{name}{LTO_SUFFIX}");
    let numbered = |s: &&Symbol| is_numbered(table.name(s), lto.len());
    all.extend(table.prefixed(lto.as_bytes()).filter(numbered).filter(usable).map(|s| Candidate::of(table, s)));
    if all.is_empty() && reading == Reading::Written {
        for table in [table, exported] {
            let word = demangle::last_word(name);
            let likely = |s: &&Symbol| demangle::may_mean(table.name(s), word) && demangle::means(name, &table.text(s));
            all.extend(table.iter().filter(usable).filter(current).filter(likely).map(|s| Candidate::of(table, s)));
        }
    }
    all
}

/// The name in the symbol table of what `given` names: that of a clone, of C++ or of Rust may be longer.
pub fn linked_name(object: &Object, def: &Def, given: &str) -> String {
    let found = candidates(object, given, Reading::Written).into_iter().find(|c| c.symbol.value == def.symbol.value);
    found.map_or_else(|| given.to_owned(), |c| c.linked)
}

/// Whether only digits stand behind the first `len` bytes.
fn is_numbered(name: &[u8], len: usize) -> bool {
    name.get(len..).is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}

/// One per address. A global definition is what the bare name means; locals of that name need their file.
fn narrow<'a, 'b>(all: &'b [Candidate<'a>]) -> Vec<&'b Candidate<'a>> {
    let global = |c: &&Candidate<'a>| c.symbol.bind != elf::STB_LOCAL && !c.linked.contains(LTO_SUFFIX);
    let mut some: Vec<&Candidate<'a>> = all.iter().filter(global).collect();
    if some.is_empty() {
        some = all.iter().collect();
    }
    some.sort_by_key(|c| c.symbol.value);
    some.dedup_by_key(|c| c.symbol.value);
    some
}
