//! `lp-compile` and `lp-apply`, run as a user runs them, and what they answer.
//!
//! Debug builds, because only those know fault points (`LP_FAULT`). `LP_COMPILE` and `LP_APPLY` name other binaries.

use crate::{wait_for, workspace};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;

/// What a run of a tool left behind.
#[derive(Debug)]
pub struct Run {
    /// The command, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Run {
    /// The exit code is this one.
    #[track_caller]
    pub fn expect(&self, exit: i32) -> &Self {
        assert_eq!(self.status.code(), Some(exit), "exit code of {self}");
        self
    }

    /// Standard error says this, and what to do next.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "no {text:?} in {self}");
        assert!(self.stderr.contains("hint: "), "no hint in {self}");
        self
    }

    /// The JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON document ({e}) from {self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ({}): {}{}", self.command, self.status, self.stdout, self.stderr)
    }
}

/// What `lp-apply` did to one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The patch is in force now.
    Applied,
    /// It was already.
    AlreadyApplied,
    /// It is no longer in force.
    Reverted,
    /// There was nothing to revert.
    NotApplied,
    /// The process has nothing that the patch is for.
    NotApplicable,
    /// It runs another build.
    BuildMismatch,
    /// A thread was in the way until the deadline.
    Blocked,
    /// Something forbids it.
    Refused,
    /// It went wrong and was rolled back.
    Failed,
    /// The process ended.
    Gone,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::AlreadyApplied => "already-applied",
            Self::Reverted => "reverted",
            Self::NotApplied => "not-applied",
            Self::NotApplicable => "not-applicable",
            Self::BuildMismatch => "build-mismatch",
            Self::Blocked => "blocked",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }

    /// The exit code of a run on one process.
    fn exit(self) -> i32 {
        match self {
            Self::Applied | Self::AlreadyApplied | Self::Reverted | Self::NotApplied => 0,
            Self::NotApplicable | Self::BuildMismatch => 4,
            Self::Blocked => 5,
            Self::Refused | Self::Failed | Self::Gone => 7,
        }
    }
}

/// What `lp-apply ... --json` answered about one process.
#[derive(Debug)]
pub struct Verdict {
    /// The run itself.
    pub run: Run,
}

impl Verdict {
    /// The outcome is this one, and so is the exit code. Returns the process's part of the document.
    #[track_caller]
    pub fn expect(&self, outcome: Outcome) -> Value {
        let process = self.process();
        assert_eq!(process["outcome"], outcome.word(), "outcome of {}", self.run);
        self.run.expect(outcome.exit());
        assert_eq!(self.run.json()["exit"], outcome.exit(), "exit in {}", self.run);
        process
    }

    /// Whether the outcome is this one.
    #[track_caller]
    pub fn is(&self, outcome: Outcome) -> bool {
        self.process()["outcome"] == outcome.word()
    }

    /// As [`Verdict::expect`], and the message names all of `words`.
    #[track_caller]
    pub fn expect_saying(&self, outcome: Outcome, words: &[&str]) {
        let process = self.expect(outcome);
        let message = process["message"].as_str().unwrap_or_default();
        for word in words {
            assert!(message.contains(word), "no {word:?} in the message of {}", self.run);
        }
    }

    /// A control of the system forbids it: exit code 6, a message that names all of `words`, and a hint that names `cure`.
    #[track_caller]
    pub fn expect_forbidden(&self, words: &[&str], cure: &str) {
        let process = self.process();
        self.run.expect(6);
        assert_eq!(process["outcome"], Outcome::Refused.word(), "outcome of {}", self.run);
        let message = process["message"].as_str().unwrap_or_default();
        for word in words {
            assert!(message.contains(word), "no {word:?} in the message of {}", self.run);
        }
        assert!(self.hint().is_some_and(|hint| hint.contains(cure)), "no {cure:?} in the hint of {}", self.run);
    }

    /// What it says of the process.
    #[track_caller]
    pub fn message(&self) -> String {
        self.process()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// What it says to do next.
    #[track_caller]
    pub fn hint(&self) -> Option<String> {
        self.process()["hint"].as_str().map(str::to_owned)
    }

    /// The patches that `list` shows, as `(name, state)`.
    #[track_caller]
    pub fn patches(&self) -> Vec<(String, String)> {
        self.run.expect(0);
        let word = |patch: &Value, key: &str| patch[key].as_str().unwrap_or_default().to_owned();
        let patches =
            self.process()["patches"].as_array().unwrap_or_else(|| panic!("no patches in {}", self.run)).clone();
        patches.iter().map(|patch| (word(patch, "name"), word(patch, "state"))).collect()
    }

    /// The run was ended by SIGKILL.
    pub fn was_killed(&self) -> bool {
        self.run.status.signal() == Some(9)
    }

    #[track_caller]
    fn process(&self) -> Value {
        let document = self.run.json();
        let processes = document["processes"].as_array().unwrap_or_else(|| panic!("no processes in {}", self.run));
        assert_eq!(processes.len(), 1, "processes in {}", self.run);
        processes[0].clone()
    }
}

/// Runs `lp-compile`.
#[track_caller]
pub fn lp_compile<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    Running::start(Command::new(&tools().compile).args(args)).finish()
}

/// Runs `lp-apply ... --json` on one process.
#[track_caller]
pub fn lp_apply<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Verdict {
    lp_apply_start(args).verdict()
}

/// Starts `lp-apply ... --json` and lets it work.
#[track_caller]
pub fn lp_apply_start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Running {
    Running::start(lp_apply_command().args(args).arg("--json"))
}

/// `lp-apply`, for runs that need something special.
pub fn lp_apply_command() -> Command {
    Command::new(&tools().apply)
}

/// A tool at work; killed if dropped before its end.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    output: Option<[JoinHandle<String>; 2]>,
}

impl Running {
    /// Starts it without input.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let output = [reader(child.stdout.take().unwrap()), reader(child.stderr.take().unwrap())];
        Self { command: format!("{command:?}"), child, output: Some(output) }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `kill -9`; nothing if it has ended.
    pub fn kill(&mut self) {
        // Fails only if it has been reaped already.
        let _ = self.child.kill();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Run {
        let status = wait_for(&format!("the end of {}", self.command), || self.child.try_wait().unwrap());
        let [stdout, stderr] = self.output.take().unwrap().map(|thread| thread.join().unwrap());
        Run { command: std::mem::take(&mut self.command), status, stdout, stderr }
    }

    /// As [`Running::finish`], for a run of `lp-apply` on one process.
    #[track_caller]
    pub fn verdict(self) -> Verdict {
        Verdict { run: self.finish() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

struct Tools {
    compile: PathBuf,
    apply: PathBuf,
}

/// Both tools; built once per test process.
fn tools() -> &'static Tools {
    static TOOLS: OnceLock<Tools> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let named = ["LP_COMPILE", "LP_APPLY"].map(std::env::var_os);
        let built = named.iter().any(Option::is_none).then(build).unwrap_or_default();
        let [compile, apply] = named;
        Tools {
            compile: compile.map_or_else(|| built.join("lp-compile"), PathBuf::from),
            apply: apply.map_or_else(|| built.join("lp-apply"), PathBuf::from),
        }
    })
}

/// The target directory of this program: `TARGET/debug/deps/TEST-HASH` or `TARGET/debug/lp-tests`.
fn target_dir() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let of_profile = me.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).unwrap();
    of_profile.parent().unwrap().to_path_buf()
}

/// The release build of lp-apply as one static file; `LP_APPLY` names another one.
pub fn release_lp_apply() -> PathBuf {
    const MUSL: &str = "x86_64-unknown-linux-musl";
    let build = || {
        cargo_build(&["--release", "--target", MUSL, "-p", "lp-apply"]);
        target_dir().join(MUSL).join("release/lp-apply")
    };
    std::env::var_os("LP_APPLY").map_or_else(build, PathBuf::from)
}

/// Builds them; returns their directory.
fn build() -> PathBuf {
    cargo_build(&["-p", "lp-compile", "-p", "lp-apply"]);
    target_dir().join("debug")
}

/// Builds into the target directory of this program.
fn cargo_build(args: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--target-dir"]).arg(target_dir()).args(args);
    let out = command.current_dir(workspace()).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}
