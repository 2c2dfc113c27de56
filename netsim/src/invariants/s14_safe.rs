//! S14 and T4: what a node delivers as safe in a ring, or takes for stable there, all members of the ring have received.
//!
//! Whether they have is known from what they were seen to take in, not from what tokens say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_membership::{Guarantee, NodeId, RingId, Seq};

use super::{Online, Violation, violated};
use crate::history::{Inside, Life, Record, What};

#[derive(Default)]
pub(super) struct Safe {
    rings: BTreeMap<RingId, Ring>,
    /// In which ring each life is; `None`: between a transitional configuration and the next ring.
    at: BTreeMap<Life, Option<RingId>>,
}

#[derive(Default)]
struct Ring {
    members: BTreeSet<NodeId>,
    received: BTreeMap<NodeId, BTreeSet<u32>>,
    /// Up to here, received numbers are forgotten: all have them.
    forgotten: BTreeMap<NodeId, Seq>,
}

impl Safe {
    /// More than are ever about to be installed or to end at the same time.
    const RINGS: usize = 64;
    /// More than a window.
    const NUMBERS: usize = 20_000;

    fn ring(&mut self, id: RingId) -> &mut Ring {
        while self.rings.len() >= Self::RINGS && !self.rings.contains_key(&id) {
            // Ring ids sort by their sequence number first.
            self.rings.pop_first();
        }
        self.rings.entry(id).or_default()
    }

    fn received_by_all(&self, id: RingId, seq: Seq, at: Duration, who: Life) -> Result<(), Violation> {
        let Some(ring) = self.rings.get(&id) else { return Ok(()) };
        let lacks = |node: &&NodeId| {
            let forgotten = ring.forgotten.get(node).is_some_and(|upto| seq.at_or_before(*upto));
            !forgotten && !ring.received.get(node).is_some_and(|numbers| numbers.contains(&seq.get()))
        };
        match ring.members.iter().find(lacks) {
            Some(node) => violated(
                "S14",
                at,
                format!("to {who}, {seq} of {id} is safe, and node {node} has not received it"),
            ),
            None => Ok(()),
        }
    }
}

impl Ring {
    fn receive(&mut self, node: NodeId, seq: Seq) {
        let numbers = self.received.entry(node).or_default();
        numbers.insert(seq.get());
        if numbers.len() > Safe::NUMBERS {
            // Nothing can be stable that is so far behind and was not seen to be.
            let upto = Seq::new(seq.get().wrapping_sub(Safe::NUMBERS as u32 / 2));
            numbers.retain(|&number| upto.before(Seq::new(number)));
            self.forgotten.insert(node, upto);
        }
    }
}

impl Online for Safe {
    fn see(&mut self, record: &Record) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        match &record.what {
            What::Regular(regular) => {
                self.at.insert(life, Some(regular.ring));
                self.ring(regular.ring).members.clone_from(&regular.members);
            }
            What::Transitional(_) => drop(self.at.insert(life, None)),
            What::Inside(Inside::Numbered(frame) | Inside::Received(frame)) => {
                self.ring(frame.ring).receive(life.node, frame.seq);
            }
            What::Inside(Inside::Stable { ring, safe, .. }) if self.at.get(&life) == Some(&Some(*ring)) => {
                // A number that nobody has received is where the ring began.
                let known = self
                    .rings
                    .get(ring)
                    .is_some_and(|ring| ring.received.values().any(|n| n.contains(&safe.get())));
                if known {
                    return self.received_by_all(*ring, *safe, record.at, life);
                }
            }
            What::Delivered(delivered)
                if delivered.guarantee == Guarantee::Safe
                    && self.at.get(&life) == Some(&Some(delivered.ring)) =>
            {
                return self.received_by_all(delivered.ring, delivered.seq, record.at, life);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, ring};
    use super::*;

    /// Node 1 has numbered a safe message, and these have received it.
    fn sent(received_by: &[u32]) -> Story {
        let mut story = Story::ring(3);
        let frame = Story::frame(1, 7);
        story.record(1, What::Inside(Inside::Numbered(frame)));
        for &node in received_by {
            story.record(node, What::Inside(Inside::Received(frame)));
        }
        story
    }

    fn deliver(story: &mut Story) {
        story.deliver_as(1, 1, 1, 7, |delivered| delivered.guarantee = Guarantee::Safe);
    }

    #[test]
    fn what_all_have_received_is_safe() {
        let mut story = sent(&[2, 3]);
        deliver(&mut story);
        story.is_right_online(Safe::default());
    }

    #[test]
    fn what_a_member_has_not_received_is_not_safe() {
        let mut story = sent(&[2]);
        deliver(&mut story);
        story.is_wrong_online(Safe::default(), "to 1#1, 7 of 1.4 is safe, and node 3 has not received it");
    }

    #[test]
    fn nor_stable() {
        let mut story = sent(&[3]);
        let (safe, released) = (Seq::new(7), Seq::new(0));
        story.record(3, What::Inside(Inside::Stable { ring: ring("1.4"), safe, released }));
        story.is_wrong_online(Safe::default(), "node 2 has not received it");
    }

    #[test]
    fn in_the_transitional_configuration_others_need_not_have_it() {
        let mut story = sent(&[2]);
        story.leave_ring(1, "1.8", &[1, 2]);
        deliver(&mut story);
        story.is_right_online(Safe::default());
    }
}
