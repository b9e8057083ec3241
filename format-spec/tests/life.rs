//! The life record against its golden vector, and random damage to it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test inputs are our own, and a panic is a failed test"
)]

mod common;

use common::put;
use lpb::life::{Life, LifeError, Mapping, Site, SiteKind, State, UnwindCode, peek};
use lpb::{Digest, RunAddr};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

const AT: RunAddr = RunAddr(0x7fff_0000_0000);

/// What `vectors/record.life` says.
fn sample() -> Life {
    let site = |at, kind, name: &str, old: &[u8], new: &[u8], gated: &[u8]| Site {
        at: RunAddr(at),
        kind,
        name: name.into(),
        old: old.into(),
        new: new.into(),
        gated: gated.into(),
    };
    let (start, next) = (RunAddr(0x5554_0000_0000), RunAddr(0x5554_0000_1000));
    Life {
        at: AT,
        len: 4096,
        state: State::Inactive,
        progress: 1,
        digest: Digest([0xd1; 32]),
        name: "größer".into(),
        gate: Some(RunAddr(0x5554_0000_1004)),
        mappings: vec![Mapping { start, len: 0x1000, prot: 5 }, Mapping { start: next, len: 0x2000, prot: 3 }],
        sites: vec![
            site(0x5555_5555_5139, SiteKind::Jump, "f", &[1; 5], &[2; 5], &[3; 5]),
            site(0x5555_5555_9000, SiteKind::Slot, "", &[4; 8], &[5; 8], &[]),
            site(0x5555_5555_9010, SiteKind::Data, "v", &[6], &[7], &[]),
        ],
        unwind: vec![UnwindCode {
            enter: RunAddr(0x5554_0000_0100),
            leave: RunAddr(0x5554_0000_0180),
            done: RunAddr(0x5554_0000_1040),
            provider: Some((RunAddr(0x7ffe_0000_0000), 0x12000)),
        }],
    }
}

#[test]
fn the_vector_agrees_in_both_directions() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/record.life");
    let bytes = sample().encode().unwrap();
    // As for the bundles: see tests/vectors.rs.
    if std::env::var_os("LPB_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&file, &bytes).unwrap();
    }
    let golden = std::fs::read(&file).unwrap();
    assert!(golden == bytes, "encode writes something else than vectors/record.life");
    assert_eq!(peek(&golden, AT, 4096), Some(Ok(4096)));
    assert_eq!(Life::decode(&golden, AT).unwrap(), sample());
}

/// The checksum of the record, as `SPEC.md` has it.
fn seal(bytes: &mut [u8]) {
    let used = usize::try_from(common::u64_at(bytes, 96)).unwrap_or(usize::MAX).min(bytes.len());
    let mut blank = bytes.to_vec();
    blank[12..16].fill(0);
    blank[64..96].fill(0);
    put(bytes, 64, &Sha256::digest(&blank[..used]));
}

#[test]
fn a_record_of_too_many_sites() {
    let site = sample().sites[2].clone();
    for (sites, sound) in [(65_536, true), (65_537, false)] {
        let mut life = Life { sites: vec![site.clone(); sites], ..sample() };
        assert_eq!(life.encode().is_ok(), sound, "{sites} sites");
    }
    let mut bytes = sample().encode().unwrap();
    put(&mut bytes, 108, &65_537_u32.to_le_bytes());
    seal(&mut bytes);
    assert_eq!(Life::decode(&bytes, AT), Err(LifeError::Field("too many sites")));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_an_error_or_another_sound_record(
        damages in prop::collection::vec((0_usize..400, prop::sample::select(vec![0, 1, 2, 5, 17, 127, 255_u8])), 1..4),
        sealed in prop::bool::weighted(0.9),
    ) {
        let mut bytes = sample().encode().unwrap();
        for (at, new) in damages {
            bytes[at] = new;
        }
        if sealed {
            seal(&mut bytes);
        }
        if let Ok(mut life) = Life::decode(&bytes, AT) {
            prop_assert!(life.encode().is_ok(), "what can be read can be written: {:?}", life);
        }
    }

    #[test]
    fn a_short_read_is_an_error(len in 0_usize..4096) {
        prop_assert!(Life::decode(&sample().encode().unwrap()[..len], AT).is_err());
    }
}
