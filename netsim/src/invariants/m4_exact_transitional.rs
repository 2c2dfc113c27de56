//! M4: the transitional configuration from one ring to the next has those members whose last ring was the former, no
//! more and no less, and is the same for all of them. A member that crashed and started again in between is not in it,
//! though it is in both rings.

use std::collections::{BTreeMap, BTreeSet};

use super::{Violation, violated};
use crate::History;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let stays = history.stays();
    // Who installed a ring, and which one before that in the same life.
    let mut came_from = BTreeMap::new();
    let mut stayed = BTreeSet::new();
    for (life, stays) in &stays {
        let mut previous = None;
        for stay in stays {
            let ring = stay.regular.ring;
            came_from.insert((ring, life.node), previous);
            stayed.insert((ring, life.node));
            previous = Some(ring);
        }
    }
    let mut members_of = BTreeMap::new();
    for (life, stays) in &stays {
        for stay in stays {
            let Some(change) = stay.transitional else { continue };
            let (from, to) = (change.previous, change.ring);
            let wrong = |what| violated("M4", stay.until, format!("{life} went from {from} to {to}: {what}"));

            for &node in stays.iter().filter(|s| s.regular.ring == to).flat_map(|s| &s.regular.members) {
                let named = change.members.contains(&node);
                match came_from.get(&(to, node)) {
                    Some(previous) if named && *previous != Some(from) => {
                        return wrong(format!("{node} is said to come along, but came from {previous:?}"));
                    }
                    Some(previous) if !named && *previous == Some(from) => {
                        return wrong(format!("{node} came along, but is not said to"));
                    }
                    // It did not get that far itself.
                    None if named && !stayed.contains(&(from, node)) => {
                        return wrong(format!("{node} is said to come along, but was never there"));
                    }
                    _ => {}
                }
            }
            let (first, members) = *members_of.entry((from, to)).or_insert((life, &change.members));
            if *members != change.members {
                return wrong(format!("with {:?}, and {first} with {members:?}", change.members));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn who_was_there_comes_along() {
        let mut story = Story::ring(3);
        for node in [1, 2] {
            story.install(node, "1.8", &[1, 2], &[1, 2]);
        }
        story.install(3, "3.8", &[3], &[3]);
        for (node, along) in [(1, &[1, 2][..]), (2, &[1, 2]), (3, &[3])] {
            story.install(node, "1.c", &[1, 2, 3], along);
        }
        story.is_right(check);
    }

    #[test]
    fn who_started_again_does_not_come_along() {
        let restart = |along: &[u32]| {
            let mut story = Story::ring(2);
            story.crash(2);
            story.start(2);
            story.install(2, "2.5", &[2], &[]);
            story.install(1, "1.c", &[1, 2], along);
            story.install(2, "1.c", &[1, 2], &[2]);
            story
        };
        restart(&[1]).is_right(check);
        restart(&[1, 2]).is_wrong(check, "2 is said to come along, but came from Some(2.5)");
    }

    #[test]
    fn who_comes_along_is_named() {
        let mut story = Story::ring(2);
        story.install(1, "1.8", &[1, 2], &[1]);
        story.install(2, "1.8", &[1, 2], &[2]);
        story.is_wrong(check, "2 came along, but is not said to");
    }

    #[test]
    fn all_who_come_along_name_the_same() {
        // Node 3 died on the way, so nobody can say whether it came along; but it did or did not.
        let mut story = Story::ring(3);
        story.install(1, "1.8", &[1, 2, 3], &[1, 2]);
        story.install(2, "1.8", &[1, 2, 3], &[1, 2, 3]);
        story.crash(3);
        story.is_wrong(check, "with {1, 2, 3}, and 1#1 with {1, 2}");
    }

    #[test]
    fn nobody_comes_along_who_was_never_there() {
        let mut story = Story::new(2);
        story.install(1, "1.4", &[1], &[]);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.is_wrong(check, "2 is said to come along, but was never there");
    }
}
