//! The state that complete nodes reached after the calm.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_election::Status;
use quorate_membership::{NodeId, Regular};

use crate::Scenario;
use crate::engine::core::{Goal, Reached};
use crate::history::{History, Life, What};
use crate::invariants::Violation;

/// The latest ring and status of a node that is up, each with its time.
#[derive(Default)]
struct Latest<'a> {
    regular: Option<(Duration, &'a Regular)>,
    status: Option<(Duration, &'a Status)>,
}

/// Returns the time from the beginning of the calm until one ring (L1) and one DC (L5) stood and no
/// longer changed, or `None` without a calm. The time until all messages were delivered is not
/// measured, because S7 checks that they are delivered.
///
/// # Errors
/// If that took longer than [`Scenario::settles_within`].
pub(crate) fn reached(scenario: &Scenario, history: &History) -> Result<Option<Reached>, Violation> {
    let Some(calm_at) = scenario.calm_at else { return Ok(None) };
    let bound = scenario.settles_within();
    if history.ended_at() < calm_at + bound {
        return Ok(None);
    }
    let up = up(history);
    let nodes: BTreeSet<NodeId> = up.keys().map(|life| life.node).collect();
    let wrong = |property, what: String| {
        Err(Violation {
            property,
            at: history.ended_at(),
            what: format!("{what} {bound:?} after the trouble ended"),
        })
    };
    let Some(first) = up.values().next() else { return Ok(None) };

    let mut ring_at = calm_at;
    for latest in up.values() {
        let stands = latest.regular.filter(|(_, regular)| {
            regular.members == nodes && first.regular.is_some_and(|(_, other)| other.ring == regular.ring)
        });
        let Some((at, _)) = stands.filter(|(at, _)| *at <= calm_at + bound) else {
            return wrong("L1", format!("no ring of {nodes:?}"));
        };
        ring_at = ring_at.max(at);
    }
    let vacant = nodes.iter().all(|node| scenario.dc_of(*node).priority == 0);
    let mut dc_at = calm_at;
    for latest in up.values() {
        let named = |status: &Status| (status.ring, status.dc, status.term, status.quorate);
        let agreed = latest.status.filter(|(_, status)| {
            status.settled
                && (status.dc.is_some() || vacant)
                && first.status.is_some_and(|(_, other)| named(other) == named(status))
        });
        let Some((at, _)) = agreed.filter(|(at, _)| *at <= calm_at + bound) else {
            return wrong("L5", format!("no agreed DC of {nodes:?}"));
        };
        dc_at = dc_at.max(at);
    }
    let goal = |took| Goal { bound, took };
    Ok(Some(Reached {
        ring: goal(Some(ring_at - calm_at)),
        dc: goal(Some(dc_at - calm_at)),
        delivered: goal(None),
    }))
}

/// Returns the lives that are up at the end, and the latest state of each.
fn up(history: &History) -> BTreeMap<Life, Latest<'_>> {
    let mut up: BTreeMap<Life, Latest<'_>> = BTreeMap::new();
    for record in history.records() {
        let Some(life) = record.life else { continue };
        match &record.what {
            What::Started => drop(up.insert(life, Latest::default())),
            What::Crashed | What::Left(_) => drop(up.remove(&life)),
            What::Regular(regular) => {
                up.entry(life).or_default().regular = Some((record.at, regular));
            }
            What::Status(status) => {
                up.entry(life).or_default().status = Some((record.at, status));
            }
            _ => {}
        }
    }
    up
}
