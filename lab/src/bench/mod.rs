//! `quorate-lab bench`.

mod crew;
mod failover;
mod ground;
mod latency;
mod leaders;
mod member;
mod replica;
mod scale;
mod throughput;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::crew::Crew;
use self::ground::Ground;
use crate::{Failure, stop};

/// The longest time that members may take to form one ring.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measure throughput, latency, failover, growing rings, named leaders and replicas on this
/// machine.
///
/// Each member is a process that embeds the ring, except for `replica`. As root, members run on
/// hosts of their own: network namespaces on a bridge, which are removed afterwards. Without root,
/// or with --loopback, they run over the loopback interface.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 measured, 1 failed (one line on stderr says why), 2 wrong usage.")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Throughput(throughput::ThroughputArgs),
    Latency(latency::LatencyArgs),
    Failover(failover::FailoverArgs),
    Scale(scale::ScaleArgs),
    Leaders(leaders::LeadersArgs),
    Replica(replica::ReplicaArgs),
    /// Run one measured member, for the other commands
    #[command(hide = true)]
    Member(member::MemberArgs),
}

/// The options that all benches share.
#[derive(Debug, Args)]
struct Common {
    /// Use the loopback interface even as root, instead of network namespaces
    #[arg(long)]
    loopback: bool,
    /// An option for the totem section of all members. May be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = option)]
    totem: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Parses `key=value` into a line of corosync.conf.
fn option(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !text.contains(['{', '}', '\n']) => {
            Ok(format!("{}: {}", key.trim(), value.trim()))
        }
        _ => Err("it is written KEY=VALUE, as in token=1000".to_owned()),
    }
}

impl Common {
    /// Prepares the hosts for `nodes` members.
    fn crew(&self, nodes: u32) -> Result<Crew, Failure> {
        let root = rustix::process::geteuid().is_root();
        let ground =
            if self.loopback || !root { Ground::loopback(nodes) } else { Ground::namespaces(nodes) }?;
        let mut totem = self.totem.clone();
        if !totem.iter().any(|option| option.starts_with("token:")) {
            totem.push("token: 1000".to_owned());
        }
        Crew::new(ground, &totem)
    }

    /// Starts all members at once. Returns them in one ring, and how long that took.
    fn ring(&self, nodes: u32) -> Result<(Crew, Duration), Failure> {
        let mut crew = self.crew(nodes)?;
        let took = crew.start_all(nodes, PATIENCE)?;
        Ok((crew, took))
    }

    fn print(&self, measured: &impl Serialize, table: impl FnOnce() -> String) -> Result<ExitCode, Failure> {
        let text = if self.json {
            serde_json::to_string(measured).map_err(|error| Failure::new(error.to_string()))? + "\n"
        } else {
            table()
        };
        crate::output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(crate) fn run(args: BenchArgs) -> Result<ExitCode, Failure> {
    if !matches!(args.what, What::Member(_)) {
        stop::when_asked(&crew::STOPPED);
    }
    match args.what {
        What::Throughput(args) => throughput::run(&args),
        What::Latency(args) => latency::run(&args),
        What::Failover(args) => failover::run(&args),
        What::Scale(args) => scale::run(&args),
        What::Leaders(args) => leaders::run(&args),
        What::Replica(args) => replica::run(&args),
        What::Member(args) => member::run(args),
    }
}

/// Returns the `part`/1000 quantile of `sorted`.
fn quantile(sorted: &[f64], part: usize) -> f64 {
    let place = (sorted.len() * part).div_ceil(1000).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

/// Formats sorted values: the quantiles `parts` (in thousandths), the maximum, and a histogram.
fn spread(sorted: &[f64], parts: &[usize], unit: &str) -> String {
    let quantiles: String = parts
        .iter()
        .map(|&part| format!("p{} {:.1}, ", part as f64 / 10.0, quantile(sorted, part)))
        .collect();
    let most = quantile(sorted, 1000);
    format!("{unit}: {quantiles}at most {most:.1}\n\n{}", histogram(sorted, unit))
}

/// Formats a histogram of sorted values, with one line and bar per step.
fn histogram(sorted: &[f64], unit: &str) -> String {
    const STEPS: usize = 12;
    const WIDTH: usize = 50;
    let (Some(&least), most) = (sorted.first(), quantile(sorted, 995)) else { return String::new() };
    let step = ((most - least) / STEPS as f64).max(f64::EPSILON);
    let mut counts = [0_usize; STEPS + 1];
    for value in sorted {
        counts[(((value - least) / step) as usize).min(STEPS)] += 1;
    }
    let highest = counts.iter().copied().max().unwrap_or(1).max(1);
    let line = |(n, count): (usize, &usize)| {
        let from = least + step * n as f64;
        let more = if n == STEPS { "+" } else { " " };
        format!("{from:>10.1}{more} {unit} {count:>7} {}\n", "#".repeat((count * WIDTH).div_ceil(highest)))
    };
    counts.iter().enumerate().filter(|(_, count)| **count > 0).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_bounds_its_share_of_the_values() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([1, 500, 990, 1000].map(|part| quantile(&values, part)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(quantile(&[], 500), 0.0);
    }

    #[test]
    fn a_histogram_counts_every_value_once() {
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        let text = histogram(&values, "us");
        let count = |line: &str| line.split_whitespace().nth(2).unwrap().parse::<usize>().unwrap();
        assert_eq!(text.lines().map(count).sum::<usize>(), 1000, "{text}");
        assert!(
            spread(&values, &[500, 999], "us").starts_with("us: p50 499.0, p99.9 998.0, at most 999.0\n")
        );
        assert_eq!(histogram(&[], "us"), "");
        assert_eq!(histogram(&[7.0, 7.0], "us").lines().count(), 1);
    }

    #[test]
    fn an_option_is_a_key_and_a_value() {
        assert_eq!(option("token=300").as_deref(), Ok("token: 300"));
        assert!(option("token").is_err() && option("=1").is_err() && option("a=}").is_err());
    }
}
