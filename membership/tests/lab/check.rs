//! What is judged when all is over.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{Event, Guarantee, NodeId, Regular, RingId, Transitional};

use super::Lab;

impl Lab {
    /// Checks what extended virtual synchrony promises, on everything that happened so far.
    pub fn check(&self) {
        // M1, M3: a ring is what it is to all its members, and is formed once.
        let mut rings: BTreeMap<RingId, &Regular> = BTreeMap::new();
        let mut installed: BTreeSet<(NodeId, RingId)> = BTreeSet::new();
        // M4: where the members of each ring came from.
        let mut came_from: BTreeMap<(RingId, NodeId), Option<RingId>> = BTreeMap::new();
        let mut changes: Vec<(&Transitional, RingId)> = Vec::new();
        // S11: the regular deliveries of a ring are prefixes of one sequence.
        let mut of_ring: BTreeMap<RingId, Vec<String>> = BTreeMap::new();
        // S8: who goes from one ring to the same next one has delivered the same, at the same places.
        let mut of_change: BTreeMap<(RingId, RingId), (NodeId, Vec<String>)> = BTreeMap::new();
        // S14, S15: what was delivered as safe, and by whom it has to be; what those delivered who went on from a ring.
        let mut safe: BTreeMap<(RingId, u32), BTreeSet<NodeId>> = BTreeMap::new();
        let mut went_on: BTreeMap<RingId, Vec<(NodeId, BTreeSet<u32>)>> = BTreeMap::new();
        for (&id, host) in &self.hosts {
            for life in &host.lives {
                let mut numbers = BTreeSet::new();
                let mut seen = BTreeSet::new();
                let mut ring: Option<&Regular> = None;
                let mut transitional: Option<&Transitional> = None;
                let mut history: Vec<String> = Vec::new();
                for event in life {
                    match event {
                        Event::Regular(regular) => {
                            assert!(regular.members.contains(&id), "S5: node {id} not in its own ring");
                            assert!(
                                ring.is_some() == transitional.is_some(),
                                "S6: no transitional before {}",
                                regular.ring
                            );
                            let first = rings.entry(regular.ring).or_insert(regular);
                            assert_eq!(first.members, regular.members, "M3: members of {}", regular.ring);
                            assert!(installed.insert((id, regular.ring)), "M1: {} twice", regular.ring);
                            assert!(
                                regular.ring.representative == *regular.members.first().unwrap(),
                                "M5: representative of {}",
                                regular.ring
                            );
                            let along = transitional.map(|change| change.members.clone()).unwrap_or_default();
                            assert_eq!(regular.joined, &regular.members - &along, "S6: joined");
                            if let Some(previous) = ring {
                                let numbers = std::mem::take(&mut numbers);
                                went_on.entry(previous.ring).or_default().push((id, numbers));
                                assert_eq!(regular.left, &previous.members - &along, "S6: left");
                                assert!(previous.ring.seq < regular.ring.seq, "M2: ring sequence fell");
                                let change = (previous.ring, regular.ring);
                                let first = of_change.entry(change).or_insert((id, history.clone()));
                                assert_eq!(first.1, history, "S8: nodes {} and {id} at {change:?}", first.0);
                            }
                            came_from.insert((regular.ring, id), ring.map(|previous| previous.ring));
                            assert!(!regular.causes.is_empty());
                            history.clear();
                            ring = Some(regular);
                            transitional = None;
                        }
                        Event::Transitional(change) => {
                            let regular = ring.expect("S6: a ring before the transitional configuration");
                            assert!(transitional.is_none(), "S6: two transitional configurations");
                            assert_eq!(change.previous, regular.ring, "S6: previous ring");
                            assert!(change.members.contains(&id), "S5: in the transitional configuration");
                            assert!(change.members.is_subset(&regular.members), "S6: transitional members");
                            changes.push((change, regular.ring));
                            history.push("transitional".into());
                            transitional = Some(change);
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
                            numbers.insert(delivery.seq.get());
                            if delivery.guarantee == Guarantee::Safe {
                                let all = transitional.map_or(&regular.members, |change| &change.members);
                                safe.entry((regular.ring, delivery.seq.get())).or_default().extend(all);
                            }
                            if transitional.is_none() {
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
        for ((ring, seq), members) in safe {
            for (node, delivered) in went_on.get(&ring).into_iter().flatten() {
                assert!(
                    delivered.contains(&seq) || !members.contains(node),
                    "S15: {seq} of {ring} is safe among {members:?}, and node {node} went on without it"
                );
            }
        }
        for (change, old) in changes {
            for (&(ring, node), &previous) in &came_from {
                let along = change.members.contains(&node);
                assert!(
                    ring != change.ring || along == (previous == Some(old)),
                    "M4: from {old} to {ring} with {:?}: node {node} came from {previous:?}",
                    change.members
                );
            }
        }
    }
}
