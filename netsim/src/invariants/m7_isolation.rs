//! M7: with a node list, a node outside the list is never considered in a JOIN, never a member, and
//! its messages are never processed. Without a list, a node of another cluster is never a member.

use quorate_membership::NodeId;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

pub(super) struct Isolation;

impl Online for Isolation {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let foreign = |node: &&NodeId| !cluster.nodes.contains(node);
        let (stranger, where_to) = match &record.what {
            What::Regular(regular) => (regular.members.iter().find(foreign), "a member"),
            What::Inside(Inside::CommitSent { token, .. }) => {
                (token.members.iter().find(foreign), "a member")
            }
            // Without a list, rings find each other by their frames too. A frame does not name its
            // sender's cluster, so a JOIN may propose a stranger.
            _ if cluster.listed.is_none() => return Ok(()),
            What::Delivered(delivered) => (Some(&delivered.from).filter(foreign), "heard"),
            What::Inside(Inside::Received(frame)) => (Some(&frame.from).filter(foreign), "heard"),
            What::Inside(Inside::JoinSent(join)) => {
                (join.proc.iter().chain(&join.failed).find(foreign), "in its JOIN")
            }
            _ => return Ok(()),
        };
        match stranger {
            Some(node) => violated("M7", record.at, format!("{life}: the stranger {node} is {where_to}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::wire::Join;

    use super::super::story::{Story, id};
    use super::*;

    fn join(proc: &[u32]) -> Story {
        let mut story = Story::ring(2);
        let join = Join {
            from: id(1),
            leave: false,
            ring_seq: 4,
            proc: proc.iter().copied().map(id).collect(),
            failed: Vec::new(),
        };
        story.record(1, What::Inside(Inside::JoinSent(Box::new(join))));
        story
    }

    #[test]
    fn strangers_are_not_considered() {
        join(&[1, 2]).is_right(Isolation);
        join(&[1, 2, 1000]).is_wrong(Isolation, "1#1: the stranger 1000 is in its JOIN");
    }

    #[test]
    fn foreign_nodes_are_never_members_without_a_list() {
        let mut story = Story::ring(2).without_list();
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.is_right(Isolation);
        story.install(1, "1.12", &[1, 2, 7], &[1, 2]);
        story.is_wrong(Isolation, "1#1: the stranger 7 is a member");
    }

    #[test]
    fn outsiders_are_neither_members_nor_heard() {
        let mut story = Story::ring(2);
        story.install(1, "1.8", &[1, 2, 7], &[1, 2]);
        story.is_wrong(Isolation, "1#1: the stranger 7 is a member");
        let mut story = Story::ring(2);
        story.deliver_as(1, 2, 1, 1, |delivered| delivered.from = id(7));
        story.is_wrong(Isolation, "1#1: the stranger 7 is heard");
    }
}
