//! `quorate quorum`.

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::socket::address::Which;
use crate::socket::client::{self, Status, ask_status};
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
    let answer = ask_status(&args.which)?;
    let quorum = Quorum::of(&answer.status);
    if args.json {
        let client::Answer { version, node, name, .. } = &answer;
        let printed = Printed { version: *version, node: *node, name, quorum: &quorum };
        let json = serde_json::to_string(&printed).map_err(|error| Failure::new(error.to_string()))?;
        crate::print(&format!("{json}\n"))?;
    } else {
        crate::print(&quorum.text(answer.node, &node::now()))?;
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
        let member = |node: &'a client::Node| Member { id: node.id, votes: node.votes, name: &node.name };
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

    /// Formats the quorum as corosync-quorumtool does, to the last blank.
    fn text(&self, me: u32, date: &str) -> String {
        let votes =
            |votes: Option<u32>| votes.map_or_else(|| "unknown".to_owned(), |votes| votes.to_string());
        let flags: String = self.flags.iter().map(|flag| format!("{flag} ")).collect();
        let mut text = format!(
            "Quorum information\n\
             ------------------\n\
             Date:             {date}\n\
             Quorum provider:  corosync_votequorum\n\
             Nodes:            {}\n\
             Node ID:          {me}\n\
             Ring ID:          {}\n\
             Quorate:          {}\n\
             \n\
             Votequorum information\n\
             ----------------------\n\
             Expected votes:   {}\n\
             Highest expected: {}\n\
             Total votes:      {}\n\
             Quorum:           {} {}\n\
             Flags:            {flags}\n\
             \n\
             Membership information\n\
             ----------------------\n\
             \x20   Nodeid      Votes Name\n",
            self.members.len(),
            self.ring.unwrap_or("none"),
            if self.quorate { "Yes" } else { "No" },
            votes(self.expected_votes),
            votes(self.highest_expected),
            self.total_votes,
            votes(self.quorum),
            if self.quorate { " " } else { "Activity blocked" },
        );
        for Member { id, votes, name } in &self.members {
            let local = if *id == me { " (local)" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{id:>10} {votes:>10} {name}{local}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::client::tests::{inquorate, quorate};

    /// The expected text is the output of corosync-quorumtool on a ring of two of three nodes.
    #[test]
    fn a_quorate_ring_looks_as_in_corosync_quorumtool() {
        assert_eq!(
            Quorum::of(&quorate().status).text(1, "Sun Nov 22 06:58:04 2026"),
            "Quorum information\n\
             ------------------\n\
             Date:             Sun Nov 22 06:58:04 2026\n\
             Quorum provider:  corosync_votequorum\n\
             Nodes:            2\n\
             Node ID:          1\n\
             Ring ID:          1.d\n\
             Quorate:          Yes\n\
             \n\
             Votequorum information\n\
             ----------------------\n\
             Expected votes:   3\n\
             Highest expected: 3\n\
             Total votes:      2\n\
             Quorum:           2  \n\
             Flags:            Quorate \n\
             \n\
             Membership information\n\
             ----------------------\n\
             \x20   Nodeid      Votes Name\n\
             \x20        1          1 n1 (local)\n\
             \x20        3          1 n3\n"
        );
    }

    #[test]
    fn an_inquorate_ring_is_blocked() {
        let mut answer = inquorate();
        answer.status.flags = vec!["WaitForAll".into()];
        let text = Quorum::of(&answer.status).text(3, "now");
        assert!(text.contains("Quorate:          No\n"), "{text}");
        assert!(
            text.contains("Quorum:           2 Activity blocked\nFlags:            WaitForAll \n"),
            "{text}"
        );
        assert!(text.ends_with("         1          1 n1\n"), "{text}");
    }

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
