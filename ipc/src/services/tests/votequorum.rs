//! Tests of the service `votequorum`, without the quorum device.

use super::*;

#[test]
fn votequorum_answers_about_each_node() {
    let mut world = World::new();
    world.ring(&[1, 2], true);
    world.ring(&[1], false);
    let client = world.open(Service::Votequorum);
    let info = |id| request(0, 24, |message| message.u32(16, id));
    let own = world.ask(&client, info(0));
    assert_eq!(own.len(), 320);
    let fields = |answer: &[u8]| -> Vec<u32> { (0..8).map(|n| field(answer, 24 + 4 * n)).collect() };
    assert_eq!(fields(&own), [1, 1, 1, 2, 2, 1, 2, 4]);
    assert_eq!(fields(&world.ask(&client, info(2)))[..3], [2, 2, 1]);
    assert_eq!(code(&world.ask(&client, info(3))), 12);
    world.ask(&client, request(3, 32, |message| message.u64(16, 5).u32(24, 3)));
    assert_eq!(client.kinds(), [5, 3]);
    world.ring(&[1, 2], true);
    let [nodes, verdict] = &client.events()[..] else { panic!("two events") };
    assert_eq!([24, 48, 56, 60].map(|at| field(nodes, at)), [5, 2, 1, 2]);
    assert_eq!([24, 32, 40, 48, 52, 56, 60].map(|at| field(verdict, at)), [1, 5, 2, 1, 1, 2, 1]);
    assert_eq!(code(&world.ask(&client, request(4, 16, |message| message))), 1);
    assert_eq!(code(&world.ask(&client, request(4, 16, |message| message))), 12);
}

#[test]
fn expected_votes_can_be_set_while_quorum_is_kept() {
    let mut world = World::new();
    world.ring(&[1, 2], true);
    let client = world.open(Service::Votequorum);
    let expect = |votes| request(1, 24, |message| message.u32(16, votes));
    for votes in [2, 3] {
        match world.services.request(client.id, expect(votes)) {
            Step::Do(Order::SetExpectedVotes(ordered)) => assert_eq!(ordered, votes),
            _ => panic!("{votes} votes are refused"),
        }
        assert_eq!(code(&world.services.done(client.id, Done::VotesSet).unwrap()), 1);
    }
    // One is less than the votes that are present, and of four, two are no majority.
    for votes in [0, 1, 4] {
        assert_eq!(code(&world.ask(&client, expect(votes))), 7, "{votes}");
    }
    world.ring(&[1], false);
    assert!(matches!(world.services.request(client.id, expect(1)), Step::Do(Order::SetExpectedVotes(1))));
}

#[test]
fn a_known_nodes_votes_can_be_set_while_quorum_is_kept() {
    let mut world = World::new();
    world.ring(&[1, 2], true);
    let client = world.open(Service::Votequorum);
    let weigh = |id, votes| request(2, 24, |message| message.u32(16, votes).u32(20, id));
    for (id, known, votes) in [(2, 2, 3), (0, 1, 2)] {
        match world.services.request(client.id, weigh(id, votes)) {
            Step::Do(Order::SetVotes { node: id, votes: ordered }) => {
                assert_eq!((id, ordered), (node(known), votes));
            }
            _ => panic!("refused"),
        }
    }
    assert_eq!(code(&world.ask(&client, weigh(3, 1))), 17);
    // One of two expected votes would be left.
    assert_eq!(code(&world.ask(&client, weigh(2, 0))), 7);
}

#[test]
fn votes_are_not_set_while_a_ring_is_forming() {
    let mut world = World::new();
    let client = world.open(Service::Votequorum);
    let ring = RingId { representative: node(1), seq: 400 };
    let members = nodes(&[1, 2]);
    let (joined, left, causes) = (nodes(&[2]), nodes(&[]), vec![Cause::Started]);
    world.services.event(&Event::Regular(Regular { ring, members, joined, left, causes }));
    let expect = || request(1, 24, |message| message.u32(16, 1));
    assert_eq!(code(&world.ask(&client, expect())), 6);
    world.services.event(&Event::Synced(ring));
    assert_eq!(code(&world.ask(&client, expect())), 6, "the votes are not counted yet");
}

#[test]
fn a_change_of_expected_votes_is_told() {
    let mut world = World::new();
    world.ring(&[1, 2], true);
    let client = world.open(Service::Votequorum);
    world.ask(&client, request(3, 32, |message| message.u64(16, 5).u32(24, 2)));
    client.events();
    let more = Status { expected_votes: Some(3), ..world.status.clone() };
    world.services.event(&Event::Status(Box::new(more)));
    let [expected, _verdict] = &client.events()[..] else { panic!("two events") };
    assert_eq!([0, 24, 32].map(|at| field(expected, at)), [4, 5, 3]);
    world.ring(&[1], false);
    assert_eq!(client.kinds(), [5, 3]);
}

#[test]
fn an_operator_ends_the_wait_for_all_nodes() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    let set = |value| {
        request(0, 297, |message| {
            message.key(16, "quorum.cancel_wait_for_all").u64(280, 1).u8(288, 2).u8(296, value)
        })
    };
    assert_eq!(code(&world.ask(&client, set(0))), 1);
    assert!(world.services.take_effects().is_empty());
    assert_eq!(code(&world.ask(&client, set(1))), 1);
    assert!(matches!(world.services.take_effects()[..], [Effect::CancelWaitForAll]));
}
