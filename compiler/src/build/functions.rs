//! The functions that are replaced, in every build of their objects.

use super::Request;
use super::request::RequestError;
use crate::analyse::{self, AnalyseError, Function};
use crate::finding::Findings;
use crate::read::ReadError;
use crate::read::patch::Wanted;
use crate::resolve::scope::Scope;
use lpb::Consistency;
use std::collections::HashMap;

/// Every function to be replaced, in every build of its object.
pub(super) fn functions(
    request: &Request,
    scopes: &[Scope<'_>],
    wanted: &[Wanted],
    findings: &mut Findings,
) -> Result<Vec<Function>, ReadError> {
    let is = |name: &String, w: &Wanted| *name == w.old.name || *name == w.old.to_string();
    for name in request.immediate.iter().filter(|name| !wanted.iter().any(|w| is(name, w))) {
        let replaced = wanted.iter().map(|w| w.old.to_string()).collect();
        findings.add(RequestError::NotImmediate { name: name.clone(), replaced });
    }
    let immediate = |number: usize| {
        let named = |w: &Wanted| request.immediate.iter().any(|name| is(name, w));
        request.consistency == Consistency::Immediate || wanted.get(number).is_some_and(named)
    };
    let mut all = Vec::new();
    for scope in scopes {
        let mut here = Findings::default();
        let introduced =
            |w: &Wanted| scope.split(&w.old).map_or(scope.other().is_none(), |(id, _)| scope.introduces(id));
        let asked = wanted.iter().enumerate().filter(|(_, w)| introduced(w));
        let mut functions: Vec<Function> = Vec::new();
        for (number, w) in asked {
            let found = analyse::functions(scope, number, &w.old, &mut here);
            functions.extend(here.keep(found).unwrap_or_default());
        }
        functions.iter_mut().for_each(|f| f.immediate = immediate(f.number));
        once_each(&mut functions, wanted, &mut here);
        analyse::together(scope, &mut functions, &mut here)?;
        findings.add_all(here, scope.other_file().as_deref());
        all.extend(functions);
    }
    all.sort_by_key(|f| f.number);
    Ok(all)
}

/// Functions that are the same code are one if they are replaced by the same one; else that is an error.
fn once_each(functions: &mut Vec<Function>, wanted: &[Wanted], findings: &mut Findings) {
    let new = |f: &Function| wanted.get(f.number).map(|w| w.new_addr);
    let mut kept: Vec<Function> = Vec::new();
    for f in functions.drain(..) {
        match kept.iter_mut().find(|other| (other.object, other.addr) == (f.object, f.addr)) {
            None => kept.push(f),
            Some(first) if first.ifunc.is_some() || f.ifunc.is_some() => {
                let (name, other) = (f.asked().to_owned(), first.asked().to_owned());
                findings.add(AnalyseError::SharedCode { name, other, at: f.addr });
            }
            Some(first) if new(first) == new(&f) => first.also.extend([f.name, f.linked]),
            Some(first) => {
                let new = |f: &Function| wanted.get(f.number).map(|w| w.new.clone()).unwrap_or_default();
                let new = (new(first), new(&f));
                findings.add(AnalyseError::Twice { name: f.name, other: first.name.clone(), at: f.addr, new });
            }
        }
    }
    *functions = kept;
}

/// Replaced functions by name, and as `name:file` where a file was given; static functions of several files may share one. A function that is refused has none.
pub(super) fn originals(wanted: &[Wanted], functions: &[Function]) -> HashMap<String, Vec<usize>> {
    let in_file = |w: &Wanted| w.old.prefixes.last().map(|file| format!("{}:{file}", w.old.name));
    let names = wanted.iter().flat_map(|w| std::iter::once(w.old.name.clone()).chain(in_file(w)));
    let mut all: HashMap<String, Vec<usize>> = names.map(|name| (name, Vec::new())).collect();
    for f in functions {
        let by_file = wanted.get(f.number).and_then(in_file);
        for name in std::iter::once(f.name.clone()).chain(by_file).chain(f.also.iter().cloned()) {
            let numbers = all.entry(name).or_default();
            if !numbers.contains(&f.number) {
                numbers.push(f.number);
            }
        }
    }
    all
}
