//! Step 4: the change itself, with every thread stopped and none of them in the way.
//!
//! One jump is one write inside one page: the write is the commit. Several jumps go through their gate thunks:
//!
//! ```text
//!            old ──(a)──► gated ──(b) gate = 1 ──► gated ──(c) settle──► new
//! behaviour  old          old                      new                   new
//! ```
//! so whenever lp-apply dies, all functions are old or all are new. Revert takes the same way back. Waiting happens
//! outside the stop: threads are looked at while they run, and stopped only when it looks clear.

mod error;
mod judge;
mod quiet;
mod stacks;

pub use error::CommitError;
pub use judge::{Judge, Obstacle};
pub use quiet::{Cost, Quiet, Quietness, Search, wait_until_stoppable, when_quiet};

use crate::identify::Target;
use crate::record::set_state;
use crate::sys::fault::step;
use lpb::RunAddr;
use lpb::addr::to_u64;
use lpb::life::{HEADER_LEN, Life, Site, SiteKind, State};

/// Says in the record that sites may change from now on, and makes private copies of the pages of the sites by writing what
/// stands there: both cost time that the stop need not.
pub fn announce(target: &Target, life: &mut Life) -> Result<(), CommitError> {
    write_state(target, life, (State::Committing, 0))?;
    for s in life.sites.iter().filter(|s| s.kind == SiteKind::Jump) {
        // One byte in the page of each end. Should it fail, so will the write that counts, with its name.
        let last = to_u64(s.old.len()).saturating_sub(1);
        for at in [s.at, RunAddr(s.at.0.saturating_add(last))] {
            let same = target.read(at, 1).unwrap_or_default();
            let _ = target.memory.write(at, &same);
        }
    }
    Ok(())
}

/// Puts the patch in force. The target is stopped.
///
/// # Errors
/// Every site is old again then.
pub fn enforce(target: &Target, life: &Life) -> Result<(), CommitError> {
    let (header, mut live) = look(target, life);
    // Nobody can dissolve it while all threads are ours; but somebody may have done so before, unseen by our lock.
    if !header.is_some_and(|header| life.stands_in(&header)) {
        return Err(CommitError::Disowned);
    }
    for (s, live) in life.sites.iter().zip(&live) {
        let (name, at) = (|| s.name.clone(), s.at);
        match (live, s.kind) {
            (Some(live), _) if *live == s.old => {}
            (None, _) => return Err(CommitError::Unloaded { name: name(), at }),
            (_, SiteKind::Slot) => return Err(CommitError::Bound { name: name(), at }),
            (_, SiteKind::Jump | SiteKind::Data) => return Err(CommitError::Changed { name: name(), at }),
        }
    }
    forward(target, life, &mut live).inspect_err(|_| {
        // Each of these writes undoes one that has just succeeded.
        let _ = backward(target, life, &mut look(target, life).1);
    })
}

/// What stands at each site; `None`: nothing is mapped there, as the library has been unloaded.
type Live = [Option<Vec<u8>>];

/// The header of the record, and what stands at each site.
fn look(target: &Target, life: &Life) -> (Option<Vec<u8>>, Vec<Option<Vec<u8>>>) {
    let place = |at: RunAddr, len| at..RunAddr(at.0.saturating_add(to_u64(len)));
    let sites = life.sites.iter().map(|s| place(s.at, s.old.len()));
    let mut live = target.memory.read_all(&sites.chain([place(life.at, HEADER_LEN)]).collect::<Vec<_>>());
    (live.pop().flatten(), live)
}

/// Whether each jump is as this patch leaves it, or was there before. Another may have been changed by a debugger, or be no
/// jump of ours at all but something else that is mapped there now.
fn know_all(life: &Life, live: &Live) -> Result<(), CommitError> {
    let known = |s: &Site, live: &Vec<u8>| [&s.old, &s.gated, &s.new].contains(&live);
    let mut jumps = life.sites.iter().zip(live).filter(|(s, _)| s.kind == SiteKind::Jump);
    match jumps.find(|(s, live)| live.as_ref().is_some_and(|live| !known(s, live))) {
        Some((s, _)) => Err(CommitError::Changed { name: s.name.clone(), at: s.at }),
        None => Ok(()),
    }
}

/// Whether the patch could be taken out of force, as far as its sites tell while the target runs.
pub fn may_withdraw(target: &Target, life: &Life) -> Result<(), CommitError> {
    know_all(life, &look(target, life).1)
}

/// Takes the patch out of force. The target is stopped. Returns the data that the program has changed since: it is left. `held`:
/// the program may keep addresses of the patch, which the record says from the beginning, should lp-apply die here.
///
/// # Errors
/// Every site is as it was before then.
pub fn withdraw(target: &Target, life: &mut Life, held: bool) -> Result<Vec<String>, CommitError> {
    let mut live = look(target, life).1;
    know_all(life, &live)?;
    let (state, before) = ((life.state, life.progress), live.clone());
    let gate = life.gate.and_then(|at| target.read(at, 4)).is_some_and(|word| word != [0; 4]);
    let [meanwhile, then] = match held {
        true => [(State::Held, 0), (State::Held, Life::ALL_OLD)],
        false => [(State::Reverting, 0), (State::Inactive, 0)],
    };
    write_state(target, life, meanwhile)?;
    let done = match backward(target, life, &mut live) {
        Ok(left) => write_state(target, life, then).map(|()| left),
        failed => failed,
    };
    if done.is_err() {
        let _ = put_back(target, life, gate, &before);
        let _ = write_state(target, life, state);
    }
    done
}

/// Finishes what a dead lp-apply began after its commit: retargets every jump straight at the new code.
pub fn settle(target: &Target, life: &mut Life) -> Result<(), CommitError> {
    let mut live = look(target, life).1;
    know_all(life, &live)?;
    write_jumps(target, life, &mut live, |s| &s.new, "settle")?;
    write_state(target, life, (State::Active, 0))
}

/// Undoes a withdrawal that has failed half-way. What was not in force before is not now: its code may not even be mapped.
fn put_back(target: &Target, life: &Life, gate_open: bool, before: &Live) -> Result<(), CommitError> {
    if gate_open {
        write_gate(target, life, 1)?;
    }
    let mut live = look(target, life).1;
    let sites = life.sites.iter().zip(&mut live).zip(before);
    let mut changed = sites.filter_map(|((s, live), before)| Some((s, live, before.as_ref()?)));
    changed.try_for_each(|(s, live, before)| write_site(target, s, live, before, "put-back"))
}

fn forward(target: &Target, life: &Life, live: &mut Live) -> Result<(), CommitError> {
    if life.gate.is_some() {
        write_jumps(target, life, live, |s| &s.gated, "gated")?;
        write_gate(target, life, 1)?;
        write_jumps(target, life, live, |s| &s.new, "settle")?;
    } else {
        write_jumps(target, life, live, |s| &s.new, "jump")?;
    }
    let mut others = life.sites.iter().zip(live).filter(|(s, _)| s.kind != SiteKind::Jump);
    others.try_for_each(|(s, live)| write_site(target, s, live, &s.new, "data"))
}

fn backward(target: &Target, life: &Life, live: &mut Live) -> Result<Vec<String>, CommitError> {
    let mut left = Vec::new();
    for (s, live) in life.sites.iter().zip(live.iter_mut()).filter(|(s, _)| s.kind != SiteKind::Jump) {
        match live.as_ref() {
            Some(now) if *now == s.old => {}
            Some(now) if *now == s.new => write_site(target, s, live, &s.old, "data-back")?,
            None => {}
            _ => left.push(s.name.clone()),
        }
    }
    if life.gate.is_some() {
        write_jumps(target, life, live, |s| &s.gated, "gated-back")?;
        write_gate(target, life, 0)?;
    }
    write_jumps(target, life, live, |s| &s.old, "jump-back")?;
    Ok(left)
}

fn write_jumps(
    target: &Target,
    life: &Life,
    live: &mut Live,
    bytes: impl Fn(&Site) -> &Vec<u8>,
    name: &'static str,
) -> Result<(), CommitError> {
    let mut jumps = life.sites.iter().zip(live).filter(|(s, _)| s.kind == SiteKind::Jump && !bytes(s).is_empty());
    jumps.try_for_each(|(s, live)| write_site(target, s, live, bytes(s), name))
}

/// Writes what differs, if anything is there, so that bytes that stay are never written: a jump across a page boundary differs
/// in one page only.
fn write_site(
    target: &Target,
    s: &Site,
    live: &mut Option<Vec<u8>>,
    bytes: &[u8],
    name: &'static str,
) -> Result<(), CommitError> {
    let Some(now) = live else { return Ok(()) };
    let differs = |i: &usize| now.get(*i) != bytes.get(*i);
    let first = (0..bytes.len()).find(differs).unwrap_or(0);
    let behind = (0..bytes.len()).rfind(differs).map_or(first, |last| last.saturating_add(1));
    let at = RunAddr(s.at.0.saturating_add(to_u64(first)));
    let part = bytes.get(first..behind).unwrap_or_default();
    let written = target.memory.write(at, part).and_then(|()| step(name));
    written.map_err(|source| CommitError::Write { name: s.name.clone(), at: s.at, source })?;
    *now = bytes.to_vec();
    Ok(())
}

fn write_gate(target: &Target, life: &Life, open: u32) -> Result<(), CommitError> {
    let Some(at) = life.gate else { return Ok(()) };
    let written = target.memory.write(at, &open.to_le_bytes()).and_then(|()| step("gate"));
    written.map_err(|source| CommitError::Write { name: "the gate".into(), at, source })
}

fn write_state(target: &Target, life: &mut Life, (state, progress): (State, u32)) -> Result<(), CommitError> {
    let at = life.at;
    set_state(target, life, state, progress).map_err(|source| CommitError::Write {
        name: "the patch record".into(),
        at,
        source,
    })
}
