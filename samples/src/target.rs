//! The running program. A thread shows its lines at once and passes them on; dropping it kills the process.

use crate::{Error, show};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A started program; gone when this is.
pub(crate) struct Target {
    child: Child,
    lines: Receiver<String>,
}

impl Target {
    /// Starts the program with its standard output in a pipe to us.
    pub(crate) fn start(program: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Start { program: program.display().to_string(), source };
        let mut child = Command::new(program).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let (send, lines) = channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    show::target(&line);
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { child, lines })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it prints this line; what it printed since the last call counts too.
    pub(crate) fn wait_line(&mut self, line: &'static str, within: Duration) -> Result<(), Error> {
        let begin = Instant::now();
        loop {
            match self.lines.recv_timeout(within.saturating_sub(begin.elapsed())) {
                Ok(said) if said == line => return Ok(()),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(Error::Silent { line, within }),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Ended { status: self.reap()?, line }),
            }
        }
    }

    /// Waits until it has closed its output and ended by itself.
    pub(crate) fn wait_exit(&mut self, within: Duration) -> Result<ExitStatus, Error> {
        let begin = Instant::now();
        loop {
            match self.lines.recv_timeout(within.saturating_sub(begin.elapsed())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(Error::Stays { within }),
                Err(RecvTimeoutError::Disconnected) => return self.reap(),
            }
        }
    }

    /// The program has closed its output: it ends now.
    fn reap(&mut self) -> Result<ExitStatus, Error> {
        self.child.wait().map_err(Error::io("waiting for the program"))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
