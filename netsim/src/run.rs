//! Running scenarios, on either engine.

use std::error::Error;
use std::future::Future;

use quorate_membership::NodeId;
use quorate_picture::Picture;

use crate::engine::core::Summary;
use crate::failure::{Failure, Reason};
use crate::invariants::{Checker, Violation};
use crate::journal::{Journal, Keeps};
use crate::{History, Host, Others, Scenario, engine, invariants, picture};

impl Scenario {
    /// Runs complete nodes, with driver and election, on a simulated network, and checks what they
    /// did against the [invariants]. The limit is 64 nodes, because turmoil is slow.
    ///
    /// # Errors
    /// If an invariant is violated, or the scenario is impossible. The error prints everything that
    /// is needed to investigate it.
    pub fn run(&self) -> Result<History, Failure> {
        self.run_service(idle)
    }

    /// Runs a service of your own on each node, otherwise like [`Scenario::run`]. The service is
    /// called whenever its node starts. A crash drops its future. When it returns `Ok`, the node
    /// remains a member without it.
    ///
    /// The service runs on turmoil. It may use `turmoil::net` (hosts are called `node1`, `node2`,
    /// ...) and tokio's time and channels. A seed reproduces a run only if nothing that varies from
    /// run to run decides what the service does. Use no system time, no threads, no randomness, no
    /// iteration over a `HashMap`, and no `tokio::select!` without `biased`.
    ///
    /// # Errors
    /// Like [`Scenario::run`]; also if the service returns an error or panics. A panic in a task
    /// that the service has spawned is not seen: take it down, and assert after the run.
    pub fn run_service<S, F>(&self, service: S) -> Result<History, Failure>
    where
        S: Fn(Host) -> F + 'static,
        F: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        self.run_service_among(Others::new(), service)
    }

    /// Runs a service like [`Scenario::run_service`], together with its clients and its resources,
    /// which are on hosts of their own.
    ///
    /// # Errors
    /// Like [`Scenario::run_service`]; also if a host returns an error or panics, or has the name
    /// of another host.
    pub fn run_service_among<S, F>(&self, others: Others, service: S) -> Result<History, Failure>
    where
        S: Fn(Host) -> F + 'static,
        F: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        self.run_service_keeping(Keeps::All, others, service)
    }

    fn run_service_keeping<S, F>(&self, keeps: Keeps, others: Others, service: S) -> Result<History, Failure>
    where
        S: Fn(Host) -> F + 'static,
        F: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        let possible = self.check().and_then(|()| engine::turmoil::can_run(self));
        if let Err(why) = possible.and_then(|()| others.check(self.nodes)) {
            return Err(self.fail(Reason::Impossible(why), History::default()));
        }
        match engine::turmoil::run(self, service, others, keeps) {
            Err((error, history)) => Err(self.fail(Reason::Error(error), history)),
            // As on the core engine, changed bytes leave only one promise: no node panics.
            Ok(history) if self.is_damaged() => Ok(history),
            Ok(history) => match invariants::check(&history) {
                Err(violation) => Err(self.fail(Reason::Violation(violation), history)),
                Ok(()) => Ok(history),
            },
        }
    }

    /// Runs complete nodes like [`Scenario::run`], and checks that [calm](Scenario::calm) led to
    /// one ring of all nodes that are up, and to one DC, each within [`Scenario::settles_within`].
    ///
    /// # Errors
    /// Like [`Scenario::run`]; also if that was not reached.
    pub fn run_nodes(&self) -> Result<Summary, Failure> {
        self.run_nodes_traced().0
    }

    /// Runs like [`Scenario::run_nodes`], and also returns every line of the history.
    pub fn run_nodes_traced(&self) -> (Result<Summary, Failure>, History) {
        self.run_nodes_keeping(Keeps::All)
    }

    /// Runs like [`Scenario::run_nodes`], and also draws the run. There is no picture of an
    /// impossible scenario.
    pub fn run_nodes_drawn(&self) -> (Result<Summary, Failure>, Option<Picture>) {
        let (result, history) = self.run_nodes_keeping(Keeps::Traffic);
        let picture = picture::draw(self, &history, result.as_ref().err());
        (result, picture)
    }

    fn run_nodes_keeping(&self, keeps: Keeps) -> (Result<Summary, Failure>, History) {
        let history = match self.run_service_keeping(keeps, Others::new(), idle) {
            Ok(history) => history,
            Err(failure) => {
                let history = failure.history().clone();
                return (Err(failure), history);
            }
        };
        let summary = match engine::turmoil::reached(self, &history) {
            Ok(reached) => Ok(Summary::of_nodes(self, &history, reached)),
            Err(violation) => Err(self.fail(Reason::Violation(violation), history.clone())),
        };
        (summary, history)
    }

    /// Runs bare members, without driver and runtime, on the core engine, which knows every fault
    /// and is a hundred times as fast. Checks what they did against the [invariants], and what they
    /// reached after [calm](Scenario::calm).
    ///
    /// # Errors
    /// If an invariant is violated, a goal is not reached after the faults end, a node panics, or
    /// the scenario is impossible. The error prints everything that is needed to investigate it.
    pub fn run_core(&self) -> Result<Summary, Failure> {
        self.check_core().map_err(|why| self.fail(Reason::Impossible(why), History::default()))?;
        let (summary, result, _) = self.run_kept(Keeps::Nothing);
        let Err(violation) = result else { return Ok(summary) };
        // Run again, and keep every line this time.
        let (_, _, history) = self.run_kept(Keeps::All);
        Err(self.fail(Reason::Violation(violation), history))
    }

    /// Runs like [`Scenario::run_core`] without checking the invariants, to measure the cost of
    /// members.
    pub fn run_core_unchecked(&self) -> Result<Summary, Failure> {
        let fail = |reason| self.fail(reason, History::default());
        self.check_core().map_err(|why| fail(Reason::Impossible(why)))?;
        let (summary, result, _) = self.run_with(Checker::blind(), Keeps::Nothing);
        result.map(|()| summary).map_err(|violation| fail(Reason::Violation(violation)))
    }

    /// Returns the first failure of the scenario on the core engine, if there is one.
    pub(crate) fn first_violation(&self) -> Option<Violation> {
        self.check_core().ok()?;
        let (_, result, _) = self.run_kept(Keeps::Nothing);
        result.err()
    }

    /// Runs like [`Scenario::run_core`], and also returns every line of the history.
    pub fn run_core_traced(&self) -> (Result<Summary, Failure>, History) {
        self.run_core_keeping(Keeps::All)
    }

    /// Runs like [`Scenario::run_core`], and also draws the run. There is no picture of an
    /// impossible scenario.
    pub fn run_core_drawn(&self) -> (Result<Summary, Failure>, Option<Picture>) {
        let (result, history) = self.run_core_keeping(Keeps::Traffic);
        let picture = picture::draw(self, &history, result.as_ref().err());
        (result, picture)
    }

    fn run_core_keeping(&self, keeps: Keeps) -> (Result<Summary, Failure>, History) {
        if let Err(why) = self.check_core() {
            return (Err(self.fail(Reason::Impossible(why), History::default())), History::default());
        }
        let (summary, result, history) = self.run_kept(keeps);
        let result = result.map(|()| summary);
        (result.map_err(|violation| self.fail(Reason::Violation(violation), history.clone())), history)
    }

    pub(crate) fn fail(&self, reason: Reason, history: History) -> Failure {
        Failure::new(self.clone(), reason, history)
    }

    fn run_kept(&self, keeps: Keeps) -> (Summary, Result<(), Violation>, History) {
        self.run_with(self.checker(), keeps)
    }

    fn run_with(&self, checker: Checker, keeps: Keeps) -> (Summary, Result<(), Violation>, History) {
        let run = engine::core::run(self, self.journal(checker, keeps));
        (run.summary, run.result, run.journal.into_history())
    }

    /// Returns the checker of all invariants that hold in this scenario.
    pub(crate) fn checker(&self) -> Checker {
        if self.is_damaged() {
            return Checker::blind();
        }
        let nodes = (1..=self.nodes).filter_map(NodeId::new);
        let listed = self.world.node_list.then(|| nodes.clone().collect());
        Checker::new(
            nodes.collect(),
            self.voters(),
            &self.totem,
            self.world.rate_error,
            self.world.heartbeat,
            listed,
        )
    }

    pub(crate) fn journal(&self, checker: Checker, keeps: Keeps) -> Journal {
        Journal::new((1..=self.nodes).filter_map(NodeId::new), checker, keeps).of(self.voters())
    }

    pub(crate) fn check_core(&self) -> Result<(), String> {
        self.check().and_then(|()| engine::core::can_run(self))
    }
}

/// A service that does nothing but read its events.
async fn idle(mut host: Host) -> Result<(), Box<dyn Error>> {
    while host.events.next().await.is_some() {}
    Ok(())
}
