//! `quorate-lab sim model`: the model check.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use quorate_netsim::model::{self, Bounds};

use crate::Failure;
use crate::output::{Progress, print};

/// The bounds of the search. Everything within them is explored.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4))]
    nodes: u8,
    /// State of the nodes at the beginning
    #[arg(long, value_enum, default_value_t = Begin::Ring)]
    begin: Begin,
    /// Messages sent, by any node at any time
    #[arg(long, default_value_t = 1)]
    messages: u8,
    /// Timers that fire, of any node at any time
    #[arg(long, default_value_t = 2)]
    timers: u8,
    /// Datagrams that are lost
    #[arg(long, default_value_t = 1)]
    losses: u8,
    /// Datagrams that are duplicated
    #[arg(long, default_value_t = 0)]
    duplicates: u8,
    /// Datagrams that are overtaken by the next one
    #[arg(long, default_value_t = 0)]
    overtakings: u8,
    /// Crashes. A crashed node may start again
    #[arg(long, default_value_t = 0)]
    crashes: u8,
    /// Rings that a node installs after the beginning, over all its lives
    #[arg(long, default_value_t = 2)]
    rings: u8,
    /// Steps of the longest path [default: unlimited]
    #[arg(long)]
    depth: Option<u32>,
    /// Stop after about this number of states [default: unlimited]
    #[arg(long)]
    states: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Begin {
    /// All nodes have just started
    Apart,
    /// All nodes are in one idle ring
    Ring,
}

pub(crate) fn run(args: &ModelArgs) -> Result<ExitCode, Failure> {
    let bounds = Bounds {
        nodes: args.nodes,
        begin: match args.begin {
            Begin::Apart => model::Begin::Apart,
            Begin::Ring => model::Begin::Ring,
        },
        messages: args.messages,
        timers: args.timers,
        losses: args.losses,
        duplicates: args.duplicates,
        overtakings: args.overtakings,
        crashes: args.crashes,
        rings: args.rings,
        depth: args.depth,
        states: args.states,
    };
    let mut progress = Progress::new();
    let result = model::explore(&bounds, |so_far| progress.show(|| so_far.to_string()));
    progress.clear();
    match result {
        Ok(explored) => {
            print(&format!("{explored}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(found) => {
            print(&found.to_string())?;
            Ok(ExitCode::FAILURE)
        }
    }
}
