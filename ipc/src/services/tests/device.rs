//! Tests of the quorum device, a client of votequorum.

use quorate::DeviceStatus;

use super::*;

fn named(id: i32, size: usize, name: &str) -> Bytes {
    request(id, size, |message| message.bytes(16, name.as_bytes()))
}

fn poll(ring: (u32, u64), casts: u32) -> Bytes {
    request(8, 296, |message| message.bytes(16, b"Qdevice").u32(272, casts).u32(280, ring.0).u64(288, ring.1))
}

fn casting() -> DeviceState {
    let mut state = DeviceState::default();
    (state.registered, state.alive, state.casts) = (true, true, true);
    state
}

impl World {
    /// Passes a request of the device on, as far as the node.
    fn device(&mut self, client: &Client, request: Bytes) -> DeviceRequest {
        match self.services.request(client.id, request) {
            Step::Do(Order::Device(request)) => request,
            _ => panic!("the request is not passed on"),
        }
    }

    fn device_done(&mut self, client: &Client, result: Result<DeviceState, DeviceError>) -> u32 {
        code(&self.services.done(client.id, Done::Device(result)).unwrap())
    }

    /// Returns the answer about a node: the numbers from its state to the votes of the device, and
    /// the start of the device's name.
    fn info(&mut self, client: &Client, id: u32) -> (Vec<u32>, Vec<u8>) {
        let answer = self.ask(client, request(0, 24, |message| message.u32(16, id)));
        ((28..60).step_by(4).map(|at| field(&answer, at)).collect(), answer[60..67].to_vec())
    }
}

#[test]
fn requests_of_the_device_reach_the_node() {
    let mut world = World::new();
    let client = world.open(Service::Votequorum);
    let name = || Bytes::from_static(b"Qdevice");
    assert_eq!(world.device(&client, named(5, 272, "Qdevice")), DeviceRequest::Register { name: name() });
    assert_eq!(world.device(&client, named(6, 272, "Qdevice")), DeviceRequest::Unregister { name: name() });
    let rename = request(7, 528, |message| message.bytes(16, b"Qdevice").bytes(271, b"other"));
    let new = Bytes::from_static(b"other");
    assert_eq!(world.device(&client, rename), DeviceRequest::Rename { old: name(), new });
    let ring = RingId { representative: node(2), seq: 9 };
    assert_eq!(
        world.device(&client, poll((2, 9), 1)),
        DeviceRequest::Poll { name: name(), ring, casts: true }
    );
    let wins = request(9, 280, |message| message.bytes(16, b"Qdevice").u32(272, 1));
    assert_eq!(world.device(&client, wins), DeviceRequest::MasterWins { name: name(), wins: true });
}

#[test]
fn errors_of_the_device_have_corosyncs_codes() {
    let mut world = World::new();
    let client = world.open(Service::Votequorum);
    for (error, expect) in [
        (DeviceError::NoDevice, 11),
        (DeviceError::OtherName, 14),
        (DeviceError::NotRegistered, 12),
        (DeviceError::WrongName, 7),
        (DeviceError::OtherRing, 22),
    ] {
        assert_eq!(world.device_done(&client, Err(error)), expect);
    }
    assert_eq!(world.device_done(&client, Ok(casting())), 1);
    assert_eq!(code(&world.ask(&client, named(5, 272, ""))), 7, "an empty name");
    assert_eq!(code(&world.ask(&client, named(5, 272, &"x".repeat(255)))), 7, "a name without an end");
    let DeviceRequest::Poll { ring, .. } = world.device(&client, poll((0, 9), 1)) else { panic!("a poll") };
    assert_eq!(ring.seq, 0, "there is no ring of node 0");
}

#[test]
fn each_node_counts_the_votes_that_its_own_device_gives() {
    let mut world = World::new();
    world.ring(&[1, 2], true);
    let client = world.open(Service::Votequorum);
    let device = DeviceStatus::new(Some("Qdevice".to_owned()), 1, true);
    let mut status =
        Status { device: Some(device), total_votes: 3, expected_votes: Some(3), ..world.status.clone() };
    status.nodes[1].device = casting();
    world.services.event(&Event::Status(Box::new(status.clone())));
    let (own, name) = world.info(&client, 0);
    assert_eq!((own, &name[..]), (vec![1, 1, 3, 3, 2, 2, 2 | 4, 1], &b"Qdevice"[..]));
    assert_eq!(world.info(&client, 2).0, [1, 1, 3, 3, 3, 2, 2 | 4 | 64 | 128 | 256, 1]);
    // The device of this node registers. Its state is known before the next status.
    world.device_done(&client, Ok(casting()));
    assert_eq!(world.info(&client, 0).0, [1, 1, 3, 3, 3, 2, 2 | 4 | 64 | 128 | 256, 1]);
}

#[test]
fn the_device_is_the_last_node_in_a_verdict() {
    let mut world = World::new();
    world.ring(&[1, 2], true);
    let client = world.open(Service::Votequorum);
    world.device_done(&client, Ok(casting()));
    world.ask(&client, request(3, 32, |message| message.u64(16, 5).u32(24, 1)));
    let [_nodes, verdict] = &client.events()[..] else { panic!("two events") };
    assert_eq!(field(verdict, 40), 3);
    assert_eq!([48, 52, 56, 60, 64, 68].map(|at| field(verdict, at)), [1, 1, 2, 1, 0, 0]);
}

#[test]
fn the_end_of_the_program_that_polled_reaches_the_node() {
    let mut world = World::new();
    let [other, device, again] = [0; 3].map(|_| world.open(Service::Votequorum));
    let ended = |world: &mut World| {
        world.services.take_effects().iter().any(|effect| matches!(effect, Effect::DeviceEnded))
    };
    world.device_done(&device, Ok(casting()));
    world.services.close(other.id);
    assert!(!ended(&mut world), "another client");
    world.device_done(&again, Ok(casting()));
    world.services.close(device.id);
    assert!(!ended(&mut world), "its successor has polled");
    world.services.close(again.id);
    assert!(ended(&mut world));
}

#[test]
fn a_device_that_has_left_ends_without_a_word() {
    let mut world = World::new();
    let device = world.open(Service::Votequorum);
    world.device_done(&device, Ok(casting()));
    world.device_done(&device, Ok(DeviceState::default()));
    world.services.close(device.id);
    assert!(world.services.take_effects().is_empty());
}

#[test]
fn a_ring_is_announced_to_the_device_before_it_is_synced() {
    let mut world = World::new();
    let client = world.open(Service::Votequorum);
    world.ask(&client, request(3, 32, |message| message.u64(16, 5).u32(24, 2)));
    client.events();
    let ring = RingId { representative: node(1), seq: 400 };
    let (joined, left, causes) = (nodes(&[2]), nodes(&[]), vec![Cause::Started]);
    world.services.event(&Event::Regular(Regular { ring, members: nodes(&[1, 2]), joined, left, causes }));
    let [list] = &client.events()[..] else { panic!("one event") };
    assert_eq!([0, 32, 40, 48, 56, 60].map(|at| field(list, at)), [5, 1, 400, 2, 1, 2]);
    // A device that begins to track now hears of this ring, too.
    let late = world.open(Service::Votequorum);
    world.ask(&late, request(3, 32, |message| message.u64(16, 5).u32(24, 2)));
    assert_eq!(field(&late.events()[0], 40), 400);
    world.services.event(&Event::Synced(ring));
    assert_eq!(client.kinds(), [0; 0], "the list is told once");
}
