//! The example `chat`: three processes in one group.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A process that talks.
struct Talker {
    child: Child,
    says: Option<ChildStdin>,
    hears: Lines<BufReader<ChildStdout>>,
}

impl Talker {
    fn start(id: u32, state: &std::path::Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chat"));
        command.arg(id.to_string()).env("TMPDIR", state).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (says, hears) = (child.stdin.take(), child.stdout.take().expect("piped"));
        Self { child, says, hears: BufReader::new(hears).lines() }
    }

    /// Reads up to a line that ends like this.
    fn hears(&mut self, end: &str) {
        let line = self.hears.find(|line| line.as_ref().is_ok_and(|line| line.ends_with(end)));
        assert!(line.is_some(), "{end} was not said");
    }

    fn leaves(&mut self) {
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

#[test]
fn members_of_a_room_hear_each_other_and_who_leaves() {
    let state = tempfile::tempdir().expect("a directory");
    let mut talkers = [1, 2, 3].map(|id| Talker::start(id, state.path()));
    talkers.iter_mut().for_each(|talker| talker.hears("in the room: 1 2 3"));
    writeln!(talkers[1].says.as_ref().expect("piped"), "is anyone there?").expect("it reads");
    talkers.iter_mut().for_each(|talker| talker.hears("2: is anyone there?"));

    let [one, two, three] = &mut talkers;
    one.leaves();
    three.hears("(leave) in the room: 2 3");
    two.leaves();
    three.hears("(leave) in the room: 3");
    three.leaves();
}

#[test]
fn a_member_without_a_number_says_what_is_missing() {
    let output = Command::new(env!("CARGO_BIN_EXE_chat")).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("1, 2 or 3"), "{said}");
}
