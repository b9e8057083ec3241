//! The bundle: modules, areas, fix-ups, redirects, and the report that travels with it.
//!
//! Same inputs, same bytes: base names only, nothing from the clock or the host, fix-ups in order of their place.

use crate::analyse::Function;
use crate::arch::x86_64::frames::Described;
use crate::build::{BuildError, Request};
use crate::finding::{Explain, Finding};
use crate::layout::image::{IMAGE, Image};
use crate::layout::island::{self, Islands, Placed};
use crate::layout::preserve;
use crate::layout::registrar;
use crate::read::base_name;
use crate::read::elf::Object;
use crate::read::patch::Wanted;
use crate::resolve::scope::{ObjectId, Scope};
use crate::resolve::{Binding, Import, Modules};
use crate::set::Write;
use crate::unwind;
use lpb::{
    Area, AreaOff, Build, BuildIdx, Candidate, Change, Consistency, Fixup, Form, Fragment, Jump, LinkAddr, Module,
    ModuleId, Patch, Redirect, Value,
};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::collections::HashSet;

/// Why a good patch cannot be written down.
#[derive(Debug, thiserror::Error)]
enum EmitError {
    #[error("{0}")]
    Write(#[from] lpb::WriteError),
    #[error("module {module} has neither a build-id nor mapped headers to recognise it by")]
    NoProof { module: String },
}

impl Explain for EmitError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Write(_) => {
                "make the patch smaller, or remove contradicting --replace, --set and --slot options".to_owned()
            }
            Self::NoProof { .. } => "link the target with --build-id".to_owned(),
        })
    }
}

/// Everything that goes into a bundle.
pub struct Parts<'a> {
    pub request: &'a Request,
    pub name: String,
    /// The first build of everything.
    pub scope: Scope<'a>,
    pub patch: &'a Object,
    /// By number: what they replace, in every build.
    pub functions: Vec<Function>,
    pub wanted: &'a [Wanted],
    pub image: Image,
    /// Fix-ups of the code that was added to the image.
    pub added: Vec<Fixup<'static>>,
    /// What an unwinder has to know of the code that was added while imports were resolved.
    pub described: Vec<Described>,
    pub imports: Vec<Import>,
    pub writes: Vec<Write>,
    pub unwind: unwind::Plan,
    /// What was accepted and noted.
    pub findings: Vec<Finding>,
    pub notes: Vec<String>,
}

/// A finished bundle.
#[derive(Debug)]
pub struct Built {
    pub bytes: Vec<u8>,
    pub name: String,
    pub report: Json,
}

/// Writes the bundle.
pub fn emit(mut parts: Parts<'_>, mut modules: Modules) -> Result<Built, BuildError> {
    let mut new: Vec<AreaOff> =
        parts.wanted.iter().map(|w| parts.image.offset(w.new_addr).unwrap_or_default()).collect();
    let gate = gated(&parts).then(|| parts.image.add_gate());
    // Nobody reads what no unwinder is told of.
    let described = if parts.unwind.providers.is_empty() { Vec::new() } else { std::mem::take(&mut parts.described) };
    let thunks = preserve::add(&mut parts.image, &parts.functions, &mut new, described);
    let islands = island::build(&parts.functions, &new, gate, &mut modules);
    let registrars = registrar::add(&mut parts.image, &parts.unwind, thunks, &mut modules);
    let redirects = redirects(&parts, &islands, &new, &mut modules);
    let originals = originals(&parts, &islands.placed, &mut modules);
    // Modules that are changed are numbered first.
    let near = Some(ModuleId(0));
    let image = Area { near, size: parts.image.size, segments: parts.image.segments.clone() };
    let fixups = fixups(&parts, &islands, &originals, registrars.fixups);
    parts.notes.extend(unwitnessed(&parts.scope, &fixups));
    let areas: Vec<Area<'_>> = std::iter::once(image).chain(islands.areas).collect();
    let listed = listed(&parts.scope, modules, &needed(&areas, &fixups, &redirects)).map_err(refused)?;
    let report = report(&parts, &originals, &listed)?;
    let patch = Patch {
        name: Cow::Borrowed(&parts.name),
        replace: false,
        gate: gate.map(|off| (IMAGE, off)),
        modules: listed,
        areas,
        fixups,
        redirects,
        unwind: registrars.unwind,
        meta: Cow::Owned(report.to_string()),
    };
    let bytes = lpb::write(&patch).map_err(|e| refused(e.into()))?;
    Ok(Built { bytes, name: parts.name, report })
}

/// Whether several functions change together. Of the implementations of an IFUNC only one does, but that is known to
/// lp-apply alone.
fn gated(parts: &Parts<'_>) -> bool {
    parts.wanted.len() > 1 || parts.functions.iter().any(|f| f.ifunc.is_some())
}

fn refused(error: EmitError) -> BuildError {
    BuildError::Refused(vec![Finding::from(error)])
}

/// A library is used by programs that the bundle does not know: the names that are not certain there.
fn unwitnessed(scope: &Scope, fixups: &[Fixup<'_>]) -> Option<String> {
    let uncertain = |f: &&Fixup<'_>| !f.name.is_empty() && f.candidates.iter().all(|c| c.closed);
    let mut names: Vec<&str> = fixups.iter().filter(uncertain).map(|f| f.name.as_ref()).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty() && !scope.target_is_program()).then(|| {
        format!(
            "lp-apply asks for --allow-module in programs that are not named with --lib, because no slot shows who \
             defines {} there (--bind NAME=MODULE:NAME says it)",
            names.join(", ")
        )
    })
}

/// Modules without which the patch makes no sense: they are changed, or have addresses in them.
fn needed(areas: &[Area<'_>], fixups: &[Fixup<'_>], redirects: &[Redirect<'_>]) -> HashSet<ModuleId> {
    let written = redirects.iter().flat_map(|r| match &r.change {
        Change::Jump(j) => j.new.iter().chain(&[]),
        Change::Slot(s) => s.new.iter().chain(&s.expected),
        Change::Data(_) => [].iter().chain(&[]),
    });
    let candidates = fixups.iter().flat_map(|f| &f.candidates).chain(written);
    // A slot of another module is one way of several.
    let addresses = candidates.filter_map(|c| match c.value {
        Value::Module { module, .. } => Some(module),
        Value::Abs(_) | Value::Patch { .. } | Value::Witness { .. } | Value::Original { .. } => None,
    });
    areas.iter().filter_map(|a| a.near).chain(redirects.iter().map(|r| r.module)).chain(addresses).collect()
}

/// The modules that the patch refers to, in order of first use; behind them all others that the target may load, so that
/// lp-apply knows what to expect in a process.
fn listed(scope: &Scope, mut modules: Modules, needed: &HashSet<ModuleId>) -> Result<Vec<Module<'static>>, EmitError> {
    let referred = modules.objects().len();
    for (id, _) in scope.iter() {
        modules.id(id);
    }
    let mut all = Vec::new();
    for (index, id) in modules.objects().iter().enumerate() {
        let optional = u16::try_from(index).is_ok_and(|number| !needed.contains(&ModuleId(number)));
        match module(scope, *id) {
            Ok(module) => all.push(Module { optional, ..module }),
            Err(e) if index < referred => return Err(e),
            // What cannot be recognised is not expected.
            Err(_) => {}
        }
    }
    Ok(all)
}

fn module(scope: &Scope, id: ObjectId) -> Result<Module<'static>, EmitError> {
    let builds = scope.closure().builds(id).iter().map(build).collect::<Result<Vec<_>, _>>()?;
    Ok(Module { name: label(&scope.name(id)), optional: false, builds })
}

fn build(object: &Object) -> Result<Build<'static>, EmitError> {
    let no_proof = || EmitError::NoProof { module: object.name.clone() };
    let mapped = |(at, id): &(LinkAddr, Vec<u8>)| object.stores(*at, lpb::addr::to_u64(id.len()));
    let (build_id_addr, build_id) = object.build_id.clone().filter(mapped).unwrap_or((LinkAddr(0), Vec::new()));
    let (proof_addr, proof) = match build_id.is_empty() {
        true => object.proof().ok_or_else(no_proof)?,
        false => (LinkAddr(0), Vec::new()),
    };
    Ok(Build {
        e_type: object.e_type,
        build_id: Cow::Owned(build_id),
        build_id_addr,
        segments: object.loads.clone(),
        proof: Cow::Owned(proof),
        proof_addr,
    })
}

fn fixups(
    parts: &Parts<'_>,
    islands: &Islands,
    originals: &[Vec<Candidate>],
    more: Vec<Fixup<'static>>,
) -> Vec<Fixup<'static>> {
    let mut all = more;
    for import in &parts.imports {
        let Some(place) = parts.image.offset(import.place) else { continue };
        let name = label(&import.name);
        let candidates = candidates(&import.binding, originals).to_vec();
        all.push(Fixup { area: IMAGE, place, form: Form::Abs64, name, candidates });
    }
    all.extend(parts.added.iter().cloned());
    all.extend(islands.fixups.iter().cloned());
    all.sort_by_key(|f| (f.area, f.place));
    all
}

/// The old code of each replacement: one relocated prologue per build, or that of the implementation that was chosen. The
/// functions are the first redirects.
fn originals(parts: &Parts<'_>, placed: &[Placed], modules: &mut Modules) -> Vec<Vec<Candidate>> {
    let mut all = vec![Vec::new(); parts.wanted.len()];
    for ((f, placed), redirect) in parts.functions.iter().zip(placed).zip(0..) {
        let several = parts.scope.closure().builds(f.object).len() > 1;
        let guard = several.then(|| (modules.id(f.object), f.build));
        let value = match f.ifunc {
            Some(_) => Value::Original { redirect },
            None => Value::Patch { area: placed.area, off: placed.original },
        };
        if let Some(list) = all.get_mut(f.number) {
            list.push(Candidate { guard, ..Candidate::of(value) });
        }
    }
    all
}

fn candidates<'a>(binding: &'a Binding, originals: &'a [Vec<Candidate>]) -> &'a [Candidate] {
    match binding {
        Binding::Candidates(list) => list,
        Binding::Original(number) => originals.get(*number).map(Vec::as_slice).unwrap_or_default(),
    }
}

fn redirects(parts: &Parts<'_>, islands: &Islands, new: &[AreaOff], modules: &mut Modules) -> Vec<Redirect<'static>> {
    let mut all = Vec::new();
    let mut add = |object: ObjectId, build: BuildIdx, name: &str, consistency, change: Change<'static>| {
        all.push(Redirect { module: modules.id(object), build, name: label(name), consistency, change });
    };
    for (f, placed) in parts.functions.iter().zip(&islands.placed) {
        let Some(new) = new.get(f.number) else { continue };
        let fragment = |p: &crate::analyse::Fragment| Fragment {
            name: label(&p.name),
            addr: p.addr,
            size: lpb::addr::to_u64(p.bytes.len()),
            bytes: Cow::Owned(p.bytes.clone()),
        };
        let jump = Jump {
            function: f.addr,
            site: f.site,
            expected: Cow::Owned(f.expected.clone()),
            fragments: f.fragments.iter().map(fragment).collect(),
            new: vec![Candidate::of(Value::Patch { area: IMAGE, off: *new })],
            island: placed.area,
            original: Some(placed.original),
            gate: placed.gate,
            far: Some(placed.far),
            chosen: f.ifunc.as_ref().map(|ifunc| ifunc.chosen.clone()).unwrap_or_default(),
        };
        let consistency = if f.immediate { Consistency::Immediate } else { parts.request.consistency };
        add(f.object, f.build, f.asked(), consistency, Change::Jump(jump));
    }
    for write in &parts.writes {
        add(write.object, write.build, &write.name, parts.request.consistency, write.change.clone());
    }
    all
}

/// A name as it stands in a bundle: C++ makes names longer than the format allows.
fn label(name: &str) -> Cow<'static, str> {
    const MOST: usize = 1000;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => Cow::Owned(format!("{}...", name.get(..end).unwrap_or_default())),
        None => Cow::Owned(name.to_owned()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The report for people and pipelines; lp-apply never reads it.
fn report(parts: &Parts<'_>, originals: &[Vec<Candidate>], modules: &[Module<'_>]) -> Result<Json, BuildError> {
    let target = parts.scope.get(Scope::TARGET);
    let build_id = target.and_then(|t| t.build_id.as_ref()).map(|(_, id)| hex(id));
    let sha256 = hex(&Sha256::digest(parts.patch.source().all()?));
    let replacements: Vec<Json> = parts
        .functions
        .iter()
        .filter_map(|f| Some((f, parts.wanted.get(f.number)?)))
        .map(|(f, w)| {
            json!({
                "old": f.asked(),
                "implementation": f.ifunc.is_some().then_some(&f.name),
                "module": parts.scope.name(f.object),
                "build": f.build.0,
                "new": w.new,
                "address": f.addr.to_string(),
                "size": f.size,
                "fragments": f.fragments.iter().map(|p| json!({"name": p.name, "address": p.addr.to_string(), "size": p.bytes.len()})).collect::<Vec<_>>(),
                "notes": f.notes,
            })
        })
        .collect();
    let slots: Vec<Json> = parts.writes.iter().filter_map(|w| slot(parts, w)).collect();
    let imports: Vec<Json> =
        parts.imports.iter().filter(|i| !i.name.is_empty()).map(|i| import(i, originals, modules)).collect();
    Ok(json!({
        "tool": concat!("lp-compile ", env!("CARGO_PKG_VERSION")),
        "name": parts.name,
        "description": parts.request.description,
        "cve": parts.request.cve,
        "target": {"file": target.map(|t| t.file_name.clone()), "build_id": build_id},
        "patch": {"file": base_name(&parts.request.patch), "sha256": sha256},
        "replacements": replacements,
        "slots": slots,
        "imports": imports,
        "findings": parts.findings.iter().map(Finding::document).collect::<Vec<_>>(),
        "notes": parts.notes,
    }))
}

/// One slot of `--slot`.
fn slot(parts: &Parts<'_>, write: &Write) -> Option<Json> {
    let (Change::Slot(slot), Some(new)) = (&write.change, &write.new) else { return None };
    let module = parts.scope.name(write.object);
    let (name, build, address) = (label(&write.name), write.build.0, slot.slot.to_string());
    Some(json!({"name": name, "module": module, "build": build, "address": address, "new": new}))
}

/// One import: the candidate that is not a slot says module and address; the first slot is named beside it.
fn import(import: &Import, originals: &[Vec<Candidate>], modules: &[Module<'_>]) -> Json {
    let (symbol, version) = match import.name.split_once('@') {
        Some((symbol, version)) => (symbol, Some(version)),
        None => (import.name.as_str(), None),
    };
    let name = |id: lpb::ModuleId| modules.get(id.index()).map(|m| m.name.to_string());
    let (mut module, mut address, mut slot, mut other) = (Json::Null, Json::Null, Json::Null, Json::Null);
    for candidate in candidates(&import.binding, originals).iter().rev() {
        match candidate.value {
            Value::Module { module: id, addr } => (module, address) = (json!(name(id)), json!(addr.to_string())),
            Value::Witness { module: id, slot: at, .. } => {
                slot = json!({"module": name(id), "address": at.to_string()})
            }
            Value::Abs(value) => other = json!(format!("{value:#x}")),
            Value::Patch { area, off } => other = json!(format!("area {}+{off}", area.0)),
            Value::Original { redirect } => other = json!(format!("old code of redirect {redirect}")),
        }
    }
    json!({
        "symbol": symbol, "version": version, "relocation": import.relocation, "used_by": import.used_by,
        "module": module, "address": address, "slot": slot, "value": other,
    })
}
