//! D2: when a ring is settled, each of its members names a DC, and they name the same, with the same term.

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
                    let Some(dc) = status.dc else {
                        let what = format!("{life} names no dc in {:?}, which is settled", status.ring);
                        return violated("D2", record.at, what);
                    };
                    let named = (dc, status.term);
                    let (first, theirs) = *dcs.entry(status.ring).or_insert((life, named));
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
    use super::super::story::{Story, ring};
    use super::*;

    #[test]
    fn all_name_the_same() {
        let mut story = Story::ring(3);
        story.settle(1);
        story.settle(2);
        story.is_right(check);
        story.settle_as(3, |status| status.term = None);
        story.is_wrong(check, "3#1 names (1, None)");
    }

    #[test]
    fn all_name_somebody() {
        let mut story = Story::ring(2);
        story.settle_as(1, |status| status.dc = None);
        story.is_wrong(check, "1#1 names no dc in Some(1.4), which is settled");
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
