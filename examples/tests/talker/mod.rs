//! Processes that tests talk to.

#![allow(dead_code, reason = "each test uses a part")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A member of three, a process that reads lines and prints lines.
pub(crate) struct Talker {
    child: Child,
    says: Option<ChildStdin>,
    /// `None` once a test has taken it.
    hears: Option<Lines<BufReader<ChildStdout>>>,
}

impl Talker {
    /// Starts a program as this member. Its record is in `state`.
    pub(crate) fn start(program: &str, id: u32, state: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg(id.to_string()).env("TMPDIR", state).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (says, hears) = (child.stdin.take(), child.stdout.take().expect("piped"));
        Self { child, says, hears: Some(BufReader::new(hears).lines()) }
    }

    pub(crate) fn says(&self, line: &str) {
        writeln!(self.says.as_ref().expect("piped"), "{line}").expect("it reads");
    }

    /// Reads up to a line that ends like this.
    pub(crate) fn hears(&mut self, end: &str) {
        let mut lines = self.hears.iter_mut().flatten();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.ends_with(end)));
        assert!(line.is_some(), "{end} was not said");
    }

    /// Reads a line.
    pub(crate) fn next_line(&mut self) -> String {
        self.hears.iter_mut().flatten().next().and_then(Result::ok).expect("it says something")
    }

    /// Returns the lines that it prints, for another thread.
    pub(crate) fn take_lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        self.hears.take().expect("taken once")
    }

    /// Ends its input, and waits for its end.
    pub(crate) fn leaves(&mut self) {
        self.says = None;
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
