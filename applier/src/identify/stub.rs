//! Where the injected stub goes: bytes that are mapped executable and that nothing runs.
//!
//! ```text
//! last page of [vdso]                        else: behind the text of a module of the patch
//! ┌────────────┬──────────────────────────┐  ┌───────────────┬──────────────────────────┐
//! │ code, data │ 0 0 0 0 ... stub  intent │  │ PT_LOAD bytes │ rest of the page ...     │
//! └────────────┴──────────────────────────┘  └───────────────┴──────────────────────────┘
//!                           112 bytes ─────►
//! ```
//! The *intent* behind the stub names the mapping that is about to hold a life record, so that a tool that dies between
//! making that mapping and filling it leaves a trace.

use super::Found;
use super::maps::{Mapping, Maps};
use crate::arch::x86_64::stub::STUB;
use crate::plan::CodeRange;
use crate::sys::memory::Memory;
use lpb::limits::PAGE;
use lpb::{Patch, RunAddr};

/// Bytes taken for stub and intent.
const ROOM: usize = 112;
/// Distance of the intent from the stub.
const INTENT_OFF: usize = 88;
const _: () = assert!(STUB.len() <= INTENT_OFF && INTENT_OFF + INTENT_LEN == ROOM);
/// Largest vdso that is read, in bytes; today's have two or three pages.
const MAX_VDSO: u64 = 1 << 20;
/// Bytes of the intent.
pub const INTENT_LEN: usize = 24;
const INTENT_MAGIC: [u8; 8] = *b"LPINTENT";
const PROT_EXEC: u32 = 4;

/// A place for the stub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StubPlace {
    /// Where the stub goes.
    pub at: RunAddr,
    /// The bytes that stood there; they are put back. `None`: a stub of an earlier, dead lp-apply stands there.
    pub before: Option<Vec<u8>>,
    /// What that lp-apply was about to map: address and length.
    pub intent: Option<(RunAddr, u64)>,
}

impl StubPlace {
    /// Where the intent goes.
    pub fn intent_at(&self) -> RunAddr {
        RunAddr(self.at.0.saturating_add(lpb::addr::to_u64(INTENT_OFF)))
    }

    /// Makes a private copy of its page by writing what stands there: it costs time that no thread need stand still for.
    pub fn touch(&self, memory: &Memory) {
        // Should it fail, so will the write that counts, with its name.
        let _ = memory.read_vec(self.at, 1).and_then(|same| memory.write(self.at, &same));
    }

    /// The intent that stands behind the stub now, if the stub is there.
    pub fn present_intent(&self, read: impl Fn(RunAddr, usize) -> Option<Vec<u8>>) -> Option<(RunAddr, u64)> {
        let bytes = read(self.at, ROOM).filter(|bytes| bytes.starts_with(&STUB))?;
        bytes.get(INTENT_OFF..).and_then(decode_intent)
    }

    /// The bytes to put there when the place is no longer needed.
    pub fn restored(&self) -> Vec<u8> {
        self.before.clone().unwrap_or_else(|| vec![0; ROOM])
    }

    /// The stub, as code that no thread may be in when it is removed.
    pub fn code(&self) -> CodeRange {
        let end = RunAddr(self.at.0.saturating_add(lpb::addr::to_u64(ROOM)));
        let name = "the injected code".to_owned();
        CodeRange {
            name,
            start: self.at,
            end,
            harmless_to: None,
            tail_called: false,
            may_end_in_call: false,
            pushed: None,
        }
    }
}

/// The stub, and the bytes between it and the intent.
pub fn stub_up_to_intent() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROOM);
    bytes.extend(STUB);
    bytes.resize(INTENT_OFF, 0);
    bytes
}

/// The bytes of an intent; `None` clears it.
pub fn encode_intent(intent: Option<(RunAddr, u64)>) -> [u8; INTENT_LEN] {
    let mut bytes = [0; INTENT_LEN];
    if let Some((at, len)) = intent {
        let words = [u64::from_le_bytes(INTENT_MAGIC), at.0, len];
        bytes.chunks_exact_mut(8).zip(words).for_each(|(b, w)| b.copy_from_slice(&w.to_le_bytes()));
    }
    bytes
}

fn decode_intent(bytes: &[u8]) -> Option<(RunAddr, u64)> {
    let mut words = bytes.chunks_exact(8).filter_map(|c| c.try_into().ok()).map(u64::from_le_bytes);
    let magic = words.next()?.to_le_bytes();
    let at = RunAddr(words.next()?);
    let len = words.next()?;
    let sound = magic == INTENT_MAGIC && at.0.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
    (sound && len != 0 && len <= lpb::life::MAX_LEN).then_some((at, len))
}

/// Looks for a place: the vdso first, then behind the text of the modules.
pub fn find(
    patch: Option<(&Patch<'_>, &[Option<Found>])>,
    maps: &Maps,
    read: impl Fn(RunAddr, usize) -> Option<Vec<u8>>,
) -> Option<StubPlace> {
    let room = lpb::addr::to_u64(ROOM);
    let vdso = maps.iter().find(|m| m.path == "[vdso]" && m.prot & PROT_EXEC != 0 && len(m) <= MAX_VDSO);
    let in_vdso = vdso.and_then(|m| m.end.minus(room)).and_then(|at| place(at, &read, true));
    in_vdso.or_else(|| {
        let (patch, found) = patch?;
        padding(patch, found, maps).into_iter().find_map(|at| place(at, &read, false))
    })
}

fn len(m: &Mapping) -> u64 {
    m.end.since(m.start).unwrap_or(0)
}

/// Judges the bytes at one place; in the vdso they must be zero, else the module's program headers vouch for them.
fn place(at: RunAddr, read: &impl Fn(RunAddr, usize) -> Option<Vec<u8>>, zero: bool) -> Option<StubPlace> {
    let bytes = read(at, ROOM)?;
    if bytes.starts_with(&STUB) {
        return Some(StubPlace { at, before: None, intent: bytes.get(INTENT_OFF..).and_then(decode_intent) });
    }
    (!zero || bytes.iter().all(|b| *b == 0)).then_some(StubPlace { at, before: Some(bytes), intent: None })
}

/// Last bytes of the last page of each executable `PT_LOAD`, where the segment does not reach.
fn padding(patch: &Patch<'_>, found: &[Option<Found>], maps: &Maps) -> Vec<RunAddr> {
    let mut places = Vec::new();
    for (module, f) in patch.modules.iter().zip(found).filter_map(|(module, f)| Some((module, (*f)?))) {
        let segments = module.builds.get(f.build.index()).map(|b| b.segments.as_slice()).unwrap_or_default();
        for s in segments.iter().filter(|s| s.flags & 1 != 0) {
            let Some(end) = s.vaddr.loaded_at(f.bias).plus(s.memsz) else { continue };
            let page_end = RunAddr(end.0.next_multiple_of(PAGE));
            let Some(at) = page_end.minus(lpb::addr::to_u64(ROOM)) else { continue };
            if at >= end && maps.covers(at, page_end, |m| m.prot & PROT_EXEC != 0 && m.inode != 0) {
                places.push(at);
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intents_survive_the_trip() {
        let intent = Some((RunAddr(0x7000), 4096));
        assert_eq!(decode_intent(&encode_intent(intent)), intent);
        assert_eq!(decode_intent(&encode_intent(None)), None);
        assert_eq!(decode_intent(&encode_intent(Some((RunAddr(1), 4096)))), None, "not a page");
    }

    #[test]
    fn only_a_zero_tail_of_the_vdso_will_do() {
        let maps = Maps::parse("7000-9000 r-xp 0 00:00 0 [vdso]\n");
        let tail =
            |fill: Vec<u8>| find(None, &maps, |at, len| (at.0 == 0x9000 - 112 && len == 112).then(|| fill.clone()));
        let old = {
            let mut bytes = vec![0; 112];
            bytes[..STUB.len()].copy_from_slice(&STUB);
            bytes[88..112].copy_from_slice(&encode_intent(Some((RunAddr(0x1000), 8192))));
            bytes
        };
        let at = RunAddr(0x9000 - 112);
        assert_eq!(tail(vec![0; 112]), Some(StubPlace { at, before: Some(vec![0; 112]), intent: None }));
        assert_eq!(tail(old), Some(StubPlace { at, before: None, intent: Some((RunAddr(0x1000), 8192)) }));
        assert_eq!(tail(vec![1; 112]), None);
    }
}
