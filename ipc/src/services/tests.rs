//! Tests of the services, without sockets and memory.

mod device;
mod garbage;
mod reload;

use std::collections::{BTreeSet, VecDeque};

use quorate::{
    Cause, Delivery, GroupChange, GroupReason, Lease, NodeId, NodeStatus, Process, Regular, RingId, Seq,
    Status, Totem,
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
fn a_value_is_read_in_two_steps() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    let get = |room: u64| request(2, 288, |message| message.key(16, "logging.debug").u64(280, room));
    let length = world.ask(&client, get(0));
    assert_eq!((length.len(), field(&length, 24), length[32]), (40, 4, 11));
    let value = world.ask(&client, get(4));
    assert_eq!((value.len(), &value[40..]), (44, &b"off\0"[..]));
    assert_eq!(code(&world.ask(&client, get(3))), 7);
    let number = request(2, 288, |message| message.key(16, "totem.token").u64(280, 16));
    let number = world.ask(&client, number);
    assert_eq!((number.len(), field(&number, 24), number[32], field(&number, 40)), (56, 4, 6, 1000));
    assert_eq!(code(&world.ask(&client, key(2, 288, "no.such.key"))), 12);
}

#[test]
fn a_text_is_stored_with_a_nul() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    for sent in [&b"hello"[..], b"hello\0", b"hello\0rest"] {
        let set = request(0, 296 + sent.len(), |message| {
            message.key(16, "test.text").u64(280, sent.len() as u64).u8(288, 11).bytes(296, sent)
        });
        assert_eq!(code(&world.ask(&client, set)), 1);
        let get = request(2, 288, |message| message.key(16, "test.text").u64(280, 6));
        assert_eq!(&world.ask(&client, get)[40..], b"hello\0");
    }
}

#[test]
fn a_read_only_key_cannot_be_changed() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    for name in
        ["runtime.config.totem.token", "totem.cluster_name", "nodelist.node.0.nodeid", "quorum.wait_for_all"]
    {
        let set = request(0, 297, |message| message.key(16, name).u64(280, 1).u8(288, 2));
        assert_eq!(code(&world.ask(&client, set)), 11, "{name}");
        assert_eq!(code(&world.ask(&client, key(1, 280, name))), 11, "{name}");
    }
}

#[test]
fn a_tracker_is_told_what_it_asked_for() {
    let mut world = World::new();
    let [tracker, other] = [0; 2].map(|_| world.open(Service::Cmap));
    let track = request(7, 296, |message| message.key(16, "test.").u32(280, 2 | 4 | 8).u64(288, 99));
    let handle = world.ask(&tracker, track);
    let set = |value: u8| {
        request(0, 297, |message| message.key(16, "test.a").u64(280, 1).u8(288, 2).u8(296, value))
    };
    world.ask(&other, set(7));
    world.ask(&other, set(7));
    world.ask(&other, set(8));
    world.ask(&other, key(1, 280, "test.a"));
    let told = tracker.events();
    assert_eq!(told.iter().map(|event| field(event, 296)).collect::<Vec<_>>(), [4, 2], "added, modified");
    let modified = &told[1];
    assert_eq!((modified.len(), field(modified, 24)), (338, 99));
    assert_eq!((modified[336], modified[337]), (8, 7), "the new value, then the old one");
    let untrack = request(8, 24, |message| message.u32(16, field(&handle, 24)));
    assert_eq!(field(&world.ask(&tracker, untrack), 24), 99);
}

#[test]
fn an_iteration_ends_and_a_map_is_busy_meanwhile() {
    let mut world = World::new();
    let client = world.open(Service::Cmap);
    let handle = field(&world.ask(&client, key(4, 280, "totem.")), 24);
    let next = || request(5, 24, |message| message.u32(16, handle));
    let choose = || request(9, 24, |message| message.u32(16, 1));
    assert_eq!(code(&world.ask(&client, choose())), 10);
    let mut names = Vec::new();
    loop {
        let entry = world.ask(&client, next());
        if code(&entry) == 27 {
            break;
        }
        names.push(String::from_utf8(entry[32..32 + usize::from(entry[24])].to_vec()).unwrap());
    }
    assert!(names.is_sorted() && names.contains(&"totem.version".to_owned()), "{names:?}");
    world.ask(&client, request(6, 24, |message| message.u32(16, handle)));
    assert_eq!(code(&world.ask(&client, choose())), 1);
    let Step::Do(Order::ReadStats(asked)) = world.services.request(client.id, key(4, 280, "stats.srp"))
    else {
        panic!("the counters are read first");
    };
    let answer = world.services.done(client.id, Done::Stats(Box::default(), asked)).unwrap();
    assert_eq!(code(&answer), 1);
}

/// Asks for the map of the counters.
fn open_stats(world: &mut World) -> Client {
    let client = world.open(Service::Cmap);
    assert_eq!(code(&world.ask(&client, request(9, 24, |message| message.i32(16, 1)))), 1);
    client
}

impl World {
    /// Sends a request that needs the counters, which are these.
    fn ask_stats(&mut self, client: &Client, request: Bytes, stats: &quorate::Stats) -> Bytes {
        let Step::Do(Order::ReadStats(asked)) = self.services.request(client.id, request) else {
            panic!("no order");
        };
        self.services.done(client.id, Done::Stats(Box::new(stats.clone()), asked)).unwrap()
    }

    /// Reads a counter of 64 bits.
    fn counter(&mut self, client: &Client, name: &str, stats: &quorate::Stats) -> u64 {
        let get = request(2, 288, |message| message.key(16, name).u64(280, 8));
        let answer = self.ask_stats(client, get, stats);
        assert_eq!(code(&answer), 1, "{name}");
        u64::from_ne_bytes(answer[40..48].try_into().unwrap())
    }
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
fn connections_have_counters_while_they_last() {
    let (mut world, stats) = (World::new(), quorate::Stats::default());
    let client = open_stats(&mut world);
    assert_eq!(
        code(&world.ask_stats(&client, track("stats.ipcs.", 8 | 4), &stats)),
        19,
        "only both together"
    );
    assert_eq!(code(&world.ask_stats(&client, track("stats.ipcs.", 8 | 4 | 1), &stats)), 1);

    let other = world.open(Service::Cpg);
    let added = client.events();
    let name = |event: &Bytes| {
        let length = usize::from(u16::from_ne_bytes([event[32], event[33]]));
        String::from_utf8(event[40..40 + length].to_vec()).unwrap()
    };
    let key = "stats.ipcs.service2.77.0x2.dispatched";
    assert_eq!((added.len(), name(&added[0])), (13, key.to_owned()));
    assert!(added.iter().all(|event| (field(event, 24), field(event, 296)) == (55, 4)));

    world.join(&other, "g", 77);
    world.deliver("g", b"hello");
    let count = other.events().len() as u64;
    let (waiting, mut taken) = (other.outbox.counts().waiting, VecDeque::new());
    assert_eq!((waiting, count), (2, 2), "taken, and not in the client's memory yet");
    other.outbox.event(Bytes::new());
    other.outbox.take(&mut taken).unwrap();
    other.outbox.sent(&taken[0]);
    assert_eq!(world.counter(&client, key, &stats), 1);
    assert_eq!(world.counter(&client, "stats.ipcs.service2.77.0x2.requests", &stats), 1);
    assert_eq!(world.counter(&client, "stats.ipcs.global.active", &stats), 2);

    world.services.close(other.id);
    let deleted = client.events();
    assert_eq!((deleted.len(), field(&deleted[0], 296)), (13, 1));
    assert_eq!(world.counter(&client, "stats.ipcs.global.closed", &stats), 1);
}

#[test]
fn a_tracked_counter_is_told_when_it_has_changed() {
    let mut world = World::new();
    let mut stats = five_tokens();
    let client = open_stats(&mut world);
    assert_eq!(code(&world.ask_stats(&client, track("stats.srp.orf_token_rx", 2), &stats)), 1);
    let is_due = |world: &mut World| {
        let effects = world.services.take_effects();
        effects.iter().filter(|effect| matches!(effect, Effect::WatchCounters { .. })).count()
    };
    assert_eq!(is_due(&mut world), 1);
    world.services.watch_counters(&stats);
    assert_eq!((client.events().len(), is_due(&mut world)), (0, 1), "unchanged");
    stats.tokens = 7;
    world.services.watch_counters(&stats);
    let told = client.events();
    assert_eq!((told.len(), field(&told[0], 296), told[0][336], told[0][344]), (1, 2, 7, 5));
    assert_eq!(is_due(&mut world), 1);
    world.services.close(client.id);
    world.services.watch_counters(&stats);
    assert_eq!(is_due(&mut world), 0, "there is no tracker any more");
}

#[test]
fn counters_are_set_to_zero_by_an_operator() {
    let mut world = World::new();
    let stats = five_tokens();
    let client = open_stats(&mut world);
    let set =
        |name: &str| request(0, 300, |message| message.key(16, name).u64(280, 4).u8(288, 6).u32(296, 1));
    assert_eq!(code(&world.ask_stats(&client, set("stats.clear.ipc"), &stats)), 1);
    assert_eq!(world.counter(&client, "stats.srp.orf_token_rx", &stats), 5);
    assert_eq!(code(&world.ask_stats(&client, set("stats.clear.all"), &stats)), 1);
    assert_eq!(world.counter(&client, "stats.srp.orf_token_rx", &stats), 0);
    assert_eq!(code(&world.ask_stats(&client, set("stats.clear.nothing"), &stats)), 19);
    assert_eq!(code(&world.ask(&client, set("stats.srp.orf_token_rx"))), 11, "read-only");
}

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
fn a_process_sees_a_group_from_its_join_to_its_leave() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    world.deliver("g", b"before");
    world.join(&client, "g", 17);
    world.deliver("g", b"after");
    world.deliver("h", b"elsewhere");
    let [change, message] = &client.events()[..] else { panic!("two events") };
    assert_eq!([0, 160, 168, 176].map(|at| field(change, at)), [4, 1, 1, 0]);
    assert_eq!([184, 192, 200, 208, 216, 224].map(|at| field(change, at)), [1, 17, 0, 1, 17, 1]);
    assert_eq!([0, 160, 168, 176].map(|at| field(message, at)), [5, 5, 2, 77]);
    assert_eq!(&message[184..], b"after");
    let leave = request(1, 160, |message| message.group(16, b"g").u32(152, 17));
    assert!(matches!(world.services.request(client.id, leave), Step::Do(Order::LeaveGroup { pid: 17, .. })));
    world.deliver("g", b"last");
    world.change("g", &[], &[], &[(1, 17)], GroupReason::Leave);
    world.deliver("g", b"gone");
    assert_eq!(client.kinds(), [5, 4]);
    assert_eq!(code(&world.ask(&client, join("g", 17))), 14, "as with corosync 3.1");
}

#[test]
fn a_process_that_dies_leaves_its_group() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    world.join(&client, "g", 17);
    world.services.close(client.id);
    let [Effect::Abandon { pid: 17, parting: Parting::Died, .. }] = world.services.take_effects()[..] else {
        panic!("it leaves");
    };
}

#[test]
fn a_process_that_dies_while_it_leaves_is_removed() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    world.join(&client, "g", 17);
    let leave = request(1, 160, |message| message.group(16, b"g"));
    assert!(matches!(world.services.request(client.id, leave), Step::Do(Order::LeaveGroup { .. })));
    world.services.close(client.id);
    assert!(matches!(world.services.take_effects()[..], [Effect::Abandon { pid: 17, .. }]));
}

#[test]
fn a_process_is_not_evicted_when_its_node_leaves() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    world.join(&client, "g", 17);
    client.events();
    world.change("g", &[], &[], &[(1, 17)], GroupReason::Leave);
    assert!(client.events().is_empty());
}

#[test]
fn the_same_process_joins_a_group_once() {
    let mut world = World::new();
    let [one, two] = [0; 2].map(|_| world.open(Service::Cpg));
    world.join(&one, "g", 17);
    assert_eq!(code(&world.ask(&two, join("g", 17))), 14);
    assert_eq!(code(&world.ask(&two, join("", 17))), 7);
    let long = request(0, 168, |message| message.u32(16, 129));
    assert_eq!(code(&world.ask(&two, long)), 13);
    assert!(matches!(world.services.request(two.id, join("g", 18)), Step::Do(Order::Join { .. })));
}

#[test]
fn all_cpg_clients_are_told_a_ring_and_then_the_quorum() {
    let mut world = World::new();
    let [idle, member] = [0; 2].map(|_| world.open(Service::Cpg));
    world.join(&member, "g", 17);
    world.change("g", &[(1, 17), (2, 5)], &[(2, 5)], &[], GroupReason::NodeUp);
    world.ring(&[1, 2], true);
    assert_eq!(member.kinds(), [4, 4, 13]);
    let [ring] = &idle.events()[..] else { panic!("one event") };
    assert_eq!([24, 32, 40, 44, 48].map(|at| field(ring, at)), [1, 12, 2, 1, 2]);
    assert_eq!(ring.len(), 56);
}

#[test]
fn a_long_message_comes_in_parts() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    world.join(&client, "g", 17);
    client.events();
    let long: &'static [u8] = vec![3; (1 << 20) - 1000].leak();
    world.deliver("g", long);
    let parts = client.events();
    assert_eq!(parts.iter().map(|part| field(part, 192)).collect::<Vec<_>>(), [1, 2, 3]);
    let sizes: u32 = parts.iter().map(|part| field(part, 168)).sum();
    assert_eq!((sizes, field(&parts[0], 160)), ((1 << 20) - 1000, (1 << 20) - 1000));
}

#[test]
fn a_message_in_parts_is_sent_when_it_is_whole() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    world.join(&client, "g", 17);
    let part = |total: u32, kind: u32, content: &[u8]| {
        let content = content.to_vec();
        request(12, 56 + content.len(), move |message| {
            let length = u32::try_from(content.len()).unwrap();
            message.u32(32, total).u32(40, length).u32(48, kind).bytes(56, &content)
        })
    };
    assert_eq!(code(&world.ask(&client, part(6, 1, b"ab"))), 1);
    assert_eq!(code(&world.ask(&client, part(6, 2, b"cd"))), 1);
    match world.services.request(client.id, part(6, 3, b"ef")) {
        Step::ReplyAndDo(reply, Order::Multicast { payload, .. }) => {
            assert_eq!((code(&reply), &payload[..]), (1, &b"abcdef"[..]));
        }
        _ => panic!("not sent"),
    }
    assert_eq!(code(&world.ask(&client, part(6, 3, b"ef"))), 7, "without a beginning");
    let longest = u32::try_from(Totem::MAX_PAYLOAD).unwrap();
    assert_eq!(code(&world.ask(&client, part(longest, 1, b"ab"))), 1);
    assert_eq!(code(&world.ask(&client, part(longest + 1, 1, b"ab"))), 26);
    assert_eq!(code(&world.ask(&client, part(longest, 2, b"cd"))), 7, "it was given up");
}

#[test]
fn a_message_in_parts_of_libcpgs_length_is_sent_whole() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    world.join(&client, "g", 17);
    let long: Vec<u8> = (0..(3 << 20) + 1).map(|n: u32| (n % 251) as u8).collect();
    let parts: Vec<&[u8]> = long.chunks(1_047_552).collect();
    for (n, content) in parts.iter().enumerate() {
        let kind = [1, 2, 2, 3][n];
        let part = request(12, 56 + content.len(), |message| {
            let [total, length] = [long.len(), content.len()].map(|length| u32::try_from(length).unwrap());
            message.u32(32, total).u32(40, length).u32(48, kind).bytes(56, content)
        });
        match world.services.request(client.id, part) {
            Step::Reply(reply) => assert_eq!((code(&reply), kind < 3), (1, true), "part {n}"),
            Step::ReplyAndDo(reply, Order::Multicast { payload, .. }) => {
                assert_eq!(code(&reply), 1);
                assert!(kind == 3 && payload == long, "part {n}");
            }
            _ => panic!("part {n}"),
        }
    }
}

#[test]
fn groups_are_iterated_by_name_and_by_member() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    world.change("a", &[(1, 5), (2, 6)], &[(1, 5), (2, 6)], &[], GroupReason::NodeUp);
    world.change("b", &[(2, 7)], &[(2, 7)], &[], GroupReason::Join);
    let mut count = |kind: u32| {
        let start = request(5, 160, |message| message.group(16, b"a").u32(152, kind));
        let handle = field(&world.ask(&client, start), 24);
        let next = || request(6, 24, |message| message.u32(16, handle));
        (0..).take_while(|_| code(&world.ask(&client, next())) == 1).count()
    };
    assert_eq!([1, 2, 3].map(&mut count), [2, 2, 3]);
    let members = world.ask(&client, request(3, 152, |message| message.group(16, b"a")));
    assert_eq!((members.len(), field(&members, 24)), (9248, 2));
    assert_eq!([32, 40, 56, 64].map(|at| field(&members, at)), [1, 5, 2, 6]);
}

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
    for content in
        [request(cpg::MULTICAST, 16, |message| message), cpg::MULTICAST.to_ne_bytes().to_vec().into()]
    {
        assert!(matches!(world.services.request(client.id, content), Step::Silent));
    }
    assert_eq!(world.services.malformed(), 2);
}
