//! Votes while nodes have different configuration files.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use itertools::Itertools as _;
use quorate_netsim::history::What;
use quorate_netsim::{Fault, History, Scenario};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The report `old-list-two-quorate-parts`. A cluster has become one of three nodes. A node that
/// was removed comes back with its old file, and so does one that was not removed. Then these two
/// are cut off.
const OLD_LIST: &str = "\
5 nodes for 14s, token timeout 200ms, seed 1
at 0ns node 1 gets a file that lists 1 2 3
at 0ns node 2 gets a file that lists 1 2 3
at 0ns node 3 gets a file that lists 1 2 3
at 0ns node 4 crashes
at 0ns node 5 crashes
at 2s node 3 gets a file that lists 1 2 3 4 5
at 2s node 3 starts again
at 4s node 5 gets a file that lists 1 2 3 4 5
at 4s node 5 starts again
at 7s partition [1, 2] | [3, 4, 5]
at 10s the network heals
";

#[test]
fn an_old_list_does_not_make_a_second_quorate_part() {
    let scenario: Scenario = OLD_LIST.parse().unwrap();
    let (result, history) = scenario.run_core_traced();
    result.unwrap();
    let at = |node: u32, secs| history.status(node, Duration::from_secs(secs)).unwrap().clone();
    assert!(at(1, 9).quorate && !at(3, 9).quorate && !at(5, 9).quorate, "{:?}", at(3, 9));
    let last = |node: u32| at(node, 13);
    assert!(last(1).quorate && last(2).quorate, "{:?}", last(1));
    assert_eq!(last(1).expected_votes, Some(3));
    assert!(!last(5).quorate || last(5).ring == last(1).ring, "{:?}", last(5));
}

/// An operator's action on one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Stops the node, gives it the new file, and starts it.
    Restart(u32),
    /// Starts the node for the first time, with the new file.
    Add(u32),
    /// Stops the node for good.
    Remove(u32),
}

fn orders(steps: &[Step]) -> impl Iterator<Item = Vec<Step>> {
    steps.iter().copied().permutations(steps.len())
}

const EACH: Duration = ms(3000);
const DOWN: Duration = ms(400);
/// The longest wait of a node that was left out of rings: 32 consensus timeouts.
const LONGEST_WAIT: Duration = ms(32 * 240);

/// The ids of nodes 1 to 5 of the steps. What is chosen in a tie depends on them.
type Ids = [u32; 5];
const ASCENDING: Ids = [1, 2, 3, 4, 5];
const DESCENDING: Ids = [5, 4, 3, 2, 1];

/// Runs a change of the node list. Nodes 1 to `before` list each other. Step by step, all nodes get
/// the file that lists nodes 1 to `after`.
fn changed(order: &[Step], before: u32, after: u32, ids: Ids) -> History {
    let id = |node: u32| ids[node as usize - 1];
    let list = |nodes: u32| (1..=nodes).map(|node| (id(node), 1)).collect::<BTreeMap<u32, u32>>();
    let file = |node, nodes| Fault::File { node: id(node), voters: list(nodes), waits: false };
    let mut scenario = Scenario::new(before.max(after), EACH * (order.len() as u32 + 1) + LONGEST_WAIT)
        .token(ms(200))
        .seed(1);
    for node in 1..=before {
        scenario = scenario.at(Duration::ZERO, file(node, before));
    }
    for node in before + 1..=after {
        scenario = scenario.at(Duration::ZERO, Fault::Crash(id(node)));
    }
    for (n, step) in (1..).zip(order) {
        let at = EACH * n;
        scenario = match *step {
            Step::Remove(node) => scenario.at(at, Fault::Leave(id(node))),
            Step::Add(node) => scenario.at(at, file(node, after)).at(at, Fault::Restart(id(node))),
            Step::Restart(node) => scenario
                .at(at, Fault::Leave(id(node)))
                .at(at + DOWN, file(node, after))
                .at(at + DOWN, Fault::Restart(id(node))),
        };
    }
    let (result, history) = scenario.run_core_traced();
    result.unwrap_or_else(|failure| panic!("{order:?}: {failure}"));
    let last = history.status(id(1), history.ended_at()).unwrap();
    assert!(last.quorate && last.expected_votes == Some(after), "{order:?}: {last:?}");
    history
}

/// Returns the longest time without a quorate node, after the first node was quorate, and its
/// beginning.
fn without_quorum(history: &History) -> (Duration, Duration) {
    let mut quorate: BTreeMap<u32, bool> = BTreeMap::new();
    let (mut longest, mut since) = ((Duration::ZERO, Duration::ZERO), None);
    let mut begun = false;
    for record in history.records() {
        let Some(life) = record.life else { continue };
        let is_quorate = match &record.what {
            What::Status(status) => status.quorate,
            What::Crashed | What::Left(_) => false,
            _ => continue,
        };
        quorate.insert(life.node.get(), is_quorate);
        match (quorate.values().any(|quorate| *quorate), since) {
            (true, Some(from)) => {
                longest = longest.max((record.at.saturating_sub(from), from));
                since = None;
            }
            (false, None) if begun => since = Some(record.at),
            _ => {}
        }
        begun |= is_quorate;
    }
    since.map_or(longest, |from| longest.max((history.ended_at().saturating_sub(from), from)))
}

/// The longest time that a ring change takes while node lists differ: three intervals of JOINs.
const RING_CHANGE: Duration = ms(150);

#[test]
fn a_growing_cluster_keeps_its_quorum_in_every_order() {
    let steps = [Step::Restart(1), Step::Restart(2), Step::Restart(3), Step::Add(4), Step::Add(5)];
    for (order, ids) in orders(&steps).cartesian_product([ASCENDING, DESCENDING]) {
        let (lost, at) = without_quorum(&changed(&order, 3, 5, ids));
        assert!(lost < RING_CHANGE, "{order:?} of {ids:?}: no quorum for {lost:?} from {at:?} on");
    }
}

/// Of five votes, three are needed. While the two groups of nodes whose lists differ have two votes
/// each, the fifth node is missed until it is back.
#[test]
fn a_shrinking_cluster_misses_at_most_the_restarting_node() {
    let steps = [Step::Restart(1), Step::Restart(2), Step::Restart(3), Step::Remove(4), Step::Remove(5)];
    for (order, ids) in orders(&steps).cartesian_product([ASCENDING, DESCENDING]) {
        let (lost, at) = without_quorum(&changed(&order, 5, 3, ids));
        assert!(lost < DOWN + RING_CHANGE, "{order:?} of {ids:?}: no quorum for {lost:?} from {at:?} on");
    }
}

/// Two rings meet, and each has a node that the other cannot take in. Their representatives, which
/// find each other, are these nodes.
#[test]
fn two_rings_with_one_misfit_each_become_one_quorate_ring() {
    for (short, list) in [(1, "1 3 4 5 6"), (2, "2 3 4 5 6")] {
        let text = format!(
            "6 nodes for 25s, token timeout 200ms, seed 1
at 3s node {short} leaves
at 3400ms node {short} gets a file that lists {list}
at 3400ms node {short} starts again
at 6s partition [1, 5, 6] | [2, 3, 4]
at 10s the network heals
"
        );
        let (result, history) = with_lists(6, &text).run_core_traced();
        result.unwrap();
        for node in 3..=6 {
            let last = history.status(node, history.ended_at()).unwrap();
            assert!(last.quorate && last.total_votes >= 5, "{short}: node {node}: {last:?}");
        }
    }
}

/// Nodes 1 and 2 still have the old file. Node 3 has it too, and is in their ring, but the new
/// files list it. With it, the nodes with the new file are quorate.
#[test]
fn a_node_that_both_lists_have_goes_where_the_votes_are() {
    let mut text = "6 nodes for 30s, token timeout 200ms, seed 1\n".to_owned();
    for (node, at) in [(4, 3000), (5, 5000), (6, 7000)] {
        text += &format!(
            "at {at}ms node {node} leaves
at {later}ms node {node} gets a file that lists 3 4 5 6
at {later}ms node {node} starts again
",
            later = at + 400
        );
    }
    text += "at 10s partition [1, 2, 3] | [4, 5, 6]\nat 14s the network heals\n";
    let (result, history) = with_lists(6, &text).run_core_traced();
    result.unwrap();
    for node in 3..=6 {
        let last = history.status(node, history.ended_at()).unwrap();
        assert!(last.quorate && last.total_votes >= 4, "node {node}: {last:?}");
    }
}

/// Returns a scenario in which each of the nodes at first lists all of them.
fn with_lists(nodes: u32, text: &str) -> Scenario {
    let list: String = (1..=nodes).map(|node| format!(" {node}")).collect();
    let lists: String =
        (1..=nodes).map(|node| format!("at 0ns node {node} gets a file that lists{list}\n")).collect();
    let (head, rest) = text.split_once('\n').unwrap();
    format!("{head}\n{lists}{rest}").parse().unwrap()
}

/// A DC that is killed as soon as it is quorate does not leave the others without quorum, because
/// all of them have stored what they agreed on.
#[test]
fn a_new_cluster_survives_its_first_dc() {
    let fresh = "\
3 nodes for 3s, token timeout 200ms, seed 1
with disk 5ms
with fresh yes
";
    let (result, history) = fresh.parse::<Scenario>().unwrap().run_core_traced();
    result.unwrap();
    let dc_at = history.statuses().iter().find(|stated| stated.status.quorate).unwrap().at;
    for after in [0, 1, 100, 1000, 5000, 20_000] {
        let at = dc_at + Duration::from_micros(after);
        let text = format!("{fresh}at {at:?} node 1 crashes\n");
        let (result, history) = text.parse::<Scenario>().unwrap().run_core_traced();
        result.unwrap();
        let last = history.status(2, history.ended_at()).unwrap();
        assert!(last.quorate, "crash after {after} us: {last:?}");
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use quorate_netsim::mutants::Mutant;

    use super::*;

    #[test]
    fn foreign_votes_make_a_second_quorate_part() {
        let _active = Mutant::ForeignVotesCount.activate();
        let scenario: Scenario = OLD_LIST.parse().unwrap();
        let failure = scenario.run_core().unwrap_err();
        assert!(failure.to_string().contains("Q8"), "{failure}");
    }

    #[test]
    fn growth_loses_quorum_if_node_lists_are_not_heard() {
        let order = [Step::Add(4), Step::Restart(3), Step::Add(5), Step::Restart(2), Step::Restart(1)];
        let lost = || without_quorum(&changed(&order, 3, 5, ASCENDING)).0;
        assert!(lost() < RING_CHANGE);
        let _active = Mutant::NodeListsIgnored.activate();
        assert!(lost() >= RING_CHANGE);
    }
}
