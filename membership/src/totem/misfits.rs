//! Nodes that cannot be in one ring, and the choice of those that a ring is formed without.

use std::collections::{BTreeMap, BTreeSet};

use crate::bug;
use crate::wire::Join;
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
    /// The lists that differ from this node's own.
    others: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// See [`super::Totem::set_voters`].
    pub(super) voters: BTreeMap<NodeId, u32>,
}

impl NodeLists {
    /// Records a node's list. `None` if the node accepts any node, or does not announce its list.
    pub(super) fn note(
        &mut self,
        node: NodeId,
        listed: Option<BTreeSet<NodeId>>,
        own: Option<&BTreeSet<NodeId>>,
    ) {
        match bug!(NodeListsIgnored: None; listed.filter(|listed| Some(listed) != own)) {
            None => _ = self.others.remove(&node),
            Some(listed) if self.others.len() < Join::MAX_NODES || self.others.contains_key(&node) => {
                self.others.insert(node, listed);
            }
            Some(_) => {}
        }
    }

    /// Returns the nodes to leave out of `nodes`, for the others to be able to form a ring.
    ///
    /// The nodes that stay have as many votes as possible, so that the cluster keeps its quorum. Of
    /// nodes with the same votes, the largest possible set stays; in a tie, the `members` of the
    /// ring do.
    pub(super) fn misfits(
        &self,
        me: NodeId,
        nodes: &BTreeSet<NodeId>,
        members: &BTreeSet<NodeId>,
    ) -> BTreeSet<NodeId> {
        let votes = |node: &NodeId| i64::from(self.voters.get(node).copied().unwrap_or_default());
        cannot_be_together(self.apart(nodes).map(ordered).collect(), me, |node, others| {
            let loses = others.iter().map(votes).sum::<i64>() - votes(&node);
            (loses, others.len(), !members.contains(&node))
        })
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
    mut apart: BTreeSet<Pair>,
    me: NodeId,
    rank: impl Fn(NodeId, &BTreeSet<NodeId>) -> R,
) -> BTreeSet<NodeId> {
    let mut left_out = BTreeSet::new();
    loop {
        let mut others: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for &(a, b) in &apart {
            others.entry(a).or_default().insert(b);
            others.entry(b).or_default().insert(a);
        }
        others.remove(&me);
        let worst = others.iter().max_by_key(|(node, others)| (rank(**node, others), **node));
        let Some((&worst, _)) = worst else { return left_out };
        left_out.insert(worst);
        apart.retain(|&(a, b)| a != worst && b != worst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u32]) -> BTreeSet<NodeId> {
        ids.iter().filter_map(|&id| NodeId::new(id)).collect()
    }

    /// Returns the nodes that node 3 leaves out. Each of the `lists` is that of some nodes, and each
    /// of the `voters` has one vote.
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
        node_lists.misfits(me, &nodes(up), &nodes(members))
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

    #[test]
    fn a_node_leaves_out_those_that_do_not_list_it() {
        let lists: &[(&[u32], &[u32])] = &[(&[1, 2], &[1, 2]), (&[3], &[1, 2, 3])];
        assert_eq!(misfits(lists, &[1, 2], &[1, 2, 3], &[3]), nodes(&[1, 2]));
    }

    #[test]
    fn a_list_replaces_the_one_before() {
        let mut lists = NodeLists::default();
        let (one, both) = (NodeId::new(1).unwrap(), nodes(&[1, 2]));
        lists.note(one, Some(nodes(&[1])), Some(&both));
        assert_eq!(lists.apart(&both).count(), 1);
        for fits in [Some(both.clone()), None] {
            lists.note(one, fits, Some(&both));
            assert_eq!(lists.apart(&both).count(), 0);
        }
    }

    #[test]
    fn announced_lists_use_bounded_memory() {
        let mut lists = NodeLists::default();
        (1..10_000).filter_map(NodeId::new).for_each(|node| lists.note(node, Some(nodes(&[1])), None));
        assert_eq!(lists.others.len(), Join::MAX_NODES);
    }
}
