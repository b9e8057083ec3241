//! The libraries that the patch was linked with, and those of the target.

use super::evidence;
use crate::finding::{Explain, Findings};
use crate::read::elf::Object;
use crate::resolve::scope::Scope;
use crate::rule::{self, Rule};
use crate::spec::Qualified;
use object::elf;
use std::collections::BTreeMap;

/// The patch comes from another system.
#[derive(Debug, thiserror::Error)]
#[error("the patch was linked with what the target does not have: {}", what.join(", "))]
struct OtherLibraries {
    what: Vec<String>,
    lines: Vec<String>,
}

impl Explain for OtherLibraries {
    fn hint(&self) -> Option<String> {
        Some("build the patch with the libraries of the target's system, or load them into the target".to_owned())
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(&rule::OTHER_LIBRARIES)
    }

    fn evidence(&self) -> Vec<String> {
        evidence(&self.lines)
    }
}

/// Compares what the patch imports with what the target loads. A library that nothing is taken from is none of its business.
pub fn check(scope: &Scope<'_>, patch: &Object, binds: &BTreeMap<String, Qualified>, findings: &mut Findings) {
    let table = &patch.dynamic.symbols;
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let anywhere = |name: &[u8]| {
        scope.iter().any(|(_, o)| o.dynamic.symbols.named(name).chain(o.symtab.named(name)).any(|s| s.is_defined()))
    };
    for symbol in table.iter().filter(|s| !s.is_defined() && s.bind == elf::STB_GLOBAL) {
        let (name, text) = (table.name(symbol), table.text(symbol));
        let plain = text.split('@').next().unwrap_or_default().to_owned();
        // The patch gets a `__tls_get_addr` of its own where the target has none.
        let own = plain.starts_with("lp_original.") || plain == "__tls_get_addr";
        if name.is_empty() || own || binds.contains_key(&plain) {
            continue;
        }
        let needed = patch.dynamic.version(symbol).and_then(|v| Some((v.file.as_ref()?, &v.name)));
        let what = match needed {
            Some((file, version)) => match scope.by_name(file).and_then(|id| scope.get(id)) {
                Some(library) if !library.dynamic.defines(version) && library.dynamic.has_versions() => {
                    Some(format!("{version} of {file}"))
                }
                None if !anywhere(name) => Some(file.clone()),
                _ => None,
            },
            None if !anywhere(name) => {
                let absent = |soname: &&String| scope.by_name(soname).is_none();
                let absent: Vec<&str> = patch.dynamic.needed.iter().filter(absent).map(String::as_str).collect();
                (!absent.is_empty()).then(|| absent.join(" or "))
            }
            None => None,
        };
        if let Some(what) = what {
            missing.entry(what).or_default().push(plain);
        }
    }
    if !missing.is_empty() {
        let lines = missing.iter().map(|(what, names)| format!("{what}: {}", names.join(", "))).collect();
        findings.add(OtherLibraries { what: missing.into_keys().collect(), lines });
    }
}
