//! M5: a ring's representative is its member with the lowest id.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct Representative;

impl Online for Representative {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        match &record.what {
            What::Regular(regular) if regular.members.first() != Some(&regular.ring.representative) => {
                let what = format!("ring {} has members {:?}", regular.ring, regular.members);
                violated("M5", record.at, what)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn the_lowest_id_represents() {
        let mut story = Story::ring(3);
        story.install(2, "2.8", &[2, 3], &[2, 3]);
        story.is_right(Representative);
        story.install(3, "3.c", &[2, 3], &[2, 3]);
        story.is_wrong(Representative, "ring 3.c has members {2, 3}");
    }
}
