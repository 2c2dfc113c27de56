//! Totem's messages as bytes, compatible with corosync 3.1 over `transport: udp` without crypto.
//!
//! [`decode`] is total: any bytes give a value or a [`Refusal`], in time and memory bounded by the
//! datagram. Both byte orders are read, and the magic number distinguishes them. Encoding a decoded
//! message yields the original bytes. Exceptions are the target id of the header, which corosync
//! never sets, and the data that [`announced`] reads, which is ours.
//!
//! Every message is packed, without padding, and begins with the same 13 bytes:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    2 | magic 0xc070, in the sender's byte order |
//! |   2 |    1 | version 3 |
//! |   3 |    1 | type: see below |
//! |   4 |    1 | encapsulated: 1 or 2 in a multicast, else 0 |
//! |   5 |    4 | node: the sender, in a multicast the originator, in a LEAVE 0 |
//! |   9 |    4 | target id: never set by corosync, ignored, sent as 0 |
//!
//! The types are 0 token, 1 multicast, 2 merge detect, 3 join or leave, 4 commit token, 5 hold
//! cancel.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod announcement;
pub mod body;
mod commit;
mod join;
mod mcast;
mod order;
pub mod packing;
mod probe;
mod token;

pub use announcement::{Announcement, ClusterTag, announced};
pub use commit::{CommitEntry, CommitToken};
pub use join::Join;
pub(crate) use mcast::Draft;
pub use mcast::Multicast;
pub use order::Order;
pub use probe::{HoldCancel, MergeDetect};
pub use token::{RtrEntry, Token};

use bytes::Bytes;
use order::{Reader, Writer};

use crate::{NodeId, Refusal};

const MAGIC: u16 = 0xc070;
const VERSION: u8 = 3;
/// The first bytes of datagrams of corosync 2.2, and of those of 2.3 and later.
const OLD_MAGIC: [[u8; 2]; 2] = [[0xff; 2], [0xfe; 2]];

/// Message types.
mod kind {
    pub(super) const TOKEN: u8 = 0;
    pub(super) const MULTICAST: u8 = 1;
    pub(super) const MERGE_DETECT: u8 = 2;
    pub(super) const JOIN: u8 = 3;
    pub(super) const COMMIT: u8 = 4;
    pub(super) const HOLD_CANCEL: u8 = 5;
}

/// The message of a datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// The ring's token ("ORF token").
    Token(Token),
    /// An ordered frame.
    Multicast(Multicast),
    /// The probe with which rings find each other.
    MergeDetect(MergeDetect),
    /// A request to form a ring, or to leave.
    Join(Join),
    /// The token that forms a ring.
    Commit(CommitToken),
    /// A request to the representative to pass on the token that it holds.
    HoldCancel(HoldCancel),
}

/// Reads a datagram.
///
/// # Errors
/// The reason, if the datagram is not a well-formed Totem message.
pub fn decode(datagram: &Bytes) -> Result<Message, Refusal> {
    let (header, body) = Header::read(datagram)?;
    match header.kind {
        kind::TOKEN => Token::read(header, body).map(Message::Token),
        kind::MULTICAST => Multicast::read(header, body, datagram).map(Message::Multicast),
        kind::MERGE_DETECT => MergeDetect::read(header, body).map(Message::MergeDetect),
        kind::JOIN => Join::read(header, body).map(Message::Join),
        kind::COMMIT => CommitToken::read(header, body).map(Message::Commit),
        kind::HOLD_CANCEL => HoldCancel::read(header, body).map(Message::HoldCancel),
        _ => Err(Refusal::Type),
    }
}

/// Writes a message in the given byte order. Encoding a [`Multicast`] writes its fields, not its
/// `raw` bytes.
///
/// Lists are cut to the length that a receiver accepts.
pub fn encode(message: &Message, order: Order) -> Bytes {
    match message {
        Message::Token(token) => token.write(order),
        Message::Multicast(multicast) => multicast.write(order),
        Message::MergeDetect(probe) => probe.write(order),
        Message::Join(join) => join.write(order),
        Message::Commit(commit) => commit.write(order),
        Message::HoldCancel(cancel) => cancel.write(order),
    }
}

/// Returns the claimed sender of a datagram, as far as its first bytes contain it. This is the
/// sender of a token, a commit token, a JOIN or LEAVE, a probe, or a hold cancel. Frames have none,
/// because other nodes retransmit them.
///
/// For transports, which learn addresses from JOINs (`true`, also for a LEAVE) before a datagram is
/// decoded in full.
pub fn claimed_sender(datagram: &[u8]) -> Option<(NodeId, bool)> {
    let (header, mut body) = Header::read(datagram).ok()?;
    match header.kind {
        kind::JOIN => Some((body.node().ok()?, true)),
        kind::TOKEN | kind::MERGE_DETECT | kind::COMMIT | kind::HOLD_CANCEL => {
            Some((header.node().ok()?, false))
        }
        _ => None,
    }
}

/// Returns the byte order of the machine that wrote this datagram. Returns `None` if it does not
/// begin like a Totem message.
pub fn order_of(datagram: &[u8]) -> Option<Order> {
    let magic = *datagram.first_chunk()?;
    if magic == MAGIC.to_le_bytes() {
        Some(Order::Little)
    } else if magic == MAGIC.to_be_bytes() {
        Some(Order::Big)
    } else {
        None
    }
}

/// The first 13 bytes.
#[derive(Clone, Copy)]
struct Header {
    kind: u8,
    encapsulated: u8,
    node: u32,
}

impl Header {
    const LENGTH: usize = 13;

    /// The header of a message other than a [`Multicast`].
    fn plain(kind: u8, from: NodeId) -> Self {
        Self { kind, encapsulated: 0, node: from.get() }
    }

    fn read(datagram: &[u8]) -> Result<(Self, Reader<'_>), Refusal> {
        if datagram.len() < Self::LENGTH {
            return Err(Refusal::Truncated);
        }
        let Some(order) = order_of(datagram) else {
            let old = OLD_MAGIC.iter().any(|magic| datagram.starts_with(magic));
            return Err(if old { Refusal::OldCorosync } else { Refusal::Magic });
        };
        let mut reader = Reader::new(datagram, order);
        reader.u16()?;
        if reader.u8()? != VERSION {
            return Err(Refusal::Version);
        }
        let header = Self { kind: reader.u8()?, encapsulated: reader.u8()?, node: reader.u32()? };
        reader.u32()?;
        Ok((header, reader))
    }

    fn write(self, writer: &mut Writer) {
        writer.u16(MAGIC);
        writer.u8(VERSION);
        writer.u8(self.kind);
        writer.u8(self.encapsulated);
        writer.u32(self.node);
        writer.u32(0);
    }

    fn node(self) -> Result<NodeId, Refusal> {
        NodeId::new(self.node).ok_or(Refusal::NoNode)
    }

    /// Checks that both sender fields agree.
    fn same_node(self, again: u32) -> Result<(), Refusal> {
        if self.node == again { Ok(()) } else { Err(Refusal::Field) }
    }

    fn not_encapsulated(self) -> Result<(), Refusal> {
        if self.encapsulated == 0 { Ok(()) } else { Err(Refusal::Field) }
    }
}
