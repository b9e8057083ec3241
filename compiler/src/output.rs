//! Runs a command: its output, its errors, its exit code.

use crate::build::{self, BuildError, Request};
use crate::cli::{Cli, Command};
use crate::emit::Built;
use crate::finding::{Explain, Finding};
use crate::inspect;
use crate::read::root::Root;
use crate::read::{ReadError, base_name};
use crate::rule;
use crate::survey;
use serde_json::json;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// The header for patch sources.
const HEADER: &str = include_str!("livepatch.h");

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    findings: Vec<Finding>,
    code: u8,
    json: bool,
}

/// What stands in the way of output.
#[derive(Debug, thiserror::Error)]
enum OutputError {
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the output {} is one of the inputs", path.display())]
    Input { path: PathBuf },
    #[error("the output {} is a program or library", path.display())]
    Elf { path: PathBuf },
    #[error("the bundle that was just written cannot be read: {0}")]
    Bug(lpb::ReadError),
    #[error("there is no finding {id}")]
    NoRule { id: String },
    #[error("{}: {source}", path.display())]
    Bundle { path: PathBuf, source: lpb::ReadError },
}

impl Explain for OutputError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Write { .. } => "name a file in a directory that you may write to".to_owned(),
            Self::Input { .. } | Self::Elf { .. } => {
                "name another file with -o: this one would be replaced by the bundle".to_owned()
            }
            Self::Bug(_) => "this is a bug of lp-compile: please report it with the files that lead to it".to_owned(),
            Self::NoRule { .. } => "`lp-compile explain` lists all of them".to_owned(),
            Self::Bundle { source, .. } => source.hint().to_owned(),
        })
    }
}

impl Failure {
    fn of(finding: impl Into<Finding>, code: u8) -> Self {
        Self { findings: vec![finding.into()], code, json: false }
    }

    fn json(mut self, json: bool) -> Self {
        self.json = json;
        self
    }

    /// The exit code: 2 usage, 3 bad input, 4 refused, 7 output, 70 a bug.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Prints every error: on standard error for people, as one document on standard output for programs.
    pub fn print(&self) {
        if self.json {
            let version = env!("CARGO_PKG_VERSION");
            let errors: Vec<_> = self.findings.iter().map(Finding::document).collect();
            // Nothing can be done if standard output is closed; the exit code still tells.
            let _ =
                print_document(&json!({"tool": "lp-compile", "version": version, "exit": self.code, "errors": errors}));
            return;
        }
        let mut err = io::stderr().lock();
        for finding in &self.findings {
            // Nothing can be done if standard error is closed; the exit code still tells.
            let _ = writeln!(err, "lp-compile: error: {}", finding.headline());
            for line in finding.details() {
                let _ = writeln!(err, "  {line}");
            }
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Spec(e) => Self::of(e, 2),
            BuildError::Read(e) => Self::of(e, 3),
            BuildError::Refused(findings) => Self { findings, code: 4, json: false },
        }
    }
}

/// Reads the command line. Help, the version and errors of usage end the process as clap does it; with --json, an error
/// is a document like any other.
///
/// # Errors
/// A [`Failure`] with exit code 2, if the arguments hold `--json`.
pub fn parse() -> Result<Cli, Failure> {
    use clap::Parser as _;
    let json = std::env::args_os().skip(1).take_while(|a| a != "--").any(|a| a == "--json");
    Cli::try_parse().map_err(|error| match json && error.use_stderr() {
        true => {
            let text = error.render().to_string();
            let paragraph = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
            let message = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            let hint = Some("see `lp-compile help`".to_owned());
            let finding = Finding { rule: None, message, evidence: Vec::new(), hint };
            Failure { findings: vec![finding], code: 2, json }
        }
        false => error.exit(),
    })
}

/// Runs one command.
///
/// # Errors
/// [`Failure`] says what to print and how to exit.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Build(args) => {
            let json = args.json;
            let (request, path) = args.request();
            let run = || {
                not_an_input(&path, &request)?;
                let built = build::build(&request)?;
                write_file(&path, &built.bytes)?;
                report(&built, &path, json)
            };
            run().map_err(|f: Failure| f.json(json))
        }
        Command::Inspect { bundle, json } => inspect_file(&bundle, json).map_err(|f| f.json(json)),
        Command::Survey { target, debug_files, sysroot, json } => {
            let surveyed = Root::new(sysroot.as_deref()).and_then(|root| survey::survey(&target, &debug_files, root));
            let surveyed = surveyed.map_err(|e| Failure::of(e, 3).json(json))?;
            if json { print_document(&surveyed.document()) } else { print_text(&surveyed.page()) }
        }
        Command::Explain { id: Some(id) } => match rule::by_id(&id) {
            Some(rule) => print_text(&rule.section()),
            None => Err(Failure::of(OutputError::NoRule { id }, 2)),
        },
        Command::Explain { id: None } => print_text(&rule::page()),
        Command::Header { output: Some(path) } => write_file(&path, HEADER.as_bytes()),
        Command::Header { output: None } => print_text(HEADER),
    }
}

/// The bundle must not replace what it is made from, under whatever name: the files that the command line names, and
/// libraries that are found without being named.
fn not_an_input(output: &Path, request: &Request) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let file = |path: &Path| std::fs::metadata(path).ok().filter(|m| m.is_file()).map(|m| (m.dev(), m.ino()));
    let inputs = request.inputs();
    match file(output) {
        Some(out) if inputs.iter().any(|input| file(input) == Some(out)) => {
            Err(Failure::of(OutputError::Input { path: output.to_owned() }, 2))
        }
        Some(_) if starts_as_elf(output) => Err(Failure::of(OutputError::Elf { path: output.to_owned() }, 2)),
        _ => Ok(()),
    }
}

fn starts_as_elf(path: &Path) -> bool {
    let mut start = [0; 4];
    std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok() && start == object::elf::ELFMAG
}

fn report(built: &Built, path: &Path, json: bool) -> Result<(), Failure> {
    let bundle = lpb::read(&built.bytes).map_err(|e| Failure::of(OutputError::Bug(e), 70))?;
    if json {
        let file = base_name(path);
        return print_document(&json!({
            "tool": "lp-compile", "version": env!("CARGO_PKG_VERSION"), "exit": 0,
            "bundle": {"file": file, "name": built.name, "digest": bundle.digest.to_string(), "size": built.bytes.len()},
            "report": built.report,
        }));
    }
    print_text(&inspect::summary(&bundle, &built.report, path, built.bytes.len()))
}

fn inspect_file(path: &Path, json: bool) -> Result<(), Failure> {
    let io = |source| Failure::of(ReadError::Io { path: path.to_owned(), source }, 3);
    let mut bytes = Vec::new();
    // One byte more than the longest bundle: a device may say nothing of its length.
    let limit = lpb::limits::BUNDLE.saturating_add(1);
    std::fs::File::open(path).and_then(|f| f.take(limit).read_to_end(&mut bytes)).map_err(io)?;
    let bundle =
        lpb::read(&bytes).map_err(|source| Failure::of(OutputError::Bundle { path: path.to_owned(), source }, 3))?;
    match json {
        true => print_document(&inspect::document(&bundle)),
        false => print_text(&inspect::page(&bundle)),
    }
}

fn print_document(document: &serde_json::Value) -> Result<(), Failure> {
    print_text(&format!("{document:#}\n"))
}

fn print_text(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that closed the pipe has what it wanted.
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::of(OutputError::Write { path: "standard output".into(), source }, 7))
        }
        _ => Ok(()),
    }
}

/// Writes a file whole or not at all: a temporary file beside it, then a rename. What is there and is no regular file,
/// such as a device, is written to as it is: a rename would replace it.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let fail = |source| Failure::of(OutputError::Write { path: path.to_owned(), source }, 7);
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        let file = std::fs::OpenOptions::new().write(true).open(path);
        return file.and_then(|mut f| f.write_all(bytes)).map_err(fail);
    }
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // As any new file: the umask decides what remains of it.
    let file = builder.prefix(".lp-compile-").permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // What the operating system says, without the name of the temporary file.
    let plain = |e: io::Error| io::Error::other(e.to_string().split(" at path ").next().unwrap_or_default().to_owned());
    let mut file = file.tempfile_in(dir).map_err(|e| fail(plain(e)))?;
    file.write_all(bytes).map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}
