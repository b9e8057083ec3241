//! Which variables of the patch and of the target may be the same.

use super::{Forks, MOST_PAIRS, Mine, Pair, Theirs};
use crate::analyse::function::Function;
use crate::analyse::prologue::decode;
use crate::analyse::variable::{Place, Variable, plain, same_place};
use crate::read::dwarf::types::Types;
use crate::read::elf::{Object, Range};
use crate::read::symbols::Symbol;
use crate::resolve::scope::{Def, ObjectId};
use lpb::{ElfType, LinkAddr};
use object::elf;
use std::collections::{HashMap, HashSet};

/// Files of the C runtime, which every object has a copy of.
const RUNTIME: [&str; 5] = ["crtstuff.c", "crtbegin.c", "crtend.c", "crt1.c", "crti.c"];
/// So many functions are searched for uses of a variable.
const MOST_SEARCHED: usize = 4096;

impl Forks<'_> {
    /// The variables of the patch that may be state.
    pub(super) fn mine(&self) -> Vec<Mine<'_>> {
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
    pub(super) fn candidates(&self, id: ObjectId, mine: &[Mine<'_>], left: &[usize]) -> Vec<Pair> {
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
    pub(super) fn settle(&self, id: ObjectId, mine: &[Mine<'_>], pairs: &mut Vec<Pair>) {
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
