//! What of the patch can run or be used at all: only what its new functions lead to. A patch that was built from a whole
//! source file brings much that nobody will call.
//!
//! ```text
//! new function ─ branch, PLT stub, address of code ─► function ─ address of data ─► variable ─ relocation ─► function
//! ```

use super::graph::functions;
use super::prologue::{branch_target, decode};
use super::users::{MOST, reference, stub_slot};
use crate::read::ReadError;
use crate::read::elf::{Object, Range};
use lpb::LinkAddr;
use lpb::addr::to_usize;
use object::elf;
use std::collections::{BTreeMap, HashSet};

/// Places of the patch that its new functions lead to.
#[derive(Debug)]
pub struct Reach {
    /// Ascending. `None`: everything, as far as anybody knows.
    places: Option<Vec<LinkAddr>>,
}

impl Reach {
    /// Follows code and data from the new functions. A patch without a symbol table does not say where its functions are.
    pub fn from(patch: &Object, roots: &HashSet<LinkAddr>) -> Result<Self, ReadError> {
        let code = || patch.loads.iter().filter(|s| s.flags & elf::PF_X.0 != 0);
        if patch.symtab.is_empty() || roots.is_empty() || code().any(|s| s.filesz > MOST) {
            return Ok(Self { places: None });
        }
        let mut bodies: BTreeMap<LinkAddr, (u64, Vec<LinkAddr>)> = BTreeMap::new();
        for load in code() {
            let code = patch.memory(load.vaddr, load.filesz)?;
            let bytes = |at: LinkAddr| code.get(to_usize(at.since(load.vaddr)?)..);
            for (start, size, _) in functions(patch, load.vaddr, load.filesz) {
                let body = bytes(start).and_then(|b| b.get(..to_usize(size))).unwrap_or_default();
                let places = decode(body, start).flat_map(|i| {
                    let to = branch_target(&i);
                    [reference(&i), to, to.and_then(|to| stub_slot(bytes(to)?, to))].into_iter().flatten()
                });
                bodies.insert(start, (size, places.collect()));
            }
        }
        let pointers = pointers(patch);
        let mut seen: HashSet<LinkAddr> = HashSet::new();
        let mut todo: Vec<LinkAddr> = roots.iter().copied().collect();
        let mut entered: HashSet<LinkAddr> = HashSet::new();
        while let Some(at) = todo.pop() {
            if !seen.insert(at) {
                continue;
            }
            let body = bodies.range(..=at).next_back();
            match body.filter(|(start, (size, _))| Range { start: **start, size: *size }.contains(at)) {
                Some((start, (_, places))) => {
                    if entered.insert(*start) {
                        todo.extend(places);
                    }
                }
                None => {
                    let data = data_around(patch, at);
                    if entered.insert(data.start) {
                        let end = LinkAddr(data.start.0.saturating_add(data.size));
                        todo.extend(pointers.range(data.start..end).map(|(_, to)| *to));
                    }
                }
            }
        }
        let mut places: Vec<LinkAddr> = seen.into_iter().collect();
        places.sort_unstable();
        Ok(Self { places: Some(places) })
    }

    /// Whether any part of a range is used.
    pub fn holds(&self, range: Range) -> bool {
        let first = |places: &[LinkAddr]| places.get(places.partition_point(|at| *at < range.start)).copied();
        self.places.as_ref().is_none_or(|places| first(places).is_some_and(|at| range.contains(at)))
    }
}

/// Where the patch keeps addresses of its own, and what they are.
fn pointers(patch: &Object) -> BTreeMap<LinkAddr, LinkAddr> {
    let relocs = patch.dynamic.relocs.iter().filter_map(|r| {
        let base = match patch.dynamic.symbol_of(r) {
            Some(symbol) if symbol.is_defined() => symbol.value.0,
            Some(_) => return None,
            None => 0,
        };
        Some((r.place, LinkAddr(base.wrapping_add_signed(r.addend))))
    });
    let packed = patch.dynamic.relr.iter().filter_map(|at| Some((*at, LinkAddr(patch.word(*at).ok()?))));
    relocs.chain(packed).collect()
}

/// The variable at a place; a slot of a GOT; else the section, whose parts nothing tells from each other.
fn data_around(patch: &Object, at: LinkAddr) -> Range {
    if let Some(symbol) = patch.symtab.variable_at(at) {
        return Range { start: symbol.value, size: symbol.size };
    }
    let section = patch.sections.iter().find(|s| s.has(elf::SHF_ALLOC) && s.range().contains(at));
    match section {
        Some(section) if !section.name.starts_with(".got") => section.range(),
        _ => Range { start: at, size: 8 },
    }
}
