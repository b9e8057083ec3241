//! Reports as text for people and as one JSON document for programs.

use crate::arch::x86_64::jump_target;
use crate::commit::Cost;
use crate::identify::hex;
use crate::identify::records::Record;
use crate::identify::strangers::Stranger;
use crate::outcome::{Exit, Outcome, Report};
use crate::plan::Plan;
use crate::register::Sent;
use crate::stage::rights;
use lpb::life::{Life, SiteKind};
use lpb::{Bundle, RunAddr};
use serde_json::{Map, Value, json};

/// "3 functions, 1 slot".
pub fn changes(life: &Life) -> String {
    let count = |kind| life.sites.iter().filter(|s| s.kind == kind).count();
    let kinds = [(SiteKind::Jump, "function"), (SiteKind::Slot, "slot"), (SiteKind::Data, "datum")];
    let some = kinds.into_iter().map(|(kind, word)| (count(kind), word)).filter(|(n, _)| *n != 0);
    let phrase = |(n, word): (usize, &str)| match (n, word) {
        (1, word) => format!("1 {word}"),
        (n, "datum") => format!("{n} data"),
        (n, word) => format!("{n} {word}s"),
    };
    some.map(phrase).collect::<Vec<_>>().join(", ")
}

/// Adds what the commit cost.
pub fn add_cost(report: &mut Report, cost: &Cost) {
    let number = |n: u128| Value::from(u64::try_from(n).unwrap_or(u64::MAX));
    report.details.insert("threads".into(), number(u128::try_from(cost.threads).unwrap_or(0)));
    report.details.insert("stop_us".into(), number(cost.stopped.as_micros()));
    report.details.insert("waited_ms".into(), number(cost.waited.as_millis()));
    if let Some(scanned) = cost.scanned {
        report.details.insert("memory_scan_us".into(), number(scanned.as_micros()));
    }
}

/// Adds the modules that the patch does not expect, if there are any.
pub fn add_strangers(report: &mut Report, strangers: &[Stranger]) {
    if !strangers.is_empty() {
        let row = |s: &Stranger| json!({"path": s.path, "allowed": s.allowed});
        report.details.insert("unexpected".into(), strangers.iter().map(row).collect());
    }
}

/// Adds which threads took care of the unwind tables, and why these.
pub fn add_sent(report: &mut Report, sent: &[Sent]) {
    let row = |s: &Sent| json!({"thread": s.tid.0, "did": s.journey.to_string(), "why": s.why});
    if !sent.is_empty() {
        report.details.insert("unwind".into(), sent.iter().map(row).collect());
    }
}

fn kind(kind: SiteKind) -> &'static str {
    match kind {
        SiteKind::Jump => "jump",
        SiteKind::Slot => "slot",
        SiteKind::Data => "data",
    }
}

fn mappings(life: &Life) -> Value {
    let row = |m: &lpb::life::Mapping| json!({"start": m.start.to_string(), "len": m.len, "prot": m.prot});
    life.mappings.iter().map(row).collect()
}

/// Adds the plan, for programs and for people.
pub fn add_plan(report: &mut Report, plan: &Plan) {
    report.details.insert("plan".into(), plan_json(&plan.life));
    report.plan = plan_text(&plan.life);
}

/// The plan: addresses and bytes.
fn plan_json(life: &Life) -> Value {
    let site = |s: &lpb::life::Site| json!({"name": s.name, "kind": kind(s.kind), "at": s.at.to_string(), "old": hex(&s.old), "new": hex(&s.new)});
    json!({
        "record": life.at.to_string(),
        "bytes": crate::record::footprint(life),
        "mappings": mappings(life),
        "sites": life.sites.iter().map(site).collect::<Value>(),
    })
}

/// One patch of a process.
pub fn patch(record: &Record) -> Value {
    match record {
        Record::Sound(p) => json!({
            "name": p.life.name,
            "digest": p.life.digest.to_string(),
            "state": p.word(),
            "functions": p.life.sites.iter().map(|s| s.name.as_str()).collect::<Value>(),
            "mappings": mappings(&p.life),
        }),
        Record::Damaged { at, why } => json!({"state": "damaged", "at": at.to_string(), "message": why.to_string()}),
    }
}

/// What a run says in the end.
pub struct Document<'a> {
    /// "apply", "revert" or "list".
    pub command: &'static str,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The bundle, if one was read.
    pub bundle: Option<&'a Bundle<'a>>,
    /// The processes, in the order of the command line.
    pub reports: Vec<Report>,
    /// The exit code.
    pub exit: Exit,
}

impl Document<'_> {
    /// As JSON.
    pub fn json(&self) -> Value {
        let mut doc = head(self.command, self.exit);
        doc.insert("dry_run".into(), self.dry_run.into());
        if let Some(b) = self.bundle {
            doc.insert("bundle".into(), json!({"name": b.patch.name, "digest": b.digest.to_string()}));
        }
        doc.insert("processes".into(), self.reports.iter().map(process).collect());
        Value::Object(doc)
    }

    /// As text: a line for each process, with its hint and its plan.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for r in &self.reports {
            // "applied: would apply" would be two different things.
            let would = self.dry_run && matches!(r.outcome, Some(Outcome::Applied | Outcome::Reverted));
            let word = r.outcome.filter(|_| !would).map(|o| format!("{}: ", o.word())).unwrap_or_default();
            out.push_str(&format!("{}: {word}{}", r.pid, indented(&r.message)));
            if let (Some(us), Some(threads)) = (number(r, "stop_us"), number(r, "threads")) {
                let waited = number(r, "waited_ms").filter(|ms| *ms != 0).map(|ms| format!(" after {ms} ms"));
                let threads = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
                let scan = number(r, "memory_scan_us").map(|us| format!(", {us} us of it to search all memory"));
                let (waited, scan) = (waited.unwrap_or_default(), scan.unwrap_or_default());
                out.push_str(&format!(" ({threads} stopped for {us} us{scan}{waited})"));
            }
            out.push('\n');
            if let Some(hint) = &r.hint {
                out.push_str(&format!("  hint: {hint}\n"));
            }
            for sent in r.details.get("unwind").and_then(Value::as_array).into_iter().flatten() {
                let [did, why] = ["did", "why"].map(|key| sent.get(key).and_then(Value::as_str).unwrap_or_default());
                let thread = sent.get("thread").and_then(Value::as_i64).unwrap_or_default();
                out.push_str(&format!("  unwind table: thread {thread} was sent to {did} it, as it was {why}\n"));
            }
            if !r.plan.is_empty() {
                for stranger in r.details.get("unexpected").and_then(Value::as_array).into_iter().flatten() {
                    let path = stranger["path"].as_str().unwrap_or_default();
                    out.push_str(&format!("  unexpected module: {path}\n"));
                }
                out.push_str(&r.plan);
            }
        }
        out
    }
}

/// The plan for people: a line for each mapping and each place that changes.
fn plan_text(life: &Life) -> String {
    let mut out = String::new();
    for m in &life.mappings {
        let (start, rights) = (m.start.to_string(), rights(m.prot));
        out.push_str(&format!("  map     {start:18} {} bytes {rights}\n", m.len));
    }
    out.push_str(&format!("  record  {:18} {} bytes r--\n", life.at.to_string(), life.len));
    for s in &life.sites {
        let (kind, at, name) = (kind(s.kind), s.at.to_string(), s.name.replace(char::is_control, "?"));
        let becomes = match s.kind {
            SiteKind::Jump => jump_target(s.at, &s.new).map(|to| format!("jumps to {to}")),
            SiteKind::Slot => {
                s.new.as_slice().try_into().ok().map(|to| format!("is {}", RunAddr(u64::from_le_bytes(to))))
            }
            SiteKind::Data => None,
        };
        let becomes = becomes.unwrap_or_else(|| format!("is {}", hex(&s.new)));
        out.push_str(&format!("  {kind:7} {at:18} {name} {becomes} (was {})\n", hex(&s.old)));
    }
    out
}

fn number(report: &Report, key: &str) -> Option<u64> {
    report.details.get(key)?.as_u64()
}

/// Lists of patches stand below their process.
fn indented(message: &str) -> String {
    if message.contains('\n') { format!("\n  {}", message.replace('\n', "\n  ")) } else { message.to_owned() }
}

fn head(command: &str, exit: Exit) -> Map<String, Value> {
    let mut doc = Map::new();
    doc.insert("tool".into(), "lp-apply".into());
    doc.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    doc.insert("command".into(), command.into());
    doc.insert("exit".into(), exit.code().into());
    doc
}

fn process(r: &Report) -> Value {
    let mut row = r.details.clone();
    row.insert("pid".into(), r.pid.into());
    row.insert("outcome".into(), r.outcome.map(|o| o.word()).into());
    row.insert("message".into(), r.message.as_str().into());
    row.insert("hint".into(), r.hint.as_deref().into());
    Value::Object(row)
}

/// The JSON document of a run that ended before it came to any process.
pub fn failure(command: &str, exit: Exit, message: &str, hint: &str) -> Value {
    let mut doc = head(command, exit);
    doc.insert("error".into(), json!({"message": message, "hint": hint}));
    doc.insert("processes".into(), json!([]));
    Value::Object(doc)
}
