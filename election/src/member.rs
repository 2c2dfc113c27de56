//! A member of the ring that takes part in the election.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::wire::body::{Body, NodeInfo, SERVICES};
use quorate_membership::{
    Cause, Config, ConfigError, Core, CoreView, DeviceError, DeviceRequest, DeviceState, Event as RingEvent,
    Group, GroupError, GroupRequest, Guarantee, Input, MulticastError, NodeId, Phase, Service, Stored, Time,
    Totem, Transmit,
};

use crate::{DeviceOutcome, Election, Event, Lease, NodeLease, Outcome, ReleaseError, Say, Status, Term};

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
    /// The number of statuses so far.
    statuses: u64,
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
        totem.set_voters(election.voters());
        let mut member = Self {
            me: config.node,
            totem,
            election,
            now,
            leaves_at: None,
            says_farewell: false,
            patience: config.totem.token,
            statuses: 0,
            events: VecDeque::new(),
            taken: 0,
        };
        member.fold();
        Ok(member)
    }

    /// See [`Totem::poll_urgent_event`].
    pub fn poll_urgent_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the current status, and the number of statuses so far, which tells whether it is a
    /// new one.
    pub fn status(&self) -> (&Status, u64) {
        (self.election.status(), self.statuses)
    }

    /// Returns the ring's core for inspection.
    pub fn totem(&self) -> &Totem {
        &self.totem
    }

    /// Returns the term under which this node may act as DC, and until when ([`Election::lease`]).
    pub fn lease(&self) -> Option<(Term, Time)> {
        self.election.lease()
    }

    /// Returns what this node may rely on in another role ([`Election::node_lease`]).
    pub fn node_lease(&self) -> Option<NodeLease> {
        self.election.node_lease()
    }

    /// Returns the time until which the ring counts as standing ([`Election::stands_until`]).
    pub fn stands_until(&self) -> Option<Time> {
        self.election.stands_until()
    }

    /// Sets whether the application that acts as DC hangs ([`Election::set_hung`]).
    pub fn set_hung(&mut self, now: Time, hung: bool) {
        self.begin(now);
        let outcome = self.election.set_hung(now, hung);
        self.follow(outcome);
        self.fold();
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

    /// Leaves the ring. A DC hands over first, so that its successor need not wait. A second call
    /// does not wait for that.
    fn leave(&mut self, now: Time) {
        if self.leaves_at.is_some() {
            self.leaves_at = Some(now);
            return;
        }
        // If there is nothing to hand over, or no member to take it, the other members find that
        // out by themselves.
        let released = self.hand_over().is_ok();
        let retired = self.election.retire(now);
        self.follow(retired);
        let farewell = self.election.farewell();
        let says = |info| self.totem.say(Service::Votequorum, &Body::NodeInfo(info).encode());
        self.says_farewell = farewell.is_some_and(says);
        let goes_on = released || self.says_farewell;
        self.leaves_at = Some(if goes_on { now + self.patience } else { now });
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
            // A DC that has given up its role leaves once it has been relieved.
            let Status { term, lease, .. } = self.election.status();
            let hands_over = *lease == Lease::None && term.is_some_and(|term| term.node == self.me);
            let free = !hands_over && !self.says_farewell;
            if self.leaves_at.take_if(|at| free || *at <= self.now).is_none() {
                break;
            }
            self.totem.leave(self.now);
        }
    }

    /// Passes an event of the ring to the election.
    fn take(&mut self, event: RingEvent) {
        // Messages are frequent, and the election ignores them.
        if let RingEvent::Deliver(delivery) = event {
            return self.events.push_back(Event::Deliver(delivery));
        }
        let outcome = self.election.handle(self.now, &event);
        self.says_farewell &= !self.is_farewell(&event);
        let cost = event.cost();
        match Event::of_ring(event) {
            None => {
                self.taken += cost;
                self.follow(outcome);
            }
            Some(last @ Event::Left(_)) => {
                self.follow(outcome);
                self.events.push_back(last);
            }
            Some(event) => {
                self.events.push_back(event);
                self.follow(outcome);
            }
        }
    }

    /// Carries out what the fold asks for.
    fn follow(&mut self, Outcome { say, send, recovered, keep, device, status }: Outcome) {
        if let Some(Say { node_info: _, waits, candidacy }) = say {
            self.set_vote_messages();
            self.totem.set_sync_messages(Service::Quorate, vec![candidacy.encode()]);
            if waits {
                self.totem.hold_sync();
            }
        }
        self.follow_device(&device);
        if let Some(message) = send {
            // If the ring is over, so is the tenure or the change that the message is about. This
            // node has given up its role all the same.
            self.totem.say(Service::Quorate, &message);
        }
        if let Some(kept) = keep {
            self.totem.keep(kept);
            self.totem.set_voters(self.election.voters());
        }
        if recovered {
            self.totem.recovered();
        }
        if let Some(status) = status {
            if status.settled {
                self.totem.set_quorate(status.quorate);
            }
            self.statuses += 1;
            let event = Event::Status(Box::new(status));
            self.totem.charge(self.now, event.cost());
            self.events.push_back(event);
        }
    }

    fn set_vote_messages(&mut self) {
        let votes = self.election.vote_messages().iter().map(Body::encode).collect();
        self.totem.set_sync_messages(Service::Votequorum, votes);
    }

    /// Tells the other members what this node's quorum device does. The messages may come before
    /// the sync stage that they belong to, which then has the same contents.
    fn follow_device(&mut self, DeviceOutcome { announces, goes_on }: &DeviceOutcome) {
        if !announces.is_empty() {
            self.set_vote_messages();
        }
        for message in announces {
            self.totem.announce_votes(message);
        }
        if *goes_on {
            self.totem.end_hold();
        }
    }
}

impl Core for Member {
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            // About the operator's view only, which no event follows from.
            Input::Notice(..) => return self.totem.handle(now, input),
            Input::Stored(stored) => {
                self.begin(now);
                let outcome = self.election.handle_stored(now, &stored.kept);
                self.totem.handle_stored(now, stored);
                self.follow(outcome);
            }
            Input::Metadata(metadata) => {
                self.begin(now);
                let outcome = self.election.set_metadata(metadata);
                self.follow(outcome);
            }
            Input::Leave => {
                self.begin(now);
                self.leave(now);
            }
            _ => {
                self.begin(now);
                self.totem.handle(now, input);
            }
        }
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

    fn change_group(&mut self, now: Time, change: GroupRequest<'_>) -> Result<(), GroupError> {
        self.begin(now);
        let changed = self.totem.change_group(now, change);
        self.fold();
        changed
    }

    fn handle_device(&mut self, now: Time, request: DeviceRequest) -> Result<DeviceState, DeviceError> {
        self.begin(now);
        let outcome = self.election.handle_device(now, request);
        let failed = outcome.as_ref().err().copied();
        self.follow(outcome.unwrap_or_default());
        self.fold();
        failed.map_or_else(|| Ok(self.election.device_state()), Err)
    }

    fn must_store(&self) -> Option<Stored> {
        self.totem.must_store()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.totem.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match self.totem.poll_event()? {
                RingEvent::Deliver(delivery) => return Some(Event::Deliver(delivery)),
                event => {
                    self.take(event);
                    self.fold();
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        let timers = [self.totem.poll_timeout(), self.election.poll_timeout(), self.leaves_at];
        timers.into_iter().flatten().min()
    }

    fn view(&self) -> CoreView<'_> {
        self.totem.view()
    }

    fn cost(event: &Event) -> usize {
        event.cost()
    }

    fn left(event: &Event) -> Option<&Cause> {
        if let Event::Left(cause) = event { Some(cause) } else { None }
    }
}
