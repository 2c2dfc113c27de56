//! Intrusions that a ring withstands: garbage, strangers, misdirected tokens, and impossible
//! numbers.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod lab;

use lab::{Lab, ids, ms, node};
use quorate_membership::Guarantee::Agreed;
use quorate_membership::wire::packing::Packet;
use quorate_membership::wire::{
    self, CommitEntry, CommitToken, Join, MergeDetect, Message, Multicast, Order, Token,
};
use quorate_membership::{Cause, Event, Notice, Origin, Refusal, RingId, Seq, Totem};
use rand::Rng;

#[test]
fn a_token_for_another_member_is_ignored() {
    lab::scenarios::a_token_goes_astray();
}

/// Delivers a datagram to node `id` that claims to come from that node, but has another address.
fn claim(lab: &mut Lab, id: u32, outranks_us: bool, message: &Message) {
    let origin = Origin { outranks_us, ..Origin::of(None) };
    lab.deliver_from(id, origin, &bytes(message));
}

fn start_of(id: u32) -> Message {
    Message::Join(Join { from: node(id), leave: false, ring_seq: 1, proc: vec![node(id)], failed: vec![] })
}

fn has_left(lab: &Lab, id: u32) -> bool {
    lab.events(id).last() == Some(&Event::Left(Cause::DuplicateId { node: node(id) }))
}

#[test]
fn without_a_list_the_longer_running_process_keeps_the_id() {
    let mut lab = Lab::ring(2);
    claim(&mut lab, 1, true, &start_of(1));
    assert_eq!(lab.totem(1).stats().refused.get(&Refusal::Impostor), Some(&1));
    lab.run(ms(50));
    assert_eq!(lab.regular(1).members.len(), 2, "the one that is not alone stays");

    let mut survivor = Lab::new(5);
    survivor.start(1);
    survivor.run(ms(1000));
    claim(&mut survivor, 1, true, &start_of(1));
    assert_eq!(survivor.regular(1).members, ids(&[1]), "so does one that has been alone for long");
    assert!(!has_left(&survivor, 1));
    assert_eq!(Cause::DuplicateId { node: node(1) }.to_string(), "another process uses node id 1");
}

/// Two processes with one id, at two addresses, hear each other. One of them leaves, whichever of
/// their datagrams are lost and however far apart they start.
#[test]
fn without_a_list_one_of_two_namesakes_stays() {
    for (apart, loss) in
        [0, 1, 5, 50, 200, 300, 360, 500].into_iter().flat_map(|apart| [(apart, 0), (apart, 1), (apart, 2)])
    {
        for first_outranks in [false, true] {
            let outranks = [!first_outranks, first_outranks];
            let case = format!("{apart} ms apart, {loss} of 3 lost, the first outranks: {first_outranks}");
            let mut worlds = [0, 1].map(|seed| {
                let mut lab = Lab::new(seed);
                lab.keep_sent();
                lab
            });
            let mut sent = 0;
            for time in 0..2000 {
                for (world, starts_at) in [(0, 0), (1, apart)] {
                    if time == starts_at {
                        worlds[world].start(1);
                    }
                    worlds[world].run(ms(1));
                    let running = worlds.each_ref().map(|lab| lab.exists(1) && lab.is_up(1));
                    for datagram in worlds[world].take_sent() {
                        sent += 1;
                        let other = 1 - world;
                        if running[other] && sent % 3 >= loss {
                            let origin = Origin { outranks_us: outranks[other], ..Origin::of(None) };
                            worlds[other].deliver_from(1, origin, &datagram);
                        }
                    }
                }
            }
            let left = worlds.each_ref().map(|lab| has_left(lab, 1));
            let count = left.iter().filter(|left| **left).count();
            assert!(count == 1 || count == 0 && loss == 2, "{case}: {left:?}");
            if apart > 360 && count == 1 {
                assert!(left[1], "{case}: the later one has to go");
            }
        }
    }
}

/// The list fixes the address of an id, so a node that starts ignores a claim from any other
/// address.
#[test]
fn a_listed_node_stays_when_another_host_claims_its_id() {
    lab::scenarios::the_id_of_a_listed_node_is_claimed_elsewhere();
}

/// Covers frames from a host outside the ring, in members' names, from an address of its own.
#[test]
fn without_a_list_a_ring_accepts_frames_from_members_only() {
    lab::scenarios::a_stranger_sends_frames_of_a_ring();
}

#[test]
fn a_merge_detect_of_an_impossible_ring_does_not_break_a_ring() {
    let mut lab = Lab::ring(3);
    let ring = lab.regular(1).ring;
    for seq in [Totem::MAX_RING_SEQ + 1, 1 << 60, u64::MAX] {
        let probe = MergeDetect { from: node(2), ring: RingId { representative: node(2), seq } };
        lab.deliver_raw(1, Some(2), &bytes(&Message::MergeDetect(probe)));
        lab.run(ms(100));
    }
    assert_eq!(lab.totem(1).stats().refused.get(&Refusal::RingNumber), Some(&3));
    assert_eq!(lab.regular(1).ring, ring, "L2: the ring stands");
}

/// Each MERGE DETECT names a new node.
#[test]
fn countless_strangers_rarely_break_a_ring() {
    lab::scenarios::countless_strangers_are_heard();
}

/// The others do not follow the absurd number, and only the operator can undo it. Both sides report
/// the remedy.
#[test]
fn a_misled_starting_node_reports_the_remedy() {
    let mut lab = Lab::ring(3);
    let seq = lab.regular(1).ring.seq;
    lab.crash(3);
    lab.until_ring(&[1, 2]);
    lab.cut(&[1, 2], &[3]);
    lab.start(3);
    lab.until_ring(&[3]);
    let said = Totem::MAX_RING_SEQ - (1 << 32);
    let join =
        Join { from: node(2), leave: false, ring_seq: said, proc: vec![node(2), node(3)], failed: vec![] };
    lab.deliver_raw(3, Some(2), &bytes(&Message::Join(join)));
    lab.until("led astray", |lab| lab.regular(3).ring.seq > said);
    lab.calm();
    let own = Notice::OwnRingNumber { peer: node(1) };
    lab.until("told on both sides", |lab| {
        lab.noted(3, own) && lab.noted(1, Notice::RingNumber { peer: node(3) })
    });
    lab.until_ring(&[1, 2]);

    lab.crash(3);
    lab.store(3, seq + 1000);
    lab.start(3);
    lab.until_ring(&[1, 2, 3]);
    lab.run(ms(1000));
    assert!(!lab.noted(3, own), "its number is as the others'");
}

/// A newcomer at a listed address uses the id of a member.
#[test]
fn a_stranger_in_a_members_name_does_not_break_the_ring() {
    lab::scenarios::a_stranger_sends_frames_of_its_own_ring_in_a_members_name();
}

#[test]
fn random_bytes_are_counted_and_change_nothing() {
    let mut lab = Lab::ring(3);
    let before = lab.regular(2).clone();
    for _ in 0..2000 {
        let length = lab.rng.random_range(0..200);
        let bytes: Vec<u8> = (0..length).map(|_| lab.rng.random()).collect();
        lab.deliver_raw(2, Some(1), &bytes.into());
    }
    assert_eq!(lab.totem(2).stats().refused.values().sum::<u64>(), 2000);
    lab.run(ms(300));
    assert_eq!(*lab.regular(2), before);
}

fn bytes(message: &Message) -> bytes::Bytes {
    wire::encode(message, Order::Little)
}

#[test]
fn a_rejected_sender_is_named_with_cause_and_remedy() {
    let mut lab = Lab::ring(2);
    let join = Join { from: node(1), leave: false, ring_seq: 1, proc: vec![node(1)], failed: vec![] };
    lab.deliver_raw(2, None, &bytes(&Message::Join(join)));
    lab.deliver_raw(2, Some(1), &bytes::Bytes::from_static(b"noise"));
    let noted: Vec<(Notice, String)> =
        lab.totem(2).stats().notices.iter().map(|(notice, _)| (*notice, notice.to_string())).collect();
    let kinds: Vec<Notice> = noted.iter().map(|(notice, _)| *notice).collect();
    assert!(kinds.contains(&Notice::OtherAddress { node: node(1) }), "{noted:?}");
    assert_eq!(kinds.len(), 2, "{noted:?}");
    for (notice, text) in &noted {
        assert_eq!(notice.peer(), Some(node(1)));
        assert!(text.contains("node 1") && text.contains("; "), "{text}");
    }
}

/// Makes node 1, which is new, ask node 2 to form a ring with it. Returns a commit token for that
/// ring.
fn invited_by_node_1(lab: &mut Lab, ring_seq: u64) -> CommitToken {
    let members = vec![node(1), node(2)];
    let join = Join { from: node(1), leave: false, ring_seq: 5, proc: members.clone(), failed: vec![] };
    lab.deliver_raw(2, Some(1), &bytes(&Message::Join(join)));
    let ring = RingId { representative: node(1), seq: ring_seq };
    let start = Seq::new(0);
    let entry = CommitEntry { ring, aru: start, high_delivered: start, received: true };
    CommitToken { from: node(1), token_seq: 1, ring, members, entries: vec![entry] }
}

#[test]
fn a_commit_token_with_an_unannounced_number_is_rejected() {
    for ring_seq in [u64::MAX, 1 << 63, Totem::MAX_RING_SEQ, Totem::MAX_RING_SEQ / 2] {
        let mut lab = Lab::new(0);
        lab.start(2);
        lab.until_ring(&[2]);
        let token = invited_by_node_1(&mut lab, ring_seq);
        lab.deliver_raw(2, Some(1), &bytes(&Message::Commit(token)));
        assert_eq!(lab.totem(2).stats().refused.get(&Refusal::RingNumber), Some(&1));
        lab.start(1);
        lab.until_ring(&[1, 2]);
        assert!(lab.regular(1).ring.seq < 10_000);
    }
}

/// The clocks at the first starts differ by more than a century.
#[test]
fn a_node_with_a_wrong_clock_at_first_start_is_followed() {
    let (now, later) = (1_800_000_000_000, 1_800_000_000_000 + 126 * 31_557_600_000);
    let mut lab = Lab::new(0);
    for (id, ring_seq) in [(1, now), (2, later), (3, 0)] {
        lab.store(id, ring_seq);
        lab.start(id);
    }
    lab.until_ring(&[1, 2, 3]);
    assert!(lab.regular(1).ring.seq > later);
}

/// JOINs with absurd numbers arrive in a member's name. Then a member with an empty disk joins, and
/// finally all members restart.
#[test]
fn forged_ring_numbers_do_no_lasting_harm() {
    lab::scenarios::ring_numbers_are_forged();
}

#[test]
fn a_wild_number_in_a_commit_token_is_handled_quickly() {
    let mut lab = Lab::new(0);
    lab.start(2);
    lab.until_ring(&[2]);
    let old = lab.regular(2).ring;
    let mut token = invited_by_node_1(&mut lab, 5000);
    lab.deliver_raw(2, Some(1), &bytes(&Message::Commit(token.clone())));
    let wild = CommitEntry { ring: old, aru: Seq::new(0x9000_0000), ..token.entries[0] };
    token.entries.push(CommitEntry { received: false, ..wild });
    let start = std::time::Instant::now();
    lab.deliver_raw(2, Some(1), &bytes(&Message::Commit(token)));
    assert!(start.elapsed() < ms(500), "{:?}", start.elapsed());
}

#[test]
fn a_commit_token_returning_with_other_members_is_harmless() {
    let mut lab = Lab::new(0);
    lab.start(2);
    lab.until_ring(&[2]);
    let token = invited_by_node_1(&mut lab, 5000);
    lab.deliver_raw(2, Some(1), &bytes(&Message::Commit(token.clone())));
    let commit = CommitToken { members: vec![node(1)], ..token.clone() };
    for hop in [commit.clone(), commit] {
        lab.deliver_raw(2, Some(1), &bytes(&Message::Commit(hop)));
    }
    let mut turn = Token {
        from: node(1),
        seq: Seq::new(0),
        token_seq: Seq::new(0),
        aru: Seq::new(0),
        aru_addr: None,
        ring: token.ring,
        backlog: 0,
        fcc: 0,
        retrans_flg: false,
        rtr: vec![],
    };
    for _ in 0..8 {
        lab.deliver_raw(2, Some(1), &bytes(&Message::Token(turn.clone())));
        turn.token_seq = turn.token_seq.next();
    }
    lab.check();
}

#[test]
fn made_up_node_ids_do_not_accumulate() {
    let mut lab = Lab::ring(2);
    for n in 0..100 {
        let proc: Vec<_> = (0..384).map(|k| node(1000 + n * 384 + k)).collect();
        let join = Join { from: node(1000), leave: false, ring_seq: 5, proc, failed: vec![] };
        lab.deliver_raw(1, Some(1000), &bytes(&Message::Join(join)));
    }
    assert!(lab.totem(1).stats().refused.get(&Refusal::TooMany).is_some_and(|&n| n > 90));
    lab.until_ring(&[1, 2]);
}

#[test]
fn a_frame_from_outside_the_ring_is_rejected() {
    let mut lab = Lab::ring(2);
    let ring = lab.regular(1).ring;
    let packet = Packet { fragmented: 1, continuation: 0, pieces: vec![bytes::Bytes::from(vec![0; 1000])] };
    for n in 0..10 {
        let frame = Multicast {
            from: node(50 + n),
            seq: Seq::new(50 + n),
            this_seqno: 0,
            ring,
            guarantee: Agreed,
            encapsulated: false,
            payload: packet.encode(),
            raw: bytes::Bytes::new(),
        };
        lab.deliver_raw(1, Some(2), &bytes(&Message::Multicast(frame)));
    }
    assert_eq!(lab.totem(1).stats().refused.get(&Refusal::Field), Some(&10));
    lab.send(1, Agreed, "goes on");
    lab.until("delivered", |lab| lab.texts(2) == ["goes on"]);
}
