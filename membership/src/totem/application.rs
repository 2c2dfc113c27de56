//! Requests of the application (send a message, join or leave groups, leave the ring), and its
//! progress in taking events.

use bytes::Bytes;

use super::{State, Totem, Transition};
use crate::bug;
use crate::wire::body::{Body, Reconfigure, Source};
use crate::{Cause, Group, GroupError, Guarantee, NodeId, Parting, Service, Time};

/// The reason why a message was not accepted for multicast. The message is not sent, neither now
/// nor later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MulticastError {
    /// The send queue is full. The next tokens make room.
    #[error("the send queue is full")]
    Full,
    /// The caller must first take its own events, since otherwise it would wait for itself.
    #[error("the unread events hold up the ring; take them first")]
    EventsUnread,
    /// The message is longer than the protocol can carry.
    #[error("a message may have at most {max} bytes, not {length}", max = Totem::MAX_PAYLOAD)]
    TooLong {
        /// The length of the message in bytes.
        length: usize,
    },
    /// The node has left the ring.
    #[error("this node has left the ring")]
    Left,
}

impl Totem {
    /// Queues a message from process `pid` of this node to all members, including this node. A
    /// `pid` of 0 stands for the node itself. The group need not contain that process, or any
    /// process at all. However, corosync daemons pass the message on to their processes only if a
    /// process of this node is in the group.
    ///
    /// # Errors
    /// If the message was not accepted. The node then keeps no part of it.
    pub fn multicast(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        guarantee: Guarantee,
        payload: &Bytes,
    ) -> Result<(), MulticastError> {
        self.notice_stall(now);
        if self.is_leaving() {
            return Err(MulticastError::Left);
        }
        let local = &mut self.local;
        if payload.len() > Self::MAX_PAYLOAD {
            return Err(MulticastError::TooLong { length: payload.len() });
        }
        let queued = local.outbox.application.bytes();
        if queued > 0 && queued + payload.len() > Self::QUEUE {
            return Err(if local.is_slow() { MulticastError::EventsUnread } else { MulticastError::Full });
        }
        if bug!(EmptyMessageLost: payload.is_empty(); false) {
            return Ok(());
        }
        local.say_to_group(pid, group, guarantee, payload);
        self.send(now);
        Ok(())
    }

    /// Makes process `pid` of this node a member of a group. The membership begins when the
    /// [`Event::GroupChange`](crate::Event::GroupChange) that names the process is delivered, which
    /// is after all earlier multicasts of this node and before all later ones. It persists over
    /// ring changes.
    ///
    /// # Errors
    /// If the process is in the group already or still leaving it, if the group or this node has no
    /// room for another member, or if this node has left.
    pub fn join_group(&mut self, now: Time, pid: u32, group: &Group) -> Result<(), GroupError> {
        self.notice_stall(now);
        if self.is_leaving() {
            return Err(GroupError::Left);
        }
        let joins = self.local.groups.join(group, pid)?;
        self.local.say_in_order(&joins);
        self.send(now);
        Ok(())
    }

    /// Removes process `pid` of this node from a group, after all earlier multicasts of this node.
    /// The members learn how the process left from `parting`.
    ///
    /// # Errors
    /// If the process is not a member and has not asked to join, or if this node has left.
    pub fn leave_group(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        parting: Parting,
    ) -> Result<(), GroupError> {
        self.notice_stall(now);
        if self.is_leaving() {
            return Err(GroupError::Left);
        }
        let leaves = self.local.groups.leave(group, pid, parting)?;
        self.local.say_in_order(&leaves);
        self.send(now);
        Ok(())
    }

    /// Asks a member to leave the ring, in the order of this node's multicasts, as
    /// `corosync-cfgtool -k` does. The member leaves with [`Cause::Killed`](crate::Cause::Killed),
    /// which has the reason. Its process ends, unless its application starts it again.
    ///
    /// The request has no effect if the node is not a member when it is delivered, or if this node
    /// is leaving. A reason longer than 256 bytes is cut off.
    pub fn kill(&mut self, now: Time, node: NodeId, reason: &str) {
        self.notice_stall(now);
        if !self.is_leaving() {
            let reason = Bytes::copy_from_slice(reason.as_bytes());
            self.local.say_in_order(&Body::KillNode { node, reason });
            self.send(now);
        }
    }

    /// Asks all members to read their configuration again, in the order of this node's multicasts,
    /// as `corosync-cfgtool -R` does. Each member then has [`Event::Reload`](crate::Event::Reload)
    /// with this number. This crate does nothing else about it.
    ///
    /// The request has no effect if this node is leaving.
    pub fn reload(&mut self, now: Time, request: u64) {
        self.notice_stall(now);
        if !self.is_leaving() {
            let source = Source { node: self.local.me.get(), connection: request };
            self.local.say_in_order(&Body::Reload(source));
            self.send(now);
        }
    }

    /// Changes votes in the order of this node's multicasts, as `corosync-quorumtool -e` and `-v`
    /// do. At every member, the layer that counts votes receives the order in
    /// [`Event::Service`](crate::Event::Service).
    ///
    /// The order has no effect if this node is leaving.
    pub fn reconfigure(&mut self, now: Time, order: Reconfigure) {
        self.notice_stall(now);
        if !self.is_leaving() {
            self.local.say_in_order(&Body::Reconfigure(order));
            self.send(now);
        }
    }

    /// Sends what is queued.
    fn send(&mut self, now: Time) {
        if let State::Operational(operational) = &mut self.state {
            operational.send(now, &mut self.local);
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.local.leaving.is_some() || matches!(self.state, State::Left(_))
    }

    /// Queues a message of `service` in the order of the installed ring. Returns `true` if it was
    /// queued. Only this ring can carry the message: a new ring drops unsent ones.
    pub fn say(&mut self, service: Service, message: &Bytes) -> bool {
        match &mut self.state {
            State::Operational(operational) if self.local.synced() => {
                self.local.say_as(service, message);
                operational.nudge(&mut self.local);
                true
            }
            _ => false,
        }
    }

    /// Queues a message of votequorum in the order of the installed ring, even before its sync is
    /// done. Only this ring can carry the message. If there is none, nothing is queued.
    pub fn announce_votes(&mut self, message: &Bytes) {
        if let State::Operational(operational) = &mut self.state {
            self.local.say_as(Service::Votequorum, message);
            operational.nudge(&mut self.local);
        }
    }

    /// Sets the messages that this node sends in the stage of `service` of every later sync. If
    /// this is called while [`Event::Regular`](crate::Event::Regular) is handled, the sync of that
    /// ring carries the messages.
    pub fn set_sync_messages(&mut self, service: Service, messages: Vec<Bytes>) {
        self.local.sync_messages.insert(service, messages);
    }

    /// Holds up the sync of a new ring in the stage of votequorum, until [`Totem::end_hold`]. This
    /// is called while [`Event::Regular`](crate::Event::Regular) is handled. Nothing is delivered
    /// at any member meanwhile.
    pub fn hold_sync(&mut self) {
        if let Some(sync) = &mut self.local.sync {
            sync.hold();
        }
    }

    /// Ends the hold of the installed ring's sync. Harmless if there is none.
    pub fn end_hold(&mut self) {
        self.local.end_hold();
        if let State::Operational(operational) = &mut self.state {
            operational.nudge(&mut self.local);
        }
    }

    /// Returns the size of the multicasts that wait to be sent, in bytes. Each message counts for
    /// somewhat more than its length.
    pub fn queued(&self) -> usize {
        self.local.outbox.application.bytes()
    }

    /// Returns `true` if the application leaves too many events unread, which slows the ring
    /// down. The limit is half of [`unread_limit`](crate::config::TotemConfig::unread_limit).
    pub fn is_slow(&self) -> bool {
        self.local.is_slow()
    }

    /// Counts an event of a layer above among the unread ones. [`Totem::consumed`] gives its cost
    /// back.
    pub fn charge(&mut self, now: Time, cost: usize) {
        self.local.out.unread = self.local.out.unread.saturating_add(cost);
        self.local.note_unread(now);
    }

    /// Records that the application took events with a total cost of `cost`
    /// ([`Event::cost`](crate::Event::cost)).
    pub fn consumed(&mut self, now: Time, cost: usize) {
        self.local.out.unread = self.local.out.unread.saturating_sub(cost);
        self.local.note_unread(now);
    }

    /// Announces to the other members that this node leaves the ring, then ends with
    /// [`Event::Left`](crate::Event::Left).
    ///
    /// Processes of this node that are in groups leave these first, after all earlier multicasts.
    /// The node continues until all members have received that, for at most a token timeout. A
    /// second call does not wait for it.
    pub fn leave(&mut self, now: Time) {
        if self.is_leaving() || !self.local.groups.ever_joined() {
            return self.apply(Some(Transition::Leave(Cause::LeaveRequested)), now);
        }
        for leave in self.local.groups.leave_all() {
            self.local.say_in_order(&leave);
        }
        self.local.leaving = Some((now + self.local.config.token, Cause::LeaveRequested));
        self.send(now);
        self.settle(now);
    }
}
