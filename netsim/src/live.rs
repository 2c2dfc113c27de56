//! Runs that are steered from outside.

use std::time::Duration;

use quorate_membership::NodeId;
use quorate_picture::{DcState, News, State};
use thiserror::Error;

use crate::engine::core::{Engine, Summary};
use crate::engine::micros;
use crate::failure::{Failure, Reason};
use crate::fault::Trouble;
use crate::history::History;
use crate::invariants::Violation;
use crate::journal::Keeps;
use crate::picture::Artist;
use crate::{Fault, Scenario};

/// The time after which a fault happens.
const MOMENT: Duration = Duration::from_micros(1);
/// The time after which a datagram whose fate is not known is drawn as lost.
const UNDER_WAY: Duration = Duration::from_secs(4);

/// A run of bare members that advances on request, and takes faults in between.
///
/// The result is a [scenario](Live::scenario), with every fault at its time. It runs in the same
/// way from its beginning, with the same trace hash.
///
/// ```
/// use std::time::Duration;
///
/// use quorate_netsim::{Fault, Scenario};
///
/// let ms = Duration::from_millis;
/// let mut live = Scenario::new(3, ms(10_000)).live()?;
/// live.run_until(ms(1000));
/// live.inject(Fault::Cut(1, 3))?;
/// live.run_until(ms(2000));
///
/// let again = live.scenario();
/// assert!(again.to_string().contains("at 1.000001s nodes 1 and 3 no longer hear each other"));
/// assert_eq!(again.run_core()?.fingerprint, live.end().summary.fingerprint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Live {
    /// The time that the run has to reach so that the latest fault has happened.
    until: Duration,
    engine: Engine,
    ended: Option<Ended>,
    artist: Artist,
}

/// Why a fault cannot be injected into a run.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InjectError {
    /// The run is over.
    #[error("the run is over")]
    Over,
    /// The scenario is calm by now.
    #[error("the scenario ends all trouble at {0:?}")]
    Calm(Duration),
    /// A fault that a scenario has to have from its beginning: other files, replayed datagrams, or
    /// changed bytes.
    #[error("`{0}` has to be in the scenario from the beginning: put it there, and start again")]
    FromTheBeginning(Fault),
    /// A fault that is impossible in the scenario.
    #[error("{0}")]
    Impossible(String),
}

/// The end of a run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ended {
    /// Statistics, among them the trace hash.
    pub summary: Summary,
    /// The first invariant that was violated.
    pub violation: Option<Violation>,
}

impl Scenario {
    /// Begins a run of bare members, like that of [`Scenario::run_core`], that advances on request.
    ///
    /// # Errors
    /// If the scenario is impossible.
    pub fn live(&self) -> Result<Live, Failure> {
        self.check_core().map_err(|why| self.fail(Reason::Impossible(why), History::default()))?;
        let nodes = (1..=self.nodes).filter_map(NodeId::new).collect();
        Ok(Live {
            until: Duration::ZERO,
            engine: Engine::new(self, self.journal(self.checker(), Keeps::Traffic)),
            ended: None,
            artist: Artist::new(self, &nodes),
        })
    }
}

impl Live {
    /// Returns the simulated time.
    pub fn now(&self) -> Duration {
        self.engine.at()
    }

    /// Runs up to this time, or to the end of the run. The run ends with its scenario, or when an
    /// invariant is violated.
    pub fn run_until(&mut self, until: Duration) {
        self.advance(|engine| engine.run_until(micros(until)));
    }

    /// Takes the next event: a datagram arrives, a timer is due, or a fault happens. Does nothing
    /// if there is none, because all nodes are down.
    pub fn step(&mut self) {
        self.advance(Engine::step);
    }

    fn advance(&mut self, run: impl FnOnce(&mut Engine) -> Result<bool, Violation>) {
        if self.ended.is_none() {
            let result = run(&mut self.engine);
            self.until = self.until.max(self.engine.at());
            if result != Ok(false) {
                self.finish(result.map(drop));
            }
        }
    }

    fn finish(&mut self, result: Result<(), Violation>) {
        self.artist.ends_at = micros(self.now());
        let (summary, result) = self.engine.end(result);
        let violation = result.err();
        if let Some(violation) = &violation {
            self.artist.violated(violation);
        }
        self.ended = Some(Ended { summary, violation });
    }

    /// Lets a fault happen a microsecond from now. Returns that time.
    ///
    /// # Errors
    /// If the fault can no longer happen in this run, or never.
    pub fn inject(&mut self, fault: Fault) -> Result<Duration, InjectError> {
        let scenario = self.engine.scenario();
        let at = self.now() + MOMENT;
        if self.ended.is_some() || micros(at) > self.engine.ends_at() {
            return Err(InjectError::Over);
        } else if let Some(calm_at) = scenario.calm_at.filter(|calm_at| *calm_at <= at) {
            return Err(InjectError::Calm(calm_at));
        } else if is_from_the_beginning(&fault) {
            return Err(InjectError::FromTheBeginning(fault));
        }
        scenario.clone().at(at, fault.clone()).check_core().map_err(InjectError::Impossible)?;
        self.until = Duration::from_micros(self.engine.inject(fault));
        Ok(self.until)
    }

    /// Returns the run up to now as a scenario. If it has no calm, it ends now.
    pub fn scenario(&self) -> Scenario {
        let mut scenario = self.engine.scenario().clone();
        if scenario.calm_at.is_none() {
            scenario.length = self.until;
        }
        scenario
    }

    /// Returns the end of the run, if it has been reached.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Ends the run now, or after the latest fault.
    pub fn end(mut self) -> Ended {
        self.run_until(self.until);
        if self.ended.is_none() {
            self.finish(Ok(()));
        }
        self.ended.unwrap_or_default()
    }

    /// Returns the number of events so far.
    pub fn events(&self) -> u64 {
        self.ended.as_ref().map_or_else(|| self.engine.events(), |ended| ended.summary.events)
    }

    /// Returns the trace hash so far. At the end of the run, the last leases are added.
    pub fn fingerprint(&self) -> u64 {
        self.engine.journal.fingerprint()
    }

    /// Returns the pairs of nodes of which the second cannot hear the first.
    pub fn cuts(&self) -> Vec<(u32, u32)> {
        let pairs = self.nodes().flat_map(|from| self.nodes().map(move |to| (from, to)));
        pairs
            .filter(|(from, to)| from != to && !self.engine.reaches(*from, *to))
            .map(|(from, to)| (from.get(), to.get()))
            .collect()
    }

    /// Returns what has happened since the last news, as it is drawn.
    pub fn news(&mut self) -> News {
        let now = self.now();
        let history = self.engine.journal.history_mut();
        let (records, steps) = history.take_steps();
        if let Some(traffic) = history.traffic() {
            for step in steps {
                self.artist.step(step, &records, traffic);
            }
            while let Some((number, sent)) = traffic.take_older(now.saturating_sub(UNDER_WAY)) {
                self.artist.miss(number, &sent);
            }
        }
        let now = micros(now);
        self.artist.wake(now);
        // A lease ends whether or not its node has noticed.
        for node in self.nodes() {
            if let Some(ends_at) = self.engine.lease_ends_at(node).filter(|ends_at| *ends_at < now) {
                self.artist.recorder.replace_state(
                    ends_at,
                    node.get(),
                    State::Dc(DcState::Acts),
                    State::Dc(DcState::Waits),
                );
            }
        }
        self.artist.recorder.news(now)
    }

    fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.engine.scenario().nodes).filter_map(NodeId::new)
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("now", &self.now()).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Returns `true` for faults that change how a run begins, or how it is checked.
fn is_from_the_beginning(fault: &Fault) -> bool {
    match fault {
        Fault::File { .. } | Fault::Replay(_) => true,
        Fault::Disturb { trouble, .. } => matches!(trouble, Trouble::Flip { .. } | Trouble::Resize(_)),
        Fault::When { then, .. } => is_from_the_beginning(then),
        _ => false,
    }
}
