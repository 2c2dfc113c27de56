//! Tests `quorate-lab sim` as a user runs it.

#![allow(clippy::unwrap_used)] // also in shared helpers, which clippy does not count as tests

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate-lab")).arg("sim").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A scenario that fails, because there is no protection against a record restored from a backup:
/// earlier ring ids are used again.
const FAILS: &str = "\
3 nodes for 6s, token timeout 200ms, seed 7
each sends every 5ms until 4s, up to 2000 bytes, 30 % safe
with window_size 4
at 500ms partition [1, 2] | [3]
at 700ms for 2s lose 10 % of tokens from node 1
at 1.5s node 1 crashes
at 1.6s node 1 gets back an older record
at 1.7s node 1 starts again
at 2s the network heals
calm from 5s
";

fn file(directory: &Path, content: &str) -> String {
    let file = directory.join("scenario");
    fs::write(&file, content).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_run_of_many_seeds_ends_with_its_summary() {
    let output = sim(&["run", "--seeds", "12", "--start", "3", "--trace-hash"]);
    let text = text(&output.stdout);
    assert!(output.status.success(), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.contains(" simulated hours, ") && last.ends_with(" 0 failed"), "{last}");
    assert!(text.contains("  a ring of all\n"), "{text}");
    assert!(text.contains("  until one ring (L1)\n"), "{text}");
    assert!(text.contains("never"), "twelve seeds cannot reach everything\n{text}");
}

#[test]
fn a_run_can_be_drawn_on_either_engine() {
    let directory = tempfile::tempdir().unwrap();
    for engine in ["core", "turmoil"] {
        let file = directory.path().join(engine);
        let drawn = text(&sim(&["replay", "3", "--engine", engine, "--html", file.to_str().unwrap()]).stdout);
        assert_eq!(drawn, text(&sim(&["replay", "3", "--engine", engine]).stdout), "the same run");
        let html = fs::read_to_string(&file).unwrap();
        assert!(html.contains(", seed 3</title>"), "{}", &html[..200]);
    }
    let output = sim(&["replay", "3", "--html", "/nowhere/run.html"]);
    let error = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && error.contains("/nowhere/run.html cannot be written: "),
        "{error}"
    );
}

#[test]
fn rings_of_each_size_are_measured() {
    let output = sim(&["scale", "--nodes", "2,20", "--latency", "100", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let measured: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [two, twenty] = &measured["rings"].as_array().unwrap()[..] else { panic!("{measured}") };
    let number = |ring: &Value, path: &str| ring.pointer(path).unwrap().as_f64().unwrap();
    assert_eq!((number(two, "/rotation_ms"), number(twenty, "/rotation_ms")), (0.2, 2.0));
    for ring in [two, twenty] {
        assert!(number(ring, "/form_ms") < 100.0 && number(ring, "/kill_ms") < 200.0, "{ring}");
        assert!((22.0..28.0).contains(&number(ring, "/idle/datagrams")), "the token, held for 42 ms: {ring}");
    }
    let table = text(&sim(&["scale", "--nodes", "2"]).stdout);
    assert!(table.starts_with("Bare members in simulated time, 50 us a datagram; "), "{table}");
    let wrong = sim(&["scale", "--nodes", "385"]);
    assert!(wrong.status.code() == Some(2) && text(&wrong.stderr).contains("385 is not in 2..=384"));
}

#[test]
fn recorded_quorum_cases_differ_only_by_decision() {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/../netsim/tests/data/quorum-cases.json");
    let output = sim(&["quorum", recorded]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("lms-4-slow, step 8 (up 2), node 1: decided: "), "{printed}");
    assert!(printed.lines().last().unwrap().starts_with("69 cases, 314 steps: "), "{printed}");

    let directory = tempfile::tempdir().unwrap();
    let own = r#"{"cases": [{"id": "own", "config": {"nodes": [1, 2], "quorum": {"two_node": 1}}, "steps": [
        {"do": "start", "partitions": [{"members": [1, 2], "quorate": false, "expected_votes": 2, "quorum": 1,
        "total_votes": 2, "flags": ["2Node", "WaitForAll"]}]}]}]}"#;
    let output = sim(&["quorum", &file(directory.path(), own)]);
    assert_eq!(output.status.code(), Some(1));
    let printed = text(&output.stdout);
    assert!(
        printed.starts_with("own, step 1 (start), node 1: NOT DECIDED\n  expected  {1, 2} not quorate"),
        "{printed}"
    );
    assert!(printed.ends_with("2 unexpected\n"), "{printed}");

    let output = sim(&["quorum", &file(directory.path(), "{}")]);
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("is not a file of quorum cases: missing field `cases`")
    );
}

#[test]
fn the_summary_is_available_as_json() {
    let output = sim(&["run", "--seeds", "6", "--json"]);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["failed"], Value::Array(Vec::new()));
    let vacuous: u64 = summary["vacuous"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(summary["runs"].as_u64().unwrap() + vacuous, 6);
    assert!(summary["situations"]["a ring of all"]["runs"].as_u64().unwrap() > 0);
    assert!(summary["until_one_ring"]["of_bound"]["max"].as_f64().unwrap() <= 1.0);
    assert!(summary["missed"].as_array().unwrap().iter().all(Value::is_string));
}

#[test]
fn whole_nodes_run_random_scenarios_deterministically() {
    let output = sim(&["run", "--engine", "turmoil", "--seeds", "4", "--trace-hash"]);
    let all = text(&output.stdout);
    assert!(output.status.success(), "{all}");
    assert!(all.lines().last().unwrap().ends_with(" 0 failed"), "{all}");
    let trace = || text(&sim(&["replay", "2", "--engine", "turmoil", "--trace"]).stdout);
    let one = trace();
    assert!(one.contains("regular "), "{one}");
    assert_eq!(one, trace());
}

#[test]
fn a_failure_shows_scenario_violation_and_last_events() {
    let directory = tempfile::tempdir().unwrap();
    let output = sim(&["scenario", &file(directory.path(), FAILS)]);
    let text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("\nT1 does not hold at 1.7"), "{text}");
    assert!(text.contains(&format!("\nscenario\n{FAILS}")), "{text}");
    let heads = text.lines().find(|line| line.starts_with("  seconds  node 1  ")).unwrap();
    let column = heads.find("node 3").unwrap();
    let of_node_3 =
        text.lines().filter(|line| line.get(column..).is_some_and(|cell| cell.starts_with("token ")));
    assert!(of_node_3.count() > 3, "{text}");
}

#[test]
fn a_failing_scenario_shrinks_to_one_that_fails_in_the_same_way() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), FAILS);
    let output = sim(&["shrink", "--file", &file]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shrunk = text(&output.stdout);
    assert!(shrunk.starts_with("# T1 does not hold"), "{shrunk}");
    assert!(shrunk.lines().filter(|line| line.starts_with("at ")).count() <= 3, "{shrunk}");

    let small = directory.path().join("small");
    let small = small.to_str().unwrap();
    let output = sim(&["shrink", "--file", &file, "-o", small]);
    assert_eq!((output.stdout.len(), fs::read_to_string(small).unwrap()), (0, shrunk), "the same each time");
    let again = sim(&["scenario", small]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stdout).contains("\nT1 does not hold"), "{}", text(&again.stdout));
}

#[test]
fn a_seed_that_does_not_fail_is_not_shrunk() {
    let output = sim(&["shrink", "3"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let why = "quorate-lab: seed 3 does not fail: there is nothing to make smaller\n";
    assert_eq!(text(&output.stderr), why);
}

#[test]
fn a_scenario_that_cannot_be_read_is_named_with_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "3 nodes for 1s, token timeout 200ms, seed 1\nat 1s node 2 sleeps\n");
    let output = sim(&["scenario", &file]);
    assert_eq!(output.status.code(), Some(1));
    let why = format!("quorate-lab: {file}: line 2: `node 2 sleeps` is not a known fault\n");
    assert_eq!(text(&output.stderr), why);
}
