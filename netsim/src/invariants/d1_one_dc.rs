//! D1: a ring has at most one DC at any point of its order, and the DC is a member of the ring.
//! Another DC follows only by a hand-over, which the term counts.

use quorate_membership::{NodeId, RingId};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

/// The first DC named in each ring after each hand-over, and the life that named it. The hand-over
/// is `None` without quorum.
#[derive(Default)]
pub(super) struct OneDc(Recent<(RingId, Option<u32>), (Life, NodeId)>);

impl Online for OneDc {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Status(status)) = (record.life, &record.what) else { return Ok(()) };
        let (Some(regular), Some(dc)) = (cluster.regular(life), status.dc) else { return Ok(()) };
        let wrong = |what| violated("D1", record.at, format!("{life} in {}: {what}", regular.ring));
        if !regular.members.contains(&dc) {
            return wrong(format!("the dc is {dc}, which is not a member"));
        }
        let point = (regular.ring, status.term.map(|term| term.hand_over));
        let (first, theirs) = *self.0.entry(point, || (life, dc));
        if theirs == dc { Ok(()) } else { wrong(format!("the dc is {dc}, but {theirs} for {first}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id};
    use super::*;

    fn settled(dc: u32) -> Story {
        let mut story = Story::ring(2);
        story.settle(1);
        story.settle_as(2, |status| status.dc = Some(id(dc)));
        story
    }

    #[test]
    fn all_members_name_the_same_dc() {
        settled(1).is_right(OneDc::default());
        settled(2).is_wrong(OneDc::default(), "2#1 in 1.4: the dc is 2, but 1 for 1#1");
        settled(3).is_wrong(OneDc::default(), "the dc is 3, which is not a member");
    }

    #[test]
    fn another_ring_may_have_another_dc() {
        let mut story = settled(1);
        story.install(2, "2.8", &[2], &[2]);
        story.settle(2);
        story.is_right(OneDc::default());
    }
}
