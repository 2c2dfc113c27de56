//! Messages on an established ring: their order, guarantees, retransmission and flow control.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod lab;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use lab::{Fate, Lab, ms, node};
use quorate_membership::wire::Message;
use quorate_membership::{Cause, Event, Guarantee, MulticastError, Seq, Service, Totem};
use rand::Rng;

use Guarantee::{Agreed, Safe};

#[test]
fn all_members_including_the_sender_deliver_in_one_order() {
    let mut lab = Lab::ring(3);
    for round in 0..200 {
        for id in 1..=3 {
            lab.send_numbered(
                id,
                if (round + id) % 4 == 0 { Safe } else { Agreed },
                (round as usize * 37) % 900,
            );
        }
        if round % 7 == 0 {
            lab.run(ms(1));
        }
    }
    lab.until("all delivered", |lab| (1..=3).all(|id| lab.texts(id).len() == 600));
    assert_eq!(lab.texts(1), lab.texts(2));
    assert_eq!(lab.texts(2), lab.texts(3));
    lab.check();
}

#[test]
fn messages_of_any_length_up_to_a_mebibyte_arrive_whole() {
    let mut lab = Lab::ring(3);
    let lengths = [0, 1, 1190, 1200, 1201, 1202, 1203, 1400, 1401, 2800, 65_536, 1 << 20];
    for (n, &length) in lengths.iter().enumerate() {
        lab.try_send(2, Agreed, vec![n as u8; length]).unwrap();
    }
    lab.until("all delivered", |lab| lab.deliveries(3).len() == lengths.len());
    for (n, delivery) in lab.deliveries(3).iter().enumerate() {
        assert_eq!(delivery.payload.len(), lengths[n]);
        assert!(delivery.payload.iter().all(|&byte| byte == n as u8));
    }
}

/// Returns a payload whose parts all differ.
fn long(first: u8, length: usize) -> Bytes {
    (0..length).map(|n| first.wrapping_add((n % 251) as u8)).collect()
}

#[test]
fn a_message_in_parts_arrives_whole_and_in_order_between_others() {
    let mut lab = Lab::ring(3);
    let (one, three) = (long(1, (3 << 20) + 1), long(3, 2 << 20));
    lab.send(1, Agreed, "before");
    lab.try_send(1, Safe, one.clone()).unwrap();
    lab.send(1, Agreed, "after");
    lab.try_send(3, Agreed, three.clone()).unwrap();
    for _ in 0..20 {
        lab.run(ms(1));
        lab.send_numbered(2, Safe, 900);
    }
    lab.until("all delivered", |lab| (1..=3).all(|id| lab.deliveries(id).len() == 24));
    let order = |id| lab.deliveries(id).iter().map(|delivery| delivery.payload.clone()).collect::<Vec<_>>();
    assert_eq!(order(1), order(2));
    assert_eq!(order(2), order(3));
    let sent = order(1);
    let place = |payload: &[u8]| sent.iter().position(|delivered| *delivered == payload).unwrap();
    let places = [place(b"before"), place(&one), place(b"after")];
    assert!(places.is_sorted() && places[2] - places[0] > 10, "others came between: {places:?}");
    assert!(place(&three) < sent.len());
    lab.check();
}

#[test]
fn a_message_in_parts_survives_a_ring_change_at_any_part() {
    let mut started_over = BTreeSet::new();
    for seed in 0..18 {
        let mut lab = Lab::new(seed);
        (1..=3).for_each(|id| lab.start(id));
        lab.until_ring(&[1, 2, 3]);
        let ring = lab.regular(1).ring;
        lab.try_send(1, if seed % 2 == 0 { Safe } else { Agreed }, long(1, (3 << 20) + 1)).unwrap();
        lab.send(1, Agreed, "after");
        lab.try_send(2, Agreed, long(2, 2 << 20)).unwrap();
        let pause = lab.rng.random_range(0..80);
        lab.run(ms(pause));
        let unsent = lab.totem_of(1).queued();
        let members: &[u32] = match seed % 3 {
            0 => &[1, 2, 3, 4],
            _ => &[1, 2],
        };
        match seed % 3 {
            0 => lab.start(4),
            1 => lab.crash(3),
            _ => lab.cut(&[3], &[1, 2]),
        }
        lab.until_ring(members);
        lab.until("all delivered", |lab| (1..=2).all(|id| lab.deliveries(id).len() == 3));
        let mut delivered = lab.deliveries(1).into_iter();
        if delivered.any(|delivery| delivery.payload.len() > 3 << 20 && delivery.ring != ring) {
            started_over.insert(unsent >> 20);
        }
        lab.calm();
        lab.until_ring(if seed % 3 == 2 { &[1, 2, 3] } else { members });
        lab.check();
    }
    assert_eq!(started_over, BTreeSet::from([1, 2, 3]), "MiB that were left to send");
}

#[test]
fn a_message_beyond_the_queue_waits_until_it_is_empty() {
    let mut lab = Lab::new(1);
    lab.start(1);
    let longest = long(0, Totem::MAX_PAYLOAD);
    lab.send(1, Agreed, "before");
    assert_eq!(lab.try_send(1, Agreed, longest.clone()), Err(MulticastError::Full));
    lab.until("the queue is empty", |lab| lab.totem_of(1).queued() == 0);
    lab.try_send(1, Agreed, longest.clone()).unwrap();
    assert_eq!(lab.try_send(1, Agreed, "after"), Err(MulticastError::Full));
    lab.until("delivered", |lab| lab.deliveries(1).len() == 2);
    assert_eq!(lab.deliveries(1)[1].payload, longest);
    let length = Totem::MAX_PAYLOAD + 1;
    assert_eq!(lab.try_send(1, Agreed, long(0, length)), Err(MulticastError::TooLong { length }));
}

#[test]
fn queued_messages_keep_within_their_bound_across_a_ring_change() {
    const OVERHEAD: usize = 10_000;
    let mut lab = Lab::new(2);
    lab.start(1);
    lab.until_ring(&[1]);
    lab.try_send(1, Agreed, long(0, Totem::MAX_PAYLOAD)).unwrap();
    assert!((Totem::MAX_PAYLOAD..Totem::MAX_PAYLOAD + OVERHEAD).contains(&lab.totem_of(1).queued()));
    lab.until("there is room for more", |lab| lab.totem_of(1).queued() < Totem::QUEUE / 2);
    let mut count = 1;
    while lab.try_send(1, Agreed, long(count, 100_000)).is_ok() {
        count += 1;
    }
    lab.start(2);
    lab.until("it starts over", |lab| lab.regular(1).members.len() == 2);
    let queued = lab.totem_of(1).queued();
    let most = Totem::MAX_PAYLOAD + Totem::QUEUE + OVERHEAD;
    assert!((Totem::MAX_PAYLOAD..=most).contains(&queued), "{queued} bytes are queued");
    lab.until("delivered", |lab| (1..=2).all(|id| lab.deliveries(id).len() == usize::from(count)));
    assert_eq!(lab.deliveries(2)[0].payload.len(), Totem::MAX_PAYLOAD);
    lab.check();
}

#[test]
fn a_safe_message_waits_until_every_member_has_it() {
    let mut lab = Lab::ring(3);
    // Node 3 misses every frame. The others have the message but do not know that all have it.
    lab.filter(|_, to, message, _| match message {
        Message::Multicast(_) if to == node(3) => Fate::Drop,
        _ => Fate::Deliver,
    });
    lab.send(1, Agreed, "agreed");
    lab.send(1, Safe, "safe");
    lab.send(1, Agreed, "behind");
    lab.run(ms(60));
    assert_eq!(lab.texts(1), ["agreed"], "an agreed message waits behind a safe one");
    assert_eq!(lab.texts(3), [] as [&str; 0]);
    lab.calm();
    lab.until("all delivered", |lab| (1..=3).all(|id| lab.texts(id) == ["agreed", "safe", "behind"]));
    lab.check();
}

#[test]
fn an_unacknowledged_safe_message_is_delivered_in_transition() {
    let mut lab = Lab::ring(3);
    lab.filter(|_, to, message, _| match message {
        Message::Multicast(_) if to == node(3) => Fate::Drop,
        _ => Fate::Deliver,
    });
    lab.send(1, Safe, "safe");
    lab.run(ms(20));
    lab.crash(3);
    lab.until_ring(&[1, 2]);
    for id in [1, 2] {
        let events = lab.events(id);
        let transitional = events.iter().rposition(|event| matches!(event, Event::Transitional(_))).unwrap();
        let delivered = events.iter().position(|event| matches!(event, Event::Deliver(_))).unwrap();
        let regular = events.iter().rposition(|event| matches!(event, Event::Regular(_))).unwrap();
        assert!(transitional < delivered && delivered < regular);
    }
    lab.check();
}

#[test]
fn lost_frames_are_sent_again_until_all_have_them() {
    let mut lab = Lab::ring(3);
    lab.filter(|_, _, message, rng| match message {
        Message::Multicast(_) if rng.random_bool(0.25) => Fate::Drop,
        _ => Fate::Deliver,
    });
    for n in 0..300 {
        lab.send_numbered(1 + n % 3, if n % 5 == 0 { Safe } else { Agreed }, (n as usize * 97) % 4000);
    }
    lab.until("all delivered", |lab| (1..=3).all(|id| lab.texts(id).len() == 300));
    assert!(lab.totem(1).stats().retransmits > 0);
    assert_eq!(lab.regular(1).members.len(), 3, "no ring was given up");
    lab.check();
}

#[test]
fn the_lost_last_frame_of_a_burst_is_requested() {
    // B31: requests cover all numbers up to the token's, not just up to the last frame received.
    let mut lab = Lab::ring(2);
    let lost = Rc::new(Cell::new(false));
    let once = lost.clone();
    lab.filter(move |_, to, message, _| match message {
        Message::Multicast(frame) if to == node(2) && !once.get() && frame.payload.len() > 100 => {
            once.set(true);
            Fate::Drop
        }
        _ => Fate::Deliver,
    });
    lab.send(1, Agreed, "the last word");
    lab.until("delivered", |lab| lab.texts(2) == ["the last word"]);
    assert!(lost.get());
}

#[test]
fn a_service_message_does_not_split_a_long_message() {
    let mut lab = Lab::new(2);
    lab.config.max_messages = 1;
    (1..=2).for_each(|id| lab.start(id));
    lab.until_ring(&[1, 2]);
    let begun = Rc::new(Cell::new(false));
    let sees = Rc::clone(&begun);
    lab.filter(move |_, _, message, _| {
        sees.set(sees.get() || matches!(message, Message::Multicast(frame) if frame.payload.len() > 1000));
        Fate::Deliver
    });
    lab.send_numbered(1, Agreed, 9000);
    lab.until("a part of it is on the ring", |_| begun.get());
    assert!(lab.totem(1).say(Service::Quorate, &b"in between"[..].into()));
    lab.until("S7: it is delivered", |lab| (1..=2).all(|id| lab.deliveries(id).len() == 1));
    lab.check();
}

#[test]
fn a_service_message_overtakes_parts_of_a_long_message() {
    let mut lab = Lab::ring(2);
    lab.try_send(1, Agreed, long(1, 5 << 20)).unwrap();
    lab.run(ms(5));
    assert!(lab.totem(1).say(Service::Quorate, &b"in between"[..].into()));
    let is_said = |event: &Event| matches!(event, Event::Service(said) if said.message == "in between");
    lab.until("it is delivered", |lab| lab.events(2).iter().any(is_said));
    assert!(lab.deliveries(2).is_empty());
    let unsent = lab.totem_of(1).queued();
    assert!((3 << 20..5 << 20).contains(&unsent), "{unsent} bytes were not sent");
    lab.until("all is delivered", |lab| (1..=2).all(|id| lab.deliveries(id).len() == 1));
    lab.check();
}

#[test]
fn a_window_filled_only_by_damage_is_reset() {
    lab::scenarios::a_bit_of_the_window_is_flipped();
}

#[test]
fn a_full_send_queue_rejects_messages() {
    let mut lab = Lab::ring(2);
    lab.cut(&[1], &[2]);
    let mut accepted = 0;
    let error = loop {
        match lab.try_send(1, Agreed, vec![0; 100_000]) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, MulticastError::Full);
    assert!((30..=45).contains(&accepted), "four mebibytes, not {accepted} x 100 kB");
}

#[test]
fn a_consumer_past_the_unread_limit_leaves_the_ring() {
    let mut lab = Lab::new(4);
    lab.config.unread_limit = 400_000;
    for id in 1..=2 {
        lab.start(id);
    }
    lab.until_ring(&[1, 2]);
    lab.read_events(2, false);
    let mut sent = 0;
    while !lab.events(2).iter().any(|event| matches!(event, Event::Left(_))) {
        while lab.try_send(1, Agreed, vec![sent as u8; 1200]).is_ok() {
            sent += 1;
        }
        lab.run(ms(1));
    }
    assert!(matches!(
        lab.events(2).last(),
        Some(Event::Left(Cause::EventsUnread { bytes })) if *bytes > 400_000
    ));
    lab.until_ring(&[1]);
    assert_eq!(lab.regular(1).why(), "node 2 left");
}

#[test]
fn a_window_is_the_smallest_that_a_member_announces() {
    let mut lab = Lab::new(4);
    for (id, frames) in [(1, 400), (2, 300), (3, 1000)] {
        lab.config.largest_window = frames;
        lab.start(id);
    }
    lab.until_ring(&[1, 2, 3]);
    lab.until("the windows are agreed on", |lab| lab.windows(&[1, 2, 3]) == [300; 3]);
    // A full queue is sent in large steps once nothing has been lost for a while.
    let (mut most, mut sent) = (0, 0);
    for _ in 0..500 {
        while lab.try_send(1, Agreed, format!("{sent:>1200}")).is_ok() {
            sent += 1;
        }
        let before = lab.totem_of(1).snapshot().ring.high;
        lab.run(Duration::from_micros(100));
        most = most.max(before.distance_to(lab.totem_of(1).snapshot().ring.high));
    }
    assert!((51..=300).contains(&most), "{most} frames at a visit");
    lab.check();
}

#[test]
fn a_silent_member_keeps_the_configured_window() {
    lab::scenarios::one_member_says_nothing_of_its_window();
}

#[test]
fn a_full_window_still_allows_retransmission() {
    let mut lab = Lab::new(0);
    lab.config.window_size = 4096;
    lab.config.max_messages = 4096;
    lab.config.miss_count_const = 8;
    lab.config.netmtu = 128;
    for id in 1..=2 {
        lab.start(id);
    }
    lab.until_ring(&[1, 2]);
    let rings = lab.totem(1).stats().rings;
    let mut lost = false;
    lab.filter(move |_, _, message, _| match message {
        Message::Multicast(frame) if frame.seq == Seq::new(100) && !lost => {
            lost = true;
            Fate::Drop
        }
        _ => Fate::Deliver,
    });
    lab.try_send(1, Agreed, vec![0; 1 << 20]).unwrap();
    lab.until("delivered", |lab| lab.deliveries(2).len() == 1);
    assert_eq!(lab.totem(1).stats().rings, rings, "and nobody is put out for it");
}

#[test]
fn a_member_that_holds_the_token_sends_at_once() {
    let mut lab = Lab::ring(3);
    lab.run(ms(1000));
    lab.send(1, Agreed, "first");
    assert_eq!(lab.texts(1), ["first"]);
    lab.send(1, Agreed, "second");
    lab.until("delivered", |lab| lab.texts(3).len() == 2);
    assert_eq!(lab.texts(3), ["first", "second"]);
    lab.check();
}

#[test]
fn a_visit_that_sends_does_not_end_with_the_token_held() {
    let mut lab = Lab::ring(3);
    // One of these pauses ends just as the ring is found idle.
    for pause in (5_000..15_000).step_by(50).map(Duration::from_micros) {
        lab.send_numbered(1, Safe, 10);
        let sent = lab.texts(1).len();
        let took = lab.until("delivered", |lab| lab.texts(3).len() > sent);
        assert!(took < ms(2), "a safe message waits for the token after {pause:?}: {took:?}");
        lab.run(pause);
    }
}
