//! S15, and S14 in retrospect: a message that one member delivers as safe, in its ring or in the
//! transitional configuration that ends it, is delivered by all surviving nodes that could know of
//! it. In the ring these are all members. In the transitional configuration they are the members
//! that come along.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_membership::{Guarantee, NodeId, RingId, Seq};

use super::cluster::{Cluster, Recent};
use super::messages::LAG;
use super::{Online, Violation, violated};
use crate::history::{Life, MessageId, Record, What};

#[derive(Default)]
pub(super) struct SafeToTheEnd(Recent<RingId, Ring>);

/// A ring, and the messages of it that were delivered as safe.
#[derive(Default)]
struct Ring {
    /// Messages delivered in the ring, as far back as a member can lag. Each is listed once, with
    /// the life that delivered it first.
    safe: VecDeque<(Seq, MessageId, Life)>,
    /// For each life: the nodes that had to come along, and the messages that it delivered in its
    /// transitional configuration.
    at_the_end: BTreeMap<Life, (BTreeSet<NodeId>, Vec<MessageId>)>,
    /// The nodes that have installed another ring since.
    gone_on: BTreeMap<NodeId, Life>,
}

impl Online for SafeToTheEnd {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let Some(place) = cluster.place(life) else { return Ok(()) };
        let Some(here) = &place.regular else { return Ok(()) };
        let never = |property, who: Life, message, other: Life| {
            let ring = here.ring;
            let what = format!("{who} delivered {message} in {ring} as safe, but {other} never did");
            violated(property, record.at, what)
        };
        match &record.what {
            What::Transitional(change) => {
                let ring = self.0.entry(here.ring, Ring::default);
                ring.at_the_end.insert(life, (change.members.clone(), Vec::new()));
            }
            What::Delivered(delivered) if delivered.guarantee == Guarantee::Safe => {
                let Some(message) = delivered.message else { return Ok(()) };
                let ring = self.0.entry(here.ring, Ring::default);
                let (property, members) = if place.in_transition {
                    let Some((along, messages)) = ring.at_the_end.get_mut(&life) else { return Ok(()) };
                    messages.push(message);
                    ("S15", &*along)
                } else {
                    let news = ring.safe.back().is_none_or(|(last, other, _)| {
                        last.before(delivered.seq) || (*last == delivered.seq && *other != message)
                    });
                    if news {
                        ring.safe.push_back((delivered.seq, message, life));
                    }
                    let first = |(seq, ..): &(Seq, MessageId, Life)| seq.distance_to(delivered.seq) > LAG;
                    while news && ring.safe.front().is_some_and(first) {
                        ring.safe.pop_front();
                    }
                    ("S14", &here.members)
                };
                let lacks = |(node, other): &(&NodeId, &Life)| {
                    members.contains(node) && cluster.messages.lacks(**other, message)
                };
                if let Some((_, other)) = ring.gone_on.iter().find(lacks) {
                    return never(property, life, message, *other);
                }
            }
            What::Regular(_) => {
                let ring = self.0.entry(here.ring, Ring::default);
                ring.gone_on.insert(life.node, life);
                let lacks = |message: &MessageId| cluster.messages.lacks(life, *message);
                if let Some((_, message, who)) = ring.safe.iter().find(|(_, message, _)| lacks(message)) {
                    return never("S14", *who, *message, life);
                }
                for (who, (along, messages)) in &ring.at_the_end {
                    let owed = along.contains(&life.node);
                    if let Some(message) = messages.iter().find(|message| owed && lacks(message)) {
                        return never("S15", *who, *message, life);
                    }
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

    fn go_on(story: &mut Story, node: u32) {
        story.enter_ring(node, "1.8", &[1, 2], &[1, 2]);
    }

    /// Node 1 delivers a safe message at the end of its ring, on the way to another with node 2.
    /// Node `by` of the three delivers it too.
    fn at_the_end(by: u32) -> Story {
        let mut story = Story::ring(3);
        for node in [1, 2] {
            story.leave_ring(node, "1.8", &[1, 2]);
        }
        story.leave_ring(3, "3.8", &[3]);
        safe(&mut story, 1);
        if by > 1 {
            safe(&mut story, by);
        }
        story.enter_ring(3, "3.8", &[3], &[3]);
        go_on(&mut story, 1);
        story
    }

    #[test]
    fn members_that_come_along_deliver_safe_messages() {
        let mut story = at_the_end(2);
        go_on(&mut story, 2);
        story.is_right(SafeToTheEnd::default());
        let mut story = at_the_end(3);
        go_on(&mut story, 2);
        story.is_wrong(SafeToTheEnd::default(), "1#1 delivered 1#1:1 in 1.4 as safe, but 2#1 never did");
    }

    #[test]
    fn a_member_that_goes_elsewhere_delivers_safe_messages() {
        let mut story = at_the_end(1);
        story.enter_ring(2, "2.c", &[2], &[2]);
        story.is_wrong(SafeToTheEnd::default(), "2#1 never did");
    }

    #[test]
    fn a_crashed_member_need_not_deliver_safe_messages() {
        let mut story = at_the_end(1);
        story.crash(2);
        story.is_right(SafeToTheEnd::default());
    }

    #[test]
    fn every_ring_member_delivers_a_safe_message() {
        let mut story = Story::ring(3);
        safe(&mut story, 1);
        safe(&mut story, 2);
        story.install(3, "3.8", &[3], &[3]);
        story.is_wrong(SafeToTheEnd::default(), "1#1 delivered 1#1:1 in 1.4 as safe, but 3#1 never did");
    }
}
