//! "Copy as test": a run as a Rust test.

use quorate::NodeId;
use quorate_netsim::{History, Live, Scenario};
use serde::Serialize;

use super::bugs;

/// A run, written down.
#[derive(Debug, Serialize)]
pub(super) struct Copied {
    scenario: String,
    test: String,
    /// The trace hash of the scenario, which was run again for it.
    hash: String,
}

impl Copied {
    /// Writes down a run up to now. The scenario runs once more, from its beginning, with the same
    /// known bug.
    pub(super) fn of(live: &Live, bug: Option<&bugs::Active>) -> Self {
        let scenario = live.scenario();
        let (result, history) = scenario.run_core_traced();
        let property =
            result.err().and_then(|failure| failure.violation().map(|violation| violation.property));
        Self {
            scenario: scenario.to_string(),
            test: test(&scenario, &history, property, bug.map(bugs::Active::name).as_deref()),
            hash: format!("{:016x}", history.fingerprint()),
        }
    }
}

/// Returns a test that the run ends as it did: with these members, this quorum and this DC at each
/// node, or with this property violated.
fn test(scenario: &Scenario, history: &History, violated: Option<&str>, bug: Option<&str>) -> String {
    let hash = history.fingerprint();
    let mut text = "use quorate_netsim::Scenario;\n".to_owned();
    let mut line = |line: &str| text.extend([line, "\n"]);
    if bug.is_some() {
        line("use quorate_netsim::mutants::Mutant;");
    }
    line("");
    line(&format!("/// Copied from the laboratory. The trace hash was {hash:016x}."));
    if bug.is_some() {
        line("/// A known bug is switched on, which needs the feature `mutants` of quorate-netsim.");
    }
    line("#[test]");
    line("fn copied_from_the_laboratory() {");
    if let Some(bug) = bug {
        line(&format!("    let _bug = Mutant::{bug}.activate();"));
    }
    line(&format!("    let scenario: Scenario = \"\\\n{scenario}\"\n        .parse()\n        .unwrap();"));
    if let Some(property) = violated {
        line("    let failure = scenario.run_core().unwrap_err();");
        line(&format!(
            "    assert_eq!(failure.violation().map(|violation| violation.property), Some({property:?}));"
        ));
        line("}");
        return text;
    }
    line("    let (result, history) = scenario.run_core_traced();");
    line("    result.unwrap();");
    line("    // For each node: its members, whether they have a quorum, and its DC.");
    line("    let end = |node| {");
    line("        let status = history.status(node, history.ended_at())?;");
    line("        let members = status.nodes.iter().filter(|node| node.online).map(|node| node.id.get());");
    line("        Some((members.collect::<Vec<_>>(), status.quorate, status.dc.map(|dc| dc.get())))");
    line("    };");
    for node in 1..=scenario.nodes() {
        let end = history.status(node, history.ended_at()).map(|status| {
            let members = status.nodes.iter().filter(|node| node.online).map(|node| node.id.get());
            (members.collect::<Vec<_>>(), status.quorate, status.dc.map(NodeId::get))
        });
        let end = match end {
            Some((members, quorate, dc)) => format!("Some((vec!{members:?}, {quorate}, {dc:?}))"),
            None => "None".to_owned(),
        };
        line(&format!("    assert_eq!(end({node}), {end});"));
    }
    line("}");
    text
}
