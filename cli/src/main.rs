//! The program `quorate`.

mod config;
mod decode;
mod pcap;

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
    Decode(decode::DecodeArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Config(args) => match config::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("quorate: {error}");
                ExitCode::FAILURE
            }
        },
        Command::Decode(args) => match decode::run(args) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("quorate: {error}");
                ExitCode::from(2)
            }
        },
    }
}
