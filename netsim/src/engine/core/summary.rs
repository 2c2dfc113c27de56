//! The statistics of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::situations::Situations;
use super::{Reached, micros};
use crate::history::{Record, What};
use crate::{Fault, History, Scenario, Situation};

/// Statistics of a run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Summary {
    /// The simulated time that the run took.
    pub simulated: Duration,
    /// Events of the loop: arrivals, timers, sends, faults.
    pub events: u64,
    /// Datagrams sent. A multicast counts once.
    pub datagrams: u64,
    /// Regular configurations installed, counted at each member.
    pub configurations: u64,
    /// Messages accepted from applications.
    pub accepted: u64,
    /// Messages delivered to applications, counted at each member.
    pub deliveries: u64,
    /// Effective faults, by class.
    pub faults: BTreeMap<&'static str, u64>,
    /// Occurrences of each named situation.
    pub situations: BTreeMap<Situation, u64>,
    /// Acts of DCs that reached their target.
    pub acts: u64,
    /// Acts that were refused because another DC had acted under a higher term.
    pub refused_acts: u64,
    /// The number of times that two nodes could act at once. If clocks keep within the promised
    /// error, that violates D4.
    pub overlaps: u64,
    /// The time from the beginning of the calm to each goal, and its bound. `None` without a calm.
    pub reached: Option<Reached>,
    /// The reason why the run proves nothing: next to nothing happened in it. `None` if it counts.
    pub vacuous: Option<&'static str>,
    /// A hash of the run. Two runs have the same one only if they were the same.
    pub fingerprint: u64,
}

impl Summary {
    /// Returns the summary of a run of complete nodes, based on its history.
    pub(crate) fn of_nodes(scenario: &Scenario, history: &History, reached: Option<Reached>) -> Self {
        let mut situations = Situations::default();
        let mut faults: BTreeMap<&'static str, u64> = BTreeMap::new();
        for Record { at, life, what } in history.records() {
            let class = match what {
                What::Network(fault) => Some(fault.class()),
                What::Crashed => Some(Fault::Crash(0).class()),
                What::Started if life.is_some_and(|life| life.start > 1) => Some(Fault::Restart(0).class()),
                _ => None,
            };
            class.into_iter().for_each(|class| *faults.entry(class).or_default() += 1);
            if let Some(life) = life {
                situations.see(micros(*at), *life, what);
            }
        }
        let mut summary = Self {
            simulated: history.ended_at(),
            events: history.records().len() as u64,
            datagrams: history.datagrams(),
            configurations: situations.configurations,
            accepted: situations.accepted,
            deliveries: situations.deliveries,
            faults,
            situations: situations.take(),
            acts: 0,
            refused_acts: 0,
            overlaps: 0,
            reached,
            vacuous: None,
            fingerprint: history.fingerprint(),
        };
        summary.vacuous = summary.proves_nothing(scenario);
        summary
    }

    pub(super) fn proves_nothing(&self, scenario: &Scenario) -> Option<&'static str> {
        let drawn = scenario.timeline.iter().map(|(_, fault)| fault).filter(|fault| has_to_happen(fault));
        let drawn: BTreeSet<&str> = drawn.map(Fault::class).collect();
        let happened = drawn.iter().filter(|class| self.faults.contains_key(*class)).count();
        if self.configurations < 3 {
            Some("fewer than 3 configurations")
        } else if self.deliveries < 100 {
            Some("fewer than 100 deliveries")
        } else if 2 * happened < drawn.len() {
            Some("fewer than half of the faults drawn happened")
        } else {
            None
        }
    }
}

/// Returns `false` for faults that prove nothing by not happening: those that wait for a point that
/// may never be reached, and those that a node may refuse.
fn has_to_happen(fault: &Fault) -> bool {
    !matches!(
        fault,
        Fault::When { .. }
            | Fault::Catch { .. }
            | Fault::Release(_)
            | Fault::Lie { .. }
            | Fault::Forge { .. }
    )
}
