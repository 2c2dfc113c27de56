//! D8: a DC whose application gives no sign of life loses the right to act within its heartbeat. A
//! node that is paused, slow or has too wrong a clock is exempt, because it cannot check in time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_membership::NodeId;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::Fault;
use crate::history::{Inside, Life, Record, What};

pub(super) struct Alive {
    heartbeat: Duration,
    /// The start and end of each node's hang.
    hangs: BTreeMap<NodeId, (Duration, Duration)>,
    /// The life of each node that may act, and since when.
    on: BTreeMap<NodeId, (Life, Duration)>,
    /// The nodes that cannot be relied on to check.
    excused: BTreeSet<NodeId>,
}

impl Alive {
    pub(super) fn new(heartbeat: Duration) -> Self {
        Self { heartbeat, hangs: BTreeMap::new(), on: BTreeMap::new(), excused: BTreeSet::new() }
    }

    fn fault(&mut self, at: Duration, fault: &Fault) {
        match *fault {
            Fault::Hang { node, lasts } => {
                let Some(node) = NodeId::new(node) else { return };
                let (_, until) = self.hangs.entry(node).or_insert((at, at));
                *until = (*until).max(at + lasts);
            }
            // This may be the calm at the end of a run, in which hung applications continue.
            Fault::Heal => self.hangs.clear(),
            Fault::Drift { ppm, .. } if ppm.unsigned_abs() <= 50_000 => {}
            Fault::Pause { node, .. }
            | Fault::Freeze { node, .. }
            | Fault::Slow { node, .. }
            | Fault::Drift { node, .. } => self.excused.extend(NodeId::new(node)),
            _ => {}
        }
    }

    /// Checks the lives that may act at this time.
    fn look(&self, now: Duration) -> Result<(), Violation> {
        // A clock may be a twentieth too slow.
        let bound = self.heartbeat * 11 / 10 + Duration::from_millis(1);
        for (node, &(from, until)) in &self.hangs {
            let Some((life, on)) = self.on.get(node).filter(|_| !self.excused.contains(node)) else {
                continue;
            };
            let (first, last) = (from.max(*on), until.min(now));
            if last.saturating_sub(first) > bound {
                let what = format!("{life} may act from {first:?} to {last:?} though its application hangs");
                return violated("D8", now, what);
            }
        }
        Ok(())
    }
}

impl Online for Alive {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        if self.heartbeat.is_zero() {
            return Ok(());
        }
        match (record.life, &record.what) {
            (Some(_), What::Inside(Inside::LeaseOff { since, .. })) => self.look(*since)?,
            _ => self.look(record.at)?,
        }
        self.hangs.retain(|_, (_, until)| *until > record.at);
        match (record.life, &record.what) {
            (None, What::Network(fault)) => self.fault(record.at, fault),
            (Some(life), What::Started) => drop(self.hangs.remove(&life.node)),
            (Some(life), What::Inside(Inside::LeaseOn(_))) => {
                self.on.insert(life.node, (life, record.at));
            }
            (Some(life), What::Inside(Inside::LeaseOff { .. })) => drop(self.on.remove(&life.node)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_election::Term;

    use super::super::story::{Story, id};
    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(10);

    fn term() -> Term {
        Term { ring_seq: 4, hand_over: 0, node: id(1) }
    }

    /// Node 1's lease is on for `ms` milliseconds after its application began to hang.
    fn holds_for(ms: u64, trouble: Option<Fault>) -> Story {
        let mut story = Story::ring(3);
        story.record(1, What::Inside(Inside::LeaseOn(term())));
        trouble.into_iter().for_each(|fault| story.fault(fault));
        story.fault(Fault::Hang { node: 1, lasts: Duration::from_secs(1) });
        (0..ms).for_each(|_| story.fault(Fault::Replay(1)));
        let since = story.now();
        story.record(1, What::Inside(Inside::LeaseOff { term: term(), since }));
        story
    }

    #[test]
    fn a_dc_that_hangs_acts_no_longer_than_its_heartbeat() {
        holds_for(10, None).is_right(Alive::new(HEARTBEAT));
        holds_for(30, None).is_wrong(Alive::new(HEARTBEAT), "though its application hangs");
        holds_for(30, None).is_right(Alive::new(Duration::ZERO));
    }

    #[test]
    fn each_hang_counts_on_its_own() {
        let mut story = Story::ring(3);
        story.record(1, What::Inside(Inside::LeaseOn(term())));
        for _ in 0..5 {
            story.fault(Fault::Hang { node: 1, lasts: HEARTBEAT / 2 });
            (0..10).for_each(|_| story.fault(Fault::Replay(1)));
        }
        story.is_right(Alive::new(HEARTBEAT));
    }

    #[test]
    fn a_paused_node_may_notice_late() {
        let pause = Fault::Pause { node: 1, lasts: HEARTBEAT };
        holds_for(30, Some(pause)).is_right(Alive::new(HEARTBEAT));
    }

    #[test]
    fn a_restarted_node_does_not_hang() {
        let mut story = Story::ring(3);
        story.fault(Fault::Hang { node: 1, lasts: Duration::from_secs(1) });
        story.crash(1);
        story.start(1);
        story.record(1, What::Inside(Inside::LeaseOn(term())));
        (0..30).for_each(|_| story.fault(Fault::Replay(1)));
        let since = story.now();
        story.record(1, What::Inside(Inside::LeaseOff { term: term(), since }));
        story.is_right(Alive::new(HEARTBEAT));
    }
}
