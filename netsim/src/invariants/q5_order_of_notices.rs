//! Q5: statuses come at fixed points of the event stream.
//!
//! - The end of a settled ring is followed at once by a status that withdraws quorum.
//! - A new ring is followed at once by a status that names it.
//! - The end of its sync is followed at once by the status that now holds. Messages of the ring
//!   come only after that status.
//! - A further status of the same ring has a new content.
//! - A ring that is lost before the next one exists withdraws quorum as well, whatever else arrives
//!   of it until then.
//! - The last status comes from a node that leaves.

use std::collections::BTreeMap;

use quorate_election::{Inquorate, Status};
use quorate_membership::RingId;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Life, Record, What};

/// The events that a life has received.
#[derive(Default)]
struct Told {
    ring: Option<RingId>,
    settled: bool,
    /// The status that has to come next, settled or not.
    owed: Option<bool>,
    /// The last status of the settled ring.
    latest: Option<Status>,
    /// Whether no token of the ring has come for the token timeout.
    lost: bool,
    /// Whether the node leaves: it has no ring any more, and only the last event is to come.
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
            // A lost ring is not announced.
            What::Synced(_) if self.lost => {
                self.settled = true;
                return Ok(());
            }
            What::Synced(_) => {
                self.owed = Some(true);
                return Ok(());
            }
            What::Transitional(_) => {
                self.owed = (self.settled && !self.lost).then_some(false);
                self.latest = None;
                return Ok(());
            }
            What::Delivered(delivered) if !self.settled || Some(delivered.ring) != self.ring => {
                return Err("comes before its ring is settled");
            }
            _ => return Ok(()),
        };
        if status.ring.is_none() && self.owed.is_none() && !self.leaves {
            match status.inquorate {
                Some(Inquorate::RingLost { .. }) if self.lost || self.ring.is_none() => {
                    return Err("is a status for no reason");
                }
                Some(Inquorate::RingLost { .. }) => self.lost = true,
                _ => self.leaves = true,
            }
            return Ok(());
        }
        let back = std::mem::take(&mut self.lost);
        match self.owed.take() {
            None if back && status.ring == self.ring && status.settled == self.settled => {
                self.latest = status.settled.then(|| (**status).clone());
                Ok(())
            }
            Some(settled) if settled == status.settled && status.ring == self.ring => {
                self.settled |= settled;
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

/// Returns `true` if the second status announces something new about the same ring.
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
    fn ring_quorum_and_messages_come_in_this_order() {
        let mut story = settled();
        story.deliver(1, 2, 1, 1);
        story.leave_ring(1, "1.8", &[1]);
        story.record(1, unsettled(Some("1.4")));
        story.deliver(1, 2, 2, 2);
        story.enter_ring(1, "1.8", &[1], &[1]);
        story.record(1, unsettled(Some("1.8")));
        story.record(1, unsettled(None));
        story.record(1, What::Left(Cause::LeaveRequested));
        story.is_right(OrderOfNotices::default());
    }

    #[test]
    fn the_end_of_a_ring_withdraws_quorum_at_once() {
        let mut story = settled();
        story.leave_ring(1, "1.8", &[1]);
        story.deliver(1, 2, 1, 1);
        story.is_wrong(OrderOfNotices::default(), "comes before the status that is due");
        let mut story = settled();
        story.install(1, "1.8", &[1], &[1]);
        story.is_wrong(OrderOfNotices::default(), "1#1: regular 1.8");
    }

    /// Ring 1.4, which was settled, ends, and the next one begins.
    fn next() -> Story {
        let mut story = settled();
        story.leave_ring(1, "1.8", &[1]);
        story.record(1, unsettled(Some("1.4")));
        story.enter_ring(1, "1.8", &[1], &[1]);
        story
    }

    #[test]
    fn a_new_ring_is_named_at_once() {
        let mut story = next();
        story.settle(1);
        story.is_wrong(OrderOfNotices::default(), "1#1: synced 1.8 comes before the status that is due");
        let mut story = next();
        story.record(1, unsettled(Some("1.4")));
        story.is_wrong(OrderOfNotices::default(), "is not the status that is due");
    }

    #[test]
    fn a_lost_ring_withdraws_quorum_until_a_ring_is_back() {
        let lost = || {
            let after = std::time::Duration::from_secs(1);
            let inquorate = Some(Inquorate::RingLost { after });
            What::Status(Box::new(Status { inquorate, ..Status::default() }))
        };
        let mut story = settled();
        story.record(1, lost());
        story.deliver(1, 2, 1, 1);
        story.leave_ring(1, "1.8", &[1]);
        story.deliver(1, 2, 2, 2);
        story.enter_ring(1, "1.8", &[1], &[1]);
        story.record(1, unsettled(Some("1.8")));
        story.is_right(OrderOfNotices::default());
        let mut story = settled();
        story.record(1, lost());
        let status = Status { ring: Some(ring("1.4")), settled: true, ..Status::default() };
        story.record(1, What::Status(Box::new(status)));
        story.is_right(OrderOfNotices::default());
        story.record(1, lost());
        story.record(1, lost());
        story.is_wrong(OrderOfNotices::default(), "is a status for no reason");
    }

    #[test]
    fn messages_wait_until_the_ring_is_settled() {
        let mut story = next();
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
