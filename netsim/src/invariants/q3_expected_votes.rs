//! Q3: at least as many votes are expected as are present, and quorum is more than half of them
//! (`two_node`: or one).
//!
//! At run time, the expected votes of a quorate node fall only by the options intended for it,
//! which Q6 checks. A node that is not quorate learns the number from quorate ones (B50).

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

/// The votes that each life expected last, and whether it was quorate.
#[derive(Default)]
pub(super) struct ExpectedVotes(BTreeMap<Life, (u32, bool)>);

impl Online for ExpectedVotes {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Status(status)) = (record.life, &record.what) else { return Ok(()) };
        let Some(expected) = status.expected_votes.filter(|_| status.settled) else { return Ok(()) };
        let wrong = |what| violated("Q3", record.at, format!("{life} expects {expected} votes: {what}"));
        if expected < status.total_votes {
            return wrong(format!("{} are present", status.total_votes));
        }
        let options = &cluster.options;
        let refiled = cluster.electorate.refiled;
        let falls = options.last_man_standing.is_some() || options.allow_downscale || refiled;
        let majority = expected / 2 + 1;
        let two = options.two_node && status.quorum == Some(1);
        let more = options.allow_downscale && status.quorum > Some(majority);
        if status.quorum != Some(majority) && !two && !more {
            return wrong(format!("{:?} are needed", status.quorum));
        }
        match self.0.insert(life, (expected, status.quorate)) {
            Some((before, true)) if expected < before && !falls => wrong(format!("after {before}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn expected_votes_cover_the_votes_present() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.is_right(ExpectedVotes::default());
        story.settle_as(2, |status| (status.expected_votes, status.quorum) = (Some(2), Some(2)));
        story.is_wrong(ExpectedVotes::default(), "2#1 expects 2 votes: 3 are present");
    }

    #[test]
    fn more_than_half_are_needed() {
        let mut story = Story::ring(4);
        story.settle_as(1, |status| status.quorum = Some(2));
        story.is_wrong(ExpectedVotes::default(), "1#1 expects 4 votes: Some(2) are needed");
    }

    #[test]
    fn expected_votes_do_not_fall() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.install(1, "1.8", &[1], &[1]);
        story.settle_as(1, |status| (status.expected_votes, status.quorum) = (Some(1), Some(1)));
        story.is_wrong(ExpectedVotes::default(), "1#1 expects 1 votes: after 3");
    }
}
