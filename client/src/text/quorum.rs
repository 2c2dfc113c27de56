//! The quorum status in corosync-quorumtool's layout.

use std::fmt::Write;

use crate::Answer;

/// Formats the quorum of a node's partition as `corosync-quorumtool -s` does, including trailing
/// blanks. `date` is the date in `ctime`'s format.
///
/// All members expect the same votes, so `Highest expected` equals `Expected votes`.
pub fn quorum(answer: &Answer, date: &str) -> String {
    let status = &answer.status;
    let votes = |votes: Option<u32>| votes.map_or_else(|| "unknown".to_owned(), |votes| votes.to_string());
    let flags: String = status.flags.iter().map(|flag| format!("{flag} ")).collect();
    let mut text = format!(
        "Quorum information\n\
         ------------------\n\
         Date:             {date}\n\
         Quorum provider:  corosync_votequorum\n\
         Nodes:            {}\n\
         Node ID:          {}\n\
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
        status.online().count(),
        answer.node,
        status.ring.as_deref().unwrap_or("none"),
        if status.quorate { "Yes" } else { "No" },
        votes(status.expected_votes),
        votes(status.expected_votes),
        status.total_votes,
        votes(status.quorum),
        if status.quorate { " " } else { "Activity blocked" },
    );
    for node in status.nodes.iter().filter(|node| node.online) {
        let local = if node.id == answer.node { " (local)" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:>10} {:>10} {}{local}", node.id, node.votes, node.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{inquorate, quorate};

    /// The expected text is the output of corosync-quorumtool on a ring of two of three nodes.
    #[test]
    fn a_quorate_ring_looks_as_in_corosync_quorumtool() {
        assert_eq!(
            quorum(&quorate(), "Sun Nov 22 06:58:04 2026"),
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
        answer.node = 3;
        answer.status.flags = vec!["WaitForAll".into()];
        let text = quorum(&answer, "now");
        assert!(text.contains("Quorate:          No\n"), "{text}");
        assert!(
            text.contains("Quorum:           2 Activity blocked\nFlags:            WaitForAll \n"),
            "{text}"
        );
        assert!(text.ends_with("         1          1 n1\n"), "{text}");
    }
}
