//! The embedding example of README.md is a program that runs.

use std::fs;
use std::process::Command;

#[test]
fn the_readme_shows_the_program_that_the_tests_run() {
    let read = |path: &str| fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect(path);
    let program = read("src/bin/three.rs");
    let (_, program) = program.split_once("\n\n").expect("a comment first");
    assert!(
        read("../README.md").contains(&format!("```rust,no_run\n{program}```")),
        "README.md shows another"
    );
    assert!(program.lines().filter(|line| !line.is_empty()).count() <= 25);
}

#[test]
fn three_nodes_in_one_process_become_quorate() {
    let directory = tempfile::tempdir().expect("a directory");
    let ran =
        Command::new(env!("CARGO_BIN_EXE_three")).env("TMPDIR", directory.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains(": b\"hello\""), "{ran:?}");
}
