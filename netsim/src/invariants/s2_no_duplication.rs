//! S2: a message is delivered to a node at most once, over all its rings, and has one place in one
//! ring.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct NoDuplication;

impl Online for NoDuplication {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Delivered(delivered)) = (record.life, &record.what) else { return Ok(()) };
        let Some(message) = delivered.message else { return Ok(()) };
        if cluster.messages.has_had(life, message) {
            return violated("S2", record.at, format!("{message} was delivered to {life} a second time"));
        }
        let (ring, seq) = (delivered.ring, delivered.seq);
        match cluster.messages.get(message).and_then(|known| known.place) {
            Some((there, at)) if (there, at) != (ring, seq) => {
                violated("S2", record.at, format!("{message} is at {at} of {there} and at {seq} of {ring}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn each_node_gets_a_message_once() {
        let mut story = Story::ring(2);
        for node in [1, 2] {
            story.deliver(node, 1, 1, 1);
            story.deliver(node, 1, 2, 1);
        }
        story.is_right(NoDuplication);
    }

    #[test]
    fn a_message_comes_once_even_if_the_ring_changes() {
        let mut story = Story::ring(2);
        story.deliver(1, 2, 1, 1);
        story.install(1, "1.8", &[1], &[1]);
        story.deliver(1, 2, 1, 1);
        story.is_wrong(NoDuplication, "2#1:1 was delivered to 1#1 a second time");
    }

    #[test]
    fn a_message_is_ordered_by_one_ring() {
        let mut story = Story::ring(2);
        story.deliver(1, 2, 1, 1);
        story.deliver(2, 2, 1, 3);
        story.is_wrong(NoDuplication, "2#1:1 is at 1 of 1.4 and at 3 of 1.4");
    }
}
