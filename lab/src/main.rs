//! `quorate-lab`: simulated clusters under faults, the model check, and benchmarks.
//!
//! This is a separate program so that the daemon does not link the simulator. `quorate lab`,
//! `quorate sim` and `quorate bench` run it.
// These macros panic if the reader has closed the pipe. `output` does not.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod bench;
mod live;
mod output;
mod sim;
mod stop;

use std::fmt;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulated clusters under faults, and measurements of real ones.
#[derive(Debug, Parser)]
#[command(name = "quorate-lab", version, max_term_width = 100)]
#[command(after_help = "\
Try it: `quorate-lab lab` opens a page with a cluster on it. `quorate-lab sim run --seeds 200` checks
200 random clusters.

Exit codes: 0 done, 1 failed (one line on stderr says why and what to do), 2 wrong usage.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lab(live::LabArgs),
    Sim(sim::SimArgs),
    Bench(bench::BenchArgs),
    /// Print the completion script of a shell
    Completions {
        /// Shell to complete for
        shell: Shell,
    },
}

/// The failure of a command: one line with the cause and the remedy.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Lab(args) => live::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Completions { shell } => completions(shell),
    };
    done.unwrap_or_else(|failure| {
        output::say(format_args!("quorate-lab: {failure}"));
        ExitCode::FAILURE
    })
}

fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "quorate-lab", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_of_a_seed_says_what_a_seed_is() {
        for arguments in [["sim", "replay", "abc"], ["sim", "shrink", "0x1"], ["sim", "run", "--start=1e3"]] {
            let error =
                Cli::try_parse_from(["quorate-lab"].iter().chain(&arguments)).unwrap_err().to_string();
            assert!(error.contains("a seed is a whole number from 0 to 18446744073709551615"), "{error}");
        }
    }
}
