//! `quorate dc`.

use std::process::ExitCode;

use clap::Subcommand;
use quorate_client::{Error, Released, Request};

use crate::Failure;
use crate::which::Which;

#[derive(Debug, clap::Args)]
pub(crate) struct DcArgs {
    #[command(subcommand)]
    command: DcCommand,
}

#[derive(Debug, Subcommand)]
enum DcCommand {
    Release(ReleaseArgs),
}

/// Make the local node give up the role of DC.
///
/// The node stops acting as DC and announces this in the ring's order. The best of the other
/// members takes over at once: the one with the highest dc_priority, then the lowest feature
/// version, then the longest membership, then the lowest id. It stays DC, but this node may become
/// DC again later. To prevent that, set its dc_priority to 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  another node is DC
  1  this node is not DC, no other member can take over, or none has taken over
  2  wrong usage")]
struct ReleaseArgs {
    #[command(flatten)]
    which: Which,
    /// Print one JSON object with the fields version and dc (the id of the new DC)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DcArgs) -> Result<ExitCode, Failure> {
    let DcCommand::Release(args) = &args.command;
    let line = args.which.client()?.ask(&Request::Release)?;
    let Released { dc, .. } = serde_json::from_slice(&line).map_err(Error::NotUnderstood)?;
    if args.json {
        crate::print(&String::from_utf8_lossy(&line))?;
    } else {
        crate::print(&format!("node {dc} is DC now\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
