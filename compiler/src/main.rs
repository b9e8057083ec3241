//! `lp-compile`: arguments, one library call, error and hint, exit code.

use std::process::ExitCode;

/// Exit code of a broken promise of our own.
const BUG: i32 = 70;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|what| {
        eprintln!("lp-compile: error: this is a bug of lp-compile: {what}");
        eprintln!("  hint: please report it with the files that lead to it");
        std::process::exit(BUG)
    }));
    match lp_compile::parse().and_then(lp_compile::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}
