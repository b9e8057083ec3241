//! Do two builds mean the same by a type? Field by field, through pointers, each pair of types once.
//!
//! ```text
//! target: struct session { int id; int state; }     patch: struct session { int id; long state; }
//!     +4 int state (4 bytes) in the target, +8 long state (8 bytes) in the patch
//! ```
//! Names of types, signedness, qualifiers and new names of fields change nothing in memory, so they are no difference.

mod record;

use crate::read::dwarf::shape::{Class, EntryId, Prototype, Record, Shape, Source, Type, parameters};
use record::enumeration;
use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};

/// So many comparisons of two types are made; what is left then counts as the same, and [`Comparison::is_cut`] says so.
const MOST_STEPS: u32 = 2_000_000;
/// So many types are reported.
const MOST_DIFFERENCES: usize = 100;
/// Types inside types inside types.
const DEEPEST: u32 = 24;
/// So many lines are said about one type.
const MOST_LINES: usize = 12;

/// A type that two builds lay out differently.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// As C spells it: `struct session`.
    pub name: String,
    /// Bytes in the target and in the patch.
    pub sizes: (Option<u64>, Option<u64>),
    pub lines: Vec<String>,
}

/// Compares types of the target with types of the patch.
pub struct Comparison<'a> {
    old: &'a dyn Source,
    new: &'a dyn Source,
    /// Pairs of types of one name.
    todo: Vec<(EntryId, EntryId, String)>,
    seen: HashSet<(EntryId, EntryId)>,
    steps: u32,
    /// A limit was met: something counts as the same that was not compared.
    cut: Cell<bool>,
}

impl<'a> Comparison<'a> {
    pub fn new(old: &'a dyn Source, new: &'a dyn Source) -> Self {
        Self { old, new, todo: Vec::new(), seen: HashSet::new(), steps: MOST_STEPS, cut: Cell::new(false) }
    }

    /// Whether a value of one type can be used as one of the other. Records on the way are looked into by
    /// [`Comparison::differences`].
    pub fn same(&mut self, old: Option<EntryId>, new: Option<EntryId>) -> bool {
        self.same_type(old, new, DEEPEST)
    }

    /// What differs in all types that were met.
    pub fn differences(&mut self) -> Vec<Difference> {
        let mut found = BTreeSet::new();
        while let Some((old, new, name)) = self.todo.pop() {
            if found.len() == MOST_DIFFERENCES {
                self.cut.set(true);
                break;
            }
            let (old_type, new_type) = (self.old.of(old), self.new.of(new));
            let mut lines = match (&old_type.shape, &new_type.shape) {
                (Shape::Record(a), Shape::Record(b)) if a.size.is_some() && b.size.is_some() => {
                    self.record(a, b, DEEPEST)
                }
                (Shape::Enumeration(a), Shape::Enumeration(b)) => enumeration(a, b),
                _ => Vec::new(),
            };
            let sizes = (self.old.size(Some(old)), self.new.size(Some(new)));
            let both = sizes.0.is_some() && sizes.1.is_some();
            if lines.is_empty() && !(both && sizes.0 != sizes.1) {
                continue;
            }
            let more = lines.len().saturating_sub(MOST_LINES);
            lines.truncate(MOST_LINES);
            if more != 0 {
                lines.push(format!("and {more} more"));
            }
            found.insert(Difference { name, sizes, lines });
        }
        found.into_iter().collect()
    }

    /// Whether something was not compared, or not read, because it is too deep or too much.
    pub fn is_cut(&self) -> bool {
        self.cut.get() || self.old.is_cut() || self.new.is_cut()
    }

    /// What differs between two functions as their callers see them.
    pub fn prototypes(&mut self, old: &Prototype, new: &Prototype) -> Vec<String> {
        self.prototype_lines(old, new, DEEPEST)
    }

    /// Has a pair of records or enumerations compared; each once.
    fn enqueue(&mut self, old: &Type, new: &Type, name: String) {
        if self.seen.insert((old.id, new.id)) {
            self.todo.push((old.id, new.id, name));
        }
    }

    fn same_type(&mut self, old: Option<EntryId>, new: Option<EntryId>, depth: u32) -> bool {
        let (Some(depth), Some(steps)) = (depth.checked_sub(1), self.steps.checked_sub(1)) else {
            self.cut.set(true);
            return true;
        };
        self.steps = steps;
        let (old, new) = match (old, new) {
            (None, None) => return true,
            (Some(old), Some(new)) => (old, new),
            (Some(old), None) => return matches!(self.old.of(old).shape, Shape::Void | Shape::Unknown),
            (None, Some(new)) => return matches!(self.new.of(new).shape, Shape::Void | Shape::Unknown),
        };
        let (a, b) = (self.old.of(old), self.new.of(new));
        match (&a.shape, &b.shape) {
            (Shape::Unknown, _) | (_, Shape::Unknown) | (Shape::Void, Shape::Void) => true,
            (Shape::Base { class: c, size: s, .. }, Shape::Base { class: d, size: t, .. }) => c == d && s == t,
            (Shape::Enumeration(e), Shape::Base { class, size, .. })
            | (Shape::Base { class, size, .. }, Shape::Enumeration(e)) => {
                *class == Class::Integer && e.size.is_none_or(|s| s == *size)
            }
            (Shape::Enumeration(e), Shape::Enumeration(f)) => {
                if title(&e.name, &a) == title(&f.name, &b) {
                    self.enqueue(&a, &b, self.old.spell(Some(old)));
                }
                is_equal(e.size, f.size)
            }
            (Shape::Pointer(to), Shape::Pointer(target)) => self.same_target(*to, *target, depth),
            (Shape::Record(r), Shape::Record(s)) => self.same_record(r, s, &a, &b, depth),
            (Shape::Array { of, .. }, Shape::Array { of: with, .. }) => {
                let sizes = (self.old.size(Some(old)), self.new.size(Some(new)));
                // `extern int table[];` may have any size.
                is_equal(sizes.0, sizes.1) && self.same_element(*of, *with, depth)
            }
            (Shape::Function(p), Shape::Function(q)) => self.prototype_lines(p, q, depth).is_empty(),
            _ => false,
        }
    }

    /// Elements of arrays whose sizes are the same: `int a[2][3]` and `int a[6]` have the same ones.
    fn same_element(&mut self, old: EntryId, new: EntryId, depth: u32) -> bool {
        let element = |source: &dyn Source, mut id: EntryId| {
            for _ in 0..DEEPEST {
                let Shape::Array { of, .. } = source.of(id).shape else { break };
                id = of;
            }
            id
        };
        let (old, new) = (element(self.old, old), element(self.new, new));
        self.same_type(Some(old), Some(new), depth)
    }

    /// What pointers lead to: a void is anything, and so is what only has a name.
    fn same_target(&mut self, old: Option<EntryId>, new: Option<EntryId>, depth: u32) -> bool {
        let (Some(old), Some(new)) = (old, new) else { return true };
        let (a, b) = (self.old.of(old), self.new.of(new));
        match (&a.shape, &b.shape) {
            (Shape::Void, _) | (_, Shape::Void) => true,
            (Shape::Record(r), _) if r.size.is_none() => true,
            (_, Shape::Record(r)) if r.size.is_none() => true,
            // What differs in types of one name is said about these.
            (Shape::Record(r), Shape::Record(s)) => {
                let named =
                    title(&r.name, &a).is_some_and(|name| Some(name) == title(&s.name, &b) && r.union == s.union);
                self.same_record(r, s, &a, &b, depth) || named
            }
            // A pointer to the first element and one to the whole array are the same.
            (Shape::Array { of, .. }, Shape::Array { of: with, .. }) => self.same_element(*of, *with, depth),
            _ => self.same_type(Some(old), Some(new), depth),
        }
    }

    fn same_record(&mut self, r: &Record, s: &Record, a: &Type, b: &Type, depth: u32) -> bool {
        let (Some(old), Some(new)) = (r.size, s.size) else { return true };
        let (named, renamed) = (title(&r.name, a), title(&s.name, b));
        if let Some(name) = named.filter(|name| Some(*name) == renamed && r.union == s.union) {
            let tag = if r.union { "union " } else { "struct " };
            self.enqueue(a, b, format!("{}{name}", if r.name.is_some() { tag } else { "" }));
            return old == new;
        }
        // Another name, or none: what is inside counts. A pair that is being compared already holds itself.
        if !self.seen.insert((a.id, b.id)) {
            return old == new;
        }
        old == new && self.record(r, s, depth).is_empty()
    }

    /// Two types; if they have the same name, what it stands for.
    fn spell_both(&self, old: Option<EntryId>, new: Option<EntryId>) -> (String, String) {
        let (before, after) = (self.old.spell(old), self.new.spell(new));
        match before == after && is_equal(self.old.size(old), self.new.size(new)) {
            true => (self.old.spell_out(old), self.new.spell_out(new)),
            false => (before, after),
        }
    }

    /// Two types that differ, with their sizes.
    pub fn describe(&self, old: Option<EntryId>, new: Option<EntryId>) -> (String, String) {
        let (before, after) = self.spell_both(old, new);
        (with_size(before, self.old.size(old)), with_size(after, self.new.size(new)))
    }

    fn prototype_lines(&mut self, old: &Prototype, new: &Prototype, depth: u32) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.same_type(old.returns, new.returns, depth) {
            let (a, b) = self.describe(old.returns, new.returns);
            lines.push(format!("returns {a} in the target, {b} in the patch"));
        }
        // `int f()`: nothing is said about parameters.
        let said = |p: &Prototype| p.declared || !p.parameters.is_empty();
        if !said(old) || !said(new) {
            return lines;
        }
        let (count, other) = (old.parameters.len(), new.parameters.len());
        let known_ends = old.declared && new.declared;
        if count != other || known_ends && old.variadic != new.variadic {
            let (a, b) = (parameters(old, |id| self.old.spell(id)), parameters(new, |id| self.new.spell(id)));
            lines.push(format!("takes ({a}) in the target, ({b}) in the patch"));
            return lines;
        }
        for (number, (a, b)) in (1..).zip(old.parameters.iter().zip(&new.parameters)) {
            if !self.same_type(*a, *b, depth) {
                let (a, b) = self.describe(*a, *b);
                let number: u32 = number;
                lines.push(format!("parameter {number} is {a} in the target, {b} in the patch"));
            }
        }
        lines
    }
}

/// The name of a type: its own, or that of the typedef that it was met by.
fn title<'a>(name: &'a Option<String>, by: &'a Type) -> Option<&'a String> {
    name.as_ref().or(by.alias.as_ref())
}

fn is_equal(a: Option<u64>, b: Option<u64>) -> bool {
    a.zip(b).is_none_or(|(a, b)| a == b)
}

fn with_size(text: String, size: Option<u64>) -> String {
    match size {
        Some(1) => format!("{text} (1 byte)"),
        Some(size) => format!("{text} ({size} bytes)"),
        None => text,
    }
}

#[cfg(test)]
mod tests;
