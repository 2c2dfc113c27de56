//! Tests of how a DC starts to act, and how it loses its role.

use super::*;

/// Creates `nodes` nodes with a lease of 100 ms, exact clocks and a long uptime.
pub(super) fn leased(nodes: u32) -> World {
    let mut world = World::new(nodes);
    world.configure(|config| {
        (config.dc.lease, config.dc.rate_error) = (Some(Duration::from_millis(100)), 0);
    });
    world.wait(1000);
    world
}

/// Creates a ring of nodes 1 to 3, whose DC, node 1, may act.
fn held() -> World {
    let mut world = leased(3);
    world.ring(&[1, 2, 3]);
    assert_eq!(world.turn(&[1, 2, 3]), [Held, Nothing, Nothing]);
    world
}

use Lease::{Held, None as Nothing, Waiting};

#[test]
fn a_dc_acts_from_the_first_full_rotation_until_its_lease_ends() {
    let mut world = leased(3);
    assert_eq!(world.ring(&[1, 2, 3]).lease, Waiting);
    assert_eq!(world.turn(&[1, 2, 3]), [Held, Nothing, Nothing]);
    world.wait(99);
    let (_, until) = world.node(1).election.lease().unwrap();
    assert_eq!(until, world.now + Duration::from_millis(1));
    assert_eq!(world.node(1).election.poll_timeout(), Some(until));
    world.wait(1);
    let now = world.now;
    let lapsed = world.node(1).election.handle_timeout(now).status.unwrap();
    assert_eq!(lapsed.lease, Waiting);
    assert_eq!(world.turn(&[1]), [Held], "it is renewed");
}

#[test]
fn a_lease_ends_at_the_latest_with_its_ring() {
    let mut world = World::new(3);
    world.configure(|config| config.dc.lease = Some(Duration::from_secs(60)));
    world.wait(100_000);
    world.ring(&[1, 2, 3]);
    assert_eq!(world.turn(&[1, 2, 3]), [Held, Nothing, Nothing]);
    let election = &world.node(1).election;
    assert_eq!(election.lease().map(|(_, until)| until), election.stands_until());
    let token = world.node(1).config.totem.token;
    world.now = world.now + token;
    let now = world.now;
    let lost = world.node(1).election.handle_timeout(now).status.unwrap();
    assert_eq!((lost.lease, world.node(1).election.lease()), (Nothing, None));
}

#[test]
fn a_lease_that_ended_during_a_stall_is_over_at_once() {
    let mut world = held();
    world.wait(200);
    let now = world.now;
    let stalled = Event::Stalled(Duration::from_millis(100));
    assert_eq!(world.node(1).election.handle(now, &stalled).status.unwrap().lease, Waiting);
}

#[test]
fn another_dc_waits_until_the_old_lease_is_over() {
    let mut world = held();
    world.wait(30);
    assert_eq!(dc(&world.ring(&[2, 3])), 2);
    assert_eq!(world.turn(&[2, 3]), [Waiting, Nothing], "70 ms are left");
    world.wait(69);
    assert_eq!(world.turn(&[2]), [Waiting]);
    world.wait(1);
    assert_eq!(world.turn(&[2]), [Held]);
}

#[test]
fn the_same_process_continues_at_once_if_no_other_was_dc() {
    let mut world = held();
    assert_eq!(dc(&world.ring(&[1, 2])), 1);
    assert_eq!(world.turn(&[1]), [Held]);
    // Node 2 has just started and has forgotten its earlier rings.
    let mut opened = world.open(&[1, 2]);
    let started = &mut opened.said[1].1.candidacy;
    (started.up, started.idle) = (Duration::ZERO, Duration::ZERO);
    world.settle(&opened);
    world.wait(1);
    assert_eq!(world.turn(&[1]), [Waiting]);
}

#[test]
fn a_returning_dc_waits_while_its_successor_may_act() {
    let mut world = leased(4);
    world.ring(&[1, 2, 3, 4]);
    world.turn(&[1, 2, 3, 4]);
    world.ring(&[2, 3, 4]);
    world.wait(100);
    assert_eq!(world.turn(&[2, 3, 4])[0], Held);
    assert_eq!(dc(&world.ring(&[1, 3, 4])), 1, "it is the incumbent");
    assert_eq!(world.turn(&[1]), [Waiting], "nodes 3 and 4 remember a later DC");
    world.wait(100);
    assert_eq!(world.turn(&[1]), [Held]);
}

#[test]
fn a_release_hands_over_at_once() {
    let mut world = held();
    let now = world.now;
    assert_eq!(world.node(2).election.release(now), Err(ReleaseError::NotDc));
    let released = world.node(1).election.release(now).unwrap();
    assert_eq!(released.status.unwrap().lease, Nothing, "stops before it announces the release");
    assert_eq!(world.turn(&[1, 2]), [Nothing, Nothing], "no successor before the announcement");
    let status = world.say(1, &released.send.unwrap());
    assert_eq!((dc(&status), status.term.unwrap().hand_over), (2, 1));
    assert_eq!(world.turn(&[1, 2, 3]), [Nothing, Held, Nothing]);
    // The next ring keeps the new DC as the incumbent.
    assert_eq!(dc(&world.ring(&[1, 2, 3])), 2);
    assert_eq!(world.turn(&[2]), [Held]);
}

#[test]
fn a_dc_resumes_its_term_when_a_vote_change_restores_quorum() {
    let mut world = leased(3);
    let ring = world.ring(&[1, 2, 3]).ring.unwrap();
    world.turn(&[1, 2, 3]);
    let now = world.now;
    let released = world.node(1).election.release(now).unwrap();
    let term = world.say(1, &released.send.unwrap()).term;
    assert_eq!(world.turn(&[1, 2, 3]), [Nothing, Held, Nothing]);
    let expect = |world: &mut World, value| {
        let order = Reconfigure { node: 0, value, parameter: VoteParameter::ExpectedVotes };
        let message = votequorum_message(ring, id(3), &Body::Reconfigure(order));
        let order = |n| world.node(n).election.handle(now, &message).status.unwrap();
        [1, 2, 3].map(order).map(|status| (status.quorate, dc(&status), status.term, status.lease))
    };
    let lost = expect(&mut world, 9);
    assert_eq!(lost, [(false, 2, None, Nothing); 3]);
    assert_eq!(world.turn(&[1, 2, 3]), [Nothing; 3]);
    assert_eq!(world.node(2).election.release(now), Err(ReleaseError::NotDc));
    let back = expect(&mut world, 3);
    assert_eq!(back, [(true, 2, term, Nothing), (true, 2, term, Waiting), (true, 2, term, Nothing)]);
    assert_eq!(world.turn(&[1, 2, 3]), [Nothing, Held, Nothing]);
}

#[test]
fn a_duplicate_or_foreign_release_is_ignored() {
    let mut world = leased(3);
    world.ring(&[1, 2, 3]);
    let now = world.now;
    let send = world.node(1).election.release(now).unwrap().send.unwrap();
    let (ring, _) = world.node(3).ring.clone().unwrap();
    let heard = |world: &mut World, from| {
        world.node(3).election.handle(now, &quorate_message(ring, id(from), send.clone())).status
    };
    assert_eq!(heard(&mut world, 2), None, "node 2 is not DC");
    assert_eq!(dc(&heard(&mut world, 1).unwrap()), 2);
    assert_eq!(heard(&mut world, 1), None);
    assert_eq!(heard(&mut world, 2), None, "the release is of an earlier tenure");
}

#[test]
fn a_release_before_acting_does_not_shorten_the_next_wait() {
    let mut world = held();
    world.ring(&[2, 3]);
    let now = world.now;
    let send = world.node(2).election.release(now).unwrap().send.unwrap();
    assert_eq!(dc(&world.say(2, &send)), 3);
    assert_eq!(world.turn(&[3]), [Waiting]);
    world.wait(100);
    assert_eq!(world.turn(&[3]), [Held]);
}

#[test]
fn a_hung_dc_loses_the_role_and_its_successor_waits() {
    let mut world = held();
    let now = world.now;
    let hung = world.node(1).election.set_hung(now, true);
    assert_eq!(hung.status.unwrap().lease, Nothing);
    let status = world.say(1, &hung.send.unwrap());
    assert_eq!((dc(&status), status.term.unwrap().hand_over), (2, 1));
    world.wait(99);
    assert_eq!(world.turn(&[2]), [Waiting]);
    world.wait(1);
    assert_eq!(world.turn(&[2]), [Held]);
    // Node 1 is not elected while its application hangs, even if node 2 is gone.
    assert_eq!(dc(&world.ring(&[1, 3])), 3);
    world.node(1).election.set_hung(now, false);
    assert_eq!(dc(&world.ring(&[1, 2])), 2);
}

#[test]
fn a_hung_sole_candidate_keeps_the_role_but_does_not_act() {
    let mut world = leased(3);
    world.node(2).corosync = true;
    world.node(3).corosync = true;
    world.ring(&[1, 2, 3]);
    world.wait(100);
    assert_eq!(world.turn(&[1]), [Held]);
    let now = world.now;
    let hung = world.node(1).election.set_hung(now, true);
    assert_eq!((hung.send, hung.status.unwrap().lease), (None, Waiting));
    let election = &mut world.node(1).election;
    assert_eq!(election.poll_timeout(), election.stands_until());
    assert_eq!(world.node(1).election.set_hung(now, false).status.unwrap().lease, Held);
    assert_eq!(world.node(1).election.release(now), Err(ReleaseError::NoSuccessor));
}

#[test]
fn a_recovered_application_may_be_dc_again_in_the_same_ring() {
    let mut world = leased(3);
    world.ring(&[1, 2]);
    world.wait(100);
    for (hangs, next) in [(1, 2), (2, 1), (1, 2)] {
        assert_eq!(world.turn(&[hangs]), [Held]);
        let now = world.now;
        let hung = world.node(hangs).election.set_hung(now, true).send.unwrap();
        assert_eq!(dc(&world.say(hangs, &hung)), next);
        assert_eq!(world.answers(hangs), []);
        world.wait(100);
    }
}

#[test]
fn the_last_hung_dc_yields_to_the_first_that_recovers() {
    let mut world = leased(3);
    world.ring(&[1, 2]);
    world.wait(100);
    world.turn(&[1]);
    let now = world.now;
    let hung = world.node(1).election.set_hung(now, true).send.unwrap();
    assert_eq!(dc(&world.say(1, &hung)), 2);
    world.wait(100);
    assert_eq!(world.turn(&[2]), [Held]);
    let now = world.now;
    let hung = world.node(2).election.set_hung(now, true);
    assert_eq!((hung.send, hung.status.unwrap().lease), (None, Waiting), "no member can take over");
    let said = world.answers(1);
    let [(2, release)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(dc(&world.say(2, release)), 1);
    assert_eq!(world.turn(&[1, 2]), [Waiting, Nothing]);
    world.wait(100);
    assert_eq!(world.turn(&[1, 2]), [Held, Nothing]);
}

#[test]
fn a_hung_sole_candidate_is_elected_and_acts_when_it_recovers() {
    let mut world = leased(3);
    [2, 3].into_iter().for_each(|n| world.prefer(n, 0));
    world.wait(1000);
    world.ring(&[1, 2, 3]);
    assert_eq!(world.turn(&[1]), [Held]);
    let now = world.now;
    world.node(1).election.set_hung(now, true);
    assert_eq!(dc(&world.ring(&[1, 2])), 1);
    world.wait(100);
    assert_eq!(world.turn(&[1, 2]), [Waiting, Nothing]);
    assert_eq!(world.answers(1), []);
    assert_eq!(world.turn(&[1, 2]), [Held, Nothing]);
}

#[test]
fn a_recovery_before_the_judgement_clears_the_hung_state() {
    let mut world = leased(3);
    world.node(1).election.set_hung(Time::default(), true);
    let opened = world.open(&[1, 2]);
    let now = world.now;
    assert_eq!(world.node(1).election.set_hung(now, false).send, None, "the ring is not settled");
    for (from, say) in &opened.said {
        [1, 2].into_iter().for_each(|listener| world.hear(id(listener), opened.ring, *from, say));
    }
    let said = [1, 2].map(|n| world.node(n).election.handle(now, &Event::Synced(opened.ring)).send);
    assert_eq!(said, [Some(Message::Answers.encode()), None]);
}

#[test]
fn a_leaving_dc_stops_acting_without_a_successor() {
    let mut world = leased(3);
    [2, 3].into_iter().for_each(|n| world.prefer(n, 0));
    world.wait(1000);
    world.ring(&[1, 2, 3]);
    assert_eq!(world.turn(&[1]), [Held]);
    let now = world.now;
    assert_eq!(world.node(1).election.release(now), Err(ReleaseError::NoSuccessor));
    assert_eq!(world.node(1).election.retire(now).status.unwrap().lease, Waiting);
    assert_eq!(world.turn(&[1]), [Waiting]);
    assert_eq!(world.ring(&[1, 2]).vacant, Some(Vacancy::NoCandidate), "it is not elected again");
}

#[test]
fn a_preferred_node_that_joins_takes_over_only_with_preempt() {
    for preempt in [false, true] {
        let mut world = leased(3);
        world.configure(|config| config.dc.preempt = preempt);
        world.prefer(3, 5);
        world.ring(&[1, 2]);
        world.wait(100);
        assert_eq!(world.turn(&[1, 2]), [Held, Nothing]);
        let opened = world.open(&[1, 2, 3]);
        for (from, say) in &opened.said {
            (1..=3).for_each(|listener| world.hear(id(listener), opened.ring, *from, say));
        }
        let now = world.now;
        let outcomes: Vec<Outcome> =
            (1..=3).map(|n| world.node(n).election.handle(now, &Event::Synced(opened.ring))).collect();
        assert!(outcomes.iter().all(|outcome| dc(outcome.status.as_ref().unwrap()) == 1), "the incumbent");
        assert_eq!(
            outcomes.iter().map(|outcome| outcome.send.is_some()).collect::<Vec<_>>(),
            [preempt, false, false]
        );
        if let Some(message) = outcomes[0].send.clone() {
            assert_eq!(dc(&world.say(1, &message)), 3);
            assert_eq!(world.turn(&[1, 2, 3]), [Nothing, Nothing, Held], "without waiting");
        }
    }
}

#[test]
fn a_node_with_priority_0_is_never_elected() {
    let mut world = World::new(3);
    world.prefer(1, 0);
    assert_eq!(dc(&world.ring(&[1, 2, 3])), 2);
    let mut world = World::new(3);
    (1..=3).for_each(|n| world.prefer(n, 0));
    let status = world.ring(&[1, 2, 3]);
    assert_eq!((status.dc, status.term, status.vacant), (None, None, Some(Vacancy::NoCandidate)));
}

#[test]
fn a_starting_cluster_waits_for_missing_nodes_until_deadtime() {
    let patient = || {
        let mut world = World::new(3);
        world.configure(|config| config.dc.deadtime = Duration::from_secs(20));
        world.wait(5000);
        world
    };
    let mut world = patient();
    let status = world.ring(&[1, 2]);
    assert_eq!((status.dc, status.term), (None, None));
    assert_eq!(
        status.vacant.unwrap().to_string(),
        "the cluster is starting, and node 1 waits for the missing nodes"
    );
    assert_eq!(dc(&world.ring(&[1, 2, 3])), 1, "all nodes are present");

    let mut world = patient();
    world.ring(&[2, 3]);
    let due = Time::default() + Duration::from_secs(20);
    world.wait(14_000);
    world.turn(&[2, 3]);
    let waiting = |world: &mut World, n| {
        let election = &world.node(n).election;
        election.poll_timeout().filter(|at| Some(*at) != election.stands_until())
    };
    assert_eq!(waiting(&mut world, 3), None);
    assert_eq!(waiting(&mut world, 2), Some(due));
    world.now = due;
    let elect = world.node(2).election.handle_timeout(due).send.unwrap();
    assert_eq!(waiting(&mut world, 2), None);
    let status = world.say(2, &elect);
    assert_eq!((dc(&status), status.vacant), (2, None));
    assert_eq!(dc(&world.ring(&[2, 3])), 2, "the cluster has started");
    assert!(world.ring(&[1, 3]).dc.is_some(), "no node waits any more");
}

#[test]
fn an_elect_from_a_node_that_does_not_wait_is_ignored() {
    let mut world = World::new(3);
    world.configure(|config| config.dc.deadtime = Duration::from_secs(20));
    world.ring(&[1, 2]);
    let (ring, _) = world.node(1).ring.clone().unwrap();
    let elect = quorate_message(ring, id(2), Message::Elect.encode());
    assert_eq!(world.node(1).election.handle(Time::default(), &elect), Outcome::default(), "node 1 waits");
}

#[test]
fn a_node_whose_record_was_lost_has_no_say_in_a_tenure() {
    let mut world = World::new(3);
    world.ring(&[1, 2, 3]);
    let lose = |world: &mut World, n| {
        world.restart(n);
        world.node(n).election.lost = true;
    };
    lose(&mut world, 1);
    let status = world.ring(&[1, 3]);
    assert_eq!((status.quorate, status.term), (false, None));
    assert_eq!(
        status.inquorate.unwrap().to_string(),
        "the records of nodes {1} were lost, and the other members are not a majority; start the other nodes"
    );
    assert!(world.node(1).election.lost);
    // The loss is repaired if members that kept their records are a quorum, or if all nodes are
    // present.
    assert!(world.ring(&[1, 2, 3]).term.is_some());
    assert!(!world.node(1).election.lost);
    assert!(world.ring(&[1, 3]).term.is_some());
    [1, 2, 3].into_iter().for_each(|n| lose(&mut world, n));
    assert_eq!(world.ring(&[1, 2]).term, None);
    assert!(world.ring(&[1, 2, 3]).term.is_some());
}
