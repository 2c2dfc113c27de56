//! A path from the first state to another, replayed with real nodes and printed for reading.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::wire::{self, Join, Message};
use quorate_membership::{Destination, Guarantee, NodeId, Phase, Transmit};

use super::node::{Input, Node, Output};
use super::{Begin, Bounds};
use crate::invariants::Violation;

/// A possible next step. Nodes and links are indexed from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The next datagram from one node to another arrives. A node that is down does not receive it.
    Deliver(u8, u8),
    /// The next datagram is lost.
    Lose(u8, u8),
    /// The next datagram arrives, and a copy of it will arrive after all others under way.
    Duplicate(u8, u8),
    /// The next datagram is overtaken by the one after it.
    Overtake(u8, u8),
    /// A node's next timer fires, either on time, or late together with all timers that are due by
    /// then.
    Timer(u8, bool),
    /// A node's application sends a message, either safe or agreed.
    Multicast(u8, bool),
    Crash(u8),
    Start(u8),
}

/// The nodes themselves, and the datagrams under way.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<VecDeque<Bytes>>,
}

impl Cluster {
    /// Returns a cluster in the first state.
    pub(super) fn at(bounds: &Bounds) -> Self {
        let ids = (1..=u32::from(bounds.nodes)).filter_map(NodeId::new);
        let nodes: Vec<Node> = ids.map(|id| Node::new(id, bounds.nodes.into())).collect();
        let links = vec![VecDeque::new(); nodes.len() * nodes.len()];
        let mut cluster = Self { nodes, links };
        for node in 0..bounds.nodes {
            cluster.take(Step::Start(node));
        }
        if bounds.begin == Begin::Ring {
            let steps = cluster.settle(10_000);
            assert!(steps.is_some(), "without any trouble, the nodes form a ring");
        }
        cluster
    }

    fn link(&mut self, from: u8, to: u8) -> &mut VecDeque<Bytes> {
        let count = self.nodes.len();
        &mut self.links[usize::from(from) * count + usize::from(to)]
    }

    /// Makes a step. Returns the output of the node that it affects.
    pub(super) fn take(&mut self, step: Step) -> Output {
        let (node, input, bytes);
        match step {
            Step::Deliver(from, to) | Step::Duplicate(from, to) => {
                bytes = self.link(from, to).pop_front().unwrap_or_default();
                if matches!(step, Step::Duplicate(..)) {
                    let copy = bytes.clone();
                    self.link(from, to).push_back(copy);
                }
                node = to;
                input = Input::Datagram(self.nodes[usize::from(from)].id(), &bytes);
            }
            Step::Lose(from, to) => {
                self.link(from, to).pop_front();
                return Output::default();
            }
            Step::Overtake(from, to) => {
                self.link(from, to).swap(0, 1);
                return Output::default();
            }
            Step::Timer(at, late) => (node, input) = (at, Input::Timer { late }),
            Step::Multicast(at, safe) => (node, input) = (at, Input::Multicast(guarantee(safe))),
            Step::Crash(at) => {
                self.link(at, at).clear();
                (node, input) = (at, Input::Crash);
            }
            Step::Start(at) => (node, input) = (at, Input::Start),
        }
        let output = self.nodes[usize::from(node)].take(input);
        for Transmit { to, datagram } in &output.sent {
            for other in 0..self.nodes.len() as u8 {
                let there = match to {
                    Destination::Everyone => other != node,
                    Destination::Member(id) => *id == self.nodes[usize::from(other)].id(),
                };
                if there {
                    self.link(node, other).push_back(datagram.clone());
                }
            }
        }
        output
    }

    /// Continues without faults until all live nodes are in one quiet ring. Everything happens at
    /// once, except for timers, which fire in the order of time. Returns the number of steps, or
    /// `None` if `most` steps are not enough.
    pub(super) fn settle(&mut self, most: u32) -> Option<u32> {
        let count = self.nodes.len() as u8;
        let living: BTreeSet<NodeId> = self.nodes.iter().filter(|node| node.is_up()).map(Node::id).collect();
        for steps in 0..most {
            let links = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
            let busy = links.into_iter().find(|&(from, to)| !self.link(from, to).is_empty());
            if let Some((from, to)) = busy {
                self.take(Step::Deliver(from, to));
                continue;
            }
            if self.nodes.iter().filter(|node| node.is_up()).all(|node| node.is_settled(&living)) {
                return Some(steps);
            }
            let due = |node: &u8| self.nodes[usize::from(*node)].due_in();
            let next = (0..count).filter_map(|node| due(&node).map(|due| (due, node))).min()?;
            let (passes, node): (Duration, u8) = next;
            for (other, at) in self.nodes.iter_mut().zip(0..) {
                if at != node {
                    other.wait(passes);
                }
            }
            self.take(Step::Timer(node, false));
        }
        None
    }
}

/// A path to a state in which a property fails, step by step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// The property that fails.
    pub violation: Violation,
    /// The steps. Each is a line, followed by what the applications received.
    pub steps: Vec<String>,
}

impl Counterexample {
    pub(super) fn new(bounds: &Bounds, steps: Vec<Step>, violation: Violation) -> Self {
        let mut cluster = Cluster::at(bounds);
        let steps = steps.into_iter().map(|step| cluster.tell(step)).collect();
        Self { violation, steps }
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { property, what, .. } = &self.violation;
        writeln!(f, "{property} does not hold after {} steps: {what}", self.steps.len())?;
        self.steps.iter().enumerate().try_for_each(|(n, step)| writeln!(f, "{:>4}  {step}", n + 1))
    }
}

impl Cluster {
    /// Makes a step and describes it.
    fn tell(&mut self, step: Step) -> String {
        let id = |node: u8| self.nodes[usize::from(node)].id();
        let head = |from: u8, to: u8| {
            let link = &self.links[usize::from(from) * self.nodes.len() + usize::from(to)];
            link.front().map(name).unwrap_or_default()
        };
        let (mut text, node) = match step {
            Step::Deliver(from, to) if !self.nodes[usize::from(to)].is_up() => {
                (format!("{} is down and does not hear {} of {}", id(to), head(from, to), id(from)), to)
            }
            Step::Deliver(from, to) => (format!("{} hears {} of {}", id(to), head(from, to), id(from)), to),
            Step::Lose(from, to) => (format!("{} of {} to {} is lost", head(from, to), id(from), id(to)), to),
            Step::Duplicate(from, to) => {
                (format!("{} hears {} of {}, which will come again", id(to), head(from, to), id(from)), to)
            }
            Step::Overtake(from, to) => {
                (format!("{} of {} to {} is overtaken", head(from, to), id(from), id(to)), to)
            }
            Step::Timer(node, false) => (format!("{}: the next timer fires", id(node)), node),
            Step::Timer(node, true) => (format!("{}: the next timer fires late", id(node)), node),
            Step::Multicast(node, safe) => {
                (format!("{} sends a message, {}", id(node), guarantee(safe)), node)
            }
            Step::Crash(node) => (format!("{} crashes", id(node)), node),
            Step::Start(node) => (format!("{} starts", id(node)), node),
        };
        let phase =
            |cluster: &Self| cluster.nodes[usize::from(node)].snapshot().map(|snapshot| snapshot.phase);
        let before: Option<Phase> = phase(self);
        let Output { sent, told, .. } = self.take(step);
        let after = phase(self);
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            let _ = write!(text, ": {before} to {after}");
        }
        let sent: Vec<String> = sent.iter().map(|transmit| name(&transmit.datagram)).collect();
        if !sent.is_empty() {
            let _ = write!(text, "; sends {}", sent.join(", "));
        }
        for what in told {
            let _ = write!(text, "\n        {}: {what}", self.nodes[usize::from(node)].id());
        }
        text
    }
}

/// Returns a datagram in a few words.
fn name(datagram: &Bytes) -> String {
    match wire::decode(datagram) {
        Ok(Message::Join(Join { leave, ring_seq, proc, failed, .. })) => {
            let kind = if leave { "LEAVE" } else { "JOIN" };
            format!("{kind} {proc:?} without {failed:?} (ring sequence {ring_seq:x})")
        }
        Ok(Message::Token(token)) => {
            let recovering = if token.retrans_flg { ", recovering" } else { "" };
            format!(
                "token {} of {} (seq {}, aru {}{recovering})",
                token.token_seq, token.ring, token.seq, token.aru
            )
        }
        Ok(Message::Commit(token)) => {
            format!(
                "commit token of {} ({} of {} entries)",
                token.ring,
                token.entries.len(),
                token.members.len()
            )
        }
        Ok(Message::Multicast(frame)) => match frame.encapsulated.then(|| frame.inner().ok()).flatten() {
            Some(inner) => {
                format!("frame {} of {} with {} of {} in it", frame.seq, frame.ring, inner.seq, inner.ring)
            }
            None => format!("frame {} of {} from {}", frame.seq, frame.ring, frame.from),
        },
        Ok(Message::MergeDetect(probe)) => format!("probe of {}", probe.ring),
        Ok(Message::HoldCancel(cancel)) => format!("hold cancel in {}", cancel.ring),
        Err(refusal) => refusal.to_string(),
    }
}

pub(super) fn guarantee(safe: bool) -> Guarantee {
    if safe { Guarantee::Safe } else { Guarantee::Agreed }
}
