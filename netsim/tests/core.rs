//! Random clusters under random trouble, on the core engine. `quorate sim run` runs many more.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::fs;
use std::path::Path;

use quorate_netsim::Scenario;

#[test]
fn random_scenarios_keep_every_promise_and_are_one_ring_in_the_end() {
    let mut vacuous = 0;
    for seed in 0..150 {
        match Scenario::random(seed).run_core() {
            Ok(summary) => vacuous += u32::from(summary.vacuous.is_some()),
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(vacuous < 30, "{vacuous} of 150 runs prove nothing");
}

/// The files are what seeds of earlier swarms drew; their numbers are other scenarios by now.
#[test]
fn what_a_swarm_once_found_stays_mended() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let mut ran = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let scenario: Scenario = fs::read_to_string(&path).unwrap().parse().unwrap();
        scenario.run_core().unwrap_or_else(|failure| panic!("{}: {failure}", path.display()));
        ran += 1;
    }
    assert!(ran > 0);
}

#[test]
fn the_same_seed_is_the_same_run_to_the_last_byte_and_another_is_another() {
    let run = |seed| Scenario::random(seed).run_core().map(|summary| summary.fingerprint);
    let prints: std::collections::BTreeSet<u64> = (0..20)
        .map(|seed| match (run(seed), run(seed)) {
            (Ok(one), Ok(other)) => {
                assert_eq!(one, other, "seed {seed}");
                one
            }
            (Err(failure), _) | (_, Err(failure)) => panic!("{failure}"),
        })
        .collect();
    assert_eq!(prints.len(), 20);
}

#[test]
fn loss_that_never_ends_is_lived_with() {
    for seed in 0..10 {
        let text = format!(
            "5 nodes for 3s, token timeout 200ms, seed {seed}\n\
             each sends every 10ms until 3s, up to 2000 bytes, 50 % safe\n\
             with loss 50000\n\
             at 1s partition [1, 2] | [3, 4, 5]\n\
             at 2s the network heals\n\
             calm from 3s\n"
        );
        let scenario: Scenario = text.parse().unwrap();
        let summary = scenario.run_core().unwrap_or_else(|failure| panic!("{failure}"));
        assert!(summary.faults["loss"] > 100, "{:?}", summary.faults);
    }
}
