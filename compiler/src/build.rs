//! `lp-compile build`: from files to a bundle.
//!
//! ```text
//! read       target + closure, patch            resolve   every word of the image that depends on the process
//! analyse    every function to be replaced      lay out   image, islands      emit   the bundle and its report
//! ```

mod functions;
mod request;

pub use request::Request;

use crate::analyse::effects;
use crate::analyse::forks::Forks;
use crate::analyse::reach::Reach;
use crate::analyse::registers;
use crate::analyse::returns;
use crate::analyse::types::Checked;
use crate::analyse::users::Users;
use crate::analyse::{self, Function};
use crate::emit::{self, Parts};
use crate::finding::{Finding, Findings};
use crate::layout::added::Added;
use crate::layout::image::{self, Image};
use crate::read::ReadError;
use crate::read::debug::DebugFiles;
use crate::read::elf::Object;
use crate::read::patch::{self, Wanted};
use crate::read::root::Root;
use crate::read::search::{self, Given};
use crate::resolve::chosen;
use crate::resolve::local;
use crate::resolve::merge::{self, Answer};
use crate::resolve::scope::{Closure, ObjectId, Scope};
use crate::resolve::tls;
use crate::resolve::witness::Slots;
use crate::resolve::{self, Modules, Own, Resolver};
use crate::set;
use crate::slot;
use crate::spec::{Qualified, SetSpec, SlotSpec, SpecError};
use crate::unwind;
use functions::{functions, originals};
use lpb::LinkAddr;
use request::{Data, RequestError, allowed, binds, check_binds, name, wanted};
use std::collections::{BTreeMap, HashSet};

/// So many unresolved names get a search for similar ones.
const NEAR_SEARCHES: u32 = 50;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the patch is refused")]
    Refused(Vec<Finding>),
}

/// Builds the bundle.
///
/// # Errors
/// [`BuildError::Refused`] with everything that stands against the patch, all at once.
pub fn build(request: &Request) -> Result<emit::Built, BuildError> {
    let mut findings = Findings::allowing(&allowed(&request.allow)?);
    let inputs = Inputs::read(request, &mut findings)?;
    let Inputs { patch, wanted, .. } = &inputs;
    let (scopes, patched) = (inputs.closure.scopes(), inputs.changed());
    let mut functions = functions(request, &scopes, wanted, &mut findings)?;
    registers::thunks(patch, wanted, &mut functions, &mut findings);
    returns::check(patch, wanted, &functions, &mut findings);
    effects::check(patch, wanted, &functions, &mut findings);
    let Some(mut image) = lay_out(patch, wanted, &mut findings)? else { return Err(refused(findings)) };
    let (mut found, answers) = answers(request, &inputs, &scopes, &functions, &image, &mut findings)?;
    chosen::find(&scopes, &patched, &mut functions, &mut found.modules, &mut findings)?;
    let unwind = unwind::plan(&inputs.closure.first(), &patched, patch, &mut findings)?;
    let name = name(request, &mut findings);
    if wanted.is_empty() && inputs.data().is_empty() && !findings.refuse() {
        findings.add(RequestError::Nothing);
    }
    if findings.refuse() {
        return Err(refused(findings));
    }
    let Answer { imports, writes } = merge::merge(&scopes, answers, &mut found.modules, &mut findings);
    let findings = findings.settle().map_err(BuildError::Refused)?;
    let (added, described) = found.added.finish(&mut image);
    let parts = Parts {
        request,
        name,
        scope: inputs.closure.first(),
        patch,
        functions,
        wanted,
        image,
        added,
        described,
        imports,
        writes,
        unwind,
        findings,
        notes: found.notes,
    };
    emit::emit(parts, found.modules)
}

/// Everything that is read, and what the command line and the patch ask for.
struct Inputs {
    sets: Vec<SetSpec>,
    slots: Vec<SlotSpec>,
    closure: Closure,
    patch: Object,
    wanted: Vec<Wanted>,
    binds: BTreeMap<String, Qualified>,
}

impl Inputs {
    fn read(request: &Request, findings: &mut Findings) -> Result<Self, BuildError> {
        let sets = request.set.iter().map(|s| SetSpec::parse(s)).collect::<Result<Vec<_>, _>>()?;
        let slots = request.slot.iter().map(|s| SlotSpec::parse(s)).collect::<Result<Vec<_>, _>>()?;
        let root = Root::new(request.sysroot.as_deref())?;
        let given = Given { targets: &request.targets, libs: &request.libs, modules: &request.modules };
        let objects = search::closure(&given, &root, findings)?;
        let closure = Closure::new(objects, DebugFiles { named: request.debug_files.clone(), root });
        let mut patch = Object::open(&request.patch)?;
        patch.load_symtab()?;
        patch::check(&patch, findings)?;
        let directives = patch::directives(&patch, findings)?;
        let wanted = wanted(request, &patch, &directives, findings)?;
        let binds = binds(request, &directives)?;
        let mut inputs = Self { sets, slots, closure, patch, wanted, binds };
        inputs.load_symbols()?;
        let changed = inputs.changed();
        inputs.closure.look_from(&changed);
        Ok(inputs)
    }

    fn data(&self) -> Data<'_> {
        Data { sets: &self.sets, slots: &self.slots }
    }

    /// Reads the symbol tables of the target and of every module that is named, in all their builds.
    fn load_symbols(&mut self) -> Result<(), ReadError> {
        let data = Data { sets: &self.sets, slots: &self.slots };
        let named = self.wanted.iter().map(|w| &w.old).chain(self.binds.values()).chain(data.symbols());
        let scope = self.closure.first();
        let mut ids: Vec<ObjectId> = named.filter_map(|q| scope.split(q).ok().map(|(id, _)| id)).collect();
        ids.push(Scope::TARGET);
        ids.sort_unstable();
        ids.dedup();
        self.closure.debug().check(self.closure.all())?;
        self.closure.load_symbols(&ids)
    }

    /// Objects that the patch changes, in order of first mention.
    fn changed(&self) -> Vec<ObjectId> {
        let scope = self.closure.first();
        let named = self.wanted.iter().map(|w| &w.old).chain(self.sets.iter().map(|s| &s.symbol));
        let slots = self.slots.iter().filter_map(|s| scope.by_name(&s.module));
        let mut all: Vec<ObjectId> = Vec::new();
        for id in named.filter_map(|q| scope.split(q).ok().map(|(id, _)| id)).chain(slots) {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        all
    }
}

/// The image of the patch; `None`: there cannot be one, as the findings say.
fn lay_out(patch: &Object, wanted: &[Wanted], findings: &mut Findings) -> Result<Option<Image>, BuildError> {
    let image = match image::build(patch) {
        Ok(image) => image,
        Err(image::BuildError::Read(e)) => return Err(e.into()),
        Err(e) => {
            findings.add(e);
            return Ok(None);
        }
    };
    for w in wanted.iter().filter(|w| !image.is_code(w.new_addr)) {
        findings.add(RequestError::NewOutside { name: w.new.clone(), at: w.new_addr });
    }
    Ok(Some(image))
}

/// Where everything that the patch refers to is, scope by scope.
fn answers(
    request: &Request,
    inputs: &Inputs,
    scopes: &[Scope<'_>],
    functions: &[Function],
    image: &Image,
    findings: &mut Findings,
) -> Result<(Found, Vec<Answer>), BuildError> {
    let Inputs { patch, wanted, binds, slots, .. } = inputs;
    let patched = inputs.changed();
    let mut modules = Modules::default();
    patched.iter().for_each(|o| {
        modules.id(*o);
    });
    let new_in_slots = slots.iter().filter_map(|s| slot::new_code(patch, s));
    let own = Own {
        patch,
        image,
        users: &Users::find(patch)?,
        new_functions: &wanted.iter().map(|w| w.new_addr).chain(new_in_slots).collect::<HashSet<LinkAddr>>(),
        originals: &originals(wanted, functions),
    };
    let reach = Reach::from(patch, own.new_functions)?;
    let compared = Compared { wanted, functions, reach: &reach };
    let data = inputs.data();
    let question = Question { request, patched: &patched, binds, data: &data, own: &own, compared };
    let mut found = Found { modules, added: Added::behind(image), notes: Vec::new() };
    let mut answers = Vec::new();
    for scope in scopes {
        let mut here = Findings::default();
        answers.push(question.answer(scope, &mut found, &mut here)?);
        findings.add_all(here, scope.other_file().as_deref());
    }
    Ok((found, answers))
}

fn refused(findings: Findings) -> BuildError {
    BuildError::Refused(findings.settle().err().unwrap_or_default())
}

/// What is asked of every scope.
struct Question<'a> {
    request: &'a Request,
    patched: &'a [ObjectId],
    binds: &'a BTreeMap<String, Qualified>,
    data: &'a Data<'a>,
    own: &'a Own<'a>,
    compared: Compared<'a>,
}

/// What the types of patch and target are compared for.
struct Compared<'a> {
    wanted: &'a [Wanted],
    functions: &'a [Function],
    reach: &'a Reach,
}

/// What all answers have in common.
struct Found {
    modules: Modules,
    added: Added,
    notes: Vec<String>,
}

impl Question<'_> {
    /// Where everything that the patch refers to is in one scope.
    fn answer(&self, scope: &Scope<'_>, found: &mut Found, findings: &mut Findings) -> Result<Answer, BuildError> {
        let Self { request, patched, binds, data, own, .. } = self;
        check_binds(request, own.patch, scope, binds, findings)?;
        analyse::libraries::check(scope, own.patch, binds, findings);
        analyse::target::check_loaded(scope, findings);
        self.compare(scope, findings);
        let mut resolver = Resolver {
            scope,
            patched,
            binds,
            slots: Slots::gather(scope, &wanted_slots(scope, own.patch, binds, data)),
            modules: &mut found.modules,
            tls_slots: tls::Slots::gather(scope, own.patch),
            own_get_addr: false,
            added: &mut found.added,
            notes: Vec::new(),
            near_searches: NEAR_SEARCHES,
        };
        let imports = resolver.imports(own, findings);
        let mut writes = set::changes(&mut resolver, data.sets, findings);
        writes.extend(slot::changes(&mut resolver, own, data.slots, data.sets.len(), findings));
        let new = resolver.notes.into_iter().filter(|note| !found.notes.contains(note)).collect::<Vec<_>>();
        found.notes.extend(new);
        Ok(Answer { imports, writes })
    }
}

impl Question<'_> {
    /// What patch and target both have: variables, types, prototypes.
    fn compare(&self, scope: &Scope<'_>, findings: &mut Findings) {
        let Self {
            patched, binds, own: Own { patch, users, .. }, compared: Compared { wanted, functions, reach }, ..
        } = self;
        let here = |f: &&Function| f.build == scope.build(f.object);
        let functions: Vec<Function> = functions.iter().filter(here).cloned().collect();
        let forks = Forks { scope, patched, patch, users, reach, wanted, functions: &functions, binds };
        forks.check_binds(findings);
        forks.check(findings);
        Checked { scope, patched, patch, wanted, functions: &functions, binds }.check(findings);
    }
}

/// Names whose slots are of interest: what the patch imports, and what `--set ...=addr:` and `--slot` replace.
fn wanted_slots(
    scope: &Scope,
    patch: &Object,
    binds: &BTreeMap<String, Qualified>,
    data: &Data<'_>,
) -> HashSet<Vec<u8>> {
    let mut names = resolve::wanted_names(patch, binds);
    names.extend(data.symbols().map(|q| q.name.clone().into_bytes()));
    names.extend(data.slots.iter().map(|s| s.symbol.clone().into_bytes()));
    for set in data.sets.iter().filter(|s| s.is_address()) {
        let Ok(def) = local::locate(scope, &set.symbol) else { continue };
        let (Some(object), Some(at)) = (scope.get(def.object), def.symbol.value.plus(set.offset)) else { continue };
        let reloc = object.dynamic.relocs.iter().find(|r| r.place == at);
        if let Some(symbol) = reloc.and_then(|r| object.dynamic.symbol_of(r)) {
            names.insert(object.dynamic.symbols.name(symbol).to_vec());
        }
    }
    names
}
