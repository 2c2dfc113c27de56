//! `quorate config check`: whether files can be used, and whether their nodes agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use quorate::config::{self, Host, Loaded, Overrides, Place, Problem, Rejected, Setting, Source, Warning};
use serde::Serialize;

use super::json;
use crate::{Failure, print};

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// Configuration file, or the files of several nodes to compare
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Checks each file, and all files together. The exit code is 1 if there is anything to fix.
pub(super) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let this = config::this_host()
        .map_err(|error| Failure::new(format!("this host's interfaces cannot be listed: {error}")))?;
    // The files of several nodes are not checked for a particular host.
    let host = if args.files.len() == 1 { &this } else { &config::unknown_host() };
    let (checked, loaded): (Vec<Checked>, Vec<_>) = args.files.iter().map(|file| check(file, host)).unzip();
    let named = checked.iter().zip(&loaded);
    let comparable: Vec<(&str, &Loaded)> =
        named.filter_map(|(checked, loaded)| Some((checked.file.as_str(), loaded.as_ref()?))).collect();
    let report = Report { differences: differences(&comparable), files: checked };
    print(&if args.json {
        json(&report).map_err(|error| Failure::new(error.to_string()))?
    } else {
        report.to_string()
    })?;
    Ok(if report.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Serialize)]
struct Report {
    files: Vec<Checked>,
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct Checked {
    file: String,
    /// Whether this host is one of the file's nodes, so that its interfaces were checked.
    for_this_host: bool,
    errors: Vec<Finding>,
    warnings: Vec<Warning>,
}

#[derive(Serialize)]
struct Finding {
    place: Option<Place>,
    text: String,
}

/// A value that differs between files.
#[derive(Serialize)]
struct Difference {
    key: String,
    values: Vec<ValueOf>,
}

#[derive(Serialize)]
struct ValueOf {
    file: String,
    /// The value with its unit; `None` if the file has no such value.
    value: Option<String>,
    source: Option<Source>,
}

fn check(file: &std::path::Path, host: &Host) -> (Checked, Option<Loaded>) {
    let for_this_host = !host.is_unknown();
    let (errors, warnings, loaded) = match config::load(file, &Overrides::default(), host) {
        Ok(loaded) => (Vec::new(), loaded.warnings.clone(), Some(loaded)),
        Err(rejected) if for_this_host && is_for_another_host(&rejected) => {
            return check(file, &config::unknown_host());
        }
        Err(Rejected { errors, warnings }) => {
            let finding =
                |error: config::ConfigError| Finding { text: error.problem.to_string(), place: error.place };
            (errors.into_iter().map(finding).collect(), warnings, None)
        }
    };
    (Checked { file: file.display().to_string(), for_this_host, errors, warnings }, loaded)
}

/// Returns `true` if the file may be valid on another host, as far as is known.
fn is_for_another_host(rejected: &Rejected) -> bool {
    rejected.errors.iter().any(|error| {
        matches!(
            error.problem,
            Problem::NotListed { .. } | Problem::SeveralLocal { .. } | Problem::NoInterface { .. }
        )
    })
}

/// The prefix of a listed node's keys, in front of its id.
const NODE: &str = "nodelist.node ";

/// Returns the differences between files for one ring. A node's own address and buffers may differ.
fn differences(files: &[(&str, &Loaded)]) -> Vec<Difference> {
    let tables: Vec<_> = files.iter().map(|(_, loaded)| comparable(loaded)).collect();
    let keys: BTreeSet<&String> = tables.iter().flat_map(BTreeMap::keys).collect();
    let value = |key: &String, table: &BTreeMap<String, &Setting>| {
        table.get(key).map(|setting| format!("{} {}", setting.value, setting.unit).trim_end().to_owned())
    };
    let differs = |key: &&String| {
        let mut values = tables.iter().map(|table| value(key, table));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let of_key = |key: &String| Difference {
        key: key.clone(),
        values: (files.iter().zip(&tables))
            .map(|((file, _), table)| ValueOf {
                file: (*file).to_owned(),
                value: value(key, table),
                source: table.get(key).map(|setting| setting.source.clone()),
            })
            .collect(),
    };
    // A node that is missing from a list differs in its id only.
    let is_of_all = |key: &&String| match key.strip_prefix(NODE).and_then(|rest| rest.split_once('.')) {
        Some((_, "nodeid")) | None => true,
        Some((id, _)) => tables.iter().all(|table| table.contains_key(&format!("{NODE}{id}.nodeid"))),
    };
    keys.into_iter().filter(is_of_all).filter(differs).map(of_key).collect()
}

/// Returns the settings by key. Keys of a listed node contain its id, because lists may have
/// different orders.
fn comparable(loaded: &Loaded) -> BTreeMap<String, &Setting> {
    const OF_ONE_NODE: &[&str] = &[
        "node.id",
        "node.name",
        "totem.interface.bindnetaddr",
        "quorum.votes",
        "quorate.unread_limit",
        "quorate.window_size",
    ];
    let key = |setting: &Setting| match setting.key.strip_prefix("nodelist.node.") {
        Some(rest) => {
            let (position, key) = rest.split_once('.')?;
            let id = loaded.config.nodes.get(position.parse::<usize>().ok()?)?.id;
            Some(format!("{NODE}{id}.{key}"))
        }
        None => (!OF_ONE_NODE.contains(&setting.key.as_str())).then(|| setting.key.clone()),
    };
    loaded.settings.iter().filter_map(|setting| Some((key(setting)?, setting))).collect()
}

impl Report {
    fn is_fine(&self) -> bool {
        self.differences.is_empty() && self.files.iter().all(|checked| checked.errors.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Checked { file, for_this_host, errors, warnings } in &self.files {
            for Finding { place, text } in errors {
                let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
                writeln!(f, "error: {place}{text}")?;
            }
            for warning in warnings {
                writeln!(f, "warning: {warning}")?;
            }
            if errors.is_empty() {
                let host = if *for_this_host || self.files.len() > 1 {
                    ""
                } else {
                    " (this host is not one of its nodes, so its interfaces were not checked)"
                };
                writeln!(f, "{file}: can be used{host}")?;
            }
        }
        for difference in &self.differences {
            writeln!(f, "difference: {difference}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values: BTreeMap<Option<&String>, Vec<String>> = BTreeMap::new();
        for ValueOf { file, value, source } in &self.values {
            let place = match source {
                Some(Source::File(place)) => place.to_string(),
                _ => file.clone(),
            };
            values.entry(value.as_ref()).or_default().push(place);
        }
        let mut text = String::new();
        for (value, places) in values {
            let separator = if text.is_empty() { "" } else { "; " };
            let value = value.map_or("not set", String::as_str);
            write!(text, "{separator}{value} in {}", places.join(", "))?;
        }
        write!(f, "{}: {text}", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &'static str, change: impl Fn(&str) -> String) -> (&'static str, Loaded) {
        let text = "totem {\nversion: 2\ntransport: udp\nsecauth: off\ncluster_name: t\n}\n\
                    nodelist {\nnode {\nring0_addr: 10.0.0.1\nnodeid: 1\n}\nnode {\nring0_addr: 10.0.0.2\nnodeid: 2\n}\n}\n\
                    quorum {\nprovider: corosync_votequorum\n}\n";
        let loaded =
            config::parse(file, change(text).as_bytes(), &Overrides::default(), &config::unknown_host());
        (file, loaded.unwrap_or_else(|rejected| panic!("{rejected}")))
    }

    fn check(change: impl Fn(&str) -> String, expect: &[&str]) {
        let (one, other) = (load("a", str::to_owned), load("b", change));
        let found = differences(&[(one.0, &one.1), (other.0, &other.1)]);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn equivalent_files_do_not_differ() {
        check(str::to_owned, &[]);
        let swapped =
            "node {\nring0_addr: 10.0.0.2\nnodeid: 2\n}\nnode {\nring0_addr: 10.0.0.1\nnodeid: 1\n}\n}\n";
        check(
            |text| {
                let (start, rest) = text.split_once("node {").expect("a node");
                let (_, end) = rest.split_once("}\n}\n").expect("the end of the list");
                format!("{start}{swapped}{end}")
            },
            &[],
        );
        check(|text| text.replace("version: 2", "version: 2\ntoken: 3000"), &[]);
    }

    #[test]
    fn differences_are_reported_with_their_lines() {
        check(
            |text| text.replace("version: 2", "version: 2\ntoken: 9000"),
            &["totem.consensus: 10800 ms in b; 3600 ms in a", "totem.token: 3000 ms in a; 9000 ms in b:3"],
        );
        check(
            |text| text.replace("nodeid: 2\n", "nodeid: 2\nquorum_votes: 3\n"),
            &[
                "nodelist.node 2.quorum_votes: 1 votes in a; 3 votes in b:15",
                "quorum.expected_votes: 2 votes in a; 4 votes in b",
            ],
        );
        check(
            |text| text.replace("nodeid: 2\n", "nodeid: 3\n"),
            &[
                "nodelist.node 2.nodeid: not set in b; 2 in a:14",
                "nodelist.node 3.nodeid: not set in a; 3 in b:14",
            ],
        );
        check(
            |text| text.replace("cluster_name: t", "cluster_name: u"),
            &[
                "totem.cluster_name: t in a:5; u in b:5",
                "totem.interface.mcastaddr: 239.192.0.116 in a; 239.192.0.117 in b",
            ],
        );
    }
}
