//! Q2: a status describes the ring that the node is in. Until that ring is settled, the status has
//! no quorum. In a settled ring all members count the same votes, which are the votes present.
//!
//! Changes while the ring stands reach all members in the same order. Changes that follow from a
//! member's clock (`last_man_standing`) are exempt.

use std::collections::{BTreeMap, BTreeSet};

use quorate_election::Inquorate;
use quorate_membership::{NodeId, RingId};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

/// Votes present, expected and needed, and whether they are enough.
type Count = (u32, Option<u32>, Option<u32>, bool);

#[derive(Default)]
pub(super) struct AgreedQuorum {
    /// The counts of each ring, in order, and the life that made them first.
    rings: Recent<RingId, (Life, Vec<Count>)>,
    /// The ring of each life and the number of counts that the life has seen of it; `None` if it
    /// had lost the ring for a while and missed some.
    seen: BTreeMap<Life, (RingId, Option<usize>)>,
}

impl Online for AgreedQuorum {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Status(status)) = (record.life, &record.what) else { return Ok(()) };
        let regular = cluster.regular(life);
        let wrong = |what: String| violated("Q2", record.at, format!("{life}: {what}"));
        // Such a status comes from a node that is about to leave, or that has had no token for the
        // token timeout.
        let none = status.ring.is_none() && !status.settled;
        let here = regular.map(|regular| regular.ring);
        if let Some(here) = here.filter(|_| none) {
            self.seen.insert(life, (here, None));
        }
        if status.ring != here && !none {
            return wrong(format!("a status of {:?} in {here:?}", status.ring));
        }
        if status.quorate != status.inquorate.is_none() {
            return wrong(format!("quorate is {}, inquorate is {:?}", status.quorate, status.inquorate));
        }
        if !status.settled {
            return match status.quorate || status.dc.is_some() || status.term.is_some() {
                true => wrong("quorum or a dc before the ring is settled".to_owned()),
                false => Ok(()),
            };
        }
        let Some(regular) = regular else { return wrong("settled without a ring".to_owned()) };

        let (electorate, ring) = (&cluster.electorate, regular.ring);
        let wrong = |what| wrong(format!("{what} (votes, expected, quorum, quorate in {ring})"));
        let counted = (status.total_votes, status.expected_votes, status.quorum, status.quorate);
        let (here, n) = self.seen.entry(life).or_insert((ring, Some(0)));
        if *here != ring {
            (*here, *n) = (ring, Some(0));
        }
        let Some(n) = n else { return Ok(()) };
        let (first, counts) = self.rings.entry(ring, || (life, Vec::new()));
        if *n > 0 && counts.get(*n - 1) == Some(&counted) {
            // Another field of the status has changed.
            return Ok(());
        }
        // Changes that follow from a member's clock have no place in the order.
        let by_clock = cluster.options.last_man_standing.is_some();
        match counts.get(*n) {
            None => counts.push(counted),
            Some(theirs) if *theirs != counted && !(by_clock && *n > 0) => {
                return wrong(format!("{counted:?}, but {theirs:?} for {first}"));
            }
            Some(_) => {}
        }
        *n += 1;
        let (votes, all) = (electorate.sum(&regular.members), electorate.sum(&cluster.nodes));
        let quorum = all / 2 + 1;
        // A cluster that starts for the first time needs all of its voters, and all of them have to
        // store that. Members whose records were lost do not help the others to a majority.
        let kept = |lost: &BTreeSet<NodeId>| electorate.sum(&(&regular.members - lost));
        let forgotten = match &status.inquorate {
            Some(Inquorate::Founding | Inquorate::NeverAgreed { .. } | Inquorate::NeverFinished { .. }) => {
                true
            }
            Some(Inquorate::RecordsLost(lost)) => kept(lost) < quorum,
            _ => false,
        };
        let right = (votes, Some(all), Some(quorum), votes >= quorum && !forgotten);
        if electorate.is_plain() && counted != right {
            return wrong(format!("{counted:?}, not {right:?}"));
        }
        Ok(())
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
    fn members_count_the_same_votes() {
        settled(|_| {}).is_right(AgreedQuorum::default());
        settled(|status| status.total_votes = 2)
            .is_wrong(AgreedQuorum::default(), "2#1: (2, Some(3), Some(2), true), but");
        settled(|status| status.quorum = None)
            .is_wrong(AgreedQuorum::default(), "(3, Some(3), None, true), but");
    }

    #[test]
    fn changes_have_one_order_except_by_clock() {
        let falls = |options, last| {
            let mut story = Story::ring(3).of(options);
            let expects = |votes| move |status: &mut Status| status.expected_votes = Some(votes);
            for (node, votes) in [(1, 3), (1, 2), (1, 1), (2, 3), (2, 3), (2, 2), (3, 3), (3, last)] {
                story.settle_as(node, expects(votes));
            }
            story
        };
        falls("allow_downscale", 2).is_right(AgreedQuorum::default());
        falls("allow_downscale", 1)
            .is_wrong(AgreedQuorum::default(), "3#1: (3, Some(1), Some(2), true), but");
        falls("last_man_standing 600ms", 1).is_right(AgreedQuorum::default());
    }

    #[test]
    fn members_count_the_votes_present() {
        let mut story = Story::ring(5);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.settle_as(1, |status| {
            status.quorate = true;
            status.inquorate = None;
        });
        story.is_wrong(AgreedQuorum::default(), "not (2, Some(5), Some(3), false)");
    }

    #[test]
    fn a_status_names_the_current_ring() {
        settled(|status| status.ring = Some(ring("1.8")))
            .is_wrong(AgreedQuorum::default(), "a status of Some(1.8) in Some(1.4)");
    }

    #[test]
    fn there_is_no_quorum_before_the_ring_is_settled() {
        settled(|status| status.settled = false)
            .is_wrong(AgreedQuorum::default(), "quorum or a dc before the ring is settled");
    }

    #[test]
    fn a_node_that_left_is_in_no_ring() {
        use quorate_membership::Cause;
        let mut story = settled(|_| {});
        story.record(3, What::Left(Cause::LeaveRequested));
        let status = Status { inquorate: Some(Inquorate::Unsettled), ..Status::default() };
        story.record(3, What::Status(Box::new(status)));
        story.is_right(AgreedQuorum::default());
    }
}
