//! The program `quorate`.

mod config;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Group membership, quorum and DC election
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look at a configuration
    Config(config::ConfigArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Config(args) => config::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate: {error}");
            ExitCode::FAILURE
        }
    }
}
