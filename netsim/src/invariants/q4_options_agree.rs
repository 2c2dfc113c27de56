//! Q4: members with different quorum options are not quorate, and know why; no others are told so.

use quorate_election::Inquorate;

use super::{Violation, violated};
use crate::History;
use crate::history::Stated;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let dissenter = history.electorate().dissenter;
    for Stated { at, life, regular, status } in history.statuses() {
        let Some(regular) = regular.filter(|_| status.settled) else { continue };
        let members = &regular.members;
        let differs = members.len() > 1 && members.iter().any(|member| Some(member.get()) == dissenter);
        let told = matches!(status.inquorate, Some(Inquorate::OptionsDiffer { .. }));
        if differs == told {
            continue;
        }
        let what = match (differs, &status.inquorate) {
            (true, None) => format!("quorate with {members:?}, whose options differ"),
            (true, Some(why)) => format!("the options of {members:?} differ, and it is told: {why}"),
            (false, _) => format!("the options of {members:?} are the same, and it is told that they differ"),
        };
        return violated("Q4", at, format!("{life} in {}: {what}", regular.ring));
    }
    Ok(())
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
        ring(differ()).is_right(check);
        ring(None).is_wrong(check, "1#1 in 1.4: quorate with {1, 2, 3}, whose options differ");
        ring(Some(Inquorate::NoExpectedVotes)).is_wrong(check, "differ, and it is told: nobody has said");
    }

    #[test]
    fn members_with_the_same_options_are_not() {
        let mut story = ring(differ());
        story.install(1, "1.8", &[1, 3], &[1, 3]);
        story.settle(1);
        story.install(2, "2.8", &[2], &[2]);
        story.settle(2);
        story.is_right(check);
        story.install(3, "1.8", &[1, 3], &[1, 3]);
        story.settle_as(3, |status| (status.quorate, status.inquorate) = (false, differ()));
        story.is_wrong(check, "3#1 in 1.8: the options of {1, 3} are the same");
    }
}
