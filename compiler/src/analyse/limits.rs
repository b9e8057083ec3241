//! What an analysis has left out because it stopped at one of its limits: never silently.

use super::Study;
use crate::finding::{Explain, Findings};
use crate::rule::{self, Rule};

/// Something was not looked at.
#[derive(Debug, thiserror::Error)]
#[error("{what} {name} {verb} not looked at as a whole: {limit}", verb = if *several { "were" } else { "was" })]
pub struct LimitError {
    /// `the callers of`
    pub what: &'static str,
    pub several: bool,
    pub name: String,
    /// Why.
    pub limit: String,
}

impl Explain for LimitError {
    fn hint(&self) -> Option<String> {
        None
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(&rule::ANALYSIS_LIMIT)
    }
}

/// Says which parts of replaced functions were left out.
pub fn check(study: &Study<'_>, findings: &mut Findings) {
    for f in study.functions.iter().filter(|f| f.left_out != 0) {
        let limit = format!("there are {} more of them than a bundle can describe", f.left_out);
        findings.add(LimitError { what: "the parts of", several: true, name: f.name.clone(), limit });
    }
}
