//! S15, and S14 afterwards: what one member delivers as safe, in its ring or in the transitional configuration that ends
//! it, all deliver who could know of it and live on: in the ring, every member; after it, those who come along.

use std::collections::{BTreeMap, BTreeSet};

use quorate_membership::{Guarantee, NodeId, RingId};

use super::{Violation, violated};
use crate::History;
use crate::history::{Delivered, Life, MessageId};

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let stays = history.stays();
    // What those who have installed another ring since have delivered of a ring.
    let mut delivered: BTreeMap<(RingId, NodeId), (Life, BTreeSet<MessageId>)> = BTreeMap::new();
    for (&life, stays) in &stays {
        for stay in stays.iter().filter(|stay| stay.next.is_some()) {
            let all = stay.in_regular.iter().chain(&stay.in_transitional);
            let messages = all.filter_map(|delivered| delivered.message).collect();
            delivered.insert((stay.regular.ring, life.node), (life, messages));
        }
    }
    for (life, stays) in &stays {
        for stay in stays {
            let ring = stay.regular.ring;
            let lacks = |nodes: &BTreeSet<NodeId>, messages: &[&Delivered]| {
                nodes.iter().find_map(|node| {
                    let (theirs, has) = delivered.get(&(ring, *node))?;
                    let safe = messages.iter().filter(|message| message.guarantee == Guarantee::Safe);
                    let message =
                        safe.filter_map(|safe| safe.message).find(|message| !has.contains(message))?;
                    Some(format!("{life} delivered {message} in {ring} as safe, and {theirs} never did"))
                })
            };
            if let Some(what) = lacks(&stay.regular.members, &stay.in_regular) {
                return violated("S14", stay.until, what);
            }
            let along = stay.transitional.map(|change| &change.members);
            if let Some(what) = along.and_then(|along| lacks(along, &stay.in_transitional)) {
                return violated("S15", stay.until, what);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn safe(story: &mut Story, node: u32) {
        story.deliver_as(node, 1, 1, 1, |delivered| delivered.guarantee = Guarantee::Safe);
    }

    fn go_on(story: &mut Story, node: u32) {
        story.enter_ring(node, "1.8", &[1, 2], &[1, 2]);
    }

    /// Node 1 delivers a safe message at the end of its ring, on the way to another with node 2; of three nodes, this
    /// one does too.
    fn at_the_end(by: u32) -> Story {
        let mut story = Story::ring(3);
        for node in [1, 2] {
            story.leave_ring(node, "1.8", &[1, 2]);
        }
        story.leave_ring(3, "3.8", &[3]);
        safe(&mut story, 1);
        if by > 1 {
            safe(&mut story, by);
        }
        story.enter_ring(3, "3.8", &[3], &[3]);
        go_on(&mut story, 1);
        story
    }

    #[test]
    fn those_who_come_along_deliver_it() {
        let mut story = at_the_end(2);
        go_on(&mut story, 2);
        story.is_right(check);
        let mut story = at_the_end(3);
        go_on(&mut story, 2);
        story.is_wrong(check, "1#1 delivered 1#1:1 in 1.4 as safe, and 2#1 never did");
    }

    #[test]
    fn also_if_they_went_elsewhere_in_the_end() {
        let mut story = at_the_end(1);
        story.enter_ring(2, "2.c", &[2], &[2]);
        story.is_wrong(check, "2#1 never did");
    }

    #[test]
    fn who_crashes_need_not() {
        let mut story = at_the_end(1);
        story.crash(2);
        story.is_right(check);
    }

    #[test]
    fn in_a_ring_every_member_delivers_it() {
        let mut story = Story::ring(3);
        safe(&mut story, 1);
        safe(&mut story, 2);
        story.install(3, "3.8", &[3], &[3]);
        story.is_wrong(check, "1#1 delivered 1#1:1 in 1.4 as safe, and 3#1 never did");
    }
}
