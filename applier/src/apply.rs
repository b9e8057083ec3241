//! Applying one bundle to one process: the five steps in their order.

use crate::borrow::Borrowed;
use crate::cli::Settings;
use crate::commit::{self, CommitError, Cost, Quietness, Search};
use crate::identify::records::{self, Patched};
use crate::identify::{self, Snapshot, Target};
use crate::leftovers::COURTESY;
use crate::outcome::{Outcome, Report};
use crate::patience::Patience;
use crate::pause::Glance;
use crate::plan::{self, Plan};
use crate::trouble::Trouble;
use crate::{leftovers, record, register, report, stage};
use lpb::Bundle;
use lpb::life::State;

/// Attempts when the target takes planned addresses at the same time.
const ATTEMPTS: usize = 3;

/// Applies `bundle` to process `pid`.
pub fn apply(bundle: &Bundle<'_>, pid: i32, settings: &Settings) -> Report {
    match try_apply(bundle, pid, settings) {
        Ok(report) => report,
        Err(trouble) => Report::of(pid, &trouble),
    }
}

fn try_apply(bundle: &Bundle<'_>, pid: i32, settings: &Settings) -> Result<Report, Trouble> {
    let target = Target::open(pid, settings.allow_init, Patience::of(settings.wait))?;
    let job = Job { target: &target, bundle, settings };
    for _ in 1..ATTEMPTS {
        match job.attempt() {
            Err(trouble) if is_race(&trouble) => {}
            done => return done.map_err(|trouble| trouble.explained(&target)),
        }
    }
    job.attempt().map_err(|trouble| trouble.explained(&target))
}

/// Whether the target changed what the plan was made from, so that a new plan may do.
fn is_race(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Stage(e) => matches!(e, stage::StageError::Raced { .. }),
        Trouble::Commit(e) => matches!(e, CommitError::Bound { .. } | CommitError::Unloaded { .. }),
        _ => false,
    }
}

/// One bundle for one process.
struct Job<'a> {
    target: &'a Target,
    bundle: &'a Bundle<'a>,
    settings: &'a Settings,
}

impl Job<'_> {
    fn attempt(&self) -> Result<Report, Trouble> {
        let Self { target, bundle, settings } = *self;
        let snapshot = identify::snapshot(target, &bundle.patch, &settings.allow_modules)?;
        let done = match settings.dry_run {
            true => self.rehearse(&snapshot),
            false => {
                let done = self.perform(&snapshot);
                // Whatever came of it, no injected byte stays; if this fails, the outcome is still the one above.
                let _ = leftovers::tidy(target, &snapshot.stub);
                done
            }
        };
        let mut report = match done {
            Ok(report) => report,
            Err(trouble) if is_race(&trouble) => return Err(trouble),
            Err(trouble) => Report::of(target.process.pid, &trouble.explained(target)),
        };
        report::add_strangers(&mut report, &snapshot.strangers);
        Ok(report)
    }

    /// Everything short of touching the target.
    fn rehearse(&self, snapshot: &Snapshot) -> Result<Report, Trouble> {
        let Self { target, bundle, .. } = *self;
        let present = leftovers::sound_records(target)?;
        if let Some(known) = find(&present, bundle) {
            return Ok(already(target, known));
        }
        let plan = self.make_plan(snapshot, &present)?;
        let message = format!("would apply {}: {}", bundle.patch.name, report::changes(&plan.life));
        let mut report = Report::new(target.process.pid, Some(Outcome::Applied), message);
        report::add_plan(&mut report, &plan);
        Ok(report)
    }

    fn perform(&self, snapshot: &Snapshot) -> Result<Report, Trouble> {
        let Self { target, bundle, settings } = *self;
        let present = leftovers::clear(target, &snapshot.stub, settings.scan_memory)?;
        if let Some(known) = find(&present, bundle) {
            return Ok(already(target, known));
        }
        let mut plan = self.make_plan(snapshot, &present)?;
        let seen = commit::wait_until_stoppable(target)?;
        stage::stage(target, &snapshot.stub, &mut plan)?;
        let mut sent = Vec::new();
        let registered = register::enter(target, &snapshot.stub, &plan.life, &mut sent);
        let enforced = registered.map_err(Trouble::from).and_then(|()| self.enforce(snapshot, &mut plan, seen));
        let cost = enforced.map_err(|first| match self.unstage(snapshot, &mut plan) {
            Ok(()) => first,
            Err(second) => Trouble::Twice { first: Box::new(first), second: Box::new(second) },
        })?;
        let message = format!("{} is in force: {}", bundle.patch.name, report::changes(&plan.life));
        let mut report = Report::new(target.process.pid, Some(Outcome::Applied), message);
        report::add_cost(&mut report, &cost);
        if settings.verbose {
            report::add_plan(&mut report, &plan);
            report::add_sent(&mut report, &sent);
        }
        Ok(report)
    }

    fn make_plan(&self, snapshot: &Snapshot, present: &[Patched]) -> Result<Plan, Trouble> {
        let Self { target, bundle, settings } = *self;
        let others: Vec<_> = present.iter().filter(|p| p.in_force() || p.word() == "mixed").map(|p| &p.life).collect();
        let staying: Vec<_> = present.iter().map(|p| &p.life).collect();
        let read = |at, len| target.read(at, len);
        let plan = plan::plan(&bundle.patch, bundle.digest, snapshot, &staying, &others, settings.consistency, &read)?;
        target.has_room(&snapshot.maps, &record::need(&plan.life))?;
        Ok(plan)
    }

    /// Removes what was staged. Should a site not be as it was before, the image stays for whom it jumps to.
    fn unstage(&self, snapshot: &Snapshot, plan: &mut Plan) -> Result<(), Trouble> {
        let target = self.target;
        let patience = target.patience.at_least(COURTESY);
        match records::nothing_leads_in(&plan.life, &|at, len| target.read(at, len)) {
            true => leftovers::discard(target, &snapshot.stub, &mut plan.life, patience).map(drop),
            false => Err(Trouble::NotOld),
        }
    }

    /// Waits for a quiet moment and puts the staged patch in force.
    fn enforce(&self, snapshot: &Snapshot, plan: &mut Plan, seen: Glance) -> Result<Cost, Trouble> {
        let Self { target, settings, .. } = *self;
        let Plan { life, code, .. } = plan;
        // The thread that has made the mappings may still be on its way home.
        code.push(snapshot.stub.code());
        let (scan_memory, patience) = (settings.scan_memory.then(Search::default), target.patience);
        let when = Quietness { code, scan_memory, patience, seen: Some(seen) };
        if commit::announce(target, life).is_err() {
            // As in staging: the interface of debuggers may write where the memory file may not.
            let thread = Borrowed::take(target, &snapshot.stub, &[])?;
            commit::announce(target, life)?;
            thread.give_back()?;
        }
        let ((), cost) = commit::when_quiet(target, when, |_| commit::enforce(target, life))?;
        // The sites say that the patch is in force; should this fail, the next run writes it.
        let _ = record::set_state(target, life, State::Active, 0);
        // Nobody is in the stub. The patch is in force: bytes left under it are no reason to say otherwise.
        let _ = record::remove_stub(target, &snapshot.stub);
        Ok(cost)
    }
}

/// The same patch, already in force.
fn find<'a>(present: &'a [Patched], bundle: &Bundle<'_>) -> Option<&'a Patched> {
    present.iter().find(|p| p.life.digest == bundle.digest && p.in_force())
}

fn already(target: &Target, known: &Patched) -> Report {
    let message = format!("{} is in force already", known.life.name);
    Report::new(target.process.pid, Some(Outcome::AlreadyApplied), message)
}
