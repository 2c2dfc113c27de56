//! T4: frames that a member takes for stable have been received by all members of the ring. Up to
//! that point it delivers safe messages and releases frames.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

pub(super) struct Stability;

impl Online for Stability {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(Inside::Stable { ring, safe, released })) = (record.life, &record.what)
        else {
            return Ok(());
        };
        let (ring, stable) = (*ring, safe.max(*released));
        match cluster.find_member(ring, |receipts| receipts.aru.before(stable)) {
            Some(node) => {
                let what =
                    format!("{life}: {ring} is stable up to {stable}, but node {node} has not received that");
                violated("T4", record.at, what)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_membership::Seq;

    use super::super::story::{Story, ring};
    use super::*;

    /// Nodes 1 and 2 have two frames, and node 3 has these of them.
    fn received(by_3: &[u32]) -> Story {
        let mut story = Story::ring(3);
        for seq in [1, 2] {
            story.record(1, What::Inside(Inside::Numbered(Story::frame(1, seq))));
            story.record(2, What::Inside(Inside::Received(Story::frame(1, seq))));
        }
        for &seq in by_3 {
            story.record(3, What::Inside(Inside::Received(Story::frame(1, seq))));
        }
        story
    }

    fn stable(story: &mut Story, safe: u32, released: u32) {
        let (safe, released) = (Seq::new(safe), Seq::new(released));
        story.record(2, What::Inside(Inside::Stable { ring: ring("1.4"), safe, released }));
    }

    #[test]
    fn frames_that_all_have_are_stable() {
        let mut story = received(&[2, 1]);
        stable(&mut story, 2, 2);
        story.is_right(Stability);
    }

    #[test]
    fn a_frame_that_a_member_lacks_is_not_stable() {
        let mut story = received(&[2]);
        stable(&mut story, 2, 0);
        story.is_wrong(Stability, "2#1: 1.4 is stable up to 2, but node 3 has not received that");
        let mut story = received(&[]);
        stable(&mut story, 0, 1);
        story.is_wrong(Stability, "1.4 is stable up to 1, but node 3 has not received that");
    }
}
