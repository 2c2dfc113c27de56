//! Q2: a status speaks of the ring that the node is in; until that is settled it knows no quorum; and then all members
//! count the same votes, which are those that there are. How many are expected, some may know before others
//! (`last_man_standing`, `allow_downscale`).

use std::collections::BTreeMap;

use super::{Violation, violated};
use crate::History;
use crate::history::Stated;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let electorate = history.electorate();
    let options = electorate.options(history.nodes());
    let falls = options.last_man_standing.is_some() || options.allow_downscale;
    let cluster = electorate.sum(history.nodes());
    let quorum = cluster / 2 + 1;
    let mut rings = BTreeMap::new();
    for Stated { at, life, regular, status } in history.statuses() {
        let wrong = |what: String| violated("Q2", at, format!("{life}: {what}"));
        // Who leaves is in no ring any more just before it says so.
        let leaves = status.ring.is_none() && !status.settled;
        if status.ring != regular.map(|regular| regular.ring) && !leaves {
            return wrong(format!(
                "a status of {:?} in {:?}",
                status.ring,
                regular.map(|regular| regular.ring)
            ));
        }
        if status.quorate != status.inquorate.is_none() {
            return wrong(format!("quorate is {}, and why not: {:?}", status.quorate, status.inquorate));
        }
        if !status.settled {
            if status.quorate || status.dc.is_some() || status.term.is_some() {
                return wrong("quorum or a dc before the ring is settled".to_owned());
            }
            continue;
        }
        let Some(regular) = regular else { return wrong("settled without a ring".to_owned()) };

        let votes = electorate.sum(&regular.members);
        let counted = match falls {
            true => (votes, None, None, status.quorate),
            false => (status.total_votes, status.expected_votes, status.quorum, status.quorate),
        };
        let (first, theirs) = *rings.entry(regular.ring).or_insert((life, counted));
        if theirs != counted {
            return wrong(format!(
                "{counted:?} votes, expected, quorum, quorate in {}, and {theirs:?} for {first}",
                regular.ring
            ));
        }
        let right = (votes, Some(cluster), Some(quorum), votes >= quorum);
        if electorate.is_plain() && counted != right {
            return wrong(format!(
                "{counted:?} votes, expected, quorum, quorate in {}, not {right:?}",
                regular.ring
            ));
        }
    }
    Ok(())
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
        settled(|_| {}).is_right(check);
        settled(|status| status.total_votes = 2).is_wrong(check, "2#1: (2, Some(3), Some(2), true) votes");
        settled(|status| status.quorum = None).is_wrong(check, "(3, Some(3), None, true) votes");
    }

    #[test]
    fn members_count_right() {
        let mut story = Story::ring(5);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.settle_as(1, |status| {
            status.quorate = true;
            status.inquorate = None;
        });
        story.is_wrong(check, "not (2, Some(5), Some(3), false)");
    }

    #[test]
    fn a_status_is_of_the_ring_one_is_in() {
        settled(|status| status.ring = Some(ring("1.8")))
            .is_wrong(check, "a status of Some(1.8) in Some(1.4)");
    }

    #[test]
    fn there_is_no_quorum_before_the_ring_is_settled() {
        settled(|status| status.settled = false).is_wrong(check, "quorum or a dc before the ring is settled");
    }

    #[test]
    fn who_left_is_in_no_ring() {
        use quorate_election::Inquorate;
        use quorate_membership::Cause;
        let mut story = settled(|_| {});
        story.record(3, What::Left(Cause::LeaveRequested));
        let status = Status { inquorate: Some(Inquorate::Unsettled), ..Status::default() };
        story.record(3, What::Status(Box::new(status)));
        story.is_right(check);
    }
}
