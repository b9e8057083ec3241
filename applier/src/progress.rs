//! What lp-apply waits for, said on a terminal while it waits: one line that is written over, and wiped at the end.
//!
//! Only where it waits, so no thread of a target stands still for it.

use crate::patience::Patience;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Who has waited for less is told nothing; the line changes no more often than that.
const FIRST: Duration = Duration::from_secs(1);
const EACH: Duration = Duration::from_millis(250);

/// The line, and whether there may be one.
struct Line {
    allowed: bool,
    written: Option<Instant>,
}

static LINE: Mutex<Line> = Mutex::new(Line { allowed: false, written: None });

/// Allows the line, if a person sees standard error.
pub fn allow() {
    if let Ok(mut line) = LINE.lock() {
        line.allowed = std::io::stderr().is_terminal();
    }
}

/// Says what process `pid` keeps lp-apply waiting for, and how long that may take.
pub fn waiting(pid: i32, patience: Patience, what: impl FnOnce() -> String) {
    let Ok(mut line) = LINE.lock() else { return };
    let due = line.written.is_none_or(|written| written.elapsed() >= EACH);
    if line.allowed && due && patience.waited() >= FIRST {
        let text = text(pid, patience.waited(), patience.limit(), &what());
        // Somebody who has closed the terminal misses nothing.
        let _ = std::io::stderr().write_all(text.as_bytes());
        line.written = Some(Instant::now());
    }
}

/// Wipes the line, if there is one.
pub fn wipe() {
    if let Ok(mut line) = LINE.lock()
        && line.written.take().is_some()
    {
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
}

/// Without a wrap at the edge of the terminal: it could not be written over. Source: ECMA-48, "EL"; DEC's private mode 7.
fn text(pid: i32, waited: Duration, limit: Duration, what: &str) -> String {
    let what = what.replace(char::is_control, "?");
    format!("\r\x1b[K\x1b[?7l{pid}: waiting for {} of {} s: {what}\x1b[?7h", waited.as_secs(), limit.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_writes_nothing_to_the_terminal_itself() {
        let text = text(7, Duration::from_millis(2900), Duration::from_secs(10), "thread 8 (\x1b]0;x\x07)");
        assert_eq!(text, "\r\x1b[K\x1b[?7l7: waiting for 2 of 10 s: thread 8 (?]0;x?)\x1b[?7h");
    }
}
