//! Elections with a quorum device: when a ring waits for it, and what its votes are good for.

use bytes::Bytes;
use quorate_membership::config::DeviceConfig;
use quorate_membership::{DeviceError, DeviceRequest};

use super::*;
use crate::DeviceStatus;

fn name() -> Bytes {
    Bytes::from_static(b"Qdevice")
}

/// Creates two nodes with a quorum device that has one vote.
fn world() -> World {
    let mut world = World::new(2);
    world.configure(|config| {
        let mut device = DeviceConfig::default();
        device.votes = Some(1);
        config.quorum.device = Some(device);
        config.quorum.expected_votes = Some(3);
    });
    world.wait(1000);
    world
}

impl World {
    /// Passes a request of a node's device on.
    fn device(&mut self, node: u32, request: DeviceRequest) -> Outcome {
        let now = self.now;
        self.node(node).election.handle_device(now, request).unwrap()
    }

    fn register(&mut self, node: u32) {
        self.device(node, DeviceRequest::Register { name: name() });
    }

    /// Lets a node's device poll for its newest ring.
    fn poll(&mut self, node: u32, casts: bool) -> Outcome {
        let (ring, _) = self.node(node).ring.clone().unwrap();
        self.device(node, DeviceRequest::Poll { name: name(), ring, casts })
    }

    /// Delivers a member's messages about its votes to all members of its ring. Returns the status
    /// of the first one that has changed.
    fn announce(&mut self, from: u32, outcome: &Outcome) -> Option<Status> {
        let now = self.now;
        let (ring, members) = self.node(from).ring.clone().unwrap();
        let mut statuses = Vec::new();
        for message in &outcome.device.announces {
            for member in &members {
                let event = Event::Service(ServiceMessage {
                    ring,
                    from: id(from),
                    service: Service::Votequorum,
                    message: message.clone(),
                });
                statuses.extend(self.nodes.get_mut(member).unwrap().election.handle(now, &event).status);
            }
        }
        statuses.pop()
    }
}

/// Returns a world in whose ring of both nodes both devices give their votes.
fn voting() -> World {
    let mut world = world();
    world.ring(&[1, 2]);
    for node in [1, 2] {
        world.register(node);
        let polled = world.poll(node, true);
        world.announce(node, &polled);
    }
    world
}

#[test]
fn a_device_that_gives_its_votes_is_shown() {
    let mut world = voting();
    let status = world.node(2).election.status().clone();
    assert_eq!((status.total_votes, status.quorate), (3, true));
    assert_eq!(status.device, Some(DeviceStatus { name: Some("Qdevice".to_owned()), votes: 1, casts: true }));
    assert!(status.nodes.iter().all(|node| node.device.alive && node.device.casts));
    assert_eq!(status.flags, ["Quorate", "Qdevice"]);
    assert!(status.term.is_some(), "the members are enough");
}

#[test]
fn a_new_ring_waits_for_the_poll_of_a_living_device() {
    let mut world = voting();
    let opened = world.open(&[1]);
    assert!(opened.said[0].1.waits);
    let status = world.node(1).election.status().clone();
    assert_eq!(status.inquorate, Some(Inquorate::AwaitsDevice { limit: Duration::from_secs(30) }));
    let old = RingId { seq: opened.ring.seq - 4, ..opened.ring };
    let now = world.now;
    let late = DeviceRequest::Poll { name: name(), ring: old, casts: true };
    assert_eq!(world.node(1).election.handle_device(now, late), Err(DeviceError::OtherRing));
    let polled = world.poll(1, true);
    assert!(polled.device.goes_on && polled.device.announces.is_empty(), "nothing has changed");
    assert_eq!(polled.status.unwrap().inquorate, Some(Inquorate::Unsettled), "others may still wait");
    let status = world.settle(&opened);
    assert!(status.quorate);
}

#[test]
fn a_device_that_refuses_a_ring_ends_its_wait_without_a_vote() {
    let mut world = voting();
    let mut opened = world.open(&[1]);
    let polled = world.poll(1, false);
    assert!(polled.device.goes_on);
    let [message] = &polled.device.announces[..] else { panic!("{polled:?}") };
    let Ok(Body::NodeInfo(info)) = Body::decode(SERVICES, message) else { panic!("{message:?}") };
    opened.said[0].1.node_info = info;
    assert!(!world.settle(&opened).quorate);
}

#[test]
fn a_ring_waits_for_a_silent_device_for_a_bounded_time() {
    let mut world = voting();
    let mut opened = world.open(&[1]);
    let until = world.now + Duration::from_secs(30);
    assert_eq!(world.node(1).election.quorum.poll_device_timeout(), Some(until));
    world.wait(30_000);
    let now = world.now;
    world.node(1).election.handle_token(now, Some(now));
    let outcome = world.node(1).election.handle_timeout(now);
    assert!(outcome.device.goes_on);
    let Ok(Body::NodeInfo(info)) = Body::decode(SERVICES, &outcome.device.announces[0]) else { panic!() };
    assert_eq!(info.flags & NodeInfo::QDEVICE_CASTS_VOTE, 0);
    opened.said[0].1.node_info = info;
    assert!(!world.settle(&opened).quorate);
    assert!(!world.open(&[1]).said[0].1.waits, "a dead device is not waited for");
}

#[test]
fn a_ring_that_the_device_makes_quorate_has_no_term() {
    let mut world = voting();
    let opened = world.open(&[1]);
    world.poll(1, true);
    let status = world.settle(&opened);
    assert_eq!((status.quorate, status.dc, status.term), (true, Some(id(1)), None));
    assert_eq!(status.vacant, Some(Vacancy::DeviceDecides));
    world.wait(10_000);
    assert_eq!(world.turn(&[1]), [Lease::None]);
    // The device goes over to the other part, and comes back.
    for casts in [false, true] {
        let polled = world.poll(1, casts);
        let status = world.announce(1, &polled).unwrap();
        assert_eq!((status.quorate, status.term), (casts, None));
    }
    let status = world.ring(&[1, 2]);
    assert!(status.term.is_some(), "both nodes are enough");
}

#[test]
fn a_name_that_could_forge_lines_is_shown_without_them() {
    let mut world = world();
    world.ring(&[1, 2]);
    world.device(1, DeviceRequest::Register { name: Bytes::from_static(b"a\nb\x1b[2J") });
    let device = world.node(1).election.status().device.clone().unwrap();
    assert_eq!(device.name.as_deref(), Some("a?b?[2J"));
}

#[test]
fn a_name_is_forgotten_with_the_last_device() {
    let mut world = voting();
    for node in [1, 2] {
        // No ring carries the message.
        world.device(node, DeviceRequest::Unregister { name: name() });
    }
    world.ring(&[1, 2]);
    let device = world.node(1).election.status().device.clone().unwrap();
    assert_eq!((device.name, device.casts), (None, false));
    world.device(1, DeviceRequest::Register { name: Bytes::from_static(b"other") });
}

#[test]
fn a_device_that_leaves_takes_its_votes_along() {
    let mut world = voting();
    let left = world.device(1, DeviceRequest::Unregister { name: name() });
    let kinds: Vec<bool> = left.device.announces.iter().map(|message| message.len() > 32).collect();
    assert_eq!(kinds, [false, true], "the votes end before the registration");
    world.announce(1, &left);
    let status = world.node(2).election.status().clone();
    assert_eq!((status.total_votes, status.quorate), (3, true), "the other node's device still votes");
    assert!(!status.nodes[0].device.registered);
}

#[cfg(feature = "mutants")]
mod mutants {
    use quorate_membership::mutants::Mutant;

    use super::*;

    #[test]
    #[should_panic]
    fn a_term_by_the_votes_of_the_device_is_found() {
        let _active = Mutant::DeviceGrantsTerms.activate();
        a_ring_that_the_device_makes_quorate_has_no_term();
    }

    #[test]
    #[should_panic]
    fn a_ring_that_does_not_wait_for_the_device_is_found() {
        let _active = Mutant::DeviceNotAwaited.activate();
        a_new_ring_waits_for_the_poll_of_a_living_device();
    }
}
