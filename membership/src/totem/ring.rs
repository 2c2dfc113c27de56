//! A ring as its messages see it: its members, and the frames received and delivered.

use std::collections::BTreeSet;

use super::window::Window;
use crate::bug;
use crate::wire::Multicast;
use crate::{Guarantee, NodeId, Refusal, RingId, Seq};

/// An installed ring, or one that is being recovered.
#[derive(Clone, Hash)]
pub(super) struct Ring {
    pub(super) id: RingId,
    /// The members, ascending, which is the order in which the token circulates. Empty before a
    /// node's first ring.
    pub(super) members: BTreeSet<NodeId>,
    pub(super) window: Window,
    /// The sender of the highest frame that this node has received.
    pub(super) last_sender: Option<NodeId>,
    /// The highest number delivered.
    pub(super) delivered: Seq,
    /// The highest number up to which every member is known to have received all frames.
    pub(super) safe: Seq,
    /// The frames that are delivered even behind a hole and without their senders. Another member
    /// may have delivered them as safe in a transitional configuration that was not installed here,
    /// or not at a member that moves along. TOCS 1995, section 5, keeps an obligation set of
    /// senders instead, but obligations must not depend on frames that arrive later.
    owed: BTreeSet<u32>,
}

impl Ring {
    pub(super) fn new(id: RingId, members: BTreeSet<NodeId>, start: Seq) -> Self {
        let window = Window::new(start);
        Self { id, members, window, last_sender: None, delivered: start, safe: start, owed: BTreeSet::new() }
    }

    /// Inserts a frame. Returns `Ok(false)` if it is already known.
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

    /// Returns `true` if every member is known to have received every frame from `node`.
    pub(super) fn all_have_what_came_from(&self, node: NodeId) -> bool {
        let mut unsure = self.safe.up_to(self.window.high()).filter_map(|seq| self.window.get(seq));
        unsure.all(|frame| frame.from != node)
    }

    /// Returns the next frame to deliver in this regular configuration. This is the frame with the
    /// next number, if it is present and its guarantee is met. A safe frame that is not yet safe
    /// holds back the frames behind it.
    pub(super) fn next_delivery(&mut self) -> Option<Multicast> {
        let next = self.delivered.next();
        let frame = self.window.get(next);
        let frame = bug!(DeliveredPastHole: frame.or_else(|| self.window.get(next.next())); frame)?;
        let waits = frame.guarantee == Guarantee::Safe && !frame.encapsulated;
        let safe =
            bug!(WrapUnsafeSafe: frame.seq.get() <= self.safe.get(); frame.seq.at_or_before(self.safe));
        if bug!(SafeAsAgreed: false; waits && !safe) {
            return None;
        }
        let frame = frame.clone();
        self.delivered = frame.seq;
        Some(frame)
    }

    /// Returns the number of frames that are ready to deliver, judged by the first one: if it was
    /// sent as safe, only the stable prefix counts.
    pub(super) fn undelivered(&self) -> u32 {
        let next = self.window.get(self.delivered.next());
        let safe = next.is_some_and(|frame| frame.guarantee == Guarantee::Safe);
        let last = if safe { self.safe.min(self.window.aru()) } else { self.window.aru() };
        self.delivered.distance_to(last)
    }

    /// Skips frames that carry others. The carried frames were inserted when they arrived.
    pub(super) fn skip_carriers(&mut self) {
        while self.window.get(self.delivered.next()).is_some_and(|frame| frame.encapsulated) {
            self.delivered = self.delivered.next();
        }
    }

    /// Records obligations for the frames behind a hole that the transitional members sent. Once
    /// all frames of these members are here, any of them may install the next ring and deliver what
    /// they sent. The obligations outlive a recovery that fails here afterwards.
    pub(super) fn owe_to(&mut self, transitional: &BTreeSet<NodeId>) {
        let held = self.window.aru().up_to(self.window.high()).filter_map(|seq| self.window.get(seq));
        self.owed
            .extend(held.filter(|frame| transitional.contains(&frame.from)).map(|frame| frame.seq.get()));
    }

    /// Adopts an obligation of another member that moves along.
    pub(super) fn owe(&mut self, seq: Seq) {
        self.owed.insert(seq.get());
    }

    pub(super) fn owes(&self, seq: Seq) -> bool {
        self.owed.contains(&seq.get())
    }

    /// Returns the frames left for the transitional configuration with the members `transitional`.
    /// Behind a hole these are only the obligations and the frames of senders that move along,
    /// since the missing frames could have caused the others (S13).
    pub(super) fn remaining(&mut self, transitional: &BTreeSet<NodeId>) -> Vec<Multicast> {
        let mut hole = false;
        let mut frames = Vec::new();
        for seq in self.delivered.up_to(self.window.high()) {
            match self.window.get(seq) {
                None => hole = true,
                Some(_) if bug!(DiscardedBehindHole: hole; false) => {}
                Some(frame)
                    if bug!(NoSenderFilterBehindHole: true; !hole)
                        || transitional.contains(&frame.from)
                        || bug!(ObligationsForgotten: false; self.owes(seq)) =>
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
    fn a_member_that_waits_for_safe_frames_is_not_behind() {
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
