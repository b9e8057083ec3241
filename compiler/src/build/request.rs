//! What the user asks for: options and what the patch says itself, parsed and checked.

use crate::analyse::variable::Variable;
use crate::demangle;
use crate::finding::{Explain, Findings};
use crate::read::base_name;
use crate::read::elf::Object;
use crate::read::patch::{self, Directives, Wanted};
use crate::read::symbols::Symbol;
use crate::resolve::local::{self, LocateError};
use crate::resolve::near;
use crate::resolve::scope::Scope;
use crate::rule::{self, Rule, Severity};
use crate::spec::{self, Qualified, SetSpec, SlotSpec, SpecError};
use lpb::{Consistency, LinkAddr};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const BIND_FORM: &str = "NAME=[MODULE:][FILE.c:]SYM";

/// What the user asks for.
#[derive(Debug)]
pub struct Request {
    pub targets: Vec<PathBuf>,
    pub patch: PathBuf,
    pub replace: Vec<String>,
    pub bind: Vec<String>,
    pub set: Vec<String>,
    pub slot: Vec<String>,
    pub sysroot: Option<PathBuf>,
    pub libs: Vec<PathBuf>,
    pub modules: Vec<PathBuf>,
    pub debug_files: Vec<PathBuf>,
    pub name: Option<String>,
    pub description: String,
    pub cve: Vec<String>,
    /// Ids of rules whose warnings are accepted.
    pub allow: Vec<String>,
    /// Functions that may be replaced while threads are inside them.
    pub immediate: Vec<String>,
    pub consistency: Consistency,
}

impl Request {
    /// Every file that it names.
    pub fn inputs(&self) -> Vec<&PathBuf> {
        let lists = [&self.targets, &self.libs, &self.modules, &self.debug_files];
        lists.into_iter().flatten().chain([&self.patch]).collect()
    }
}

/// What is wrong with the request as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("the patch replaces nothing")]
    Nothing,
    #[error("the patch defines no function {name} (asked for by --replace {given})")]
    NoNew { name: String, given: String, near: Vec<String> },
    #[error("new function {name} at {at} does not lie in the code of the patch")]
    NewOutside { name: String, at: LinkAddr },
    #[error("--name {name:?} is empty, too long or holds a control character")]
    Name { name: String },
    #[error("--bind {name}: the patch does not use this name")]
    UnusedBind { name: String, near: Vec<String>, defined: bool },
    #[error("--immediate {name}: the patch does not replace this function")]
    NotImmediate { name: String, replaced: Vec<String> },
    #[error("--bind: {source}")]
    Bind { source: LocateError },
}

impl Explain for RequestError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Nothing => {
                "say what to change: --replace OLD=NEW, or LP_REPLACE(OLD) in the patch (see `lp-compile header`), or --slot or --set"
                    .to_owned()
            }
            Self::UnusedBind { name, defined: true, .. } => {
                format!("the patch defines a static {name} of its own: declare it `extern` instead")
            }
            Self::UnusedBind { near, .. } => match near.is_empty() {
                true => "declare it `extern` in the patch and use it, or leave the option out".to_owned(),
                false => format!("similar names in the patch: {}", near.join(", ")),
            },
            Self::NotImmediate { replaced, .. } => format!("it replaces {}", replaced.join(", ")),
            Self::NoNew { near, .. } if !near.is_empty() => format!("similar names in the patch: {}", near.join(", ")),
            Self::NoNew { .. } => "the new function must not be inlined away: make it global and non-static".to_owned(),
            Self::NewOutside { .. } => "link the patch again: its symbol table and its segments disagree".to_owned(),
            Self::Name { .. } => "choose a name of 1 to 4096 bytes of printable text".to_owned(),
            Self::Bind { source } => return source.hint(),
        })
    }
}

/// The rules of `--allow`.
pub(super) fn allowed(ids: &[String]) -> Result<Vec<&'static Rule>, SpecError> {
    let warning = |id: &String| match rule::by_id(id) {
        Some(rule) if rule.severity == Severity::Error => Err(SpecError::AllowError { id: id.clone() }),
        Some(rule) => Ok(rule),
        None => Err(SpecError::AllowUnknown { id: id.clone() }),
    };
    ids.iter().map(warning).collect()
}

/// Replacements: those of the patch itself, then those of the command line.
pub(super) fn wanted(
    request: &Request,
    patch: &Object,
    directives: &Directives,
    findings: &mut Findings,
) -> Result<Vec<Wanted>, SpecError> {
    let mut all = directives.replacements.clone();
    for given in &request.replace {
        let (old, new) = spec::pair(given, "[MODULE:][FILE.c:]OLD=NEW")?;
        let old = Qualified::parse(&old)?;
        match new_function(patch, &new) {
            // Saying on the command line what the patch says too is no contradiction.
            Some(new_addr) if all.iter().any(|w| w.old == old && w.new_addr == new_addr) => {}
            Some(new_addr) => all.push(Wanted { old, new, new_addr }),
            None => {
                let near = near::defined_by(patch, &new);
                findings.add(RequestError::NoNew { name: new, given: given.clone(), near });
            }
        }
    }
    Ok(all)
}

/// The function of the patch that NEW means: as it is linked or, if that says which one, as C++ and Rust write it.
pub(super) fn new_function(patch: &Object, new: &str) -> Option<LinkAddr> {
    let functions = || patch::symbols(patch).filter(|(s, _)| s.is_function() && s.is_defined());
    if let Some((linked, _)) = functions().find(|(_, name)| name == new) {
        return Some(linked.value);
    }
    let word = demangle::last_word(new);
    let means = |name: &str| demangle::may_mean(name.as_bytes(), word) && demangle::means(new, name);
    let written: BTreeSet<LinkAddr> = functions().filter(|(_, name)| means(name)).map(|(s, _)| s.value).collect();
    written.first().copied().filter(|_| written.len() == 1)
}

/// Names of the patch and what they mean; the command line wins.
pub(super) fn binds(request: &Request, directives: &Directives) -> Result<BTreeMap<String, Qualified>, SpecError> {
    let mut all: BTreeMap<String, Qualified> = directives.binds.iter().cloned().collect();
    for given in &request.bind {
        let (name, symbol) = spec::pair(given, BIND_FORM)?;
        all.insert(name, Qualified::parse(&symbol)?);
    }
    Ok(all)
}

/// What is written beside code.
pub(super) struct Data<'a> {
    pub sets: &'a [SetSpec],
    pub slots: &'a [SlotSpec],
}

impl Data<'_> {
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.slots.is_empty()
    }

    /// The symbols of the target that it names.
    pub fn symbols(&self) -> impl Iterator<Item = &Qualified> {
        self.sets.iter().flat_map(SetSpec::symbols).chain(self.slots.iter().map(|s| &s.new))
    }
}

/// A bind that names nothing, or that the patch has no use for, is a misspelt one.
pub(super) fn check_binds(
    request: &Request,
    patch: &Object,
    scope: &Scope,
    binds: &BTreeMap<String, Qualified>,
    findings: &mut Findings,
) -> Result<(), SpecError> {
    for given in &request.bind {
        let (name, _) = spec::pair(given, BIND_FORM)?;
        if patch.dynamic.symbols.named(name.as_bytes()).next().is_none() {
            let near = near::imported_by(patch, &name);
            let own = |s: &Symbol| s.is_place() && Variable::of(&patch.symtab.text(s)).name == name;
            let defined = patch.symtab.iter().any(own);
            findings.add(RequestError::UnusedBind { name, near, defined });
        }
    }
    for given in binds.values().filter(|q| !q.prefixes.is_empty()) {
        if let Err(source) = local::locate(scope, given) {
            findings.add(RequestError::Bind { source });
        }
    }
    Ok(())
}

/// The name that patches succeed each other by.
pub(super) fn name(request: &Request, findings: &mut Findings) -> String {
    let stem = || Path::new(&base_name(&request.patch)).file_stem().map(|s| s.to_string_lossy().into_owned());
    let name = request.name.clone().or_else(stem).unwrap_or_default();
    if name.is_empty() || name.len() > 4096 || name.chars().any(char::is_control) {
        findings.add(RequestError::Name { name: name.clone() });
    }
    name
}
