//! D7: elections end, and there is none without a cause: a ring elects once; and a DC that goes from one settled ring
//! straight into the next, where nobody is new, stays DC.

use std::collections::BTreeMap;

use quorate_membership::{NodeId, RingId};

use super::{Violation, violated};
use crate::History;
use crate::history::{Life, Stated, What};

pub(super) fn check(history: &History) -> Result<(), Violation> {
    // From which ring each life came to each.
    let mut came_from: BTreeMap<(Life, RingId), RingId> = BTreeMap::new();
    for record in history.records() {
        if let (Some(life), What::Transitional(change)) = (record.life, &record.what) {
            came_from.insert((life, change.ring), change.previous);
        }
    }
    let mut elected: BTreeMap<(Life, RingId), Option<NodeId>> = BTreeMap::new();
    for Stated { at, life, regular, status } in history.statuses() {
        let Some(regular) = regular.filter(|_| status.settled) else { continue };
        let ring = regular.ring;
        let wrong = |what| violated("D7", at, format!("{life} in {ring}: {what}"));
        if let Some(before) = elected.insert((life, ring), status.dc) {
            if before == status.dc {
                continue;
            }
            return wrong(format!("elects {:?} after {before:?}", status.dc));
        }
        let previous =
            came_from.get(&(life, ring)).and_then(|from| elected.get(&(life, *from)).copied().flatten());
        let Some(previous) = previous.filter(|dc| regular.members.contains(dc)) else { continue };
        if regular.joined.is_empty() && status.dc != Some(previous) {
            return wrong(format!("elects {:?}, though {previous} is there and nobody is new", status.dc));
        }
    }
    Ok(())
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
        second(&[1, 2], &[1, 2], 2).is_right(check);
        second(&[1, 3], &[1, 3], 1).is_right(check);
        second(&[1, 2, 3], &[1, 2], 3).is_right(check);
        second(&[1, 2], &[1, 2], 1)
            .is_wrong(check, "1#1 in 1.8: elects Some(1), though 2 is there and nobody is new");
    }

    #[test]
    fn a_ring_elects_once() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.settle(1);
        story.is_right(check);
        story.settle_as(1, |status| status.dc = Some(id(2)));
        story.is_wrong(check, "1#1 in 1.4: elects");
    }
}
