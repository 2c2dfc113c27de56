//! S11: the messages that nodes deliver in a ring's regular configuration are prefixes of one
//! sequence, without a gap.

use std::collections::{BTreeMap, VecDeque};

use quorate_membership::{RingId, Seq};

use super::cluster::{Cluster, Recent};
use super::messages::LAG;
use super::{Online, Violation, violated};
use crate::history::{Life, MessageId, Record, What};

#[derive(Default)]
pub(super) struct AgreedOrder {
    rings: Recent<RingId, Sequence>,
    places: BTreeMap<Life, Place>,
}

/// The longest sequence of a ring, without the messages that every member must have by now.
struct Sequence {
    first: Life,
    dropped: u64,
    messages: VecDeque<(Option<MessageId>, Seq)>,
}

/// The progress of a life in its ring.
#[derive(Default)]
struct Place {
    delivered: u64,
    last: Option<Seq>,
}

impl Online for AgreedOrder {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        match &record.what {
            What::Crashed => drop(self.places.remove(&life)),
            What::Regular(_) => drop(self.places.insert(life, Place::default())),
            What::Delivered(delivered) => {
                let Some(place) = cluster.place(life).filter(|place| !place.in_transition) else {
                    return Ok(());
                };
                let Some(ring) = place.installed() else { return Ok(()) };
                let wrong = |what| violated("S11", record.at, what);
                let (message, seq) = (delivered.message, delivered.seq);
                let place = self.places.entry(life).or_default();
                // Small messages share a sequence number.
                if let Some(last) = place.last.replace(seq).filter(|last| seq.before(*last)) {
                    return wrong(format!("{life} got {seq} after {last} of {ring}"));
                }
                let sequence = self.rings.entry(ring, || Sequence {
                    first: life,
                    dropped: 0,
                    messages: VecDeque::new(),
                });
                let n = place.delivered;
                place.delivered += 1;
                let Some(index) = n.checked_sub(sequence.dropped) else { return Ok(()) };
                match sequence.messages.get(index as usize) {
                    Some(&(theirs, at)) if (theirs, at) != (message, seq) => {
                        let name = |message: Option<MessageId>| message.map(|message| message.to_string());
                        return wrong(format!(
                            "message {} of {ring} is at {at} for {} and at {seq} for {life}: {:?} and {:?}",
                            n + 1,
                            sequence.first,
                            name(theirs),
                            name(message),
                        ));
                    }
                    Some(_) => {}
                    None => sequence.messages.push_back((message, seq)),
                }
                while sequence.messages.front().is_some_and(|(_, first)| first.distance_to(seq) > LAG) {
                    sequence.messages.pop_front();
                    sequence.dropped += 1;
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

    #[test]
    fn a_node_may_deliver_less_of_a_ring_than_another() {
        let mut story = Story::ring(2);
        for (number, seq) in [(1, 5), (2, 5), (3, 9)] {
            story.deliver(1, 1, number, seq);
        }
        story.deliver(2, 1, 1, 5);
        story.is_right(AgreedOrder::default());
    }

    #[test]
    fn nodes_deliver_in_the_same_order() {
        let mut story = Story::ring(2);
        story.deliver(1, 1, 1, 5);
        story.deliver(1, 2, 1, 6);
        story.deliver(2, 2, 1, 6);
        story.is_wrong(AgreedOrder::default(), "message 1 of 1.4 is at 5 for 1#1 and at 6 for 2#1");
    }

    #[test]
    fn sequence_numbers_wrap_but_do_not_fall() {
        let mut story = Story::ring(1);
        story.deliver(1, 1, 1, u32::MAX);
        story.deliver(1, 1, 2, 0);
        story.is_right(AgreedOrder::default());
        story.deliver(1, 1, 3, u32::MAX - 1);
        story.is_wrong(AgreedOrder::default(), "1#1 got 4294967294 after 0 of 1.4");
    }
}
