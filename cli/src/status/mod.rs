//! `quorate status`.

mod modern;
mod xml;

use std::process::ExitCode;

use crate::socket::address::Which;
use crate::socket::client::{Answer, ask_status};
use crate::{Failure, node};

/// Show the state of the group, as the local node sees it now.
///
/// The text shows the DC, whether this partition has quorum, the online nodes, and the cause of the
/// last change of the ring, in the layout that cluster operators know.
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
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print one JSON object with the fields version, node, name, status, stats (counters since the
    /// node started), notices (problems that kept peers out in the last minute), and log_lines_lost
    /// (lines of the node's log that could not be written)
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Exit with 1 if the node's partition has no quorum
    #[arg(long)]
    quorate: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Format {
    /// The layout of `crm status` in Pacemaker 1.0 and 1.1
    #[default]
    Classic,
    /// The layout of `crm_mon -1` in Pacemaker 2.1
    Modern,
    /// The XML of `crm_mon --output-as=xml`
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

/// Formats the problems that kept peers out in the last minute as a section; empty if there are
/// none.
fn notices(answer: &Answer) -> String {
    let mut section = String::new();
    for notice in answer.whole["notices"].as_array().into_iter().flatten() {
        let text = notice["text"].as_str().unwrap_or_default();
        let source = notice["source"].as_str().map(|source| format!(" (from {source})")).unwrap_or_default();
        section += &format!("  * {text}{source}\n");
    }
    if section.is_empty() { section } else { format!("\nNotices:\n{section}") }
}

/// Formats the nodes that are online, or those that are offline, as a list; `None` if there are
/// none.
fn list(answer: &Answer, online: bool) -> Option<String> {
    let nodes = answer.status.nodes.iter().filter(|node| node.online == online);
    let names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("[ {} ]", names.join(" ")))
}
