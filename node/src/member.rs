//! The member that the driver runs: it takes part in the election, and serves the applications that
//! act as DC.

use bytes::Bytes;
use quorate_election::{Event, Lease, Member, ReleaseError, Status, Term};
use quorate_membership::{
    Cause, Config, ConfigError, Core, CoreView, DeviceError, DeviceRequest, DeviceState, Group, GroupError,
    GroupRequest, Guarantee, Input, MulticastError, Stored, Time, Totem, Transmit,
};
use tokio::sync::watch;

use crate::dc::{DcChannel, Request};
use crate::{Clock, Dc};

/// A [`Member`] with the channels to its [`Dc`] handles.
pub struct DcMember {
    member: Member,
    /// The time of the last input.
    now: Time,
    latest: watch::Sender<Status>,
    /// The number of statuses that had been published.
    published: u64,
    channel: DcChannel,
}

impl DcMember {
    /// Creates a member. See [`Member::new`].
    ///
    /// # Errors
    /// As [`Member::new`].
    pub fn new(config: &Config, stored: Stored, entropy: [u8; 32], now: Time) -> Result<Self, ConfigError> {
        let member = Member::new(config, stored, entropy, now)?;
        let (status, published) = member.status();
        let latest = watch::Sender::new(status.clone());
        let channel = DcChannel::new(config.effective()?.totem.token);
        let mut member = Self { member, now, latest, published, channel };
        member.follow(now);
        Ok(member)
    }

    /// Returns the ring's core, for inspection.
    pub fn totem(&self) -> &Totem {
        self.member.totem()
    }

    /// See [`Member::lease`].
    pub fn lease(&self) -> Option<(Term, Time)> {
        self.member.lease()
    }

    /// Returns the handle that an application needs to act as DC. `clock` is the clock whose times
    /// this member is given.
    pub fn dc(&self, clock: Clock) -> Dc {
        Dc::new(self.latest.subscribe(), &self.channel, clock)
    }

    /// Returns `true` if the application that acts as DC was found to hang ([`Dc::set_heartbeat`]).
    pub fn is_hung(&self) -> bool {
        self.channel.is_hung()
    }

    /// See [`Totem::poll_urgent_event`](quorate_membership::Totem::poll_urgent_event).
    pub fn poll_urgent_event(&mut self) -> Option<Event> {
        self.member.poll_urgent_event()
    }

    /// Gives up the role of DC, as [`Dc::release`] does.
    ///
    /// # Errors
    /// As [`Member::release`].
    pub fn release(&mut self, now: Time) -> Result<(), ReleaseError> {
        let released = self.member.release(now);
        self.follow(now);
        released
    }

    /// Serves the requests of the applications, checks that they are still alive, and publishes
    /// what the last input changed.
    fn follow(&mut self, now: Time) {
        self.now = now;
        let mut answers = Vec::new();
        while let Some(request) = self.channel.next_request() {
            match request {
                Request::Heartbeat(every) => self.channel.heartbeat = every,
                Request::Release(reply) => answers.push((reply, self.member.release(now))),
            }
        }
        let holds = self.member.status().0.lease == Lease::Held;
        if let Some(hung) = self.channel.hangs(holds, now) {
            self.member.set_hung(now, hung);
        }
        // A consumer of a new status also needs the lease, and the time until which the ring
        // stands.
        self.channel.tell(self.member.lease(), self.member.stands_until());
        self.channel.tell_node_lease(self.member.node_lease());
        let (status, count) = self.member.status();
        if self.published != count {
            self.published = count;
            self.latest.send_replace(status.clone());
        }
        // The answer comes last, so that its receiver sees that the lease is gone.
        for (reply, released) in answers {
            // The caller may have gone.
            let _ = reply.send(released);
        }
    }
}

impl Core for DcMember {
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        self.member.handle(now, input);
        self.follow(now);
    }

    fn multicast(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        guarantee: Guarantee,
        payload: &Bytes,
    ) -> Result<(), MulticastError> {
        let accepted = self.member.multicast(now, pid, group, guarantee, payload);
        self.follow(now);
        accepted
    }

    fn change_group(&mut self, now: Time, change: GroupRequest<'_>) -> Result<(), GroupError> {
        let changed = self.member.change_group(now, change);
        self.follow(now);
        changed
    }

    fn handle_device(&mut self, now: Time, request: DeviceRequest) -> Result<DeviceState, DeviceError> {
        let handled = self.member.handle_device(now, request);
        self.follow(now);
        handled
    }

    fn must_store(&self) -> Option<Stored> {
        self.member.must_store()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.member.poll_transmit()
    }

    fn poll_event(&mut self) -> Option<Event> {
        let event = self.member.poll_event();
        // Messages are frequent, and most change nothing here.
        if !matches!(event, Some(Event::Deliver(_))) || self.member.status().1 != self.published {
            self.follow(self.now);
        }
        event
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.member.poll_timeout().into_iter().chain(self.channel.poll_timeout(self.now)).min()
    }

    fn view(&self) -> CoreView<'_> {
        self.member.view()
    }

    fn cost(event: &Event) -> usize {
        Member::cost(event)
    }

    fn left(event: &Event) -> Option<&Cause> {
        Member::left(event)
    }
}
