//! Tests that need a Debian package that is not installed report themselves skipped, by name.
//!
//! The list of packages is `tests/packages`; `tests/run` installs from it, sets `LP_SKIPPED` to a file that collects
//! the names of skipped tests, and prints it at the end. With `LP_NO_SKIP=1` a missing package is a failure.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

const PACKAGES: &str = include_str!("../packages");

/// Whether all of `package` is installed; if not, the calling test is to return, and has been noted as skipped.
///
/// # Panics
/// If it is missing and `LP_NO_SKIP` is set; if `tests/packages` does not list it.
#[track_caller]
pub fn needs(package: &str) -> bool {
    let proofs: Vec<&str> = rows().filter(|(name, _)| *name == package).map(|(_, proof)| proof).collect();
    assert!(!proofs.is_empty(), "{package} is not in tests/packages");
    let missing: Vec<&str> = proofs.into_iter().filter(|proof| !is_there(proof)).collect();
    missing.is_empty() || skip(&format!("Debian package {package} ({} is missing)", missing.join(", ")))
}

/// Notes the calling test as skipped because of `reason`; always `false`.
///
/// # Panics
/// If `LP_NO_SKIP` is set.
#[track_caller]
pub fn skip(reason: &str) -> bool {
    let thread = std::thread::current();
    let place = std::panic::Location::caller().to_string();
    let test = thread.name().filter(|name| *name != "main").unwrap_or(&place);
    assert!(std::env::var_os("LP_NO_SKIP").is_none_or(|v| v == "0"), "{test} needs: {reason}");
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(list) = std::env::var_os("LP_SKIPPED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list).expect("the file that LP_SKIPPED names");
        list.write_all(format!("{test}: {reason}\n").as_bytes()).expect("the file that LP_SKIPPED names");
    }
    false
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    PACKAGES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (package, proof) = line.split_once(' ')?;
        Some((package, proof.trim()))
    })
}

/// `proof`: the name of a program, or the path of a file.
fn is_there(proof: &str) -> bool {
    if proof.starts_with('/') {
        return Path::new(proof).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(proof).exists())
}
