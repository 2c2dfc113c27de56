//! H1: no input makes a node panic.

use super::{Violation, violated};
use crate::History;
use crate::history::What;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    for record in history.records() {
        if record.what == What::Panicked {
            let life = record.life.map_or_else(String::new, |life| life.to_string());
            return violated("H1", record.at, format!("{life} panicked"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_crash_is_an_accident_and_a_panic_is_not() {
        let mut story = Story::ring(2);
        story.crash(1);
        story.is_right(check);
        story.record(2, What::Panicked);
        story.is_wrong(check, "2#1 panicked");
    }
}
