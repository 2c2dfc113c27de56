//! Candidacies: how members describe themselves, and which of them is elected.

use std::cmp::Reverse;
use std::time::Duration;

use bincode::{Decode, Encode};
use quorate_membership::{Metadata, NodeId};

use crate::codec::{self, DecodeError};
use crate::quorum::WireBallot;
use crate::{Ballot, Term};

/// The description that a member sends of itself, once per ring, in the sync stage. The greatest
/// candidacy is elected.
///
/// The order of candidacies is the election's entire policy. It is derived, so the fields from the
/// top down to the id are the rules, and the first field that differs decides. Ids are unique, so
/// fields below the id never decide.
///
/// If a ring has several protocol versions, the lowest decides. A later version may only append
/// fields, and must elect by these rules while any member of the ring knows no others.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Candidacy {
    /// The term under which the member was last DC of a quorate ring. It is `None` if the member
    /// has since been in a settled ring with another DC.
    ///
    /// A healed partition can bring several incumbents together. The latest one stays in office,
    /// because an earlier one was superseded without noticing.
    pub tenure: Option<Term>,
    /// The operator's preference. The higher value wins, and 0 is never elected.
    pub priority: u32,
    /// The member's features as a DC ([`Candidacy::FEATURES`] of its build). The lower value wins,
    /// so that every member understands the DC while a cluster is upgraded node by node.
    pub features: Reverse<u32>,
    /// The sequence number of the ring in which this process joined the DC's group, or founded its
    /// own. The lower number, which means the longer membership, wins.
    ///
    /// A member starts with its first ring's number. Whenever it settles in a ring whose DC did not
    /// come along with it from the last ring it had settled in, it takes that ring's number.
    /// Numbers of groups that never met can be compared, but the comparison says nothing about age.
    pub since: Reverse<u64>,
    /// The member's id. The lower id wins.
    pub node: Reverse<NodeId>,
    /// The highest term that the member knows of.
    pub known: Option<Term>,
    /// The member's name, as it is shown to operators.
    pub name: String,
    /// The member's additions to its node info.
    pub ballot: Ballot,
    /// Whether the member's record was lost, and with it the knowledge of what it may have taken
    /// part in. Such a member has no say in a tenure
    /// ([`Stored::lost`](quorate_membership::Stored::lost)).
    pub lost: bool,
    /// Whether the member's application hangs. Such a member is elected only if no other member may
    /// be.
    pub hung: bool,
    /// How long the member had been up when it sent this. Its memory reaches back this far.
    pub up: Duration,
    /// The time between the member's last token of an earlier ring, in this life or another, and
    /// this candidacy.
    pub idle: Duration,
    /// How long a DC of another ring must wait for a lease that follows this member's configuration
    /// ([`LeaseRule::outlasted_by`](crate::LeaseRule::outlasted_by)).
    pub wait: Duration,
    /// The member's token timeout. The guarantees about leases require that this and `wait` are the
    /// same for all members.
    pub token: Duration,
    /// How long a starting cluster waits for missing nodes if this member is the one to be elected.
    pub patience: Duration,
    /// The texts that the member tells about itself. Empty in version 1.
    pub metadata: Metadata,
}

/// The encoded form of a [`Candidacy`].
#[derive(Encode, Decode)]
pub(crate) struct Wire {
    version: u16,
    node: u32,
    tenure: Option<WireTerm>,
    priority: u32,
    features: u32,
    since: u64,
    known: Option<WireTerm>,
    name: String,
    ballot: WireBallot,
    lost: bool,
    hung: bool,
    /// The member's uptime. All durations are in microseconds.
    up: u64,
    idle: u64,
    wait: u64,
    token: u64,
    patience: u64,
    /// Empty in version 1, and [`WireMetadata`] in version 2, which is that of members with
    /// metadata. Later versions add fields.
    extension: Vec<u8>,
}

/// The encoded form of [`Metadata`]: keys and values.
pub(crate) type WireMetadata = Vec<(String, String)>;

#[derive(Encode, Decode)]
pub(crate) struct WireTerm {
    ring_seq: u64,
    hand_over: u32,
    node: u32,
}

impl Candidacy {
    /// The feature version of this build. It is raised when a DC's duties change.
    pub const FEATURES: u32 = 1;
    /// The longest name, in bytes (corosync's `nodelist.node.name`).
    pub const MAX_NAME: usize = 255;
    /// The longest message, in bytes, including room for later versions.
    pub const MAX: usize = 32 << 10;

    /// Returns the form in which this is sent.
    pub(crate) fn wire(&self) -> Wire {
        let tells = !self.metadata.is_empty();
        let extension = tells.then(|| codec::encode(&write_metadata(&self.metadata)).to_vec());
        Wire {
            version: if tells { 2 } else { 1 },
            node: self.node.0.get(),
            tenure: self.tenure.map(WireTerm::from),
            priority: self.priority,
            features: self.features.0,
            since: self.since.0,
            known: self.known.map(WireTerm::from),
            name: self.name.clone(),
            ballot: WireBallot::from(&self.ballot),
            lost: self.lost,
            hung: self.hung,
            up: micros(self.up),
            idle: micros(self.idle),
            wait: micros(self.wait),
            token: micros(self.token),
            patience: micros(self.patience),
            extension: extension.unwrap_or_default(),
        }
    }

    /// Checks a decoded candidacy. See [`Candidacy::decode`].
    pub(crate) fn read(from: NodeId, wire: Wire) -> Result<Self, DecodeError> {
        let tenure = wire.tenure.map(Term::try_from).transpose()?;
        let known = wire.known.map(Term::try_from).transpose()?;
        let claims = [
            (wire.version >= 1, "version 0"),
            (wire.version > 1 || wire.extension.is_empty(), "an extension in version 1"),
            (wire.node == from.get(), "another node's candidacy"),
            (tenure.is_none_or(|term| term.node == from), "another node's term of office"),
            (tenure <= known, "a tenure above the highest term known"),
            (Self::can_be_shown(&wire.name), "an unprintable name"),
            (wire.idle <= wire.up, "a token received before the node started"),
        ];
        if let Some((_, claim)) = claims.iter().find(|(plausible, _)| !plausible) {
            return Err(DecodeError::Impossible(claim));
        }
        let metadata = match wire.version {
            1 => Metadata::default(),
            2 => read_metadata(codec::decode::<_, { Self::MAX }>(&wire.extension)?)?,
            _ => read_metadata(codec::decode_start::<_, { Self::MAX }>(&wire.extension)?)?,
        };
        Ok(Self {
            tenure,
            priority: wire.priority,
            features: Reverse(wire.features),
            since: Reverse(wire.since),
            node: Reverse(from),
            known,
            name: wire.name,
            ballot: Ballot::try_from(wire.ballot)?,
            lost: wire.lost,
            hung: wire.hung,
            up: Duration::from_micros(wire.up),
            idle: Duration::from_micros(wire.idle),
            wait: Duration::from_micros(wire.wait),
            token: Duration::from_micros(wire.token),
            patience: Duration::from_micros(wire.patience),
            metadata,
        })
    }

    /// Returns `true` if this can be a node's name: 1 to [`Candidacy::MAX_NAME`] bytes, without
    /// characters that would confuse a terminal.
    pub(crate) fn can_be_shown(name: &str) -> bool {
        !name.is_empty() && name.len() <= Self::MAX_NAME && !name.chars().any(char::is_control)
    }
}

pub(crate) fn write_metadata(metadata: &Metadata) -> WireMetadata {
    metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn read_metadata(wire: WireMetadata) -> Result<Metadata, DecodeError> {
    let with = |metadata: Metadata, (key, value): (String, String)| metadata.with(&key, &value);
    let metadata = wire.into_iter().try_fold(Metadata::new(), with);
    metadata.map_err(|_| DecodeError::Impossible("metadata that no node has"))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl From<Term> for WireTerm {
    fn from(term: Term) -> Self {
        Self { ring_seq: term.ring_seq, hand_over: term.hand_over, node: term.node.get() }
    }
}

impl TryFrom<WireTerm> for Term {
    type Error = DecodeError;

    fn try_from(wire: WireTerm) -> Result<Self, DecodeError> {
        let node = NodeId::new(wire.node).ok_or(DecodeError::Impossible("a term of node 0"))?;
        Ok(Self { ring_seq: wire.ring_seq, hand_over: wire.hand_over, node })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use quorate_membership::config::{QuorumOptions, TieBreaker};

    use quorate_membership::RingId;

    use super::*;
    use crate::quorum::Dated;
    use crate::{Electorate, Tie};

    fn id(n: u32) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn term(ring_seq: u64, node: u32) -> Term {
        Term { ring_seq, hand_over: 0, node: id(node) }
    }

    fn member(node: u32) -> Candidacy {
        Candidacy {
            tenure: None,
            priority: 0,
            features: Reverse(1),
            since: Reverse(4),
            node: Reverse(id(node)),
            known: None,
            name: format!("node{node}"),
            ballot: Ballot::default(),
            lost: false,
            hung: false,
            up: Duration::ZERO,
            idle: Duration::ZERO,
            wait: Duration::ZERO,
            token: Duration::ZERO,
            patience: Duration::ZERO,
            metadata: Metadata::default(),
        }
    }

    fn elected(candidacies: &[&Candidacy]) -> u32 {
        candidacies.iter().max().unwrap().node.0.get()
    }

    #[test]
    fn among_equals_the_lowest_id_is_elected() {
        assert_eq!(elected(&[&member(2), &member(1), &member(3)]), 1);
    }

    #[test]
    fn the_longest_in_the_ring_is_elected_before_the_lowest_id() {
        assert_eq!(elected(&[&Candidacy { since: Reverse(8), ..member(1) }, &member(2)]), 2);
    }

    #[test]
    fn the_lowest_features_are_elected_before_the_longest_member() {
        let upgraded = Candidacy { features: Reverse(2), since: Reverse(1), ..member(1) };
        assert_eq!(elected(&[&upgraded, &member(2)]), 2);
    }

    #[test]
    fn the_operators_choice_is_elected_before_the_lowest_features() {
        let chosen = Candidacy { priority: 1, features: Reverse(2), ..member(2) };
        assert_eq!(elected(&[&member(1), &chosen]), 2);
    }

    #[test]
    fn the_incumbent_is_elected_before_the_operators_choice() {
        let chosen = Candidacy { priority: 1, ..member(1) };
        let incumbent = Candidacy { tenure: Some(term(4, 2)), ..member(2) };
        assert_eq!(elected(&[&chosen, &incumbent]), 2);
    }

    #[test]
    fn of_two_incumbents_the_later_one_is_elected() {
        let superseded = Candidacy { tenure: Some(term(4, 1)), priority: 9, ..member(1) };
        let incumbent = Candidacy { tenure: Some(term(8, 2)), ..member(2) };
        assert_eq!(elected(&[&superseded, &incumbent]), 2);
    }

    #[test]
    fn a_name_and_the_known_term_decide_nothing() {
        let knowing = Candidacy { known: Some(term(400, 3)), name: "zzz".into(), ..member(2) };
        assert_eq!(elected(&[&member(1), &knowing]), 1);
        let equal = Candidacy { node: Reverse(id(1)), ..knowing };
        assert_eq!(equal.cmp(&member(1)), equal.known.cmp(&None), "only below the id");
    }

    #[test]
    fn the_bytes_are_these() {
        let said = Candidacy {
            tenure: Some(term(8, 2)),
            priority: 7,
            features: Reverse(1),
            since: Reverse(4),
            node: Reverse(id(2)),
            known: Some(term(8, 2)),
            name: "n2".into(),
            ballot: Ballot {
                file: Electorate {
                    votes: [(id(1), 1), (id(2), 1), (id(3), 1)].into(),
                    device: 0,
                    expected: 3,
                    options: QuorumOptions {
                        wait_for_all: true,
                        last_man_standing: Some(Duration::from_millis(600)),
                        auto_tie_breaker: Some(TieBreaker::List(vec![id(3)])),
                        ..QuorumOptions::default()
                    },
                },
                proposes: true,
                agreed: Some(Dated {
                    ring: RingId { seq: 6, representative: id(1) },
                    founded: RingId { seq: 5, representative: id(2) },
                    electorate: Electorate { expected: 2, ..Electorate::default() },
                }),
                pending: None,
                majority_founds: true,
                ordered: true,
                tie: Some(Tie { ring_seq: 8, node: Some(id(1)) }),
                lost: true,
            },
            lost: true,
            hung: true,
            up: Duration::from_micros(0x504),
            idle: Duration::from_micros(0x403),
            wait: Duration::from_micros(0x302),
            token: Duration::from_micros(0x605),
            patience: Duration::from_micros(0x201),
            metadata: Metadata::new().with("k", "v").unwrap(),
        };
        let golden: &[u8] = &[
            0, 0, 0, 0, // a candidacy
            2, 0, // version
            2, 0, 0, 0, // node
            1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, // tenure
            7, 0, 0, 0, // priority
            1, 0, 0, 0, // features
            4, 0, 0, 0, 0, 0, 0, 0, // since
            1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, // known
            2, 0, 0, 0, 0, 0, 0, 0, b'n', b'2', // name
            15, 0, // flags: lost, proposes, a majority founds, ordered
            1, // its file
            0x26, 0, // flags: wait_for_all, last_man_standing, a list
            3, 0, 0, 0, // expected
            1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0,
            0, // voters: three from node 1, one vote each
            0x58, 2, 0, 0, 0, 0, 0, 0, // window
            1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, // list
            1, 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, // agreed in ring 1.6
            5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, // of the cluster founded in ring 2.5
            0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // flags, expected, no voters
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // window, no list
            0, // nothing pending
            1, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, // tie
            1, // its record was lost
            1, // its application hangs
            4, 5, 0, 0, 0, 0, 0, 0, // up
            3, 4, 0, 0, 0, 0, 0, 0, // idle
            2, 3, 0, 0, 0, 0, 0, 0, // wait
            5, 6, 0, 0, 0, 0, 0, 0, // token timeout
            1, 2, 0, 0, 0, 0, 0, 0, // patience
            26, 0, 0, 0, 0, 0, 0, 0, // extension
            1, 0, 0, 0, 0, 0, 0, 0, // one text
            1, 0, 0, 0, 0, 0, 0, 0, b'k', // key
            1, 0, 0, 0, 0, 0, 0, 0, b'v', // value
        ];
        assert_eq!(said.encode(), golden);
        assert_eq!(Candidacy::decode(id(2), golden), Ok(said));
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let telling = Candidacy { metadata: Metadata::new().with("k", "v").unwrap(), ..member(2) };
        let mut bytes = telling.encode().to_vec();
        let extension = bytes.len() - 26;
        bytes[extension - 8] += 3;
        bytes.extend([9, 9, 9]);
        assert_eq!(Candidacy::decode(id(2), &bytes), Err(DecodeError::TrailingBytes(3)), "as version 2");
        bytes[4] = 3;
        assert_eq!(Candidacy::decode(id(2), &bytes), Ok(telling), "as version 3");
        bytes[4] = 1;
        assert!(matches!(Candidacy::decode(id(2), &bytes), Err(DecodeError::Impossible(_))), "as version 1");
        assert_eq!(member(2).encode()[4], 1, "a member that tells nothing");
    }

    #[test]
    fn metadata_that_no_node_has_is_refused() {
        let long = |length| ("k".to_owned(), "v".repeat(length));
        assert!(read_metadata(vec![long(Metadata::MAX - 1)]).is_ok());
        assert!(read_metadata(vec![long(Metadata::MAX)]).is_err());
        assert!(read_metadata(vec![(String::new(), String::new())]).is_err());
    }

    #[test]
    fn impossible_claims_are_refused() {
        let refused = |candidacy: Candidacy| {
            let read = Candidacy::decode(id(2), &candidacy.encode());
            assert!(matches!(read, Err(DecodeError::Impossible(_))), "{read:?}");
        };
        refused(member(3));
        refused(Candidacy { tenure: Some(term(4, 3)), known: Some(term(4, 3)), ..member(2) });
        refused(Candidacy { tenure: Some(term(8, 2)), known: Some(term(4, 3)), ..member(2) });
        refused(Candidacy { name: String::new(), ..member(2) });
        refused(Candidacy { name: "\u{1b}[2J".into(), ..member(2) });
        refused(Candidacy { name: "x".repeat(256), ..member(2) });
    }

    #[test]
    fn truncated_and_overlong_candidacies_are_refused() {
        let bytes = member(2).encode();
        for length in 0..bytes.len() {
            assert!(Candidacy::decode(id(2), &bytes[..length]).is_err(), "{length} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Candidacy::decode(id(2), &longer), Err(DecodeError::TrailingBytes(1)));
    }

    proptest! {
        #[test]
        fn random_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4200)) {
            let _ = Candidacy::decode(id(2), &bytes);
        }

        #[test]
        fn a_damaged_candidacy_is_read_or_refused(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut bytes = member(2).encode().to_vec();
            for (place, byte) in damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(candidacy) = Candidacy::decode(id(2), &bytes) {
                prop_assert_eq!(candidacy.node, Reverse(id(2)));
            }
        }

        #[test]
        fn candidacies_round_trip(
            tenure in any::<Option<u64>>(), more in any::<u64>(), priority: u32, features: u32, since: u64,
            name in "[^\\p{C}]{1,60}", flags: u8, list in proptest::collection::vec(1_u32.., 1..384),
            votes in proptest::collection::btree_map((1_u32..).prop_map(id), 0_u32..3, 0..384),
            agreed: Option<u64>, pending: Option<u64>, marks: [bool; 3],
        ) {
            let tenure = tenure.map(|seq| term(seq, 2));
            let known = tenure.map(|own| term(own.ring_seq.saturating_add(more), 2)).or(Some(term(more, 9)));
            let options = QuorumOptions {
                two_node: flags & 1 != 0,
                wait_for_all: flags & 2 != 0,
                last_man_standing: (flags & 4 != 0).then(|| Duration::from_millis(since)),
                auto_tie_breaker: match flags / 8 % 4 {
                    0 => None,
                    1 => Some(TieBreaker::Lowest),
                    2 => Some(TieBreaker::Highest),
                    _ => Some(TieBreaker::List(list.into_iter().map(id).collect())),
                },
                allow_downscale: flags & 32 != 0,
                expected_votes_tracking: flags & 64 != 0,
            };
            let tie = known.map(|term| Tie { ring_seq: term.ring_seq, node: NodeId::new(features) });
            // A device excludes these options.
            let is_free = options.last_man_standing.is_none() && options.auto_tie_breaker.is_none();
            let device = if is_free { features } else { 0 };
            let file = Electorate { votes: votes.clone(), device, expected: features, options };
            let dated = |seq: Option<u64>| Some(Dated {
                ring: RingId { seq: seq?, representative: id(2) },
                founded: RingId { seq: since, representative: id(3) },
                electorate: Electorate { votes: votes.clone(), expected: priority, ..file.clone() },
            });
            let [proposes, majority_founds, ordered] = marks;
            let agreed = if proposes { dated(agreed) } else { Some(Dated { electorate: file.clone(), ..dated(Some(since)).unwrap() }) };
            let ballot = Ballot {
                agreed, pending: dated(pending), file, proposes, majority_founds, ordered, tie, lost: flags & 128 != 0,
            };
            let said = Candidacy {
                tenure, priority, features: Reverse(features), since: Reverse(since), known, name, ballot,
                metadata: Metadata::new().with("a", &"x".repeat(usize::from(flags))).unwrap(), ..member(2)
            };
            prop_assert_eq!(Candidacy::decode(id(2), &said.encode()), Ok(said));
        }
    }
}
