//! Reverting a patch of one process, and listing what it holds.

use crate::cli::{Selector, Settings};
use crate::identify::Target;
use crate::identify::records::{Patched, Record};
use crate::identify::stub::StubPlace;
use crate::outcome::{Outcome, Report};
use crate::patience::Patience;
use crate::trouble::Trouble;
use crate::{commit, identify, leftovers, report};
use lpb::Consistency;
use lpb::life::State;

/// Takes the selected patch out of force in process `pid`.
pub fn revert(selector: &Selector<'_>, pid: i32, settings: &Settings) -> Report {
    match try_revert(selector, pid, settings) {
        Ok(report) => report,
        Err(trouble) => Report::of(pid, &trouble),
    }
}

fn try_revert(selector: &Selector<'_>, pid: i32, settings: &Settings) -> Result<Report, Trouble> {
    let target = Target::open(pid, settings.allow_init, Patience::of(settings.wait))?;
    revert_in(&target, selector, settings).map_err(|trouble| trouble.explained(&target))
}

fn revert_in(target: &Target, selector: &Selector<'_>, settings: &Settings) -> Result<Report, Trouble> {
    let pid = target.process.pid;
    let place = identify::stub_place(target, selector.bundle().map(|b| &b.patch))?;
    if settings.dry_run {
        let life = match choose(leftovers::sound_records(target)?, selector, pid) {
            Ok(patched) => patched.life,
            Err(report) => return Ok(report),
        };
        commit::may_withdraw(target, &life)?;
        let message = format!("would revert {}: {}", life.name, report::changes(&life));
        return Ok(Report::new(pid, Some(Outcome::Reverted), message));
    }
    let done = perform(target, &place, selector, settings);
    // Whatever came of it, no injected byte stays; if this fails, the outcome is still the one above.
    let _ = leftovers::tidy(target, &place);
    done
}

fn perform(
    target: &Target,
    place: &StubPlace,
    selector: &Selector<'_>,
    settings: &Settings,
) -> Result<Report, Trouble> {
    let pid = target.process.pid;
    let mut life = match choose(leftovers::clear(target, place, settings.scan_memory)?, selector, pid) {
        Ok(patched) => patched.life,
        Err(report) => return Ok(report),
    };
    let (scan, patience) = (settings.scan_memory, target.patience);
    let (undone, cost) = match settings.consistency {
        Some(Consistency::Immediate) => leftovers::undo_at_once(target, place, &mut life, scan, patience)?,
        _ => leftovers::undo(target, place, &mut life, scan, patience)?,
    };
    let mut message = format!("{} is no longer in force", life.name);
    if let Some(why) = &undone.kept {
        message.push_str(&match target.fate() {
            Some(fate) => format!("; meanwhile {fate}"),
            None if life.state == State::Held => {
                format!("; its memory stays until the next lp-apply with --scan-memory, because {why}")
            }
            None => format!("; its memory stays until the next lp-apply, because {why}"),
        });
    }
    if !undone.left.is_empty() {
        message.push_str(&format!("; left as the program has changed it since: {}", undone.left.join(", ")));
    }
    let mut report = Report::new(pid, Some(Outcome::Reverted), message);
    report::add_cost(&mut report, &cost);
    if settings.verbose {
        report::add_sent(&mut report, &undone.sent);
    }
    Ok(report)
}

/// The one patch in force that is meant, or what to report instead.
fn choose(present: Vec<Patched>, selector: &Selector<'_>, pid: i32) -> Result<Patched, Report> {
    let mut meant = present.into_iter().filter(|p| selector.matches(&p.life) && matches!(p.word(), "active" | "mixed"));
    let Some(one) = meant.next() else {
        return Err(Report::new(pid, Some(Outcome::NotApplied), format!("{selector} is not in force")));
    };
    match meant.next() {
        None => Ok(one),
        Some(other) => {
            let ids = format!("{} and {}", one.life.digest.short(), other.life.digest.short());
            let message = format!("{selector} names several patches ({ids})");
            let hint = Some("name one by its id (`lp-apply list`) or its bundle".into());
            Err(Report { hint, ..Report::new(pid, Some(Outcome::Refused), message) })
        }
    }
}

/// Lists the patches of process `pid` without touching it.
pub fn list(pid: i32) -> Report {
    let open = || -> Result<Report, Trouble> {
        let target = Target::look(pid)?;
        let records = target.records(&target.maps()?);
        let mut report = Report::new(pid, None, summary(&records));
        report.details.insert("patches".into(), records.iter().map(report::patch).collect());
        Ok(report)
    };
    open().unwrap_or_else(|trouble| Report::of(pid, &trouble))
}

fn summary(records: &[Record]) -> String {
    let line = |r: &Record| match r {
        Record::Sound(p) => {
            let names = p.life.sites.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
            format!("{} ({}) {}: {names}", p.life.name, p.life.digest.short(), p.word())
        }
        Record::Damaged { at, why } => format!("damaged record at {at}: {why}"),
    };
    match records {
        [] => "no patches".into(),
        some => some.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}
