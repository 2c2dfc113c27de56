//! The texts that members tell about themselves.

use bytes::Bytes;
use quorate_membership::{Metadata, NodeId, RingId};
use tracing::warn;

use super::{Election, Outcome};
use crate::candidacy::{WireMetadata, read_metadata, write_metadata};
use crate::message::Message;

impl Election {
    /// Sets what this node tells about itself. The status has it once it has a place in the ring's
    /// order. Of several changes in a row, members may see only the last one.
    pub fn set_metadata(&mut self, metadata: Metadata) -> Outcome {
        self.metadata = metadata;
        Outcome { send: self.tell_metadata(), ..Outcome::default() }
    }

    /// Returns the message that tells this node's texts, if members know others, and no earlier
    /// message is under way. One that changes its texts all the time thus keeps no other message
    /// from being sent.
    pub(super) fn tell_metadata(&mut self) -> Option<Bytes> {
        let known = self.nodes.get(&self.me).map(|known| &known.metadata);
        if self.telling || self.settled.is_none() || known == Some(&self.metadata) {
            return None;
        }
        self.telling = true;
        Some(Message::Metadata(write_metadata(&self.metadata)).encode())
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
        self.telling &= from != self.me;
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
