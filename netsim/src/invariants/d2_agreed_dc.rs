//! D2: when a ring is settled, each of its members names a DC, or says why there is none; and they name the same, with the
//! same term, or say the same. So they do after each hand-over.

use std::collections::BTreeMap;

use super::{Violation, violated};
use crate::History;
use crate::history::What;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut dcs = BTreeMap::new();
    for (life, records) in history.lives() {
        let mut owed = None;
        for record in records {
            match &record.what {
                What::Status(status) if status.settled => {
                    owed = None;
                    if status.dc.is_none() && status.vacant.is_none() {
                        let what = format!("{life} names no dc in {:?}, which is settled", status.ring);
                        return violated("D2", record.at, what);
                    }
                    let named = (status.dc, status.term, &status.vacant);
                    let point = (status.ring, status.term.map(|term| term.hand_over));
                    let (first, theirs) = *dcs.entry(point).or_insert((life, named));
                    if theirs != named {
                        let what =
                            format!("{life} names {named:?} in {:?}, and {first} {theirs:?}", status.ring);
                        return violated("D2", record.at, what);
                    }
                }
                What::Synced(ring) => owed = Some((record.at, *ring)),
                What::Regular(_) | What::Transitional(_) | What::Delivered(_) | What::Status(_) => {
                    if let Some((at, ring)) = owed {
                        let what =
                            format!("{life} in {ring} is settled, and the next thing is: {}", record.what);
                        return violated("D2", at, what);
                    }
                }
                _ => {}
            }
        }
        if let Some((at, ring)) = owed {
            return violated("D2", at, format!("{life} in {ring} is settled and names nobody"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_election::{Status, Term, Vacancy};

    use super::super::story::{Story, id, ring};
    use super::*;

    #[test]
    fn all_name_the_same() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.settle(2);
        story.is_right(check);
        let other = Some(Term { ring_seq: 5, hand_over: 0, node: id(1) });
        story.settle_as(3, |status| status.term = other);
        story.is_wrong(check, "3#1 names (Some(1), Some(Term { ring_seq: 5");
    }

    #[test]
    fn all_name_somebody() {
        let mut story = Story::ring(2);
        story.settle_as(1, |status| status.dc = None);
        story.is_wrong(check, "1#1 names no dc in Some(1.4), which is settled");
        let vacant = |status: &mut Status| {
            (status.dc, status.term, status.vacant) = (None, None, Some(Vacancy::NoCandidate));
        };
        let mut story = Story::ring(2);
        story.settle_as(1, vacant);
        story.settle_as(2, vacant);
        story.is_right(check);
        let mut story = Story::ring(2);
        story.record(2, What::Synced(ring("1.4")));
        story.is_wrong(check, "2#1 in 1.4 is settled and names nobody");
    }

    #[test]
    fn all_name_it_before_the_first_message() {
        let mut story = Story::ring(2);
        story.record(2, What::Synced(ring("1.4")));
        story.deliver(2, 1, 1, 1);
        story.settle(2);
        story.is_wrong(check, "2#1 in 1.4 is settled, and the next thing is: delivered");
    }
}
