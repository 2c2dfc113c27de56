//! M2: the rings that a node installs have rising sequence numbers, over its restarts too. (Stored
//! records survive in every scenario so far.)

use std::collections::BTreeMap;

use quorate_membership::{NodeId, RingId};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

#[derive(Default)]
pub(super) struct RingIdsRise(BTreeMap<NodeId, RingId>);

impl Online for RingIdsRise {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Regular(regular)) = (record.life, &record.what) else { return Ok(()) };
        let before = self.0.insert(life.node, regular.ring);
        match before.filter(|before| before.seq >= regular.ring.seq) {
            Some(before) => {
                violated("M2", record.at, format!("{life} installed {} after {before}", regular.ring))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn sequence_numbers_rise() {
        let mut story = Story::ring(2);
        story.install(1, "1.8", &[1], &[1]);
        story.install(2, "2.8", &[2], &[2]);
        story.is_right(RingIdsRise::default());
        story.install(2, "1.8", &[1, 2], &[2]);
        story.is_wrong(RingIdsRise::default(), "2#1 installed 1.8 after 2.8");
    }

    #[test]
    fn a_restart_is_no_excuse() {
        let mut story = Story::ring(2);
        story.crash(1);
        story.start(1);
        story.install(1, "1.4", &[1], &[]);
        story.is_wrong(RingIdsRise::default(), "1#2 installed 1.4 after 1.4");
    }
}
