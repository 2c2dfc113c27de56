//! Benchmarks of decoding and encoding messages.

#[path = "../tests/lockstep/mod.rs"]
mod lockstep;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use lockstep::Lockstep;
use quorate_membership::wire::body::{Body, SERVICES};
use quorate_membership::wire::packing::{Addressed, Packet};
use quorate_membership::wire::{self, Message, Multicast, Order, RtrEntry, Token};
use quorate_membership::{NodeId, RingId, Seq};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    token(&mut criterion, 0);
    token(&mut criterion, Token::MAX_RTR);
    frame(&mut criterion, 1, 1150);
    frame(&mut criterion, 5, 64);
    criterion.final_summary();
}

fn token(criterion: &mut Criterion, missing: usize) {
    let me = NodeId::new(1).expect("it is not 0");
    let ring = RingId { representative: me, seq: 8 };
    let token = Message::Token(Token {
        from: me,
        seq: Seq::new(7000),
        token_seq: Seq::new(9000),
        aru: Seq::new(6900),
        aru_addr: Some(me),
        ring,
        backlog: 100,
        fcc: 50,
        retrans_flg: false,
        rtr: (0..missing as u32).map(|n| RtrEntry { ring, seq: Seq::new(6901 + n) }).collect(),
    });
    let datagram = wire::encode(&token, Order::Little);
    let mut group = criterion.benchmark_group(format!("token that asks for {missing}"));
    group.bench_function("decode", |b| b.iter(|| wire::decode(black_box(&datagram))));
    group.bench_function("encode", |b| b.iter(|| wire::encode(black_box(&token), Order::Little)));
    group.finish();
}

/// Returns a frame with `messages` messages of `size` bytes.
fn frame_of(messages: u64, size: usize) -> Bytes {
    let mut ring = Lockstep::ring();
    ring.offer(size, messages);
    loop {
        match ring.next() {
            Some(datagram) if datagram.is_frame() => return datagram.bytes,
            Some(datagram) => ring.arrive(&datagram),
            None => ring.step(),
        }
    }
}

fn frame(criterion: &mut Criterion, messages: u64, size: usize) {
    let datagram = &frame_of(messages, size);
    let frame = decoded(datagram);
    let packet = Packet::decode(&frame.payload).expect("it is ours");
    assert_eq!((packet.pieces.len() as u64, packet.fragmented), (messages, 0), "they are in it, whole");
    let mut group = criterion.benchmark_group(format!("frame of {messages} x {size} bytes"));
    group.throughput(Throughput::Elements(messages));
    group.bench_function("decode the frame", |b| b.iter(|| wire::decode(black_box(datagram))));
    group.bench_function("decode all that is in it", |b| {
        b.iter(|| {
            let frame = decoded(black_box(datagram));
            let packet = Packet::decode(&frame.payload).expect("it is ours");
            for piece in &packet.pieces {
                let body = Addressed::decode(piece).expect("it is ours").body;
                black_box(Body::decode_in(SERVICES, &body, Order::Little).expect("it is ours"));
            }
        });
    });
    group.bench_function("pack the messages", |b| b.iter(|| black_box(&packet).encode()));
    let message = Message::Multicast(frame);
    group.bench_function("encode the frame", |b| b.iter(|| wire::encode(black_box(&message), Order::Little)));
    group.finish();
}

fn decoded(datagram: &Bytes) -> Multicast {
    match wire::decode(datagram) {
        Ok(Message::Multicast(frame)) => frame,
        other => panic!("not a frame: {other:?}"),
    }
}
