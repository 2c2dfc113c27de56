//! Reassembles messages from frames, as far as the capture has them.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_membership::wire::Multicast;
use quorate_membership::wire::packing::Packet;
use quorate_membership::{NodeId, RingId};

/// The number of frames remembered to recognize repeated ones, which is four windows.
const MAX_SEEN: usize = 65_536;
/// The number of senders that may be in the middle of a message. Beyond it, the oldest is dropped.
const MAX_BEGUN: usize = 64;
/// The longest message that a member accepts.
const MAX_MESSAGE: usize = 1024 * 1024 + 64 * 1024;

/// A piece of a frame, as a part of its message.
pub(crate) enum Piece {
    /// The message is complete.
    Whole(Bytes),
    /// The message continues in the sender's next frame.
    Continued,
    /// The message is longer than any member accepts.
    TooLong,
    /// The message began before the capture did, or in a frame that is not in it.
    Headless,
}

/// Returns the pieces of a frame, judged without any other frame.
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

/// The messages that earlier frames left unfinished.
///
/// A member between two rings may have sent the beginning of a message on the old ring, while it
/// already sends other messages on the new one. So beginnings are stored by sender and ring, and a
/// continuation is looked up on its own ring first.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    begun: VecDeque<Begun>,
    seen: BTreeSet<(RingId, u32)>,
    seen_in_order: VecDeque<(RingId, u32)>,
}

#[derive(Debug)]
struct Begun {
    from: NodeId,
    ring: RingId,
    fragment: u8,
    bytes: Vec<u8>,
}

impl Assembly {
    /// Returns `true` if this frame is seen for the first time.
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

    /// Returns the pieces of a new frame, in order.
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

    /// Removes and returns the message that the frame's sender has begun under this number. Any
    /// other message that it had begun on this ring is lost.
    fn take(&mut self, frame: &Multicast, fragment: u8) -> Option<Vec<u8>> {
        let sender = |begun: &Begun| begun.from == frame.from;
        let here = self.begun.iter().position(|begun| sender(begun) && begun.ring == frame.ring);
        if let Some(begun) = here.and_then(|at| self.begun.remove(at))
            && begun.fragment == fragment
        {
            return Some(begun.bytes);
        }
        // The latest one counts, because an earlier life of the sender may have ended in the middle
        // of a message.
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
    fn a_message_continues_from_the_senders_latest_life() {
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
