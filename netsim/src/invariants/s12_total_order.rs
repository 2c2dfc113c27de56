//! S12: messages and configurations have one order of which every node sees a part: nobody sees two of them the other way
//! round, also not by way of others, in other rings and after they have met again.

use std::collections::BTreeMap;
use std::fmt;

use quorate_membership::RingId;

use super::{Violation, violated};
use crate::History;
use crate::history::{Life, MessageId, What};

/// What has a place in the order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    Message(MessageId),
    /// The end of one ring on the way to another.
    Transitional(RingId, RingId),
    Regular(RingId),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => write!(f, "message {message}"),
            Self::Transitional(from, to) => write!(f, "the transition from {from} to {to}"),
            Self::Regular(ring) => write!(f, "ring {ring}"),
        }
    }
}

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut points: Vec<Point> = Vec::new();
    let mut places: BTreeMap<Point, usize> = BTreeMap::new();
    // What comes right after each point somewhere.
    let mut after: Vec<Vec<usize>> = Vec::new();
    let mut last: BTreeMap<Life, usize> = BTreeMap::new();
    for record in history.records() {
        let Some(life) = record.life else { continue };
        let point = match &record.what {
            What::Regular(regular) => Point::Regular(regular.ring),
            What::Transitional(change) => Point::Transitional(change.previous, change.ring),
            What::Delivered(delivered) => match delivered.message {
                Some(message) => Point::Message(message),
                None => continue,
            },
            _ => continue,
        };
        let place = *places.entry(point).or_insert_with(|| {
            points.push(point);
            after.push(Vec::new());
            points.len() - 1
        });
        if let Some(before) = last.insert(life, place)
            && !after[before].contains(&place)
        {
            after[before].push(place);
        }
    }
    // Takes away what nothing comes before, as long as there is such a point.
    let mut before = vec![0; points.len()];
    after.iter().flatten().for_each(|&place| before[place] += 1);
    let mut first: Vec<usize> = (0..points.len()).filter(|&place| before[place] == 0).collect();
    while let Some(place) = first.pop() {
        for &next in &after[place] {
            before[next] -= 1;
            if before[next] == 0 {
                first.push(next);
            }
        }
    }
    let circle = (0..points.len()).find(|&place| before[place] > 0);
    let Some(circle) = circle else { return Ok(()) };
    violated("S12", history.ended_at(), format!("{} comes before itself, by way of others", points[circle]))
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    /// Node 1 and 2 part, and each gets the messages of node 3 and 4 in this order.
    fn parted(first: [u32; 2], second: [u32; 2]) -> Story {
        let mut story = Story::ring(4);
        for (node, order) in [(1, first), (2, second)] {
            for sender in order {
                story.deliver(node, sender, 1, sender);
            }
        }
        story
    }

    #[test]
    fn all_see_parts_of_one_order() {
        let mut story = parted([3, 4], [3, 4]);
        story.install(1, "1.8", &[1], &[1]);
        story.install(2, "2.8", &[2], &[2]);
        for node in [1, 2] {
            story.install(node, "1.c", &[1, 2], &[node]);
            story.deliver(node, 1, 1, 1);
        }
        story.is_right(check);
    }

    #[test]
    fn nobody_sees_two_messages_the_other_way_round() {
        parted([3, 4], [4, 3]).is_wrong(check, "comes before itself, by way of others");
    }

    #[test]
    fn not_by_way_of_others_either() {
        let mut story = Story::ring(3);
        for (node, first, second) in [(1, 1, 2), (2, 2, 3), (3, 3, 1)] {
            story.deliver(node, first, 1, 1);
            story.deliver(node, second, 1, 2);
        }
        story.is_wrong(check, "comes before itself, by way of others");
    }

    #[test]
    fn a_message_is_of_the_same_ring_for_all() {
        let mut story = Story::ring(2);
        story.deliver(1, 1, 1, 1);
        for node in [1, 2] {
            story.install(node, "1.8", &[1, 2], &[1, 2]);
        }
        story.deliver(2, 1, 1, 1);
        story.is_wrong(check, "comes before itself, by way of others");
    }
}
