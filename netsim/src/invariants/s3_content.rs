//! S3: a message is delivered as it was accepted, to the last byte, for the same group, under the
//! same guarantee.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct SameContent;

impl Online for SameContent {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let What::Delivered(delivered) = &record.what else { return Ok(()) };
        let Some(message) = delivered.message else { return Ok(()) };
        let Some(sent) = cluster.messages.get(message).and_then(|known| known.sent.as_ref()) else {
            return Ok(());
        };
        let (group, guarantee, content) = (&sent.group, sent.guarantee, sent.content);
        if (group, guarantee, content) == (&delivered.group, delivered.guarantee, delivered.content) {
            return Ok(());
        }
        let what = format!("{message} was sent for {group}, {guarantee}, {content}: {}", record.what);
        violated("S3", record.at, what)
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::Guarantee;

    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_message_keeps_its_content() {
        let mut story = Story::ring(2);
        story.accept(1, 1);
        story.deliver(2, 1, 1, 1);
        story.is_right(SameContent);
        story.deliver_as(2, 1, 1, 1, |delivered| delivered.content.length += 1);
        story.is_wrong(SameContent, "1#1:1 was sent for group, agreed, 14 bytes");
    }

    #[test]
    fn a_message_keeps_its_guarantee() {
        let mut story = Story::ring(2);
        story.accept(1, 1);
        story.deliver_as(2, 1, 1, 1, |delivered| delivered.guarantee = Guarantee::Safe);
        story.is_wrong(SameContent, "1#1:1 was sent for group, agreed");
    }
}
