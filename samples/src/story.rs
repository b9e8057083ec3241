//! The story of a sample, told while it happens.

use crate::target::Target;
use crate::toolchain::{Tools, compile_c};
use crate::{Error, Sample, show};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// How long the program may take to its first wrong answer: one round, with room for a busy machine.
const FIRST_ROUND: Duration = Duration::from_secs(60);
/// How long it may take from the patch to the right answer: the rest of a round and a new one, with room.
const LAST_ROUNDS: Duration = Duration::from_secs(60);
/// How long it may take to return from `main`.
const END: Duration = Duration::from_secs(30);

/// Runs a sample; gives how its program ended by itself.
///
/// # Errors
/// Anything that keeps the patched program from printing its new line and ending. Nothing is left running, and no file
/// is left behind.
pub fn run(sample: &Sample) -> Result<ExitStatus, Error> {
    let dir = tempfile::Builder::new().prefix("lp-sample-").tempdir().map_err(Error::io("making a directory"))?;
    let dir = dir.path();
    show::comment(&format!("{}: {}", sample.name, sample.about));
    show::comment("the two tools:");
    let tools = Tools::get()?;
    show::comment("the program, and its patch (an ordinary shared library):");
    let program = compile_c(dir, &sample.target)?;
    compile_c(dir, &sample.patch)?;

    show::comment("the program starts; its lines have a | in front:");
    let mut target = Target::start(&program)?;
    target.wait_line(sample.before, FIRST_ROUND)?;

    let bundle = format!("{}.lpb", sample.name);
    show::comment("it is wrong and will be for ever. The patch becomes a bundle, from the files alone:");
    let build = ["build", "--target", sample.target.output, "--patch", sample.patch.output];
    tool(&tools, "lp-compile", dir, &[build.as_slice(), &["--replace", sample.replace, "-o", &bundle]].concat())?;
    show::comment("what the bundle says:");
    tool(&tools, "lp-compile", dir, &["inspect", &bundle])?;

    show::comment("the running program gets it, when no thread is inside the old function:");
    tool(&tools, "lp-apply", dir, &[&bundle, "--pid", &target.pid().to_string(), "--wait", "30s"])?;
    show::comment("done; the round that was under way may still end the old way:");
    target.wait_line(sample.after, LAST_ROUNDS)?;
    let status = target.wait_exit(END)?;
    show::comment(&format!("the program ended by itself ({status})"));
    Ok(status)
}

/// Runs one of our tools in `dir` and shows what it prints.
fn tool(tools: &Tools, name: &'static str, dir: &Path, args: &[&str]) -> Result<(), Error> {
    show::command(&[&[name], args].concat());
    let program = if name == "lp-apply" { &tools.apply } else { &tools.compile };
    let failed = |source| Error::Start { program: program.display().to_string(), source };
    let done = Command::new(program).args(args).current_dir(dir).output().map_err(failed)?;
    show::tool(&String::from_utf8_lossy(&done.stdout));
    show::tool(&String::from_utf8_lossy(&done.stderr));
    match done.status.success() {
        true => Ok(()),
        false => Err(Error::Tool { tool: name, status: done.status }),
    }
}
