//! Clusters with different names that share a group and a port.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use bytes::Bytes;
use quorate_membership::wire::{
    self, Announcement, ClusterTag, Join, MergeDetect, Message, Order, announced,
};
use quorate_membership::{
    Config, Destination, Event, NodeId, Notice, Origin, Refusal, RingId, Stored, Time, Totem,
};

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn tag(name: &str) -> Announcement {
    Announcement { cluster: Some(ClusterTag::of(name.as_bytes())), listed: None }
}

fn join(from: u32) -> Message {
    let proc = vec![node(from), node(9)];
    Message::Join(Join { from: node(from), leave: false, ring_seq: 4, proc, failed: vec![node(9)] })
}

fn merge_detect(from: u32) -> Message {
    let ring = RingId { representative: node(from), seq: 40 };
    Message::MergeDetect(MergeDetect { from: node(from), ring })
}

fn bytes(message: &Message) -> Bytes {
    wire::encode(message, Order::Little)
}

/// A node of the cluster `here`, alone in its ring.
struct Here {
    totem: Totem,
    now: Time,
    left: bool,
}

impl Here {
    fn new(cluster_name: Option<&str>) -> Self {
        let mut config = Config::new(node(1));
        config.cluster_name = cluster_name.map(Into::into);
        let totem = Totem::new(&config, Stored::default(), [7; 32], Time::default()).unwrap();
        let mut here = Self { totem, now: Time::default(), left: false };
        while here.totem.members().is_empty() {
            here.step();
        }
        here
    }

    /// Fires the next timer and delivers the datagrams that the node sends to itself.
    fn step(&mut self) -> Vec<Bytes> {
        self.now = self.totem.poll_timeout().unwrap().max(self.now);
        self.totem.handle_timeout(self.now);
        self.drain()
    }

    /// Returns the node's multicasts.
    fn drain(&mut self) -> Vec<Bytes> {
        let mut multicasts = Vec::new();
        loop {
            if let Some(stored) = self.totem.must_store() {
                self.totem.handle_stored(self.now, stored);
            }
            let Some(transmit) = self.totem.poll_transmit() else { break };
            match transmit.to {
                Destination::Everyone => multicasts.push(transmit.datagram),
                Destination::Member(_) => {
                    self.totem.handle_datagram(self.now, Origin::of(Some(node(1))), &transmit.datagram);
                }
            }
        }
        while let Some(event) = self.totem.poll_event() {
            self.left |= matches!(event, Event::Left(_));
        }
        multicasts
    }

    /// Delivers a datagram from host `host`. The sender is unknown unless `peer` names it.
    fn hear(&mut self, host: u8, peer: Option<u32>, datagram: &Bytes) -> Vec<Bytes> {
        let source = Some(([10, 0, 0, host], 5404).into());
        let origin = Origin { source, outranks_us: true, ..Origin::of(peer.map(node)) };
        self.totem.handle_datagram(self.now, origin, datagram);
        self.drain()
    }

    fn rejected(&self) -> u64 {
        self.totem.stats().refused.get(&Refusal::OtherCluster).copied().unwrap_or_default()
    }
}

#[test]
fn joins_and_merge_detects_announce_the_cluster() {
    for message in [join(1), merge_detect(1)] {
        let plain = bytes(&message);
        let with = tag("here").append_to(&plain);
        assert_eq!(with.len(), plain.len() + 12);
        assert!(with.starts_with(&plain), "corosync reads the same message");
        assert_eq!(wire::decode(&with), Ok(message));
        assert_eq!(announced(&with), Some(tag("here")));
        assert_eq!(announced(&plain), Some(Announcement::default()));
        for length in plain.len() + 1..with.len() {
            let cut = with.slice(..length);
            assert_eq!(
                (wire::decode(&cut), announced(&cut)),
                (Err(Refusal::TrailingBytes), Some(Announcement::default()))
            );
        }
    }
    assert_eq!(announced(b"noise"), None);
}

#[test]
fn a_node_list_is_announced_with_and_without_a_cluster() {
    for cluster in [None, tag("here").cluster] {
        let listed = Some([7, 1, 300].into_iter().filter_map(NodeId::new).collect());
        let announcement = Announcement { cluster, listed };
        let plain = bytes(&join(1));
        let with = announcement.append_to(&plain);
        assert_eq!(wire::decode(&with), Ok(join(1)));
        assert_eq!(announced(&with), Some(announcement));
        let tagged = plain.len() + if cluster.is_some() { 12 } else { 0 };
        for length in (plain.len() + 1..with.len()).filter(|length| *length != tagged) {
            assert_eq!(wire::decode(&with.slice(..length)), Err(Refusal::TrailingBytes), "{length}");
        }
    }
}

#[test]
fn a_malformed_node_list_is_rejected() {
    let list = |count: u16, ids: &[u32]| {
        let mut datagram = bytes(&join(1)).to_vec();
        datagram.extend(b"QRL1");
        datagram.extend(count.to_le_bytes());
        ids.iter().for_each(|id| datagram.extend(id.to_le_bytes()));
        wire::decode(&datagram.into()).map(|_| ())
    };
    assert_eq!(list(2, &[1, 2]), Ok(()));
    let many: Vec<u32> = (1..=385).collect();
    let malformed: [(u16, &[u32]); 7] =
        [(1, &[1, 2]), (3, &[1, 2]), (2, &[2, 1]), (2, &[1, 1]), (1, &[0]), (u16::MAX, &[1]), (385, &many)];
    for (count, ids) in malformed {
        assert_eq!(list(count, ids), Err(Refusal::TrailingBytes), "{count} {ids:?}");
    }
}

#[test]
fn a_node_announces_its_cluster_in_everything_for_strangers() {
    let mut here = Here::new(Some("here"));
    let mut said = Vec::new();
    while said.len() < 3 {
        said.extend(here.step());
    }
    said.extend(here.hear(2, Some(2), &tag("here").append_to(&bytes(&join(2)))));
    here.totem.leave(here.now);
    said.extend(here.drain());
    let kinds = said.iter().map(|datagram| match wire::decode(datagram).unwrap() {
        Message::MergeDetect(_) => "merge detect",
        Message::Join(join) if join.leave => "leave",
        Message::Join(_) => "join",
        other => panic!("{other:?}"),
    });
    let kinds = kinds.collect::<std::collections::BTreeSet<_>>();
    assert!(kinds.contains("merge detect") && kinds.contains("join"), "{kinds:?}");
    assert!(said.iter().all(|datagram| announced(datagram) == Some(tag("here"))));
}

#[test]
fn another_cluster_is_ignored_and_informed_of_this_one() {
    let mut here = Here::new(Some("here"));
    let ring = here.totem.ring();
    let there = tag("there");
    let answer = here.hear(2, Some(2), &there.append_to(&bytes(&join(2))));
    assert_eq!(answer.len(), 1, "it may wait for this node");
    assert_eq!(announced(&answer[0]), Some(tag("here")));
    let is_probe = matches!(wire::decode(&answer[0]), Ok(Message::MergeDetect(_)));
    assert!(is_probe, "a JOIN would take it in");
    assert!(here.hear(2, Some(2), &there.append_to(&bytes(&join(2)))).is_empty(), "one answer is enough");
    // From now on, the other cluster is recognised by its source, whatever it sends.
    let frame = wire::encode(
        &Message::HoldCancel(wire::HoldCancel {
            from: node(2),
            ring: RingId { representative: node(2), seq: 8 },
        }),
        Order::Little,
    );
    here.hear(2, Some(2), &frame);
    here.hear(3, None, &there.append_to(&bytes(&merge_detect(3))));
    assert_eq!((here.rejected(), here.totem.ring()), (4, ring));
    let notices = here.totem.stats().notices.iter().map(|(notice, _)| *notice).collect::<Vec<_>>();
    assert_eq!(notices, [Notice::OtherCluster { cluster: ClusterTag::of(b"there") }]);
}

#[test]
fn another_clusters_node_of_our_id_does_not_make_us_leave() {
    let announced = tag("there").append_to(&bytes(&join(1)));
    for (datagram, leaves) in [(announced, false), (bytes(&join(1)), true)] {
        let mut here = Here::new(Some("here"));
        here.hear(2, None, &datagram);
        assert_eq!(here.left, leaves);
    }
}

#[test]
fn corosync_daemons_without_announcement_are_accepted() {
    for name in [Some("here"), None] {
        let mut here = Here::new(name);
        let answer = here.hear(2, Some(2), &bytes(&join(2)));
        assert!(answer.iter().any(|datagram| {
            matches!(wire::decode(datagram), Ok(Message::Join(join)) if join.proc.contains(&node(2)))
        }));
        assert_eq!(here.rejected(), 0);
    }
}

#[cfg(feature = "mutants")]
#[test]
#[should_panic(expected = "a JOIN would take it in")]
fn a_node_that_accepts_another_cluster_is_caught() {
    let _active = quorate_membership::mutants::Mutant::OtherClusterHeard.activate();
    another_cluster_is_ignored_and_informed_of_this_one();
}
