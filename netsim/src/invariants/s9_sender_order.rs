//! S9: the messages of one sender come in the order in which it sent them.

use std::collections::BTreeMap;

use super::{Violation, violated};
use crate::History;
use crate::history::What;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut latest = BTreeMap::new();
    for record in history.records() {
        let (Some(life), What::Delivered(delivered)) = (record.life, &record.what) else { continue };
        let Some(message) = delivered.message else { continue };
        let before = latest.insert((life, message.sender), message).filter(|before| *before > message);
        if let Some(before) = before {
            return violated("S9", record.at, format!("{life} got {message} after {before}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_sender_is_heard_in_its_order() {
        let mut story = Story::ring(2);
        story.deliver(1, 2, 1, 1);
        story.deliver(1, 2, 3, 2);
        story.deliver(2, 2, 1, 1);
        story.is_right(check);
        story.deliver(1, 2, 2, 3);
        story.is_wrong(check, "1#1 got 2#1:2 after 2#1:3");
    }
}
