//! Scenarios as files, for bare members. Each file begins with a description and with its
//! expectations:
//!
//! ```text
//! # comes about: SITUATION         this named situation or class of faults has to occur
//! # seen 3 times: TEXT             at least 3 lines of the history have to contain this text
//! # seen 3 times before 2s: TEXT   the same, counting only lines before this time
//! # seen at most 9 times: TEXT     at most 9 lines of the history may contain this text
//! # kills: MUTANT                  with this bug put back, the scenario has to fail
//! ```
//!
//! The last line is checked with the feature `mutants`. A run without its situation proves nothing.
//! Every run is also checked against all invariants and, after its calm begins, against the bounds
//! of liveness.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};

use quorate_netsim::history::Record;
use quorate_netsim::{History, Scenario, Summary};

/// Defines a test for each scenario in this directory, with the scenario's name.
macro_rules! scenarios {
    ($directory:literal: $($name:ident)*) => {
        $(#[test]
        fn $name() {
            let regression = crate::scenarios::Regression::read(DIRECTORY, stringify!($name));
            regression.run().unwrap_or_else(|wrong| panic!("{wrong}"));
        })*

        const DIRECTORY: &str = $directory;
        const SCENARIOS: &[&str] = &[$(stringify!($name)),*];
    };
}
pub(crate) use scenarios;

/// A scenario with its expectations.
pub(crate) struct Regression {
    scenario: Scenario,
    expectations: Vec<Expectation>,
    #[cfg_attr(not(feature = "mutants"), expect(dead_code, reason = "no bugs there to be killed"))]
    pub(crate) kills: Vec<String>,
}

/// The reason why a scenario fails.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// An expectation or an invariant does not hold.
    Broken(String),
    /// The named situation does not occur any more, so the scenario tests something else.
    Vacuous(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(what) => f.write_str(what),
            Self::Vacuous(situation) => write!(f, "does not come about: {situation}"),
        }
    }
}

enum Expectation {
    ComesAbout(String),
    Seen { text: String, least: usize, most: usize, before: Duration },
}

impl Regression {
    pub(crate) fn read(directory: &str, name: &str) -> Self {
        let path = path(directory).join(format!("{name}.scenario"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let scenario = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (mut expectations, mut kills) = (Vec::new(), Vec::new());
        let comments = text.lines().filter_map(|line| line.strip_prefix("# "));
        for (what, value) in comments.filter_map(|comment| comment.split_once(": ")) {
            match what.split(' ').collect::<Vec<_>>()[..] {
                ["comes", "about"] => expectations.push(Expectation::ComesAbout(value.to_owned())),
                ["kills"] => kills.push(value.to_owned()),
                ["seen", "at", "most", times, "times"] => expectations.push(Expectation::Seen {
                    text: value.to_owned(),
                    least: 0,
                    most: times.parse().unwrap(),
                    before: Duration::MAX,
                }),
                ["seen", times, "times", ref before @ ..] => expectations.push(Expectation::Seen {
                    text: value.to_owned(),
                    least: times.parse().unwrap(),
                    most: usize::MAX,
                    before: before.get(1).map_or(Duration::MAX, |before| milliseconds(before)),
                }),
                _ => {}
            }
        }
        assert!(!expectations.is_empty(), "{name} does not say what has to come about");
        Self { scenario, expectations, kills }
    }

    /// Runs the scenario. Returns an error with the first problem, if there is one.
    pub(crate) fn run(&self) -> Result<(), Wrong> {
        let (result, history) = self.scenario.run_core_traced();
        let summary = result.map_err(|failure| Wrong::Broken(failure.to_string()))?;
        self.expectations.iter().try_for_each(|expected| expected.check(&summary, &history))
    }
}

impl Expectation {
    fn check(&self, summary: &Summary, history: &History) -> Result<(), Wrong> {
        match self {
            Self::ComesAbout(situation) => {
                let mut situations = summary.situations.keys().map(ToString::to_string);
                let occurred = situations.any(|name| name == *situation)
                    || summary.faults.contains_key(situation.as_str());
                if occurred { Ok(()) } else { Err(Wrong::Vacuous(situation.clone())) }
            }
            Self::Seen { text, least, most, before } => {
                let line =
                    |record: &Record| record.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                let seen = history.records().iter().filter(|record| record.at < *before);
                let times = seen.filter(|record| line(record).contains(text.as_str())).count();
                match (least..=most).contains(&&times) {
                    true => Ok(()),
                    false => Err(Wrong::Broken(format!("seen {times} times: {text}"))),
                }
            }
        }
    }
}

/// Parses a time such as `900ms` or `1.2s`.
fn milliseconds(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(ms.parse().unwrap()),
        None => Duration::from_secs_f64(text.strip_suffix('s').unwrap().parse().unwrap()),
    }
}

/// Returns the path of the directory.
pub(crate) fn path(directory: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory)
}

/// Returns the names of the scenarios in a directory.
pub(crate) fn files(directory: &str) -> BTreeSet<String> {
    let files = fs::read_dir(path(directory)).unwrap().map(|entry| entry.unwrap().file_name());
    files.filter_map(|name| Some(name.to_str()?.strip_suffix(".scenario")?.to_owned())).collect()
}
