//! Applications that act as DC, on something that fences: it remembers the highest term under which it was acted on, and
//! refuses lower ones.
//!
//! Every node's application looks now and then whether it may act, and then does; but what it does takes effect a while
//! later, and later still if its node stands still meanwhile. No check is one with the act that follows it.

use quorate_election::Term;
use rand::Rng;

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
        let next = living.whims.random_range(token / 16..token / 4).max(1);
        let life = living.life;
        let local = living.show(now);
        let granted = living.member.lease().filter(|(_, until)| local < *until);
        let takes = living.whims.random_range(0..token / 8);
        self.schedule(now + next, Happening::Act(index, start));
        if let Some((term, _)) = granted {
            self.record(life, What::Inside(Inside::Acts(term)));
            self.schedule(now + takes, Happening::Land(index, start, term));
        }
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

    /// This life of a host, if it does something now; what it was to do comes later if it stands still.
    fn awake(
        &mut self,
        index: usize,
        start: u32,
        later: impl FnOnce(usize, u32) -> Happening,
    ) -> Option<&mut Living> {
        let now = self.now;
        let living = self.hosts[index].living.as_ref().filter(|living| living.life.start == start)?;
        if now < living.busy_until {
            let at = living.busy_until;
            self.schedule(at, later(index, start));
            return None;
        }
        self.hosts[index].living.as_mut()
    }
}
