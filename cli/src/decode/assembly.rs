//! Messages out of frames, as far as the capture has them.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_membership::wire::Multicast;
use quorate_membership::wire::packing::Packet;
use quorate_membership::{NodeId, RingId};

/// How many frames are remembered, to tell those sent again: four windows.
const MAX_SEEN: usize = 65_536;
/// How many senders may be in the middle of a message; beyond, the oldest is given up.
const MAX_BEGUN: usize = 64;
/// No member accepts a longer message.
const MAX_MESSAGE: usize = 1024 * 1024 + 64 * 1024;

/// A piece of a frame, seen as part of its message.
pub(crate) enum Piece {
    /// The message is complete.
    Whole(Bytes),
    /// The message goes on in the sender's next frame.
    Continued,
    /// The message is longer than any member accepts.
    TooLong,
    /// The message began before the capture did, or in a frame that it does not have.
    Headless,
}

/// The pieces of a frame, as far as they can be told without any other frame.
pub(crate) fn pieces_alone(packet: &Packet) -> Vec<Piece> {
    let last = packet.pieces.len().saturating_sub(1);
    let piece = |(i, piece): (usize, &Bytes)| {
        if i == 0 && packet.continuation != 0 {
            Piece::Headless
        } else if i == last && packet.fragmented != 0 {
            Piece::Continued
        } else {
            Piece::Whole(piece.clone())
        }
    };
    packet.pieces.iter().enumerate().map(piece).collect()
}

/// What earlier frames have left unfinished.
///
/// A member that is between two rings may have the beginning of a message from the old ring waiting while it already
/// sends others on the new one. So what is begun is kept by sender and ring, and a continuation looks on its own ring first.
#[derive(Default)]
pub(crate) struct Assembly {
    begun: VecDeque<Begun>,
    seen: BTreeSet<(RingId, u32)>,
    seen_in_order: VecDeque<(RingId, u32)>,
}

struct Begun {
    from: NodeId,
    ring: RingId,
    fragment: u8,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Whether this frame is seen for the first time.
    pub(crate) fn is_new(&mut self, frame: &Multicast) -> bool {
        let key = (frame.ring, frame.seq.get());
        if !self.seen.insert(key) {
            return false;
        }
        self.seen_in_order.push_back(key);
        if self.seen_in_order.len() > MAX_SEEN
            && let Some(oldest) = self.seen_in_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }

    /// The pieces of a new frame, in order.
    pub(crate) fn pieces(&mut self, frame: &Multicast, packet: &Packet) -> Vec<Piece> {
        let mut begun = self.take(frame, packet.continuation);
        let count = packet.pieces.len();
        let mut pieces = Vec::with_capacity(count);
        for (i, piece) in packet.pieces.iter().enumerate() {
            let mut bytes = match begun.take() {
                Some(bytes) => bytes,
                None if i == 0 && packet.continuation != 0 => {
                    pieces.push(Piece::Headless);
                    continue;
                }
                None => Vec::new(),
            };
            bytes.extend_from_slice(piece);
            pieces.push(if i + 1 < count || packet.fragmented == 0 {
                Piece::Whole(bytes.into())
            } else if bytes.len() > MAX_MESSAGE {
                Piece::TooLong
            } else {
                self.put(frame, packet.fragmented, bytes);
                Piece::Continued
            });
        }
        pieces
    }

    /// What the frame's sender has begun under this number. What else it had begun on this ring is lost.
    fn take(&mut self, frame: &Multicast, fragment: u8) -> Option<Vec<u8>> {
        let sender = |begun: &Begun| begun.from == frame.from;
        let here = self.begun.iter().position(|begun| sender(begun) && begun.ring == frame.ring);
        if let Some(begun) = here.and_then(|at| self.begun.remove(at))
            && begun.fragment == fragment
        {
            return Some(begun.bytes);
        }
        // The latest: an earlier life of the sender may have ended in the middle of a message.
        let before = self
            .begun
            .iter()
            .rposition(|begun| sender(begun) && begun.fragment == fragment && fragment != 0)?;
        self.begun.remove(before).map(|begun| begun.bytes)
    }

    fn put(&mut self, frame: &Multicast, fragment: u8, bytes: Vec<u8>) {
        self.begun.push_back(Begun { from: frame.from, ring: frame.ring, fragment, bytes });
        if self.begun.len() > MAX_BEGUN {
            self.begun.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::{Guarantee, Seq};

    use super::*;

    #[test]
    fn a_message_goes_on_where_its_sender_left_off_in_its_latest_life() {
        let mut assembly = Assembly::default();
        let mut pieces = |ring_seq: u64, continuation: u8, fragmented: u8, piece: &'static [u8]| {
            let from = NodeId::new(2).unwrap();
            let frame = Multicast {
                from,
                seq: Seq::new(1),
                this_seqno: 0,
                ring: RingId { seq: ring_seq, representative: from },
                guarantee: Guarantee::Agreed,
                encapsulated: false,
                payload: Bytes::new(),
                raw: Bytes::new(),
            };
            let packet = Packet { fragmented, continuation, pieces: vec![Bytes::from_static(piece)] };
            assembly.pieces(&frame, &packet).pop().unwrap()
        };
        assert!(matches!(pieces(4, 0, 1, b"killed "), Piece::Continued));
        assert!(matches!(pieces(8, 0, 1, b"first, "), Piece::Continued));
        let Piece::Whole(message) = pieces(12, 1, 0, b"then the rest") else { panic!("all of it is there") };
        assert_eq!(message, "first, then the rest");
    }
}
