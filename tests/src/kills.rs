//! Does lp-apply do harm when it dies or fails? Kills it after each of its steps and at random instants, makes each step
//! fail, on targets that are in the midst of something, and looks what became of them (`lp-tests --kills N`).
//!
//! ```text
//!  ┌─► apply or revert, whatever is due ── killed or made to fail ─► look at the target ─┐
//!  └─────────────────────────────────────────────────────────────────────────────────────┘
//!      every tenth time: a revert that is left alone, and memory as it was at first
//! ```
//! So most runs also clean up after the one before. Looking at the target means: it lives, is traced by nobody, goes on
//! (or is still stopped, if it was), saw no wrong result, has its signal masks, and both functions are old or both new.

use crate::tools::{Running, lp_apply_command};
use crate::{Patient, Snapshot, Verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt;
use std::time::{Duration, Instant};

/// What a target is in the midst of: a name of `programs/state.c`, and whether it is stopped by SIGSTOP.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// For people.
    pub name: &'static str,
    kind: &'static str,
    stopped: bool,
}

const fn scene(name: &'static str, kind: &'static str) -> Scene {
    Scene { name, kind, stopped: false }
}

/// All scenes.
pub const SCENES: [Scene; 11] = [
    scene("AVX-512 or AVX2 state", "vectors"),
    scene("all registers, red zone", "red-zone"),
    scene("nanosleep", "nanosleep"),
    scene("poll", "poll"),
    scene("futex", "futex"),
    scene("read", "read"),
    scene("epoll_wait", "epoll_wait"),
    scene("malloc in 16 threads", "malloc"),
    scene("SIGALRM each 500 us, own stack", "alarms"),
    scene("restartable sequences", "sequences"),
    Scene { name: "stopped by SIGSTOP", kind: "nanosleep", stopped: true },
];

// Places on the board of state.c.
const ROUNDS: usize = 0;
const ERRORS: usize = 1;
const VALUE: usize = 2;
const SECOND: usize = 3;
const BROKEN: usize = 4;

/// A target that does not go on for so long counts as harmed.
const PATIENCE: Duration = Duration::from_secs(20);
/// A scene is given up after so much harm.
const TOO_MUCH: usize = 3;

/// What came of one scene.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// SIGKILLs right after a step.
    pub after_steps: u32,
    /// SIGKILLs at random instants.
    pub at_random: u32,
    /// Steps that were made to fail.
    pub failed: u32,
    /// Runs that came to their end before their kill.
    pub too_late: u32,
    /// Calls that ended with EINTR: known of epoll_wait, and no harm.
    pub broken: u64,
    /// What must not be.
    pub harm: Vec<String>,
}

impl Tally {
    /// All SIGKILLs.
    pub fn kills(&self) -> u32 {
        self.after_steps + self.at_random
    }

    /// The line of a table under [`HEADING`].
    pub fn line(&self, name: &str) -> String {
        let Self { after_steps, at_random, failed, too_late, broken, harm } = self;
        format!("{name:32}{after_steps:>12}{at_random:>11}{failed:>8}{too_late:>10}{broken:>7}{:>6}", harm.len())
    }

    /// Adds those of another scene.
    pub fn add(&mut self, other: &Self) {
        self.after_steps += other.after_steps;
        self.at_random += other.at_random;
        self.failed += other.failed;
        self.too_late += other.too_late;
        self.broken += other.broken;
        self.harm.extend_from_slice(&other.harm);
    }
}

/// See [`Tally::line`].
pub const HEADING: &str = "target                           after steps  at random  failed  too late  EINTR  harm";

/// Kills lp-apply `kills` times on targets of this scene.
pub fn drive(scene: Scene, kills: u32, seed: u64) -> Tally {
    let mut dice = Dice(seed | 1);
    let mut tally = Tally::default();
    while tally.kills() < kills && tally.harm.len() < TOO_MUCH {
        if let Err(harm) = Ward::admit(scene).and_then(|mut ward| ward.attack(kills, &mut dice, &mut tally)) {
            tally.harm.push(format!("{}: {harm}", scene.name));
        }
    }
    tally
}

/// What is done to one run of lp-apply.
#[derive(Clone, Copy, Debug)]
enum Attack {
    KillAfter(u64),
    KillAt(Duration),
    Fail(u64),
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillAfter(step) => write!(f, "killed after step {step}"),
            Self::KillAt(instant) => write!(f, "killed after {instant:?}"),
            Self::Fail(step) => write!(f, "failing in step {step}"),
        }
    }
}

/// Apply or revert, undisturbed.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    steps: u64,
    time: Duration,
}

/// A target under attack.
struct Ward {
    scene: Scene,
    patient: Patient,
    /// Of apply, and of revert.
    courses: [Course; 2],
    clean: Snapshot,
    masks: Vec<String>,
    /// Attacks since the last undisturbed revert, for messages.
    story: Vec<String>,
    next_step: [u64; 2],
}

impl Ward {
    fn admit(scene: Scene) -> Result<Self, String> {
        let patient = Patient::start("state.c", &[scene.kind]);
        let (clean, masks) = (patient.target.snapshot(), masks(patient.pid()));
        let (courses, story, next_step) = ([Course::default(); 2], Vec::new(), [0; 2]);
        let mut ward = Self { scene, patient, courses, clean, masks, story, next_step };
        if scene.stopped {
            ward.signal(Signal::SIGSTOP)?;
        }
        ward.look()?;
        for command in [0, 1] {
            let begun = Instant::now();
            let verdict = Patient::with_fault(&ward.args(command), "trace");
            let time = begun.elapsed();
            if !verdict.run.status.success() {
                return Err(format!("undisturbed, it fails: {}", verdict.run));
            }
            let steps = verdict.run.stderr.matches("lp-fault: ").count().try_into().unwrap();
            assert!(steps > 10, "only {steps} steps: is this a debug build of lp-apply?");
            ward.courses[command] = Course { steps, time };
        }
        ward.look()?;
        Ok(ward)
    }

    fn args(&self, command: usize) -> Vec<&str> {
        if command == 0 { self.patient.apply_args() } else { self.patient.revert_args() }
    }

    fn attack(&mut self, kills: u32, dice: &mut Dice, tally: &mut Tally) -> Result<(), String> {
        let broken_before = tally.broken;
        for turn in 1.. {
            let command = usize::from(self.look()? == 2);
            let attack = self.choose(command, dice);
            let verdict = self.run(command, attack);
            tally.broken = broken_before + self.patient.board.get(BROKEN);
            self.story.push(format!("{} {attack}", ["apply", "revert"][command]));
            let story = self.story.join(", ");
            let told = |harm: String| format!("{harm}\n    after {story}");
            match attack {
                _ if verdict.was_killed() => match attack {
                    Attack::KillAt(_) => tally.at_random += 1,
                    _ => tally.after_steps += 1,
                },
                Attack::Fail(_) if matches!(verdict.run.status.code(), Some(0 | 5 | 6 | 7)) => tally.failed += 1,
                Attack::Fail(_) => return Err(told(format!("not an outcome: {}", verdict.run))),
                _ => tally.too_late += 1,
            }
            self.look().map_err(told)?;
            if turn % 10 == 0 || tally.kills() >= kills {
                self.undisturbed().map_err(told)?;
                self.story.clear();
            }
            if tally.kills() >= kills {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Steps in turn, so that each has its kills; every second kill is at a random instant.
    fn choose(&mut self, command: usize, dice: &mut Dice) -> Attack {
        let Course { steps, time } = self.courses[command];
        match dice.roll(5) {
            0 | 1 => {
                self.next_step[command] = self.next_step[command] % (steps + steps / 4) + 1; // cleaning up takes steps too
                Attack::KillAfter(self.next_step[command])
            }
            2 => Attack::Fail(dice.roll(steps + steps / 4) + 1),
            _ => Attack::KillAt(time.mul_f64(dice.roll(1000) as f64 / 1000.0)),
        }
    }

    fn run(&self, command: usize, attack: Attack) -> Verdict {
        let args = self.args(command);
        match attack {
            Attack::KillAfter(step) => Patient::with_fault(&args, &format!("kill:{step}")),
            Attack::Fail(step) => Patient::with_fault(&args, &format!("fail:{step}")),
            Attack::KillAt(instant) => {
                let mut running = Running::start(lp_apply_command().args(args).arg("--json"));
                std::thread::sleep(instant);
                running.kill();
                running.verdict()
            }
        }
    }

    /// A revert that is left alone takes the patch out of force and leaves memory as it was.
    fn undisturbed(&mut self) -> Result<(), String> {
        let verdict = self.patient.revert(&[]);
        if !verdict.run.status.success() {
            return Err(format!("an undisturbed revert fails: {}", verdict.run));
        }
        if self.look()? != 1 {
            return Err("still in force after an undisturbed revert".to_owned());
        }
        let now = self.patient.target.snapshot();
        let difference = self.clean.difference(&now);
        // A program with many threads makes heaps of its own.
        let heaps = |line: &&str| self.scene.kind != "malloc" || !(line.contains(" rw-p ") || line.contains(" ---p "));
        let difference: Vec<&str> = difference.lines().filter(heaps).collect();
        self.clean = now;
        if difference.is_empty() { Ok(()) } else { Err(format!("memory differs:\n{}", difference.join("\n"))) }
    }

    /// Whether the target is well; which version of its functions it calls.
    fn look(&self) -> Result<u64, String> {
        if self.scene.stopped {
            self.wait("being stopped", || state(self.patient.pid()) == Some('T'))?;
            self.signal(Signal::SIGCONT)?;
        }
        let board = &self.patient.board;
        let rounds = board.get(ROUNDS);
        self.wait("going on", || board.get(ROUNDS) >= rounds + 2)?;
        let [errors, value, second] = [ERRORS, VALUE, SECOND].map(|place| board.get(place));
        if self.scene.stopped {
            self.signal(Signal::SIGSTOP)?;
            self.wait("being stopped", || state(self.patient.pid()) == Some('T'))?;
        }
        let now = masks(self.patient.pid());
        if errors != 0 {
            Err(format!("the target saw {errors} wrong results"))
        } else if value != second || !(1..=2).contains(&value) {
            Err(format!("the functions are not of one version: {value} and {second}"))
        } else if now != self.masks {
            Err(format!("signal masks or tracers changed from {:?} to {now:?}", self.masks))
        } else {
            Ok(value)
        }
    }

    fn wait(&self, what: &str, seen: impl Fn() -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !seen() {
            let state = state(self.patient.pid());
            if matches!(state, None | Some('Z')) {
                return Err("the target died".to_owned());
            }
            if Instant::now() > end {
                return Err(format!("the target is not {what} but in state {state:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        kill(Pid::from_raw(self.patient.target.pid().cast_signed()), signal).map_err(|e| format!("{signal}: {e}"))
    }
}

/// State letter of proc(5).
fn state(pid: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Signal masks and tracers of all threads. SIGALRM does not count: it is blocked in its handler.
fn masks(pid: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut all: Vec<String> = tasks
        .map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let value = |key| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
            let mask = u64::from_str_radix(value("SigBlk:"), 16).unwrap_or(0) & !(1 << (Signal::SIGALRM as u64 - 1));
            format!("{mask:x}, traced by {}", value("TracerPid:"))
        })
        .collect();
    all.sort();
    all
}

/// Numbers that look random (xorshift64).
struct Dice(u64);

impl Dice {
    /// One of `0..below`.
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % below
    }
}
