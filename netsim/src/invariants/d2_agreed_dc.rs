//! D2: when a ring is settled, each of its members names a DC or the reason for having none. All
//! members name the same, with the same term. Changes while the ring stands reach all members in
//! the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_election::{Term, Vacancy};
use quorate_membership::{NodeId, RingId};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

/// The DC and its term, or the reason for having none.
type Named = (Option<NodeId>, Option<Term>, Option<Vacancy>);

#[derive(Default)]
pub(super) struct AgreedDc {
    /// The announcements in each ring, in order, and the life that made them first.
    named: Recent<Option<RingId>, (Life, Vec<Named>)>,
    /// The number of announcements that each life has made in its ring.
    seen: BTreeMap<Life, (Option<RingId>, usize)>,
    /// The lives that have lost their ring since. Their announcements until the next ring are not
    /// compared.
    lost: BTreeSet<Life>,
    /// The lives that still have to name a DC, with the time and the ring of their sync.
    owed: BTreeMap<Life, (Duration, RingId)>,
}

impl Online for AgreedDc {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        match &record.what {
            What::Status(status) if status.settled => {
                self.owed.remove(&life);
                let wrong = |what| violated("D2", record.at, format!("{life} names {what}"));
                if status.quorate && status.dc.is_none() && status.vacant.is_none() {
                    return wrong(format!("no dc in {:?}, which is settled", status.ring));
                }
                let named = (status.dc, status.term, status.vacant.clone());
                let (ring, n) = self.seen.entry(life).or_insert((status.ring, 0));
                if *ring != status.ring {
                    (*ring, *n) = (status.ring, 0);
                }
                if self.lost.contains(&life) {
                    // It missed some of the announcements.
                    return Ok(());
                }
                let (first, all) = self.named.entry(status.ring, || (life, Vec::new()));
                if *n > 0 && all.get(*n - 1) == Some(&named) {
                    // Another field of the status has changed.
                    return Ok(());
                }
                match all.get(*n) {
                    None => all.push(named),
                    Some(theirs) if *theirs != named => {
                        return wrong(format!("{named:?} in {:?}, but {first} {theirs:?}", status.ring));
                    }
                    Some(_) => {}
                }
                *n += 1;
            }
            What::Synced(_) if self.lost.contains(&life) => {}
            What::Synced(ring) => drop(self.owed.insert(life, (record.at, *ring))),
            What::Regular(_) | What::Transitional(_) | What::Delivered(_) | What::Status(_) => {
                match &record.what {
                    What::Regular(_) => drop(self.lost.remove(&life)),
                    What::Status(status) if status.ring.is_none() => drop(self.lost.insert(life)),
                    _ => {}
                }
                if let Some((at, ring)) = self.owed.remove(&life) {
                    let what = format!("{life} in {ring} is settled, but the next event is: {}", record.what);
                    return violated("D2", at, what);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _: Duration) -> Result<(), Violation> {
        match self.owed.pop_first() {
            Some((life, (at, ring))) => {
                violated("D2", at, format!("{life} in {ring} is settled and names no DC"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_election::Status;

    use super::super::story::{Story, id, ring};
    use super::*;

    #[test]
    fn members_name_the_same_dc_and_term() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.settle(2);
        story.is_right(AgreedDc::default());
        story.settle_as(3, |status| status.term = None);
        story.is_wrong(AgreedDc::default(), "3#1 names (Some(1), None");
    }

    #[test]
    fn changes_in_a_ring_reach_all_members_in_order() {
        let mut story = Story::ring(2);
        for node in [1, 2] {
            story.settle(node);
            story.settle(node);
            story.settle_as(node, |status| status.term = None);
        }
        story.is_right(AgreedDc::default());
        story.settle(1);
        story.settle_as(2, |status| status.dc = Some(id(2)));
        story.is_wrong(AgreedDc::default(), "2#1 names (Some(2), Some(");
    }

    #[test]
    fn a_settled_ring_has_a_dc_or_a_reason() {
        let mut story = Story::ring(2);
        story.settle_as(1, |status| status.dc = None);
        story.is_wrong(AgreedDc::default(), "1#1 names no dc in Some(1.4), which is settled");
        let vacant = |status: &mut Status| {
            (status.dc, status.term, status.vacant) = (None, None, Some(Vacancy::NoCandidate));
        };
        let mut story = Story::ring(2);
        story.settle_as(1, vacant);
        story.settle_as(2, vacant);
        story.is_right(AgreedDc::default());
        let mut story = Story::ring(2);
        story.record(2, What::Synced(ring("1.4")));
        story.is_wrong(AgreedDc::default(), "2#1 in 1.4 is settled and names no DC");
    }

    #[test]
    fn the_dc_is_named_before_the_first_message() {
        let mut story = Story::ring(2);
        story.record(2, What::Synced(ring("1.4")));
        story.deliver(2, 1, 1, 1);
        story.settle(2);
        story.is_wrong(AgreedDc::default(), "2#1 in 1.4 is settled, but the next event is: delivered");
    }
}
