//! Datagrams of real corosync members, decoded and encoded again byte for byte.

#![allow(clippy::unwrap_used)] // also in shared code, which clippy does not count as tests

mod pcap;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use quorate_membership::wire::body::{Body, SERVICES, SYNC};
use quorate_membership::wire::packing::{Addressed, Packet, prefix};
use quorate_membership::wire::{self, Message, Multicast, Order};
use quorate_membership::{NodeId, Seq};

/// The target id in the header, which corosync never sets.
const TARGET: Range<usize> = 9..13;

#[test]
fn every_captured_datagram_encodes_to_the_same_bytes() {
    for (capture, datagrams) in pcap::captures() {
        for (i, datagram) in datagrams.iter().enumerate() {
            let message = wire::decode(datagram).unwrap_or_else(|why| panic!("{capture} {i}: {why}"));
            let written = wire::encode(&message, Order::Little);
            assert_same(datagram, &written, &[TARGET], &format!("{capture} {i}"));
        }
    }
}

#[test]
fn capture_counts_match_an_independent_decoder() {
    let counted: BTreeMap<_, _> = pcap::captures()
        .into_iter()
        .map(|(capture, datagrams)| {
            let mut counts = [0; 7];
            for datagram in &datagrams {
                counts[match wire::decode(datagram).unwrap() {
                    Message::Token(_) => 0,
                    Message::Multicast(frame) if !frame.encapsulated => 1,
                    Message::Multicast(_) => 2,
                    Message::MergeDetect(_) => 3,
                    Message::Join(_) => 4,
                    Message::Commit(_) => 5,
                    Message::HoldCancel(_) => 6,
                }] += 1;
            }
            (capture, counts)
        })
        .collect();
    let expected = [
        ("01-one-node-start-e0", [0, 8, 0, 7, 1, 0, 0]),
        ("01-one-node-start-lo", [49, 0, 0, 0, 0, 2, 0]),
        ("02-three-node-formation", [257, 52, 0, 14, 10, 10, 0]),
        ("03-cpg-small-packed", [531, 11, 0, 15, 0, 0, 5]),
        ("04-cpg-big-fragmented", [531, 49, 0, 16, 0, 0, 5]),
        ("05-idle-token-hold", [39, 0, 0, 13, 0, 0, 0]),
        ("06-kill9-reform", [121, 14, 0, 12, 82, 4, 0]),
        ("07-node-rejoin", [154, 29, 0, 9, 6, 6, 0]),
        ("08-graceful-leave", [115, 14, 0, 13, 3, 4, 0]),
        ("09-partition-and-merge", [267, 35, 0, 19, 86, 10, 0]),
        ("09-partition-and-merge-lo3", [49, 0, 0, 0, 0, 2, 0]),
        ("10-loss-retransmit", [264, 71, 0, 7, 0, 0, 2]),
        ("11-recovery-encapsulated", [247, 114, 11, 8, 82, 4, 2]),
        ("12-cfg-reload-quorum-shutdown", [436, 21, 0, 17, 3, 4, 4]),
    ];
    assert_eq!(counted, expected.map(|(capture, counts)| (capture.to_owned(), counts)).into());
}

#[test]
fn every_captured_packet_and_body_encodes_to_the_same_bytes() {
    let mut bodies: BTreeMap<&str, u32> = BTreeMap::new();
    for (capture, datagrams) in pcap::captures() {
        let mut assembly = pcap::Assembly::default();
        for datagram in &datagrams {
            let Ok(Message::Multicast(frame)) = wire::decode(datagram) else { continue };
            let frame = if frame.encapsulated { frame.inner().unwrap() } else { frame };
            for message in assembly.take(&frame) {
                let addressed = Addressed::decode(&message).unwrap();
                assert_eq!(addressed.encode(), message, "{capture}");
                let [group] = addressed.groups.as_slice() else { panic!("{capture}: one group") };
                assert!(*group == SERVICES || *group == SYNC);
                assert_eq!(message[..message.len() - addressed.body.len()], prefix(group));

                let body = Body::decode(group, &addressed.body).unwrap();
                let place = format!("{capture} frame {}: {body:?}", frame.seq);
                assert_same(&addressed.body, &written(&body), &garbage(&body), &place);
                *bodies.entry(name(&body)).or_default() += 1;
            }
        }
        assert!(assembly.is_empty(), "{capture}: all complete");
    }
    let expected = [
        ("barrier", 100),
        ("cmap", 25),
        ("cpg down list", 25),
        ("cpg join", 5),
        ("cpg join list", 1),
        ("cpg leave", 5),
        ("cpg mcast", 147),
        ("node info", 61),
        ("reconfigure", 5),
        ("reload", 1),
        ("service build", 25),
        ("shutdown", 1),
    ];
    assert_eq!(bodies, expected.into());
}

#[test]
fn an_encapsulated_frame_shares_bytes_with_its_old_ring_frame() {
    let mut found = 0;
    for (_, datagrams) in pcap::captures() {
        for datagram in &datagrams {
            let Ok(Message::Multicast(frame)) = wire::decode(datagram) else { continue };
            assert_eq!(frame.raw.as_ptr(), datagram.as_ptr());
            assert_eq!(frame.payload.as_ptr(), datagram[Multicast::HEADER..].as_ptr());
            assert_eq!(frame.inner().is_ok(), frame.encapsulated);
            if let Ok(inner) = frame.inner() {
                assert!(inner.ring.seq < frame.ring.seq && !inner.encapsulated);
                assert_eq!(inner.raw.as_ptr(), frame.payload.as_ptr());
                found += 1;
            }
        }
    }
    assert_eq!(found, 11);
}

#[test]
fn only_frames_do_not_name_the_node_that_sent_them() {
    for (capture, datagrams) in pcap::captures() {
        for datagram in &datagrams {
            let expected = match wire::decode(datagram).unwrap() {
                Message::Multicast(_) => None,
                Message::Join(join) => Some((join.from, true)),
                Message::Token(token) => Some((token.from, false)),
                Message::Commit(commit) => Some((commit.from, false)),
                Message::MergeDetect(probe) => Some((probe.from, false)),
                Message::HoldCancel(cancel) => Some((cancel.from, false)),
            };
            assert_eq!(wire::claimed_sender(datagram), expected, "{capture}");
        }
    }
}

// Single packets, field by field. The dumps come from a packet analyser.

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(node).collect()
}

fn dump(hex: &str) -> Bytes {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn decoded(hex: &str) -> Message {
    let datagram = dump(hex);
    let message = wire::decode(&datagram).unwrap();
    assert_same(&datagram, &wire::encode(&message, Order::Little), &[TARGET], hex);
    message
}

#[test]
fn a_join_names_the_nodes_considered() {
    let message = decoded(
        "70 c0 03 03 00 02 00 00 00 00 00 00 00 02 00 00 00 03 00 00 00 00 00 00 00 09 00 00 00 00 00 00
         00 01 00 00 00 02 00 00 00 03 00 00 00",
    );
    let Message::Join(join) = message else { panic!("{message:?}") };
    assert_eq!((join.from, join.leave, join.ring_seq), (node(2), false, 9));
    assert_eq!((join.proc, join.failed), (nodes(&[1, 2, 3]), vec![]));
}

#[test]
fn a_leave_is_a_join_with_its_sender_failed() {
    let message = decoded(
        "70 c0 03 03 00 00 00 00 00 00 00 00 00 03 00 00 00 02 00 00 00 01 00 00 00 16 00 00 00 00 00 00
         00 01 00 00 00 02 00 00 00 03 00 00 00",
    );
    let Message::Join(join) = message else { panic!("{message:?}") };
    assert_eq!((join.from, join.leave, join.ring_seq), (node(3), true, 0x16));
    assert_eq!((join.proc, join.failed), (nodes(&[1, 2]), nodes(&[3])));
}

#[test]
fn a_commit_token_has_the_entries_of_the_nodes_it_has_passed() {
    let message = decoded(
        "70 c0 03 04 00 02 00 00 00 00 00 00 00 02 00 00 00 01 00 00 00 09 00 00 00 00 00 00 00 00 00 00
         00 02 00 00 00 02 00 00 00 01 00 00 00 02 00 00 00 01 00 00 00 01 00 00 00 00 00 00 00 00 00 00
         00 00 00 00 00 01 00 00 00 02 00 00 00 05 00 00 00 00 00 00 00 08 00 00 00 08 00 00 00 01 00 00
         00",
    );
    let Message::Commit(commit) = message else { panic!("{message:?}") };
    assert_eq!((commit.from, commit.token_seq), (node(2), 2));
    assert_eq!((commit.ring.to_string(), commit.members), ("1.9".into(), nodes(&[1, 2])));
    let entries: Vec<_> = commit.entries.iter().map(|e| (e.ring.to_string(), e.aru, e.received)).collect();
    assert_eq!(entries, [("1.1".into(), Seq::new(0), true), ("2.5".into(), Seq::new(8), true)]);
    assert_eq!(commit.entries[1].high_delivered, Seq::new(8));
}

#[test]
fn the_first_token_of_a_ring_has_its_aru_before_zero() {
    let message = decoded(
        "70 c0 03 00 00 01 00 00 00 00 00 00 02 00 00 00 00 00 00 00 00 ff ff ff ff 01 00 00 00 01 00 00
         00 09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    );
    let Message::Token(token) = message else { panic!("{message:?}") };
    assert_eq!((token.from, token.seq, token.token_seq), (node(1), Seq::new(0), Seq::new(0)));
    assert_eq!((token.aru, token.aru_addr), (Seq::new(u32::MAX), Some(node(1))));
    assert_eq!((token.backlog, token.fcc, token.retrans_flg, token.rtr.len()), (0, 0, false, 0));
}

#[test]
fn a_token_requests_missing_frames() {
    let message = decoded(
        "70 c0 03 00 00 02 00 00 00 00 00 00 01 4a 00 00 00 4b 01 00 00 17 00 00 00 02 00 00 00 01 00 00
         00 27 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 03 00 00 00 01 00 00 00 27 00 00
         00 00 00 00 00 18 00 00 00 01 00 00 00 27 00 00 00 00 00 00 00 1b 00 00 00 01 00 00 00 27 00 00
         00 00 00 00 00 1e 00 00 00",
    );
    let Message::Token(token) = message else { panic!("{message:?}") };
    assert_eq!((token.seq, token.token_seq, token.aru), (Seq::new(0x4a), Seq::new(0x14b), Seq::new(0x17)));
    assert_eq!(token.rtr.iter().map(|entry| entry.seq.get()).collect::<Vec<_>>(), [0x18, 0x1b, 0x1e]);
    assert!(token.rtr.iter().all(|entry| entry.ring == token.ring));
}

#[test]
fn probes_name_a_ring() {
    let message =
        decoded("70 c0 03 02 00 01 00 00 00 40 ca 84 91 01 00 00 00 01 00 00 00 0d 00 00 00 00 00 00 00");
    let Message::MergeDetect(probe) = message else { panic!("{message:?}") };
    assert_eq!((probe.from, probe.ring.to_string()), (node(1), "1.d".into()));

    let message = decoded("70 c0 03 05 00 02 00 00 00 00 00 00 00 01 00 00 00 0d 00 00 00 00 00 00 00");
    let Message::HoldCancel(cancel) = message else { panic!("{message:?}") };
    assert_eq!((cancel.from, cancel.ring.to_string()), (node(2), "1.d".into()));
}

/// Returns the body of the only message of a frame, which is not fragmented.
fn only_body(hex: &str) -> Body {
    let Message::Multicast(frame) = decoded(hex) else { panic!("a frame") };
    assert_eq!((frame.from, frame.encapsulated, frame.order()), (node(2), false, Order::Little));
    let packet = Packet::decode(&frame.payload).unwrap();
    assert_eq!((packet.fragmented, packet.continuation, packet.pieces.len()), (0, 0, 1));
    let message = Addressed::decode(&packet.pieces[0]).unwrap();
    Body::decode(&message.groups[0], &message.body).unwrap()
}

#[test]
fn a_starting_node_announces_its_votes() {
    let body = only_body(
        "70 c0 03 01 02 02 00 00 00 00 00 00 00 02 00 00 00 01 00 00 00 00 00 00 00 02 00 00 00 05 00 00
         00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 25 00 01 00 01 00 61 00 00 05 00
         00 00 00 00 20 00 00 00 00 00 00 00 02 00 00 00 01 00 00 00 03 00 00 00 08 00 00 00",
    );
    let Body::NodeInfo(info) = body else { panic!("{body:?}") };
    assert_eq!((info.node, info.votes, info.expected_votes), (Some(node(2)), 1, 3));
    assert_eq!(info.flags, wire::body::NodeInfo::FIRST);
}

#[test]
fn a_barrier_names_its_ring_only() {
    let body = only_body(
        "70 c0 03 01 02 02 00 00 00 00 00 00 00 02 00 00 00 06 00 00 00 05 00 00 00 02 00 00 00 05 00 00
         00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 28 00 01 00 04 00 73 79 6e 63 00
         00 00 00 00 00 00 00 20 00 00 00 00 00 00 00 02 00 00 00 05 00 00 00 00 00 00 00 00 00 00 00",
    );
    assert_eq!(body, Body::Barrier { ring: "2.5".parse().unwrap() });
}

#[test]
fn a_process_that_joins_names_its_group_before_the_garbage() {
    let body = only_body(
        "70 c0 03 01 02 02 00 00 00 00 00 00 00 02 00 00 00 16 00 00 00 16 00 00 00 01 00 00 00 0d 00 00
         00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 ad 00 01 00 01 00 61 00 00 02 00
         00 00 00 00 a8 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 67 72 70 00 00 68 99 e1 30 eb c0 4e
         e8 5e 93 ae ff 7f 00 00 90 02 00 00 00 00 00 00 02 00 00 00 00 00 00 00 06 00 00 00 00 00 00 80
         00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 27 00 00 00 00 00 00 00 9d 40 c7 26 80 7f 00 00
         40 00 00 00 00 00 00 00 a0 c2 5b 66 59 55 00 00 01 00 00 00 30 48 00 00 00 00 00 00 01 00 00 00
         00 00 00 00",
    );
    let Body::CpgJoin(process) = body else { panic!("{body:?}") };
    assert_eq!((process.group.to_string().as_str(), process.pid), ("grp", 18480));
    assert_eq!(process.reason, wire::body::CpgProcess::JOIN);
}

// Helpers for the tests above.

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

/// Returns the places that corosync does not initialise: padding, the rest of fixed-size texts, and
/// connection handles.
#[allow(clippy::single_range_in_vec_init)] // lists of ranges, some with one
fn garbage(body: &Body) -> Vec<Range<usize>> {
    let mut garbage = vec![4..8, 12..16];
    garbage.extend(match body {
        Body::Barrier { .. } => vec![28..32],
        Body::ServiceBuild { .. } => vec![28..32, 36..40],
        Body::Cmap(cmap) => {
            vec![17..24, 25..32, 33..40, 41..48, 50..56, 56 + cmap.items[0].key.len()..312, 313..320]
        }
        Body::Reload(_) => vec![20..24],
        Body::CpgJoin(process) | Body::CpgLeave(process) => {
            vec![20..24, 24 + process.group.as_bytes().len()..152, 156..160, 164..168]
        }
        Body::CpgJoinList(members) => {
            let member = |(i, member): (usize, &wire::body::CpgMember)| {
                let at = 24 + 144 * i;
                [at + 4..at + 8, at + 12..at + 16, at + 16 + member.group.as_bytes().len()..at + 144]
            };
            [20..24].into_iter().chain(members.iter().enumerate().flat_map(member)).collect()
        }
        Body::CpgMcast(mcast) => {
            vec![20..24, 24 + mcast.group.as_bytes().len()..152, 156..160, 164..168, 172..184]
        }
        Body::CpgDownList { left, .. } => vec![20..24, 28..32, 32 + 4 * left.len()..1568],
        Body::Reconfigure(_) => vec![25..32],
        _ => vec![],
    });
    garbage
}

fn name(body: &Body) -> &'static str {
    match body {
        Body::ServiceBuild { .. } => "service build",
        Body::Barrier { .. } => "barrier",
        Body::Cmap(_) => "cmap",
        Body::Shutdown => "shutdown",
        Body::Reload(_) => "reload",
        Body::CpgJoin(_) => "cpg join",
        Body::CpgLeave(_) => "cpg leave",
        Body::CpgJoinList(_) => "cpg join list",
        Body::CpgMcast(_) => "cpg mcast",
        Body::CpgDownList { .. } => "cpg down list",
        Body::NodeInfo(_) => "node info",
        Body::Reconfigure(_) => "reconfigure",
        _ => "another",
    }
}

/// Compares the bytes, except in places that may hold anything.
fn assert_same(captured: &[u8], written: &[u8], except: &[Range<usize>], place: &str) {
    assert_eq!(captured.len(), written.len(), "{place}");
    for (i, (captured, written)) in captured.iter().zip(written).enumerate() {
        let anything = except.iter().any(|range| range.contains(&i));
        assert!(
            captured == written || anything,
            "{place}: byte {i} is {captured:02x}, written {written:02x}"
        );
    }
}
