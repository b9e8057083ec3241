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
mod quiet;
mod stacks;

pub use error::CommitError;
pub use quiet::{Cost, Obstacle, Quiet, Quietness, wait_until_stoppable, when_quiet};

use crate::identify::Target;
use crate::record::{self, set_state};
use crate::sys::fault::step;
use lpb::RunAddr;
use lpb::addr::to_u64;
use lpb::life::{Life, Site, SiteKind, State};

/// Says in the record that sites may change from now on, and makes private copies of the pages of the sites by writing what
/// stands there: both cost time that the stop need not.
pub fn announce(target: &Target, life: &mut Life) -> Result<(), CommitError> {
    write_state(target, life, State::Committing)?;
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
    // Nobody can dissolve it while all threads are ours; but somebody may have done so before, unseen by our lock.
    if !record::is_ours(target, life) {
        return Err(CommitError::Disowned);
    }
    for s in &life.sites {
        let live = target.read(s.at, s.old.len());
        if live.as_deref() != Some(s.old.as_slice()) {
            let (name, at) = (s.name.clone(), s.at);
            return Err(match s.kind {
                SiteKind::Slot => CommitError::Bound { name, at },
                SiteKind::Jump | SiteKind::Data => CommitError::Changed { name, at },
            });
        }
    }
    forward(target, life).inspect_err(|_| {
        // Each of these writes undoes one that has just succeeded.
        let _ = backward(target, life);
    })
}

/// Takes the patch out of force. The target is stopped. Returns the data that the program has changed since: it is left.
///
/// # Errors
/// The patch is in force again then.
pub fn withdraw(target: &Target, life: &mut Life) -> Result<Vec<String>, CommitError> {
    write_state(target, life, State::Reverting)?;
    let done = match backward(target, life) {
        Ok(left) => write_state(target, life, State::Inactive).map(|()| left),
        failed => failed,
    };
    if done.is_err() {
        // As above, the other way round.
        let _ = forward(target, life);
        let _ = write_state(target, life, State::Active);
    }
    done
}

/// Finishes what a dead lp-apply began after its commit: retargets every jump straight at the new code.
pub fn settle(target: &Target, life: &mut Life) -> Result<(), CommitError> {
    write_jumps(target, life, |s| &s.new, "settle")?;
    write_state(target, life, State::Active)
}

fn forward(target: &Target, life: &Life) -> Result<(), CommitError> {
    if life.gate.is_some() {
        write_jumps(target, life, |s| &s.gated, "gated")?;
        write_gate(target, life, 1)?;
        write_jumps(target, life, |s| &s.new, "settle")?;
    } else {
        write_jumps(target, life, |s| &s.new, "jump")?;
    }
    life.sites.iter().filter(|s| s.kind != SiteKind::Jump).try_for_each(|s| write_site(target, s, &s.new, "data"))
}

fn backward(target: &Target, life: &Life) -> Result<Vec<String>, CommitError> {
    let mut left = Vec::new();
    for s in life.sites.iter().filter(|s| s.kind != SiteKind::Jump) {
        match target.read(s.at, s.new.len()) {
            Some(live) if live == s.old => {}
            Some(live) if live == s.new => write_site(target, s, &s.old, "data-back")?,
            _ => left.push(s.name.clone()),
        }
    }
    if life.gate.is_some() {
        write_jumps(target, life, |s| &s.gated, "gated-back")?;
        write_gate(target, life, 0)?;
    }
    write_jumps(target, life, |s| &s.old, "jump-back")?;
    Ok(left)
}

fn write_jumps(
    target: &Target,
    life: &Life,
    bytes: impl Fn(&Site) -> &Vec<u8>,
    name: &'static str,
) -> Result<(), CommitError> {
    let jumps = life.sites.iter().filter(|s| s.kind == SiteKind::Jump && !bytes(s).is_empty());
    jumps.into_iter().try_for_each(|s| write_site(target, s, bytes(s), name))
}

/// Writes what differs, so that bytes that stay are never written: a jump across a page boundary differs in one page only.
fn write_site(target: &Target, s: &Site, bytes: &[u8], name: &'static str) -> Result<(), CommitError> {
    let live = target.read(s.at, bytes.len()).unwrap_or_default();
    let differs = |i: &usize| live.get(*i) != bytes.get(*i);
    let first = (0..bytes.len()).find(differs).unwrap_or(0);
    let behind = (0..bytes.len()).rfind(differs).map_or(first, |last| last.saturating_add(1));
    let at = RunAddr(s.at.0.saturating_add(to_u64(first)));
    let part = bytes.get(first..behind).unwrap_or_default();
    let written = target.memory.write(at, part).and_then(|()| step(name));
    written.map_err(|source| CommitError::Write { name: s.name.clone(), at: s.at, source })
}

fn write_gate(target: &Target, life: &Life, open: u32) -> Result<(), CommitError> {
    let Some(at) = life.gate else { return Ok(()) };
    let written = target.memory.write(at, &open.to_le_bytes()).and_then(|()| step("gate"));
    written.map_err(|source| CommitError::Write { name: "the gate".into(), at, source })
}

fn write_state(target: &Target, life: &mut Life, state: State) -> Result<(), CommitError> {
    let at = life.at;
    set_state(target, life, state, 0).map_err(|source| CommitError::Write {
        name: "the patch record".into(),
        at,
        source,
    })
}
