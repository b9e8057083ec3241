//! What `lp-compile` finds, and what it does not: for each rule of `lp-compile explain` a source that breaks it and a near miss.
//!
//! ```text
//! programs/findings/ID.c          `lp-compile build` finds ID, and says each `//# finds: TEXT` about it
//! programs/findings/ID.near.c     the nearest thing that is all right: a bundle, and no word of ID
//! programs/findings/ID.WORD.c     one more that breaks it;  ID.near.WORD.c  one more near miss
//! ```

use lp_tests::lab::programs;
use lp_tests::lp_compile;
use lp_tests::scenario::Scenario;
use serde_json::Value;
use std::collections::BTreeSet;
use std::panic::catch_unwind;

#[test]
fn every_rule_finds_its_case_and_lets_the_near_miss_pass() {
    let page = lp_compile(["explain"]);
    page.expect(0);
    let rules: BTreeSet<&str> = page.stdout.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert!(rules.len() > 10, "no page of rules: {page}");
    let mut cases: Vec<String> = std::fs::read_dir(programs().join("findings"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".c") || name.ends_with(".cpp"))
        .collect();
    cases.sort();
    let words = |name: &str| -> Vec<String> { name.split('.').map(str::to_owned).collect() };
    let mut wrong = Vec::new();
    for rule in &rules {
        let of_rule = cases.iter().map(|name| words(name)).filter(|words| words[0] == *rule);
        let (near, found): (Vec<_>, Vec<_>) = of_rule.partition(|words| words[1] == "near");
        if found.is_empty() || near.is_empty() {
            wrong.push(format!("{rule} has {} cases and {} near misses", found.len(), near.len()));
        }
    }
    let only = std::env::var("LP_CASE").unwrap_or_default();
    for case in cases.iter().filter(|case| case.starts_with(&only)) {
        let rule = words(case)[0].clone();
        assert!(rules.contains(rule.as_str()), "findings/{case}: `lp-compile explain` knows no {rule}");
        if catch_unwind(|| check(case, &rule)).is_err() {
            wrong.push(format!("findings/{case} (see above)"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(case: &str, rule: &str) {
    let scenario = Scenario::of(&format!("findings/{case}"));
    let built = scenario.build();
    let out = built.lab.path("fix.lpb");
    let build = |more: &[&str]| {
        let mut args = scenario.build_args(&built, &out);
        args.extend(["--json"].iter().chain(more).map(|arg| (*arg).to_owned()));
        lp_compile(args)
    };
    let run = build(&[]);
    let document = run.json();
    let findings = |document: &Value| -> Vec<Value> {
        let lists = [&document["errors"], &document["report"]["findings"]];
        lists.into_iter().filter_map(Value::as_array).flatten().cloned().collect()
    };
    let of_rule = |document: &Value| -> Vec<Value> {
        findings(document).into_iter().filter(|finding| finding["id"] == rule).collect()
    };
    let found = of_rule(&document);
    if case.split('.').nth(1) == Some("near") {
        assert!(found.is_empty(), "{case}: a false alarm: {run}");
        run.expect(0);
        return;
    }
    assert!(!found.is_empty(), "{case}: not found: {run}");
    let text = found.iter().map(Value::to_string).collect::<String>();
    let wanted = scenario.values("finds");
    assert!(!wanted.is_empty(), "{case} has no `finds:` line");
    for words in wanted {
        let words = words.replace('"', "\\\"");
        assert!(text.contains(&words), "{case}: nothing of {words:?} in {text}");
    }
    for finding in &found {
        let has = |key: &str| finding[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(has("message") && has("consequence") && has("hint"), "{case}: says too little: {finding}");
    }
    let accepted = build(&["--allow", rule]);
    match found[0]["severity"].as_str() {
        Some("note") => _ = run.expect(0),
        Some("error") => {
            run.expect(4);
            accepted.expect(2);
        }
        Some("warning") => {
            run.expect(4);
            accepted.expect(0);
            assert!(!of_rule(&accepted.json()).is_empty(), "{case}: the report does not say what was accepted");
            let inspected = lp_compile(["inspect", out.to_str().unwrap()]);
            assert!(inspected.stdout.contains(&format!("[{rule}]")), "{case}: {inspected}");
        }
        other => panic!("{case}: severity {other:?}"),
    }
}
