//! An ordered frame (corosync: "MCAST"), multicast, 45 bytes and the payload.
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |   13 | header, type 1; encapsulated: 1 old frame, 2 packet; node: the originator |
//! |  13 |    4 | system_from: the originator again |
//! |  17 |    4 | seq |
//! |  21 |    4 | this_seqno |
//! |  25 |   12 | ring id |
//! |  37 |    4 | node_id: always 0 |
//! |  41 |    4 | guarantee: 0 agreed, 1 safe |
//! |  45 |   .. | a packet ([`super::packing`]), or a whole frame of an old ring |
//!
//! In a frame that carries an old frame, a guarantee of 1 means that the messages of the old
//! frame's originator must be delivered even behind a hole. This is ours, and corosync ignores it.

use bytes::Bytes;

use super::order::{Order, Reader, Writer};
use super::{Header, Message, kind, packing};
use crate::{Guarantee, NodeId, Refusal, RingId, Seq};

const OLD_FRAME: u8 = 1;
const PACKET: u8 = 2;

/// An ordered frame: a packet of messages or, while a ring is recovered, a whole frame of the old
/// ring.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Multicast {
    /// The originator, also in a retransmission.
    pub from: NodeId,
    /// The frame's number on the ring.
    pub seq: Seq,
    /// The number of frames that the originator sent before this one since its start.
    /// Informational.
    pub this_seqno: u32,
    /// The ring.
    pub ring: RingId,
    /// The guarantee of the messages that end in the frame.
    pub guarantee: Guarantee,
    /// Whether `payload` is a frame of an old ring.
    pub encapsulated: bool,
    /// The packet or the old frame.
    pub payload: Bytes,
    /// The whole datagram as it was received or sent. A retransmission sends exactly these bytes.
    pub raw: Bytes,
}

impl Multicast {
    /// Length of the header before the payload.
    pub const HEADER: usize = 45;

    /// Returns the frame of an old ring that this frame carries. Its bytes are those of this
    /// frame's payload.
    ///
    /// # Errors
    /// [`Refusal::Field`] if this frame is not encapsulated, or if the inner one is, too, because
    /// frames nest only once. [`Refusal::Type`] if the payload is not a frame. Otherwise as
    /// [`super::decode`].
    pub fn inner(&self) -> Result<Self, Refusal> {
        if !self.encapsulated {
            return Err(Refusal::Field);
        }
        match super::decode(&self.payload)? {
            Message::Multicast(inner) if !inner.encapsulated => Ok(inner),
            Message::Multicast(_) => Err(Refusal::Field),
            _ => Err(Refusal::Type),
        }
    }

    /// Returns the byte order of the originator, which also applies to the packet and the messages
    /// in it.
    pub fn order(&self) -> Order {
        super::order_of(&self.raw).unwrap_or(Order::Little)
    }

    pub(super) fn read(header: Header, mut body: Reader<'_>, datagram: &Bytes) -> Result<Self, Refusal> {
        let encapsulated = match header.encapsulated {
            OLD_FRAME => true,
            PACKET => false,
            _ => return Err(Refusal::Field),
        };
        let from = header.node()?;
        header.same_node(body.u32()?)?;
        let seq = body.seq()?;
        let this_seqno = body.u32()?;
        let ring = body.ring()?;
        if body.u32()? != 0 {
            return Err(Refusal::Field);
        }
        let guarantee = if body.flag()? { Guarantee::Safe } else { Guarantee::Agreed };
        let payload = body.rest_of(datagram);
        Ok(Self { from, seq, this_seqno, ring, guarantee, encapsulated, payload, raw: datagram.clone() })
    }

    pub(super) fn write(&self, order: Order) -> Bytes {
        let mut writer = Writer::new(self.payload.len().saturating_add(Self::HEADER), order);
        self.write_header(&mut writer);
        writer.bytes(&self.payload);
        writer.finish()
    }

    fn write_header(&self, writer: &mut Writer) {
        Header {
            kind: kind::MULTICAST,
            encapsulated: if self.encapsulated { OLD_FRAME } else { PACKET },
            node: self.from.get(),
        }
        .write(writer);
        writer.node(self.from);
        writer.seq(self.seq);
        writer.u32(self.this_seqno);
        writer.ring(self.ring);
        writer.u32(0);
        writer.u32(u32::from(self.guarantee == Guarantee::Safe));
    }
}

/// A new frame without a number. Its payload follows space for the header, so that it is written
/// only once.
pub(crate) struct Draft {
    bytes: Vec<u8>,
    encapsulated: bool,
    guarantee: Guarantee,
}

impl Draft {
    /// Creates a packet with pieces of these lengths, which are then [pushed](Draft::push).
    pub(crate) fn packet(fragmented: u8, continuation: u8, lengths: &[usize], guarantee: Guarantee) -> Self {
        let length = packing::length(lengths).saturating_add(Multicast::HEADER);
        let mut writer = Writer::new(length, Order::Little);
        writer.zeros(Multicast::HEADER);
        packing::write_head(&mut writer, fragmented, continuation, lengths);
        Self { bytes: writer.into_vec(), encapsulated: false, guarantee }
    }

    /// Creates a frame that carries a whole frame of an old ring.
    pub(crate) fn around(frame: &[u8], guarantee: Guarantee) -> Self {
        let mut bytes = Vec::with_capacity(frame.len().saturating_add(Multicast::HEADER));
        bytes.resize(Multicast::HEADER, 0);
        bytes.extend_from_slice(frame);
        Self { bytes, encapsulated: true, guarantee }
    }

    /// Appends bytes of the next piece.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns `true` if all members must have the frame before it is delivered.
    pub(crate) fn is_safe(&self) -> bool {
        self.guarantee == Guarantee::Safe
    }

    /// Completes the frame with its number.
    pub(crate) fn numbered(self, from: NodeId, seq: Seq, this_seqno: u32, ring: RingId) -> Multicast {
        let Self { mut bytes, encapsulated, guarantee } = self;
        let (payload, raw) = (Bytes::new(), Bytes::new());
        let frame = Multicast { from, seq, this_seqno, ring, guarantee, encapsulated, payload, raw };
        let mut header = Writer::new(Multicast::HEADER, Order::Little);
        frame.write_header(&mut header);
        for (room, byte) in bytes.iter_mut().zip(header.into_vec()) {
            *room = byte;
        }
        let raw = Bytes::from(bytes);
        Multicast { payload: raw.slice(Multicast::HEADER..), raw, ..frame }
    }

    /// Returns the payload and the guarantee.
    #[cfg(test)]
    pub(crate) fn payload(&self) -> (Bytes, Guarantee) {
        (Bytes::from(self.bytes.clone()).slice(Multicast::HEADER..), self.guarantee)
    }
}
