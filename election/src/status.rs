//! The status that the election publishes, at its place in the ring's order.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use quorate_membership::{Cause, DeviceState, Metadata, NodeId, RingId};
use serde::{Serialize, Serializer};

use crate::quorum::QUORATE;
use crate::{Inquorate, Term};

/// The state of the group as this node sees it.
///
/// While the last status is not quorate, a service applies the messages that are delivered but
/// acknowledges none of them (see the crate's front page).
///
/// Quorum ends with the ring that it was judged in. When that ring is over, or no token of it has
/// come for the token timeout, the node is neither settled nor quorate until a new ring has been
/// judged, or the token arrives after all.
///
/// Serialised with these field names, which are stable. New ones may be added.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Status {
    /// The ring. `None` before the first ring, after this node left, and while no token comes: then
    /// this node cannot tell which members are present, and all nodes count as offline.
    pub ring: Option<RingId>,
    /// Whether this ring's members have exchanged their votes and candidacies. Until then there is
    /// no DC and no quorum.
    pub settled: bool,
    /// All known nodes, ascending by id: those of the node list and those that were ever a member.
    pub nodes: Vec<NodeStatus>,
    /// The DC. A ring without quorum has one as well, as operators are used to, but without a term.
    pub dc: Option<NodeId>,
    /// The DC's term, which only a quorate ring has, by the votes of its members. A DC without a
    /// term must not act.
    pub term: Option<Term>,
    /// Whether this node itself may act as DC. A term alone does not permit it.
    pub lease: Lease,
    /// Why a quorate ring has no DC, or one without a term. `None` if it has one with a term, or is
    /// not quorate.
    pub vacant: Option<Vacancy>,
    /// Whether the votes present are enough.
    pub quorate: bool,
    /// Why the votes present are not enough. `None` if they are.
    pub inquorate: Option<Inquorate>,
    /// The votes present; 0 until the ring is settled.
    pub total_votes: u32,
    /// The votes expected in total. `None` if no member has announced a number.
    pub expected_votes: Option<u32>,
    /// The votes needed. `None` until the ring is settled, and if no member has announced how many
    /// votes to expect.
    pub quorum: Option<u32>,
    /// The differences between members, one clause each.
    ///
    /// Two kinds are listed. The first is the part of a member's file (nodes, votes, options) that
    /// does not count, because it differs from what the members have agreed on. The second is a
    /// timeout that differs from this node's own, because leases are guaranteed for equal timeouts
    /// only.
    pub differences: Vec<String>,
    /// The quorum options in force, and `Quorate`, in corosync-quorumtool's words and order.
    pub flags: Vec<&'static str>,
    /// The quorum device. `None` without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceStatus>,
    /// Why the ring last changed, as a sentence without a full stop.
    pub cause: String,
}

/// The quorum device of a ring.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct DeviceStatus {
    /// The name that a member has registered, if one has.
    pub name: Option<String>,
    /// The device's votes.
    pub votes: u32,
    /// Whether the device gives its votes to this ring.
    pub casts: bool,
}

impl DeviceStatus {
    /// Returns the status of a device.
    pub fn new(name: Option<String>, votes: u32, casts: bool) -> Self {
        Self { name, votes, casts }
    }
}

/// Whether this node may act as DC, at the time of the status. An application must check just
/// before it acts (`Dc` of the crate `quorate`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lease {
    /// The node is not DC of a quorate ring.
    #[default]
    None,
    /// The node is DC but does not act. Leases of earlier rings may still run, or its own lease is
    /// not renewed because the token does not come or its application hangs.
    Waiting,
    /// The node may act.
    Held,
}

/// Why a quorate ring has no DC, or one without a term. Prints and serialises as a clause.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Vacancy {
    /// The cluster is starting and waits a while for missing nodes
    /// ([`deadtime`](quorate_membership::config::DcConfig::deadtime)).
    Starting {
        /// The node that becomes DC if they do not come.
        next: NodeId,
    },
    /// The records of these members were lost. Without their votes, the members that remember what
    /// they may have taken part in have no quorum.
    RecordsLost(BTreeSet<NodeId>),
    /// The ring is quorate only by the votes of the quorum device, which remembers no terms. The DC
    /// must not act: there may have been a later term in a part that this ring never met.
    DeviceDecides,
    /// No member may be DC.
    NoCandidate,
}

impl fmt::Display for Vacancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { next } => {
                write!(f, "the cluster is starting, and node {next} waits for the missing nodes")
            }
            Self::RecordsLost(nodes) => write!(
                f,
                "the records of nodes {nodes:?} were lost; start the other nodes until a majority of the \
                 nodes that kept theirs, or every node, is present"
            ),
            Self::DeviceDecides => write!(
                f,
                "the ring is quorate by the quorum device only, which remembers no terms; start more nodes"
            ),
            Self::NoCandidate => write!(f, "no member may be DC; set dc_priority above 0 on one of them"),
        }
    }
}

impl Serialize for Vacancy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A node as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NodeStatus {
    /// The node's id.
    pub id: NodeId,
    /// The node's name: the one in the node list, else the one that the node announced, else one
    /// made from its id.
    pub name: String,
    /// Whether the node is a member of the ring.
    pub online: bool,
    /// The node's votes, as last announced. Before that, those in the node list.
    pub votes: u32,
    /// The state of the node's quorum device, as it announced it.
    #[serde(skip_serializing_if = "has_no_device")]
    pub device: DeviceState,
    /// The texts that the node tells about itself. Empty if it is no member of the ring, or tells
    /// nothing.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn has_no_device(device: &DeviceState) -> bool {
    *device == DeviceState::default()
}

impl Status {
    /// Returns the bytes that the nodes take. Members decide how often they tell about themselves,
    /// so a status is no cheaper than a message.
    pub(crate) fn cost(&self) -> usize {
        let cost = |node: &NodeStatus| {
            let texts: usize = node.metadata.iter().map(|(key, text)| key.len() + text.len()).sum();
            size_of::<NodeStatus>() + node.name.len() + texts
        };
        self.nodes.iter().map(cost).sum()
    }

    /// Returns this status as it is when no token has come for the token timeout `after`.
    pub fn without_ring(mut self, after: Duration) -> Self {
        for node in &mut self.nodes {
            (node.online, node.metadata) = (false, Metadata::default());
        }
        let cause = Cause::TokenLost { after }.to_string();
        Self { ring: None, cause, ..self.without_quorum(Inquorate::RingLost { after }) }
    }

    /// Returns this status without the results of a judged ring.
    pub(crate) fn without_quorum(mut self, why: Inquorate) -> Self {
        self.flags.retain(|flag| *flag != QUORATE);
        Self {
            ring: self.ring,
            nodes: self.nodes,
            inquorate: Some(why),
            expected_votes: self.expected_votes,
            flags: self.flags,
            device: self.device.map(|device| DeviceStatus { casts: false, ..device }),
            cause: self.cause,
            ..Self::default()
        }
    }

    /// Formats the status as `crm status` did in Pacemaker 1.0 and 1.1, without the resources.
    /// `updated` is the date in `ctime`'s format, and `version` is this program's.
    ///
    /// ```text
    /// ============
    /// Last updated: Mon Sep 13 12:00:00 2010
    /// Last change: node 3 left
    /// Stack: quorate
    /// Current DC: system1 - partition with quorum
    /// Version: 0.1.0
    /// 3 Nodes configured, 3 expected votes
    /// ============
    ///
    /// Online: [ system1 system2 ]
    /// OFFLINE: [ system3 ]
    ///
    /// ```
    ///
    /// Without a DC, the line reads `Current DC: NONE` and there is no `Version:`. If no member has
    /// announced how many votes to expect, a line is added, because `unknown expected votes` can
    /// never be quorate. Another line is added for each member whose file differs from what the
    /// members have agreed on.
    pub fn text(&self, updated: &str, version: &str) -> String {
        const FRAME: &str = "============";
        let mut lines = vec![FRAME.to_owned(), format!("Last updated: {updated}")];
        if !self.cause.is_empty() {
            lines.push(format!("Last change: {}", self.cause));
        }
        lines.push("Stack: quorate".to_owned());
        match self.dc {
            Some(dc) => {
                let quorum = if self.quorate { "with" } else { "WITHOUT" };
                lines.push(format!("Current DC: {} - partition {quorum} quorum", self.name(dc)));
                lines.push(format!("Version: {version}"));
            }
            None => lines.push("Current DC: NONE".to_owned()),
        }
        let expected = self.expected_votes.map_or_else(|| "unknown".to_owned(), |votes| votes.to_string());
        lines.push(format!("{} Nodes configured, {expected} expected votes", self.nodes.len()));
        if self.expected_votes.is_none() {
            lines.push("No quorum without expected votes; start with --expected-votes N".to_owned());
        }
        lines.extend(self.vacant.iter().map(|why| format!("No DC may act: {why}")));
        if let Some(why @ Inquorate::AwaitsDevice { .. }) = &self.inquorate {
            lines.push(format!("Waiting: {why}"));
        }
        lines.extend(self.differences.iter().map(|clause| format!("Differs: {clause}")));
        lines.extend([FRAME.to_owned(), String::new()]);
        lines.extend(self.list("Online", true));
        lines.extend(self.list("OFFLINE", false));
        lines.push(String::new());
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn list(&self, heading: &str, online: bool) -> Option<String> {
        let nodes = self.nodes.iter().filter(|node| node.online == online);
        let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
        (!names.is_empty()).then(|| format!("{heading}: [ {} ]", names.join(" ")))
    }

    fn name(&self, id: NodeId) -> String {
        let known = self.nodes.iter().find(|node| node.id == id);
        known.map_or_else(|| format!("node{id}"), |node| node.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> NodeId {
        NodeId::new(n).unwrap()
    }

    fn node(n: u32, online: bool) -> NodeStatus {
        NodeStatus {
            id: id(n),
            name: format!("system{n}"),
            online,
            votes: 1,
            device: DeviceState::default(),
            metadata: Metadata::default(),
        }
    }

    fn quorate() -> Status {
        Status {
            ring: Some("1.8".parse().unwrap()),
            settled: true,
            nodes: vec![node(1, true), node(2, true), node(3, false)],
            dc: Some(id(1)),
            term: Some(Term { ring_seq: 8, hand_over: 0, node: id(1) }),
            lease: Lease::Held,
            vacant: None,
            quorate: true,
            inquorate: None,
            total_votes: 2,
            expected_votes: Some(3),
            quorum: Some(2),
            differences: Vec::new(),
            flags: vec!["Quorate", "WaitForAll"],
            device: None,
            cause: "node 3 left".into(),
        }
    }

    #[test]
    fn a_quorate_partition_is_shown_as_crm_status_did() {
        assert_eq!(
            quorate().text("Mon Sep 13 12:00:00 2010", "0.1.0"),
            "============\n\
             Last updated: Mon Sep 13 12:00:00 2010\n\
             Last change: node 3 left\n\
             Stack: quorate\n\
             Current DC: system1 - partition with quorum\n\
             Version: 0.1.0\n\
             3 Nodes configured, 3 expected votes\n\
             ============\n\
             \n\
             Online: [ system1 system2 ]\n\
             OFFLINE: [ system3 ]\n\
             \n"
        );
    }

    #[test]
    fn a_partition_without_quorum_still_shows_its_dc() {
        let status = Status {
            nodes: vec![node(1, true), node(2, false)],
            term: None,
            quorate: false,
            inquorate: Some(Inquorate::TooFewVotes { total: 1, quorum: 2 }),
            expected_votes: Some(2),
            cause: "no token came for 5000 ms".into(),
            ..quorate()
        };
        assert_eq!(
            status.text("Mon Sep 13 12:00:00 2010", "0.1.0"),
            "============\n\
             Last updated: Mon Sep 13 12:00:00 2010\n\
             Last change: no token came for 5000 ms\n\
             Stack: quorate\n\
             Current DC: system1 - partition WITHOUT quorum\n\
             Version: 0.1.0\n\
             2 Nodes configured, 2 expected votes\n\
             ============\n\
             \n\
             Online: [ system1 ]\n\
             OFFLINE: [ system2 ]\n\
             \n"
        );
    }

    #[test]
    fn without_a_dc_there_is_no_version() {
        let status = Status { nodes: vec![node(1, true)], dc: None, term: None, ..quorate() };
        assert_eq!(
            status.text("Mon Sep 13 12:00:00 2010", "0.1.0"),
            "============\n\
             Last updated: Mon Sep 13 12:00:00 2010\n\
             Last change: node 3 left\n\
             Stack: quorate\n\
             Current DC: NONE\n\
             1 Nodes configured, 3 expected votes\n\
             ============\n\
             \n\
             Online: [ system1 ]\n\
             \n"
        );
    }

    #[test]
    fn unknown_expected_votes_come_with_the_remedy() {
        let status = Status {
            nodes: vec![node(1, true)],
            quorate: false,
            inquorate: Some(Inquorate::NoExpectedVotes),
            expected_votes: None,
            quorum: None,
            term: None,
            cause: String::new(),
            ..quorate()
        };
        assert_eq!(
            status.text("Mon Sep 13 12:00:00 2010", "0.1.0"),
            "============\n\
             Last updated: Mon Sep 13 12:00:00 2010\n\
             Stack: quorate\n\
             Current DC: system1 - partition WITHOUT quorum\n\
             Version: 0.1.0\n\
             1 Nodes configured, unknown expected votes\n\
             No quorum without expected votes; start with --expected-votes N\n\
             ============\n\
             \n\
             Online: [ system1 ]\n\
             \n"
        );
    }

    #[test]
    fn the_json_fields_are_stable() {
        assert_eq!(
            serde_json::to_string(&quorate()).unwrap(),
            concat!(
                r#"{"ring":{"seq":8,"representative":1},"settled":true,"nodes":["#,
                r#"{"id":1,"name":"system1","online":true,"votes":1},"#,
                r#"{"id":2,"name":"system2","online":true,"votes":1},"#,
                r#"{"id":3,"name":"system3","online":false,"votes":1}],"dc":1,"#,
                r#""term":{"ring_seq":8,"hand_over":0,"node":1,"fencing_token":"147573952589676412929"},"#,
                r#""lease":"held","vacant":null,"#,
                r#""quorate":true,"inquorate":null,"total_votes":2,"expected_votes":3,"quorum":2,"#,
                r#""differences":[],"flags":["Quorate","WaitForAll"],"cause":"node 3 left"}"#,
            )
        );
        let inquorate =
            Status { inquorate: Some(Inquorate::TooFewVotes { total: 1, quorum: 2 }), ..quorate() };
        let json = serde_json::to_string(&inquorate).unwrap();
        assert!(json.contains(r#""inquorate":"1 of 2 votes needed are present""#), "{json}");
    }

    #[test]
    fn the_integer_orders_as_the_term_does() {
        let term = |ring_seq, hand_over, node| Term { ring_seq, hand_over, node: id(node) };
        let ascending = [
            term(0, 0, 1),
            term(0, 0, u32::MAX),
            term(0, 1, 1),
            term(0, u32::MAX, 1),
            term(4, 0, 2),
            term(u64::MAX, u32::MAX, u32::MAX),
        ];
        assert!(ascending.is_sorted());
        assert!(ascending.map(Term::as_u128).is_sorted());
    }
}
