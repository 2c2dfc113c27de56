//! What the core engine writes down, and how much of it is kept.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_membership::{NodeId, Transmit};

use crate::History;
use crate::history::{Life, Record, What};
use crate::invariants::{Checker, Violation};

/// A run's record as it is made: each line goes to the checker at once, and only the last ones are kept, unless the whole
/// history is asked for.
pub(crate) struct Journal {
    history: History,
    keeps: Keeps,
    latest: VecDeque<Record>,
    checker: Checker,
    violation: Option<Violation>,
}

/// How much of a run is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keeps {
    /// The last lines only.
    Latest,
    /// What applications saw, for properties that are looked at afterwards.
    Outside,
    /// Every line.
    All,
}

impl Journal {
    /// How many lines are kept at least.
    const LATEST: usize = 400;

    /// An empty one of these nodes.
    pub(crate) fn new(nodes: impl IntoIterator<Item = NodeId>, checker: Checker, keeps: Keeps) -> Self {
        Self { history: History::new(nodes), keeps, latest: VecDeque::new(), checker, violation: None }
    }

    pub(crate) fn record(&mut self, at: Duration, life: Option<Life>, what: What) {
        let record = Record { at, life, what };
        if self.violation.is_none()
            && let Err(violation) = self.checker.see(&record)
        {
            self.violation = Some(violation);
        }
        self.history.pass(&record);
        match self.keeps {
            Keeps::All => return self.history.push(record),
            Keeps::Outside if matches!(record.what, What::Inside(_)) => return,
            Keeps::Outside => return self.history.push(record),
            Keeps::Latest => {}
        }
        if self.latest.len() == Self::LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(record);
    }

    pub(crate) fn sent(&mut self, at: Duration, life: Life, transmit: &Transmit) {
        self.history.sent(at, life, transmit);
    }

    /// The first invariant that did not hold, if one did not.
    pub(crate) fn violation(&self) -> Result<(), Violation> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn end(&mut self, at: Duration) {
        self.history.end(at);
    }

    /// The same, with what can only be said at the end.
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

    /// What was kept.
    pub(crate) fn into_history(mut self) -> History {
        for record in self.latest {
            self.history.push(record);
        }
        self.history
    }
}
