//! Tests `quorate-lab bench` over the loopback interface. They check that it measures, not the
//! results.
#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn bench(what: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-lab"));
    command.env_remove("RUST_LOG").args(["bench", what, "--loopback"]);
    command
}

/// Returns the error line without the program's name.
fn failure(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = str::from_utf8(&output.stderr).unwrap();
    stderr.strip_prefix("quorate-lab: ").and_then(|line| line.strip_suffix('\n')).unwrap()
}

fn measure(what: &str, arguments: &[&str]) -> Value {
    let output = bench(what).args(["--json", "--totem", "token=600"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn all_members_deliver_all_messages_in_one_order() {
    for size in ["24", "1350", "70000"] {
        let measured = measure("throughput", &["--size", size, "--seconds", "0.2", "--runs", "1"]);
        assert_eq!(measured["order_ok"], true);
        assert!(measured["messages"].as_u64().unwrap() > 10, "{measured}");
        assert!(measured["msgs_s"].as_f64().unwrap() > 10.0, "{measured}");
    }
    let measured = measure("throughput", &["--senders", "1", "--safe", "--seconds", "0.2", "--runs", "1"]);
    assert_eq!((&measured["order_ok"], &measured["senders"]), (&true.into(), &1.into()));
}

#[test]
fn messages_come_back_one_by_one() {
    let measured = measure("latency", &["--count", "50", "--load", "500"]);
    assert_eq!(measured["count"], 50);
    let us = |name: &str| measured[name].as_f64().unwrap();
    assert!(0.0 < us("lat_p50_us") && us("lat_p50_us") <= us("lat_max_us"), "{measured}");
}

#[test]
fn the_other_members_continue_when_one_is_lost() {
    for how in ["kill", "leave"] {
        let measured = measure("failover", &["--tries", "1", "--pause", "0.1", "--how", how]);
        assert!(measured["p50_ms"].as_f64().unwrap() > 0.0, "{measured}");
    }
}

#[test]
fn rings_of_each_size_form_work_and_lose_members() {
    let measured = measure("scale", &["--nodes", "3,4", "--tries", "1", "--starts", "2", "--seconds", "0.2"]);
    let rings = measured["rings"].as_array().unwrap();
    assert_eq!(rings.iter().map(|ring| ring["n"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 4]);
    for ring in rings {
        assert_eq!((&ring["formed"], &ring["order_ok"]), (&2.into(), &true.into()), "{ring}");
        for name in ["form_p50_ms", "load_p50_us", "load_rotations_s", "kill_p50_ms", "leave_p50_ms"] {
            assert!(ring[name].as_f64().unwrap() > 0.0, "{name}: {ring}");
        }
    }
}

#[test]
fn a_stopped_bench_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let files = || fs::read_dir(directory.path()).unwrap().count();
    let mut bench = bench("throughput")
        .args(["--seconds", "60"])
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while files() == 0 {
        assert_eq!(bench.try_wait().unwrap(), None, "it has ended");
        thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&bench), Signal::TERM).unwrap();
    let output = bench.wait_with_output().unwrap();
    assert_eq!(failure(&output), "stopped before it was done");
    assert_eq!(files(), 0);
}

#[test]
fn impossible_measurements_are_rejected() {
    let output = bench("throughput").args(["--nodes", "2", "--senders", "3"]).output().unwrap();
    assert_eq!(failure(&output), "only 2 members can send: see --nodes");
    let output = bench("failover").args(["--how", "cut"]).output().unwrap();
    assert!(failure(&output).starts_with("cannot cut off a member on loopback"));
}
