//! S10: a message comes after all that its sender had seen in the same ring when it sent it.
//!
//! Also behind a hole in a transitional configuration: who comes along has brought along what it had seen.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct Causality;

impl Online for Causality {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Delivered(delivered)) = (record.life, &record.what) else { return Ok(()) };
        let Some(message) = delivered.message else { return Ok(()) };
        let sent = cluster.messages.get(message).and_then(|known| known.sent.as_ref());
        // The sender had seen all before its last message too.
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
    fn an_answer_comes_after_the_question() {
        let mut story = answered();
        story.deliver(1, 3, 1, 1);
        story.deliver(1, 2, 1, 2);
        story.is_right(Causality);
    }

    #[test]
    fn an_answer_does_not_come_without_its_question() {
        let mut story = answered();
        story.leave_ring(1, "1.8", &[1]);
        story.deliver(1, 2, 1, 2);
        story.is_wrong(Causality, "1#1 got 2#1:1 in 1.4 without 3#1:1");
    }

    #[test]
    fn what_is_numbered_in_the_next_ring_answers_nothing_there() {
        let mut story = answered();
        for node in [1, 2] {
            story.install(node, "1.8", &[1, 2], &[1, 2]);
        }
        story.deliver(1, 2, 1, 1);
        story.is_right(Causality);
    }
}
