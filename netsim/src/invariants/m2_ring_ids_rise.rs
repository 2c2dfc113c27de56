//! M2: the rings that a node installs have rising sequence numbers, over its restarts too. (Stored records survive in
//! every scenario so far.)

use std::collections::BTreeMap;

use super::{Violation, violated};
use crate::History;
use crate::history::What;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut latest = BTreeMap::new();
    for record in history.records() {
        let (Some(life), What::Regular(regular)) = (record.life, &record.what) else { continue };
        let before = latest.insert(life.node, regular.ring);
        if let Some(before) = before.filter(|before| before.seq >= regular.ring.seq) {
            return violated("M2", record.at, format!("{life} installed {} after {before}", regular.ring));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn sequence_numbers_rise() {
        let mut story = Story::ring(2);
        story.install(1, "1.8", &[1], &[1]);
        story.install(2, "2.8", &[2], &[2]);
        story.is_right(check);
        story.install(2, "1.8", &[1, 2], &[2]);
        story.is_wrong(check, "2#1 installed 1.8 after 2.8");
    }

    #[test]
    fn a_restart_is_no_excuse() {
        let mut story = Story::ring(2);
        story.crash(1);
        story.start(1);
        story.install(1, "1.4", &[1], &[]);
        story.is_wrong(check, "1#2 installed 1.4 after 1.4");
    }
}
