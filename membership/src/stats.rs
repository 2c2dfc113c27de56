//! Counters of what the core saw and did.

use std::collections::BTreeMap;
use std::fmt;

use crate::Notices;

/// Why a datagram, or a message within one, was refused. Each is counted in [`Stats::refused`]; none is ever more
/// than a counter: bytes from the network cannot stop a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// Shorter than its kind requires, or than its own counts claim.
    Truncated,
    /// Longer than its counts say.
    TrailingBytes,
    /// Not a Totem message at all.
    Magic,
    /// A corosync 2.x message.
    OldCorosync,
    /// Another version of the protocol.
    Version,
    /// A message type that does not exist.
    Type,
    /// More entries than the protocol allows.
    TooMany,
    /// A node id 0 where there must be a node.
    NoNode,
    /// A field with a value that it cannot have.
    Field,
    /// The packed messages do not add up to the frame.
    Packing,
    /// A fragment without its beginning, or with too long a message behind it.
    Fragment,
    /// A message of a layer above that is not well-formed.
    Service,
    /// The sender is not in the node list.
    Unlisted,
    /// The sender's address belongs to another node id, or its id to another address.
    Impostor,
    /// The sender is of another cluster on the same group and port.
    OtherCluster,
    /// A frame of a ring that its sender is not a member of.
    Outsider,
    /// A sequence number further from ours than the window.
    OutOfWindow,
    /// A ring sequence number that no ring can have come to.
    RingNumber,
    /// A token or commit token that does not concern this node's ring.
    OtherRing,
}

impl Refusal {
    /// Whether a ring of well-behaved members gives no reason for it. Tokens of an earlier ring, late frames and messages
    /// that began before this node joined do occur.
    pub(crate) fn is_suspicious(self) -> bool {
        !matches!(self, Self::OtherRing | Self::OutOfWindow | Self::Fragment)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing bytes",
            Self::Magic => "not a Totem message",
            Self::OldCorosync => "a corosync 2.x message",
            Self::Version => "another protocol version",
            Self::Type => "unknown message type",
            Self::TooMany => "too many entries",
            Self::NoNode => "node id 0",
            Self::Field => "impossible field value",
            Self::Packing => "packed messages do not add up",
            Self::Fragment => "fragment without its beginning",
            Self::Service => "malformed service message",
            Self::Unlisted => "sender not in the node list",
            Self::Impostor => "sender's id and address do not belong together",
            Self::OtherCluster => "another cluster",
            Self::Outsider => "frame of a ring that its sender is not in",
            Self::OutOfWindow => "sequence number out of the window",
            Self::RingNumber => "ring number that no ring can have come to",
            Self::OtherRing => "token of another ring",
        })
    }
}

/// Counters since the node started.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Refused input, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Tokens accepted.
    pub tokens: u64,
    /// Tokens or commit tokens sent again because no sign of progress came.
    pub token_retransmits: u64,
    /// Frames sent again because a member asked for them.
    pub retransmits: u64,
    /// Frames originated.
    pub originated: u64,
    /// Messages delivered to the application.
    pub delivered: u64,
    /// Regular configurations installed.
    pub rings: u64,
    /// Times a ring was given up for a new membership.
    pub gathers: u64,
    /// Times this node stood still.
    pub stalls: u64,
    /// Times a host said that a member's process is gone.
    pub hints: u64,
    /// Times this node called a member failed because of that.
    pub accusations: u64,
    /// What keeps peers out: the cases of the last minute.
    pub notices: Notices,
}

impl Stats {
    /// Counts one refusal.
    pub fn refuse(&mut self, refusal: Refusal) {
        let count = self.refused.entry(refusal).or_default();
        *count = count.saturating_add(1);
    }
}
