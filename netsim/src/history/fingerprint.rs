//! A hash that distinguishes runs.

use std::fmt::{self, Write};

use quorate_membership::Guarantee;

use super::{Delivered, Inside, Record, What};

/// A hash of 64 bits that is the same on all machines and in all versions. It is FNV-1a by words of
/// eight bytes, each folded so that its high bits count.
#[derive(Clone)]
pub(super) struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Returns the hash.
    pub(super) fn get(&self) -> u64 {
        self.0
    }

    pub(super) fn number(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
        self.number(bytes.len() as u64);
    }

    /// Adds a record. The most frequent kinds are hashed by their numbers, the others by their
    /// text.
    pub(super) fn record(&mut self, record: &Record) {
        self.number(record.at.as_micros() as u64);
        if let Some(life) = record.life {
            self.number(u64::from(life.node.get()) << 32 | u64::from(life.start));
        }
        match &record.what {
            What::Delivered(delivered) => {
                let Delivered { message, ring, seq, from, group, guarantee, transitional, content } =
                    delivered;
                let message = message.map_or(0, |message| message.number);
                let kind = u64::from(*transitional) << 1 | u64::from(*guarantee == Guarantee::Safe);
                let place = u64::from(seq.get()) << 2 | kind;
                let representative = u64::from(ring.representative.get()) << 32 | u64::from(from.get());
                [1, message, place, ring.seq, representative, content.hash]
                    .into_iter()
                    .for_each(|number| self.number(number));
                self.add(group.as_bytes());
            }
            What::Accepted { message, content, .. } => {
                [2, message.number, content.hash].into_iter().for_each(|number| self.number(number));
            }
            // These fields suffice. The others follow from the bytes sent and the other lines.
            What::Inside(Inside::Received(frame) | Inside::Numbered(frame) | Inside::Resent(frame)) => {
                [3, frame.seq.get().into(), frame.ring.seq]
                    .into_iter()
                    .for_each(|number| self.number(number));
            }
            What::Inside(Inside::Token(token) | Inside::TokenSent { token, .. }) => {
                [4, token.token_seq.get().into(), token.ring.seq]
                    .into_iter()
                    .for_each(|number| self.number(number));
            }
            What::Inside(Inside::Holds(holds)) => {
                [6, holds.frames as u64, holds.queued as u64, holds.unread as u64]
                    .into_iter()
                    .for_each(|number| self.number(number));
            }
            What::Inside(Inside::Stable { safe, released, .. }) => {
                [5, safe.get().into(), released.get().into()]
                    .into_iter()
                    .for_each(|number| self.number(number));
            }
            what => {
                let _ = write!(self, "{what}");
            }
        }
    }
}

impl Write for Fingerprint {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text.as_bytes());
        Ok(())
    }
}
