//! `lp-compile survey` over every function of real programs: each gets its verdict, and those known to be special theirs.

use lp_tests::{Lab, lp_compile, needs};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Surveys one file; says what it found, checks that it adds up, returns the functions.
fn survey(file: &Path) -> Vec<Value> {
    let name = file.to_str().unwrap();
    let page = lp_compile(["survey", name]);
    page.expect(0);
    println!("{}", page.stdout);
    let run = lp_compile(["survey", name, "--json"]);
    run.expect(0);
    let document = run.json();
    let functions = document["functions"].as_array().unwrap().clone();
    let count = |word: &str| functions.iter().filter(|f| f["replaceable"] == word).count();
    for word in ["yes", "if-allowed", "no"] {
        assert_eq!(document["counts"][word], count(word), "{name}: {word}");
    }
    assert_eq!(document["counts"]["functions"], functions.len());
    assert_eq!(count("yes") + count("if-allowed") + count("no"), functions.len(), "{name}");
    let addresses: BTreeSet<&str> = functions.iter().map(|f| f["address"].as_str().unwrap()).collect();
    assert_eq!(addresses.len(), functions.len(), "{name}: an address twice");
    // A reason for each that is not simply replaceable, and none that stands against one that is.
    for f in &functions {
        let against = |finding: &Value| finding["severity"] != "note";
        let reasons = f["findings"].as_array().unwrap().iter().any(against);
        assert_eq!(reasons, f["replaceable"] != "yes", "{name}: {f}");
    }
    let most = functions.len() / 2;
    assert!(count("no") < most, "{name}: {} of {} cannot be replaced", count("no"), functions.len());
    functions
}

/// Whether a function has this finding.
fn has(functions: &[Value], name: &str, id: &str) -> bool {
    let found = functions.iter().find(|f| f["name"].as_str().unwrap().split('@').next() == Some(name));
    let found = found.unwrap_or_else(|| panic!("no {name}"));
    found["findings"].as_array().unwrap().iter().any(|finding| finding["id"] == id)
}

#[test]
fn libc_and_libz() {
    let libraries = Path::new("/lib/x86_64-linux-gnu");
    let functions = survey(&libraries.join("libc.so.6"));
    assert!(functions.len() > 2000);
    // Assembly that branches back into its first bytes.
    assert!(has(&functions, "sem_trywait", "entered"));
    assert!(has(&functions, "strlen", "ifunc-target"));
    assert!(!has(&functions, "strlen", "ifunc-shared") && has(&functions, "memmove", "ifunc-partial"));
    assert!(!has(&functions, "qsort", "entered"));
    if needs("zlib1g") {
        assert!(survey(&libraries.join("libz.so.1")).len() > 80);
    }
}

#[test]
fn redis() {
    if needs("redis-server") {
        assert!(survey(Path::new("/usr/bin/redis-server")).len() > 1000);
    }
}

#[test]
fn nginx() {
    if needs("nginx-light") {
        assert!(survey(Path::new("/usr/sbin/nginx")).len() > 300);
    }
}

/// All of Lua and nothing else, with debug information: everything is looked at.
#[test]
fn lua() {
    let lab = Lab::new();
    let [folder, library, math] = lab.lua();
    let flags = [folder, "-Wl,--whole-archive", library, "-Wl,--no-whole-archive", math];
    let functions = survey(&lab.shared_library("liblua5.4.so", &[], &flags));
    assert!(functions.len() > 500, "{}", functions.len());
    assert!(functions.iter().all(|f| f["replaceable"] != "no"));
    assert!(has(&functions, "luaG_runerror", "never-returns") && has(&functions, "luaC_newobjdt", "inlined"));
    assert!(!has(&functions, "lua_newstate", "no-debug-info"));
}
