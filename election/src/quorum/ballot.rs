//! The quorum data that Quorate nodes exchange in addition to corosync's node info, which has no
//! room for it.

use std::time::Duration;

use bincode::{Decode, Encode};
use quorate_membership::config::{QuorumOptions, TieBreaker};
use quorate_membership::wire::Join;
use quorate_membership::{NodeId, RingId};

use super::{Dated, Electorate};
use crate::DecodeError;

/// A member's additions to its node info, sent once per ring, so that all members judge from the
/// same data. corosync daemons send none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ballot {
    /// The nodes, votes and options in the member's file.
    pub file: Electorate,
    /// Whether the file is a proposal: it differs from the agreement, and was changed after it.
    pub proposes: bool,
    /// The latest agreement that the member knows of.
    pub agreed: Option<Dated>,
    /// A later electorate that the member has accepted without knowing whether it was agreed on.
    pub pending: Option<Dated>,
    /// Whether the member's file lets a majority suffice at the cluster's first start
    /// (`wait_for_all: 0`).
    pub majority_founds: bool,
    /// Whether an operator has changed the member's votes. If so, those in its node info count.
    pub ordered: bool,
    /// The last ring with a majority that the member was in, and the node that breaks ties until
    /// the next such ring.
    pub tie: Option<Tie>,
    /// Whether the member has lost other members of a quorate ring (`last_man_standing`). Stays set
    /// until a window has ended.
    pub lost: bool,
}

/// The node that breaks ties after a ring that had a majority. Ordered by the age of the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tie {
    /// The ring's sequence number.
    pub ring_seq: u64,
    /// The node. `None` if no listed tie-breaker was in that ring.
    pub node: Option<NodeId>,
}

#[derive(Encode, Decode)]
pub(crate) struct WireBallot {
    flags: u16,
    /// The electorate in the file. `None` if it equals `agreed`.
    file: Option<WireElectorate>,
    agreed: Option<WireDated>,
    pending: Option<WireDated>,
    /// The ring's sequence number, and the node or 0.
    tie: Option<(u64, u32)>,
}

/// The sequence number and representative of the ring, those of the founding ring, and the
/// electorate.
type WireDated = (u64, u32, u64, u32, WireElectorate);

#[derive(Encode, Decode)]
struct WireElectorate {
    flags: u16,
    expected: u32,
    /// Runs of nodes with the same votes: the first id, the number of nodes, and their votes.
    voters: Vec<(u32, u32, u32)>,
    /// The window of `last_man_standing` in milliseconds, or the votes of the quorum device. These
    /// exclude each other, and a later version may only append fields to the whole.
    window: u64,
    /// The listed tie-breakers. Empty for other kinds of tie-breaker.
    list: Vec<u32>,
}

const LOST: u16 = 1;
const PROPOSES: u16 = 2;
const MAJORITY_FOUNDS: u16 = 4;
const ORDERED: u16 = 8;

const TWO_NODE: u16 = 1;
const WAIT_FOR_ALL: u16 = 2;
const LAST_MAN_STANDING: u16 = 4;
const LOWEST: u16 = 8;
const HIGHEST: u16 = 16;
const LIST: u16 = 32;
const ALLOW_DOWNSCALE: u16 = 64;
const EXPECTED_VOTES_TRACKING: u16 = 128;
/// A build that knows of no quorum devices rejects this, as several tie-breakers.
const DEVICE: u16 = LOWEST | HIGHEST;

fn flags<const N: usize>(set: [(bool, u16); N]) -> u16 {
    set.iter().fold(0, |flags, &(on, flag)| if on { flags | flag } else { flags })
}

impl From<&Electorate> for WireElectorate {
    fn from(electorate: &Electorate) -> Self {
        let options = &electorate.options;
        let tie_breaker = match &options.auto_tie_breaker {
            None => 0,
            Some(TieBreaker::Lowest) => LOWEST,
            Some(TieBreaker::Highest) => HIGHEST,
            Some(TieBreaker::List(_)) => LIST,
        };
        let list = match &options.auto_tie_breaker {
            Some(TieBreaker::List(nodes)) => nodes.iter().map(|node| node.get()).collect(),
            _ => Vec::new(),
        };
        let window = match electorate.device {
            0 => options.last_man_standing.unwrap_or_default().as_millis(),
            votes => votes.into(),
        };
        let set = [
            (options.two_node, TWO_NODE),
            (options.wait_for_all, WAIT_FOR_ALL),
            (options.last_man_standing.is_some(), LAST_MAN_STANDING),
            (options.allow_downscale, ALLOW_DOWNSCALE),
            (options.expected_votes_tracking, EXPECTED_VOTES_TRACKING),
            (electorate.device > 0, DEVICE),
        ];
        Self {
            flags: flags(set) | tie_breaker,
            expected: electorate.expected,
            voters: electorate.runs(),
            window: u64::try_from(window).unwrap_or(u64::MAX),
            list,
        }
    }
}

impl TryFrom<WireElectorate> for Electorate {
    type Error = DecodeError;

    fn try_from(wire: WireElectorate) -> Result<Self, DecodeError> {
        let is_set = |flag: u16| wire.flags & flag != 0;
        let has_device = wire.flags & DEVICE == DEVICE;
        let list: Option<Vec<NodeId>> = wire.list.iter().copied().map(NodeId::new).collect();
        let list = list.ok_or(DecodeError::Impossible("node 0 as a tie-breaker"))?;
        let auto_tie_breaker = match wire.flags & (LOWEST | HIGHEST | LIST) {
            0 | DEVICE => None,
            LOWEST => Some(TieBreaker::Lowest),
            HIGHEST => Some(TieBreaker::Highest),
            LIST if (1..=Join::MAX_NODES).contains(&list.len()) => Some(TieBreaker::List(list)),
            LIST => return Err(DecodeError::Impossible("a malformed list of tie-breakers")),
            _ => return Err(DecodeError::Impossible("several tie-breakers")),
        };
        let votes =
            Self::of_runs(wire.voters).ok_or(DecodeError::Impossible("a malformed list of voters"))?;
        let device = match (has_device, is_set(LAST_MAN_STANDING)) {
            (false, _) => 0,
            (true, false) => u32::try_from(wire.window)
                .map_err(|_| DecodeError::Impossible("a quorum device with too many votes"))?,
            (true, true) => return Err(DecodeError::Impossible("last_man_standing with a quorum device")),
        };
        let options = QuorumOptions {
            two_node: is_set(TWO_NODE),
            wait_for_all: is_set(WAIT_FOR_ALL),
            last_man_standing: is_set(LAST_MAN_STANDING).then(|| Duration::from_millis(wire.window)),
            auto_tie_breaker,
            allow_downscale: is_set(ALLOW_DOWNSCALE),
            expected_votes_tracking: is_set(EXPECTED_VOTES_TRACKING),
        };
        Ok(Self { votes, device, expected: wire.expected, options })
    }
}

impl From<&Ballot> for WireBallot {
    fn from(ballot: &Ballot) -> Self {
        let Ballot { file, proposes, agreed, pending, majority_founds, ordered, tie, lost } = ballot;
        let dated = |dated: &Dated| {
            let Dated { ring, founded, electorate } = dated;
            let nodes = (ring.representative.get(), founded.representative.get());
            (ring.seq, nodes.0, founded.seq, nodes.1, WireElectorate::from(electorate))
        };
        let set =
            [(*lost, LOST), (*proposes, PROPOSES), (*majority_founds, MAJORITY_FOUNDS), (*ordered, ORDERED)];
        let differs = agreed.as_ref().is_none_or(|agreed| agreed.electorate != *file);
        Self {
            flags: flags(set),
            file: differs.then(|| file.into()),
            agreed: agreed.as_ref().map(dated),
            pending: pending.as_ref().map(dated),
            tie: tie.map(|tie| (tie.ring_seq, tie.node.map_or(0, NodeId::get))),
        }
    }
}

impl TryFrom<WireBallot> for Ballot {
    type Error = DecodeError;

    fn try_from(wire: WireBallot) -> Result<Self, DecodeError> {
        let is_set = |flag: u16| wire.flags & flag != 0;
        let (lost, proposes) = (is_set(LOST), is_set(PROPOSES));
        let (majority_founds, ordered) = (is_set(MAJORITY_FOUNDS), is_set(ORDERED));
        let ring = |seq, representative| {
            let representative = NodeId::new(representative);
            let representative = representative.ok_or(DecodeError::Impossible("a ring of node 0"))?;
            Ok::<_, DecodeError>(RingId { seq, representative })
        };
        let dated = |(seq, node, founded_seq, founder, electorate): WireDated| {
            Ok::<_, DecodeError>(Dated {
                ring: ring(seq, node)?,
                founded: ring(founded_seq, founder)?,
                electorate: electorate.try_into()?,
            })
        };
        let agreed = wire.agreed.map(dated).transpose()?;
        let pending = wire.pending.map(dated).transpose()?;
        let file = match (wire.file, &agreed) {
            (Some(file), _) => file.try_into()?,
            (None, Some(agreed)) => agreed.electorate.clone(),
            (None, None) => return Err(DecodeError::Impossible("a file without votes or agreement")),
        };
        let tie = wire.tie.map(|(ring_seq, node)| Tie { ring_seq, node: NodeId::new(node) });
        Ok(Self { file, proposes, agreed, pending, majority_founds, ordered, tie, lost })
    }
}
