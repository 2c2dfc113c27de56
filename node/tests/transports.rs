//! Checks the promises of every transport: the path and the sockets under it. Tests in `local` run
//! on this host's loopback. The others run between network namespaces, over IPv4 and IPv6, which
//! needs root; without root, they print that they were skipped and pass.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate::transport::{BindError, News, Packet, Path, Sockets, Udp};
use quorate_membership::config::{Config, Member, TransportKind};
use quorate_membership::wire::{self, Join, Message, Order};
use quorate_membership::{Destination, NodeId, Origin, Time, Transmit};
use tokio::time::timeout;

/// Creates three hosts in network namespaces, or skips the test.
macro_rules! namespaces {
    () => {
        match Bed::on(MULTICAST) {
            Ok(bed) => bed,
            Err(why) => return eprintln!("skipped: no network namespaces ({why}); run as root"),
        }
    };
}

macro_rules! within_a_host {
    ($($test:ident)*) => {
        mod local {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(&super::Bed::loopback()).await;
            })*
        }
    };
}

macro_rules! between_hosts {
    ($module:ident, $net:expr, $($test:ident)*) => {
        mod $module {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                match Bed::on($net) {
                    Ok(bed) => super::$test(&bed).await,
                    Err(why) => eprintln!("skipped: no network namespaces ({why}); run as root"),
                }
            })*
        }
    };
}

macro_rules! on_every_transport {
    ($($test:ident)*) => {
        within_a_host! { $($test)* }
        between_hosts! { multicast, MULTICAST, $($test)* }
        between_hosts! { multicast_over_ipv6, MULTICAST_V6, $($test)* }
        between_hosts! { unicast, UNICAST, $($test)* }
        between_hosts! { unicast_over_ipv6, UNICAST_V6, $($test)* }
    };
}

macro_rules! with_a_group {
    ($($test:ident)*) => {
        mod with_a_group {
            use super::*;
            within_a_host! { $($test)* }
            between_hosts! { multicast, MULTICAST, $($test)* }
            between_hosts! { multicast_over_ipv6, MULTICAST_V6, $($test)* }
        }
    };
}

/// A transport between hosts, and the version of IP.
type Net = (TransportKind, bool);

const MULTICAST: Net = (TransportKind::Multicast, false);
const MULTICAST_V6: Net = (TransportKind::Multicast, true);
const UNICAST: Net = (TransportKind::Unicast, false);
const UNICAST_V6: Net = (TransportKind::Unicast, true);

on_every_transport! {
    a_multicast_reaches_all_members_except_its_sender
    a_unicast_reaches_only_its_member
    a_multicast_comes_before_a_unicast_sent_later
    datagrams_of_a_kind_keep_their_order
    batched_datagrams_arrive_as_they_were_sent
    received_datagrams_stay_unchanged_while_more_arrive
    a_unicast_passes_a_flood_of_multicasts
    the_longest_datagram_arrives_and_a_longer_one_is_lost
    an_empty_datagram_arrives
    only_the_datagram_for_an_unknown_member_is_lost
    a_closed_port_is_reported_and_nothing_else_is_lost
    a_dropped_recv_loses_no_datagram
    a_dropped_send_leaves_unsent_datagrams_in_the_batch
    a_port_in_use_is_an_error_that_names_it
    an_unlisted_sender_is_not_a_peer
}

with_a_group! {
    without_a_list_peers_are_learnt_from_joins
    an_id_at_a_second_address_is_not_a_peer
}

async fn a_multicast_reaches_all_members_except_its_sender(bed: &Bed) {
    let [mut a, mut b, mut c] = bed.listed();
    send(&mut a, [(Destination::Everyone, "x")]).await;
    assert_eq!(hear(&mut b, 1).await, [(Some(1), "x".into())]);
    assert_eq!(hear(&mut c, 1).await, [(Some(1), "x".into())]);
    hear_nothing(&mut a).await;
    hear_nothing(&mut b).await;
}

async fn a_unicast_reaches_only_its_member(bed: &Bed) {
    let [mut a, mut b, mut c] = bed.listed();
    send(&mut a, [(to(2), "for b")]).await;
    assert_eq!(hear(&mut b, 1).await, [(Some(1), "for b".into())]);
    hear_nothing(&mut c).await;
    hear_nothing(&mut a).await;
}

async fn a_multicast_comes_before_a_unicast_sent_later(bed: &Bed) {
    const ROUNDS: usize = 1000;
    let [mut a, mut b, _c] = bed.listed();
    let sending = tokio::spawn(async move {
        for round in 0..ROUNDS {
            send(&mut a, [(Destination::Everyone, "frame"), (to(2), "token")]).await;
            if round % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut frames = 0;
    let mut tokens = 0;
    while tokens < ROUNDS {
        for (_, datagram) in hear(&mut b, 1).await {
            match &datagram[..] {
                b"frame" => frames += 1,
                _ => tokens += 1,
            }
            assert!(frames >= tokens, "token {tokens} overtook its frame");
        }
    }
    sending.await.unwrap();
}

async fn datagrams_of_a_kind_keep_their_order(bed: &Bed) {
    let [mut a, mut b, _c] = bed.listed();
    for to in [Destination::Everyone, to(2)] {
        let texts: Vec<String> = (0..500).map(|n| n.to_string()).collect();
        for part in texts.chunks(100) {
            send(&mut a, part.iter().map(|text| (to, text.as_str()))).await;
            let heard = hear(&mut b, part.len()).await;
            assert!(heard.iter().map(|(_, datagram)| &datagram[..]).eq(part.iter().map(String::as_bytes)));
        }
    }
}

/// Covers frames of one length, shorter last frames, rising and falling lengths, more frames than
/// fit in one call, and frames longer than the MTU.
async fn batched_datagrams_arrive_as_they_were_sent(bed: &Bed) {
    let [mut a, mut b, mut c] = bed.listed();
    let lengths: [&[usize]; 7] = [
        &[1400; 70],
        &[1400, 1400, 1400, 7, 1400, 1400, 900],
        &[10, 20, 30, 20, 20, 1, 1, 2],
        &[1, 1, 1, 1472, 1472, 1473, 1472],
        &[0, 0, 5, 5, 0, 5],
        &[9000, 9000, 9000, 100],
        &[30_000, 30_000, 30_000],
    ];
    for (to, others) in [(Destination::Everyone, 2), (to(2), 1)] {
        for lengths in lengths {
            let bytes = |n: usize| (0..n).map(move |at| (at * 7 + n) as u8);
            let sent: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(n, length)| bytes(length + n).skip(n).collect()).collect();
            send(&mut a, sent.iter().map(|datagram| (to, datagram))).await;
            for receiver in [&mut b, &mut c].into_iter().take(others) {
                let heard = hear(receiver, sent.len()).await;
                assert!(heard.iter().all(|(from, _)| *from == Some(1)));
                assert!(heard.iter().map(|(_, datagram)| datagram).eq(&sent), "{lengths:?}");
            }
        }
    }
    assert_eq!(a.sockets.unsent(), 0);
}

/// Buffers are reused only after every part of them has been dropped.
async fn received_datagrams_stay_unchanged_while_more_arrive(bed: &Bed) {
    let [mut a, mut b, _c] = bed.listed();
    let mut kept = Vec::new();
    for round in 0..200_u32 {
        let datagram = |n: u32| [round * 50 + n; 350].map(u32::to_le_bytes).concat();
        send(&mut a, (0..45).map(|n| (Destination::Everyone, datagram(n)))).await;
        let heard = hear(&mut b, 45).await;
        kept.extend(
            (0..45).map(datagram).zip(heard.into_iter().map(|(_, heard)| heard)).skip(round as usize % 45),
        );
    }
    assert!(kept.iter().all(|(sent, heard)| sent[..] == heard[..]));
}

async fn a_unicast_passes_a_flood_of_multicasts(bed: &Bed) {
    let [mut a, mut b, _c] = bed.listed();
    send(&mut a, [(to(2), "token")]).await;
    for _ in 0..200 {
        // Sends more than a batch each time before the previous batch is received.
        send(&mut a, (0..80).map(|_| (Destination::Everyone, "noise"))).await;
        tokio::time::sleep(Duration::from_micros(100)).await;
        if hear(&mut b, 1).await.contains(&(Some(1), "token".into())) {
            return;
        }
    }
    panic!("the token never came");
}

async fn the_longest_datagram_arrives_and_a_longer_one_is_lost(bed: &Bed) {
    // The header of IPv6 does not count toward the length of a packet.
    let longest = if bed.address(1).is_ipv6() { 65_527 } else { 65_507 };
    let [mut a, mut b, _c] = bed.listed();
    let text = "x".repeat(longest + 1);
    let mut unsent = 0;
    for to in [Destination::Everyone, to(2)] {
        send(&mut a, [(to, &text[1..]), (to, &text), (to, "small")]).await;
        let heard = hear(&mut b, 2).await;
        assert_eq!(heard[0].1.len(), longest);
        assert_eq!(heard[1].1, "small");
        unsent += a.path.addresses(to).count() as u64;
        assert_eq!(a.sockets.unsent(), unsent);
    }
}

async fn an_empty_datagram_arrives(bed: &Bed) {
    let [mut a, mut b, _c] = bed.listed();
    send(&mut a, [(Destination::Everyone, ""), (to(2), "")]).await;
    assert_eq!(hear(&mut b, 2).await.len(), 2);
}

async fn only_the_datagram_for_an_unknown_member_is_lost(bed: &Bed) {
    let [mut a, mut b, _c] = bed.listed();
    send(&mut a, [(to(9), "for nobody"), (to(2), "for b")]).await;
    assert_eq!(hear(&mut b, 1).await, [(Some(1), "for b".into())]);
    assert_eq!((a.path.unknown(), a.sockets.unsent()), (1, 0));
}

async fn a_closed_port_is_reported_and_nothing_else_is_lost(bed: &Bed) {
    let [mut a, b, mut c] = bed.listed();
    assert_eq!(a.refused(), None);
    drop(b);
    // The kernel sends at most a thousand of these reports a second for all hosts of a machine, and
    // other tests cause some too, so a single report may be missing.
    for _ in 0..3 {
        let mut batch = Vec::new();
        let refused = async {
            loop {
                send(&mut a, [(to(2), "token")]).await;
                if let Ok(received) = timeout(Duration::from_millis(200), a.recv(&mut batch)).await {
                    break received.unwrap();
                }
            }
        };
        timeout(Duration::from_secs(20), refused).await.unwrap();
        assert_eq!((a.refused(), batch.len()), (Some(node(2)), 0));
        while let Some(again) = a.refused() {
            assert_eq!(again, node(2));
        }
    }
    // The kernel may report it in place of sending the next datagram, whatever its destination.
    for round in ["1", "2", "3"] {
        send(&mut a, [(to(2), round), (Destination::Everyone, round), (to(3), round)]).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(hear(&mut c, 2).await, [(Some(1), round.into()), (Some(1), round.into())]);
    }
    assert_eq!(a.sockets.unsent(), 0);
}

async fn a_dropped_recv_loses_no_datagram(bed: &Bed) {
    const EACH: usize = 300;
    let [mut a, mut b, _c] = bed.listed();
    let sending = tokio::spawn(async move {
        for _ in 0..EACH {
            send(&mut a, [(Destination::Everyone, "frame"), (to(2), "token")]).await;
            tokio::task::yield_now().await;
        }
        a
    });
    let mut heard = Vec::new();
    timeout(Duration::from_secs(10), async {
        while heard.len() < 2 * EACH {
            tokio::select! {
                biased;
                received = b.recv(&mut heard) => received.unwrap(),
                () = std::future::ready(()) => tokio::task::yield_now().await,
            }
        }
    })
    .await
    .expect("something was taken and not given");
    sending.await.unwrap();
    hear_nothing(&mut b).await;
}

async fn a_dropped_send_leaves_unsent_datagrams_in_the_batch(bed: &Bed) {
    let [mut a, mut b, _c] = bed.listed();
    let mut batch: VecDeque<_> = (0..100).map(|n| transmit(to(2), &n.to_string())).collect();
    a.path.send(a.now(), &mut batch, &mut a.packets);
    while !a.packets.is_empty() {
        // At any point where the future is dropped, the batch holds exactly the unsent datagrams.
        let _ = timeout(Duration::from_micros(20), a.sockets.send(&mut a.packets)).await;
    }
    let heard = hear(&mut b, 100).await;
    assert!((0..100).map(|n| n.to_string()).eq(heard.iter().map(|(_, text)| text_of(text))));
}

async fn a_port_in_use_is_an_error_that_names_it(bed: &Bed) {
    let _first = bed.open(&bed.config(1, &[1, 2])).unwrap();
    let error = bed.open(&bed.config(1, &[1, 2])).unwrap_err();
    assert!(matches!(error, BindError::PortInUse { .. }), "{error:?}");
    let (ip, port) = (bed.address(1), bed.config(1, &[]).port());
    assert!(error.to_string().starts_with(&format!("UDP port {port} of {ip} is in use; stop")), "{error}");
}

async fn an_unlisted_sender_is_not_a_peer(bed: &Bed) {
    let mut a = bed.open(&bed.config(1, &[1, 2])).unwrap();
    let mut c = bed.open(&bed.config(3, &[1, 2, 3])).unwrap();
    send(&mut c, [(Destination::Everyone, join(3)), (to(1), "token".into())]).await;
    assert!(hear(&mut a, 2).await.iter().all(|(peer, _)| peer.is_none()));
}

async fn without_a_list_peers_are_learnt_from_joins(bed: &Bed) {
    let mut a = bed.open(&bed.config(1, &[])).unwrap();
    let mut b = bed.open(&bed.config(2, &[])).unwrap();
    send(&mut a, [(to(2), "too early")]).await;
    assert_eq!(a.path.unknown(), 1);
    send(&mut b, [(Destination::Everyone, "who am I".into()), (Destination::Everyone, join(2))]).await;
    let heard = hear(&mut a, 2).await;
    assert_eq!([heard[0].0, heard[1].0], [None, Some(2)]);
    send(&mut a, [(to(2), "for b")]).await;
    assert_eq!(text_of(&hear(&mut b, 1).await[0].1), "for b");
}

async fn an_id_at_a_second_address_is_not_a_peer(bed: &Bed) {
    let mut a = bed.open(&bed.config(1, &[])).unwrap();
    let mut b = bed.open(&bed.config(2, &[])).unwrap();
    let mut c = bed.open(&bed.config(3, &[])).unwrap();
    send(&mut b, [(Destination::Everyone, &join(2))]).await;
    assert_eq!(hear(&mut a, 1).await[0].0, Some(2));
    send(&mut c, [(Destination::Everyone, &join(2)), (Destination::Everyone, &join(1))]).await;
    let heard = hear(&mut a, 2).await;
    assert_eq!([heard[0].0, heard[1].0], [None, None], "neither the known one's id nor our own");
}

#[tokio::test]
async fn nodes_at_one_address_are_told_apart_by_their_ports() {
    let bed = Bed::loopback();
    let configs = [1, 2].map(|id| {
        let mut config = bed.config(id, &[1, 2]);
        let port = config.port();
        for (member, port) in config.nodes.iter_mut().zip([port, port + 2]) {
            member.address = bed.address(1);
            member.port = Some(port);
        }
        config
    });
    let [mut a, mut b] = configs.map(|config| bed.open(&config).unwrap());
    send(&mut a, [(Destination::Everyone, "x"), (to(2), "y")]).await;
    assert_eq!(hear(&mut b, 2).await, [(Some(1), "x".into()), (Some(1), "y".into())]);
    send(&mut b, [(Destination::Everyone, "z")]).await;
    assert_eq!(hear(&mut a, 1).await, [(Some(2), "z".into())]);
    hear_nothing(&mut b).await;
}

#[tokio::test]
async fn an_invalid_local_ring_is_an_error_with_a_reason() {
    let bed = Bed::loopback();
    let check = |change: fn(&mut Config), message: &str| {
        let mut config = bed.config(1, &[1, 2]);
        change(&mut config);
        let error = bed.open(&config).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    };
    check(|config| config.nodes[1].address = [10, 0, 0, 1].into(), "10.0.0.1 is not a loopback address");
    check(
        |config| config.nodes.iter_mut().for_each(|node| node.address = "::1".parse().unwrap()),
        "transport `local` works with IPv4 only",
    );
    check(
        |config| config.nodes[1].address = "::1".parse().unwrap(),
        "::1, the address of node 2, is of another IP",
    );
    check(|config| config.nodes[1].address = config.nodes[0].address, "nodes 1 and 2 are both at 127.");
    check(
        |config| config.network.group = Some([10, 0, 0, 1].into()),
        "mcastaddr 10.0.0.1 is not a multicast address",
    );
    check(|config| config.network.port = Some(1), "port 1 has no port below it");
}

#[tokio::test]
async fn an_interface_that_goes_down_loses_only_datagrams() {
    let bed = namespaces!();
    let [mut a, mut b, _c] = bed.listed();
    bed.ip_within(2, "link set eth0 down").unwrap();
    send(&mut b, [(Destination::Everyone, "lost"), (to(1), "lost")]).await;
    assert!(b.sockets.unsent() > 0);
    bed.ip_within(2, "link set eth0 up").unwrap();
    // The network takes a moment to notice.
    for _ in 0..100 {
        send(&mut b, [(Destination::Everyone, "back")]).await;
        if timeout(Duration::from_millis(100), hear(&mut a, 1)).await.is_ok() {
            break;
        }
    }
    send(&mut a, [(Destination::Everyone, "welcome"), (to(2), "token")]).await;
    assert_eq!(hear(&mut b, 2).await, [(Some(1), "welcome".into()), (Some(1), "token".into())]);
}

between_hosts! { late_multicast, MULTICAST, a_node_waits_for_a_late_address }
between_hosts! { late_multicast_over_ipv6, MULTICAST_V6, a_node_waits_for_a_late_address }
between_hosts! { late_unicast, UNICAST, a_node_waits_for_a_late_address }
between_hosts! { late_unicast_over_ipv6, UNICAST_V6, a_node_waits_for_a_late_address }

/// An address that IPv6 has not checked for duplicates yet is not there either.
async fn a_node_waits_for_a_late_address(bed: &Bed) {
    let own = bed.address(2);
    let (length, other) = if own.is_ipv6() { (64, "fd00:77::9 nodad") } else { (24, "10.77.0.9") };
    bed.ip_within(2, &format!("addr del {own}/{length} dev eth0")).unwrap();
    // In the same network, but not the listed address.
    let other = other.replacen(' ', &format!("/{length} dev eth0 "), 1);
    let other = if own.is_ipv6() { other } else { format!("{other}/{length} dev eth0") };
    bed.ip_within(2, &format!("addr add {other}")).unwrap();
    let [mut a, mut b, _c] = bed.listed();
    send(&mut b, [(Destination::Everyone, "lost"), (to(1), "lost")]).await;
    assert!(b.sockets.unsent() >= 2);
    hear_nothing(&mut a).await;
    bed.ip_within(2, &format!("addr add {own}/{length} dev eth0")).unwrap();
    hear_each_other(&mut a, &mut b).await;
}

between_hosts! { absent, UNICAST, hosts_that_are_down_hold_up_no_other }

/// The system holds what is sent to a host that does not answer, in the buffer of the socket.
async fn hosts_that_are_down_hold_up_no_other(bed: &Bed) {
    let listed: Vec<u32> = (1..=12).collect();
    let mut a = bed.open(&bed.config(1, &listed)).unwrap();
    let mut b = bed.open(&bed.config(2, &listed)).unwrap();
    let started = Instant::now();
    for _ in 0..100 {
        send(&mut a, (0..50).map(|_| (Destination::Everyone, [0; 1400]))).await;
        assert!(hear(&mut b, 50).await.len() >= 50);
    }
    // Each of the nine waits for room once, for a tenth of a second.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_recreated_interface_is_joined_again() {
    let bed = namespaces!();
    let [mut a, mut b, _c] = bed.listed();
    hear_each_other(&mut a, &mut b).await;
    bed.ip_within(2, "link del eth0").unwrap();
    hear_nothing(&mut b).await;
    bed.plug(2, "eth0").unwrap();
    hear_each_other(&mut a, &mut b).await;
}

#[tokio::test]
async fn an_interface_recreated_with_its_old_index_is_joined_again() {
    let bed = namespaces!();
    let [mut a, mut b, _c] = bed.listed();
    let index = bed.index_of(2, "eth0");
    hear_each_other(&mut a, &mut b).await;
    bed.ip_within(2, "link del eth0").unwrap();
    bed.plug(2, &format!("eth0 index {index}")).unwrap();
    assert_eq!(bed.index_of(2, "eth0"), index);
    hear_each_other(&mut a, &mut b).await;
}

#[tokio::test]
async fn an_address_that_moves_to_a_bridge_is_followed() {
    let bed = namespaces!();
    let [mut a, mut b, _c] = bed.listed();
    hear_each_other(&mut a, &mut b).await;
    for step in [
        "link add br0 type bridge mcast_snooping 0",
        "link set eth0 master br0",
        "link set br0 up",
        // For a moment both interfaces have the address.
        "addr add 10.77.0.2/24 dev br0",
        "addr del 10.77.0.2/24 dev eth0",
    ] {
        bed.ip_within(2, step).unwrap();
    }
    hear_each_other(&mut a, &mut b).await;
}

/// Checks that both receive each other's multicasts and unicasts within seconds.
async fn hear_each_other(a: &mut Link, b: &mut Link) {
    let mut batch = Vec::new();
    for round in 0..100 {
        let text = format!("round {round}");
        for (from, to) in [(&mut *a, to(2)), (&mut *b, to(1))] {
            send(from, [(Destination::Everyone, &text), (to, &text)]).await;
        }
        let mut heard = [0, 0];
        for (heard, receiver) in heard.iter_mut().zip([&mut *a, &mut *b]) {
            while timeout(Duration::from_millis(30), receiver.recv(&mut batch)).await.is_ok() {
                *heard += batch.drain(..).filter(|(_, datagram)| text_of(datagram) == text).count();
            }
        }
        if heard == [2, 2] {
            return;
        }
    }
    panic!("they do not hear each other");
}

/// The place where the nodes of a test run.
enum Bed {
    /// Loopback addresses that no other test uses.
    Loopback { test: u32 },
    /// A network namespace for each node, all on one bridge in another namespace, `hub`.
    Namespaces { prefix: String, net: Net },
}

const NODES: u32 = 3;
static TESTS: AtomicU32 = AtomicU32::new(0);

impl Bed {
    fn loopback() -> Self {
        let test = TESTS.fetch_add(1, Ordering::Relaxed) + (std::process::id() << 6);
        Self::Loopback { test }
    }

    fn on(net: Net) -> Result<Self, String> {
        let prefix = format!("qt{}x{}", std::process::id(), TESTS.fetch_add(1, Ordering::Relaxed));
        let bed = Self::Namespaces { prefix: prefix.clone(), net };
        let hub = format!("{prefix}hub");
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add hub type bridge mcast_snooping 0"))?;
        ip(&format!("-n {hub} link set hub up"))?;
        for id in 1..=NODES {
            ip(&format!("netns add {prefix}n{id}"))?;
            bed.ip_within(id, "link set lo up")?;
            bed.plug(id, "eth0")?;
        }
        // A bridge loses frames until its ports have noticed that they are up.
        for _ in 0..500 {
            let mut ready = ip(&format!("-n {hub} -d -o link show"))?.matches("state forwarding").count();
            for id in 1..=NODES {
                ready += ip(&format!("-n {prefix}n{id} -o link show eth0"))?.matches("state UP").count();
            }
            if ready == 2 * NODES as usize {
                return Ok(bed);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("the bridge does not forward".to_owned())
    }

    /// Gives host `id` an interface on the bridge with the host's address.
    fn plug(&self, id: u32, name: &str) -> Result<(), String> {
        let Self::Namespaces { prefix, .. } = self else { return Err("no namespaces here".to_owned()) };
        let hub = format!("{prefix}hub");
        self.ip_within(id, &format!("link add {name} type veth peer name port{id} netns {hub}"))?;
        ip(&format!("-n {hub} link set port{id} master hub up"))?;
        match self.address(id) {
            IpAddr::V4(address) => self.ip_within(id, &format!("addr add {address}/24 dev eth0"))?,
            // Without a search for duplicates, which takes a second.
            IpAddr::V6(address) => self.ip_within(id, &format!("addr add {address}/64 dev eth0 nodad"))?,
        }
        self.ip_within(id, "link set eth0 up")
    }

    fn index_of(&self, id: u32, interface: &str) -> u32 {
        let Self::Namespaces { prefix, .. } = self else { panic!("no namespaces here") };
        let line = ip(&format!("-n {prefix}n{id} -o link show {interface}")).unwrap();
        line.split(':').next().unwrap().parse().unwrap()
    }

    fn address(&self, id: u32) -> IpAddr {
        match self {
            Self::Loopback { test } => [127, (test >> 8) as u8, *test as u8, id as u8].into(),
            Self::Namespaces { net: (_, true), .. } => {
                Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, id as u16).into()
            }
            Self::Namespaces { .. } => [10, 77, 0, id as u8].into(),
        }
    }

    /// Returns the configuration of node `id`, with the nodes `listed` in its node list.
    fn config(&self, id: u32, listed: &[u32]) -> Config {
        let mut config = Config::new(node(id));
        config.network.bind = Some(self.address(id));
        match self {
            Self::Loopback { test } => {
                config.network.transport = TransportKind::Local;
                config.network.group = Some([239, 193, (test >> 8) as u8, *test as u8].into());
                config.network.port = Some(20_000 + (test % 10_000) as u16 * 4);
            }
            Self::Namespaces { net: (transport, v6), .. } => {
                config.network.transport = *transport;
                let group = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 1);
                config.network.group = v6.then_some(group.into());
            }
        }
        config.nodes = listed.iter().map(|id| Member::new(node(*id), self.address(*id))).collect();
        config
    }

    fn open(&self, config: &Config) -> Result<Link, BindError> {
        let (sockets, path) = self.within(config.node.get(), || Udp::bind(config))?;
        Ok(Link { path, sockets, packets: VecDeque::new(), news: Vec::new(), started: Instant::now() })
    }

    /// Opens three nodes with a node list.
    fn listed(&self) -> [Link; NODES as usize] {
        [1, 2, 3].map(|id| self.open(&self.config(id, &[1, 2, 3])).unwrap())
    }

    /// Runs `task` in the namespace of node `id`. Sockets stay in the namespace where they were
    /// created.
    fn within<R: Send>(&self, id: u32, task: impl FnOnce() -> R + Send) -> R {
        let Self::Namespaces { prefix, .. } = self else { return task() };
        let runtime = tokio::runtime::Handle::current();
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                let namespace = File::open(format!("/run/netns/{prefix}n{id}")).unwrap();
                rustix::thread::move_into_link_name_space(namespace.as_fd(), None).unwrap();
                let _entered = runtime.enter();
                task()
            });
            there.join().unwrap()
        })
    }

    fn ip_within(&self, id: u32, arguments: &str) -> Result<(), String> {
        match self {
            Self::Namespaces { prefix, .. } => ip(&format!("-n {prefix}n{id} {arguments}")).map(drop),
            Self::Loopback { .. } => Err("no namespaces here".to_owned()),
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Self::Namespaces { prefix, .. } = self {
            for name in ["hub", "n1", "n2", "n3"] {
                let _ = ip(&format!("netns del {prefix}{name}"));
            }
        }
    }
}

/// Runs `ip` and returns its output.
fn ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn to(id: u32) -> Destination {
    Destination::Member(node(id))
}

fn transmit(to: Destination, text: &str) -> Transmit {
    Transmit { to, datagram: Bytes::copy_from_slice(text.as_bytes()) }
}

/// Returns a JOIN that claims to be from this node.
fn join(id: u32) -> Bytes {
    let message = Join { from: node(id), leave: false, ring_seq: 1, proc: vec![node(id)], failed: vec![] };
    wire::encode(&Message::Join(message), Order::Little)
}

/// A path and its sockets, used as the driver uses them.
#[derive(Debug)]
struct Link {
    path: Path,
    sockets: Udp,
    packets: VecDeque<Packet>,
    news: Vec<News>,
    started: Instant,
}

impl Link {
    fn now(&self) -> Time {
        Time::default() + self.started.elapsed()
    }

    async fn send(&mut self, batch: &mut VecDeque<Transmit>) -> io::Result<()> {
        self.path.send(self.now(), batch, &mut self.packets);
        self.sockets.send(&mut self.packets).await
    }

    /// Waits for datagrams of other nodes, or for news.
    async fn recv(&mut self, batch: &mut Vec<(Origin, Bytes)>) -> io::Result<()> {
        let before = (batch.len(), self.news.len());
        while (batch.len(), self.news.len()) == before {
            let mut packets = Vec::new();
            self.sockets.recv(&mut packets).await?;
            for packet in packets {
                let origin = self.path.handle_packet(self.now(), packet.address, &packet.datagram);
                batch.extend(origin.map(|origin| (origin, packet.datagram)));
            }
            self.news.extend(std::iter::from_fn(|| self.sockets.poll_news()));
        }
        Ok(())
    }

    /// Returns the next node whose host has reported that no socket receives there.
    fn refused(&mut self) -> Option<NodeId> {
        match self.news.pop()? {
            News::Refused(address) => self.path.node_at(address),
            other => panic!("{other:?}"),
        }
    }
}

async fn send<B: AsRef<[u8]>>(transport: &mut Link, what: impl IntoIterator<Item = (Destination, B)>) {
    let transmits =
        what.into_iter().map(|(to, bytes)| Transmit { to, datagram: Bytes::copy_from_slice(bytes.as_ref()) });
    let mut batch = transmits.collect();
    transport.send(&mut batch).await.unwrap();
    assert!(batch.is_empty());
}

/// Receives at least `count` datagrams, each with its peer.
async fn hear(transport: &mut Link, count: usize) -> Vec<(Option<u32>, Bytes)> {
    let mut batch: Vec<(Origin, Bytes)> = Vec::new();
    while batch.len() < count {
        let heard = timeout(Duration::from_secs(5), transport.recv(&mut batch)).await;
        heard.unwrap_or_else(|_| panic!("{} of {count} datagrams came", batch.len())).unwrap();
    }
    batch.into_iter().map(|(origin, datagram)| (origin.peer.map(NodeId::get), datagram)).collect()
}

async fn hear_nothing(transport: &mut Link) {
    let mut batch = Vec::new();
    let heard = timeout(Duration::from_millis(100), transport.recv(&mut batch)).await;
    assert!(heard.is_err(), "{batch:?}");
}

fn text_of(datagram: &Bytes) -> String {
    String::from_utf8_lossy(datagram).into_owned()
}
