//! T7: the token requests a frame once, only if it was sent, and until it is sent again or all
//! members have it.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

pub(super) struct Requests;

impl Online for Requests {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(Inside::TokenSent { token, .. })) = (record.life, &record.what) else {
            return Ok(());
        };
        let Some(visit) = cluster.visit(life, token.ring) else { return Ok(()) };
        let wrong = |what: &str, seq| {
            violated("T7", record.at, format!("{life} passes on a token of {}: {seq} {what}", token.ring))
        };
        for (n, entry) in token.rtr.iter().enumerate() {
            if token.rtr.iter().take(n).any(|before| before == entry) {
                return wrong("is requested twice", entry.seq);
            }
            if token.seq.before(entry.seq) {
                return wrong("is requested, but was never sent", entry.seq);
            }
        }
        let released = cluster.receipts(life.node, token.ring).map(|receipts| receipts.released);
        for entry in visit.token.rtr.iter().filter(|entry| entry.ring == token.ring) {
            let all_have = released.is_some_and(|released| entry.seq.at_or_before(released));
            if !token.rtr.contains(entry) && !visit.resent.contains(&entry.seq) && !all_have {
                return wrong("is no longer requested, but was not sent again", entry.seq);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::Seq;
    use quorate_membership::wire::RtrEntry;

    use super::super::story::Story;
    use super::*;

    /// A visit at node 2: the token arrives with the requests `asked`, the frames `resent` are sent
    /// again, and it leaves with the requests `asks`.
    fn visit(asked: &[u32], resent: &[u32], asks: &[u32]) -> Story {
        let mut story = Story::ring(2);
        let token = |wanted: &[u32]| {
            let mut token = Story::token();
            token.seq = Seq::new(20);
            token.rtr = wanted.iter().map(|&n| RtrEntry { ring: token.ring, seq: Seq::new(n) }).collect();
            Box::new(token)
        };
        story.record(2, What::Inside(Inside::Token(token(asked))));
        for &n in resent {
            story.record(2, What::Inside(Inside::Resent(Story::frame(1, n))));
        }
        let to = super::super::story::id(1);
        story.record(2, What::Inside(Inside::TokenSent { to, token: token(asks) }));
        story
    }

    #[test]
    fn a_resent_frame_is_no_longer_requested() {
        visit(&[5, 7], &[5], &[7, 9]).is_right(Requests);
    }

    #[test]
    fn a_frame_not_resent_is_still_requested() {
        visit(&[5, 7], &[5], &[9]).is_wrong(Requests, "7 is no longer requested");
    }

    #[test]
    fn a_frame_is_not_requested_twice() {
        visit(&[7], &[], &[7, 7]).is_wrong(Requests, "7 is requested twice");
    }

    #[test]
    fn a_frame_never_sent_is_not_requested() {
        visit(&[], &[], &[21]).is_wrong(Requests, "21 is requested, but was never sent");
    }

    #[test]
    fn a_frame_that_all_have_is_no_longer_requested() {
        let mut story = Story::ring(2);
        let (ring, number) = (super::super::story::ring("1.4"), Seq::new(7));
        let mut token = Story::token();
        token.seq = Seq::new(20);
        token.rtr = vec![RtrEntry { ring, seq: number }];
        story.record(2, What::Inside(Inside::Token(Box::new(token.clone()))));
        story.record(2, What::Inside(Inside::Stable { ring, safe: number, released: number }));
        token.rtr.clear();
        let to = super::super::story::id(1);
        story.record(2, What::Inside(Inside::TokenSent { to, token: Box::new(token) }));
        story.is_right(Requests);
    }
}
