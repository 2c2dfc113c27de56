//! S17: an acknowledgement by a service lasts. Suppose a safe message is delivered while the last
//! status of its node is quorate. Then every member of the ring that enters another ring has
//! delivered it, on either side of a split. So the side that keeps quorum also has each message
//! that the other side acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_membership::{Guarantee, NodeId, RingId, Seq};

use super::cluster::{Cluster, Recent};
use super::messages::LAG;
use super::{Online, Violation, violated};
use crate::history::{Life, MessageId, Record, What};

#[derive(Default)]
pub(super) struct Acknowledged {
    /// The lives whose last status was quorate.
    quorate: BTreeSet<Life>,
    rings: Recent<RingId, Ring>,
}

#[derive(Default)]
struct Ring {
    /// The acknowledged messages of the ring, as far back as a member can lag. Each is listed once,
    /// with the life that acknowledged it first.
    acknowledged: VecDeque<(Seq, MessageId, Life)>,
    /// The nodes that have installed another ring since.
    gone_on: BTreeMap<NodeId, Life>,
}

impl Online for Acknowledged {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let lost = |who: Life, message, other: Life| {
            let what = format!("{who} acknowledged {message}, but {other} continued without it");
            violated("S17", record.at, what)
        };
        match &record.what {
            What::Crashed => drop(self.quorate.remove(&life)),
            What::Status(status) if status.quorate => drop(self.quorate.insert(life)),
            What::Status(_) => drop(self.quorate.remove(&life)),
            What::Delivered(delivered)
                if delivered.guarantee == Guarantee::Safe && self.quorate.contains(&life) =>
            {
                let Some(message) = delivered.message else { return Ok(()) };
                let Ring { acknowledged, gone_on } = self.rings.entry(delivered.ring, Ring::default);
                let lacks = |other: &&Life| cluster.messages.lacks(**other, message);
                if let Some(other) = gone_on.values().find(lacks) {
                    return lost(life, message, *other);
                }
                let news = acknowledged.back().is_none_or(|(last, other, _)| {
                    last.before(delivered.seq) || (*last == delivered.seq && *other != message)
                });
                if news {
                    acknowledged.push_back((delivered.seq, message, life));
                }
                let old = |(seq, ..): &(Seq, MessageId, Life)| seq.distance_to(delivered.seq) > LAG;
                while news && acknowledged.front().is_some_and(old) {
                    acknowledged.pop_front();
                }
            }
            What::Regular(_) => {
                let Some(here) = cluster.regular(life) else { return Ok(()) };
                let ring = self.rings.entry(here.ring, Ring::default);
                ring.gone_on.insert(life.node, life);
                let lacks = |message: &MessageId| cluster.messages.lacks(life, *message);
                if let Some((_, message, who)) = ring.acknowledged.iter().find(|(_, m, _)| lacks(m)) {
                    return lost(*who, *message, life);
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

    fn safe(story: &mut Story, node: u32) {
        story.deliver_as(node, 1, 1, 1, |delivered| delivered.guarantee = Guarantee::Safe);
    }

    fn settled() -> Story {
        let mut story = Story::ring(3);
        (1..=3).for_each(|node| story.settle(node));
        story
    }

    /// Ends the ring of three at `node`; node 3 goes to a ring of its own.
    fn ends(story: &mut Story, node: u32) {
        let (next, along) = if node == 3 { ("3.8", &[3][..]) } else { ("1.8", &[1, 2][..]) };
        story.leave_ring(node, next, along);
    }

    #[test]
    fn an_acknowledged_message_reaches_all_survivors() {
        let mut story = settled();
        safe(&mut story, 3);
        ends(&mut story, 1);
        safe(&mut story, 1);
        story.enter_ring(1, "1.8", &[1, 2], &[1, 2]);
        story.is_right(Acknowledged::default());
        let mut story = settled();
        safe(&mut story, 3);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.is_wrong(Acknowledged::default(), "3#1 acknowledged 1#1:1, but 1#1 continued without it");
    }

    #[test]
    fn a_message_after_quorum_ended_is_not_acknowledged() {
        let end = |withdrawn: bool| {
            let mut story = settled();
            ends(&mut story, 3);
            if withdrawn {
                story.record(3, What::Status(Box::default()));
            }
            safe(&mut story, 3);
            story.install(1, "1.8", &[1, 2], &[1, 2]);
            story
        };
        end(true).is_right(Acknowledged::default());
        end(false).is_wrong(Acknowledged::default(), "3#1 acknowledged 1#1:1, but 1#1 continued without it");
    }

    #[test]
    fn agreed_messages_are_not_acknowledged() {
        let mut story = settled();
        story.deliver(3, 1, 1, 1);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.is_right(Acknowledged::default());
    }
}
