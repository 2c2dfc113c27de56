//! The packing layer ("totempg"): messages in frames, and the group prefix of each message.
//!
//! A frame's payload:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    2 | version: 0 |
//! |   2 |    2 | type: 0 |
//! |   4 |    1 | fragmented: 0, or the number of the last piece if the sender's next frame continues it |
//! |   5 |    1 | continuation: 0, or the number of the piece that the first one continues |
//! |   6 |    2 | number n of pieces, at least 1 |
//! |   8 |  2 n | their lengths |
//! |  .. |   .. | the pieces |
//!
//! A complete message, once its pieces are together:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    2 | number g of groups, at most 32 |
//! |   2 |  2 g | the lengths of their names |
//! |  .. |   .. | the names |
//! |  .. |   .. | the body ([`super::body`]) |

use bytes::Bytes;

use super::body::Body;
use super::order::{Order, Reader, Writer, capped};
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
        Self::decode_in(payload, Order::Little)
    }

    /// As [`Packet::decode`], in the byte order of the frame.
    ///
    /// # Errors
    /// As [`Packet::decode`].
    pub fn decode_in(payload: &Bytes, order: Order) -> Result<Self, Refusal> {
        let mut reader = Reader::new(payload, order);
        if (reader.u16()?, reader.u16()?) != (0, 0) {
            return Err(Refusal::Field);
        }
        let fragmented = reader.u8()?;
        let continuation = reader.u8()?;
        let count = usize::from(reader.u16()?);
        if count == 0 {
            return Err(Refusal::Packing);
        }
        let mut lengths = Reader::new(reader.bytes(count.saturating_mul(2))?, order);
        let piece = |reader: &mut Reader<'_>| {
            let length = usize::from(lengths.u16()?);
            reader.bytes(length).map(|piece| payload.slice_ref(piece)).map_err(|_| Refusal::Packing)
        };
        let pieces = reader.list(count, piece)?;
        reader.exactly(0).map_err(|_| Refusal::Packing)?;
        Ok(Self { fragmented, continuation, pieces })
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(self.length(), Order::Little);
        self.write(&mut writer);
        writer.finish()
    }

    fn written(&self) -> &[Bytes] {
        capped(&self.pieces, usize::from(u16::MAX))
    }

    /// How long it is, written.
    pub(super) fn length(&self) -> usize {
        let pieces = self.written().iter();
        pieces.fold(Self::HEADER, |length, piece| length.saturating_add(2).saturating_add(piece.len()))
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        let pieces = self.written();
        writer.u16(0);
        writer.u16(0);
        writer.u8(self.fragmented);
        writer.u8(self.continuation);
        writer.short_count(pieces.len());
        for piece in pieces {
            writer.short_count(piece.len());
        }
        for piece in pieces {
            writer.bytes(piece);
        }
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
    /// The most groups one message can be for.
    pub const MAX_GROUPS: usize = 32;

    /// Reads a complete message.
    ///
    /// # Errors
    /// If its group list is cut short or too long.
    pub fn decode(message: &Bytes) -> Result<Self, Refusal> {
        Self::decode_in(message, Order::Little)
    }

    /// As [`Addressed::decode`], in the byte order of the frame.
    ///
    /// # Errors
    /// As [`Addressed::decode`].
    pub fn decode_in(message: &Bytes, order: Order) -> Result<Self, Refusal> {
        let mut groups = Vec::new();
        let body = Self::read(message, order, |name| groups.push(message.slice_ref(name)))?;
        Ok(Self { groups, body })
    }

    /// Reads a complete message: hands over its groups, and returns its body.
    pub(crate) fn read<'a>(
        message: &'a Bytes,
        order: Order,
        mut group: impl FnMut(&'a [u8]),
    ) -> Result<Bytes, Refusal> {
        let mut reader = Reader::new(message, order);
        let count = usize::from(reader.u16()?);
        if count > Self::MAX_GROUPS {
            return Err(Refusal::TooMany);
        }
        let mut lengths = Reader::new(reader.bytes(count.saturating_mul(2))?, order);
        for _ in 0..count {
            let length = usize::from(lengths.u16()?);
            group(reader.bytes(length)?);
        }
        Ok(reader.rest_of(message))
    }

    /// Writes it, body included.
    pub fn encode(&self) -> Bytes {
        let groups: Vec<&[u8]> = capped(&self.groups, Self::MAX_GROUPS).iter().map(AsRef::as_ref).collect();
        write(&groups, &[&self.body])
    }
}

/// A body addressed to one group, of which these are the parts.
pub(crate) fn addressed(group: &[u8], body: &[&[u8]]) -> Bytes {
    write(&[group], body)
}

/// The bytes that go before a body addressed to one group.
pub fn prefix(group: &[u8]) -> Bytes {
    write(&[group], &[])
}

/// A whole message to no group: every member takes it for what does not concern it. It has a body all the same, so that
/// who reads along does not take it for a message that was cut.
pub fn to_nobody() -> Bytes {
    write(&[], &[&Body::Quorate(Bytes::new()).encode()])
}

fn write(groups: &[&[u8]], body: &[&[u8]]) -> Bytes {
    let length = body.iter().fold(2_usize, |length, part| length.saturating_add(part.len()));
    let length =
        groups.iter().fold(length, |length, group| length.saturating_add(2).saturating_add(group.len()));
    let mut writer = Writer::new(length, Order::Little);
    writer.short_count(groups.len());
    for group in groups {
        writer.short_count(group.len());
    }
    for group in groups {
        writer.bytes(group);
    }
    for part in body {
        writer.bytes(part);
    }
    writer.finish()
}
