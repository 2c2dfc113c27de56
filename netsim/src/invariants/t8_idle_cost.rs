//! T8: the token of an idle ring completes one rotation per hold time, even while a frame is
//! requested in vain (B36), unless the configuration says otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_membership::{NodeId, RingId, Seq};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

#[derive(Default)]
pub(super) struct IdleCost {
    /// The ring that each node has installed.
    rings: BTreeMap<NodeId, RingId>,
    idle: BTreeMap<RingId, Idle>,
}

/// The last token that arrived at a representative.
struct Idle {
    seq: Seq,
    at: Duration,
    /// The number of tokens since a member last had something to send.
    rotations: u32,
    /// Whether the token arrived early. A DC that hands over wakes the token once, and no record
    /// here shows it.
    early: bool,
}

impl Online for IdleCost {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let token = match &record.what {
            What::Regular(regular) => {
                let before = self.rings.insert(life.node, regular.ring);
                for ring in before.into_iter().chain([regular.ring]) {
                    self.idle.remove(&ring);
                }
                return Ok(());
            }
            // An application or a member in the sync of a new ring has something to send. Any
            // member may hold the token and be asked for it.
            What::Accepted { .. } | What::Synced(_) | What::Inside(Inside::Woken) => {
                self.rings.get(&life.node).map(|ring| self.idle.remove(ring));
                return Ok(());
            }
            // The holder passes the token on at once because of the request.
            What::Inside(Inside::Token(token))
                if cluster.totem.cancel_token_hold_on_retransmit && !token.rtr.is_empty() =>
            {
                self.idle.remove(&token.ring);
                return Ok(());
            }
            What::Inside(Inside::Token(token)) if token.ring.representative == life.node => token,
            _ => return Ok(()),
        };
        let totem = &cluster.totem;
        let busy = token.backlog > 0;
        let before = self.idle.get(&token.ring).filter(|before| !busy && before.seq == token.seq);
        let rotations = before.map_or(0, |before| before.rotations + 1);
        // A fast clock shortens the hold time.
        let least = totem.hold * 9 / 10;
        let early = before.is_some_and(|before| {
            before.rotations > totem.seqno_unchanged_const + 2 && record.at - before.at < least
        });
        if let Some(before) = before.filter(|before| before.early && early) {
            let took = record.at - before.at;
            let what = format!(
                "the token of {} returns to {life} after {took:?}, idle for {} rotations",
                token.ring, before.rotations
            );
            return violated("T8", record.at, what);
        }
        self.idle.insert(token.ring, Idle { seq: token.seq, at: record.at, rotations, early });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::config::TotemConfig;
    use quorate_membership::wire::RtrEntry;

    use super::super::story::Story;
    use super::*;

    /// Tokens until a ring counts as idle.
    const PATIENCE: u32 = 33;

    /// The token arrives at node 1 `times` times, after a pause each.
    fn rotations(story: &mut Story, times: u32, pause: Duration) {
        for _ in 0..times {
            story.wait(pause);
            story.record(1, What::Inside(Inside::Token(Box::new(Story::token()))));
        }
    }

    fn idle(pause: Duration) -> Story {
        let mut story = Story::ring(2);
        rotations(&mut story, PATIENCE, Duration::ZERO);
        rotations(&mut story, 10, pause);
        story
    }

    #[test]
    fn an_idle_ring_holds_its_token() {
        let hold = TotemConfig::default().hold;
        idle(hold).is_right(IdleCost::default());
        idle(hold / 2).is_wrong(IdleCost::default(), "the token of 1.4 returns to 1#1 after");
    }

    #[test]
    fn a_member_with_something_to_send_gets_the_token() {
        let mut story = Story::ring(2);
        rotations(&mut story, 30, Duration::ZERO);
        story.record(1, What::Inside(Inside::Woken));
        rotations(&mut story, 30, Duration::ZERO);
        story.accept(1, 1);
        rotations(&mut story, 30, Duration::ZERO);
        story.settle(1);
        rotations(&mut story, 30, Duration::ZERO);
        story.is_right(IdleCost::default());
    }

    #[test]
    fn any_member_of_the_ring_may_be_woken() {
        let woken = |node| {
            let mut story = Story::new(3);
            (1..=2).for_each(|node| story.install(node, "1.4", &[1, 2], &[]));
            story.install(3, "3.4", &[3], &[]);
            for _ in 0..2 * PATIENCE {
                story.record(node, What::Inside(Inside::Woken));
                rotations(&mut story, 1, Duration::ZERO);
            }
            story
        };
        woken(2).is_right(IdleCost::default());
        woken(3).is_wrong(IdleCost::default(), "the token of 1.4 returns to 1#1 after");
    }

    #[test]
    fn a_frame_that_no_node_has_does_not_spin_the_token() {
        let mut story = Story::ring(2);
        for _ in 0..2 * PATIENCE {
            let mut token = Story::token();
            token.rtr = vec![RtrEntry { ring: token.ring, seq: Seq::new(1) }];
            story.record(1, What::Inside(Inside::Token(Box::new(token))));
        }
        story.is_wrong(IdleCost::default(), "returns to 1#1 after 1ms");
    }
}
