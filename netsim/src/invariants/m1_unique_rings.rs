//! M1: a ring id names one ring forever. Its representative uses each number once, also over its
//! restarts, and the ring has one list of members.

use std::collections::BTreeMap;

use quorate_membership::wire::CommitToken;
use quorate_membership::{NodeId, RingId};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::Fault;
use crate::history::{Inside, Life, Record, What};

#[derive(Default)]
pub(super) struct UniqueRings {
    /// The last ring that each node created.
    created: BTreeMap<NodeId, (RingId, Life, Vec<NodeId>)>,
}

impl UniqueRings {
    fn create(&mut self, life: Life, token: &CommitToken) -> Result<(), String> {
        let this = (token.ring, life, token.members.clone());
        match self.created.insert(life.node, this.clone()) {
            Some(before) if before != this && before.0.seq >= token.ring.seq => {
                let (ring, life, members) = before;
                Err(format!("of {:?} after {ring} of {members:?} by {life}", token.members))
            }
            _ => Ok(()),
        }
    }
}

impl Online for UniqueRings {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let token = match &record.what {
            // There is no protection against an old record.
            What::Network(Fault::RollBackRecord(node)) => {
                self.created.retain(|id, _| id.get() != *node);
                return Ok(());
            }
            What::Inside(Inside::CommitSent { token, .. }) => token,
            _ => return Ok(()),
        };
        let Some(life) = record.life else { return Ok(()) };
        let right = match cluster.ring(token.ring) {
            Some(ring) if !token.members.iter().eq(&ring.members) => {
                Err(format!("of {:?}, which has members {:?}", token.members, ring.members))
            }
            _ if token.ring.representative == life.node && token.entries.len() == 1 => {
                self.create(life, token)
            }
            _ => Ok(()),
        };
        right.or_else(|why| violated("M1", record.at, format!("{life} forms {} {why}", token.ring)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_representative_uses_each_number_once() {
        let mut story = Story::new(2);
        story.commit(1, "1.8", &[1, 2], 1);
        story.commit(1, "1.8", &[1, 2], 1);
        story.commit(2, "1.8", &[1, 2], 2);
        story.commit(1, "1.8", &[1, 2], 2);
        story.crash(1);
        story.start(1);
        story.commit(1, "1.c", &[1], 1);
        story.is_right(UniqueRings::default());
        story.crash(1);
        story.start(1);
        story.commit(1, "1.c", &[1], 1);
        story.is_wrong(UniqueRings::default(), "1#3 forms 1.c of [1] after 1.c of [1] by 1#2");
    }

    #[test]
    fn a_ring_has_one_list_of_members() {
        let mut story = Story::new(3);
        story.commit(1, "1.8", &[1, 2], 1);
        story.commit(2, "1.8", &[1, 2, 3], 2);
        story.is_wrong(UniqueRings::default(), "2#1 forms 1.8 of [1, 2, 3], which has members {1, 2}");
    }
}
