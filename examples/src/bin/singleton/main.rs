//! A virtual address that exactly one node holds.
//!
//! - `singleton`: three processes on this host. The holder is killed, paused and cut off in turn.
//! - `singleton node -c corosync.conf --address HOST:PORT --state-dir DIR`: a member on your own
//!   host.
//! - `singleton address --listen HOST:PORT`: the address that such members claim.
//!
//! The last two print events as JSON lines. `at_us` is the time in microseconds on the host's
//! monotonic clock.

mod address;
mod demo;
mod lines;
mod node;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A virtual address that exactly one node of a group holds, claimed by the DC under its lease and
/// term.
///
/// Without a command, runs three processes on this host, and kills, pauses and cuts off the holder.
#[derive(Debug, Parser)]
#[command(name = "singleton", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Node(node::NodeArgs),
    Address(address::AddressArgs),
    /// Run one of the three nodes of the demonstration
    #[command(hide = true)]
    DemoNode(demo::NodeArgs),
}

fn main() -> ExitCode {
    let done: Result<(), Box<dyn Error>> = match Cli::parse().command {
        None => demo::run(),
        Some(Command::Node(args)) => node::run(args),
        Some(Command::Address(args)) => address::run(&args),
        Some(Command::DemoNode(args)) => demo::run_node(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `eprintln!` would panic if stderr is closed.
            let _ = writeln!(io::stderr(), "singleton: {error}");
            ExitCode::FAILURE
        }
    }
}
