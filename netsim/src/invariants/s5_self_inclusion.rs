//! S5: a node is a member of every configuration that is delivered to it.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct SelfInclusion;

impl Online for SelfInclusion {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let members = match &record.what {
            What::Regular(regular) => &regular.members,
            What::Transitional(transitional) => &transitional.members,
            _ => return Ok(()),
        };
        if members.contains(&life.node) {
            return Ok(());
        }
        violated("S5", record.at, format!("{life} is not in its own configuration: {}", record.what))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_node_is_in_its_own_configurations() {
        let mut story = Story::ring(3);
        story.install(2, "2.8", &[2, 3], &[2, 3]);
        story.is_right(SelfInclusion);
    }

    #[test]
    fn a_ring_without_the_node_itself_is_wrong() {
        let mut story = Story::new(3);
        story.enter_ring(1, "2.8", &[2, 3], &[]);
        story.is_wrong(SelfInclusion, "1#1 is not in its own configuration: regular 2.8");
    }

    #[test]
    fn a_transition_without_the_node_itself_is_wrong() {
        let mut story = Story::ring(3);
        story.leave_ring(1, "1.8", &[2, 3]);
        story.is_wrong(SelfInclusion, "1#1 is not in its own configuration: transitional 1.4 to 1.8");
    }
}
