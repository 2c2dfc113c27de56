//! The one record that outlives a process.

#[cfg(feature = "tokio")]
mod disk;

#[cfg(feature = "tokio")]
pub use disk::{Memory, Store};
use serde::{Deserialize, Serialize};

/// What a node must remember over restarts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Stored {
    /// No ring with a higher sequence number has been named by this node. Reserved in blocks ahead, so that a ring
    /// change need not wait for the disk.
    pub ring_seq: u64,
    /// How many times the node has started.
    pub boots: u64,
    /// An earlier record was lost, and with it what this node may have promised: it counts for no quorum until it has
    /// been in a ring with a majority that kept theirs ([`Totem::recovered`](crate::Totem::recovered)).
    pub lost: bool,
    /// What the layer above the ring keeps ([`Totem::keep`](crate::Totem::keep)): whole lines, none of which begins with
    /// `crc32`, at most [`Stored::MAX_KEPT`] bytes. Empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kept: String,
}

impl Stored {
    /// The most that the layer above the ring may keep, in bytes.
    pub const MAX_KEPT: usize = 60 << 10;
}
