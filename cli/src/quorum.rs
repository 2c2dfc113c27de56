//! `quorate quorum`.

use std::process::ExitCode;

use quorate_client::{Answer, NodeStatus, Status, text};
use serde::Serialize;

use crate::which::Which;
use crate::{Failure, node};

/// Show the votes of each member, and whether they form a quorum, as corosync-quorumtool does.
///
/// The layout is that of `corosync-quorumtool -s`. If the partition is not quorate, the reason is
/// printed to stderr.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes, the same as corosync-quorumtool's:
  0  quorate
  1  no node answered
  2  not quorate; also wrong usage")]
pub(crate) struct QuorumArgs {
    #[command(flatten)]
    which: Which,
    /// Print one JSON object with the fields version, node, name and quorum
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &QuorumArgs) -> Result<ExitCode, Failure> {
    let answer = args.which.client()?.status()?;
    let quorum = Quorum::of(&answer.status);
    if args.json {
        let Answer { version, node, name, .. } = &answer;
        let printed = Printed { version: *version, node: *node, name, quorum: &quorum };
        let json = serde_json::to_string(&printed).map_err(|error| Failure::new(error.to_string()))?;
        crate::print(&format!("{json}\n"))?;
    } else {
        crate::print(&text::quorum(&answer, &node::now()))?;
    }
    if let Some(why) = quorum.inquorate {
        crate::log::say(format_args!("quorate: not quorate: {why}"));
    }
    Ok(if quorum.quorate { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

#[derive(Serialize)]
struct Printed<'a> {
    version: u32,
    node: u32,
    name: &'a str,
    quorum: &'a Quorum<'a>,
}

/// The quorum of a node's partition. All members expect the same votes, so the highest expected
/// votes are the expected ones.
#[derive(Serialize)]
struct Quorum<'a> {
    ring: Option<&'a str>,
    quorate: bool,
    inquorate: Option<&'a str>,
    expected_votes: Option<u32>,
    highest_expected: Option<u32>,
    total_votes: u32,
    quorum: Option<u32>,
    flags: &'a [String],
    members: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct Member<'a> {
    id: u32,
    votes: u32,
    name: &'a str,
}

impl<'a> Quorum<'a> {
    fn of(status: &'a Status) -> Self {
        let member = |node: &'a NodeStatus| Member { id: node.id, votes: node.votes, name: &node.name };
        Self {
            ring: status.ring.as_deref(),
            quorate: status.quorate,
            inquorate: status.inquorate.as_deref(),
            expected_votes: status.expected_votes,
            highest_expected: status.expected_votes,
            total_votes: status.total_votes,
            quorum: status.quorum,
            flags: &status.flags,
            members: status.nodes.iter().filter(|node| node.online).map(member).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::quorate;

    #[test]
    fn machines_get_these_fields() {
        let answer = quorate();
        let printed = Printed { version: 1, node: 1, name: "n1", quorum: &Quorum::of(&answer.status) };
        assert_eq!(
            serde_json::to_string(&printed).unwrap(),
            concat!(
                r#"{"version":1,"node":1,"name":"n1","quorum":{"ring":"1.d","quorate":true,"inquorate":null,"#,
                r#""expected_votes":3,"highest_expected":3,"total_votes":2,"quorum":2,"flags":["Quorate"],"#,
                r#""members":[{"id":1,"votes":1,"name":"n1"},{"id":3,"votes":1,"name":"n3"}]}}"#
            )
        );
    }
}
