//! The frames of a ring that any member may still request.

use std::collections::VecDeque;

use crate::bug;
use crate::wire::Multicast;
use crate::{Refusal, Seq};

/// A sliding window over a ring's frames, from the oldest that has not been released to the newest
/// known.
#[derive(Clone, Hash)]
pub(super) struct Window {
    /// The number up to which all frames have been released, so no member can request them any
    /// more.
    released: Seq,
    /// The frames after `released`, in order.
    slots: VecDeque<Slot>,
    /// The number up to which all frames have been received.
    aru: Seq,
    /// The highest number received.
    high: Seq,
    bytes: usize,
}

#[derive(Clone, Hash)]
enum Slot {
    /// Not received. `visits` counts the token visits meanwhile.
    Missing {
        visits: u32,
    },
    Held(Multicast),
}

impl Window {
    /// The span of a window in numbers, as in corosync. A token that is further ahead makes a
    /// corosync daemon abort.
    pub(super) const SLOTS: u32 = 16384;
    /// The most bytes of frames that a window keeps. Ordinary frames cannot reach this limit. It
    /// bounds the memory that a stranger can make this node use.
    const BYTES: usize = 64 << 20;

    /// Creates an empty window, whose first frame has the number after `start`.
    pub(super) fn new(start: Seq) -> Self {
        Self { released: start, slots: VecDeque::new(), aru: start, high: start, bytes: 0 }
    }

    pub(super) fn aru(&self) -> Seq {
        self.aru
    }

    pub(super) fn high(&self) -> Seq {
        self.high
    }

    pub(super) fn released(&self) -> Seq {
        self.released
    }

    /// Returns the total size of the kept frames, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        let distance = self.released.distance_to(seq);
        (1..=Self::SLOTS).contains(&distance).then(|| distance as usize - 1)
    }

    /// Returns the distance of `seq` from the released frames, which orders the frames of one
    /// window.
    pub(super) fn place(&self, seq: Seq) -> u32 {
        self.released.distance_to(seq)
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Multicast> {
        match self.slots.get(self.index(seq)?)? {
            Slot::Held(frame) => Some(frame),
            Slot::Missing { .. } => None,
        }
    }

    /// Inserts a frame. Returns `Ok(false)` if the frame is already present or released.
    ///
    /// # Errors
    /// If the frame is too far ahead, or there is no room. The protocol treats it as a lost frame.
    pub(super) fn insert(&mut self, frame: Multicast) -> Result<bool, Refusal> {
        let seq = frame.seq;
        if seq.at_or_before(self.released) {
            return Ok(false);
        }
        let index = self.index(seq).ok_or(Refusal::OutOfWindow)?;
        // The next frame in order always has room, since otherwise a full window could never empty.
        if self.bytes + frame.raw.len() > Self::BYTES && seq != self.aru.next() {
            return Err(Refusal::OutOfWindow);
        }
        self.reach(index);
        match self.slots.get_mut(index) {
            Some(slot @ Slot::Missing { .. }) => {
                self.bytes += frame.raw.len();
                *slot = Slot::Held(frame);
            }
            _ => return Ok(false),
        }
        self.high = bug!(WrapUnsafeHigh: Seq::new(self.high.get().max(seq.get())); self.high.max(seq));
        let stop = bug!(AruStopsAtLongGap: self.aru.distance_to(self.high) > 1024; false);
        while self.get(self.aru.next()).is_some() && !stop {
            self.aru = self.aru.next();
        }
        Ok(true)
    }

    fn reach(&mut self, index: usize) {
        while self.slots.len() <= index {
            self.slots.push_back(Slot::Missing { visits: 0 });
        }
    }

    /// Releases the received frames up to `seq`.
    pub(super) fn release(&mut self, seq: Seq) {
        while self.released.before(seq) && self.released.before(self.aru) {
            if let Some(Slot::Held(frame)) = self.slots.pop_front() {
                self.bytes -= frame.raw.len();
            }
            self.released = self.released.next();
        }
    }

    /// Counts a visit of a token that knows of numbers up to `last`. Returns the numbers that have
    /// been missing for `patience` visits, since a multicast may arrive after the token that was
    /// sent behind it.
    pub(super) fn missing(&mut self, last: Seq, patience: u32) -> Vec<Seq> {
        let mut wanted = Vec::new();
        for seq in self.aru.up_to(last) {
            let Some(index) = self.index(seq) else { break };
            self.reach(index);
            if let Some(Slot::Missing { visits }) = self.slots.get_mut(index) {
                *visits = visits.saturating_add(1);
                if *visits >= patience {
                    wanted.push(seq);
                }
            }
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Guarantee, NodeId, RingId};

    fn frame(seq: u32) -> Multicast {
        let from = NodeId::new(1).unwrap();
        let raw = Bytes::from_static(b"datagram");
        Multicast {
            from,
            seq: Seq::new(seq),
            this_seqno: 0,
            ring: RingId { seq: 4, representative: from },
            guarantee: Guarantee::Agreed,
            encapsulated: false,
            payload: raw.clone(),
            raw,
        }
    }

    fn numbers(seqs: &[Seq]) -> Vec<u32> {
        seqs.iter().map(|seq| seq.get()).collect()
    }

    #[test]
    fn aru_stops_at_the_first_gap_and_jumps_when_it_closes() {
        let mut window = Window::new(Seq::new(0));
        for seq in [1, 2, 4, 5] {
            assert_eq!(window.insert(frame(seq)), Ok(true));
        }
        assert_eq!((window.aru(), window.high()), (Seq::new(2), Seq::new(5)));
        assert_eq!(window.insert(frame(3)), Ok(true));
        assert_eq!(window.aru(), Seq::new(5));
        assert_eq!(window.insert(frame(3)), Ok(false), "a second copy is no news");
    }

    #[test]
    fn a_released_frame_is_gone_and_its_late_copy_is_known() {
        let mut window = Window::new(Seq::new(0));
        for seq in [1, 2, 4] {
            window.insert(frame(seq)).unwrap();
        }
        window.release(Seq::new(4));
        assert_eq!(window.released(), Seq::new(2), "what was never received cannot be given up");
        assert!(window.get(Seq::new(2)).is_none() && window.get(Seq::new(4)).is_some());
        assert_eq!(window.insert(frame(1)), Ok(false));
    }

    #[test]
    fn a_gap_is_requested_after_n_visits_up_to_the_tokens_number() {
        let mut window = Window::new(Seq::new(0));
        window.insert(frame(2)).unwrap();
        for _ in 0..4 {
            assert!(window.missing(Seq::new(4), 5).is_empty());
        }
        // Frames 3 and 4 were never received, but the token knows of them (B31).
        assert_eq!(numbers(&window.missing(Seq::new(4), 5)), [1, 3, 4]);
    }

    #[test]
    fn a_window_wraps_and_ends_after_its_slots() {
        let start = u32::MAX - 2;
        let mut window = Window::new(Seq::new(start));
        for n in 1..=6 {
            assert_eq!(window.insert(frame(start.wrapping_add(n))), Ok(true));
        }
        assert_eq!(window.aru(), Seq::new(3));
        let last = start.wrapping_add(Window::SLOTS);
        assert_eq!(window.insert(frame(last)), Ok(true));
        assert_eq!(window.insert(frame(last.wrapping_add(1))), Err(Refusal::OutOfWindow));
    }
}
