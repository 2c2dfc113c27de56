//! The layout of Pacemaker 2.1.

use super::list;
use crate::socket::client::Answer;

/// Formats the status as `crm_mon -1` does, without resources, which do not exist here. Nodes are
/// in the order of their ids.
pub(super) fn text(answer: &Answer, updated: &str) -> String {
    let status = &answer.status;
    let dc = status.dc.map_or_else(
        || "NONE".to_owned(),
        |dc| {
            let quorum = if status.quorate { "with" } else { "WITHOUT" };
            format!("{} (version {}) - partition {quorum} quorum", status.name(dc), env!("CARGO_PKG_VERSION"))
        },
    );
    let configured = match status.nodes.len() {
        1 => "1 node configured".to_owned(),
        nodes => format!("{nodes} nodes configured"),
    };
    let cause = Some(&status.cause).filter(|cause| !cause.is_empty());
    let summary = [
        Some("Stack: quorate".to_owned()),
        Some(format!("Current DC: {dc}")),
        Some(format!("Last updated: {updated} on {}", answer.name)),
        cause.map(|cause| format!("Last change:  {cause}")),
        Some(configured),
    ];
    let online = list(answer, true).map(|nodes| format!("Online: {nodes}"));
    let offline = list(answer, false).map(|nodes| format!("OFFLINE: {nodes}"));
    let section = |heading: &str, lines: &[Option<String>]| {
        let lines: String = lines.iter().flatten().map(|line| format!("  * {line}\n")).collect();
        format!("{heading}:\n{lines}")
    };
    format!("{}\n{}", section("Cluster Summary", &summary), section("Node List", &[online, offline]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::client::tests::{inquorate, quorate};

    #[test]
    fn a_quorate_partition_is_shown_as_crm_mon_does() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            text(&quorate(), "Sun Nov 22 06:57:17 2026"),
            format!(
                "Cluster Summary:\n\
                 \x20 * Stack: quorate\n\
                 \x20 * Current DC: n1 (version {version}) - partition with quorum\n\
                 \x20 * Last updated: Sun Nov 22 06:57:17 2026 on n1\n\
                 \x20 * Last change:  node 2 left\n\
                 \x20 * 3 nodes configured\n\
                 \n\
                 Node List:\n\
                 \x20 * Online: [ n1 n3 ]\n\
                 \x20 * OFFLINE: [ n2 ]\n"
            )
        );
    }

    #[test]
    fn a_missing_quorum_or_dc_is_shown() {
        let mut answer = inquorate();
        let text_now = |answer: &Answer| text(answer, "now");
        assert!(text_now(&answer).contains(" - partition WITHOUT quorum\n"));
        assert!(text_now(&answer).ends_with("Online: [ n1 ]\n  * OFFLINE: [ n2 n3 ]\n"));
        answer.status.dc = None;
        answer.status.nodes.truncate(1);
        assert!(text_now(&answer).contains("  * Current DC: NONE\n"));
        assert!(text_now(&answer).contains("  * 1 node configured\n"));
    }
}
