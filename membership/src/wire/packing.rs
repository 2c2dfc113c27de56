//! The packing layer ("totempg"): messages in frames, and the group prefix of each message.
//!
//! A frame's payload:
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |    2 | version: 0 |
//! |   2 |    2 | type: 0 |
//! |   4 |    1 | fragmented: 0, or the number of the last piece if the next frame continues it |
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

use bytes::{Buf, Bytes};

use super::body::Body;
use super::order::{Order, Reader, Writer, capped};
use crate::Refusal;

/// A frame's payload: pieces of messages. The first may be the rest of an earlier message, and the
/// last may be incomplete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The number under which the last piece is continued in this sender's next frame, or 0.
    pub fragmented: u8,
    /// The number of the piece that the first piece continues, or 0.
    pub continuation: u8,
    /// The pieces, at least one.
    pub pieces: Vec<Bytes>,
}

impl Packet {
    /// The length of a packet without its pieces and their lengths.
    pub const HEADER: usize = 8;

    /// Reads a frame's payload.
    ///
    /// # Errors
    /// If the payload does not have exactly the length given by its counts.
    pub fn decode(payload: &Bytes) -> Result<Self, Refusal> {
        Self::decode_in(payload, Order::Little)
    }

    /// Reads a frame's payload in the byte order of the frame.
    ///
    /// # Errors
    /// As [`Packet::decode`].
    pub fn decode_in(payload: &Bytes, order: Order) -> Result<Self, Refusal> {
        let pieces = Pieces::read(payload.clone(), order)?;
        let (fragmented, continuation) = (pieces.fragmented, pieces.continuation);
        Ok(Self { fragmented, continuation, pieces: pieces.collect() })
    }

    /// Writes the packet.
    pub fn encode(&self) -> Bytes {
        let pieces = capped(&self.pieces, usize::from(u16::MAX));
        let lengths: Vec<usize> = pieces.iter().map(Bytes::len).collect();
        let mut writer = Writer::new(length(&lengths), Order::Little);
        write_head(&mut writer, self.fragmented, self.continuation, &lengths);
        for piece in pieces {
            writer.bytes(piece);
        }
        writer.finish()
    }
}

/// A packet that is read piece by piece. Lengths were checked by `read`.
pub(crate) struct Pieces {
    /// See [`Packet::fragmented`].
    pub(crate) fragmented: u8,
    /// See [`Packet::continuation`].
    pub(crate) continuation: u8,
    /// The byte order of the frame.
    pub(crate) order: Order,
    lengths: Bytes,
    pieces: Bytes,
}

impl Pieces {
    /// Reads a frame's payload as [`Packet::decode_in`] does.
    pub(crate) fn read(mut payload: Bytes, order: Order) -> Result<Self, Refusal> {
        let mut reader = Reader::new(&payload, order);
        if (reader.u16()?, reader.u16()?) != (0, 0) {
            return Err(Refusal::Field);
        }
        let fragmented = reader.u8()?;
        let continuation = reader.u8()?;
        let count = usize::from(reader.u16()?);
        if count == 0 {
            return Err(Refusal::Packing);
        }
        let table = count.saturating_mul(2);
        let mut lengths = Reader::new(reader.bytes(table)?, order);
        let mut left = reader.rest().len();
        for _ in 0..count {
            left = left.checked_sub(lengths.u16()?.into()).ok_or(Refusal::Packing)?;
        }
        if left > 0 {
            return Err(Refusal::Packing);
        }
        payload.advance(Packet::HEADER);
        Ok(Self { fragmented, continuation, order, lengths: payload.split_to(table), pieces: payload })
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let length = Reader::new(&self.lengths, self.order).u16().ok()?;
        self.lengths.advance(2);
        Some(self.pieces.split_to(length.into()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.lengths.len().div_euclid(2);
        (count, Some(count))
    }
}

impl ExactSizeIterator for Pieces {}

/// Returns the length of a packet with pieces of these lengths.
pub(super) fn length(pieces: &[usize]) -> usize {
    pieces.iter().fold(Packet::HEADER, |length, piece| length.saturating_add(2).saturating_add(*piece))
}

/// Writes the part of a packet before its pieces, which have these lengths.
pub(super) fn write_head(writer: &mut Writer, fragmented: u8, continuation: u8, lengths: &[usize]) {
    writer.u16(0);
    writer.u16(0);
    writer.u8(fragmented);
    writer.u8(continuation);
    writer.short_count(lengths.len());
    for length in lengths {
        writer.short_count(*length);
    }
}

/// The groups and the body of a complete message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addressed {
    /// The totempg groups that the message is for, at most 32.
    pub groups: Vec<Bytes>,
    /// The message itself.
    pub body: Bytes,
}

impl Addressed {
    /// The most groups of a message.
    pub const MAX_GROUPS: usize = 32;

    /// Reads a complete message.
    ///
    /// # Errors
    /// If its group list is cut short or too long.
    pub fn decode(message: &Bytes) -> Result<Self, Refusal> {
        Self::decode_in(message, Order::Little)
    }

    /// Reads a complete message in the byte order of the frame.
    ///
    /// # Errors
    /// As [`Addressed::decode`].
    pub fn decode_in(message: &Bytes, order: Order) -> Result<Self, Refusal> {
        let mut groups = Vec::new();
        let body = Self::read(message.clone(), order, |name| groups.push(message.slice_ref(name)))?;
        Ok(Self { groups, body })
    }

    /// Reads a complete message. Passes its groups to `group`, and returns its body.
    pub(crate) fn read(
        mut message: Bytes,
        order: Order,
        mut group: impl FnMut(&[u8]),
    ) -> Result<Bytes, Refusal> {
        let mut reader = Reader::new(&message, order);
        let count = usize::from(reader.u16()?);
        if count > Self::MAX_GROUPS {
            return Err(Refusal::TooMany);
        }
        let mut lengths = Reader::new(reader.bytes(count.saturating_mul(2))?, order);
        for _ in 0..count {
            let length = usize::from(lengths.u16()?);
            group(reader.bytes(length)?);
        }
        let before = message.len().saturating_sub(reader.rest().len());
        message.advance(before);
        Ok(message)
    }

    /// Writes the message, body included.
    pub fn encode(&self) -> Bytes {
        let groups: Vec<&[u8]> = capped(&self.groups, Self::MAX_GROUPS).iter().map(AsRef::as_ref).collect();
        write(&groups, &self.body)
    }
}

/// Returns the bytes before a body addressed to one group.
pub fn prefix(group: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(group.len().saturating_add(4));
    write_prefix(&mut bytes, group);
    bytes.into()
}

/// Appends the [`prefix`] to these bytes.
pub(crate) fn write_prefix(bytes: &mut Vec<u8>, group: &[u8]) {
    let mut writer = Writer::behind(std::mem::take(bytes), Order::Little);
    write_groups(&mut writer, &[group]);
    *bytes = writer.into_vec();
}

/// Returns the length of the message that begins with these bytes, if they contain it. The length
/// is not verified.
pub(crate) fn whole_length(beginning: &[u8], order: Order) -> Option<usize> {
    let mut reader = Reader::new(beginning, order);
    let count = usize::from(reader.u16().ok()?);
    let mut lengths = Reader::new(reader.bytes(count.saturating_mul(2)).ok()?, order);
    for _ in 0..count {
        reader.bytes(lengths.u16().ok()?.into()).ok()?;
    }
    let before = beginning.len().saturating_sub(reader.rest().len());
    Body::length(reader.rest(), order).map(|body| before.saturating_add(body))
}

/// Returns a whole message to no group, which every member ignores. It has a body, so that a packet
/// analyser does not take it for a truncated message.
pub fn to_nobody() -> Bytes {
    write(&[], &Body::Quorate(Bytes::new()).encode())
}

fn write(groups: &[&[u8]], body: &[u8]) -> Bytes {
    let length = body.len().saturating_add(2);
    let length =
        groups.iter().fold(length, |length, group| length.saturating_add(2).saturating_add(group.len()));
    let mut writer = Writer::new(length, Order::Little);
    write_groups(&mut writer, groups);
    writer.bytes(body);
    writer.finish()
}

fn write_groups(writer: &mut Writer, groups: &[&[u8]]) {
    writer.short_count(groups.len());
    for group in groups {
        writer.short_count(group.len());
    }
    for group in groups {
        writer.bytes(group);
    }
}
