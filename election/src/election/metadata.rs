//! The texts that members tell about themselves.

use quorate_membership::{Metadata, NodeId, RingId};
use tracing::warn;

use super::{Election, Outcome};
use crate::candidacy::{WireMetadata, read_metadata, write_metadata};
use crate::message::Message;

impl Election {
    /// Sets what this node tells about itself. The status has it once it has a place in the ring's
    /// order.
    pub fn set_metadata(&mut self, metadata: Metadata) -> Outcome {
        let message = Message::Metadata(write_metadata(&metadata)).encode();
        self.metadata = metadata;
        Outcome { send: Some(message), ..Outcome::default() }
    }

    /// Handles what a member tells about itself.
    pub(super) fn hear_metadata(&mut self, ring: RingId, from: NodeId, wire: WireMetadata) -> Outcome {
        let metadata = match read_metadata(wire) {
            Ok(metadata) => metadata,
            Err(error) => {
                warn!(%from, %error, "unreadable message from a Quorate node");
                return Outcome::default();
            }
        };
        if let Some(collecting) = self.collecting.as_mut().filter(|collecting| collecting.hears(ring, from)) {
            collecting.metadata.insert(from, metadata);
            return Outcome::default();
        }
        let settled = self.settled.as_ref();
        let Some(settled) = settled.filter(|settled| settled.ring == ring && settled.members.contains(&from))
        else {
            return Outcome::default();
        };
        if let Some(known) = self.nodes.get_mut(&from) {
            known.metadata = metadata;
        }
        let nodes = self.node_statuses(&settled.members);
        let is_new = nodes != self.judged.nodes;
        self.judged.nodes = nodes;
        Outcome { status: is_new.then(|| self.judged.clone()), ..Outcome::default() }
    }
}
