//! The contract of a core with the program that drives it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::wire::body::Reconfigure;
use crate::{
    Cause, DeviceError, DeviceRequest, DeviceState, Event, Group, GroupError, Guarantee, Metadata,
    MulticastError, NodeId, Notice, Origin, Parting, Stats, Stored, Time, Totem, Transmit,
};

/// A core that a driver or a simulator runs: [`Totem`], or [`Totem`] with a layer folded over its
/// events.
///
/// A core does no input or output, and reads no clock. Inputs and requests come with the current
/// time. After each of them, the outputs are polled until each is empty, in the order
/// [`must_store`](Core::must_store), [`poll_transmit`](Core::poll_transmit),
/// [`poll_event`](Core::poll_event), [`poll_timeout`](Core::poll_timeout). Events may wait for
/// later inputs, and the events of requests may be polled first.
pub trait Core {
    /// The events for the application.
    type Event;

    /// Handles an input.
    fn handle(&mut self, now: Time, input: Input<'_>);

    /// Queues a message to all members ([`Totem::multicast`]).
    ///
    /// # Errors
    /// As [`Totem::multicast`].
    fn multicast(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        guarantee: Guarantee,
        payload: &Bytes,
    ) -> Result<(), MulticastError>;

    /// Changes which groups a process of this node is in.
    ///
    /// # Errors
    /// As [`Totem::join_group`] and [`Totem::leave_group`].
    fn change_group(&mut self, now: Time, change: GroupRequest<'_>) -> Result<(), GroupError>;

    /// Handles a request of this node's quorum device, and returns what the node now says of it. A
    /// ring alone has none.
    ///
    /// # Errors
    /// If the request does not fit what the core knows of the device.
    fn handle_device(&mut self, _now: Time, _request: DeviceRequest) -> Result<DeviceState, DeviceError> {
        Err(DeviceError::NoDevice)
    }

    /// Returns the record to store before anything else is sent ([`Totem::must_store`]).
    fn must_store(&self) -> Option<Stored>;

    /// Returns the next datagram to send.
    fn poll_transmit(&mut self) -> Option<Transmit>;

    /// Returns the next event for the application.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// Returns the time at which [`Input::Timeout`] is due.
    fn poll_timeout(&self) -> Option<Time>;

    /// Returns the state that a driver needs in addition to the outputs.
    fn view(&self) -> CoreView<'_>;

    /// Returns the bytes that an event counts toward the bound on unread events ([`Event::cost`]).
    fn cost(event: &Self::Event) -> usize;

    /// Returns why this node has left, for the last event ([`Event::Left`]). The driver ends with
    /// it.
    fn left(event: &Self::Event) -> Option<&Cause>;
}

/// An input of a core.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A datagram arrived ([`Totem::handle_datagram`]).
    Datagram(Origin, &'a Bytes),
    /// The host of this member reported that no socket receives there
    /// ([`Totem::handle_refused`]).
    Refused(NodeId),
    /// The transport noticed something for the operator, about the node at this address if there is
    /// one ([`Totem::handle_notice`]).
    Notice(Notice, Option<SocketAddr>),
    /// A timer is due ([`Totem::handle_timeout`]).
    Timeout,
    /// This record is durable ([`Totem::handle_stored`]).
    Stored(Stored),
    /// The application took events with this total cost ([`Totem::consumed`]).
    Consumed(usize),
    /// An operator removes a member, for this reason ([`Totem::kill`]).
    Kill(NodeId, &'a str),
    /// An operator changes votes ([`Totem::reconfigure`]).
    Reconfigure(Reconfigure),
    /// An operator asks all members to read their configuration again, with the node's number of
    /// the request ([`Totem::reload`]).
    Reload(u64),
    /// The application changes what this node tells the others about itself. Only cores that take
    /// part in an election tell anything.
    Metadata(Metadata),
    /// The application leaves the ring ([`Totem::leave`]).
    Leave,
}

/// A request that concerns a process of this node and a group.
#[derive(Clone, Copy, Debug)]
pub enum GroupRequest<'a> {
    /// The process joins the group ([`Totem::join_group`]).
    Join(u32, &'a Group),
    /// The process leaves the group ([`Totem::leave_group`]).
    Leave(u32, &'a Group, Parting),
}

/// The state of a core, as far as a driver needs it.
#[derive(Clone, Copy, Debug)]
pub struct CoreView<'a> {
    /// The id of this node.
    pub me: NodeId,
    /// The members of the installed ring.
    pub members: &'a BTreeSet<NodeId>,
    /// The size of the multicasts that wait to be sent, in bytes ([`Totem::queued`]).
    pub queued: usize,
    /// The frames that all members together may send in a rotation.
    pub window: u32,
    /// Whether the application leaves too many events unread ([`Totem::is_slow`]).
    pub slow: bool,
    /// The counters.
    pub stats: &'a Stats,
}

impl Core for Totem {
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Datagram(origin, datagram) => self.handle_datagram(now, origin, datagram),
            Input::Refused(node) => self.handle_refused(now, node),
            Input::Notice(notice, source) => self.handle_notice(now, notice, source),
            Input::Timeout => self.handle_timeout(now),
            Input::Stored(stored) => self.handle_stored(now, stored),
            Input::Consumed(cost) => self.consumed(now, cost),
            Input::Kill(node, reason) => self.kill(now, node, reason),
            Input::Reconfigure(order) => self.reconfigure(now, order),
            Input::Reload(request) => self.reload(now, request),
            Input::Metadata(_) => {}
            Input::Leave => self.leave(now),
        }
    }

    fn multicast(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        guarantee: Guarantee,
        payload: &Bytes,
    ) -> Result<(), MulticastError> {
        self.multicast(now, pid, group, guarantee, payload)
    }

    fn change_group(&mut self, now: Time, change: GroupRequest<'_>) -> Result<(), GroupError> {
        match change {
            GroupRequest::Join(pid, group) => self.join_group(now, pid, group),
            GroupRequest::Leave(pid, group, parting) => self.leave_group(now, pid, group, parting),
        }
    }

    fn must_store(&self) -> Option<Stored> {
        self.must_store()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.poll_event()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.poll_timeout()
    }

    fn view(&self) -> CoreView<'_> {
        CoreView {
            me: self.me(),
            members: self.members(),
            queued: self.queued(),
            window: self.window(),
            slow: self.is_slow(),
            stats: self.stats(),
        }
    }

    fn cost(event: &Event) -> usize {
        event.cost()
    }

    fn left(event: &Event) -> Option<&Cause> {
        if let Event::Left(cause) = event { Some(cause) } else { None }
    }
}
