//! H5: no node waits forever. In every state a timer runs that leads on, and it is that state's
//! timer.

use std::time::Duration;

use quorate_membership::Phase;
use quorate_membership::config::TotemConfig;

use super::cluster::Cluster;
use super::{Online, Violation, violated};
use crate::history::{Inside, Record, What};

pub(super) struct Timers;

/// Returns the longest time that a node may sleep after it has entered `phase`.
fn longest(phase: Phase, totem: &TotemConfig) -> Option<Duration> {
    match phase {
        // The next JOIN.
        Phase::Gather => Some(totem.join + totem.send_join),
        // The token, or the commit token, is sent again.
        Phase::Commit | Phase::Recovery | Phase::Operational => Some(totem.token_retransmit),
        Phase::Left => None,
    }
}

impl Online for Timers {
    fn see(&mut self, record: &Record, cluster: &Cluster) -> Result<(), Violation> {
        let (Some(life), What::Inside(inside)) = (record.life, &record.what) else { return Ok(()) };
        match inside {
            Inside::NoTimer => violated("H5", record.at, format!("{life} waits forever")),
            Inside::Phase { to, timer, .. } => match longest(*to, &cluster.totem) {
                Some(longest) if timer.is_none_or(|timer| timer > longest) => {
                    let what = format!("{life} enters {to} with a timer of {timer:?} (at most {longest:?})");
                    violated("H5", record.at, what)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::story::{Story, ring};
    use super::*;
    use crate::history::Standing;

    fn phase(to: Phase, timer: Option<Duration>) -> Story {
        let mut story = Story::ring(1);
        let nothing = quorate_membership::Seq::new(0);
        let ring = Standing { ring: ring("1.4"), aru: nothing, high: nothing, delivered: nothing };
        story.record(1, What::Inside(Inside::Phase { from: Phase::Operational, to, ring, timer }));
        story
    }

    #[test]
    fn a_phase_needs_its_own_timer() {
        let totem = TotemConfig::default();
        phase(Phase::Gather, Some(totem.join)).is_right(Timers);
        phase(Phase::Left, None).is_right(Timers);
        phase(Phase::Gather, None).is_wrong(Timers, "1#1 enters gather with a timer of None");
        phase(Phase::Commit, Some(2 * totem.token)).is_wrong(Timers, "enters commit with a timer");
    }

    #[test]
    fn a_node_without_a_timer_is_wrong() {
        let mut story = Story::ring(1);
        story.record(1, What::Inside(Inside::NoTimer));
        story.is_wrong(Timers, "1#1 waits forever");
    }
}
