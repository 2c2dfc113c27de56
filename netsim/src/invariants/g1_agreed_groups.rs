//! G1: members have the same group lists when their ring's sync is done, and after each change that
//! follows in the ring. Each change leads from the list before to the list that it names.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{Group, GroupChange, NodeId, Process, RingId};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

type Lists = BTreeMap<Group, BTreeSet<Process>>;

#[derive(Default)]
pub(super) struct AgreedGroups {
    nodes: BTreeMap<NodeId, Told>,
    /// The lists of the first life that completed a ring's sync.
    synced: Recent<RingId, (Life, Lists)>,
    /// The changes after the sync, numbered.
    changes: Recent<(RingId, u32), (Life, GroupChange), 1024>,
}

/// The events that a life has received.
struct Told {
    life: Life,
    lists: Lists,
    /// The ring that the life is in and the number of changes since its sync; `None` before the
    /// sync, and once the ring is over.
    since_sync: Option<(RingId, u32)>,
}

impl Online for AgreedGroups {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let told = self.nodes.entry(life.node).or_insert_with(|| Told::nothing(life));
        if told.life != life {
            *told = Told::nothing(life);
        }
        let wrong = |what: String| violated("G1", record.at, format!("{life}: {what}"));
        match &record.what {
            What::Transitional(_) | What::Regular(_) => told.since_sync = None,
            What::Synced(ring) => {
                told.since_sync = Some((*ring, 0));
                let (first, lists) = self.synced.entry(*ring, || (life, told.lists.clone()));
                if *lists != told.lists {
                    return wrong(format!("groups {:?} in {ring}, but {lists:?} for {first}", told.lists));
                }
            }
            What::GroupChange(change) => {
                let list = told.lists.entry(change.group.clone()).or_default();
                if !list.is_disjoint(&change.joined) || !list.is_superset(&change.left) {
                    return wrong(format!("{change}, from {list:?}"));
                }
                *list =
                    list.union(&change.joined).filter(|who| !change.left.contains(who)).copied().collect();
                if *list != change.members {
                    return wrong(format!("{change}, though the members are {list:?}"));
                }
                if list.is_empty() {
                    told.lists.remove(&change.group);
                }
                if let Some((ring, number)) = &mut told.since_sync {
                    *number += 1;
                    let (first, theirs) =
                        self.changes.entry((*ring, *number), || (life, GroupChange::clone(change)));
                    if *theirs != **change {
                        return wrong(format!(
                            "{change} as change {number} of {ring}, but {theirs} for {first}"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Told {
    fn nothing(life: Life) -> Self {
        Self { life, lists: Lists::new(), since_sync: None }
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::GroupReason;

    use super::super::story::{Story, id, ring};
    use super::*;

    fn processes(nodes: &[u32]) -> BTreeSet<Process> {
        nodes.iter().map(|&node| Process { node: id(node), pid: 7 }).collect()
    }

    /// Process 7 of each of these nodes joins group `g`, or leaves it.
    fn change(story: &mut Story, node: u32, reason: GroupReason, who: &[u32], members: &[u32]) {
        let joins = matches!(reason, GroupReason::Join | GroupReason::NodeUp);
        let change = GroupChange {
            ring: ring("1.4"),
            group: "g".parse().unwrap(),
            members: processes(members),
            joined: processes(if joins { who } else { &[] }),
            left: processes(if joins { &[] } else { who }),
            reason,
        };
        story.record(node, What::GroupChange(Box::new(change)));
    }

    /// Three nodes, of which two have a process in the group, known to all of them.
    fn joined() -> Story {
        let mut story = Story::ring(3);
        for node in 1..=3 {
            story.settle(node);
        }
        for node in 1..=3 {
            change(&mut story, node, GroupReason::Join, &[1], &[1]);
            change(&mut story, node, GroupReason::Join, &[2], &[1, 2]);
        }
        story
    }

    #[test]
    fn members_are_told_the_same_changes_in_the_same_order() {
        let mut story = joined();
        story.is_right(AgreedGroups::default());
        change(&mut story, 1, GroupReason::Join, &[3], &[1, 2, 3]);
        story.is_right(AgreedGroups::default());
        change(&mut story, 2, GroupReason::Leave, &[1], &[2]);
        story.is_wrong(
            AgreedGroups::default(),
            "2#1: group g of 1.4: leave 1:7, members 2:7 as change 3 of 1.4",
        );
    }

    #[test]
    fn members_have_the_same_lists_after_a_sync() {
        let mut story = joined();
        for node in [1, 2] {
            story.install(node, "1.8", &[1, 2], &[1, 2]);
        }
        story.settle(1);
        story.settle(2);
        story.is_right(AgreedGroups::default());
        story.install(1, "1.c", &[1, 2], &[1, 2]);
        story.install(2, "1.c", &[1, 2], &[1, 2]);
        story.settle(1);
        change(&mut story, 2, GroupReason::ProcessDown, &[1], &[2]);
        story.settle(2);
        story.is_wrong(AgreedGroups::default(), "in 1.c, but");
    }

    #[test]
    fn changes_before_the_sync_are_not_compared() {
        let mut story = joined();
        story.crash(3);
        story.start(3);
        story.install(3, "3.8", &[3], &[]);
        story.settle(3);
        for node in 1..=3 {
            story.install(node, "1.c", &[1, 2, 3], if node == 3 { &[3] } else { &[1, 2] });
        }
        change(&mut story, 3, GroupReason::NodeUp, &[1, 2], &[1, 2]);
        for node in 1..=3 {
            story.settle(node);
        }
        story.is_right(AgreedGroups::default());
    }

    #[test]
    fn a_change_leads_from_the_list_before_to_the_list_it_names() {
        let mut twice = joined();
        change(&mut twice, 1, GroupReason::Join, &[1], &[1, 2]);
        twice.is_wrong(AgreedGroups::default(), "join 1:7, members 1:7 2:7, from");
        let mut never = joined();
        change(&mut never, 1, GroupReason::Leave, &[3], &[1, 2]);
        never.is_wrong(AgreedGroups::default(), "leave 3:7");
        let mut other = joined();
        change(&mut other, 1, GroupReason::Join, &[3], &[1, 3]);
        other.is_wrong(AgreedGroups::default(), "though the members are");
    }
}
