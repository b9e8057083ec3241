//! The rules of the analysis: what may be wrong with a patch, how bad it is, and the way out.
//!
//! ```text
//! error     the bundle is refused
//! warning   the bundle is refused, unless `--allow ID` accepts it; the bundle says that it was accepted
//! note      said, and written down in the bundle
//! ```
//! One file per group of rules. [`page`] makes `FINDINGS.md` of the whole table.

mod copies;
mod data;
mod function;
mod patch;
mod registers;
mod target;

pub use copies::*;
pub use data::*;
pub use function::*;
pub use patch::*;
pub use registers::*;
pub use target::*;

use std::fmt::Write as _;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Note,
}

impl Severity {
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// One thing that the analysis looks for.
#[derive(Debug)]
pub struct Rule {
    /// For `--allow` and for programs: never changed once released.
    pub id: &'static str,
    pub severity: Severity,
    /// What it says, in one sentence.
    pub meaning: &'static str,
    /// What would happen at run time.
    pub consequence: &'static str,
    /// A case of it.
    pub example: &'static str,
    /// What to do about it.
    pub way_out: &'static str,
}

/// Rules in groups, in the order of the page.
const GROUPS: [(&str, &[&Rule]); 6] = [
    ("The function to be replaced", function::RULES),
    ("Copies and other names of the function", copies::RULES),
    ("What callers know of the function", registers::RULES),
    ("Data and types", data::RULES),
    ("The target", target::RULES),
    ("The patch", patch::RULES),
];

/// All rules.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    GROUPS.iter().flat_map(|(_, rules)| rules.iter().copied())
}

/// The rule of this id.
pub fn by_id(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}

impl Rule {
    /// Its part of the page.
    pub fn section(&self) -> String {
        let Self { id, severity, meaning, consequence, example, way_out } = self;
        let accept = match severity {
            Severity::Error => "cannot be accepted".to_owned(),
            Severity::Warning => format!("accepted by `--allow {id}`"),
            Severity::Note => "for information".to_owned(),
        };
        let severity = severity.word();
        format!(
            "### {id}\n\n*{severity}*, {accept}. {meaning}\n\n* Consequence: {consequence}\n* Example: {example}\n* Way out: {way_out}\n"
        )
    }
}

/// `FINDINGS.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# What lp-compile finds\n\n\
         Printed by `lp-compile explain`; `lp-compile explain ID` prints one entry. An *error* refuses the bundle; a *warning*\n\
         refuses it unless `--allow ID` accepts it, which the bundle then says; a *note* is only said.\n",
    );
    for (title, rules) in GROUPS.iter().filter(|(_, rules)| !rules.is_empty()) {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n## {title}\n");
        for rule in *rules {
            let _ = write!(out, "\n{}", rule.section());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_words_and_no_two_the_same() {
        let mut seen = HashSet::new();
        for rule in all() {
            assert!(rule.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", rule.id);
            assert!(seen.insert(rule.id), "{} twice", rule.id);
            for text in [rule.meaning, rule.consequence, rule.way_out] {
                assert!(text.ends_with('.') && !text.contains('\n'), "{}: {text:?} is not a sentence", rule.id);
            }
        }
    }

    #[test]
    fn the_page_is_up_to_date() {
        assert_eq!(include_str!("../../FINDINGS.md"), page(), "run: lp-compile explain > compiler/FINDINGS.md");
    }
}
