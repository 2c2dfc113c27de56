//! Identifiers of members, rings and groups.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The id of a member: any `u32` except 0, unique in the cluster.
///
/// The members of a ring are ordered by ascending id, and the lowest id is the representative. On
/// the wire, 0 stands for "no node", which is `Option::<NodeId>::None` here.
///
/// ```
/// use quorate_membership::NodeId;
/// let id: NodeId = "3".parse().unwrap();
/// assert_eq!(id, NodeId::new(3).unwrap());
/// assert!(NodeId::new(0).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(NonZeroU32);

impl NodeId {
    /// Returns the id with this number, or `None` for 0.
    pub const fn new(id: u32) -> Option<Self> {
        match NonZeroU32::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The error for a text that is not a node id or ring id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse().map(Self).map_err(|_| ParseIdError {
            text: text.to_owned(),
            expected: "node id (a whole number from 1 to 4294967295)",
        })
    }
}

/// The identity of a ring, i.e. of a regular configuration. It is unique forever if every node
/// keeps its stored record.
///
/// Ring ids are ordered by age: a later ring of the same nodes has the higher sequence number. They
/// print as in corosync, `representative.sequence` with the sequence number in hexadecimal.
///
/// ```
/// use quorate_membership::RingId;
/// let ring: RingId = "1.2a".parse().unwrap();
/// assert_eq!((ring.representative.get(), ring.seq), (1, 42));
/// assert_eq!(ring.to_string(), "1.2a");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RingId {
    /// The ring sequence number. A new ring's number is 4 above the highest that its representative
    /// has heard of.
    pub seq: u64,
    /// The member that created the ring, which is the one with the lowest id.
    pub representative: NodeId,
}

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.representative, self.seq)
    }
}

impl fmt::Debug for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RingId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let parse = || {
            let (representative, seq) = text.split_once('.')?;
            Some(Self {
                seq: u64::from_str_radix(seq, 16).ok()?,
                representative: representative.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ParseIdError {
            text: text.to_owned(),
            expected: "ring id (representative.sequence, the sequence in hexadecimal)",
        })
    }
}

/// The name of a process group: 1 to 128 bytes, by convention readable text.
///
/// ```
/// use quorate_membership::Group;
/// let group: Group = "orders".parse().unwrap();
/// assert_eq!(group.to_string(), "orders");
/// assert!("".parse::<Group>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(Bytes);

impl Group {
    /// The longest name, in bytes (corosync's `CPG_MAX_NAME_LENGTH`).
    pub const MAX: usize = 128;

    /// Returns the group of this name.
    ///
    /// # Errors
    /// If the name is empty or longer than [`Group::MAX`] bytes.
    pub fn new(name: impl Into<Bytes>) -> Result<Self, GroupNameError> {
        let name = name.into();
        if name.is_empty() || name.len() > Self::MAX {
            return Err(GroupNameError { length: name.len() });
        }
        Ok(Self(name))
    }

    /// Returns the name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Group {
    type Err = GroupNameError;

    fn from_str(name: &str) -> Result<Self, GroupNameError> {
        Self::new(name.as_bytes().to_vec())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// The error for a group name that is empty or too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a group name must have 1 to {} bytes, not {length}", Group::MAX)]
pub struct GroupNameError {
    length: usize,
}
