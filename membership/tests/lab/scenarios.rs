//! Scenarios that several tests share.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::wire::packing::Packet;
use quorate_membership::wire::{self, HoldCancel, Join, MergeDetect, Message, Multicast, Order, Token};
use quorate_membership::{Guarantee, Notice, Origin, Refusal, RingId, Seq, Totem};
use rand::Rng;

use super::{Fate, Lab, ms, node};

/// F7, seed 14633 of the fault laboratory: between nodes 1 and 2, a bit of the token's frame count
/// is flipped undetected. The window then looks full, so no member sends, but only members that
/// send can empty it.
pub fn a_bit_of_the_window_is_flipped() {
    let mut lab = Lab::ring(3);
    let caught: Rc<RefCell<Option<Token>>> = Rc::default();
    let catch = Rc::clone(&caught);
    lab.filter(move |from, to, message, _| match message {
        Message::Token(token) if (from, to) == (node(1), node(2)) && catch.borrow().is_none() => {
            *catch.borrow_mut() = Some(token.clone());
            Fate::Drop
        }
        _ => Fate::Deliver,
    });
    lab.until("the token is on its way to node 2", |_| caught.borrow().is_some());
    let mut token = caught.borrow().clone().unwrap();
    assert!(token.seq != Seq::new(0), "frames were sent");
    token.fcc ^= 1 << 20;
    lab.deliver_raw(2, Some(1), &wire::encode(&Message::Token(token), Order::Little));
    let ring = lab.regular(1).ring;
    for id in 1..=3 {
        lab.send(id, Guarantee::Safe, &format!("of {id}"));
    }
    lab.until("T6: all is delivered", |lab| (1..=3).all(|id| lab.texts(id).len() == 3));
    assert_eq!(lab.regular(1).ring, ring, "L2: a bit costs the ring");
    lab.check();
}

/// F7, seed 40343 of the fault laboratory: during a ring's recovery, the flag for remaining frames
/// is flipped between nodes 1 and 2. No member has raised the flag, so no member would lower it.
pub fn a_flag_is_flipped() {
    let mut lab = Lab::ring(2);
    let before = lab.regular(1).ring;
    let caught: Rc<RefCell<Option<Token>>> = Rc::default();
    let catch = Rc::clone(&caught);
    lab.filter(move |from, to, message, _| match message {
        Message::Token(token)
            if (from, to) == (node(1), node(2)) && token.ring != before && catch.borrow().is_none() =>
        {
            *catch.borrow_mut() = Some(token.clone());
            Fate::Drop
        }
        _ => Fate::Deliver,
    });
    lab.start(3);
    lab.until("the new ring's first token is on its way to node 2", |_| caught.borrow().is_some());
    let mut token = caught.borrow().clone().unwrap();
    let ring = token.ring;
    assert!(!token.retrans_flg, "no member has frames left");
    token.retrans_flg = true;
    lab.deliver_raw(2, Some(1), &wire::encode(&Message::Token(token), Order::Little));
    lab.until("L1: a ring of all", |lab| (1..=3).all(|id| lab.totem_of(id).ring() == Some(ring)));
    lab.check();
}

/// A single refusal is not evidence, and neither are two that are far apart.
pub fn a_host_is_asked_again_before_it_is_believed() {
    let mut lab = Lab::with_evidence(3);
    let ring = lab.regular(1).ring;
    for _ in 0..2 {
        lab.refuse(node(1), node(3));
        lab.run(ms(1000));
    }
    assert_eq!(lab.regular(1).ring, ring, "L2: a lie costs the ring");
    let stats = lab.totem_of(1).stats();
    assert_eq!((stats.hints, stats.accusations), (2, 0), "L2: two hints, no accusation");
}

/// A process is killed and restarted every three seconds. After a short burst, its host sends each
/// peer at most one refusal a second.
pub fn a_process_is_killed_every_three_seconds() {
    for victim in 1..=3 {
        let mut lab = Lab::with_evidence_and_token(3, ms(1650));
        let others: Vec<u32> = (1..=3).filter(|id| *id != victim).collect();
        let due = lab.config.hold + ms(36);
        for n in 0..20 {
            let next = lab.now + ms(3000);
            lab.crash(victim);
            let took = lab.until_ring(&others);
            assert!(took < due, "L1: kill {n} of node {victim} took {took:?}");
            lab.start(victim);
            lab.until_ring(&[1, 2, 3]);
            let left = next - lab.now;
            lab.run(left);
        }
        lab.check();
    }
}

/// A process is killed again and again, until its host sends only one refusal a second. Two
/// refusals suffice to detect the loss, long before the token timeout.
pub fn a_host_has_used_up_its_refusals() {
    for victim in 1..=3 {
        let mut lab = Lab::with_evidence_and_token(3, ms(5000));
        let others: Vec<u32> = (1..=3).filter(|id| *id != victim).collect();
        for n in 0..20 {
            lab.crash(victim);
            let took = lab.until_ring(&others);
            assert!(took < ms(2200), "L1: kill {n} of node {victim} took {took:?}");
            lab.start(victim);
            lab.until_ring(&[1, 2, 3]);
        }
        lab.check();
    }
}

/// Two members accept a larger window, and a third announces none.
pub fn one_member_says_nothing_of_its_window() {
    let mut lab = Lab::new(4);
    lab.config.largest_window = 400;
    for id in 1..=2 {
        lab.start(id);
    }
    lab.until_ring(&[1, 2]);
    lab.until("T6: the windows are agreed on", |lab| lab.windows(&[1, 2]) == [400; 2]);
    lab.config.largest_window = 0;
    lab.start(3);
    lab.until_ring(&[1, 2, 3]);
    lab.run(ms(100));
    assert_eq!(lab.windows(&[1, 2, 3]), [50; 3], "T6: not all can take more");
    lab.crash(3);
    lab.until_ring(&[1, 2]);
    lab.until("T6: the windows are agreed on again", |lab| lab.windows(&[1, 2]) == [400; 2]);
    lab.check();
}

/// A token from node 2 to node 3 also reaches node 1, whose predecessor is not node 2.
pub fn a_token_goes_astray() {
    let mut lab = Lab::ring(3);
    let caught: Rc<RefCell<Option<Token>>> = Rc::default();
    let catch = Rc::clone(&caught);
    lab.filter(move |from, to, message, _| {
        if let Message::Token(token) = message
            && (from, to) == (node(2), node(3))
        {
            *catch.borrow_mut() = Some(token.clone());
        }
        Fate::Deliver
    });
    lab.until("a token is on its way to node 3", |_| caught.borrow().is_some());
    let token = caught.borrow().clone().unwrap();
    let before = lab.totem_of(1).stats().tokens;
    lab.deliver_raw(1, Some(2), &wire::encode(&Message::Token(token), Order::Little));
    assert_eq!(lab.totem_of(1).stats().tokens, before, "T1: node 1 takes a token that was for another");
}

fn claims(id: u32) -> [Message; 3] {
    let ring = RingId { representative: node(id), seq: 1 };
    let join = Join { from: node(id), leave: false, ring_seq: 1, proc: vec![node(id)], failed: vec![] };
    [
        Message::Join(join),
        Message::MergeDetect(MergeDetect { from: node(id), ring }),
        Message::HoldCancel(HoldCancel { from: node(id), ring }),
    ]
}

/// Another host claims the id of a node that has just started, at an address that is not the listed
/// one.
pub fn the_id_of_a_listed_node_is_claimed_elsewhere() {
    let mut lab = Lab::listing(1..=3);
    lab.start(1);
    for _ in 0..20 {
        for claim in claims(1) {
            let origin = Origin { outranks_us: true, ..Origin::of(None) };
            lab.deliver_from(1, origin, &wire::encode(&claim, Order::Little));
        }
        lab.run(ms(10));
    }
    assert!(lab.is_up(1), "M10: the list says whose the id is");
    assert!(lab.noted(1, Notice::OwnIdElsewhere { node: node(1) }), "M10: the operator is told");
}

/// A host outside the ring sends frames of that ring in a member's name.
pub fn a_stranger_sends_frames_of_a_ring() {
    let mut lab = Lab::ring(3);
    let ring = lab.regular(1).ring;
    let high = lab.totem(1).snapshot().ring.high;
    let packet = Packet { fragmented: 0, continuation: 0, pieces: vec![Bytes::from_static(b"forged")] };
    for (seq, origin) in [(high.next(), None), (Seq::new(high.get() + 300), None), (high.next(), Some(7))] {
        let frame = Multicast {
            from: node(2),
            seq,
            this_seqno: 0,
            ring,
            guarantee: Guarantee::Agreed,
            encapsulated: false,
            payload: packet.encode(),
            raw: Bytes::new(),
        };
        lab.deliver_raw(1, origin, &wire::encode(&Message::Multicast(frame), Order::Little));
    }
    assert_eq!(lab.totem(1).snapshot().ring.high, high, "S1: a frame that no member has sent");
    assert_eq!(lab.totem(1).stats().refused.get(&Refusal::Outsider), Some(&3), "S1: counted");
    lab.send(2, Guarantee::Agreed, "true");
    lab.until("delivered", |lab| lab.texts(1) == ["true"]);
    assert_eq!(lab.regular(1).ring, ring, "L2: the ring stands");
}

/// Node 2 has restarted and never hears node 3, whose address it therefore does not know. Node 1
/// hears both of them.
pub fn a_restarted_node_never_hears_its_successor() {
    let mut lab = Lab::ring(4);
    lab.crash(4);
    lab.crash(2);
    lab.cut_one_way(3, 2);
    lab.filter(|from, to, message, _| match message {
        Message::Token(_) | Message::Commit(_) if (from, to) == (node(2), node(3)) => Fate::Drop,
        _ => Fate::Deliver,
    });
    lab.start(2);
    let share = lab.share_of_a_ring(&[1, 2], Duration::from_secs(30));
    assert!(share >= 50, "L7: nodes 1 and 2 have a ring for {share} % of the time");
    lab.calm();
    let took = lab.until_ring(&[1, 2, 3]);
    assert!(took < 10 * lab.config.consensus, "took {took:?}");
    lab.check();
}

/// A host that is listed as node 3 claims to be node 2, and is alone in a ring.
pub fn a_stranger_sends_frames_of_its_own_ring_in_a_members_name() {
    let mut lab = Lab::listing(1..=3);
    for id in [1, 2] {
        lab.start(id);
    }
    lab.until_ring(&[1, 2]);
    let ring = lab.regular(1).ring;
    let strange = RingId { representative: node(2), seq: ring.seq + 400 };
    for seq in 1..10 {
        let frame = Multicast {
            from: node(2),
            seq: Seq::new(seq),
            this_seqno: 0,
            ring: strange,
            guarantee: Guarantee::Agreed,
            encapsulated: false,
            payload: Bytes::new(),
            raw: Bytes::new(),
        };
        lab.deliver_raw(1, Some(3), &wire::encode(&Message::Multicast(frame), Order::Little));
        lab.run(ms(300));
    }
    assert_eq!(lab.regular(1).ring, ring, "L2: the ring stands");
    assert_eq!(lab.totem(1).stats().refused.get(&Refusal::Outsider), Some(&9), "L2: counted");
}

/// Without a node list, a host that never asks to join sends MERGE DETECT with a different id each
/// time.
pub fn countless_strangers_are_heard() {
    let mut lab = Lab::ring(3);
    let share = |lab: &mut Lab, first: u32| {
        let shares = (0..200).map(|n| {
            let from = node(first + n);
            let probe = MergeDetect { from, ring: RingId { representative: from, seq: 1 } };
            let bytes = wire::encode(&Message::MergeDetect(probe), Order::Little);
            for id in 1..=3 {
                lab.deliver_raw(id, None, &bytes);
            }
            lab.share_of_a_ring(&[1, 2, 3], ms(50))
        });
        shares.sum::<u32>() / 200
    };
    let (first, later) = (share(&mut lab, 1000), share(&mut lab, 2000));
    assert!(first >= 70 && later >= 90, "L7: a ring for {first} %, then {later} % of the time");
}

/// K1: one file was not updated, so node 3's list lacks node 4. Any of the other members may be the
/// first to give up on node 3.
pub fn one_node_has_an_old_list() {
    for seed in 0..40 {
        let mut lab = Lab { list: Some((1..=4).map(node).collect()), ..Lab::new(seed) };
        lab.list(3, 1..=3);
        lab.filter(|_, _, _, rng| Fate::Delay(Duration::from_micros(rng.random_range(0..5000))));
        for id in [1, 2, 4] {
            lab.start(id);
        }
        lab.until_ring(&[1, 2, 4]);
        lab.start(3);
        lab.run(ms(1000));
        let unlisted = Notice::NamesUnlisted { peer: node(1), node: node(4) };
        assert!(lab.noted(3, unlisted), "L7: one side is told (seed {seed})");
        for id in [1, 2] {
            let left_out = Notice::LeavesOut { peer: node(3), node: node(4) };
            assert!(lab.noted(id, left_out), "L7: the other side is told: node {id} (seed {seed})");
        }
        let first = lab.share_of_a_ring(&[1, 2, 4], ms(15_000));
        let later = lab.share_of_a_ring(&[1, 2, 4], ms(60_000));
        assert!(first >= 97 && later >= 99, "L7: {first} %, then {later} % (seed {seed})");
        lab.crash(3);
        lab.list(3, 1..=4);
        lab.start(3);
        let took = lab.until_ring(&[1, 2, 3, 4]);
        assert!(took < 10 * lab.config.consensus, "L1: the file was corrected: took {took:?} (seed {seed})");
        lab.check();
    }
}

/// Nodes 1 and 2 hear node 3, but node 3 hears neither of them.
pub fn one_node_is_deaf() {
    let mut lab = Lab::ring(3);
    for heard in [1, 2] {
        lab.cut_one_way(heard, 3);
    }
    lab.run(ms(2000));
    let share = lab.share_of_a_ring(&[1, 2], ms(15_000));
    assert!(share >= 50, "L7: {share} %");
}

/// A cluster grows by one node, which so far is only in one member's file. Another member restarts.
pub fn one_member_knows_of_a_new_node() {
    for (knows, new) in [(1, 4), (2, 4), (3, 4), (4, 1)] {
        let old: Vec<u32> = (1..=4).filter(|id| *id != new).collect();
        let mut lab = Lab::listing(1..=4);
        for id in &old {
            if *id != knows {
                lab.list(*id, old.clone());
            }
            lab.start(*id);
        }
        lab.until_ring(&old);
        lab.start(new);
        let share = lab.share_of_a_ring(&old, ms(15_000));
        assert!(share >= 90, "L7: {knows} knows of {new}: {share} %");
        for id in &old {
            assert_eq!(lab.regular(*id).members.len(), 3, "L7: {:?}", lab.regular(*id));
        }
        let restarted = *old.iter().find(|id| **id != knows).unwrap();
        lab.crash(restarted);
        lab.start(restarted);
        let took = lab.until_ring(&old);
        assert!(took < 2 * lab.config.consensus, "L1: {knows} knows of {new}: took {took:?}");
        lab.check();
    }
}

/// A host repeatedly reports that a member's process is gone, in a busy ring and in an idle one.
pub fn a_member_is_accused_falsely() {
    for (liar, accused) in [(1, 2), (1, 3), (3, 1), (2, 1)] {
        for busy in [false, true] {
            let mut lab = Lab::with_evidence(3);
            lab.run(ms(500));
            let ring = lab.regular(1).ring;
            for _ in 0..40 {
                if busy {
                    lab.send_numbered(accused, Guarantee::Safe, 100);
                }
                lab.refuse(node(liar), node(accused));
                lab.run(ms(9));
            }
            assert_eq!(lab.regular(liar).ring, ring, "L2: a lie costs the ring");
            assert_eq!(lab.totem_of(liar).stats().accusations, 0, "L2: a lie is believed");
            lab.check();
        }
    }
}

/// The representative is a corosync daemon, or behaves like one. It holds the token of an idle ring
/// for as long as its own token timeout allows, announces no window, and releases the token at once
/// when asked. The lease of the others is shorter than that hold.
pub fn a_corosync_daemon_holds_the_token_for_long() {
    let mut lab = Lab::new(3);
    let hold = lab.config.hold;
    let long = 5 * hold;
    lab.config.hold = long;
    lab.start(1);
    lab.config.hold = hold;
    for id in 2..=3 {
        lab.start(id);
    }
    lab.until_ring(&[1, 2, 3]);
    lab.run(ms(1000));
    let mut oldest = ms(0);
    for _ in 0..2000 {
        lab.run(ms(1));
        for id in 2..=3 {
            oldest = oldest.max(lab.now - lab.totem_of(id).whole_since().unwrap());
        }
    }
    assert!(oldest <= 5 * hold / 2, "T8: no token goes all the way round for {oldest:?}, holding {hold:?}");
    lab.check();
}

/// A firewall rejects datagrams to a member for a moment, as happens while its rules are loaded.
/// There is no other fault.
pub fn a_firewall_rejects_for_a_moment() {
    let lengths = [10, 50, 100, 200];
    let cases = [2, 3, 5].into_iter().flat_map(|n| lengths.map(|long| (n, long)));
    for (n, long) in cases {
        for (victim, sends) in (1..=n).flat_map(|victim| [(victim, false), (victim, true)]) {
            // The default, and one that is longer than the refusals have to last.
            let labs = [Lab::with_evidence(n), Lab::with_evidence_and_hold(n, ms(70))];
            labs.into_iter().for_each(|lab| a_firewall_rejects(lab, n, victim, long, sends));
        }
    }
}

fn a_firewall_rejects(mut lab: Lab, n: u32, victim: u32, long: u64, sends: bool) {
    lab.run(ms(500));
    let ring = lab.regular(1).ring;
    lab.reject(victim, true);
    if sends {
        // The token moves on at once, while the victim still thinks that it is held.
        lab.send_numbered(victim % n + 1, Guarantee::Agreed, 100);
    }
    lab.run(ms(long));
    lab.reject(victim, false);
    lab.run(ms(1000));
    let rings: Vec<_> = (1..=n).map(|id| lab.regular(id).ring).collect();
    assert!(
        rings.iter().all(|other| *other == ring),
        "L2: {n} nodes, {victim} for {long} ms, sends: {sends}: {rings:?}, {:?}",
        lab.regular(1).causes
    );
    let accusations = (1..=n).map(|id| lab.totem_of(id).stats().accusations);
    assert_eq!(accusations.sum::<u64>(), 0, "L2: {n} nodes, {victim} for {long} ms");
    lab.check();
}

/// JOINs with absurd numbers arrive in a member's name. Then a member with an empty disk joins, and
/// finally all members restart.
pub fn ring_numbers_are_forged() {
    for said in [1 << 45, 1 << 62, u64::MAX] {
        let mut lab = Lab::ring(3);
        for _ in 0..5 {
            let join =
                Join { from: node(2), leave: false, ring_seq: said, proc: vec![node(2)], failed: vec![] };
            let join = wire::encode(&Message::Join(join), Order::Little);
            for victim in [1, 3] {
                lab.deliver_raw(victim, Some(2), &join);
            }
            lab.run(ms(1000));
            lab.until_ring(&[1, 2, 3]);
        }
        let seq = lab.regular(1).ring.seq;
        assert!(seq < Totem::MAX_RING_SEQ / 2 + (1 << 20), "M2: {said} was said, and is believed: {seq}");
        assert!(lab.noted(1, Notice::RingNumber { peer: node(2) }), "M2: the operator is told");
        lab.crash(3);
        lab.until_ring(&[1, 2]);
        lab.store(3, 1_800_000_000_000);
        lab.start(3);
        lab.until_ring(&[1, 2, 3]);
        assert!(lab.regular(1).ring.seq > seq, "M2: numbers, and so terms, keep rising");
        (1..=3).for_each(|id| lab.crash(id));
        (1..=3).for_each(|id| lab.start(id));
        lab.until_ring(&[1, 2, 3]);
    }
}

/// A member cannot receive from its successor. The successor gets the token next, and would
/// retransmit each requested frame in vain.
pub fn a_member_never_hears_its_successor() {
    let mut lab = Lab::ring(5);
    let ring = lab.regular(1).ring;
    lab.cut_one_way(4, 3);
    lab.send(4, Guarantee::Safe, "of 4");
    lab.until("T5: all is delivered", |lab| (1..=5).all(|id| lab.texts(id).len() == 1));
    assert_eq!(lab.regular(1).ring, ring, "L2: one dead direction costs the ring");
}
