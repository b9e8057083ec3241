//! The old code of a replaced function computes what it computed before: for hundreds of functions of real -O2 programs.
//!
//! Each is replaced by a jump to its own LP_ORIGINAL, so that every call runs the moved first instructions and then the rest.
//! The target calls it with made-up arguments in a confined child, before and after: results, the memory that the arguments
//! point to, and the signals that bad arguments lead to have to be the same.

use lp_tests::{Kind, Lab, Outcome, Target, lp_apply, lp_compile, needs};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Functions that must have been compared.
const ENOUGH: usize = 500;
/// Functions that are taken of each module, at most.
const OF_EACH: usize = 330;
/// Time of the processor that a call may take, in milliseconds.
const LIMIT: u64 = 50;
/// Argument sets that each is called with.
const SEEDS: u64 = 4;

/// A function as `lp-compile survey` and the target know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    /// As the target finds it: `-` is the program.
    module: String,
    name: String,
    address: u64,
}

#[test]
fn moved_first_instructions_compute_the_same() {
    if !needs("libssl3") || !needs("zlib1g") {
        return;
    }
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    println!("seed {seed}");
    let lab = Lab::new();
    let exe = program(&lab);
    let mut functions = choose(&exe, "-", seed);
    for name in ["libcrypto.so.3", "libz.so.1", "libm.so.6"] {
        functions.extend(choose(&Path::new("/lib/x86_64-linux-gnu").join(name), name, seed));
    }
    // LP_ORIGINAL goes by the name alone.
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    functions.iter().for_each(|f| *names.entry(f.name.clone()).or_default() += 1);
    functions.retain(|f| names[&f.name] == 1);
    let mut target = Target::start(&exe);
    let questions: Vec<_> = functions.into_iter().flat_map(|f| (0..SEEDS).map(move |n| (f.clone(), n))).collect();
    let before = answers(&mut target, &questions, seed, LIMIT);
    let again = answers(&mut target, &questions, seed, LIMIT);
    // Whoever asks the outside world answers differently each time.
    let comparable: Vec<_> =
        questions.into_iter().filter(|q| again[q] == before[q] && before[q] != "timeout").collect();
    let functions: BTreeSet<_> = comparable.iter().map(|(f, _)| f.clone()).collect();
    let functions: Vec<_> = functions.into_iter().collect();
    let bundle = bundle(&lab, &exe, &functions);
    let pid = target.pid().to_string();
    lp_apply([bundle.as_str(), "--pid", &pid]).expect(Outcome::Applied);
    // A busy machine counts some of what others do as time of the function.
    let after = answers(&mut target, &comparable, seed, 20 * LIMIT);
    lp_apply(["revert", &bundle, "--pid", &pid]).expect(Outcome::Reverted);

    let (mut returned, mut wrong) = (0, String::new());
    for question in &comparable {
        let old = &before[question];
        returned += usize::from(old.starts_with("returned"));
        if after[question] != *old {
            let _ = writeln!(wrong, "{question:?}: {old}, but moved: {}", after[question]);
        }
    }
    println!("{} functions compared in {} calls, {returned} of which returned", functions.len(), comparable.len());
    assert!(wrong.is_empty(), "seed {seed}:\n{wrong}");
    assert!(functions.len() >= ENOUGH, "only {} functions could be compared", functions.len());
    assert!(returned > before.len() / 10, "only {returned} of {} calls returned", before.len());
    target.finish();
}

/// The target with a whole Lua inside.
fn program(lab: &Lab) -> std::path::PathBuf {
    let libraries = ["-Wl,--no-as-needed", "-l:libcrypto.so.3", "-l:libz.so.1", "-lm"];
    let flags = [&["-O2", "-DWITH_LUA"][..], &lab.lua(), &libraries].concat();
    lab.exe("differential", Kind::Pie, &["differential.c"], &flags)
}

/// Some of the functions of a file that can be replaced, whose names are plain and unique.
fn choose(file: &Path, module: &str, seed: u64) -> Vec<Function> {
    let survey = lp_compile(["survey", file.to_str().unwrap(), "--json"]);
    survey.expect(0);
    let document = survey.json();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for f in document["functions"].as_array().unwrap() {
        // Versions of one function have one name; the one that a name without version means is marked by "@@".
        let versioned = f["name"].as_str().unwrap();
        let name = versioned.split('@').next().unwrap().to_owned();
        *names.entry(name.clone()).or_default() += 1;
        let meant = versioned == name || versioned.contains("@@");
        let plain =
            meant && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !OWN.contains(&name.as_str());
        // What lies at the address of an IFUNC is its resolver; its implementations are in the list by their own names. A thunk
        // needs to know the arguments of the new function, which has no debug information here.
        let has = |id: &str| f["findings"].as_array().unwrap().iter().any(|finding| finding["id"] == id);
        if f["replaceable"] != "no" && plain && !has("ifunc-target") && !has("register-thunk") {
            let address = u64::from_str_radix(f["address"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
            all.push(Function { module: module.to_owned(), name, address });
        }
    }
    all.retain(|f| names[&f.name] == 1);
    let key =
        |f: &Function| (f.address ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(seed | 1);
    all.sort_by_key(key);
    all.truncate(OF_EACH);
    all
}

/// Functions of the target that work while it answers.
const OWN: [&str; 11] =
    ["main", "try", "call", "visit", "roll", "confine", "on_signal", "hash_scratch", "asked", "ready", "_start"];

/// A bundle that replaces each of them by a jump to its old code.
fn bundle(lab: &Lab, exe: &Path, functions: &[Function]) -> String {
    let mut source = String::new();
    for (number, f) in functions.iter().enumerate() {
        let place = if f.module == "-" { String::new() } else { format!("@{}", f.module) };
        let original = format!("lp_original.{}{}", f.name, place.replace('@', ":"));
        let _ = writeln!(
            source,
            "\t.section \".lp.replace.{name}{place}\",\"ax\",@progbits\n\t.globl new_{number}\n\
             \t.type new_{number}, @function\nnew_{number}:\n\tjmp *\"{original}\"@GOTPCREL(%rip)\n\
             \t.size new_{number}, . - new_{number}\n\t.section .note.GNU-stack,\"\",@progbits",
            name = f.name
        );
    }
    let (source, patch, out) = (lab.write("fix.s", source), lab.path("fix.so"), lab.path("fix.lpb"));
    lp_tests::lab::run(std::process::Command::new("cc").arg("-shared").arg("-o").arg(&patch).arg(source));
    let [exe, patch, out] = [exe, &patch, &out].map(|path| path.to_str().unwrap().to_owned());
    let mut args: Vec<String> = ["build", "--target", &exe, "--patch", &patch, "-o", &out].map(str::to_owned).to_vec();
    // What it says of callers and copies is none of this test's business: old and new do the same.
    let page = lp_compile(["explain"]).stdout;
    let mut id = "";
    for line in page.lines() {
        id = line.strip_prefix("### ").unwrap_or(id);
        if line.starts_with("*warning*") {
            args.extend(["--allow".to_owned(), id.to_owned()]);
        }
    }
    lp_compile(args).expect(0);
    out
}

/// The answers to these questions: a function, and which of the argument sets it is called with.
fn answers(
    target: &mut Target,
    questions: &[(Function, u64)],
    seed: u64,
    milliseconds: u64,
) -> BTreeMap<(Function, u64), String> {
    let mut ask = |(f, n): &(Function, u64)| {
        let set = seed.wrapping_mul(31).wrapping_add(*n);
        target.ask(&format!("{} {:x} {set:x} {milliseconds}", f.module, f.address))
    };
    questions.iter().map(|question| (question.clone(), ask(question))).collect()
}
