//! Tests of rings with a quorum device: when its votes count, and what they decide.

use quorate_membership::config::DeviceConfig;

use super::*;

/// Configures a quorum device with `votes` votes, and `nodes` nodes with one vote each.
fn device(nodes: u32, votes: u32) -> impl Fn(&mut Config) {
    move |config| {
        let mut device = DeviceConfig::default();
        device.votes = Some(votes);
        config.quorum.device = Some(device);
        config.quorum.expected_votes = Some(nodes + votes);
    }
}

impl World {
    /// Forms a ring in which the devices of the nodes in `casting` give their votes.
    fn ring_with_device(&mut self, nodes: &[u32], casting: &[u32]) -> Verdict {
        self.ring_with(nodes, |said, _| {
            for node in casting {
                said.get_mut(&id(*node)).unwrap().flags |= NodeInfo::QDEVICE_CASTS_VOTE;
            }
        })
    }

    /// Lets a member announce whether its device gives its votes.
    fn device_votes(&mut self, nodes: &[u32], from: u32, casts: bool) -> Verdict {
        let flags = if casts { NodeInfo::QDEVICE_CASTS_VOTE } else { 0 };
        let info = NodeInfo { flags, ..self.nodes[&id(from)].node_info() };
        self.all(nodes, |quorum| quorum.hear(id(from), &info)).unwrap()
    }
}

#[test]
fn a_quorum_device_decides_between_two_halves() {
    let mut world = World::new(2, device(2, 1));
    let both = world.ring(&[1, 2]);
    assert_eq!((is_quorate(&both), counted(&both), both.device_decides), (true, (2, 3, 2), false));
    let with = world.ring_with_device(&[1], &[1]);
    assert_eq!((is_quorate(&with), counted(&with), with.device_decides), (true, (2, 3, 2), true));
    let without = world.ring(&[2]);
    assert_eq!(without.inquorate, Some(Inquorate::TooFewVotes { total: 1, quorum: 2 }));
}

#[test]
fn the_votes_of_a_device_count_once() {
    let mut world = World::new(4, device(4, 1));
    let half = world.ring_with_device(&[1, 2], &[1, 2]);
    assert_eq!((is_quorate(&half), counted(&half)), (true, (3, 5, 3)));
    let one = world.ring_with_device(&[1, 2], &[2]);
    assert_eq!((is_quorate(&one), counted(&one)), (true, (3, 5, 3)), "the device of one member is enough");
    let most = world.ring_with_device(&[1, 2, 3], &[1]);
    assert_eq!((counted(&most), most.device_decides), ((4, 5, 3), false), "the members are enough");
}

#[test]
fn a_device_with_many_votes_keeps_the_last_node_quorate() {
    let mut world = World::new(3, device(3, 2));
    assert_eq!(counted(&world.ring(&[1, 2, 3])), (3, 5, 3));
    let last = world.ring_with_device(&[3], &[3]);
    assert_eq!((is_quorate(&last), counted(&last)), (true, (3, 5, 3)));
    assert!(!is_quorate(&world.ring(&[1, 2])), "two of three are not enough without it");
}

#[test]
fn a_device_that_changes_its_mind_changes_the_verdict() {
    let mut world = World::new(2, device(2, 1));
    world.ring(&[1, 2]);
    assert!(!is_quorate(&world.ring(&[1])));
    let verdict = world.device_votes(&[1], 1, true);
    assert_eq!((is_quorate(&verdict), verdict.device_decides), (true, true));
    assert!(!is_quorate(&world.device_votes(&[1], 1, false)));
}

#[test]
fn a_device_of_a_node_without_a_vote_gives_none() {
    let mut world = World::new(3, device(2, 1));
    let agreed = "expected 3, votes 1-2:1, device 1".parse::<Electorate>().unwrap();
    for node in world.nodes.values_mut() {
        *node = node.clone().with_record(Record::of_old(agreed.clone()));
    }
    assert!(!is_quorate(&world.ring_with_device(&[1, 3], &[3])));
    assert!(is_quorate(&world.ring_with_device(&[1, 3], &[1])));
    // Node 3 is listed without a vote.
    let agreed = "expected 3, votes 1-2:1 3:0, device 1".parse::<Electorate>().unwrap();
    for node in world.nodes.values_mut() {
        *node = node.clone().with_record(Record::of_old(agreed.clone()));
    }
    assert!(!is_quorate(&world.ring_with_device(&[1, 3], &[3])));
}

#[test]
fn a_complete_ring_that_waited_for_all_outlives_the_arbiter() {
    let mut world = World::new(2, |config| {
        device(2, 1)(config);
        wait_for_all(config);
    });
    assert!(!is_quorate(&world.ring(&[1, 2])), "the device is missing");
    assert!(is_quorate(&world.device_votes(&[1, 2], 1, true)));
    let without = world.device_votes(&[1, 2], 1, false);
    assert_eq!((is_quorate(&without), counted(&without)), (true, (2, 3, 2)));
}

#[test]
fn a_stale_device_report_does_not_undo_an_operators_order() {
    let mut world = World::new(4, device(4, 1));
    world.ring(&[1, 2, 3, 4]);
    world.ring(&[1, 2, 3]);
    let before = NodeInfo { flags: NodeInfo::QUORATE, ..world.nodes[&id(2)].node_info() };
    let order = Reconfigure { node: 1, value: 4, parameter: VoteParameter::ExpectedVotes };
    let ordered = world.all(&[1, 2, 3], |quorum| quorum.reconfigure(&order)).unwrap();
    assert_eq!(counted(&ordered), (3, 4, 3));
    let heard = world.all(&[1, 2, 3], |quorum| quorum.hear(id(2), &before)).unwrap();
    assert_eq!(counted(&heard), (3, 4, 3), "node 2 sent this before it heard of the order");
}

#[test]
fn the_votes_of_a_device_cannot_agree_on_an_electorate() {
    let mut world = World::new(2, device(2, 1));
    world.ring(&[1, 2]);
    // The operator removes node 2 while it is down.
    let alone = |config: &mut Config| {
        config.nodes.pop();
        config.quorum.expected_votes = Some(1);
        config.quorum.device = None;
    };
    world.configure(1, alone);
    assert!(is_quorate(&world.ring_with_device(&[1], &[1])));
    assert_eq!(world.nodes[&id(1)].record().pending, None);
    assert!(!is_quorate(&world.ring(&[1])), "the device has gone over to node 2");
    assert!(is_quorate(&world.ring_with_device(&[2], &[2])));
}

#[test]
fn a_device_is_added_when_the_nodes_alone_agree_on_it() {
    let mut world = World::plain(2);
    world.ring(&[1, 2]);
    for node in [1, 2] {
        world.configure(node, device(2, 1));
        world.ring(&[node]);
    }
    assert_eq!(counted(&world.ring(&[1, 2])), (2, 3, 2));
    assert!(is_quorate(&world.ring_with_device(&[2], &[2])));
}
