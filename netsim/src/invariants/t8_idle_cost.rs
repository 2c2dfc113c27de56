//! T8: the token of an idle ring goes round once in a hold time, also while a frame is asked for in vain (B36), unless
//! the configuration wants that otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_membership::{NodeId, RingId, Seq};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

#[derive(Default)]
pub(super) struct IdleCost {
    idle: BTreeMap<NodeId, Idle>,
}

/// The last token that came to a representative.
struct Idle {
    ring: RingId,
    seq: Seq,
    at: Duration,
    /// Tokens since somebody had something to say.
    rotations: u32,
    /// It came early. A DC that hands over wakes the token once without a word to anybody here.
    early: bool,
}

impl Online for IdleCost {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        let token = match &record.what {
            // Somebody has something to say: its application, or it itself in the sync of a new ring.
            What::Accepted { .. } | What::Regular(_) | What::Synced(_) => {
                self.idle.remove(&life.node);
                return Ok(());
            }
            // Any member may hold it, and be woken, or let it go on because of what is asked for.
            What::Inside(Inside::Woken) => {
                self.idle.clear();
                return Ok(());
            }
            What::Inside(Inside::Token(token))
                if cluster.totem.cancel_token_hold_on_retransmit && !token.rtr.is_empty() =>
            {
                self.idle.clear();
                return Ok(());
            }
            What::Inside(Inside::Token(token)) if token.ring.representative == life.node => token,
            _ => return Ok(()),
        };
        let totem = &cluster.totem;
        let busy = token.backlog > 0;
        let before = self
            .idle
            .get(&life.node)
            .filter(|before| !busy && (before.ring, before.seq) == (token.ring, token.seq));
        let rotations = before.map_or(0, |before| before.rotations + 1);
        // A clock that is too fast makes it short.
        let least = totem.hold * 9 / 10;
        let early = before.is_some_and(|before| {
            before.rotations > totem.seqno_unchanged_const + 2 && record.at - before.at < least
        });
        if let Some(before) = before.filter(|before| before.early && early) {
            let took = record.at - before.at;
            let what = format!(
                "the token of {} comes to {life} again after {took:?}, idle since {} rotations",
                token.ring, before.rotations
            );
            return violated("T8", record.at, what);
        }
        let (ring, seq) = (token.ring, token.seq);
        self.idle.insert(life.node, Idle { ring, seq, at: record.at, rotations, early });
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

    /// Node 1 has the token so often, after such a pause each.
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
        idle(hold / 2).is_wrong(IdleCost::default(), "the token of 1.4 comes to 1#1 again after");
    }

    #[test]
    fn who_has_something_to_say_gets_the_token() {
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
    fn a_frame_that_nobody_has_does_not_spin_the_token() {
        let mut story = Story::ring(2);
        for _ in 0..2 * PATIENCE {
            let mut token = Story::token();
            token.rtr = vec![RtrEntry { ring: token.ring, seq: Seq::new(1) }];
            story.record(1, What::Inside(Inside::Token(Box::new(token))));
        }
        story.is_wrong(IdleCost::default(), "comes to 1#1 again after 1ms");
    }
}
