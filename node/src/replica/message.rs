//! The messages among replicas: a header, and for some of them the bytes that it is about.
//!
//! The header is encoded by bincode 2, little-endian, with integers of fixed size. Decoding bounds
//! its length before anything is allocated.

use bincode::{Decode, Encode};
use bytes::Bytes;
use quorate_membership::{NodeId, RingId, Totem};

use super::version::{Electorate, Version};

/// A message. The order of the variants is their number on the wire.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) enum Message {
    /// The sender's memory of earlier rings. Its first message in a ring.
    Remembers(Remembers),
    /// The sender's count of the votes in this ring has changed. `None` if the ring is no longer
    /// quorate.
    Counts {
        #[bincode(with_serde)]
        ring: RingId,
        electorate: Option<Electorate>,
    },
    /// The sender takes a snapshot when this is delivered to it, for the members that need one.
    Begins(Transfer),
    /// A part of a snapshot, which follows the header.
    Part { transfer: Transfer, index: u32, is_last: bool },
    /// The sender has received this snapshot and has applied all writes since.
    Holds {
        #[bincode(with_serde)]
        ring: RingId,
        transfer: Transfer,
    },
    /// A write, which follows the header. Its number is the sender's.
    Write { number: u64 },
    /// The sender asks for its own message back, behind all earlier writes.
    Confirm { number: u64 },
}

/// A member's memory of earlier rings, when it enters a ring.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Remembers {
    #[bincode(with_serde)]
    pub(super) ring: RingId,
    /// The first ring of this member since it started.
    #[bincode(with_serde)]
    pub(super) since: RingId,
    /// The version of its state. `None` if it has had none since it started.
    pub(super) version: Option<Version>,
    /// The snapshot that it has received in part.
    pub(super) partial: Option<Partial>,
    /// The snapshot that it keeps for members that have received it in part.
    pub(super) keeps: Option<Transfer>,
    /// The sender's count of the votes. `None` if the ring is not quorate.
    pub(super) electorate: Option<Electorate>,
}

impl Remembers {
    /// Returns `true` if the member would remember a newer state than this one, had it had one: it
    /// remembers some state, or has been running since before.
    pub(super) fn would_know_after(&self, version: &Version) -> bool {
        self.version.is_some() || self.since <= version.ring
    }
}

/// A snapshot that a member has received in part.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Partial {
    pub(super) transfer: Transfer,
    /// The index of the first part that the member lacks.
    pub(super) next: u32,
    /// The version of the member's state once the snapshot is complete.
    pub(super) version: Version,
}

/// The identity of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Transfer {
    /// The sender.
    #[bincode(with_serde)]
    pub(super) from: NodeId,
    /// The ring in which the sender announced it.
    #[bincode(with_serde)]
    pub(super) ring: RingId,
    /// The sender's number of it.
    pub(super) number: u32,
}

impl Message {
    /// The longest payload.
    pub(super) const MAX_PAYLOAD: usize = Totem::MAX_PAYLOAD - 64;

    /// The longest header.
    const MAX: usize = 1 << 20;

    /// Returns `false` if a member with this id cannot have sent the message: it speaks for another
    /// one, or remembers what has not happened yet.
    pub(super) fn may_be_of(&self, from: NodeId) -> bool {
        match self {
            Self::Remembers(Remembers { ring, since, version, partial, keeps, .. }) => {
                let partial = partial.as_ref().map(|partial| &partial.version);
                let is_past = |version: &Version| version.ring < *ring && version.next <= Some(*ring);
                let speaks_for_itself = keeps.is_none_or(|keeps| keeps.from == from);
                since <= ring && version.iter().chain(partial).all(is_past) && speaks_for_itself
            }
            Self::Begins(transfer) | Self::Part { transfer, .. } => transfer.from == from,
            Self::Holds { .. } | Self::Counts { .. } | Self::Write { .. } | Self::Confirm { .. } => true,
        }
    }

    /// Encodes this, and appends what follows it.
    pub(super) fn encode(&self, payload: &[u8]) -> Bytes {
        let layout = bincode::config::standard().with_fixed_int_encoding();
        let mut bytes = Vec::with_capacity(64 + payload.len());
        // Encoding to memory fails only for types that bincode cannot express, and ours are plain.
        bincode::encode_into_std_write(self, &mut bytes, layout).expect("a plain message");
        bytes.extend_from_slice(payload);
        bytes.into()
    }

    /// Decodes a message and what follows it. `None` if the bytes are no message.
    pub(super) fn decode(bytes: &Bytes) -> Option<(Self, Bytes)> {
        let layout = bincode::config::standard().with_fixed_int_encoding().with_limit::<{ Self::MAX }>();
        let (message, length) = bincode::decode_from_slice(bytes, layout).ok()?;
        Some((message, bytes.slice(length..)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> NodeId {
        NodeId::new(n).expect("not 0")
    }

    fn ring(seq: u64) -> RingId {
        RingId { seq, representative: id(1) }
    }

    fn remembers(of: u64) -> Message {
        let version = Some(Version { ring: ring(of), writes: 7, next: None, electorates: Vec::new() });
        Message::Remembers(Remembers {
            ring: ring(8),
            version,
            partial: None,
            keeps: None,
            electorate: None,
            since: ring(4),
        })
    }

    #[test]
    fn a_payload_is_a_slice_of_its_message() {
        let write = Message::Write { number: 3 };
        let bytes = write.encode(b"hello");
        assert_eq!(bytes, [&[5, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0], &b"hello"[..]].concat());
        assert_eq!(Message::decode(&bytes), Some((write, Bytes::from_static(b"hello"))));
        assert!(Message::decode(&bytes.slice(..11)).is_none());
        let remembers = remembers(4);
        assert_eq!(Message::decode(&remembers.encode(&[])), Some((remembers, Bytes::new())));
        assert!(Message::decode(&Bytes::from_static(&[9, 0, 0, 0])).is_none(), "a later version's");
    }

    #[test]
    fn messages_with_impossible_claims_are_rejected() {
        let transfer = Transfer { from: id(2), ring: ring(8), number: 1 };
        let part = Message::Part { transfer, index: 0, is_last: true };
        assert!(part.may_be_of(id(2)) && !part.may_be_of(id(3)));
        assert!(Message::Begins(transfer).may_be_of(id(2)) && !Message::Begins(transfer).may_be_of(id(1)));
        assert!(remembers(4).may_be_of(id(1)) && !remembers(8).may_be_of(id(1)), "of its own ring");
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_rejected(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some((message, rest)) = Message::decode(&bytes.into()) {
                prop_assert_eq!(Message::decode(&message.encode(&rest)), Some((message, rest)));
            }
        }
    }
}
