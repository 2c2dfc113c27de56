//! A ring as its messages see it: who is in, what has arrived, what has been delivered.

use std::collections::BTreeSet;

use super::window::Window;
use crate::mutants::Mutant;
use crate::wire::Multicast;
use crate::{Guarantee, NodeId, Refusal, RingId, Seq};

/// An installed ring, or one that is being recovered.
#[derive(Clone, Hash)]
pub(super) struct Ring {
    pub(super) id: RingId,
    /// Ascending, which is the order in which the token goes round. Empty before a node's first ring.
    pub(super) members: BTreeSet<NodeId>,
    pub(super) window: Window,
    /// Who sent the highest frame that this node has received, if it has one.
    pub(super) last_sender: Option<NodeId>,
    /// Delivered up to here.
    pub(super) delivered: Seq,
    /// Every member is known to have received everything up to here.
    pub(super) safe: Seq,
    /// Frames that are delivered even behind a hole and without their senders: another member may have delivered them
    /// as safe, in a transitional configuration that was not installed here or at somebody who comes along (TOCS
    /// 1995, section 5, has an obligation set of senders; what is owed is not to depend on what comes in later).
    owed: BTreeSet<u32>,
}

impl Ring {
    pub(super) fn new(id: RingId, members: BTreeSet<NodeId>, start: Seq) -> Self {
        let window = Window::new(start);
        Self { id, members, window, last_sender: None, delivered: start, safe: start, owed: BTreeSet::new() }
    }

    /// Takes in a frame; `Ok(false)` if it is no news.
    ///
    /// # Errors
    /// If its sender is not in this ring, or there is no room for it.
    pub(super) fn insert(&mut self, frame: Multicast) -> Result<bool, Refusal> {
        if !self.members.contains(&frame.from) {
            return Err(Refusal::Field);
        }
        let (sender, highest) = (frame.from, self.window.high().before(frame.seq));
        let new = self.window.insert(frame)?;
        if new && highest {
            self.last_sender = Some(sender);
        }
        Ok(new)
    }

    /// Whether every member is known to have all that this one has sent.
    pub(super) fn all_have_what_came_from(&self, node: NodeId) -> bool {
        let mut unsure = self.safe.up_to(self.window.high()).filter_map(|seq| self.window.get(seq));
        unsure.all(|frame| frame.from != node)
    }

    /// The next frame to deliver in this regular configuration: the next number, if it is there and its guarantee is
    /// met. A safe frame that is not yet safe holds back what follows it.
    pub(super) fn next_delivery(&mut self) -> Option<Multicast> {
        let mut next = self.delivered.next();
        if Mutant::DeliveredPastHole.is_active() && self.window.get(next).is_none() {
            next = next.next();
        }
        let frame = self.window.get(next)?;
        let waits = frame.guarantee == Guarantee::Safe && !frame.encapsulated;
        let safe = match Mutant::WrapUnsafeSafe.is_active() {
            true => frame.seq.get() <= self.safe.get(),
            false => frame.seq.at_or_before(self.safe),
        };
        if waits && !safe && !Mutant::SafeAsAgreed.is_active() {
            return None;
        }
        let frame = frame.clone();
        self.delivered = frame.seq;
        Some(frame)
    }

    /// How many frames are in order and not delivered, as far as one can tell from the first of them: what is safe is not
    /// counted before it is.
    pub(super) fn undelivered(&self) -> u32 {
        let next = self.window.get(self.delivered.next());
        let safe = next.is_some_and(|frame| frame.guarantee == Guarantee::Safe);
        let last = if safe { self.safe.min(self.window.aru()) } else { self.window.aru() };
        self.delivered.distance_to(last)
    }

    /// Passes over frames that carry others: what they carried was taken in when they came.
    pub(super) fn skip_carriers(&mut self) {
        while self.window.get(self.delivered.next()).is_some_and(|frame| frame.encapsulated) {
            self.delivered = self.delivered.next();
        }
    }

    /// Everything that the members of a transitional configuration have is here: from now on one of them may install
    /// the next ring, and deliver what they sent. That outlives a recovery which fails here after that.
    pub(super) fn owe_to(&mut self, transitional: &BTreeSet<NodeId>) {
        let held = self.window.aru().up_to(self.window.high()).filter_map(|seq| self.window.get(seq));
        self.owed
            .extend(held.filter(|frame| transitional.contains(&frame.from)).map(|frame| frame.seq.get()));
    }

    /// Somebody who comes along owes this frame, so this node does too.
    pub(super) fn owe(&mut self, seq: Seq) {
        self.owed.insert(seq.get());
    }

    pub(super) fn owes(&self, seq: Seq) -> bool {
        self.owed.contains(&seq.get())
    }

    /// The frames left for the transitional configuration, whose members are `transitional`: behind a hole, only
    /// those of senders that come along, since what the hole held could have caused the others (S13), and those owed.
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
                        || self.owes(seq) && !Mutant::ObligationsForgotten.is_active()
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(seq: u32, guarantee: Guarantee) -> Multicast {
        let from = NodeId::new(1).unwrap();
        let ring = RingId { seq: 4, representative: from };
        let (seq, raw) = (Seq::new(seq), Bytes::from_static(b"datagram"));
        Multicast {
            from,
            seq,
            this_seqno: 0,
            ring,
            guarantee,
            encapsulated: false,
            payload: raw.clone(),
            raw,
        }
    }

    #[test]
    fn who_waits_for_safe_frames_to_be_safe_is_not_behind() {
        let from = NodeId::new(1).unwrap();
        let mut ring =
            Ring::new(RingId { seq: 4, representative: from }, BTreeSet::from([from]), Seq::new(0));
        for (seq, guarantee) in [(1, Guarantee::Agreed), (2, Guarantee::Safe), (3, Guarantee::Safe)] {
            ring.insert(frame(seq, guarantee)).unwrap();
        }
        assert_eq!(ring.undelivered(), 3, "that the first is followed by safe ones is not looked at");
        assert!(ring.next_delivery().is_some());
        assert_eq!(ring.undelivered(), 0);
        ring.safe = Seq::new(2);
        assert_eq!(ring.undelivered(), 1);
        assert!(ring.next_delivery().is_some() && ring.next_delivery().is_none());
    }
}
