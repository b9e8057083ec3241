//! What goes to the screen. Each line begins with who speaks:
//!
//! ```text
//! # this program's comment          $ a command that it runs
//! | a line of the patched program     (two blanks) a line of a tool
//! ```
//! Several threads speak; `print!` locks standard output, so a line or a tool's page stays in one piece.

/// Our own comment.
pub(crate) fn comment(text: &str) {
    print(&format!("# {text}\n"));
}

/// A command, as one would type it in the directory of the sample.
pub(crate) fn command(words: &[&str]) {
    print(&format!("$ {}\n", words.join(" ")));
}

/// A line of the target.
pub(crate) fn target(line: &str) {
    print(&format!("| {line}\n"));
}

/// Everything that a tool printed.
pub(crate) fn tool(output: &str) {
    print(&output.lines().map(|line| format!("  {line}\n")).collect::<String>());
}

/// A reader that has gone away (`| head`) is no reason to panic, as `print!` would: the exit code still tells the end.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
