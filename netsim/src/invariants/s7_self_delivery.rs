//! S7: a node delivers all of its own messages, in the order in which it sent them. Messages that
//! could not be sent before the ring changed are sent after it.
//!
//! A message counts as lost, rather than still on its way, in two cases:
//!
//! - A later message of the same sender has been delivered.
//! - The node is in a ring that stands, and none of the waiting messages has been delivered for
//!   [`PATIENCE`].

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_membership::Phase;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::Fault;
use crate::history::{Inside, Life, Record, What};

/// The wait for an own message, which is many rotations of the token.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct SelfDelivery(BTreeMap<Life, Own>);

/// The progress of a life's own messages.
#[derive(Default)]
struct Own {
    accepted: u64,
    delivered: u64,
    /// The time since which there has been no reason to wait any longer.
    waits_since: Option<Duration>,
}

impl Online for SelfDelivery {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        // A paused node cannot be expected to deliver.
        if let What::Network(Fault::Freeze { node, lasts } | Fault::Pause { node, lasts }) = record.what {
            let of_node = self.0.iter_mut().filter(|(life, _)| life.node.get() == node);
            of_node
                .filter_map(|(_, own)| own.waits_since.as_mut())
                .for_each(|since| *since = record.at + lasts);
        }
        let Some(life) = record.life else { return Ok(()) };
        match &record.what {
            What::Accepted { message, .. } => {
                let own = self.0.entry(life).or_default();
                own.accepted = message.number;
                if own.accepted == own.delivered + 1 && own.waits_since.is_some() {
                    own.waits_since = Some(record.at);
                }
            }
            What::Delivered(delivered) => {
                let Some(message) = delivered.message.filter(|message| message.sender == life) else {
                    return Ok(());
                };
                let own = self.0.entry(life).or_default();
                let next = own.delivered + 1;
                if message.number > next {
                    let got = message.number;
                    let what = format!("{life} got its message {got}, but never its message {next}");
                    return violated("S7", record.at, what);
                }
                own.delivered = own.delivered.max(message.number);
                own.waits_since = Some(record.at);
            }
            What::Synced(_) => self.0.entry(life).or_default().waits_since = Some(record.at),
            What::Crashed | What::Left(_) | What::Panicked => drop(self.0.remove(&life)),
            What::Regular(_)
            | What::Transitional(_)
            | What::Inside(Inside::Phase { from: Phase::Operational, .. }) => {
                self.0.entry(life).or_default().waits_since = None;
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, at: Duration) -> Result<(), Violation> {
        for (life, Own { accepted, delivered, waits_since }) in &self.0 {
            if delivered < accepted && waits_since.is_some_and(|since| at.saturating_sub(since) > PATIENCE) {
                let next = delivered + 1;
                let what = format!("{life} never got its message {next}, of {accepted} that it sent");
                return violated("S7", at, what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn sent() -> Story {
        let mut story = Story::ring(2);
        story.settle(1);
        story.accept(1, 1);
        story.accept(1, 2);
        story
    }

    #[test]
    fn own_messages_come_back_in_order() {
        let mut story = sent();
        story.deliver(1, 1, 1, 1);
        story.deliver(1, 1, 2, 1);
        story.wait(2 * PATIENCE);
        story.is_right(SelfDelivery::default());
    }

    #[test]
    fn a_frozen_node_is_not_expected_to_deliver() {
        let frozen = |node| {
            let mut story = sent();
            story.fault(Fault::Freeze { node, lasts: 2 * PATIENCE });
            story.wait(2 * PATIENCE);
            story
        };
        frozen(1).is_right(SelfDelivery::default());
        frozen(2).is_wrong(SelfDelivery::default(), "1#1 never got its message 1, of 2 that it sent");
    }

    #[test]
    fn a_message_is_not_overtaken_by_a_later_one() {
        let mut story = sent();
        story.deliver(1, 1, 2, 1);
        story.is_wrong(SelfDelivery::default(), "1#1 got its message 2, but never its message 1");
    }

    #[test]
    fn a_message_comes_within_the_patience() {
        let mut story = sent();
        story.deliver(1, 1, 1, 1);
        story.wait(PATIENCE / 2);
        story.is_right(SelfDelivery::default());
        story.wait(PATIENCE);
        story.is_wrong(SelfDelivery::default(), "1#1 never got its message 2, of 2 that it sent");
    }

    #[test]
    fn a_long_wait_begins_with_the_message() {
        let mut story = Story::ring(1);
        story.settle(1);
        story.wait(2 * PATIENCE);
        story.accept(1, 1);
        story.is_right(SelfDelivery::default());
    }

    #[test]
    fn a_message_waits_for_a_ring_that_stands() {
        let mut story = sent();
        story.install(1, "1.8", &[1], &[1]);
        story.wait(2 * PATIENCE);
        story.is_right(SelfDelivery::default());
    }

    /// Seed 1653: after the loss of its ring, no other ring stood until the end of the run.
    #[test]
    fn a_ring_that_is_given_up_no_longer_stands() {
        let mut story = sent();
        story.phase(1, Phase::Operational, Phase::Gather);
        story.wait(2 * PATIENCE);
        story.is_right(SelfDelivery::default());
    }

    #[test]
    fn a_crashed_node_is_not_expected_to_deliver() {
        let mut story = sent();
        story.crash(1);
        story.wait(2 * PATIENCE);
        story.is_right(SelfDelivery::default());
    }
}
