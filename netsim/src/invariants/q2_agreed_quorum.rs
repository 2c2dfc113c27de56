//! Q2: a status speaks of the ring that the node is in; until that is settled it knows no quorum; and then all members
//! count the same votes, which are those that there are. How many are expected, some may know before others
//! (`last_man_standing`, `allow_downscale`).

use quorate_membership::RingId;

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

/// Votes present, votes expected, votes needed, and whether there are enough.
type Counted = (u32, Option<u32>, Option<u32>, bool);

/// Who counted first in each ring.
#[derive(Default)]
pub(super) struct AgreedQuorum(Recent<RingId, (Life, Counted)>);

impl Online for AgreedQuorum {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Status(status)) = (record.life, &record.what) else { return Ok(()) };
        let regular = cluster.regular(life);
        let wrong = |what: String| violated("Q2", record.at, format!("{life}: {what}"));
        // Who leaves is in no ring any more just before it says so.
        let leaves = status.ring.is_none() && !status.settled;
        let here = regular.map(|regular| regular.ring);
        if status.ring != here && !leaves {
            return wrong(format!("a status of {:?} in {here:?}", status.ring));
        }
        if status.quorate != status.inquorate.is_none() {
            return wrong(format!("quorate is {}, and why not: {:?}", status.quorate, status.inquorate));
        }
        if !status.settled {
            return match status.quorate || status.dc.is_some() || status.term.is_some() {
                true => wrong("quorum or a dc before the ring is settled".to_owned()),
                false => Ok(()),
            };
        }
        let Some(regular) = regular else { return wrong("settled without a ring".to_owned()) };

        let electorate = &cluster.electorate;
        let options = electorate.options(&cluster.nodes);
        let falls = options.last_man_standing.is_some() || options.allow_downscale;
        let (votes, all) = (electorate.sum(&regular.members), electorate.sum(&cluster.nodes));
        let quorum = all / 2 + 1;
        let counted = match falls {
            true => (votes, None, None, status.quorate),
            false => (status.total_votes, status.expected_votes, status.quorum, status.quorate),
        };
        let wrong =
            |what| wrong(format!("{counted:?} votes, expected, quorum, quorate in {}, {what}", regular.ring));
        let (first, theirs) = *self.0.entry(regular.ring, || (life, counted));
        if theirs != counted {
            return wrong(format!("and {theirs:?} for {first}"));
        }
        let right = (votes, Some(all), Some(quorum), votes >= quorum);
        if counted == right || !electorate.is_plain() { Ok(()) } else { wrong(format!("not {right:?}")) }
    }
}

#[cfg(test)]
mod tests {
    use quorate_election::Status;

    use super::super::story::{Story, ring};
    use super::*;
    use crate::history::What;

    fn settled(wrong: impl FnOnce(&mut Status)) -> Story {
        let mut story = Story::ring(3);
        story.settle(1);
        story.install(1, "1.8", &[1], &[1]);
        story.settle(1);
        story.settle_as(2, wrong);
        story
    }

    #[test]
    fn members_count_alike() {
        settled(|_| {}).is_right(AgreedQuorum::default());
        settled(|status| status.total_votes = 2)
            .is_wrong(AgreedQuorum::default(), "2#1: (2, Some(3), Some(2), true) votes");
        settled(|status| status.quorum = None)
            .is_wrong(AgreedQuorum::default(), "(3, Some(3), None, true) votes");
    }

    #[test]
    fn members_count_right() {
        let mut story = Story::ring(5);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.settle_as(1, |status| {
            status.quorate = true;
            status.inquorate = None;
        });
        story.is_wrong(AgreedQuorum::default(), "not (2, Some(5), Some(3), false)");
    }

    #[test]
    fn a_status_is_of_the_ring_one_is_in() {
        settled(|status| status.ring = Some(ring("1.8")))
            .is_wrong(AgreedQuorum::default(), "a status of Some(1.8) in Some(1.4)");
    }

    #[test]
    fn there_is_no_quorum_before_the_ring_is_settled() {
        settled(|status| status.settled = false)
            .is_wrong(AgreedQuorum::default(), "quorum or a dc before the ring is settled");
    }

    #[test]
    fn who_left_is_in_no_ring() {
        use quorate_election::Inquorate;
        use quorate_membership::Cause;
        let mut story = settled(|_| {});
        story.record(3, What::Left(Cause::LeaveRequested));
        let status = Status { inquorate: Some(Inquorate::Unsettled), ..Status::default() };
        story.record(3, What::Status(Box::new(status)));
        story.is_right(AgreedQuorum::default());
    }
}
