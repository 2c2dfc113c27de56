//! M9: a formation that fails leaves the installed ring as it was. The ring's id and what was
//! delivered stay the same. The received frames do not become fewer, and match the frames that the
//! node received.

use std::collections::BTreeMap;

use quorate_membership::{NodeId, Phase, Seq};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Life, Record, Standing, What};

#[derive(Default)]
pub(super) struct Restored {
    /// The state that each node had when it was last seen without a standing ring.
    standing: BTreeMap<NodeId, (Life, Standing)>,
}

impl Restored {
    fn compare(&self, life: Life, from: Phase, now: &Standing, cluster: &Cluster) -> Result<(), String> {
        let installed = cluster.regular(life).map(|regular| regular.ring);
        if let Some(installed) = installed.filter(|installed| *installed != now.ring) {
            return Err(format!("has {}, but installed {installed}", now.ring));
        }
        let aru = installed.and_then(|ring| cluster.receipts(life.node, ring)).map(|receipts| receipts.aru);
        // Frames numbered just before the node gave up are sent a moment later.
        let numbered = |aru: &Seq| from == Phase::Operational && aru.before(now.aru);
        if let Some(aru) = aru.filter(|aru| *aru != now.aru && !numbered(aru)) {
            return Err(format!("has {} up to {}, but received up to {aru}", now.ring, now.aru));
        }
        let Some((_, before)) = self.standing.get(&life.node).filter(|(then, _)| *then == life) else {
            return Ok(());
        };
        let less = now.aru.before(before.aru) || now.high.before(before.high);
        if less || (now.ring, now.delivered) != (before.ring, before.delivered) {
            return Err(format!("has {now:?} after {before:?}"));
        }
        Ok(())
    }
}

impl Online for Restored {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(Inside::Phase { from, to, ring, .. })) = (record.life, &record.what)
        else {
            return Ok(());
        };
        if *from == Phase::Operational || matches!(to, Phase::Operational | Phase::Left) {
            self.standing.remove(&life.node);
        }
        if matches!(to, Phase::Operational | Phase::Left) {
            return Ok(());
        }
        let right = self.compare(life, *from, ring, cluster);
        self.standing.insert(life.node, (life, *ring));
        right.or_else(|why| violated("M9", record.at, format!("{life} goes from {from} to {to}: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, ring};
    use super::*;

    /// Node 1 has received 3 frames of its ring, delivered 1 of them, and fails an attempt to form
    /// another ring.
    fn failed(wrong: impl FnOnce(&mut Standing)) -> Story {
        let mut story = Story::ring(2);
        for n in [1, 2, 3] {
            story.record(1, What::Inside(Inside::Received(Story::frame(2, n))));
        }
        let now = Standing { ring: ring("1.4"), aru: Seq::new(3), high: Seq::new(3), delivered: Seq::new(1) };
        let mut after = now;
        wrong(&mut after);
        for (from, to, standing) in [
            (Phase::Operational, Phase::Gather, now),
            (Phase::Gather, Phase::Commit, now),
            (Phase::Commit, Phase::Recovery, now),
            (Phase::Recovery, Phase::Gather, after),
        ] {
            story.phase_with(1, from, to, standing);
        }
        story
    }

    #[test]
    fn a_failed_formation_changes_nothing() {
        failed(|_| {}).is_right(Restored::default());
        failed(|now| now.ring = ring("1.8")).is_wrong(Restored::default(), "has 1.8, but installed 1.4");
        failed(|now| now.delivered = Seq::new(2)).is_wrong(Restored::default(), "after Standing");
        failed(|now| now.high = Seq::new(2)).is_wrong(Restored::default(), "after Standing");
        failed(|now| now.aru = Seq::new(2))
            .is_wrong(Restored::default(), "has 1.4 up to 2, but received up to 3");
    }
}
