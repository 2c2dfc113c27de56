//! S8: nodes that go together from one ring to the next have delivered the same messages in the old
//! one, in the same order, and the same of them before its transitional configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use quorate_membership::{RingId, Seq};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Delivered, Life, MessageId, Record, What};

#[derive(Default)]
pub(super) struct VirtualSynchrony {
    here: BTreeMap<Life, Seen>,
    changes: Recent<(RingId, RingId), (Life, Seen)>,
}

/// The messages delivered during a stay in a ring.
#[derive(Clone, Default)]
struct Seen {
    regular: Sequence,
    transitional: Sequence,
}

/// A sequence of messages in constant space: its length, its last message, and a hash of all
/// messages.
#[derive(Clone, PartialEq, Eq, Default)]
struct Sequence {
    length: u64,
    last: Option<(Option<MessageId>, Seq)>,
    hash: u64,
}

impl Sequence {
    fn push(&mut self, delivered: &Delivered) {
        // `DefaultHasher::new` has no random keys.
        let mut hasher = DefaultHasher::new();
        (self.hash, delivered.message, delivered.seq.get()).hash(&mut hasher);
        *self = Self {
            length: self.length + 1,
            last: Some((delivered.message, delivered.seq)),
            hash: hasher.finish(),
        };
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages", self.length)?;
        match self.last {
            Some((Some(message), seq)) => write!(f, ", the last one {message} at {seq}"),
            Some((None, seq)) => write!(f, ", the last one unknown at {seq}"),
            None => Ok(()),
        }
    }
}

impl Seen {
    fn differs_from(&self, other: &Self) -> Option<String> {
        let parts = [
            ("regular", &self.regular, &other.regular),
            ("transitional", &self.transitional, &other.transitional),
        ];
        parts.into_iter().find(|(_, one, two)| one != two).map(|(part, one, two)| {
            match one.length == two.length {
                true => format!("not with the same {} messages of the {part} configuration", one.length),
                false => format!("of the {part} configuration one got {one}, the other {two}"),
            }
        })
    }
}

impl Online for VirtualSynchrony {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        match &record.what {
            What::Crashed => drop(self.here.remove(&life)),
            What::Delivered(delivered) => {
                let seen = self.here.entry(life).or_default();
                match cluster.place(life).is_some_and(|place| place.in_transition) {
                    false => seen.regular.push(delivered),
                    true => seen.transitional.push(delivered),
                }
            }
            What::Regular(next) => {
                let seen = self.here.insert(life, Seen::default()).unwrap_or_default();
                let Some(old) = cluster.regular(life) else { return Ok(()) };
                let (from, to) = (old.ring, next.ring);
                let (first, there) = self.changes.entry((from, to), || (life, seen.clone()));
                if let Some(difference) = there.differs_from(&seen) {
                    let what =
                        format!("{first} and {life} went from {from} to {to} together, but {difference}");
                    return violated("S8", record.at, what);
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

    /// Nodes 1 and 2 receive these messages of node 3 and then continue without it.
    fn split(one: &[u64], one_late: &[u64], two: &[u64], two_late: &[u64]) -> Story {
        let mut story = Story::ring(3);
        for (node, regular, late) in [(1, one, one_late), (2, two, two_late)] {
            for &number in regular {
                story.deliver(node, 3, number, number as u32);
            }
            story.leave_ring(node, "1.8", &[1, 2]);
            for &number in late {
                story.deliver(node, 3, number, number as u32);
            }
            story.enter_ring(node, "1.8", &[1, 2], &[1, 2]);
        }
        story
    }

    #[test]
    fn nodes_that_go_together_have_seen_the_same() {
        split(&[1, 2], &[3], &[1, 2], &[3]).is_right(VirtualSynchrony::default());
    }

    #[test]
    fn a_node_that_goes_elsewhere_may_have_seen_less() {
        let mut story = split(&[1, 2], &[3], &[1, 2], &[3]);
        story.deliver(3, 3, 1, 1);
        story.install(3, "3.8", &[3], &[3]);
        story.is_right(VirtualSynchrony::default());
    }

    #[test]
    fn an_extra_message_is_wrong() {
        split(&[1, 2], &[], &[1], &[]).is_wrong(
            VirtualSynchrony::default(),
            "one got 2 messages, the last one 3#1:2 at 2, the other 1 messages, the last one 3#1:1 at 1",
        );
    }

    #[test]
    fn a_message_comes_in_the_same_configuration_for_all() {
        split(&[1, 2], &[], &[1], &[2]).is_wrong(VirtualSynchrony::default(), "regular configuration");
        split(&[1], &[2], &[1], &[]).is_wrong(VirtualSynchrony::default(), "transitional configuration");
    }

    #[test]
    fn messages_in_another_order_are_wrong() {
        split(&[1, 2], &[], &[2, 1], &[]).is_wrong(
            VirtualSynchrony::default(),
            "not with the same 2 messages of the regular configuration",
        );
    }
}
