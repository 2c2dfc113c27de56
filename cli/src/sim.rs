//! `quorate sim`: the fault laboratory.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use quorate_netsim::{Failure as Wrong, Load, Scenario, Summary, Totals};

use crate::{Failure, model, print};

/// Run simulated clusters under every kind of trouble, and check them
///
/// A seed draws a cluster, its load and its trouble; the same seed is the same run, to the last byte.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run many seeds
    ///
    /// The last line is the summary. Ctrl-C ends the run and prints it too.
    Run {
        /// How many
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first one
        #[arg(long, default_value_t = 0)]
        start: u64,
        /// How many to run at the same time [default: one for each processor]
        #[arg(long)]
        jobs: Option<usize>,
        /// Run each seed twice and compare
        #[arg(long)]
        trace_hash: bool,
    },
    /// Run one seed again, and show what it was
    Replay {
        /// The seed
        seed: u64,
        /// Print every line of what happened, not only the end of a failure
        #[arg(long)]
        trace: bool,
    },
    /// Run a scenario from a file
    Scenario {
        /// The file, `-` for stdin
        file: PathBuf,
        /// Print every line of what happened, not only the end of a failure
        #[arg(long)]
        trace: bool,
    },
    /// Go through all that can happen to a few nodes, within bounds
    ///
    /// Prints the shortest way to a broken promise, if there is one.
    Model(model::ModelArgs),
    /// Measure the simulator itself
    Bench {
        /// Simulated seconds
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

pub(crate) fn run(args: &SimArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Run { seeds, start, jobs, trace_hash } => swarm(*start, *seeds, *jobs, *trace_hash),
        Command::Replay { seed, trace } => one(&Scenario::random(*seed), *trace),
        Command::Scenario { file, trace } => {
            let text = if file.as_os_str() == "-" {
                io::read_to_string(io::stdin())
            } else {
                fs::read_to_string(file)
            };
            let name = file.display();
            let text = text.map_err(|error| Failure::new(format!("{name} cannot be read: {error}")))?;
            let scenario = text.parse().map_err(|error| Failure::new(format!("{name}: {error}")))?;
            one(&scenario, *trace)
        }
        Command::Model(args) => model::run(args),
        Command::Bench { seconds } => bench(Duration::from_secs(*seconds)),
    }
}

fn one(scenario: &Scenario, trace: bool) -> Result<ExitCode, Failure> {
    if trace {
        let (result, history) = scenario.run_core_traced();
        print(&format!("{scenario}\n{history}"))?;
        return outcome(result);
    }
    print(&format!("{scenario}\n"))?;
    outcome(scenario.run_core())
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

/// What became of a seed.
type Outcome = (u64, Result<Summary, String>);

fn swarm(start: u64, seeds: u64, jobs: Option<usize>, twice: bool) -> Result<ExitCode, Failure> {
    const SHOWN: usize = 3;
    static STOPPED: AtomicBool = AtomicBool::new(false);
    stop_on_ctrl_c(&STOPPED);
    let jobs = jobs.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1).max(1);
    let next = AtomicU64::new(start);
    let end = start.saturating_add(seeds);
    let began = Instant::now();
    let (sender, outcomes) = mpsc::channel::<Outcome>();
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
                    if seed >= end || sender.send((seed, run_seed(seed, twice))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut progress = Progress::new(began);
        loop {
            match outcomes.recv_timeout(Duration::from_millis(200)) {
                Ok((seed, Ok(summary))) => {
                    ran += 1;
                    totals.add(&summary);
                    let _ = seed;
                }
                Ok((seed, Err(text))) => {
                    ran += 1;
                    progress.clear();
                    if failed.len() < SHOWN {
                        print(&format!("seed {seed} failed\n{text}\nreplay: quorate sim replay {seed}\n\n"))?;
                    } else {
                        let first = text.lines().next().unwrap_or_default();
                        print(&format!("seed {seed} failed: {first}\n"))?;
                    }
                    failed.push(seed);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            progress.show(ran, seeds, failed.len(), &totals);
        }
        progress.clear();
        Ok::<(), Failure>(())
    })?;
    failed.sort_unstable();
    let list: Vec<String> = failed.iter().map(ToString::to_string).collect();
    let failed_ones = if failed.is_empty() { String::new() } else { format!(": {}", list.join(" ")) };
    print(&format!(
        "{totals}, {:.0} events/s, {:.1} seeds/s, {} failed{failed_ones}\n",
        totals.events as f64 / began.elapsed().as_secs_f64(),
        ran as f64 / began.elapsed().as_secs_f64(),
        failed.len(),
    ))?;
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_seed(seed: u64, twice: bool) -> Result<Summary, String> {
    let scenario = Scenario::random(seed);
    let first = scenario.run_core().map_err(|failure| failure.to_string())?;
    if twice {
        let second = scenario.run_core().map_err(|failure| failure.to_string())?;
        if first.fingerprint != second.fingerprint {
            let (one, two) = (first.fingerprint, second.fingerprint);
            return Err(format!(
                "H4 does not hold: trace hash {one:016x}, and {two:016x} the second time\n{scenario}"
            ));
        }
    }
    Ok(first)
}

fn stop_on_ctrl_c(stopped: &'static AtomicBool) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime
            && runtime.block_on(tokio::signal::ctrl_c()).is_ok()
        {
            stopped.store(true, Ordering::Relaxed);
        }
    });
}

/// A line on a terminal that is written over.
struct Progress {
    began: Instant,
    shown_at: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new(began: Instant) -> Self {
        Self { began, shown_at: None, terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, ran: u64, of: u64, failed: usize, totals: &Totals) {
        if !self.terminal || self.shown_at.is_some_and(|at| at.elapsed() < Duration::from_millis(200)) {
            return;
        }
        self.shown_at = Some(Instant::now());
        eprint!(
            "\r\x1b[K{ran} of {of} seeds, {:.0} seeds/s, {:.1} simulated hours, {} faults, {failed} failed",
            ran as f64 / self.began.elapsed().as_secs_f64(),
            totals.simulated.as_secs_f64() / 3600.0,
            totals.faults(),
        );
        let _ = io::stderr().flush();
    }

    fn clear(&mut self) {
        if self.terminal && self.shown_at.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// Five nodes, a millisecond apart, all invariants on, one core.
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
