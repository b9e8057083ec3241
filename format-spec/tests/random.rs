//! Random patches survive the trip through a file, and random damage to bundles never does more than give an error.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test inputs are our own, and a panic is a failed test"
)]

mod common;

use common::{Pieces, put, seal};
use lpb::*;
use proptest::prelude::*;
use std::borrow::Cow;

/// Random numbers from which a legal patch is made. An empty source gives zeroes, so that shrinking ends at the
/// smallest patch.
struct Dice<'a>(std::slice::Iter<'a, u64>);

impl Dice<'_> {
    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.0.next().map_or(0, |word| word % n)
    }

    fn any(&mut self) -> u64 {
        self.0.next().copied().unwrap_or(0)
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }

    fn small(&mut self, n: u16) -> u16 {
        u16::try_from(self.below(n.into())).unwrap()
    }

    fn bytes(&mut self, len: u64) -> Cow<'static, [u8]> {
        (0..len).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    /// Names come from a short list, so that strings are shared; the empty one and one beyond ASCII are among them.
    fn text(&mut self) -> Cow<'static, str> {
        let list = ["f", "", "puts@GLIBC_2.2.5", "größer", "libc.so.6", "f.cold"];
        list[usize::from(self.small(6))].into()
    }

    fn list<T>(&mut self, least: u64, most: u64, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let n = least + self.below(most - least + 1);
        (0..n).map(|_| item(self)).collect()
    }
}

const TEXT: u64 = 0x1000;
const DATA: u64 = 0x3000;

/// Three PT_LOADs: headers, text, data with .bss.
fn build(dice: &mut Dice<'_>) -> Build<'static> {
    let load =
        |vaddr, filesz, memsz, flags| Segment { vaddr: LinkAddr(vaddr), offset: FileOff(vaddr), filesz, memsz, flags };
    let build_id_len = dice.below(21);
    let build_id = dice.bytes(build_id_len);
    let proof_len = if build_id.is_empty() { 64 } else { dice.below(3) };
    Build {
        e_type: if dice.yes() { ElfType::Exec } else { ElfType::Dyn },
        build_id_addr: LinkAddr(if build_id.is_empty() { 0 } else { 0x200 + dice.below(0x100) }),
        build_id,
        segments: vec![load(0, 0x400, 0x400, 4), load(TEXT, 0x800, 0x800, 5), load(DATA, 0x100, 0x900, 6)],
        proof: dice.bytes(proof_len),
        proof_addr: LinkAddr(0),
    }
}

/// Five pages: R-X, a gap, two of RW, R.
fn area(dice: &mut Dice<'_>, near: Option<ModuleId>) -> Area<'static> {
    let mut page = |off, size, prot| {
        let len = dice.below(40);
        ImageSegment { off: AreaOff(off), size, prot, data: dice.bytes(len) }
    };
    let segments =
        vec![page(0, 0x1000, Prot::ReadExec), page(0x2000, 0x2000, Prot::ReadWrite), page(0x4000, 0x1000, Prot::Read)];
    Area { near, size: 0x5000, segments }
}

/// Every module has three builds at most; there is an area for each, near it if the module must be there.
fn candidate(dice: &mut Dice<'_>, modules: &[Module<'_>]) -> Candidate {
    let module = dice.small(u16::try_from(modules.len()).unwrap());
    let builds = u16::try_from(modules[usize::from(module)].builds.len()).unwrap();
    let value = match dice.below(4) {
        0 => Value::Abs(dice.any()),
        1 => Value::Patch { area: AreaId(module), off: AreaOff(dice.below(0x5001)) },
        2 => Value::Module { module: ModuleId(module), addr: LinkAddr(dice.any()) },
        _ => Value::Witness { module: ModuleId(module), slot: LinkAddr(dice.any()), unbound: dice.any() },
    };
    let guard = dice.yes().then(|| (ModuleId(module), BuildIdx(dice.small(builds))));
    Candidate { guard, closed: dice.yes(), value, delta: dice.any().cast_signed() }
}

/// A slot that shows which implementation was chosen.
fn chosen(dice: &mut Dice<'_>, module: u16) -> Candidate {
    let value = Value::Witness { module: ModuleId(module), slot: LinkAddr(dice.any()), unbound: dice.any() };
    Candidate { delta: dice.any().cast_signed(), ..Candidate::of(value) }
}

fn values(dice: &mut Dice<'_>, modules: &[Module<'_>]) -> Vec<Candidate> {
    dice.list(1, 3, |dice| candidate(dice, modules))
}

/// The `n`-th redirect of its patch; no two touch the same bytes.
fn redirect(dice: &mut Dice<'_>, modules: &[Module<'_>], n: u64) -> Redirect<'static> {
    let module = dice.small(u16::try_from(modules.iter().filter(|m| !m.optional).count()).unwrap());
    let builds = &modules[usize::from(module)].builds;
    let code = |dice: &mut Dice<'_>| dice.yes().then(|| AreaOff(dice.below(0x1000)));
    let change = match dice.below(3) {
        0 => Change::Data(Data { addr: LinkAddr(DATA + 16 * n), expected: dice.bytes(7), new: dice.bytes(7) }),
        1 => Change::Slot(Slot {
            slot: LinkAddr(DATA + 16 * n + 8),
            expected: values(dice, modules).into_iter().map(|c| Candidate { closed: false, ..c }).collect(),
            new: values(dice, modules),
        }),
        _ => {
            let function = TEXT + 32 * n;
            let first = Fragment { name: dice.text(), addr: LinkAddr(function), size: 9, bytes: dice.bytes(9) };
            let cold = Fragment { name: dice.text(), addr: LinkAddr(TEXT), size: 4, bytes: Cow::Borrowed(&[]) };
            let original = code(dice);
            Change::Jump(Jump {
                function: LinkAddr(function),
                site: LinkAddr(function + dice.below(2) * 4),
                expected: dice.bytes(5),
                fragments: if dice.yes() { vec![first, cold] } else { vec![first] },
                new: values(dice, modules),
                island: AreaId(module),
                original,
                gate: original.and_then(|_| code(dice)),
                far: code(dice),
                chosen: dice.list(0, 2, |dice| chosen(dice, module)),
            })
        }
    };
    Redirect {
        module: ModuleId(module),
        build: BuildIdx(dice.small(u16::try_from(builds.len()).unwrap())),
        name: dice.text(),
        consistency: if dice.yes() { Consistency::Immediate } else { Consistency::Quiescent },
        change,
    }
}

/// Functions that change together need a gate thunk each.
fn gated(r: &mut Redirect<'_>) {
    if let Change::Jump(j) = &mut r.change {
        j.original = j.original.or(Some(AreaOff(7)));
        j.gate = j.gate.or(Some(AreaOff(9)));
    }
}

fn fixup(dice: &mut Dice<'_>, modules: &[Module<'_>], area: u16, place: u64) -> Fixup<'static> {
    Fixup {
        area: AreaId(area),
        place: AreaOff(place),
        form: if dice.yes() { Form::Rel32 } else { Form::Abs64 },
        name: dice.text(),
        candidates: values(dice, modules),
    }
}

/// A legal patch.
fn patch(words: &[u64]) -> Patch<'static> {
    let dice = &mut Dice(words.iter());
    let module = |dice: &mut Dice<'_>, optional| Module { name: dice.text(), optional, builds: dice.list(1, 3, build) };
    let mut modules = dice.list(1, 3, |dice| module(dice, false));
    modules.extend(dice.list(0, 2, |dice| module(dice, true)));
    let ids = 0..u16::try_from(modules.len()).unwrap();
    let areas: Vec<_> = ids
        .clone()
        .map(|m| {
            let near = (!modules[usize::from(m)].optional).then_some(ModuleId(m));
            area(dice, near)
        })
        .collect();
    let places = dice.below(5);
    let places = ids.flat_map(|area| (0..places).map(move |n| (area, 0x2000 + n * 9)));
    let places: Vec<_> = places.filter(|_| dice.yes()).collect();
    let mut fixups: Vec<_> = places.into_iter().map(|(area, place)| fixup(dice, &modules, area, place)).collect();
    let count = 1 + dice.below(5);
    let mut redirects: Vec<_> = (0..count).map(|n| redirect(dice, &modules, n)).collect();
    let jumps = || redirects.iter().filter(|r| matches!(r.change, Change::Jump(_)));
    if jumps().count() > 1 {
        redirects.iter_mut().for_each(gated);
    }
    let old_code = |r: &Redirect<'_>| matches!(&r.change, Change::Jump(j) if j.original.is_some());
    if let (Some(redirect), Some(fixup)) = (redirects.iter().position(old_code), fixups.first_mut()) {
        fixup.candidates.push(Candidate::of(Value::Original { redirect: u32::try_from(redirect).unwrap() }));
    }
    let unwind = dice.list(0, 2, |dice| Unwind {
        area: AreaId(0),
        eh_frame: AreaOff(0x4000),
        eh_frame_len: 1 + dice.below(0x1000),
        provider: dice.yes().then_some(ModuleId(0)),
        enter: AreaOff(dice.below(0x1000)),
        leave: AreaOff(dice.below(0x1000)),
        done: AreaOff(0x2000 + 4 * dice.below(64)),
    });
    let meta = if dice.yes() { "{\"größe\":1}" } else { "" };
    Patch {
        name: "p".into(),
        replace: dice.yes(),
        gate: Some((AreaId(0), AreaOff(0x2000 + 4 * dice.below(64)))),
        modules,
        areas,
        fixups,
        redirects,
        unwind,
        meta: meta.into(),
    }
}

fn patches() -> impl Strategy<Value = Patch<'static>> {
    prop::collection::vec(any::<u64>(), 0..600).prop_map(|words| patch(&words))
}

/// The good vectors, and random bundles beside them.
fn bundles() -> impl Strategy<Value = Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let good = ["ancillary", "builds", "data", "fixups", "gate", "jump", "signed", "slot"];
    let good: Vec<_> = good.map(|name| std::fs::read(folder.join(name).with_extension("lpb")).unwrap()).into();
    prop_oneof![prop::sample::select(good), patches().prop_map(|p| write(&p).unwrap())]
}

/// Bytes that go wrong in ways that matter: limits, neighbours, single bits.
fn damage() -> impl Strategy<Value = (prop::sample::Index, Vec<u8>)> {
    let number = prop_oneof![
        prop::sample::select(vec![0, 1, 7, 8, 0x0fff, 0x1000, 0x7fff_ffff, 0xffff_ffff, u64::MAX - 7, u64::MAX]),
        any::<u64>(),
    ];
    let bytes = (number, prop::sample::select(vec![1_usize, 2, 4, 8]));
    (any::<prop::sample::Index>(), bytes.prop_map(|(n, width)| n.to_le_bytes()[..width].to_vec()))
}

/// Whatever is accepted must be the one encoding of what it says.
fn must_be_canonical(bytes: &[u8]) {
    let Ok(bundle) = read(bytes) else { return };
    let known = |kind: u32| (1..=14).contains(&kind) || kind == 0x100;
    let mut pieces = Pieces::of(bytes);
    pieces.sections.retain(|s| known(s.kind));
    pieces.behind.clear();
    assert!(write(&bundle.patch).unwrap() == pieces.join(), "an accepted bundle has a second encoding");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_patch_survives_the_trip(patch in patches()) {
        let bytes = write(&patch).unwrap();
        let bundle = read(&bytes).unwrap();
        prop_assert_eq!(&bundle.patch, &patch);
        prop_assert_eq!(write(&bundle.patch).unwrap(), bytes.clone());
        let json = serde_json::to_string(&patch).unwrap();
        prop_assert_eq!(serde_json::from_str::<Patch<'static>>(&json).unwrap(), patch);
        prop_assert_eq!(&bytes[common::DIGEST], bundle.digest.0.as_slice());
    }

    #[test]
    fn damage_is_an_error_or_another_legal_patch(
        mut bytes in bundles(),
        damages in prop::collection::vec(damage(), 1..5),
    ) {
        for (at, new) in damages {
            let at = at.index(bytes.len() - new.len());
            put(&mut bytes, at, &new);
        }
        seal(&mut bytes);
        must_be_canonical(&bytes);
    }

    #[test]
    fn damage_inside_one_section_is_an_error_or_another_legal_patch(
        bytes in bundles(),
        section in any::<prop::sample::Index>(),
        (at, new) in damage(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut pieces = Pieces::of(&bytes);
        let section = section.index(pieces.sections.len());
        let body = &mut pieces.sections[section].body;
        let at = at.index(body.len());
        let n = new.len().min(body.len() - at);
        put(body, at, &new[..n]);
        if let Some(cut) = cut {
            let cut = cut.index(body.len());
            body.truncate(cut);
        }
        must_be_canonical(&pieces.join());
    }

    #[test]
    fn a_cut_bundle_is_never_accepted(bytes in bundles(), cut in any::<prop::sample::Index>()) {
        let signed = usize::try_from(common::u64_at(&bytes, 16)).unwrap();
        prop_assert!(read(&bytes[..cut.index(signed)]).is_err());
    }

    #[test]
    fn noise_is_refused(mut noise in prop::collection::vec(any::<u8>(), 0..512), magic in any::<bool>()) {
        if magic {
            noise.splice(0..0, *b"\x89LPB\r\n\x1a\n\x01\0\x3e\0");
        }
        prop_assert!(read(&noise).is_err());
    }
}
