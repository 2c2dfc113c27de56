//! What is to happen in a run.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use quorate_election::{Event, Status};
use quorate_membership::config::TotemConfig;
use quorate_membership::driver::{Events, Node};
use quorate_membership::{NodeId, Totem};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::invariants::Violation;
use crate::{Fault, History, engine, invariants};

/// A cluster, its load, and what goes wrong, all at times since the start; with the seed, that is all there is to a
/// run.
///
/// The nodes are numbered from 1, have one vote each, and start together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Scenario {
    pub(crate) nodes: u32,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    pub(crate) token: Duration,
    pub(crate) load: Option<Load>,
    pub(crate) timeline: Vec<(Duration, Fault)>,
}

/// Messages that every node sends, beside what its service does. Whoever starts late or again joins in.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Load {
    /// A node sends a message after a pause of this length on average, and no sooner than the ring takes it.
    pub every: Duration,
    /// Until then.
    pub until: Duration,
    /// Messages have any length up to this one, in bytes. A network packet holds about 1400; longer ones are
    /// fragmented.
    pub longest: usize,
    /// How many of 100 messages are sent as safe ones.
    pub safe_percent: u32,
}

/// A simulated host, as a service under test gets it when its node starts. The node and its events are those of
/// production: [`quorate_membership::driver`].
#[derive(Debug)]
pub struct Host {
    /// Which node this is.
    pub id: NodeId,
    /// The node.
    pub node: Node,
    /// What it sees.
    pub events: Events<Event>,
    /// The latest status, for those who only want that.
    pub latest: watch::Receiver<Status>,
}

impl Scenario {
    /// The longest payload in a simulated ring, in bytes: each carries the checker's mark.
    pub const MAX_PAYLOAD: usize = Totem::MAX_PAYLOAD - crate::history::MessageId::MARK;
    /// As many as turmoil can run within anybody's patience.
    const MAX_NODES: u32 = 64;

    /// A cluster of this many nodes to which nothing happens for this long, with seed 0.
    pub fn new(nodes: u32, length: Duration) -> Self {
        Self { nodes, length, seed: 0, token: Duration::from_millis(200), load: None, timeline: Vec::new() }
    }

    /// Draws everything that is random from this seed: who runs first in each millisecond, the delays of JOINs, when
    /// the load sends what.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the token timeout (corosync.conf: `token`), by default 200 ms: a token goes one hop a millisecond.
    #[must_use]
    pub fn token(mut self, token: Duration) -> Self {
        self.token = token;
        self
    }

    /// Lets every node send messages.
    #[must_use]
    pub fn load(mut self, load: Load) -> Self {
        self.load = Some(load);
        self
    }

    /// Lets something go wrong, or heal, at this time.
    #[must_use]
    pub fn at(mut self, at: Duration, fault: Fault) -> Self {
        self.timeline.push((at, fault));
        self
    }

    /// How long after the last fault it takes at most until there is one ring of all who can hear each other, with its
    /// DC: `T + 3 * (merge + consensus + token + 7 rotations)`, then three rotations to exchange what members say
    /// of themselves.
    pub fn settles_within(&self) -> Duration {
        let TotemConfig { token, consensus, merge, join, send_join, .. } = self.totem();
        let rotation = self.nodes * Duration::from_millis(1);
        let form = merge + consensus + token + join + send_join + 7 * rotation;
        token + 3 * form + 3 * rotation
    }

    /// The protocol's timeouts in this scenario.
    pub fn totem(&self) -> TotemConfig {
        TotemConfig {
            join: Duration::from_millis(30),
            send_join: Duration::from_millis(8),
            merge: Duration::from_millis(60),
            ..TotemConfig::for_token(self.token)
        }
    }

    /// Runs complete nodes, driver and election included, on a simulated network, and checks what they did against
    /// the [invariants].
    ///
    /// # Errors
    /// If an invariant is violated, or the scenario is impossible. The error prints all that is needed to look into it.
    pub fn run(&self) -> Result<History, Failure> {
        self.run_service(|mut host| async move {
            while host.events.next().await.is_some() {}
            Ok(())
        })
    }

    /// As [`Scenario::run`], with a service of your own on each node, which is called whenever the node starts. A crash
    /// drops its future. When it returns `Ok`, the node remains a member without it.
    ///
    /// The service runs on turmoil: it may use `turmoil::net` (hosts are called `node1`, `node2`, ...) and tokio's time
    /// and channels. What is not the same in each run must not decide what it does, or a seed replays nothing: no
    /// system time, threads or randomness, no iteration over a `HashMap`, no `tokio::select!` without `biased`.
    ///
    /// # Errors
    /// As [`Scenario::run`]; also if the service returns an error or panics.
    pub fn run_service<S, F>(&self, service: S) -> Result<History, Failure>
    where
        S: Fn(Host) -> F + 'static,
        F: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        let fail = |reason, history| Failure(Box::new(Wrong { scenario: self.clone(), reason, history }));
        if let Err(why) = self.check() {
            return Err(fail(Reason::Impossible(why), History::default()));
        }
        match engine::turmoil::run(self, service) {
            Err((error, history)) => Err(fail(Reason::Error(error), history)),
            Ok(history) => match invariants::check(&history) {
                Err(violation) => Err(fail(Reason::Violation(violation), history)),
                Ok(()) => Ok(history),
            },
        }
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=Self::MAX_NODES).contains(&self.nodes) {
            return Err(format!("{} nodes: at least 1 and at most {}", self.nodes, Self::MAX_NODES));
        }
        if let Some(load) = &self.load
            && load.longest > Self::MAX_PAYLOAD
        {
            return Err(format!("a load of {} bytes: at most {}", load.longest, Self::MAX_PAYLOAD));
        }
        let named = self.timeline.iter().flat_map(|(_, fault)| fault.nodes());
        match named.into_iter().find(|node| !(1..=self.nodes).contains(node)) {
            Some(node) => Err(format!("a fault of node {node}: nodes are numbered from 1 to {}", self.nodes)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, length, seed, token, load, timeline } = self;
        writeln!(f, "{nodes} nodes for {length:?}, token timeout {token:?}, seed {seed}")?;
        if let Some(Load { every, until, longest, safe_percent }) = load {
            writeln!(
                f,
                "each sends every {every:?} until {until:?}, up to {longest} bytes, {safe_percent} % safe"
            )?;
        }
        timeline.iter().try_for_each(|(at, fault)| writeln!(f, "at {at:?} {fault}"))
    }
}

/// A run that went wrong. Prints why, in which scenario, and the end of what was seen.
pub struct Failure(Box<Wrong>);

struct Wrong {
    scenario: Scenario,
    reason: Reason,
    history: History,
}

enum Reason {
    Impossible(String),
    Error(Box<dyn Error>),
    Violation(Violation),
}

impl Failure {
    /// How many of the last records are printed.
    const TAIL: usize = 60;

    /// The invariant that was violated; `None` if it was something else.
    pub fn violation(&self) -> Option<&Violation> {
        match &self.0.reason {
            Reason::Violation(violation) => Some(violation),
            _ => None,
        }
    }

    /// All that was seen.
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
        writeln!(f, "what was seen last, {} of {} records", shown.len(), records.len())?;
        records[shown].iter().try_for_each(|record| writeln!(f, "{record}"))
    }
}

/// As text, for `unwrap` prints it.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn scenario() -> Scenario {
        Scenario::new(3, ms(2000))
            .seed(7)
            .load(Load { every: ms(5), until: ms(1500), longest: 2000, safe_percent: 30 })
            .at(ms(500), Fault::Partition(vec![vec![1, 2], vec![3]]))
            .at(ms(900), Fault::CutOneWay { from: 1, to: 2 })
            .at(ms(1000), Fault::Heal)
    }

    #[test]
    fn a_scenario_is_the_same_after_it_was_stored() {
        let json = serde_json::to_string(&scenario()).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), scenario());
    }

    #[test]
    fn a_scenario_reads_as_a_story() {
        assert_eq!(
            scenario().to_string(),
            "3 nodes for 2s, token timeout 200ms, seed 7\n\
             each sends every 5ms until 1.5s, up to 2000 bytes, 30 % safe\n\
             at 500ms partition [1, 2] | [3]\n\
             at 900ms node 2 no longer hears node 1\n\
             at 1s the network heals\n"
        );
    }

    #[test]
    fn an_impossible_scenario_is_an_error_that_says_why() {
        let why = |scenario: Scenario| scenario.run().unwrap_err().to_string();
        let fault = why(scenario().at(ms(1), Fault::Crash(4)));
        assert!(
            fault.starts_with("impossible scenario: a fault of node 4: nodes are numbered from 1 to 3\n"),
            "{fault}"
        );
        assert!(why(Scenario::new(0, ms(1))).contains("0 nodes: at least 1"));
        let load = Load { every: ms(1), until: ms(1), longest: 1 << 20, safe_percent: 0 };
        assert!(why(scenario().load(load)).contains("a load of 1048576 bytes: at most 1048560"));
        let timeout = why(scenario().token(ms(5)));
        assert!(timeout.contains("token"), "{timeout}");
    }
}
