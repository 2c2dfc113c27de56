//! Tests of the services, without sockets and memory.

mod cfg;
mod cmap;
mod counters;
mod cpg;
mod device;
mod garbage;
mod quorum;
mod reload;
mod votequorum;

use std::collections::{BTreeSet, VecDeque};

use quorate::{
    Cause, Delivery, GroupChange, GroupReason, Lease, Metadata, NodeId, NodeStatus, Process, Regular, RingId,
    Seq, Status, Totem,
};

use super::*;
use crate::outbox::Outgoing;

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn nodes(ids: &[u32]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(node).collect()
}

fn field(message: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(message[at..at + 4].try_into().unwrap())
}

/// The error code of a response.
fn code(message: &[u8]) -> u32 {
    field(message, 16)
}

/// A request whose fields are written by a [`Message`], whose header has the same size field.
fn request(id: i32, size: usize, fields: impl FnOnce(Message) -> Message) -> Bytes {
    // A message has room for a longer header than a request.
    let message = fields(Message::new(id, size.max(24)).i32(16, 0)).done();
    let mut bytes = message.slice(..size).to_vec();
    bytes[8..12].copy_from_slice(&i32::try_from(size).unwrap().to_ne_bytes());
    bytes.into()
}

/// The services of node 1, which is in rings with node 2.
struct World {
    services: Services,
    seq: u64,
    /// The last status.
    status: Status,
}

impl World {
    fn new() -> Self {
        let config = quorate::Config::new(node(1));
        let keys = crate::keys(&config, [("logging.debug", "off"), ("totem.token", "1000")]);
        let mut world = Self { services: Services::new(&config, keys), seq: 4, status: Status::default() };
        world.ring(&[1], false);
        world
    }

    /// Forms a ring of these nodes.
    fn ring(&mut self, members: &[u32], quorate: bool) {
        self.seq += 4;
        let ring = RingId { representative: node(members[0]), seq: self.seq };
        let members = nodes(members);
        self.services.event(&Event::Regular(Regular {
            ring,
            members: members.clone(),
            joined: members.clone(),
            left: BTreeSet::new(),
            causes: vec![Cause::Started],
        }));
        self.services.event(&Event::Synced(ring));
        let known = [1, 2].map(|id| NodeStatus {
            id: node(id),
            name: format!("n{id}"),
            online: members.contains(&node(id)),
            votes: 1,
            device: DeviceState::default(),
            metadata: Metadata::default(),
        });
        let votes = u32::try_from(members.len()).unwrap();
        self.status = Status {
            ring: Some(ring),
            settled: true,
            nodes: known.into(),
            quorate,
            total_votes: votes,
            expected_votes: Some(2),
            quorum: Some(2),
            flags: if quorate { vec!["Quorate", "WaitForAll"] } else { vec!["WaitForAll"] },
            lease: Lease::None,
            ..Status::default()
        };
        self.services.event(&Event::Status(Box::new(self.status.clone())));
    }

    fn open(&mut self, service: Service) -> Client {
        let peer = Peer { pid: 77, name: "client".to_owned() };
        let (id, outbox) = self.services.open(service, peer);
        Client { id, outbox }
    }

    /// Sends a request that is answered at once.
    fn ask(&mut self, client: &Client, request: Bytes) -> Bytes {
        match self.services.request(client.id, request) {
            Step::Reply(reply) => {
                assert_eq!(field(&reply, 8) as usize, reply.len(), "the header's size");
                reply
            }
            _ => panic!("no reply"),
        }
    }

    fn change(
        &mut self,
        group: &str,
        members: &[(u32, u32)],
        joined: &[(u32, u32)],
        left: &[(u32, u32)],
        reason: GroupReason,
    ) {
        let of = |list: &[(u32, u32)]| {
            list.iter().map(|(id, pid)| Process { node: node(*id), pid: *pid }).collect()
        };
        self.services.event(&Event::GroupChange(GroupChange {
            ring: RingId { representative: node(1), seq: self.seq },
            group: group.parse().unwrap(),
            members: of(members),
            joined: of(joined),
            left: of(left),
            reason,
        }));
    }

    /// Joins a group as this process, as far as the ring.
    fn join(&mut self, client: &Client, group: &str, pid: u32) {
        let Step::Do(Order::Join { .. }) = self.services.request(client.id, join(group, pid)) else {
            panic!("no join");
        };
        let reply = self.services.done(client.id, Done::Joined(Ok(()))).unwrap();
        assert_eq!(code(&reply), 1);
        self.change(group, &[(1, pid)], &[(1, pid)], &[], GroupReason::Join);
    }

    fn deliver(&mut self, group: &str, payload: &'static [u8]) {
        self.services.event(&Event::Deliver(Delivery {
            ring: RingId { representative: node(1), seq: self.seq },
            seq: Seq::new(1),
            from: node(2),
            pid: 77,
            group: group.parse().unwrap(),
            guarantee: quorate::Guarantee::Agreed,
            transitional: false,
            payload: Bytes::from_static(payload),
        }));
    }
}

struct Client {
    id: ConnectionId,
    outbox: Arc<Outbox>,
}

impl Client {
    /// Takes the events that wait for the client.
    fn events(&self) -> Vec<Bytes> {
        let mut taken = VecDeque::new();
        self.outbox.take(&mut taken).unwrap();
        taken.into_iter().map(|(Outgoing::Event(bytes) | Outgoing::Response(bytes))| bytes).collect()
    }

    /// Takes the ids of the events that wait.
    fn kinds(&self) -> Vec<u32> {
        self.events().iter().map(|event| field(event, 0)).collect()
    }
}

fn join(group: &str, pid: u32) -> Bytes {
    request(0, 168, |message| message.group(16, group.as_bytes()).u32(152, pid))
}

fn key(id: i32, size: usize, key: &str) -> Bytes {
    request(id, size, |message| message.key(16, key))
}

fn five_tokens() -> quorate::Stats {
    let mut stats = quorate::Stats::default();
    stats.tokens = 5;
    stats
}

/// A request to track a key, or what begins with it.
fn track(name: &str, types: i32) -> Bytes {
    request(7, 296, |message| message.key(16, name).i32(280, types).u64(288, 55))
}

#[test]
fn nobody_is_let_in_before_the_first_ring() {
    let services = Services::new(&quorate::Config::new(node(1)), []);
    assert_eq!(services.admit(0, 0), Err(Code::TryAgain));
}

#[test]
fn root_and_whom_the_map_names_are_let_in() {
    let mut world = World::new();
    for (uid, gid) in [(0, 5), (5, 0)] {
        assert_eq!(world.services.admit(uid, gid), Ok(()));
    }
    assert_eq!(world.services.admit(17, 18), Err(Code::Access));
    let client = world.open(Service::Cmap);
    let set = request(0, 297, |message| message.key(16, "uidgid.gid.18").u64(280, 1).u8(288, 2).u8(296, 1));
    assert_eq!(code(&world.ask(&client, set)), 1);
    assert_eq!(world.services.admit(17, 18), Ok(()));
}

#[test]
fn malformed_requests_are_counted_and_answered() {
    let mut world = World::new();
    let clients = Service::ALL.map(|service| world.open(service));
    for client in &clients {
        for id in -3..20 {
            let _ = world.services.request(client.id, request(id, 16, |message| message));
        }
        let _ = world.services.request(client.id, Bytes::from_static(b"short"));
    }
    assert!(world.services.malformed() >= 40, "{}", world.services.malformed());
}

impl Services {
    /// Returns the number of things that are kept for clients.
    fn kept(&self) -> usize {
        let Self { cmap, cfg, cpg, quorum, votequorum, connections, .. } = self;
        connections.len() + cmap.kept() + cfg.kept() + cpg.kept() + quorum.kept() + votequorum.kept()
    }
}

/// The client would take a response for the one to its next request.
#[test]
fn a_malformed_multicast_has_no_response() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    for content in [
        request(super::cpg::MULTICAST, 16, |message| message),
        super::cpg::MULTICAST.to_ne_bytes().to_vec().into(),
    ] {
        assert!(matches!(world.services.request(client.id, content), Step::Silent));
    }
    assert_eq!(world.services.malformed(), 2);
}
