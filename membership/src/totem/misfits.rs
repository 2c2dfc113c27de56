//! Nodes that cannot be in one ring, and the choice of those that a ring is formed without.

use std::collections::{BTreeMap, BTreeSet};

use crate::bug;
use crate::{NodeId, Notice};

/// Two nodes, in ascending order.
pub(super) type Pair = (NodeId, NodeId);

/// The node lists that other nodes announce.
///
/// While the list of a cluster changes file by file, some nodes do not list each other. Every node
/// that hears both knows at once that they cannot be in one ring, and chooses without waiting for
/// either to stay silent.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct NodeLists {
    /// The lists that differ from this node's own. Only listed nodes are heard, so they are few.
    others: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// See [`super::Totem::set_voters`].
    pub(super) voters: BTreeMap<NodeId, u32>,
}

impl NodeLists {
    /// Records a node's list. `None` if the node accepts any node, or does not announce its list.
    /// Returns `true` if it is another list than before.
    ///
    /// A node without a list of its own ignores these lists, since it hears strangers.
    pub(super) fn note(
        &mut self,
        node: NodeId,
        listed: Option<BTreeSet<NodeId>>,
        own: Option<&BTreeSet<NodeId>>,
    ) -> bool {
        let Some(own) = bug!(NodeListsIgnored: None; own) else { return false };
        let listed = listed.filter(|listed| listed != own);
        let is_new = self.others.get(&node) != listed.as_ref();
        match listed {
            None => _ = self.others.remove(&node),
            Some(listed) => _ = self.others.insert(node, listed),
        }
        is_new
    }

    /// Returns the nodes to leave out of `nodes`, for the others to be able to form a ring.
    ///
    /// The nodes that stay have as many votes as possible, so that the cluster keeps its quorum.
    /// With equal votes, the largest set stays. In a tie, the nodes that list exactly the voters
    /// stay, then the `members` of the ring.
    pub(super) fn misfits(
        &self,
        me: NodeId,
        nodes: &BTreeSet<NodeId>,
        members: &BTreeSet<NodeId>,
        own: Option<&BTreeSet<NodeId>>,
    ) -> BTreeSet<NodeId> {
        let votes = |node: &NodeId| i64::from(self.voters.get(node).copied().unwrap_or_default());
        let lists_voters = |node: &NodeId| {
            self.others.get(node).or(own).is_some_and(|listed| listed.iter().eq(self.voters.keys()))
        };
        cannot_be_together(self.apart(nodes).map(ordered), me, |node, others| {
            let loses = others.iter().map(votes).sum::<i64>() - votes(&node);
            (loses, others.len(), !lists_voters(&node), !members.contains(&node))
        })
    }

    /// Returns those of `nodes` that another of them does not list, or that do not list another.
    pub(super) fn disputed(&self, nodes: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        self.apart(nodes).flat_map(|(node, other)| [node, other]).collect()
    }

    /// Returns a notice for each node that one of `nodes` does not list.
    pub(super) fn notices(&self, nodes: &BTreeSet<NodeId>) -> impl Iterator<Item = Notice> {
        self.apart(nodes).map(|(peer, node)| Notice::LeavesOut { peer, node })
    }

    /// Returns the pairs of these nodes of which the first does not list the second.
    fn apart(&self, nodes: &BTreeSet<NodeId>) -> impl Iterator<Item = (NodeId, NodeId)> {
        let lists = self.others.iter().filter(|(node, _)| nodes.contains(node));
        lists.flat_map(move |(&node, listed)| (nodes - listed).into_iter().map(move |other| (node, other)))
    }
}

/// Returns a pair in ascending order.
pub(super) fn ordered((a, b): (NodeId, NodeId)) -> Pair {
    (a.min(b), a.max(b))
}

/// Returns one node to leave out of each pair that cannot be in one ring. The choice falls on the
/// node that ranks highest, given the nodes it cannot be with, then on the higher id. All nodes
/// that know the same pairs, and rank alike, therefore choose the same.
pub(super) fn cannot_be_together<R: Ord>(
    apart: impl IntoIterator<Item = Pair>,
    me: NodeId,
    rank: impl Fn(NodeId, &BTreeSet<NodeId>) -> R,
) -> BTreeSet<NodeId> {
    let mut rivals: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
    for (a, b) in apart {
        rivals.entry(a).or_default().insert(b);
        rivals.entry(b).or_default().insert(a);
    }
    let mut left_out = BTreeSet::new();
    loop {
        let others = rivals.iter().filter(|(node, rivals)| **node != me && !rivals.is_empty());
        let worst = others.max_by_key(|(node, rivals)| (rank(**node, rivals), **node));
        let Some((&worst, _)) = worst else { return left_out };
        rivals.remove(&worst);
        rivals.values_mut().for_each(|rivals| _ = rivals.remove(&worst));
        left_out.insert(worst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u32]) -> BTreeSet<NodeId> {
        ids.iter().filter_map(|&id| NodeId::new(id)).collect()
    }

    /// Returns the nodes that node 3 leaves out. `lists` has nodes with their common list. Each of
    /// the `voters` has one vote.
    fn misfits(lists: &[(&[u32], &[u32])], voters: &[u32], up: &[u32], members: &[u32]) -> BTreeSet<NodeId> {
        let me = NodeId::new(3).unwrap();
        let own = lists.iter().find(|(of, _)| of.contains(&3)).map(|(_, listed)| nodes(listed));
        let mut node_lists = NodeLists {
            voters: nodes(voters).into_iter().map(|node| (node, 1)).collect(),
            ..Default::default()
        };
        for (of, listed) in lists {
            for node in nodes(of) {
                node_lists.note(node, Some(nodes(listed)), own.as_ref());
            }
        }
        node_lists.misfits(me, &nodes(up), &nodes(members), own.as_ref())
    }

    #[test]
    fn nodes_with_the_same_list_stay_together() {
        assert_eq!(misfits(&[(&[1, 2, 3], &[1, 2, 3])], &[1, 2, 3], &[1, 2, 3], &[3]), nodes(&[]));
    }

    #[test]
    fn a_list_that_lacks_a_node_that_is_down_matters_to_none() {
        let lists: &[(&[u32], &[u32])] = &[(&[1, 2], &[1, 2, 3]), (&[3, 4, 5], &[1, 2, 3, 4, 5])];
        assert_eq!(misfits(lists, &[1, 2, 3], &[1, 2, 3], &[3]), nodes(&[]));
    }

    #[test]
    fn nodes_with_votes_stay_and_new_ones_wait() {
        let lists: &[(&[u32], &[u32])] = &[(&[1, 2], &[1, 2, 3]), (&[3, 4, 5], &[1, 2, 3, 4, 5])];
        assert_eq!(misfits(lists, &[1, 2, 3], &[1, 2, 3, 4, 5], &[3]), nodes(&[4, 5]));
        // One node with the old list has the vote that two new ones lack.
        assert_eq!(misfits(lists, &[1, 2, 3], &[1, 3, 4, 5], &[3, 4, 5]), nodes(&[4, 5]));
    }

    #[test]
    fn without_votes_the_largest_set_stays() {
        let lists: &[(&[u32], &[u32])] = &[(&[1], &[1, 2, 3]), (&[2, 3, 4, 5], &[1, 2, 3, 4, 5])];
        assert_eq!(misfits(lists, &[], &[1, 2, 3, 4, 5], &[3]), nodes(&[1]));
    }

    #[test]
    fn in_a_tie_the_members_stay_and_then_the_lower_ids() {
        let lists: &[(&[u32], &[u32])] = &[(&[1, 2], &[1, 2, 3]), (&[3, 4, 5], &[1, 2, 3, 4, 5])];
        assert_eq!(misfits(lists, &[], &[1, 2, 3, 4, 5], &[3, 4, 5]), nodes(&[1, 2]));
        assert_eq!(misfits(lists, &[], &[1, 2, 3, 4, 5], &[3]), nodes(&[4, 5]));
    }

    /// Two rings meet, and each of them would keep its own member.
    #[test]
    fn in_a_tie_a_list_of_all_voters_decides_before_the_ring() {
        let lists: &[(&[u32], &[u32])] = &[(&[1], &[1, 3, 4]), (&[2, 3, 4], &[1, 2, 3, 4])];
        for members in [[1, 3], [2, 3]] {
            assert_eq!(misfits(lists, &[1, 2, 3, 4], &[1, 2, 3, 4], &members), nodes(&[1]));
        }
    }

    #[test]
    fn a_node_leaves_out_those_that_do_not_list_it() {
        let lists: &[(&[u32], &[u32])] = &[(&[1, 2], &[1, 2]), (&[3], &[1, 2, 3])];
        assert_eq!(misfits(lists, &[1, 2], &[1, 2, 3], &[3]), nodes(&[1, 2]));
    }

    #[test]
    fn a_list_replaces_the_one_before() {
        let mut lists = NodeLists::default();
        let (one, both) = (NodeId::new(1).unwrap(), nodes(&[1, 2]));
        for (listed, is_new, disputed) in [
            (Some(nodes(&[1])), true, &[1, 2][..]),
            (Some(nodes(&[1])), false, &[1, 2]),
            (Some(both.clone()), true, &[]),
            (None, false, &[]),
        ] {
            assert_eq!(lists.note(one, listed, Some(&both)), is_new);
            assert_eq!(lists.disputed(&both), nodes(disputed));
        }
    }

    #[test]
    fn a_node_without_a_list_ignores_those_of_strangers() {
        let mut lists = NodeLists::default();
        (1..10_000).filter_map(NodeId::new).for_each(|node| _ = lists.note(node, Some(nodes(&[1])), None));
        assert!(lists.others.is_empty());
    }
}
