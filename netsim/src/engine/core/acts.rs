//! Applications that act as DC, on something that fences: it remembers the highest term under which it was acted on, and
//! refuses lower ones.
//!
//! Every node's application looks now and then whether it may act, and then does; but what it does takes effect a while
//! later, and later still if its node stands still meanwhile, or it hangs. No check is one with the act that follows it.
//! It asks as applications do, by a guard, which is also what it shows of being alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_election::{Dc, Guard, Member, Status, Term};
use quorate_membership::Time;
use quorate_membership::driver::Clock;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::host::Living;
use super::{Engine, Happening, Micros, micros};
use crate::history::{Inside, Life, What};

/// Who may act, and what has been acted on.
#[derive(Default)]
pub(super) struct Leases {
    on: Vec<(Life, Term, Micros)>,
    /// Of leases that are over: whose, from when, until when. As many as may still overlap with one that is on.
    over: Vec<(Life, Micros, Micros)>,
    /// The highest term that the fenced thing has seen.
    highest: Option<Term>,
}

impl Leases {
    fn begin(&mut self, life: Life, term: Term, now: Micros) {
        self.on.push((life, term, now));
    }

    /// A lease has ended; how many others were on at a time.
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
    /// What its clock shows, which is its node's.
    clock: Arc<AtomicU64>,
    /// It does nothing before.
    pub(super) hangs_until: Micros,
    whims: ChaCha8Rng,
}

impl Actor {
    pub(super) fn new(member: &Member, heartbeat: Duration, whims: ChaCha8Rng) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&clock);
        let dc = member.dc(Clock::new(move || Time::from_micros(shown.load(Ordering::Relaxed))));
        if !heartbeat.is_zero() {
            dc.set_heartbeat(Some(heartbeat));
        }
        Self { dc, guard: None, clock, hangs_until: 0, whims }
    }

    /// What it is told when it asks for the status.
    fn asks(&self, now: Time) -> Status {
        self.clock.store(now.micros(), Ordering::Relaxed);
        self.dc.status()
    }

    /// Under which term it may act, if it may.
    fn may_act(&mut self, now: Time) -> Option<Term> {
        self.clock.store(now.micros(), Ordering::Relaxed);
        if let Some(term) = self.guard.as_ref().and_then(|guard| guard.check().ok()) {
            return Some(term);
        }
        self.guard = self.dc.try_guard();
        self.guard.as_ref().map(Guard::term)
    }
}

impl Engine<'_> {
    /// Writes down whether a node may act, if that has changed; and when it changed, if the node itself has not noticed.
    pub(super) fn note_lease(&mut self, index: usize) {
        let now = self.now;
        let Some(living) = &mut self.hosts[index].living else { return };
        let (life, before) = (living.life, living.lease);
        // A node that stands still sees nothing; it may not act all the same once its clock says so.
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

    /// The node is about to be no more.
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

    /// The run is over.
    pub(super) fn end_leases(&mut self) {
        for index in 0..self.hosts.len() {
            self.drop_lease(index);
        }
    }

    /// An application looks whether it may act.
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
            // The node itself may not have noticed yet that its wait is over: that is a timer of its own.
            self.note_lease(index);
            self.record(life, What::Inside(Inside::Acts(term)));
            self.schedule(now + takes, Happening::Land(index, start, term));
        }
    }

    /// Somebody asks a node for its status; `again` if this is one of a series.
    pub(super) fn ask(&mut self, index: usize, start: u32, again: bool) {
        let now = self.now;
        let hosts = &self.hosts;
        if hosts[index].living.as_ref().is_none_or(|living| living.life.start != start) {
            return;
        }
        if again {
            // Not all at the same time.
            let pause = micros(self.scenario.totem.token) * (6 + index as u64 % 5) / 16;
            self.schedule(now + pause, Happening::Ask(index, start, true));
        }
        let awake = |living: &Living| living.life.start == start && now >= living.busy_until;
        let Some(living) = self.hosts[index].living.as_mut().filter(|living| awake(living)) else { return };
        let life = living.life;
        let local = living.show(now);
        let answer = living.actor.asks(local);
        let totem = living.member.totem();
        let heard_at = totem.token_at().unwrap_or_default().max(living.entered_at);
        let silent = local - heard_at;
        let Status { ring, quorate, lease, .. } = answer;
        self.record(life, What::Inside(Inside::Asked { ring, quorate, lease, silent }));
        // Once it has looked at its timers, it has been told the same.
        self.go_on(index);
        let Some(living) = self.hosts[index].living.as_ref().filter(|living| awake(living)) else { return };
        let told = living.status.as_ref().is_none_or(|told| *told == living.actor.asks(local));
        if !told {
            self.record(life, What::Inside(Inside::Unaware));
        }
    }

    /// A node's application hangs: if it may act, it was just about to. Whether it did something before.
    pub(super) fn hang(&mut self, index: usize, lasts: Duration) -> bool {
        let now = self.now;
        let Some(living) = &mut self.hosts[index].living else { return false };
        let (life, until) = (living.life, now + micros(lasts));
        let awake = now >= living.busy_until.max(living.actor.hangs_until);
        let granted = if awake { living.actor.may_act(living.clock.show(now)) } else { None };
        living.actor.hangs_until = living.actor.hangs_until.max(until);
        if let Some(term) = granted {
            // The node itself may not have noticed yet that its wait is over: that is a timer of its own.
            self.note_lease(index);
            self.record(life, What::Inside(Inside::Acts(term)));
            self.schedule(now, Happening::Land(index, life.start, term));
        }
        true
    }

    /// An act comes to what it acts on.
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

    /// This life of a host, if its application does something now; what it was to do comes later if it stands still or hangs.
    fn awake(
        &mut self,
        index: usize,
        start: u32,
        later: impl FnOnce(usize, u32) -> Happening,
    ) -> Option<&mut Living> {
        let now = self.now;
        let living = self.hosts[index].living.as_ref().filter(|living| living.life.start == start)?;
        let until = living.busy_until.max(living.actor.hangs_until);
        if now < until {
            // The calm may come sooner.
            let at = until.min(now + micros(self.scenario.totem.token) / 8);
            self.schedule(at, later(index, start));
            return None;
        }
        self.hosts[index].living.as_mut()
    }
}
