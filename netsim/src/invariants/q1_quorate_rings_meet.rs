//! Q1: any two rings that were quorate have a member in common, if the quorum options are strict.
//!
//! With a tie breaker this applies only to the last ring with a majority and the rings since. A
//! ring with a majority changes the tie breaker, and all its members know it (seed 45688 of an
//! earlier swarm).

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{NodeId, RingId};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

/// Each set of members that was quorate, and the first ring that it was in. There are fewer sets
/// than rings.
#[derive(Default)]
pub(super) struct QuorateRingsMeet(BTreeMap<BTreeSet<NodeId>, RingId>);

impl Online for QuorateRingsMeet {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Status(status)) = (record.life, &record.what) else { return Ok(()) };
        let Some(regular) = cluster.regular(life).filter(|_| status.quorate) else { return Ok(()) };
        if !cluster.strict || cluster.electorate.refiled {
            return Ok(());
        }
        if let Some((members, ring)) = self.0.iter().find(|(members, _)| regular.members.is_disjoint(members))
        {
            let (here, ours) = (regular.ring, &regular.members);
            let what =
                format!("{ring} of {members:?} and {here} of {ours:?} are quorate, but share no member");
            return violated("Q1", record.at, what);
        }
        let majority = status.expected_votes.is_some_and(|expected| 2 * status.total_votes > expected);
        if cluster.options.auto_tie_breaker.is_some() && majority {
            self.0.clear();
        }
        self.0.insert(regular.members.clone(), regular.ring);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn two_sides_are_not_both_quorate() {
        let mut story = Story::ring(5);
        story.settle(1);
        story.install(1, "1.8", &[1, 2, 3], &[1, 2, 3]);
        story.settle(1);
        story.install(4, "4.8", &[4, 5], &[4, 5]);
        story.settle(4);
        story.is_right(QuorateRingsMeet::default());
        story.install(5, "4.c", &[4, 5], &[4, 5]);
        story.settle_as(5, |status| status.quorate = true);
        story.is_wrong(
            QuorateRingsMeet::default(),
            "1.8 of {1, 2, 3} and 4.c of {4, 5} are quorate, but share no member",
        );
        story.of("last_man_standing 600ms").is_right(QuorateRingsMeet::default());
    }

    #[test]
    fn a_majority_changes_the_tie_breaker() {
        let story = |between: bool| {
            let mut story = Story::new(4).of("auto_tie_breaker lowest, wait_for_all");
            story.install(3, "3.8", &[3, 4], &[]);
            story.settle_as(3, |status| status.quorate = true);
            if between {
                story.install(3, "1.c", &[1, 2, 3, 4], &[3, 4]);
                story.settle(3);
            }
            story.install(1, "1.10", &[1, 2], &[]);
            story.settle_as(1, |status| status.quorate = true);
            story
        };
        story(true).is_right(QuorateRingsMeet::default());
        story(false).is_wrong(QuorateRingsMeet::default(), "share no member");
    }
}
