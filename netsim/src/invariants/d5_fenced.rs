//! D5: a fenced resource accepts no act of a term below one that it has accepted, and no two
//! processes act under one term, whatever clocks do. While clocks keep their promises, it rejects
//! no process that may act, because later tenures have higher terms.

use quorate_election::Term;

use super::cluster::{Cluster, Recent};
use super::d4_one_acts::Trust;
use super::{Online, Violation, violated};
use crate::history::{Inside, Life, Record, What};

pub(super) struct Fenced {
    trust: Trust,
    highest: Option<Term>,
    /// The life that acted under each of the latest terms.
    actors: Recent<Term, Life>,
}

impl Fenced {
    pub(super) fn new(rate_error: u32) -> Self {
        Self { trust: Trust::new(rate_error), highest: None, actors: Recent::default() }
    }
}

impl Online for Fenced {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let trust = self.trust.holds(record, cluster);
        let (Some(life), What::Inside(Inside::Landed { term, accepted, timely })) =
            (record.life, &record.what)
        else {
            return Ok(());
        };
        let wrong = |what: String| violated("D5", record.at, format!("{life} under term {term:?}: {what}"));
        let actor = *self.actors.entry(*term, || life);
        if actor != life {
            return wrong(format!("{actor} has already acted under it"));
        }
        if *accepted {
            if let Some(highest) = self.highest.filter(|highest| highest > term) {
                return wrong(format!("an act is accepted after one under {highest:?}"));
            }
            self.highest = Some(*term);
        } else if *timely && trust {
            return wrong(format!("an act is refused though it may act; the highest is {:?}", self.highest));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id};
    use super::*;
    use crate::Fault;

    fn term(ring_seq: u64, node: u32) -> Term {
        Term { ring_seq, hand_over: 0, node: id(node) }
    }

    fn land(story: &mut Story, node: u32, term: Term, accepted: bool, timely: bool) {
        story.record(node, What::Inside(Inside::Landed { term, accepted, timely }));
    }

    #[test]
    fn late_acts_are_refused_and_others_accepted() {
        let mut story = Story::ring(3);
        land(&mut story, 1, term(4, 1), true, true);
        land(&mut story, 2, term(8, 2), true, true);
        land(&mut story, 1, term(4, 1), false, false);
        land(&mut story, 1, term(12, 1), true, false);
        story.is_right(Fenced::new(0));
    }

    #[test]
    fn an_act_of_an_ended_tenure_must_not_be_accepted() {
        let mut story = Story::ring(3);
        land(&mut story, 2, term(8, 2), true, true);
        land(&mut story, 1, term(4, 1), true, false);
        story.is_wrong(Fenced::new(0), "an act is accepted after one under Term { ring_seq: 8");
    }

    #[test]
    fn a_term_belongs_to_one_process() {
        let mut story = Story::ring(3);
        land(&mut story, 1, term(4, 1), true, true);
        story.start(1);
        land(&mut story, 1, term(4, 1), true, true);
        story.is_wrong(Fenced::new(0), "1#1 has already acted under it");
    }

    #[test]
    fn a_rightful_act_is_refused_only_if_clocks_are_wrong() {
        let refused = |fault: Option<Fault>| {
            let mut story = Story::ring(3);
            fault.into_iter().for_each(|fault| story.fault(fault));
            land(&mut story, 1, term(8, 1), true, true);
            land(&mut story, 2, term(4, 2), false, true);
            story
        };
        refused(None).is_wrong(Fenced::new(0), "an act is refused though it may act");
        let freeze = Fault::Freeze { node: 2, lasts: std::time::Duration::from_secs(1) };
        refused(Some(freeze)).is_right(Fenced::new(0));
    }
}
