//! Bugs that implementations of Totem had, by number (B01 to B64). Each is the scenario in which it
//! showed.
//!
//! `regress/README.md` describes each bug and says where it is tested. `scenarios/mod.rs` describes
//! the format of the scenario files.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod scenarios;

use std::collections::BTreeMap;
#[cfg(feature = "mutants")]
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use scenarios::scenarios;

scenarios! {
    "regress":
    b01_representative_restarts_within_the_token_timeout
    b02_recovery_loses_its_token_and_an_old_commit_token_comes
    b03_members_leave_in_recovery_and_come_again
    b04_three_commits_in_a_row_fail
    b05_recovery_fails_and_then_rings_merge
    b06_member_restarts_inside_a_long_token_timeout
    b07_members_part_with_different_holes
    b07_sender_of_a_cause_is_gone
    b08_recovered_frames_are_wanted_again
    b09_two_recoveries_in_a_row_with_and_without_messages
    b10_six_hundred_frames_are_recovered
    b11_short_and_long_messages_are_recovered
    b12_full_frames_are_recovered
    b13_commit_token_comes_twice
    b14_two_representatives_try_the_same_number
    b15_numbers_wrap_inside_a_recovery
    b16_believe_something_else_when_time_is_up
    b16_late_joins_name_each_other_failed
    b17_rings_merge_with_stale_lists_of_failed
    b18_members_stop_and_start_one_after_the_other
    b19_leave_needs_no_timeout
    b20_join_names_one_known_and_one_new_node
    b21_joins_in_a_standing_ring_count
    b22_fifty_nodes_start_at_once
    b23_consensus_timeout_as_short_as_the_token_timeout
    b24_paused_node_wakes_to_a_hundred_joins
    b25_member_hears_tokens_and_no_multicasts
    b25_member_is_not_heard_and_is_told_so
    b27_another_member_sends_a_frame_again
    b28_copies_of_tokens_while_a_frame_is_missing
    b29_rings_shrink_to_one_again_and_again
    b30_successor_is_gone_and_the_token_is_sent_again
    b31_last_frames_of_a_burst_are_lost
    b32_eleven_hundred_numbers_behind_a_gap
    b33_the_middle_of_a_full_list_of_requests_is_served
    b35_frames_come_later_than_the_token
    b36_idle_ring_is_quiet
    b37_held_token_is_let_go_for_a_message
    b38_receive_buffers_overflow
    b39_messages_wait_while_a_ring_changes
    b40_member_restarts_under_long_messages
    b41_long_message_with_a_short_rest
    b42_messages_about_as_long_as_a_packet
    b43_longest_message_and_the_next
    b44_joiner_hears_two_senders_in_the_middle
    b45_sender_crashes_in_the_middle_and_comes_again
    b46_node_joins_in_the_middle_of_a_message
    b50_node_that_starts_expects_more
    b51_halves_that_start_break_no_tie
    b51_one_of_three_breaks_no_tie
    b51_parts_wait_for_all
    b51_two_equal_halves
    b52_members_with_different_options
    b53_two_of_three_nodes
    b55_no_part_has_a_majority
    b55_the_last_man_waits_for_the_window
    b57_quorum_of_the_ring_that_is_over
    b60_paused_member_is_told_who_left_and_joined
    b61_joiner_dies_before_all_have_spoken
}

#[test]
fn every_scenario_in_the_directory_is_run() {
    assert_eq!(scenarios::files(DIRECTORY), SCENARIOS.iter().map(ToString::to_string).collect());
}

/// Returns the rows of the table in `regress/README.md`, each with the number of the bug and the
/// place where it is tested.
fn table() -> Vec<(u32, String)> {
    let text = fs::read_to_string(scenarios::path(DIRECTORY).join("README.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| B")).map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [number, what, tested, ""] = cells[..] else { panic!("not a row: {row}") };
        assert!(!what.is_empty() && !tested.is_empty(), "{row}");
        (number.parse().unwrap(), tested.to_owned())
    });
    rows.collect()
}

#[test]
fn the_table_has_every_bug_once() {
    let numbers: Vec<u32> = table().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (1..=64).collect::<Vec<u32>>());
}

#[test]
fn the_table_mentions_every_scenario_and_only_existing_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut mentioned = BTreeMap::new();
    for (number, tested) in table() {
        // Every other piece is in backticks: the name of a scenario, or `path::test`.
        for name in tested.split('`').skip(1).step_by(2) {
            match name.split_once("::") {
                Some((file, test)) => {
                    let source =
                        fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
                    assert!(source.contains(&format!("fn {test}(")), "{test} is not in {file}");
                }
                None => assert_eq!(mentioned.insert(name.to_owned(), number), None, "{name} twice"),
            }
        }
    }
    assert_eq!(mentioned.keys().collect::<Vec<_>>(), SCENARIOS.iter().collect::<Vec<_>>());
    for (name, number) in mentioned {
        assert!(name.starts_with(&format!("b{number:02}_")), "{name} in the row of B{number:02}");
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use quorate_netsim::mutants::Mutant;

    use super::scenarios::{Regression, Wrong};
    use super::{BTreeSet, DIRECTORY, SCENARIOS};

    /// Bugs of the list that no scenario here shows. The table names the tests that show them.
    const ELSEWHERE: [Mutant; 6] = [
        Mutant::StaleCommitTokenAccepted,
        Mutant::RetransFlagMarkKept,
        Mutant::StaleJoinEndsRing,
        Mutant::AccusationsAnswered,
        Mutant::QuotaOffByOne,
        Mutant::EmptyMessageLost,
    ];

    #[test]
    fn every_scenario_fails_with_its_mutant() {
        let mut survivors = Vec::new();
        let mut shown: BTreeSet<Mutant> = ELSEWHERE.into();
        for name in SCENARIOS {
            let regression = Regression::read(DIRECTORY, name);
            for mutant in &regression.kills {
                let mutant: Mutant = mutant.parse().unwrap();
                if let Some(bug) = mutant.bug() {
                    assert_eq!(bug.to_lowercase(), name[..3], "{name} and {mutant}");
                }
                let _active = mutant.activate();
                match regression.run() {
                    Err(Wrong::Broken(what)) => println!("{name:<56} {mutant:<34} {:.90}", first_line(&what)),
                    Err(vacuous) => survivors.push(format!("{mutant} in {name}, where something {vacuous}")),
                    Ok(()) => survivors.push(format!("{mutant} in {name}")),
                }
                shown.insert(mutant);
            }
        }
        assert!(survivors.is_empty(), "{survivors:#?} survive");
        let historical = Mutant::ALL.iter().copied().filter(|mutant| mutant.bug().is_some()).collect();
        shown.retain(|mutant| mutant.bug().is_some());
        assert_eq!(shown, historical);
    }

    fn first_line(text: &str) -> &str {
        text.lines().next().unwrap_or_default()
    }
}
