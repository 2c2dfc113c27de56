//! M4: the transitional configuration from one ring to the next contains exactly the members whose
//! last ring was the former, and is the same for all of them. A member that crashed and started
//! again in between is not in it, though it is in both rings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_membership::{NodeId, RingId, Transitional};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

#[derive(Default)]
pub(super) struct ExactTransitional {
    rings: Recent<RingId, Formation>,
    /// The transitional configuration that a life is in.
    changes: BTreeMap<Life, Transitional>,
    /// The nodes that were reported to come along from a ring in which they have not been seen yet.
    unseen: BTreeMap<(RingId, NodeId), Unseen>,
}

/// A report that a node comes along.
struct Unseen {
    at: Duration,
    by: Life,
    to: RingId,
}

/// The formation of a ring.
#[derive(Default)]
struct Formation {
    /// The nodes that installed the ring, each with the ring that it had installed before in the
    /// same life.
    came_from: BTreeMap<NodeId, Option<RingId>>,
    /// The reports of which nodes come along from which ring, each with the life that made it.
    said: Vec<(Life, RingId, BTreeSet<NodeId>)>,
}

impl Formation {
    fn contradiction(&self) -> Option<String> {
        for (life, from, members) in &self.said {
            for (node, previous) in &self.came_from {
                match (members.contains(node), *previous == Some(*from)) {
                    (true, false) => {
                        return Some(format!(
                            "{life} left {from}: {node} is listed as transitional, but came from {previous:?}"
                        ));
                    }
                    (false, true) => {
                        return Some(format!("{life} left {from}: {node} came along, but is not listed"));
                    }
                    _ => {}
                }
            }
            let first = self.said.iter().find(|(_, other, _)| other == from);
            if let Some((first, _, theirs)) = first.filter(|(_, _, theirs)| theirs != members) {
                return Some(format!("{life} left {from} with {members:?}, but {first} with {theirs:?}"));
            }
        }
        None
    }
}

impl Online for ExactTransitional {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let regular = match &record.what {
            What::Crashed => {
                self.changes.remove(&life);
                return Ok(());
            }
            What::Transitional(change) => {
                self.changes.insert(life, change.clone());
                return Ok(());
            }
            What::Regular(regular) => regular,
            _ => return Ok(()),
        };
        let ring = regular.ring;
        self.unseen.retain(|(from, node), unseen| *node != life.node || (*from != ring && unseen.to != ring));
        let change = self.changes.remove(&life).filter(|change| change.ring == ring);
        if let Some(Transitional { previous, members, .. }) = &change
            && let Some(old) = self.rings.get(previous)
        {
            let strangers = members.iter().filter(|node| !old.came_from.contains_key(node));
            for &node in strangers.filter(|node| regular.members.contains(node)) {
                self.unseen.insert((*previous, node), Unseen { at: record.at, by: life, to: ring });
            }
        }
        let formation = self.rings.entry(ring, Formation::default);
        formation.came_from.insert(life.node, cluster.regular(life).map(|regular| regular.ring));
        formation.said.extend(change.map(|change| (life, change.previous, change.members)));
        match formation.contradiction() {
            Some(what) => violated("M4", record.at, format!("into {ring}, {what}")),
            None => Ok(()),
        }
    }

    fn end(&mut self, _: Duration) -> Result<(), Violation> {
        match self.unseen.pop_first() {
            Some(((from, node), Unseen { at, by, .. })) => violated(
                "M4",
                at,
                format!("{by} left {from}: {node} is listed as transitional, but was never there"),
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn members_of_the_old_ring_come_along() {
        let mut story = Story::ring(3);
        for node in [1, 2] {
            story.install(node, "1.8", &[1, 2], &[1, 2]);
        }
        story.install(3, "3.8", &[3], &[3]);
        for (node, along) in [(1, &[1, 2][..]), (2, &[1, 2]), (3, &[3])] {
            story.install(node, "1.c", &[1, 2, 3], along);
        }
        story.is_right(ExactTransitional::default());
    }

    #[test]
    fn a_restarted_member_does_not_come_along() {
        let restart = |along: &[u32]| {
            let mut story = Story::ring(2);
            story.crash(2);
            story.start(2);
            story.install(2, "2.5", &[2], &[]);
            story.install(1, "1.c", &[1, 2], along);
            story.install(2, "1.c", &[1, 2], &[2]);
            story
        };
        restart(&[1]).is_right(ExactTransitional::default());
        restart(&[1, 2])
            .is_wrong(ExactTransitional::default(), "2 is listed as transitional, but came from Some(2.5)");
    }

    #[test]
    fn a_member_that_comes_along_is_named() {
        let mut story = Story::ring(2);
        story.install(1, "1.8", &[1, 2], &[1]);
        story.install(2, "1.8", &[1, 2], &[2]);
        story.is_wrong(ExactTransitional::default(), "2 came along, but is not listed");
    }

    #[test]
    fn members_that_come_along_name_the_same_nodes() {
        // Node 3 crashed on the way, so the survivors cannot know whether it came along. They must
        // still agree.
        let mut story = Story::ring(3);
        story.install(1, "1.8", &[1, 2, 3], &[1, 2]);
        story.install(2, "1.8", &[1, 2, 3], &[1, 2, 3]);
        story.crash(3);
        story.is_wrong(ExactTransitional::default(), "with {1, 2, 3}, but 1#1 with {1, 2}");
    }

    #[test]
    fn a_node_that_was_never_there_does_not_come_along() {
        let mut story = Story::new(2);
        story.install(1, "1.4", &[1], &[]);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.is_wrong(ExactTransitional::default(), "2 is listed as transitional, but was never there");
    }
}
