//! S2: a message is delivered to a node at most once, over all its rings; and has one place in one ring.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, violated};
use crate::History;
use crate::history::What;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut seen = BTreeSet::new();
    let mut places = BTreeMap::new();
    for record in history.records() {
        let (Some(life), What::Delivered(delivered)) = (record.life, &record.what) else { continue };
        let Some(message) = delivered.message else { continue };
        if !seen.insert((life, message)) {
            return violated("S2", record.at, format!("{message} was delivered to {life} a second time"));
        }
        let place = (delivered.ring, delivered.seq);
        let first = *places.entry(message).or_insert(place);
        if first != place {
            let what =
                format!("{message} is at {} of {} and at {} of {}", first.1, first.0, place.1, place.0);
            return violated("S2", record.at, what);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn all_get_a_message_once() {
        let mut story = Story::ring(2);
        for node in [1, 2] {
            story.deliver(node, 1, 1, 1);
            story.deliver(node, 1, 2, 1);
        }
        story.is_right(check);
    }

    #[test]
    fn a_message_comes_once_even_if_the_ring_changes() {
        let mut story = Story::ring(2);
        story.deliver(1, 2, 1, 1);
        story.install(1, "1.8", &[1], &[1]);
        story.deliver(1, 2, 1, 1);
        story.is_wrong(check, "2#1:1 was delivered to 1#1 a second time");
    }

    #[test]
    fn a_message_is_ordered_by_one_ring() {
        let mut story = Story::ring(2);
        story.deliver(1, 2, 1, 1);
        story.deliver(2, 2, 1, 3);
        story.is_wrong(check, "2#1:1 is at 1 of 1.4 and at 3 of 1.4");
    }
}
