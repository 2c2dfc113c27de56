//! T2: the content of a token follows from its content at the visit before and from the frames that
//! its holder has.
//!
//! - Its sequence number rises by the number of frames sent.
//! - Its aru is never beyond the frames that the holder has received. It falls only to the holder's
//!   own aru, and is raised only by the member that lowered it.
//! - A token that is sent again is unchanged.

use std::collections::BTreeMap;

use quorate_membership::wire::Token;
use quorate_membership::{NodeId, RingId, Seq};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Life, Record, What};

#[derive(Default)]
pub(super) struct Fields {
    /// The highest frame number known to an accepted token of each ring.
    highest: BTreeMap<RingId, Seq>,
    /// The token that each node sent last.
    sent: BTreeMap<NodeId, Box<Token>>,
}

impl Fields {
    /// An upper bound on the rings that turn at the same time.
    const RINGS: usize = 64;

    fn accepted(&mut self, token: &Token) -> Result<(), String> {
        let before = self.highest.insert(token.ring, token.seq);
        if self.highest.len() > Self::RINGS {
            self.highest.pop_first();
        }
        match before.filter(|before| token.seq.before(*before)) {
            Some(before) => Err(format!("had seq {before} and now has {}", token.seq)),
            None => Ok(()),
        }
    }

    fn passed_on(life: Life, token: &Token, cluster: &Cluster) -> Result<(), String> {
        let first = cluster.totem.first_seq;
        let has = cluster.receipts(life.node, token.ring).map_or(first, |receipts| receipts.aru);
        if token.seq.before(token.aru) {
            return Err(format!("has aru {} beyond seq {}", token.aru, token.seq));
        }
        if has.before(token.aru) {
            return Err(format!("has aru {}, but its holder has received only up to {has}", token.aru));
        }
        let Some(visit) = cluster.visit(life, token.ring) else { return Ok(()) };
        let came = &visit.token;
        if token.token_seq != came.token_seq.next() {
            return Err(format!("came as token {}", came.token_seq));
        }
        if token.seq != came.seq.plus(visit.numbered) {
            return Err(format!(
                "has seq {} after {} and {} new frames",
                token.seq, came.seq, visit.numbered
            ));
        }
        if token.aru.before(came.aru) && token.aru != visit.aru {
            return Err(format!("has aru {} after {}, but its holder {}", token.aru, came.aru, visit.aru));
        }
        if came.aru.before(token.aru)
            && let Some(lowered_by) = came.aru_addr.filter(|node| *node != life.node)
        {
            return Err(format!("has aru {} after {}, which node {lowered_by} had set", token.aru, came.aru));
        }
        Ok(())
    }
}

impl Online for Fields {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(inside)) = (record.life, &record.what) else { return Ok(()) };
        let (token, right) = match inside {
            Inside::Token(token) => (token, self.accepted(token)),
            Inside::TokenSent { token, .. } => {
                let before = self.sent.insert(life.node, token.clone());
                let right = match before.filter(|before| before.ring == token.ring) {
                    Some(before) if token.token_seq.at_or_before(before.token_seq) && before != *token => {
                        Err(format!("is not the last one sent, token {}", before.token_seq))
                    }
                    Some(before) if before == *token => Ok(()),
                    _ => Self::passed_on(life, token, cluster),
                };
                (token, right)
            }
            _ => return Ok(()),
        };
        right.or_else(|why| {
            violated("T2", record.at, format!("{life}: token {} of {} {why}", token.token_seq, token.ring))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, id};
    use super::*;

    fn token(token_seq: u32, seq: u32, aru: u32) -> Token {
        let mut token = Story::token();
        (token.token_seq, token.seq, token.aru) = (Seq::new(token_seq), Seq::new(seq), Seq::new(aru));
        token.aru_addr = (seq != aru).then(|| id(1));
        token
    }

    fn came(story: &mut Story, token: Token) {
        story.record(2, What::Inside(Inside::Token(Box::new(token))));
    }

    fn went(story: &mut Story, token: Token) {
        story.record(2, What::Inside(Inside::TokenSent { to: id(1), token: Box::new(token) }));
    }

    /// Node 2 has received these frames of node 1, and a token with numbers up to 3 arrives.
    fn visit(received: &[u32], aru: u32) -> Story {
        let mut story = Story::ring(2);
        for &n in received {
            story.record(2, What::Inside(Inside::Received(Story::frame(1, n))));
        }
        came(&mut story, token(5, 3, aru));
        story
    }

    #[test]
    fn a_token_reflects_its_holder() {
        let mut story = visit(&[1, 2, 3], 3);
        story.record(2, What::Inside(Inside::Numbered(Story::frame(2, 4))));
        went(&mut story, token(6, 4, 4));
        went(&mut story, token(6, 4, 4));
        came(&mut story, token(7, 4, 4));
        story.is_right(Fields::default());
    }

    #[test]
    fn aru_falls_to_what_the_holder_lacks() {
        let mut story = visit(&[1, 3], 3);
        went(&mut story, token(6, 3, 1));
        story.is_right(Fields::default());
        let mut story = visit(&[1, 3], 3);
        went(&mut story, token(6, 3, 3));
        story.is_wrong(Fields::default(), "has aru 3, but its holder has received only up to 1");
        let mut story = visit(&[1, 2, 3], 3);
        went(&mut story, token(6, 3, 2));
        story.is_wrong(Fields::default(), "has aru 2 after 3, but its holder 3");
    }

    #[test]
    fn aru_is_raised_only_by_the_member_that_lowered_it() {
        let mut story = visit(&[1, 2, 3], 1);
        went(&mut story, token(6, 3, 3));
        story.is_wrong(Fields::default(), "has aru 3 after 1, which node 1 had set");
    }

    #[test]
    fn numbers_rise_by_the_frames_sent() {
        let mut story = visit(&[1, 2, 3], 3);
        went(&mut story, token(6, 5, 3));
        story.is_wrong(Fields::default(), "has seq 5 after 3 and 0 new frames");
        let mut story = visit(&[1, 2, 3], 3);
        came(&mut story, token(7, 2, 2));
        story.is_wrong(Fields::default(), "had seq 3 and now has 2");
        let mut story = visit(&[1, 2, 3], 3);
        went(&mut story, token(7, 3, 3));
        story.is_wrong(Fields::default(), "token 7 of 1.4 came as token 5");
    }

    #[test]
    fn a_token_that_is_sent_again_is_the_same() {
        let mut story = visit(&[1, 2], 2);
        went(&mut story, token(6, 3, 2));
        went(&mut story, token(6, 3, 1));
        story.is_wrong(Fields::default(), "is not the last one sent, token 6");
    }
}
