//! Messages that wait for the token, and how they are packed into frames when it comes.
//!
//! Packing at the token, not when a message is accepted as corosync does, means that nothing is staged: a ring
//! change finds whole messages only, and one that was cut in two starts over on the new ring (S4).

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::Guarantee;
use crate::mutants::Mutant;
use crate::wire::packing::Packet;

/// This node's unsent messages.
#[derive(Default)]
pub(super) struct Outbox {
    /// The sync protocol's, which alone are sent until it is done.
    pub(super) control: Lane,
    /// The application's.
    pub(super) application: Lane,
}

/// A queue of messages and how far the first of it is on the ring.
#[derive(Default)]
pub(super) struct Lane {
    messages: VecDeque<Outgoing>,
    /// Bytes of the first message that are on the ring already.
    started: usize,
    /// The fragment number under which it goes on; 0 if nothing of it was sent.
    fragment: u8,
    bytes: usize,
}

struct Outgoing {
    /// Group prefix and header.
    head: Bytes,
    payload: Bytes,
    guarantee: Guarantee,
}

impl Outgoing {
    fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// `length` bytes from `start`, without a copy where they lie in one of the two parts.
    fn piece(&self, start: usize, length: usize) -> Bytes {
        let end = start + length;
        let split = self.head.len();
        if end <= split {
            self.head.slice(start..end)
        } else if start >= split {
            self.payload.slice(start - split..end - split)
        } else {
            self.head.slice(start..).chain(self.payload.slice(..end - split)).copy_to_bytes(length)
        }
    }
}

impl Lane {
    /// Below this, the rest of a frame is not worth a fragment.
    const SMALLEST_FRAGMENT: usize = 64;
    /// What a queued message costs beside its bytes.
    const OVERHEAD: usize = 64;

    pub(super) fn push(&mut self, head: Bytes, payload: Bytes, guarantee: Guarantee) {
        let message = Outgoing { head, payload, guarantee };
        self.bytes += message.len() + Self::OVERHEAD;
        self.messages.push_back(message);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes queued, overhead included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many frames the queue would fill, about.
    pub(super) fn frames(&self, capacity: usize) -> u32 {
        u32::try_from((self.bytes - self.started.min(self.bytes)).div_ceil(capacity.max(1)))
            .unwrap_or(u32::MAX)
    }

    /// Forgets how far the first message got: it starts over on the next ring.
    pub(super) fn start_over(&mut self) {
        self.started = 0;
        self.fragment = 0;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The payload of the next frame, at most `capacity` bytes, and the guarantee of the messages that end in it.
    /// Messages that end in one frame have one guarantee: the frame carries it.
    pub(super) fn next_frame(&mut self, capacity: usize) -> Option<(Packet, Guarantee)> {
        let continuation = self.fragment;
        let mut packet = Packet { fragmented: 0, continuation, pieces: Vec::new() };
        let mut guarantee = None;
        let mut room = capacity.saturating_sub(Packet::HEADER);
        while let Some(message) = self.messages.front() {
            let rest = message.len() - self.started;
            let fits = rest + 2 <= room;
            if !fits && !packet.pieces.is_empty() && room < Self::SMALLEST_FRAGMENT {
                break;
            }
            if fits && guarantee.is_some_and(|guarantee| guarantee != message.guarantee) {
                break;
            }
            let length = if fits { rest } else { room.saturating_sub(2) };
            if length == 0 {
                break;
            }
            packet.pieces.push(message.piece(self.started, length));
            room -= length + 2;
            if fits {
                if Mutant::FragmentEndMissing.is_active() {
                    packet.fragmented = continuation;
                }
                guarantee = Some(message.guarantee);
                self.bytes -= message.len() + Self::OVERHEAD;
                self.messages.pop_front();
                self.start_over();
            } else {
                self.started =
                    if Mutant::FragmentOffsetForgotten.is_active() { 0 } else { self.started } + length;
                self.fragment = self.fragment.checked_add(1).unwrap_or(1);
                packet.fragmented = self.fragment;
                break;
            }
        }
        // A frame in which nothing ends promises nothing.
        (!packet.pieces.is_empty()).then(|| (packet, guarantee.unwrap_or(Guarantee::Agreed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(messages: &[(usize, Guarantee)]) -> Lane {
        let mut lane = Lane::default();
        for (n, &(length, guarantee)) in messages.iter().enumerate() {
            lane.push(Bytes::from_static(b"head"), vec![n as u8; length].into(), guarantee);
        }
        lane
    }

    fn shape(packet: &Packet) -> (u8, Vec<usize>, u8) {
        (packet.continuation, packet.pieces.iter().map(Bytes::len).collect(), packet.fragmented)
    }

    #[test]
    fn small_messages_share_a_frame() {
        let mut lane = lane(&[(6, Guarantee::Agreed); 3]);
        let (packet, guarantee) = lane.next_frame(1410).unwrap();
        assert_eq!((shape(&packet), guarantee), ((0, vec![10, 10, 10], 0), Guarantee::Agreed));
        assert!(lane.next_frame(1410).is_none());
        assert_eq!(lane.bytes(), 0);
    }

    #[test]
    fn a_long_message_goes_in_numbered_fragments_and_its_end_is_shared() {
        let mut lane = lane(&[(2996, Guarantee::Agreed), (6, Guarantee::Agreed)]);
        let shapes: Vec<_> =
            std::iter::from_fn(|| lane.next_frame(1410)).map(|(packet, _)| shape(&packet)).collect();
        assert_eq!(shapes, [(0, vec![1400], 1), (1, vec![1400], 2), (2, vec![200, 10], 0)]);
    }

    #[test]
    fn a_frame_has_one_guarantee_that_of_the_messages_that_end_in_it() {
        let mut lane = lane(&[
            (6, Guarantee::Safe),
            (6, Guarantee::Agreed),
            (2000, Guarantee::Safe),
            (6, Guarantee::Safe),
        ]);
        let frames: Vec<_> = std::iter::from_fn(|| lane.next_frame(1410))
            .map(|(packet, guarantee)| (packet.pieces.len(), guarantee))
            .collect();
        // The safe message that begins in the second frame ends in the third.
        assert_eq!(frames, [(1, Guarantee::Safe), (2, Guarantee::Agreed), (2, Guarantee::Safe)]);
    }

    #[test]
    fn a_message_cut_by_a_ring_change_starts_over() {
        let mut lane = lane(&[(2000, Guarantee::Agreed)]);
        lane.next_frame(1410).unwrap();
        lane.start_over();
        let (packet, _) = lane.next_frame(1410).unwrap();
        assert_eq!(shape(&packet), (0, vec![1400], 1));
    }

    #[test]
    fn fragment_numbers_skip_zero_when_they_wrap() {
        let mut lane = lane(&[(1400 * 300, Guarantee::Agreed)]);
        let numbers: Vec<u8> =
            std::iter::from_fn(|| lane.next_frame(1410)).map(|(packet, _)| packet.fragmented).collect();
        assert_eq!(numbers[254..257], [255, 1, 2]);
        assert_eq!(numbers.last(), Some(&0));
    }
}
