//! The core on tokio: one task owns it; channels reach it.

use bytes::Bytes;

use crate::{Event, Group, Guarantee, MulticastError, Origin, Stats, Stored, Time, Totem, Transmit};

/// What the driver drives: the ring's core, or that core with a layer folded over its events (the election's
/// `Member`). The contract is that of [`Totem`]: after each input, outputs are polled until each is empty, in the order
/// `must_store`, `poll_transmit`, `poll_event`, `poll_timeout`.
pub trait Core: Send + 'static {
    /// What it tells the application.
    type Event: Send + 'static;

    /// See [`Totem::handle_datagram`].
    fn handle_datagram(&mut self, now: Time, origin: Origin, datagram: &Bytes);
    /// See [`Totem::handle_timeout`].
    fn handle_timeout(&mut self, now: Time);
    /// See [`Totem::handle_stored`].
    fn handle_stored(&mut self, now: Time, stored: Stored);
    /// See [`Totem::multicast`].
    ///
    /// # Errors
    /// As [`Totem::multicast`].
    fn multicast(
        &mut self,
        now: Time,
        group: &Group,
        guarantee: Guarantee,
        payload: Bytes,
    ) -> Result<(), MulticastError>;
    /// See [`Totem::consumed`].
    fn consumed(&mut self, now: Time, cost: usize);
    /// See [`Totem::leave`].
    fn leave(&mut self, now: Time);
    /// See [`Totem::must_store`].
    fn must_store(&self) -> Option<Stored>;
    /// See [`Totem::poll_transmit`].
    fn poll_transmit(&mut self) -> Option<Transmit>;
    /// See [`Totem::poll_event`].
    fn poll_event(&mut self) -> Option<Self::Event>;
    /// See [`Totem::poll_timeout`].
    fn poll_timeout(&self) -> Option<Time>;
    /// See [`Totem::stats`].
    fn stats(&self) -> &Stats;
    /// What an event costs of the bound on unread events, in bytes ([`Event::cost`]).
    fn cost(event: &Self::Event) -> usize;
}

impl Core for Totem {
    type Event = Event;

    fn handle_datagram(&mut self, now: Time, origin: Origin, datagram: &Bytes) {
        Totem::handle_datagram(self, now, origin, datagram);
    }
    fn handle_timeout(&mut self, now: Time) {
        Totem::handle_timeout(self, now);
    }
    fn handle_stored(&mut self, now: Time, stored: Stored) {
        Totem::handle_stored(self, now, stored);
    }
    fn multicast(
        &mut self,
        now: Time,
        group: &Group,
        guarantee: Guarantee,
        payload: Bytes,
    ) -> Result<(), MulticastError> {
        Totem::multicast(self, now, group, guarantee, payload)
    }
    fn consumed(&mut self, now: Time, cost: usize) {
        Totem::consumed(self, now, cost);
    }
    fn leave(&mut self, now: Time) {
        Totem::leave(self, now);
    }
    fn must_store(&self) -> Option<Stored> {
        Totem::must_store(self)
    }
    fn poll_transmit(&mut self) -> Option<Transmit> {
        Totem::poll_transmit(self)
    }
    fn poll_event(&mut self) -> Option<Event> {
        Totem::poll_event(self)
    }
    fn poll_timeout(&self) -> Option<Time> {
        Totem::poll_timeout(self)
    }
    fn stats(&self) -> &Stats {
        Totem::stats(self)
    }
    fn cost(event: &Event) -> usize {
        event.cost()
    }
}
