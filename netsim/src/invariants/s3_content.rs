//! S3: what is delivered is what was accepted, to the last byte, for the same group, under the same guarantee.

use std::collections::BTreeMap;

use super::{Violation, violated};
use crate::History;
use crate::history::What;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut accepted = BTreeMap::new();
    for record in history.records() {
        match &record.what {
            What::Accepted { message, group, guarantee, content } => {
                accepted.insert(*message, (group, guarantee, content));
            }
            What::Delivered(delivered) => {
                let Some(message) = delivered.message else { continue };
                let Some(&sent) = accepted.get(&message) else { continue };
                if sent != (&delivered.group, &delivered.guarantee, &delivered.content) {
                    let (group, guarantee, content) = sent;
                    let what =
                        format!("{message} was sent for {group}, {guarantee}, {content}: {}", record.what);
                    return violated("S3", record.at, what);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_membership::Guarantee;

    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_message_says_what_its_sender_said() {
        let mut story = Story::ring(2);
        story.accept(1, 1);
        story.deliver(2, 1, 1, 1);
        story.is_right(check);
        story.deliver_as(2, 1, 1, 1, |delivered| delivered.content.length += 1);
        story.is_wrong(check, "1#1:1 was sent for group, agreed, 14 bytes");
    }

    #[test]
    fn a_guarantee_is_not_lowered_on_the_way() {
        let mut story = Story::ring(2);
        story.accept(1, 1);
        story.deliver_as(2, 1, 1, 1, |delivered| delivered.guarantee = Guarantee::Safe);
        story.is_wrong(check, "1#1:1 was sent for group, agreed");
    }
}
