//! Q1: any two rings that were quorate have a member in common, where the quorum's options are strict.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{NodeId, RingId};

use super::{Violation, violated};
use crate::History;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    if !history.electorate().is_strict(history.nodes()) {
        return Ok(());
    }
    let mut quorate: BTreeMap<RingId, &BTreeSet<NodeId>> = BTreeMap::new();
    for stated in history.statuses() {
        let Some(regular) = stated.regular.filter(|_| stated.status.quorate) else { continue };
        if quorate.contains_key(&regular.ring) {
            continue;
        }
        for (ring, members) in &quorate {
            if regular.members.is_disjoint(members) {
                let what = format!(
                    "{ring} of {members:?} and {} of {:?} are quorate, and nobody is in both",
                    regular.ring, regular.members
                );
                return violated("Q1", stated.at, what);
            }
        }
        quorate.insert(regular.ring, &regular.members);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn two_sides_are_not_quorate_both() {
        let mut story = Story::ring(5);
        story.settle(1);
        story.install(1, "1.8", &[1, 2, 3], &[1, 2, 3]);
        story.settle(1);
        story.install(4, "4.8", &[4, 5], &[4, 5]);
        story.settle(4);
        story.is_right(check);
        story.install(5, "4.c", &[4, 5], &[4, 5]);
        story.settle_as(5, |status| status.quorate = true);
        story.is_wrong(check, "1.8 of {1, 2, 3} and 4.c of {4, 5} are quorate, and nobody is in both");
        story.of("last_man_standing 600ms").is_right(check);
    }
}
