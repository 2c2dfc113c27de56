//! Process groups on a ring of bare cores.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod lab;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use lab::{Fate, Lab, ms, node};
use quorate_membership::wire::body::{Body, Cmap, CmapItem, Source};
use quorate_membership::wire::packing::{Addressed, Packet};
use quorate_membership::wire::{self, Message};
use quorate_membership::{Cause, Event, GroupError, Guarantee, MulticastError, Parting, Service};
use rand::Rng;

use Guarantee::{Agreed, Safe};

/// Returns the group changes at a node, in the form `group of ring: ..` but without the ring.
fn changes(lab: &Lab, id: u32) -> Vec<String> {
    lab.changes(id)
        .iter()
        .map(|change| format!("{}:{}", change.group, change.to_string().split_once(':').unwrap().1))
        .collect()
}

/// Returns the messages and group changes at a node, in order.
fn order(lab: &Lab, id: u32) -> Vec<String> {
    let told = lab.events(id).iter().filter_map(|event| match event {
        Event::Deliver(delivery) => Some(String::from_utf8(delivery.payload.to_vec()).unwrap()),
        Event::GroupChange(change) => Some(change.to_string()),
        _ => None,
    });
    told.collect()
}

#[test]
fn joins_messages_and_leaves_come_in_one_order_everywhere() {
    let mut lab = Lab::ring(3);
    for id in 1..=3 {
        lab.send(id, Safe, &format!("{id} before"));
        lab.join(id, 100 + id, "g").unwrap();
        lab.send(id, Agreed, &format!("{id} within"));
        lab.part(id, 100 + id, "g", Parting::Left).unwrap();
        lab.send(id, Agreed, &format!("{id} after"));
    }
    lab.until("all delivered", |lab| (1..=3).all(|id| order(lab, id).len() == 15));
    assert_eq!(order(&lab, 1), order(&lab, 2));
    assert_eq!(order(&lab, 2), order(&lab, 3));
    let of_two: Vec<String> = order(&lab, 1)
        .into_iter()
        .filter(|told| told.starts_with("2 ") || told.contains("join 2:") || told.contains("leave 2:"))
        .collect();
    assert!(of_two[1].contains("join 2:102") && of_two[3].contains("leave 2:102"), "{of_two:?}");
    lab.check();
}

#[test]
fn several_processes_of_a_node_are_separate_members() {
    let mut lab = Lab::ring(2);
    for pid in [7, 8] {
        lab.join(1, pid, "g").unwrap();
    }
    assert_eq!(lab.join(1, 7, "g"), Err(GroupError::AlreadyMember));
    lab.part(1, 7, "g", Parting::Died).unwrap();
    lab.until("all told", |lab| changes(lab, 2).len() == 3);
    let told = ["g: join 1:7, members 1:7", "g: join 1:8, members 1:7 1:8", "g: procdown 1:7, members 1:8"];
    assert_eq!(changes(&lab, 2), told);
    let group = "g".parse().unwrap();
    assert_eq!(lab.totem_of(2).group(&group).map(|process| process.pid).collect::<Vec<_>>(), [8]);
    lab.check();
}

#[test]
fn a_crashed_nodes_processes_are_gone_before_the_next_sync() {
    let mut lab = Lab::ring(3);
    for id in 1..=3 {
        lab.join(id, 10 * id, "g").unwrap();
    }
    lab.until("joined", |lab| changes(lab, 1).len() == 3);
    lab.crash(3);
    lab.until_ring(&[1, 2]);
    for id in [1, 2] {
        assert_eq!(changes(&lab, id).last().unwrap(), "g: nodedown 3:30, members 1:10 2:20");
        let events = lab.events(id);
        let place = |is: fn(&Event) -> bool| events.iter().rposition(is).unwrap();
        let regular = place(|event| matches!(event, Event::Regular(_)));
        let change = place(|event| matches!(event, Event::GroupChange(_)));
        let synced = place(|event| matches!(event, Event::Synced(_)));
        assert!(regular < change && change < synced);
    }
    lab.check();
}

#[test]
fn processes_stay_members_over_every_change_of_the_ring() {
    let mut lab = Lab::ring(3);
    lab.join(1, 10, "g").unwrap();
    lab.join(2, 20, "g").unwrap();
    lab.until("joined", |lab| changes(lab, 2).len() == 2);
    for _ in 0..3 {
        lab.crash(3);
        lab.until_ring(&[1, 2]);
        lab.start(3);
        lab.until_ring(&[1, 2, 3]);
        assert_eq!(changes(&lab, 3), ["g: nodeup 1:10 2:20, members 1:10 2:20"], "told anew to each life");
    }
    assert_eq!(changes(&lab, 1).len(), 2, "nothing happened to those who stayed: {:?}", changes(&lab, 1));
    lab.check();
}

#[test]
fn two_halves_lose_and_regain_each_others_processes() {
    let mut lab = Lab::ring(4);
    for id in 1..=4 {
        lab.join(id, 10 * id, "g").unwrap();
    }
    lab.until("joined", |lab| (1..=4).all(|id| changes(lab, id).len() == 4));
    lab.cut(&[1, 2], &[3, 4]);
    lab.until_ring(&[1, 2]);
    lab.until_ring(&[3, 4]);
    lab.part(4, 40, "g", Parting::Left).unwrap();
    lab.until("left", |lab| changes(lab, 3).len() == 6);
    lab.calm();
    lab.until_ring(&[1, 2, 3, 4]);
    assert_eq!(changes(&lab, 1)[4], "g: nodedown 3:30 4:40, members 1:10 2:20");
    assert_eq!(changes(&lab, 1)[5], "g: nodeup 3:30, members 1:10 2:20 3:30");
    assert_eq!(changes(&lab, 3)[6], "g: nodeup 1:10 2:20, members 1:10 2:20 3:30");
    lab.check();
}

#[test]
fn a_clean_leave_first_leaves_groups_and_takes_no_timeout() {
    let mut lab = Lab::ring(3);
    lab.join(2, 20, "a").unwrap();
    lab.join(2, 20, "b").unwrap();
    lab.send(2, Safe, "last words");
    lab.leave(2);
    assert_eq!(lab.try_send(2, Agreed, "late"), Err(MulticastError::Left));
    assert_eq!(lab.join(2, 21, "a"), Err(GroupError::Left));
    assert_eq!(lab.part(2, 20, "a", Parting::Left), Err(GroupError::Left));
    let took = lab.until_ring(&[1, 3]);
    assert!(took < ms(60), "took {took:?}");
    assert_eq!(lab.texts(1), ["last words"]);
    assert_eq!(changes(&lab, 1)[2..], ["a: leave 2:20, members", "b: leave 2:20, members"]);
    assert_eq!(changes(&lab, 1), changes(&lab, 2), "the leaver sees itself go");
    assert_eq!(lab.events(2).last(), Some(&Event::Left(Cause::LeaveRequested)));
    lab.check();
}

#[test]
fn a_clean_leave_stays_clean_under_load_and_loss() {
    for seed in 0..40 {
        let mut lab = Lab::new(seed);
        for id in 1..=3 {
            lab.start(id);
        }
        lab.until_ring(&[1, 2, 3]);
        lab.lose(0.05);
        lab.join(2, 20, "g").unwrap();
        for n in 0..300 {
            lab.send_numbered(1 + n % 3, if n % 3 == 0 { Safe } else { Agreed }, 1000);
        }
        lab.run(ms(2));
        lab.leave(2);
        let gone = |event: &Event| matches!(event, Event::Left(_));
        lab.until("left", |lab| lab.events(2).last().is_some_and(gone));
        lab.calm();
        lab.until_ring(&[1, 3]);
        for id in [1, 3] {
            assert_eq!(changes(&lab, id).last().unwrap(), "g: leave 2:20, members", "seed {seed}");
        }
        let heard = |id| {
            let mut rings = lab.events(id).iter().filter_map(|event| match event {
                Event::Regular(regular) => Some(regular.why()),
                _ => None,
            });
            rings.any(|why| why.contains("node 2 left"))
        };
        assert!(heard(1) || heard(3), "seed {seed}");
        lab.check();
    }
}

#[test]
fn a_node_leaves_after_the_others_have_its_last_message() {
    // Delivery at this node does not mean that others have the message. Once the node is gone, they
    // could not request it.
    for seed in 0..40 {
        let mut lab = Lab::new(seed);
        for id in 1..=3 {
            lab.start(id);
        }
        lab.until_ring(&[1, 2, 3]);
        lab.join(2, 20, "g").unwrap();
        lab.until("joined", |lab| (1..=3).all(|id| changes(lab, id).len() == 1));
        lab.filter(|_, _, message, rng| match message {
            Message::Multicast(_) if rng.random_bool(0.5) => Fate::Drop,
            _ => Fate::Deliver,
        });
        lab.part(2, 20, "g", Parting::Left).unwrap();
        lab.until("parted", |lab| changes(lab, 2).len() == 2);
        lab.leave(2);
        lab.until("left", |lab| matches!(lab.events(2).last(), Some(Event::Left(_))));
        lab.until_ring(&[1, 3]);
        for id in [1, 3] {
            assert_eq!(changes(&lab, id)[1..], ["g: leave 2:20, members"], "seed {seed}");
        }
        lab.check();
    }
}

#[test]
fn a_cut_off_node_leaves_after_a_token_timeout() {
    let mut lab = Lab::ring(2);
    lab.join(2, 20, "g").unwrap();
    lab.until("joined", |lab| changes(lab, 1).len() == 1);
    lab.cut(&[1], &[2]);
    lab.leave(2);
    let left = |lab: &Lab| matches!(lab.events(2).last(), Some(Event::Left(Cause::LeaveRequested)));
    let took = lab.until("left", left);
    assert!(took <= lab.config.token + ms(60), "took {took:?}");
    lab.until_ring(&[1]);
    assert_eq!(changes(&lab, 1).last().unwrap(), "g: nodedown 2:20, members");
}

#[test]
fn a_second_leave_does_not_wait_for_the_first() {
    let mut lab = Lab::ring(2);
    lab.join(2, 20, "g").unwrap();
    lab.until("joined", |lab| changes(lab, 1).len() == 1);
    lab.leave(2);
    lab.leave(2);
    lab.until_ring(&[1]);
    assert_eq!(changes(&lab, 1).last().unwrap(), "g: nodedown 2:20, members");
}

#[test]
fn a_message_is_delivered_to_nodes_outside_the_group() {
    let mut lab = Lab::ring(2);
    lab.join(1, 10, "test").unwrap();
    lab.send(2, Agreed, "from outside");
    lab.until("delivered", |lab| (1..=2).all(|id| lab.texts(id) == ["from outside"]));
    assert_eq!(lab.deliveries(1)[0].pid, 0);
}

/// Makes node 2 send this body in the sync of a ring with a new node 3, as if from its votequorum.
fn say(lab: &mut Lab, body: &Body) {
    lab.totem(2).set_sync_messages(Service::Votequorum, vec![body.encode()]);
    if lab.exists(3) {
        lab.crash(3);
    }
    lab.start(3);
}

#[test]
fn a_node_sends_only_messages_that_corosync_accepts() {
    let mut lab = Lab::new(0);
    let said = Rc::new(RefCell::new(Vec::new()));
    let heard = said.clone();
    lab.filter(move |_, to, message, _| {
        if let Message::Multicast(frame) = message
            && to == node(1)
            && !frame.encapsulated
        {
            heard.borrow_mut().push((frame.from, Packet::decode(&frame.payload).unwrap()));
        }
        Fate::Deliver
    });
    for id in 1..=3 {
        lab.start(id);
        lab.join(id, 10 * id, "g").unwrap();
    }
    lab.until_ring(&[1, 2, 3]);
    lab.leave(3);
    lab.until_ring(&[1, 2]);
    lab.crash(2);
    lab.until_ring(&[1]);
    lab.start(2);
    lab.until_ring(&[1, 2]);
    let mut kinds = BTreeSet::new();
    for (from, packet) in said.borrow().iter() {
        // Keep only the pieces that begin and end in this frame.
        let first = usize::from(packet.continuation != 0);
        let last = packet.pieces.len() - usize::from(packet.fragmented != 0);
        for piece in packet.pieces.get(first..last).unwrap_or_default() {
            let Addressed { groups, body } = Addressed::decode(piece).unwrap();
            // Structs above Totem are padded to 8 bytes. An odd length would be read beyond its
            // end.
            let struct_like = groups.first().is_some_and(|group| group != "quorate");
            assert!(!struct_like || body.len().is_multiple_of(8), "{} bytes from {from}", body.len());
            kinds.extend(groups.iter().map(|group| match Body::decode(group, &body).unwrap() {
                // A service that others do not have would also be a stage of their sync.
                Body::ServiceBuild { services, .. } => format!("{services:?}"),
                Body::Barrier { .. } => "barrier".to_owned(),
                Body::CpgJoin(_) => "join".to_owned(),
                Body::CpgLeave(_) => "leave".to_owned(),
                Body::CpgJoinList(_) => "join list".to_owned(),
                Body::Quorate(_) | Body::Capacity { .. } => "ours alone".to_owned(),
                other => panic!("{other:?} from {from}"),
            }));
        }
    }
    let expect = ["[2, 5]", "barrier", "join", "join list", "leave", "ours alone"];
    assert_eq!(kinds, expect.map(str::to_owned).into());
}

/// Returns corosync's `req_exec_cpg_partial_mcast` of process 0 on node 1, as a daemon writes it
/// for libcpg.
fn partial_mcast(group: &str, whole: usize, kind: usize, part: &[u8]) -> Vec<u8> {
    let field = |value: usize| u64::try_from(value).unwrap().to_le_bytes();
    let mut name = group.as_bytes().to_vec();
    name.resize(128, 0);
    let fields = [whole, part.len(), 0, kind, 1, 0];
    [
        &[field(2 << 16 | 6), field(200 + part.len()), field(group.len())].concat()[..],
        &name,
        &fields.map(field).concat(),
        part,
    ]
    .concat()
}

#[test]
fn parts_on_the_wire_are_those_of_a_corosync_daemon() {
    let mut lab = Lab::ring(2);
    lab.keep_sent();
    let payload: Bytes = (0..(3 << 20) + 1).map(|n: u32| (n % 251) as u8).collect();
    lab.try_send(1, Agreed, payload.clone()).unwrap();
    lab.until("delivered", |lab| lab.deliveries(2).len() == 1);

    let mut messages = vec![Vec::new()];
    for datagram in lab.take_sent() {
        let Message::Multicast(frame) = wire::decode(&datagram).unwrap() else { continue };
        let packet = Packet::decode(&frame.payload).unwrap();
        for (n, piece) in packet.pieces.iter().enumerate() {
            messages.last_mut().unwrap().extend_from_slice(piece);
            if n + 1 < packet.pieces.len() || packet.fragmented == 0 {
                messages.push(Vec::new());
            }
        }
    }
    messages.pop();
    // libcpg cuts where its request of 1 MiB less 1 KiB is full.
    let parts: Vec<&[u8]> = payload.chunks(1_047_552).collect();
    assert_eq!(messages.len(), parts.len());
    for ((message, part), kind) in messages.into_iter().zip(parts).zip([1, 2, 2, 3]) {
        let Addressed { groups, body } = Addressed::decode(&message.into()).unwrap();
        assert_eq!(groups, ["a"]);
        let expected = partial_mcast("test", payload.len(), kind, part);
        assert_eq!(body[..200], expected[..200], "the head of a part of type {kind}");
        assert!(body == expected, "the content of a part of type {kind}");
    }
}

#[test]
fn messages_internal_to_corosync_are_harmless() {
    let mut lab = Lab::ring(2);
    let item = CmapItem { key: "totem.config_version".into(), kind: 8, value: vec![9; 8].into() };
    let source = Source { node: 2, connection: 1 << 40 };
    let bodies = [
        Body::Cmap(Cmap { changed: true, items: vec![item] }),
        Body::Cmap(Cmap { changed: false, items: Vec::new() }),
        Body::Shutdown,
        Body::Reload(source),
        Body::RingReenable(source),
        Body::CryptoReconfigure { phase: 2 },
        Body::KillNode { node: node(9), reason: "another".into() },
        Body::CpgDownList { old_members: 2, left: vec![node(1)] },
        Body::Qdevice { registers: true, name: "q".into() },
        Body::Other { service: 4, function: 0, content: vec![0; 8].into() },
        Body::Other { service: 7, function: 99, content: "".into() },
    ];
    for body in &bodies {
        say(&mut lab, body);
        lab.until_ring(&[1, 2, 3]);
    }
    assert!(lab.totem_of(1).stats().refused.is_empty());
    assert!(lab.changes(1).is_empty() && lab.deliveries(1).is_empty());
    lab.check();
}

#[test]
fn a_reload_reaches_all_members_with_its_number() {
    let mut lab = Lab::ring(3);
    let now = lab.now;
    lab.totem(2).reload(now, 7);
    lab.run(ms(50));
    for id in 1..=3 {
        let reload = Event::Reload { from: node(2), request: 7 };
        assert_eq!(lab.events(id).iter().filter(|event| **event == reload).count(), 1, "node {id}");
    }
}

#[test]
fn a_node_killed_by_an_operator_reports_the_node_that_sent_it() {
    let mut lab = Lab::ring(2);
    say(&mut lab, &Body::KillNode { node: node(1), reason: "maintenance\0".into() });
    lab.until_ring(&[2, 3]);
    let cause = Cause::Killed { by: node(2), reason: "maintenance".into() };
    assert_eq!(cause.to_string(), "an operator at node 2 killed this node: \"maintenance\"");
    assert_eq!(lab.events(1).last(), Some(&Event::Left(cause)));
}

#[test]
fn a_killed_member_leaves_in_the_order_of_messages() {
    let mut lab = Lab::ring(3);
    lab.send(2, Agreed, "before");
    lab.kill(2, 3, "maintenance");
    lab.send(2, Agreed, "after");
    lab.until_ring(&[1, 2]);
    let cause = Cause::Killed { by: node(2), reason: "maintenance".into() };
    assert_eq!(lab.events(3).last(), Some(&Event::Left(cause)));
    lab.until("delivered", |lab| (1..=2).all(|id| lab.texts(id) == ["before", "after"]));
    assert!(lab.texts(3).contains(&"before".to_owned()));
    lab.check();
}

#[test]
fn killing_a_node_that_is_no_member_changes_nothing() {
    let mut lab = Lab::ring(2);
    let ring = lab.regular(1).ring;
    lab.kill(2, 9, "");
    lab.run(ms(100));
    assert_eq!(lab.regular(1).ring, ring);
    lab.check();
}

#[test]
fn long_messages_arrive_whole_across_a_ring_change() {
    for seed in 0..12 {
        let mut lab = Lab::new(seed);
        for id in 1..=2 {
            lab.start(id);
        }
        lab.until_ring(&[1, 2]);
        let lengths = [(1 << 20) - 1024, (1 << 20) - 1023, 1 << 20, 1 << 20];
        for (n, &length) in lengths.iter().enumerate() {
            lab.try_send(1 + n as u32 % 2, Safe, vec![n as u8; length]).unwrap();
        }
        let pause = lab.rng.random_range(0..60);
        lab.run(ms(pause));
        lab.start(3);
        lab.until_ring(&[1, 2, 3]);
        lab.until("all delivered", |lab| (1..=2).all(|id| lab.deliveries(id).len() == lengths.len()));
        lab.check();
    }
}

#[test]
fn groups_agree_under_random_faults() {
    for seed in 0..60 {
        whatever(seed);
    }
}

fn whatever(seed: u64) {
    let mut lab = Lab::new(seed);
    let n = lab.rng.random_range(2..=4u32);
    for id in 1..=n {
        lab.start(id);
    }
    for step in 0..lab.rng.random_range(20..60) {
        let id = lab.rng.random_range(1..=n);
        let pid = lab.rng.random_range(1..=3);
        let group = if lab.rng.random_bool(0.5) { "a" } else { "b" };
        match lab.rng.random_range(0..12) {
            // Joining twice, and leaving a group that the process is not in, are covered too.
            0..=3 if lab.is_up(id) => drop(lab.join(id, pid, group)),
            4..=5 if lab.is_up(id) => drop(lab.part(id, pid, group, Parting::Left)),
            6 if lab.is_up(id) => drop(lab.try_send(id, Agreed, format!("{id} in step {step}"))),
            7 if lab.is_up(id) && lab.rng.random_bool(0.5) => lab.crash(id),
            7 | 8 if !lab.is_up(id) => {
                lab.crash(id);
                lab.start(id);
            }
            8 if lab.rng.random_bool(0.2) => lab.leave(id),
            9 => lab.lose(0.1),
            10 => lab.cut(&[id], &[id % n + 1]),
            _ => lab.calm(),
        }
        let pause = lab.rng.random_range(0..120);
        lab.run(ms(pause));
    }
    lab.calm();
    for id in 1..=n {
        if !lab.is_up(id) {
            lab.crash(id);
            lab.start(id);
        }
    }
    let all: Vec<u32> = (1..=n).collect();
    lab.until_ring(&all);
    lab.run(ms(100));
    lab.check();
}
