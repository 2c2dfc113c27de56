//! Failed runs, and how they are reported.

use std::error::Error;
use std::fmt;

use crate::columns::Columns;
use crate::invariants::Violation;
use crate::{History, Scenario};

/// A run that failed. Prints the reason, the scenario, and the end of the history.
pub struct Failure(Box<Wrong>);

struct Wrong {
    scenario: Scenario,
    reason: Reason,
    history: History,
}

/// The reason why a run failed.
pub(crate) enum Reason {
    Impossible(String),
    Error(Box<dyn Error>),
    Violation(Violation),
}

impl Failure {
    /// The number of records that are printed, from the end of the history.
    const TAIL: usize = 80;

    pub(crate) fn new(scenario: Scenario, reason: Reason, history: History) -> Self {
        Self(Box::new(Wrong { scenario, reason, history }))
    }

    /// Returns the invariant that was violated, or `None` if the run failed for another reason.
    pub fn violation(&self) -> Option<&Violation> {
        match &self.0.reason {
            Reason::Violation(violation) => Some(violation),
            _ => None,
        }
    }

    /// Returns the reason in one line, without the scenario and the history.
    pub fn why(&self) -> String {
        match &self.0.reason {
            Reason::Impossible(why) => format!("impossible scenario: {why}"),
            Reason::Error(error) => error.to_string(),
            Reason::Violation(violation) => violation.to_string(),
        }
    }

    pub(crate) fn is_impossible(&self) -> bool {
        matches!(self.0.reason, Reason::Impossible(_))
    }

    /// Returns the history of the run.
    pub fn history(&self) -> &History {
        &self.0.history
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { scenario, reason, history } = &*self.0;
        let records = history.records();
        let until = match reason {
            Reason::Impossible(why) => return write!(f, "impossible scenario: {why}\n{scenario}"),
            Reason::Error(error) => {
                writeln!(f, "{error}")?;
                records.len()
            }
            Reason::Violation(violation) => {
                writeln!(f, "{violation}")?;
                records.partition_point(|record| record.at <= violation.at)
            }
        };
        writeln!(f, "\nscenario\n{scenario}")?;
        let shown = until.saturating_sub(Self::TAIL)..until;
        writeln!(f, "last {} of {} records, one column per node", shown.len(), records.len())?;
        write!(f, "{}", Columns(&records[shown]))
    }
}

/// The same as `Display`, because `unwrap` prints this one.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Failure {}
