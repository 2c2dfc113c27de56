//! An ordered frame (corosync: "MCAST"), multicast, 45 bytes and what it carries.
//!
//! | off | size | field |
//! |----:|-----:|-------|
//! |   0 |   13 | header, type 1; encapsulated: 1 a frame of an old ring, 2 a packet; node: the originator |
//! |  13 |    4 | system_from: the originator again |
//! |  17 |    4 | seq |
//! |  21 |    4 | this_seqno |
//! |  25 |   12 | ring id |
//! |  37 |    4 | node_id: always 0 |
//! |  41 |    4 | guarantee: 0 agreed, 1 safe; of a frame that carries another: 1 if its sender has to be delivered even behind a hole (our own; corosync ignores it) |
//! |  45 |   .. | a packet ([`super::packing`]), or a whole frame of an old ring |

use bytes::Bytes;

use super::order::{Order, Reader, Writer};
use super::packing::Packet;
use super::{Header, Message, kind};
use crate::{Guarantee, NodeId, Refusal, RingId, Seq};

const OLD_FRAME: u8 = 1;
const PACKET: u8 = 2;

/// An ordered frame: a packet of packed messages or, while a ring is recovered, a whole frame of the old ring.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Multicast {
    /// The originator, also in a retransmission.
    pub from: NodeId,
    /// Its number on the ring.
    pub seq: Seq,
    /// How many frames its originator had sent before it since it started; informational.
    pub this_seqno: u32,
    /// The ring.
    pub ring: RingId,
    /// The guarantee of the messages that end in it.
    pub guarantee: Guarantee,
    /// Whether `payload` is a frame of an old ring.
    pub encapsulated: bool,
    /// What it carries.
    pub payload: Bytes,
    /// The whole datagram as it was received or sent: a retransmission sends these very bytes.
    pub raw: Bytes,
}

impl Multicast {
    /// Length of the header before the payload.
    pub const HEADER: usize = 45;

    /// The frame of an old ring that this frame carries, its bytes being those of this frame's payload.
    ///
    /// # Errors
    /// [`Refusal::Field`] if this frame is not encapsulated, or the one within is too: frames nest once.
    /// [`Refusal::Type`] if what is within is no frame; else as [`super::decode`].
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

    /// The byte order of the originator, in which the packet and what is packed are written too.
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
        self.write_with(order, self.payload.len(), |writer| writer.bytes(&self.payload))
    }

    /// This frame with that for its payload, written once: the payload is where it is sent from.
    pub(crate) fn carrying(mut self, load: &Load) -> Self {
        self.encapsulated = matches!(load, Load::Frame(_));
        self.raw = match load {
            Load::Packet(packet) => {
                self.write_with(Order::Little, packet.length(), |writer| packet.write(writer))
            }
            Load::Frame(frame) => self.write_with(Order::Little, frame.len(), |writer| writer.bytes(frame)),
        };
        self.payload = self.raw.slice(Self::HEADER..);
        self
    }

    fn write_with(&self, order: Order, length: usize, payload: impl FnOnce(&mut Writer)) -> Bytes {
        let mut writer = Writer::new(length.saturating_add(Self::HEADER), order);
        Header {
            kind: kind::MULTICAST,
            encapsulated: if self.encapsulated { OLD_FRAME } else { PACKET },
            node: self.from.get(),
        }
        .write(&mut writer);
        writer.node(self.from);
        writer.seq(self.seq);
        writer.u32(self.this_seqno);
        writer.ring(self.ring);
        writer.u32(0);
        writer.u32(u32::from(self.guarantee == Guarantee::Safe));
        payload(&mut writer);
        writer.finish()
    }
}

/// What a new frame is to carry.
pub(crate) enum Load {
    Packet(Packet),
    /// A whole frame of an old ring.
    Frame(Bytes),
}
