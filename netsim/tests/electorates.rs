//! Whose votes count while nodes have different files.

use quorate_netsim::Scenario;

/// The report `old-list-two-quorate-parts`: a cluster of five becomes one of three; a node that was removed comes back with its
/// old file, and so does one that was not.
const OLD_LIST: &str = "\
5 nodes for 20s, token timeout 200ms, seed 1
at 500ms node 4 crashes
at 1s node 5 crashes
at 2s node 1 gets a file that lists 1 2 3
at 2s node 1 starts again
at 3s node 2 gets a file that lists 1 2 3
at 3s node 2 starts again
at 4s node 3 gets a file that lists 1 2 3
at 4s node 3 starts again
at 6s node 5 starts again
at 9s node 3 gets a file that lists 1 2 3 4 5
at 9s node 3 starts again
";

#[test]
fn an_old_list_does_not_make_a_second_quorate_part() {
    let scenario: Scenario = OLD_LIST.parse().unwrap();
    let (result, history) = scenario.run_core_traced();
    result.unwrap();
    let last = |node: u32| history.status(node, std::time::Duration::from_secs(19)).unwrap().clone();
    assert!(last(1).quorate && last(2).quorate, "{:?}", last(1));
    assert_eq!(last(1).expected_votes, Some(3));
    assert!(!last(5).quorate || last(5).ring == last(1).ring, "{:?}", last(5));
}

#[cfg(feature = "mutants")]
#[test]
fn foreign_votes_make_a_second_quorate_part() {
    let _guard = quorate_membership::mutants::Mutant::ForeignVotesCount.activate();
    let scenario: Scenario = OLD_LIST.parse().unwrap();
    let failure = scenario.run_core().unwrap_err();
    assert!(failure.to_string().contains("Q8"), "{failure}");
}
