//! Which thread may be sent to the unwinder: one that holds none of its locks, nor one that it takes.

use crate::arch::x86_64 as arch;
use crate::borrow;
use crate::identify::Target;
use crate::identify::maps::{Mapping, Maps};
use crate::sys::proc::Doing;
use crate::sys::ptrace::{Regs, Tid};
use lpb::RunAddr;
use lpb::addr::{to_u64, to_usize};
use lpb::life::{Life, SiteKind};

/// Bytes below its stack pointer that a thread needs: extended state (up to 11 KiB), lazy binding (as much again), libgcc.
const STACK_ROOM: u64 = 32 << 10;
/// Longest stack that is searched.
const MAX_STACK: u64 = 64 << 20;
const CHUNK: usize = 8 << 10;

/// What is known when a thread is judged.
pub(super) struct Judge<'a> {
    pub(super) target: &'a Target,
    pub(super) maps: &'a Maps,
    pub(super) life: &'a Life,
    /// The text of the module with the unwinder, if it is none that is patched: start and length.
    pub(super) provider: Option<(RunAddr, u64)>,
}

impl Judge<'_> {
    /// Rules out threads without stopping them. Whether one that may do sleeps.
    pub(super) fn at_a_glance(&self, tid: Tid) -> Result<bool, String> {
        if matches!(self.target.process.thread_state(tid), None | Some('T' | 't' | 'Z' | 'X' | 'D')) {
            return Err("is stopped, stuck in the kernel or ending".into());
        }
        match self.target.process.thread_doing(tid) {
            Doing::Blocked { nr, .. } if nr >= 0 && arch::sleeps_in(nr).is_none() => {
                Err(format!("is in system call {nr}, which may hold a lock"))
            }
            Doing::Blocked { sp, .. } => self.room(sp).map(|()| true),
            Doing::Running if self.provider.is_none() => Err("runs".into()),
            Doing::Running | Doing::Unknown => Ok(false),
        }
    }

    /// Judges a stopped thread: why it is fit, or why not.
    pub(super) fn stopped(&self, live: &Regs) -> Result<String, String> {
        let why = match arch::asleep(live) {
            Some(call) => format!("asleep in {call}"),
            None => self.computing(live)?,
        };
        self.own_stack(live)?;
        self.search(RunAddr(live.rsp))?;
        Ok(why)
    }

    /// Code of the patched module holds no lock of libraries: it would have to be in their code for that.
    fn computing(&self, live: &Regs) -> Result<String, String> {
        let pc = RunAddr(live.rip);
        let unfit = || format!("is at {pc}: neither asleep nor in the code of a patched module");
        let mapping = self.maps.at(pc).filter(|_| self.provider.is_some() && !arch::in_call(live)).ok_or_else(unfit)?;
        let patched = self.life.sites.iter().any(|s| s.kind == SiteKind::Jump && mapping.holds(s.at));
        if patched { Ok(format!("computing in {}", mapping.file_name())) } else { Err(unfit()) }
    }

    /// The stack that it was born with: the kernel's, or the one that its thread-local data ends.
    fn own_stack(&self, live: &Regs) -> Result<(), String> {
        let sp = RunAddr(live.rsp);
        let unfit = "is not on its own stack (a coroutine, or a signal handler)";
        borrow::own_stack(self.maps, live).ok_or(unfit)?;
        self.room(sp)
    }

    fn room(&self, sp: RunAddr) -> Result<(), String> {
        let fits = |m: &Mapping| m.path == "[stack]" || sp.minus(STACK_ROOM).is_some_and(|low| low >= m.start);
        // An empty stack's pointer may equal the end of its mapping.
        match sp.minus(1).and_then(|below| self.maps.at(below)) {
            Some(mapping) if !fits(mapping) => Err(format!("has less than {STACK_ROOM} bytes of stack left")),
            _ => Ok(()),
        }
    }

    /// Looks through its live stack for signal frames and return addresses into the unwinder.
    fn search(&self, sp: RunAddr) -> Result<(), String> {
        let unreadable = "has a stack that cannot be read";
        let mut at = RunAddr(sp.0 & !7);
        let end = self.maps.at(at).map_or(at, |m| m.end);
        if end.since(at).is_none_or(|len| len > MAX_STACK) {
            return Err("has a stack that is too deep to search".into());
        }
        let mut buf = [0; CHUNK];
        while at < end {
            let len = to_u64(CHUNK).min(end.since(at).unwrap_or(0));
            let chunk = buf.get_mut(..to_usize(len)).ok_or(unreadable)?;
            self.target.memory.read(at, chunk).map_err(|_| unreadable)?;
            if arch::has_signal_frame(chunk) {
                return Err("is in a signal handler".into());
            }
            for word in chunk.chunks_exact(8).map(|w| w.try_into().map(u64::from_le_bytes).unwrap_or(0)) {
                if self.provider.is_some_and(|(start, len)| RunAddr(word).since(start).is_some_and(|n| n <= len)) {
                    return Err(format!("may return into the unwinder (to {})", RunAddr(word)));
                }
            }
            at = RunAddr(at.0.saturating_add(len));
        }
        Ok(())
    }
}
