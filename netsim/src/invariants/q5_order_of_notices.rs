//! Q5: a new ring is followed at once by a status that takes quorum back, the end of its sync by the one that says what
//! now holds, and no message of the ring comes before that. Other statuses tell of another DC or lease in a settled ring,
//! and nothing else; and there is a last one.

use std::collections::BTreeMap;

use quorate_election::Status;
use quorate_membership::RingId;

use super::{Violation, violated};
use crate::History;
use crate::history::{Life, What};

/// What a life has been told.
#[derive(Default)]
struct Told {
    ring: Option<RingId>,
    settled: bool,
    /// The status that has to come next, settled or not.
    owed: Option<bool>,
    /// No ring is left, and the last event is to come.
    leaves: bool,
    /// The last status.
    last: Option<Status>,
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
                self.last = Some((**status).clone());
                Ok(())
            }
            Some(_) => Err("is not the status that is due"),
            None => {
                let before = self.last.replace((**status).clone());
                let same_but_for_the_dc = |before: &Status| {
                    let Status { dc, term, lease, vacant, .. } = (**status).clone();
                    **status == Status { dc, term, lease, vacant, ..before.clone() } && **status != *before
                };
                match before.filter(|before| before.settled && same_but_for_the_dc(before)) {
                    Some(_) => Ok(()),
                    None => Err("is a status for no reason"),
                }
            }
        }
    }
}

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let mut lives: BTreeMap<Life, Told> = BTreeMap::new();
    for record in history.records() {
        let Some(life) = record.life else { continue };
        if let Err(why) = lives.entry(life).or_default().hear(&record.what) {
            return violated("Q5", record.at, format!("{life}: {} {why}", record.what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_election::{Inquorate, Status};
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
        story.is_right(check);
    }

    #[test]
    fn a_new_ring_takes_quorum_back_at_once() {
        let mut story = settled();
        story.install(1, "1.8", &[1], &[1]);
        story.settle(1);
        story.is_wrong(check, "1#1: synced 1.8 comes before the status that is due");
        let mut story = settled();
        story.install(1, "1.8", &[1], &[1]);
        story.record(1, unsettled(Some("1.4")));
        story.is_wrong(check, "is not the status that is due");
    }

    #[test]
    fn messages_wait_until_the_ring_is_settled() {
        let mut story = settled();
        story.install(1, "1.8", &[1], &[1]);
        story.record(1, unsettled(Some("1.8")));
        story.deliver(1, 2, 1, 1);
        story.is_wrong(check, "comes before its ring is settled");
    }

    #[test]
    fn there_is_one_status_for_each_reason() {
        let mut story = settled();
        story.record(1, unsettled(Some("1.4")));
        story.is_wrong(check, "is a status for no reason");
    }
}
