//! S9: the messages of one sender come in the order in which it sent them.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{MessageId, Record, What};

pub(super) struct SenderOrder;

impl Online for SenderOrder {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Delivered(delivered)) = (record.life, &record.what) else { return Ok(()) };
        let Some(message) = delivered.message else { return Ok(()) };
        match cluster.messages.latest(life, message.sender).filter(|latest| *latest > message.number) {
            Some(number) => {
                let before = MessageId { number, ..message };
                violated("S9", record.at, format!("{life} got {message} after {before}"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn messages_of_a_sender_come_in_its_order() {
        let mut story = Story::ring(2);
        story.deliver(1, 2, 1, 1);
        story.deliver(1, 2, 3, 2);
        story.deliver(2, 2, 1, 1);
        story.is_right(SenderOrder);
        story.deliver(1, 2, 2, 3);
        story.is_wrong(SenderOrder, "1#1 got 2#1:2 after 2#1:3");
    }
}
