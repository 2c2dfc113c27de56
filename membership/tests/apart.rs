//! Nodes with different node lists, and nodes that do not all hear each other. The others still
//! have a ring most of the time, and are told which nodes it lacks.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod lab;

use std::time::Duration;

use lab::{Lab, ms};

/// Long enough for all delays to reach their maximum.
const LONG: Duration = Duration::from_secs(60);

/// L7: one node does not hear, or is not heard by, one or both of the others, or two nodes do not
/// hear each other. Each node takes each part.
#[test]
fn nodes_that_hear_each_other_have_a_ring_most_of_the_time() {
    let deaf: [&[(u32, u32)]; 5] =
        [&[(1, 3), (2, 3)], &[(3, 1)], &[(1, 3)], &[(3, 1), (3, 2)], &[(1, 3), (3, 1)]];
    for (renumbered, cuts) in [0, 1, 2].into_iter().flat_map(|by| deaf.map(|cuts| (by, cuts))) {
        let number = |id: u32| (id + renumbered - 1) % 3 + 1;
        for evidence in [false, true] {
            let mut lab = if evidence { Lab::with_evidence(3) } else { Lab::ring(3) };
            for &(from, to) in cuts {
                lab.cut_one_way(number(from), number(to));
            }
            // Of two nodes that do not hear each other, either may be left out.
            let [one, other] = [[1, 2], [2, 3]].map(|pair| pair.map(number));
            let pairs: &[&[u32]] = if cuts == [(1, 3), (3, 1)] { &[&one, &other] } else { &[&one] };
            lab.run(ms(2000));
            let first = lab.share_of_rings(pairs, Duration::from_secs(15));
            let later = lab.share_of_rings(pairs, LONG);
            println!("{cuts:?} + {renumbered}, evidence {evidence}: {first} %, then {later} %");
            assert!(first >= 50 && later >= 80, "L7: {cuts:?} + {renumbered}: {first} %, then {later} %");
            lab.calm();
            let took = lab.until_ring(&[1, 2, 3]);
            assert!(took < 10 * lab.config.consensus, "{cuts:?} + {renumbered}: took {took:?}");
            lab.check();
        }
    }
}

/// K1: one file was forgotten, so node 3's list lacks node 4.
#[test]
fn a_node_with_an_old_list_does_not_break_the_others_ring() {
    lab::scenarios::one_node_has_an_old_list();
}

/// A cluster grows by one node, which so far is only in one member's file.
#[test]
fn a_new_node_does_not_pull_a_member_out_of_its_ring() {
    lab::scenarios::one_member_knows_of_a_new_node();
}

/// Without a node list, node 2 does not know the address of node 3. Node 3 also names a dead node.
#[test]
fn a_restarted_node_that_never_hears_its_successor_has_a_ring() {
    lab::scenarios::a_restarted_node_never_hears_its_successor();
}

/// The unlisted name is ignored, and the rest of the JOIN counts.
#[test]
fn a_join_that_names_an_unlisted_node_still_counts() {
    let mut lab = Lab::listing(1..=3);
    for id in [1, 4] {
        lab.list(id, 1..=4);
    }
    for id in 1..=3 {
        lab.start(id);
    }
    lab.until_ring(&[1, 2, 3]);
    lab.start(4);
    lab.cut(&[4], &[2, 3]);
    lab.run(ms(2000));
    lab.crash(4);
    lab.crash(1);
    lab.start(1);
    let took = lab.until_ring(&[1, 2, 3]);
    assert!(took < 2 * lab.config.consensus, "took {took:?}");
}
