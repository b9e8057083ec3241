//! Which thread is in the way: of those that sleep, seen from outside, and of those that stand still.

use super::CommitError;
use super::stacks::{self, Stacks};
use crate::identify::Target;
use crate::identify::maps::Maps;
use crate::pause::{Glance, Thread};
use crate::plan::CodeRange;
use crate::quiesce::{Busy, Extent, MAX_STACKED, Piece, Scan};
use crate::sys::proc::Doing;
use crate::sys::ptrace::Tid;
use lpb::RunAddr;

/// A thread and what it is doing in the way.
pub type Obstacle = (Tid, Busy);

/// Judges threads by their stacks. Its memory serves from the first look to the end of the stop.
pub struct Judge<'a> {
    target: &'a Target,
    /// The stacks of all that stand still, ascending. Where a thread was seen before says nothing any more.
    still: Vec<Extent>,
    /// Where those that slept at the look had theirs, in the order of their numbers.
    slept: Vec<(Tid, RunAddr)>,
    stacks: Stacks,
    piece: Piece,
    /// Bytes that may still be read of those that stand still.
    budget: u64,
}

impl<'a> Judge<'a> {
    /// Of the threads of `target`.
    pub fn new(target: &'a Target) -> Self {
        let (stacks, piece) = (Stacks::default(), Piece::default());
        Self { target, still: Vec::new(), slept: Vec::new(), stacks, piece, budget: MAX_STACKED }
    }

    /// Judges the sleeping threads without stopping anything. Those that run are not judged.
    pub fn look(&mut self, code: &[CodeRange], glance: &Glance, maps: &Maps) -> Option<Obstacle> {
        // Where each thread will have its stack, more or less.
        self.still.reserve(glance.threads.len());
        let doing = |(tid, doing): (&Tid, &Doing)| match *doing {
            Doing::Blocked { sp, pc, .. } => Some((*tid, pc, sp)),
            Doing::Running | Doing::Unknown => None,
        };
        let asleep: Vec<_> = glance.threads.iter().filter_map(doing).collect();
        self.slept = asleep.iter().map(|(tid, _, sp)| (*tid, *sp)).collect();
        let mut all: Vec<Extent> = asleep.iter().filter_map(|(_, _, sp)| Extent::of(maps, *sp, None)).collect();
        all.sort_unstable();
        let mut budget = MAX_STACKED;
        let Self { target, stacks, piece, .. } = self;
        asleep.chunks(stacks::BATCH).find_map(|batch| {
            stacks.read_ahead(&all, batch.iter().map(|(tid, _, sp)| (*tid, Extent::of(maps, *sp, None))));
            let read = |at: RunAddr, buf: &mut [u8]| stacks.read(target, at, buf);
            let mut scan = Scan::new(code, maps, &read, piece).with_others(&all).with_budget(budget);
            let judged = batch.iter().filter_map(|(tid, pc, sp)| Some((*tid, scan.thread(*pc, *sp, None)?)));
            // A thread may run on between the reads, so a stack that makes no sense says nothing; the stop will tell.
            let found = judged.into_iter().find(|(_, busy)| !matches!(busy, Busy::Unknown { .. }));
            budget = scan.budget();
            found
        })
    }

    /// The first of these threads, which stand still since the last call, that is in the code or will return into it.
    pub fn stopped(
        &mut self,
        code: &[CodeRange],
        maps: &mut Maps,
        threads: &[Thread],
    ) -> Result<Option<Obstacle>, CommitError> {
        if code.is_empty() {
            return Ok(None);
        }
        if !threads.iter().all(|t| is_older(maps, t, self.slept_at(t.tid))) {
            *maps = self.target.maps()?;
        }
        add_sorted(&mut self.still, threads.iter().filter_map(|t| extent(maps, t)).collect());
        match self.judge(code, maps, threads) {
            // As above.
            Some((_, Busy::Unknown { .. })) => {
                *maps = self.target.maps()?;
                Ok(self.judge(code, maps, threads))
            }
            judged => Ok(judged),
        }
    }

    fn slept_at(&self, tid: Tid) -> Option<RunAddr> {
        let index = self.slept.binary_search_by_key(&tid, |(tid, _)| *tid).ok()?;
        self.slept.get(index).map(|(_, sp)| *sp)
    }

    fn judge(&mut self, code: &[CodeRange], maps: &Maps, threads: &[Thread]) -> Option<Obstacle> {
        let Self { target, still, stacks, piece, budget, .. } = self;
        threads.chunks(stacks::BATCH).find_map(|batch| {
            stacks.read_ahead(still, batch.iter().map(|t| (t.tid, extent(maps, t))));
            let read = |at: RunAddr, buf: &mut [u8]| stacks.read(target, at, buf);
            let mut scan = Scan::new(code, maps, &read, piece).with_others(still).with_budget(*budget);
            let found = batch.iter().find_map(|t| Some((t.tid, judged(&mut scan, t)?)));
            *budget = scan.budget();
            found
        })
    }
}

/// Whether the stack that a thread is on is certainly older than the list of mappings, which then shows where it ends: the first
/// stack, a stack of the C library, which ends at the thread's own data, or one that the thread slept on at the look. Another may
/// have been mapped since, over what was there before.
fn is_older(maps: &Maps, t: &Thread, slept_at: Option<RunAddr>) -> bool {
    let sp = RunAddr(t.regs.rsp);
    let ends_at_its_data = || extent(maps, t).is_some_and(|stack| stack.end.0 == t.regs.fs_base);
    slept_at == Some(sp) || maps.at(sp).is_some_and(|m| m.path == "[stack]") || ends_at_its_data()
}

/// What a stopped thread is doing in the way.
pub fn judged(scan: &mut Scan<'_>, t: &Thread) -> Option<Busy> {
    let on_stack = scan.thread(RunAddr(t.regs.rip), RunAddr(t.regs.rsp), Some(RunAddr(t.regs.fs_base)));
    on_stack.or_else(|| scan.registers(&t.regs.general()))
}

fn extent(maps: &Maps, t: &Thread) -> Option<Extent> {
    Extent::of(maps, RunAddr(t.regs.rsp), Some(RunAddr(t.regs.fs_base)))
}

/// Adds to an ascending list.
fn add_sorted(list: &mut Vec<Extent>, more: Vec<Extent>) {
    if let [one] = more.as_slice() {
        // The one thread that runs, often: it stands still while this is done.
        list.insert(list.partition_point(|known| known <= one), *one);
    } else {
        list.extend(more);
        // Nearly sorted already, which this sort makes use of.
        list.sort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ptrace::Regs;

    #[test]
    fn stacks_that_may_be_younger_than_the_list() {
        let maps = "10000-20000 rw-p 0 00:00 0\n30000-40000 rw-p 0 00:00 0 [stack]\n";
        let maps = Maps::parse(maps);
        for (why, sp, tls, slept_at, want) in [
            ("a stack of the C library", 0x11000, 0x1f700, None, true),
            ("its end is not in the list", 0x11000, 0x2f700, None, false),
            ("above its data: another stack", 0x1f800, 0x1f700, None, false),
            ("the first stack", 0x31000, 0x9000, None, true),
            ("a coroutine", 0x11000, 0x9000, None, false),
            ("a coroutine that slept", 0x11000, 0x9000, Some(0x11000), true),
            ("it slept on another", 0x11000, 0x9000, Some(0x12000), false),
            ("not in the list", 0x50000, 0x9000, None, false),
        ] {
            let regs = Regs { rsp: sp, fs_base: tls, ..Regs::default() };
            let thread = Thread { tid: Tid(1), regs, asleep: false };
            assert_eq!(is_older(&maps, &thread, slept_at.map(RunAddr)), want, "{why}");
        }
    }
}
