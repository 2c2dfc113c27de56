//! Tests of pictures of rings: the explanations of datagrams, and the states of nodes.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::wire::{
    self, CommitToken, HoldCancel, Join, MergeDetect, Message, Multicast, Order, RtrEntry, Token,
};
use quorate_membership::{Guarantee, NodeId, RingId, Seq};
use quorate_picture::{Capture, Datagram, DcState, NoteKind, Recorder, RingState, State, Value};

fn id(node: u32) -> NodeId {
    NodeId::new(node).unwrap()
}

fn ids(nodes: &[u32]) -> Vec<NodeId> {
    nodes.iter().map(|&node| id(node)).collect()
}

fn ring(seq: u64) -> RingId {
    RingId { representative: id(1), seq }
}

fn bytes(message: &Message) -> Bytes {
    wire::encode(message, Order::Little)
}

fn join(from: u32, proc: &[u32], failed: &[u32]) -> Bytes {
    bytes(&Message::Join(Join {
        from: id(from),
        leave: false,
        ring_seq: 8,
        proc: ids(proc),
        failed: ids(failed),
    }))
}

fn leave(from: u32) -> Bytes {
    let (proc, failed) = (ids(&[1, 2]), ids(&[from]));
    bytes(&Message::Join(Join { from: id(from), leave: true, ring_seq: 8, proc, failed }))
}

fn token(from: u32, token_seq: u32, wanted: &[u32]) -> Bytes {
    token_of(from, token_seq, 9, wanted)
}

/// Returns a token with this highest frame number.
fn token_of(from: u32, token_seq: u32, seq: u32, wanted: &[u32]) -> Bytes {
    let rtr = wanted.iter().map(|&seq| RtrEntry { ring: ring(8), seq: Seq::new(seq) }).collect();
    bytes(&Message::Token(Token {
        from: id(from),
        seq: Seq::new(seq),
        token_seq: Seq::new(token_seq),
        aru: Seq::new(seq),
        aru_addr: None,
        ring: ring(8),
        backlog: 0,
        fcc: 0,
        retrans_flg: false,
        rtr,
    }))
}

fn frame(from: u32, seq: u32) -> Bytes {
    bytes(&Message::Multicast(Multicast {
        from: id(from),
        seq: Seq::new(seq),
        this_seqno: 0,
        ring: ring(8),
        guarantee: Guarantee::Agreed,
        encapsulated: false,
        payload: Bytes::from_static(&[0, 0, 0, 0]),
        raw: Bytes::new(),
    }))
}

fn commit(from: u32, token_seq: u32) -> Bytes {
    let members = ids(&[1, 2]);
    bytes(&Message::Commit(CommitToken {
        from: id(from),
        token_seq,
        ring: ring(8),
        members,
        entries: Vec::new(),
    }))
}

fn hold_cancel(from: u32, ring: RingId) -> Bytes {
    bytes(&Message::HoldCancel(HoldCancel { from: id(from), ring }))
}

/// Records datagrams, each of which arrives a millisecond later. Returns them with explanations.
fn explained(sent: &[(u64, u32, &[u32], Bytes)]) -> Vec<Datagram> {
    let mut recorder = Recorder::default();
    for (at, from, to, payload) in sent {
        let number = recorder.sent(*at, Some(*from), to, payload);
        to.iter().for_each(|node| recorder.arrived(at + 1000, number, *node));
    }
    recorder.picture(0, "").datagrams
}

fn whys(sent: &[(u64, u32, &[u32], Bytes)]) -> Vec<String> {
    explained(sent).into_iter().map(|datagram| datagram.why).collect()
}

#[test]
fn a_forming_ring_is_explained_step_by_step() {
    assert_eq!(
        whys(&[
            (0, 1, &[2], join(1, &[1], &[])),
            (2000, 2, &[1], join(2, &[1, 2], &[])),
            (4000, 1, &[2], join(1, &[1, 2], &[])),
            (6000, 1, &[2], join(1, &[1, 2], &[])),
            (8000, 1, &[2], commit(1, 1)),
            (9500, 1, &[2], commit(1, 1)),
            (10_000, 2, &[1], commit(2, 2)),
            (12_000, 1, &[2], commit(1, 3)),
            (14_000, 2, &[1], commit(2, 4)),
            (16_000, 1, &[2], token(1, 0, &[])),
        ]),
        [
            "Node 1 has started, and looks for others. It wants a ring of node 1.",
            "Node 2 has got a JOIN from node 1, and answers. It wants a ring of nodes 1 and 2.",
            "Node 1 has heard of node 2. It wants a ring of nodes 1 and 2.",
            "Node 1 repeats its JOIN, because not all of these nodes have agreed yet. It wants a ring of nodes 1 and 2.",
            "All of nodes 1 and 2 want the same ring. Node 1 represents it, and sends the commit token of ring 1.8 \
             round, in which each member writes what it has of its old ring.",
            "Node 1 sends the commit token again, because it has seen no sign of it.",
            "Node 2 has written what it has of its old ring, and passes the commit token of ring 1.8 on.",
            "Each of nodes 1 and 2 has written what it has. The commit token of ring 1.8 goes round again, so that all \
             know.",
            "Node 2 knows now what all have of their old rings, and passes the commit token on.",
            "All members have agreed on ring 1.8. Node 1 sends its first token.",
        ]
    );
}

#[test]
fn a_lost_frame_is_asked_for_and_sent_again() {
    let sent = explained(&[
        (0, 1, &[2], token_of(1, 10, 6, &[])),
        (2000, 2, &[1], token_of(2, 11, 6, &[])),
        (4000, 1, &[2], frame(1, 7)),
        (4000, 1, &[2], frame(1, 8)),
        (5000, 1, &[2], token_of(1, 12, 10, &[])),
        (5000, 1, &[2], frame(1, 9)),
        (5000, 1, &[2], frame(1, 10)),
        (7000, 2, &[1], token_of(2, 13, 10, &[8])),
        (9000, 1, &[2], frame(1, 8)),
        (9000, 1, &[2], token_of(1, 14, 10, &[])),
        (29_000, 1, &[2], token_of(1, 14, 10, &[])),
    ]);
    let why: Vec<&str> = sent.iter().map(|datagram| &datagram.why[..]).collect();
    assert_eq!(
        why,
        [
            "Node 1 passes the token on to node 2.",
            "Node 2 passes the token on to node 1.",
            "Node 1 has the token, so it may send: frame 7 of ring 1.8.",
            "Node 1 has the token, so it may send: frame 8 of ring 1.8.",
            "Node 1 passes the token on to node 2, after it has sent frames 7 to 8. It announces frames 9 to 10, to be \
             sent right after it.",
            "Node 1 had the token, and announced in it what it sends now: frame 9 of ring 1.8.",
            "Node 1 had the token, and announced in it what it sends now: frame 10 of ring 1.8.",
            "Node 2 passes the token on to node 1. The token asks for frame 8, which a member has not got.",
            "Node 1 sends frame 8 again, because the token asked for it.",
            "Node 1 passes the token on to node 2, after it has sent frame 8 again.",
            "Node 1 sends the token again. It has seen no sign of it for 20 ms, so the token may be lost.",
        ]
    );
    let again: Vec<usize> = (0..sent.len()).filter(|&n| sent[n].again).collect();
    assert_eq!(again, [8, 10]);
    assert_eq!(sent[8].fields.get("seq"), Some(&Value::Number(8)));
}

#[test]
fn a_held_token_and_a_lost_ring_are_explained() {
    let why = whys(&[
        (0, 1, &[2], token(1, 10, &[])),
        (2000, 2, &[1], token(2, 11, &[])),
        (45_000, 1, &[2], token(1, 12, &[])),
        (47_000, 2, &[1], token(2, 13, &[])),
        (60_000, 2, &[1], hold_cancel(2, ring(8))),
        (62_000, 1, &[2], token(1, 14, &[])),
        (64_000, 2, &[1], token(2, 15, &[])),
        (300_000, 1, &[2], join(1, &[1, 2], &[])),
        (400_000, 1, &[2], join(1, &[1, 2], &[2])),
        (500_000, 1, &[2], leave(1)),
        (600_000, 1, &[2], join(1, &[1], &[])),
    ]);
    assert_eq!(
        why[2..],
        [
            "Node 1 passes the token on to node 2. It had held the token for 42 ms: the ring is idle.",
            "Node 2 passes the token on to node 1.",
            "Node 2 asks for the token, which is held: it has something to send, or a lease to renew.",
            "Node 1 passes the token on to node 2. It had held the token for 14 ms, until node 2 asked for it.",
            "Node 2 passes the token on to node 1.",
            "Node 1 has had no token for 235 ms, and looks for those who are still there. It wants a ring of nodes 1 \
             and 2.",
            "Node 1 gives up on node 2. It wants a ring of node 1.",
            "Node 1 leaves, so that the others need not wait until they miss it.",
            "Node 1 has started, and looks for others. It wants a ring of node 1.",
        ]
    );
}

#[test]
fn signs_of_life_are_told_from_requests_for_the_token() {
    let nowhere = |representative| RingId { representative: id(representative), seq: 0 };
    assert_eq!(
        whys(&[(0, 1, &[2], hold_cancel(1, nowhere(2))), (9, 2, &[1], hold_cancel(2, nowhere(2)))]),
        [
            "Node 1 asks node 2 for a sign of life, because a host has refused datagrams.",
            "Node 2 shows node 1 that it is alive.",
        ]
    );
}

#[test]
fn an_answer_is_told_from_a_merge_and_from_a_leave() {
    let token_of_two =
        |from| vec![(0, 1, &[2][..], token(1, 10, &[])), (2000, 2, &[1][..], token(from, 11, &[]))];
    let after = |event: Bytes, from: u32| {
        let mut sent = token_of_two(2);
        sent.push((4000, from, &[2], event));
        sent.push((6000, 2, &[1], join(2, &[1, 2, 3], &[])));
        whys(&sent).pop().unwrap()
    };
    let foreign = RingId { representative: id(3), seq: 4 };
    let merge = bytes(&Message::MergeDetect(MergeDetect { from: id(3), ring: foreign }));
    let wish = "It wants a ring of nodes 1, 2 and 3.";
    assert_eq!(
        after(join(3, &[3], &[]), 3),
        format!("Node 2 has got a JOIN from node 3, and answers. {wish}")
    );
    assert_eq!(after(leave(1), 1), format!("Node 2 has got the LEAVE of node 1. {wish}"));
    assert_eq!(
        after(merge, 3),
        format!("Node 2 has heard of the ring of node 3, and wants to merge. {wish}")
    );
    let own = bytes(&Message::MergeDetect(MergeDetect { from: id(1), ring: ring(8) }));
    assert_eq!(after(own, 1), format!("Node 2 looks for a ring. {wish}"));
}

#[test]
fn bytes_that_no_member_accepts_are_drawn() {
    let sent = explained(&[(0, 1, &[2], Bytes::from_static(b"noise"))]);
    assert_eq!(sent[0].kind, "refused");
    assert!(sent[0].why.starts_with("No member accepts this: "), "{}", sent[0].why);
}

#[test]
fn spans_end_where_the_next_begins_and_at_the_end() {
    let mut recorder = Recorder::default();
    recorder.node(1, "one");
    recorder.state(0, 1, State::Ring(RingState::Gather), "");
    recorder.state(5, 1, State::Ring(RingState::Gather), "");
    recorder.state(10, 1, State::Ring(RingState::Operational), "ring 1.8");
    recorder.state(12, 1, State::Dc(DcState::Waits), "");
    recorder.state(20, 1, State::Dc(DcState::Acts), "");
    recorder.replace_state(30, 1, State::Dc(DcState::Acts), State::Dc(DcState::Other));
    recorder.replace_state(35, 1, State::Dc(DcState::Acts), State::Dc(DcState::Waits));
    recorder.end_state(40, 1, State::Dc(DcState::Other));
    recorder.note(25, Some(1), NoteKind::Life, "later");
    recorder.note(3, None, NoteKind::Fault, "sooner");
    let picture = recorder.picture(40, "title");
    let spans: Vec<_> = picture.spans.iter().map(|span| (span.from, span.until, span.what)).collect();
    assert_eq!(
        spans,
        [
            (0, 10, State::Ring(RingState::Gather)),
            (12, 20, State::Dc(DcState::Waits)),
            (20, 30, State::Dc(DcState::Acts)),
            (30, 40, State::Dc(DcState::Other)),
            (10, 40, State::Ring(RingState::Operational)),
        ]
    );
    let notes: Vec<_> = picture.notes.iter().map(|note| &note.text[..]).collect();
    assert_eq!((notes, picture.ends_at), (vec!["sooner", "later"], 40));
}

#[test]
fn a_copy_that_arrives_later_is_drawn_too() {
    let mut recorder = Recorder::default();
    let number = recorder.sent(0, Some(1), &[2, 3], &token(1, 0, &[]));
    recorder.arrived(10, number, 2);
    recorder.arrived(20, number, 2);
    recorder.lost(10, number, 3, "cut");
    let to = &recorder.picture(0, "").datagrams[0].to;
    let to: Vec<_> = to.iter().map(|arrival| (arrival.node, arrival.at, arrival.lost)).collect();
    assert_eq!(to, [(2, Some(10), None), (3, Some(10), Some("cut")), (2, Some(20), None)]);
}

#[test]
fn a_silent_node_is_down_from_its_last_datagram() {
    let [one, two]: [SocketAddr; 2] =
        ["10.0.0.1:5404", "10.0.0.2:5404"].map(|address| address.parse().unwrap());
    let group: SocketAddr = "239.192.0.1:5405".parse().unwrap();
    let mut capture = Capture::default();
    let ms = Duration::from_millis;
    for (at, from, to, payload) in [
        (100, one, two, token(1, 10, &[])),
        (102, two, one, token(2, 11, &[])),
        (104, one, two, token(1, 12, &[])),
        (304, one, group, join(1, &[1, 2], &[])),
        (504, one, group, join(1, &[1, 2], &[2])),
        (600, one, one, commit(1, 1)),
        (601, one, one, token(1, 0, &[])),
    ] {
        capture.datagram(ms(at), from, to, payload);
    }
    let picture = capture.picture("two nodes");
    assert_eq!(
        picture.nodes.iter().map(|node| &node.name[..]).collect::<Vec<_>>(),
        ["1 (10.0.0.1)", "2 (10.0.0.2)"]
    );
    let of_two: Vec<_> =
        picture.spans.iter().filter(|span| span.node == 2).map(|span| (span.from, span.what)).collect();
    assert_eq!(of_two, [(2000, State::Ring(RingState::Down))], "silent since its last datagram");
    let notes: Vec<_> = picture.notes.iter().map(|note| (note.at, &note.text[..])).collect();
    assert!(
        notes.contains(&(2000, "node 2 sends its last datagram: after this, it ended or was cut off")),
        "{notes:?}"
    );
    assert!(
        notes.contains(&(404_000, "node 1 gives up on node 2, which was last heard 402 ms before")),
        "{notes:?}"
    );
}

#[test]
fn the_file_holds_its_data_and_no_foreign_markup() {
    let mut recorder = Recorder::default();
    recorder.node(1, "<script>alert(1)</script>");
    let html = recorder.picture(1, "<b>title</b>").html();
    assert!(html.starts_with("<!doctype html>") && html.contains("&lt;b&gt;title&lt;/b&gt;"));
    assert!(!html.contains("<b>title") && !html.contains("alert(1)"), "names are in the packed data");
    for address in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!html.contains(address), "the page loads nothing: {address}");
    }
}
