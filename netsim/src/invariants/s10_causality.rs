//! S10: a message comes after all that its sender had seen in the same ring when it sent it.
//!
//! Also behind a hole in a transitional configuration: who comes along has brought along what it had seen.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::RingId;

use super::{Violation, violated};
use crate::History;
use crate::history::{Life, MessageId, What};

/// What a life has seen of the ring it is in.
#[derive(Default)]
struct Seen {
    ring: Option<RingId>,
    messages: BTreeSet<MessageId>,
    last: Option<MessageId>,
}

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut lives: BTreeMap<Life, Seen> = BTreeMap::new();
    // The ring in which a message was sent, and what its sender had seen last there; it had seen all before that too.
    let mut causes: BTreeMap<MessageId, (RingId, MessageId)> = BTreeMap::new();
    for record in history.records() {
        let Some(life) = record.life else { continue };
        let seen = lives.entry(life).or_default();
        match &record.what {
            What::Regular(regular) => *seen = Seen { ring: Some(regular.ring), ..Seen::default() },
            What::Accepted { message, .. } => {
                causes.extend(seen.ring.zip(seen.last).map(|cause| (*message, cause)));
            }
            What::Delivered(delivered) => {
                let Some(message) = delivered.message else { continue };
                if let Some((ring, cause)) = causes.get(&message)
                    && *ring == delivered.ring
                    && !seen.messages.contains(cause)
                {
                    let what = format!(
                        "{life} got {message} in {ring} without {cause}, which its sender had seen there before"
                    );
                    return violated("S10", record.at, what);
                }
                seen.messages.insert(message);
                seen.last = Some(message);
            }
            _ => {}
        }
    }
    Ok(())
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
        story.is_right(check);
    }

    #[test]
    fn an_answer_does_not_come_without_its_question() {
        let mut story = answered();
        story.leave_ring(1, "1.8", &[1]);
        story.deliver(1, 2, 1, 2);
        story.is_wrong(check, "1#1 got 2#1:1 in 1.4 without 3#1:1");
    }

    #[test]
    fn what_is_numbered_in_the_next_ring_answers_nothing_there() {
        let mut story = answered();
        for node in [1, 2] {
            story.install(node, "1.8", &[1, 2], &[1, 2]);
        }
        story.deliver(1, 2, 1, 1);
        story.is_right(check);
    }
}
