//! The sender's cluster in a JOIN, LEAVE or merge detect: 12 bytes after the message, which are
//! ours.
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    4 | `QRC1` |
//! |   4 |    8 | digest of the cluster's name, little-endian |
//!
//! corosync 3.1 reads the lists of a JOIN by their counts, and a merge detect by its fields. It
//! checks that a message is long enough, and neither reads nor logs anything that follows. A
//! corosync daemon announces no cluster.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::kind;
use super::order::Reader;
use super::{Header, join, probe};
use crate::Refusal;

const MAGIC: [u8; 4] = *b"QRC1";
const LENGTH: usize = 12;

/// A digest of a cluster's name (`totem.cluster_name`): 64 bits of FNV-1a.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterTag(u64);

impl ClusterTag {
    /// Returns the tag of a name.
    pub fn of(name: &[u8]) -> Self {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        Self(name.iter().fold(OFFSET, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(PRIME)))
    }

    /// Appends the announcement to an encoded JOIN, LEAVE or merge detect.
    pub fn announce(self, message: &Bytes) -> Bytes {
        let mut bytes = BytesMut::with_capacity(message.len().saturating_add(LENGTH));
        bytes.put_slice(message);
        bytes.put_slice(&MAGIC);
        bytes.put_u64_le(self.0);
        bytes.freeze()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let digest = bytes.strip_prefix(&MAGIC)?;
        Some(Self(u64::from_le_bytes(digest.try_into().ok()?)))
    }
}

impl fmt::Display for ClusterTag {
    /// Writes 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The announcement of the sender's cluster in a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announced {
    /// The datagram is of a kind without announcements, or not a Totem message.
    Silent,
    /// The announcement is absent. The sender is a corosync daemon, or a node without a
    /// `cluster_name`.
    Nothing,
    /// The sender belongs to this cluster.
    Cluster(ClusterTag),
}

/// Reads the announcement in a datagram.
pub fn announced(datagram: &[u8]) -> Announced {
    let Ok((header, body)) = Header::read(datagram) else { return Announced::Silent };
    let length = match header.kind {
        kind::JOIN => join::length(body),
        kind::MERGE_DETECT => Ok(probe::MERGE_DETECT),
        _ => return Announced::Silent,
    };
    let behind = length.ok().and_then(|length| datagram.get(length..));
    behind.and_then(ClusterTag::read).map_or(Announced::Nothing, Announced::Cluster)
}

impl Reader<'_> {
    /// Checks that exactly `n` bytes are left, or `n` bytes and an announcement.
    pub(super) fn exactly_or_announced(&self, n: usize) -> Result<(), Refusal> {
        match self.rest().get(n..) {
            None => Err(Refusal::Truncated),
            Some(behind) if behind.is_empty() || ClusterTag::read(behind).is_some() => Ok(()),
            Some(_) => Err(Refusal::TrailingBytes),
        }
    }
}
