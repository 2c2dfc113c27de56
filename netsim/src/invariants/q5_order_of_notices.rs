//! Q5: a new ring is followed at once by a status that takes quorum back, the end of its sync by the one that says what
//! now holds, and no message of the ring comes before that. Other statuses of the same ring say something new; there are
//! none besides but the last.

use std::collections::BTreeMap;

use quorate_election::Status;
use quorate_membership::RingId;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

/// What a life has been told.
#[derive(Default)]
struct Told {
    ring: Option<RingId>,
    settled: bool,
    /// The status that has to come next, settled or not.
    owed: Option<bool>,
    /// The last status of the ring that was settled.
    latest: Option<Status>,
    /// No ring is left, and the last event is to come.
    leaves: bool,
}

impl Told {
    fn hear(&mut self, what: &What) -> Result<(), &'static str> {
        let status = match what {
            What::Status(status) => status,
            What::Regular(_)
            | What::Transitional(_)
            | What::Synced(_)
            | What::Delivered(_)
            | What::Left(_)
                if self.owed.is_some() =>
            {
                return Err("comes before the status that is due");
            }
            What::Regular(regular) => {
                *self = Self { ring: Some(regular.ring), owed: Some(false), ..Self::default() };
                return Ok(());
            }
            What::Synced(_) => {
                self.owed = Some(true);
                return Ok(());
            }
            What::Delivered(delivered) if !self.settled || Some(delivered.ring) != self.ring => {
                return Err("comes before its ring is settled");
            }
            _ => return Ok(()),
        };
        if status.ring.is_none() && self.owed.is_none() && !self.leaves {
            self.leaves = true;
            return Ok(());
        }
        match self.owed.take() {
            Some(settled) if settled == status.settled && status.ring == self.ring => {
                self.settled = settled;
                self.latest = settled.then(|| (**status).clone());
                Ok(())
            }
            Some(_) => Err("is not the status that is due"),
            None if self.latest.as_ref().is_some_and(|latest| says_more(latest, status)) => {
                self.latest = Some((**status).clone());
                Ok(())
            }
            None => Err("is a status for no reason"),
        }
    }
}

/// Whether the second status says something new of the same ring.
fn says_more(before: &Status, status: &Status) -> bool {
    status.settled && status.ring == before.ring && status != before
}

#[derive(Default)]
pub(super) struct OrderOfNotices(BTreeMap<Life, Told>);

impl Online for OrderOfNotices {
    fn see(&mut self, record: &Record, _: &Cluster) -> Result<(), Violation> {
        let Some(life) = record.life else { return Ok(()) };
        if record.what == What::Crashed {
            self.0.remove(&life);
            return Ok(());
        }
        match self.0.entry(life).or_default().hear(&record.what) {
            Err(why) => violated("Q5", record.at, format!("{life}: {} {why}", record.what)),
            Ok(()) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_election::Inquorate;
    use quorate_membership::Cause;

    use super::super::story::{Story, ring};
    use super::*;

    fn unsettled(here: Option<&str>) -> What {
        let ring = here.map(ring);
        What::Status(Box::new(Status { ring, inquorate: Some(Inquorate::Unsettled), ..Status::default() }))
    }

    fn settled() -> Story {
        let mut story = Story::new(2);
        story.install(1, "1.4", &[1, 2], &[]);
        story.record(1, unsettled(Some("1.4")));
        story.settle(1);
        story
    }

    #[test]
    fn first_the_ring_then_its_quorum_then_its_messages() {
        let mut story = settled();
        story.deliver(1, 2, 1, 1);
        story.leave_ring(1, "1.8", &[1]);
        story.deliver(1, 2, 2, 2);
        story.enter_ring(1, "1.8", &[1], &[1]);
        story.record(1, unsettled(Some("1.8")));
        story.record(1, unsettled(None));
        story.record(1, What::Left(Cause::LeaveRequested));
        story.is_right(OrderOfNotices::default());
    }

    #[test]
    fn a_new_ring_takes_quorum_back_at_once() {
        let mut story = settled();
        story.install(1, "1.8", &[1], &[1]);
        story.settle(1);
        story.is_wrong(OrderOfNotices::default(), "1#1: synced 1.8 comes before the status that is due");
        let mut story = settled();
        story.install(1, "1.8", &[1], &[1]);
        story.record(1, unsettled(Some("1.4")));
        story.is_wrong(OrderOfNotices::default(), "is not the status that is due");
    }

    #[test]
    fn messages_wait_until_the_ring_is_settled() {
        let mut story = settled();
        story.install(1, "1.8", &[1], &[1]);
        story.record(1, unsettled(Some("1.8")));
        story.deliver(1, 2, 1, 1);
        story.is_wrong(OrderOfNotices::default(), "comes before its ring is settled");
    }

    #[test]
    fn there_is_one_status_for_each_reason() {
        let mut story = settled();
        story.record(1, unsettled(Some("1.4")));
        story.is_wrong(OrderOfNotices::default(), "is a status for no reason");
        let mut story = settled();
        let ring = Some(ring("1.4"));
        let mut status = Status { ring, settled: true, total_votes: 1, ..Status::default() };
        story.record(1, What::Status(Box::new(status.clone())));
        story.is_right(OrderOfNotices::default());
        story.record(1, What::Status(Box::new(status.clone())));
        story.is_wrong(OrderOfNotices::default(), "is a status for no reason");
        status.settled = false;
        story.record(1, What::Status(Box::new(status)));
        story.is_wrong(OrderOfNotices::default(), "is a status for no reason");
    }
}
