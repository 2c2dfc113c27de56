//! M6: a node is a member of a ring only if it took part in forming it.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct NoGhost;

impl Online for NoGhost {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Regular(regular)) = (record.life, &record.what) else { return Ok(()) };
        let Some(ring) = cluster.ring(regular.ring) else { return Ok(()) };
        match regular.members.difference(&ring.took_part).next() {
            Some(ghost) => {
                let what = format!("{life} installs {} with {ghost}, which took no part in it", regular.ring);
                violated("M6", record.at, what)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn members_that_took_part_are_right() {
        let mut story = Story::new(2);
        story.commit(1, "1.8", &[1, 2], 1);
        story.commit(2, "1.8", &[1, 2], 2);
        story.install(1, "1.8", &[1, 2], &[]);
        story.is_right(NoGhost);
    }

    #[test]
    fn a_member_that_took_no_part_is_wrong() {
        let mut story = Story::new(2);
        story.commit(1, "1.8", &[1, 2], 1);
        story.install(1, "1.8", &[1, 2], &[]);
        story.is_wrong(NoGhost, "1#1 installs 1.8 with 2, which took no part in it");
    }
}
