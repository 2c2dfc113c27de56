//! D3: a ring with a DC has a term exactly if it has quorum, and the term is the DC's. A node never
//! sees terms fall, not even over its restarts, and another DC has a higher term. A term belongs to
//! one ring.

use std::collections::BTreeMap;

use quorate_election::Term;
use quorate_membership::{NodeId, RingId};

use super::cluster::{Cluster, Recent};
use super::{Online, Violation, violated};
use crate::history::{Record, What};

#[derive(Default)]
pub(super) struct TermsRise {
    latest: BTreeMap<NodeId, Term>,
    rings: Recent<Term, Option<RingId>>,
}

impl Online for TermsRise {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Status(status)) = (record.life, &record.what) else { return Ok(()) };
        let wrong = |what| violated("D3", record.at, format!("{life} in {:?}: {what}", status.ring));
        let Some(term) = status.term else {
            return match (status.quorate, status.dc, &status.vacant) {
                (true, Some(_), _) => wrong("quorum and a dc, but no term".to_owned()),
                (true, None, None) => wrong("quorum, but neither a term nor a reason".to_owned()),
                _ => Ok(()),
            };
        };
        if !status.quorate {
            return wrong(format!("term {term:?} without quorum"));
        }
        if status.dc != Some(term.node) {
            return wrong(format!("the dc is {:?}, but the term {term:?}", status.dc));
        }
        if let Some(before) = self.latest.insert(life.node, term)
            && (term < before || (term.node != before.node && term == before))
        {
            return wrong(format!("term {term:?} after {before:?}"));
        }
        let ring = *self.rings.entry(term, || status.ring);
        if ring == status.ring { Ok(()) } else { wrong(format!("term {term:?} was used in {ring:?} too")) }
    }
}

#[cfg(test)]
mod tests {
    use quorate_election::{Status, Term};

    use super::super::story::{Story, id};
    use super::*;

    fn term(ring_seq: u64, node: u32) -> Option<Term> {
        Some(Term { ring_seq, hand_over: 0, node: id(node) })
    }

    fn next(wrong: impl FnOnce(&mut Status)) -> Story {
        let mut story = Story::ring(3);
        story.settle(1);
        story.settle(2);
        story.install(2, "2.8", &[2, 3], &[2, 3]);
        story.settle_as(2, wrong);
        story
    }

    #[test]
    fn terms_rise() {
        next(|_| {}).is_right(TermsRise::default());
        next(|status| status.term = term(3, 2)).is_wrong(TermsRise::default(), "2#1 in Some(2.8): term");
    }

    #[test]
    fn terms_do_not_fall_over_a_restart() {
        let mut story = next(|_| {});
        story.crash(2);
        story.start(2);
        story.install(2, "2.5", &[2, 3], &[]);
        story.settle(2);
        story.is_wrong(TermsRise::default(), "2#2 in Some(2.5): term");
    }

    #[test]
    fn a_term_is_the_dcs() {
        next(|status| status.dc = Some(id(3)))
            .is_wrong(TermsRise::default(), "the dc is Some(3), but the term");
    }

    #[test]
    fn a_ring_has_a_term_exactly_if_it_has_quorum() {
        next(|status| status.term = None).is_wrong(TermsRise::default(), "quorum and a dc, but no term");
        next(|status| status.quorate = false).is_wrong(TermsRise::default(), "without quorum");
    }

    #[test]
    fn a_term_belongs_to_one_ring() {
        let mut story = next(|_| {});
        story.install(3, "2.c", &[2, 3], &[2, 3]);
        story.settle_as(3, |status| status.term = term(8, 2));
        story.is_wrong(TermsRise::default(), "was used in Some(2.8) too");
    }
}
