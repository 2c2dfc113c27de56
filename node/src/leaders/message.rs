//! The messages among the members that lead for names.
//!
//! They are encoded by bincode 2, little-endian, with integers of fixed size. Decoding bounds their
//! length before anything is allocated.

use bincode::{Decode, Encode};
use bytes::Bytes;
use quorate_membership::RingId;

use super::{Leaders, Preference};

/// A message. The order of the variants is their number on the wire. Each one counts in its ring
/// only.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) enum Message {
    /// All names that the sender stands for.
    Stands {
        #[bincode(with_serde)]
        ring: RingId,
        candidacies: Vec<Candidacy>,
        /// The names that the sender leads for since an earlier ring. Empty unless this is its
        /// first message in the ring.
        leads: Vec<String>,
    },
    /// The sender no longer leads for these names.
    Releases {
        #[bincode(with_serde)]
        ring: RingId,
        released: Vec<Release>,
    },
}

/// A name that a member stands for.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Candidacy {
    pub(super) name: String,
    pub(super) priority: u32,
    pub(super) weight: u32,
}

/// The end of a tenure. The sender has multicast this after its last act.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Release {
    pub(super) name: String,
    /// See [`Term::hand_over`](quorate_election::Term::hand_over).
    pub(super) place: u32,
    pub(super) begins: Begins,
}

/// When the next leader may begin to act.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) enum Begins {
    /// At once: the last leader has given up the name.
    AtOnce,
    /// When the leases of all earlier rings are over.
    WithRing,
    /// When a lease that ran at this place in the order is over: the last leader has vanished.
    AfterLease,
}

impl Message {
    /// The longest message.
    const MAX: usize = 2 << 20;

    /// Returns the ring in which the message counts.
    pub(super) fn ring(&self) -> RingId {
        match self {
            Self::Stands { ring, .. } | Self::Releases { ring, .. } => *ring,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let layout = bincode::config::standard().with_fixed_int_encoding();
        // Encoding to memory fails only for types that bincode cannot express, and ours are plain.
        bincode::encode_to_vec(self, layout).expect("a plain message").into()
    }

    /// Decodes a message. `None` if the bytes are no message, or one that no member sends.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let layout = bincode::config::standard().with_fixed_int_encoding().with_limit::<{ Self::MAX }>();
        let (message, length): (Self, usize) = bincode::decode_from_slice(bytes, layout).ok()?;
        let may_be = match &message {
            Self::Stands { candidacies, leads, .. } => {
                let plausible = |said: &Candidacy| {
                    Leaders::can_be_name(&said.name) && Preference::from(said).weight == said.weight
                };
                candidacies.len().max(leads.len()) <= Leaders::MAX_NAMES && candidacies.iter().all(plausible)
            }
            Self::Releases { released, .. } => released.len() <= Leaders::MAX_NAMES,
        };
        (length == bytes.len() && may_be).then_some(message)
    }
}

impl From<&Candidacy> for Preference {
    fn from(said: &Candidacy) -> Self {
        Self { priority: said.priority, weight: said.weight.clamp(1, Self::MAX_WEIGHT) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_membership::NodeId;

    use super::*;

    fn ring() -> RingId {
        RingId { seq: 8, representative: NodeId::new(1).expect("not 0") }
    }

    fn stands(name: &str, weight: u32) -> Message {
        let candidacies = vec![Candidacy { name: name.to_owned(), priority: 2, weight }];
        Message::Stands { ring: ring(), candidacies, leads: Vec::new() }
    }

    #[test]
    fn the_bytes_are_these() {
        let bytes = stands("a", 3).encode();
        let golden = [
            &[0, 0, 0, 0][..],               // stands
            &[8, 0, 0, 0, 0, 0, 0, 0],       // the ring's number
            &[1, 0, 0, 0],                   // its representative
            &[1, 0, 0, 0, 0, 0, 0, 0],       // one candidacy
            &[1, 0, 0, 0, 0, 0, 0, 0, b'a'], // the name
            &[2, 0, 0, 0, 3, 0, 0, 0],       // priority, weight
            &[0, 0, 0, 0, 0, 0, 0, 0],       // leads for no name
        ]
        .concat();
        assert_eq!(bytes, golden);
        assert_eq!(Message::decode(&bytes), Some(stands("a", 3)));
        let release = Release { name: "a".to_owned(), place: 7, begins: Begins::AfterLease };
        let releases = Message::Releases { ring: ring(), released: vec![release] };
        let bytes = releases.encode();
        assert!(bytes.ends_with(&[b'a', 7, 0, 0, 0, 2, 0, 0, 0]));
        assert_eq!(Message::decode(&bytes), Some(releases));
    }

    #[test]
    fn messages_with_impossible_claims_are_rejected() {
        assert_eq!(Message::decode(&stands("", 1).encode()), None, "no name");
        assert_eq!(Message::decode(&stands(&"x".repeat(256), 1).encode()), None, "a long name");
        assert_eq!(Message::decode(&stands("a", 0).encode()), None, "no weight");
        assert_eq!(Message::decode(&stands("a", u32::MAX).encode()), None, "too much weight");
        let more = [&stands("a", 1).encode()[..], &[0]].concat();
        assert_eq!(Message::decode(&more), None, "trailing bytes");
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_rejected(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes);
            }
        }
    }
}
