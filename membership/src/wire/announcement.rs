//! The sender's announcement behind a JOIN, LEAVE or merge detect. These bytes are ours.
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    4 | `QRC1` |
//! |   4 |    8 | digest of the cluster's name, little-endian |
//! |   0 |    4 | `QRL1` |
//! |   4 |    2 | number of nodes in the sender's node list, little-endian |
//! |   6 |  4 n | their ids, ascending, little-endian |
//!
//! Each part is absent if the sender has no name or no list.
//!
//! corosync 3.1 reads the lists of a JOIN by their counts, and a merge detect by its fields. It
//! checks that a message is long enough, and neither reads nor logs anything that follows. A
//! corosync daemon announces nothing.

use std::collections::BTreeSet;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::kind;
use super::order::{Order, Reader};
use super::{Header, Join, join, probe};
use crate::{NodeId, Refusal};

const CLUSTER: [u8; 4] = *b"QRC1";
const NODE_LIST: [u8; 4] = *b"QRL1";

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
}

impl fmt::Display for ClusterTag {
    /// Writes 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A node's description of itself for nodes that may not know it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Announcement {
    /// The sender's cluster. `None` if the sender is a corosync daemon, or has no `cluster_name`.
    pub cluster: Option<ClusterTag>,
    /// The sender's node list. `None` if the sender is a corosync daemon, or accepts any node.
    pub listed: Option<BTreeSet<NodeId>>,
}

impl Announcement {
    /// Appends the announcement to an encoded JOIN, LEAVE or merge detect.
    pub fn append_to(&self, message: &Bytes) -> Bytes {
        let mut bytes = BytesMut::from(&**message);
        if let Some(ClusterTag(digest)) = self.cluster {
            bytes.put_slice(&CLUSTER);
            bytes.put_u64_le(digest);
        }
        if let Some(listed) = &self.listed {
            bytes.put_slice(&NODE_LIST);
            let nodes = listed.iter().take(Join::MAX_NODES);
            bytes.put_u16_le(u16::try_from(nodes.len()).unwrap_or(u16::MAX));
            nodes.for_each(|node| bytes.put_u32_le(node.get()));
        }
        bytes.freeze()
    }

    /// Reads an announcement that fills `bytes`.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader::new(bytes, Order::Little);
        let cluster = match rest.takes(CLUSTER) {
            true => Some(ClusterTag(rest.u64().ok()?)),
            false => None,
        };
        let listed = match rest.takes(NODE_LIST) {
            true => Some(node_list(&mut rest)?),
            false => None,
        };
        rest.rest().is_empty().then_some(Self { cluster, listed })
    }
}

/// Reads a node list. Returns `None` if it is malformed or too long.
fn node_list(rest: &mut Reader<'_>) -> Option<BTreeSet<NodeId>> {
    let count = usize::from(rest.u16().ok()?);
    let nodes = rest.list(Some(count).filter(|count| *count <= Join::MAX_NODES)?, Reader::node).ok()?;
    nodes.is_sorted_by(|a, b| a < b).then(|| nodes.into_iter().collect())
}

/// Returns the announcement in a datagram. It is empty if the sender announces nothing, and `None`
/// if the datagram is of a kind without announcements, or not a Totem message.
pub fn announced(datagram: &[u8]) -> Option<Announcement> {
    let (header, body) = Header::read(datagram).ok()?;
    let length = match header.kind {
        kind::JOIN => join::length(body),
        kind::MERGE_DETECT => Ok(probe::MERGE_DETECT),
        _ => return None,
    };
    let behind = length.ok().and_then(|length| datagram.get(length..));
    Some(behind.and_then(Announcement::read).unwrap_or_default())
}

impl Reader<'_> {
    /// Takes the magic number of a part, if that is what comes next.
    fn takes(&mut self, magic: [u8; 4]) -> bool {
        let is_next = self.rest().starts_with(&magic);
        is_next && self.bytes(magic.len()).is_ok()
    }

    /// Checks that exactly `n` bytes are left, or `n` bytes and an announcement.
    pub(super) fn exactly_or_announced(&self, n: usize) -> Result<(), Refusal> {
        match self.rest().get(n..) {
            None => Err(Refusal::Truncated),
            Some(behind) if Announcement::read(behind).is_some() => Ok(()),
            Some(_) => Err(Refusal::TrailingBytes),
        }
    }
}
