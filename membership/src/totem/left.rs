//! The LEFT state, in which a node repeats its LEAVE until a survivor shows that it arrived.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::local::Local;
use crate::bug;
use crate::wire::Join;
use crate::{Cause, Event, NodeId, Time};

/// The state of a node that has left.
///
/// corosync sends a single LEAVE. If that is lost, the other nodes must wait for a token timeout
/// and a consensus timeout.
#[derive(Clone)]
pub(super) struct Left {
    survivors: BTreeSet<NodeId>,
    leave: Join,
    /// The time of the next LEAVE, and the number of repeats left.
    again: Option<(Time, u32)>,
    /// The cause to report in the last event. `None` once reported.
    cause: Option<Cause>,
}

impl Left {
    const REPEATS: u32 = 4;
    const PAUSE: Duration = Duration::from_millis(10);

    pub(super) fn enter(cause: Cause, now: Time, local: &mut Local) -> Self {
        let leave = local.leave();
        let survivors: BTreeSet<NodeId> = leave.proc.iter().copied().collect();
        let again =
            bug!(LeaveSaidOnce: false; !survivors.is_empty()).then(|| (now + Self::PAUSE, Self::REPEATS));
        local.send_join(leave.clone());
        let mut left = Self { survivors, leave, again, cause: Some(cause) };
        left.finish(local);
        left
    }

    /// Stops repeating the LEAVE when a survivor's JOIN names this node as failed, which shows that
    /// the LEAVE arrived.
    pub(super) fn handle_join(&mut self, join: &Join, local: &mut Local) {
        if self.survivors.contains(&join.from) && join.failed.contains(&local.me) {
            self.again = None;
            self.finish(local);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time, local: &mut Local) {
        if let Some((at, left)) = self.again
            && now >= at
        {
            local.send_join(self.leave.clone());
            self.again =
                left.checked_sub(1).map(|left| (now + Self::PAUSE, left)).filter(|&(_, left)| left > 0);
            self.finish(local);
        }
    }

    fn finish(&mut self, local: &mut Local) {
        if self.again.is_none()
            && let Some(cause) = self.cause.take()
        {
            local.out.tell(Event::Left(cause));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.again.map(|(at, _)| at)
    }

    /// See [`super::Totem::fingerprint`].
    pub(super) fn fingerprint(&self, now: Time, state: &mut impl Hasher) {
        let Self { survivors, leave: _, again, cause } = self;
        (survivors, again.map(|(at, left)| (at - now, left)), cause.is_some()).hash(state);
    }
}
