//! Stdout and stderr. A reader that has gone must not cause a panic, as the macros of std would.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::Failure;

/// Prints text to stdout. A closed reader is not a failure, as in `quorate-lab sim replay 1 |
/// head`.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to stderr.
pub(crate) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A line on a terminal that is overwritten, for progress.
pub(crate) struct Progress {
    shown_at: Option<Instant>,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { shown_at: None, terminal: io::stderr().is_terminal() }
    }

    /// Shows a line, at most five times per second.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        if !self.terminal || self.shown_at.is_some_and(|at| at.elapsed() < Duration::from_millis(200)) {
            return;
        }
        self.shown_at = Some(Instant::now());
        let _ = write!(io::stderr(), "\r\x1b[K{}", line());
    }

    pub(crate) fn clear(&mut self) {
        if self.terminal && self.shown_at.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
