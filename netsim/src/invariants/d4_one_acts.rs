//! D4: at any time, at most one life of any node may act as DC, so no two leases overlap.
//!
//! The property holds under these conditions:
//!
//! - Clocks err by at most the rate error, and none of them stops.
//! - Records are not restored from a backup.
//! - The quorum options are strict. Otherwise two rings may both be quorate, and each may have a
//!   DC.

use std::time::Duration;

use quorate_election::Term;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::Fault;
use crate::history::{Inside, Life, Record, What};

/// The conditions that a lease relies on.
pub(super) struct Trust {
    rate_error: u32,
    broken: bool,
}

impl Trust {
    pub(super) fn new(rate_error: u32) -> Self {
        Self { rate_error, broken: false }
    }

    /// Returns `true` if clocks and records still keep their promises after this record, and any
    /// two quorate rings share a member.
    pub(super) fn holds(&mut self, record: &Record, cluster: &Cluster) -> bool {
        if let What::Network(fault) = &record.what {
            self.broken |= match fault {
                Fault::Freeze { .. } | Fault::RollBackRecord(_) => true,
                Fault::Drift { ppm, .. } => ppm.unsigned_abs() > self.rate_error,
                _ => false,
            };
        }
        !self.broken && cluster.strict
    }
}

pub(super) struct OneActs {
    trust: Trust,
    on: Vec<Tenancy>,
    over: Vec<Tenancy>,
}

struct Tenancy {
    life: Life,
    term: Term,
    from: Duration,
    until: Duration,
}

impl OneActs {
    pub(super) fn new(rate_error: u32) -> Self {
        Self { trust: Trust::new(rate_error), on: Vec::new(), over: Vec::new() }
    }

    fn end(&mut self, life: Life, until: Duration, at: Duration) -> Result<(), Violation> {
        let Some(place) = self.on.iter().position(|tenancy| tenancy.life == life) else { return Ok(()) };
        let ended = Tenancy { until, ..self.on.remove(place) };
        // Leases that are still on are compared when they end.
        let other = self
            .over
            .iter()
            .find(|other| other.life != life && other.from < ended.until && ended.from < other.until);
        if let Some(Tenancy { life: other, term, from, until }) = other {
            let (first, last) = ((*from).max(ended.from), (*until).min(ended.until));
            let what = format!(
                "{life} under term {:?} and {other} under term {term:?} could both act from {first:?} until {last:?}",
                ended.term
            );
            return violated("D4", at, what);
        }
        let earliest = self.on.iter().map(|tenancy| tenancy.from).min().unwrap_or(Duration::MAX);
        self.over.retain(|over| over.until > earliest);
        self.over.push(ended);
        Ok(())
    }
}

impl Online for OneActs {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let holds = self.trust.holds(record, cluster);
        let (Some(life), true) = (record.life, holds) else { return Ok(()) };
        match record.what {
            What::Inside(Inside::LeaseOn(term)) => {
                self.on.push(Tenancy { life, term, from: record.at, until: Duration::MAX });
                Ok(())
            }
            What::Inside(Inside::LeaseOff { since, .. }) => self.end(life, since, record.at),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id};
    use super::*;

    fn term(ring_seq: u64, node: u32) -> Term {
        Term { ring_seq, hand_over: 0, node: id(node) }
    }

    fn on(story: &mut Story, node: u32, ring_seq: u64) {
        story.record(node, What::Inside(Inside::LeaseOn(term(ring_seq, node))));
    }

    fn off(story: &mut Story, node: u32, ring_seq: u64, since: u64) {
        let since = Duration::from_millis(since);
        story.record(node, What::Inside(Inside::LeaseOff { term: term(ring_seq, node), since }));
    }

    /// Node 1 may act from 107 ms until `since`, node 2 from 208 ms on.
    fn two(since: u64) -> Story {
        let mut story = Story::ring(3);
        story.wait(Duration::from_millis(100));
        on(&mut story, 1, 4);
        story.wait(Duration::from_millis(100));
        on(&mut story, 2, 8);
        off(&mut story, 1, 4, since);
        off(&mut story, 2, 8, 300);
        story
    }

    #[test]
    fn consecutive_leases_are_right_whenever_noticed() {
        two(150).is_right(OneActs::new(0));
        two(208).is_right(OneActs::new(0));
    }

    #[test]
    fn overlapping_leases_are_wrong() {
        two(209).is_wrong(OneActs::new(0), "could both act from 208ms until 209ms");
    }

    #[test]
    fn two_lives_of_one_node_are_distinct() {
        let mut story = Story::ring(3);
        on(&mut story, 1, 4);
        story.start(1);
        on(&mut story, 1, 8);
        off(&mut story, 1, 8, 100);
        story.is_right(OneActs::new(0));
    }

    #[test]
    fn clocks_beyond_the_rate_error_void_the_promise() {
        let drifting = |ppm| {
            let mut story = Story::ring(3);
            story.fault(Fault::Drift { node: 1, ppm });
            on(&mut story, 1, 4);
            on(&mut story, 2, 8);
            off(&mut story, 1, 4, 500);
            off(&mut story, 2, 8, 500);
            story
        };
        drifting(-1000).is_wrong(OneActs::new(1000), "could both act");
        drifting(-1001).is_right(OneActs::new(1000));
    }
}
