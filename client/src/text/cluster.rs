//! The layout of Pacemaker 2.1.

use crate::{Answer, Notice};

/// Formats the status as `crm_mon -1` does in Pacemaker 2.1, without resources. Nodes are in the
/// order of their ids. `updated` is the date in `ctime`'s format, and `version` is this program's.
pub fn cluster(answer: &Answer, updated: &str, version: &str) -> String {
    let status = &answer.status;
    let dc = status.dc.map_or_else(
        || "NONE".to_owned(),
        |dc| {
            let quorum = if status.quorate { "with" } else { "WITHOUT" };
            format!("{} (version {version}) - partition {quorum} quorum", status.name(dc))
        },
    );
    let configured = match status.nodes.len() {
        1 => "1 node configured".to_owned(),
        nodes => format!("{nodes} nodes configured"),
    };
    let cause = Some(&status.cause).filter(|cause| !cause.is_empty());
    let vacant = status.vacant.as_ref();
    // The members of a ring that is not settled do not know its votes yet.
    let waits = status.inquorate.as_ref().filter(|_| status.ring.is_some() && !status.settled);
    let summary = [
        Some("Stack: quorate".to_owned()),
        Some(format!("Current DC: {dc}")),
        Some(format!("Last updated: {updated} on {}", answer.name)),
        cause.map(|cause| format!("Last change:  {cause}")),
        Some(configured),
        vacant.map(|why| format!("No DC may act: {why}")),
        waits.map(|why| format!("Waiting:      {why}")),
    ];
    let online = list(answer, true).map(|nodes| format!("Online: {nodes}"));
    let offline = list(answer, false).map(|nodes| format!("OFFLINE: {nodes}"));
    let section = |heading: &str, lines: &[Option<String>]| {
        let lines: String = lines.iter().flatten().map(|line| format!("  * {line}\n")).collect();
        format!("{heading}:\n{lines}")
    };
    let nodes = section("Node List", &[online, offline]);
    format!("{}\n{nodes}{}", section("Cluster Summary", &summary), attributes(answer))
}

/// Formats what the nodes tell about themselves as a section, as `crm_mon -A` does; empty if they
/// tell nothing.
fn attributes(answer: &Answer) -> String {
    let mut section = String::new();
    for node in answer.status.nodes.iter().filter(|node| !node.metadata.is_empty()) {
        section += &format!("  * Node: {}:\n", node.name);
        for (key, value) in &node.metadata {
            section += &format!("    * {key:<32}: {value}\n");
        }
    }
    if section.is_empty() { section } else { format!("\nNode Attributes:\n{section}") }
}

/// Formats the problems that kept peers out of the ring as a section; empty if there are none.
pub fn notices(notices: &[Notice]) -> String {
    let mut section = String::new();
    for Notice { text, source, .. } in notices {
        let source = source.as_ref().map(|source| format!(" (from {source})")).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::{inquorate, quorate};

    #[test]
    fn a_quorate_partition_is_shown_as_crm_mon_does() {
        assert_eq!(
            cluster(&quorate(), "Sun Nov 22 06:57:17 2026", "0.1.0"),
            "Cluster Summary:\n\
             \x20 * Stack: quorate\n\
             \x20 * Current DC: n1 (version 0.1.0) - partition with quorum\n\
             \x20 * Last updated: Sun Nov 22 06:57:17 2026 on n1\n\
             \x20 * Last change:  node 2 left\n\
             \x20 * 3 nodes configured\n\
             \n\
             Node List:\n\
             \x20 * Online: [ n1 n3 ]\n\
             \x20 * OFFLINE: [ n2 ]\n"
        );
    }

    #[test]
    fn metadata_of_nodes_is_shown() {
        let mut answer = quorate();
        answer.status.nodes[0].metadata = [("zone".to_owned(), "b".to_owned())].into();
        assert!(cluster(&answer, "now", "0.1.0").ends_with(
            "OFFLINE: [ n2 ]\n\
             \n\
             Node Attributes:\n\
             \x20 * Node: n1:\n\
             \x20   * zone                            : b\n"
        ));
    }

    #[test]
    fn a_missing_quorum_or_dc_is_shown() {
        let mut answer = inquorate();
        let text = |answer: &Answer| cluster(answer, "now", "0.1.0");
        assert!(text(&answer).contains(" - partition WITHOUT quorum\n"));
        assert!(text(&answer).ends_with("Online: [ n1 ]\n  * OFFLINE: [ n2 n3 ]\n"));
        answer.status.dc = None;
        answer.status.nodes.truncate(1);
        assert!(text(&answer).contains("  * Current DC: NONE\n"));
        assert!(text(&answer).contains("  * 1 node configured\n"));
    }

    #[test]
    fn a_ring_says_why_it_waits_or_why_its_dc_may_not_act() {
        let mut answer = quorate();
        answer.status.vacant = Some("the device decides".to_owned());
        assert!(cluster(&answer, "", "").contains("  * No DC may act: the device decides\n"));
        answer.status.settled = false;
        answer.status.inquorate = Some("the device is awaited".to_owned());
        assert!(cluster(&answer, "", "").contains("  * Waiting:      the device is awaited\n"));
    }

    #[test]
    fn notices_have_their_source() {
        assert_eq!(notices(&quorate().notices), "\nNotices:\n  * start it (from 10.0.0.4:5404)\n");
        assert_eq!(notices(&[]), "");
    }
}
