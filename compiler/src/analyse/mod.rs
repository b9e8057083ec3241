//! Can the function take a jump? Size, parts, first instructions, and who branches into them.
//!
//! ```text
//! function:  endbr64           site = behind it: an indirect call still lands on it
//! site:      ┌─ 5 bytes ─┐     overwritten by `jmp rel32`
//!            │ whole instructions, moved to the island │ rest of the body │ padding
//! ```

mod branches;
mod copies;
pub mod effects;
mod extent;
pub mod forks;
mod function;
pub mod graph;
pub mod ifunc;
mod layouts;
pub mod libraries;
mod limits;
mod names;
mod options;
mod parts;
pub mod pointers;
pub mod prologue;
pub mod reach;
pub mod registers;
pub mod returns;
pub mod target;
pub mod types;
mod unreadable;
pub mod users;
pub mod variable;

pub use function::{Fragment, Function, examine, functions};

use crate::finding::{Explain, Findings};
use crate::read::ReadError;
use crate::read::dwarf::Dwarf;
use crate::read::elf::{Object, Range};
use crate::resolve::local::LocateError;
use crate::resolve::scope::{ObjectId, Scope};
use crate::rule::{self, Rule};
use graph::Graph;
use lpb::{JUMP_LEN, LinkAddr};
use pointers::Pointers;
use prologue::PrologueError;
use registers::Known;
use returns::Ends;

/// Why a function cannot be replaced.
#[derive(Debug, thiserror::Error)]
pub enum AnalyseError {
    #[error("cannot replace {name}: {source}")]
    Locate { name: String, source: Box<LocateError> },
    #[error("cannot replace {name} at {at}: it is not a function")]
    NotCode { name: String, at: LinkAddr },
    #[error("cannot replace {name} at {at}: it is a part of a function, which is jumped into")]
    Part { name: String, at: LinkAddr },
    #[error("cannot replace {name} at {at}: it has {size} bytes and no padding behind; the jump needs {JUMP_LEN}")]
    TooShort { name: String, at: LinkAddr, size: u64 },
    #[error("cannot replace {name} at {at}: it has {size} bytes, more than 16 MiB")]
    TooLong { name: String, at: LinkAddr, size: u64 },
    #[error("cannot replace {name}: its first instructions cannot be moved: {source}")]
    Prologue { name: String, source: PrologueError },
    #[error("cannot replace {name}: {by} at {at} branches into the bytes that the jump overwrites: `{text}`")]
    Entered { name: String, by: String, at: LinkAddr, text: String },
    #[error("cannot replace {name}: {by} holds {to}, which lies in the bytes that the jump overwrites")]
    Pointed { name: String, by: String, to: LinkAddr },
    #[error("cannot replace {name}: {other} at {at} starts in the bytes that the jump overwrites")]
    SecondEntry { name: String, other: String, at: LinkAddr },
    #[error("{}, to be replaced by {} and by {}", same_code(name, other, *at), new.0, new.1)]
    Twice { name: String, other: String, at: LinkAddr, new: (String, String) },
    #[error("{name} and {other} are to be replaced, and can be the same code at {at}: an IFUNC chooses it")]
    SharedCode { name: String, other: String, at: LinkAddr },
    #[error("cannot replace {name}: it has no body, the compiler has copied it into {}", into.join(", "))]
    InlinedAway { name: String, into: Vec<String>, places: Vec<String> },
    #[error("{module}: the loader changes the text of this module (DT_TEXTREL)")]
    TextRelocations { module: String },
}

/// One name given twice, or two names of one function.
fn same_code(name: &str, other: &str, at: LinkAddr) -> String {
    match name == other {
        true => format!("{name} is named twice"),
        false => format!("{name} and {other} are the same code at {at}"),
    }
}

impl Explain for AnalyseError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Locate { source, .. } => return source.hint(),
            Self::Prologue { source, .. } => return source.hint(),
            Self::NotCode { .. } => "use --set for data".to_owned(),
            Self::Part { .. } => "replace the whole function, by its name without the ending".to_owned(),
            Self::TooShort { .. }
            | Self::TooLong { .. }
            | Self::Entered { .. }
            | Self::Pointed { .. }
            | Self::SecondEntry { .. } => "replace its callers instead".to_owned(),
            Self::Twice { name, other, .. } if name == other => "leave one of the two new functions out".to_owned(),
            Self::Twice { .. } => "replace both by the same function".to_owned(),
            Self::SharedCode { .. } => "replace only one of them: the other changes with it".to_owned(),
            Self::InlinedAway { into, .. } => format!("replace {} instead", into.join(", ")),
            Self::TextRelocations { .. } => "replace functions of modules that were compiled with -fPIC".to_owned(),
        })
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::InlinedAway { places, .. } => evidence(places),
            _ => Vec::new(),
        }
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(match self {
            Self::Locate { .. } => return None,
            Self::NotCode { .. } | Self::Part { .. } => &rule::NOT_A_FUNCTION,
            Self::TooShort { .. } => &rule::TOO_SHORT,
            Self::TooLong { .. } => &rule::TOO_LONG,
            Self::Prologue { .. } => &rule::UNMOVABLE,
            Self::Entered { .. } | Self::Pointed { .. } => &rule::ENTERED,
            Self::SecondEntry { .. } => &rule::SECOND_ENTRY,
            Self::Twice { .. } | Self::SharedCode { .. } => &rule::REPLACED_TWICE,
            Self::InlinedAway { .. } => &rule::INLINED_AWAY,
            Self::TextRelocations { .. } => &rule::TEXT_RELOCATIONS,
        })
    }
}

/// What is known of one module whose functions are replaced.
pub struct Study<'a> {
    pub object: &'a Object,
    /// Its debug information, if there is any.
    pub dwarf: Option<&'a Dwarf>,
    /// Who branches to these functions and their clones.
    pub graph: &'a Graph,
    /// Words of data that point to them.
    pub pointers: &'a Pointers,
    /// What its functions do with registers, as far as that has been looked at.
    pub known: &'a Known<'a>,
    /// Calls of it that do not come back.
    pub ends: &'a Ends<'a>,
    /// Those of its functions that are replaced, in this build of it.
    pub functions: Vec<&'a mut Function>,
}

/// What the whole of a module tells of some places in it: costly to find out, so once for all that are looked at.
pub struct Whole<'a> {
    object: &'a Object,
    dwarf: Option<&'a Dwarf>,
    graph: Graph,
    pointers: Pointers,
    known: Known<'a>,
    ends: Ends<'a>,
}

impl<'a> Whole<'a> {
    /// Looks for what leads into `places`, the [`entries`] of all functions that are to be looked at.
    pub fn of(object: &'a Object, scope: &Scope<'a>, places: &[Range]) -> Result<Self, ReadError> {
        let (graph, pointers) = (Graph::toward(object, places)?, Pointers::into(object, places)?);
        let dwarf = scope.closure().debug().dwarf(object);
        let (known, ends) = (Known::of(object, *scope), Ends::of(object));
        Ok(Self { object, dwarf, graph, pointers, known, ends })
    }

    /// These functions of it as the ones that are replaced.
    pub fn study<'s>(&'s self, functions: Vec<&'s mut Function>) -> Study<'s> {
        let Self { object, dwarf, graph, pointers, known, ends } = self;
        Study { object, dwarf: *dwarf, graph, pointers, known, ends, functions }
    }
}

/// Checks the replaced functions of one build of everything: each against the whole of its module, and against each other.
pub fn together(scope: &Scope, functions: &mut [Function], findings: &mut Findings) -> Result<(), ReadError> {
    let mut objects: Vec<ObjectId> = functions.iter().map(|f| f.object).collect();
    objects.sort_unstable();
    objects.dedup();
    for id in objects {
        let Some(object) = scope.get(id) else { continue };
        let functions: Vec<&mut Function> = functions.iter_mut().filter(|f| f.object == id).collect();
        let places: Vec<Range> = functions.iter().flat_map(|f| entries(object, f)).collect();
        check(&mut Whole::of(object, scope, &places)?.study(functions), findings);
    }
    Ok(())
}

/// All that is looked for in one module.
pub fn check(study: &mut Study<'_>, findings: &mut Findings) {
    names::check(study, findings);
    copies::check(study, findings);
    branches::check(study, findings);
    unreadable::check(study, findings);
    extent::check(study, findings);
    target::check(study, findings);
    registers::check(study, findings);
    returns::note(study);
    effects::note(study);
    limits::check(study, findings);
}

/// Lines of evidence, as many as a person reads.
fn evidence(lines: &[String]) -> Vec<String> {
    const MOST: usize = 20;
    let more = lines.len().checked_sub(MOST).filter(|n| *n != 0).map(|n| format!("and {n} more"));
    lines.iter().take(MOST).cloned().chain(more).collect()
}

/// Places of a function that branches are looked for into: where it and its clones are entered, and the bytes that the jump overwrites.
pub fn entries(object: &Object, f: &Function) -> Vec<Range> {
    let overwritten = f.site.since(f.addr).unwrap_or(0).saturating_add(JUMP_LEN);
    let prefix = format!("{}.", f.linked).into_bytes();
    let clones = object.symtab.prefixed(&prefix).filter(|s| s.is_function());
    let clones = clones.map(|s| Range { start: s.value, size: 1 });
    clones.chain([Range { start: f.addr, size: overwritten }]).collect()
}
