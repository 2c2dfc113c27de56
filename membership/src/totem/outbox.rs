//! Queues of messages that wait for the token, and their packing into frames.
//!
//! Messages are packed when the token arrives, rather than when they are accepted as in corosync.
//! So no frames are staged: a ring change finds only whole messages, and a message that was cut in
//! two starts over on the new ring (S4).

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use crate::Guarantee;
use crate::bug;
use crate::wire::Draft;
use crate::wire::packing::{self, Packet};

/// This node's unsent messages.
#[derive(Clone, Hash, Default)]
pub(super) struct Outbox {
    /// The messages of the sync protocol. Until the sync is done, only these are sent.
    pub(super) control: Lane,
    /// The messages of the application.
    pub(super) application: Lane,
}

/// A queue of messages, and the progress in sending the first of them.
#[derive(Clone, Hash, Default)]
pub(super) struct Lane {
    messages: VecDeque<Outgoing>,
    /// The bytes of the short messages, in order.
    short: VecDeque<u8>,
    /// The number of bytes of the first message that have been sent on the ring.
    started: usize,
    /// The fragment number with which the first message continues, or 0 if none of it was sent.
    fragment: u8,
    /// Whether a ring change cut a message whose beginning receivers have. They must be notified.
    cut: bool,
    /// The parts that were sent of a message whose last part was not. On a new ring they are sent
    /// again.
    sent: Vec<Outgoing>,
    bytes: usize,
    /// An empty buffer, kept for its allocation.
    head: Vec<u8>,
}

#[derive(Clone, Hash)]
struct Outgoing {
    content: Content,
    guarantee: Guarantee,
    /// Whether the next message in the queue is another part of the same message.
    continued: bool,
}

#[derive(Clone, Hash)]
enum Content {
    /// The length of the message, whose bytes are the next ones in [`Lane::short`]. Copying them
    /// there costs less than keeping them where they are.
    Short(usize),
    Long {
        /// The group prefix and the header.
        head: Bytes,
        payload: Bytes,
    },
}

impl Outgoing {
    fn len(&self) -> usize {
        match &self.content {
            Content::Short(length) => *length,
            Content::Long { head, payload } => head.len() + payload.len(),
        }
    }
}

/// The contents of a frame.
struct Plan {
    /// The length taken from each message, beginning with the first.
    lengths: Vec<usize>,
    /// Whether the last message continues in the next frame.
    cut: bool,
    /// The guarantee of the messages that end in this frame, which carries it. A frame in which no
    /// message ends has no guarantee.
    guarantee: Guarantee,
}

impl Lane {
    /// Below this size, the rest of a frame is not worth a fragment. The value is small because
    /// frames of equal length can be sent with a single call.
    const SMALLEST_FRAGMENT: usize = 64;
    /// The cost of a queued message in addition to its bytes.
    const OVERHEAD: usize = 64;

    pub(super) fn push(&mut self, head: Bytes, payload: Bytes, guarantee: Guarantee) {
        self.add(Outgoing { content: Content::Long { head, payload }, guarantee, continued: false });
    }

    /// Adds a message. `head` writes the bytes that precede the payload.
    pub(super) fn push_short(
        &mut self,
        payload: &[u8],
        guarantee: Guarantee,
        head: impl FnOnce(&mut Vec<u8>),
    ) {
        head(&mut self.head);
        let length = self.head.len() + payload.len();
        self.short.extend(&self.head);
        self.short.extend(payload);
        self.head.clear();
        self.add(Outgoing { content: Content::Short(length), guarantee, continued: false });
    }

    /// Returns `true` if only part of the first message has been sent on the ring.
    pub(super) fn is_begun(&self) -> bool {
        self.fragment != 0
    }

    /// Adds a part of a message. The caller adds the other parts next, and the last one by
    /// [`Lane::push`].
    pub(super) fn push_part(&mut self, head: Bytes, payload: Bytes, guarantee: Guarantee) {
        self.add(Outgoing { content: Content::Long { head, payload }, guarantee, continued: true });
    }

    fn add(&mut self, message: Outgoing) {
        self.bytes += message.len() + Self::OVERHEAD;
        self.messages.push_back(message);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Returns the number of bytes queued, including overhead.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the approximate number of frames that the queue would fill.
    pub(super) fn frames(&self, capacity: usize) -> u32 {
        u32::try_from((self.bytes - self.started.min(self.bytes)).div_ceil(capacity.max(1)))
            .unwrap_or(u32::MAX)
    }

    /// Starts over with the message that the end of the last ring cut.
    pub(super) fn start_over(&mut self) {
        self.cut |= self.fragment != 0;
        self.rewind();
        while let Some(part) = self.sent.pop() {
            self.bytes += part.len() + Self::OVERHEAD;
            self.messages.push_front(part);
        }
    }

    /// Discards all messages, for a new ring on which they are not to be sent.
    pub(super) fn clear(&mut self) {
        *self = Self { cut: self.cut || self.fragment != 0, ..Self::default() };
    }

    fn rewind(&mut self) {
        self.started = 0;
        self.fragment = 0;
    }

    /// Returns a frame that ends the message that receivers have begun to assemble.
    ///
    /// corosync members expect the next frame to continue where the last one ended. They would
    /// discard a first frame that does not, with all its messages. The start of a long message
    /// would be kept, and its second start appended, until the message is too long and they abort.
    /// A frame that neither continues a message nor is continued empties their buffer. This one
    /// contains a message to no group.
    fn ending() -> Draft {
        let nobody = packing::to_nobody();
        let mut draft = Draft::packet(0, 0, &[nobody.len()], Guarantee::Agreed);
        draft.push(&nobody);
        draft
    }

    /// Returns the next frame, whose payload has at most `capacity` bytes.
    pub(super) fn next_frame(&mut self, capacity: usize) -> Option<Draft> {
        if self.cut && !self.messages.is_empty() {
            self.cut = false;
            return Some(Self::ending());
        }
        let Plan { lengths, cut, guarantee } = self.plan(capacity)?;
        let fragmented = match cut {
            true if lengths.len() == 1 => self.fragment.checked_add(1).unwrap_or(1),
            true => 1,
            false => bug!(FragmentEndMissing: self.fragment; 0),
        };
        let mut draft = Draft::packet(fragmented, self.fragment, &lengths, guarantee);
        let whole = lengths.len() - usize::from(cut);
        for (n, length) in lengths.into_iter().enumerate() {
            self.copy(length, &mut draft);
            if n < whole {
                self.finish();
            } else {
                self.started = bug!(FragmentOffsetForgotten: length; self.started + length);
                self.fragment = fragmented;
            }
        }
        Some(draft)
    }

    /// Plans the next frame. All messages that end in it have the same guarantee.
    fn plan(&self, capacity: usize) -> Option<Plan> {
        let mut room = capacity.saturating_sub(Packet::HEADER);
        let (mut lengths, mut cut, mut guarantee) = (Vec::new(), false, None);
        let (mut started, mut continued) = (self.started, false);
        for message in &self.messages {
            if continued && message.continued {
                // Here, the messages of the other lane have their turn. Without such gaps, they
                // would wait for all parts of a long message.
                break;
            }
            let rest = message.len() - mem::take(&mut started);
            let fits = rest + 2 <= room;
            if !fits && !lengths.is_empty() && room < Self::SMALLEST_FRAGMENT {
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
            lengths.push(length);
            if !fits {
                cut = true;
                break;
            }
            guarantee = Some(message.guarantee);
            continued = message.continued;
        }
        let guarantee = guarantee.unwrap_or(Guarantee::Agreed);
        (!lengths.is_empty()).then_some(Plan { lengths, cut, guarantee })
    }

    /// Copies `length` bytes of the first message, from the point where it continues.
    fn copy(&self, length: usize, into: &mut Draft) {
        let (one, other) = match self.messages.front().map(|message| &message.content) {
            Some(Content::Short(_)) => self.short.as_slices(),
            Some(Content::Long { head, payload }) => (&head[..], &payload[..]),
            None => return,
        };
        let (start, end) = (self.started, self.started + length);
        let split = one.len();
        into.push(&one[start.min(split)..end.min(split)]);
        into.push(&other[start.max(split) - split..end.max(split) - split]);
    }

    /// Removes the first message, which has been sent on the ring.
    fn finish(&mut self) {
        let Some(message) = self.messages.pop_front() else { return };
        self.bytes -= message.len() + Self::OVERHEAD;
        if let Content::Short(length) = message.content {
            self.short.drain(..length);
        }
        if message.continued {
            self.sent.push(message);
        } else {
            self.sent.clear();
        }
        self.rewind();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(messages: &[(usize, Guarantee)]) -> Lane {
        lane_of(messages, |n| n % 2 == 1)
    }

    fn lane_of(messages: &[(usize, Guarantee)], is_short: impl Fn(usize) -> bool) -> Lane {
        let mut lane = Lane::default();
        for (n, &(length, guarantee)) in messages.iter().enumerate() {
            let payload = vec![n as u8; length];
            if is_short(n) {
                lane.push_short(&payload, guarantee, |head| head.extend(b"head"));
            } else {
                lane.push(Bytes::from_static(b"head"), payload.into(), guarantee);
            }
        }
        lane
    }

    fn next(lane: &mut Lane, capacity: usize) -> Option<(Packet, Guarantee)> {
        let (payload, guarantee) = lane.next_frame(capacity)?.payload();
        assert!(payload.len() <= capacity);
        Some((Packet::decode(&payload).unwrap(), guarantee))
    }

    fn shape(packet: &Packet) -> (u8, Vec<usize>, u8) {
        (packet.continuation, packet.pieces.iter().map(Bytes::len).collect(), packet.fragmented)
    }

    #[test]
    fn small_messages_share_a_frame() {
        let mut lane = lane(&[(6, Guarantee::Agreed); 3]);
        let (packet, guarantee) = next(&mut lane, 1410).unwrap();
        assert_eq!((shape(&packet), guarantee), ((0, vec![10, 10, 10], 0), Guarantee::Agreed));
        assert!(next(&mut lane, 1410).is_none());
        assert_eq!(lane.bytes(), 0);
    }

    #[test]
    fn a_long_message_is_fragmented_and_shares_its_last_frame() {
        let mut lane = lane(&[(2996, Guarantee::Agreed), (6, Guarantee::Agreed)]);
        let shapes: Vec<_> =
            std::iter::from_fn(|| next(&mut lane, 1410)).map(|(packet, _)| shape(&packet)).collect();
        assert_eq!(shapes, [(0, vec![1400], 1), (1, vec![1400], 2), (2, vec![200, 10], 0)]);
    }

    #[test]
    fn a_frame_has_the_guarantee_of_the_messages_that_end_in_it() {
        let mut lane = lane(&[
            (6, Guarantee::Safe),
            (6, Guarantee::Agreed),
            (2000, Guarantee::Safe),
            (6, Guarantee::Safe),
        ]);
        let frames: Vec<_> = std::iter::from_fn(|| next(&mut lane, 1410))
            .map(|(packet, guarantee)| (packet.pieces.len(), guarantee))
            .collect();
        // The safe message that begins in the second frame ends in the third.
        assert_eq!(frames, [(1, Guarantee::Safe), (2, Guarantee::Agreed), (2, Guarantee::Safe)]);
    }

    #[test]
    fn a_message_cut_by_a_ring_change_starts_over() {
        for short in [false, true] {
            let messages = [(6, Guarantee::Agreed), (2000, Guarantee::Agreed), (6, Guarantee::Agreed)];
            let mut lane = lane_of(&messages, |_| short);
            let (packet, _) = next(&mut lane, 1410).unwrap();
            assert_eq!(shape(&packet), (0, vec![10, 1388], 1));
            lane.start_over();
            let (packet, _) = next(&mut lane, 1410).unwrap();
            assert_eq!(shape(&packet), (0, vec![18], 0), "first the end of the first attempt");
            let rest: Vec<Packet> =
                std::iter::from_fn(|| next(&mut lane, 1410)).map(|(packet, _)| packet).collect();
            let shapes: Vec<_> = rest.iter().map(shape).collect();
            assert_eq!(shapes, [(0, vec![1400], 1), (1, vec![604, 10], 0)]);
            let bytes = rest.iter().flat_map(|packet| &packet.pieces).flatten().copied();
            let expect = [&b"head"[..], &[1; 2000], b"head", &[2; 6]].concat();
            assert_eq!(bytes.collect::<Vec<_>>(), expect);
            assert_eq!((lane.bytes(), lane.short.len()), (0, 0));
        }
    }

    /// Adds a message in parts, each of which begins with `head`.
    fn push_parts(lane: &mut Lane, parts: &[&'static [u8]]) {
        for (n, part) in parts.iter().enumerate() {
            let push = if n + 1 < parts.len() { Lane::push_part } else { Lane::push };
            push(lane, Bytes::from_static(b"head"), Bytes::from_static(part), Guarantee::Safe);
        }
    }

    fn all(lane: &mut Lane) -> Vec<Bytes> {
        std::iter::from_fn(|| next(lane, 30)).flat_map(|(packet, _)| packet.pieces).collect()
    }

    #[test]
    fn all_parts_are_sent_again_until_the_last_was_sent() {
        let whole = [&b"headfirst part"[..], b"headsecond part", b"headthird part"];
        for sent in 0..whole.len() {
            let mut lane = Lane::default();
            push_parts(&mut lane, &[b"first part", b"second part", b"third part"]);
            let bytes = lane.bytes();
            for piece in &whole[..sent] {
                assert_eq!(next(&mut lane, 30).unwrap().0.pieces, [piece]);
            }
            lane.start_over();
            assert_eq!(lane.bytes(), bytes, "after {sent} parts");
            assert_eq!(all(&mut lane), whole, "after {sent} parts");
            lane.start_over();
            assert!(lane.is_empty(), "all of it is on the ring");
            assert_eq!(lane.bytes(), 0);
        }
    }

    #[test]
    fn a_part_that_others_follow_begins_a_frame() {
        let mut lane = Lane::default();
        push_parts(&mut lane, &[b"1", b"2", b"3", b"4"]);
        let (mut pieces, mut gaps) = (Vec::new(), 0);
        while let Some((packet, _)) = next(&mut lane, 1410) {
            pieces.push(packet.pieces.len());
            gaps += usize::from(!lane.is_begun() && !lane.is_empty());
        }
        assert_eq!((pieces, gaps), (vec![1, 1, 2], 2));
    }

    /// The behaviour of corosync 3.1 on receiving a member's frames.
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
    fn corosync_delivers_a_message_that_was_cut_and_starts_over() {
        let mut lane = lane(&[(1 << 20, Guarantee::Agreed), (6, Guarantee::Agreed)]);
        let mut corosync = Corosync::default();
        for _ in 0..500 {
            corosync.receive(&next(&mut lane, 1410).unwrap().0);
        }
        lane.start_over();
        while let Some((packet, _)) = next(&mut lane, 1410) {
            corosync.receive(&packet);
        }
        assert_eq!(corosync.delivered, [(1 << 20) + 4, 10]);
    }

    #[test]
    fn corosync_delivers_a_part_that_was_cut_after_all_earlier_ones() {
        let part: &'static [u8] = vec![0; 5000].leak();
        let mut lane = Lane::default();
        push_parts(&mut lane, &[part, part, part]);
        let mut corosync = Corosync::default();
        for _ in 0..6 {
            corosync.receive(&next(&mut lane, 1410).unwrap().0);
        }
        assert_eq!(corosync.delivered, [5004]);
        lane.start_over();
        while let Some((packet, _)) = next(&mut lane, 1410) {
            corosync.receive(&packet);
        }
        assert_eq!(corosync.delivered, [5004; 4]);
    }

    #[test]
    fn a_cut_and_cleared_message_is_ended_before_the_next() {
        let mut lane = lane(&[(2000, Guarantee::Agreed)]);
        let mut corosync = Corosync::default();
        corosync.receive(&next(&mut lane, 1410).unwrap().0);
        lane.clear();
        assert!(next(&mut lane, 1410).is_none(), "nothing to say");
        lane.push(Bytes::from_static(b"head"), Bytes::from_static(b"barrier"), Guarantee::Agreed);
        while let Some((packet, _)) = next(&mut lane, 1410) {
            corosync.receive(&packet);
        }
        assert_eq!(corosync.delivered, [11]);
    }

    #[test]
    fn fragment_numbers_skip_zero_when_they_wrap() {
        let mut lane = lane(&[(1400 * 300, Guarantee::Agreed)]);
        let numbers: Vec<u8> =
            std::iter::from_fn(|| next(&mut lane, 1410)).map(|(packet, _)| packet.fragmented).collect();
        assert_eq!(numbers[254..257], [255, 1, 2]);
        assert_eq!(numbers.last(), Some(&0));
    }
}
