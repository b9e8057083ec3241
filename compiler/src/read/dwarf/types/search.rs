//! Which entries there are: those of code and data at an address, declarations, definitions of types by name.

use super::{Types, is_c, tag};
use crate::read::dwarf::shape::EntryId;
use crate::read::dwarf::{Entry, Unit};
use gimli::AttributeValue;
use lpb::LinkAddr;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// So many entries of one unit are looked at.
const MOST_ENTRIES: usize = 1 << 22;
/// Records and namespaces inside each other, as far as their names are told.
const DEEPEST_NAME: usize = 64;

/// A variable or a function that has an address.
#[derive(Clone, Debug)]
pub struct Place {
    pub entry: EntryId,
    /// The names of the function that it is a static local of.
    pub inside: Option<Vec<String>>,
}

impl Types<'_> {
    /// The functions of C and C++ that start at these addresses. Units whose code lies elsewhere are not read.
    pub fn functions_at(&self, places: &HashSet<LinkAddr>) -> HashMap<LinkAddr, Place> {
        self.at(places, gimli::DW_TAG_subprogram, |unit| {
            let Ok(mut ranges) = self.dwarf.sections.unit_ranges(unit) else { return true };
            let mut some = false;
            while let Ok(Some(range)) = ranges.next() {
                some = true;
                if places.iter().any(|at| (range.begin..range.end).contains(&at.0)) {
                    return true;
                }
            }
            !some
        })
    }

    /// The variables of C and C++ that lie at these addresses.
    pub fn variables_at(&self, places: &HashSet<LinkAddr>) -> HashMap<LinkAddr, Place> {
        self.at(places, gimli::DW_TAG_variable, |_| true)
    }

    fn at(
        &self,
        places: &HashSet<LinkAddr>,
        tag: gimli::DwTag,
        reads: impl Fn(&Unit) -> bool,
    ) -> HashMap<LinkAddr, Place> {
        let mut found = HashMap::new();
        for number in 0..self.dwarf.units.len() {
            if places.is_empty() || found.len() == places.len() {
                break;
            }
            let Some(unit) = self.unit(number).filter(|unit| is_c(unit) && reads(unit)) else { continue };
            let mut functions: Vec<(isize, EntryId)> = Vec::new();
            let mut entries = unit.entries();
            for left in (0..MOST_ENTRIES).rev() {
                let Ok(Some(entry)) = entries.next_dfs() else { break };
                self.note_end(left);
                let id = EntryId { unit: number, at: entry.offset().0 };
                while functions.last().is_some_and(|(depth, _)| *depth >= entry.depth()) {
                    functions.pop();
                }
                if entry.tag() == tag
                    && let Some(at) = self.dwarf.address(&unit, entry).filter(|at| places.contains(at))
                {
                    let inside = functions.last().map(|(_, function)| self.names(*function));
                    found.entry(at).or_insert(Place { entry: id, inside });
                }
                if entry.tag() == gimli::DW_TAG_subprogram {
                    functions.push((entry.depth(), id));
                }
            }
        }
        found
    }

    /// Notes that this entry is the last one that is looked at.
    fn note_end(&self, left: usize) {
        if left == 0 {
            self.cut.set(true);
        }
    }

    /// Whether the unit of an entry says what functions take and return: with `-g1` and `-gline-tables-only` it does not,
    /// and each function looks like `void f(void)`.
    pub fn has_prototypes(&self, id: EntryId) -> bool {
        let number = self.home(id);
        let look = || {
            let Some(unit) = self.unit(number) else { return false };
            let says = [gimli::DW_AT_type, gimli::DW_AT_prototyped];
            let mut entries = unit.entries();
            for _ in 0..MOST_ENTRIES {
                let Ok(Some(entry)) = entries.next_dfs() else { break };
                let whole = || !entry.has_attr(gimli::DW_AT_declaration);
                match entry.tag() {
                    gimli::DW_TAG_formal_parameter => return true,
                    gimli::DW_TAG_subprogram if whole() && says.iter().any(|a| entry.has_attr(*a)) => return true,
                    _ => {}
                }
            }
            false
        };
        *self.prototyped.borrow_mut().entry(number).or_insert_with(look)
    }

    /// What other objects define and this one declares: functions and variables, by linked name.
    pub fn declarations(&self) -> BTreeMap<String, EntryId> {
        let mut found = BTreeMap::new();
        self.walk_all(|types, number, unit, entry, _| {
            let kinds = [gimli::DW_TAG_subprogram, gimli::DW_TAG_variable];
            let outer = entry.has_attr(gimli::DW_AT_external) && entry.has_attr(gimli::DW_AT_declaration);
            if kinds.contains(&entry.tag()) && outer {
                let names = [gimli::DW_AT_linkage_name, gimli::DW_AT_name];
                if let Some(name) = names.into_iter().find_map(|name| types.text(unit, entry, name)) {
                    found.entry(name).or_insert(EntryId { unit: number, at: entry.offset().0 });
                }
            }
        });
        found
    }

    /// The named types that a unit defines, or uses from units of types, as C spells them.
    pub fn defined_in(&self, number: usize) -> BTreeMap<String, EntryId> {
        let mut found = BTreeMap::new();
        let mut used = BTreeSet::new();
        let mut seen = HashSet::from([number]);
        let mut next = Some(number);
        while let Some(number) = next {
            if let Some(unit) = self.unit(number).filter(|unit| is_c(unit)) {
                self.walk(number, &unit, &mut |types, number, unit, entry, path| {
                    let id = EntryId { unit: number, at: entry.offset().0 };
                    if let Some(name) = types.tag_name(number, unit, entry, path) {
                        found.entry(name).or_insert(id);
                    }
                    if let Some(AttributeValue::DebugTypesRef(signature)) = entry.attr_value(gimli::DW_AT_type) {
                        used.extend(types.signatures.get(&signature.0).map(|id| id.unit));
                    }
                });
            }
            next = used.iter().copied().find(|used| seen.insert(*used));
        }
        found
    }

    /// `struct a`, `enum b`, and the name of a typedef whose struct has none; of definitions only.
    fn tag_name(&self, number: usize, unit: &Unit, entry: &Entry, path: &[String]) -> Option<String> {
        let whole = |entry: &Entry| !entry.has_attr(gimli::DW_AT_declaration);
        let full = |name: String| path.iter().cloned().chain([name]).collect::<Vec<_>>().join("::");
        if let Some(tag) = tag(entry) {
            let named = self.text(unit, entry, gimli::DW_AT_name).filter(|_| whole(entry))?;
            return Some(format!("{tag} {}", full(named)));
        }
        if entry.tag() != gimli::DW_TAG_typedef {
            return None;
        }
        let (_, of) = self.entry(self.reference(number, entry, gimli::DW_AT_type)?)?;
        let nameless = tag(&of).is_some() && whole(&of) && !of.has_attr(gimli::DW_AT_name);
        self.text(unit, entry, gimli::DW_AT_name).filter(|_| nameless).map(full)
    }

    fn walk_all(&self, mut see: impl FnMut(&Self, usize, &Unit, &Entry, &[String])) {
        for number in 0..self.dwarf.units.len() {
            if let Some(unit) = self.unit(number).filter(|unit| is_c(unit)) {
                self.walk(number, &unit, &mut see);
            }
        }
    }

    /// Shows every entry of a unit, with the names of the namespaces and records around it.
    fn walk(&self, number: usize, unit: &Unit, see: &mut impl FnMut(&Self, usize, &Unit, &Entry, &[String])) {
        let mut depths: Vec<isize> = Vec::new();
        let mut path: Vec<String> = Vec::new();
        let mut entries = unit.entries();
        for left in (0..MOST_ENTRIES).rev() {
            let Ok(Some(entry)) = entries.next_dfs() else { break };
            self.note_end(left);
            while depths.last().is_some_and(|depth| *depth >= entry.depth()) {
                depths.pop();
                path.pop();
            }
            see(self, number, unit, entry, path.get(..DEEPEST_NAME).unwrap_or(&path));
            if entry.tag() == gimli::DW_TAG_namespace || tag(entry).is_some_and(|tag| tag != "enum") {
                depths.push(entry.depth());
                path.push(self.text(unit, entry, gimli::DW_AT_name).unwrap_or_default());
            }
        }
    }

    /// The definition of a type that is only declared here.
    pub(super) fn definition(&self, name: &str) -> Option<EntryId> {
        let mut definitions = self.definitions.borrow_mut();
        let all = definitions.get_or_insert_with(|| {
            let mut all: HashMap<String, Option<EntryId>> = HashMap::new();
            self.walk_all(|types, number, unit, entry, path| {
                // Where several units define it, nobody knows which one is meant, unless they agree on the size.
                let id = EntryId { unit: number, at: entry.offset().0 };
                let Some(name) = types.tag_name(number, unit, entry, path) else { return };
                let size = |entry: &Entry| entry.attr(gimli::DW_AT_byte_size).and_then(gimli::Attribute::udata_value);
                let same = |other: &EntryId| types.entry(*other).is_some_and(|(_, o)| size(&o) == size(entry));
                let known = all.entry(name).or_insert(Some(id));
                *known = known.filter(same);
            });
            all.into_iter().filter_map(|(name, id)| Some((name, id?))).collect()
        });
        all.get(name).copied()
    }
}
