//! Tests of process groups.

use super::*;

/// A part of a message of `total` bytes, of the first, a middle or the last kind.
fn part(total: u32, kind: u32, content: &[u8]) -> Bytes {
    request(12, 56 + content.len(), |message| {
        let length = u32::try_from(content.len()).unwrap();
        message.u32(32, total).u32(40, length).u32(48, kind).bytes(56, content)
    })
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
fn all_processes_of_a_group_here_get_each_message() {
    let mut world = World::new();
    let clients = [17, 18, 19].map(|pid| {
        let client = world.open(Service::Cpg);
        world.join(&client, "g", pid);
        client
    });
    clients.iter().for_each(|client| drop(client.events()));
    world.deliver("g", b"hello");
    world.deliver("g", vec![3; 2 << 20].leak());
    for client in &clients {
        assert_eq!(client.kinds(), [5, 17, 17, 17, 17, 17]);
    }
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
        let total = u32::try_from(long.len()).unwrap();
        match world.services.request(client.id, part(total, kind, content)) {
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
fn a_client_that_is_behind_may_not_begin_a_long_message() {
    let mut world = World::new();
    let client = world.open(Service::Cpg);
    world.join(&client, "g", 17);
    assert_eq!(code(&world.ask(&client, part(6, 1, b"ab"))), 1);
    (0..17).for_each(|_| client.outbox.event(vec![0; 1 << 20].into()));
    assert!(!client.outbox.look(false), "libcpg would try again by itself");
    assert_eq!(code(&world.ask(&client, part(6, 2, b"cd"))), 1, "it has begun");
    assert!(matches!(world.services.request(client.id, part(6, 3, b"ef")), Step::ReplyAndDo(..)));
    assert_eq!(code(&world.ask(&client, part(4, 1, b"ab"))), 6);
    assert_eq!(code(&world.ask(&client, part(4, 3, b"cd"))), 7, "without a beginning");
    client.outbox.sent((0..17).map(|_| Outgoing::Event(vec![0; 1 << 20].into())));
    assert!(!client.outbox.look(true));
    assert_eq!(code(&world.ask(&client, part(4, 1, b"ab"))), 1);
    assert!(matches!(world.services.request(client.id, part(4, 3, b"cd")), Step::ReplyAndDo(..)));
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
    let unset = |kind: u32| request(5, 160, |message| message.u32(16, u32::MAX).u32(152, kind));
    assert_eq!([1, 3].map(|kind| code(&world.ask(&client, unset(kind)))), [1, 1]);
    let members = world.ask(&client, request(3, 152, |message| message.group(16, b"a")));
    assert_eq!((members.len(), field(&members, 24)), (9248, 2));
    assert_eq!([32, 40, 56, 64].map(|at| field(&members, at)), [1, 5, 2, 6]);
}
