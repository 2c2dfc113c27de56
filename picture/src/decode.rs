//! Datagrams as named values: what `quorate decode` prints.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_membership::wire::body::{Body, QUORATE, SERVICES, SYNC};
use quorate_membership::wire::packing::{Addressed, Packet};
use quorate_membership::wire::{self, Announcement, Message, Multicast, Order};
use quorate_membership::{NodeId, Refusal};

use crate::assembly::{self, Assembly, Piece};
use crate::fields::{self, Fields, Value};

/// The kind of a piece whose message continues in a later frame.
const CONTINUED: &str = "continued";
/// The kind of a piece whose message began in a frame that was not seen.
const HEADLESS: &str = "headless";
/// The kind of a message of another program.
const FOREIGN: &str = "foreign";

/// Decodes the datagrams of a ring, in the order in which they were sent, and counts them.
#[derive(Debug, Default)]
pub struct Decoder {
    assembly: Assembly,
    counts: Counts,
}

impl Decoder {
    /// Returns what a datagram says: the message, with those that are packed in it.
    pub fn datagram(&mut self, payload: &Bytes) -> Fields {
        let message = match wire::decode(payload) {
            Ok(message) => message,
            Err(why) => return self.refused(why),
        };
        let Announcement { cluster, listed } = wire::announced(payload).unwrap_or_default();
        let mut fields = self.message(&message);
        if let Some(cluster) = cluster {
            fields = fields.with("cluster", cluster.to_string());
        }
        if let Some(listed) = listed {
            fields = fields.with("listed", Value::from_iter(listed.into_iter().map(NodeId::get)));
        }
        fields
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn message(&mut self, message: &Message) -> Fields {
        let fields = fields::of_message(message);
        count(&mut self.counts.datagrams, fields::kind_of_message(message));
        match message {
            Message::Multicast(frame) => fields.and(self.content(frame)),
            _ => fields,
        }
    }

    fn content(&mut self, frame: &Multicast) -> Fields {
        let again = !self.assembly.is_new(frame);
        let fields = Fields::default().with("again", again);
        if again {
            count(&mut self.counts.frames, "again");
        }
        if frame.encapsulated {
            count(&mut self.counts.frames, "recovered");
            let recovered = match frame.inner() {
                Ok(inner) => fields::of_frame(&inner).and(self.content(&inner)),
                Err(why) => self.refused(why),
            };
            return fields.with("recovered", recovered);
        }
        let packet = match Packet::decode_in(&frame.payload, frame.order()) {
            Ok(packet) => packet,
            Err(why) => return fields.with("messages", Value::from_iter([self.refused(why)])),
        };
        let fields = fields
            .with("fragmented", u32::from(packet.fragmented))
            .with("continuation", u32::from(packet.continuation));
        let pieces =
            if again { assembly::pieces_alone(&packet) } else { self.assembly.pieces(frame, &packet) };
        let messages = pieces.iter().map(|piece| match message(piece, frame.order()) {
            Ok((kind, fields)) => {
                // A message is counted once, where it ends.
                if !again && kind != CONTINUED {
                    count(&mut self.counts.messages, kind);
                }
                fields
            }
            Err(why) => self.refused(why),
        });
        fields.with("messages", messages.collect::<Value>())
    }

    fn refused(&mut self, why: Refusal) -> Fields {
        *self.counts.refused.entry(why).or_default() += 1;
        Fields::kind("refused").with("reason", why.to_string())
    }
}

fn message(piece: &Piece, order: Order) -> Result<(&'static str, Fields), Refusal> {
    let message = match piece {
        Piece::Whole(message) => Addressed::decode_in(message, order)?,
        Piece::Continued => return Ok((CONTINUED, Fields::kind(CONTINUED))),
        Piece::Headless => return Ok((HEADLESS, Fields::kind(HEADLESS))),
        Piece::TooLong => return Err(Refusal::Fragment),
    };
    let known = |group: &&Bytes| [SERVICES, SYNC, QUORATE].contains(&group.as_ref());
    let Some(group) = message.groups.iter().find(known) else {
        return Ok((FOREIGN, Fields::kind(FOREIGN).with("length", message.body.len())));
    };
    let body = Body::decode_in(group, &message.body, order)?;
    Ok((fields::kind_of(&body), fields::of_body(&body)))
}

/// Counts of decoded datagrams, by kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Datagrams, by kind.
    pub datagrams: BTreeMap<&'static str, u64>,
    /// Frames that were sent again, or were recovered.
    pub frames: BTreeMap<&'static str, u64>,
    /// Messages, by kind.
    pub messages: BTreeMap<&'static str, u64>,
    /// Datagrams and messages that no member would accept, by reason.
    pub refused: BTreeMap<Refusal, u64>,
}

fn count(counts: &mut BTreeMap<&'static str, u64>, what: &'static str) {
    *counts.entry(what).or_default() += 1;
}
