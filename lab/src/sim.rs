//! `quorate-lab sim`: the fault laboratory.

mod cases;
mod model;
mod scale;

use std::fs;
use std::io;
use std::ops::{ControlFlow, Range};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use quorate_netsim::shrink::Shrunk;
use quorate_netsim::{Failure as Wrong, Load, Scenario, Summary, Totals};
use serde_json::json;

use crate::output::{self, Progress, print};
use crate::{Failure, stop};

/// Run simulated clusters under every kind of fault, and check them.
///
/// A seed determines a cluster, its load and its faults. The same seed gives the same run, to the
/// last byte.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run many seeds.
    ///
    /// The last line is the summary. Ctrl-C ends the run and prints the summary too.
    Run {
        /// Number of seeds
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// First seed
        #[arg(long, default_value_t = 0, value_parser = seed)]
        start: u64,
        /// Number of seeds to run at the same time [default: one per processor]
        #[arg(long)]
        jobs: Option<usize>,
        /// Run each seed twice, and compare the trace hashes
        #[arg(long)]
        trace_hash: bool,
        /// Simulation engine: bare members, or whole nodes with driver and runtime, which take a
        /// hundred times as long
        #[arg(long, value_enum, default_value_t = Engine::Core)]
        engine: Engine,
        /// Print the summary as one JSON object, and failures to stderr
        #[arg(long)]
        json: bool,
    },
    /// Run one seed again, and show its scenario and result
    Replay {
        /// Seed to run
        #[arg(value_parser = seed)]
        seed: u64,
        /// Simulation engine
        #[arg(long, value_enum, default_value_t = Engine::Core)]
        engine: Engine,
        /// Print every recorded event, not only the last ones before a failure
        #[arg(long)]
        trace: bool,
        /// Draw the run as a space-time diagram, in this HTML file
        #[arg(long, value_name = "FILE", conflicts_with = "trace")]
        html: Option<PathBuf>,
    },
    /// Run a scenario from a file
    Scenario {
        /// Scenario file, or `-` for stdin
        file: PathBuf,
        /// Simulation engine
        #[arg(long, value_enum, default_value_t = Engine::Core)]
        engine: Engine,
        /// Print every recorded event, not only the last ones before a failure
        #[arg(long)]
        trace: bool,
        /// Draw the run as a space-time diagram, in this HTML file
        #[arg(long, value_name = "FILE", conflicts_with = "trace")]
        html: Option<PathBuf>,
    },
    /// Make a failing seed, or a failing scenario from a file, as small as possible.
    ///
    /// The result is a scenario that fails in the same way: read it, and keep it as a test. Ctrl-C
    /// ends the search and prints the smallest scenario so far.
    Shrink {
        /// Seed to shrink
        #[arg(required_unless_present = "file", value_parser = seed)]
        seed: Option<u64>,
        /// Shrink the scenario from this file instead, or from stdin if it is `-`
        #[arg(long, conflicts_with = "seed")]
        file: Option<PathBuf>,
        /// Write the scenario to this file instead of stdout
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// Maximum number of smaller scenarios to run
        #[arg(long, default_value_t = 5000)]
        runs: u64,
        /// Time limit of the search, in seconds
        #[arg(long, default_value_t = 300)]
        seconds: u64,
    },
    /// Explore everything that can happen to a few nodes, within bounds.
    ///
    /// If a property is violated, the shortest path to the violation is printed.
    Model(model::ModelArgs),
    /// Run recorded cases of quorum, and print the steps in which our nodes differ.
    ///
    /// Each such step is printed with the recorded and the actual result. Intended differences come
    /// with their reason. The exit code is 1 if there are other differences.
    Quorum {
        /// File of cases in JSON, or `-` for stdin
        file: PathBuf,
    },
    Scale(scale::ScaleArgs),
    /// Measure the speed of the simulator itself
    Bench {
        /// Simulated time, in seconds
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        format!("a seed is a whole number from 0 to {}, as `quorate-lab sim run` prints it", u64::MAX)
    })
}

/// The engine that runs a scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Engine {
    /// Bare members in an event loop
    Core,
    /// Whole nodes on turmoil
    Turmoil,
}

impl Engine {
    fn draw(self, seed: u64) -> Scenario {
        match self {
            Self::Core => Scenario::random(seed),
            Self::Turmoil => Scenario::random_nodes(seed),
        }
    }

    fn run(self, scenario: &Scenario) -> Result<Summary, Wrong> {
        match self {
            Self::Core => scenario.run_core(),
            Self::Turmoil => scenario.run_nodes(),
        }
    }

    /// Returns the command-line option that selects the engine.
    fn option(self) -> &'static str {
        match self {
            Self::Core => "",
            Self::Turmoil => " --engine turmoil",
        }
    }
}

pub(crate) fn run(args: &SimArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Run { seeds, start, jobs, trace_hash, engine, json } => {
            let seeds = *start..start.saturating_add(*seeds);
            Swarm { seeds, jobs: *jobs, twice: *trace_hash, engine: *engine, json: *json }.run()
        }
        Command::Replay { seed, engine, trace, html } => {
            one(&engine.draw(*seed), *engine, *trace, html.as_deref())
        }
        Command::Scenario { file, engine, trace, html } => {
            one(&read(file)?, *engine, *trace, html.as_deref())
        }
        Command::Shrink { seed, file, output, runs, seconds } => {
            let (name, scenario) = match (seed, file) {
                (_, Some(file)) => (file.display().to_string(), read(file)?),
                (seed, None) => {
                    let seed = seed.unwrap_or_default();
                    (format!("seed {seed}"), Scenario::random(seed))
                }
            };
            shrink(&name, &scenario, output.as_deref(), *runs, Duration::from_secs(*seconds))
        }
        Command::Model(args) => model::run(args),
        Command::Quorum { file } => cases::run(file),
        Command::Scale(args) => scale::run(args),
        Command::Bench { seconds } => bench(Duration::from_secs(*seconds)),
    }
}

/// Reads a scenario from a file.
pub(crate) fn read(file: &Path) -> Result<Scenario, Failure> {
    let text =
        if file.as_os_str() == "-" { io::read_to_string(io::stdin()) } else { fs::read_to_string(file) };
    let name = file.display();
    let text = text.map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
    text.parse().map_err(|error| Failure::new(format!("{name}: {error}")))
}

fn one(scenario: &Scenario, engine: Engine, trace: bool, html: Option<&Path>) -> Result<ExitCode, Failure> {
    if let Some(file) = html {
        let (result, picture) = match engine {
            Engine::Core => scenario.run_core_drawn(),
            Engine::Turmoil => scenario.run_nodes_drawn(),
        };
        if let Some(picture) = picture {
            fs::write(file, picture.html())
                .map_err(|error| Failure::new(format!("{} cannot be written: {error}", file.display())))?;
        }
        print(&format!("{scenario}\n"))?;
        return outcome(result);
    }
    if trace {
        let (result, history) = match engine {
            Engine::Core => scenario.run_core_traced(),
            Engine::Turmoil => scenario.run_nodes_traced(),
        };
        print(&format!("{scenario}\n{history}"))?;
        return outcome(result);
    }
    print(&format!("{scenario}\n"))?;
    outcome(engine.run(scenario))
}

fn outcome(result: Result<Summary, Wrong>) -> Result<ExitCode, Failure> {
    match result {
        Ok(summary) => {
            let mut totals = Totals::default();
            totals.add(&Summary { vacuous: None, ..summary.clone() });
            let vacuous = summary.vacuous.map(|why| format!(", which counts for nothing: {why}"));
            print(&format!(
                "{totals}{}, trace hash {:016x}\n",
                vacuous.unwrap_or_default(),
                summary.fingerprint
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            print(&format!("{failure}\n"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn shrink(
    name: &str,
    scenario: &Scenario,
    output: Option<&Path>,
    runs: u64,
    patience: Duration,
) -> Result<ExitCode, Failure> {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    stop::when_asked(&STOPPED);
    // A panic counts as a failure here, and occurs again and again.
    panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let mut progress = Progress::new();
    let shrunk = scenario.shrink(runs, |shrunk| {
        let Shrunk { scenario, runs, violation, .. } = shrunk;
        progress.show(|| {
            let (faults, nodes) = (scenario.faults(), scenario.nodes());
            format!("{}: {runs} runs, {faults} faults of {nodes} nodes left", violation.property)
        });
        match STOPPED.load(Ordering::Relaxed) || began.elapsed() > patience {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    progress.clear();
    drop(panic::take_hook());
    let Some(shrunk) = shrunk else {
        return Err(Failure::new(format!("{name} does not fail: there is nothing to make smaller")));
    };
    output::say(format_args!(
        "{name}: {} runs in {:.1} s, from {} faults to {}, from {} nodes to {}{}",
        shrunk.runs,
        began.elapsed().as_secs_f64(),
        shrunk.original.faults(),
        shrunk.scenario.faults(),
        shrunk.original.nodes(),
        shrunk.scenario.nodes(),
        if shrunk.finished { "" } else { "; ended before nothing more could be taken away" },
    ));
    match output {
        None => print(&shrunk.to_string())?,
        Some(file) => {
            fs::write(file, shrunk.to_string())
                .map_err(|error| Failure::new(format!("{} cannot be written: {error}", file.display())))?;
            output::say(format_args!("replay: quorate-lab sim scenario {}", file.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A run of many seeds.
struct Swarm {
    seeds: Range<u64>,
    jobs: Option<usize>,
    twice: bool,
    engine: Engine,
    json: bool,
}

/// A seed that failed.
struct Failed {
    seed: u64,
    property: Option<&'static str>,
    text: String,
}

impl Swarm {
    /// The number of failures that are printed in full.
    const WHOLE: usize = 3;

    fn run(&self) -> Result<ExitCode, Failure> {
        static STOPPED: AtomicBool = AtomicBool::new(false);
        stop::when_asked(&STOPPED);
        let processors = || thread::available_parallelism().ok().map(usize::from);
        let jobs = self.jobs.or_else(processors).unwrap_or(1).max(1);
        let next = AtomicU64::new(self.seeds.start);
        let began = Instant::now();
        let (sender, outcomes) = mpsc::channel();
        let mut totals = Totals::default();
        let mut failed = Vec::new();
        let mut ran = 0;
        thread::scope(|scope| {
            for _ in 0..jobs {
                let sender = sender.clone();
                let next = &next;
                scope.spawn(move || {
                    while !STOPPED.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end || sender.send(self.run_seed(seed)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut progress = Progress::new();
            loop {
                match outcomes.recv_timeout(Duration::from_millis(200)) {
                    Ok(outcome) => {
                        ran += 1;
                        match outcome {
                            Ok(summary) => totals.add(&summary),
                            Err(failure) => {
                                progress.clear();
                                self.report(&failure, failed.len() < Self::WHOLE)?;
                                failed.push(failure);
                            }
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                progress.show(|| {
                    format!(
                        "{ran} of {} seeds, {:.1} seeds/s, {:.2} simulated hours, {} faults, {} failed",
                        self.seeds.end - self.seeds.start,
                        f64::from(ran) / began.elapsed().as_secs_f64(),
                        totals.simulated.as_secs_f64() / 3600.0,
                        totals.faults(),
                        failed.len(),
                    )
                });
            }
            progress.clear();
            Ok::<(), Failure>(())
        })?;
        failed.sort_unstable_by_key(|failed| failed.seed);
        let seconds = began.elapsed().as_secs_f64();
        if self.json {
            let summary = serde_json::to_value(&totals);
            let mut summary = summary.map_err(|error| Failure::new(error.to_string()))?;
            summary["missed"] = totals.missed().iter().map(ToString::to_string).collect::<Vec<_>>().into();
            summary["seconds"] = seconds.into();
            let one = |failed: &Failed| json!({ "seed": failed.seed, "property": failed.property });
            summary["failed"] = failed.iter().map(one).collect();
            print(&format!("{summary}\n"))?;
        } else {
            let list: Vec<String> = failed.iter().map(|failed| failed.seed.to_string()).collect();
            let list = if list.is_empty() { String::new() } else { format!(": {}", list.join(" ")) };
            print(&format!(
                "{totals}, {:.0} events/s, {:.1} seeds/s, {} failed{list}\n",
                totals.events as f64 / seconds,
                f64::from(ran) / seconds,
                failed.len(),
            ))?;
        }
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn run_seed(&self, seed: u64) -> Result<Summary, Failed> {
        let scenario = self.engine.draw(seed);
        let wrong = |failure: Wrong| Failed {
            seed,
            property: failure.violation().map(|violation| violation.property),
            text: failure.to_string(),
        };
        let first = self.engine.run(&scenario).map_err(wrong)?;
        if self.twice {
            let second = self.engine.run(&scenario).map_err(wrong)?;
            if first.fingerprint != second.fingerprint {
                let (one, two) = (first.fingerprint, second.fingerprint);
                let text = format!(
                    "H4 does not hold: trace hash {one:016x}, and {two:016x} the second time\n\nscenario\n{scenario}"
                );
                return Err(Failed { seed, property: Some("H4"), text });
            }
        }
        Ok(first)
    }

    fn report(&self, failed: &Failed, whole: bool) -> Result<(), Failure> {
        let Failed { seed, text, .. } = failed;
        let option = self.engine.option();
        let text = if whole {
            let shrink = match self.engine {
                Engine::Core => format!("shrink: quorate-lab sim shrink {seed}\n"),
                Engine::Turmoil => String::new(),
            };
            format!(
                "seed {seed} fails\n{text}\nreplay: quorate-lab sim replay {seed}{option}\n\
                 draw: quorate-lab sim replay {seed}{option} --html {seed}.html\n{shrink}\n"
            )
        } else {
            format!("seed {seed} fails: {}\n", text.lines().next().unwrap_or_default())
        };
        if self.json {
            output::say(text.trim_end_matches('\n'));
            return Ok(());
        }
        print(&text)
    }
}

/// Runs five nodes with a latency of 1 ms, with all invariants checked, on one core.
fn bench(length: Duration) -> Result<ExitCode, Failure> {
    let ms = Duration::from_millis;
    let loaded = |per_second: u32| {
        Scenario::new(5, length).token(ms(1000)).load(Load {
            every: Duration::from_secs(5) / per_second,
            until: length,
            longest: 200,
            safe_percent: 30,
        })
    };
    let cases = [("idle", Scenario::new(5, length).token(ms(1000))), ("1000 messages/s", loaded(1000))];
    for (name, scenario) in cases {
        let began = Instant::now();
        let summary = scenario.run_core().map_err(|failure| Failure::new(failure.to_string()))?;
        let took = began.elapsed().as_secs_f64();
        print(&format!(
            "{name}: {:.0} times real time, {:.0} events/s, {} deliveries, {:.1} s simulated in {took:.3} s\n",
            summary.simulated.as_secs_f64() / took,
            summary.events as f64 / took,
            summary.deliveries,
            summary.simulated.as_secs_f64(),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
