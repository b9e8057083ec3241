//! What is said of them.

use super::{Forks, Mine, Theirs};
use crate::analyse::variable::Place;
use crate::finding::Explain;
use crate::read::symbols::Symbol;
use crate::resolve::scope::Scope;
use crate::rule::{self, Rule};
use object::elf;

/// What is wrong with a variable of the patch.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    #[error("variable {name} is defined by the patch and by {module}: its live state would fork")]
    Forked { name: String, module: String, evidence: Vec<String>, ways: String },
    #[error("{name} has {} in {module} and {} in the patch", bytes(*.old), bytes(*.new))]
    Resized { name: String, module: String, old: u64, new: u64, evidence: Vec<String> },
    #[error("--bind {name}: the patch refers to its own {name} without a relocation{}", by(users))]
    Direct { name: String, users: Vec<String> },
}

fn bytes(n: u64) -> String {
    if n == 1 { "1 byte".to_owned() } else { format!("{n} bytes") }
}

fn by(users: &[String]) -> String {
    if users.is_empty() { String::new() } else { format!(" (in {})", users.join(", ")) }
}

impl Explain for ForkError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Forked { ways, .. } => Some(ways.clone()),
            Self::Resized { .. } => None,
            Self::Direct { name, .. } => Some(format!("declare {name} `extern` in the patch instead of defining it")),
        }
    }

    fn rule(&self) -> Option<&'static Rule> {
        match self {
            Self::Forked { .. } => Some(&rule::FORKED_DATA),
            Self::Resized { .. } => Some(&rule::CHANGED_SIZE),
            Self::Direct { .. } => None,
        }
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Forked { evidence, .. } | Self::Resized { evidence, .. } => evidence.clone(),
            Self::Direct { .. } => Vec::new(),
        }
    }
}

impl Forks<'_> {
    /// Where both are, and who uses the patch's.
    pub(super) fn evidence(&self, m: &Mine<'_>, t: &Theirs) -> Vec<String> {
        let say = |linked: &str, s: &Symbol, whose: &str, at: &Option<String>, file: &Option<String>| {
            let place = at.as_ref().or(file.as_ref()).map(|place| format!(", {place}")).unwrap_or_default();
            format!("{whose}: {linked} at {}, {}{place}", s.value, bytes(s.size))
        };
        let users = self.users_of(m);
        let used = if users.is_empty() { String::new() } else { format!(", used by {}", users.join(", ")) };
        vec![
            say(&t.linked, &t.def.symbol, &self.scope.name(t.def.object), &t.at, &t.file),
            say(&m.linked, m.symbol, "the patch", &m.at, &m.file) + &used,
        ]
    }

    /// How to use the target's; keeping the copy is what `--allow` says.
    pub(super) fn ways(&self, m: &Mine<'_>, t: &Theirs) -> String {
        let name = &m.variable.name;
        let file = t.file.as_ref().filter(|_| t.def.symbol.bind == elf::STB_LOCAL);
        let exact = file.map_or_else(|| t.linked.clone(), |file| format!("{file}:{}", t.linked));
        let exact = match t.def.object == Scope::TARGET {
            true => exact,
            false => format!("{}:{exact}", self.scope.name(t.def.object)),
        };
        let by_relocation = m.symbol.bind != elf::STB_LOCAL && m.symbol.visibility == elf::STV_DEFAULT;
        let bindable = by_relocation && self.direct(m.symbol).is_none();
        match (bindable, &m.variable.place, file) {
            (true, ..) => format!(
                "declare it `extern` in the patch to use the target's, rename it for an own one, or say --bind {}={exact}",
                m.linked
            ),
            (false, Place::Function(_), _) => format!(
                "declare it `extern` outside the function and say --bind {name}={exact} to use the target's, rename it for an own one"
            ),
            (false, Place::File, Some(file)) if t.linked == *name && !name.starts_with("_Z") => format!(
                "declare it `extern` in the patch, with LP_BIND(\"{file}\", {name}) or --bind {name}={exact}, to use the \
                 target's, rename it for an own one"
            ),
            (false, Place::File, _) => format!(
                "declare it `extern` in the patch and say --bind NAME={exact} to use the target's, rename it for an own one"
            ),
        }
    }
}
