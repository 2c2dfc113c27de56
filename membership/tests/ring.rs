//! How rings of bare cores form, change, idle and recover, without a network and in simulated time.
//! `messages.rs` has the tests of messages on an established ring.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod lab;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use lab::chaos::{chaos, tempest};
use lab::{Fate, Lab, ids, ms, node};
use proptest::prelude::*;
use quorate_membership::wire::body::{Body, NodeInfo};
use quorate_membership::wire::{self, Message, Order, RtrEntry};
use quorate_membership::{Cause, Event, Guarantee, MulticastError, RingId, Seq, Service};
use rand::Rng;

use Guarantee::{Agreed, Safe};

#[test]
fn a_lone_node_forms_a_ring_at_once() {
    let mut lab = Lab::new(0);
    lab.start(7);
    let took = lab.until_ring(&[7]);
    assert!(took < ms(10), "took {took:?}");
    let regular = lab.regular(7);
    assert_eq!((&regular.joined, &regular.causes), (&ids(&[7]), &vec![Cause::Started]));
    assert_eq!(regular.why(), "this node started");
}

#[test]
fn nodes_that_start_together_form_one_ring() {
    for n in [2, 3, 5, 9, 16] {
        let lab = Lab::ring(n);
        assert_eq!(lab.regular(1).ring.representative, node(1));
        lab.check();
    }
}

#[test]
fn many_nodes_that_start_together_form_a_ring_before_a_timeout() {
    for seed in 0..50 {
        let mut lab = Lab::new(seed);
        lab.filter(|_, _, _, rng| Fate::Delay(Duration::from_micros(rng.random_range(0..1000))));
        for id in 1..=8 {
            lab.start(id);
            let pause = lab.rng.random_range(0..4000);
            lab.run(Duration::from_micros(pause));
        }
        let took = lab.until_ring(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(took < lab.config.token / 2, "seed {seed}: took {took:?}");
        lab.check();
    }
}

#[test]
fn many_nodes_do_not_answer_each_join_with_a_join() {
    const NODES: u32 = 50;
    let heard = Rc::new(Cell::new(0));
    let mut lab = Lab::new(0);
    let count = Rc::clone(&heard);
    lab.filter(move |_, _, message, _| {
        count.set(count.get() + u32::from(matches!(message, Message::Join(_))));
        Fate::Deliver
    });
    let all: Vec<u32> = (1..=NODES).collect();
    all.iter().for_each(|&id| lab.start(id));
    lab.until_ring(&all);
    let each = heard.get() / NODES / (NODES - 1);
    assert!(each < 20, "each says {each} times what it believes");
    lab.check();
}

#[test]
fn a_node_that_had_no_time_to_answer_is_not_probed() {
    let probes = Rc::new(Cell::new(0));
    let mut lab = Lab::new(0);
    (lab.config.failure_evidence, lab.config.probe) = (true, ms(20));
    let count = Rc::clone(&probes);
    lab.filter(move |_, _, message, _| {
        let probe = matches!(message, Message::HoldCancel(wish) if wish.ring.seq == 0);
        count.set(count.get() + u32::from(probe));
        Fate::Deliver
    });
    let all: Vec<u32> = (1..=30).collect();
    for &id in &all {
        lab.start(id);
        lab.run(Duration::from_micros(50));
    }
    let took = lab.until_ring(&all);
    assert!(took < lab.config.join, "nobody had to ask twice: {took:?}");
    assert_eq!(probes.get(), 0);
}

#[test]
fn a_lost_token_is_retransmitted_before_the_ring_ends() {
    let mut lab = Lab::ring(3);
    let rings = lab.totem(1).stats().rings;
    lab.filter(|_, _, message, rng| match message {
        Message::Token(_) if rng.random_bool(0.02) => Fate::Drop,
        _ => Fate::Deliver,
    });
    for _ in 0..50 {
        lab.send_numbered(2, Agreed, 10);
        lab.run(ms(20));
    }
    assert_eq!(lab.totem(1).stats().rings, rings);
    assert!((1..=3).map(|id| lab.totem(id).stats().token_retransmits).sum::<u64>() > 0);
}

#[test]
fn a_crashed_node_is_out_after_token_and_consensus_timeout() {
    for victim in [1, 2, 3] {
        let mut lab = Lab::ring(3);
        lab.crash(victim);
        let rest: Vec<u32> = (1..=3).filter(|&id| id != victim).collect();
        let took = lab.until_ring(&rest);
        assert!(took <= lab.config.token + lab.config.consensus + ms(30), "{victim}: took {took:?}");
        let regular = lab.regular(rest[0]);
        assert_eq!(regular.left, ids(&[victim]));
        // The member that notices first announces it, and the others learn it from there.
        let why = regular.why();
        assert!(why.starts_with("no token came for 300 ms") || why.contains("gave up the ring"), "{why}");
        let blamed =
            [format!("node {victim} did not answer within 360 ms"), format!("declared node {victim} failed")];
        assert!(blamed.iter().any(|blame| why.contains(blame)), "{why}");
        lab.check();
    }
}

#[test]
fn a_node_that_leaves_needs_no_timeout() {
    for leaver in [1, 3] {
        let mut lab = Lab::ring(3);
        lab.leave(leaver);
        let rest: Vec<u32> = (1..=3).filter(|&id| id != leaver).collect();
        let took = lab.until_ring(&rest);
        assert!(took < ms(60), "took {took:?}");
        assert_eq!(lab.regular(rest[0]).why(), format!("node {leaver} left"));
        assert_eq!(lab.events(leaver).last(), Some(&Event::Left(Cause::LeaveRequested)));
        assert_eq!(lab.try_send(leaver, Agreed, "late"), Err(MulticastError::Left));
        lab.check();
    }
}

#[test]
fn a_lost_leave_is_sent_again() {
    let mut lab = Lab::ring(3);
    let lost = Rc::new(Cell::new(0));
    let count = lost.clone();
    lab.filter(move |_, _, message, _| match message {
        Message::Join(join) if join.leave && count.get() < 4 => {
            count.set(count.get() + 1);
            Fate::Drop
        }
        _ => Fate::Deliver,
    });
    lab.leave(2);
    let took = lab.until_ring(&[1, 3]);
    assert_eq!(lost.get(), 4, "two copies each of two attempts");
    assert!(took < ms(90), "took {took:?}");
}

#[test]
fn a_joiner_is_admitted_and_reported_to_all_members() {
    let mut lab = Lab::ring(2);
    lab.start(3);
    lab.until_ring(&[1, 2, 3]);
    assert_eq!(lab.regular(1).joined, ids(&[3]));
    assert_eq!(lab.regular(3).joined, ids(&[1, 2]), "it had a ring of its own before");
    assert!(lab.regular(1).why().contains("node 3"));
    lab.check();
}

#[test]
fn a_split_makes_two_rings_and_healing_makes_one() {
    let mut lab = Lab::ring(5);
    lab.cut(&[1, 2, 3], &[4, 5]);
    lab.until_ring(&[1, 2, 3]);
    lab.until_ring(&[4, 5]);
    lab.send(1, Safe, "in the larger part");
    lab.send(5, Safe, "in the smaller part");
    lab.until("both delivered", |lab| lab.texts(3).len() == 1 && lab.texts(4).len() == 1);
    lab.calm();
    lab.until_ring(&[1, 2, 3, 4, 5]);
    assert_eq!(lab.texts(1), ["in the larger part"], "no message crosses into another ring");
    lab.check();
}

#[test]
fn rings_that_meet_while_one_is_under_load_merge() {
    let mut lab = Lab::ring(4);
    lab.cut(&[1, 2], &[3, 4]);
    lab.until_ring(&[1, 2]);
    lab.until_ring(&[3, 4]);
    for _ in 0..100 {
        lab.send_numbered(3, Agreed, 3000);
    }
    lab.calm();
    lab.until_ring(&[1, 2, 3, 4]);
    lab.until("all delivered", |lab| lab.texts(4).len() == 100);
    assert_eq!(lab.texts(3), lab.texts(4));
    lab.check();
}

#[test]
fn a_node_that_restarts_within_the_token_timeout_is_new() {
    // B01, B06: no member missed the node, and yet it left and joined again.
    for victim in [1, 3] {
        let mut lab = Lab::ring(3);
        lab.send(2, Agreed, "before");
        lab.run(ms(5));
        lab.crash(victim);
        lab.run(ms(20));
        lab.start(victim);
        lab.until_ring(&[1, 2, 3]);
        let regular = lab.regular(2);
        assert_eq!((&regular.left, &regular.joined), (&ids(&[victim]), &ids(&[victim])));
        assert_eq!(lab.texts(victim), [] as [&str; 0], "a new life begins without messages of the old one");
        lab.check();
    }
}

#[test]
fn survivors_recover_frames_that_one_of_them_lacks() {
    let mut lab = Lab::ring(3);
    lab.filter(|_, to, message, _| match message {
        Message::Multicast(_) if to == node(2) => Fate::Drop,
        _ => Fate::Deliver,
    });
    for n in 0..40 {
        lab.send_numbered(3, if n % 3 == 0 { Safe } else { Agreed }, 500);
    }
    lab.run(ms(10));
    lab.crash(3);
    lab.calm();
    lab.until_ring(&[1, 2]);
    assert_eq!(lab.texts(1), lab.texts(2));
    assert!(!lab.texts(2).is_empty());
    lab.check();
}

#[test]
fn hundreds_of_frames_are_recovered() {
    // B10: queues that were too small locked up after 206 recovery messages.
    let mut lab = Lab::new(1);
    lab.config.window_size = 600;
    lab.config.max_messages = 600;
    lab.config.miss_count_const = 2000;
    for id in 1..=3 {
        lab.start(id);
    }
    lab.until_ring(&[1, 2, 3]);
    lab.filter(|_, to, message, _| match message {
        Message::Multicast(_) if to == node(2) => Fate::Drop,
        _ => Fate::Deliver,
    });
    for _ in 0..600 {
        lab.send_numbered(1, Agreed, 1200);
    }
    lab.until("node 3 has them", |lab| lab.texts(3).len() == 600);
    lab.crash(1);
    lab.calm();
    lab.until_ring(&[2, 3]);
    assert_eq!(lab.texts(2).len(), 600);
    lab.check();
}

#[test]
fn an_idle_ring_is_quiet_and_wakes_at_once() {
    let mut lab = Lab::ring(3);
    lab.run(ms(1000));
    let before = lab.tokens;
    lab.run(ms(1000));
    let hold = lab.config.hold.as_millis() as u64;
    let rotations = (lab.tokens - before) / 3;
    assert!(rotations <= 1000 / hold + 2, "{rotations} rotations in a second, hold {hold} ms (T8)");
    for sender in [1, 2] {
        let text = format!("from {sender}");
        lab.send(sender, Agreed, &text);
        let took = lab.until("delivered", |lab| lab.texts(3).contains(&text));
        assert!(took < ms(3), "B37: a held token waits for nobody: {took:?}");
        lab.run(ms(1000));
    }
}

#[test]
fn a_recovery_flag_raised_only_by_damage_is_cleared() {
    lab::scenarios::a_flag_is_flipped();
}

#[test]
fn sequence_numbers_wrap_in_operation_and_in_recovery() {
    let mut lab = Lab::new(2);
    lab.config.first_seq = Seq::new(u32::MAX - 40);
    for id in 1..=3 {
        lab.start(id);
    }
    lab.until_ring(&[1, 2, 3]);
    lab.filter(|_, _, message, rng| match message {
        Message::Multicast(_) if rng.random_bool(0.1) => Fate::Drop,
        _ => Fate::Deliver,
    });
    for n in 0..200 {
        lab.send_numbered(1 + n % 3, if n % 2 == 0 { Safe } else { Agreed }, 1000);
    }
    lab.run(ms(15));
    lab.crash(3);
    lab.until_ring(&[1, 2]);
    lab.until("all delivered", |lab| lab.texts(1).len() == lab.texts(2).len() && lab.texts(1).len() > 130);
    lab.check();
}

#[test]
fn a_ring_of_all_forms_again_after_a_one_way_cut() {
    let mut lab = Lab::ring(3);
    // Node 3 receives from no other node, and all others receive from node 3.
    lab.cut_one_way(1, 3);
    lab.cut_one_way(2, 3);
    lab.run(ms(2000));
    lab.calm();
    lab.until_ring(&[1, 2, 3]);
    lab.check();
}

#[test]
fn another_member_retransmits_for_an_unheard_successor() {
    lab::scenarios::a_member_never_hears_its_successor();
}

#[test]
fn a_member_that_receives_no_frames_is_removed() {
    let mut lab = Lab::new(3);
    lab.config.fail_recv_const = 40;
    for id in 1..=3 {
        lab.start(id);
    }
    lab.until_ring(&[1, 2, 3]);
    lab.filter(|_, to, message, _| match message {
        Message::Multicast(frame) if to == node(3) && frame.from != node(3) => Fate::Drop,
        _ => Fate::Deliver,
    });
    lab.send(1, Safe, "for all");
    lab.until("the others go on", |lab| lab.texts(1).len() == 1 && lab.regular(1).members == ids(&[1, 2]));
    assert!(lab.regular(1).causes.iter().any(|cause| matches!(
        cause,
        Cause::FailedToReceive { .. } | Cause::FailedBy { .. } | Cause::JoinFrom { .. }
    )));
    lab.calm();
    lab.until_ring(&[1, 2, 3]);
    lab.check();
}

#[test]
fn a_paused_node_reports_the_pause_and_blames_no_member() {
    let mut lab = Lab::ring(3);
    let now = lab.now + ms(200);
    let late = lab.totem(2).poll_timeout().unwrap() + ms(100);
    lab.totem(2).handle_timeout(late.max(now));
    assert!(lab.totem(2).stats().stalls == 1);
    lab.run(ms(1));
    assert!(lab.events(2).iter().any(|event| matches!(event, Event::Stalled(_))));
    assert_eq!(lab.regular(2).members.len(), 3);
}

#[test]
fn sync_messages_precede_application_messages() {
    let mut lab = Lab::new(6);
    for id in 1..=3 {
        lab.start(id);
        let candidacy = format!("candidacy of {id}");
        lab.totem(id).set_sync_messages(Service::Quorate, vec![candidacy.into()]);
        lab.send(id, Agreed, "early");
    }
    lab.until_ring(&[1, 2, 3]);
    lab.run(ms(10));
    for id in 1..=3 {
        let mut in_ring: Option<BTreeSet<_>> = None;
        for event in lab.events(id) {
            match event {
                Event::Regular(_) => in_ring = Some(BTreeSet::new()),
                Event::Service(message) if message.service == Service::Quorate => {
                    assert_eq!(message.message, format!("candidacy of {}", message.from));
                    in_ring.as_mut().unwrap().insert(message.from);
                }
                Event::Synced(_) => {
                    assert_eq!(*in_ring.as_ref().unwrap(), lab.regular(id).members.clone());
                    in_ring = None;
                }
                Event::Deliver(_) => {
                    assert!(in_ring.is_none(), "node {id}: a message before the sync was done");
                }
                _ => {}
            }
        }
    }
}

/// Creates a ring of four members, one of which holds up its sync.
fn held_by(member: u32) -> Lab {
    let mut lab = Lab::ring(3);
    lab.holding.insert(node(member));
    lab.start(4);
    lab.until("the new ring", |lab| lab.regular(1).members.len() == 4);
    lab.run(ms(10));
    lab
}

#[test]
fn a_member_that_holds_the_sync_holds_up_all_until_it_goes_on() {
    let mut lab = held_by(2);
    lab.send(1, Agreed, "waits");
    let votes = NodeInfo { node: Some(node(2)), votes: 1, expected_votes: 4, flags: 0x70 };
    let votes = Body::NodeInfo(votes).encode();
    lab.totem(2).announce_votes(&votes);
    lab.run(ms(2000));
    let synced = |lab: &Lab, id| {
        let ring = lab.regular(id).ring;
        lab.events(id).iter().any(|event| *event == Event::Synced(ring))
    };
    for id in 1..=4 {
        assert!(!synced(&lab, id), "node {id}");
        assert_eq!(lab.texts(id), [""; 0], "node {id}");
        let announced = |event: &Event| matches!(event, Event::Service(said) if said.message == votes);
        assert!(lab.events(id).iter().any(announced), "node {id} hears of votes meanwhile");
    }
    lab.totem(2).end_hold();
    lab.run(ms(50));
    for id in 1..=4 {
        assert!(synced(&lab, id), "node {id}");
        assert_eq!(lab.texts(id), ["waits"], "node {id}");
    }
    assert_eq!(lab.regular(1).members.len(), 4, "the ring stood all the time");
}

#[test]
fn a_hold_ends_with_its_ring() {
    let mut lab = held_by(3);
    lab.crash(3);
    lab.send(1, Agreed, "goes on");
    lab.until("the next ring", |lab| lab.regular(1).members == ids(&[1, 2, 4]));
    lab.run(ms(100));
    assert_eq!(lab.texts(4), ["goes on"]);
}

#[test]
fn a_safe_message_behind_a_hole_survives_a_failed_recovery() {
    for alone in [true, false] {
        let mut lab = Lab::ring(4);
        // No node receives the frames of node 3, and node 4 sleeps through the first change.
        lab.filter(|from, _, message, _| match message {
            Message::Multicast(_) if from == node(3) => Fate::Drop,
            _ => Fate::Deliver,
        });
        lab.send(3, Agreed, "only node 3 has it");
        lab.run(ms(1));
        lab.send(1, Safe, "behind it");
        lab.run(ms(1));
        lab.crash(3);
        lab.stall(4, ms(5000));
        lab.until("node 1 goes on", |lab| lab.regular(1).members == ids(&[1, 2]));
        assert_eq!(lab.texts(1), ["behind it"]);
        // Node 2 loses the token that would have made it follow.
        lab.lose_all();
        assert_eq!(lab.regular(2).members.len(), 4);
        lab.calm();
        if alone {
            lab.cut(&[2], &[1, 4]);
            lab.until_ring(&[2]);
        } else {
            lab.cut(&[1], &[2, 4]);
            lab.stall(4, ms(0));
            lab.until_ring(&[2, 4]);
            assert_eq!(lab.texts(4), ["behind it"], "S8: who comes along learns what is owed");
        }
        assert_eq!(lab.texts(2), ["behind it"], "S15");
        lab.calm();
        lab.stall(4, ms(0));
        lab.until_ring(&[1, 2, 4]);
        lab.check();
    }
}

#[test]
fn one_pause_is_reported_once() {
    let mut lab = Lab::ring(2);
    lab.now = lab.now + ms(200);
    for _ in 0..3 {
        lab.deliver_raw(2, Some(1), &bytes::Bytes::from_static(b"what waited in the socket"));
    }
    assert_eq!(lab.totem(2).stats().stalls, 1);
}

#[test]
fn a_node_with_late_timers_notices_that_the_others_are_gone() {
    let mut lab = Lab::ring(2);
    lab.crash(1);
    lab.late(2, ms(90));
    lab.until_ring(&[2]);
}

#[test]
fn a_token_held_at_installation_is_released() {
    let mut lab = Lab::new(0);
    lab.config.seqno_unchanged_const = 3;
    for id in 1..=3 {
        lab.start(id);
    }
    let took = lab.until_ring(&[1, 2, 3]);
    assert!(took < ms(40), "{took:?}");
}

#[test]
fn requests_that_cannot_be_served_leave_the_retransmit_list() {
    let mut lab = Lab::ring(2);
    lab.send(1, Agreed, "all have it");
    lab.run(ms(100));
    let seen = Rc::new(RefCell::new(None));
    let last = seen.clone();
    lab.filter(move |_, _, message, _| {
        if let Message::Token(token) = message {
            *last.borrow_mut() = Some(token.clone());
        }
        Fate::Deliver
    });
    lab.until("node 1 has sent the token", |_| {
        seen.borrow().as_ref().is_some_and(|token| token.from == node(1))
    });
    lab.lose_all();
    let mut token = seen.take().unwrap();
    let old = Seq::new(1);
    token.rtr = vec![
        RtrEntry { ring: token.ring, seq: old },
        RtrEntry { ring: RingId { seq: 1, ..token.ring }, seq: old },
    ];
    lab.deliver_raw(2, Some(1), &wire::encode(&Message::Token(token), Order::Little));
    let forwarded = seen.take().unwrap();
    assert_eq!((forwarded.from, forwarded.rtr), (node(2), vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("CASES").map_or(40, |n| n.parse().unwrap())))]

    /// Applies loss, delay, duplication, cuts, crashes and restarts under load. Calm follows, and
    /// one ring must form.
    #[test]
    fn evs_holds_under_chaos_and_one_ring_forms_in_the_end(seed in any::<u64>()) {
        chaos(seed);
    }
}

/// Runs many seeds with `SEEDS=1..1000 cargo test --test ring seeds`. A failure names its seed.
#[test]
fn seeds_of_the_environment() {
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "0..20".into());
    let (start, end) = seeds.split_once("..").expect("SEEDS=first..end");
    for seed in start.parse::<u64>().unwrap()..end.parse().unwrap() {
        for (name, story) in [("chaos", chaos as fn(u64)), ("tempest", tempest)] {
            let run = std::panic::catch_unwind(|| story(seed));
            assert!(run.is_ok(), "seed {seed} of {name}");
        }
    }
}

#[test]
fn a_corosync_daemon_that_holds_the_token_is_asked_for_it() {
    lab::scenarios::a_corosync_daemon_holds_the_token_for_long();
}
