//! Names that the author may have meant.

use super::scope::{ObjectId, Scope};
use crate::demangle;
use crate::read::dynamic::Dynamic;
use crate::read::elf::Object;
use crate::read::symbols::{Symbol, SymbolTable, printable};

const MOST: usize = 5;

/// Names that differ in case or by up to two edits, nearest first; in one object of the target or in all.
pub fn names(scope: &Scope, wanted: &str, only: Option<ObjectId>) -> Vec<String> {
    let objects = scope.iter().filter(|(id, _)| only.is_none_or(|o| o == *id));
    search(objects.map(|(_, object)| object), wanted, Symbol::is_place)
}

/// Names that the patch defines and that are like `wanted`.
pub fn defined_by(patch: &Object, wanted: &str) -> Vec<String> {
    search(std::iter::once(patch), wanted, Symbol::is_place)
}

/// Names that the patch imports and that are like `wanted`.
pub fn imported_by(patch: &Object, wanted: &str) -> Vec<String> {
    search(std::iter::once(patch), wanted, |s| !s.is_defined())
}

/// Functions that an object reaches through slots and that are like `wanted`.
pub fn slots_of(object: &Object, wanted: &str) -> Vec<String> {
    let Dynamic { symbols, relocs, .. } = &object.dynamic;
    let slots = relocs.iter().filter(|r| r.kind().is_slot()).filter_map(|r| object.dynamic.symbol_of(r));
    let near = slots.filter_map(|s| {
        let version = object.dynamic.version(s).map(|v| v.name.as_str());
        Some((nearness(wanted.as_bytes(), symbols.name(s))?, describe(version, symbols, s)))
    });
    nearest(near.collect())
}

fn search<'a>(
    objects: impl Iterator<Item = &'a Object>,
    wanted: &str,
    eligible: impl Fn(&Symbol) -> bool,
) -> Vec<String> {
    let mangled = Mangled::of(wanted);
    let mut found: Vec<(usize, String)> = Vec::new();
    for object in objects {
        for table in [&object.dynamic.symbols, &object.symtab] {
            for symbol in table.iter().filter(|s| eligible(s)) {
                let plain = nearness(wanted.as_bytes(), table.name(symbol));
                let written = || mangled.as_ref()?.nearness(table.name(symbol));
                if let Some(cost) = written().or(plain) {
                    let version = object.dynamic.version(symbol).map(|v| v.name.as_str());
                    found.push((cost, describe(version, table, symbol)));
                }
            }
        }
    }
    nearest(found)
}

/// The first few, none twice.
fn nearest(mut found: Vec<(usize, String)>) -> Vec<String> {
    found.sort();
    found.dedup_by(|a, b| a.1 == b.1);
    found.truncate(MOST);
    found.into_iter().map(|(_, name)| name).collect()
}

fn describe(version: Option<&str>, table: &SymbolTable, symbol: &Symbol) -> String {
    let name = demangle::readable(&table.text(symbol));
    match (version, table.file(symbol)) {
        (_, Some(file)) => format!("{file}:{name}"),
        (Some(version), None) => format!("{name}@{version}"),
        (None, None) => name,
    }
}

/// A name of C++ or Rust that is looked for: overloads and misspellings are near as their author sees them.
struct Mangled {
    path: String,
    /// A part of the path that all similar names share: only they are worth the time to demangle them.
    word: String,
}

impl Mangled {
    fn of(wanted: &str) -> Option<Self> {
        let written = || Some(wanted).filter(|w| w.contains("::")).map(|w| w.split('(').next().unwrap_or(w).to_owned());
        let path = demangle::path(wanted).or_else(written)?;
        let word = path.split("::").next().filter(|first| first.len() < path.len()).unwrap_or(&path).to_owned();
        let word = demangle::last_word(&word).to_owned();
        Some(Self { path, word }).filter(|m| !m.word.is_empty())
    }

    fn nearness(&self, name: &[u8]) -> Option<usize> {
        if !demangle::may_mean(name, &self.word) {
            return None;
        }
        let path = demangle::path(std::str::from_utf8(name).ok()?)?;
        nearness(self.path.as_bytes(), path.as_bytes())
    }
}

/// 0 for the same name (another version), 1 for another case, else the number of edits + 1; `None` if too far.
fn nearness(wanted: &[u8], name: &[u8]) -> Option<usize> {
    if wanted == name {
        return Some(0);
    }
    if wanted.eq_ignore_ascii_case(name) {
        return Some(1);
    }
    if wanted.len().abs_diff(name.len()) > 2 {
        return clone_of(wanted, name).then_some(2);
    }
    let allowed = if wanted.len() < 4 { 1 } else { 2 };
    let edits = distance(wanted, name);
    (edits <= allowed).then_some(edits.saturating_add(1))
}

/// gcc's clones: `f.constprop.0`, `f.isra.0`, `f.lto_priv.0`.
fn clone_of(wanted: &[u8], name: &[u8]) -> bool {
    let rest = name.strip_prefix(wanted).map(printable);
    rest.is_some_and(|r| [".constprop.", ".isra.", ".lto_priv.", ".part."].iter().any(|s| r.starts_with(s)))
}

/// Levenshtein distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut left = i.saturating_add(1);
        let mut next = vec![left];
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let [diagonal, above] = pair else { continue };
            let replace = diagonal.saturating_add(usize::from(x != y));
            left = replace.min(above.saturating_add(1)).min(left.saturating_add(1));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_near() {
        for (wanted, name, want) in [
            ("puts", "puts", Some(0)),
            ("Puts", "puts", Some(1)),
            ("putss", "puts", Some(2)),
            ("handle_request", "handel_request", Some(3)),
            ("handle", "handle.constprop.0", Some(2)),
            ("abc", "xyz", None),
            ("f", "f12", None),
        ] {
            assert_eq!(nearness(wanted.as_bytes(), name.as_bytes()), want, "{wanted} {name}");
        }
    }
}
