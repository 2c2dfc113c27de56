//! S7: a node delivers its own messages, all of them, in the order in which it sent them; what could not be sent
//! before the ring changed is sent after it.
//!
//! Whether a message is lost or still under way shows in two ways: a later one of the same sender has come; or the node
//! is in a ring that stands, and for [`PATIENCE`] not one of those that wait has come.

use std::time::Duration;

use super::{Violation, violated};
use crate::History;
use crate::history::What;

/// Many rotations of a token.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn check(history: &History) -> Result<(), Violation> {
    for (life, records) in history.lives() {
        let mut delivered = 0;
        let mut accepted = 0;
        // Since when there has been no reason to wait any longer.
        let mut waits_since = None;
        for record in records {
            match &record.what {
                What::Accepted { message, .. } => {
                    accepted = message.number;
                    if accepted == delivered + 1 && waits_since.is_some() {
                        waits_since = Some(record.at);
                    }
                }
                What::Delivered(own) => {
                    let Some(message) = own.message.filter(|message| message.sender == life) else {
                        continue;
                    };
                    if message.number > delivered + 1 {
                        let what = format!(
                            "{life} got its message {} and never its message {}",
                            message.number,
                            delivered + 1
                        );
                        return violated("S7", record.at, what);
                    }
                    delivered = delivered.max(message.number);
                    waits_since = Some(record.at);
                }
                What::Synced(_) => waits_since = Some(record.at),
                What::Regular(_) | What::Transitional(_) | What::Crashed | What::Left(_) | What::Panicked => {
                    waits_since = None;
                }
                _ => {}
            }
        }
        let end = history.ended_at();
        if delivered < accepted && waits_since.is_some_and(|since| end - since > PATIENCE) {
            let what = format!("{life} never got its message {}, of {accepted} that it sent", delivered + 1);
            return violated("S7", end, what);
        }
    }
    Ok(())
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
        story.is_right(check);
    }

    #[test]
    fn a_message_is_not_overtaken_by_a_later_one() {
        let mut story = sent();
        story.deliver(1, 1, 2, 1);
        story.is_wrong(check, "1#1 got its message 2 and never its message 1");
    }

    #[test]
    fn a_message_comes_in_the_end() {
        let mut story = sent();
        story.deliver(1, 1, 1, 1);
        story.wait(PATIENCE / 2);
        story.is_right(check);
        story.wait(PATIENCE);
        story.is_wrong(check, "1#1 never got its message 2, of 2 that it sent");
    }

    #[test]
    fn a_long_wait_begins_with_the_message() {
        let mut story = Story::ring(1);
        story.settle(1);
        story.wait(2 * PATIENCE);
        story.accept(1, 1);
        story.is_right(check);
    }

    #[test]
    fn a_message_waits_for_a_ring_that_stands() {
        let mut story = sent();
        story.install(1, "1.8", &[1], &[1]);
        story.wait(2 * PATIENCE);
        story.is_right(check);
    }

    #[test]
    fn who_crashes_gets_nothing() {
        let mut story = sent();
        story.crash(1);
        story.wait(2 * PATIENCE);
        story.is_right(check);
    }
}
