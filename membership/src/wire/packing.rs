//! The packing layer ("totempg"): messages in frames, and the group prefix of each message.

use bytes::Bytes;

use crate::Refusal;

/// A frame's payload: pieces of messages, the first perhaps the rest of an earlier one, the last perhaps incomplete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// 0, or the number under which the last piece is continued in this sender's next frame.
    pub fragmented: u8,
    /// 0, or the number of the piece that the first piece continues.
    pub continuation: u8,
    /// The pieces, at least one.
    pub pieces: Vec<Bytes>,
}

impl Packet {
    /// Bytes of a packet without its pieces and their lengths.
    pub const HEADER: usize = 8;

    /// Reads a frame's payload.
    ///
    /// # Errors
    /// If it is not exactly as long as its counts say.
    pub fn decode(payload: &Bytes) -> Result<Self, Refusal> {
        let _ = payload;
        unimplemented!()
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        unimplemented!()
    }
}

/// A complete message's groups and body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addressed {
    /// The totempg groups it is for, at most 32.
    pub groups: Vec<Bytes>,
    /// The message itself.
    pub body: Bytes,
}

impl Addressed {
    /// Reads a complete message.
    ///
    /// # Errors
    /// If its group list is cut short or too long.
    pub fn decode(message: &Bytes) -> Result<Self, Refusal> {
        let _ = message;
        unimplemented!()
    }
}

/// The bytes that go before a body addressed to one group.
pub fn prefix(group: &[u8]) -> Bytes {
    let _ = group;
    unimplemented!()
}
