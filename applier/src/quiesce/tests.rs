#![allow(clippy::arithmetic_side_effects, reason = "small numbers of our own")]

use super::{Busy, Extent, Piece, Scan};
use crate::identify::maps::Maps;
use crate::plan::CodeRange;
use lpb::RunAddr;

const STACKS: &str = "10000-11000 rw-p 0 00:00 0\n20000-21000 rw-p 0 00:00 0\n30000-31000 r--p 0 00:00 0\n";

/// Code at 0x5000 to 0x5100.
fn function() -> CodeRange {
    CodeRange {
        name: "f".into(),
        start: RunAddr(0x5000),
        end: RunAddr(0x5100),
        harmless_to: Some(RunAddr(0x5000)),
        tail_called: false,
        may_end_in_call: false,
        pushed: None,
    }
}

/// Judges with [`function`] as the code, where these words are not 0.
fn scan_words(maps: &str, words: &[(u64, u64)], judge: impl Fn(&mut Scan<'_>) -> Option<Busy>) -> Option<Busy> {
    let code = [function()];
    let read = |at: RunAddr, buf: &mut [u8]| {
        buf.fill(0);
        for (place, word) in words.iter().copied() {
            let Some(off) = place.checked_sub(at.0) else { continue };
            if let Some(part) = buf.get_mut(lpb::addr::to_usize(off)..).and_then(|part| part.get_mut(..8)) {
                part.copy_from_slice(&word.to_le_bytes());
            }
        }
        true
    };
    judge(&mut Scan::new(&code, &Maps::parse(maps), &read, &mut Piece::default()))
}

fn judge(pc: u64, sp: u64, words: &[(u64, u64)]) -> Option<Busy> {
    let range = |name: &str, start, end, harmless_to: Option<u64>| CodeRange {
        name: name.into(),
        start: RunAddr(start),
        end: RunAddr(end),
        harmless_to: harmless_to.map(RunAddr),
        tail_called: false,
        may_end_in_call: true,
        pushed: None,
    };
    let code = [range("f", 0x5000, 0x5100, Some(0x5004)), range("f.cold", 0x4000, 0x4010, None)];
    let read = |at: RunAddr, buf: &mut [u8]| {
        for (place, word) in words.iter().copied() {
            if let Some(part) = buf.get_mut(lpb::addr::to_usize(place - at.0)..) {
                part[..8].copy_from_slice(&word.to_le_bytes());
            }
        }
        true
    };
    Scan::new(&code, &Maps::parse(STACKS), &read, &mut Piece::default()).thread(RunAddr(pc), RunAddr(sp), None)
}

#[test]
fn a_thread_that_is_binding_a_slot() {
    let way = CodeRange {
        name: "b".into(),
        start: RunAddr(0x6000),
        end: RunAddr(0x6010),
        harmless_to: None,
        tail_called: false,
        may_end_in_call: false,
        pushed: Some([0x7f00_1180, 3]),
    };
    let judge = |pc, words: [u64; 4]| {
        let read = |_: RunAddr, buf: &mut [u8]| {
            buf.fill(0);
            buf[..32].copy_from_slice(&words.map(u64::to_le_bytes).concat());
            true
        };
        Scan::new(std::slice::from_ref(&way), &Maps::parse(STACKS), &read, &mut Piece::default()).thread(
            RunAddr(pc),
            RunAddr(0x10f00),
            None,
        )
    };
    let passed = Some(Busy::Passed { function: "b".into(), place: RunAddr(0x10f10) });
    for (why, pc, words, want) in [
        ("elsewhere", 0x9000, [3, 0x7f00_1180, 4, 3], None),
        ("about to push", 0x6000, [0; 4], Some(Busy::Inside { function: "b".into(), pc: RunAddr(0x6000) })),
        ("in the dynamic linker", 0x9000, [1, 0x7f00_1180, 3, 0x5000], passed),
        ("the address of the entry in a variable", 0x9000, [0x6000, 0x6005, 0, 0], None),
    ] {
        assert_eq!(judge(pc, words), want, "{why}");
    }
}

#[test]
fn threads_in_the_way_and_others() {
    let inside = |name: &str, pc| Some(Busy::Inside { function: name.into(), pc: RunAddr(pc) });
    let returns = |name: &str, to, depth| Some(Busy::Returns { function: name.into(), to: RunAddr(to), depth });
    for (why, pc, sp, words, want) in [
        ("elsewhere", 0x9000, 0x10f00, vec![(0x10f80, 0x9999)], None),
        ("at its entry: nothing has run", 0x5000, 0x10f00, vec![], None),
        ("behind its endbr64: nothing has run", 0x5004, 0x10f00, vec![], None),
        ("in it", 0x5005, 0x10f00, vec![], inside("f", 0x5005)),
        ("in its cold part, at the first byte", 0x4000, 0x10f00, vec![], inside("f.cold", 0x4000)),
        ("will return", 0x9000, 0x10f00, vec![(0x10f80, 0x5030)], returns("f", 0x5030, 0x80)),
        ("behind a last call", 0x9000, 0x10f00, vec![(0x10f80, 0x5100)], returns("f", 0x5100, 0x80)),
        ("a pointer to it", 0x9000, 0x10f00, vec![(0x10f80, 0x5000)], None),
        ("sp in read-only memory", 0x9000, 0x30f00, vec![], Some(Busy::Unknown { sp: RunAddr(0x30f00) })),
    ] {
        assert_eq!(judge(pc, sp, &words), want, "{why}");
    }
}

#[test]
fn a_signal_frame_leads_to_the_interrupted_stack() {
    let words: [(u64, u64); 3] = [(0x10f00, 0x20f00), (0x10f18, 0x002b_0000_0000_0033), (0x20f10, 0x5030)];
    let busy = scan_words(STACKS, &words, |scan| scan.thread(RunAddr(1), RunAddr(0x10e00), None));
    let want = Busy::Returns { function: "f".into(), to: RunAddr(0x5030), depth: 0x10 };
    assert_eq!(busy, Some(want));
}

#[test]
fn a_stack_ends_at_the_data_of_its_thread() {
    let code = [function()];
    let maps = Maps::parse("10000-30000000 rw-p 0 00:00 0\n7ffc00000000-7ffc00021000 rw-p 0 00:00 0 [stack]\n");
    // All words are return addresses from here on: a heap, behind the stack.
    let read = |from: u64| {
        move |at: RunAddr, buf: &mut [u8]| {
            for (n, word) in (0..).zip(buf.chunks_exact_mut(8)) {
                let hit = at.0 + 8 * n >= from;
                word.copy_from_slice(&if hit { 0x5030_u64 } else { 0 }.to_le_bytes());
            }
            true
        }
    };
    for (why, sp, from, tls, busy) in [
        ("its own data", 0x18000, 0x20000, Some(0x20000), false),
        ("a frame below", 0x18000, 0x1fff8, Some(0x20000), true),
        ("its data is elsewhere", 0x18000, 0x20000, Some(0x5000_0000), true),
        ("it is above its data: another stack", 0x28000, 0x29000, Some(0x20000), true),
        ("it is not known", 0x18000, 0x20000, None, true),
        ("on the first stack", 0x7ffc_0000_1000, 0x7ffc_0000_3000, Some(0x7ffc_0000_2000), true),
    ] {
        let read = read(from);
        let found =
            Scan::new(&code, &maps, &read, &mut Piece::default()).thread(RunAddr(1), RunAddr(sp), tls.map(RunAddr));
        assert_eq!(found.is_some(), busy, "{why}");
    }
}

#[test]
fn a_return_address_may_be_in_a_register_alone() {
    for (why, word, busy) in
        [("of vfork in f", 0x5030, true), ("a pointer to f", 0x5000, false), ("behind it", 0x5100, false)]
    {
        let found = scan_words("", &[], |scan| scan.registers(&[0, 7, word]));
        assert_eq!(found.is_some(), busy, "{why}");
    }
}

/// In one mapping, upwards: the alternate stack, the stack that the thread was born with and its data, a coroutine.
#[test]
fn a_signal_frame_leads_beyond_the_data_of_the_thread() {
    let maps = "10000-40000 rw-p 0 00:00 0\n";
    let (alternate, tls, coroutine) = (0x10f00, 0x20000, 0x30000);
    let frame = [(alternate + 0x100, coroutine), (alternate + 0x118, 0x002b_0000_0000_0033)];
    let words = [frame.as_slice(), &[(coroutine + 0x80, 0x5030)]].concat();
    let thread = |scan: &mut Scan<'_>| scan.thread(RunAddr(1), RunAddr(alternate), Some(RunAddr(tls)));
    let want = Busy::Returns { function: "f".into(), to: RunAddr(0x5030), depth: 0x80 };
    assert_eq!(scan_words(maps, &words, thread), Some(want));
}

/// The stack of one thread is an array in the frame of another one.
#[test]
fn a_stack_inside_a_stack_ends_before_the_other_does() {
    let maps = Maps::parse("10000-40000 rw-p 0 00:00 0\n");
    let extent = |sp, tls| Extent::of(&maps, RunAddr(sp), Some(RunAddr(tls))).unwrap();
    let (outer, inner, other) = (extent(0x10000, 0x3f000), extent(0x20000, 0x28000), extent(0x30000, 0x3f000));
    for (why, others, end) in [
        ("alone", vec![outer], 0x3f000),
        ("the inner one answers for a part only", vec![outer, inner], 0x3f000),
        ("one that reaches as far answers for the rest", vec![outer, inner, other], 0x30000),
    ] {
        let part = outer.part_below(&others);
        assert_eq!(part, RunAddr(0x10000)..RunAddr(end), "{why}");
    }
}
