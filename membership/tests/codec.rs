//! The codec's rejections, and its round trips.

#![allow(clippy::unwrap_used)] // also in shared code, which clippy does not count as tests

mod pcap;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate_membership::wire::body::{
    Body, Cmap, CmapItem, CpgMcast, CpgMember, CpgPart, CpgPartial, CpgProcess, NodeInfo, QUORATE,
    Reconfigure, SERVICES, SYNC, Source, VoteParameter,
};
use quorate_membership::wire::packing::{Addressed, Packet};
use quorate_membership::wire::{
    self, CommitEntry, CommitToken, HoldCancel, Join, MergeDetect, Message, Multicast, Order, RtrEntry, Token,
};
use quorate_membership::{Group, Guarantee, NodeId, Refusal, RingId, Seq};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

// Rejections, one by one.

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn token(rtr: usize) -> Vec<u8> {
    let ring: RingId = "1.9".parse().unwrap();
    let token = Token {
        from: node(1),
        seq: Seq::new(7),
        token_seq: Seq::new(8),
        aru: Seq::new(5),
        aru_addr: None,
        ring,
        backlog: 0,
        fcc: 0,
        retrans_flg: false,
        rtr: (0..rtr).map(|n| RtrEntry { ring, seq: Seq::new(n as u32) }).collect(),
    };
    wire::encode(&Message::Token(token), Order::Little).to_vec()
}

fn join(leave: bool, proc: &[u32], failed: &[u32]) -> Vec<u8> {
    let nodes = |ids: &[u32]| ids.iter().copied().map(node).collect();
    let join = Join { from: node(3), leave, ring_seq: 8, proc: nodes(proc), failed: nodes(failed) };
    wire::encode(&Message::Join(join), Order::Little).to_vec()
}

fn commit(members: &[u32], entries: usize) -> Vec<u8> {
    let ring: RingId = "1.9".parse().unwrap();
    let entry = CommitEntry { ring, aru: Seq::new(1), high_delivered: Seq::new(1), received: true };
    let members = members.iter().copied().map(node).collect();
    let commit = CommitToken { from: node(1), token_seq: 1, ring, members, entries: vec![entry; entries] };
    wire::encode(&Message::Commit(commit), Order::Little).to_vec()
}

fn frame(encapsulated: bool, payload: impl Into<Bytes>) -> Multicast {
    Multicast {
        from: node(2),
        seq: Seq::new(1),
        this_seqno: 0,
        ring: "1.9".parse().unwrap(),
        guarantee: Guarantee::Agreed,
        encapsulated,
        payload: payload.into(),
        raw: Bytes::new(),
    }
}

fn encoded(frame: &Multicast) -> Vec<u8> {
    wire::encode(&Message::Multicast(frame.clone()), Order::Little).to_vec()
}

#[track_caller]
fn assert_refused(datagram: impl Into<Bytes>, why: Refusal) {
    assert_eq!(wire::decode(&datagram.into()).unwrap_err(), why);
}

/// Returns the datagram with `bytes` in place of those at `at`.
fn with(mut datagram: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    datagram[at..at + bytes.len()].copy_from_slice(bytes);
    datagram
}

#[test]
fn a_truncated_message_is_rejected_at_every_length() {
    for whole in [token(2), join(false, &[1, 3], &[2]), commit(&[1, 3], 1), encoded(&frame(false, ""))] {
        for length in 0..whole.len() {
            assert_refused(whole[..length].to_vec(), Refusal::Truncated);
        }
    }
}

#[test]
fn trailing_bytes_are_rejected() {
    for mut whole in [token(2), join(false, &[1, 3], &[2]), commit(&[1, 3], 1)] {
        whole.push(0);
        assert_refused(whole, Refusal::TrailingBytes);
    }
}

#[test]
fn a_foreign_header_is_rejected_by_kind() {
    assert_refused(with(token(0), 0, b"GE"), Refusal::Magic);
    assert_refused(with(token(0), 0, &[0xff, 0xff]), Refusal::OldCorosync);
    assert_refused(with(token(0), 0, &[0xfe, 0xfe]), Refusal::OldCorosync);
    assert_refused(with(token(0), 2, &[2]), Refusal::Version);
    assert_refused(with(token(0), 3, &[6]), Refusal::Type);
}

#[test]
fn counts_are_checked_before_they_are_used() {
    for count in [31, 0x1000_0000, u32::MAX] {
        assert_refused(with(token(2), 53, &count.to_le_bytes()), Refusal::TooMany);
    }
    for count in [385, 0x4000_0000, 0x8000_0000, u32::MAX] {
        let count = count.to_le_bytes();
        assert_refused(with(join(false, &[3], &[]), 17, &count), Refusal::TooMany);
        assert_refused(with(join(false, &[3], &[]), 21, &count), Refusal::TooMany);
        assert_refused(with(commit(&[1], 1), 33, &count), Refusal::TooMany);
        assert_refused(with(commit(&[1], 1), 37, &count), Refusal::TooMany);
    }
    assert_refused(with(token(2), 53, &[3]), Refusal::Truncated);
    assert_refused(with(token(2), 53, &[1]), Refusal::TrailingBytes);
}

#[test]
fn lists_too_long_for_a_peer_are_truncated_when_written() {
    assert_eq!(token(31), token(30));
    let ids: Vec<u32> = (1..=400).collect();
    assert_eq!(join(false, &ids, &ids), join(false, &ids[..384], &ids[..384]));
    assert_eq!(commit(&ids, 400), commit(&ids[..384], 384));
}

#[test]
fn a_message_without_a_sender_is_rejected() {
    assert_refused(with(token(0), 5, &[0; 4]), Refusal::NoNode);
    assert_refused(with(token(0), 29, &[0; 4]), Refusal::NoNode);
    assert_refused(with(commit(&[1], 0), 5, &[0; 4]), Refusal::NoNode);
    assert_refused(with(join(false, &[3], &[]), 33, &[0; 4]), Refusal::NoNode);
    assert_refused(with(encoded(&frame(false, "")), 5, &[0; 4]), Refusal::NoNode);
}

#[test]
fn a_message_with_contradicting_senders_is_rejected() {
    assert_refused(with(join(false, &[3], &[]), 5, &[9]), Refusal::Field);
    assert_refused(with(encoded(&frame(false, "")), 13, &[9]), Refusal::Field);
}

#[test]
fn a_leave_whose_sender_has_not_failed_is_rejected() {
    assert!(wire::decode(&join(true, &[1], &[3]).into()).is_ok());
    assert_refused(join(true, &[1], &[]), Refusal::Field);
    assert_refused(join(true, &[1], &[2]), Refusal::Field);
}

#[test]
fn a_commit_token_without_a_valid_ring_is_rejected() {
    for members in [&[] as &[u32], &[2, 3], &[1, 3, 2], &[1, 2, 2]] {
        assert_refused(commit(members, 0), Refusal::Field);
    }
    assert_refused(with(commit(&[1, 2], 1), 33, &[3]), Refusal::Field);
    // The uncounted entry is still there.
    assert_refused(with(commit(&[1, 2], 1), 33, &[0]), Refusal::Field);
    assert_refused(with(commit(&[1, 2], 1), 29, &[1]), Refusal::Field);
}

#[test]
fn flags_are_zero_or_one() {
    assert_refused(with(token(0), 49, &[2]), Refusal::Field);
    assert_refused(with(token(0), 4, &[1]), Refusal::Field);
    let frame = encoded(&frame(false, ""));
    for encapsulated in [0, 3, 0xff] {
        assert_refused(with(frame.clone(), 4, &[encapsulated]), Refusal::Field);
    }
    assert_refused(with(frame.clone(), 37, &[1]), Refusal::Field);
    assert_refused(with(frame, 41, &[2]), Refusal::Field);
}

#[test]
fn frames_nest_once_and_hold_nothing_but_frames() {
    let plain = frame(false, "payload");
    let once = frame(true, encoded(&plain));
    assert_eq!(once.inner().unwrap().payload, plain.payload);
    assert_eq!(frame(true, encoded(&once)).inner().unwrap_err(), Refusal::Field);
    assert_eq!(frame(true, token(0)).inner().unwrap_err(), Refusal::Type);
    assert_eq!(plain.inner().unwrap_err(), Refusal::Field);
}

#[test]
fn an_inconsistent_packet_is_rejected() {
    let packet = Packet { fragmented: 0, continuation: 0, pieces: vec!["ab".into(), "".into(), "c".into()] };
    let whole = packet.encode().to_vec();
    assert_eq!(Packet::decode(&whole.clone().into()).unwrap(), packet);
    let refused = |bytes: Vec<u8>| Packet::decode(&bytes.into()).unwrap_err();
    assert_eq!(refused(with(whole.clone(), 8, &[1])), Refusal::Packing);
    assert_eq!(refused(with(whole.clone(), 8, &[3])), Refusal::Packing);
    assert_eq!(refused(with(whole.clone(), 6, &[0])), Refusal::Packing);
    assert_eq!(refused(with(whole.clone(), 6, &[0xff, 0xff])), Refusal::Truncated);
    assert_eq!(refused(with(whole.clone(), 0, &[1])), Refusal::Field);
    assert_eq!(refused(whole[..7].to_vec()), Refusal::Truncated);
}

#[test]
fn an_inconsistent_group_list_is_rejected() {
    let refused = |bytes: &'static [u8]| Addressed::decode(&Bytes::from_static(bytes)).unwrap_err();
    assert_eq!(refused(&[1]), Refusal::Truncated);
    assert_eq!(refused(&[1, 0, 1, 0]), Refusal::Truncated);
    assert_eq!(refused(&[1, 0, 0xff, 0xff, b'a']), Refusal::Truncated);
    assert_eq!(refused(&[33, 0]), Refusal::TooMany);
}

#[test]
fn bodies_with_a_wrong_size_are_rejected() {
    for (group, body) in some_bodies() {
        let whole = written(&body);
        assert_eq!(Body::decode(group, &whole.clone().into()).unwrap(), body);
        for length in 0..whole.len() {
            assert_eq!(Body::decode(group, &whole[..length].to_vec().into()), Err(Refusal::Service));
        }
        let longer = [&whole[..], &[0; 8]].concat();
        assert_eq!(Body::decode(group, &longer.into()), Err(Refusal::Service));
    }
    let whole = written(&Body::Shutdown);
    assert_eq!(Body::decode(b"nobody's", &whole.into()), Err(Refusal::Service));
}

#[test]
fn messages_of_unknown_services_are_kept_as_they_are() {
    let mut bytes = vec![0; 24];
    bytes[..4].copy_from_slice(&[1, 0, 4, 0]);
    bytes[8] = 24;
    let body = Body::decode(SERVICES, &bytes.clone().into()).unwrap();
    assert_eq!(body, Body::Other { service: 4, function: 1, content: vec![0; 8].into() });
    assert_eq!(body.encode(), bytes);
}

// Round trips.

fn any_node() -> impl Strategy<Value = NodeId> {
    prop_oneof![1..5u32, 1..=u32::MAX].prop_map(node)
}

fn any_seq() -> impl Strategy<Value = Seq> {
    any::<u32>().prop_map(Seq::new)
}

fn any_ring() -> impl Strategy<Value = RingId> {
    (any_node(), any::<u64>()).prop_map(|(representative, seq)| RingId { representative, seq })
}

fn any_token() -> impl Strategy<Value = Token> {
    let rtr = vec((any_ring(), any_seq()).prop_map(|(ring, seq)| RtrEntry { ring, seq }), 0..=Token::MAX_RTR);
    (
        (any_node(), any_seq(), any_seq(), any_seq(), proptest::option::of(any_node())),
        (any_ring(), any::<u32>(), any::<u32>(), any::<bool>(), rtr),
    )
        .prop_map(|((from, seq, token_seq, aru, aru_addr), (ring, backlog, fcc, retrans_flg, rtr))| {
            Token { from, seq, token_seq, aru, aru_addr, ring, backlog, fcc, retrans_flg, rtr }
        })
}

fn any_multicast() -> impl Strategy<Value = Multicast> {
    let flags = (any::<bool>(), any::<bool>());
    (any_node(), any_seq(), any::<u32>(), any_ring(), flags, vec(any::<u8>(), 0..200)).prop_map(
        |(from, seq, this_seqno, ring, (safe, encapsulated), payload)| Multicast {
            from,
            seq,
            this_seqno,
            ring,
            guarantee: if safe { Guarantee::Safe } else { Guarantee::Agreed },
            encapsulated,
            payload: payload.into(),
            raw: Bytes::new(),
        },
    )
}

fn any_join() -> impl Strategy<Value = Join> {
    let nodes = || vec(any_node(), 0..20);
    (any_node(), any::<bool>(), any::<u64>(), nodes(), nodes()).prop_map(
        |(from, leave, ring_seq, proc, mut failed)| {
            failed.extend(leave.then_some(from));
            Join { from, leave, ring_seq, proc, failed }
        },
    )
}

fn any_commit() -> impl Strategy<Value = CommitToken> {
    let entry = (any_ring(), any_seq(), any_seq(), any::<bool>()).prop_map(
        |(ring, aru, high_delivered, received)| CommitEntry { ring, aru, high_delivered, received },
    );
    let members = proptest::collection::btree_set(any_node(), 1..20);
    (any_node(), any::<u32>(), any::<u64>(), members, vec(entry, 0..20)).prop_map(
        |(from, token_seq, seq, members, mut entries)| {
            let members: Vec<_> = members.into_iter().collect();
            entries.truncate(members.len());
            CommitToken {
                from,
                token_seq,
                ring: RingId { seq, representative: members[0] },
                members,
                entries,
            }
        },
    )
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        any_token().prop_map(Message::Token),
        any_multicast().prop_map(Message::Multicast),
        any_join().prop_map(Message::Join),
        any_commit().prop_map(Message::Commit),
        (any_node(), any_ring()).prop_map(|(from, ring)| Message::MergeDetect(MergeDetect { from, ring })),
        (any_node(), any_ring()).prop_map(|(from, ring)| Message::HoldCancel(HoldCancel { from, ring })),
    ]
}

fn any_group() -> impl Strategy<Value = Group> {
    vec(any::<u8>(), 1..=Group::MAX).prop_map(|name| Group::new(name).unwrap())
}

fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
}

fn any_name() -> impl Strategy<Value = Bytes> {
    vec(1..=u8::MAX, 0..=255).prop_map(Bytes::from)
}

fn any_body() -> impl Strategy<Value = (&'static [u8], Body)> {
    let number = any::<u32>;
    let source =
        || (any::<u32>(), any::<u64>()).prop_map(|(node, connection)| Source { node, connection }).boxed();
    let process = || {
        (any_group(), any::<u32>(), any::<u32>())
            .prop_map(|(group, pid, reason)| CpgProcess { group, pid, reason })
            .boxed()
    };
    let item = (any_bytes(256), any::<u8>(), any_bytes(20)).prop_map(|(key, kind, value)| CmapItem {
        key,
        kind,
        value,
    });
    let member = (number(), any_group()).prop_map(|(pid, group)| CpgMember { pid, group });
    let part = prop_oneof![Just(CpgPart::First), Just(CpgPart::Continued), Just(CpgPart::Last)];
    let parameter = prop_oneof![
        Just(VoteParameter::ExpectedVotes),
        Just(VoteParameter::Votes),
        Just(VoteParameter::CancelWaitForAll)
    ];
    let sync = prop_oneof![
        any_ring().prop_map(|ring| Body::Barrier { ring }),
        (any_ring(), vec(number(), 0..=128))
            .prop_map(|(ring, services)| Body::ServiceBuild { ring, services }),
    ];
    let configuration = prop_oneof![
        (any::<bool>(), vec(item, 0..4)).prop_map(|(changed, items)| Body::Cmap(Cmap { changed, items })),
        source().prop_map(Body::RingReenable),
        (any_node(), any_bytes(256)).prop_map(|(node, reason)| Body::KillNode { node, reason }),
        Just(Body::Shutdown),
        source().prop_map(Body::Reload),
        number().prop_map(|phase| Body::CryptoReconfigure { phase }),
    ];
    let cpg = prop_oneof![
        process().prop_map(Body::CpgJoin),
        process().prop_map(Body::CpgLeave),
        vec(member, 0..4).prop_map(Body::CpgJoinList),
        (any_group(), number(), number(), any_bytes(50))
            .prop_map(|(group, pid, node, payload)| Body::CpgMcast(CpgMcast { group, pid, node, payload })),
        (any_group(), number(), number(), part, number(), any_bytes(50)).prop_map(
            |(group, pid, node, part, whole, payload)| Body::CpgPartial(CpgPartial {
                group,
                pid,
                node,
                part,
                whole,
                payload
            })
        ),
        (number(), vec(any_node(), 0..=384))
            .prop_map(|(old_members, left)| Body::CpgDownList { old_members, left }),
    ];
    let votequorum =
        prop_oneof![
            (proptest::option::of(any_node()), number(), number(), number()).prop_map(
                |(node, votes, expected_votes, flags)| {
                    Body::NodeInfo(NodeInfo { node, votes, expected_votes, flags })
                }
            ),
            (number(), number(), parameter).prop_map(|(node, value, parameter)| Body::Reconfigure(
                Reconfigure { node, value, parameter }
            )),
            (any::<bool>(), any_name()).prop_map(|(registers, name)| Body::Qdevice { registers, name }),
            (any_name(), any_name()).prop_map(|(old, new)| Body::QdeviceRenamed { old, new }),
            (number(), any_bytes(50)).prop_map(|(node, content)| Body::ExtraInfo { node, content }),
        ];
    let other = (6..=u16::MAX, any::<u16>(), any_bytes(50))
        .prop_map(|(service, function, content)| Body::Other { service, function, content });
    prop_oneof![
        sync.prop_map(|body| (SYNC, body)),
        prop_oneof![configuration, cpg, votequorum, other].prop_map(|body| (SERVICES, body)),
        any_bytes(50).prop_map(|message| (QUORATE, Body::Quorate(message))),
        any::<u32>().prop_map(|frames| (QUORATE, Body::Capacity { frames })),
    ]
}

/// Returns the body as it is sent, payload included.
fn written(body: &Body) -> Vec<u8> {
    let mut bytes = body.encode().to_vec();
    match body {
        Body::CpgMcast(mcast) => bytes.extend_from_slice(&mcast.payload),
        Body::CpgPartial(partial) => bytes.extend_from_slice(&partial.payload),
        _ => {}
    }
    bytes
}

/// Returns the message as [`wire::decode`] would have made it from `datagram`.
fn received_as(message: Message, datagram: &Bytes) -> Message {
    match message {
        Message::Multicast(frame) => Message::Multicast(Multicast { raw: datagram.clone(), ..frame }),
        other => other,
    }
}

proptest! {
    #[test]
    fn messages_round_trip_in_both_byte_orders(message in any_message()) {
        for order in [Order::Little, Order::Big] {
            let datagram = wire::encode(&message, order);
            prop_assert_eq!(wire::order_of(&datagram), Some(order));
            prop_assert_eq!(wire::decode(&datagram), Ok(received_as(message.clone(), &datagram)));
        }
    }

    #[test]
    fn packets_round_trip(fragmented: u8, continuation: u8, pieces in vec(any_bytes(50), 1..20)) {
        let packet = Packet { fragmented, continuation, pieces };
        prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }

    #[test]
    fn addressed_messages_round_trip(groups in vec(any_bytes(20), 0..=32), body in any_bytes(50)) {
        let message = Addressed { groups, body };
        prop_assert_eq!(Addressed::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn bodies_round_trip((group, body) in any_body()) {
        prop_assert_eq!(Body::decode(group, &written(&body).into()), Ok(body));
    }
}

#[test]
fn a_big_endian_frame_is_decoded_down_to_its_bodies() {
    let mut body = Vec::new();
    for field in [0x50000u32, 0, 32, 0, 3, 1, 5, 8] {
        body.extend(field.to_be_bytes());
    }
    let mut packet = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 37, 0, 1, 0, 1, b'a'];
    packet.extend(body);
    let datagram = wire::encode(&Message::Multicast(frame(false, packet)), Order::Big);
    let Message::Multicast(frame) = wire::decode(&datagram).unwrap() else { panic!("a frame") };
    assert_eq!(frame.order(), Order::Big);
    let packet = Packet::decode_in(&frame.payload, Order::Big).unwrap();
    let message = Addressed::decode_in(&packet.pieces[0], Order::Big).unwrap();
    let body = Body::decode_in(&message.groups[0], &message.body, Order::Big).unwrap();
    let info = NodeInfo { node: Some(node(3)), votes: 1, expected_votes: 5, flags: NodeInfo::FIRST };
    assert_eq!(body, Body::NodeInfo(info));
}

// Hostile input.

/// Returns one body of each kind.
fn some_bodies() -> Vec<(&'static [u8], Body)> {
    let ring: RingId = "1.9".parse().unwrap();
    let group: Group = "orders".parse().unwrap();
    let source = Source { node: 1, connection: 0x1234_5678_9abc };
    let process = CpgProcess { group: group.clone(), pid: 77, reason: CpgProcess::JOIN };
    let item = CmapItem { key: "totem.config_version".into(), kind: 8, value: vec![1; 8].into() };
    let mcast = CpgMcast { group: group.clone(), pid: 77, node: 1, payload: "payload".into() };
    let partial = CpgPartial {
        group: group.clone(),
        pid: 77,
        node: 1,
        part: CpgPart::First,
        whole: 100,
        payload: "pay".into(),
    };
    let info = NodeInfo { node: None, votes: 1, expected_votes: 3, flags: NodeInfo::QUORATE };
    let reconfigure = Reconfigure { node: 1, value: 2, parameter: VoteParameter::Votes };
    vec![
        (SYNC, Body::Barrier { ring }),
        (SYNC, Body::ServiceBuild { ring, services: vec![0, 2, 3, 5] }),
        (SERVICES, Body::Cmap(Cmap { changed: false, items: vec![item] })),
        (SERVICES, Body::RingReenable(source)),
        (SERVICES, Body::KillNode { node: node(3), reason: "because".into() }),
        (SERVICES, Body::Shutdown),
        (SERVICES, Body::Reload(source)),
        (SERVICES, Body::CryptoReconfigure { phase: 1 }),
        (SERVICES, Body::CpgJoin(process.clone())),
        (SERVICES, Body::CpgLeave(process)),
        (SERVICES, Body::CpgJoinList(vec![CpgMember { pid: 77, group: group.clone() }])),
        (SERVICES, Body::CpgMcast(mcast)),
        (SERVICES, Body::CpgPartial(partial)),
        (SERVICES, Body::CpgDownList { old_members: 3, left: vec![node(2)] }),
        (SERVICES, Body::NodeInfo(info)),
        (SERVICES, Body::Reconfigure(reconfigure)),
        (SERVICES, Body::Qdevice { registers: true, name: "net".into() }),
        (SERVICES, Body::QdeviceRenamed { old: "net".into(), new: "disk".into() }),
        (SERVICES, Body::ExtraInfo { node: 1, content: "extra".into() }),
        (SERVICES, Body::Other { service: 4, function: 0, content: vec![0; 8].into() }),
        (QUORATE, Body::Quorate("ours".into())),
        (QUORATE, Body::Capacity { frames: 1024 }),
    ]
}

/// The numbers of accepted and rejected inputs.
#[derive(Default)]
struct Tally {
    accepted: BTreeMap<&'static str, u64>,
    refused: BTreeMap<Refusal, u64>,
}

impl Tally {
    fn count<T>(&mut self, what: &'static str, result: Result<T, Refusal>) -> Option<T> {
        match result {
            Ok(value) => {
                *self.accepted.entry(what).or_default() += 1;
                Some(value)
            }
            Err(why) => {
                *self.refused.entry(why).or_default() += 1;
                None
            }
        }
    }

    /// Decodes a datagram on all levels, as a node or the capture decoder would.
    fn datagram(&mut self, datagram: &Bytes) {
        wire::claimed_sender(datagram);
        let Some(message) = self.count("message", wire::decode(datagram)) else { return };
        let order = wire::order_of(datagram).expect("it was decoded");
        let written = wire::encode(&message, order);
        assert_eq!((&written[..9], &written[13..]), (&datagram[..9], &datagram[13..]));
        let Message::Multicast(frame) = message else { return };
        if frame.encapsulated {
            if let Some(inner) = self.count("inner", frame.inner()) {
                self.packet(&inner);
            }
        } else {
            self.packet(&frame);
        }
    }

    fn packet(&mut self, frame: &Multicast) {
        let order = frame.order();
        let Some(packet) = self.count("packet", Packet::decode_in(&frame.payload, order)) else { return };
        if order == Order::Little {
            assert_eq!(packet.encode(), frame.payload);
        }
        for piece in &packet.pieces {
            let Some(message) = self.count("addressed", Addressed::decode_in(piece, order)) else { continue };
            for group in &message.groups {
                self.count("body", Body::decode_in(group, &message.body, order));
            }
        }
    }

    fn body(&mut self, group: &[u8], bytes: &Bytes) {
        if let Some(body) = self.count("body", Body::decode(group, bytes)) {
            assert_eq!(Body::decode(group, &written(&body).into()), Ok(body));
        }
    }
}

/// Produces hostile bytes: random ones, or valid ones overwritten, truncated or extended.
fn mutate(rng: &mut ChaCha8Rng, good: &[u8], scratch: &mut Vec<u8>) {
    const NASTY: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xc0, 0xfe, 0xff];
    scratch.clear();
    scratch.extend_from_slice(good);
    match rng.random_range(0..8u8) {
        0 => {
            scratch.resize(rng.random_range(0..200), 0);
            rng.fill_bytes(scratch);
        }
        1 => scratch.truncate(rng.random_range(0..=good.len())),
        2 => scratch.resize(good.len() + rng.random_range(1..64), NASTY[rng.random_range(0..8)]),
        3 => {
            // A valid beginning, then random bytes.
            let kept = rng.random_range(0..=good.len());
            rng.fill_bytes(&mut scratch[kept..]);
        }
        _ => {
            // The important fields are at the beginning.
            let reach = if rng.random() { good.len().min(64) } else { good.len() };
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..reach);
                scratch[at] = if rng.random() { NASTY[rng.random_range(0..8)] } else { rng.random() };
            }
        }
    }
}

#[test]
fn ten_million_random_inputs_never_panic() {
    let mut datagrams: Vec<Vec<Bytes>> = vec![Vec::new(); 8];
    for datagram in pcap::captures().into_iter().flat_map(|(_, datagrams)| datagrams) {
        let kind = match wire::decode(&datagram).unwrap() {
            Message::Token(token) => usize::from(token.rtr.is_empty()),
            Message::Multicast(frame) if frame.encapsulated => 2,
            Message::Multicast(_) => 3,
            Message::MergeDetect(_) => 4,
            Message::Join(_) => 5,
            Message::Commit(_) => 6,
            Message::HoldCancel(_) => 7,
        };
        datagrams[kind].push(datagram);
    }
    let bodies: Vec<(&[u8], Vec<u8>)> =
        some_bodies().iter().map(|(group, body)| (*group, written(body))).collect();

    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let mut tally = Tally::default();
    let mut scratch = Vec::new();
    for _ in 0..8_000_000 {
        let kind = &datagrams[rng.random_range(0..8usize)];
        let good = &kind[rng.random_range(0..kind.len())];
        mutate(&mut rng, good, &mut scratch);
        tally.datagram(&Bytes::copy_from_slice(&scratch));
    }
    for _ in 0..2_000_000 {
        let (group, body) = &bodies[rng.random_range(0..bodies.len())];
        mutate(&mut rng, body, &mut scratch);
        tally.body(group, &Bytes::copy_from_slice(&scratch));
    }

    for what in ["message", "inner", "packet", "addressed", "body"] {
        assert!(tally.accepted[what] > 1000, "too few survive: {:?}", tally.accepted);
    }
    for why in [
        Refusal::Truncated,
        Refusal::TrailingBytes,
        Refusal::Magic,
        Refusal::OldCorosync,
        Refusal::Version,
        Refusal::Type,
        Refusal::TooMany,
        Refusal::NoNode,
        Refusal::Field,
        Refusal::Packing,
        Refusal::Service,
    ] {
        assert!(tally.refused.contains_key(&why), "never refused: {why}");
    }
}
