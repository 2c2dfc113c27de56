//! The example `chat`: three processes in one group.

mod talker;

use std::process::Command;

use talker::Talker;

const CHAT: &str = env!("CARGO_BIN_EXE_chat");

#[test]
fn members_of_a_room_hear_each_other_and_who_leaves() {
    let state = tempfile::tempdir().expect("a directory");
    let mut talkers = [1, 2, 3].map(|id| Talker::start(CHAT, id, state.path()));
    talkers.iter_mut().for_each(|talker| talker.hears("in the room: 1 2 3"));
    talkers[1].says("is anyone there?");
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
    let output = Command::new(CHAT).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("1, 2 or 3"), "{said}");
}
