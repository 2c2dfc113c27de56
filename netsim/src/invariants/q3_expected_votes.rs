//! Q3: never fewer votes are expected than are present, and quorum is more than half of them (`two_node`: or one). Nothing
//! at run time lowers what a node expects but the options that are there for it, which Q6 looks at.

use std::collections::BTreeMap;

use super::{Violation, violated};
use crate::History;
use crate::history::{Life, Stated};

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let options = history.electorate().options(history.nodes());
    let falls = options.last_man_standing.is_some() || options.allow_downscale;
    let mut latest: BTreeMap<Life, u32> = BTreeMap::new();
    for Stated { at, life, status, .. } in history.statuses() {
        let Some(expected) = status.expected_votes.filter(|_| status.settled) else { continue };
        let wrong = |what| violated("Q3", at, format!("{life} expects {expected} votes: {what}"));
        if expected < status.total_votes {
            return wrong(format!("{} are present", status.total_votes));
        }
        let majority = expected / 2 + 1;
        let two = options.two_node && status.quorum == Some(1);
        let more = options.allow_downscale && status.quorum > Some(majority);
        if status.quorum != Some(majority) && !two && !more {
            return wrong(format!("{:?} are needed", status.quorum));
        }
        if let Some(before) = latest.insert(life, expected).filter(|before| expected < *before && !falls) {
            return wrong(format!("after {before}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn expected_are_as_many_as_are_present_or_more() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.is_right(check);
        story.settle_as(2, |status| (status.expected_votes, status.quorum) = (Some(2), Some(2)));
        story.is_wrong(check, "2#1 expects 2 votes: 3 are present");
    }

    #[test]
    fn more_than_half_are_needed() {
        let mut story = Story::ring(4);
        story.settle_as(1, |status| status.quorum = Some(2));
        story.is_wrong(check, "1#1 expects 4 votes: Some(2) are needed");
    }

    #[test]
    fn nobody_expects_fewer_than_before() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.install(1, "1.8", &[1], &[1]);
        story.settle_as(1, |status| (status.expected_votes, status.quorum) = (Some(1), Some(1)));
        story.is_wrong(check, "1#1 expects 1 votes: after 3");
    }
}
