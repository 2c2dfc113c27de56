//! The datagrams of a run, which are kept on request.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::NodeId;

use super::Life;

/// The fate of a datagram at a receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Arrived,
    /// The network was cut between the two.
    Cut,
    /// The network lost it.
    Lost,
    /// The network changed its bytes.
    Damaged,
    /// The receive buffer was full.
    Full,
    /// No process listened there.
    Nobody,
    /// A firewall rejected it.
    Rejected,
}

impl Outcome {
    /// Returns why the datagram did not arrive.
    pub(crate) fn why(self) -> Option<&'static str> {
        match self {
            Self::Arrived => None,
            Self::Cut => Some("the network is cut between the two"),
            Self::Lost => Some("the network lost it"),
            Self::Damaged => Some("the network changed its bytes"),
            Self::Full => Some("the receive buffer was full"),
            Self::Nobody => Some("no process listens there"),
            Self::Rejected => Some("a firewall rejects it"),
        }
    }
}

/// A datagram that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    /// The sender. `None`: a datagram from elsewhere, or from the past.
    pub(crate) from: Option<Life>,
    pub(crate) payload: Bytes,
    /// The receivers, and whether its fate there is known.
    pub(crate) to: BTreeMap<NodeId, bool>,
}

/// A step of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The record of this number.
    Record(usize),
    /// The datagram of this number was sent.
    Sent(usize),
    /// A datagram arrived, or was lost.
    Fate { number: usize, node: NodeId, at: Duration, outcome: Outcome },
}

/// All datagrams, and the order of everything that happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    sent: VecDeque<Sent>,
    /// The number of the first datagram that is still kept.
    first: usize,
    pub(crate) steps: Vec<Step>,
}

impl Traffic {
    /// The time for which a datagram may be under way.
    const LATEST: Duration = Duration::from_millis(500);

    /// Returns the number of this datagram.
    pub(crate) fn sent(
        &mut self,
        at: Duration,
        from: Option<Life>,
        payload: Bytes,
        to: impl IntoIterator<Item = NodeId>,
    ) -> usize {
        let to = to.into_iter().map(|node| (node, false)).collect();
        self.sent.push_back(Sent { at, from, payload, to });
        self.steps.push(Step::Sent(self.latest()));
        self.latest()
    }

    /// Returns the number of the latest datagram.
    pub(crate) fn latest(&self) -> usize {
        (self.first + self.sent.len()).wrapping_sub(1)
    }

    /// Returns the datagram of this number, if it is kept.
    pub(crate) fn get(&self, number: usize) -> Option<&Sent> {
        self.sent.get(number.checked_sub(self.first)?)
    }

    fn get_mut(&mut self, number: usize) -> Option<&mut Sent> {
        self.sent.get_mut(number.checked_sub(self.first)?)
    }

    /// Returns all datagrams that are kept, with their numbers.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (usize, &Sent)> {
        (self.first..).zip(&self.sent)
    }

    /// Takes out the oldest datagram, if it was sent before this time.
    pub(crate) fn take_older(&mut self, than: Duration) -> Option<(usize, Sent)> {
        self.sent.front().filter(|sent| sent.at < than)?;
        let number = self.first;
        self.first += 1;
        self.sent.pop_front().map(|sent| (number, sent))
    }

    /// Replaces the receivers of a datagram.
    pub(crate) fn address(&mut self, number: usize, to: impl IntoIterator<Item = NodeId>) {
        if let Some(sent) = self.get_mut(number) {
            sent.to = to.into_iter().map(|node| (node, false)).collect();
        }
    }

    pub(crate) fn fate(&mut self, number: usize, node: NodeId, at: Duration, outcome: Outcome) {
        if let Some(sent) = self.get_mut(number) {
            sent.to.insert(node, true);
            self.steps.push(Step::Fate { number, node, at, outcome });
        }
    }

    /// Finds the datagram that arrives at a node, if only its bytes and its sender are known.
    pub(crate) fn arrived(
        &mut self,
        at: Duration,
        latency: Duration,
        from: NodeId,
        node: NodeId,
        bytes: &Bytes,
    ) {
        let recent = self.sent.iter().rev().take_while(|sent| sent.at + Self::LATEST >= at);
        let same = (0..=self.latest()).rev().zip(recent).filter(|(_, sent)| {
            sent.from.is_some_and(|life| life.node == from)
                && sent.payload == *bytes
                && sent.to.get(&node) == Some(&false)
                && sent.at + latency <= at
        });
        // Equal datagrams may have been lost before.
        let Some((number, _)) = same.min_by_key(|(_, sent)| at - (sent.at + latency)) else { return };
        self.fate(number, node, at, Outcome::Arrived);
    }
}
