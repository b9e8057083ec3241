//! `lp-bench [--rounds N] [--json]`: how long targets of 1 to 1,000 threads stand still for lp-apply.

use lp_tests::bench::{HEADING, THREADS, floor, measure};
use std::process::ExitCode;

const USAGE: &str = "usage: lp-bench [--rounds N] [--json]
    Measures at least 20 rounds (the default) on targets with 1, 10, 100 and 1,000 threads. LP_APPLY names the lp-apply
    to measure; else the static release build is made. A busy machine shows in the columns quiet, floor and true.";

fn main() -> ExitCode {
    let (mut rounds, mut json) = (20, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.len()) {
            ("--json", _) => json = true,
            ("--rounds", 1..) => rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(0),
            // For the measurement itself: see `floor_in_a_helper`.
            ("--floor", 1..) => {
                let pid = args.next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
                println!("{}", floor(pid).as_nanos());
                return ExitCode::SUCCESS;
            }
            _ => rounds = 0,
        }
    }
    if rounds < 20 {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    if !json {
        println!("{HEADING}");
    }
    let rows = THREADS.map(|threads| {
        let row = measure(threads, rounds);
        if !json {
            println!("{}", row.line());
        }
        row.json()
    });
    if json {
        println!("{}", serde_json::Value::from(rows.to_vec()));
    }
    ExitCode::SUCCESS
}
