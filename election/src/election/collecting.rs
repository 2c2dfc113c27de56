//! The messages with which the members of a new ring describe themselves.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::wire::body::NodeInfo;
use quorate_membership::{NodeId, RingId, Time};
use tracing::warn;

use crate::Candidacy;

/// The messages of a new ring's members so far.
#[derive(Clone, Debug)]
pub(super) struct Collecting {
    pub(super) ring: RingId,
    pub(super) members: BTreeSet<NodeId>,
    pub(super) entered_at: Time,
    pub(super) left: BTreeSet<NodeId>,
    pub(super) node_infos: BTreeMap<NodeId, NodeInfo>,
    pub(super) candidacies: BTreeMap<NodeId, Candidacy>,
    /// The members whose candidacies could not be decoded. They are not corosync daemons, so their
    /// node info alone is not enough.
    pub(super) unread: BTreeSet<NodeId>,
}

impl Collecting {
    pub(super) fn hears(&self, ring: RingId, from: NodeId) -> bool {
        self.ring == ring && self.members.contains(&from)
    }

    pub(super) fn hear_node_info(&mut self, from: NodeId, node_info: NodeInfo) {
        // Members also report the votes of a quorum device, as node 0, even if there is none.
        if node_info.node == Some(from) {
            self.node_infos.insert(from, node_info);
        }
    }

    pub(super) fn hear_candidacy(&mut self, from: NodeId, mut candidacy: Candidacy) {
        // Terms are made from rings that a node was in, and a new ring's number is above all
        // numbers of its members' earlier rings. A node that knows of a later term did not learn it
        // on a ring.
        if candidacy.known.is_some_and(|term| term.ring_seq >= self.ring.seq) {
            let (known, ring) = (candidacy.known, self.ring);
            warn!(%from, ?known, %ring, "this member knows a term of a later ring, so it cannot be DC here");
            (candidacy.known, candidacy.tenure, candidacy.priority) = (None, None, 0);
        }
        self.candidacies.entry(from).or_insert(candidacy);
    }
}
