//! Several names of one function: aliases, and functions that were folded because they are the same.

use super::function::Function;
use super::graph::Kind;
use super::{Study, evidence};
use crate::arch::x86_64::ENDBR64;
use crate::finding::{Explain, Findings};
use crate::read::dwarf::functions::{Functions, Source};
use crate::rule::{self, Rule};
use lpb::addr::to_u64;
use std::collections::BTreeSet;

/// Other names of a function that is replaced.
#[derive(Debug, thiserror::Error)]
enum NamesError {
    #[error("{name} at {at} is also the code of {}", others.join(", "))]
    Folded { name: String, at: lpb::LinkAddr, others: Vec<String>, lines: Vec<String> },
    #[error("{name} has other names: {}", others.join(", "))]
    Alias { name: String, others: Vec<String> },
}

impl Explain for NamesError {
    fn hint(&self) -> Option<String> {
        None
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(match self {
            Self::Folded { .. } => &rule::FOLDED,
            Self::Alias { .. } => &rule::ALIAS,
        })
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Folded { lines, .. } => evidence(lines),
            Self::Alias { .. } => Vec::new(),
        }
    }
}

/// Looks for other names of every replaced function.
pub fn check(study: &Study<'_>, findings: &mut Findings) {
    for f in &study.functions {
        let known = study.dwarf.map(|dwarf| dwarf.functions());
        let others = other_names(study, f);
        let (mut folded, mut lines) = (BTreeSet::new(), Vec::new());
        if let Some(known) = known {
            // Assembly has no functions, only names: they have no line.
            let written = known.at(f.addr).chain(others.iter().filter_map(|name| bodiless(known, name)));
            let written: BTreeSet<&Source> = written.filter(|source| source.line != 0).collect();
            let own = written.iter().find(|source| is_it(f, source)).or(written.first()).copied();
            // The inline definition of a header and the one with the body are one function.
            let other = |source: &&&Source| own.is_none_or(|own| own.name != source.name);
            for source in written.iter().filter(other).filter(|source| !f.also.contains(&source.name)) {
                folded.insert(source.name.clone());
                lines.push(source.to_string());
            }
            for (name, line) in jumping(study, known, f) {
                folded.insert(name);
                lines.push(line);
            }
        }
        let aliases: Vec<String> = others.into_iter().filter(|name| !folded.contains(name)).collect();
        if !folded.is_empty() {
            let others = folded.into_iter().collect();
            findings.add(NamesError::Folded { name: f.name.clone(), at: f.addr, others, lines });
        }
        if !aliases.is_empty() {
            findings.add(NamesError::Alias { name: f.name.clone(), others: aliases });
        }
    }
}

/// Names at the address of the function that were not asked for, without versions.
fn other_names(study: &Study<'_>, f: &Function) -> BTreeSet<String> {
    let tables = [&study.object.symtab, &study.object.dynamic.symbols];
    let names = tables.into_iter().flat_map(|t| t.at(f.addr).filter(|s| s.is_function()).map(|s| t.text(s)));
    let plain = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    let asked = |name: &String| *name == plain(&f.linked) || *name == f.name || f.also.contains(name);
    names.map(|name| plain(&name)).filter(|name| !asked(name)).collect()
}

/// Whether this is the source of the function that was asked for, by one of its names.
fn is_it(f: &Function, source: &Source) -> bool {
    let plain = f.linked.split(['.', '@']).next().unwrap_or_default();
    source.name == f.linked || source.name == plain || source.name == f.name || f.also.contains(&source.name)
}

/// The function of this name that is defined in the source and has no body under its own name.
fn bodiless<'a>(known: &'a Functions, name: &str) -> Option<&'a Source> {
    known.defined(name).find(|source| known.bodies(source).is_empty())
}

/// Functions that are nothing but a jump to this one: gcc folds so where each needs an address of its own.
fn jumping(study: &Study<'_>, known: &Functions, f: &Function) -> Vec<(String, String)> {
    let jumps = study.graph.callers(f.addr).filter(|(node, edge)| {
        let lead = edge.at.since(node.start).unwrap_or(u64::MAX);
        edge.kind == Kind::Jump && (lead == 0 || lead == to_u64(ENDBR64.len())) && !study.replaces(node.start)
    });
    let folded =
        jumps.filter(|(node, _)| known.at(node.start).next().is_none() && bodiless(known, &node.name).is_some());
    folded
        .filter(|(node, _)| !f.also.contains(&node.name))
        .map(|(node, edge)| (node.name.clone(), format!("{} is a jump to it, at {}", node.name, edge.at)))
        .collect()
}
