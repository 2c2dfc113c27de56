//! Q4: all members of a quorate ring apply the same options. A node whose file has other options is
//! reported, and no other node is.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct OptionsAgree;

impl Online for OptionsAgree {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Status(status)) = (record.life, &record.what) else { return Ok(()) };
        let Some(regular) = cluster.regular(life).filter(|_| status.settled && !cluster.electorate.refiled)
        else {
            return Ok(());
        };
        let (members, dissenter) = (&regular.members, cluster.electorate.dissenter);
        let differs = members.iter().any(|member| Some(member.get()) == dissenter);
        let waits = status.flags.contains(&"WaitForAll");
        let what = match status.differences.first() {
            _ if differs && status.quorate && members.len() > 1 && waits != cluster.options.wait_for_all => {
                format!("judges by its own options, wait_for_all is {waits}")
            }
            None if differs && status.quorate && members.len() > 1 => {
                format!("options of {members:?} differ, but it reports nothing")
            }
            Some(clause) if !differs => {
                format!("options of {members:?} are the same, but it reports: {clause}")
            }
            _ => return Ok(()),
        };
        violated("Q4", record.at, format!("{life} in {}: {what}", regular.ring))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn ring(told: bool) -> Story {
        let mut story = Story::ring(3).of("node 2 differs");
        story.settle_as(1, |status| {
            status.differences.extend(told.then(|| "the file of node 2 has another".to_owned()));
        });
        story
    }

    #[test]
    fn a_node_with_other_options_is_reported() {
        ring(true).is_right(OptionsAgree);
        ring(false).is_wrong(OptionsAgree, "1#1 in 1.4: options of {1, 2, 3} differ, but it reports nothing");
    }

    #[test]
    fn members_apply_the_same_options() {
        let mut story = ring(true);
        story.settle_as(1, |status| {
            status.differences.push("the file of node 2 has another".to_owned());
            status.flags.push("WaitForAll");
        });
        story.is_wrong(OptionsAgree, "1#1 in 1.4: judges by its own options, wait_for_all is true");
    }

    #[test]
    fn a_node_with_the_same_options_is_not_reported() {
        let mut story = ring(true);
        story.install(1, "1.8", &[1, 3], &[1, 3]);
        story.settle(1);
        story.is_right(OptionsAgree);
        story.settle_as(1, |status| status.differences.push("the file of node 3 has another".to_owned()));
        story.is_wrong(OptionsAgree, "1#1 in 1.8: options of {1, 3} are the same, but it reports");
    }
}
