//! What the election says, at its place in the ring's order.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use quorate_membership::{Cause, NodeId, RingId};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::Inquorate;
use crate::quorum::QUORATE;

/// A DC's term of office in one ring: the fencing token. Compared field by field, in this order.
///
/// A new ring has a new term, the same DC's or another's, and so has a hand-over within a ring; so the term rises with every
/// change of the membership and of the DC. A resource that remembers the highest term it has seen and refuses lower
/// ones is never used by two DCs at cross purposes; see the crate's front page for what this rests on.
///
/// Serialised with one field more, `fencing_token`: the term as one integer ([`Term::as_u128`]), as a decimal string,
/// since numbers in JSON do not hold it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Term {
    /// The sequence number of the ring that elected the DC.
    pub ring_seq: u64,
    /// Hand-overs within that ring.
    pub hand_over: u32,
    /// The DC.
    pub node: NodeId,
}

impl Term {
    /// As one integer, which orders as the term does.
    pub fn as_u128(self) -> u128 {
        u128::from(self.ring_seq) << 64 | u128::from(self.hand_over) << 32 | u128::from(self.node.get())
    }
}

/// As one integer, decimal.
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_u128(), f)
    }
}

impl Serialize for Term {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut term = serializer.serialize_struct("Term", 4)?;
        term.serialize_field("ring_seq", &self.ring_seq)?;
        term.serialize_field("hand_over", &self.hand_over)?;
        term.serialize_field("node", &self.node)?;
        term.serialize_field("fencing_token", &self.to_string())?;
        term.end()
    }
}

/// The state of the group as this node sees it.
///
/// A service acknowledges nothing that is delivered while the last status is not quorate, and makes it all the same (see the
/// crate's front page).
///
/// Quorum ends with the ring that it was judged in. When that ring is over, or no token of it has come for the token timeout,
/// the node is neither settled nor quorate until a ring has been judged again, or the token comes after all.
///
/// Serialised with these field names, which are stable; new ones may be added.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Status {
    /// The ring; `None` before the first, after this node left, and while no token comes: then this node cannot tell who is
    /// there, and all nodes count as offline.
    pub ring: Option<RingId>,
    /// Whether this ring's members have exchanged what they say of themselves. Until then there is no DC and no
    /// quorum.
    pub settled: bool,
    /// All nodes known: those of the node list and those that were ever a member, ascending by id.
    pub nodes: Vec<NodeStatus>,
    /// The DC. A ring that is not quorate has one as well, as operators know it, but without a term.
    pub dc: Option<NodeId>,
    /// The DC's term; only a quorate ring has one. A DC without a term must not act.
    pub term: Option<Term>,
    /// Whether this very node may act as DC. With a term alone it may not.
    pub lease: Lease,
    /// Why a quorate ring has no DC; `None` if it has one, or is not quorate.
    pub vacant: Option<Vacancy>,
    /// Whether the votes present are enough.
    pub quorate: bool,
    /// Why they are not; `None` if they are.
    pub inquorate: Option<Inquorate>,
    /// The votes present; 0 until the ring is settled.
    pub total_votes: u32,
    /// The votes expected in all; `None`: nobody has said.
    pub expected_votes: Option<u32>,
    /// The votes needed; `None` until the ring is settled, and if nobody has said what to expect.
    pub quorum: Option<u32>,
    /// What members have another way than this node has it, a clause each: what a member's file says of nodes, votes and options
    /// that does not count, since it is not what the members have agreed on; and timeouts that are not this node's own, though
    /// leases are promised for equal ones.
    pub differences: Vec<String>,
    /// The quorum options in force, and `Quorate`, by corosync-quorumtool's words and in its order.
    pub flags: Vec<&'static str>,
    /// Why the ring last changed, as a sentence without a full stop.
    pub cause: String,
}

/// Whether this node may act as DC, at the time of the status: whoever acts asks just before ([`Dc`](crate::Dc)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lease {
    /// It is not DC of a quorate ring.
    #[default]
    None,
    /// It is, and does not act: leases of earlier rings may not be over yet, or its own is not renewed, because the token does
    /// not come or its application hangs.
    Waiting,
    /// It may act.
    Held,
}

/// Why a quorate ring has no DC. Prints as a clause, and serialises as that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Vacancy {
    /// The cluster starts, and those who are missing are waited for a while
    /// ([`deadtime`](quorate_membership::config::DcConfig::deadtime)).
    Starting {
        /// Who will be DC if they do not come.
        next: NodeId,
    },
    /// Without the votes of these members, whose records were lost, there is no quorum of those who know what they may
    /// have had a part in.
    RecordsLost(BTreeSet<NodeId>),
    /// No member may be DC.
    NoCandidate,
}

impl fmt::Display for Vacancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { next } => {
                write!(f, "the cluster starts, and node {next} waits for the missing nodes")
            }
            Self::RecordsLost(nodes) => write!(
                f,
                "the records of {nodes:?} were lost: start the other nodes, so that a majority of the nodes that kept \
                 theirs, or every node, is there"
            ),
            Self::NoCandidate => write!(f, "no member may be DC: give one a dc_priority above 0"),
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
    /// Its id.
    pub id: NodeId,
    /// Its name: the node list's, else its own word, else made of its id.
    pub name: String,
    /// Whether it is a member of the ring.
    pub online: bool,
    /// Its votes, as last heard; the node list's before that.
    pub votes: u32,
}

impl Status {
    /// The same when no token has come for the token timeout `after`.
    pub(crate) fn without_ring(mut self, after: Duration) -> Self {
        self.nodes.iter_mut().for_each(|node| node.online = false);
        let cause = Cause::TokenLost { after }.to_string();
        Self { ring: None, cause, ..self.without_quorum(Inquorate::RingLost { after }) }
    }

    /// The same without what a judged ring has.
    pub(crate) fn without_quorum(mut self, why: Inquorate) -> Self {
        self.flags.retain(|flag| *flag != QUORATE);
        Self {
            ring: self.ring,
            nodes: self.nodes,
            inquorate: Some(why),
            expected_votes: self.expected_votes,
            flags: self.flags,
            cause: self.cause,
            ..Self::default()
        }
    }

    /// As `crm status` printed it in the time of Pacemaker 1.0 and 1.1, less the resources: `updated` is the date as
    /// `ctime` writes it, `version` this program's.
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
    /// Without a DC, the line says `Current DC: NONE` and there is no `Version:`. A line is added where nobody has
    /// said how many votes to expect: `unknown expected votes` can never be quorate; and one for each member whose file
    /// differs from what the members have agreed on.
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
            lines.push("No quorum without expected votes: start with --expected-votes N".to_owned());
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
        NodeStatus { id: id(n), name: format!("system{n}"), online, votes: 1 }
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
    fn a_partition_without_quorum_shows_its_dc_all_the_same() {
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
             No quorum without expected votes: start with --expected-votes N\n\
             ============\n\
             \n\
             Online: [ system1 ]\n\
             \n"
        );
    }

    #[test]
    fn machines_get_these_fields() {
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
