//! What quorate nodes tell each other of their quorum, which corosync's node info has no room for.

use std::time::Duration;

use bincode::{Decode, Encode};
use quorate_membership::NodeId;
use quorate_membership::config::{QuorumOptions, TieBreaker};

use crate::DecodeError;

/// What a member adds to its node info, once a ring, so that all judge from the same. Members that are corosync daemons
/// say nothing of it: their options are taken to be the others'.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ballot {
    /// Its options.
    pub options: QuorumOptions,
    /// The last ring with a majority that it was in, and who breaks ties until there is another one.
    pub tie: Option<Tie>,
    /// It was quorate, and has lost company since, or had and no window has ended since (`last_man_standing`).
    pub lost: bool,
}

/// Who breaks ties after a ring that had a majority. Ordered by the age of the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tie {
    /// The ring's sequence number.
    pub ring_seq: u64,
    /// The node; `None`: none of the list was in that ring.
    pub node: Option<NodeId>,
}

#[derive(Encode, Decode)]
pub(crate) struct WireBallot {
    flags: u16,
    /// In milliseconds.
    window: u64,
    /// Empty but for a list.
    list: Vec<u32>,
    /// The ring's sequence number, and the node or 0.
    tie: Option<(u64, u32)>,
}

const TWO_NODE: u16 = 1;
const WAIT_FOR_ALL: u16 = 2;
const LAST_MAN_STANDING: u16 = 4;
const LOWEST: u16 = 8;
const HIGHEST: u16 = 16;
const LIST: u16 = 32;
const ALLOW_DOWNSCALE: u16 = 64;
const EXPECTED_VOTES_TRACKING: u16 = 128;
const LOST: u16 = 256;

impl From<&Ballot> for WireBallot {
    fn from(ballot: &Ballot) -> Self {
        let Ballot { options, tie, lost } = ballot;
        let tie_breaker = match &options.auto_tie_breaker {
            None => 0,
            Some(TieBreaker::Lowest) => LOWEST,
            Some(TieBreaker::Highest) => HIGHEST,
            Some(TieBreaker::List(_)) => LIST,
        };
        let set = [
            (options.two_node, TWO_NODE),
            (options.wait_for_all, WAIT_FOR_ALL),
            (options.last_man_standing.is_some(), LAST_MAN_STANDING),
            (options.allow_downscale, ALLOW_DOWNSCALE),
            (options.expected_votes_tracking, EXPECTED_VOTES_TRACKING),
            (*lost, LOST),
        ];
        let list = match &options.auto_tie_breaker {
            Some(TieBreaker::List(nodes)) => nodes.iter().map(|node| node.get()).collect(),
            _ => Vec::new(),
        };
        let window = options.last_man_standing.unwrap_or_default().as_millis();
        Self {
            flags: set.iter().fold(tie_breaker, |flags, &(on, flag)| if on { flags | flag } else { flags }),
            window: u64::try_from(window).unwrap_or(u64::MAX),
            list,
            tie: tie.map(|tie| (tie.ring_seq, tie.node.map_or(0, NodeId::get))),
        }
    }
}

impl TryFrom<WireBallot> for Ballot {
    type Error = DecodeError;

    fn try_from(wire: WireBallot) -> Result<Self, DecodeError> {
        let is_set = |flag: u16| wire.flags & flag != 0;
        let list: Option<Vec<NodeId>> = wire.list.iter().copied().map(NodeId::new).collect();
        let list = list.ok_or(DecodeError::Impossible("node 0 as a tie-breaker"))?;
        let auto_tie_breaker = match wire.flags & (LOWEST | HIGHEST | LIST) {
            0 => None,
            LOWEST => Some(TieBreaker::Lowest),
            HIGHEST => Some(TieBreaker::Highest),
            LIST => Some(TieBreaker::List(list)),
            _ => return Err(DecodeError::Impossible("several tie-breakers")),
        };
        let options = QuorumOptions {
            two_node: is_set(TWO_NODE),
            wait_for_all: is_set(WAIT_FOR_ALL),
            last_man_standing: is_set(LAST_MAN_STANDING).then(|| Duration::from_millis(wire.window)),
            auto_tie_breaker,
            allow_downscale: is_set(ALLOW_DOWNSCALE),
            expected_votes_tracking: is_set(EXPECTED_VOTES_TRACKING),
        };
        let tie = wire.tie.map(|(ring_seq, node)| Tie { ring_seq, node: NodeId::new(node) });
        Ok(Self { options, tie, lost: is_set(LOST) })
    }
}
