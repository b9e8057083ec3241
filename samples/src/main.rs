//! `lp-samples NAME`: runs a sample; ends with the exit code of the sample's program.

use lp_samples::{Error, SAMPLES, Sample, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (name, more) = (args.next(), args.next());
    let (Some(name), None) = (name, more) else {
        eprintln!("usage: lp-samples NAME\n{}", list());
        return ExitCode::from(2);
    };
    let Some(sample) = Sample::find(&name) else {
        eprintln!("lp-samples: error: {}\n{}", Error::Unknown(name), list());
        return ExitCode::from(2);
    };
    match run(sample) {
        // A program that a signal ended has no code; that is no success either.
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("lp-samples: error: {error}");
            error.hint().into_iter().for_each(|hint| eprintln!("  hint: {hint}"));
            ExitCode::from(1)
        }
    }
}

fn list() -> String {
    let row = |s: &Sample| format!("  {:12} {}\n", s.name, s.about);
    format!("samples:\n{}", SAMPLES.iter().map(row).collect::<String>().trim_end())
}
