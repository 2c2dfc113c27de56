//! Tests of what members tell about themselves, and of the lease of other roles than the DC's.

use itertools::Itertools as _;
use quorate_membership::Metadata;

use super::tenure::leased;
use super::*;

fn zone(text: &str) -> Metadata {
    Metadata::new().with("zone", text).unwrap()
}

fn told(status: &Status, node: u32) -> Option<&str> {
    status.nodes.iter().find(|other| other.id == id(node))?.metadata.get("zone")
}

#[test]
fn members_know_what_each_of_them_tells_at_the_same_place() {
    let mut world = World::new(2);
    world.node(1).config.metadata = zone("a");
    world.restart(1);
    let status = world.ring(&[1, 2]);
    assert_eq!((told(&status, 1), told(&status, 2)), (Some("a"), None));

    let message = world.node(1).election.set_metadata(zone("b")).send.unwrap();
    let (ring, _) = world.node(1).ring.clone().unwrap();
    for node in [1, 2] {
        let now = world.now;
        let said = quorate_message(ring, id(1), message.clone());
        let status = world.node(node).election.handle(now, &said).status.unwrap();
        assert_eq!(told(&status, 1), Some("b"));
        assert_eq!(world.node(node).election.handle(now, &said).status, None, "nothing new");
    }
    assert_eq!(told(&world.ring(&[2]), 1), None, "it is no member");
    assert_eq!(told(&world.ring(&[1, 2]), 1), Some("b"));
}

#[test]
fn metadata_that_changes_during_a_sync_is_not_lost() {
    let mut world = World::new(2);
    let opened = world.open(&[1, 2]);
    assert_eq!(world.node(1).election.set_metadata(zone("late")).send, None, "nothing can be sent yet");
    for (listener, (from, say)) in [1, 2].into_iter().cartesian_product(&opened.said) {
        world.hear(id(listener), opened.ring, *from, say);
    }
    let (now, synced) = (world.now, Event::Synced(opened.ring));
    let message = world.node(1).election.handle(now, &synced).send.unwrap();
    world.node(2).election.handle(now, &synced);
    for node in [1, 2] {
        let said = quorate_message(opened.ring, id(1), message.clone());
        let status = world.node(node).election.handle(now, &said).status.unwrap();
        assert_eq!(told(&status, 1), Some("late"));
    }
}

#[test]
fn one_message_with_metadata_is_under_way_at_a_time() {
    let mut world = World::new(2);
    world.ring(&[1, 2]);
    let (ring, _) = world.node(1).ring.clone().unwrap();
    let now = world.now;
    let first = world.node(1).election.set_metadata(zone("a")).send.unwrap();
    for text in ["b", "c"] {
        assert_eq!(world.node(1).election.set_metadata(zone(text)).send, None);
    }
    let outcome = world.node(1).election.handle(now, &quorate_message(ring, id(1), first));
    assert_eq!(told(&outcome.status.unwrap(), 1), Some("a"));
    let outcome = world.node(1).election.handle(now, &quorate_message(ring, id(1), outcome.send.unwrap()));
    assert_eq!((told(&outcome.status.unwrap(), 1), outcome.send), (Some("c"), None), "the newest one");
    assert_eq!(world.node(1).election.set_metadata(zone("c")).send, None, "members know it");
}

#[test]
fn every_member_of_a_ring_with_a_term_has_a_lease() {
    let mut world = leased(3);
    world.ring(&[1, 2, 3]);
    let first = world.node(2).election.node_lease().unwrap();
    assert_eq!((first.until, first.continues), (Time::default(), None), "no token has gone round");
    world.turn(&[1, 2, 3]);
    let lease = world.node(2).election.node_lease().unwrap();
    assert_eq!(lease.until, world.now + Duration::from_millis(100));
    assert_eq!(lease.ring, world.node(2).ring.clone().unwrap().0);

    world.wait(10);
    world.ring(&[1, 2]);
    let next = world.node(2).election.node_lease().unwrap();
    assert_eq!((next.continues, next.until), (Some(lease.ring.seq), Time::default()));
    assert!(next.clear_at > world.now, "leases of the ring before may still run");
    world.ring(&[3]);
    assert_eq!(world.node(3).election.node_lease(), None, "no quorum");
    let now = world.now;
    world.node(2).election.retire(now);
    assert_eq!(world.node(2).election.node_lease(), None, "it leaves");
}
