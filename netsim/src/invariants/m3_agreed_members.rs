//! M3: a ring has the same members for all that install it.

use std::collections::BTreeMap;

use super::{Violation, violated};
use crate::History;
use crate::history::What;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut rings = BTreeMap::new();
    for record in history.records() {
        let (Some(life), What::Regular(regular)) = (record.life, &record.what) else { continue };
        let (first, members) = *rings.entry(regular.ring).or_insert((life, &regular.members));
        if *members != regular.members {
            let what = format!(
                "{} has members {members:?} for {first} and {:?} for {life}",
                regular.ring, regular.members
            );
            return violated("M3", record.at, what);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_ring_has_the_same_members_for_all() {
        let mut story = Story::ring(3);
        story.install(1, "1.8", &[1, 2], &[1, 2]);
        story.install(3, "3.8", &[3], &[3]);
        story.is_right(check);
        story.install(2, "1.8", &[1, 2, 3], &[1, 2]);
        story.is_wrong(check, "1.8 has members {1, 2} for 1#1 and {1, 2, 3} for 2#1");
    }
}
