//! A member of the ring that takes part in the election.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::driver::Core;
use quorate_membership::wire::body::{Body, NodeInfo, SERVICES};
use quorate_membership::{
    Config, ConfigError, Event as RingEvent, Group, GroupError, Guarantee, MulticastError, NodeId, Origin,
    Parting, Service, Stats, Stored, Time, Totem, Transmit,
};
use tokio::sync::watch;

use crate::{Election, Outcome, Say, Status};

/// What a member is told, in the ring's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// What happened on the ring. What members say of themselves in the sync stages ([`RingEvent::Service`]) is not
    /// among it: the election keeps that to itself.
    Ring(RingEvent),
    /// The new status. It follows the event that brought it, a new ring or the end of its sync; only
    /// [`RingEvent::Left`], the last event of all, comes after its status.
    Status(Status),
}

/// The ring's core with the election folded over its events. Its contract is [`Totem`]'s.
pub struct Member {
    me: NodeId,
    totem: Totem,
    election: Election,
    /// The time of the last input: that of the events that follow from it.
    now: Time,
    /// It has said that it leaves, and does so when it has heard itself say it, or then.
    leaves_at: Option<Time>,
    /// How long that may take: a token timeout.
    patience: Duration,
    latest: watch::Sender<Status>,
    /// Events that follow from the one polled last.
    events: VecDeque<Event>,
    /// The cost of events that end here, which the ring has not yet been told are taken.
    taken: usize,
}

impl Member {
    /// See [`Totem::new`].
    ///
    /// # Errors
    /// As [`Totem::new`].
    pub fn new(config: &Config, stored: Stored, entropy: [u8; 32], now: Time) -> Result<Self, ConfigError> {
        let totem = Totem::new(config, stored, entropy, now)?;
        let election = Election::new(config);
        let latest = watch::Sender::new(election.status().clone());
        let patience = config.totem.token;
        Ok(Self {
            me: config.node,
            totem,
            election,
            now,
            leaves_at: None,
            patience,
            latest,
            events: VecDeque::new(),
            taken: 0,
        })
    }

    /// The same member, with this priority as a candidate ([`Election::with_priority`]). To be called before the first
    /// ring.
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.election = self.election.with_priority(priority);
        self
    }

    /// The latest status, always, whether or not anybody takes the events.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.latest.subscribe()
    }

    /// The ring's core, to look at.
    pub fn totem(&self) -> &Totem {
        &self.totem
    }

    /// Does what the fold wants; the status is for the application.
    fn follow(&mut self, Outcome { say, status }: Outcome) -> Option<Event> {
        if let Some(Say { node_info, candidacy }) = say {
            self.totem.set_sync_message(Service::Votequorum, Body::NodeInfo(node_info).encode());
            self.totem.set_sync_message(Service::Quorate, candidacy.encode());
        }
        let status = status?;
        self.latest.send_replace(status.clone());
        Some(Event::Status(status))
    }

    /// Whether this event shows that the others heard that this node leaves, or will not hear it any more.
    fn has_said_farewell(&self, event: &RingEvent) -> bool {
        match event {
            RingEvent::Service(said) => match Body::decode(SERVICES, &said.message) {
                Ok(Body::NodeInfo(info)) => {
                    info.flags & NodeInfo::LEAVING != 0
                        && info.node == Some(said.from)
                        && said.from == self.me
                }
                _ => false,
            },
            RingEvent::Regular(_) => true,
            _ => false,
        }
    }

    /// Before an input.
    fn begin(&mut self, now: Time) {
        self.now = now;
        if self.taken > 0 {
            self.totem.consumed(now, mem::take(&mut self.taken));
        }
    }
}

impl Core for Member {
    type Event = Event;

    fn poll_event(&mut self) -> Option<Event> {
        while self.events.is_empty() {
            let Some(event) = self.totem.poll_event() else {
                // What happened on the ring comes before the timers that are due since.
                if self.leaves_at.take_if(|at| *at <= self.now).is_some() {
                    self.totem.leave(self.now);
                    continue;
                }
                self.election.poll_timeout().filter(|due| *due <= self.now)?;
                let outcome = self.election.handle_timeout(self.now);
                let status = self.follow(outcome);
                self.events.extend(status);
                continue;
            };
            let outcome = self.election.handle(self.now, &event);
            let status = self.follow(outcome);
            if self.leaves_at.is_some() && self.has_said_farewell(&event) {
                self.leaves_at = None;
                self.totem.leave(self.now);
            }
            match event {
                RingEvent::Service(_) => {
                    self.taken += event.cost();
                    self.events.extend(status);
                }
                RingEvent::Left(_) => {
                    self.events.extend(status);
                    self.events.push_back(Event::Ring(event));
                }
                _ => {
                    self.events.push_back(Event::Ring(event));
                    self.events.extend(status);
                }
            }
        }
        self.events.pop_front()
    }

    fn handle_datagram(&mut self, now: Time, origin: Origin, datagram: &Bytes) {
        self.begin(now);
        self.totem.handle_datagram(now, origin, datagram);
    }
    fn handle_timeout(&mut self, now: Time) {
        self.begin(now);
        self.totem.handle_timeout(now);
    }
    fn consumed(&mut self, now: Time, cost: usize) {
        self.begin(now);
        self.totem.consumed(now, cost);
    }
    fn handle_stored(&mut self, now: Time, stored: Stored) {
        self.begin(now);
        self.totem.handle_stored(now, stored);
    }
    fn multicast(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        guarantee: Guarantee,
        payload: Bytes,
    ) -> Result<(), MulticastError> {
        self.begin(now);
        self.totem.multicast(now, pid, group, guarantee, payload)
    }
    fn join_group(&mut self, now: Time, pid: u32, group: &Group) -> Result<(), GroupError> {
        self.begin(now);
        self.totem.join_group(now, pid, group)
    }
    fn leave_group(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        parting: Parting,
    ) -> Result<(), GroupError> {
        self.begin(now);
        self.totem.leave_group(now, pid, group, parting)
    }
    fn leave(&mut self, now: Time) {
        self.begin(now);
        let farewell = self.election.farewell().filter(|_| self.leaves_at.is_none());
        let says = |info| self.totem.say(Service::Votequorum, &Body::NodeInfo(info).encode());
        if farewell.is_some_and(says) {
            self.leaves_at = Some(now + self.patience);
        } else {
            self.totem.leave(now);
        }
    }
    fn must_store(&self) -> Option<Stored> {
        self.totem.must_store()
    }
    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.totem.poll_transmit()
    }
    fn poll_timeout(&self) -> Option<Time> {
        [self.totem.poll_timeout(), self.election.poll_timeout(), self.leaves_at].into_iter().flatten().min()
    }
    fn stats(&self) -> &Stats {
        self.totem.stats()
    }
    /// A status costs nothing: no more than two come with each ring, whose own event is paid for.
    fn cost(event: &Event) -> usize {
        match event {
            Event::Ring(event) => event.cost(),
            Event::Status(_) => 0,
        }
    }
    fn is_last(event: &Event) -> bool {
        matches!(event, Event::Ring(RingEvent::Left(_)))
    }
}
