//! How a function was compiled, and how it is called: its unit's `DW_AT_producer`, the types of its result and parameters.
//!
//! Source: DWARF 5, 3.1.1 (`DW_AT_producer`, where gcc writes its options), 3.3.1 to 3.3.2, 5.1 (base types).

use super::{Dwarf, Entry, MOST_STEPS, Unit};
use gimli::{AttributeValue, Reader as _};
use lpb::LinkAddr;

/// What a value needs, as far as it decides where it is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Integer, pointer, enumeration, truth value: one general register.
    General,
    /// An integer of 16 bytes.
    Wide,
    /// `float` or `double`.
    Float,
    /// Structures and all else: bytes, where known.
    Other(Option<u64>),
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convention {
    /// `None`: it returns nothing.
    pub result: Option<Class>,
    /// All parameters are certain to be passed in registers.
    pub in_registers: bool,
    /// Parameters in general registers, the place of a large result included.
    pub general: u32,
    /// Parameters in vector registers.
    pub float: u32,
}

impl Dwarf {
    /// Compiler and options of the unit that has the code at an address.
    pub fn producer(&self, at: LinkAddr) -> Option<String> {
        let unit = self.unit_of(at)?;
        let root = unit.entry(unit.header.root_offset()).ok()?;
        let text = self.sections.attr_string(&unit, root.attr_value(gimli::DW_AT_producer)?).ok()?;
        Some(super::printable(&text.to_slice().ok()?))
    }

    /// Whether the code at two addresses was compiled together.
    pub fn same_unit(&self, one: LinkAddr, other: LinkAddr) -> bool {
        self.unit_at(one).is_some_and(|number| self.unit_at(other) == Some(number))
    }

    /// The convention of the function that starts at an address.
    pub fn convention(&self, at: LinkAddr) -> Option<Convention> {
        let known = self.conventions.borrow().get(&at).copied();
        known.unwrap_or_else(|| {
            let found = self.find_convention(at);
            self.conventions.borrow_mut().insert(at, found);
            found
        })
    }

    fn find_convention(&self, at: LinkAddr) -> Option<Convention> {
        let (number, offset) = self.functions().entry(at)?;
        let unit = self.sections.unit(self.units.get(number)?.clone()).ok()?;
        self.convention_of(&unit, &unit.entry(offset).ok()?)
    }

    fn convention_of(&self, unit: &Unit, entry: &Entry) -> Option<Convention> {
        let result = self.class(unit, entry);
        let (mut general, mut float, mut plain) = (0_u32, 0_u32, true);
        if matches!(result, Some(Class::Other(_))) {
            // The place of the result may be the first argument.
            general = 1;
        }
        let mut tree = unit.entries_tree(Some(entry.offset())).ok()?;
        let mut children = tree.root().ok()?.children();
        while let Ok(Some(child)) = children.next() {
            match child.entry().tag() {
                gimli::DW_TAG_formal_parameter => match self.class(unit, child.entry()) {
                    Some(Class::General) => general = general.saturating_add(1),
                    Some(Class::Float) => float = float.saturating_add(1),
                    _ => plain = false,
                },
                gimli::DW_TAG_unspecified_parameters => plain = false,
                _ => {}
            }
        }
        Some(Convention { result, in_registers: plain && general <= 6 && float <= 8, general, float })
    }

    /// The class of what an entry's `DW_AT_type` names; the type of an instance stands at its origin.
    fn class(&self, unit: &Unit, entry: &Entry) -> Option<Class> {
        let mut at = (None, entry.clone());
        for _ in 0..MOST_STEPS.saturating_mul(4) {
            let (other, entry) = &at;
            let here = other.as_ref().unwrap_or(unit);
            let size = || match entry.attr_value(gimli::DW_AT_byte_size)? {
                AttributeValue::Udata(n) => Some(n),
                value => value.udata_value(),
            };
            match entry.tag() {
                gimli::DW_TAG_pointer_type
                | gimli::DW_TAG_reference_type
                | gimli::DW_TAG_rvalue_reference_type
                | gimli::DW_TAG_enumeration_type => return Some(Class::General),
                gimli::DW_TAG_base_type => {
                    let float =
                        entry.attr_value(gimli::DW_AT_encoding) == Some(AttributeValue::Encoding(gimli::DW_ATE_float));
                    return Some(match size() {
                        Some(4 | 8) if float => Class::Float,
                        Some(1..=8) if !float => Class::General,
                        Some(16) if !float => Class::Wide,
                        size => Class::Other(size),
                    });
                }
                gimli::DW_TAG_subprogram
                | gimli::DW_TAG_formal_parameter
                | gimli::DW_TAG_typedef
                | gimli::DW_TAG_const_type
                | gimli::DW_TAG_volatile_type
                | gimli::DW_TAG_restrict_type
                | gimli::DW_TAG_atomic_type => {
                    let names = [gimli::DW_AT_type, gimli::DW_AT_abstract_origin, gimli::DW_AT_specification];
                    let value = names.into_iter().find_map(|name| entry.attr_value(name))?;
                    at = match self.follow(here, value) {
                        Some((Some(unit), entry)) => (Some(unit), entry),
                        Some((None, entry)) => (at.0, entry),
                        None => return Some(Class::Other(None)),
                    };
                }
                _ => return Some(Class::Other(size())),
            }
        }
        Some(Class::Other(None))
    }

    /// The entry that a reference names, with its unit if that is another one.
    fn follow(&self, unit: &Unit, value: AttributeValue<super::Reader>) -> Option<(Option<Unit>, Entry)> {
        match value {
            AttributeValue::UnitRef(offset) => Some((None, unit.entry(offset).ok()?)),
            AttributeValue::DebugInfoRef(offset) => {
                let behind = self.units.partition_point(|u| u.offset().0 <= offset.0);
                let header = self.units.get(behind.checked_sub(1)?)?;
                let other = self.sections.unit(header.clone()).ok()?;
                let entry = other.entry(offset.to_unit_offset(&other.header)?).ok()?;
                Some((Some(other), entry))
            }
            _ => None,
        }
    }

    fn unit_of(&self, at: LinkAddr) -> Option<Unit> {
        self.sections.unit(self.units.get(self.unit_at(at)?)?.clone()).ok()
    }

    fn unit_at(&self, at: LinkAddr) -> Option<usize> {
        let ranges = self.code.get_or_init(|| self.code_ranges());
        ranges.iter().find(|(start, end, _)| *start <= at.0 && at.0 < *end).map(|(.., number)| *number)
    }

    /// Start, end and number of the unit of every range of code.
    fn code_ranges(&self) -> Vec<(u64, u64, usize)> {
        const MOST: usize = 1 << 20;
        let mut all = Vec::new();
        for (number, header) in self.units.iter().enumerate() {
            let Ok(unit) = self.sections.unit(header.clone()) else { continue };
            let Ok(mut ranges) = self.sections.unit_ranges(&unit) else { continue };
            while let Ok(Some(range)) = ranges.next() {
                if range.begin != 0 && all.len() < MOST {
                    all.push((range.begin, range.end, number));
                }
            }
        }
        all
    }
}
