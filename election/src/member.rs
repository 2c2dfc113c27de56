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

use crate::dc::{Dc, DcChannel, Request};
use crate::{Election, Lease, Outcome, ReleaseError, Say, Status, Term};

/// An event that a member delivers, in the ring's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An event of the ring. The messages that members exchange in the sync stages
    /// ([`RingEvent::Service`]) are left out, because the election consumes them.
    Ring(RingEvent),
    /// The new status.
    ///
    /// It follows the event that caused it: the end of a ring, a new ring, the end of its sync, or
    /// a hand-over. Only [`RingEvent::Left`], the very last event, comes after its status.
    ///
    /// Two changes depend on time and not on an event, so their status may come at any place in the
    /// order. One is whether this node may act as DC ([`Status::lease`]). The other is that no
    /// token has come for the token timeout, so that there is no quorum until there is a ring
    /// again.
    Status(Box<Status>),
}

/// The ring's core with the election folded over its events. Its contract is that of [`Totem`].
pub struct Member {
    me: NodeId,
    totem: Totem,
    election: Election,
    /// The time of the last input, and thus of the events that follow from it.
    now: Time,
    /// The deadline for leaving. The member leaves earlier if another member is DC and its own
    /// farewell has been delivered back to it. `None` unless it is about to leave.
    leaves_at: Option<Time>,
    /// Whether the member has sent its farewell and not yet received it.
    says_farewell: bool,
    /// The token timeout, which bounds how long leaving may take.
    patience: Duration,
    latest: watch::Sender<Status>,
    /// The channels to the application that acts as DC.
    channel: DcChannel,
    /// Events that have not been polled.
    events: VecDeque<Event>,
    /// The cost of events consumed here that has not yet been reported to the ring.
    taken: usize,
}

impl Member {
    /// Creates a member. See [`Totem::new`].
    pub fn new(config: &Config, stored: Stored, entropy: [u8; 32], now: Time) -> Result<Self, ConfigError> {
        let config = config.effective()?;
        let election = Election::new(&config).with_record_lost(stored.lost).with_kept(&stored.kept);
        // A record that is not understood stays lost, over restarts too.
        let stored = Stored { lost: election.has_lost_record(), ..stored };
        let mut totem = Totem::new(&config, stored, entropy, now)?;
        totem.keep(election.kept());
        let latest = watch::Sender::new(election.status().clone());
        let channel = DcChannel::new(config.totem.token);
        let mut member = Self {
            me: config.node,
            totem,
            election,
            now,
            leaves_at: None,
            says_farewell: false,
            patience: config.totem.token,
            latest,
            channel,
            events: VecDeque::new(),
            taken: 0,
        };
        member.fold();
        Ok(member)
    }

    /// Returns the same member with this priority as a candidate ([`Election::with_priority`]).
    /// Must be called before the first ring.
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.election = self.election.with_priority(priority);
        self
    }

    /// See [`Totem::poll_urgent_event`].
    pub fn poll_urgent_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns a receiver of each new status, which is updated whether or not the events are taken.
    /// The received value may be out of date when it is read. [`Dc::status`] also looks at the
    /// clock.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.latest.subscribe()
    }

    /// Returns the ring's core for inspection.
    pub fn totem(&self) -> &Totem {
        &self.totem
    }

    /// Returns the term under which this node may act as DC, and until when ([`Election::lease`]).
    pub fn lease(&self) -> Option<(Term, Time)> {
        self.election.lease()
    }

    /// Gives up the role of DC ([`Election::release`]).
    ///
    /// # Errors
    /// As [`Election::release`], and if a new ring is being formed, because then no member would
    /// receive the release. Nothing is given up then.
    pub fn release(&mut self, now: Time) -> Result<(), ReleaseError> {
        self.begin(now);
        let released = self.hand_over();
        self.fold();
        released
    }

    /// Gives up the role of DC, if the ring can carry the release.
    fn hand_over(&mut self) -> Result<(), ReleaseError> {
        let stands = self.totem.snapshot().phase == Phase::Operational;
        if !stands && self.election.has_office() {
            return Err(ReleaseError::RingChanges);
        }
        let outcome = self.election.release(self.now)?;
        self.follow(outcome);
        Ok(())
    }

    /// Returns `true` if the application that acts as DC was found to hang ([`Dc::set_heartbeat`]).
    pub fn is_hung(&self) -> bool {
        self.channel.is_hung()
    }

    /// Returns the handle that an application needs to act as DC. `clock` is the clock whose times
    /// this member is given.
    pub fn dc(&self, clock: Clock) -> Dc {
        Dc::new(self.watch(), &self.channel, clock)
    }

    /// Returns `true` if this event shows that the other members have received this node's
    /// farewell, or will never receive it.
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

    /// Prepares for an input.
    fn begin(&mut self, now: Time) {
        self.now = now;
        if self.taken > 0 {
            self.totem.consumed(now, mem::take(&mut self.taken));
        }
    }

    /// Completes an input: folds the ring's events, then what the token proved, then the timers
    /// that have become due.
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
        self.channel.tell(self.election.lease(), self.election.stands_until());
    }

    /// Passes an event of the ring to the election.
    fn take(&mut self, event: RingEvent) {
        // Messages are frequent, and the election ignores them.
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

    /// Serves the requests of the application that acts as DC, and checks that it is still alive.
    fn hear_application(&mut self) {
        while let Some(request) = self.channel.next_request() {
            match request {
                Request::Heartbeat(every) => self.channel.heartbeat = every,
                Request::Release(reply) => {
                    // The caller may have gone.
                    let _ = reply.send(self.hand_over());
                }
            }
        }
        let holds = self.election.status().lease == Lease::Held;
        if let Some(hung) = self.channel.hangs(holds, self.now) {
            let outcome = self.election.set_hung(self.now, hung);
            self.follow(outcome);
        }
    }

    /// Carries out what the fold asks for.
    fn follow(&mut self, Outcome { say, send, recovered, keep, status }: Outcome) {
        if let Some(Say { node_info, candidacy }) = say {
            self.totem.set_sync_message(Service::Votequorum, Body::NodeInfo(node_info).encode());
            self.totem.set_sync_message(Service::Quorate, candidacy.encode());
        }
        if let Some(message) = send {
            // If the ring is over, so is the tenure or the change that the message is about. This
            // node has given up its role all the same.
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
            // A consumer of the new status also needs the time until which the ring stands.
            self.channel.tell(self.election.lease(), self.election.stands_until());
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
    /// Leaves the ring. A DC hands over first, so that its successor need not wait.
    fn leave(&mut self, now: Time) {
        self.begin(now);
        if self.leaves_at.is_none() {
            // If there is nothing to hand over, or no member to take it, the other members find
            // that out by themselves.
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
        timers.into_iter().flatten().chain(self.channel.poll_timeout(self.now)).min()
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
    /// A status costs nothing: each ring brings only a few, and the ring's own event is charged.
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
