//! T5: a frame that a member requests, and that another one has received, is still held by a
//! member.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

pub(super) struct Retrievable;

impl Online for Retrievable {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(Inside::Token(token))) = (record.life, &record.what) else {
            return Ok(());
        };
        let Some(ring) = cluster.ring(token.ring) else { return Ok(()) };
        for entry in token.rtr.iter().filter(|entry| entry.ring == token.ring) {
            let missed = ring.members.iter().any(|node| {
                let lacks = ring.received.get(node).is_none_or(|receipts| !receipts.has(entry.seq));
                lacks && cluster.member(*node, token.ring).is_some()
            });
            let mut holders = ring.received.iter().filter(|(node, receipts)| {
                receipts.has(entry.seq) && cluster.member(**node, token.ring).is_some()
            });
            let given_up =
                |(_, receipts): &(_, &super::cluster::Receipts)| entry.seq.at_or_before(receipts.released);
            if missed && holders.clone().next().is_some() && holders.all(|holder| given_up(&holder)) {
                let what =
                    format!("{life}: {} of {} is requested, but all have released it", entry.seq, token.ring);
                return violated("T5", record.at, what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::Seq;
    use quorate_membership::wire::RtrEntry;

    use super::super::story::{Story, ring};
    use super::*;

    /// Nodes 1 and 2 have a frame, the nodes `given_up_by` have released it, and node 3 requests
    /// it.
    fn asked(given_up_by: &[u32]) -> Story {
        let mut story = Story::ring(3);
        story.record(1, What::Inside(Inside::Numbered(Story::frame(1, 1))));
        story.record(2, What::Inside(Inside::Received(Story::frame(1, 1))));
        let (ring, seq) = (ring("1.4"), Seq::new(1));
        for &node in given_up_by {
            story.record(node, What::Inside(Inside::Stable { ring, safe: seq, released: seq }));
        }
        let mut token = Story::token();
        token.seq = seq;
        token.rtr = vec![RtrEntry { ring, seq }];
        story.record(2, What::Inside(Inside::Token(Box::new(token))));
        story
    }

    #[test]
    fn a_requested_frame_is_still_held() {
        asked(&[1]).is_right(Retrievable);
        asked(&[1, 2]).is_wrong(Retrievable, "2#1: 1 of 1.4 is requested, but all have released it");
    }

    #[test]
    fn a_frame_that_has_arrived_may_be_released() {
        let mut story = asked(&[]);
        story.record(3, What::Inside(Inside::Received(Story::frame(1, 1))));
        let (ring, seq) = (ring("1.4"), Seq::new(1));
        for node in 1..=3 {
            story.record(node, What::Inside(Inside::Stable { ring, safe: seq, released: seq }));
        }
        let mut token = Story::token();
        token.seq = seq;
        token.rtr = vec![RtrEntry { ring, seq }];
        story.record(2, What::Inside(Inside::Token(Box::new(token))));
        story.is_right(Retrievable);
    }
}
