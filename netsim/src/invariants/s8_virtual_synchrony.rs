//! S8: nodes that go together from one ring to the next have delivered the same messages in the old one, in the same
//! order, and the same of them before its transitional configuration.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use quorate_membership::Seq;

use super::{Violation, violated};
use crate::History;
use crate::history::{Delivered, MessageId, Stay};

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut changes = BTreeMap::new();
    for (life, stays) in history.stays() {
        for stay in stays {
            let Some(next) = stay.next else { continue };
            let change = (stay.regular.ring, next);
            match changes.entry(change) {
                Entry::Vacant(entry) => {
                    entry.insert((life, Of::stay(&stay)));
                }
                Entry::Occupied(entry) => {
                    let (first, there) = entry.get();
                    if let Some(difference) = there.differs_from(&Of::stay(&stay)) {
                        let what = format!(
                            "{first} and {life} went from {} to {next} together, but {difference}",
                            stay.regular.ring
                        );
                        return violated("S8", stay.until, what);
                    }
                }
            }
        }
    }
    Ok(())
}

/// What was delivered in a stay.
struct Of {
    in_regular: Vec<(Option<MessageId>, Seq)>,
    in_transitional: Vec<(Option<MessageId>, Seq)>,
}

impl Of {
    fn stay(stay: &Stay<'_>) -> Self {
        let list = |delivered: &[&Delivered]| delivered.iter().map(|d| (d.message, d.seq)).collect();
        Self { in_regular: list(&stay.in_regular), in_transitional: list(&stay.in_transitional) }
    }

    fn differs_from(&self, other: &Self) -> Option<String> {
        let parts = [
            ("regular", &self.in_regular, &other.in_regular),
            ("transitional", &self.in_transitional, &other.in_transitional),
        ];
        parts.into_iter().find(|(_, one, two)| one != two).map(|(part, one, two)| {
            let same = one.iter().zip(two).take_while(|(a, b)| a == b).count();
            let name = |list: &[(Option<MessageId>, Seq)]| match list.get(same) {
                Some((Some(message), seq)) => format!("{message} at {seq}"),
                Some((None, seq)) => format!("nobody's message at {seq}"),
                None => "nothing".to_owned(),
            };
            format!(
                "after {same} messages of the {part} configuration, one got {}, the other {}",
                name(one),
                name(two)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    /// Nodes 1 and 2 get these messages of node 3 and then go on without it.
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
    fn who_goes_together_has_seen_the_same() {
        split(&[1, 2], &[3], &[1, 2], &[3]).is_right(check);
    }

    #[test]
    fn who_goes_elsewhere_may_have_seen_less() {
        let mut story = split(&[1, 2], &[3], &[1, 2], &[3]);
        story.deliver(3, 3, 1, 1);
        story.install(3, "3.8", &[3], &[3]);
        story.is_right(check);
    }

    #[test]
    fn one_message_more_is_one_too_many() {
        split(&[1, 2], &[], &[1], &[]).is_wrong(
            check,
            "after 1 messages of the regular configuration, one got 3#1:2 at 2, the other nothing",
        );
    }

    #[test]
    fn the_configuration_counts_in_which_a_message_comes() {
        split(&[1, 2], &[], &[1], &[2]).is_wrong(check, "regular configuration");
        split(&[1], &[2], &[1], &[]).is_wrong(check, "transitional configuration");
    }

    #[test]
    fn the_order_counts() {
        split(&[1, 2], &[], &[2, 1], &[]).is_wrong(check, "one got 3#1:1 at 1, the other 3#1:2 at 2");
    }
}
