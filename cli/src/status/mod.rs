//! `quorate status`.

mod xml;

use std::process::ExitCode;

use quorate_client::{Answer, Error, Request, text};
use serde_json::Value;

use crate::which::Which;
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
    let (line, answer) = match ask(&args.which) {
        Ok(answer) => answer,
        Err(failure) => {
            crate::log::say(format_args!("quorate: {failure}"));
            if let Format::Xml = args.format {
                crate::print(&xml::not_connected(&failure.to_string())?)?;
            }
            return Ok(ExitCode::from(3));
        }
    };
    let notices = || text::notices(&answer.notices);
    let printed = match args.format {
        _ if args.json => without_text(&line)?,
        Format::Classic => answer.text.clone() + &notices(),
        Format::Modern => text::cluster(&answer, &node::now(), env!("CARGO_PKG_VERSION")) + &notices(),
        Format::Xml => xml::document(&answer, &node::now())?,
    };
    crate::print(&printed)?;
    Ok(if args.quorate && !answer.status.quorate { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Returns a node's answer as it came, and what it says.
fn ask(which: &Which) -> Result<(Vec<u8>, Answer), Failure> {
    let line = which.client()?.ask(&Request::Status)?;
    let answer = serde_json::from_slice(&line).map_err(Error::NotUnderstood)?;
    Ok((line, answer))
}

/// Returns a node's answer as it came, even with fields that this version does not know, but
/// without the text.
fn without_text(line: &[u8]) -> Result<String, Failure> {
    let mut fields: serde_json::Map<String, Value> =
        serde_json::from_slice(line).map_err(Error::NotUnderstood)?;
    fields.remove("text");
    Ok(format!("{}\n", Value::Object(fields)))
}

#[cfg(test)]
pub(crate) mod tests {
    use quorate_client::{Lease, Status};

    use super::*;

    const LINE: &[u8] = br#"{"version":1,"node":1,"name":"n1","text":"Current DC: n1\n","status":{"ring":"1.d","settled":true,
        "nodes":[{"id":1,"name":"n1","online":true,"votes":1},{"id":2,"name":"n2","online":false,"votes":1},
        {"id":3,"name":"n3","online":true,"votes":1}],"dc":1,"term":{"ring_seq":13,"hand_over":0,"node":1,
        "fencing_token":"239807672958224171009"},"lease":"held","vacant":null,"quorate":true,"inquorate":null,
        "total_votes":2,"expected_votes":3,"quorum":2,"flags":["Quorate"],"cause":"node 2 left"},"colour":"blue"}"#;

    /// Two of three nodes are present, and have quorum.
    pub(crate) fn quorate() -> Answer {
        serde_json::from_slice(LINE).unwrap()
    }

    /// Only the first node is present.
    pub(crate) fn inquorate() -> Answer {
        let mut answer = quorate();
        answer.status = Status {
            term: None,
            lease: Lease::None,
            quorate: false,
            inquorate: Some("1 of 2 votes needed are present".into()),
            total_votes: 1,
            flags: Vec::new(),
            ..answer.status
        };
        answer.status.nodes[2].online = false;
        answer
    }

    #[test]
    fn json_has_every_field_but_the_text() {
        let printed = without_text(LINE).unwrap_or_else(|failure| panic!("{failure}"));
        let fields: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!((&fields["colour"], fields.get("text")), (&Value::from("blue"), None));
        assert_eq!(fields["status"]["term"]["fencing_token"], "239807672958224171009");
    }
}
