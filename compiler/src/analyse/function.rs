//! One function of the target: its size, its parts, the bytes under the jump.

use super::ifunc::{self, Ifunc};
use super::prologue::{self, Prologue};
use super::registers::Need;
use super::{AnalyseError, parts};
use crate::arch::x86_64::preserve::Thunk;
use crate::arch::x86_64::{ENDBR64, INT3};
use crate::demangle::{clone_suffix, written};
use crate::finding::{Finding, Findings};
use crate::read::ReadError;
use crate::read::dwarf::functions::Source;
use crate::read::dwarf::is_tail;
use crate::read::elf::{Object, Range};
use crate::read::symbols::{Symbol, SymbolTable};
use crate::resolve::local::{self, LocateError};
use crate::resolve::scope::{Def, ObjectId, Scope};
use crate::spec::Qualified;
use iced_x86::Mnemonic;
use lpb::addr::{to_u64, to_usize};
use lpb::{BuildIdx, JUMP_LEN, LinkAddr, limits};
use object::elf;
use std::collections::BTreeSet;

/// One contiguous part of a function.
#[derive(Clone, Debug)]
pub struct Fragment {
    pub name: String,
    pub addr: LinkAddr,
    pub bytes: Vec<u8>,
}

/// A function of one build of the target that takes the jump.
#[derive(Clone, Debug)]
pub struct Function {
    /// The number of the replacement that asks for it.
    pub number: usize,
    pub object: ObjectId,
    pub build: BuildIdx,
    /// As it was asked for.
    pub name: String,
    /// Its symbol.
    pub linked: String,
    /// Other names of the same code that are to be replaced by the same new code.
    pub also: Vec<String>,
    /// It may be replaced while threads are inside it.
    pub immediate: bool,
    pub addr: LinkAddr,
    pub size: u64,
    pub site: LinkAddr,
    pub expected: Vec<u8>,
    pub fragments: Vec<Fragment>,
    /// Parts that are not among these, as there are too many or they are too long.
    pub left_out: usize,
    /// The function starts with `endbr64`.
    pub landing_pad: bool,
    pub prologue: Prologue,
    pub notes: Vec<String>,
    /// What its callers need of the code that replaces it.
    pub need: Option<Need>,
    /// What does that.
    pub thunk: Option<Thunk>,
    /// It is one of the implementations of an IFUNC.
    pub ifunc: Option<Ifunc>,
    /// It does not return, and these calls of it are the last thing that their functions do.
    pub last_calls: Vec<String>,
    /// It changes no memory, and the compiler has seen that where it compiled these calls of it.
    pub trusting_calls: Vec<String>,
}

/// Analyses one function of the target, for replacement `number`; of an IFUNC, all its implementations.
pub fn functions(
    scope: &Scope,
    number: usize,
    old: &Qualified,
    findings: &mut Findings,
) -> Result<Vec<Function>, Finding> {
    let def = local::locate(scope, old).map_err(|source| {
        let away = matches!(source, LocateError::NotFound { .. }).then(|| inlined_away(scope, old)).flatten();
        away.unwrap_or(AnalyseError::Locate { name: old.to_string(), source: Box::new(source) })
    })?;
    match def.symbol.kind {
        elf::STT_GNU_IFUNC => ifunc::functions(scope, &def, number, &old.name, findings),
        _ => examine(scope, &def, number, &old.name).map(|f| vec![f]),
    }
}

/// Analyses the function of this symbol, called `name`.
pub fn examine(scope: &Scope, def: &Def, number: usize, name: &str) -> Result<Function, Finding> {
    let name = name.to_owned();
    let Some(object) = scope.get(def.object) else {
        return Err(AnalyseError::NotCode { name, at: def.symbol.value }.into());
    };
    suitable(object, def, &name)?;
    if object
        .symtab
        .at(def.symbol.value)
        .any(|s| clone_suffix(&object.symtab.text(s)).is_some_and(|c| c.ends_with(".cold")))
    {
        return Err(AnalyseError::Part { name, at: def.symbol.value }.into());
    }
    let mut notes = Vec::new();
    let size = size_of(object, &def.symbol, &mut notes);
    let at = def.symbol.value;
    if size > limits::FRAGMENT {
        return Err(AnalyseError::TooLong { name, at, size }.into());
    }
    // Enough for the longest instructions of the prologue, and for the padding of a short function.
    let load_end = object.load_of(at, 1).and_then(|s| s.vaddr.plus(s.filesz)).and_then(|e| e.since(at)).unwrap_or(0);
    let window = object.memory(at, size.max(40).min(load_end))?;
    let landing_pad = window.starts_with(&ENDBR64);
    let skip = if landing_pad { to_u64(ENDBR64.len()) } else { 0 };
    let extent = extent(object, &name, at, size, skip, &window)?;
    let site = at.plus(skip).unwrap_or(at);
    let code = window.get(to_usize(skip)..to_usize(extent)).unwrap_or_default();
    let prologue =
        prologue::relocate(code, site).map_err(|source| AnalyseError::Prologue { name: name.clone(), source })?;
    let body = window.get(..to_usize(extent)).unwrap_or_default().to_vec();
    let linked = local::linked_name(object, def, &name);
    let mut function = Function {
        number,
        object: def.object,
        build: scope.build(def.object),
        fragments: vec![Fragment { name: name.clone(), addr: at, bytes: body }],
        left_out: 0,
        name,
        linked,
        also: Vec::new(),
        immediate: false,
        addr: at,
        size,
        site,
        expected: code.get(..to_usize(JUMP_LEN)).unwrap_or_default().to_vec(),
        landing_pad,
        prologue,
        notes,
        need: None,
        thunk: None,
        ifunc: None,
        last_calls: Vec::new(),
        trusting_calls: Vec::new(),
    };
    no_second_entry(object, &function)?;
    add_parts(object, &def.symbol, &mut function)?;
    if let Some(dwarf) = scope.closure().debug().dwarf(object) {
        add_ranges(object, dwarf.functions().parts(at), &mut function)?;
    }
    parts::add(object, &mut function)?;
    no_branch_back(&function)?;
    note_loop(&mut function);
    Ok(function)
}

fn suitable(object: &Object, def: &Def, name: &str) -> Result<(), AnalyseError> {
    let code = def.symbol.is_function() || def.symbol.kind == elf::STT_NOTYPE;
    if !code || !object.is_executable(def.symbol.value) {
        return Err(AnalyseError::NotCode { name: name.to_owned(), at: def.symbol.value });
    }
    if object.dynamic.text_relocations {
        return Err(AnalyseError::TextRelocations { module: object.name.clone() });
    }
    Ok(())
}

/// The first symbol behind `at`, or the end of the code.
pub fn next_symbol(object: &Object, at: LinkAddr) -> LinkAddr {
    let behind = |table: &SymbolTable| at.plus(1).and_then(|next| table.from(next).next().map(|s| s.value));
    let section = object.sections.iter().find(|s| s.has(elf::SHF_EXECINSTR) && s.range().contains(at));
    let section_end = section.and_then(|s| s.addr.plus(s.size));
    let load_end = object.load_of(at, 1).and_then(|s| s.vaddr.plus(s.filesz));
    let ends = [behind(&object.symtab), behind(&object.dynamic.symbols), section_end, load_end];
    ends.into_iter().flatten().min().unwrap_or(at)
}

/// `st_size`, or up to the next symbol where assembly code gives none.
fn size_of(object: &Object, symbol: &Symbol, notes: &mut Vec<String>) -> u64 {
    let to_end = object.load_of(symbol.value, 1).and_then(|s| s.vaddr.plus(s.filesz)?.since(symbol.value)).unwrap_or(0);
    if symbol.size != 0 {
        return symbol.size.min(to_end);
    }
    notes.push("its symbol has no size: taken up to the next symbol".to_owned());
    next_symbol(object, symbol.value).since(symbol.value).unwrap_or(0)
}

/// Bytes that belong to the function: its size, or with the padding behind it where that is too short for the jump.
fn extent(object: &Object, name: &str, at: LinkAddr, size: u64, skip: u64, window: &[u8]) -> Result<u64, AnalyseError> {
    let need = skip.saturating_add(JUMP_LEN);
    if size >= need {
        return Ok(size);
    }
    let short = || AnalyseError::TooShort { name: name.to_owned(), at, size };
    let room = next_symbol(object, at).since(at).unwrap_or(0);
    let padding = window.get(to_usize(size)..to_usize(need)).ok_or_else(short)?;
    let behind = window.get(to_usize(size)..to_usize(room.min(to_u64(window.len())))).unwrap_or(padding);
    if room < need || size <= skip || !is_padding(behind, to_usize(need.saturating_sub(size))) {
        return Err(short());
    }
    Ok(need)
}

/// Whether the first `need` bytes lie in instructions that do nothing.
pub fn is_padding(bytes: &[u8], need: usize) -> bool {
    let mut covered = 0_usize;
    for i in prologue::decode(bytes, LinkAddr(0)) {
        if covered >= need {
            break;
        }
        let nop = i.mnemonic() == Mnemonic::Nop || bytes.get(covered) == Some(&INT3) || is_exchange_nop(bytes, covered);
        if !nop {
            return false;
        }
        covered = covered.saturating_add(i.len());
    }
    covered >= need
}

/// `xchg ax,ax` (66 90), the two-byte nop.
fn is_exchange_nop(bytes: &[u8], at: usize) -> bool {
    bytes.get(at..).is_some_and(|b| b.starts_with(&[0x66, 0x90]))
}

/// Adds `NAME.cold`, `NAME.part.N` and their like: a thread inside them is inside the function.
fn add_parts(object: &Object, symbol: &Symbol, function: &mut Function) -> Result<(), ReadError> {
    let own_file = object.symtab.file(symbol);
    let prefix = format!("{}.", function.linked).into_bytes();
    let is_part = |s: &Symbol| {
        let rest = object.symtab.name(s).get(prefix.len()..).unwrap_or_default();
        s.is_function() && s.size != 0 && (rest.starts_with(b"cold") || rest.starts_with(b"part."))
    };
    let mut parts: Vec<&Symbol> = object.symtab.prefixed(&prefix).filter(|s| is_part(s)).collect();
    parts.sort_by_key(|s| s.value);
    // Parts of another file's function of the same name are not reached from here.
    loop {
        let targets: Vec<LinkAddr> = function.fragments.iter().flat_map(branches).map(|(_, to, _)| to).collect();
        let reached = |s: &Symbol| {
            let inside = |t: &LinkAddr| t.since(s.value).is_some_and(|n| n < s.size);
            let same_file = own_file.is_none() || object.symtab.file(s) == own_file;
            same_file && targets.iter().any(inside)
        };
        let Some(position) = parts.iter().position(|s| reached(s)) else { return Ok(()) };
        let part = parts.swap_remove(position);
        function.add_part(object, object.symtab.text(part), Range { start: part.value, size: part.size })?;
        parts.sort_by_key(|s| s.value);
    }
}

/// Adds code that only debug information tells of.
fn add_ranges(object: &Object, ranges: &[Range], function: &mut Function) -> Result<(), ReadError> {
    for range in ranges.iter().filter(|r| object.is_executable(r.start)) {
        if !function.holds(range.start) {
            function.add_part(object, format!("{}.part", function.name), *range)?;
        }
    }
    Ok(())
}

/// Another function that starts behind the first of the overwritten bytes would be torn apart.
fn no_second_entry(object: &Object, function: &Function) -> Result<(), AnalyseError> {
    let Some(behind) = function.site.plus(1) else { return Ok(()) };
    for table in [&object.symtab, &object.dynamic.symbols] {
        let inside = |s: &&Symbol| s.value.since(function.site).is_some_and(|n| n < JUMP_LEN);
        if let Some(other) = table.from(behind).take_while(inside).find(|s| s.is_function()) {
            let (name, other, at) = (function.name.clone(), table.text(other), other.value);
            return Err(AnalyseError::SecondEntry { name, other, at });
        }
    }
    Ok(())
}

/// Direct branches of a fragment: where, to where, text.
pub fn branches(fragment: &Fragment) -> Vec<(LinkAddr, LinkAddr, iced_x86::Instruction)> {
    let all = prologue::decode(&fragment.bytes, fragment.addr);
    all.filter_map(|i| Some((LinkAddr(i.ip()), prologue::branch_target(&i)?, i))).collect()
}

fn no_branch_back(function: &Function) -> Result<(), AnalyseError> {
    for fragment in &function.fragments {
        for (at, to, i) in branches(fragment) {
            if to.since(function.site).is_some_and(|n| (1..JUMP_LEN).contains(&n)) {
                let (name, by) = (function.name.clone(), fragment.name.clone());
                return Err(AnalyseError::Entered { name, by, at, text: prologue::text(&i) });
            }
        }
    }
    Ok(())
}

/// The function jumps back to its own start, past `endbr64`: there the jump stands.
fn note_loop(function: &mut Function) {
    let starts =
        function.fragments.iter().flat_map(branches).any(|(_, to, _)| to == function.site && to != function.addr);
    if starts {
        function.notes.push("jumps back to its own start: from there the new code runs".to_owned());
    }
}

impl Function {
    /// Adds a part, or counts it as left out.
    pub fn add_part(&mut self, object: &Object, name: String, range: Range) -> Result<(), ReadError> {
        if self.fragments.len() >= limits::FRAGMENTS_PER_FUNCTION || range.size > limits::FRAGMENT {
            self.left_out = self.left_out.saturating_add(1);
            return Ok(());
        }
        let bytes = object.memory(range.start, range.size)?;
        self.fragments.push(Fragment { name, addr: range.start, bytes });
        Ok(())
    }

    /// What it was asked for by: its name, or that of the IFUNC.
    pub fn asked(&self) -> &str {
        self.ifunc.as_ref().map_or(&self.name, |ifunc| &ifunc.name)
    }

    /// Whether an address lies in one of its parts.
    pub fn holds(&self, at: LinkAddr) -> bool {
        let inside = |p: &Fragment| at.since(p.addr).is_some_and(|n| n < to_u64(p.bytes.len()));
        self.fragments.iter().any(inside)
    }
}

/// What can be said of a function that was not found: perhaps it has been inlined everywhere.
fn inlined_away(scope: &Scope, old: &Qualified) -> Option<AnalyseError> {
    let (id, file) = scope.split(old).ok()?;
    let known = scope.closure().debug().dwarf(scope.get(id)?)?.functions();
    let of_file = |source: &&Source| file.as_ref().is_none_or(|file| is_tail(&source.file, file));
    let bodiless = known.defined(&old.name).filter(of_file).filter(|source| known.bodies(source).is_empty());
    let copies: Vec<_> = bodiless.flat_map(|source| known.inlined(source)).collect();
    let into: BTreeSet<String> = copies.iter().map(|copy| written(&copy.into_name)).collect();
    let places = copies.iter().map(ToString::to_string).collect();
    (!into.is_empty()).then(|| AnalyseError::InlinedAway {
        name: old.to_string(),
        into: into.into_iter().collect(),
        places,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding() {
        for (why, bytes, need, want) in [
            ("nops", &[0x90, 0x90, 0x90, 0x90][..], 4, true),
            ("one long nop", &[0x0f, 0x1f, 0x44, 0, 0], 3, true),
            ("nopw cs:", &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], 4, true),
            ("xchg ax,ax", &[0x66, 0x90], 2, true),
            ("int3", &[0xcc, 0xcc, 0xcc], 3, true),
            ("code", &[0x90, 0x55, 0x90], 3, false),
            ("too few", &[0x90], 3, false),
        ] {
            assert_eq!(is_padding(bytes, need), want, "{why}");
        }
    }
}
