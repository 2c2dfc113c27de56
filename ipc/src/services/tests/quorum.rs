//! Tests of the service `quorum`.

use super::*;

#[test]
fn the_first_quorum_event_comes_before_the_response() {
    let mut world = World::new();
    let client = world.open(Service::Quorum);
    world.ask(&client, request(1, 24, |message| message.u32(16, 3)));
    let [event] = &client.events()[..] else { panic!("one event") };
    assert_eq!([0, 24, 32, 40, 44].map(|at| field(event, at)), [3, 0, 8, 1, 1]);
    world.ring(&[1, 2], true);
    let [event] = &client.events()[..] else { panic!("one event a ring") };
    assert_eq!([24, 32, 40, 44, 48].map(|at| field(event, at)), [1, 12, 2, 1, 2]);
    assert_eq!(event.len(), 56);
    assert_eq!(code(&world.ask(&client, request(1, 24, |message| message.u32(16, 3)))), 14);
}

#[test]
fn a_status_that_says_nothing_new_is_no_event() {
    let mut world = World::new();
    let [quorum, votequorum] = [Service::Quorum, Service::Votequorum].map(|service| world.open(service));
    world.ask(&quorum, request(1, 24, |message| message.u32(16, 3)));
    world.ask(&votequorum, request(3, 32, |message| message.u32(24, 3)));
    quorum.events();
    votequorum.events();
    let held = Status { lease: Lease::Held, dc: Some(node(1)), ..world.status.clone() };
    world.services.event(&Event::Status(Box::new(held)));
    assert!(quorum.events().is_empty() && votequorum.events().is_empty());
}

#[test]
fn model_1_has_the_nodes_that_joined_and_left() {
    let mut world = World::new();
    let client = world.open(Service::Quorum);
    world.ask(&client, request(4, 24, |message| message.u32(16, 1)));
    world.ask(&client, request(1, 24, |message| message.u32(16, 3)));
    assert_eq!(client.kinds(), [7, 6]);
    world.ring(&[1, 2], true);
    let [nodes, verdict] = &client.events()[..] else { panic!("two events") };
    assert_eq!([40, 48, 56, 60, 64, 68].map(|at| field(nodes, at)), [2, 1, 0, 1, 2, 2]);
    assert_eq!([24, 48, 52, 56].map(|at| field(verdict, at)), [1, 2, 1, 2]);
}
