//! A node's status, and its answers of one line.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::append_line;

/// The answer to [`Request::Status`](crate::Request::Status).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The version of the protocol.
    pub version: u32,
    /// The node's id.
    pub node: u32,
    /// The node's name.
    pub name: String,
    /// The output of `quorate status`.
    #[serde(default)]
    pub text: String,
    /// The state of the group, as the node sees it now.
    pub status: Status,
    /// The counters since the node started.
    #[serde(default)]
    pub stats: Stats,
    /// The problems that kept peers out of the ring during the last minute.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// The number of lines of the node's log that could not be written.
    #[serde(default)]
    pub log_lines_lost: u64,
}

/// The state of the group as a node sees it.
///
/// While a status is not quorate, a service applies the messages that are delivered but
/// acknowledges none of them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The ring. `None` before the first ring, after the node left, and while no token comes.
    pub ring: Option<String>,
    /// Whether this ring's members have exchanged their votes and candidacies. Until then there is
    /// no DC and no quorum.
    pub settled: bool,
    /// All known nodes, ascending by id.
    pub nodes: Vec<NodeStatus>,
    /// The id of the DC. A ring without quorum has one as well, but without a term.
    pub dc: Option<u32>,
    /// The DC's term, which only a quorate ring has. A DC without a term must not act.
    pub term: Option<Term>,
    /// Whether the node itself may act as DC. A term alone does not permit it.
    pub lease: Lease,
    /// Why a quorate ring has no DC, or one without a term. `None` if it has one with a term, or is
    /// not quorate.
    pub vacant: Option<String>,
    /// Whether the votes present are enough.
    pub quorate: bool,
    /// Why the votes present are not enough. `None` if they are.
    pub inquorate: Option<String>,
    /// The votes present; 0 until the ring is settled.
    pub total_votes: u32,
    /// The votes expected in total. `None` if no member has announced a number.
    pub expected_votes: Option<u32>,
    /// The votes needed. `None` until the ring is settled, and if no member has announced how many
    /// votes to expect.
    pub quorum: Option<u32>,
    /// The differences between members, one clause each.
    #[serde(default)]
    pub differences: Vec<String>,
    /// The quorum options in force, and `Quorate`, in corosync-quorumtool's words and order.
    pub flags: Vec<String>,
    /// The quorum device. `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Why the ring last changed, as a sentence without a full stop.
    pub cause: String,
}

/// A node as another node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's id.
    pub id: u32,
    /// The node's name.
    pub name: String,
    /// Whether the node is a member of the ring.
    pub online: bool,
    /// The node's votes.
    pub votes: u32,
    /// The quorum device that is registered with the node, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<NodeDevice>,
    /// The texts that the node tells about itself, by key. Empty if it is no member of the ring.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// The quorum device of a ring: an arbiter outside of the cluster, which has votes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Device {
    /// The name that a member has registered, if one has.
    pub name: Option<String>,
    /// The device's votes.
    pub votes: u32,
    /// Whether the device gives its votes to this ring.
    pub casts: bool,
}

/// The quorum device that is registered with a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NodeDevice {
    /// Whether the device has polled within its timeout.
    pub alive: bool,
    /// Whether the device gives its votes to the node's ring.
    pub casts: bool,
    /// Whether the device wants its choice to count even against a majority. Members do not follow
    /// this.
    pub master_wins: bool,
}

/// A DC's term of office in one ring.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Term {
    /// The sequence number of the ring that elected the DC.
    pub ring_seq: u64,
    /// The number of hand-overs within that ring.
    pub hand_over: u32,
    /// The id of the DC.
    pub node: u32,
    /// The term as one integer of 128 bits, in decimal digits. It rises with every change of the
    /// membership and of the DC. A resource that remembers the highest token it has seen, and
    /// rejects lower ones, is never used by two DCs at cross purposes.
    pub fencing_token: String,
}

/// Whether a node may act as DC, at the time of the status.
///
/// By the time a client reads it, the lease may be over. A program that acts for the group presents
/// the [fencing token](Term::fencing_token) to the resource, or embeds a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Lease {
    /// The node is not DC of a quorate ring.
    #[default]
    None,
    /// The node is DC but does not act.
    Waiting,
    /// The node may act.
    Held,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A node's counters since its start, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// The counters.
    #[serde(flatten, deserialize_with = "numbers")]
    pub counters: BTreeMap<String, u64>,
    /// The number of rejected datagrams, by reason.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
}

/// Reads the fields that are numbers. A later version may have others.
fn numbers<'de, D: Deserializer<'de>>(fields: D) -> Result<BTreeMap<String, u64>, D::Error> {
    let fields = BTreeMap::<String, Value>::deserialize(fields)?;
    Ok(fields.into_iter().filter_map(|(name, value)| Some((name, value.as_u64()?))).collect())
}

/// A problem that kept a peer out of the ring.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The id of the peer, if it is known.
    pub node: Option<u32>,
    /// The source address and port of the latest datagram, if a datagram caused the notice.
    pub source: Option<String>,
    /// The number of occurrences.
    pub count: u64,
    /// The cause and the remedy.
    pub text: String,
}

/// The answer to [`Request::Release`](crate::Request::Release).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Released {
    /// The version of the protocol.
    pub version: u32,
    /// The id of the new DC.
    pub dc: u32,
}

impl Answer {
    /// Serializes the answer as one line, including the newline.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        append_line(&mut line, self);
        line
    }
}

impl Released {
    /// Serializes the answer as one line, including the newline.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::new();
        append_line(&mut line, self);
        line
    }
}

impl Status {
    /// Returns a node's name. A node that the status does not list has one made from its id.
    pub fn name(&self, id: u32) -> String {
        let known = self.nodes.iter().find(|node| node.id == id);
        known.map_or_else(|| format!("node{id}"), |node| node.name.clone())
    }

    /// Returns the ids of the members of the ring.
    pub fn online(&self) -> impl Iterator<Item = u32> + '_ {
        self.nodes.iter().filter(|node| node.online).map(|node| node.id)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two of three nodes are present, and have quorum.
    pub(crate) fn quorate() -> Answer {
        let line = br#"{"version":1,"node":1,"name":"n1","text":"Current DC: n1\n","status":{"ring":"1.d","settled":true,
            "nodes":[{"id":1,"name":"n1","online":true,"votes":1},{"id":2,"name":"n2","online":false,"votes":1},
            {"id":3,"name":"n3","online":true,"votes":1}],"dc":1,"term":{"ring_seq":13,"hand_over":0,"node":1,
            "fencing_token":"239807672958224171009"},"lease":"held","vacant":null,"quorate":true,"inquorate":null,
            "total_votes":2,"expected_votes":3,"quorum":2,"flags":["Quorate"],"cause":"node 2 left"},
            "stats":{"tokens":1,"later":{"a":1},"refused":{"not a Totem message":2}},
            "notices":[{"node":4,"source":"10.0.0.4:5404","count":3,"text":"start it"}]}"#;
        serde_json::from_slice(line).unwrap()
    }

    /// Only the first node is present.
    pub(crate) fn inquorate() -> Answer {
        let mut answer = quorate();
        answer.status = Status {
            term: None,
            lease: Lease::None,
            quorate: false,
            inquorate: Some("1 of 2 votes needed are present".into()),
            total_votes: 1,
            flags: Vec::new(),
            ..answer.status
        };
        answer.status.nodes[2].online = false;
        answer
    }

    #[test]
    fn an_answer_reads_as_it_was_written() {
        for answer in [quorate(), inquorate()] {
            assert_eq!(serde_json::from_slice::<Answer>(&answer.to_line()).unwrap(), answer);
        }
        assert_eq!(quorate().stats.counters, BTreeMap::from([("tokens".to_owned(), 1)]));
        assert_eq!(quorate().stats.refused["not a Totem message"], 2);
    }

    #[test]
    fn nodes_have_a_name_in_any_case() {
        let status = quorate().status;
        assert_eq!((status.name(3), status.name(9)), ("n3".into(), "node9".into()));
        assert_eq!(status.online().collect::<Vec<_>>(), [1, 3]);
    }
}
