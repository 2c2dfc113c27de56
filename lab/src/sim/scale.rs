//! `quorate-lab sim scale`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use quorate::NodeId;
use quorate::config::{TotemConfig, defaults};
use quorate_netsim::history::{Inside, Record, What};
use quorate_netsim::{Fault, History, Scenario, Summary};
use rustix::time::ClockId;
use serde::Serialize;

use crate::Failure;
use crate::output::{print, say};

/// The time that members have to form a ring.
const START: Duration = Duration::from_secs(5);
/// The time that a ring gets until it is idle.
const REST: Duration = Duration::from_secs(2);
/// The time for which the idle ring is measured.
const IDLE: Duration = Duration::from_secs(10);
/// The number of identical runs. Other load on the machine only adds to the processor time, so the
/// lowest value counts.
const RUNS: usize = 3;
/// The time that the others have to form a ring without the lost member.
const LOSS: Duration = Duration::from_secs(2);

/// Measure the cost of rings of up to 384 members, for each member.
///
/// Runs bare members in simulated time, with the default timeouts for that number of listed nodes.
/// It measures how long all members take to form one ring after a simultaneous start, how long a
/// rotation of the token takes, and how long the others take to form a ring after a process is
/// killed.
///
/// Costs are datagrams and processor time of this machine for each member, including the
/// simulator's. Processes, sockets and shared processors are not simulated. `quorate-lab bench
/// scale` measures those.
#[derive(Debug, clap::Args)]
pub(super) struct ScaleArgs {
    /// Numbers of members, measured one after another
    #[arg(long, default_values_t = [2, 4, 8, 16, 32, 64, 128, 256, 384], value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(2..=i64::from(Scenario::MAX_NODES)))]
    nodes: Vec<u32>,
    /// Time that a datagram takes, in microseconds
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    latency: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Measured {
    latency_us: u64,
    rings: Vec<Ring>,
}

/// The measurements of a ring of one size. Costs are means over all members.
#[derive(Debug, Serialize)]
struct Ring {
    n: u32,
    token_ms: u64,
    form_ms: f64,
    form: Cost,
    rotation_ms: f64,
    /// The cost of one second.
    idle: Cost,
    kill_ms: f64,
    kill: Cost,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Cost {
    datagrams: f64,
    cpu_us: f64,
}

pub(super) fn run(args: &ScaleArgs) -> Result<ExitCode, Failure> {
    let mut measured = Measured { latency_us: args.latency, rings: Vec::new() };
    for &n in &args.nodes {
        let began = Instant::now();
        measured.rings.push(Size::new(n, args.latency).measure()?);
        say(format_args!("{n} members: {:.1} s", began.elapsed().as_secs_f64()));
    }
    let text = if args.json {
        serde_json::to_string(&measured).map_err(|error| Failure::new(error.to_string()))? + "\n"
    } else {
        table(&measured)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Rings of one size.
struct Size {
    n: u32,
    totem: TotemConfig,
    latency: Duration,
}

impl Size {
    fn new(n: u32, latency: u64) -> Self {
        let token = defaults::effective_token(defaults::TOKEN, defaults::TOKEN_COEFFICIENT, n as usize);
        let totem = TotemConfig::for_token(Duration::from_millis(token));
        Self { n, totem, latency: Duration::from_micros(latency) }
    }

    fn measure(&self) -> Result<Ring, Failure> {
        let all: BTreeSet<NodeId> = (1..=self.n).filter_map(NodeId::new).collect();
        let (_, history) = traced(&self.scenario(START, None))?;
        let formed = installed(&history, &all, Duration::ZERO)
            .ok_or_else(|| Failure::new(format!("{} members are no ring after {START:?}", self.n)))?;
        let rotation = rotation(&history, formed)
            .ok_or_else(|| Failure::new(format!("the token of {} members does not go round", self.n)))?;

        let rests = formed + REST;
        let victim = self.n / 2 + 1;
        let (_, history) = traced(&self.scenario(rests + LOSS, Some((rests, victim))))?;
        let others = all.iter().copied().filter(|node| node.get() != victim).collect();
        let without = installed(&history, &others, rests).ok_or_else(|| {
            Failure::new(format!("{} members are no ring {LOSS:?} after one was killed", self.n))
        })?;

        let start = self.cost(formed, None)?;
        let rest = self.cost(rests, None)?;
        let idle = self.cost(rests + IDLE, None)?;
        let loss = self.cost(without, Some((rests, victim)))?;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Ring {
            n: self.n,
            token_ms: self.totem.token.as_millis() as u64,
            form_ms: ms(formed),
            form: start,
            rotation_ms: ms(rotation),
            idle: idle.beyond(rest, IDLE.as_secs_f64()),
            kill_ms: ms(without - rests),
            kill: loss.beyond(rest, f64::from(self.n - 1) / f64::from(self.n)),
        })
    }

    fn scenario(&self, length: Duration, kill: Option<(Duration, u32)>) -> Scenario {
        let scenario =
            Scenario::new(self.n, length).protocol(self.totem.clone()).latency(self.latency).seed(1);
        kill.into_iter().fold(scenario, |scenario, (at, node)| scenario.at(at, Fault::Crash(node)))
    }

    /// Returns the cost of everything until then, for each member.
    fn cost(&self, until: Duration, kill: Option<(Duration, u32)>) -> Result<Cost, Failure> {
        let scenario = self.scenario(until, kill);
        let mut cost = Cost { datagrams: 0.0, cpu_us: f64::INFINITY };
        for _ in 0..RUNS {
            let before = processor_time();
            let summary =
                scenario.run_core_unchecked().map_err(|failure| Failure::new(failure.to_string()))?;
            let cpu_us = (processor_time() - before) * 1e6 / f64::from(self.n);
            let datagrams = summary.datagrams as f64 / f64::from(self.n);
            cost = Cost { datagrams, cpu_us: cost.cpu_us.min(cpu_us) };
        }
        Ok(cost)
    }
}

impl Cost {
    /// Returns the cost in excess of `before`, divided by `times`.
    fn beyond(self, before: Self, times: f64) -> Self {
        Self {
            datagrams: (self.datagrams - before.datagrams) / times,
            cpu_us: (self.cpu_us - before.cpu_us) / times,
        }
    }
}

/// Returns the processor time of this thread, which does all the work, in seconds.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn traced(scenario: &Scenario) -> Result<(Summary, History), Failure> {
    let (summary, history) = scenario.run_core_traced();
    Ok((summary.map_err(|failure| Failure::new(failure.to_string()))?, history))
}

/// Returns when the last of these members had a ring of exactly them, from `after` on.
fn installed(history: &History, members: &BTreeSet<NodeId>, after: Duration) -> Option<Duration> {
    let mut since = BTreeMap::new();
    for Record { at, life, what } in history.records() {
        if let (Some(life), What::Regular(regular)) = (life, what)
            && *at >= after
            && regular.members == *members
        {
            since.entry(life.node).or_insert(*at);
        }
    }
    if since.len() < members.len() {
        return None;
    }
    since.into_values().max()
}

/// Returns the shortest time of a rotation.
fn rotation(history: &History, after: Duration) -> Option<Duration> {
    let visits: Vec<Duration> = history
        .records()
        .iter()
        .filter(|record| record.at >= after && record.life.is_some_and(|life| life.node.get() == 1))
        .filter(|record| matches!(record.what, What::Inside(Inside::Token(_))))
        .map(|record| record.at)
        .collect();
    visits.windows(2).map(|pair| pair[1] - pair[0]).min()
}

fn table(measured: &Measured) -> String {
    let mut text = format!(
        "Bare members in simulated time, {} us a datagram; datagrams and processor time of one member\n\
         {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n\
         {:>7} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
        measured.latency_us,
        "members",
        "token",
        "one ring",
        "",
        "",
        "rotation",
        "idle",
        "a second",
        "kill -9",
        "",
        "",
        "",
        "ms",
        "ms",
        "datagrams",
        "cpu us",
        "ms",
        "datagrams",
        "cpu us",
        "ms",
        "datagrams",
        "cpu us",
    );
    for Ring { n, token_ms, form_ms, form, rotation_ms, idle, kill_ms, kill } in &measured.rings {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{n:>7} {token_ms:>9} {form_ms:>9.2} {:>9.1} {:>9.0} {rotation_ms:>9.2} {:>9.1} {:>9.0} {kill_ms:>9.2} {:>9.1} {:>9.0}",
            form.datagrams, form.cpu_us, idle.datagrams, idle.cpu_us, kill.datagrams, kill.cpu_us,
        );
    }
    text
}
