//! The protocol core: Totem's state machine, without input or output of its own.

use bytes::Bytes;

use crate::{Config, ConfigError, Event, Group, Guarantee, NodeId, RingId, Service, Stats, Stored, Time};

/// Where a datagram came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The node that the source address belongs to, as far as the transport knows.
    pub peer: Option<NodeId>,
}

/// A datagram to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// To whom.
    pub to: Destination,
    /// Its bytes.
    pub datagram: Bytes,
}

/// Who gets a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// All nodes but this one, by multicast.
    Everyone,
    /// One node, perhaps this one, by unicast.
    Member(NodeId),
}

/// Why a message was not accepted for multicast. It is not sent, then or later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MulticastError {
    /// The send queue is full; room comes with the next tokens.
    #[error("the send queue is full")]
    Full,
    /// The caller must first take its own events: it would wait for itself.
    #[error("take the unread events first: they hold up the ring")]
    EventsUnread,
    /// The message is longer than the protocol can carry.
    #[error("a message has at most {max} bytes, this one has {length}", max = Totem::MAX_PAYLOAD)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The node has left the ring.
    #[error("this node has left")]
    Left,
}

/// One node's protocol state. See the crate's front page for the contract.
pub struct Totem {}

impl Totem {
    /// The longest payload of a message, in bytes.
    pub const MAX_PAYLOAD: usize = 1 << 20;

    /// A node that is about to start; it says nothing until its stored record is durable.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(config: &Config, stored: Stored, entropy: [u8; 32], now: Time) -> Result<Self, ConfigError> {
        let _ = (stored, entropy, now);
        config.check()?;
        unimplemented!()
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Time, origin: Origin, datagram: &Bytes) {
        let _ = (now, origin, datagram);
    }

    /// The time that [`Totem::poll_timeout`] gave has come.
    pub fn handle_timeout(&mut self, now: Time) {
        let _ = now;
    }

    /// The record is durable.
    pub fn handle_stored(&mut self, now: Time, stored: Stored) {
        let _ = (now, stored);
    }

    /// Queues a message.
    ///
    /// # Errors
    /// If it was not accepted; nothing is kept of it.
    pub fn multicast(
        &mut self,
        now: Time,
        group: &Group,
        guarantee: Guarantee,
        payload: Bytes,
    ) -> Result<(), MulticastError> {
        let _ = (now, group, guarantee, payload);
        Ok(())
    }

    /// Sets what this node says in the stage of `service` of every sync from now on. Called while handling
    /// [`Event::Regular`], it is what the sync of that ring carries.
    pub fn set_sync_message(&mut self, service: Service, message: Bytes) {
        let _ = (service, message);
    }

    /// The application took events that cost this much ([`Event::cost`]).
    pub fn consumed(&mut self, now: Time, cost: usize) {
        let _ = (now, cost);
    }

    /// Leaves the ring: says so to the others, then ends with [`Event::Left`].
    pub fn leave(&mut self, now: Time) {
        let _ = now;
    }

    /// A record that has to be written; what it covers is not sent before [`Totem::handle_stored`].
    pub fn must_store(&self) -> Option<Stored> {
        None
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// The next event for the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// When [`Totem::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }

    /// How many bytes [`Totem::multicast`] would take now.
    pub fn room(&self) -> usize {
        0
    }

    /// The installed ring, `None` before the first.
    pub fn ring(&self) -> Option<RingId> {
        None
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        unimplemented!()
    }
}
