//! Which threads can be borrowed, and what they may be asked for.

use super::BorrowError;
use crate::arch::x86_64::{self as arch, stub};
use crate::identify::maps::{Mapping, Maps};
use crate::identify::preflight::Obstacle;
use crate::identify::seccomp::{self, Call};
use crate::identify::stub::StubPlace;
use crate::identify::{IdentifyError, Target};
use crate::sys::filters;
use crate::sys::proc::{Doing, StatusFile};
use crate::sys::ptrace::{Regs, Tid};
use lpb::RunAddr;
use std::collections::BTreeSet;
use std::io;

/// Bytes below the stack pointer that a borrowed thread needs.
const STACK_ROOM: u64 = 256;
const PROT_WRITE: u32 = 2;
/// So many pieces of so many bytes above the stack pointer are searched for a signal frame: 64 KiB.
const SIGNAL_PIECES: usize = 4;
const SIGNAL_PIECE: usize = 16 << 10;

/// Threads that can be borrowed, those first that notice least: asleep in a call that the kernel resumes, running, other. Of
/// many threads only so many are looked at as are asked for.
pub fn by_reluctance(target: &Target) -> impl Iterator<Item = Tid> {
    let rank = |tid: Tid| match target.process.thread_state(tid) {
        None | Some('Z' | 'X') => None,
        Some(state) => target.process.doing_if_it_runs(tid).map(|doing| match doing {
            _ if state == 'D' => 4,
            Doing::Blocked { nr, .. } if arch::disturbed_by_stop(nr) => 3,
            Doing::Blocked { nr, .. } if nr >= 0 => 0,
            Doing::Running => 1,
            _ => 2,
        }),
    };
    let mut threads = target.process.threads_one_by_one().into_iter().flatten().map_while(Result::ok);
    let mut put_off = BTreeSet::new();
    std::iter::from_fn(move || {
        for tid in threads.by_ref() {
            match rank(tid) {
                None => {}
                Some(0) => return Some(tid),
                Some(rank) => _ = put_off.insert((rank, tid)),
            }
        }
        put_off.pop_first().map(|(_, tid)| tid)
    })
}

/// Whether the context can be written below `rsp`: into the same mapping, or a stack that grows.
pub(super) fn has_stack_room(maps: &Maps, rsp: RunAddr) -> bool {
    // An empty stack's pointer may equal the end of its mapping.
    let mapping = rsp.minus(1).and_then(|below| maps.at(below));
    let fits = |m: &Mapping| rsp.minus(STACK_ROOM).is_some_and(|low| low >= m.start) || m.path == "[stack]";
    mapping.is_some_and(|m| m.prot & PROT_WRITE != 0 && fits(m))
}

/// Whether the thread has room for a list of calls below its stack, and nothing but room: it is on its own stack, and not in a
/// signal handler, which may have another one inside it.
pub(super) fn can_run_errands(target: &Target, maps: &Maps, live: &Regs, room: &mut [u8]) -> bool {
    let sp = RunAddr(live.rsp);
    let Some(stack) = own_stack(maps, live) else { return false };
    let has_room = stack.path == "[stack]" || sp.minus(stub::LIST_ROOM).is_some_and(|low| low >= stack.start);
    has_room && !has_signal_frame(target, sp, stack.end, room)
}

/// What a thread is judged with once it stands still: it is there before.
pub(super) struct Aids {
    status: StatusFile,
    /// It had no seccomp filter when it was on its way to the stop and could make no other call.
    pub(super) was_free: bool,
    /// How many seccomp filters it was found to have.
    filters: usize,
    /// Room for a piece of its stack.
    pub(super) room: Vec<u8>,
}

impl Aids {
    pub(super) fn new(target: &Target, tid: Tid) -> io::Result<Self> {
        let mut status = target.process.open_status(tid)?;
        // What has been read once is read again in less time.
        let _ = status.field("");
        // Zeroes would not be there before they are used.
        Ok(Self { status, was_free: false, filters: 0, room: vec![u8::MAX; SIGNAL_PIECE] })
    }

    /// Looks at its filters while it is on its way: the kernel stops it before it returns to the program, and so before it makes another
    /// call.
    pub(super) fn look_on_the_way(&mut self) {
        self.was_free = matches!(self.seccomp_mode(), Ok(Some(mode)) if mode == "0");
    }

    /// "0": it has no filter, "1": it may do nothing but read and write, "2": it has filters. `None`: the kernel knows none of them.
    fn seccomp_mode(&mut self) -> io::Result<Option<String>> {
        self.status.field("Seccomp")
    }
}

/// Whether the thread may be in a signal handler: a signal frame lies above `sp`, or that cannot be read.
fn has_signal_frame(target: &Target, sp: RunAddr, end: RunAddr, room: &mut [u8]) -> bool {
    let mut at = RunAddr(sp.0 & !7);
    for _ in 0..SIGNAL_PIECES {
        let len = end.since(at).map_or(0, lpb::addr::to_usize).min(SIGNAL_PIECE);
        let Some(piece) = room.get_mut(..len).filter(|piece| !piece.is_empty()) else { return false };
        if target.memory.read(at, piece).is_err() || arch::has_signal_frame(piece) {
            return true;
        }
        at = RunAddr(at.0.saturating_add(lpb::addr::to_u64(SIGNAL_PIECE)));
    }
    false
}

/// The stack that it was born with, if it is on it: the kernel's, or the one that its thread-local data ends.
pub fn own_stack<'m>(maps: &'m Maps, live: &Regs) -> Option<&'m Mapping> {
    let (sp, tls) = (RunAddr(live.rsp), RunAddr(live.fs_base));
    let mapping = guarded_stack(maps, sp)?;
    (mapping.path == "[stack]" || (mapping.holds(tls) && sp < tls)).then_some(mapping)
}

/// The mapping of a stack of which it is certain where it ends: the kernel's, or one with a guard below, as the C library makes
/// them. Memory that a program has set aside for several stacks, or for a stack and other data, has none between them.
pub(super) fn guarded_stack(maps: &Maps, sp: RunAddr) -> Option<&Mapping> {
    // An empty stack's pointer may equal the end of its mapping.
    let mapping = maps.at(sp.minus(1)?).filter(|m| m.prot & PROT_WRITE != 0)?;
    let below = || mapping.start.minus(1).and_then(|below| maps.at(below));
    (mapping.path == "[stack]" || below().is_some_and(|guard| guard.prot == 0)).then_some(mapping)
}

/// Whether a thread is known to sleep on another stack.
pub(super) fn sleeps_unguarded(target: &Target, maps: &Maps, tid: Tid) -> bool {
    match target.process.thread_doing(tid) {
        Doing::Blocked { sp, .. } => guarded_stack(maps, sp).is_none(),
        Doing::Running | Doing::Unknown => false,
    }
}

/// Runs the seccomp filters of a stopped thread on the calls that it is to make, and on the one that brings it home.
pub(super) fn ask_seccomp(
    target: &Target,
    place: &StubPlace,
    tid: Tid,
    aids: &mut Aids,
    calls: &[Call],
) -> Result<(), BorrowError> {
    aids.filters = 0;
    // Another thread may have given it one since (SECCOMP_FILTER_FLAG_TSYNC), but not forbidden it everything.
    if std::mem::take(&mut aids.was_free) && filters::are_no_more(tid, 0) {
        return Ok(());
    }
    match aids.seccomp_mode().map_err(|source| BorrowError::FilterUnread { tid, source })?.as_deref() {
        None | Some("0") => return Ok(()),
        // It has gone there since the preflight.
        Some("1") => {
            let (pid, obstacle) = (target.process.pid, Obstacle::Strict);
            return Err(IdentifyError::Obstacle { pid, obstacle }.into());
        }
        Some(_) => {}
    }
    let filters = filters::of(tid).map_err(|source| BorrowError::FilterUnread { tid, source })?;
    for call in calls.iter().chain([&stub::HOMEWARD_CALL]) {
        let answer = seccomp::answer(&filters, call, stub::call_site(place.at));
        if !answer.harmless() {
            return Err(BorrowError::Seccomp { tid, nr: call.nr, answer: answer.word() });
        }
    }
    aids.filters = filters.len();
    Ok(())
}

/// The same just before it makes the calls, if other threads have given it filters since.
pub(super) fn ask_seccomp_again(
    target: &Target,
    place: &StubPlace,
    tid: Tid,
    aids: &mut Aids,
    calls: &[Call],
) -> Result<(), BorrowError> {
    if filters::are_no_more(tid, aids.filters) { Ok(()) } else { ask_seccomp(target, place, tid, aids, calls) }
}
