//! Random clusters under random trouble, on the core engine. `quorate sim run` runs many more.

#![allow(clippy::unwrap_used, reason = "tests panic")]

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
