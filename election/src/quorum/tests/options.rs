//! Tests of the quorum options, each by itself.

use super::*;

#[test]
fn two_nodes_are_each_quorate_alone_once_they_have_met() {
    let mut world = World::new(2, two_node);
    assert_eq!(world.ring(&[1]).inquorate, Some(Inquorate::WaitsForAll { total: 1, expected: 2 }));
    let verdict = world.ring(&[1, 2]);
    assert_eq!((counted(&verdict), verdict.flags), ((2, 2, 1), vec!["2Node", "Quorate", "WaitForAll"]));
    assert!(is_quorate(&world.ring(&[1])) && is_quorate(&world.ring(&[2])));
}

#[test]
fn two_node_without_waiting_is_quorate_alone() {
    let mut world =
        World::new(2, |config| (config.quorum.two_node, config.quorum.wait_for_all) = (true, Some(false)));
    assert!(is_quorate(&world.ring(&[1])) && is_quorate(&world.ring(&[2])));
}

#[test]
fn two_node_is_off_with_three() {
    let mut world = World::new(3, two_node);
    assert_eq!(world.ring(&[1, 2, 3]).flags, ["Quorate", "WaitForAll"]);
    assert!(is_quorate(&world.ring(&[1, 2])) && !is_quorate(&world.ring(&[3])));
    // It stays off when a third node is present that no file lists.
    let mut world = World::new(3, |config| {
        config.nodes.truncate(2);
        config.quorum.expected_votes = Some(2);
        config.quorum.two_node = true;
    });
    world.ring(&[1, 2]);
    assert_eq!(counted(&world.ring(&[1, 2, 3])), (2, 2, 2), "its votes do not count");
    assert!(is_quorate(&world.ring(&[1, 2])) && !is_quorate(&world.ring(&[3])));
}

#[test]
fn wait_for_all_waits_at_the_start_and_after_losing_quorum() {
    let mut world = World::new(3, wait_for_all);
    let verdict = world.ring(&[1, 2]);
    assert_eq!(verdict.inquorate, Some(Inquorate::WaitsForAll { total: 2, expected: 3 }));
    assert_eq!(verdict.inquorate.unwrap().to_string(), "waiting for all: 2 of 3 expected votes are present");
    assert!(is_quorate(&world.ring(&[1, 2, 3])));
    assert!(is_quorate(&world.ring(&[1, 2])));
    assert!(!is_quorate(&world.ring(&[1])));
    world.restart(&[2]);
    assert!(!is_quorate(&world.ring(&[1, 2])), "it lost quorum, and so it waits again");
    assert!(is_quorate(&world.ring(&[1, 2, 3])));
}

#[test]
fn a_quorate_member_ends_the_waiting() {
    let mut world = World::new(5, wait_for_all);
    world.ring(&[1, 2, 3, 4, 5]);
    assert!(is_quorate(&world.ring(&[1, 2, 3])));
    world.restart(&[4]);
    assert!(!is_quorate(&world.ring(&[4])));
    assert!(is_quorate(&world.ring(&[1, 2, 3, 4])));
}

#[test]
fn an_operator_ends_the_waiting_and_lowers_expected_votes() {
    let mut world = World::new(5, wait_for_all);
    world.ring(&[1, 2, 3]);
    let cancel = Reconfigure { node: 1, value: 0, parameter: VoteParameter::CancelWaitForAll };
    let verdict = world.all(&[1, 2, 3], |quorum| quorum.reconfigure(&cancel)).unwrap();
    assert!(is_quorate(&verdict));
    assert!(!is_quorate(&world.ring(&[1])));
    let expect = |votes| Reconfigure { node: 1, value: votes, parameter: VoteParameter::ExpectedVotes };
    world.all(&[1], |quorum| quorum.reconfigure(&expect(1)));
    world.all(&[1], |quorum| quorum.reconfigure(&cancel));
    let verdict = world.ring(&[1]);
    assert_eq!(counted(&verdict), (1, 1, 1));
    assert!(is_quorate(&verdict));
    assert_eq!(world.all(&[1], |quorum| quorum.reconfigure(&expect(0))), None, "no votes are no order");
}

#[test]
fn half_is_enough_with_the_node_that_breaks_ties() {
    for (tie_breaker, first) in
        [(TieBreaker::Lowest, true), (TieBreaker::Highest, false), (list(&[3, 1]), false), (list(&[2]), true)]
    {
        let mut world = World::new(4, tie_break(tie_breaker.clone()));
        assert!(is_quorate(&world.ring(&[1, 2, 3, 4])));
        assert_eq!(is_quorate(&world.ring(&[1, 2])), first, "{tie_breaker}");
        assert_eq!(is_quorate(&world.ring(&[3, 4])), !first, "{tie_breaker}");
        assert!(!is_quorate(&world.ring(&[1])));
    }
}

#[test]
fn ties_are_broken_by_the_last_ring_with_a_majority() {
    let mut world = World::new(4, tie_break(TieBreaker::Lowest));
    world.ring(&[1, 2, 3, 4]);
    world.ring(&[2, 3, 4]);
    assert!(!is_quorate(&world.ring(&[3, 4])) && !is_quorate(&world.ring(&[2])));
    // Node 1 remembers itself as the lowest. The others remember a later ring.
    world.ring(&[2, 3, 4]);
    assert!(!is_quorate(&world.ring(&[1, 3])));
    assert!(is_quorate(&world.ring(&[2, 4])));
}

#[test]
fn quorate_members_learn_which_node_breaks_ties() {
    let mut world = World::new(4, |config| {
        wait_for_all(config);
        tie_break(TieBreaker::Highest)(config);
    });
    world.ring(&[1, 2, 3, 4]);
    assert!(is_quorate(&world.ring(&[1, 2, 3])) && !is_quorate(&world.ring(&[4])));
    world.restart(&[2]);
    // Node 4 learns here that it no longer breaks ties.
    assert!(is_quorate(&world.ring(&[3, 4])));
    assert!(is_quorate(&world.ring(&[1, 3])));
    assert!(!is_quorate(&world.ring(&[2, 4])));
}

#[test]
fn a_forgetful_member_breaks_no_tie() {
    let mut world = World::new(4, |config| {
        wait_for_all(config);
        tie_break(TieBreaker::Highest)(config);
    });
    world.ring(&[1, 2, 3, 4]);
    // Node 4 has not noticed yet.
    world.ring(&[1, 2, 3]);
    world.restart(&[2]);
    assert!(is_quorate(&world.ring(&[1, 3])));
    assert!(!is_quorate(&world.ring(&[2, 4])));
}

#[test]
fn no_tie_is_broken_when_a_cluster_starts() {
    for tie_breaker in [TieBreaker::Lowest, list(&[1, 3])] {
        let mut world = World::new(4, tie_break(tie_breaker));
        assert!(!is_quorate(&world.ring(&[1, 2])) && !is_quorate(&world.ring(&[3, 4])));
        assert!(is_quorate(&world.ring(&[1, 2, 3, 4])));
    }
}

#[test]
fn a_tie_is_exactly_half() {
    let mut world = World::new(3, |config| {
        wait_for_all(config);
        tie_break(TieBreaker::Lowest)(config);
    });
    world.ring(&[1, 2, 3]);
    world.ring(&[1, 2]);
    assert!(!is_quorate(&world.ring(&[1])), "2 and 3 may be quorate meanwhile");
}

#[test]
fn the_first_node_of_the_list_that_was_present_breaks_ties() {
    let mut world = World::new(4, tie_break(list(&[4, 2])));
    world.ring(&[1, 2, 3, 4]);
    world.ring(&[1, 2, 3]);
    assert!(is_quorate(&world.ring(&[1, 2])));
    assert!(!is_quorate(&world.ring(&[3])));
}

#[test]
fn the_last_man_stands_window_by_window() {
    let mut world = World::new(8, last_man);
    world.ring(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let five = [1, 2, 3, 4, 5];
    assert_eq!(counted(&world.ring(&five)), (5, 8, 5));
    assert_eq!(world.wait(&five, WINDOW / 2), None);
    assert_eq!(counted(&world.wait(&five, WINDOW / 2).unwrap()), (5, 5, 3));
    assert_eq!(counted(&world.ring(&[1, 2, 3])), (3, 5, 3));
    assert_eq!(counted(&world.wait(&[1, 2, 3], WINDOW).unwrap()), (3, 3, 2));
    assert_eq!(counted(&world.ring(&[1, 2])), (2, 3, 2));
    assert_eq!(counted(&world.wait(&[1, 2], WINDOW).unwrap()), (2, 2, 2));
    let verdict = world.ring(&[1]);
    assert_eq!((counted(&verdict), is_quorate(&verdict)), ((1, 2, 2), false));
    assert_eq!(world.wait(&[1], WINDOW), None);
}

#[test]
fn two_losses_within_a_window_are_one() {
    let mut world = World::new(5, last_man);
    world.ring(&[1, 2, 3, 4, 5]);
    world.ring(&[1, 2, 3, 4]);
    assert_eq!(world.wait(&[1, 2, 3, 4], WINDOW * 3 / 4), None);
    world.ring(&[1, 2, 3]);
    assert_eq!(world.wait(&[1, 2, 3], WINDOW * 3 / 4), None, "the window begins with the last change");
    assert_eq!(counted(&world.wait(&[1, 2, 3], WINDOW / 4).unwrap()), (3, 3, 2));
}

#[test]
fn a_window_survives_a_ring_without_a_loss_until_quorum_is_lost() {
    let mut world = World::new(5, last_man);
    world.ring(&[1, 2, 3, 4, 5]);
    world.ring(&[1, 2, 3]);
    world.ring(&[1, 2, 3, 4]);
    assert_eq!(counted(&world.wait(&[1, 2, 3, 4], WINDOW).unwrap()), (4, 4, 3));
    world.ring(&[1, 2, 3]);
    world.ring(&[1, 2]);
    assert_eq!(world.wait(&[1, 2], WINDOW), None);
    assert_eq!(counted(&world.ring(&[1, 2])), (2, 4, 3));
}

#[test]
fn a_node_that_was_never_present_stays_expected() {
    let mut world = World::new(5, |config| {
        last_man(config);
        config.quorum.wait_for_all = Some(false);
    });
    assert!(is_quorate(&world.ring(&[1, 2, 3, 4])));
    assert_eq!(world.wait(&[1, 2, 3, 4], WINDOW), None);
}

#[test]
fn the_last_man_and_a_restarted_node_are_not_quorate() {
    let mut world = World::new(4, last_man);
    world.ring(&[1, 2, 3, 4]);
    world.ring(&[1, 2, 3]);
    world.wait(&[1, 2, 3], WINDOW);
    world.ring(&[1, 2]);
    world.wait(&[1, 2], WINDOW);
    world.ring(&[1]);
    world.restart(&[2]);
    let verdict = world.ring(&[1, 2]);
    assert_eq!(verdict.inquorate, Some(Inquorate::WaitsForAll { total: 2, expected: 4 }));
    world.restart(&[3, 4]);
    assert!(is_quorate(&world.ring(&[1, 2, 3, 4])));
}

#[test]
fn the_last_man_is_for_nodes_with_one_vote_each() {
    let mut world = World::new(4, last_man);
    assert!(world.ring(&[1, 2, 3, 4]).flags.contains(&"LastManStanding"));
    let order = Reconfigure { node: 1, value: 2, parameter: VoteParameter::Votes };
    let verdict = world.all(&[1, 2, 3, 4], |quorum| quorum.reconfigure(&order)).unwrap();
    assert!(!verdict.flags.contains(&"LastManStanding"));
    world.ring(&[1, 2, 3]);
    assert_eq!(world.wait(&[1, 2, 3], WINDOW), None);
}

fn leaves(world: &mut World, leaver: u32, members: &[u32]) -> Option<Verdict> {
    let farewell = world.nodes[&id(leaver)].farewell()?;
    world.all(members, |quorum| quorum.hear(id(leaver), &farewell))
}

#[test]
fn a_leave_lowers_expected_votes_but_not_the_quorum() {
    let mut world = World::new(5, downscale);
    world.ring(&[1, 2, 3, 4, 5]);
    assert_eq!(counted(&world.ring(&[1, 2, 3, 4])), (4, 5, 3), "a crash lowers nothing");
    let verdict = leaves(&mut world, 4, &[1, 2, 3, 4]).unwrap();
    assert_eq!(counted(&verdict), (3, 3, 3), "the quorum of five votes stays");
    let verdict = world.ring(&[1, 2, 3]);
    assert_eq!((counted(&verdict), is_quorate(&verdict)), ((3, 3, 3), true));
    assert!(!is_quorate(&world.ring(&[1, 2])));
    assert_eq!(leaves(&mut world, 2, &[1, 2]), None, "nor does a ring without quorum get smaller");
}

#[test]
fn a_complete_ring_no_longer_waits_for_all_when_a_node_leaves() {
    let mut world = World::with_votes(&[1, 1, 1, 2, 0], |config| {
        downscale(config);
        wait_for_all(config);
    });
    assert!(is_quorate(&world.ring(&[1, 2, 3, 4, 5])));
    let verdict = leaves(&mut world, 4, &[1, 2, 3, 4, 5]).unwrap();
    assert_eq!((counted(&verdict), is_quorate(&verdict)), ((3, 4, 3), true), "each node counts once");
}

#[test]
fn a_leave_lowers_nothing_without_the_option() {
    let mut world = World::plain(3);
    world.ring(&[1, 2, 3]);
    assert_eq!(leaves(&mut world, 3, &[1, 2, 3]), None);
    let info = world.nodes[&id(3)].node_info();
    let said = NodeInfo { flags: info.flags | NodeInfo::LEAVING, ..info };
    assert_eq!(world.all(&[1, 2], |quorum| quorum.hear(id(3), &said)), None);
}

#[test]
fn tracking_counts_the_highest_number_any_member_expects() {
    let mut world = World::new(3, |config| config.quorum.expected_votes_tracking = true);
    world.ring(&[1, 2]);
    let verdict = world.ring_with(&[1, 2, 3], |said, _| said.get_mut(&id(3)).unwrap().expected_votes = 6);
    assert_eq!(verdict.inquorate, Some(Inquorate::TooFewVotes { total: 3, quorum: 4 }));
    // As with corosync, none of it survives a restart of all nodes.
    world.restart(&[1, 2, 3]);
    assert_eq!(counted(&world.ring(&[1, 2, 3])), (3, 3, 2));
}
