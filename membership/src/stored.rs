//! The record that a node keeps across restarts.

use serde::{Deserialize, Serialize};

/// The state that a node must remember across restarts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Stored {
    /// The highest ring sequence number that this node may have named. It is reserved in blocks
    /// ahead, so that a ring change need not wait for the disk.
    pub ring_seq: u64,
    /// The number of times that the node has started.
    pub boots: u64,
    /// Whether an earlier record was lost, and with it what this node may have promised. Such a
    /// node does not count for quorum until it has been in a ring with a majority that kept its
    /// records ([`Totem::recovered`](crate::Totem::recovered)).
    pub lost: bool,
    /// The text that the layer above the ring keeps ([`Totem::keep`](crate::Totem::keep)). It
    /// consists of whole lines, none of which begins with `crc32`, and has at most
    /// [`Stored::MAX_KEPT`] bytes. Empty if the layer keeps nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kept: String,
}

impl Stored {
    /// The largest text that the layer above the ring may keep, in bytes.
    pub const MAX_KEPT: usize = 60 << 10;
}
