//! Two records field by field, and two enumerations: what differs, in words.

use super::{Comparison, DEEPEST, with_size};
use crate::read::dwarf::shape::{BASE, EntryId, Enumeration, Member, Record, Shape, Source, Type};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// So many fields of one record are compared.
const MOST_FIELDS: usize = 1 << 14;

/// A field of a record, those of its anonymous structs and unions included.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    at: Option<u64>,
    bits: Option<u64>,
    of: Option<EntryId>,
    /// One of several that share their bytes.
    alternative: bool,
}

impl Comparison<'_> {
    /// What differs in two records.
    pub(super) fn record(&mut self, old: &Record, new: &Record, depth: u32) -> Vec<String> {
        let Some(depth) = depth.checked_sub(1) else {
            self.cut.set(true);
            return Vec::new();
        };
        let before = self.fields(self.old, old);
        let after = self.fields(self.new, new);
        let mut named: HashMap<&str, VecDeque<usize>> = HashMap::new();
        after.iter().enumerate().for_each(|(i, f)| named.entry(&f.name).or_default().push_back(i));
        // What has no partner of its name has one at its place.
        let mut pairs: Vec<(&Field, Option<usize>)> = Vec::new();
        for a in &before {
            pairs.push((a, named.get_mut(a.name.as_str()).and_then(VecDeque::pop_front)));
        }
        let mut left: BTreeMap<(Option<u64>, Option<u64>), VecDeque<usize>> = BTreeMap::new();
        for i in named.into_values().flatten() {
            let Some(b) = after.get(i) else { continue };
            left.entry((b.at, b.bits)).or_default().push_back(i);
        }
        let mut lines: Vec<(Option<u64>, String)> = Vec::new();
        for (a, partner) in pairs {
            let partner = partner.or_else(|| left.get_mut(&(a.at, a.bits))?.pop_front()).and_then(|i| after.get(i));
            match partner {
                Some(b) if a.at == b.at && a.bits == b.bits && self.same_type(a.of, b.of, depth) => {}
                Some(b) => {
                    let there = if a.at == b.at { String::new() } else { place(b) };
                    let (before, after) = self.say_both(a, b);
                    lines.push((a.at, format!("{}{before} in the target, {there}{after} in the patch", place(a))));
                }
                // One way less to read the same bytes changes nothing.
                None if a.alternative => {}
                None => lines.push((
                    a.at,
                    format!("{}{} only in the target", place(a), say(self.old, a, &self.old.spell(a.of))),
                )),
            }
        }
        for b in left.into_values().flatten().filter_map(|i| after.get(i)).filter(|b| !b.alternative) {
            lines.push((b.at, format!("{}{} only in the patch", place(b), say(self.new, b, &self.new.spell(b.of)))));
        }
        lines.sort();
        let mut lines: Vec<String> = lines.into_iter().map(|(_, text)| text).collect();
        lines.extend(virtuals(old, new));
        lines
    }

    /// Two fields that differ, in words that differ.
    fn say_both(&self, a: &Field, b: &Field) -> (String, String) {
        let (before, after) = self.spell_both(a.of, b.of);
        (say(self.old, a, &before), say(self.new, b, &after))
    }

    fn fields(&self, source: &dyn Source, record: &Record) -> Vec<Field> {
        let mut flat = Flat { source, all: Vec::new(), steps: MOST_FIELDS, cut: false };
        flat.add(record, "", (0, record.union), DEEPEST);
        if flat.cut {
            self.cut.set(true);
        }
        flat.all
    }
}

/// Where the fields of a record go.
struct Flat<'a> {
    source: &'a dyn Source,
    all: Vec<Field>,
    steps: usize,
    cut: bool,
}

impl Flat<'_> {
    /// All fields: those of anonymous structs and unions as C names them, `u.n` for those of a nameless type; base
    /// classes by their names.
    fn add(&mut self, record: &Record, prefix: &str, (start, alternative): (u64, bool), depth: u32) {
        let Some(depth) = depth.checked_sub(1) else {
            self.cut = true;
            return;
        };
        for Member { name, offset, bits, of } in &record.members {
            let Some(left) = self.steps.checked_sub(1) else {
                self.cut = true;
                return;
            };
            self.steps = left;
            let at = offset.and_then(|offset| offset.checked_add(start));
            let inner = match of.map(|of| self.source.of(of)) {
                Some(Type { shape: Shape::Record(inner), alias: None, .. }) if inner.name.is_none() => Some(inner),
                _ => None,
            };
            // Names are bounded, and so is how deep they nest.
            let name = format!("{prefix}{}", name.as_deref().unwrap_or_default());
            match (inner, at) {
                (Some(inner), Some(at)) => {
                    let prefix = if name == prefix { name } else { format!("{name}.") };
                    self.add(&inner, &prefix, (at, alternative || inner.union), depth);
                }
                _ => self.all.push(Field { name, at, bits: *bits, of: *of, alternative }),
            }
        }
    }
}

/// `+8 `, with the bit of a bit-field: `+8.3 `.
fn place(field: &Field) -> String {
    let Some(at) = field.at else { return "somewhere ".to_owned() };
    let (byte, bit) = (at.checked_div(8).unwrap_or(0), at.checked_rem(8).unwrap_or(0));
    if field.bits.is_some() { format!("+{byte}.{bit} ") } else { format!("+{byte} ") }
}

/// `int state (4 bytes)`
fn say(source: &dyn Source, field: &Field, spelt: &str) -> String {
    // `char[16] name` is not C.
    let (of, bounds) = spelt.split_once('[').map_or((spelt, String::new()), |(of, b)| (of, format!("[{b}")));
    let space = if of.ends_with('*') { "" } else { " " };
    let named = match field.name.strip_prefix(BASE) {
        Some(base) => format!("base class {base}"),
        None => format!("{of}{space}{}{bounds}", field.name),
    };
    match field.bits {
        Some(1) => format!("{named} (1 bit)"),
        Some(bits) => format!("{named} ({bits} bits)"),
        None => with_size(named, source.size(field.of)),
    }
}

/// Slots of the table of virtual functions that mean different functions, or that the target's tables do not have. A class
/// lists what it declares itself, so a slot that only one side lists may be an inherited one.
fn virtuals(old: &Record, new: &Record) -> Vec<String> {
    let by_slot = |record: &Record| -> BTreeMap<u64, Vec<String>> {
        let mut slots: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        record.virtuals.iter().for_each(|(slot, name)| slots.entry(*slot).or_default().push(name.clone()));
        slots
    };
    let (before, after) = (by_slot(old), by_slot(new));
    let is_root = |record: &Record| !record.members.iter().any(Member::is_base);
    let end = before.keys().next_back().copied().filter(|_| is_root(old) && is_root(new));
    let differing = after.iter().filter_map(|(slot, names)| match before.get(slot) {
        Some(others) if others == names => None,
        Some(others) => {
            let (a, b) = (others.join(", "), names.join(", "));
            Some(format!("virtual function {slot} is {a} in the target, {b} in the patch"))
        }
        None => end
            .filter(|end| slot > end)
            .map(|_| format!("virtual function {slot}, {}, only in the patch", names.join(", "))),
    });
    differing.collect()
}

/// Enumerators of the same name must have the same value; new ones are fine.
pub(super) fn enumeration(old: &Enumeration, new: &Enumeration) -> Vec<String> {
    let bytes = old.size.unwrap_or(8).min(8);
    // -1 may be written as 255 if the enumeration has one byte.
    let mask = (1_i128 << bytes.saturating_mul(8)).wrapping_sub(1);
    let differing = old.values.iter().filter_map(|(name, a)| {
        let (_, b) = new.values.iter().find(|(other, _)| other == name)?;
        (a & mask != b & mask).then(|| format!("{name} is {a} in the target, {b} in the patch"))
    });
    differing.collect()
}
