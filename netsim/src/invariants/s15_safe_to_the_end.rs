//! S15, and S14 afterwards: what one member delivers as safe, in its ring or in the transitional configuration that ends
//! it, all deliver who could know of it and live on: in the ring, every member; after it, those who come along.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_membership::{Guarantee, NodeId, RingId, Seq};

use super::cluster::{Cluster, Recent};
use super::messages::LAG;
use super::{Online, Violation, violated};
use crate::history::{Life, MessageId, Record, What};

#[derive(Default)]
pub(super) struct SafeToTheEnd(Recent<RingId, Ring>);

/// A ring, and what was delivered of it as safe.
#[derive(Default)]
struct Ring {
    /// By its members, as far back as one of them can be behind: each once, with the first who delivered it.
    safe: VecDeque<(Seq, MessageId, Life)>,
    /// By those in a transitional configuration, and who had to come along.
    at_the_end: BTreeMap<Life, (BTreeSet<NodeId>, Vec<MessageId>)>,
    /// Who has installed another ring since.
    gone_on: BTreeMap<NodeId, Life>,
}

impl Online for SafeToTheEnd {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let Some(place) = cluster.place(life) else { return Ok(()) };
        let Some(here) = &place.regular else { return Ok(()) };
        let never = |property, who: Life, message, other: Life| {
            let ring = here.ring;
            let what = format!("{who} delivered {message} in {ring} as safe, and {other} never did");
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

    /// Node 1 delivers a safe message at the end of its ring, on the way to another with node 2; of three nodes, this
    /// one does too.
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
    fn those_who_come_along_deliver_it() {
        let mut story = at_the_end(2);
        go_on(&mut story, 2);
        story.is_right(SafeToTheEnd::default());
        let mut story = at_the_end(3);
        go_on(&mut story, 2);
        story.is_wrong(SafeToTheEnd::default(), "1#1 delivered 1#1:1 in 1.4 as safe, and 2#1 never did");
    }

    #[test]
    fn also_if_they_went_elsewhere_in_the_end() {
        let mut story = at_the_end(1);
        story.enter_ring(2, "2.c", &[2], &[2]);
        story.is_wrong(SafeToTheEnd::default(), "2#1 never did");
    }

    #[test]
    fn who_crashes_need_not() {
        let mut story = at_the_end(1);
        story.crash(2);
        story.is_right(SafeToTheEnd::default());
    }

    #[test]
    fn in_a_ring_every_member_delivers_it() {
        let mut story = Story::ring(3);
        safe(&mut story, 1);
        safe(&mut story, 2);
        story.install(3, "3.8", &[3], &[3]);
        story.is_wrong(SafeToTheEnd::default(), "1#1 delivered 1#1:1 in 1.4 as safe, and 3#1 never did");
    }
}
