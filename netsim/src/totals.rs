//! What many runs came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::{Goal, POINTS, Reached, Summary};

/// The sum of many runs. Prints as a table.
#[derive(Clone, Default, Debug)]
pub struct Totals {
    /// Runs that count.
    pub runs: u64,
    /// Runs in which next to nothing happened, by what was missing. Nothing else of them is counted.
    pub vacuous: BTreeMap<&'static str, u64>,
    /// Simulated time.
    pub simulated: Duration,
    /// Events of the engine.
    pub events: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Regular configurations installed.
    pub configurations: u64,
    /// Messages accepted from applications.
    pub accepted: u64,
    /// Messages delivered to applications, and checked.
    pub deliveries: u64,
    /// How often each class of faults did something, and in how many runs.
    pub faults: BTreeMap<&'static str, (u64, u64)>,
    /// How often each named situation came about, and in how many runs.
    pub points: BTreeMap<&'static str, (u64, u64)>,
    ring: Times,
    dc: Times,
    delivered: Times,
}

/// How long something took, run by run.
#[derive(Clone, Default, Debug)]
struct Times {
    took: Vec<Duration>,
    /// In thousandths of the bound.
    of_bound: Vec<u32>,
}

impl Times {
    fn add(&mut self, goal: &Goal) {
        if let Some(took) = goal.took {
            self.took.push(took);
            self.of_bound.push((took.as_secs_f64() / goal.bound.as_secs_f64() * 1000.0) as u32);
        }
    }
}

/// What 50 and 99 of 100 do not exceed, and the most.
fn percentiles<T: Ord + Copy + Default>(values: &[T]) -> [T; 3] {
    let mut values = values.to_vec();
    values.sort_unstable();
    [50, 99, 100].map(|percent| {
        let place = (values.len() * percent).div_ceil(100).saturating_sub(1);
        values.get(place).copied().unwrap_or_default()
    })
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, summary: &Summary) {
        if let Some(why) = summary.vacuous {
            *self.vacuous.entry(why).or_default() += 1;
            return;
        }
        self.runs += 1;
        self.simulated += summary.simulated;
        self.events += summary.events;
        self.datagrams += summary.datagrams;
        self.configurations += summary.configurations;
        self.accepted += summary.accepted;
        self.deliveries += summary.deliveries;
        for (sums, of_run) in [(&mut self.faults, &summary.faults), (&mut self.points, &summary.points)] {
            for (name, times) in of_run {
                let sum = sums.entry(name).or_default();
                *sum = (sum.0 + times, sum.1 + 1);
            }
        }
        if let Some(Reached { ring, dc, delivered }) = &summary.reached {
            self.ring.add(ring);
            self.dc.add(dc);
            self.delivered.add(delivered);
        }
    }

    /// How often faults did something.
    pub fn faults(&self) -> u64 {
        self.faults.values().map(|(times, _)| times).sum()
    }

    /// The named situations that never came about.
    pub fn missed(&self) -> Vec<&'static str> {
        POINTS.iter().copied().filter(|point| !self.points.contains_key(point)).collect()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12} {:>8}  faults", "times", "in runs")?;
        for (class, (times, runs)) in &self.faults {
            writeln!(f, "{times:>12} {runs:>8}  {class}")?;
        }
        writeln!(f, "\n{:>12} {:>8}  situations", "times", "in runs")?;
        for point in POINTS {
            let (times, runs) = self.points.get(point).copied().unwrap_or_default();
            writeln!(f, "{times:>12} {runs:>8}  {point}")?;
        }
        writeln!(f, "\n{:>24} {:>24}", "p50, p99, max in ms", "p50, p99, max of bound")?;
        for (name, times) in [
            ("until one ring (L1)", &self.ring),
            ("until one DC (L5)", &self.dc),
            ("until all delivered (L4)", &self.delivered),
        ] {
            let ms = percentiles(&times.took).map(|took| took.as_millis().to_string()).join(", ");
            let share =
                percentiles(&times.of_bound).map(|of| format!("{:.2}", f64::from(of) / 1000.0)).join(", ");
            writeln!(f, "{ms:>24} {share:>24}  {name}")?;
        }
        for (why, runs) in &self.vacuous {
            writeln!(f, "\n{runs} runs count for nothing: {why}")?;
        }
        write!(
            f,
            "\n{} runs, {:.1} simulated hours, {} events, {} datagrams, {} configurations, {} messages, {} deliveries",
            self.runs,
            self.simulated.as_secs_f64() / 3600.0,
            self.events,
            self.datagrams,
            self.configurations,
            self.accepted,
            self.deliveries,
        )
    }
}
