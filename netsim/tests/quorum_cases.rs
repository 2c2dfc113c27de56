//! The cases that were recorded from real corosync daemons, run through the real core and election.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeSet;

use quorate_netsim::cases::{Case, Cases, DECISIONS, Difference};

fn recorded() -> Cases {
    serde_json::from_str(include_str!("data/quorum-cases.json")).unwrap()
}

#[test]
fn recorded_cases_match_except_for_decided_differences() {
    let cases = recorded().cases;
    assert_eq!((cases.len(), cases.iter().map(Case::steps).sum::<usize>()), (69, 314));
    let differences: Vec<Difference> = cases.iter().flat_map(|case| case.run().unwrap()).collect();
    let unexpected: Vec<_> = differences.iter().filter(|difference| difference.is_unexpected()).collect();
    let text: Vec<String> = unexpected.iter().map(ToString::to_string).collect();
    assert!(text.is_empty(), "{}", text.join("\n"));

    // Every step that is listed as decided does differ.
    let differ: BTreeSet<(&str, usize)> = differences.iter().map(|d| (d.case.as_str(), d.step)).collect();
    for (case, steps, why) in DECISIONS {
        for step in *steps {
            assert!(differ.contains(&(*case, *step)), "{case}, step {step}: {why}");
        }
    }
}

#[test]
fn differences_are_reported_step_by_step() {
    let cases = |steps: &str| -> Cases {
        let config = r#"{"nodes": [1, 2, 3], "quorum": {"wait_for_all": 1}}"#;
        serde_json::from_str(&format!(
            r#"{{"cases": [{{"id": "own", "config": {config}, "steps": {steps}}}]}}"#
        ))
        .unwrap()
    };
    let right = r#"{"do": "start", "partitions": [{"members": [1, 2, 3], "quorate": true, "expected_votes": 3,
        "quorum": 2, "total_votes": 3, "flags": ["Quorate", "WaitForAll"]}]}"#;
    assert_eq!(cases(&format!("[{right}]")).cases[0].run(), Ok(Vec::new()));

    let wrong = r#"{"do": "down 2,3", "partitions": [{"members": [1], "quorate": true, "expected_votes": 3,
        "quorum": 2, "total_votes": 1, "flags": {"1": ["WaitForAll"]}}]}"#;
    let differences = cases(&format!("[{right}, {wrong}]")).cases[0].run().unwrap();
    let [difference] = &differences[..] else { panic!("{differences:?}") };
    assert!(difference.is_unexpected());
    assert_eq!(
        difference.to_string(),
        "own, step 2 (down 2,3), node 1: NOT DECIDED\n  \
         expected  {1} quorate, votes 1, needed 2, expected 3, flags [\"WaitForAll\"]\n  \
         got       {1} not quorate, votes 1, needed 2, expected 3, flags [\"WaitForAll\"]"
    );
    let error = cases(r#"[{"do": "dance"}]"#).cases[0].run().unwrap_err();
    assert_eq!(error, "own: `dance` is not an action");
}
