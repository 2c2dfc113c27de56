//! The quorum status in corosync-quorumtool's layout.

use std::fmt::Write;

use crate::{Answer, Device, NodeDevice, NodeStatus};

/// Formats the quorum of a node's partition as `corosync-quorumtool -s` does, including trailing
/// blanks. `date` is the date in `ctime`'s format.
///
/// All members expect the same votes, so `Highest expected` equals `Expected votes`.
pub fn quorum(answer: &Answer, date: &str) -> String {
    let status = &answer.status;
    let votes = |votes: Option<u32>| votes.map_or_else(|| "unknown".to_owned(), |votes| votes.to_string());
    let device = status.device.as_ref().filter(|device| device.name.is_some());
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
         \x20   Nodeid      Votes{} Name\n",
        status.online().count(),
        answer.node,
        status.ring.as_deref().unwrap_or("none"),
        if status.quorate { "Yes" } else { "No" },
        votes(status.expected_votes),
        votes(status.expected_votes),
        status.total_votes,
        votes(status.quorum),
        if status.quorate { " " } else { "Activity blocked" },
        if device.is_some() { "    Qdevice" } else { "" },
    );
    // Writing to a string cannot fail.
    for node in status.nodes.iter().filter(|node| node.online) {
        let local = if node.id == answer.node { " (local)" } else { "" };
        let state = device.map(|_| format!(" {:>10}", device_state(node))).unwrap_or_default();
        let _ = writeln!(text, "{:>10} {:>10}{state} {}{local}", node.id, node.votes, node.name);
    }
    if let Some(Device { name, votes, casts }) = device {
        let (given, of) = if *casts { (*votes, String::new()) } else { (0, format!(" (votes {votes})")) };
        let name = name.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{:>10} {given:>10} {:>10} {name}{of}", 0, "");
    }
    text
}

/// Returns the state of a node's quorum device in corosync-quorumtool's letters: alive (`A`), gives
/// its votes (`V`), and master wins (`MW`), each with a leading `N` if not. `NR` stands for a node
/// that has not registered a device.
fn device_state(node: &NodeStatus) -> String {
    let Some(NodeDevice { alive, casts, master_wins }) = node.device else { return "NR".to_owned() };
    let word = |yes: bool, word: &str| format!("{}{word}", if yes { "" } else { "N" });
    [word(alive, "A"), word(casts, "V"), word(master_wins, "MW")].join(",")
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
    fn a_quorum_device_has_a_column_and_a_line() {
        let mut answer = quorate();
        let device = Device { name: Some("Qdevice".to_owned()), votes: 1, casts: true };
        answer.status.device = Some(device.clone());
        answer.status.nodes[0].device = Some(NodeDevice { alive: true, casts: true, master_wins: false });
        let members = |answer: &Answer| quorum(answer, "").rsplit_once("-\n").unwrap().1.to_owned();
        assert_eq!(
            members(&answer),
            "\x20   Nodeid      Votes    Qdevice Name\n\
             \x20        1          1    A,V,NMW n1 (local)\n\
             \x20        3          1         NR n3\n\
             \x20        0          1            Qdevice\n"
        );
        answer.status.device = Some(Device { casts: false, ..device });
        assert!(members(&answer).ends_with("         0          0            Qdevice (votes 1)\n"));
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
