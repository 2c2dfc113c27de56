//! S14: a message that a node delivers as safe in a ring has been received by all members of the
//! ring.

use quorate_membership::Guarantee;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct Safe;

impl Online for Safe {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Delivered(delivered)) = (record.life, &record.what) else { return Ok(()) };
        let regular = cluster.place(life).is_some_and(|place| !place.in_transition);
        if delivered.guarantee != Guarantee::Safe || !regular {
            return Ok(());
        }
        let (ring, seq) = (delivered.ring, delivered.seq);
        match cluster.find_member(ring, |receipts| !receipts.has(seq)) {
            Some(node) => violated(
                "S14",
                record.at,
                format!("{life} delivers {seq} of {ring} as safe, but node {node} has not received it"),
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;
    use crate::history::Inside;

    /// Returns a story in which node 1 has numbered a safe message that `received_by` received.
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
    fn a_message_that_all_have_received_is_safe() {
        let mut story = sent(&[2, 3]);
        deliver(&mut story);
        story.is_right(Safe);
    }

    #[test]
    fn a_message_that_a_member_lacks_is_not_safe() {
        let mut story = sent(&[2]);
        deliver(&mut story);
        story.is_wrong(Safe, "1#1 delivers 7 of 1.4 as safe, but node 3 has not received it");
    }

    #[test]
    fn a_transitional_configuration_needs_fewer_receivers() {
        let mut story = sent(&[2]);
        story.leave_ring(1, "1.8", &[1, 2]);
        deliver(&mut story);
        story.is_right(Safe);
    }
}
