//! `quorate dc`.

use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde::Deserialize;

use crate::Failure;
use crate::socket::address::Which;
use crate::socket::{Request, Wish, json};

/// Longer than a node waits for the hand-over.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct DcArgs {
    #[command(subcommand)]
    command: DcCommand,
}

#[derive(Debug, Subcommand)]
enum DcCommand {
    Release(ReleaseArgs),
}

/// Have the local node give up the role of DC
///
/// The node acts no more, says so in the ring's order, and the best of the other members acts at once: by dc_priority, then the
/// oldest features, then the longest membership, then the lowest id. That one stays DC; this node is not barred from
/// becoming it again. To bar it, set its dc_priority to 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  another node is DC
  1  this node is not DC, nobody else may be, or nobody has taken over
  2  wrong usage")]
struct ReleaseArgs {
    #[command(flatten)]
    which: Which,
    /// Print one JSON object: version, and dc, the id of the node that is DC now
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DcArgs) -> Result<ExitCode, Failure> {
    let DcCommand::Release(args) = &args.command;
    let mut stream = args.which.connect()?;
    let broken = |error| Failure::new(format!("the node does not answer: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.write_all(&Request::new(Wish::Release).line()).map_err(broken)?;
    let mut line = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut line).map_err(broken)?;
    let dc = parse(&line)?;
    if args.json {
        crate::print(&String::from_utf8_lossy(&line))?;
    } else {
        crate::print(&format!("node {dc} is DC now\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Who is DC now.
fn parse(line: &[u8]) -> Result<u32, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        dc: u32,
    }
    if let Some(message) = json::error_message(line) {
        return Err(Failure::new(message));
    }
    let answer: Answer = serde_json::from_slice(line).map_err(|_| {
        Failure::new("the node's answer is not understood: are `quorate` and the node of the same version?")
    })?;
    Ok(answer.dc)
}

#[cfg(test)]
mod tests {
    use quorate_membership::NodeId;

    use super::*;

    #[test]
    fn the_answer_names_the_new_dc_or_says_why_there_is_none() {
        assert_eq!(parse(&json::release_answer(NodeId::new(2))).ok(), Some(2));
        let failure = |line: &[u8]| parse(line).unwrap_err().to_string();
        assert_eq!(failure(&json::error("no")), "no");
        assert!(failure(b"").starts_with("the node's answer is not understood"));
    }
}
