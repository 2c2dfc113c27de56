//! D7: elections end, and there is none without a cause: a ring elects once; and a DC that goes from one settled ring
//! straight into the next, where nobody is new, stays DC.

use std::collections::BTreeMap;

use quorate_membership::{NodeId, RingId};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

/// What the ring that a life is in has elected, and the ring before it.
#[derive(Default)]
struct Elected {
    here: Option<(RingId, Option<NodeId>)>,
    before: Option<NodeId>,
}

#[derive(Default)]
pub(super) struct ElectionsEnd(BTreeMap<Life, Elected>);

impl Online for ElectionsEnd {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        match &record.what {
            What::Crashed => drop(self.0.remove(&life)),
            What::Transitional(change) => {
                let elected = self.0.entry(life).or_default();
                let here = elected.here.take().filter(|(ring, _)| *ring == change.previous);
                elected.before = here.and_then(|(_, dc)| dc);
            }
            What::Status(status) if status.settled => {
                let Some(regular) = cluster.regular(life) else { return Ok(()) };
                let wrong = |what| violated("D7", record.at, format!("{life} in {}: {what}", regular.ring));
                let elected = self.0.entry(life).or_default();
                if let Some((_, before)) = elected.here.replace((regular.ring, status.dc)) {
                    let same = before == status.dc;
                    return if same {
                        Ok(())
                    } else {
                        wrong(format!("elects {:?} after {before:?}", status.dc))
                    };
                }
                let Some(previous) = elected.before.filter(|dc| regular.members.contains(dc)) else {
                    return Ok(());
                };
                if regular.joined.is_empty() && status.dc != Some(previous) {
                    let what =
                        format!("elects {:?}, though {previous} is there and nobody is new", status.dc);
                    return wrong(what);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id};
    use super::*;

    fn second(members: &[u32], along: &[u32], dc: u32) -> Story {
        let mut story = Story::ring(3);
        story.settle_as(1, |status| status.dc = Some(id(2)));
        story.install(1, "1.8", members, along);
        story.settle_as(1, |status| status.dc = Some(id(dc)));
        story
    }

    #[test]
    fn a_dc_stays_unless_it_is_gone_or_somebody_is_new() {
        second(&[1, 2], &[1, 2], 2).is_right(ElectionsEnd::default());
        second(&[1, 3], &[1, 3], 1).is_right(ElectionsEnd::default());
        second(&[1, 2, 3], &[1, 2], 3).is_right(ElectionsEnd::default());
        second(&[1, 2], &[1, 2], 1).is_wrong(
            ElectionsEnd::default(),
            "1#1 in 1.8: elects Some(1), though 2 is there and nobody is new",
        );
    }

    #[test]
    fn a_ring_elects_once() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.settle(1);
        story.is_right(ElectionsEnd::default());
        story.settle_as(1, |status| status.dc = Some(id(2)));
        story.is_wrong(ElectionsEnd::default(), "1#1 in 1.4: elects");
    }
}
