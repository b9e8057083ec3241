//! `SPEC.md` against the code: every table of a record, the section kinds, the limits and the worked example.

use crate::{frame, life, limits, wire};

const SPEC: &str = include_str!("../SPEC.md");
const LIMITS: &str = include_str!("limits.rs");

/// The cells of the first table behind the heading that starts with `heading`, without the two rows of its own head.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, behind) = SPEC.split_once(&format!("\n### {heading}")).unwrap_or_else(|| panic!("no heading {heading}"));
    let rows = behind.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn record_tables_are_the_records() {
    for (name, fields) in wire::LAYOUTS.iter().chain(life::LAYOUTS) {
        let size: usize = fields.iter().map(|(_, _, size)| size).sum();
        let want: Vec<_> = fields
            .iter()
            .map(|(field, offset, size)| vec![offset.to_string(), size.to_string(), format!("`{field}`")])
            .collect();
        let rows = table(&format!("`{name}`: {size} bytes\n"));
        let have: Vec<_> = rows.iter().map(|row| row.iter().take(3).map(|s| (*s).to_owned()).collect()).collect();
        let have: &Vec<Vec<String>> = &have;
        assert_eq!(have, &want, "{name}");
    }
}

#[test]
fn no_record_table_is_made_up() {
    let described = SPEC.lines().filter(|line| line.starts_with("### `")).count();
    assert_eq!(described, wire::LAYOUTS.iter().chain(life::LAYOUTS).count());
}

#[test]
fn section_kinds_are_the_known_ones() {
    let want: Vec<_> = frame::KNOWN
        .iter()
        .map(|(kind, size, name)| {
            let flags = if *kind == wire::kind::META { 0 } else { wire::CRITICAL };
            [kind.to_string(), (*name).to_owned(), size.to_string(), flags.to_string()]
        })
        .collect();
    let (_, behind) = SPEC.split_once("\n| kind | section |").unwrap();
    let rows = behind.lines().skip(2).take_while(|line| line.starts_with('|'));
    let have: Vec<[String; 4]> = rows
        .map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
            std::array::from_fn(|_| cells.next().unwrap())
        })
        .collect();
    assert_eq!(have, want);
}

/// The constants of `limits.rs`, each with its value and its name.
macro_rules! limits {
    ($($name:ident)*) => { [$((stringify!($name), u128::try_from(limits::$name).unwrap())),*] };
}

#[test]
fn limits_are_the_constants() {
    let constants = limits! {
        BUNDLE SECTIONS STRING MODULES BUILDS SEGMENTS_PER_BUILD BUILD_ID PROOF AREAS IMAGE_SEGMENTS AREA_BYTES FIXUPS
        CANDIDATES_PER_VALUE REDIRECTS FRAGMENTS_PER_FUNCTION FRAGMENT UNWIND SIGNATURES SIGNATURE PAGE
    };
    assert_eq!(LIMITS.matches("pub const ").count(), constants.len(), "a limit is missing here");
    let have: Vec<_> = table("Limits").iter().map(|row| (row[0].trim_matches('`'), row[1].parse().unwrap())).collect();
    assert_eq!(have, constants);
    // The three limits of life records stand in section 11.
    assert_eq!((life::MAX_LEN, life::MAX_MAPPINGS, life::MAX_CODE), (64 << 20, 8192, 16));
    for text in ["at most 64 MiB", "at most 8192", "at most 16 unless it is data"] {
        assert!(SPEC.contains(text), "{text}");
    }
}

#[test]
fn magic_numbers_are_in_the_text() {
    for magic in [wire::MAGIC, wire::SIGNATURE_MAGIC, life::MAGIC] {
        let text: Vec<_> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(SPEC.contains(&format!("`{}`", text.join(" "))), "{magic:x?}");
    }
}

/// Rows of the dump are `offset  bytes  | what they are`.
#[test]
fn worked_example_is_the_vector() {
    let bytes = include_bytes!("../vectors/data.lpb");
    let (_, dump) = SPEC.split_once("## 12. A worked example").unwrap();
    let mut have = Vec::new();
    for line in dump.lines().filter(|line| line.len() > 6 && line.chars().take(4).all(|c| c.is_ascii_hexdigit())) {
        let (offset, rest) = line.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), have.len(), "{line}");
        let (bytes, _) = rest.split_once('|').unwrap();
        have.extend(bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    assert_eq!(have, bytes);
}
