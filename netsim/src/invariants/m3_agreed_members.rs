//! M3: a ring has the same members for every node that installs it.

use std::collections::BTreeSet;

use quorate_membership::{NodeId, RingId};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

#[derive(Default)]
pub(super) struct AgreedMembers(Recent<RingId, (Life, BTreeSet<NodeId>)>);

impl Online for AgreedMembers {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Regular(regular)) = (record.life, &record.what) else { return Ok(()) };
        let (first, members) = self.0.entry(regular.ring, || (life, regular.members.clone()));
        if *members == regular.members {
            return Ok(());
        }
        let (ring, theirs) = (regular.ring, &regular.members);
        let what = format!("{ring} has members {members:?} for {first} and {theirs:?} for {life}");
        violated("M3", record.at, what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_ring_has_the_same_members_for_all() {
        let mut story = Story::ring(3);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.install(3, "3.8", &[3], &[3]);
        story.is_right(AgreedMembers::default());
        story.install(2, "1.8", &[1, 2, 3], &[1, 2]);
        story.is_wrong(AgreedMembers::default(), "1.8 has members {1, 2} for 1#1 and {1, 2, 3} for 2#1");
    }
}
