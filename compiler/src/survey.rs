//! `lp-compile survey`: which functions of a program could be replaced, and why not the others.
//!
//! Every function is looked at as if it alone were to be replaced, without a patch: what the analysis finds then is what a
//! patch would be told.

use crate::analyse::ifunc::{Choice, Resolvers};
use crate::analyse::{self, Function, Whole};
use crate::finding::{Finding, Findings};
use crate::read::ReadError;
use crate::read::debug::DebugFiles;
use crate::read::elf::Object;
use crate::read::root::Root;
use crate::read::symbols::{Symbol, printable};
use crate::resolve::scope::{Closure, Def, Scope};
use crate::rule::Severity;
use indicatif::{ProgressBar, ProgressFinish, ProgressIterator, ProgressStyle};
use lpb::LinkAddr;
use lpb::addr::to_u64;
use object::elf;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::slice;

/// Functions that are named for each reason.
const EXAMPLES: usize = 3;

/// What a patch of one function would be told.
#[derive(Debug)]
struct Row {
    name: String,
    address: LinkAddr,
    size: u64,
    findings: Vec<Finding>,
}

impl Row {
    /// The worst that was found.
    fn verdict(&self) -> Option<Severity> {
        let has = |severity| self.findings.iter().any(|f| f.severity() == severity).then_some(severity);
        has(Severity::Error).or_else(|| has(Severity::Warning)).or_else(|| has(Severity::Note))
    }

    fn word(&self) -> &'static str {
        match self.verdict() {
            Some(Severity::Error) => "no",
            Some(Severity::Warning) => "if-allowed",
            Some(Severity::Note) | None => "yes",
        }
    }

    fn ids(&self) -> Vec<&'static str> {
        let mut ids: Vec<&str> = self.findings.iter().filter_map(|f| f.rule).map(|rule| rule.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// All functions of one file.
#[derive(Debug)]
pub struct Survey {
    file: String,
    rows: Vec<Row>,
}

/// Looks at every function of `target` that a symbol tells of, each address once.
///
/// # Errors
/// If the file, or a debug file that was named, cannot be read.
pub fn survey(target: &Path, debug_files: &[PathBuf], root: Root) -> Result<Survey, ReadError> {
    let debug = DebugFiles { named: debug_files.to_vec(), root };
    let mut closure = Closure::new(vec![vec![Object::open(target)?]], debug);
    closure.debug().check(closure.all())?;
    closure.load_symbols(&[Scope::TARGET])?;
    let scope = closure.first();
    let Some(object) = scope.get(Scope::TARGET) else { return Ok(Survey { file: String::new(), rows: Vec::new() }) };
    let resolvers = Resolvers::of(object);
    let mut looked: Vec<(Row, Subject)> = Vec::new();
    let all = functions(object);
    let progress = progress("their own code", all.len());
    for (def, name) in all.into_iter().progress_with(progress) {
        let mut findings = Findings::default();
        let subject = match def.symbol.kind {
            elf::STT_GNU_IFUNC => findings.keep(resolvers.choice(&scope, &def, 0, &name)).map(Subject::Ifunc),
            _ => findings.keep(analyse::examine(&scope, &def, 0, &name)).map(|f| Subject::Function(f.into())),
        };
        let (address, size) = (def.symbol.value, def.symbol.size);
        let row = Row { name, address, size, findings: findings.into_all() };
        looked.push((row, subject.unwrap_or(Subject::None)));
    }
    let functions = looked.iter().flat_map(|(_, subject)| subject.functions());
    let places: Vec<_> = functions.flat_map(|f| analyse::entries(object, f)).collect();
    let whole = Whole::of(object, &scope, &places)?;
    let progress = self::progress("who relies on them", looked.len());
    let rows = looked.into_iter().progress_with(progress).map(|(mut row, subject)| {
        row.findings.extend(subject.findings(&resolvers, &whole));
        row
    });
    Ok(Survey { file: object.file_name.clone(), rows: rows.collect() })
}

/// How far it has come, on a terminal only.
fn progress(what: &'static str, functions: usize) -> ProgressBar {
    let line = ProgressStyle::with_template("{pos} of {len} functions: {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(to_u64(functions)).with_style(line).with_message(what).with_finish(ProgressFinish::AndClear)
}

/// What is behind one symbol.
enum Subject {
    Function(Box<Function>),
    Ifunc(Choice),
    /// Nothing that could be replaced.
    None,
}

impl Subject {
    fn functions(&self) -> &[Function] {
        match self {
            Self::Function(function) => slice::from_ref(&**function),
            Self::Ifunc(choice) => &choice.functions,
            Self::None => &[],
        }
    }

    /// What the whole of the module has to say. What is found about each implementation of an IFUNC stands in its own row.
    fn findings(self, resolvers: &Resolvers<'_>, whole: &Whole<'_>) -> Vec<Finding> {
        let mut findings = Findings::default();
        match self {
            Self::Function(mut function) => analyse::check(&mut whole.study(vec![&mut function]), &mut findings),
            Self::Ifunc(choice) => {
                let settled = choice.settle(resolvers, whole, &mut findings);
                findings.keep(settled);
            }
            Self::None => {}
        }
        findings.into_all()
    }
}

/// One symbol for each address that has a function, ascending: an IFUNC before the resolver that it hides, and a name that
/// others can see before one that they cannot. Parts of functions are none.
fn functions(object: &Object) -> Vec<(Def, String)> {
    let mut best: BTreeMap<LinkAddr, (Symbol, String)> = BTreeMap::new();
    let rank = |s: &Symbol| (s.kind == elf::STT_GNU_IFUNC, s.bind != elf::STB_LOCAL);
    for table in [&object.symtab, &object.dynamic.symbols] {
        for symbol in table.iter().filter(|s| s.is_function() && s.is_defined()) {
            let name = table.text(symbol);
            let is_part = name.contains(".cold") || name.contains(".part.");
            if !is_part && best.get(&symbol.value).is_none_or(|(known, _)| rank(known) < rank(symbol)) {
                best.insert(symbol.value, (*symbol, name));
            }
        }
    }
    best.into_values().map(|(symbol, name)| (Def { object: Scope::TARGET, symbol }, name)).collect()
}

impl Survey {
    fn count(&self, word: &str) -> usize {
        self.rows.iter().filter(|row| row.word() == word).count()
    }

    /// For programs: each function, and how many have each finding.
    pub fn document(&self) -> Json {
        let row = |row: &Row| {
            json!({
                "name": row.name, "address": row.address.to_string(), "size": row.size, "replaceable": row.word(),
                "findings": row.findings.iter().map(Finding::document).collect::<Vec<_>>(),
            })
        };
        json!({
            "tool": "lp-compile", "version": env!("CARGO_PKG_VERSION"), "exit": 0, "file": self.file,
            "counts": {
                "functions": self.rows.len(), "yes": self.count("yes"), "if-allowed": self.count("if-allowed"),
                "no": self.count("no"),
            },
            "functions": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    /// For people: how many, and the reasons with some examples.
    pub fn page(&self) -> String {
        let [yes, maybe, no] = ["yes", "if-allowed", "no"].map(|word| self.count(word));
        let mut reasons: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in &self.rows {
            row.ids().into_iter().for_each(|id| reasons.entry(id).or_default().push(row));
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(id, rows)| (std::cmp::Reverse(rows.len()), *id));
        let mut out = format!(
            "{}: {} functions: {yes} replaceable, {maybe} if what is found is allowed, {no} not\n",
            printable(self.file.as_bytes()),
            self.rows.len(),
        );
        for (id, rows) in reasons {
            let severity = crate::rule::by_id(id).map_or("", |rule| rule.severity.word());
            let names: Vec<&str> = rows.iter().take(EXAMPLES).map(|row| row.name.as_str()).collect();
            let more = if rows.len() > EXAMPLES { ", ..." } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  {:>6}  {severity:<8} {id}: {}{more}", rows.len(), names.join(", "));
        }
        out
    }
}
