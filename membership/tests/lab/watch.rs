//! Checks during a run, with knowledge of all nodes and of the network.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_membership::config::TotemConfig;
use quorate_membership::wire::{self, Message, Token};
use quorate_membership::{Delivery, Event, Guarantee, NodeId, Phase, RingId, Seq, Totem, Transmit};

use super::Lab;

/// The knowledge about all nodes.
#[derive(Default)]
pub(super) struct Seen {
    /// The frames of each ring that each node received while it accepted frames, or that it sent.
    received: BTreeSet<(NodeId, RingId, u32)>,
    /// The bytes of each frame.
    frames: BTreeMap<(RingId, u32), Bytes>,
    /// The node that accepted each token.
    tokens: BTreeMap<(RingId, u32), NodeId>,
    /// Accepted messages, by content.
    accepted: BTreeMap<Bytes, Vec<Accepted>>,
}

struct Accepted {
    sender: NodeId,
    /// The sender's ring at that time, and the last message that it had delivered in it.
    after: Option<(RingId, Bytes)>,
}

/// The knowledge about one life of a node.
#[derive(Default)]
pub(super) struct Watch {
    config: TotemConfig,
    installed: Option<RingId>,
    members: BTreeSet<NodeId>,
    /// Members whose service message has arrived in the installed ring.
    heard: BTreeSet<NodeId>,
    /// The ring in which all members' service messages have arrived.
    synced: Option<RingId>,
    /// The last ring that the node took part in forming.
    forming: Option<RingId>,
    transitional: bool,
    /// The messages delivered in the installed ring.
    delivered: BTreeSet<Bytes>,
    /// The last message delivered in the installed ring.
    last: Option<Bytes>,
    accepted: u64,
    own: u64,
    tokens: u64,
    /// The token, if it was the last input.
    token: Option<Token>,
    token_sent: Option<(RingId, Seq)>,
    /// The ring and its limits, in frames per rotation and per visit.
    limits: Option<(RingId, u32, u32)>,
}

impl Watch {
    pub(super) fn of(totem: &Totem, config: TotemConfig) -> Self {
        Self { config, installed: Some(totem.snapshot().ring.id), ..Self::default() }
    }

    /// Returns the sender of the last delivered message.
    pub(super) fn last_from(&self) -> Option<NodeId> {
        std::str::from_utf8(self.last.as_ref()?).ok()?.split('/').next()?.parse().ok()
    }

    /// Returns the number of accepted messages that have not been delivered back yet.
    pub(super) fn outstanding(&self) -> u64 {
        self.accepted - self.own
    }
}

impl Lab {
    pub(super) fn watch_accepted(&mut self, id: NodeId, payload: Bytes) {
        let watch = &mut self.hosts.get_mut(&id).unwrap().watch;
        watch.accepted += 1;
        let after = watch.installed.zip(watch.last.clone());
        self.seen.accepted.entry(payload).or_default().push(Accepted { sender: id, after });
    }

    pub(super) fn watch_input(&mut self, id: NodeId, datagram: &Bytes) {
        let host = self.hosts.get_mut(&id).unwrap();
        host.watch.token = None;
        let Some(totem) = &host.totem else { return };
        match wire::decode(datagram) {
            Ok(Message::Token(token)) => host.watch.token = Some(token),
            Ok(Message::Multicast(frame))
                if !matches!(totem.snapshot().phase, Phase::Commit | Phase::Left) =>
            {
                if let Ok(inner) = frame.inner() {
                    self.seen.received.insert((id, inner.ring, inner.seq.get()));
                }
                self.seen.received.insert((id, frame.ring, frame.seq.get()));
            }
            _ => {}
        }
    }

    /// Checks everything that a node did in response to one input.
    pub(super) fn watch_outputs(&mut self, id: NodeId, out: &[Transmit], events: &[Event]) {
        let sent: Vec<(Message, &Bytes)> = out
            .iter()
            .map(|transmit| (wire::decode(&transmit.datagram).unwrap(), &transmit.datagram))
            .collect();
        for (message, bytes) in &sent {
            self.watch_sent(id, message, bytes);
        }
        for event in events {
            self.watch_event(id, event);
        }
        let host = self.hosts.get_mut(&id).unwrap();
        let watch = &mut host.watch;
        let totem = host.totem.as_ref().unwrap();
        assert_eq!(
            Some(totem.snapshot().ring.id),
            watch.installed,
            "M9: node {id}'s ring changed without a configuration"
        );
        let next = totem.snapshot().next;
        if let Some((next, last)) = next.zip(watch.forming) {
            assert!(next == last || next.seq > last.seq, "M1: node {id} agrees to {next} after {last}");
        }
        watch.forming = next.or(watch.forming);
        let accepted = totem.stats().tokens > watch.tokens;
        watch.tokens = totem.stats().tokens;
        let snapshot = totem.snapshot();
        let limits = watch.limits.replace((snapshot.ring.id, snapshot.window, snapshot.visit));
        let Some(token) = watch.token.take().filter(|_| accepted) else { return };
        let first = self.seen.tokens.insert((token.ring, token.token_seq.get()), id);
        assert!(first.is_none(), "T1: token {} of {} accepted twice, by {id}", token.token_seq, token.ring);
        let frames: Vec<Seq> = sent
            .iter()
            .filter_map(|(message, _)| match message {
                Message::Multicast(frame) => Some(frame.seq),
                _ => None,
            })
            .collect();
        let (window, visit) = match limits {
            Some((ring, window, visit)) if ring == token.ring => (window, visit),
            _ => (watch.config.window_size, watch.config.max_messages),
        };
        let room = window.saturating_sub(token.fcc).min(visit);
        assert!(frames.len() <= room as usize, "T6: {} frames sent, room for {room}", frames.len());
        let forwarded = sent.iter().find_map(|(message, _)| match message {
            Message::Token(token) => Some(token),
            _ => None,
        });
        let Some(forwarded) = forwarded else { return };
        let ring = snapshot.forming.unwrap_or(snapshot.ring);
        for entry in token.rtr.iter().filter(|entry| !entry.seq.at_or_before(ring.released)) {
            assert!(
                forwarded.rtr.contains(entry) || frames.contains(&entry.seq),
                "T7: request for {} dropped by node {id}",
                entry.seq
            );
        }
    }

    fn watch_sent(&mut self, id: NodeId, message: &Message, bytes: &Bytes) {
        let host = self.hosts.get_mut(&id).unwrap();
        let snapshot = host.totem.as_ref().unwrap().snapshot();
        match message {
            Message::Multicast(frame) => {
                self.seen.received.insert((id, frame.ring, frame.seq.get()));
                let first =
                    self.seen.frames.entry((frame.ring, frame.seq.get())).or_insert_with(|| bytes.clone());
                assert!(first == bytes, "T3: two frames are {} of {}", frame.seq, frame.ring);
            }
            Message::Token(token) => {
                let gone = matches!(snapshot.phase, Phase::Gather | Phase::Commit | Phase::Left);
                assert!(!gone, "M8: node {id} sends a token in {}", snapshot.phase);
                let news = host.watch.token_sent.is_none_or(|(ring, seq)| {
                    assert!(
                        ring != token.ring || !token.token_seq.before(seq),
                        "T2: an old token is sent again"
                    );
                    ring != token.ring || seq != token.token_seq
                });
                host.watch.token_sent = Some((token.ring, token.token_seq));
                let ring =
                    snapshot.forming.into_iter().chain([snapshot.ring]).find(|ring| ring.id == token.ring);
                if let Some(ring) = ring.filter(|_| news) {
                    assert!(
                        token.aru.at_or_before(ring.aru),
                        "T2: node {id} received up to {} and sends a token with aru {}",
                        ring.aru,
                        token.aru
                    );
                }
                assert!(!token.seq.before(token.aru), "T2: aru beyond seq");
                let entries: BTreeSet<u32> = token.rtr.iter().map(|entry| entry.seq.get()).collect();
                assert_eq!(entries.len(), token.rtr.len(), "T7: something is asked for twice");
                assert!(
                    token.rtr.iter().all(|entry| entry.seq.at_or_before(token.seq)),
                    "T7: what nobody has sent is asked for"
                );
            }
            Message::Join(join) => {
                assert!(join.leave || !join.failed.contains(&id), "M8: node {id} calls itself failed");
                assert!(join.ring_seq <= host.stored.ring_seq, "H6: ring sequence number sent, not stored");
            }
            Message::Commit(token) => {
                assert!(token.ring.seq <= host.stored.ring_seq, "H6: ring sequence number sent, not stored");
            }
            _ => {}
        }
    }

    fn watch_event(&mut self, id: NodeId, event: &Event) {
        let watch = &mut self.hosts.get_mut(&id).unwrap().watch;
        match event {
            Event::Regular(regular) => {
                watch.installed = Some(regular.ring);
                watch.members = regular.members.clone();
                watch.transitional = false;
                watch.delivered.clear();
                watch.last = None;
                watch.heard.clear();
            }
            Event::Transitional(_) => watch.transitional = true,
            Event::Service(message) => drop(watch.heard.insert(message.from)),
            Event::Synced(ring) => {
                assert_eq!(
                    watch.heard, watch.members,
                    "Q2: node {id} takes for all of {ring} who has spoken"
                );
                watch.synced = Some(*ring);
            }
            Event::Deliver(delivery) => self.watch_delivery(id, delivery),
            _ => {}
        }
    }

    fn watch_delivery(&mut self, id: NodeId, delivery: &Delivery) {
        let Delivery { ring, seq, from, guarantee, payload, .. } = delivery;
        let watch = &mut self.hosts.get_mut(&id).unwrap().watch;
        assert_eq!(delivery.transitional, watch.transitional, "S6: {seq} of {ring} at node {id}");
        assert_eq!(watch.synced, Some(*ring), "Q5: {seq} of {ring} delivered before the sync was done");
        let accepted = self.seen.accepted.get(payload);
        let accepted =
            accepted.unwrap_or_else(|| panic!("S3: nobody sent what node {id} delivers as {seq} of {ring}"));
        let accepted = accepted.iter().find(|accepted| accepted.sender == *from);
        let accepted = accepted.unwrap_or_else(|| panic!("S1: {seq} of {ring} is not from {from}"));
        if let Some((there, before)) = &accepted.after {
            assert!(
                there != ring || watch.delivered.contains(before),
                "S10: node {id} delivers {seq} of {ring} and not what its sender had seen before"
            );
        }
        if *guarantee == Guarantee::Safe && !watch.transitional {
            for &member in &watch.members {
                assert!(
                    self.seen.received.contains(&(member, *ring, seq.get())),
                    "S14: node {id} delivers {seq} of {ring} as safe, and node {member} has not received it"
                );
            }
        }
        if *from == id {
            watch.own += 1;
        }
        watch.delivered.insert(payload.clone());
        watch.last = Some(payload.clone());
    }
}
