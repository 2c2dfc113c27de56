//! A member of the ring that takes part in the election.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::driver::{Clock, Core};
use quorate_membership::wire::body::{Body, NodeInfo, SERVICES};
use quorate_membership::{
    Config, ConfigError, Event as RingEvent, Group, GroupError, Guarantee, MulticastError, NodeId, Notice,
    Origin, Parting, Phase, Service, Stats, Stored, Time, Totem, Transmit,
};
use tokio::sync::watch;

use crate::dc::{Dc, Desk, Request};
use crate::{Election, Lease, Outcome, ReleaseError, Say, Status, Term};

/// What a member is told, in the ring's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// What happened on the ring. What members say of themselves in the sync stages ([`RingEvent::Service`]) is not
    /// among it: the election keeps that to itself.
    Ring(RingEvent),
    /// The new status. It follows the event that brought it: the end of a ring, a new one, the end of its sync or a
    /// hand-over; only [`RingEvent::Left`], the last event of all, comes after its status. Two things change with time, so a
    /// status of them comes where it happens to come: whether this node may act as DC ([`Status::lease`]), and that no token has
    /// come for the token timeout, so that there is no quorum until there is a ring again.
    Status(Box<Status>),
}

/// The ring's core with the election folded over its events. Its contract is [`Totem`]'s.
pub struct Member {
    me: NodeId,
    totem: Totem,
    election: Election,
    /// The time of the last input: that of the events that follow from it.
    now: Time,
    /// It is about to leave: once another is DC and it has heard itself say farewell, but no later than this.
    leaves_at: Option<Time>,
    /// It has said that it leaves, and not heard it yet.
    says_farewell: bool,
    /// How long that may take: a token timeout.
    patience: Duration,
    latest: watch::Sender<Status>,
    /// What the application that acts as DC is told and tells.
    desk: Desk,
    /// Events that have not been polled.
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
        let config = config.effective()?;
        let election = Election::new(&config).with_record_lost(stored.lost).with_kept(&stored.kept);
        // A record that is not understood stays lost, over restarts too.
        let stored = Stored { lost: election.has_lost_record(), ..stored };
        let mut totem = Totem::new(&config, stored, entropy, now)?;
        totem.keep(election.kept());
        let latest = watch::Sender::new(election.status().clone());
        let desk = Desk::new(config.totem.token);
        let mut member = Self {
            me: config.node,
            totem,
            election,
            now,
            leaves_at: None,
            says_farewell: false,
            patience: config.totem.token,
            latest,
            desk,
            events: VecDeque::new(),
            taken: 0,
        };
        member.fold();
        Ok(member)
    }

    /// The same member, with this priority as a candidate ([`Election::with_priority`]). To be called before the first
    /// ring.
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.election = self.election.with_priority(priority);
        self
    }

    /// See [`Totem::poll_urgent_event`].
    pub fn poll_urgent_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Each status as it comes, whether or not anybody takes the events. What it says may no longer be true when it is read:
    /// [`Dc::status`] looks at the clock, too.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.latest.subscribe()
    }

    /// The ring's core, to look at.
    pub fn totem(&self) -> &Totem {
        &self.totem
    }

    /// Under which term this node may act as DC, and until when ([`Election::lease`]).
    pub fn lease(&self) -> Option<(Term, Time)> {
        self.election.lease()
    }

    /// Gives up the role of DC ([`Election::release`]).
    ///
    /// # Errors
    /// As [`Election::release`]; and if the ring is being formed anew, so that nobody would hear it. Nothing is given up then.
    pub fn release(&mut self, now: Time) -> Result<(), ReleaseError> {
        self.begin(now);
        let released = self.hand_over();
        self.fold();
        released
    }

    /// Gives up the role of DC, if the ring carries the word of it.
    fn hand_over(&mut self) -> Result<(), ReleaseError> {
        let stands = self.totem.snapshot().phase == Phase::Operational;
        if !stands && self.election.has_office() {
            return Err(ReleaseError::RingChanges);
        }
        let outcome = self.election.release(self.now)?;
        self.follow(outcome);
        Ok(())
    }

    /// Whether the application that acts as DC was found to hang ([`Dc::set_heartbeat`]).
    pub fn is_hung(&self) -> bool {
        self.desk.is_hung()
    }

    /// What an application needs to act as DC; `clock` is the one whose times this member is given.
    pub fn dc(&self, clock: Clock) -> Dc {
        Dc::new(self.watch(), &self.desk, clock)
    }

    /// Whether this event shows that the others heard that this node leaves, or will not hear it any more.
    fn is_farewell(&self, event: &RingEvent) -> bool {
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

    /// After an input: folds what happened on the ring, then what the token proved, then the timers that are due since.
    fn fold(&mut self) {
        loop {
            while let Some(event) = self.totem.poll_urgent_event() {
                self.take(event);
            }
            if self.totem.token_at() == Some(self.now) {
                let outcome = self.election.handle_token(self.now, self.totem.whole_since());
                self.follow(outcome);
            }
            if self.election.poll_timeout().is_some_and(|due| due <= self.now) {
                let outcome = self.election.handle_timeout(self.now);
                self.follow(outcome);
            }
            self.hear_application();
            // A DC that has given up its role leaves once it has been relieved.
            let Status { term, lease, .. } = self.election.status();
            let hands_over = *lease == Lease::None && term.is_some_and(|term| term.node == self.me);
            let free = !hands_over && !self.says_farewell;
            if self.leaves_at.take_if(|at| free || *at <= self.now).is_none() {
                break;
            }
            self.totem.leave(self.now);
        }
        self.desk.tell(self.election.lease(), self.election.stands_until());
    }

    /// What an event of the ring means for the election.
    fn take(&mut self, event: RingEvent) {
        // Of messages, which are many, nothing follows.
        if let RingEvent::Deliver(_) = event {
            return self.events.push_back(Event::Ring(event));
        }
        let outcome = self.election.handle(self.now, &event);
        self.says_farewell &= !self.is_farewell(&event);
        match event {
            RingEvent::Service(_) => {
                self.taken += event.cost();
                self.follow(outcome);
            }
            RingEvent::Left(_) => {
                self.follow(outcome);
                self.events.push_back(Event::Ring(event));
            }
            _ => {
                self.events.push_back(Event::Ring(event));
                self.follow(outcome);
            }
        }
    }

    /// What the application that acts as DC wants, and whether it is still there.
    fn hear_application(&mut self) {
        while let Some(request) = self.desk.next_request() {
            match request {
                Request::Heartbeat(every) => self.desk.heartbeat = every,
                Request::Release(reply) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(self.hand_over());
                }
            }
        }
        let holds = self.election.status().lease == Lease::Held;
        if let Some(hung) = self.desk.hangs(holds, self.now) {
            let outcome = self.election.set_hung(self.now, hung);
            self.follow(outcome);
        }
    }

    /// Does what the fold wants.
    fn follow(&mut self, Outcome { say, send, recovered, keep, status }: Outcome) {
        if let Some(Say { node_info, candidacy }) = say {
            self.totem.set_sync_message(Service::Votequorum, Body::NodeInfo(node_info).encode());
            self.totem.set_sync_message(Service::Quorate, candidacy.encode());
        }
        if let Some(message) = send {
            // If the ring is over, so is what it is about: this node has given up its role all the same.
            self.totem.say(Service::Quorate, &message);
        }
        if let Some(kept) = keep {
            self.totem.keep(kept);
        }
        if recovered {
            self.totem.recovered();
        }
        if let Some(status) = status {
            if status.settled {
                self.totem.set_quorate(status.quorate);
            }
            // Whoever sees the new ring has to see until when it stands.
            self.desk.tell(self.election.lease(), self.election.stands_until());
            self.latest.send_replace(status.clone());
            self.events.push_back(Event::Status(Box::new(status)));
        }
    }
}

impl Core for Member {
    type Event = Event;

    fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match self.totem.poll_event()? {
                event @ RingEvent::Deliver(_) => return Some(Event::Ring(event)),
                event => {
                    self.take(event);
                    self.fold();
                }
            }
        }
    }

    fn me(&self) -> NodeId {
        self.me
    }
    fn handle_datagram(&mut self, now: Time, origin: Origin, datagram: &Bytes) {
        self.begin(now);
        self.totem.handle_datagram(now, origin, datagram);
        self.fold();
    }
    fn handle_refused(&mut self, now: Time, node: NodeId) {
        self.begin(now);
        self.totem.handle_refused(now, node);
        self.fold();
    }
    fn handle_notice(&mut self, now: Time, notice: Notice, source: Option<SocketAddr>) {
        self.totem.handle_notice(now, notice, source);
    }
    fn handle_timeout(&mut self, now: Time) {
        self.begin(now);
        self.totem.handle_timeout(now);
        self.fold();
    }
    fn consumed(&mut self, now: Time, cost: usize) {
        self.begin(now);
        self.totem.consumed(now, cost);
        self.fold();
    }
    fn handle_stored(&mut self, now: Time, stored: Stored) {
        self.begin(now);
        let outcome = self.election.handle_stored(now, &stored.kept);
        self.totem.handle_stored(now, stored);
        self.follow(outcome);
        self.fold();
    }
    fn multicast(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        guarantee: Guarantee,
        payload: &Bytes,
    ) -> Result<(), MulticastError> {
        self.begin(now);
        let accepted = self.totem.multicast(now, pid, group, guarantee, payload);
        self.fold();
        accepted
    }
    fn join_group(&mut self, now: Time, pid: u32, group: &Group) -> Result<(), GroupError> {
        self.begin(now);
        let joined = self.totem.join_group(now, pid, group);
        self.fold();
        joined
    }
    fn leave_group(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        parting: Parting,
    ) -> Result<(), GroupError> {
        self.begin(now);
        let left = self.totem.leave_group(now, pid, group, parting);
        self.fold();
        left
    }
    /// A DC hands over first, so that its successor need not wait.
    fn leave(&mut self, now: Time) {
        self.begin(now);
        if self.leaves_at.is_none() {
            // If there is nothing to hand over, or nobody to take it, the others find that out by themselves.
            let released = self.hand_over().is_ok();
            let retired = self.election.retire(now);
            self.follow(retired);
            let farewell = self.election.farewell();
            let says = |info| self.totem.say(Service::Votequorum, &Body::NodeInfo(info).encode());
            self.says_farewell = farewell.is_some_and(says);
            let goes_on = released || self.says_farewell;
            self.leaves_at = Some(if goes_on { now + self.patience } else { now });
        } else {
            self.leaves_at = Some(now);
        }
        self.fold();
    }
    fn must_store(&self) -> Option<Stored> {
        self.totem.must_store()
    }
    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.totem.poll_transmit()
    }
    fn poll_timeout(&self) -> Option<Time> {
        let timers = [self.totem.poll_timeout(), self.election.poll_timeout(), self.leaves_at];
        timers.into_iter().flatten().chain(self.desk.poll_timeout(self.now)).min()
    }
    fn queued(&self) -> usize {
        self.totem.queued()
    }
    fn is_slow(&self) -> bool {
        self.totem.is_slow()
    }
    fn members(&self) -> &BTreeSet<NodeId> {
        self.totem.members()
    }
    fn stats(&self) -> &Stats {
        self.totem.stats()
    }
    /// A status costs nothing: few come with each ring, whose own event is paid for.
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
