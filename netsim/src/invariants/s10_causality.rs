//! S10: a message comes after every message that its sender had seen in the same ring when it sent
//! it.
//!
//! This also holds behind a hole in a transitional configuration: a node that comes along has
//! forwarded every message that it had seen.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct Causality;

impl Online for Causality {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Delivered(delivered)) = (record.life, &record.what) else { return Ok(()) };
        let Some(message) = delivered.message else { return Ok(()) };
        let sent = cluster.messages.get(message).and_then(|known| known.sent.as_ref());
        // The check covers earlier causes too, since the sender had also seen them before its last
        // message.
        match sent.and_then(|sent| sent.cause) {
            Some((ring, cause)) if ring == delivered.ring && cluster.messages.lacks(life, cause) => {
                let what = format!(
                    "{life} got {message} in {ring} without {cause}, which its sender had seen there before"
                );
                violated("S10", record.at, what)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    /// Node 2 has seen a message of node 3 and then sends one.
    fn answered() -> Story {
        let mut story = Story::ring(3);
        story.accept(3, 1);
        story.deliver(2, 3, 1, 1);
        story.accept(2, 1);
        story
    }

    #[test]
    fn a_reply_comes_after_its_cause() {
        let mut story = answered();
        story.deliver(1, 3, 1, 1);
        story.deliver(1, 2, 1, 2);
        story.is_right(Causality);
    }

    #[test]
    fn a_reply_without_its_cause_is_wrong() {
        let mut story = answered();
        story.leave_ring(1, "1.8", &[1]);
        story.deliver(1, 2, 1, 2);
        story.is_wrong(Causality, "1#1 got 2#1:1 in 1.4 without 3#1:1");
    }

    #[test]
    fn a_message_of_the_next_ring_has_no_cause_there() {
        let mut story = answered();
        for node in [1, 2] {
            story.install(node, "1.8", &[1, 2], &[1, 2]);
        }
        story.deliver(1, 2, 1, 1);
        story.is_right(Causality);
    }
}
