//! `lp-apply`: arguments in, one library call, text and exit code out.

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let out = lp_apply::run(std::env::args_os().skip(1).collect());
    // An error that nobody can read is told by the exit code all the same.
    let _ = io::stderr().write_all(out.stderr.as_bytes());
    let told = io::stdout().write_all(out.stdout.as_bytes()).and_then(|()| io::stdout().flush());
    match told {
        // A reader that has gone away (`| head`) is no error of ours.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(
                io::stderr(),
                "lp-apply: error: the report cannot be written: {e}\n  hint: see `lp-apply list`"
            );
            ExitCode::from(lp_apply::outcome::Exit::Failed.code())
        }
        _ => ExitCode::from(out.code),
    }
}
