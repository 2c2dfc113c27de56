//! M5: a ring's representative is its member with the lowest id.

use super::{Violation, violated};
use crate::History;
use crate::history::What;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    for record in history.records() {
        let What::Regular(regular) = &record.what else { continue };
        if regular.members.first() != Some(&regular.ring.representative) {
            let what = format!("ring {} has members {:?}", regular.ring, regular.members);
            return violated("M5", record.at, what);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn the_lowest_id_represents() {
        let mut story = Story::ring(3);
        story.install(2, "2.8", &[2, 3], &[2, 3]);
        story.is_right(check);
        story.install(3, "3.c", &[2, 3], &[2, 3]);
        story.is_wrong(check, "ring 3.c has members {2, 3}");
    }
}
