//! Tests `quorate config`: how people spell files, and whether the files of several nodes agree.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Output;

use common::quorate;
use serde_json::Value;

/// A file of one node at 10.77.62.1, which is not this host.
struct Spelling {
    name: &'static str,
    totem: &'static str,
    quorum: &'static str,
    /// Text behind the node's address.
    behind: &'static str,
    nodes: &'static str,
}

const PLAIN: Spelling = Spelling { name: "lab", totem: "", quorum: "", behind: "", nodes: "" };

impl Spelling {
    fn text(&self) -> String {
        let Self { name, totem, quorum, behind, nodes } = self;
        format!(
            "totem {{\n  version: 2\n  transport: udp\n  cluster_name: {name}\n  crypto_cipher: none\n{totem}}}\n\
             quorum {{\n  provider: corosync_votequorum\n{quorum}}}\nnodelist {{\n  node {{\n    \
             ring0_addr: 10.77.62.1{behind}\n    nodeid: 1\n  }}\n{nodes}}}\n"
        )
    }
}

/// Runs `quorate config check` on files with these texts, named `a`, `b`, ...
fn check(texts: &[&str], options: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = quorate();
    command.current_dir(directory.path()).args(["config", "check"]).args(options);
    for (name, text) in ('a'..).map(String::from).zip(texts) {
        fs::write(directory.path().join(&name), text).unwrap();
        command.arg(name);
    }
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Checks that the file has exactly these errors and warnings, each given by its beginning. With
/// errors the exit code is 1.
fn spelled(spelling: &Spelling, expect: &[&str]) {
    let output = check(&[&spelling.text()], &[]);
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("can be used")).collect();
    let fits =
        lines.len() == expect.len() && lines.iter().zip(expect).all(|(got, expect)| got.starts_with(expect));
    assert!(fits, "{}gave {lines:#?}\nnot  {expect:#?}", spelling.text());
    let refused = expect.iter().any(|line| line.starts_with("error"));
    assert_eq!(output.status.code(), Some(i32::from(refused)), "{text}");
}

#[test]
fn comments_behind_values_are_reported() {
    spelled(
        &Spelling { name: "lab # production", ..PLAIN },
        &["warning: a:4: totem.cluster_name is `lab # production`: a comment needs a line of its own"],
    );
    spelled(
        &Spelling { totem: "  token: 5000 # ms\n", ..PLAIN },
        &["error: a:6: totem.token is `5000 # ms`; a comment needs a line of its own"],
    );
    spelled(
        &Spelling { behind: " # first", ..PLAIN },
        &["error: a:12: nodelist.node.ring0_addr is `10.77.62.1 # first`; a comment needs a line of its own"],
    );
}

#[test]
fn invisible_characters_are_shown() {
    spelled(
        &Spelling { behind: "\u{a0}", ..PLAIN },
        &["error: a:12: nodelist.node.ring0_addr is `10.77.62.1\\u{a0}`; it contains an invisible character"],
    );
    spelled(
        &Spelling { totem: "\u{a0} token: 5000\n", ..PLAIN },
        &["error: a:6: `totem.\\u{a0} token` contains '\\u{a0}'"],
    );
    let marked = format!("\u{feff}{}", PLAIN.text());
    assert!(
        stdout(&check(&[&marked], &[])).starts_with("error: a:1: the file begins with a byte order mark")
    );
    assert!(
        check(&[&PLAIN.text().replacen('\n', "\r\n", 3)], &[]).status.success(),
        "DOS lines among others"
    );
}

#[test]
fn numbers_and_switches_are_those_of_corosync() {
    for token in ["5s", "1e3", "-1"] {
        let text = PLAIN
            .text()
            .replace("  crypto_cipher: none\n", &format!("  crypto_cipher: none\n  token: {token}\n"));
        let output = check(&[&text], &[]);
        let expect =
            format!("error: a:6: totem.token must be a whole number from 0 to 4294967295, not `{token}`\n");
        assert_eq!(stdout(&output), expect);
    }
    spelled(
        &Spelling { totem: "  Token: 5000\n", ..PLAIN },
        &["warning: a:6: totem.Token: unknown, ignored; did you mean `token`?"],
    );
    spelled(
        &Spelling { totem: "  token: 5000\n  token: 1000\n", ..PLAIN },
        &["warning: a:6: totem.token is set again at line 7, which takes precedence"],
    );
    for word in ["yes", "true"] {
        let text = PLAIN.text().replace("votequorum\n", &format!("votequorum\n  two_node: {word}\n"));
        let expect = format!("error: a:9: quorum.two_node must be 1 for yes or 0 for no, not `{word}`\n");
        assert_eq!(stdout(&check(&[&text], &[])), expect);
    }
    spelled(
        &Spelling { quorum: "  wait_for_all: no\n", ..PLAIN },
        &["error: a:9: quorum.wait_for_all must be 1 for yes or 0 for no, not `no`"],
    );
    spelled(
        &Spelling { quorum: "  expected_votes: 0\n", ..PLAIN },
        &["error: a:9: quorum.expected_votes must be a whole number from 1"],
    );
}

#[test]
fn duplicate_addresses_and_names_are_reported_with_both_lines() {
    spelled(
        &Spelling { nodes: "  node {\n    ring0_addr: 10.77.62.1\n    nodeid: 2\n  }\n", ..PLAIN },
        &[
            "error: a:15: the address 10.77.62.1 appears twice, first at a:11; give each node an address of its own",
        ],
    );
    spelled(
        &Spelling { nodes: "  node {\n    ring0_addr: 10.77.62.02\n    nodeid: 2\n  }\n", ..PLAIN },
        &["warning: a:16: nodelist.node.ring0_addr is `10.77.62.02`, which is 10.77.62.2"],
    );
    spelled(
        &Spelling { nodes: "  node {\n    ring0_addr: 10.77.62.2\n    nodeid: 0x3\n  }\n", ..PLAIN },
        &["error: a:17: nodelist.node.nodeid must be a whole number from 1 to 4294967295, not `0x3`"],
    );
    let nodes = "  node {\n    ring0_addr: 10.77.62.2\n    nodeid: 2\n    name: n1\n  }\n  node {\n    \
                 ring0_addr: 10.77.62.3\n    nodeid: 3\n    name: n1\n  }\n";
    spelled(
        &Spelling { nodes, ..PLAIN },
        &["warning: a:20: the name `n1` appears twice, first at a:15; give each node a name of its own"],
    );
}

#[test]
fn all_problems_of_a_file_are_reported_at_once() {
    let text =
        Spelling { totem: "  token: x\n  join = 5\n  tokn: 1\n", quorum: "  two_node: yes\n", ..PLAIN }
            .text();
    let output = check(&[&text], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().count(), 4, "{}", stdout(&output));

    let json: Value = serde_json::from_slice(&check(&[&text], &["--json"]).stdout).unwrap();
    let lines = |kind: &str| {
        let found = json["files"][0][kind].as_array().unwrap().iter();
        found.map(|found| found["place"]["line"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((lines("errors"), lines("warnings")), (vec![6, 7, 12], vec![8]));
}

#[test]
fn a_rejected_configuration_is_shown_with_its_warnings() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c");
    fs::write(&file, Spelling { totem: "  token: x\n  hold: y\n  tokn: 1\n", ..PLAIN }.text()).unwrap();
    let output = quorate().args(["config", "show", "--effective", "-c"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap().replace(file.to_str().unwrap(), "c");
    let begins = [
        "warning: c:8: totem.tokn: unknown",
        "quorate: c: this host (",
        "quorate: c:6: totem.token must be",
        "quorate: c:7: totem.hold must be",
    ];
    let fits = stderr.lines().count() == begins.len()
        && stderr.lines().zip(begins).all(|(line, begin)| line.starts_with(begin));
    assert!(fits, "{stderr}");
}

#[test]
fn files_of_several_nodes_have_to_agree() {
    let node = "  node {\n    ring0_addr: 10.77.62.2\n    nodeid: 2\n  }\n";
    let (short, long) = (PLAIN.text(), Spelling { nodes: node, ..PLAIN }.text());
    let output = check(&[&long, &long], &[]);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(0), "a: can be used\nb: can be used\n")
    );

    let output = check(&[&long, &short, &long], &[]);
    assert_eq!(output.status.code(), Some(1));
    let expect = [
        "a: can be used",
        "b: can be used",
        "c: can be used",
        "difference: nodelist.node 2.nodeid: not set in b; 2 in a:17, c:17",
        "difference: quorum.expected_votes: 1 votes in b; 2 votes in a, c",
    ];
    assert_eq!(stdout(&output).lines().collect::<Vec<_>>(), expect);
    let json: Value = serde_json::from_slice(&check(&[&long, &short], &["--json"]).stdout).unwrap();
    assert_eq!(json["differences"][0]["key"], "nodelist.node 2.nodeid");
    assert_eq!(json["differences"][0]["values"][0]["source"]["line"], 17);
    assert_eq!(json["differences"][0]["values"][1]["value"], Value::Null);
}
