//! Patches that a process already holds: its life records, and what their sites say.

use super::maps::{Mapping, Maps};
use lpb::RunAddr;
use lpb::addr::to_usize;
use lpb::life::{self, Life, LifeError, Site, SiteKind, State};
use lpb::limits::PAGE;

/// Pages of one mapping that are searched. A record has a mapping of its own, unless the target has made a like one right
/// before it.
const MAX_PAGES: u64 = 64;
/// Most records that are read from one process, and most bytes of them.
const MAX_RECORDS: usize = 4096;
const MAX_BYTES: u64 = 64 << 20;
const PROT_READ: u32 = 1;

/// A record as found.
#[derive(Clone, Debug)]
pub enum Record {
    /// Readable.
    Sound(Box<Patched>),
    /// There, but not usable.
    Damaged {
        /// Where.
        at: RunAddr,
        /// Why.
        why: LifeError,
    },
}

/// A readable record with the state of its sites.
#[derive(Clone, Debug)]
pub struct Patched {
    /// The record.
    pub life: Life,
    /// What the sites hold.
    pub truth: Truth,
}

/// What the bytes at the sites of a patch say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// All old, but for those that are gone with their library: the patch is not in force.
    Old,
    /// All new: the patch is in force.
    New,
    /// The gate decides alone: in force if open, but a lp-apply died before the last step.
    Gated {
        /// The gate is open.
        open: bool,
    },
    /// Some new, some old or gone, or changed by somebody else.
    Mixed,
}

impl Patched {
    /// One word for people and programs.
    pub fn word(&self) -> &'static str {
        match (self.truth, self.life.state) {
            (Truth::New | Truth::Gated { open: true }, _) => "active",
            (Truth::Mixed, _) => "mixed",
            (_, State::Staging | State::Staged | State::Committing) => "staged",
            _ => "inactive",
        }
    }

    /// Whether the new code runs.
    pub fn in_force(&self) -> bool {
        matches!(self.truth, Truth::New | Truth::Gated { open: true })
    }
}

/// Finds all records. A mapping is a candidate if it is private, anonymous, unnamed and read-only.
pub fn find(maps: &Maps, read: impl Fn(RunAddr, usize) -> Option<Vec<u8>>) -> Vec<Record> {
    let mut records = Vec::new();
    let mut budget = MAX_BYTES;
    for m in maps.iter().filter(|m| m.prot == PROT_READ && m.is_plain_anonymous()) {
        let mut at = m.start;
        while at < m.end && at.since(m.start).is_some_and(|n| n < MAX_PAGES.saturating_mul(PAGE)) {
            let next = match record(m, at, &mut budget, &read) {
                None => at.plus(PAGE),
                Some(found) => {
                    let len = if let Record::Sound(p) = &found { p.life.len } else { PAGE };
                    records.push(found);
                    at.plus(len)
                }
            };
            match next {
                Some(next) if records.len() < MAX_RECORDS => at = next,
                _ => break,
            }
        }
    }
    records
}

fn record(
    m: &Mapping,
    at: RunAddr,
    budget: &mut u64,
    read: &impl Fn(RunAddr, usize) -> Option<Vec<u8>>,
) -> Option<Record> {
    let header = read(at, life::HEADER_LEN)?;
    let life = life::peek(&header, at, m.end.since(at)?)?.and_then(|len| {
        *budget = budget.checked_sub(len).ok_or(LifeError::Field("the records are longer than 64 MiB in all"))?;
        let bytes = read(at, to_usize(len)).ok_or(LifeError::Field("it cannot be read"))?;
        Life::decode(&bytes, at)
    });
    Some(match life {
        Ok(life) => {
            // Withdrawn: its sites are old, or no longer its own. But nothing protects the word that says so.
            let withdrawn = life.is_withdrawn() && !leads_in(&life, read);
            let truth = if withdrawn { Truth::Old } else { truth(&life, read) };
            Record::Sound(Box::new(Patched { life, truth }))
        }
        Err(why) => Record::Damaged { at, why },
    })
}

/// Compares the sites with what the record says of them.
pub fn truth(life: &Life, read: &impl Fn(RunAddr, usize) -> Option<Vec<u8>>) -> Truth {
    let live: Vec<_> = life.sites.iter().filter_map(|s| Some((s, read(s.at, s.old.len())?))).collect();
    // What has gone with its library does not lead in, but the patch is not whole without it either.
    let whole = live.len() == life.sites.len();
    // A byte string may be old and new at once, and gated and new, so each question is asked for itself.
    let all = |question: fn(&Site, &[u8]) -> bool| live.iter().all(|(site, bytes)| question(site, bytes));
    let open = life.gate.map(|at| read(at, 4).is_some_and(|word| word != [0; 4]));
    if whole && all(|s, bytes| bytes == s.new) && open != Some(false) {
        Truth::New
    } else if all(|s, bytes| bytes == s.old) {
        Truth::Old
    } else if whole && open == Some(true) && all(|s, bytes| bytes == s.gated || bytes == s.new) {
        Truth::Gated { open: true }
    } else if open == Some(false) && all(|s, bytes| bytes == s.gated || bytes == s.old) {
        Truth::Gated { open: false }
    } else {
        Truth::Mixed
    }
}

/// Whether a jump or slot is as this patch has made it, so that its code has to stay. A slot may have been set to something else than
/// the patch's: what makes it hold that again may be anybody.
pub fn leads_in(life: &Life, read: &impl Fn(RunAddr, usize) -> Option<Vec<u8>>) -> bool {
    let is_ours = |at: RunAddr| life.mappings.iter().any(|m| m.range().contains(&at));
    let leads = |s: &&Site| match s.kind {
        SiteKind::Jump => true,
        SiteKind::Slot => s.new.first_chunk().is_some_and(|word| is_ours(RunAddr(u64::from_le_bytes(*word)))),
        SiteKind::Data => false,
    };
    life.sites.iter().filter(leads).any(|s| {
        let live = read(s.at, s.old.len());
        live.is_some_and(|live| live != s.old && (live == s.new || live == s.gated))
    })
}

/// Whether every jump is old, or gone with its library, and no other site is new: what else stands there is none of the
/// patch's.
pub fn nothing_leads_in(life: &Life, read: &impl Fn(RunAddr, usize) -> Option<Vec<u8>>) -> bool {
    life.sites.iter().all(|s| {
        let live = read(s.at, s.old.len());
        live.is_none_or(|live| live == s.old || s.kind != SiteKind::Jump && live != s.new)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lpb::Digest;

    #[test]
    fn the_sites_tell_the_truth() {
        let site = |at, old, new, gated| Site {
            at: RunAddr(at),
            kind: SiteKind::Jump,
            name: "f".into(),
            old: vec![old],
            new: vec![new],
            gated: vec![gated],
        };
        // The second site is one whose jump goes to its gate thunk for good.
        let sites = vec![site(0x10, 1, 3, 2), site(0x20, 1, 2, 2)];
        let life = Life {
            at: RunAddr(0x1000),
            len: 4096,
            state: State::Committing,
            progress: 0,
            digest: Digest([0; 32]),
            name: "p".into(),
            gate: Some(RunAddr(0x30)),
            mappings: vec![],
            sites,
            unwind: vec![],
        };
        for (why, first, second, gate, want) in [
            ("nothing done", 1, 1, 0, Truth::Old),
            ("one jump to its gate", 2, 1, 0, Truth::Gated { open: false }),
            ("both to their gates", 2, 2, 0, Truth::Gated { open: false }),
            ("gate open", 2, 2, 1, Truth::Gated { open: true }),
            ("settled", 3, 2, 1, Truth::New),
            ("settled, but the gate is shut", 3, 2, 0, Truth::Mixed),
            ("somebody else", 9, 2, 1, Truth::Mixed),
            ("one library is gone", 0, 2, 1, Truth::Mixed),
            ("one library is gone, and the other site is old", 0, 1, 1, Truth::Old),
            ("one library is gone, and the gate is shut", 0, 2, 0, Truth::Gated { open: false }),
            ("all are gone", 0, 0, 1, Truth::Old),
        ] {
            let read = |at: RunAddr, len: usize| match at.0 {
                0x10 => (first != 0).then(|| vec![first]),
                0x20 => (second != 0).then(|| vec![second]),
                _ => Some(vec![gate; len]),
            };
            assert_eq!(truth(&life, &read), want, "{why}");
        }
        for (why, first, second, want) in [
            ("nothing done", 1, 1, false),
            ("one leads to its gate", 2, 1, true),
            ("one leads to the new code", 1, 2, true),
            ("somebody else", 9, 1, false),
        ] {
            let read = |at: RunAddr, _| Some(vec![if at.0 == 0x10 { first } else { second }]);
            assert_eq!(leads_in(&life, &read), want, "{why}");
        }
    }
}
