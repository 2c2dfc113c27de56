//! A ring as its messages see it: who is in, what has arrived, what has been delivered.

use std::collections::BTreeSet;

use super::window::Window;
use crate::mutants::Mutant;
use crate::wire::Multicast;
use crate::{Guarantee, NodeId, RingId, Seq};

/// An installed ring, or one that is being recovered.
pub(super) struct Ring {
    pub(super) id: RingId,
    /// Ascending, which is the order in which the token goes round. Empty before a node's first ring.
    pub(super) members: BTreeSet<NodeId>,
    pub(super) window: Window,
    /// Delivered up to here.
    pub(super) delivered: Seq,
    /// Every member is known to have received everything up to here.
    pub(super) safe: Seq,
    /// Members whose messages this node has promised to deliver even behind a hole: those of recoveries that got as
    /// far as everybody having everything (TOCS 1995, section 5: the obligation set). It outlives a recovery that
    /// fails after that, since another member may have completed it; and the next recovery tells those of it who did
    /// not get that far, or members that go on together would deliver different messages.
    pub(super) obliged: BTreeSet<NodeId>,
}

impl Ring {
    pub(super) fn new(id: RingId, members: BTreeSet<NodeId>, start: Seq) -> Self {
        Self {
            id,
            members,
            window: Window::new(start),
            delivered: start,
            safe: start,
            obliged: BTreeSet::new(),
        }
    }

    /// The next frame to deliver in this regular configuration: the next number, if it is there and its guarantee is
    /// met. A safe frame that is not yet safe holds back what follows it.
    pub(super) fn next_delivery(&mut self) -> Option<Multicast> {
        let mut next = self.delivered.next();
        if Mutant::DeliveredPastHole.is_active() && self.window.get(next).is_none() {
            next = next.next();
        }
        let frame = self.window.get(next)?;
        let safe = match frame.guarantee {
            Guarantee::Agreed => true,
            Guarantee::Safe if Mutant::WrapUnsafeSafe.is_active() => frame.seq.get() <= self.safe.get(),
            Guarantee::Safe => frame.seq.at_or_before(self.safe),
        };
        if !safe && !Mutant::SafeAsAgreed.is_active() {
            return None;
        }
        let frame = frame.clone();
        self.delivered = frame.seq;
        Some(frame)
    }

    /// Passes over frames that carry others: what they carried was taken in when they came.
    pub(super) fn skip_carriers(&mut self) {
        while self.window.get(self.delivered.next()).is_some_and(|frame| frame.encapsulated) {
            self.delivered = self.delivered.next();
        }
    }

    /// The frames left for the transitional configuration, whose members are `transitional`: behind a hole, only
    /// those of senders that come along, since what the hole held could have caused the others (S13).
    pub(super) fn remaining(&mut self, transitional: &BTreeSet<NodeId>) -> Vec<Multicast> {
        let mut hole = false;
        let mut frames = Vec::new();
        for seq in self.delivered.up_to(self.window.high()) {
            match self.window.get(seq) {
                None => hole = true,
                Some(_) if hole && Mutant::DiscardedBehindHole.is_active() => {}
                Some(frame)
                    if !hole
                        || transitional.contains(&frame.from)
                        || self.obliged.contains(&frame.from)
                            && !Mutant::ObligationsForgotten.is_active()
                        || Mutant::NoSenderFilterBehindHole.is_active() =>
                {
                    frames.push(frame.clone());
                }
                Some(_) => {}
            }
        }
        self.delivered = self.window.high();
        frames
    }
}
