//! D1: a ring has at most one DC, and that is a member of it.

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
        let (first, theirs) = *dcs.entry(regular.ring).or_insert((stated.life, dc));
        if theirs != dc {
            return wrong(format!("the dc is {dc}, and {theirs} for {first}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
    fn another_ring_may_have_another() {
        let mut story = settled(1);
        story.install(2, "2.8", &[2], &[2]);
        story.settle(2);
        story.is_right(check);
    }
}
