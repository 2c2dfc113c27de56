//! Mistakes that a lease must not make. Each is a scenario in which two nodes could act at the same
//! time with that mistake. `scenarios/mod.rs` describes the format of the scenario files.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod scenarios;

use scenarios::scenarios;

scenarios! {
    "leases":
    a_dc_hands_over_when_it_is_asked_to
    a_dc_hands_over_when_it_leaves
    a_dc_that_leaves_while_the_ring_changes_acts_no_more
    a_preferred_node_that_joins_is_handed_the_role
    application_hangs_and_another_waits
    application_that_is_alive_again_may_be_dc_again
    dc_stands_still_and_another_waits
    dc_stands_still_and_clocks_differ
    dc_that_was_cut_off_comes_back_while_another_acts
    dc_without_quorum_does_not_act
    everybody_restarts
    no_release_while_the_ring_changes
    the_only_candidate_hangs_while_the_ring_changes
    token_comes_back_and_goes_nowhere
    token_is_sent_again_and_goes_nowhere
}

#[test]
fn every_scenario_in_the_directory_is_run() {
    let scenarios: std::collections::BTreeSet<String> = SCENARIOS.iter().map(ToString::to_string).collect();
    assert_eq!(scenarios::files(DIRECTORY), scenarios);
}

#[cfg(feature = "mutants")]
#[test]
fn every_scenario_fails_with_its_mutant() {
    use quorate_netsim::mutants::Mutant;
    use scenarios::{Regression, Wrong};

    let mut survivors = Vec::new();
    for name in SCENARIOS {
        let regression = Regression::read(DIRECTORY, name);
        for mutant in &regression.kills {
            let mutant: Mutant = mutant.parse().unwrap();
            let _active = mutant.activate();
            match regression.run() {
                Err(Wrong::Broken(what)) => {
                    println!("{name:<50} {mutant:<24} {:.100}", what.lines().next().unwrap_or_default());
                }
                Err(vacuous) => survivors.push(format!("{mutant} in {name}, where something {vacuous}")),
                Ok(()) => survivors.push(format!("{mutant} in {name}")),
            }
        }
    }
    assert!(survivors.is_empty(), "{survivors:#?} survive");
}
