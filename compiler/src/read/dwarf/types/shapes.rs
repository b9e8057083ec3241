//! What a type is, read from its entry and the entries below it.
//!
//! Source: DWARF 5, ch. 5; 5.7.6 and, for DWARF 3 and before, `DW_AT_bit_offset` (bit-fields).

use super::{Types, tag};
use crate::read::dwarf::shape::{BASE, Class, EntryId, Enumeration, Member, Record, Shape};
use crate::read::dwarf::{Entry, MOST_STEPS, Unit};
use gimli::{AttributeValue, Operation};
use std::rc::Rc;

impl Types<'_> {
    /// The type of an entry behind typedefs and qualifiers, and the first typedef on the way.
    pub(super) fn read(&self, id: EntryId, alias: &mut Option<String>, steps: u32) -> (EntryId, Shape) {
        let nothing = (id, Shape::Unknown);
        let Some(steps) = steps.checked_sub(1) else { return nothing };
        let Some((unit, entry)) = self.entry(id) else { return nothing };
        let to = |name| self.reference(id.unit, &entry, name);
        let shape = match entry.tag() {
            gimli::DW_TAG_typedef
            | gimli::DW_TAG_const_type
            | gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_restrict_type
            | gimli::DW_TAG_atomic_type
            | gimli::DW_TAG_immutable_type
            | gimli::DW_TAG_packed_type => {
                if entry.tag() == gimli::DW_TAG_typedef && alias.is_none() {
                    *alias = self.text(&unit, &entry, gimli::DW_AT_name);
                }
                return match to(gimli::DW_AT_type) {
                    Some(next) => self.read(next, alias, steps),
                    None if entry.has_attr(gimli::DW_AT_type) => nothing,
                    None => (id, Shape::Void),
                };
            }
            gimli::DW_TAG_base_type => {
                let class = match entry.attr_value(gimli::DW_AT_encoding) {
                    Some(AttributeValue::Encoding(encoding)) => class(encoding),
                    _ => return nothing,
                };
                let Some(size) = bytes(&entry) else { return nothing };
                Shape::Base { name: self.text(&unit, &entry, gimli::DW_AT_name).unwrap_or_default(), class, size }
            }
            gimli::DW_TAG_pointer_type | gimli::DW_TAG_reference_type | gimli::DW_TAG_rvalue_reference_type => {
                Shape::Pointer(to(gimli::DW_AT_type))
            }
            gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_enumeration_type => {
                return self.tagged(id, (&unit, &entry), alias, steps);
            }
            gimli::DW_TAG_array_type => {
                let Some(of) = to(gimli::DW_AT_type).filter(|_| !entry.has_attr(gimli::DW_AT_GNU_vector)) else {
                    return nothing;
                };
                Shape::Array { of, bounds: self.bounds(id) }
            }
            gimli::DW_TAG_subroutine_type => Shape::Function(Rc::new(self.prototype(id))),
            _ => return nothing,
        };
        (id, shape)
    }

    /// A struct, union or enum; where it is only declared, its definition.
    fn tagged(
        &self,
        id: EntryId,
        (unit, entry): (&Unit, &Entry),
        alias: &mut Option<String>,
        steps: u32,
    ) -> (EntryId, Shape) {
        let name = self.text(unit, entry, gimli::DW_AT_name);
        if let Some(whole) = self.reference(id.unit, entry, gimli::DW_AT_signature) {
            return self.read(whole, alias, steps);
        }
        if entry.has_attr(gimli::DW_AT_declaration) {
            let spelt = tag(entry).zip(name.as_ref()).map(|(tag, name)| format!("{tag} {name}"));
            if let Some(whole) = spelt.and_then(|name| self.definition(&name)) {
                return self.read(whole, alias, steps);
            }
        }
        let size = bytes(entry).filter(|_| !entry.has_attr(gimli::DW_AT_declaration));
        let shape = match entry.tag() == gimli::DW_TAG_enumeration_type {
            true => Shape::Enumeration(Rc::new(Enumeration { name, size, values: self.values(id, unit) })),
            false => {
                let union = entry.tag() == gimli::DW_TAG_union_type;
                let (members, virtuals) = self.members(id, unit);
                Shape::Record(Rc::new(Record { name, union, size, members, virtuals }))
            }
        };
        (id, shape)
    }

    fn values(&self, id: EntryId, unit: &Unit) -> Vec<(String, i128)> {
        let children = self.children(id);
        let all = children.iter().filter(|c| c.tag() == gimli::DW_TAG_enumerator).filter_map(|c| {
            let attr = c.attr(gimli::DW_AT_const_value)?;
            let value = match attr.value() {
                AttributeValue::Sdata(value) => i128::from(value),
                _ => i128::from(attr.udata_value()?),
            };
            Some((self.text(unit, c, gimli::DW_AT_name)?, value))
        });
        all.collect()
    }

    fn bounds(&self, id: EntryId) -> Vec<Option<u64>> {
        let number = |c: &Entry, name| c.attr(name).and_then(gimli::Attribute::udata_value);
        let all = self.children(id).into_iter().filter(|c| c.tag() == gimli::DW_TAG_subrange_type).map(|c| {
            // gcc writes `[0]` as an upper bound of -1 or not at all.
            let upper = || number(&c, gimli::DW_AT_upper_bound).map(|upper| upper.wrapping_add(1));
            number(&c, gimli::DW_AT_count).or_else(upper)
        });
        all.collect()
    }

    fn members(&self, id: EntryId, unit: &Unit) -> (Vec<Member>, Vec<(u64, String)>) {
        let (mut members, mut virtuals) = (Vec::new(), Vec::new());
        for child in self.children(id) {
            match child.tag() {
                gimli::DW_TAG_member if !child.has_attr(gimli::DW_AT_declaration) => {
                    members.push(self.member(id, unit, &child));
                }
                gimli::DW_TAG_inheritance => members.push(self.member(id, unit, &child)),
                gimli::DW_TAG_subprogram => {
                    if let Some(AttributeValue::Exprloc(slot)) = child.attr_value(gimli::DW_AT_vtable_elem_location)
                        && let Ok(Some(Operation::UnsignedConstant { value })) = slot.operations(unit.encoding()).next()
                        && let Some(name) = self.text(unit, &child, gimli::DW_AT_name)
                    {
                        virtuals.push((value, name));
                    }
                }
                _ => {}
            }
        }
        (members, virtuals)
    }

    fn member(&self, id: EntryId, unit: &Unit, child: &Entry) -> Member {
        let number = |name| child.attr(name).and_then(gimli::Attribute::udata_value);
        let of = self.reference(id.unit, child, gimli::DW_AT_type);
        let bits = number(gimli::DW_AT_bit_size);
        let byte = match child.attr_value(gimli::DW_AT_data_member_location) {
            None => Some(0),
            Some(AttributeValue::Exprloc(e)) => match e.operations(unit.encoding()).next() {
                Ok(Some(Operation::PlusConstant { value })) => Some(value),
                _ => None,
            },
            Some(_) => number(gimli::DW_AT_data_member_location),
        };
        let byte_bits = byte.and_then(|byte| byte.checked_mul(8));
        // DWARF 4 and later count from the start of the record; before, from the high end of the storage unit.
        let offset = match (number(gimli::DW_AT_data_bit_offset), number(gimli::DW_AT_bit_offset), bits) {
            (Some(offset), _, _) => Some(offset),
            (None, Some(from_top), Some(bits)) => {
                let storage = number(gimli::DW_AT_byte_size).or_else(|| self.storage(of?));
                let storage = storage.and_then(|bytes| bytes.checked_mul(8));
                storage
                    .and_then(|s| s.checked_sub(from_top)?.checked_sub(bits))
                    .zip(byte_bits)
                    .map(|(a, b)| a.wrapping_add(b))
            }
            _ => byte_bits,
        };
        let name = match child.tag() {
            // A base class is known by the name of its type, which may stand in a unit of its own.
            gimli::DW_TAG_inheritance => {
                let whole = |of| self.entry(of).and_then(|(_, e)| self.reference(of.unit, &e, gimli::DW_AT_signature));
                let name = |of| self.names(of).into_iter().next();
                of.map(|of| format!("{BASE}{}", name(of).or_else(|| name(whole(of)?)).unwrap_or_default()))
            }
            // gcc: _vptr.Shape, clang: _vptr$Shape.
            _ => self
                .text(unit, child, gimli::DW_AT_name)
                .map(|n| if n.starts_with("_vptr") { "_vptr".into() } else { n }),
        };
        Member { name, offset, bits, of }
    }

    /// Bytes of the type of a bit-field, asked of its entry alone.
    fn storage(&self, id: EntryId) -> Option<u64> {
        let mut id = id;
        for _ in 0..MOST_STEPS {
            let (_, entry) = self.entry(id)?;
            if let Some(size) = bytes(&entry) {
                return Some(size);
            }
            id = self.reference(id.unit, &entry, gimli::DW_AT_type)?;
        }
        None
    }
}

fn bytes(entry: &Entry) -> Option<u64> {
    entry.attr(gimli::DW_AT_byte_size).and_then(gimli::Attribute::udata_value)
}

fn class(encoding: gimli::DwAte) -> Class {
    match encoding {
        gimli::DW_ATE_signed
        | gimli::DW_ATE_unsigned
        | gimli::DW_ATE_signed_char
        | gimli::DW_ATE_unsigned_char
        | gimli::DW_ATE_boolean
        | gimli::DW_ATE_UTF
        | gimli::DW_ATE_ASCII
        | gimli::DW_ATE_UCS => Class::Integer,
        gimli::DW_ATE_float => Class::Float,
        gimli::DW_ATE_complex_float => Class::Complex,
        other => Class::Other(other.0),
    }
}
