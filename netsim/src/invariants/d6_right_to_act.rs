//! D6: a node acts only with the right to. It has this right as the DC of a settled, quorate ring,
//! under that ring's term, while it holds the lease. Whether the lease has been announced yet does
//! not matter. A node that has been told to leave has no such right.

use std::collections::BTreeMap;

use quorate_election::{Lease, Status, Term};
use quorate_membership::NodeId;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::Fault;
use crate::history::{Inside, Life, Record, What};

#[derive(Default)]
pub(super) struct RightToAct {
    /// The last status of each life, and whether the life was told to leave.
    told: BTreeMap<NodeId, (Life, Option<Status>, bool)>,
    /// The term under which each life may act by its clock.
    on: BTreeMap<Life, Term>,
}

impl Online for RightToAct {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else {
            if let What::Network(Fault::Leave(node)) = record.what
                && let Some((.., leaves)) = NodeId::new(node).and_then(|node| self.told.get_mut(&node))
            {
                *leaves = true;
            }
            return Ok(());
        };
        if let What::Started = &record.what {
            self.told.remove(&life.node);
        }
        let (_, status, leaves) = self.told.entry(life.node).or_insert((life, None, false));
        let term = match &record.what {
            What::Status(told) => {
                *status = Some((**told).clone());
                return Ok(());
            }
            What::Transitional(_) => {
                *status = None;
                return Ok(());
            }
            What::Inside(Inside::LeaseOn(term)) => {
                self.on.insert(life, *term);
                return Ok(());
            }
            What::Inside(Inside::LeaseOff { .. }) => {
                self.on.remove(&life);
                return Ok(());
            }
            What::Inside(Inside::Acts(term)) => term,
            _ => return Ok(()),
        };
        let wrong = |why: &str| violated("D6", record.at, format!("{life} acts under term {term:?}, {why}"));
        match status {
            _ if *leaves => wrong("though it was told to leave"),
            None => wrong("not in a ring"),
            Some(status) if !status.settled => wrong("in a ring that is not settled"),
            Some(status) if !status.quorate => wrong("in a ring that is not quorate"),
            Some(status) if status.term != Some(*term) || status.dc != Some(life.node) => {
                wrong("which is not its own in its ring")
            }
            Some(status) if status.lease != Lease::Held && self.on.get(&life) != Some(term) => {
                wrong("without a lease")
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id};
    use super::*;

    fn acts(story: &mut Story, ring_seq: u64, node: u32) {
        let term = Term { ring_seq, hand_over: 0, node: id(node) };
        story.record(node, What::Inside(Inside::Acts(term)));
    }

    fn held() -> Story {
        let mut story = Story::ring(3);
        story.settle_as(1, |status| status.lease = Lease::Held);
        story
    }

    #[test]
    fn the_dc_of_a_quorate_ring_acts_under_its_lease() {
        let mut story = held();
        acts(&mut story, 4, 1);
        story.is_right(RightToAct::default());
    }

    #[test]
    fn acting_without_right_is_wrong() {
        let wrong = |change: fn(&mut Status), why: &str| {
            let mut story = Story::ring(3);
            story.settle_as(1, |status| {
                status.lease = Lease::Held;
                change(status);
            });
            acts(&mut story, 4, 1);
            story.is_wrong(RightToAct::default(), why);
        };
        wrong(|status| status.settled = false, "not settled");
        wrong(|status| status.quorate = false, "not quorate");
        wrong(|status| status.dc = Some(id(2)), "not its own in its ring");
        wrong(|status| status.term = None, "not its own in its ring");
        wrong(|status| status.lease = Lease::Waiting, "without a lease");
    }

    #[test]
    fn a_lease_counts_before_it_is_announced() {
        let term = Term { ring_seq: 4, hand_over: 0, node: id(1) };
        let waiting = || {
            let mut story = Story::ring(3);
            story.settle_as(1, |status| status.lease = Lease::Waiting);
            story.record(1, What::Inside(Inside::LeaseOn(term)));
            story
        };
        let mut story = waiting();
        acts(&mut story, 4, 1);
        story.is_right(RightToAct::default());
        let mut story = waiting();
        let since = story.now();
        story.record(1, What::Inside(Inside::LeaseOff { term, since }));
        acts(&mut story, 4, 1);
        story.is_wrong(RightToAct::default(), "without a lease");
    }

    #[test]
    fn a_ring_that_is_over_gives_no_right() {
        let mut story = held();
        story.leave_ring(1, "1.8", &[1]);
        acts(&mut story, 4, 1);
        story.is_wrong(RightToAct::default(), "not in a ring");
    }

    #[test]
    fn a_leaving_node_may_not_act() {
        let mut story = held();
        story.fault(Fault::Leave(1));
        acts(&mut story, 4, 1);
        story.is_wrong(RightToAct::default(), "though it was told to leave");
    }
}
