//! Benchmarks of a message's cost in a bare core: accepting it, packing and sending it at the
//! token's visit, and receiving it.

#[path = "../tests/lockstep/mod.rs"]
mod lockstep;

use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use lockstep::{Datagram, Lockstep};
use quorate_membership::{Event, Group, Guarantee, Origin, Time, Totem};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
        .sample_size(30)
        .configure_from_args();
    for size in [64, 1350] {
        messages(&mut criterion, size);
    }
    criterion.final_summary();
}

fn messages(criterion: &mut Criterion, size: usize) {
    let mut ring = Lockstep::under_load(size);
    let token = ring.until_token();
    let (now, sender, receiver) =
        (ring.now + Duration::from_micros(1), ring.cores[0].clone(), ring.cores[1].clone());
    ring.step();
    let frames: Vec<Datagram> = std::iter::from_fn(|| ring.next())
        .filter(|datagram| datagram.to == 1 && datagram.is_frame())
        .collect();

    let mut group =
        criterion.benchmark_group(format!("{size} bytes a message, {} frames a visit", frames.len()));
    const ACCEPTED: usize = 100;
    group.throughput(Throughput::Elements(ACCEPTED as u64));
    let payload = Bytes::from(vec![7; size]);
    let name = Group::new(Bytes::from_static(b"bench")).expect("it has a length");
    let idle = Lockstep::ring();
    group.bench_function("accept 100", |b| {
        let accept = |core: &mut Totem| {
            for _ in 0..ACCEPTED {
                let accepted = core.multicast(idle.now, 1, &name, Guarantee::Agreed, &payload);
                accepted.expect("there is room");
            }
        };
        b.iter_batched_ref(|| idle.cores[0].clone(), accept, BatchSize::PerIteration);
    });
    let visit = |core: &mut Totem| take(core, now, std::slice::from_ref(&token));
    let delivered = visit(&mut sender.clone());
    group.throughput(Throughput::Elements(delivered));
    group.bench_function(format!("visit that sends {delivered}"), |b| {
        b.iter_batched_ref(|| sender.clone(), visit, BatchSize::PerIteration);
    });
    let receive = |core: &mut Totem| take(core, now, &frames);
    let delivered = receive(&mut receiver.clone());
    group.throughput(Throughput::Elements(delivered));
    group.bench_function(format!("receipt of {delivered}"), |b| {
        b.iter_batched_ref(|| receiver.clone(), receive, BatchSize::PerIteration);
    });
    group.finish();
}

/// Passes datagrams to a core and drains its outputs. Returns the number of delivered messages.
fn take(core: &mut Totem, now: Time, datagrams: &[Datagram]) -> u64 {
    let mut delivered = 0;
    for Datagram { from, bytes, .. } in datagrams {
        core.handle_datagram(now, Origin::of(Some(*from)), bytes);
        while core.poll_transmit().is_some() {}
        while let Some(event) = core.poll_event() {
            delivered += u64::from(matches!(event, Event::Deliver(_)));
            core.consumed(now, event.cost());
        }
    }
    delivered
}
