//! Histories written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_election::{Inquorate, Status, Term};
use quorate_membership::config::TotemConfig;
use quorate_membership::wire::{CommitEntry, CommitToken, Token};
use quorate_membership::{Cause, Guarantee, NodeId, Phase, Regular, RingId, Seq, Transitional};

use super::cluster::Cluster;
use super::{Online, Violation};
use crate::history::{Content, Delivered, Frame, Inside, Life, MessageId, Standing, What};
use crate::value::Value;
use crate::{Electorate, Fault, History};

/// A cluster's history, with one record per millisecond. Everything is correct unless a test breaks
/// it.
pub(super) struct Story {
    history: History,
    at: Duration,
    lives: BTreeMap<u32, Life>,
    rings: BTreeMap<u32, Regular>,
    /// Whether there is a node list.
    listed: bool,
    /// The nodes between two rings.
    in_transition: BTreeSet<u32>,
}

pub(super) fn id(node: u32) -> NodeId {
    NodeId::new(node).unwrap()
}

pub(super) fn ids(nodes: &[u32]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(id).collect()
}

pub(super) fn ring(text: &str) -> RingId {
    text.parse().unwrap()
}

impl Story {
    /// Returns the history of nodes 1 to `nodes`, all started.
    pub(super) fn new(nodes: u32) -> Self {
        let history = History::new((1..=nodes).map(id));
        let mut story = Self {
            history,
            at: Duration::ZERO,
            lives: BTreeMap::new(),
            rings: BTreeMap::new(),
            listed: true,
            in_transition: BTreeSet::new(),
        };
        for node in 1..=nodes {
            story.start(node);
        }
        story
    }

    /// Returns the history of nodes 1 to `nodes`, all in their first ring, 1.4.
    pub(super) fn ring(nodes: u32) -> Self {
        let mut story = Self::new(nodes);
        let members: Vec<u32> = (1..=nodes).collect();
        for node in 1..=nodes {
            story.install(node, "1.4", &members, &[]);
        }
        story
    }

    /// Removes the node list.
    pub(super) fn without_list(self) -> Self {
        Self { listed: false, ..self }
    }

    /// Sets the votes and the quorum options.
    pub(super) fn of(self, electorate: &str) -> Self {
        self.with(Electorate::read(electorate).unwrap())
    }

    /// Sets the votes, the quorum options and what is not printed.
    pub(super) fn with(mut self, electorate: Electorate) -> Self {
        self.history = self.history.of(electorate);
        self
    }

    pub(super) fn record(&mut self, node: u32, what: What) {
        self.at += Duration::from_millis(1);
        self.record_at_once(node, what);
    }

    /// Adds a record with the time of the record before.
    pub(super) fn record_at_once(&mut self, node: u32, what: What) {
        self.history.record(self.at, self.lives[&node], what);
    }

    /// Returns the time of the last record.
    pub(super) fn now(&self) -> Duration {
        self.at
    }

    /// Adds a fault.
    pub(super) fn fault(&mut self, fault: Fault) {
        self.at += Duration::from_millis(1);
        self.history.record(self.at, None, What::Network(fault));
    }

    /// Returns a frame of ring 1.4.
    pub(super) fn frame(from: u32, seq: u32) -> Frame {
        Frame {
            ring: ring("1.4"),
            seq: Seq::new(seq),
            from: id(from),
            guarantee: Guarantee::Safe,
            encapsulated: false,
            content: Self::content(from, seq.into()),
        }
    }

    /// Returns a fresh token of ring 1.4.
    pub(super) fn token() -> Token {
        Token {
            from: id(1),
            seq: Seq::new(0),
            token_seq: Seq::new(0),
            aru: Seq::new(0),
            aru_addr: None,
            ring: ring("1.4"),
            backlog: 0,
            fcc: 0,
            retrans_flg: false,
            rtr: Vec::new(),
        }
    }

    /// Adds the commit token of a future ring, as `node` sends it. The first `entries` members are
    /// in it already, and none of them has been in a ring before.
    pub(super) fn commit(&mut self, node: u32, next: &str, members: &[u32], entries: usize) {
        self.commit_from(node, next, members, &vec!["9.1"; entries]);
    }

    /// Adds a commit token like [`Self::commit`], with the rings that the members come from.
    pub(super) fn commit_from(&mut self, node: u32, next: &str, members: &[u32], from: &[&str]) {
        let nothing = Seq::new(0);
        let entry = |from: &&str| CommitEntry {
            ring: ring(from),
            aru: nothing,
            high_delivered: nothing,
            received: true,
        };
        let token = CommitToken {
            from: id(node),
            token_seq: 0,
            ring: ring(next),
            members: members.iter().copied().map(id).collect(),
            entries: from.iter().map(entry).collect(),
        };
        self.record(node, What::Inside(Inside::CommitSent { to: id(node), token: Box::new(token) }));
    }

    /// Adds a change of state. The node has received nothing of its ring.
    pub(super) fn phase(&mut self, node: u32, from: Phase, to: Phase) {
        let nothing = Seq::new(0);
        let here = self.rings.get(&node).map_or(ring("1.1"), |regular| regular.ring);
        self.phase_with(
            node,
            from,
            to,
            Standing { ring: here, aru: nothing, high: nothing, delivered: nothing },
        );
    }

    /// Adds a change of state of a node that has received `ring` of its ring.
    pub(super) fn phase_with(&mut self, node: u32, from: Phase, to: Phase, ring: Standing) {
        let timer = Some(Duration::from_millis(1));
        self.record(node, What::Inside(Inside::Phase { from, to, ring, timer }));
    }

    pub(super) fn start(&mut self, node: u32) {
        let life = self.lives.entry(node).or_insert(Life { node: id(node), start: 0 });
        life.start += 1;
        self.rings.remove(&node);
        self.in_transition.remove(&node);
        self.record(node, What::Started);
    }

    pub(super) fn crash(&mut self, node: u32) {
        self.record(node, What::Crashed);
    }

    /// Ends the old ring, of which the members `along` come along.
    pub(super) fn leave_ring(&mut self, node: u32, next: &str, along: &[u32]) {
        let old = &self.rings[&node];
        let along = ids(along);
        let left = old.members.difference(&along).copied().collect();
        let previous = old.ring;
        self.in_transition.insert(node);
        self.record(
            node,
            What::Transitional(Transitional { ring: ring(next), previous, members: along, left }),
        );
    }

    /// Enters a new ring, whose members `along` come along from the old one.
    pub(super) fn enter_ring(&mut self, node: u32, next: &str, members: &[u32], along: &[u32]) {
        let members = ids(members);
        let along = ids(along);
        let left = match self.rings.get(&node) {
            Some(old) => old.members.difference(&along).copied().collect(),
            None => BTreeSet::new(),
        };
        let joined = members.difference(&along).copied().collect();
        let regular = Regular { ring: ring(next), members, joined, left, causes: vec![Cause::Started] };
        self.rings.insert(node, regular.clone());
        self.in_transition.remove(&node);
        self.record(node, What::Regular(regular));
    }

    /// Leaves the old ring and enters the next one. The first ring of a life has no transitional
    /// configuration before it.
    pub(super) fn install(&mut self, node: u32, next: &str, members: &[u32], along: &[u32]) {
        if self.rings.contains_key(&node) {
            self.leave_ring(node, next, along);
        }
        self.enter_ring(node, next, members, along);
    }

    pub(super) fn message(&self, sender: u32, number: u64) -> MessageId {
        MessageId { sender: self.lives[&sender], number }
    }

    fn content(sender: u32, number: u64) -> Content {
        Content::of(&Bytes::from(format!("message {number} of {sender}")))
    }

    pub(super) fn accept(&mut self, sender: u32, number: u64) {
        let accepted = What::Accepted {
            message: self.message(sender, number),
            group: "group".parse().unwrap(),
            guarantee: Guarantee::Agreed,
            content: Self::content(sender, number),
        };
        self.record(sender, accepted);
    }

    /// Adds a delivery in the ring that the node is in.
    pub(super) fn deliver(&mut self, node: u32, sender: u32, number: u64, seq: u32) {
        self.deliver_as(node, sender, number, seq, |_| {});
    }

    /// Adds a delivery that `wrong` has changed.
    pub(super) fn deliver_as(
        &mut self,
        node: u32,
        sender: u32,
        number: u64,
        seq: u32,
        wrong: impl FnOnce(&mut Delivered),
    ) {
        let mut delivered = Delivered {
            message: Some(self.message(sender, number)),
            ring: self.rings.get(&node).map_or(ring("1.4"), |regular| regular.ring),
            seq: Seq::new(seq),
            from: id(sender),
            group: "group".parse().unwrap(),
            guarantee: Guarantee::Agreed,
            transitional: self.in_transition.contains(&node),
            content: Self::content(sender, number),
        };
        wrong(&mut delivered);
        self.record(node, What::Delivered(delivered));
    }

    /// Completes the sync of the ring. The member with the lowest id is elected.
    pub(super) fn settle(&mut self, node: u32) {
        self.settle_as(node, |_| {});
    }

    /// Completes the sync with a status that `wrong` has changed.
    pub(super) fn settle_as(&mut self, node: u32, wrong: impl FnOnce(&mut Status)) {
        let Regular { ring, members, .. } = self.rings[&node].clone();
        self.record(node, What::Synced(ring));
        let (total, expected) = (members.len() as u32, self.history.nodes().len() as u32);
        let quorum = expected / 2 + 1;
        let quorate = total >= quorum;
        let dc = *members.first().unwrap();
        let mut status = Status {
            ring: Some(ring),
            settled: true,
            dc: Some(dc),
            term: quorate.then_some(Term { ring_seq: ring.seq, hand_over: 0, node: dc }),
            quorate,
            inquorate: (!quorate).then_some(Inquorate::TooFewVotes { total, quorum }),
            total_votes: total,
            expected_votes: Some(expected),
            quorum: Some(quorum),
            ..Status::default()
        };
        wrong(&mut status);
        self.record(node, What::Status(Box::new(status)));
    }

    /// Lets time pass without a record.
    pub(super) fn wait(&mut self, length: Duration) {
        self.at += length;
        self.history.end(self.at);
    }

    fn watch(&self, mut property: impl Online) -> Result<(), Violation> {
        let nodes = self.history.nodes().clone();
        let electorate = self.history.electorate().clone();
        let mut cluster =
            Cluster::new(nodes.clone(), electorate, &TotemConfig::default(), self.listed.then_some(nodes));
        self.history.records().iter().try_for_each(|record| {
            property.see(record, &cluster)?;
            cluster.learn(record);
            Ok(())
        })?;
        property.end(self.history.ended_at())
    }

    #[track_caller]
    pub(super) fn is_right(&self, property: impl Online) {
        assert_eq!(self.watch(property), Ok(()), "\n{}", self.history);
    }

    #[track_caller]
    pub(super) fn is_wrong(&self, property: impl Online, because: &str) {
        let Err(Violation { what, .. }) = self.watch(property) else {
            panic!("passed:\n{}", self.history);
        };
        assert!(what.contains(because), "{what}\n{}", self.history);
    }
}
