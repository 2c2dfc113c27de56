//! The one record that outlives a process.

#[cfg(feature = "tokio")]
mod disk;

#[cfg(feature = "tokio")]
pub use disk::{Memory, Store};
use serde::{Deserialize, Serialize};

/// What a node must remember over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Stored {
    /// No ring with a higher sequence number has been named by this node. Reserved in blocks ahead, so that a ring
    /// change need not wait for the disk.
    pub ring_seq: u64,
    /// How many times the node has started.
    pub boots: u64,
    /// An earlier record was lost, and with it what this node may have promised: it has no say in who acts until it has
    /// been in a ring with a majority that kept theirs ([`Totem::recovered`](crate::Totem::recovered)).
    pub lost: bool,
}
