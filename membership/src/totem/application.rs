//! What the application wants of its node: to say something, to be in groups, to leave; and how far it has listened.

use bytes::Bytes;

use super::{State, Totem, Transition};
use crate::mutants::Mutant;
use crate::{Cause, Group, GroupError, Guarantee, Parting, Service, Time};

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

impl Totem {
    /// Queues a message for all members, this node included, in the name of its process `pid`; 0 is the node itself.
    /// The process need not be in the group, nor does anybody else; but corosync daemons hand the message to their
    /// processes only if some process of this node is.
    ///
    /// # Errors
    /// If it was not accepted; nothing is kept of it.
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
        if payload.is_empty() && Mutant::EmptyMessageLost.is_active() {
            return Ok(());
        }
        local.say_to_group(pid, group, guarantee, payload);
        self.send(now);
        Ok(())
    }

    /// Makes process `pid` of this node a member of a group. It is one when the [`Event::GroupChange`](crate::Event::GroupChange) that names it is
    /// delivered: behind what this node has multicast so far, and before what it multicasts from now on. It stays a
    /// member over all changes of the ring.
    ///
    /// # Errors
    /// If it is one already, or there are too many.
    pub fn join_group(&mut self, now: Time, pid: u32, group: &Group) -> Result<(), GroupError> {
        self.notice_stall(now);
        if self.is_leaving() {
            return Err(GroupError::Left);
        }
        let joins = self.local.groups.join(group, pid)?;
        self.local.say_of_process(&joins);
        self.send(now);
        Ok(())
    }

    /// Takes process `pid` of this node out of a group, behind what this node has multicast so far. Members are told
    /// how it went.
    ///
    /// # Errors
    /// If it is not a member, nor about to be one.
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
        self.local.say_of_process(&leaves);
        self.send(now);
        Ok(())
    }

    /// There is something to send.
    fn send(&mut self, now: Time) {
        if let State::Operational(operational) = &mut self.state {
            operational.send(now, &mut self.local);
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.local.leaving.is_some() || matches!(self.state, State::Left(_))
    }

    /// Queues a message of `service` at its place in the order of the ring that stands; whether it was queued. No other ring
    /// will carry it: a new one drops what was not sent.
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

    /// Sets what this node says in the stage of `service` of every sync from now on. Called while handling
    /// [`Event::Regular`](crate::Event::Regular), it is what the sync of that ring carries.
    pub fn set_sync_message(&mut self, service: Service, message: Bytes) {
        self.local.sync_messages.insert(service, message);
    }

    /// Bytes that wait to be sent of what was multicast; each message counts for some more than it has.
    pub fn queued(&self) -> usize {
        self.local.outbox.application.bytes()
    }

    /// Whether the application has left so many events unread that the ring is slowed down: half of
    /// [`unread_limit`](crate::config::TotemConfig::unread_limit).
    pub fn is_slow(&self) -> bool {
        self.local.is_slow()
    }

    /// The application took events that cost this much ([`Event::cost`](crate::Event::cost)).
    pub fn consumed(&mut self, now: Time, cost: usize) {
        self.local.out.unread = self.local.out.unread.saturating_sub(cost);
        self.local.note_unread(now);
    }

    /// Leaves the ring: says so to the others, then ends with [`Event::Left`](crate::Event::Left).
    ///
    /// If processes of this node are in groups, they leave these first, behind what was multicast before: the node goes
    /// on until all members have received that, for a token timeout at most. A second call does not wait for it.
    pub fn leave(&mut self, now: Time) {
        if self.is_leaving() || !self.local.groups.ever_joined() {
            return self.apply(Some(Transition::Leave(Cause::LeaveRequested)), now);
        }
        for leave in self.local.groups.leave_all() {
            self.local.say_of_process(&leave);
        }
        self.local.leaving = Some((now + self.local.config.token, Cause::LeaveRequested));
        self.send(now);
        self.settle(now);
    }
}
