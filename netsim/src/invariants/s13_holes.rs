//! S13: in a ring, no message is delivered behind a hole.
//!
//! In a transitional configuration, the members that come along lack the same frames once the first
//! of them installs the next ring. Behind a missing frame only their own messages are delivered,
//! because the missing frame may have caused messages of other senders. An exception is a message
//! that another node may have delivered in a failed formation, if the message's sender was to come
//! along there.

use std::collections::BTreeMap;

use quorate_membership::{NodeId, Seq, Transitional};

use super::cluster::{Cluster, Receipts};
use super::{Online, Violation, violated};
use crate::history::{Delivered, Life, Record, What};

#[derive(Default)]
pub(super) struct Holes {
    /// The transitional configuration that each node is in.
    transitional: BTreeMap<NodeId, (Life, Transitional)>,
}

/// Returns the first sequence number that `one` has and `other` lacks.
fn more(one: &Receipts, other: &Receipts) -> Option<u32> {
    let next = other.aru.next();
    if next.at_or_before(one.aru) {
        return Some(next.get());
    }
    one.beyond.iter().copied().find(|&seq| !other.has(Seq::new(seq)))
}

impl Holes {
    fn delivered(&self, life: Life, delivered: &Delivered, cluster: &Cluster) -> Result<(), String> {
        let Delivered { ring, seq, from, .. } = delivered;
        let behind_hole =
            cluster.receipts(life.node, *ring).is_some_and(|receipts| receipts.aru.before(*seq));
        if !behind_hole {
            return Ok(());
        }
        let Some((_, change)) = self.transitional.get(&life.node).filter(|(then, _)| *then == life) else {
            return Err(format!("delivers {seq} of {ring} behind a hole"));
        };
        let promised = cluster.ring(*ring).is_some_and(|ring| {
            ring.to_come_along.iter().any(|come| come.contains(from) && !come.is_disjoint(&change.members))
        });
        if change.members.contains(from) || promised {
            return Ok(());
        }
        Err(format!("delivers {seq} of {ring} behind a hole, though {from} does not come along"))
    }

    fn installs(life: Life, change: &Transitional, cluster: &Cluster) -> Result<(), String> {
        let Some(own) = cluster.receipts(life.node, change.previous) else { return Ok(()) };
        for node in change.members.iter().filter(|node| cluster.member(**node, change.ring).is_some()) {
            let Some(theirs) = cluster.receipts(*node, change.previous) else { continue };
            if let Some(seq) = more(theirs, own) {
                return Err(format!("leaves {} without {seq}, which {node} has", change.previous));
            }
            if let Some(seq) = more(own, theirs) {
                return Err(format!("leaves {} with {seq}, which {node} still lacks", change.previous));
            }
        }
        Ok(())
    }
}

impl Online for Holes {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let right = match &record.what {
            What::Delivered(delivered) => self.delivered(life, delivered, cluster),
            What::Transitional(change) => {
                self.transitional.insert(life.node, (life, change.clone()));
                Ok(())
            }
            What::Regular(_) => match self.transitional.remove(&life.node) {
                Some((then, change)) if then == life => Self::installs(life, &change, cluster),
                _ => Ok(()),
            },
            _ => return Ok(()),
        };
        right.or_else(|why| violated("S13", record.at, format!("{life} {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;
    use crate::history::Inside;

    /// Node 1 has frames 1 and 3 of this node, and lacks frame 2.
    fn gap(from: u32) -> Story {
        let mut story = Story::ring(3);
        for n in [1, 3] {
            story.record(1, What::Inside(Inside::Received(Story::frame(from, n))));
        }
        story.deliver(1, from, 1, 1);
        story
    }

    #[test]
    fn a_ring_delivers_nothing_behind_a_hole() {
        gap(2).is_right(Holes::default());
        let mut story = gap(2);
        story.deliver(1, 2, 3, 3);
        story.is_wrong(Holes::default(), "1#1 delivers 3 of 1.4 behind a hole");
    }

    #[test]
    fn behind_a_hole_only_surviving_members_are_delivered() {
        let transitional = |from: u32| {
            let mut story = gap(from);
            story.leave_ring(1, "1.8", &[1, 2]);
            story.deliver(1, from, 3, 3);
            story
        };
        transitional(2).is_right(Holes::default());
        transitional(3).is_wrong(Holes::default(), "though 3 does not come along");
    }

    #[test]
    fn a_message_promised_in_a_failed_formation_is_delivered() {
        let mut story = gap(3);
        let here = ["1.4"; 3];
        story.commit_from(2, "1.6", &[1, 2, 3], &here);
        story.leave_ring(1, "1.8", &[1, 2]);
        story.deliver(1, 3, 3, 3);
        story.is_right(Holes::default());
    }

    #[test]
    fn a_frame_that_a_member_has_is_not_missing() {
        let mut story = gap(3);
        story.record(2, What::Inside(Inside::Received(Story::frame(3, 1))));
        story.record(2, What::Inside(Inside::Received(Story::frame(3, 2))));
        for node in [1, 2] {
            story.commit(node, "1.8", &[1, 2], 2);
        }
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.is_wrong(Holes::default(), "1#1 leaves 1.4 without 2, which 2 has");
        let mut story = gap(3);
        story.record(2, What::Inside(Inside::Received(Story::frame(3, 2))));
        for node in [1, 2] {
            story.commit(node, "1.8", &[1, 2], 2);
        }
        story.record(1, What::Inside(Inside::Received(Story::frame(3, 2))));
        for seq in [1, 3] {
            story.record(2, What::Inside(Inside::Received(Story::frame(3, seq))));
        }
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.is_right(Holes::default());
    }

    #[test]
    fn a_ring_is_left_only_when_all_have_the_same_frames() {
        let mut story = gap(3);
        story.record(2, What::Inside(Inside::Received(Story::frame(3, 1))));
        for node in [1, 2] {
            story.commit(node, "1.8", &[1, 2], 2);
        }
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.is_wrong(Holes::default(), "1#1 leaves 1.4 with 3, which 2 still lacks");
    }
}
