//! H6: a node announces no ring sequence number before it has stored it, and announces none at all
//! before it has stored its start.

use std::collections::BTreeMap;

use quorate_membership::NodeId;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Life, Record, What};

#[derive(Default)]
pub(super) struct Persisted {
    /// The ring sequence number that each node has stored in its present life.
    stored: BTreeMap<NodeId, (Life, u64)>,
}

impl Online for Persisted {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(inside)) = (record.life, &record.what) else { return Ok(()) };
        let named = match inside {
            Inside::Persisted(stored) => {
                self.stored.insert(life.node, (life, stored.ring_seq));
                return Ok(());
            }
            Inside::JoinSent(join) => join.ring_seq,
            Inside::CommitSent { token, .. } => token.ring.seq,
            _ => return Ok(()),
        };
        match self.stored.get(&life.node).filter(|(then, _)| *then == life) {
            Some((_, stored)) if named <= *stored => Ok(()),
            stored => {
                let stored = stored.map(|(_, seq)| seq);
                violated("H6", record.at, format!("{life} names ring {named:x}, but has stored {stored:x?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::Stored;

    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_ring_number_is_stored_before_it_is_named() {
        let mut story = Story::new(2);
        let store = |story: &mut Story, ring_seq| {
            story.record(
                1,
                What::Inside(Inside::Persisted(Stored {
                    ring_seq,
                    boots: 1,
                    lost: false,
                    ..Stored::default()
                })),
            );
        };
        store(&mut story, 8);
        story.commit(1, "1.8", &[1, 2], 1);
        story.is_right(Persisted::default());
        story.commit(1, "1.9", &[1, 2], 1);
        story.is_wrong(Persisted::default(), "1#1 names ring 9, but has stored Some(8)");
    }

    #[test]
    fn a_new_life_stores_again() {
        let mut story = Story::new(1);
        story.record(
            1,
            What::Inside(Inside::Persisted(Stored {
                ring_seq: 100,
                boots: 1,
                lost: false,
                ..Stored::default()
            })),
        );
        story.crash(1);
        story.start(1);
        story.commit(1, "1.8", &[1], 1);
        story.is_wrong(Persisted::default(), "1#2 names ring 8, but has stored None");
    }
}
