//! The example `counter`: three processes with one state.

mod talker;

use talker::Talker;

const COUNTER: &str = env!("CARGO_BIN_EXE_counter");

#[test]
fn a_member_that_comes_back_has_the_sum() {
    let state = tempfile::tempdir().expect("a directory");
    let start = |id| Talker::start(COUNTER, id, state.path());
    let mut members = [1, 2, 3].map(start);
    members.iter_mut().for_each(|member| member.hears("the sum is 0"));
    members[0].says("5");
    members[0].hears("5 more makes 5");
    members[2].leaves();
    loop {
        members[1].says("10");
        let said = members[1].next_line();
        if said == "10 more makes 15" {
            break;
        }
        // The ring is changing.
        assert!(said.starts_with("10: not written"), "{said}");
    }
    let mut third = start(3);
    third.hears("the sum is 15");
    third.says("1");
    third.hears("1 more makes 16");
}
