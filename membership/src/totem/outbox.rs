//! Messages that wait for the token, and how they are packed into frames when it comes.
//!
//! Packing at the token, not when a message is accepted as corosync does, means that nothing is staged: a ring
//! change finds whole messages only, and one that was cut in two starts over on the new ring (S4).

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use crate::Guarantee;
use crate::mutants::Mutant;
use crate::wire::packing::{self, Packet};

/// This node's unsent messages.
#[derive(Clone, Hash, Default)]
pub(super) struct Outbox {
    /// The sync protocol's, which alone are sent until it is done.
    pub(super) control: Lane,
    /// The application's.
    pub(super) application: Lane,
}

/// A queue of messages and how far the first of it is on the ring.
#[derive(Clone, Hash, Default)]
pub(super) struct Lane {
    messages: VecDeque<Outgoing>,
    /// Bytes of the first message that are on the ring already.
    started: usize,
    /// The fragment number under which it goes on; 0 if nothing of it was sent.
    fragment: u8,
    /// A ring change cut a message that receivers have the beginning of, and they have to be told.
    cut: bool,
    /// A part that is on the ring whole while the rest of its message is not: on a new ring, it goes out again.
    part: Option<Outgoing>,
    bytes: usize,
}

#[derive(Clone, Hash)]
struct Outgoing {
    /// Group prefix and header, and of a short message all of it.
    head: Bytes,
    payload: Bytes,
    guarantee: Guarantee,
    /// The next message in the queue is another part of the same.
    continued: bool,
}

impl Outgoing {
    fn len(&self) -> usize {
        self.head.len() + self.payload.len()
    }

    /// All from `start` on, without a copy where it lies in one of the two parts.
    fn rest(mut self, start: usize) -> Bytes {
        if self.payload.is_empty() {
            self.head.advance(start);
            return self.head;
        }
        self.piece(start, self.len() - start)
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
        self.add(Outgoing { head, payload, guarantee, continued: false });
    }

    /// Whether part of the first message is on the ring, and part is not.
    pub(super) fn is_begun(&self) -> bool {
        self.fragment != 0
    }

    /// Adds the first part of a message, the second of which is added next. No message needs more.
    pub(super) fn push_part(&mut self, head: Bytes, payload: Bytes, guarantee: Guarantee) {
        self.add(Outgoing { head, payload, guarantee, continued: true });
    }

    fn add(&mut self, message: Outgoing) {
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

    /// A new ring: what was cut by the end of the last one starts over.
    pub(super) fn start_over(&mut self) {
        self.cut |= self.fragment != 0;
        self.rewind();
        if let Some(part) = self.part.take() {
            self.bytes += part.len() + Self::OVERHEAD;
            self.messages.push_front(part);
        }
    }

    /// A new ring, on which none of this is to be said.
    pub(super) fn clear(&mut self) {
        *self = Self { cut: self.cut || self.fragment != 0, ..Self::default() };
    }

    fn rewind(&mut self) {
        self.started = 0;
        self.fragment = 0;
    }

    /// A frame that ends what receivers have begun to put together. Corosync members go on where the last frame left
    /// off: a first frame that does not would be discarded with all that is in it, the start of a long message kept
    /// and its second start put behind it, until that is too long for them and they abort. One that continues nothing
    /// and is not continued empties their buffer; in it is a message to no group at all.
    fn ending() -> Packet {
        Packet { fragmented: 0, continuation: 0, pieces: vec![packing::to_nobody()] }
    }

    /// The payload of the next frame, at most `capacity` bytes, and the guarantee of the messages that end in it.
    /// Messages that end in one frame have one guarantee: the frame carries it.
    pub(super) fn next_frame(&mut self, capacity: usize) -> Option<(Packet, Guarantee)> {
        if self.cut && !self.messages.is_empty() {
            self.cut = false;
            return Some((Self::ending(), Guarantee::Agreed));
        }
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
            room -= length + 2;
            if fits {
                if Mutant::FragmentEndMissing.is_active() {
                    packet.fragmented = continuation;
                }
                guarantee = Some(message.guarantee);
                self.bytes -= message.len() + Self::OVERHEAD;
                let Some(message) = self.messages.pop_front() else { break };
                self.part = message.continued.then(|| message.clone());
                packet.pieces.push(message.rest(self.started));
                self.rewind();
            } else {
                packet.pieces.push(message.piece(self.started, length));
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
        assert_eq!(shape(&packet), (0, vec![18], 0), "first the end of the first attempt");
        let (packet, _) = lane.next_frame(1410).unwrap();
        assert_eq!(shape(&packet), (0, vec![1400], 1));
    }

    #[test]
    fn the_first_part_of_a_message_goes_out_again_if_the_second_does_not_come_along() {
        let part = |lane: &mut Lane, continued: bool, text: &'static [u8]| {
            let (head, text) = (Bytes::from_static(b"head"), Bytes::from_static(text));
            let push = if continued { Lane::push_part } else { Lane::push };
            push(lane, head, text, Guarantee::Safe);
        };
        let all = |lane: &mut Lane| -> Vec<Bytes> {
            std::iter::from_fn(|| lane.next_frame(30)).flat_map(|(packet, _)| packet.pieces).collect()
        };
        let mut lane = Lane::default();
        part(&mut lane, true, b"first part");
        part(&mut lane, false, b"second part");
        assert_eq!(lane.next_frame(30).unwrap().0.pieces, [&b"headfirst part"[..]]);
        lane.start_over();
        assert_eq!(all(&mut lane), [&b"headfirst part"[..], b"headsecond part"]);
        lane.start_over();
        assert!(lane.is_empty(), "all of it is on the ring");
        assert_eq!(lane.bytes(), 0);
    }

    /// What corosync 3.1 does with a member's frames.
    #[derive(Default)]
    struct Corosync {
        buffer: usize,
        last: u8,
        throw_away: bool,
        delivered: Vec<usize>,
    }

    impl Corosync {
        fn receive(&mut self, packet: &Packet) {
            let lengths: Vec<usize> = packet.pieces.iter().map(Bytes::len).collect();
            let frame = Packet::HEADER + lengths.iter().map(|length| length + 2).sum::<usize>();
            assert!(self.buffer + frame < (1 << 20) + (1 << 16), "corosync aborts");
            let whole = lengths.len() - usize::from(packet.fragmented != 0);
            if self.throw_away {
                if packet.fragmented <= 1 {
                    self.throw_away = false;
                    self.buffer += lengths[0];
                }
            } else if packet.continuation == self.last {
                self.last = packet.fragmented;
                for length in &lengths[..whole] {
                    self.delivered.push(self.buffer + length);
                    self.buffer = 0;
                }
            } else {
                self.throw_away = true;
            }
            if packet.fragmented == 0 {
                *self = Self { delivered: std::mem::take(&mut self.delivered), ..Self::default() };
            } else {
                if lengths.len() > 1 {
                    self.buffer = 0;
                }
                self.buffer += lengths[whole];
            }
        }
    }

    #[test]
    fn a_corosync_member_loses_nothing_and_lives_when_a_message_is_cut_and_starts_over() {
        let mut lane = lane(&[(1 << 20, Guarantee::Agreed), (6, Guarantee::Agreed)]);
        let mut corosync = Corosync::default();
        for _ in 0..500 {
            corosync.receive(&lane.next_frame(1410).unwrap().0);
        }
        lane.start_over();
        while let Some((packet, _)) = lane.next_frame(1410) {
            corosync.receive(&packet);
        }
        assert_eq!(corosync.delivered, [(1 << 20) + 4, 10]);
    }

    #[test]
    fn what_was_cut_and_cleared_is_ended_before_anything_else_is_said() {
        let mut lane = lane(&[(2000, Guarantee::Agreed)]);
        let mut corosync = Corosync::default();
        corosync.receive(&lane.next_frame(1410).unwrap().0);
        lane.clear();
        assert!(lane.next_frame(1410).is_none(), "nothing to say");
        lane.push(Bytes::from_static(b"head"), Bytes::from_static(b"barrier"), Guarantee::Agreed);
        while let Some((packet, _)) = lane.next_frame(1410) {
            corosync.receive(&packet);
        }
        assert_eq!(corosync.delivered, [11]);
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
