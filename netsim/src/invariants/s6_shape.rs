//! S6: regular and transitional configurations alternate, each comes once, and each follows from
//! the one before. No message is delivered outside of them.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{NodeId, Regular, RingId, Transitional};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

#[derive(Default)]
pub(super) struct Shape(BTreeMap<Life, Course>);

impl Online for Shape {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        if record.what == What::Crashed {
            self.0.remove(&life);
            return Ok(());
        }
        match self.0.entry(life).or_default().follow(record) {
            Err(why) => violated("S6", record.at, format!("{life}: {}: {why}", record.what)),
            Ok(()) => Ok(()),
        }
    }
}

/// The current position of a life.
#[derive(Default)]
struct Course {
    ring: Option<Regular>,
    change: Option<Transitional>,
    seen: Recent<RingId, ()>,
}

impl Course {
    fn follow(&mut self, record: &Record) -> Result<(), &'static str> {
        match &record.what {
            What::Transitional(change) => {
                let Some(ring) = &self.ring else { return Err("there was no ring before it") };
                demand(self.change.is_none(), "a second transitional configuration")?;
                demand(change.previous == ring.ring, "another ring ended")?;
                demand(change.members.is_subset(&ring.members), "not all were members of the old ring")?;
                demand(change.left == minus(&ring.members, &change.members), "other nodes left")?;
                self.change = Some(change.clone());
            }
            What::Regular(ring) => {
                demand(self.seen.get(&ring.ring).is_none(), "installed a second time")?;
                self.seen.entry(ring.ring, || ());
                let (along, left) = match (&self.ring, &self.change) {
                    (None, _) => (BTreeSet::new(), BTreeSet::new()),
                    (Some(_), None) => return Err("no transitional configuration before it"),
                    (Some(old), Some(change)) => {
                        demand(change.ring == ring.ring, "another ring was announced")?;
                        (change.members.clone(), minus(&old.members, &change.members))
                    }
                };
                demand(along.is_subset(&ring.members), "not all nodes that came along are members")?;
                demand(ring.joined == minus(&ring.members, &along), "other nodes joined")?;
                demand(ring.left == left, "other nodes left")?;
                self.ring = Some(ring.clone());
                self.change = None;
            }
            What::Delivered(delivered) => {
                demand(self.ring.is_some(), "before the first ring")?;
                let over = self.change.is_some();
                demand(delivered.transitional == over, "in the wrong configuration")?;
            }
            What::Synced(ring) => {
                let here = self.ring.as_ref();
                demand(here.is_some_and(|here| here.ring == *ring), "the node is in another ring")?;
            }
            _ => {}
        }
        Ok(())
    }
}

fn demand(holds: bool, why: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(why) }
}

fn minus(a: &BTreeSet<NodeId>, b: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    a.difference(b).copied().collect()
}

#[cfg(test)]
mod tests {
    use quorate_membership::Cause;

    use super::super::story::{Story, ids, ring};
    use super::*;

    #[test]
    fn rings_are_joined_by_transitional_configurations() {
        let mut story = Story::ring(3);
        story.deliver(1, 2, 1, 1);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.install(1, "1.c", &[1, 2, 3], &[1, 2]);
        story.crash(1);
        story.start(1);
        story.install(1, "1.d", &[1], &[]);
        story.is_right(Shape::default());
    }

    #[test]
    fn a_member_that_started_again_both_left_and_joined() {
        let mut story = Story::ring(2);
        story.install(1, "1.8", &[1, 2], &[1]);
        story.is_right(Shape::default());
    }

    #[test]
    fn a_ring_does_not_follow_a_ring_directly() {
        let mut story = Story::ring(2);
        story.enter_ring(1, "1.8", &[1], &[1]);
        story.is_wrong(Shape::default(), "no transitional configuration before it");
    }

    #[test]
    fn a_ring_ends_once() {
        let mut story = Story::ring(2);
        story.leave_ring(1, "1.8", &[1]);
        story.leave_ring(1, "1.8", &[1]);
        story.is_wrong(Shape::default(), "a second transitional configuration");
    }

    #[test]
    fn the_next_ring_is_the_announced_one() {
        let mut story = Story::ring(2);
        story.leave_ring(1, "1.8", &[1]);
        story.enter_ring(1, "1.c", &[1], &[1]);
        story.is_wrong(Shape::default(), "another ring was announced");
    }

    #[test]
    fn a_ring_is_installed_once() {
        let mut story = Story::ring(2);
        story.install(1, "1.4", &[1, 2], &[1, 2]);
        story.is_wrong(Shape::default(), "installed a second time");
    }

    #[test]
    fn only_old_members_come_along() {
        let mut story = Story::ring(2);
        story.leave_ring(1, "1.8", &[1, 3]);
        story.is_wrong(Shape::default(), "not all were members of the old ring");
        let mut story = Story::ring(2);
        story.leave_ring(1, "1.8", &[1, 2]);
        story.enter_ring(1, "1.8", &[1], &[1, 2]);
        story.is_wrong(Shape::default(), "not all nodes that came along are members");
    }

    #[test]
    fn a_ring_lists_exactly_who_joined_and_left() {
        let regular = |joined: &[u32], left: &[u32]| {
            let mut story = Story::ring(3);
            story.leave_ring(1, "1.8", &[1, 2]);
            story.record(
                1,
                What::Regular(Regular {
                    ring: ring("1.8"),
                    members: ids(&[1, 2, 4]),
                    joined: ids(joined),
                    left: ids(left),
                    causes: vec![Cause::Started],
                }),
            );
            story
        };
        regular(&[4], &[3]).is_right(Shape::default());
        regular(&[2, 4], &[3]).is_wrong(Shape::default(), "other nodes joined");
        regular(&[4], &[]).is_wrong(Shape::default(), "other nodes left");
    }

    #[test]
    fn nothing_is_delivered_before_the_first_ring() {
        let mut story = Story::new(2);
        story.deliver(1, 2, 1, 1);
        story.is_wrong(Shape::default(), "before the first ring");
    }
}
