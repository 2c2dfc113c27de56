//! The messages of the layers above Totem (`spec`: corosync's C structs, 8-byte aligned).

use bytes::Bytes;

use crate::{Group, NodeId, Refusal, RingId};

/// The totempg group of corosync's services.
pub const SERVICES: &[u8] = b"a";
/// The totempg group of the sync protocol.
pub const SYNC: &[u8] = b"sync";
/// The totempg group of what only quorate nodes say to each other.
pub const QUORATE: &[u8] = b"quorate";

/// A body, by the group it was addressed to and its own header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Sync: the services a member has.
    ServiceBuild {
        /// The ring being synchronised.
        ring: RingId,
        /// Service ids, at most 128.
        services: Vec<u32>,
    },
    /// Sync: a member has finished a stage.
    Barrier {
        /// The ring being synchronised.
        ring: RingId,
    },
    /// Votequorum's node info.
    NodeInfo(NodeInfo),
    /// A process's message to its group.
    CpgMcast(CpgMcast),
    /// A message of group `quorate`.
    Quorate(Bytes),
    // the wire helper adds the remaining messages of totem-srp.md section 5 here
}

/// Votequorum NODEINFO, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeInfo {
    /// The node; `None` is the quorum device.
    pub node: Option<NodeId>,
    /// Its votes.
    pub votes: u32,
    /// The votes it expects in all.
    pub expected_votes: u32,
    /// Its flags, see [`NodeInfo::QUORATE`] and the others.
    pub flags: u32,
}

impl NodeInfo {
    /// The node is quorate.
    pub const QUORATE: u32 = 1;
    /// The node leaves.
    pub const LEAVING: u32 = 2;
    /// The node waits for all.
    pub const WAIT_FOR_ALL: u32 = 4;
    /// The node has been alone since it started.
    pub const FIRST: u32 = 8;
}

/// CPG MCAST, 184 bytes and the payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpgMcast {
    /// The process group.
    pub group: Group,
    /// The sending process.
    pub pid: u32,
    /// The sending node as it names itself; the frame's originator is what counts.
    pub node: u32,
    /// What was sent.
    pub payload: Bytes,
}

impl Body {
    /// Reads the body of a message addressed to `group`.
    ///
    /// # Errors
    /// If it is shorter than its kind, or of an unknown kind.
    pub fn decode(group: &[u8], body: &Bytes) -> Result<Self, Refusal> {
        let _ = (group, body);
        unimplemented!()
    }

    /// Writes it; for [`Body::CpgMcast`] without the payload, which need not be copied.
    pub fn encode(&self) -> Bytes {
        unimplemented!()
    }
}
