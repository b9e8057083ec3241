//! A thread that does not stop is not waited for longer than asked: the last resort where one goes into uninterruptible sleep
//! while lp-apply stops the target.
#![allow(clippy::unwrap_used, reason = "a failed test is meant to panic")]

use lp_apply::sys::proc::{Doing, Process};
use lp_apply::sys::ptrace::{self, Event, Seizer, Tid};
use lp_apply::sys::sched;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Ends by itself, in case nothing else ends the wait for it.
const SLEEPER: &str = "10";
const SOON: Duration = Duration::from_secs(8);

struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    sched::listen_for_children().unwrap();
    let sleeper = Sleeper(Command::new("sleep").arg(SLEEPER).spawn().unwrap());
    let begun = Instant::now();
    let pid = i32::try_from(sleeper.0.id()).unwrap();
    let (process, tid) = (Process::open(pid).unwrap(), Tid(pid));
    // nanosleep or clock_nanosleep: what was before exec is over.
    while !matches!(process.thread_doing(tid), Doing::Blocked { nr: 35 | 230, .. }) {
        std::thread::yield_now();
    }
    Seizer::new().unwrap().seize(tid, false).unwrap();
    for _ in 0..3 {
        ptrace::wait_for(tid, Duration::ZERO, Duration::from_millis(1)).unwrap();
        assert_eq!(ptrace::poll(tid).unwrap(), None, "nobody has asked it to stop");
    }
    assert!(begun.elapsed() < SOON, "the waits ended with the sleeper only");
    ptrace::interrupt(tid).unwrap();
    while ptrace::poll(tid).unwrap().is_none() {
        ptrace::wait_for(tid, Duration::ZERO, Duration::from_millis(1)).unwrap();
    }
    assert_eq!(ptrace::poll(tid).unwrap(), Some(Event::Stop));
}
