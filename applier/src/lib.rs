//! Applies a bundle to a running process, lists and reverts patches.
//!
//! lp-apply knows no ELF, no symbol and no instruction of the target: the bundle says what to write, and `/proc/PID/maps`
//! says where. A patch goes through five steps, one module each:
//!
//! ```text
//! identify   which builds are loaded where, what is in the way          nothing stopped, nothing written
//! plan       exact addresses, exact bytes                               pure
//! stage      record and image beside the target's own memory            one thread borrowed for a moment
//! (register  unwind tables, if the patch has any                        one thread sent for a moment)
//! commit     all threads stopped, none in the way: write, let go        the change
//! record     the page in the target that says what was done             the only state there is
//! ```
//! `kill -9` of lp-apply at any instant leaves the target running, with the patch fully off or fully on.
//!
//! Below the steps: [`borrow`] and [`pause`] stop threads, [`quiesce`] judges their stacks, [`leftovers`] cleans up after
//! a run that died, [`progress`] says on a terminal what is waited for, `sys` holds the system calls (and all `unsafe`),
//! `arch` everything that knows the processor.

pub mod apply;
pub mod arch;
pub mod borrow;
pub mod bundle;
pub mod cli;
pub mod commit;
pub mod identify;
pub mod leftovers;
pub mod outcome;
pub mod pace;
pub mod patience;
pub mod pause;
pub mod plan;
pub mod progress;
pub mod quiesce;
pub mod record;
pub mod register;
pub mod report;
pub mod revert;
pub mod stage;
pub mod sys;
pub mod trouble;

use cli::{Args, Command, Selector};
use outcome::{Exit, exit_of};
use report::Document;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// What a run prints, and its exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// Exit code.
    pub code: u8,
}

/// Runs one command line (without the program's name).
pub fn run(args: Vec<OsString>) -> Output {
    let json = cli::wants_json(args.iter().cloned());
    match cli::parse(args) {
        Ok(args) => {
            if !json {
                progress::allow();
            }
            let out = command(&args);
            progress::wipe();
            out
        }
        Err(e) => failure("usage", Exit::Usage, &e.to_string(), "see `lp-apply --help`", json),
    }
}

fn command(args: &Args) -> Output {
    let (word, name) = match &args.command {
        Command::Help => return printed(cli::HELP.to_owned()),
        Command::Version => return printed(format!("lp-apply {}\n", env!("CARGO_PKG_VERSION"))),
        Command::List => ("list", None),
        Command::Apply(name) => ("apply", Some(name)),
        Command::Revert(name) => ("revert", Some(name)),
    };
    if let Err((message, hint)) = prepare(name.is_some()) {
        return failure(word, Exit::Failed, &message, hint, args.settings.json);
    }
    let Some(name) = name else {
        let reports = args.pids.iter().map(|pid| revert::list(*pid)).collect();
        return finished(args, word, None, reports);
    };
    if let Command::Revert(word) = &args.command
        && !is_bundle(word)
    {
        let word = word.to_string_lossy();
        return reverted(args, &Selector::Word(&word), None);
    }
    let bytes = bundle::load(name);
    let bundle = bytes
        .as_ref()
        .map_err(|e| (e.to_string(), e.hint()))
        .and_then(|bytes| bundle::check(name, bytes).map_err(|e| (e.to_string(), e.hint())));
    match (&args.command, bundle) {
        (Command::Revert(_), Ok(bundle)) => reverted(args, &Selector::Bundle(&bundle), Some(&bundle)),
        (_, Ok(bundle)) => {
            let reports = args.pids.iter().map(|pid| apply::apply(&bundle, *pid, &args.settings)).collect();
            finished(args, "apply", Some(&bundle), reports)
        }
        (command, Err((message, hint))) => {
            let (command, hint) = match command {
                Command::Revert(word) if !word.as_encoded_bytes().contains(&b'/') => (
                    "revert",
                    format!("{hint}; if it is the name of a patch, name that by its id, as `lp-apply list` shows it"),
                ),
                Command::Revert(_) => ("revert", hint),
                _ => ("apply", hint),
            };
            failure(command, Exit::Bundle, &message, &hint, args.settings.json)
        }
    }
}

/// What a command needs, `stops`: one that stops threads; else what is missing, and a hint.
fn prepare(stops: bool) -> Result<(), (String, &'static str)> {
    sys::sched::survive_full_files();
    sys::sched::have_files().map_err(|e| {
        let hint = "run lp-apply with a higher limit of open files (`ulimit -n`)";
        (format!("lp-apply may not open as many files as it needs: {e}"), hint)
    })?;
    if stops {
        sys::sched::listen_for_children().map_err(|e| {
            let hint = "run lp-apply where sigaction(2) and sigprocmask(2) are allowed";
            (format!("lp-apply's own signals cannot be set up: {e}"), hint)
        })?;
        sys::sched::stay_in_memory();
    }
    Ok(())
}

/// A patch to revert may be named by its bundle's file; what has a slash is a path, be there a file or not.
fn is_bundle(word: &OsStr) -> bool {
    word == "-" || word.as_encoded_bytes().contains(&b'/') || Path::new(word).is_file()
}

fn reverted(args: &Args, selector: &Selector<'_>, bundle: Option<&lpb::Bundle<'_>>) -> Output {
    let reports = args.pids.iter().map(|pid| revert::revert(selector, *pid, &args.settings)).collect();
    finished(args, "revert", bundle, reports)
}

fn finished(
    args: &Args,
    command: &'static str,
    bundle: Option<&lpb::Bundle<'_>>,
    reports: Vec<outcome::Report>,
) -> Output {
    let exit = exit_of(&reports);
    let doc = Document { command, dry_run: args.settings.dry_run, bundle, reports, exit };
    let stdout = if args.settings.json { format!("{}\n", doc.json()) } else { doc.text() };
    Output { stdout, stderr: String::new(), code: exit.code() }
}

fn printed(stdout: String) -> Output {
    Output { stdout, stderr: String::new(), code: Exit::Done.code() }
}

fn failure(command: &str, exit: Exit, message: &str, hint: &str, json: bool) -> Output {
    let stdout = if json { format!("{}\n", report::failure(command, exit, message, hint)) } else { String::new() };
    let stderr = format!("lp-apply: error: {message}\n  hint: {hint}\n");
    Output { stdout, stderr, code: exit.code() }
}
