//! Applications that act as DC on a fenced target, which remembers the highest term under which it
//! was acted on and refuses lower ones.
//!
//! Every node's application checks now and then whether it may act, and then acts. The act takes
//! effect a while later, and later still if the node pauses or the application hangs in between.
//! Checking and acting are two steps. Like a real application, this one checks with a guard, which
//! also serves as its heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate::{Clock, Dc, DcMember, Guard};
use quorate_election::{Status, Term};
use quorate_membership::{NodeId, Time};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Engine, Happening, Micros, micros};
use crate::history::{Inside, Life, What};

/// The current and past leases, and the state of the fenced target.
#[derive(Default)]
pub(super) struct Leases {
    on: Vec<(Life, Term, Micros)>,
    /// Past leases with their beginning and end. They are kept while they can still overlap with a
    /// current one.
    over: Vec<(Life, Micros, Micros)>,
    /// The highest term that the fenced target has seen.
    highest: Option<Term>,
}

impl Leases {
    fn begin(&mut self, life: Life, term: Term, now: Micros) {
        self.on.push((life, term, now));
    }

    /// Ends a lease. Returns the number of past leases that it overlapped with.
    fn end(&mut self, life: Life, until: Micros) -> u64 {
        let Some(place) = self.on.iter().position(|(other, ..)| *other == life) else { return 0 };
        let (_, _, from) = self.on.remove(place);
        let overlap = |other: &Life, begun: Micros, ended: Micros| {
            u64::from(*other != life && begun < until && from < ended)
        };
        let with_ended: u64 =
            self.over.iter().map(|(other, begun, ended)| overlap(other, *begun, *ended)).sum();
        let earliest = self.on.iter().map(|(.., begun)| *begun).min().unwrap_or(Micros::MAX);
        self.over.retain(|(.., ended)| *ended > earliest);
        self.over.push((life, from, until));
        with_ended
    }
}

/// A node's application that acts as DC.
pub(super) struct Actor {
    dc: Dc,
    guard: Option<Guard>,
    /// The time that its clock shows, which is its node's time.
    clock: Arc<AtomicU64>,
    /// The time before which it does nothing.
    pub(super) hangs_until: Micros,
    whims: ChaCha8Rng,
}

impl Actor {
    pub(super) fn new(member: &DcMember, heartbeat: Duration, whims: ChaCha8Rng) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&clock);
        let dc = member.dc(Clock::new(move || Time::from_micros(shown.load(Ordering::Relaxed))));
        if !heartbeat.is_zero() {
            dc.set_heartbeat(Some(heartbeat));
        }
        Self { dc, guard: None, clock, hangs_until: 0, whims }
    }

    /// Returns the status that it receives when it asks.
    fn asks(&self, now: Time) -> Status {
        self.clock.store(now.micros(), Ordering::Relaxed);
        self.dc.status()
    }

    /// Returns the term under which it may act, if it may.
    fn may_act(&mut self, now: Time) -> Option<Term> {
        self.clock.store(now.micros(), Ordering::Relaxed);
        if let Some(term) = self.guard.as_ref().and_then(|guard| guard.check().ok()) {
            return Some(term);
        }
        self.guard = self.dc.try_guard();
        self.guard.as_ref().map(Guard::term)
    }
}

impl Engine {
    /// Records a change of whether a node may act, with the time of the change if the node itself
    /// has not noticed.
    pub(super) fn note_lease(&mut self, index: usize) {
        let now = self.now;
        let Some(living) = &mut self.hosts[index].living else { return };
        let (life, before) = (living.life, living.lease);
        // A paused node notices nothing, but it may no longer act once its clock is past the end.
        let lease = living.member.lease().filter(|(_, until)| living.show(now) < *until);
        living.lease = lease;
        let over_at = before.map(|(_, until)| living.clock.when(until).min(now));
        let goes_on =
            |(term, _): (Term, _)| lease.is_some_and(|(same, _)| same == term) && over_at == Some(now);
        if let Some(((term, _), since)) = before.filter(|before| !goes_on(*before)).zip(over_at) {
            self.lease_off(life, term, since);
        }
        if let Some((term, _)) = lease
            && !before.is_some_and(goes_on)
        {
            self.leases.begin(life, term, now);
            self.record(life, What::Inside(Inside::LeaseOn(term)));
        }
    }

    /// Returns the time at which the lease of a node ends if it is not renewed, whether or not the
    /// node notices.
    pub(crate) fn lease_ends_at(&self, node: NodeId) -> Option<Micros> {
        let living = self.hosts[node.get() as usize - 1].living.as_ref()?;
        living.lease.map(|(_, until)| living.clock.when(until))
    }

    /// Ends the lease of a node that is about to go down.
    pub(super) fn drop_lease(&mut self, index: usize) {
        self.note_lease(index);
        let now = self.now;
        let Some(living) = &mut self.hosts[index].living else { return };
        let life = living.life;
        if let Some((term, _)) = living.lease.take() {
            self.lease_off(life, term, now);
        }
    }

    fn lease_off(&mut self, life: Life, term: Term, since: Micros) {
        self.summary.overlaps += self.leases.end(life, since);
        let since = std::time::Duration::from_micros(since);
        self.record(life, What::Inside(Inside::LeaseOff { term, since }));
    }

    /// Ends all leases at the end of the run.
    pub(super) fn end_leases(&mut self) {
        for index in 0..self.hosts.len() {
            self.drop_lease(index);
        }
    }

    /// Lets an application check whether it may act.
    pub(super) fn act(&mut self, index: usize, start: u32) {
        let (now, token) = (self.now, micros(self.scenario.totem.token));
        let Some(living) = self.awake(index, start, Happening::Act) else { return };
        let next = living.actor.whims.random_range(token / 16..token / 4).max(1);
        let life = living.life;
        let local = living.show(now);
        let granted = living.actor.may_act(local);
        let takes = living.actor.whims.random_range(0..token / 8);
        self.schedule(now + next, Happening::Act(index, start));
        if let Some(term) = granted {
            // A separate timer tells the node that its wait is over. It may not have fired yet.
            self.note_lease(index);
            self.record(life, What::Inside(Inside::Acts(term)));
            self.schedule(now + takes, Happening::Land(index, start, term));
        }
    }

    /// Queries the status of a node. `again` is set if the query belongs to a series.
    pub(super) fn ask(&mut self, index: usize, start: u32, again: bool) {
        let now = self.now;
        let hosts = &self.hosts;
        if hosts[index].living.as_ref().is_none_or(|living| living.life.start != start) {
            return;
        }
        if again {
            // Nodes are not all queried at the same time.
            let pause = micros(self.scenario.totem.token) * (6 + index as u64 % 5) / 16;
            self.schedule(now + pause, Happening::Ask(index, start, true));
        }
        let Some(living) = self.hosts[index].living.as_mut().filter(|living| living.is_awake(start, now))
        else {
            return;
        };
        let life = living.life;
        let local = living.show(now);
        let answer = living.actor.asks(local);
        let totem = living.member.totem();
        let heard_at = totem.token_at().unwrap_or_default().max(living.entered_at);
        let silent = local - heard_at;
        let Status { ring, quorate, lease, .. } = answer;
        self.record(life, What::Inside(Inside::Asked { ring, quorate, lease, silent }));
        // Once the node has checked its timers, its application has been given the same status.
        self.go_on(index);
        let Some(living) = self.hosts[index].living.as_ref().filter(|living| living.is_awake(start, now))
        else {
            return;
        };
        let told = living.status.as_ref().is_none_or(|told| *told == living.actor.asks(local));
        if !told {
            self.record(life, What::Inside(Inside::Unaware));
        }
    }

    /// Hangs a node's application. If it may act, it was just about to. Returns `true` if the node
    /// is up.
    pub(super) fn hang(&mut self, index: usize, lasts: Duration) -> bool {
        let now = self.now;
        let Some(living) = &mut self.hosts[index].living else { return false };
        let (life, until) = (living.life, now + micros(lasts));
        let awake = now >= living.busy_until.max(living.actor.hangs_until);
        let granted = if awake { living.actor.may_act(living.clock.show(now)) } else { None };
        living.actor.hangs_until = living.actor.hangs_until.max(until);
        if let Some(term) = granted {
            // A separate timer tells the node that its wait is over. It may not have fired yet.
            self.note_lease(index);
            self.record(life, What::Inside(Inside::Acts(term)));
            self.schedule(now, Happening::Land(index, life.start, term));
        }
        true
    }

    /// Lets an act reach its target.
    pub(super) fn land(&mut self, index: usize, start: u32, term: Term) {
        let now = self.now;
        let later = |index, start| Happening::Land(index, start, term);
        let Some(living) = self.awake(index, start, later) else { return };
        let life = living.life;
        let local = living.show(now);
        let timely = living.member.lease().is_some_and(|(held, until)| held == term && local < until);
        let accepted = Some(term) >= self.leases.highest;
        self.leases.highest = self.leases.highest.max(Some(term));
        self.summary.acts += 1;
        self.summary.refused_acts += u64::from(!accepted);
        self.record(life, What::Inside(Inside::Landed { term, accepted, timely }));
    }
}
