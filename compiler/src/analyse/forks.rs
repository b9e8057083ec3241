//! Variables that the patch brings and the target has: two copies, of which each half of the program would use one.
//!
//! ```text
//! global    the definition that the dynamic linker would choose, or one of a patched module that it does not export
//! static    of the same name in a patched module, and known to be meant: same function, same file, or used by the
//!           replaced function itself
//! ```
//! A variable that no new function leads to is not used by anybody. What the loader makes read-only is no state: there only a changed size matters.

use super::function::Function;
use super::limits::LimitError;
use super::prologue::decode;
use super::reach::Reach;
use super::users::Users;
use super::variable::{Place, Variable, plain, same_place};
use crate::finding::{Explain, Findings};
use crate::read::dwarf::types::Types;
use crate::read::elf::{Object, Range};
use crate::read::patch::Wanted;
use crate::read::symbols::Symbol;
use crate::resolve::scope::{Def, ObjectId, Scope};
use crate::resolve::theirs;
use crate::rule::{self, Rule};
use crate::spec::Qualified;
use lpb::{ElfType, LinkAddr};
use object::elf;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Files of the C runtime, which every object has a copy of.
const RUNTIME: [&str; 5] = ["crtstuff.c", "crtbegin.c", "crtend.c", "crt1.c", "crti.c"];
/// So many pairs of variables are looked at.
const MOST_PAIRS: usize = 4096;
/// So many functions are searched for uses of a variable.
const MOST_SEARCHED: usize = 4096;

/// What is wrong with a variable of the patch.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    #[error("variable {name} is defined by the patch and by {module}: its live state would fork")]
    Forked { name: String, module: String, evidence: Vec<String>, ways: String },
    #[error("{name} has {} in {module} and {} in the patch", bytes(*.old), bytes(*.new))]
    Resized { name: String, module: String, old: u64, new: u64, evidence: Vec<String> },
    #[error("--bind {name}: the patch refers to its own {name} without a relocation{}", by(users))]
    Direct { name: String, users: Vec<String> },
}

fn bytes(n: u64) -> String {
    if n == 1 { "1 byte".to_owned() } else { format!("{n} bytes") }
}

fn by(users: &[String]) -> String {
    if users.is_empty() { String::new() } else { format!(" (in {})", users.join(", ")) }
}

impl Explain for ForkError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Forked { ways, .. } => Some(ways.clone()),
            Self::Resized { .. } => None,
            Self::Direct { name, .. } => Some(format!("declare {name} `extern` in the patch instead of defining it")),
        }
    }

    fn rule(&self) -> Option<&'static Rule> {
        match self {
            Self::Forked { .. } => Some(&rule::FORKED_DATA),
            Self::Resized { .. } => Some(&rule::CHANGED_SIZE),
            Self::Direct { .. } => None,
        }
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Forked { evidence, .. } | Self::Resized { evidence, .. } => evidence.clone(),
            Self::Direct { .. } => Vec::new(),
        }
    }
}

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

    fn mine(&self) -> Vec<Mine<'_>> {
        let patch = self.patch;
        let mut seen = HashSet::new();
        let tables = [&patch.symtab, &patch.dynamic.symbols];
        let mut all: Vec<Mine<'_>> = Vec::new();
        for (table, s) in tables.into_iter().flat_map(|t| t.iter().map(move |s| (t, s))) {
            let linked = table.text(s);
            let data = s.kind == elf::STT_OBJECT && s.is_place() && s.size != 0 && !patch.is_executable(s.value);
            let inside = patch.load_of(s.value, s.size).is_some() && self.is_loaded(s);
            let runtime = table.file(s).is_some_and(|file| RUNTIME.contains(&file.as_str()));
            // The guard of a static local comes and goes with it; the compiler's own pointers (to type information, for
            // exception tables) are filled by the loader and never changed.
            let guard = linked.starts_with("_ZGV") || linked.starts_with("DW.ref.");
            let bound = self.binds.contains_key(&linked) && s.bind != elf::STB_LOCAL;
            let used = || self.reach.holds(Range { start: s.value, size: s.size });
            if data && inside && !runtime && !guard && !bound && used() && seen.insert((s.value, linked.clone())) {
                let file = table.file(s);
                all.push(Mine { symbol: s, variable: Variable::of(&linked), linked, file, at: None });
            }
        }
        if let Some(dwarf) = self.scope.closure().debug().dwarf(patch).filter(|_| !all.is_empty()) {
            let types = Types::of(dwarf);
            let found = types.variables_at(&all.iter().map(|m| m.symbol.value).collect());
            for m in &mut all {
                let Some(place) = found.get(&m.symbol.value) else { continue };
                m.at = types.declared_at(place.entry);
                m.file = types.unit_file(types.home(place.entry)).or(m.file.take());
                narrow(&mut m.variable.place, place.inside.clone());
            }
        }
        all
    }

    /// Whether the section of a symbol is loaded: what livepatch.h writes down is not.
    fn is_loaded(&self, s: &Symbol) -> bool {
        let section = self.patch.sections.get(usize::from(s.section.0));
        section.is_none_or(|section| section.has(elf::SHF_ALLOC))
    }

    /// Variables of a patched module that have the names of some of the patch; at least one of each two is static.
    fn candidates(&self, id: ObjectId, mine: &[Mine<'_>], left: &[usize]) -> Vec<Pair> {
        let Some(object) = self.scope.get(id) else { return Vec::new() };
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for i in left {
            let Some(m) = mine.get(*i) else { continue };
            by_name.entry(&m.variable.name).or_default().push(*i);
        }
        // To demangle every name takes its time.
        let written = left.iter().filter_map(|i| mine.get(*i)).any(|m| m.linked.starts_with("_ZZ"));
        let table = &object.symtab;
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        let data = table.iter().filter(|s| s.kind == elf::STT_OBJECT && s.is_place() && s.size != 0);
        for symbol in data.filter(|s| written || !table.name(s).starts_with(b"_ZZ")) {
            let linked = table.text(symbol);
            let variable = Variable::of(&linked);
            let file = table.file(symbol);
            for i in by_name.get(variable.name.as_str()).into_iter().flatten() {
                let global = |s: &Symbol| s.bind != elf::STB_LOCAL;
                let runtime = file.as_ref().is_some_and(|file| RUNTIME.contains(&file.as_str()));
                let both = mine.get(*i).is_some_and(|m| global(m.symbol)) && global(symbol);
                if !both && !runtime && found.len() < MOST_PAIRS && seen.insert((*i, symbol.value)) {
                    let (file, place) = (file.clone(), variable.place.clone());
                    let def = Def { object: id, symbol: *symbol };
                    let theirs = Theirs { def, linked: linked.clone(), file, at: None, place };
                    found.push(Pair { mine: *i, theirs, certain: false });
                }
            }
        }
        found
    }

    /// Adds what debug information says of the variables of one module, and drops the pairs that are two variables.
    fn settle(&self, id: ObjectId, mine: &[Mine<'_>], pairs: &mut Vec<Pair>) {
        let Some(object) = self.scope.get(id) else { return };
        let here = |p: &Pair| p.theirs.def.object == id;
        let places: HashSet<LinkAddr> = pairs.iter().filter(|p| here(p)).map(|p| p.theirs.def.symbol.value).collect();
        if places.is_empty() {
            return;
        }
        let mut files = self.files(object, id);
        if let Some(dwarf) = self.scope.closure().debug().dwarf(object) {
            let types = Types::of(dwarf);
            let found = types.variables_at(&places);
            for t in pairs.iter_mut().filter(|p| here(p)).map(|p| &mut p.theirs) {
                let Some(place) = found.get(&t.def.symbol.value) else { continue };
                t.at = types.declared_at(place.entry);
                t.file = types.unit_file(types.home(place.entry)).or(t.file.take());
                narrow(&mut t.place, place.inside.clone());
            }
            let code = types.functions_at(&self.functions.iter().filter(|f| f.object == id).map(|f| f.addr).collect());
            files.extend(code.values().filter_map(|place| types.unit_file(types.home(place.entry))));
        }
        let names = self.pairs();
        pairs.retain(|p| {
            let (Some(m), t) = (mine.get(p.mine), &p.theirs) else { return false };
            if p.certain || t.def.object != id {
                return true;
            }
            let both_in_files = m.variable.place == Place::File && t.place == Place::File;
            let same_file =
                || both_in_files && t.file.as_ref().is_some_and(|f| m.file.as_ref() == Some(f) || files.contains(f));
            same_place(&m.variable.place, &t.place, &names)
                .unwrap_or_else(|| same_file() || self.uses(object, id, m, &t.def.symbol))
        });
    }

    /// Names of each new function and of the one that it replaces.
    fn pairs(&self) -> Vec<(Vec<String>, Vec<String>)> {
        let both = |name: &str| vec![name.to_owned(), plain(name)];
        let named = |f: &Function| {
            let new = both(&self.wanted.get(f.number)?.new);
            Some((new, [both(&f.linked), both(&f.name)].concat()))
        };
        self.functions.iter().filter_map(named).collect()
    }

    /// The source files of the replaced functions, as far as the symbol table says them.
    fn files(&self, object: &Object, id: ObjectId) -> HashSet<String> {
        let here = self.functions.iter().filter(|f| f.object == id);
        here.flat_map(|f| object.symtab.at(f.addr).filter_map(|s| object.symtab.file(s))).collect()
    }

    /// Whether a replaced function, or one that has the name of one of the patch that uses `m`, uses a variable.
    fn uses(&self, object: &Object, id: ObjectId, m: &Mine<'_>, variable: &Symbol) -> bool {
        let range = Range { start: variable.value, size: variable.size.max(1) };
        let fragments = self.functions.iter().filter(|f| f.object == id).flat_map(|f| &f.fragments);
        if fragments.into_iter().any(|f| refers(object, &f.bytes, f.addr, range)) {
            return true;
        }
        let users = self.users_of(m);
        let copied = users.iter().flat_map(|name| object.symtab.named(name.as_bytes())).filter(|s| s.is_function());
        copied.take(MOST_SEARCHED).any(|s| {
            let code = object.memory(s.value, s.size.min(lpb::limits::FRAGMENT)).unwrap_or_default();
            refers(object, &code, s.value, range)
        })
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

    fn evidence(&self, m: &Mine<'_>, t: &Theirs) -> Vec<String> {
        let say = |linked: &str, s: &Symbol, whose: &str, at: &Option<String>, file: &Option<String>| {
            let place = at.as_ref().or(file.as_ref()).map(|place| format!(", {place}")).unwrap_or_default();
            format!("{whose}: {linked} at {}, {}{place}", s.value, bytes(s.size))
        };
        let users = self.users_of(m);
        let used = if users.is_empty() { String::new() } else { format!(", used by {}", users.join(", ")) };
        vec![
            say(&t.linked, &t.def.symbol, &self.scope.name(t.def.object), &t.at, &t.file),
            say(&m.linked, m.symbol, "the patch", &m.at, &m.file) + &used,
        ]
    }

    /// How to use the target's; keeping the copy is what `--allow` says.
    fn ways(&self, m: &Mine<'_>, t: &Theirs) -> String {
        let name = &m.variable.name;
        let file = t.file.as_ref().filter(|_| t.def.symbol.bind == elf::STB_LOCAL);
        let exact = file.map_or_else(|| t.linked.clone(), |file| format!("{file}:{}", t.linked));
        let exact = match t.def.object == Scope::TARGET {
            true => exact,
            false => format!("{}:{exact}", self.scope.name(t.def.object)),
        };
        let by_relocation = m.symbol.bind != elf::STB_LOCAL && m.symbol.visibility == elf::STV_DEFAULT;
        let bindable = by_relocation && self.direct(m.symbol).is_none();
        match (bindable, &m.variable.place, file) {
            (true, ..) => format!(
                "declare it `extern` in the patch to use the target's, rename it for an own one, or say --bind {}={exact}",
                m.linked
            ),
            (false, Place::Function(_), _) => format!(
                "declare it `extern` outside the function and say --bind {name}={exact} to use the target's, rename it for an own one"
            ),
            (false, Place::File, Some(file)) if t.linked == *name && !name.starts_with("_Z") => format!(
                "declare it `extern` in the patch, with LP_BIND(\"{file}\", {name}) or --bind {name}={exact}, to use the \
                 target's, rename it for an own one"
            ),
            (false, Place::File, _) => format!(
                "declare it `extern` in the patch and say --bind NAME={exact} to use the target's, rename it for an own one"
            ),
        }
    }
}

/// What debug information says of a place, unless the name said more.
fn narrow(place: &mut Place, inside: Option<Vec<String>>) {
    match inside {
        Some(names) if !names.is_empty() => {
            let plain: Vec<String> = names.iter().map(|name| plain(name)).collect();
            *place = Place::Function([names, plain].concat());
        }
        // The entry of a static local may stand outside of its function: the name knows better.
        _ => {}
    }
}

/// Whether code refers to a range: relative to the instruction, or, where the object lies at a fixed place, absolutely.
fn refers(object: &Object, code: &[u8], start: LinkAddr, range: Range) -> bool {
    let fixed = object.e_type == ElfType::Exec;
    decode(code, start).any(|i| {
        let relative = i.is_ip_rel_memory_operand() && range.contains(LinkAddr(i.ip_rel_memory_address()));
        let absolute = || {
            let immediates = (0..i.op_count()).filter_map(|n| i.try_immediate(n).ok());
            immediates.chain([i.memory_displacement64()]).any(|at| range.contains(LinkAddr(at)))
        };
        relative || fixed && absolute()
    })
}
