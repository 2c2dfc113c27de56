//! The first program of docs/embedding.md is one that runs. The other blocks of that page are tests
//! of this crate's documentation.

mod talker;

use std::fs;
use std::time::Duration;

use talker::Talker;

const LEADER: &str = env!("CARGO_BIN_EXE_leader");

#[test]
fn the_page_shows_the_program_that_the_tests_run() {
    let read = |path: &str| fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path);
    let program = read("src/bin/leader.rs");
    let (_, program) = program.split_once("\n\n").expect("a comment first");
    assert!(read("../docs/embedding.md").contains(&format!("```rust,no_run\n{program}```")));
}

#[test]
fn another_node_leads_when_the_leader_is_killed() {
    let state = tempfile::tempdir().expect("a directory");
    let mut nodes = [1, 2, 3].map(|id| Some(Talker::start(LEADER, id, state.path())));
    // Only the leader prints. Each node is asked by a thread of its own.
    let (sender, said) = std::sync::mpsc::channel();
    let leaders = nodes.iter_mut().flatten().map(Talker::take_lines);
    for lines in leaders {
        let sender = sender.clone();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    }
    drop(sender);
    let id = |line: String| -> usize {
        let id = line.strip_prefix("node ").and_then(|rest| rest.split_once(" leads under term "));
        id.and_then(|(id, _)| id.parse().ok()).expect("a leader")
    };
    let next = || id(said.recv_timeout(Duration::from_secs(60)).expect("one leads"));
    let first = next();
    drop(nodes[first - 1].take());
    while next() == first {}
}
