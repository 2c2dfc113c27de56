//! Checks of a finished run, from the events at the nodes: extended virtual synchrony and group
//! membership.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{Delivery, Event, Group, GroupChange, Guarantee, NodeId, Process, Regular, RingId};

use super::Lab;

impl Lab {
    /// Checks the properties of extended virtual synchrony on all events so far (numbers:
    /// docs/invariants.md).
    pub fn check(&self) {
        self.check_rings();
        self.check_senders();
        self.check_safe();
        self.check_one_order();
        self.check_groups();
        // S11: the regular deliveries of a ring are prefixes of one sequence.
        let mut of_ring: BTreeMap<RingId, Vec<String>> = BTreeMap::new();
        // S8: members that go from one ring to the same next ring have delivered the same messages
        // at the same places.
        let mut of_change: BTreeMap<(RingId, RingId), (NodeId, Vec<String>)> = BTreeMap::new();
        for (&id, host) in &self.hosts {
            for life in &host.lives {
                let mut seen = BTreeSet::new();
                let mut ring: Option<&Regular> = None;
                let mut transitional = false;
                let mut history: Vec<String> = Vec::new();
                for event in life {
                    match event {
                        Event::Regular(regular) => {
                            assert!(regular.members.contains(&id), "S5: node {id} not in its own ring");
                            assert!(
                                ring.is_none() || transitional,
                                "S6: no transitional before {}",
                                regular.ring
                            );
                            if let Some(previous) = ring {
                                assert!(previous.ring.seq < regular.ring.seq, "M2: ring sequence fell");
                                let change = (previous.ring, regular.ring);
                                let first = of_change.entry(change).or_insert((id, history.clone()));
                                assert_eq!(first.1, history, "S8: nodes {} and {id} at {change:?}", first.0);
                            }
                            assert!(!regular.causes.is_empty());
                            history.clear();
                            ring = Some(regular);
                            transitional = false;
                        }
                        Event::Transitional(change) => {
                            let regular = ring.expect("S6: a ring before the transitional configuration");
                            assert!(!transitional && change.previous == regular.ring, "S6: shape");
                            assert!(change.members.contains(&id), "S5: in the transitional configuration");
                            assert!(change.members.is_subset(&regular.members), "S6: transitional members");
                            history.push("transitional".into());
                            transitional = true;
                        }
                        Event::Deliver(delivery) => {
                            let regular = ring.expect("S6: a ring before the first message");
                            assert_eq!(delivery.ring, regular.ring, "S4: containment");
                            let text = format!(
                                "{} {:?} {:?}",
                                delivery.seq,
                                delivery.from,
                                &delivery.payload[..delivery.payload.len().min(24)]
                            );
                            assert!(
                                seen.insert((delivery.from, delivery.payload.clone())),
                                "S2: twice: {text}"
                            );
                            if !transitional {
                                let order = of_ring.entry(regular.ring).or_default();
                                let place = history.len();
                                match order.get(place) {
                                    Some(first) => assert_eq!(*first, text, "S11: order in {}", regular.ring),
                                    None => order.push(text.clone()),
                                }
                            }
                            history.push(text);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Returns every life with its node.
    fn lives(&self) -> impl Iterator<Item = Life<'_>> {
        self.hosts.iter().flat_map(|(&id, host)| {
            host.lives.iter().enumerate().map(move |(n, events)| Life {
                id,
                ended: n + 1 < host.lives.len() || host.totem.is_none(),
                number: n + 1,
                events,
            })
        })
    }

    /// Checks G1: at the same point of a ring's order, its members have the same lists of group
    /// members. Before a member has synchronised, its lists may differ.
    fn check_groups(&self) {
        type Lists = BTreeMap<Group, BTreeSet<Process>>;
        let mut synced: BTreeMap<RingId, Lists> = BTreeMap::new();
        let mut changes: BTreeMap<RingId, Vec<&GroupChange>> = BTreeMap::new();
        for life in self.lives() {
            let mut lists = Lists::new();
            let mut ring = None;
            let mut since_sync = 0;
            let mut transitional = false;
            for event in life.events {
                match event {
                    Event::Transitional(_) => transitional = true,
                    Event::Regular(_) => (ring, transitional) = (None, false),
                    Event::Synced(now) => {
                        (ring, since_sync) = (Some(*now), 0);
                        let first = synced.entry(*now).or_insert_with(|| lists.clone());
                        assert_eq!(*first, lists, "G1: groups of node {} in {now}", life.id);
                    }
                    Event::GroupChange(change) => {
                        let list = lists.entry(change.group.clone()).or_default();
                        assert!(list.is_disjoint(&change.joined), "G1: joined twice: {change}");
                        assert!(list.is_superset(&change.left), "G1: left without being in: {change}");
                        list.extend(&change.joined);
                        list.retain(|process| !change.left.contains(process));
                        assert_eq!(*list, change.members, "G1: members at node {}", life.id);
                        if list.is_empty() {
                            lists.remove(&change.group);
                        }
                        if let Some(ring) = ring.filter(|_| !transitional) {
                            assert_eq!(change.ring, ring, "S4: containment");
                            let order = changes.entry(ring).or_default();
                            match order.get(since_sync) {
                                Some(first) => assert_eq!(*first, change, "G1: order at node {}", life.id),
                                None => order.push(change),
                            }
                            since_sync += 1;
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Checks M3 and M4. M3: a ring has one list of members. M4: the transitional members are
    /// exactly those that report the same previous ring.
    fn check_rings(&self) {
        let mut members: BTreeMap<RingId, &BTreeSet<NodeId>> = BTreeMap::new();
        // The node, its old ring, its new ring and its transitional members.
        let mut changes: Vec<(NodeId, RingId, RingId, &BTreeSet<NodeId>)> = Vec::new();
        let mut came_from: BTreeMap<(NodeId, RingId), Option<RingId>> = BTreeMap::new();
        for life in self.lives() {
            let mut ring = None;
            let mut along = None;
            for event in life.events {
                match event {
                    Event::Transitional(change) => along = Some(&change.members),
                    Event::Regular(regular) => {
                        let same = members.entry(regular.ring).or_insert(&regular.members);
                        assert_eq!(**same, regular.members, "M3: members of {}", regular.ring);
                        let before = came_from.insert((life.id, regular.ring), ring);
                        assert!(before.is_none(), "M1: {} twice at node {}", regular.ring, life.id);
                        if let (Some(from), Some(along)) = (ring, along.take()) {
                            changes.push((life.id, from, regular.ring, along));
                            let joined = &regular.members - along;
                            assert_eq!(regular.joined, joined, "S6: joined of {}", regular.ring);
                        }
                        ring = Some(regular.ring);
                    }
                    _ => {}
                }
            }
        }
        for (id, from, to, along) in changes {
            for &other in members[&to] {
                if let Some(before) = came_from.get(&(other, to)) {
                    let same = *before == Some(from);
                    assert_eq!(along.contains(&other), same, "M4: node {id} on node {other}, {from} to {to}");
                }
            }
        }
    }

    /// Checks S9, S7 and S16. S9: messages of one life of a sender arrive in its order. S7, S16: a
    /// life that continues delivers all its own messages once the ring is at rest.
    fn check_senders(&self) {
        for life in self.lives() {
            let mut last: BTreeMap<(NodeId, usize), u64> = BTreeMap::new();
            let mut own = Vec::new();
            for delivery in life.deliveries() {
                let Some((from, of_life, n)) = numbered(&delivery.payload) else { continue };
                assert_eq!(from, delivery.from, "S1: sender");
                let before = last.insert((from, of_life), n);
                assert!(before < Some(n), "S9: node {} saw {n} of node {from} after {before:?}", life.id);
                if (from, of_life) == (life.id, life.number) {
                    own.push(n);
                }
            }
            let host = &self.hosts[&life.id];
            let left = life.events.iter().any(|event| matches!(event, Event::Left(_)));
            if !life.ended && !left && self.at_rest {
                let accepted: Vec<u64> = host.accepted.clone();
                assert_eq!(own, accepted, "S7: own messages of node {}", life.id);
            }
        }
    }

    /// Checks S14 and S15: a message that is delivered as safe is delivered by all members that
    /// continue from its configuration.
    fn check_safe(&self) {
        let mut delivered: BTreeMap<(NodeId, RingId), Story<'_>> = BTreeMap::new();
        for life in self.lives() {
            let mut ring = None;
            let mut ended = life.ended;
            for event in life.events {
                match event {
                    Event::Left(_) => ended = true,
                    Event::Regular(regular) => {
                        if let Some(ring) = ring {
                            delivered.entry((life.id, ring)).or_default().went_on = true;
                        }
                        ring = Some(regular.ring);
                        delivered.entry((life.id, regular.ring)).or_default();
                    }
                    Event::Deliver(delivery) => {
                        let story = delivered.entry((life.id, delivery.ring)).or_default();
                        story.messages.insert(&delivery.payload);
                    }
                    _ => {}
                }
            }
            if let (Some(ring), false, true) = (ring, ended, self.at_rest) {
                delivered.entry((life.id, ring)).or_default().went_on = true;
            }
        }
        for life in self.lives() {
            let mut members: &BTreeSet<NodeId> = &BTreeSet::new();
            let mut what = "S14";
            for event in life.events {
                match event {
                    Event::Regular(regular) => (members, what) = (&regular.members, "S14"),
                    Event::Transitional(change) => (members, what) = (&change.members, "S15"),
                    Event::Deliver(delivery) if delivery.guarantee == Guarantee::Safe => {
                        for &other in members {
                            let Some(theirs) = delivered.get(&(other, delivery.ring)) else {
                                continue;
                            };
                            assert!(
                                !theirs.went_on || theirs.messages.contains(&delivery.payload[..]),
                                "{what}: node {} delivered {:?} of {} and node {other} did not",
                                life.id,
                                &delivery.payload[..delivery.payload.len().min(24)],
                                delivery.ring,
                            );
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Checks S12: the orders of all lives, over all configurations, fit into one order.
    fn check_one_order(&self) {
        let mut after: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let mut incoming: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for life in self.lives() {
            let mut last: Option<Vec<u8>> = None;
            for event in life.events {
                let point = match event {
                    Event::Regular(regular) => format!("R{}", regular.ring).into_bytes(),
                    Event::Transitional(change) => {
                        format!("T{} {}", change.previous, change.ring).into_bytes()
                    }
                    Event::Deliver(delivery) => {
                        [format!("M{} {} ", delivery.ring, delivery.from).as_bytes(), &delivery.payload]
                            .concat()
                    }
                    _ => continue,
                };
                incoming.entry(point.clone()).or_default();
                if let Some(last) = last
                    && after.entry(last).or_default().insert(point.clone())
                {
                    *incoming.entry(point.clone()).or_default() += 1;
                }
                last = Some(point);
            }
        }
        let mut ready: Vec<Vec<u8>> =
            incoming.iter().filter(|(_, n)| **n == 0).map(|(point, _)| point.clone()).collect();
        let mut placed = 0;
        while let Some(point) = ready.pop() {
            placed += 1;
            for next in after.remove(&point).unwrap_or_default() {
                let left = incoming.get_mut(&next).unwrap();
                *left -= 1;
                if *left == 0 {
                    ready.push(next);
                }
            }
        }
        assert_eq!(placed, incoming.len(), "S12: the orders go in a circle");
    }
}

/// A node's deliveries in a ring and in the following transitional configuration.
#[derive(Default)]
struct Story<'a> {
    messages: BTreeSet<&'a [u8]>,
    /// Whether the node continued to a later configuration, or stays in this one at rest.
    went_on: bool,
}

struct Life<'a> {
    id: NodeId,
    number: usize,
    ended: bool,
    events: &'a [Event],
}

impl<'a> Life<'a> {
    fn deliveries(&self) -> impl Iterator<Item = &'a Delivery> {
        self.events.iter().filter_map(|event| match event {
            Event::Deliver(delivery) => Some(delivery),
            _ => None,
        })
    }
}

/// Returns the sender of a message of [`Lab::send_numbered`], the sender's life, and the message's
/// number.
fn numbered(payload: &[u8]) -> Option<(NodeId, usize, u64)> {
    let text = std::str::from_utf8(payload).ok()?.trim_end_matches(char::is_alphabetic);
    let mut parts = text.split('/').map(str::parse::<u64>);
    let (id, life, n) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    Some((NodeId::new(u32::try_from(id).ok()?)?, usize::try_from(life).ok()?, n))
}
