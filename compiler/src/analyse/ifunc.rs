//! IFUNCs: which functions their resolvers can choose.
//!
//! ```text
//! resolver:   lea   __strlen_sse2(%rip),%rax      every address of a function's start that the resolver, or a function
//!             lea   __strlen_avx2(%rip),%rdx      that it goes on to, takes: by `lea`, from a GOT slot, as a number
//!             cmovne %rdx,%rax                    (only where the object cannot be moved)
//! ```
//! Which one a process has chosen, its slots tell (`resolve/witness.rs`).

use super::function::{Function, examine};
use super::prologue::{branch_target, decode};
use super::{Whole, check, entries, evidence};
use crate::arch::x86_64::RelocKind;
use crate::finding::{Explain, Finding, Findings};
use crate::read::ReadError;
use crate::read::bodies::around;
use crate::read::elf::{Object, Range};
use crate::read::symbols::Symbol;
use crate::resolve::scope::{Def, Scope};
use crate::rule::{self, Rule, Severity};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use lpb::{Candidate, ElfType, LinkAddr};
use object::elf;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Functions of a resolver that are looked at, and bytes of each.
const FUNCTIONS: usize = 16;
const BYTES: u64 = 1 << 16;

/// The IFUNC that a function is an implementation of.
#[derive(Clone, Debug)]
pub struct Ifunc {
    /// As it was asked for.
    pub name: String,
    /// The symbol of its resolver.
    pub def: Def,
    /// Slots that hold the chosen implementation.
    pub chosen: Vec<Candidate>,
}

/// What is to be said of IFUNCs that are to be replaced.
#[derive(Debug, thiserror::Error)]
pub enum IfuncError {
    #[error("{name} of {module} is an IFUNC: {} of its implementations {} replaced, and of these the one that the process has chosen",
        .done.len(), if .done.len() == 1 { "is" } else { "are" })]
    Target { name: String, module: String, done: Vec<String> },
    #[error("{name} of {module} is an IFUNC, and {} of its implementations cannot be replaced", left.len())]
    Partial { name: String, module: String, left: Vec<String> },
    #[error("cannot replace {name} of {module}: it is an IFUNC, and {why}")]
    Unknown { name: String, module: String, why: &'static str, lines: Vec<String> },
    #[error("{name} of {module} is an IFUNC that has implementations in common with {}", others.join(", "))]
    Shared { name: String, module: String, others: Vec<String>, lines: Vec<String> },
}

impl Explain for IfuncError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { lines, .. } if lines.is_empty() => {
                Some("replace its implementations by their own names".to_owned())
            }
            Self::Target { .. } | Self::Partial { .. } | Self::Unknown { .. } | Self::Shared { .. } => None,
        }
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(match self {
            Self::Target { .. } => &rule::IFUNC_TARGET,
            Self::Partial { .. } => &rule::IFUNC_PARTIAL,
            Self::Unknown { .. } => &rule::IFUNC_UNKNOWN,
            Self::Shared { .. } => &rule::IFUNC_SHARED,
        })
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Target { done: lines, .. }
            | Self::Partial { left: lines, .. }
            | Self::Unknown { lines, .. }
            | Self::Shared { lines, .. } => evidence(lines),
        }
    }
}

/// The implementations of one IFUNC that can be replaced, and what is to be said about it.
pub fn functions(
    scope: &Scope,
    def: &Def,
    number: usize,
    name: &str,
    findings: &mut Findings,
) -> Result<Vec<Function>, Finding> {
    let Some(object) = scope.get(def.object) else { return Ok(Vec::new()) };
    let resolvers = Resolvers::of(object);
    let choice = resolvers.choice(scope, def, number, name)?;
    let places: Vec<Range> = choice.functions.iter().flat_map(|f| entries(object, f)).collect();
    choice.settle(&resolvers, &Whole::of(object, scope, &places)?, findings)
}

/// What the resolver of one IFUNC can choose.
pub struct Choice {
    name: String,
    def: Def,
    /// Implementations that can be replaced, as far as each tells by itself.
    pub functions: Vec<Function>,
    /// Those that cannot, and why.
    left: Vec<String>,
}

impl Choice {
    /// The implementations that nothing in the whole of their module stands against, and what is to be said about the IFUNC.
    pub fn settle(
        self,
        resolvers: &Resolvers<'_>,
        whole: &Whole<'_>,
        findings: &mut Findings,
    ) -> Result<Vec<Function>, Finding> {
        let Self { name, def, functions: mut kept, mut left } = self;
        let module = whole.object.name.clone();
        left.extend(retain_sound(whole, &mut kept));
        if kept.is_empty() {
            let why = match left.is_empty() {
                true => "its resolver does not show which implementations it chooses from",
                false => "none of its implementations can be replaced",
            };
            return Err(IfuncError::Unknown { name, module, why, lines: left }.into());
        }
        if let Some(shared) = resolvers.shared(&name, &def, &kept)? {
            findings.add(shared);
        }
        let done = kept.iter().map(|f| format!("{} at {}, {} bytes", f.name, f.addr, f.size)).collect();
        if !left.is_empty() {
            findings.add(IfuncError::Partial { name: name.clone(), module: module.clone(), left });
        }
        findings.add(IfuncError::Target { name, module, done });
        Ok(kept)
    }
}

/// Leaves out functions that something stands against, each by itself; gives the reasons.
fn retain_sound(whole: &Whole<'_>, functions: &mut Vec<Function>) -> Vec<String> {
    let mut reasons = Vec::new();
    functions.retain(|f| {
        let (mut trial, mut findings) = (f.clone(), Findings::default());
        check(&mut whole.study(vec![&mut trial]), &mut findings);
        let error = findings.into_all().into_iter().find(|finding| finding.severity() == Severity::Error);
        reasons.extend(error.iter().map(|e| format!("{} at {}: {}", f.name, f.addr, e.message)));
        error.is_none()
    });
    reasons
}

/// The resolvers of an object, and where its functions are, with or without symbols.
pub struct Resolvers<'a> {
    object: &'a Object,
    /// What each can choose, where that has been looked at.
    seen: RefCell<HashMap<LinkAddr, Rc<[Symbol]>>>,
}

impl<'a> Resolvers<'a> {
    pub fn of(object: &'a Object) -> Self {
        Self { object, seen: RefCell::default() }
    }

    /// The implementations that the resolver of `def` chooses from, for replacement `number`.
    pub fn choice(&self, scope: &Scope, def: &Def, number: usize, name: &str) -> Result<Choice, Finding> {
        let mut choice = Choice { name: name.to_owned(), def: *def, functions: Vec::new(), left: Vec::new() };
        for symbol in self.implementations(&def.symbol)?.iter() {
            let own = self.name(symbol, name);
            let ifunc = Ifunc { name: name.to_owned(), def: *def, chosen: Vec::new() };
            match examine(scope, &Def { symbol: *symbol, ..*def }, number, &own) {
                Ok(f) => choice.functions.push(Function { also: vec![name.to_owned()], ifunc: Some(ifunc), ..f }),
                Err(finding) => choice.left.push(format!("{own} at {}: {}", symbol.value, finding.message)),
            }
        }
        Ok(choice)
    }

    /// The size of what starts here, as the unwind table tells.
    fn size(&self, at: LinkAddr) -> Option<u64> {
        around(self.object.bodies(), at).map(|b| b.range).filter(|r| r.start == at).map(|r| r.size)
    }

    /// The function that starts here.
    fn function(&self, at: LinkAddr) -> Option<Symbol> {
        if !self.object.is_executable(at) {
            return None;
        }
        let named = [&self.object.symtab, &self.object.dynamic.symbols].into_iter().flat_map(|table| table.at(at));
        let symbol = named.filter(|s| s.is_defined() && s.kind == elf::STT_FUNC).max_by_key(|s| s.size).copied();
        symbol.or_else(|| Some(Symbol::nameless(at, self.size(at)?)))
    }

    /// A name that the function has, rather one that contains that of the IFUNC; its address where it has none.
    fn name(&self, symbol: &Symbol, ifunc: &str) -> String {
        let tables = [&self.object.symtab, &self.object.dynamic.symbols];
        let names = tables.into_iter().flat_map(|t| t.at(symbol.value).filter(|s| s.is_function()).map(|s| t.text(s)));
        let mut names: Vec<String> = names.collect();
        names.sort_by_key(|name| !name.contains(ifunc));
        names.into_iter().next().unwrap_or_else(|| format!("{ifunc} ({})", symbol.value))
    }

    /// The functions that a resolver can choose, ascending.
    fn implementations(&self, resolver: &Symbol) -> Result<Rc<[Symbol]>, ReadError> {
        let known = self.seen.borrow().get(&resolver.value).cloned();
        match known {
            Some(known) => Ok(known),
            None => {
                let found = Rc::from(self.find_implementations(resolver)?);
                self.seen.borrow_mut().insert(resolver.value, Rc::clone(&found));
                Ok(found)
            }
        }
    }

    fn find_implementations(&self, resolver: &Symbol) -> Result<Vec<Symbol>, ReadError> {
        let size = match resolver.size {
            0 => self.size(resolver.value).unwrap_or(0),
            size => size,
        };
        let mut parts = vec![Range { start: resolver.value, size }];
        let mut chosen = BTreeSet::new();
        let mut next = 0_usize;
        while let Some(part) = parts.get(next).copied() {
            next = next.saturating_add(1);
            let Some(load) = self.object.load_of(part.start, 1) else { continue };
            let room = load.filesz.saturating_sub(part.start.since(load.vaddr).unwrap_or(0));
            let code = self.object.memory(part.start, part.size.min(BYTES).min(room))?;
            for i in decode(&code, part.start) {
                chosen.extend(self.taken(&i)?);
                let Some(to) = branch_target(&i).filter(|to| !part.contains(*to)) else { continue };
                let seen = parts.iter().any(|p| p.contains(to));
                if let Some(f) = self.function(to).filter(|_| !seen && parts.len() < FUNCTIONS) {
                    parts.push(Range { start: to, size: f.size });
                }
            }
        }
        let own = |at: &LinkAddr| parts.iter().any(|p| p.start == *at);
        Ok(chosen.iter().filter(|at| !own(at)).filter_map(|at| self.function(*at)).collect())
    }

    /// The address of code that an instruction takes.
    fn taken(&self, i: &Instruction) -> Result<Option<LinkAddr>, ReadError> {
        let relative = i.memory_base() == Register::RIP && i.memory_index() == Register::None;
        let memory = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
        let at = match i.mnemonic() {
            Mnemonic::Lea if relative => Some(LinkAddr(i.memory_displacement64())),
            _ if memory && relative => self.slot(LinkAddr(i.memory_displacement64()))?,
            Mnemonic::Mov if self.object.e_type == ElfType::Exec => {
                let immediate =
                    matches!(i.op1_kind(), OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64);
                immediate.then(|| LinkAddr(i.immediate(1)))
            }
            _ => None,
        };
        Ok(at.filter(|at| self.object.is_executable(*at)))
    }

    /// What the loader puts into a slot of the GOT.
    fn slot(&self, place: LinkAddr) -> Result<Option<LinkAddr>, ReadError> {
        let dynamic = &self.object.dynamic;
        let first = dynamic.relocs.partition_point(|r| r.place < place);
        if let Some(reloc) = dynamic.relocs.get(first).filter(|r| r.place == place) {
            let symbol = || dynamic.symbol_of(reloc).filter(|s| s.is_defined()).map(|s| s.value);
            return Ok(match reloc.kind() {
                RelocKind::Relative => Some(LinkAddr(reloc.addend.cast_unsigned())),
                RelocKind::GlobDat | RelocKind::Abs64 => symbol(),
                _ => None,
            });
        }
        let fixed = self.object.e_type == ElfType::Exec && self.object.stores(place, 8);
        let word = fixed || dynamic.relr.binary_search(&place).is_ok();
        if word { self.object.word(place).map(|word| Some(LinkAddr(word))) } else { Ok(None) }
    }

    /// Other IFUNCs that can choose one of these functions.
    fn shared(&self, name: &str, def: &Def, functions: &[Function]) -> Result<Option<IfuncError>, ReadError> {
        let mut resolvers: BTreeMap<LinkAddr, (Symbol, String)> = BTreeMap::new();
        for table in [&self.object.dynamic.symbols, &self.object.symtab] {
            let ifuncs = table.iter().filter(|s| s.kind == elf::STT_GNU_IFUNC && s.is_defined());
            for s in ifuncs.filter(|s| s.value != def.symbol.value) {
                resolvers.entry(s.value).or_insert_with(|| (*s, table.text(s)));
            }
        }
        let (mut others, mut lines) = (Vec::new(), Vec::new());
        for (symbol, other) in resolvers.values() {
            let theirs = self.implementations(symbol)?;
            let common = functions.iter().filter(|f| theirs.iter().any(|s| s.value == f.addr));
            let common: Vec<&str> = common.map(|f| f.name.as_str()).collect();
            if !common.is_empty() {
                others.push(other.clone());
                lines.push(format!("{other} can choose {}", common.join(", ")));
            }
        }
        let (name, module) = (name.to_owned(), self.object.name.clone());
        Ok((!others.is_empty()).then_some(IfuncError::Shared { name, module, others, lines }))
    }
}
