//! The example programs when their output is closed.

use std::io::Read;
use std::process::{Command, Stdio};

#[test]
fn no_example_panics_when_its_output_is_closed() {
    for program in [
        env!("CARGO_BIN_EXE_by_hand"),
        env!("CARGO_BIN_EXE_ordered"),
        env!("CARGO_BIN_EXE_only_as_dc"),
        env!("CARGO_BIN_EXE_replicated"),
    ] {
        let mut child =
            Command::new(program).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut line = [0; 1];
        let mut out = child.stdout.take().expect("piped");
        out.read_exact(&mut line).expect("a line");
        drop(out);
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{program}: {}: {said}", output.status);
    }
}

#[test]
fn the_members_by_hand_do_the_same_in_each_run() {
    let run = || Command::new(env!("CARGO_BIN_EXE_by_hand")).output().expect("it runs");
    let (one, other) = (run(), run());
    let said = String::from_utf8_lossy(&one.stdout);
    assert!(one.status.success() && said.contains("node 3: node 2 is DC"), "{one:?}");
    assert_eq!(one.stdout, other.stdout);
}
