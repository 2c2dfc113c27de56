//! S4: a message that a ring has ordered is delivered while the node is in that ring, or in the transitional
//! configuration that ends it, and at no other time.

use super::{Violation, violated};
use crate::History;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    for (life, stays) in history.stays() {
        for stay in stays {
            let here = stay.regular.ring;
            for delivered in stay.in_regular.iter().chain(&stay.in_transitional) {
                if delivered.ring != here {
                    let what = format!("{life} was in {here} and got a message of {}", delivered.ring);
                    return violated("S4", stay.until, what);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, ring};
    use super::*;

    #[test]
    fn the_last_messages_of_a_ring_come_in_its_transitional_configuration() {
        let mut story = Story::ring(2);
        story.deliver(1, 2, 1, 1);
        story.leave_ring(1, "1.8", &[1]);
        story.deliver(1, 2, 2, 2);
        story.enter_ring(1, "1.8", &[1], &[1]);
        story.deliver(1, 1, 1, 1);
        story.is_right(check);
    }

    #[test]
    fn no_message_comes_after_its_ring() {
        let mut story = Story::ring(2);
        story.install(1, "1.8", &[1], &[1]);
        story.deliver_as(1, 2, 1, 1, |delivered| delivered.ring = ring("1.4"));
        story.is_wrong(check, "1#1 was in 1.8 and got a message of 1.4");
    }
}
