//! Shrinks a failing scenario until it is short enough to read and to become a regression test.
//!
//! The search removes or simplifies one piece after the other, and keeps the change if the same
//! invariant still fails. It begins with the pieces that save most: the time after the failure,
//! faults, nodes, the load, and changed settings. Finally it closes gaps in time and rounds
//! numbers.

use std::collections::BTreeSet;
use std::fmt;
use std::iter;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::fault::{Fate, Kind, Share, Trouble};
use crate::invariants::Violation;
use crate::{Fault, Load, Scenario};

/// A shrunk scenario that still fails in the same way. Prints as the text of the scenario, below
/// comments that describe the failure and the origin.
#[derive(Clone, PartialEq, Debug)]
pub struct Shrunk {
    /// The smallest scenario that was found.
    pub scenario: Scenario,
    /// The failure.
    pub violation: Violation,
    /// The scenario before shrinking.
    pub original: Scenario,
    /// The number of scenarios that were run.
    pub runs: u64,
    /// Whether nothing more can be removed. Otherwise the search ended early.
    pub finished: bool,
}

/// Shrinks a scenario as long as `run` reports that the same invariant fails, in at most
/// `most_runs` runs. `watch` receives the smallest scenario so far after each run, and may end the
/// search. Returns `None` if the scenario does not fail.
///
/// The result is deterministic if `run` and `watch` are.
pub fn shrink(
    scenario: &Scenario,
    most_runs: u64,
    mut run: impl FnMut(&Scenario) -> Option<Violation>,
    mut watch: impl FnMut(&Shrunk) -> ControlFlow<()>,
) -> Option<Shrunk> {
    let violation = run(scenario)?;
    let mut scenario = scenario.clone();
    scenario.timeline.sort_by_key(|(at, _)| *at);
    let best = Shrunk { original: scenario.clone(), scenario, violation, runs: 1, finished: false };
    let mut search = Search {
        run: &mut run,
        watch: &mut watch,
        best,
        most_runs,
        seeds: 0,
        tried: BTreeSet::new(),
        stopped: false,
    };
    search.go();
    search.best.finished = !search.is_over();
    Some(search.best)
}

impl Scenario {
    /// Shrinks a scenario that fails on the core engine, in at most `most_runs` runs; see
    /// [`shrink`].
    pub fn shrink(&self, most_runs: u64, watch: impl FnMut(&Shrunk) -> ControlFlow<()>) -> Option<Shrunk> {
        shrink(self, most_runs, Self::first_violation, watch)
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, violation, original, runs, .. } = self;
        for line in violation.to_string().lines() {
            writeln!(f, "# {line}")?;
        }
        let (now, before) = (scenario.timeline.len(), original.timeline.len());
        writeln!(
            f,
            "# Shrunk in {runs} runs from {before} faults to {now}, from {} nodes to {}; seed {} before.",
            original.nodes, scenario.nodes, original.seed
        )?;
        write!(f, "{scenario}")
    }
}

struct Search<'a> {
    run: &'a mut dyn FnMut(&Scenario) -> Option<Violation>,
    watch: &'a mut dyn FnMut(&Shrunk) -> ControlFlow<()>,
    best: Shrunk,
    most_runs: u64,
    /// The number of other seeds to try with a candidate that does not fail with its own.
    seeds: u64,
    tried: BTreeSet<String>,
    stopped: bool,
}

impl Search<'_> {
    fn go(&mut self) {
        // Some failures depend on chance. Other seeds are tried for them once the runs are short.
        for seeds in [0, 4, 24] {
            self.seeds = seeds;
            loop {
                let before = self.best.scenario.clone();
                self.end();
                self.faults();
                self.nodes();
                self.load();
                self.settings();
                self.plainer_faults();
                self.gaps();
                self.round();
                if self.best.scenario == before || self.is_over() {
                    break;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stopped || self.best.runs >= self.most_runs
    }

    /// Runs a candidate. If it fails as well, it becomes the best one, and the result is `true`.
    fn try_out(&mut self, candidate: &Scenario) -> bool {
        let own = candidate.seed;
        for seed in iter::once(own).chain((0..self.seeds).filter(|seed| *seed != own)) {
            let candidate = candidate.clone().seed(seed);
            if self.is_over() || candidate == self.best.scenario {
                return false;
            }
            if !self.tried.insert(candidate.to_string()) {
                continue;
            }
            self.best.runs += 1;
            let violation = (self.run)(&candidate);
            let same = violation.filter(|violation| violation.property == self.best.violation.property);
            let fails = same.is_some();
            if let Some(violation) = same {
                self.best.scenario = candidate;
                self.best.violation = violation;
            }
            if (self.watch)(&self.best).is_break() {
                self.stopped = true;
            }
            if fails {
                return true;
            }
        }
        false
    }

    fn try_with(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut candidate = self.best.scenario.clone();
        change(&mut candidate);
        self.try_out(&candidate)
    }

    /// Removes items, in large groups first.
    fn fewer<T: Clone>(&mut self, mut items: Vec<T>, with: impl Fn(&Scenario, &[T]) -> Scenario) {
        let mut size = items.len();
        while size > 0 && !self.is_over() {
            let mut start = 0;
            while start < items.len() {
                let mut rest = items.clone();
                rest.drain(start..(start + size).min(items.len()));
                let candidate = with(&self.best.scenario, &rest);
                if self.try_out(&candidate) {
                    items = rest;
                } else {
                    start += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Removes what happens after the failure.
    fn end(&mut self) {
        let at = self.best.violation.at;
        let until = |scenario: &mut Scenario| {
            scenario.timeline.retain(|(of, _)| *of <= at);
            scenario.length = scenario.length.min(at);
        };
        let without_calm = self.try_with(|scenario| {
            until(scenario);
            scenario.calm_at = None;
        });
        if !without_calm {
            self.try_with(until);
        }
        if let Some(calm_at) = self.best.scenario.calm_at {
            // The run ends once all goals are reached.
            self.try_with(|scenario| scenario.length = calm_at);
        }
    }

    fn faults(&mut self) {
        let timeline = self.best.scenario.timeline.clone();
        self.fewer(timeline, |scenario, rest| Scenario { timeline: rest.to_vec(), ..scenario.clone() });
    }

    fn nodes(&mut self) {
        let nodes = self.best.scenario.nodes;
        // All nodes are named as in the scenario before. The highest ones are removed first.
        let before = self.best.scenario.clone();
        self.fewer((1..=nodes).rev().collect(), |now, kept| {
            let all_kept = Scenario { seed: now.seed, ..before.clone() };
            all_kept.of_nodes(kept)
        });
    }

    fn load(&mut self) {
        if self.best.scenario.load.is_none() || self.try_with(|scenario| scenario.load = None) {
            return;
        }
        let length = self.best.scenario.length;
        type Change = fn(&mut Load);
        let changes: [Change; 8] = [
            |load| load.safe_percent = 0,
            |load| load.safe_percent = 100,
            |load| load.longest = 10,
            |load| load.longest = 100,
            |load| load.longest = 1000,
            |load| load.every *= 10,
            |load| load.every *= 2,
            |load| load.until /= 2,
        ];
        self.try_with(|scenario| {
            scenario.load.iter_mut().for_each(|load| load.until = load.until.min(length));
        });
        for (n, change) in changes.into_iter().enumerate() {
            loop {
                let Some(before) = self.best.scenario.load.clone() else { return };
                let mut load = before.clone();
                change(&mut load);
                let plainer = match n {
                    1 => before.safe_percent != 0,
                    2..5 => load.longest < before.longest,
                    5..7 => load.every < length,
                    7 => load.until > Duration::from_millis(10),
                    _ => true,
                };
                if !plainer || !self.try_with(|scenario| scenario.load = Some(load)) {
                    break;
                }
            }
        }
    }

    /// Resets everything that has a default.
    fn settings(&mut self) {
        let usual =
            |scenario: &Scenario| Scenario::new(scenario.nodes, scenario.length).token(scenario.totem.token);
        self.try_with(|scenario| {
            let Scenario { totem, world, .. } = usual(scenario);
            (scenario.totem, scenario.world) = (totem, world);
        });
        for n in 0..self.best.scenario.settings().len() {
            self.try_with(|scenario| {
                let mut usual = usual(scenario);
                scenario.settings()[n].1.set(&usual.settings()[n].1);
            });
        }
        let token = Scenario::new(1, Duration::ZERO).totem.token;
        self.try_with(|scenario| {
            let (mut before, mut usual) = (scenario.clone(), usual(scenario));
            scenario.totem = usual.clone().token(token).totem;
            let changed = before.settings().into_iter().zip(usual.settings());
            for ((_, setting), ((_, before), (_, usual))) in scenario.settings().iter_mut().zip(changed) {
                if before != usual {
                    setting.set(&before);
                }
            }
        });
    }

    fn plainer_faults(&mut self) {
        for n in 0..self.best.scenario.timeline.len() {
            loop {
                let plainer = plainer(&self.best.scenario.timeline[n].1);
                let mut plainer = plainer.into_iter();
                if !plainer.any(|fault| self.try_with(|scenario| scenario.timeline[n].1 = fault)) {
                    break;
                }
            }
        }
    }

    /// Removes times at which nothing happens.
    fn gaps(&mut self) {
        let faults = self.best.scenario.timeline.len();
        for n in 0..=faults {
            for parts in [0, 1, 5] {
                let scenario = &self.best.scenario;
                let before = n.checked_sub(1).map_or(Duration::ZERO, |n| scenario.timeline[n].0);
                let end = scenario.calm_at.unwrap_or(scenario.length);
                let at = scenario.timeline.get(n).map_or(end, |(at, _)| *at);
                let cut = at.saturating_sub(before) * (10 - parts) / 10;
                if cut >= Duration::from_millis(1) && self.try_with(|scenario| earlier(scenario, n, cut)) {
                    break;
                }
            }
        }
    }

    /// Rounds numbers to make them readable.
    fn round(&mut self) {
        const GRAINS: [u64; 6] = [1_000_000, 100_000, 50_000, 10_000, 1000, 100];
        let rounded = |time: Duration, grain: u64| {
            let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            Duration::from_micros((micros.saturating_add(grain / 2) / grain).max(1) * grain)
        };
        for grain in GRAINS {
            let all = |scenario: &mut Scenario| {
                times(scenario).into_iter().for_each(|time| *time = rounded(*time, grain));
            };
            if self.try_with(all) {
                break;
            }
        }
        for n in 0..times(&mut self.best.scenario.clone()).len() {
            let time = *times(&mut self.best.scenario.clone())[n];
            for grain in GRAINS {
                let plainer = rounded(time, grain);
                if plainer == time || self.try_with(|scenario| *times(scenario)[n] = plainer) {
                    break;
                }
            }
        }
        self.try_with(|scenario| scenario.timeline.sort_by_key(|(at, _)| *at));
    }
}

/// Returns everything that can be rounded.
fn times(scenario: &mut Scenario) -> Vec<&mut Duration> {
    let Scenario { length, load, timeline, calm_at, .. } = scenario;
    let mut times = vec![length];
    times.extend(calm_at);
    times.extend(load.iter_mut().flat_map(|load| [&mut load.every, &mut load.until]));
    for (at, fault) in timeline {
        // A crash at time 0 means that the node is absent.
        times.extend(Some(at).filter(|at| !at.is_zero()));
        times.extend(times_of(fault));
    }
    times
}

fn times_of(fault: &mut Fault) -> Vec<&mut Duration> {
    match fault {
        Fault::Disturb { lasts, trouble, .. } => match trouble {
            Trouble::LoseInBursts { bad, good } => vec![lasts, bad, good],
            Trouble::Duplicate { within: time, .. } | Trouble::Delay { by: time, .. } => vec![lasts, time],
            _ => vec![lasts],
        },
        Fault::Catch { fate: Fate::Late(time) | Fate::Twice(time), .. } => vec![time],
        Fault::Pause { lasts, .. }
        | Fault::Freeze { lasts, .. }
        | Fault::Hang { lasts, .. }
        | Fault::FullDisk { lasts, .. }
        | Fault::Unread { lasts, .. } => vec![lasts],
        Fault::Slow { each, lasts, .. } | Fault::SlowDisk { each, lasts, .. } => vec![each, lasts],
        Fault::When { then, .. } => times_of(then),
        _ => Vec::new(),
    }
}

/// Makes fault `n` and everything after it happen earlier by `by`.
fn earlier(scenario: &mut Scenario, n: usize, by: Duration) {
    let Scenario { length, load, timeline, calm_at, .. } = scenario;
    timeline.iter_mut().skip(n).for_each(|(at, _)| *at = at.saturating_sub(by));
    *length = length.saturating_sub(by);
    calm_at.iter_mut().for_each(|at| *at = at.saturating_sub(by));
    load.iter_mut().for_each(|load| load.until = load.until.saturating_sub(by));
}

/// Returns replacements for a fault that are easier to understand, or milder.
fn plainer(fault: &Fault) -> Vec<Fault> {
    let half = |time: Duration| Some(time / 2).filter(|half| *half >= Duration::from_millis(1));
    match fault.clone() {
        Fault::Partition(parts) if parts.len() > 2 => {
            vec![Fault::Partition(vec![parts[0].clone(), parts[1..].concat()])]
        }
        Fault::Disturb { lasts, trouble, kind, from, to } => {
            let with = |trouble| Fault::Disturb { lasts, trouble, kind, from, to };
            let mut plainer = Vec::new();
            if let Some(certain) = certain(trouble) {
                plainer.push(with(certain));
            }
            if kind != Kind::Any {
                plainer.push(Fault::Disturb { lasts, trouble, kind: Kind::Any, from, to });
            }
            plainer.extend(half(lasts).map(|lasts| Fault::Disturb { lasts, trouble, kind, from, to }));
            plainer
        }
        Fault::Catch { kind, after, fate } => {
            let mut plainer = Vec::new();
            if fate != Fate::Lost {
                plainer.push(Fault::Catch { kind, after, fate: Fate::Lost });
            }
            if after > 0 {
                plainer.extend([0, after / 2].map(|after| Fault::Catch { kind, after, fate }));
            }
            plainer
        }
        Fault::Replay(count) if count > 1 => vec![Fault::Replay(1), Fault::Replay(count / 2)],
        Fault::Foreign(count) if count > 1 => vec![Fault::Foreign(1), Fault::Foreign(count / 2)],
        Fault::Freeze { node, lasts } => vec![Fault::Pause { node, lasts }],
        Fault::Pause { node, lasts } => {
            half(lasts).map(|lasts| Fault::Pause { node, lasts }).into_iter().collect()
        }
        Fault::Hang { node, lasts } => {
            half(lasts).map(|lasts| Fault::Hang { node, lasts }).into_iter().collect()
        }
        Fault::FullDisk { node, lasts } => {
            half(lasts).map(|lasts| Fault::FullDisk { node, lasts }).into_iter().collect()
        }
        Fault::Unread { node, lasts } => {
            half(lasts).map(|lasts| Fault::Unread { node, lasts }).into_iter().collect()
        }
        Fault::Slow { node, each, lasts } => {
            half(lasts).map(|lasts| Fault::Slow { node, each, lasts }).into_iter().collect()
        }
        Fault::SlowDisk { node, each, lasts } => {
            half(lasts).map(|lasts| Fault::SlowDisk { node, each, lasts }).into_iter().collect()
        }
        Fault::Send { node, count, length, guarantee } => {
            let mut plainer = Vec::new();
            if count > 1 {
                plainer.extend([1, count / 2].map(|count| Fault::Send { node, count, length, guarantee }));
            }
            if length > 1 {
                plainer.push(Fault::Send { node, count, length: length / 2, guarantee });
            }
            plainer
        }
        Fault::When { node, point, then } => {
            let mut all = vec![(*then).clone()];
            let when = |then| Fault::When { node, point, then: Box::new(then) };
            all.extend(plainer(&then).into_iter().map(when));
            all
        }
        _ => Vec::new(),
    }
}

/// Returns the same disturbance without randomness.
fn certain(trouble: Trouble) -> Option<Trouble> {
    let all = Share::percent(100);
    match trouble {
        Trouble::Lose(share) if share < all => Some(Trouble::Lose(all)),
        Trouble::LoseInBursts { .. } => Some(Trouble::Lose(all)),
        Trouble::Duplicate { share, within } if share < all => {
            Some(Trouble::Duplicate { share: all, within })
        }
        Trouble::Delay { share, by } if share < all => Some(Trouble::Delay { share: all, by }),
        Trouble::Flip { share, bits } if share < all => Some(Trouble::Flip { share: all, bits }),
        Trouble::Resize(share) if share < all => Some(Trouble::Resize(all)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn violation(property: &'static str) -> Option<Violation> {
        Some(Violation { property, at: ms(4000), what: "it is so".to_owned() })
    }

    fn go_on(_: &Shrunk) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Fails if node 3 (or the node renumbered to it) crashes while there are three nodes and a
    /// load.
    fn fails(scenario: &Scenario) -> Option<Violation> {
        let crash = scenario.timeline.iter().any(|(_, fault)| matches!(fault, Fault::Crash(3)));
        let fails = crash && scenario.nodes >= 3 && scenario.load.is_some();
        if fails { violation("S8") } else { None }
    }

    #[test]
    fn shrinking_keeps_only_what_the_failure_needs() {
        let seed = (0..).find(|seed| fails(&Scenario::random(*seed)).is_some()).unwrap();
        let shrunk = shrink(&Scenario::random(seed), 2000, fails, go_on).unwrap();
        let scenario = &shrunk.scenario;
        assert!(shrunk.finished);
        assert_eq!((scenario.nodes, scenario.timeline.len()), (3, 1), "{shrunk}");
        assert_eq!(scenario.timeline[0].1, Fault::Crash(3));
        assert_eq!(scenario.totem, Scenario::new(3, ms(1)).totem, "all settings are the usual ones");
        assert!(fails(scenario).is_some());
        let text = shrunk.to_string();
        assert!(text.starts_with("# S8 does not hold at 4.000 s: it is so\n# Shrunk in "), "{text}");
        assert_eq!(text.parse::<Scenario>().as_ref(), Ok(scenario), "its text is itself");
    }

    #[test]
    fn other_failures_do_not_count() {
        let either = |scenario: &Scenario| {
            if scenario.timeline.len() >= 4 { violation("S8") } else { violation("S1") }
        };
        let seed = (0..).find(|seed| Scenario::random(*seed).timeline.len() > 10).unwrap();
        let shrunk = shrink(&Scenario::random(seed), 2000, either, go_on).unwrap();
        assert_eq!(shrunk.violation.property, "S8");
        assert_eq!(shrunk.scenario.timeline.len(), 4);
    }

    #[test]
    fn a_passing_scenario_cannot_be_shrunk() {
        assert_eq!(shrink(&Scenario::random(1), 100, |_| None, go_on), None);
    }

    #[test]
    fn a_search_that_is_cut_short_keeps_its_best_scenario() {
        let seed = (0..).find(|seed| fails(&Scenario::random(*seed)).is_some()).unwrap();
        let few = shrink(&Scenario::random(seed), 7, fails, go_on).unwrap();
        assert_eq!((few.runs, few.finished), (7, false));
        let watch = |shrunk: &Shrunk| match shrunk.runs {
            5.. => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let ended = shrink(&Scenario::random(seed), 2000, fails, watch).unwrap();
        assert_eq!((ended.runs, ended.finished), (5, false));
        assert!(fails(&ended.scenario).is_some());
    }
}
