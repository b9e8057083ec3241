//! What is found in the inputs, kept until everything has been looked at: all of a run is reported together.

use crate::rule::{Rule, Severity};
use serde_json::{Value as Json, json};
use std::collections::HashSet;
use std::fmt::Display;

/// An error that knows what the user can do next.
pub trait Explain: Display {
    /// The next step, if there is one to recommend.
    fn hint(&self) -> Option<String>;

    /// The rule of the analysis that it breaks.
    fn rule(&self) -> Option<&'static Rule> {
        None
    }

    /// What shows that it is so, a line each: addresses, instructions, source lines.
    fn evidence(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One thing that was found: what and where, and what to do about it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `None`: an input that cannot be used, which no analysis is needed to see.
    pub rule: Option<&'static Rule>,
    /// What and where.
    pub message: String,
    /// What shows it, a line each.
    pub evidence: Vec<String>,
    /// The next step.
    pub hint: Option<String>,
}

impl<E: Explain> From<E> for Finding {
    fn from(error: E) -> Self {
        let (rule, evidence) = (error.rule(), error.evidence());
        let hint = error.hint().or_else(|| rule.map(|r| r.way_out.trim_end_matches('.').to_owned()));
        Self { rule, message: error.to_string(), evidence, hint }
    }
}

impl Finding {
    /// By its rule; without one it is an error.
    pub fn severity(&self) -> Severity {
        self.rule.map_or(Severity::Error, |rule| rule.severity)
    }

    /// What and where, and the id of its rule.
    pub fn headline(&self) -> String {
        self.rule.map_or_else(|| self.message.clone(), |rule| format!("{} [{}]", self.message, rule.id))
    }

    /// The lines below the headline: what shows it, what would happen, what to do.
    pub fn details(&self) -> Vec<String> {
        let consequence = self.rule.map(|rule| format!("so: {}", rule.consequence.trim_end_matches('.')));
        let accept = self.rule.filter(|rule| rule.severity == Severity::Warning);
        let accept = accept.map(|rule| format!("or accept it with --allow {}", rule.id));
        let hint: Vec<String> = self.hint.iter().cloned().chain(accept).collect();
        let hint = (!hint.is_empty()).then(|| format!("hint: {}", hint.join(", ")));
        self.evidence.iter().cloned().chain(consequence).chain(hint).collect()
    }

    /// For programs.
    pub fn document(&self) -> Json {
        json!({
            "id": self.rule.map(|rule| rule.id), "severity": self.severity(), "message": self.message,
            "evidence": self.evidence, "consequence": self.rule.map(|rule| rule.consequence), "hint": self.hint,
        })
    }
}

/// Findings of one run, in the order they were made, none twice.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    seen: HashSet<String>,
    /// Rules whose warnings are accepted.
    allowed: Vec<&'static str>,
}

impl Findings {
    /// With warnings of these rules accepted.
    pub fn allowing(rules: &[&'static Rule]) -> Self {
        Self { allowed: rules.iter().map(|rule| rule.id).collect(), ..Self::default() }
    }

    pub fn add(&mut self, finding: impl Into<Finding>) {
        let finding = finding.into();
        if self.seen.insert(finding.message.clone()) {
            self.list.push(finding);
        }
    }

    /// Takes over what was found with other files in the place of the first ones: `with` names them. What was found
    /// before is not said again.
    pub fn add_all(&mut self, others: Self, with: Option<&str>) {
        for mut finding in others.list {
            if self.seen.contains(&finding.message) {
                continue;
            }
            if let Some(file) = with {
                finding.message = format!("with {file}: {}", finding.message);
            }
            self.add(finding);
        }
    }

    /// Takes the value, or keeps the error and goes on without it.
    pub fn keep<T, E: Into<Finding>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|e| self.add(e)).ok()
    }

    fn stands_against(&self, finding: &Finding) -> bool {
        match finding.severity() {
            Severity::Error => true,
            Severity::Warning => !finding.rule.is_some_and(|rule| self.allowed.contains(&rule.id)),
            Severity::Note => false,
        }
    }

    /// Whether anything stands against the patch.
    pub fn refuse(&self) -> bool {
        self.list.iter().any(|f| self.stands_against(f))
    }

    /// Everything that was found.
    pub fn into_all(self) -> Vec<Finding> {
        self.list
    }

    /// What was accepted and noted; or all that stands against the patch.
    pub fn settle(self) -> Result<Vec<Finding>, Vec<Finding>> {
        if !self.refuse() {
            return Ok(self.list);
        }
        let (against, _) = self.list.iter().cloned().partition(|f| self.stands_against(f));
        Err(against)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_can_be_accepted_and_errors_cannot() {
        static RULE: fn(Severity) -> Rule =
            |severity| Rule { id: "example", severity, meaning: "", consequence: "", example: "", way_out: "" };
        for (severity, allowed, refused) in [
            (Severity::Error, false, true),
            (Severity::Error, true, true),
            (Severity::Warning, false, true),
            (Severity::Warning, true, false),
            (Severity::Note, false, false),
        ] {
            let rule: &'static Rule = Box::leak(Box::new(RULE(severity)));
            let mut findings = Findings::allowing(if allowed { std::slice::from_ref(&rule) } else { &[] });
            findings.add(Finding { rule: Some(rule), message: "m".into(), evidence: vec![], hint: None });
            assert_eq!(findings.refuse(), refused, "{severity:?}, allowed: {allowed}");
            assert_eq!(findings.settle().is_err(), refused);
        }
    }
}
