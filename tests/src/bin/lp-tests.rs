//! `lp-tests --kills N [--seed S]`: kills lp-apply N times at its work and fails if a target comes to harm.

use lp_tests::kills::{HEADING, SCENES, Scene, Tally, drive};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

const USAGE: &str = "usage: lp-tests --kills N [--seed S] [--target WORDS]
    Kills lp-apply N times in all, after its steps and at random instants, and makes steps fail, on targets that are in
    the midst of something. Prints a table; exit status 1 if a target came to harm. Needs to be allowed to trace.
    --seed S         repeats the random choices of another run (times are never the same)
    --target WORDS   only the targets whose names contain WORDS";

fn main() -> ExitCode {
    let Some(Wish { kills, seed, target }) = wish() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let scenes: Vec<Scene> = SCENES.into_iter().filter(|scene| scene.name.contains(&target)).collect();
    let Some(each) = kills.checked_div(u32::try_from(scenes.len()).unwrap()) else {
        eprintln!("lp-tests: no target's name contains {target:?}");
        return ExitCode::from(2);
    };
    println!("seed {seed}\n{HEADING}");
    let begun = Instant::now();
    let (waiting, total) = (Mutex::new(scenes), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(scene) = { waiting.lock().unwrap().pop() } {
                    let tally = drive(scene, each + 1, seed);
                    println!("{}", tally.line(scene.name));
                    total.lock().unwrap().add(&tally);
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{}", total.line("all"));
    println!("{} kills in {} s", total.kills(), begun.elapsed().as_secs());
    total.harm.iter().for_each(|harm| println!("HARM {harm}"));
    if total.harm.is_empty() && total.kills() >= kills { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Wish {
    kills: u32,
    seed: u64,
    target: String,
}

fn wish() -> Option<Wish> {
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_secs());
    let (mut kills, mut seed, mut target) = (None, now(), String::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--kills" => kills = args.next()?.parse().ok(),
            "--seed" => seed = args.next()?.parse().ok()?,
            "--target" => target = args.next()?,
            _ => return None,
        }
    }
    Some(Wish { kills: kills?, seed, target })
}
