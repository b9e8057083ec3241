//! B. Resolve: every symbol of the patch is what the target itself would use.

use lp_tests::scenario::Scenario;
use lp_tests::{Kind, Lab, lp_compile, workspace};
use serde_json::Value;
use std::process::Command;

#[test]
fn b1_imports_that_the_target_does_not_have() {
    Scenario::of("b1_imports.c").run();
    Scenario::of("b1_imports.c").kind(Kind::NonPie).run();
}

/// B2, also where the executable has canonical PLT entries (not PIE) and where it has none (`-fno-plt`).
#[test]
fn b2_pointer_identity() {
    for flag in ["-O0", "-O2", "-fno-plt"] {
        Scenario::of("b2_identity.c").flag(flag).run();
        Scenario::of("b2_identity.c").kind(Kind::NonPie).flag(flag).run();
    }
}

#[test]
fn b5_versioned_names() {
    Scenario::of("b5_versions.c").run();
}

/// B6: the executable has copies, except with `-fPIC`, where libc's own are used.
#[test]
fn b6_copy_relocations() {
    Scenario::of("b6_copy.c").run();
    Scenario::of("b6_copy.c").flag("-fPIC").run();
    Scenario::of("b6_copy.c").kind(Kind::NonPie).run();
}

#[test]
fn b9_data_of_the_patch() {
    Scenario::of("b9_own_data.c").run();
    Scenario::of("b9_own_data.c").kind(Kind::NonPie).run();
}

/// Variables that patch and target both define: the target's, or a fresh copy, as the author of the patch says.
#[test]
fn b9_data_of_both() {
    Scenario::of("b9_bound_data.c").run();
    Scenario::of("b9_bound_data.c").kind(Kind::NonPie).run();
}

/// What the whole thing is about: each import of the classic patch, with module, version, offset and slot, for all to see.
#[test]
fn imports_are_visible_in_inspect() {
    let lab = Lab::new();
    let dir = workspace().join("samples/testlive");
    let [exe, patch, bundle] = ["testlive", "libfoo.so", "foo.lpb"].map(|name| lab.path(name));
    lp_tests::lab::run(Command::new("cc").arg(dir.join("testlive.c")).arg("-o").arg(&exe));
    lp_tests::lab::run(
        Command::new("cc").args(["-shared", "-fPIC", "-O2"]).arg(dir.join("libfoo.c")).arg("-o").arg(&patch),
    );
    let [exe, patch, bundle] = [&exe, &patch, &bundle].map(|path| path.to_str().unwrap());
    lp_compile(["build", "--target", exe, "--patch", patch, "--replace", "func_J=func1", "-o", bundle]).expect(0);

    let page = lp_compile(["inspect", bundle]);
    let page = &page.expect(0).stdout;
    for word in ["func_J", "libc.so.6", "puts@GLIBC_2.2.5", "sleep@GLIBC_2.2.5"] {
        assert!(page.contains(word), "no {word} in\n{page}");
    }
    let document = lp_compile(["inspect", bundle, "--json"]).expect(0).json();
    for import in ["puts@GLIBC_2.2.5", "sleep@GLIBC_2.2.5"] {
        let fixup = find(&document, &|v| v["name"] == import).unwrap_or_else(|| panic!("no {import} in {document:#}"));
        let candidates = fixup["candidates"].as_array().unwrap();
        // The target calls both itself, so its own slot is looked at first; the offset in libc is the last resort.
        assert!(candidates[0]["value"]["Witness"]["slot"].is_number(), "{fixup:#}");
        assert!(candidates.last().unwrap()["value"]["Module"]["addr"].is_number(), "{fixup:#}");
    }
    for weak in ["__gmon_start__", "_ITM_registerTMCloneTable", "_ITM_deregisterTMCloneTable"] {
        let fixup = find(&document, &|v| v["name"].as_str().is_some_and(|n| n.starts_with(weak)));
        let fixup = fixup.unwrap_or_else(|| panic!("no {weak} in {document:#}"));
        assert_eq!(fixup["candidates"][0]["value"]["Abs"], 0, "{fixup:#}");
    }
}

/// The first object of the document for which `wanted` holds.
fn find<'a>(value: &'a Value, wanted: &dyn Fn(&Value) -> bool) -> Option<&'a Value> {
    match value {
        Value::Object(map) if map.contains_key("candidates") && wanted(value) => Some(value),
        Value::Object(map) => map.values().find_map(|v| find(v, wanted)),
        Value::Array(list) => list.iter().find_map(|v| find(v, wanted)),
        _ => None,
    }
}
