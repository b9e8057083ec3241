//! A running program that the tests patch.

use crate::memory::Snapshot;
use crate::{DEADLINE, wait_for};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A running program. Dropping it kills and reaps the process.
///
/// Programs built on `programs/talk.h` print `ready`, then answer each line of their input with one line.
#[derive(Debug)]
pub struct Target {
    child: Child,
    pid: u32,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Target {
    /// Starts the program and waits until it says `ready`.
    #[track_caller]
    pub fn start(program: impl AsRef<Path>) -> Self {
        Self::start_command(&mut Command::new(program.as_ref()))
    }

    /// Starts a command that becomes such a program.
    #[track_caller]
    pub fn start_command(command: &mut Command) -> Self {
        let mut target = Self::spawn(command);
        target.expect_line("ready");
        target
    }

    /// Starts any program.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // Ends by itself with the last writer of the pipe.
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { pid: child.id(), stdin: child.stdin.take(), child, lines, seen: Vec::new() }
    }

    /// As [`Target::start_command`] for a command that forks, as `unshare --fork` does: the target is its only child.
    #[track_caller]
    pub fn start_child_of(command: &mut Command) -> Self {
        let mut target = Self::start_command(command);
        let parent = target.child.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        target.pid = children.trim().parse().unwrap_or_else(|_| panic!("children of {parent}: {children:?}"));
        target
    }

    /// Its process id, as this process sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends one line.
    #[track_caller]
    pub fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("finish() was not called");
        if let Err(e) = writeln!(stdin, "{line}") {
            panic!("the target does not listen: {e}; {}", self.story());
        }
    }

    /// The next line it prints.
    #[track_caller]
    pub fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => {
                self.seen.push(line.clone());
                line
            }
            Err(e) => panic!("no line from the target ({e}); {}", self.story()),
        }
    }

    /// Reads on until a line contains `text`.
    #[track_caller]
    pub fn expect_line(&mut self, text: &str) -> String {
        loop {
            let line = self.next_line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a line and returns the answer.
    #[track_caller]
    pub fn ask(&mut self, question: &str) -> String {
        self.send_line(question);
        self.next_line()
    }

    /// What is mapped and the bytes of all code.
    #[track_caller]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.pid)
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        wait_for("the target's end", || self.child.try_wait().unwrap())
    }

    /// Closes its input and waits for its end, which must be a good one.
    #[track_caller]
    pub fn finish(mut self) {
        drop(self.stdin.take());
        let status = self.wait_exit();
        assert!(status.success(), "the target ended with {status}; {}", self.story());
    }

    /// Every line seen, and whether it lives: for failing tests.
    fn story(&mut self) -> String {
        let state = match self.child.try_wait() {
            Ok(Some(status)) => status.to_string(),
            _ => "running".to_owned(),
        };
        format!("target {} is {state}; it said: {:#?}", self.pid, self.seen)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Both fail only if it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers that a target publishes in a shared file while it works (`programs/board.h`).
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
}

impl Board {
    /// The board that the target keeps in this file.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file, for the target's command line.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number in place `index`.
    #[track_caller]
    pub fn get(&self, index: usize) -> u64 {
        let bytes = std::fs::read(&self.path).unwrap();
        u64::from_ne_bytes(bytes[8 * index..8 * index + 8].try_into().unwrap())
    }

    /// Sets the number in place `index`.
    #[track_caller]
    pub fn set(&self, index: usize, number: u64) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(&number.to_ne_bytes(), 8 * index as u64).unwrap();
    }

    /// Waits until the number in place `index` has grown by `by`: the target works.
    #[track_caller]
    pub fn wait_growth(&self, index: usize, by: u64) {
        let start = self.get(index);
        wait_for("the target's work to go on", || (self.get(index) >= start + by).then_some(()));
    }
}
