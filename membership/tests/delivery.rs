//! The times at which messages are sent and delivered: as late as their order and the ring's
//! progress allow.

mod lockstep;

use lockstep::Lockstep;
use quorate_membership::{Event, Guarantee, Origin, Totem};

fn messages(mut next: impl FnMut() -> Option<Event>) -> usize {
    std::iter::from_fn(&mut next).filter(|event| matches!(event, Event::Deliver(_))).count()
}

fn urgent(core: &mut Totem) -> usize {
    messages(|| core.poll_urgent_event())
}

fn all(core: &mut Totem) -> usize {
    messages(|| core.poll_event())
}

#[test]
fn a_token_is_passed_on_before_its_frames_are_delivered() {
    let mut ring = Lockstep::under_load(64);
    ring.busy = Some(1);
    let before = ring.cores[1].stats().tokens;
    ring.rotate();
    let core = &mut ring.cores[1];
    assert_eq!(core.stats().tokens, before + 1, "it went all the way round");
    assert_eq!(urgent(core), 0);
    assert!(all(core) > 1000);
}

#[test]
fn late_delivery_gives_the_same_events() {
    let mut ring = Lockstep::under_load(64);
    ring.busy = Some(1);
    ring.until_token();
    let (mut prompt, mut late) = (ring.cores[1].clone(), ring.cores[1].clone());
    let events = |core: &mut Totem| -> Vec<Event> { std::iter::from_fn(|| core.poll_event()).collect() };
    events(&mut prompt);
    events(&mut late);
    let mut delivered = Vec::new();
    ring.step();
    while let Some(datagram) = ring.next().filter(|_| !ring.token_is_next()) {
        if datagram.to == 1 {
            let origin = Origin::of(Some(datagram.from));
            prompt.handle_datagram(ring.now, origin, &datagram.bytes);
            delivered.extend(events(&mut prompt));
            late.handle_datagram(ring.now, origin, &datagram.bytes);
        }
        ring.arrive(&datagram);
    }
    assert!(delivered.len() > 1000);
    assert!(events(&mut late) == delivered);
}

#[test]
fn frames_older_than_a_rotation_are_delivered_before_the_token() {
    let mut ring = Lockstep::under_load(64);
    ring.busy = Some(1);
    let mut told = 0;
    for _ in 0..40 {
        ring.fill(64);
        ring.rotate();
        told += urgent(&mut ring.cores[1]);
    }
    assert!(told > 10_000, "the ring went on, and so did what is delivered: {told}");
    assert!(all(&mut ring.cores[1]) < 10_000, "no more than a rotation waits");
    assert!(!ring.cores[1].members().is_empty());
}

/// Returns how many frames of a visit leave before the token, and how many after it.
fn around_token(guarantee: Guarantee, messages: u64) -> (usize, usize) {
    let mut ring = Lockstep::agreed();
    ring.until_token();
    ring.offer_to(0, guarantee, 1000, messages);
    ring.step();
    let sent: Vec<_> =
        std::iter::from_fn(|| ring.next()).filter(|sent| sent.is_token() || sent.to == 1).collect();
    let before = sent.iter().take_while(|sent| !sent.is_token()).count();
    (before, sent.len() - before - 1)
}

#[test]
fn a_token_goes_ahead_of_a_few_agreed_frames_only() {
    assert_eq!(around_token(Guarantee::Agreed, 3), (0, 3));
    assert_eq!(around_token(Guarantee::Agreed, 40), (17, 0));
    assert_eq!(around_token(Guarantee::Safe, 3), (3, 0));
}

#[test]
fn a_token_rests_once_all_know_that_all_have_every_frame() {
    for (guarantee, messages) in [(Guarantee::Agreed, 1), (Guarantee::Safe, 1), (Guarantee::Safe, 100)] {
        for sender in 0..3 {
            let mut ring = Lockstep::agreed();
            ring.until_rest();
            let before = (ring.delivered.clone(), ring.cores[0].stats().tokens);
            ring.offer_to(sender, guarantee, 64, messages);
            ring.until_rest();
            let told: Vec<u64> =
                ring.delivered.iter().zip(before.0).map(|(now, before)| now - before).collect();
            assert_eq!(told, [messages; 3], "nobody, {sender} neither, had to wait for the token to go on");
            let rotations = ring.cores[0].stats().tokens - before.1;
            assert!((3..=6).contains(&rotations), "{rotations}");
        }
    }
}

#[test]
fn hold_cancel_goes_only_to_the_holder_if_all_members_are_ours() {
    for (mut ring, last, asked) in [
        (Lockstep::agreed(), 0, vec![0]),
        (Lockstep::agreed(), 1, vec![1]),
        (Lockstep::plain(), 1, vec![0, 1]),
    ] {
        ring.offer_to(last, Guarantee::Agreed, 64, 1);
        ring.until_rest();
        ring.offer_to(2, Guarantee::Agreed, 64, 1);
        assert_eq!(ring.receivers(), asked);
        let asks = ring.next().unwrap();
        assert!(asks.is_hold_cancel());
        ring.arrive(&asks);
        assert!(std::iter::from_fn(|| ring.next()).any(|datagram| datagram.is_token()), "it goes on at once");
    }
}

#[test]
fn a_token_rests_with_the_last_sender_if_all_members_are_ours() {
    let holders = |ring: &Lockstep| -> Vec<bool> {
        ring.cores.iter().map(|core| core.snapshot().holds_token).collect()
    };
    for sender in 0..3 {
        for (mut ring, holder) in [(Lockstep::agreed(), sender), (Lockstep::plain(), 0)] {
            ring.offer_to(sender, Guarantee::Safe, 64, 1);
            ring.until_rest();
            let expect: Vec<bool> = (0..3).map(|core| core == holder).collect();
            assert_eq!(holders(&ring), expect, "member {sender} sent last");
            for _ in 0..3 {
                ring.step();
                ring.until_rest();
            }
            assert_eq!(holders(&ring), expect, "an idle ring's token comes back there");
        }
    }
}

#[test]
fn the_last_sender_sends_again_without_waiting() {
    for sender in 0..3 {
        let mut ring = Lockstep::agreed();
        ring.offer_to(sender, Guarantee::Agreed, 64, 1);
        ring.until_rest();
        ring.offer_to(sender, Guarantee::Agreed, 64, 1);
        let delivered = ring.delivered[sender];
        assert_eq!(delivered, 2, "it has its place in the order, and nobody has heard of it");
        assert!(std::iter::from_fn(|| ring.next()).any(|datagram| datagram.is_frame()));
    }
}
