//! Q4: members with different quorum options are not quorate, and know why; no others are told so.

use quorate_election::Inquorate;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct OptionsAgree;

impl Online for OptionsAgree {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Status(status)) = (record.life, &record.what) else { return Ok(()) };
        let Some(regular) = cluster.regular(life).filter(|_| status.settled) else { return Ok(()) };
        let (members, dissenter) = (&regular.members, cluster.electorate.dissenter);
        let differs = members.len() > 1 && members.iter().any(|member| Some(member.get()) == dissenter);
        let told = matches!(status.inquorate, Some(Inquorate::OptionsDiffer { .. }));
        if differs == told {
            return Ok(());
        }
        let what = match (differs, &status.inquorate) {
            (true, None) => format!("quorate with {members:?}, whose options differ"),
            (true, Some(why)) => format!("the options of {members:?} differ, and it is told: {why}"),
            (false, _) => format!("the options of {members:?} are the same, and it is told that they differ"),
        };
        violated("Q4", record.at, format!("{life} in {}: {what}", regular.ring))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id};
    use super::*;

    fn differ() -> Option<Inquorate> {
        Some(Inquorate::OptionsDiffer { option: "wait_for_all", one: id(1), other: id(2) })
    }

    fn ring(inquorate: Option<Inquorate>) -> Story {
        let mut story = Story::ring(3).of("node 2 differs");
        story.settle_as(1, |status| (status.quorate, status.inquorate) = (inquorate.is_none(), inquorate));
        story
    }

    #[test]
    fn members_with_different_options_are_told_so() {
        ring(differ()).is_right(OptionsAgree);
        ring(None).is_wrong(OptionsAgree, "1#1 in 1.4: quorate with {1, 2, 3}, whose options differ");
        ring(Some(Inquorate::NoExpectedVotes))
            .is_wrong(OptionsAgree, "differ, and it is told: no member has said");
    }

    #[test]
    fn members_with_the_same_options_are_not() {
        let mut story = ring(differ());
        story.install(1, "1.8", &[1, 3], &[1, 3]);
        story.settle(1);
        story.install(2, "2.8", &[2], &[2]);
        story.settle(2);
        story.is_right(OptionsAgree);
        story.install(3, "1.8", &[1, 3], &[1, 3]);
        story.settle_as(3, |status| (status.quorate, status.inquorate) = (false, differ()));
        story.is_wrong(OptionsAgree, "3#1 in 1.8: the options of {1, 3} are the same");
    }
}
