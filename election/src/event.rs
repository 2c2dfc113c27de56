//! The events that a member delivers.

use std::time::Duration;

use quorate_membership::{
    Cause, Delivery, Event as RingEvent, GroupChange, NodeId, Regular, RingId, Transitional,
};

use crate::Status;

/// An event of a member. All members of a ring see the same events in the same order, except for
/// [`Event::Stalled`], [`Event::Left`], and the two changes of a status that follow from time.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The old ring is over. Its last messages follow, which only the members named here are known
    /// to deliver ([`Delivery::transitional`]). Apply these messages, but acknowledge none of them.
    Transitional(Transitional),
    /// A new ring with its members is installed.
    Regular(Regular),
    /// All members of this ring have exchanged their state. Application messages follow.
    Synced(RingId),
    /// Processes joined or left a group.
    GroupChange(GroupChange),
    /// A message to a process group, whether or not a process of this node is in it.
    Deliver(Delivery),
    /// An operator asks all members to read their configuration again.
    Reload {
        /// The member at which the operator asked.
        from: NodeId,
        /// The number that this member gave the request.
        request: u64,
    },
    /// This node itself was paused for this long (a suspended machine, a starved process). It does
    /// not declare other nodes failed because of the pause.
    Stalled(Duration),
    /// The new status.
    ///
    /// It follows the event that caused it: the end of a ring, a new ring, the end of its sync, or
    /// a hand-over. Only [`Event::Left`], the very last event, comes after its status.
    ///
    /// Two changes depend on time and not on an event, so their status may come at any place in the
    /// order. One is whether this node may act as DC ([`Status::lease`]). The other is that no
    /// token has come for the token timeout, so that there is no quorum until there is a ring
    /// again.
    Status(Box<Status>),
    /// This node is out of the ring, for this reason. No event follows.
    Left(Cause),
}

impl Event {
    /// Returns an event of the ring, or `None` for a message that members exchange in the sync
    /// stages, because the election consumes these.
    pub fn of_ring(event: RingEvent) -> Option<Self> {
        Some(match event {
            RingEvent::Transitional(transitional) => Self::Transitional(transitional),
            RingEvent::Regular(regular) => Self::Regular(regular),
            RingEvent::Service(_) => return None,
            RingEvent::Synced(ring) => Self::Synced(ring),
            RingEvent::GroupChange(change) => Self::GroupChange(change),
            RingEvent::Deliver(delivery) => Self::Deliver(delivery),
            RingEvent::Reload { from, request } => Self::Reload { from, request },
            RingEvent::Stalled(length) => Self::Stalled(length),
            RingEvent::Left(cause) => Self::Left(cause),
        })
    }

    /// Returns the bytes that this event takes of the bound on unread events.
    pub fn cost(&self) -> usize {
        match self {
            Self::Deliver(delivery) => delivery.cost(),
            Self::GroupChange(change) => change.cost(),
            Self::Status(status) => RingEvent::MIN_COST + status.cost(),
            _ => RingEvent::MIN_COST,
        }
    }
}
