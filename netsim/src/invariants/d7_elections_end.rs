//! D7: elections end, and none happens without a cause. A ring elects once, at its beginning or
//! after it has waited for members, and once more for each hand-over.
//!
//! A DC that goes from one settled ring straight into the next, where no member is new, stays DC.
//! It may lose the role in these cases:
//!
//! - It has given up the role.
//! - Its application hangs.
//! - It had no term, and the new DC is a member whose application had hung before.
//! - The new DC has a higher priority, and `preempt` is set. The hand-over may not have been
//!   delivered before the ring was over (seed 76370).

use std::collections::{BTreeMap, BTreeSet};

use quorate_election::{Lease, Term};
use quorate_membership::{NodeId, RingId};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

/// The elections of the ring that a life is in and of the ring before it.
#[derive(Default)]
struct Elected {
    here: Option<Election>,
    /// The previous ring's DC, and whether it had a term.
    before: Option<(NodeId, bool)>,
}

struct Election {
    ring: RingId,
    dc: Option<NodeId>,
    /// The latest term, whether or not the ring has quorum now.
    term: Option<Term>,
}

#[derive(Default)]
pub(super) struct ElectionsEnd {
    elected: BTreeMap<Life, Elected>,
    /// The nodes that may lose the role although they are present. Such a node has announced that
    /// it gives up the role, which others may not have received, or its application hangs.
    gives_up: BTreeSet<NodeId>,
    /// The nodes whose application had hung and no longer does.
    back: BTreeSet<NodeId>,
}

impl Online for ElectionsEnd {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        match &record.what {
            What::Started => {
                self.gives_up.remove(&life.node);
                self.back.remove(&life.node);
            }
            What::Crashed => drop(self.elected.remove(&life)),
            What::Hung(true) => drop(self.gives_up.insert(life.node)),
            What::Hung(false) => drop(self.back.insert(life.node)),
            // Until this record the ring before continues: a hand-over may also come in its
            // transitional configuration.
            What::Regular(_) => {
                let previous = cluster.regular(life).map(|regular| regular.ring);
                let elected = self.elected.entry(life).or_default();
                let here = elected.here.take().filter(|here| Some(here.ring) == previous);
                elected.before = here.and_then(|here| Some((here.dc?, here.term.is_some())));
            }
            What::Status(status) if status.settled => {
                match (status.dc == Some(life.node), status.lease) {
                    (true, Lease::None) if status.quorate => drop(self.gives_up.insert(life.node)),
                    (true, Lease::Held) => drop(self.gives_up.remove(&life.node)),
                    _ => {}
                }
                let Some(regular) = cluster.regular(life) else { return Ok(()) };
                let wrong = |what| violated("D7", record.at, format!("{life} in {}: {what}", regular.ring));
                let elected = self.elected.entry(life).or_default();
                let before = elected.here.take();
                let term = status.term.or(before.as_ref().and_then(|before| before.term));
                elected.here = Some(Election { ring: regular.ring, dc: status.dc, term });
                if let Some(before) = before {
                    let handed_over = match (before.term, status.term) {
                        (Some(before), Some(now)) => now.hand_over == before.hand_over + 1,
                        _ => false,
                    };
                    let elects_first = before.dc.is_none() && before.term.is_none();
                    let same = before.dc == status.dc && (before.term.is_none() || before.term == term);
                    let gives_up = status.dc.is_none() && status.vacant.is_some();
                    return if same || handed_over || elects_first || gives_up {
                        Ok(())
                    } else {
                        wrong(format!("elects {:?} after {:?}", status.dc, before.dc))
                    };
                }
                if status.vacant.is_some() {
                    return Ok(());
                }
                let back = status.dc.is_some_and(|dc| self.back.contains(&dc));
                let stays = |&(dc, termed): &(NodeId, bool)| {
                    regular.members.contains(&dc) && !self.gives_up.contains(&dc) && (termed || !back)
                };
                let Some((previous, _)) = elected.before.filter(stays) else {
                    return Ok(());
                };
                let priorities = &cluster.electorate.preferred;
                let preferred = status.dc.is_some_and(|dc| priorities.of(dc) > priorities.of(previous));
                if regular.joined.is_empty() && status.dc != Some(previous) && !preferred {
                    let what =
                        format!("elects {:?}, though {previous} is there and no member is new", status.dc);
                    return wrong(what);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id};
    use super::*;
    use crate::Electorate;

    fn second(members: &[u32], along: &[u32], dc: u32) -> Story {
        let mut story = Story::ring(3);
        story.settle_as(1, |status| status.dc = Some(id(2)));
        story.install(1, "1.8", members, along);
        story.settle_as(1, |status| status.dc = Some(id(dc)));
        story
    }

    #[test]
    fn a_dc_stays_unless_it_is_gone_or_a_member_is_new() {
        second(&[1, 2], &[1, 2], 2).is_right(ElectionsEnd::default());
        second(&[1, 3], &[1, 3], 1).is_right(ElectionsEnd::default());
        second(&[1, 2, 3], &[1, 2], 3).is_right(ElectionsEnd::default());
        second(&[1, 2], &[1, 2], 1).is_wrong(
            ElectionsEnd::default(),
            "1#1 in 1.8: elects Some(1), though 2 is there and no member is new",
        );
    }

    #[test]
    fn a_preferred_member_may_replace_the_dc() {
        for (priority, preempts) in [(2, true), (1, false)] {
            let mut electorate = Electorate::default();
            electorate.preferred.0.insert(1, priority);
            let story = second(&[1, 2], &[1, 2], 1).with(electorate);
            match preempts {
                true => story.is_right(ElectionsEnd::default()),
                false => story.is_wrong(ElectionsEnd::default(), "though 2 is there"),
            }
        }
    }

    #[test]
    fn a_dc_that_gave_up_or_hangs_may_be_replaced() {
        let followed = |why: fn(&mut Story)| {
            let mut story = Story::ring(3);
            story.settle_as(1, |status| status.dc = Some(id(2)));
            why(&mut story);
            story.install(1, "1.8", &[1, 2], &[1, 2]);
            story.settle_as(1, |status| status.dc = Some(id(1)));
            story
        };
        followed(|story| story.settle_as(2, |status| status.dc = Some(id(2))))
            .is_right(ElectionsEnd::default());
        followed(|story| story.record(2, What::Hung(true))).is_right(ElectionsEnd::default());
        let back = |term: Option<Term>| {
            let mut story = Story::ring(3);
            story.record(1, What::Hung(true));
            story.settle_as(1, |status| (status.dc, status.term) = (Some(id(2)), term));
            story.record(1, What::Hung(false));
            story.install(1, "1.8", &[1, 2], &[1, 2]);
            story.settle_as(1, |status| status.dc = Some(id(1)));
            story
        };
        back(None).is_right(ElectionsEnd::default());
        back(Some(Term { ring_seq: 4, hand_over: 0, node: id(2) }))
            .is_wrong(ElectionsEnd::default(), "though 2 is there");
        followed(|story| {
            story.record(2, What::Hung(true));
            story.settle_as(2, |status| (status.dc, status.lease) = (Some(id(2)), Lease::Held));
        })
        .is_wrong(ElectionsEnd::default(), "though 2 is there");
    }

    #[test]
    fn a_hand_over_may_come_at_the_end_of_its_ring() {
        let handed_over = |hand_over| {
            let mut story = Story::ring(3);
            story.settle(1);
            story.leave_ring(1, "1.8", &[1, 2]);
            story.settle_as(1, |status| {
                status.dc = Some(id(2));
                status.term = Some(Term { ring_seq: 4, hand_over, node: id(2) });
            });
            story
        };
        handed_over(1).is_right(ElectionsEnd::default());
        handed_over(0).is_wrong(ElectionsEnd::default(), "1#1 in 1.4: elects Some(2) after Some(1)");
    }

    #[test]
    fn a_ring_elects_once() {
        let elects_again = |dc: u32, hand_over: u32| {
            let mut story = Story::ring(3);
            story.settle(1);
            let term = Some(Term { ring_seq: 4, hand_over, node: id(dc) });
            story.settle_as(1, |status| (status.dc, status.term) = (Some(id(dc)), term));
            story
        };
        elects_again(1, 0).is_right(ElectionsEnd::default());
        elects_again(2, 1).is_right(ElectionsEnd::default());
        elects_again(2, 0).is_wrong(ElectionsEnd::default(), "1#1 in 1.4: elects");
        elects_again(2, 2).is_wrong(ElectionsEnd::default(), "1#1 in 1.4: elects");
    }
}
