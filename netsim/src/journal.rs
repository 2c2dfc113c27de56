//! The record that the core engine makes, and how much of it is kept.

use std::time::Duration;

use quorate_membership::{NodeId, Transmit};

use crate::history::{Life, Record, Traffic, What};
use crate::invariants::{Checker, Violation};
use crate::{Electorate, History};

/// The record of a run in progress. Each line goes to the checker at once, and lines are kept on
/// request.
pub(crate) struct Journal {
    history: History,
    keeps: Keeps,
    checker: Checker,
    violation: Option<Violation>,
}

/// How much of a run's record is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keeps {
    /// Only the fingerprint and the counts.
    Nothing,
    /// Every line.
    All,
    /// Every line, and every datagram.
    Traffic,
}

impl Journal {
    /// Returns an empty journal of these nodes.
    pub(crate) fn new(nodes: impl IntoIterator<Item = NodeId>, checker: Checker, keeps: Keeps) -> Self {
        let history = History::new(nodes);
        let history = if keeps == Keeps::Traffic { history.with_traffic() } else { history };
        Self { history, keeps, checker, violation: None }
    }

    /// Sets the votes of the cluster, and how they count.
    pub(crate) fn of(mut self, electorate: Electorate) -> Self {
        self.history = self.history.of(electorate);
        self
    }

    pub(crate) fn record(&mut self, at: Duration, life: Option<Life>, what: What) {
        let record = Record { at, life, what };
        if self.violation.is_none()
            && let Err(violation) = self.checker.see(&record)
        {
            self.violation = Some(violation);
        }
        self.history.pass(&record);
        if self.keeps != Keeps::Nothing {
            self.history.push(record);
        }
    }

    pub(crate) fn sent(&mut self, at: Duration, life: Life, transmit: &Transmit) {
        self.history.sent(at, life, transmit);
    }

    /// Returns the datagrams, if they are kept.
    pub(crate) fn traffic(&mut self) -> Option<&mut Traffic> {
        self.history.traffic()
    }

    /// Returns what has been kept so far, which may be taken out.
    pub(crate) fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// Returns an error with the first invariant that was violated, if any.
    pub(crate) fn violation(&self) -> Result<(), Violation> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn end(&mut self, at: Duration) {
        self.history.end(at);
    }

    /// Returns an error if an invariant was violated, including the checks at the end of the run.
    pub(crate) fn verdict(&mut self) -> Result<(), Violation> {
        self.violation()?;
        self.checker.end(self.history.ended_at())
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.history.fingerprint()
    }

    pub(crate) fn datagrams(&self) -> u64 {
        self.history.datagrams()
    }

    /// Returns the lines that were kept.
    pub(crate) fn into_history(self) -> History {
        self.history
    }
}
