//! H7: a node that has left is inactive. It processes no input and reports only that it has left.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_membership::{NodeId, Phase};

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Life, Record, What};

#[derive(Default)]
pub(super) struct Silent {
    /// The nodes that have left, and when.
    left: BTreeMap<NodeId, (Life, Duration)>,
}

impl Online for Silent {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        if let What::Inside(Inside::Phase { to: Phase::Left, .. }) = &record.what {
            self.left.insert(life.node, (life, record.at));
            return Ok(());
        }
        let Some((_, at)) = self.left.get(&life.node).filter(|(then, _)| *then == life) else {
            return Ok(());
        };
        let lives_on = match &record.what {
            What::Accepted { .. }
            | What::Transitional(_)
            | What::Regular(_)
            | What::Synced(_)
            | What::GroupChange(_)
            | What::Delivered(_) => true,
            What::Inside(inside) => matches!(
                inside,
                Inside::Phase { .. }
                    | Inside::Numbered(_)
                    | Inside::Received(_)
                    | Inside::Resent(_)
                    | Inside::Stable { .. }
                    | Inside::Limits { .. }
                    | Inside::Token(_)
            ),
            _ => false,
        };
        // Actions just before the node left are recorded just after.
        if lives_on && record.at > *at {
            return violated("H7", record.at, format!("{life} has left, and then: {}", record.what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::Story;
    use super::*;

    fn left() -> Story {
        let mut story = Story::ring(2);
        story.phase(1, Phase::Operational, Phase::Left);
        story
    }

    #[test]
    fn a_node_that_has_left_reports_it_and_is_silent() {
        use quorate_membership::Cause;
        let mut story = left();
        story.record(1, What::Left(Cause::LeaveRequested));
        story.deliver(2, 1, 1, 1);
        story.start(1);
        story.install(1, "1.8", &[1], &[]);
        story.is_right(Silent::default());
    }

    #[test]
    fn a_node_that_has_left_takes_no_input() {
        let mut story = left();
        story.deliver(1, 2, 1, 1);
        story.is_wrong(Silent::default(), "1#1 has left, and then: delivered 2#1:1");
        let mut story = left();
        story.record(1, What::Inside(Inside::Received(Story::frame(2, 1))));
        story.is_wrong(Silent::default(), "1#1 has left, and then: received");
    }
}
