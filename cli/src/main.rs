//! The program: a node, and the tools around it.

mod decode;
mod pcap;

use std::process::ExitCode;

use clap::Parser;

/// Group membership, quorum and DC election
#[derive(Parser, Debug)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    Decode(decode::DecodeArgs),
}

fn main() -> ExitCode {
    let Command::Decode(args) = Arguments::parse().command;
    match decode::run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quorate: {error}");
            ExitCode::from(2)
        }
    }
}
