//! When messages are delivered: as late as their order and the ring's progress allow.

mod lockstep;

use lockstep::Lockstep;
use quorate_membership::{Event, Totem};

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
fn a_token_is_passed_on_before_what_came_with_it_is_delivered() {
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
fn who_delivers_late_delivers_the_same() {
    let mut ring = Lockstep::under_load(64);
    let before = ring.delivered.clone();
    ring.busy = Some(1);
    ring.rotate();
    let late = all(&mut ring.cores[1]) as u64;
    assert_eq!(late, ring.delivered[2] - before[2]);
}

#[test]
fn who_is_more_than_a_rotation_behind_delivers_before_the_token_goes_on() {
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
