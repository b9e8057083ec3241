//! Step 5, and the end of every other: the life record, which is the only state there is, and the mappings it lists.
//!
//! lp-apply may die between the system calls that make or remove mappings and the write that says so. So a mapping is always
//! read-only or executable at that moment: such anonymous memory in just that place is ours, but writable memory could be the
//! target's. Writable mappings are made writable after all are known to exist, and read-only before any is removed.

use crate::arch::x86_64::{SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP};
use crate::borrow::{BorrowError, Borrowed};
use crate::identify::Target;
use crate::identify::limits::Need;
use crate::identify::maps::Maps;
use crate::identify::seccomp::Call;
use crate::identify::stub::StubPlace;
use crate::sys::fault::step;
use lpb::RunAddr;
use lpb::addr::to_u64;
use lpb::life::{HEADER_LEN, Life, Mapping, STATE_OFF, State};
use std::io;

const PROT_READ: u32 = 1;
const PROT_READ_WRITE: u32 = 3;
const MAP_PRIVATE: u64 = 2;
const MAP_ANONYMOUS: u64 = 0x20;
/// Since Linux 4.17; older kernels take it as a hint, which the result shows.
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

/// Writes the state word: one aligned store.
pub fn set_state(target: &Target, life: &mut Life, state: State, progress: u32) -> io::Result<()> {
    (life.state, life.progress) = (state, progress);
    let at = RunAddr(life.at.0.saturating_add(STATE_OFF));
    target.memory.write(at, &state.word(progress).to_le_bytes())?;
    step("record-state")
}

/// The call that makes one private anonymous mapping; one that is to be writable is read-only for now.
fn map_call(at: RunAddr, len: u64, prot: u32) -> Call {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    Call { nr: SYS_MMAP, args: [at.0, len, u64::from(prot_in_flight(prot)), flags, u64::MAX, 0] }
}

fn unmap_call(at: RunAddr, len: u64) -> Call {
    Call { nr: SYS_MUNMAP, args: [at.0, len, 0, 0, 0, 0] }
}

fn protect_call(m: &Mapping, prot: u32) -> Call {
    Call { nr: SYS_MPROTECT, args: [m.start.0, m.len, u64::from(prot), 0, 0, 0] }
}

/// The calls that make the mappings of this record, but for its own. With each the number of mappings that exist before it.
pub fn map_calls(life: &Life) -> Vec<(Call, usize)> {
    joined(life.mappings.iter().map(|m| map_call(m.start, m.len, m.prot)))
}

/// Joins those calls that differ in nothing but that the next one begins where the last one ends: the thread that makes them
/// is kept from its own work. With each the number of those before it.
fn joined(calls: impl Iterator<Item = Call>) -> Vec<(Call, usize)> {
    let mut all: Vec<(Call, usize)> = Vec::new();
    for (number, next) in calls.enumerate() {
        let [start, len, how @ ..] = next.args;
        match all.last_mut().map(|(call, _)| &mut call.args) {
            Some([at, total, same @ ..]) if at.checked_add(*total) == Some(start) && *same == how => {
                *total = total.saturating_add(len);
            }
            _ => all.push((next, number)),
        }
    }
    all
}

fn without_numbers(calls: Vec<(Call, usize)>) -> impl Iterator<Item = Call> {
    calls.into_iter().map(|(call, _)| call)
}

/// The calls that give the writable ones among the mappings these rights.
pub fn protect_calls<'a>(mappings: impl IntoIterator<Item = &'a Mapping>, prot: u32) -> Vec<Call> {
    let writable = mappings.into_iter().filter(|m| m.prot == PROT_READ_WRITE);
    without_numbers(joined(writable.map(|m| protect_call(m, prot)))).collect()
}

/// The calls that unmap these mappings, and at last the record.
fn unmap_calls<'a>(life: &Life, mappings: impl IntoIterator<Item = &'a Mapping>) -> Vec<Call> {
    let each = joined(mappings.into_iter().map(|m| unmap_call(m.start, m.len)));
    without_numbers(each).chain([unmap_call(life.at, life.len)]).collect()
}

/// All calls that stage this record, and those that would undo it.
pub fn calls(life: &Life) -> Vec<Call> {
    let mut all = vec![map_call(life.at, life.len, PROT_READ)];
    all.extend(without_numbers(map_calls(life)));
    all.extend(protect_calls(&life.mappings, PROT_READ_WRITE));
    all.extend(undoing_calls(life, &life.mappings));
    all
}

/// The calls that dissolve this record, if these are its mappings.
fn undoing_calls<'a>(life: &Life, ours: impl IntoIterator<Item = &'a Mapping> + Clone) -> Vec<Call> {
    [protect_calls(ours.clone(), PROT_READ), unmap_calls(life, ours)].concat()
}

/// Rights of a mapping while it is made or removed.
fn prot_in_flight(prot: u32) -> u32 {
    if prot == PROT_READ_WRITE { PROT_READ } else { prot }
}

/// Makes the record's mapping and writes it, leaving a trace at every instant.
///
/// # Errors
/// The inner one: there is no mapping. The outer one: [`forget`] it.
pub fn begin(
    target: &Target,
    thread: &mut Borrowed<'_>,
    life: &Life,
    bytes: &[u8],
) -> Result<io::Result<()>, BorrowError> {
    thread.note_intent(Some((life.at, life.len)))?;
    if let Err((_, e)) = thread.run(&[map_call(life.at, life.len, PROT_READ)])? {
        thread.note_intent(None)?;
        return Ok(Err(e));
    }
    // The header comes last: until it stands, the mapping is what the intent says, and nothing else.
    let (header, body) = bytes.split_at_checked(HEADER_LEN).unwrap_or((bytes, &[]));
    let behind = RunAddr(life.at.0.saturating_add(to_u64(HEADER_LEN)));
    let body = target.memory.write(behind, body).and_then(|()| step("record-body"));
    let written = body.and_then(|()| target.memory.write(life.at, header)).and_then(|()| step("record"));
    if written.is_err() {
        unmap(thread, &[unmap_call(life.at, life.len)])?;
    }
    thread.note_intent(None)?;
    Ok(written)
}

/// The mappings of a record that are certainly the patch's own. The target may have reused every other address.
fn certain(life: &Life, maps: &Maps) -> Vec<Mapping> {
    let all_exist = match life.state {
        State::Staging => to_u64(life.mappings.len()) == u64::from(life.progress),
        State::Inactive => life.progress == 0,
        _ => true,
    };
    let ours = |m: &&Mapping| {
        let in_flight = prot_in_flight(m.prot);
        let prots = if all_exist { [in_flight, m.prot] } else { [in_flight; 2] };
        maps.covers(m.start, m.range().end, |have| prots.contains(&have.prot) && have.is_plain_anonymous())
    };
    life.mappings.iter().filter(ours).copied().collect()
}

/// Whether the record in the target is the one that this run knows, in the state that it has written or read.
pub fn is_ours(target: &Target, life: &Life) -> bool {
    target.read(life.at, HEADER_LEN).is_some_and(|header| life.stands_in(&header))
}

/// Unmaps all that a record lists, then the record. The sites must be old, and no thread may need the code any more.
pub fn dissolve(target: &Target, place: &StubPlace, life: &mut Life) -> Result<(), BorrowError> {
    let ours = certain(life, &target.maps()?);
    dissolve_these(target, place, life, &ours)
}

/// The same where only the first `count` mappings were made.
pub fn dissolve_first(target: &Target, place: &StubPlace, life: &mut Life, count: usize) -> Result<(), BorrowError> {
    let first = life.mappings.get(..count).unwrap_or_default().to_vec();
    dissolve_these(target, place, life, &first)
}

fn dissolve_these(target: &Target, place: &StubPlace, life: &mut Life, ours: &[Mapping]) -> Result<(), BorrowError> {
    if !is_ours(target, life) {
        return Err(BorrowError::Disowned { at: life.at });
    }
    let mut thread = Borrowed::take(target, place, &undoing_calls(life, ours))?;
    let tid = thread.tid();
    protect(&mut thread, ours, PROT_READ)?;
    let begun = set_state(target, life, State::Inactive, 1);
    begun.map_err(|source| BorrowError::Call { what: "writing the record", tid, source })?;
    unmap(&mut thread, &unmap_calls(life, ours))?;
    thread.give_back()
}

/// Gives the writable ones among the mappings these rights. All of them exist and are ours.
pub fn protect<'a>(
    thread: &mut Borrowed<'_>,
    mappings: impl IntoIterator<Item = &'a Mapping>,
    prot: u32,
) -> Result<(), BorrowError> {
    let done = thread.run(&protect_calls(mappings, prot))?;
    let tid = thread.tid();
    done.map_err(|(_, source)| BorrowError::Call { what: "mprotect", tid, source })
}

fn unmap(thread: &mut Borrowed<'_>, calls: &[Call]) -> Result<(), BorrowError> {
    let done = thread.run(calls)?;
    let tid = thread.tid();
    done.map_err(|(_, source)| BorrowError::Call { what: "munmap", tid, source })
}

/// Removes the mapping that a dead lp-apply made for a record but did not fill.
pub fn forget_intent(target: &Target, place: &StubPlace) -> Result<(), BorrowError> {
    place.intent.map_or(Ok(()), |(at, len)| forget(target, place, at, len))
}

/// Removes the mapping for a record, if it was made, and is plainly that: its header, which is written last, is blank.
pub fn forget(target: &Target, place: &StubPlace, at: RunAddr, len: u64) -> Result<(), BorrowError> {
    let maps = target.maps()?;
    let end = RunAddr(at.0.saturating_add(len));
    let plain = maps.covers(at, end, |m| m.prot == PROT_READ && m.is_plain_anonymous());
    let blank = |header: Vec<u8>| header.iter().all(|b| *b == 0);
    let ours = plain && target.read(at, HEADER_LEN).is_some_and(blank);
    let mut thread = Borrowed::take(target, place, &[unmap_call(at, len)])?;
    if ours {
        unmap(&mut thread, &[unmap_call(at, len)])?;
    }
    thread.note_intent(None)?;
    thread.give_back()
}

/// Whether the bytes under the stub are what they were.
pub fn stub_is_gone(target: &Target, place: &StubPlace) -> bool {
    let before = place.restored();
    target.read(place.at, before.len()).is_none_or(|now| now == before)
}

/// Puts back the bytes under the stub. Nobody may be inside it.
pub fn remove_stub(target: &Target, place: &StubPlace) -> io::Result<()> {
    target.memory.write(place.at, &place.restored()).and_then(|()| step("stub-removed"))
}

/// Bytes that the patch occupies in the target, its record included.
pub fn footprint(life: &Life) -> u64 {
    life.mappings.iter().fold(life.len, |sum, m| sum.saturating_add(m.len))
}

/// What the limits of the target have to leave room for.
pub fn need(life: &Life) -> Need {
    let writable = life.mappings.iter().filter(|m| m.prot == PROT_READ_WRITE);
    Need {
        mappings: to_u64(life.mappings.len()).saturating_add(1),
        bytes: footprint(life),
        writable: writable.fold(0, |sum, m| sum.saturating_add(m.len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(mappings: &[(u64, u64, u32)], state: State, progress: u32) -> Life {
        let mappings =
            mappings.iter().map(|(start, len, prot)| Mapping { start: RunAddr(*start), len: *len, prot: *prot });
        Life {
            at: RunAddr(0x9_0000),
            len: 0x1000,
            state,
            progress,
            digest: lpb::Digest([0; 32]),
            name: "n".into(),
            gate: None,
            mappings: mappings.collect(),
            sites: vec![],
            unwind: vec![],
        }
    }

    #[test]
    fn neighbours_are_mapped_and_unmapped_together() {
        let life = life(
            &[(0x1000, 0x1000, 1), (0x2000, 0x1000, 5), (0x3000, 0x2000, 1), (0x5000, 0x1000, 3), (0x8000, 0x1000, 1)],
            State::Staging,
            0,
        );
        let calls: Vec<_> =
            map_calls(&life).into_iter().map(|(call, n)| (call.args[0], call.args[1], call.args[2], n)).collect();
        let want = [
            (0x1000, 0x1000, 1, 0),
            (0x2000, 0x1000, 5, 1),
            // A writable one is read-only at first, so it goes with the read-only one before it.
            (0x3000, 0x3000, 1, 2),
            (0x8000, 0x1000, 1, 4),
        ];
        assert_eq!(calls, want);
        let calls = unmap_calls(&life, &life.mappings);
        let calls: Vec<_> = calls.into_iter().map(|call| (call.args[0], call.args[1])).collect();
        // The record comes last.
        assert_eq!(calls, [(0x1000, 0x5000), (0x8000, 0x1000), (0x9_0000, 0x1000)]);
    }

    #[test]
    fn only_what_is_certainly_ours_is_unmapped() {
        let maps = Maps::parse("1000-2000 r--p 0 00:00 0\n2000-3000 rw-p 0 00:00 0\n3000-4000 r-xp 0 00:01 7 /f\n");
        let all = [(0x1000, 0x1000, 1), (0x2000, 0x1000, 3), (0x3000, 0x1000, 5), (0x4000, 0x1000, 1)];
        for (why, state, progress, want) in [
            ("being made: a writable mapping is the target's", State::Staging, 0, vec![0x1000]),
            ("all made: it is ours", State::Staging, 4, vec![0x1000, 0x2000]),
            ("in force", State::Active, 0, vec![0x1000, 0x2000]),
            ("out of force", State::Inactive, 0, vec![0x1000, 0x2000]),
            ("being removed: it is somebody else's by now", State::Inactive, 1, vec![0x1000]),
        ] {
            let ours = certain(&life(&all, state, progress), &maps);
            assert_eq!(ours.iter().map(|m| m.start.0).collect::<Vec<_>>(), want, "{why}");
        }
    }
}
