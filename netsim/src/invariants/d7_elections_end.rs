//! D7: elections end, and there is none without a cause: a ring elects once, at its beginning or when it has waited for
//! others, and once more for each hand-over; and a DC that goes from one settled ring
//! straight into the next, where nobody is new, stays DC.

use std::collections::BTreeMap;

use quorate_election::Term;
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
    let mut elected: BTreeMap<(Life, RingId), (Option<NodeId>, Option<Term>)> = BTreeMap::new();
    for Stated { at, life, regular, status } in history.statuses() {
        let Some(regular) = regular.filter(|_| status.settled) else { continue };
        let ring = regular.ring;
        let wrong = |what| violated("D7", at, format!("{life} in {ring}: {what}"));
        let result = (status.dc, status.term);
        if let Some(before) = elected.insert((life, ring), result) {
            let same = before == result;
            let handed_over = match (before.1, status.term) {
                (Some(before), Some(now)) => now.hand_over == before.hand_over + 1,
                _ => false,
            };
            if !same && !handed_over && before.0.is_some() {
                return wrong(format!("elects {:?} after {:?}", status.dc, before.0));
            }
            continue;
        }
        let previous = came_from.get(&(life, ring)).and_then(|from| elected.get(&(life, *from))?.0);
        if status.vacant.is_some() {
            continue;
        }
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
        let elects_again = |dc: u32, hand_over: u32| {
            let mut story = Story::ring(3);
            story.settle(1);
            let term = Some(Term { ring_seq: 4, hand_over, node: id(dc) });
            story.settle_as(1, |status| (status.dc, status.term) = (Some(id(dc)), term));
            story
        };
        elects_again(1, 0).is_right(check);
        elects_again(2, 1).is_right(check);
        elects_again(2, 0).is_wrong(check, "1#1 in 1.4: elects");
        elects_again(2, 2).is_wrong(check, "1#1 in 1.4: elects");
    }
}
