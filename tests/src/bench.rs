//! How long a target stands still for lp-apply, beside the shortest that ptrace allows (`lp-bench`).
//!
//! ```text
//! gap     the largest pause that a thread sees which looks at the clock all the time
//! stop    from the first interrupt to the last detach; lp-apply reports its own
//! wall    from the start of the program to its end; `true` is the shortest there is
//!
//! quiet   nobody is near for a while: what the machine itself takes
//! floor   the same threads seized, interrupted, waited for and let go, with no work done
//! apply   the release build of lp-apply
//! ```
//! The rounds of all of them alternate, so that a busy machine disturbs them alike.

use crate::scenario::Scenario;
use crate::tools::release_lp_apply;
use crate::{Board, Target};
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How many threads the targets have.
pub const THREADS: [usize; 4] = [1, 10, 100, 1000];

const GAP: usize = 0;
const TURNS: usize = 1;

/// The measured times of one kind, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e6);
        self.0.sort_by(f64::total_cmp);
    }

    /// The time that this part of all does not exceed.
    fn part(&self, part: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * part).round() as usize]
    }

    /// Half of all are shorter.
    pub fn median(&self) -> f64 {
        self.part(0.5)
    }

    /// Nine tenths are shorter.
    pub fn p90(&self) -> f64 {
        self.part(0.9)
    }

    fn cell(&self) -> String {
        format!("{:.0} ({:.0})", self.median(), self.p90())
    }

    fn json(&self) -> Value {
        json!({"median": self.median(), "p90": self.p90(), "min": self.part(0.0), "count": self.0.len()})
    }
}

/// All times of targets with so many threads.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Threads of the target.
    pub threads: usize,
    /// Gaps: quiet, floor, apply.
    pub gaps: [Times; 3],
    /// Stops: floor, apply.
    pub stops: [Times; 2],
    /// Walls: `true`, apply.
    pub walls: [Times; 2],
}

impl Row {
    /// A line under [`HEADING`].
    pub fn line(&self) -> String {
        let [quiet, floor_gap, gap] = self.gaps.each_ref().map(Times::cell);
        let [floor, stop] = self.stops.each_ref().map(Times::cell);
        let [nothing, wall] = self.walls.each_ref().map(Times::cell);
        format!(
            "{:>7} |{quiet:>11}{floor_gap:>12}{gap:>12}{:>7.2} |{floor:>14}{stop:>15}{:>7.2} |{nothing:>13}{wall:>15}",
            self.threads,
            self.gap_ratio(),
            self.stop_ratio()
        )
    }

    /// The gap that lp-apply makes, measured in floors.
    pub fn gap_ratio(&self) -> f64 {
        self.gaps[2].median() / self.gaps[1].median()
    }

    /// lp-apply's stop, measured in floors.
    pub fn stop_ratio(&self) -> f64 {
        self.stops[1].median() / self.stops[0].median()
    }

    /// The same for programs; times in microseconds.
    pub fn json(&self) -> Value {
        let [quiet_gap, floor_gap, apply_gap] = self.gaps.each_ref().map(Times::json);
        let [floor_stop, apply_stop] = self.stops.each_ref().map(Times::json);
        let [true_wall, apply_wall] = self.walls.each_ref().map(Times::json);
        json!({
            "threads": self.threads, "gap_ratio": self.gap_ratio(), "stop_ratio": self.stop_ratio(),
            "quiet_gap": quiet_gap, "floor_gap": floor_gap, "apply_gap": apply_gap,
            "floor_stop": floor_stop, "apply_stop": apply_stop, "true_wall": true_wall, "apply_wall": apply_wall,
        })
    }
}

/// See [`Row::line`].
pub const HEADING: &str = "\
microseconds, median (p90)
        |          gap of a running thread         |             stop of all            |           wall
threads |      quiet       floor       apply  ratio |         floor          apply  ratio |         true          apply";

/// Measures `rounds` rounds on a target with so many threads.
pub fn measure(threads: usize, rounds: usize) -> Row {
    let (built, bundle) = Scenario::of("bench.c").bundle();
    let board = Board::new(built.lab.path("board"));
    let target = Target::start_command(Command::new(&built.exe).arg(threads.to_string()).arg(board.path()));
    let (pid, bundle) = (target.pid().to_string(), bundle.to_str().unwrap());
    let tool = release_lp_apply();
    let mut row = Row { threads, ..Row::default() };
    // The first round warms up and does not count.
    for round in 0..=rounds {
        let gap_in = |work: &mut dyn FnMut()| {
            board.wait_growth(TURNS, 1000);
            board.set(GAP, 0);
            work();
            Duration::from_nanos(board.get(GAP))
        };
        let mut floor = Duration::ZERO;
        let mut applied = (Duration::ZERO, Duration::ZERO);
        let nothing = wall(Command::new("true")).0;
        let quiet_gap = gap_in(&mut || std::thread::sleep(Duration::from_millis(5)));
        let floor_gap = gap_in(&mut || floor = floor_in_a_helper(&pid));
        let apply_gap = gap_in(&mut || applied = lp_apply(&tool, &[bundle, "--pid", &pid]));
        lp_apply(&tool, &["revert", bundle, "--pid", &pid]);
        if round > 0 {
            row.gaps.iter_mut().zip([quiet_gap, floor_gap, apply_gap]).for_each(|(times, time)| times.add(time));
            row.stops.iter_mut().zip([floor, applied.1]).for_each(|(times, time)| times.add(time));
            row.walls.iter_mut().zip([nothing, applied.0]).for_each(|(times, time)| times.add(time));
        }
    }
    row
}

/// How long a command takes, and what it prints.
fn wall(mut command: Command) -> (Duration, String) {
    let begun = Instant::now();
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let wall = begun.elapsed();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stdout));
    (wall, String::from_utf8(out.stdout).unwrap())
}

/// Runs it; wall and stop.
fn lp_apply(tool: &Path, args: &[&str]) -> (Duration, Duration) {
    let mut command = Command::new(tool);
    command.args(args).arg("--json");
    let (wall, text) = wall(command);
    let stop = serde_json::from_str::<Value>(&text).unwrap()["processes"][0]["stop_us"].as_u64().unwrap();
    (wall, Duration::from_micros(stop))
}

/// [`floor`] in a process of its own, before ordinary threads if that is allowed: as lp-apply does it.
fn floor_in_a_helper(pid: &str) -> Duration {
    let me = std::env::current_exe().unwrap();
    let allowed = Command::new("chrt").args(["-f", "1", "true"]).output().is_ok_and(|out| out.status.success());
    let mut command = if allowed { Command::new("chrt") } else { Command::new(&me) };
    if allowed {
        command.args(["-f", "1"]).arg(&me);
    }
    command.args(["--floor", pid]);
    Duration::from_nanos(wall(command).1.trim().parse().unwrap())
}

/// Stops all threads of a process and lets them go: the first thread, which runs, is stopped last and goes first.
///
/// # Panics
/// If that is not allowed.
pub fn floor(pid: i32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut tids: Vec<i32> = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    tids.sort_by_key(|tid| std::cmp::Reverse(*tid));
    let tids: Vec<Pid> = tids.into_iter().map(Pid::from_raw).collect();
    tids.iter().for_each(|tid| ptrace::seize(*tid, Options::PTRACE_O_TRACESYSGOOD).unwrap());
    let (sleepers, runner) = tids.split_at(tids.len() - 1);
    let begun = Instant::now();
    for wave in [sleepers, runner] {
        wave.iter().for_each(|tid| ptrace::interrupt(*tid).unwrap());
        wave.iter().for_each(|tid| _ = waitpid(*tid, Some(WaitPidFlag::__WALL)).unwrap());
    }
    runner.iter().chain(sleepers).for_each(|tid| ptrace::detach(*tid, None).unwrap());
    begun.elapsed()
}
