//! Tests of the service `cfg`, without the reload.

use super::*;

#[test]
fn a_shutdown_needs_the_consent_of_all_trackers() {
    let ask = |flags: u32| request(3, 24, |message| message.u32(16, flags));
    let answer = |agrees: u32| request(4, 24, |message| message.u32(16, agrees));
    for (flags, agrees, expect, leaves) in [(0, 0, 10, false), (0, 1, 1, true), (1, 0, 1, true)] {
        let mut world = World::new();
        let [by, voter] = [0; 2].map(|_| world.open(Service::Cfg));
        assert_eq!(code(&world.ask(&voter, request(10, 24, |message| message))), 1);
        assert!(matches!(world.services.request(by.id, ask(flags)), Step::Silent));
        assert_eq!(voter.kinds(), [10]);
        assert_eq!(code(&world.ask(&voter, answer(agrees))), 1);
        let [decision] = &by.events()[..] else { panic!("one response") };
        assert_eq!((field(decision, 0), code(decision)), (9, expect));
        let left = world.services.take_effects().iter().any(|effect| matches!(effect, Effect::Shutdown));
        assert_eq!(left, leaves);
        assert_eq!(code(&world.ask(&voter, answer(1))), 11, "no vote runs");
    }
}

#[test]
fn a_tracker_that_does_not_answer_prevents_a_shutdown() {
    let mut world = World::new();
    let [by, voter] = [0; 2].map(|_| world.open(Service::Cfg));
    world.ask(&voter, request(10, 24, |message| message));
    world.services.request(by.id, request(3, 24, |message| message));
    let [Effect::EndVote { vote, .. }] = world.services.take_effects()[..] else { panic!("a bounded vote") };
    world.services.end_vote(vote);
    assert_eq!(code(&by.events()[0]), 10);
    assert_eq!(voter.events().iter().map(|event| code(event)).collect::<Vec<_>>(), [1, 5]);
    assert!(world.services.take_effects().is_empty());
}

#[test]
fn a_shutdown_ends_with_the_client_that_asked_for_it() {
    let mut world = World::new();
    let [by, voter] = [0; 2].map(|_| world.open(Service::Cfg));
    world.ask(&voter, request(10, 24, |message| message));
    world.services.request(by.id, request(3, 24, |message| message));
    world.services.close(by.id);
    assert_eq!(code(&world.ask(&voter, request(4, 24, |message| message.u32(16, 1)))), 11);
    assert!(!world.services.take_effects().iter().any(|effect| matches!(effect, Effect::Shutdown)));
}

#[test]
fn a_tracker_that_ends_no_longer_counts() {
    let mut world = World::new();
    let [by, voter] = [0; 2].map(|_| world.open(Service::Cfg));
    world.ask(&voter, request(10, 24, |message| message));
    world.services.request(by.id, request(3, 24, |message| message));
    world.services.close(voter.id);
    assert_eq!(code(&by.events()[0]), 1);
}

#[test]
fn only_a_member_can_be_killed() {
    let mut world = World::new();
    world.ring(&[1, 2], true);
    let client = world.open(Service::Cfg);
    let kill = |id: u32| request(2, 288, |message| message.u32(16, id).bytes(24, b"\x04\0why\0"));
    match world.services.request(client.id, kill(2)) {
        Step::Do(Order::Kill { node: id, reason }) => assert_eq!((id, &reason[..]), (node(2), "why")),
        _ => panic!("not killed"),
    }
    assert_eq!(code(&world.services.done(client.id, Done::Killed).unwrap()), 1);
    for id in [0, 3] {
        assert_eq!(code(&world.ask(&client, kill(id))), 12);
    }
}

#[test]
fn a_nodes_state_and_address_are_told() {
    let mut world = World::new();
    let client = world.open(Service::Cfg);
    let status = world.ask(&client, request(9, 32, |message| message.u32(16, 1).u32(24, 1)));
    assert_eq!((status.len(), field(&status, 28), status[32], status[41]), (4200, 1, 1, 1));
    let unknown = world.ask(&client, request(9, 32, |message| message.u32(16, 9).u32(24, 1)));
    assert_eq!((unknown.len(), code(&unknown)), (32, 21));
    let address = world.ask(&client, request(5, 24, |message| message));
    assert_eq!((field(&address, 24), field(&address, 28), &address[32..36]), (2, 1, &[127, 0, 0, 1][..]));
}
