//! D1: at any point of a ring's order there is at most one DC, and that is a member of it. It changes by a hand-over only,
//! which the term counts.

use std::collections::BTreeMap;

use super::{Violation, violated};
use crate::History;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut dcs = BTreeMap::new();
    for stated in history.statuses() {
        let (Some(regular), Some(dc)) = (stated.regular, stated.status.dc) else { continue };
        let wrong = |what| violated("D1", stated.at, format!("{} in {}: {what}", stated.life, regular.ring));
        if !regular.members.contains(&dc) {
            return wrong(format!("the dc is {dc}, which is no member"));
        }
        let hand_over = stated.status.term.map(|term| term.hand_over);
        let (first, theirs) = *dcs.entry((regular.ring, hand_over)).or_insert((stated.life, dc));
        if theirs != dc {
            return wrong(format!("the dc is {dc}, and {theirs} for {first}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_election::Term;

    use super::super::story::{Story, id};
    use super::*;

    fn settled(dc: u32) -> Story {
        let mut story = Story::ring(2);
        story.settle(1);
        story.settle_as(2, |status| status.dc = Some(id(dc)));
        story
    }

    #[test]
    fn all_name_one_member() {
        settled(1).is_right(check);
        settled(2).is_wrong(check, "2#1 in 1.4: the dc is 2, and 1 for 1#1");
        settled(3).is_wrong(check, "the dc is 3, which is no member");
    }

    #[test]
    fn who_has_taken_over_is_another() {
        let mut story = settled(1);
        let term = Some(Term { ring_seq: 4, hand_over: 1, node: id(2) });
        story.settle_as(2, |status| (status.dc, status.term) = (Some(id(2)), term));
        story.is_right(check);
    }

    #[test]
    fn another_ring_may_have_another() {
        let mut story = settled(1);
        story.install(2, "2.8", &[2], &[2]);
        story.settle(2);
        story.is_right(check);
    }
}
