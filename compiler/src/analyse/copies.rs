//! Copies of a replaced function: inside other functions, in other files, specialised ones. They keep the old code.
//!
//! ```text
//! source    int f(int) of a.c:10
//! bodies    f at 0x1140 (replaced)      f.constprop.0 at 0x1160: a clone      f at 0x1900: of another file
//! inlined   in g, at 0x1210, called at a.c:33
//! ```

use super::function::Function;
use super::graph::Kind;
use super::{Study, evidence};
use crate::demangle::{clone_suffix, written};
use crate::finding::{Explain, Finding, Findings};
use crate::read::dwarf::functions::{Functions, Inlined, Source};
use crate::read::symbols::Symbol;
use crate::rule::{self, Rule};
use lpb::LinkAddr;
use std::collections::BTreeSet;

/// A copy that is not replaced.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("{name} is inlined into functions that the patch does not replace: {}", into.join(", "))]
    Inlined { name: String, into: Vec<String>, places: Vec<String> },
    #[error("{name} has another body, which the patch does not replace")]
    OtherBody { name: String, bodies: Vec<String> },
    #[error("{name} has specialised copies, which the patch does not replace: {}", clones.join(", "))]
    Clone { name: String, clones: Vec<String>, callers: Vec<String> },
    #[error("{name} is a specialised copy of {of}: its callers pass what is left of the parameters")]
    IsClone { name: String, of: String },
    #[error("{module} has no debug information")]
    NoDebugInfo { module: String },
    #[error("the debug information of {module} is damaged: {what}")]
    Damaged { module: String, what: String },
}

impl Explain for CopyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Inlined { into, .. } => Some(format!("replace {} as well", into.join(", "))),
            Self::IsClone { .. } => {
                Some("replace its callers instead, or take the parameters from its machine code".to_owned())
            }
            Self::OtherBody { .. } | Self::Clone { .. } | Self::NoDebugInfo { .. } | Self::Damaged { .. } => None,
        }
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(match self {
            Self::Inlined { .. } => &rule::INLINED,
            Self::OtherBody { .. } => &rule::OTHER_BODY,
            Self::Clone { .. } | Self::IsClone { .. } => &rule::CLONE,
            Self::NoDebugInfo { .. } | Self::Damaged { .. } => &rule::NO_DEBUG_INFO,
        })
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Inlined { places: lines, .. }
            | Self::OtherBody { bodies: lines, .. }
            | Self::Clone { callers: lines, .. } => evidence(lines),
            Self::IsClone { .. } | Self::NoDebugInfo { .. } | Self::Damaged { .. } => Vec::new(),
        }
    }
}

/// Looks for copies of every replaced function.
pub fn check(study: &Study<'_>, findings: &mut Findings) {
    let functions = study.dwarf.map(|dwarf| dwarf.functions());
    if !study.functions.is_empty() {
        let module = study.object.name.clone();
        let has_some = || study.object.section(".debug_info").is_some_and(|s| s.size != 0);
        match functions.map(|known| known.damaged()) {
            None if has_some() => {
                findings.add(CopyError::Damaged { module, what: "none of it can be read".to_owned() })
            }
            None => findings.add(CopyError::NoDebugInfo { module }),
            Some(0) => {}
            Some(units) => {
                let what = format!("{units} of its units cannot be read to their end");
                findings.add(CopyError::Damaged { module, what });
            }
        }
    }
    for f in &study.functions {
        let sources: Vec<&Source> = functions.iter().flat_map(|known| known.at(f.addr)).collect();
        for (known, source) in functions.iter().flat_map(|known| sources.iter().map(move |source| (known, *source))) {
            inlined(study, f, known, source).into_iter().for_each(|e| findings.add(e));
            other_bodies(study, f, known, source).into_iter().for_each(|e| findings.add(e));
        }
        if let Some(of) = clone_suffix(&f.linked).and_then(|suffix| f.linked.strip_suffix(suffix)) {
            findings.add(CopyError::IsClone { name: f.name.clone(), of: of.to_owned() });
        }
        clones(study, f, &sources).into_iter().for_each(|e| findings.add(e));
    }
}

fn inlined(study: &Study<'_>, f: &Function, known: &Functions, source: &Source) -> Option<Finding> {
    let own = |at: LinkAddr| f.holds(at) || known.bodies(source).contains(&at);
    let copies: Vec<&Inlined> = known.inlined(source).iter().filter(|i| !own(i.into)).collect();
    let (replaced, kept): (Vec<_>, Vec<_>) = copies.into_iter().partition(|i| study.replaces(i.into));
    if kept.is_empty() {
        return None;
    }
    let into: BTreeSet<String> = kept.iter().map(|i| written(&i.into_name)).collect();
    let kept = kept.iter().map(ToString::to_string);
    let places = kept.chain(replaced.iter().map(|i| format!("{i}: replaced too"))).collect();
    Some(CopyError::Inlined { name: f.name.clone(), into: into.into_iter().collect(), places }.into())
}

/// The function as it is in a header has a body for each file that includes it.
fn other_bodies(study: &Study<'_>, f: &Function, known: &Functions, source: &Source) -> Option<Finding> {
    let clone = |at: LinkAddr| study.object.symtab.at(at).any(|s| is_clone(study, f, s));
    let others = known.bodies(source).iter().copied().filter(|at| !f.holds(*at) && !study.replaces(*at) && !clone(*at));
    let line = |at: LinkAddr| {
        let names: BTreeSet<String> = study.object.symtab.at(at).map(|s| study.object.symtab.text(s)).collect();
        let file = study.object.symtab.at(at).find_map(|s| study.object.symtab.file(s));
        let file = file.map(|file| format!(" of {file}")).unwrap_or_default();
        format!("{}{file} at {at}", names.into_iter().next().unwrap_or_else(|| source.name.clone()))
    };
    let bodies: Vec<String> = others.map(line).collect();
    (!bodies.is_empty()).then(|| CopyError::OtherBody { name: f.name.clone(), bodies }.into())
}

/// Whether a symbol is `NAME.constprop.N` and the like of this function, as far as the names tell.
fn is_clone(study: &Study<'_>, f: &Function, s: &Symbol) -> bool {
    let name = study.object.symtab.name(s);
    let rest = name.strip_prefix(f.linked.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
    let special = |rest: &[u8]| [&b"constprop."[..], b"isra.", b"part."].iter().any(|kind| rest.starts_with(kind));
    s.is_function() && rest.is_some_and(special)
}

fn clones(study: &Study<'_>, f: &Function, sources: &[&Source]) -> Option<Finding> {
    let table = &study.object.symtab;
    let own_file = table.at(f.addr).filter(|s| s.is_function()).find_map(|s| table.file(s));
    let of_own_file = |s: &Symbol| own_file.is_none() || table.file(s).is_none_or(|file| Some(file) == own_file);
    // Another file may have a function of this name, and clones of it.
    let of_own_source = |s: &Symbol| {
        let mut known = study.dwarf.into_iter().flat_map(|dwarf| dwarf.functions().at(s.value)).peekable();
        sources.is_empty() || known.peek().is_none() || known.any(|source| sources.contains(&source))
    };
    let prefix = format!("{}.", f.linked).into_bytes();
    let mut all: Vec<&Symbol> = table.prefixed(&prefix).filter(|s| is_clone(study, f, s)).collect();
    all.retain(|s| of_own_file(s) && of_own_source(s) && !study.replaces(s.value));
    all.sort_by_key(|s| s.value);
    all.dedup_by_key(|s| s.value);
    let (mut clones, mut lines) = (Vec::new(), Vec::new());
    for s in all {
        let outside =
            study.graph.callers(s.value).filter(|(node, _)| !f.holds(node.start) && !study.replaces(node.start));
        let callers: Vec<String> = outside.map(|(node, edge)| study.place(&node.name, edge.at, edge.kind)).collect();
        // A part that only the function itself uses is a part of it.
        if f.holds(s.value) && callers.is_empty() {
            continue;
        }
        let name = table.text(s);
        lines.push(format!("{name} at {}", s.value));
        lines.extend(callers);
        clones.push(name);
    }
    (!clones.is_empty()).then(|| CopyError::Clone { name: f.name.clone(), clones, callers: lines }.into())
}

impl Study<'_> {
    /// Whether the function that starts here is replaced.
    pub(super) fn replaces(&self, at: LinkAddr) -> bool {
        self.functions.iter().any(|f| f.addr == at)
    }

    /// A call, for people: where it is in the source, if that is known.
    pub(super) fn place(&self, caller: &str, at: LinkAddr, kind: Kind) -> String {
        let line = self.dwarf.and_then(|dwarf| dwarf.line(at)).map(|(file, line)| format!("{file}:{line} "));
        let what = if kind == Kind::Call { "called" } else { "jumped to" };
        format!("{}{what} in {}, at {at}", line.unwrap_or_default(), written(caller))
    }
}
