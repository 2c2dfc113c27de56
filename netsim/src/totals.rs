//! Totals of many runs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{Goal, Reached, Situation, Summary};

/// The sum of many runs. Prints as tables and a last line. Serialized times are in seconds.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Totals {
    /// Runs that count.
    pub runs: u64,
    /// Runs in which next to nothing happened, by what was missing. They are excluded from all
    /// other counts.
    pub vacuous: BTreeMap<&'static str, u64>,
    /// Simulated time.
    #[serde(serialize_with = "seconds")]
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
    /// Acts of DCs.
    pub acts: u64,
    /// Acts that came too late and were refused.
    pub refused_acts: u64,
    /// The number of times that two nodes could act at once. It is 0 if clocks keep within the
    /// promised error.
    pub overlaps: u64,
    /// Effective faults, by class.
    pub faults: BTreeMap<&'static str, Count>,
    /// Occurrences of each named situation.
    pub situations: BTreeMap<Situation, Count>,
    until_one_ring: Times,
    until_one_dc: Times,
    until_all_delivered: Times,
}

/// A number of occurrences.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Count {
    /// The number of occurrences.
    pub times: u64,
    /// The number of runs that had at least one.
    pub runs: u64,
}

impl Count {
    fn add(&mut self, times: u64) {
        self.times += times;
        self.runs += 1;
    }
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// The time that something took, run by run.
#[derive(Clone, Default, Debug)]
struct Times {
    took: Vec<Duration>,
    bounds: Vec<Duration>,
    /// The times, in thousandths of the bound.
    of_bound: Vec<u32>,
}

/// Serializes the median, the 99th percentile and the maximum, in seconds and as a part of the
/// bound.
impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let took = percentiles(&self.took).map(|time| time.as_secs_f64());
        let of_bound = percentiles(&self.of_bound).map(|of| f64::from(of) / 1000.0);
        let names = ["p50", "p99", "max"];
        let named = |values: [f64; 3]| names.into_iter().zip(values).collect::<BTreeMap<_, _>>();
        BTreeMap::from([("seconds", named(took)), ("of_bound", named(of_bound))]).serialize(serializer)
    }
}

impl Times {
    fn add(&mut self, goal: &Goal) {
        if let Some(took) = goal.took {
            self.took.push(took);
            self.bounds.push(goal.bound);
            self.of_bound.push((took.as_secs_f64() / goal.bound.as_secs_f64() * 1000.0) as u32);
        }
    }
}

/// Returns the median, the 99th percentile and the maximum.
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
        self.acts += summary.acts;
        self.refused_acts += summary.refused_acts;
        self.overlaps += summary.overlaps;
        for (class, times) in &summary.faults {
            self.faults.entry(class).or_default().add(*times);
        }
        for (situation, times) in &summary.situations {
            self.situations.entry(*situation).or_default().add(*times);
        }
        if let Some(Reached { ring, dc, delivered }) = &summary.reached {
            self.until_one_ring.add(ring);
            self.until_one_dc.add(dc);
            self.until_all_delivered.add(delivered);
        }
    }

    /// Returns the number of effective faults.
    pub fn faults(&self) -> u64 {
        self.faults.values().map(|count| count.times).sum()
    }

    /// Returns the named situations that never occurred.
    pub fn missed(&self) -> Vec<Situation> {
        Situation::all().filter(|situation| !self.situations.contains_key(situation)).collect()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12} {:>8}  faults", "times", "in runs")?;
        for (class, Count { times, runs }) in &self.faults {
            writeln!(f, "{times:>12} {runs:>8}  {class}")?;
        }
        let occurred = |situation: &Situation| self.situations.contains_key(situation);
        // Only the core engine sees what happens inside members.
        let all_seen = Situation::received().any(|situation| occurred(&situation));
        let (seen, all) = (Situation::named().filter(occurred).count(), Situation::named().count());
        write!(f, "\n{:>12} {:>8}  situations, {seen}", "times", "in runs")?;
        writeln!(f, "{}", if all_seen { format!(" of {all}") } else { String::new() })?;
        for situation in Situation::named() {
            match self.situations.get(&situation) {
                Some(Count { times, runs }) => writeln!(f, "{times:>12} {runs:>8}  {situation}")?,
                None if all_seen => writeln!(f, "{:>12} {:>8}  {situation}", "never", "-")?,
                None => {}
            }
        }
        if all_seen {
            let heads = Situation::PHASES.map(|phase| format!("{:>12}", phase.to_string())).join(" ");
            writeln!(f, "\n{heads}  received")?;
            for kind in Situation::KINDS {
                for phase in Situation::PHASES {
                    match self.situations.get(&Situation::Received { phase, kind }) {
                        Some(Count { times, .. }) => write!(f, "{times:>12} ")?,
                        None => write!(f, "{:>12} ", "never")?,
                    }
                }
                writeln!(f, " {}", kind.name(true))?;
            }
        }
        if !self.until_one_ring.took.is_empty() {
            writeln!(f, "\n{:>20} {:>20} {:>20}", "took, ms", "bound, ms", "share of the bound")?;
            let heads = format!("{:>6} {:>6} {:>6}", "p50", "p99", "max");
            writeln!(f, "{heads} {heads} {heads}  after the trouble")?;
            for (name, Times { took, bounds, of_bound }) in [
                ("until one ring (L1)", &self.until_one_ring),
                ("until one DC (L5)", &self.until_one_dc),
                ("until all delivered (L4)", &self.until_all_delivered),
            ] {
                if took.is_empty() {
                    continue;
                }
                let ms = |times: &[Duration]| {
                    percentiles(times).map(|time| format!("{:>6}", time.as_millis())).join(" ")
                };
                let share =
                    percentiles(of_bound).map(|of| format!("{:>6.2}", f64::from(of) / 1000.0)).join(" ");
                writeln!(f, "{} {} {share}  {name}", ms(took), ms(bounds))?;
            }
        }
        if self.acts > 0 {
            let Self { acts, refused_acts, overlaps, .. } = self;
            writeln!(
                f,
                "\n{acts} acts of DCs, {refused_acts} late ones refused; {overlaps} times two nodes could \
                 act at once, because a clock was wrong"
            )?;
        }
        if !self.vacuous.is_empty() {
            let runs: u64 = self.vacuous.values().sum();
            let why: Vec<String> = self.vacuous.iter().map(|(why, runs)| format!("{why} ({runs})")).collect();
            writeln!(f, "\n{runs} runs are inconclusive: {}", why.join(", "))?;
        }
        write!(
            f,
            "\n{} runs, {:.2} simulated hours, {} faults, {} events, {} datagrams, {} configurations, {} messages, \
             {} deliveries",
            self.runs,
            self.simulated.as_secs_f64() / 3600.0,
            self.faults(),
            self.events,
            self.datagrams,
            self.configurations,
            self.accepted,
            self.deliveries,
        )
    }
}
