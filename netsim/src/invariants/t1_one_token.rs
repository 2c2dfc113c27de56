//! T1: a ring has one token. Each of its numbers is accepted once, and they rise.

use std::collections::BTreeMap;

use quorate_membership::{RingId, Seq};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Life, Record, What};

#[derive(Default)]
pub(super) struct OneToken {
    /// The last number accepted in each ring, and the life that accepted it.
    rings: BTreeMap<RingId, (Seq, Life)>,
}

impl OneToken {
    /// An upper bound on the rings that turn at the same time.
    const RINGS: usize = 64;
}

impl Online for OneToken {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(Inside::Token(token))) = (record.life, &record.what) else {
            return Ok(());
        };
        let last = self.rings.insert(token.ring, (token.token_seq, life));
        if let Some((seq, before)) = last
            && token.token_seq.at_or_before(seq)
        {
            let what = format!(
                "{life} accepted token {} of {} after {before} had accepted {seq}",
                token.token_seq, token.ring
            );
            return violated("T1", record.at, what);
        }
        if self.rings.len() > Self::RINGS {
            self.rings.pop_first();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn accepted(story: &mut Story, node: u32, token_seq: u32) {
        let mut token = Story::token();
        token.token_seq = Seq::new(token_seq);
        story.record(node, What::Inside(Inside::Token(Box::new(token))));
    }

    #[test]
    fn a_token_goes_around_the_ring() {
        let mut story = Story::ring(2);
        for (node, token_seq) in [(2, u32::MAX), (1, 0), (2, 1)] {
            accepted(&mut story, node, token_seq);
        }
        story.is_right(OneToken::default());
    }

    #[test]
    fn a_second_token_is_wrong() {
        let mut story = Story::ring(2);
        accepted(&mut story, 2, 4);
        accepted(&mut story, 1, 5);
        accepted(&mut story, 2, 5);
        story.is_wrong(OneToken::default(), "2#1 accepted token 5 of 1.4 after 1#1 had accepted 5");
    }
}
