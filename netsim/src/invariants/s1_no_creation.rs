//! S1: a delivered message was accepted before, from the node that is named as its sender.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct NoCreation;

impl Online for NoCreation {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let What::Delivered(delivered) = &record.what else { return Ok(()) };
        let Some(message) = delivered.message else {
            let what = format!(
                "a message that no node sent was delivered at {} of {}",
                delivered.seq, delivered.ring
            );
            return violated("S1", record.at, what);
        };
        if message.number > cluster.messages.accepted(message.sender) {
            violated("S1", record.at, format!("{message} was delivered, but never accepted"))
        } else if message.sender.node != delivered.from {
            let what = format!("{message} was delivered as a message of {}", delivered.from);
            violated("S1", record.at, what)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id};
    use super::*;

    fn sent() -> Story {
        let mut story = Story::ring(2);
        story.accept(1, 1);
        story
    }

    #[test]
    fn a_message_comes_from_its_sender() {
        let mut story = sent();
        story.deliver(2, 1, 1, 1);
        story.is_right(NoCreation);
        story.deliver_as(2, 1, 1, 2, |delivered| delivered.from = id(2));
        story.is_wrong(NoCreation, "1#1:1 was delivered as a message of 2");
    }

    #[test]
    fn a_delivered_message_was_accepted() {
        let mut story = sent();
        story.deliver(2, 1, 2, 1);
        story.is_wrong(NoCreation, "1#1:2 was delivered, but never accepted");
        let mut story = sent();
        story.deliver_as(2, 1, 1, 1, |delivered| delivered.message = None);
        story.is_wrong(NoCreation, "a message that no node sent");
    }
}
