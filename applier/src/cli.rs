//! The command line. Source of the syntax: POSIX utility conventions with GNU long options, by way of lexopt.

use lexopt::prelude::*;
use lpb::life::Life;
use lpb::{Bundle, Consistency};
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

/// `--help`.
pub const HELP: &str = "\
lp-apply - replace functions in running processes

USAGE
    lp-apply BUNDLE --pid PID [OPTIONS]           apply a bundle
    lp-apply list --pid PID [--json]              list the patches of processes
    lp-apply revert PATCH --pid PID [OPTIONS]     take a patch back; when --wait is over, even if threads are in it:
                                                  its memory stays then

ARGUMENTS
    BUNDLE    a file made by `lp-compile build`; - reads standard input
    PATCH     a bundle, or the id or name of a patch as `lp-apply list` shows it

OPTIONS
    -p, --pid PID           a process; for several of them: --pid PID --pid PID
    -n, --dry-run           check everything, show what would be done, change nothing
        --wait TIME         how long to wait for quiet moments in all: 10s (default), 500ms, 2m
        --consistency MODE  quiescent: no thread is in, or will return into, a replaced function
                            immediate: no thread is in the bytes that are overwritten
                            (default: what the bundle says, function by function)
        --scan-memory       look for parked coroutines too: all writable memory is searched for return addresses into
                            replaced functions while the process stands still (the time it took is reported).
                            revert: into the patch; and if the program keeps an address of anything in the patch, its
                            memory stays
        --allow-init        permit process 1
        --allow-module NAME
                            accept this file, unknown to the bundle, in the process (preloaded library, plugin,
                            program that uses a patched library): it defines no symbol that the patch looks up
        --json              one JSON document on standard output
    -v, --verbose           show the plan, and which threads were sent to the unwinder of a C++ program, and why these
    -h, --help              this text
    -V, --version           the version

OUTCOMES
    applied already-applied reverted not-applied not-applicable build-mismatch
    blocked refused failed gone

EXIT STATUS
    0   every process is as wished        5   blocked: try again
    2   usage                             6   not permitted; the message names the control
    3   bundle invalid or not trusted     7   failed (rolled back), refused or gone
    4   not applicable to the process     8   several processes, different outcomes
   70   a bug of lp-apply
    Also 7 if the report cannot be written; `lp-apply list` tells then.

FILES
    /etc/livepatch/trusted.d/*.pub    if any key is there, only signed bundles may be applied
                                      (this version cannot verify signatures: it then refuses all)
";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Apply the bundle in this file.
    Apply(OsString),
    /// List patches.
    List,
    /// Revert the patch that this names.
    Revert(OsString),
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// How it is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Change nothing.
    pub dry_run: bool,
    /// How long to wait for quiet moments, in all.
    pub wait: Duration,
    /// Overrides the bundle.
    pub consistency: Option<Consistency>,
    /// Search all writable memory for return addresses.
    pub scan_memory: bool,
    /// Permit process 1.
    pub allow_init: bool,
    /// File names of modules that the bundle does not expect and the user accepts.
    pub allow_modules: Vec<String>,
    /// JSON output.
    pub json: bool,
    /// Show the plan.
    pub verbose: bool,
}

/// A parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// What.
    pub command: Command,
    /// Where.
    pub pids: Vec<i32>,
    /// How.
    pub settings: Settings,
}

/// Why a command line makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// An unknown option, a missing value.
    #[error(transparent)]
    Syntax(#[from] lexopt::Error),
    /// No bundle.
    #[error("no bundle is named")]
    NoBundle,
    /// No process.
    #[error("no process is named (--pid PID)")]
    NoPid,
    /// A value that cannot be read.
    #[error("{option} {value}: {want}")]
    Value {
        /// The option.
        option: &'static str,
        /// As typed.
        value: String,
        /// What is understood.
        want: &'static str,
    },
}

/// Parses the arguments that follow the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut words: Vec<OsString> = Vec::new();
    let mut pids = Vec::new();
    let wait = Duration::from_secs(10);
    let mut settings = Settings {
        dry_run: false,
        wait,
        consistency: None,
        scan_memory: false,
        allow_init: false,
        allow_modules: vec![],
        json: false,
        verbose: false,
    };
    let finished = |command, settings: &Settings| Ok(Args { command, pids: vec![], settings: settings.clone() });
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return finished(Command::Help, &settings),
            Short('V') | Long("version") => return finished(Command::Version, &settings),
            Short('p') | Long("pid") => pids.push(pid(&parser.value()?)?),
            Short('n') | Long("dry-run") => settings.dry_run = true,
            Short('v') | Long("verbose") => settings.verbose = true,
            Long("scan-memory") => settings.scan_memory = true,
            Long("allow-init") => settings.allow_init = true,
            Long("json") => settings.json = true,
            Long("wait") => settings.wait = duration(&parser.value()?)?,
            // maps is read in the same way, so that a name which is not UTF-8 still matches.
            Long("allow-module") => settings.allow_modules.push(parser.value()?.to_string_lossy().into_owned()),
            Long("consistency") => settings.consistency = Some(consistency(&parser.value()?)?),
            Value(word) => words.push(word),
            other => return Err(other.unexpected().into()),
        }
    }
    let mut words = words.into_iter();
    let first = words.next().ok_or(UsageError::NoBundle)?;
    let command = match first.to_str() {
        Some("list") => Command::List,
        Some("revert") => Command::Revert(words.next().filter(|word| !word.is_empty()).ok_or(UsageError::NoBundle)?),
        _ => Command::Apply(first),
    };
    if let Some(extra) = words.next() {
        return Err(lexopt::Arg::Value(extra).unexpected().into());
    }
    if pids.is_empty() { Err(UsageError::NoPid) } else { Ok(Args { command, pids, settings }) }
}

/// Whether JSON is wanted, even if the rest makes no sense: then the error is a JSON document too.
pub fn wants_json(args: impl IntoIterator<Item = OsString>) -> bool {
    args.into_iter().any(|arg| arg == "--json")
}

fn value_error(option: &'static str, value: &OsString, want: &'static str) -> UsageError {
    UsageError::Value { option, value: value.to_string_lossy().replace(char::is_control, "?"), want }
}

fn pid(value: &OsString) -> Result<i32, UsageError> {
    let parsed = value.to_str().and_then(|text| text.parse().ok()).filter(|pid| *pid > 0);
    parsed.ok_or_else(|| value_error("--pid", value, "expected a process id"))
}

fn consistency(value: &OsString) -> Result<Consistency, UsageError> {
    match value.to_str() {
        Some("quiescent") => Ok(Consistency::Quiescent),
        Some("immediate") => Ok(Consistency::Immediate),
        _ => Err(value_error("--consistency", value, "expected quiescent or immediate")),
    }
}

/// `10s`, `500ms`, `2m`, or plain seconds; at most a day.
fn duration(value: &OsString) -> Result<Duration, UsageError> {
    let fail = || value_error("--wait", value, "expected a time such as 10s, 500ms or 2m, at most 1440m");
    let text = value.to_str().ok_or_else(fail)?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => return Err(fail()),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|ms| *ms <= 86_400_000);
    ms.map(Duration::from_millis).ok_or_else(fail)
}

/// What `revert` was told to revert.
pub enum Selector<'a> {
    /// The patch of this bundle.
    Bundle(&'a Bundle<'a>),
    /// By id or name.
    Word(&'a str),
}

impl Selector<'_> {
    /// Fewest digits of an id.
    const SHORTEST_ID: usize = 8;

    /// The bundle, if there is one.
    pub fn bundle(&self) -> Option<&Bundle<'_>> {
        match self {
            Self::Bundle(bundle) => Some(bundle),
            Self::Word(_) => None,
        }
    }

    /// Whether the record is of the selected patch.
    pub fn matches(&self, life: &Life) -> bool {
        match self {
            Self::Bundle(bundle) => life.digest == bundle.digest,
            Self::Word(word) => {
                let is_id = word.len() >= Self::SHORTEST_ID && life.digest.to_string().starts_with(word);
                is_id || life.name == *word
            }
        }
    }
}

impl fmt::Display for Selector<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(bundle) => f.write_str(&bundle.patch.name),
            Self::Word(word) => f.write_str(&word.replace(char::is_control, "?")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Result<Args, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|e| e.to_string())
    }

    #[test]
    fn command_lines() {
        let line = "fix.lpb --pid 7 -p 8 --allow-module liba.so --allow-module=b --wait 500ms --consistency immediate \
                    --scan-memory --json -nv";
        let parsed = args(line).unwrap();
        assert_eq!(parsed.command, Command::Apply("fix.lpb".into()));
        assert_eq!(parsed.pids, [7, 8]);
        let want = Settings {
            dry_run: true,
            wait: Duration::from_millis(500),
            consistency: Some(Consistency::Immediate),
            scan_memory: true,
            allow_init: false,
            allow_modules: vec!["liba.so".into(), "b".into()],
            json: true,
            verbose: true,
        };
        assert_eq!(parsed.settings, want);
        assert_eq!(args("revert fix -p 1").unwrap().command, Command::Revert("fix".into()));
        assert_eq!(args("- -p 1").unwrap().command, Command::Apply("-".into()));
        assert_eq!(args("--help").unwrap().command, Command::Help);
    }

    #[test]
    fn lines_that_make_no_sense() {
        for (line, want) in [
            ("", "no bundle is named"),
            ("fix.lpb", "no process is named (--pid PID)"),
            ("fix.lpb --pid x", "--pid x: expected a process id"),
            ("fix.lpb --pid -1", "--pid -1: expected a process id"),
            ("fix.lpb --pid 1 --frob", "invalid option '--frob'"),
            ("fix.lpb --pid 1 more", "unexpected argument \"more\""),
            ("fix.lpb --pid 1 --wait 9h", "--wait 9h: expected a time such as 10s, 500ms or 2m, at most 1440m"),
            ("revert --pid 1", "no bundle is named"),
        ] {
            assert_eq!(args(line).unwrap_err(), want, "{line:?}");
        }
    }
}
