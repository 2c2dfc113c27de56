//! The number of allocations for each message in an established ring.

mod lockstep;

use allocation_counter::measure;
use lockstep::Lockstep;

/// The allocations for each message, by step.
#[derive(Debug)]
struct Cost {
    /// At the sender, when its core takes the message from the application.
    accepted: f64,
    /// At the sender, when it has the token: the message is packed, numbered, sent and delivered.
    sent: f64,
    /// At another member, when the frame arrives and when that member has the token.
    received: f64,
}

fn cost(size: usize) -> Cost {
    const ROTATIONS: u32 = 20;
    let mut ring = Lockstep::under_load(size);
    let [mut accepted, mut sent, mut received] = [0; 3];
    let mut taken = 0;
    let before = ring.delivered.clone();
    for _ in 0..ROTATIONS {
        accepted += measure(|| taken += ring.fill(size)).count_total;
        ring.until_token();
        while let Some(datagram) = ring.next() {
            let count = measure(|| ring.arrive(&datagram)).count_total;
            let of = if datagram.to == 0 { &mut sent } else { &mut received };
            *of += count;
            if ring.token_is_next() {
                break;
            }
        }
    }
    let delivered: Vec<u64> =
        ring.delivered.iter().zip(&before).map(|(after, before)| after - before).collect();
    assert!(delivered.iter().all(|&delivered| delivered > 1000), "the ring works: {delivered:?}");
    let per = |count: u64, messages: u64| count as f64 / messages as f64;
    Cost {
        accepted: per(accepted, taken),
        sent: per(sent, delivered[0]),
        received: per(received, delivered[1] + delivered[2]),
    }
}

/// Checks that a message of this size costs at most `bound`, which is slightly more than was
/// measured.
#[track_caller]
fn check(size: usize, bound: &Cost) {
    let cost = cost(size);
    println!("{size} bytes: {cost:?}");
    let within =
        cost.accepted <= bound.accepted && cost.sent <= bound.sent && cost.received <= bound.received;
    assert!(within, "{size} bytes: {cost:?}, at most {bound:?}");
}

#[test]
fn a_message_that_shares_its_frame_costs_few_allocations() {
    check(64, &Cost { accepted: 0.1, sent: 1.3, received: 0.4 });
}

#[test]
fn a_message_split_in_two_costs_few_allocations() {
    check(1350, &Cost { accepted: 0.1, sent: 6.5, received: 2.1 });
}
