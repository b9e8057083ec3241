//! Types, functions and variables in debug information, one entry at a time.
//!
//! ```text
//! .debug_info   unit a.c │ unit b.c │ (DWARF 5) type unit ...      .debug_types (DWARF 4)  type unit ...
//! entry         subprogram ─ DW_AT_abstract_origin ─► subprogram ─ DW_AT_specification ─► subprogram
//!               structure (declaration) ─ DW_AT_signature ─► structure in its type unit
//! ```
//! Only C and C++ are read: other languages have layouts of their own. Source: DWARF 5, 2.14, 3.3, 4.1 and ch. 5.

mod search;
mod shapes;

use super::shape::{EntryId, Prototype, Source, Type};
use super::{Dwarf, Entry, MOST_STEPS, Reader, Unit, clean};
use crate::read::symbols::printable;
use gimli::{AttributeValue, DwAt, DwLang, Reader as _, UnitOffset, UnitType};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

/// So many children of one entry are looked at.
const MOST_CHILDREN: usize = 1 << 16;

/// The types of one object.
pub struct Types<'a> {
    dwarf: &'a Dwarf,
    /// Every unit, those of `.debug_types` last.
    headers: Vec<gimli::UnitHeader<Reader>>,
    signatures: HashMap<u64, EntryId>,
    opened: RefCell<HashMap<usize, Option<Rc<Unit>>>>,
    shapes: RefCell<HashMap<EntryId, Type>>,
    /// Units of which it is known whether they describe prototypes.
    prototyped: RefCell<HashMap<usize, bool>>,
    /// Definitions by name, of all units: made when a type is only declared where it is used.
    definitions: RefCell<Option<HashMap<String, EntryId>>>,
    /// A limit was met: something was left out.
    cut: Cell<bool>,
}

impl<'a> Types<'a> {
    pub fn of(dwarf: &'a Dwarf) -> Self {
        let mut headers = dwarf.units.clone();
        let mut more = dwarf.sections.type_units();
        while let Ok(Some(header)) = more.next() {
            headers.push(header);
        }
        let signed = headers.iter().enumerate().filter_map(|(unit, header)| match header.type_() {
            UnitType::Type { type_signature, type_offset } => {
                Some((type_signature.0, EntryId { unit, at: type_offset.0 }))
            }
            _ => None,
        });
        let signatures = signed.collect();
        Self {
            dwarf,
            headers,
            signatures,
            opened: RefCell::default(),
            shapes: RefCell::default(),
            prototyped: RefCell::default(),
            definitions: RefCell::default(),
            cut: Cell::new(false),
        }
    }

    fn unit(&self, number: usize) -> Option<Rc<Unit>> {
        let open = || self.dwarf.sections.unit(self.headers.get(number)?.clone()).ok().map(Rc::new);
        self.opened.borrow_mut().entry(number).or_insert_with(open).clone()
    }

    fn entry(&self, id: EntryId) -> Option<(Rc<Unit>, Entry)> {
        let unit = self.unit(id.unit)?;
        let entry = unit.entry(UnitOffset(id.at)).ok()?;
        Some((unit, entry))
    }

    /// Where an attribute of an entry of `unit` leads.
    fn reference(&self, unit: usize, entry: &Entry, name: DwAt) -> Option<EntryId> {
        match entry.attr_value(name)? {
            AttributeValue::UnitRef(offset) => Some(EntryId { unit, at: offset.0 }),
            AttributeValue::DebugInfoRef(offset) => {
                let behind =
                    self.dwarf.units.partition_point(|u| u.debug_info_offset().is_some_and(|o| o.0 <= offset.0));
                let unit = behind.checked_sub(1)?;
                let at = offset.to_unit_offset(self.headers.get(unit)?)?;
                Some(EntryId { unit, at: at.0 })
            }
            AttributeValue::DebugTypesRef(signature) => self.signatures.get(&signature.0).copied(),
            _ => None,
        }
    }

    fn text(&self, unit: &Unit, entry: &Entry, name: DwAt) -> Option<String> {
        let value = entry.attr_value(name)?;
        let text = self.dwarf.sections.attr_string(unit, value).ok()?;
        Some(shorten(printable(&text.to_slice().ok()?)))
    }

    /// The entry itself and those that it takes what it does not say from, nearest first.
    fn chain(&self, id: EntryId) -> Vec<(EntryId, Rc<Unit>, Entry)> {
        let mut all = Vec::new();
        let mut next = Some(id);
        for _ in 0..MOST_STEPS {
            let Some((id, (unit, entry))) = next.and_then(|id| Some((id, self.entry(id)?))) else { break };
            next = [gimli::DW_AT_abstract_origin, gimli::DW_AT_specification]
                .into_iter()
                .find_map(|name| self.reference(id.unit, &entry, name));
            all.push((id, unit, entry));
        }
        all
    }

    /// `DW_AT_name` and the mangled name.
    pub fn names(&self, id: EntryId) -> Vec<String> {
        let kinds = [gimli::DW_AT_name, gimli::DW_AT_linkage_name, gimli::DW_AT_MIPS_linkage_name];
        let chain = self.chain(id);
        let found =
            kinds.into_iter().filter_map(|kind| chain.iter().find_map(|(_, unit, entry)| self.text(unit, entry, kind)));
        found.collect()
    }

    /// `file.c:12`, where it is declared.
    pub fn declared_at(&self, id: EntryId) -> Option<String> {
        self.chain(id).iter().find_map(|(_, unit, entry)| {
            let line = entry.attr(gimli::DW_AT_decl_line)?.udata_value()?;
            Some(format!("{}:{line}", self.file(unit, entry)?))
        })
    }

    /// The name of the source file, without its directory.
    fn file(&self, unit: &Unit, entry: &Entry) -> Option<String> {
        let index = match entry.attr_value(gimli::DW_AT_decl_file)? {
            AttributeValue::FileIndex(index) => index,
            value => value.udata_value()?,
        };
        let header = unit.line_program.as_ref()?.header();
        let name = self.dwarf.sections.attr_string(unit, header.file(index)?.path_name()).ok()?;
        base_name(&printable(&name.to_slice().ok()?))
    }

    /// The name of the source file of a unit, without its directory.
    pub fn unit_file(&self, number: usize) -> Option<String> {
        let unit = self.unit(number)?;
        base_name(&printable(&unit.name.as_ref()?.to_slice().ok()?))
    }

    /// The unit that an entry was written in: after link-time optimisation another one than that of its code.
    pub fn home(&self, id: EntryId) -> usize {
        self.chain(id).last().map_or(id.unit, |(id, _, _)| id.unit)
    }

    /// Whether an entry was written in C or C++.
    pub fn is_c(&self, id: EntryId) -> bool {
        self.unit(self.home(id)).is_some_and(|unit| is_c(&unit))
    }

    /// The type of a variable.
    pub fn type_of(&self, id: EntryId) -> Option<EntryId> {
        self.chain(id).iter().find_map(|(id, _, entry)| self.reference(id.unit, entry, gimli::DW_AT_type))
    }

    /// What a function takes and returns.
    pub fn prototype(&self, id: EntryId) -> Prototype {
        let chain = self.chain(id);
        let returns = chain.iter().find_map(|(id, _, entry)| self.reference(id.unit, entry, gimli::DW_AT_type));
        let mut found = Prototype { returns, ..Prototype::default() };
        // A copy that was optimised lacks parameters: those of what it was made from count.
        let has_parameters = |(id, _, _): &&(EntryId, Rc<Unit>, Entry)| {
            self.children(*id).iter().any(|c| c.tag() == gimli::DW_TAG_formal_parameter)
        };
        let root = chain.iter().rev().find(has_parameters).or(chain.last());
        let Some((root, unit, _)) = root else { return found };
        found.declared = !is_plain_c(unit) || chain.iter().any(|(_, _, e)| e.has_attr(gimli::DW_AT_prototyped));
        for child in self.children(*root) {
            match child.tag() {
                gimli::DW_TAG_formal_parameter => {
                    found.parameters.push(self.type_of(EntryId { unit: root.unit, at: child.offset().0 }));
                }
                gimli::DW_TAG_unspecified_parameters => found.variadic = true,
                _ => {}
            }
        }
        found
    }

    fn children(&self, id: EntryId) -> Vec<Entry> {
        let mut all = Vec::new();
        let Some(unit) = self.unit(id.unit) else { return all };
        let Ok(mut tree) = unit.entries_tree(Some(UnitOffset(id.at))) else { return all };
        let Ok(root) = tree.root() else { return all };
        let mut children = root.children();
        while let Ok(Some(child)) = children.next() {
            if all.len() == MOST_CHILDREN {
                self.cut.set(true);
                break;
            }
            all.push(child.entry().clone());
        }
        all
    }
}

impl Source for Types<'_> {
    fn is_cut(&self) -> bool {
        self.cut.get()
    }

    fn of(&self, id: EntryId) -> Type {
        if let Some(known) = self.shapes.borrow().get(&id) {
            return known.clone();
        }
        let mut alias = None;
        let (at, shape) = self.read(id, &mut alias, MOST_STEPS.saturating_mul(4));
        let found = Type { id: at, alias, shape };
        self.shapes.borrow_mut().insert(id, found.clone());
        found
    }
}

/// Names of templates may be long without end: the head, and what tells it from others of the same head.
fn shorten(name: String) -> String {
    const LONGEST: usize = 512;
    if name.len() <= LONGEST {
        return name;
    }
    let head: String = name.chars().take(100).collect();
    format!("{head}...#{:08x}", crc32fast::hash(name.as_bytes()))
}

/// The word before the name of a struct, union or enum. A class is a struct.
fn tag(entry: &Entry) -> Option<&'static str> {
    match entry.tag() {
        gimli::DW_TAG_structure_type | gimli::DW_TAG_class_type => Some("struct"),
        gimli::DW_TAG_union_type => Some("union"),
        gimli::DW_TAG_enumeration_type => Some("enum"),
        _ => None,
    }
}

fn language(unit: &Unit) -> Option<DwLang> {
    let root = unit.entry(unit.header.root_offset()).ok()?;
    match root.attr_value(gimli::DW_AT_language) {
        Some(AttributeValue::Language(language)) => Some(language),
        _ => None,
    }
}

fn is_plain_c(unit: &Unit) -> bool {
    let c = [gimli::DW_LANG_C89, gimli::DW_LANG_C, gimli::DW_LANG_C99, gimli::DW_LANG_C11, gimli::DW_LANG_C17];
    language(unit).is_some_and(|language| c.contains(&language))
}

fn is_c(unit: &Unit) -> bool {
    let cpp = [
        gimli::DW_LANG_C_plus_plus,
        gimli::DW_LANG_C_plus_plus_03,
        gimli::DW_LANG_C_plus_plus_11,
        gimli::DW_LANG_C_plus_plus_14,
        gimli::DW_LANG_C_plus_plus_17,
        gimli::DW_LANG_C_plus_plus_20,
    ];
    // A partial unit (dwz) does not say its language.
    language(unit).is_none_or(|language| cpp.contains(&language)) || is_plain_c(unit)
}

fn base_name(path: &str) -> Option<String> {
    clean(Path::new(path)).file_name().map(|name| name.to_string_lossy().into_owned())
}
