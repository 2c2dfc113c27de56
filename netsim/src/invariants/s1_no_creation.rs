//! S1: what is delivered was accepted before, from the one who is named as its sender.

use std::collections::BTreeSet;

use super::{Violation, violated};
use crate::History;
use crate::history::What;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut accepted = BTreeSet::new();
    for record in history.records() {
        match &record.what {
            What::Accepted { message, .. } => {
                accepted.insert(*message);
            }
            What::Delivered(delivered) => match delivered.message {
                Some(message) if !accepted.contains(&message) => {
                    return violated("S1", record.at, format!("{message} was delivered, but never accepted"));
                }
                Some(message) if message.sender.node != delivered.from => {
                    let what = format!("{message} was delivered as a message of {}", delivered.from);
                    return violated("S1", record.at, what);
                }
                Some(_) => {}
                None => {
                    let what =
                        format!("nobody's message was delivered at {} of {}", delivered.seq, delivered.ring);
                    return violated("S1", record.at, what);
                }
            },
            _ => {}
        }
    }
    Ok(())
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
        story.is_right(check);
        story.deliver_as(2, 1, 1, 2, |delivered| delivered.from = id(2));
        story.is_wrong(check, "1#1:1 was delivered as a message of 2");
    }

    #[test]
    fn a_message_comes_from_somewhere() {
        let mut story = sent();
        story.deliver(2, 1, 2, 1);
        story.is_wrong(check, "1#1:2 was delivered, but never accepted");
        let mut story = sent();
        story.deliver_as(2, 1, 1, 1, |delivered| delivered.message = None);
        story.is_wrong(check, "nobody's message");
    }
}
