//! H1: no input makes a node panic.

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Record, What};

pub(super) struct NoPanic;

impl Online for NoPanic {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        if record.what != What::Panicked {
            return Ok(());
        }
        let life = record.life.map_or_else(String::new, |life| life.to_string());
        violated("H1", record.at, format!("{life} panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    #[test]
    fn a_crash_is_an_accident_and_a_panic_is_not() {
        let mut story = Story::ring(2);
        story.crash(1);
        story.is_right(NoPanic);
        story.record(2, What::Panicked);
        story.is_wrong(NoPanic, "2#1 panicked");
    }
}
