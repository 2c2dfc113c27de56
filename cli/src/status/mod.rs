//! `quorate status`.

mod modern;
mod xml;

use std::process::ExitCode;

use crate::socket::address::Which;
use crate::socket::client::{Answer, ask_status};
use crate::{Failure, node};

/// Show the state of the group, as the local node sees it now.
///
/// The text is what cluster operators know, from live state: who is DC, whether this partition has quorum, who is online,
/// and why the ring last changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
  0  the node answered, quorate or not
  1  with --quorate: it answered, and its partition is WITHOUT quorum
  2  wrong usage
  3  no node answered")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    which: Which,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print one JSON object: version, node, name, status, stats (counters since the node started), notices,
    /// and log_lines_lost (of the node's log, which nothing read or which could not be written)
    /// (what kept peers out in the last minute)
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Exit with 1 if the node's partition has no quorum
    #[arg(long)]
    quorate: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Format {
    /// As `crm status` printed it in the time of Pacemaker 1.0 and 1.1
    #[default]
    Classic,
    /// As `crm_mon -1` of Pacemaker 2.1 does
    Modern,
    /// As `crm_mon --output-as=xml` does
    Xml,
}

pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let answer = match ask_status(&args.which) {
        Ok(answer) => answer,
        Err(failure) => {
            crate::log::say(format_args!("quorate: {failure}"));
            if let Format::Xml = args.format {
                crate::print(&xml::not_connected(&failure.to_string())?)?;
            }
            return Ok(ExitCode::from(3));
        }
    };
    let printed = match args.format {
        _ if args.json => format!("{}\n", answer.whole),
        Format::Classic => answer.text.clone() + &notices(&answer),
        Format::Modern => modern::text(&answer, &node::now()) + &notices(&answer),
        Format::Xml => xml::document(&answer, &node::now())?,
    };
    crate::print(&printed)?;
    Ok(if args.quorate && !answer.status.quorate { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What kept peers out in the last minute, as a section of its own; empty if nothing did.
fn notices(answer: &Answer) -> String {
    let mut section = String::new();
    for notice in answer.whole["notices"].as_array().into_iter().flatten() {
        let text = notice["text"].as_str().unwrap_or_default();
        let source = notice["source"].as_str().map(|source| format!(" (from {source})")).unwrap_or_default();
        section += &format!("  * {text}{source}\n");
    }
    if section.is_empty() { section } else { format!("\nNotices:\n{section}") }
}

/// Those who are online, or are not, as lists have them.
fn list(answer: &Answer, online: bool) -> Option<String> {
    let nodes = answer.status.nodes.iter().filter(|node| node.online == online);
    let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("[ {} ]", names.join(" ")))
}
