//! Counters of the core's input and actions.

use std::collections::BTreeMap;
use std::fmt;

use crate::Notices;

/// The reason why a datagram, or a message within one, was refused. Each refusal is counted in
/// [`Stats::refused`] and has no other effect, so bytes from the network cannot stop a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// The input is shorter than its kind requires, or than its own counts claim.
    Truncated,
    /// The input is longer than its counts say.
    TrailingBytes,
    /// The input is not a Totem message.
    Magic,
    /// A corosync 2.x message.
    OldCorosync,
    /// The input has another version of the protocol.
    Version,
    /// The message type does not exist.
    Type,
    /// The input has more entries than the protocol allows.
    TooMany,
    /// A node id is 0 where a node is required.
    NoNode,
    /// A field has an impossible value.
    Field,
    /// The packed messages do not add up to the frame.
    Packing,
    /// A fragment lacks its beginning, or exceeds the longest message.
    Fragment,
    /// A message of a layer above is malformed.
    Service,
    /// The sender is not in the node list.
    Unlisted,
    /// The sender's address belongs to another node id, or its id to another address.
    Impostor,
    /// The sender belongs to another cluster on the same group and port.
    OtherCluster,
    /// The sender of the frame is not a member of the frame's ring.
    Outsider,
    /// A sequence number is further from this node's than the window.
    OutOfWindow,
    /// A ring sequence number is higher than any ring can have reached.
    RingNumber,
    /// A token or commit token does not concern this node's ring.
    OtherRing,
}

impl Refusal {
    /// Returns `true` if the refusal does not occur among well-behaved members. Tokens of an
    /// earlier ring, late frames, and messages that began before this node joined do occur.
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
    /// Tokens and commit tokens that were sent again for lack of a sign of progress.
    pub token_retransmits: u64,
    /// Frames that were sent again because a member asked for them.
    pub retransmits: u64,
    /// Frames originated.
    pub originated: u64,
    /// Messages delivered to the application.
    pub delivered: u64,
    /// Regular configurations installed.
    pub rings: u64,
    /// Times that a ring was given up for a new membership.
    pub gathers: u64,
    /// Times that this node was paused.
    pub stalls: u64,
    /// Times that a host reported that a member's process is gone.
    pub hints: u64,
    /// Times that this node declared a member failed because of such a report.
    pub accusations: u64,
    /// The problems of the last minute that keep peers out.
    pub notices: Notices,
}

impl Stats {
    /// Counts one refusal.
    pub fn refuse(&mut self, refusal: Refusal) {
        let count = self.refused.entry(refusal).or_default();
        *count = count.saturating_add(1);
    }
}
