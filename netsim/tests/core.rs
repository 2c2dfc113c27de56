//! Random clusters under random faults, on the core engine. `quorate sim run` runs many more.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::fs;
use std::path::Path;

use quorate_netsim::Scenario;

#[test]
fn random_scenarios_keep_every_promise_and_end_in_one_ring() {
    let mut vacuous = 0;
    for seed in 0..150 {
        match Scenario::random(seed).run_core() {
            Ok(summary) => vacuous += u32::from(summary.vacuous.is_some()),
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(vacuous < 30, "{vacuous} of 150 runs prove nothing");
}

/// The files are scenarios that seeds of earlier swarms drew. The same seeds draw other scenarios
/// by now.
#[test]
fn failures_of_earlier_swarms_stay_fixed() {
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
fn each_seed_gives_one_run_and_other_seeds_give_others() {
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
fn the_cluster_works_under_permanent_loss() {
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
