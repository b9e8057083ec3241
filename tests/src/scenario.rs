//! Runs a C source by what its `//#` lines say.
//!
//! ```text
//! //# flags: -O2 -pthread            flags of the target (and of its library)
//! //# patch-flags: -fno-builtin      flags of the patch
//! //# also: other.c                  one more source of the target
//! //# option: --replace answer=new   an option of `lp-compile build`; {lab} is the test's directory
//! //# apply-option: --wait 1s        an option of `lp-apply`
//! //# ask: 3 => 5 | 32               the line `3` is answered by `5` without the patch and by `32` with it
//! //# refused: TEXT                  `lp-compile build` refuses the patch, and says TEXT and a hint
//! //# finds: TEXT                    about the finding that the source is for (see `tests/findings.rs`)
//! ```
//! One source holds all parts: the patch under `#ifdef PATCH`, a library of the target under `#ifdef LIBRARY` (if the
//! source mentions it, `lib<stem>.so` is built and linked), the rest is the executable.
//!
//! Every scenario without `refused:` checks: answers before; a dry run changes nothing; `applied`; answers after; no
//! W+X mapping; `list` shows one active patch; `reverted`; answers as before; memory as before; the target ends well.

use crate::lab::programs;
use crate::{Kind, Lab, Outcome, Target, lp_apply, lp_compile};
use std::path::{Path, PathBuf};

/// A source and how to build it.
#[derive(Debug)]
pub struct Scenario {
    source: String,
    text: String,
    stem: String,
    kind: Kind,
    flags: Vec<String>,
    options: Vec<String>,
    apply_options: Vec<String>,
    asks: Vec<Ask>,
    /// The part under `#ifdef LIBRARY` becomes a library, the rest is linked to it.
    has_library: bool,
}

#[derive(Debug)]
struct Ask {
    question: String,
    before: String,
    after: String,
}

/// What [`Scenario::build`] made.
#[derive(Debug)]
pub struct Built {
    /// Where everything is.
    pub lab: Lab,
    /// The target's executable.
    pub exe: PathBuf,
    /// The patch.
    pub patch: PathBuf,
}

impl Scenario {
    /// The scenario in `tests/programs/<source>`, as a PIE.
    #[track_caller]
    pub fn of(source: &str) -> Self {
        let text = std::fs::read_to_string(programs().join(source)).unwrap_or_else(|e| panic!("{source}: {e}"));
        let words = |key: &str| values(&text, key).flat_map(str::split_whitespace).map(str::to_owned).collect();
        Self {
            stem: stem(source),
            source: source.to_owned(),
            kind: Kind::Pie,
            flags: words("flags"),
            options: words("option"),
            apply_options: words("apply-option"),
            asks: values(&text, "ask").map(ask).collect(),
            has_library: text.contains("LIBRARY"),
            text,
        }
    }

    /// What the source's lines say about `key`.
    pub fn values(&self, key: &str) -> Vec<String> {
        values(&self.text, key).map(str::to_owned).collect()
    }

    /// Linked in this way.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// With one more flag for the target.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// With one more option for `lp-compile build`.
    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.options.extend(option.split_whitespace().map(str::to_owned));
        self
    }

    /// With one more option for `lp-apply`.
    #[must_use]
    pub fn apply_option(mut self, option: &str) -> Self {
        self.apply_options.extend(option.split_whitespace().map(str::to_owned));
        self
    }

    /// All in the executable although the source has a part for a library.
    #[must_use]
    pub fn without_library(mut self) -> Self {
        self.has_library = false;
        self
    }

    /// Builds target and patch.
    #[track_caller]
    pub fn build(&self) -> Built {
        let lab = Lab::new();
        let mut sources = vec![self.source.as_str()];
        sources.extend(values(&self.text, "also"));
        let mut flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let link = format!("-l{}", self.stem);
        if self.has_library {
            lab.shared_library(&format!("lib{}.so", self.stem), &sources, &flags);
            sources.truncate(1);
            flags.extend(["-DMAIN", "-L{lab}", "-Wl,-rpath,{lab}", &link]);
        }
        let exe = lab.exe(&self.stem, self.kind, &sources, &flags);
        let patch_flags: Vec<&str> = values(&self.text, "patch-flags").flat_map(str::split_whitespace).collect();
        let patch = lab.patch(&self.source, &patch_flags);
        Built { lab, exe, patch }
    }

    /// Builds target, patch and bundle; returns the bundle's path too.
    #[track_caller]
    pub fn bundle(&self) -> (Built, PathBuf) {
        let built = self.build();
        let out = built.lab.path("fix.lpb");
        lp_compile(self.build_args(&built, &out)).expect(0);
        (built, out)
    }

    /// Arguments of `lp-compile`. The options may name the target: then that one counts.
    pub fn build_args(&self, built: &Built, out: &Path) -> Vec<String> {
        let lab = built.lab.path("");
        let options = self.options.iter().map(|o| o.replace("{lab}/", lab.to_str().unwrap()));
        let [exe, patch, out] = [&built.exe, &built.patch, out].map(|path| path.to_str().unwrap().to_owned());
        let mut args: Vec<String> = ["build", "--patch", &patch, "-o", &out].map(str::to_owned).to_vec();
        args.extend(options);
        if !args.iter().any(|arg| arg == "--target") {
            args.extend(["--target".to_owned(), exe]);
        }
        args
    }

    /// Checks that the patch is refused when it is built, with what the source's `refused:` lines say.
    #[track_caller]
    pub fn run_refused(&self) {
        let built = self.build();
        let out = built.lab.path("fix.lpb");
        let run = lp_compile(self.build_args(&built, &out));
        run.expect(4);
        assert!(values(&self.text, "refused").count() > 0, "{} has no refused: line", self.source);
        values(&self.text, "refused").for_each(|words| _ = run.says(words));
        assert!(!out.exists(), "a refused patch left a bundle");
    }

    /// Checks that the patch changes the answers as the source's `ask:` lines say, and that reverting undoes it.
    #[track_caller]
    pub fn run(&self) {
        let (built, bundle) = self.bundle();
        let mut target = Target::start(&built.exe);
        self.check(&mut target, &bundle);
        target.finish();
    }

    /// As [`Scenario::run`], on a target that has been started already.
    #[track_caller]
    pub fn check(&self, target: &mut Target, bundle: &Path) {
        assert!(!self.asks.is_empty(), "{} has no ask: line", self.source);
        let pid = target.pid().to_string();
        let bundle = bundle.to_str().unwrap();
        let before = |target: &mut Target, when: &str| {
            self.asks
                .iter()
                .for_each(|ask| assert_eq!(target.ask(&ask.question), ask.before, "{} {when}", ask.question));
        };
        before(target, "before");
        let original = target.snapshot();

        let mut args = vec![bundle, "--pid", &pid];
        args.extend(self.apply_options.iter().map(String::as_str));
        lp_apply(args.iter().chain(&["--dry-run"])).run.expect(0);
        original.assert_same(&target.snapshot());

        lp_apply(&args).expect(Outcome::Applied);
        for ask in &self.asks {
            assert_eq!(target.ask(&ask.question), ask.after, "{} with the patch", ask.question);
        }
        target.snapshot().assert_w_xor_x();
        let states: Vec<_> = lp_apply(["list", "--pid", &pid]).patches().into_iter().map(|(_, state)| state).collect();
        assert_eq!(states, ["active"]);

        lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
        before(target, "after the revert");
        original.assert_same(&target.snapshot());
    }
}

fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("//# ")?.split_once(':'));
    lines.filter(move |(k, _)| *k == key).map(|(_, value)| value.trim())
}

/// The source's name without its directory and ending.
fn stem(source: &str) -> String {
    let name = source.rsplit('/').next().unwrap_or(source);
    name.trim_end_matches(".cpp").trim_end_matches(".c").to_owned()
}

/// `question => before | after`
fn ask(line: &str) -> Ask {
    let parts = line.split_once("=>").and_then(|(q, answers)| Some((q, answers.split_once('|')?)));
    let (question, (before, after)) = parts.unwrap_or_else(|| panic!("`ask: {line}` is not Q => BEFORE | AFTER"));
    Ask { question: question.trim().into(), before: before.trim().into(), after: after.trim().into() }
}
