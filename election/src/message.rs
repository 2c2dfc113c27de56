//! The messages that Quorate nodes send to each other, in the ring's order.

use bincode::{Decode, Encode};
use bytes::Bytes;
use quorate_membership::NodeId;

use crate::Candidacy;
use crate::candidacy::{Wire, WireMetadata};
use crate::codec::{self, DecodeError};

/// A message. The order of the variants is their number on the wire.
#[derive(Encode, Decode)]
pub(crate) enum Message {
    /// The sender's candidacy, sent in the ring's sync.
    Candidacy(Box<Wire>),
    /// The node that is to be DC of a starting cluster has waited long enough.
    Elect,
    /// The DC gives up its role.
    Release(Release),
    /// The sender's application, which hung, responds again.
    Answers,
    /// The sender has stored the electorate that the ring is to agree on.
    Stored,
    /// The texts that the sender tells about itself from now on.
    Metadata(WireMetadata),
}

/// The end of a tenure within its ring. Its sender has multicast this after its last act.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(crate) struct Release {
    /// The tenure of the ring that ends ([`Term::hand_over`](crate::Term::hand_over)).
    pub(crate) hand_over: u32,
    /// The leases of earlier rings are over, so that the next DC need not wait for them either.
    pub(crate) clear: bool,
    /// The sender's application hangs and may be in the middle of an act, so that the next DC waits
    /// as after a crash.
    pub(crate) hung: bool,
}

impl Message {
    pub(crate) fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode::<Self, { Candidacy::MAX }>(bytes)
    }
}

impl Candidacy {
    /// Encodes this as a [`quorate_membership::Service::Quorate`] message.
    pub fn encode(&self) -> Bytes {
        Message::Candidacy(Box::new(self.wire())).encode()
    }

    /// Decodes a candidacy that `from` sent.
    ///
    /// # Errors
    /// If it is malformed or cannot be true: it describes another node, claims another node's
    /// tenure, lacks the term of its own tenure, or has a name that cannot be shown.
    pub fn decode(from: NodeId, bytes: &[u8]) -> Result<Self, DecodeError> {
        match Message::decode(bytes)? {
            Message::Candidacy(wire) => Self::read(from, *wire),
            _ => Err(DecodeError::Impossible("a message that is not a candidacy")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_these() {
        assert_eq!(Message::Elect.encode(), [1, 0, 0, 0].as_slice());
        let release = Release { hand_over: 3, clear: true, hung: false };
        let bytes = [2, 0, 0, 0, 3, 0, 0, 0, 1, 0];
        assert_eq!(Message::Release(release).encode(), bytes.as_slice());
        assert!(matches!(Message::decode(&bytes), Ok(Message::Release(read)) if read == release));
        assert_eq!(Message::Answers.encode(), [3, 0, 0, 0].as_slice());
        assert_eq!(Message::Stored.encode(), [4, 0, 0, 0].as_slice());
        let metadata = Message::Metadata(vec![("k".to_owned(), "v".to_owned())]).encode();
        assert!(metadata.starts_with(&[5, 0, 0, 0, 1]) && metadata.ends_with(b"v"));
        assert!(Message::decode(&[6, 0, 0, 0]).is_err(), "a later version's");
    }
}
