//! S4: a message ordered by a ring is delivered only while the node is in that ring, or in the
//! transitional configuration that ends it.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct Containment;

impl Online for Containment {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Delivered(delivered)) = (record.life, &record.what) else { return Ok(()) };
        match cluster.regular(life) {
            Some(here) if here.ring != delivered.ring => {
                let what = format!("{life} was in {} but got a message of {}", here.ring, delivered.ring);
                violated("S4", record.at, what)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, ring};
    use super::*;

    #[test]
    fn a_transitional_configuration_delivers_old_messages() {
        let mut story = Story::ring(2);
        story.deliver(1, 2, 1, 1);
        story.leave_ring(1, "1.8", &[1]);
        story.deliver(1, 2, 2, 2);
        story.enter_ring(1, "1.8", &[1], &[1]);
        story.deliver(1, 1, 1, 1);
        story.is_right(Containment);
    }

    #[test]
    fn no_message_comes_after_its_ring() {
        let mut story = Story::ring(2);
        story.install(1, "1.8", &[1], &[1]);
        story.deliver_as(1, 2, 1, 1, |delivered| delivered.ring = ring("1.4"));
        story.is_wrong(Containment, "1#1 was in 1.8 but got a message of 1.4");
    }
}
