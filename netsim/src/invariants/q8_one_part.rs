//! Q8: two rings are not quorate at the same time while all their members are still in them,
//! whichever files the members have. This holds if the quorum options are strict, as long as voters
//! keep their records.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{NodeId, RingId};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::Fault;
use crate::history::{Record, What};

#[derive(Default)]
pub(super) struct OnePart {
    /// The ring that each node is in, its members, and whether it is quorate to that node.
    places: BTreeMap<NodeId, (RingId, BTreeSet<NodeId>, bool)>,
    /// Whether a record was lost or rolled back.
    broken: bool,
}

impl OnePart {
    /// Returns the quorate ring of `node` and its members, if all members are in it.
    fn quorate_ring(&self, node: NodeId) -> Option<(RingId, &BTreeSet<NodeId>)> {
        let (ring, members, _) = self.places.get(&node)?;
        let place = |member| self.places.get(member).filter(|(here, ..)| here == ring);
        let stands = members.iter().all(|member| place(member).is_some());
        let quorate = members.iter().filter_map(place).any(|(.., quorate)| *quorate);
        (stands && quorate).then_some((*ring, members))
    }
}

impl Online for OnePart {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        if let What::Network(Fault::LoseRecord(_) | Fault::RollBackRecord(_)) = record.what {
            self.broken = true;
        }
        let Some(life) = record.life.filter(|_| cluster.strict && !self.broken) else { return Ok(()) };
        match &record.what {
            What::Crashed | What::Started => drop(self.places.remove(&life.node)),
            What::Regular(regular) => {
                self.places.insert(life.node, (regular.ring, regular.members.clone(), false));
            }
            What::Status(status) => {
                if let Some((ring, _, quorate)) = self.places.get_mut(&life.node) {
                    *quorate = status.quorate && status.ring == Some(*ring);
                }
                let Some((ring, members)) = self.quorate_ring(life.node) else { return Ok(()) };
                let others = self.places.keys().filter(|node| !members.contains(node));
                if let Some((other, theirs)) = others.filter_map(|&node| self.quorate_ring(node)).next() {
                    let what = format!("{ring} of {members:?} and {other} of {theirs:?} are both quorate");
                    return violated("Q8", record.at, what);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn two_parts() -> Story {
        let mut story = Story::new(5);
        for node in [1, 2] {
            story.install(node, "1.4", &[1, 2], &[]);
            story.settle_as(node, |status| status.quorate = true);
        }
        for node in [3, 5] {
            story.install(node, "3.4", &[3, 5], &[]);
            story.settle_as(node, |status| status.quorate = node == 5);
        }
        story
    }

    #[test]
    fn two_parts_are_not_both_quorate() {
        two_parts().is_wrong(OnePart::default(), "3.4 of {3, 5} and 1.4 of {1, 2} are both quorate");
    }

    #[test]
    fn a_ring_that_a_member_has_left_does_not_count() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.install(2, "2.8", &[2, 3], &[2, 3]);
        story.install(3, "2.8", &[2, 3], &[2, 3]);
        story.settle_as(2, |status| status.quorate = true);
        story.is_right(OnePart::default());
    }

    #[test]
    fn a_lost_record_ends_the_promise() {
        let mut story = Story::new(5);
        story.fault(Fault::LoseRecord(3));
        for (node, ring, members) in
            [(1, "1.4", [1, 2]), (2, "1.4", [1, 2]), (3, "3.4", [3, 5]), (5, "3.4", [3, 5])]
        {
            story.install(node, ring, &members, &[]);
            story.settle_as(node, |status| status.quorate = true);
        }
        story.is_right(OnePart::default());
    }
}
