//! S11: what nodes deliver in a ring's regular configuration are beginnings of one sequence, without a gap.

use std::collections::BTreeMap;

use super::{Violation, violated};
use crate::History;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut longest = BTreeMap::new();
    for (life, stays) in history.stays() {
        for stay in stays {
            let ring = stay.regular.ring;
            for pair in stay.in_regular.windows(2) {
                // Small messages share a number.
                if pair[1].seq.before(pair[0].seq) {
                    let what = format!("{life} got {} after {} of {ring}", pair[1].seq, pair[0].seq);
                    return violated("S11", stay.until, what);
                }
            }
            let (first, sequence) = longest.entry(ring).or_insert((life, Vec::new()));
            for (n, delivered) in stay.in_regular.iter().enumerate() {
                match sequence.get(n) {
                    Some(known) if (delivered.message, delivered.seq) != *known => {
                        let what = format!(
                            "message {} of {ring} is at {} for {first} and at {} for {life}: {:?} and {:?}",
                            n + 1,
                            known.1,
                            delivered.seq,
                            known.0.map(|message| message.to_string()),
                            delivered.message.map(|message| message.to_string()),
                        );
                        return violated("S11", stay.until, what);
                    }
                    Some(_) => {}
                    None => sequence.push((delivered.message, delivered.seq)),
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_node_may_have_got_less_of_a_ring_than_another() {
        let mut story = Story::ring(2);
        for (number, seq) in [(1, 5), (2, 5), (3, 9)] {
            story.deliver(1, 1, number, seq);
        }
        story.deliver(2, 1, 1, 5);
        story.is_right(check);
    }

    #[test]
    fn a_node_may_not_have_got_another_order() {
        let mut story = Story::ring(2);
        story.deliver(1, 1, 1, 5);
        story.deliver(1, 2, 1, 6);
        story.deliver(2, 2, 1, 6);
        story.is_wrong(check, "message 1 of 1.4 is at 5 for 1#1 and at 6 for 2#1");
    }

    #[test]
    fn numbers_do_not_fall_but_they_wrap() {
        let mut story = Story::ring(1);
        story.deliver(1, 1, 1, u32::MAX);
        story.deliver(1, 1, 2, 0);
        story.is_right(check);
        story.deliver(1, 1, 3, u32::MAX - 1);
        story.is_wrong(check, "1#1 got 4294967294 after 0 of 1.4");
    }
}
