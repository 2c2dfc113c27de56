//! Outputs of the core, in order.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Destination, Origin, Transmit};
use crate::{Event, NodeId, Notice, Refusal, Stats, Time};

/// Datagrams to send, events to deliver, and counters.
#[derive(Clone, Default)]
pub(super) struct Outputs {
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) events: VecDeque<Event>,
    /// The total cost of the events that the application has not taken yet.
    pub(super) unread: usize,
    pub(super) stats: Stats,
    /// The time and origin of the last datagram, for notices about it.
    pub(super) input: (Time, Origin),
}

impl Outputs {
    pub(super) fn multicast(&mut self, datagram: Bytes) {
        self.transmits.push_back(Transmit { to: Destination::Everyone, datagram });
    }

    pub(super) fn unicast(&mut self, node: NodeId, datagram: Bytes) {
        self.transmits.push_back(Transmit { to: Destination::Member(node), datagram });
    }

    /// Queues a unicast ahead of the last `late` queued datagrams.
    pub(super) fn unicast_before(&mut self, late: usize, node: NodeId, datagram: Bytes) {
        let at = self.transmits.len().saturating_sub(late);
        self.transmits.insert(at, Transmit { to: Destination::Member(node), datagram });
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.unread = self.unread.saturating_add(event.cost());
        self.events.push_back(event);
    }

    /// Counts a rejection of the last datagram, or of a message in it.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        tracing::debug!(%refusal, "refused");
        self.stats.refuse(refusal);
        if refusal.is_suspicious() {
            self.notice(Notice::Rejected { peer: self.input.1.peer, reason: refusal });
        }
    }

    /// Counts a rejection of the last datagram because of its sender, which claims this id.
    pub(super) fn refuse_sender(&mut self, refusal: Refusal, claimed: Option<NodeId>, me: NodeId) {
        tracing::debug!(%refusal, ?claimed, "refused");
        self.stats.refuse(refusal);
        self.notice(match (refusal, claimed) {
            (Refusal::Unlisted, Some(node)) => Notice::Unlisted { node },
            (Refusal::Impostor, Some(node)) if node == me => Notice::OwnIdElsewhere { node },
            (Refusal::Impostor, Some(node)) => Notice::OtherAddress { node },
            _ => Notice::Rejected { peer: self.input.1.peer, reason: refusal },
        });
    }

    /// Records a notice about the last datagram.
    pub(super) fn notice(&mut self, notice: Notice) {
        let (now, origin) = self.input;
        self.stats.notices.note(now, notice, origin.source);
    }

    /// Returns the running number of a frame of this node ("this_seqno").
    pub(super) fn frames_originated(&mut self) -> u32 {
        let number = self.stats.originated;
        self.stats.originated += 1;
        // The counter wraps by design.
        number as u32
    }
}
