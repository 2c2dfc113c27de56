//! S12: messages and configurations have one order, of which every node sees a part. No two nodes
//! see two of them in opposite orders, not even indirectly through other nodes, in other rings or
//! after a merge.
//!
//! One such order is known: by ring, then by sequence number, then by position within the frame.
//! Two checks are therefore enough. Each node sees events that rise in this order, and each message
//! has one place in it for all nodes. S8 covers which messages come before a transitional
//! configuration.

use std::collections::BTreeMap;

use quorate_membership::{RingId, Seq};

use super::cluster::{Cluster, Recent};
use super::messages::LAG;
use super::{Online, Violation, violated};
use crate::history::{Life, MessageId, Record, What};

#[derive(Default)]
pub(super) struct TotalOrder {
    last: BTreeMap<Life, Last>,
    /// The order of the messages that share a frame, if a node saw more than one of them.
    frames: Recent<(RingId, u32), Vec<MessageId>, { LAG as usize }>,
}

/// The last event that a life has seen.
#[derive(Clone, Copy)]
struct Last {
    ring: RingId,
    message: Option<(Seq, MessageId)>,
}

impl TotalOrder {
    /// Returns `true` if `message` may come after `before` in the same frame.
    fn follows(&mut self, frame: (RingId, u32), before: MessageId, message: MessageId) -> bool {
        let order = self.frames.entry(frame, || vec![before]);
        let place = |wanted: MessageId| order.iter().position(|message| *message == wanted);
        match (place(before), place(message)) {
            (Some(first), Some(second)) => first < second,
            // A node that lacks the beginning of a long message also lacks its end, and sees only
            // the messages behind it.
            (Some(first), None) => {
                order.insert(first + 1, message);
                true
            }
            (None, Some(second)) => {
                order.insert(second, before);
                true
            }
            (None, None) => {
                order.extend([before, message]);
                true
            }
        }
    }
}

impl Online for TotalOrder {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let wrong = |what| violated("S12", record.at, what);
        match &record.what {
            What::Crashed => drop(self.last.remove(&life)),
            What::Regular(regular) => {
                let ring = regular.ring;
                let before = self.last.insert(life, Last { ring, message: None });
                if let Some(before) = before.filter(|before| before.ring.seq >= ring.seq) {
                    return wrong(format!("{life} saw ring {ring} after ring {}", before.ring));
                }
            }
            What::Delivered(delivered) => {
                let Some(message) = delivered.message else { return Ok(()) };
                let (ring, seq) = (delivered.ring, delivered.seq);
                if let Some((there, at)) = cluster.messages.get(message).and_then(|known| known.place)
                    && (there, at) != (ring, seq)
                {
                    return wrong(format!(
                        "{life} saw {message} at {seq} of {ring}, others at {at} of {there}"
                    ));
                }
                let before = self.last.insert(life, Last { ring, message: Some((seq, message)) });
                let Some(before) = before else { return Ok(()) };
                if before.ring != ring {
                    return wrong(format!("{life} saw {message} of {ring} in {}", before.ring));
                }
                let Some((last, other)) = before.message else { return Ok(()) };
                if seq.before(last) || (seq == last && !self.follows((ring, seq.get()), other, message)) {
                    return wrong(format!("{life} saw {message} at {seq} of {ring} after {other} at {last}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    /// Nodes 1 and 2 part, and each receives the messages of nodes 3 and 4 in the given order.
    fn parted(first: [u32; 2], second: [u32; 2]) -> Story {
        let mut story = Story::ring(4);
        for (node, order) in [(1, first), (2, second)] {
            for sender in order {
                story.deliver(node, sender, 1, sender);
            }
        }
        story
    }

    #[test]
    fn nodes_see_parts_of_one_order() {
        let mut story = parted([3, 4], [3, 4]);
        story.install(1, "1.8", &[1], &[1]);
        story.install(2, "2.8", &[2], &[2]);
        for node in [1, 2] {
            story.install(node, "1.c", &[1, 2], &[node]);
            story.deliver(node, 1, 1, 1);
        }
        story.is_right(TotalOrder::default());
    }

    #[test]
    fn no_two_nodes_see_messages_in_opposite_orders() {
        parted([3, 4], [4, 3]).is_wrong(TotalOrder::default(), "2#1 saw 3#1:1 at 3 of 1.4 after 4#1:1 at 4");
    }

    /// Each node sees two messages, one after the other, at these sequence numbers.
    fn by_way_of_others(at: [u32; 2]) -> Story {
        let mut story = Story::ring(3);
        for (node, first, second) in [(1, 1, 2), (2, 2, 3), (3, 3, 1)] {
            story.deliver(node, first, 1, at[0]);
            story.deliver(node, second, 1, at[1]);
        }
        story
    }

    #[test]
    fn a_cycle_over_several_nodes_is_wrong() {
        by_way_of_others([1, 2])
            .is_wrong(TotalOrder::default(), "2#1 saw 2#1:1 at 1 of 1.4, others at 2 of 1.4");
    }

    #[test]
    fn messages_of_one_frame_have_an_order_too() {
        by_way_of_others([1, 1])
            .is_wrong(TotalOrder::default(), "3#1 saw 1#1:1 at 1 of 1.4 after 3#1:1 at 1");
    }

    #[test]
    fn a_frame_may_be_seen_without_the_end_of_a_long_message() {
        let mut story = Story::ring(3);
        story.deliver(1, 3, 2, 4);
        story.deliver(1, 3, 3, 4);
        for number in [1, 2, 3] {
            story.deliver(2, 3, number, 4);
        }
        story.is_right(TotalOrder::default());
    }

    #[test]
    fn a_message_belongs_to_one_ring() {
        let mut story = Story::ring(2);
        story.deliver(1, 1, 1, 1);
        for node in [1, 2] {
            story.install(node, "1.8", &[1, 2], &[1, 2]);
        }
        story.deliver(2, 1, 1, 1);
        story.is_wrong(TotalOrder::default(), "2#1 saw 1#1:1 at 1 of 1.8, others at 1 of 1.4");
    }
}
