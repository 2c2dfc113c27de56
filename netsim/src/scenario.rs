//! What is to happen in a run.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use quorate_election::{Dc, Event};
use quorate_membership::config::{DcConfig, TotemConfig};
use quorate_membership::driver::{Events, Node};
use quorate_membership::{Config, NodeId, Seq, Totem};
use serde::{Deserialize, Serialize};

use crate::electorate::{Electorate, Priorities};
use crate::engine::core::Summary;
use crate::failure::{Failure, Reason};
use crate::fault::Trouble;
use crate::invariants::{Checker, Violation};
use crate::journal::{Journal, Keeps};
use crate::{Fault, History, engine, invariants};

/// A cluster, its load, and what goes wrong, all at times since the start; with the seed, that is all there is to a
/// run.
///
/// The nodes are numbered from 1, have one vote each unless the scenario says otherwise, and start together.
///
/// # As text
/// A scenario prints as lines, and is read from them again; so is it stored. Whatever a run needs is in the text: a
/// failure that was found by chance becomes a file, and the file a test.
/// ```
/// # use quorate_netsim::Scenario;
/// let text = "\
/// 3 nodes for 20s, token timeout 200ms, seed 7
/// each sends every 5ms until 9s, up to 2000 bytes, 30 % safe
/// with quorum wait_for_all, 2 votes of node 1
/// with window_size 4
/// at 500ms partition [1, 2] | [3]
/// at 700ms for 2s lose 10 % of tokens from node 1
/// at 900ms when node 3 enters recovery: node 3 crashes
/// at 5s node 3 starts again
/// calm from 9s
/// ";
/// let scenario: Scenario = text.parse().unwrap();
/// assert_eq!(scenario.to_string(), text);
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Scenario {
    pub(crate) nodes: u32,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    /// What follows from its token timeout, and what was changed of that.
    pub(crate) totem: TotemConfig,
    pub(crate) world: World,
    /// Its votes, and how they count.
    pub(crate) electorate: Electorate,
    pub(crate) load: Option<Load>,
    pub(crate) timeline: Vec<(Duration, Fault)>,
    pub(crate) calm_at: Option<Duration>,
}

/// What is around the nodes; the turmoil engine knows no slow disks, no records, and whole milliseconds only.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct World {
    /// How long a datagram takes.
    pub(crate) latency: Duration,
    /// Of a million datagrams, so many are lost on each way, whatever else happens, and also when nothing does.
    pub(crate) loss: u32,
    /// How long a disk takes for a write.
    pub(crate) disk: Duration,
    /// How many datagrams wait at a node at most.
    pub(crate) receive_buffer: u32,
    /// Whether the nodes have a node list; else they learn of each other.
    pub(crate) node_list: bool,
    /// Whether the nodes start for the first time, and have agreed on nothing yet; else they are a cluster of old.
    pub(crate) fresh: bool,
    /// The ring sequence number that all nodes' records begin with.
    pub(crate) ring_seq: u64,
    /// How long a DC's lease is; zero: as long as follows from the token timeout.
    pub(crate) lease: Duration,
    /// How wrong clocks are taken to be, in millionths.
    pub(crate) rate_error: u32,
    /// How long a cluster that starts waits for those who are missing.
    pub(crate) dc_deadtime: Duration,
    /// How often applications that act as DC have to show that they are alive; zero: nobody looks.
    pub(crate) heartbeat: Duration,
    /// Whether a DC hands over to a member of higher priority.
    pub(crate) preempt: bool,
    /// Whom the operator wants as DC.
    pub(crate) priorities: Priorities,
}

impl Default for World {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            loss: 0,
            disk: Duration::ZERO,
            receive_buffer: 4096,
            node_list: true,
            fresh: false,
            ring_seq: 0,
            lease: Duration::ZERO,
            rate_error: DcConfig::default().rate_error,
            dc_deadtime: Duration::ZERO,
            heartbeat: Duration::ZERO,
            preempt: false,
            priorities: Priorities::default(),
        }
    }
}

/// A value of a scenario that has a default.
#[derive(PartialEq, Debug)]
pub(crate) enum Setting<'a> {
    Time(&'a mut Duration),
    Count(&'a mut u32),
    Number(&'a mut u64),
    Size(&'a mut usize),
    Seq(&'a mut Seq),
    Flag(&'a mut bool),
    Electorate(&'a mut Electorate),
    Priorities(&'a mut Priorities),
}

impl Setting<'_> {
    /// Takes over the value of the same setting of another scenario.
    pub(crate) fn set(&mut self, other: &Self) {
        match (self, other) {
            (Self::Time(this), Self::Time(other)) => **this = **other,
            (Self::Count(this), Self::Count(other)) => **this = **other,
            (Self::Number(this), Self::Number(other)) => **this = **other,
            (Self::Size(this), Self::Size(other)) => **this = **other,
            (Self::Seq(this), Self::Seq(other)) => **this = **other,
            (Self::Flag(this), Self::Flag(other)) => **this = **other,
            (Self::Electorate(this), Self::Electorate(other)) => (*this).clone_from(other),
            (Self::Priorities(this), Self::Priorities(other)) => (*this).clone_from(other),
            // Another setting.
            _ => {}
        }
    }
}

impl fmt::Display for Setting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{time:?}"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Size(size) => write!(f, "{size}"),
            Self::Seq(seq) => write!(f, "{seq}"),
            Self::Electorate(electorate) => write!(f, "{electorate}"),
            Self::Priorities(priorities) => write!(f, "{priorities}"),
            Self::Flag(flag) => f.write_str(if **flag { "yes" } else { "no" }),
        }
    }
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
    /// Whether it may act as DC; and the latest status, for those who only want that.
    pub dc: Dc,
}

impl Scenario {
    /// The longest payload in a simulated ring, in bytes: each carries the checker's mark.
    pub const MAX_PAYLOAD: usize = Totem::MAX_PAYLOAD - crate::history::MessageId::MARK;
    /// The most nodes, as many as a ring can have members; of complete ones 64 ([`Scenario::run`]).
    pub const MAX_NODES: u32 = Config::MAX_NODES as u32;

    /// A cluster of this many nodes to which nothing happens for this long, with seed 0.
    pub fn new(nodes: u32, length: Duration) -> Self {
        Self {
            nodes,
            length,
            seed: 0,
            totem: totem(Duration::from_millis(200)),
            world: World::default(),
            electorate: Electorate::default(),
            load: None,
            timeline: Vec::new(),
            calm_at: None,
        }
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
        self.totem = totem(token);
        self
    }

    /// Sets all that the protocol can be told, as in production where `totem` is made for it; by default it has nothing of
    /// what is beyond Totem ([`TotemConfig::plain`]).
    #[must_use]
    pub fn protocol(mut self, totem: TotemConfig) -> Self {
        self.totem = totem;
        self
    }

    /// Sets how long a datagram takes, by default 1 ms.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.world.latency = latency;
        self
    }

    /// Lets every node send messages.
    #[must_use]
    pub fn load(mut self, load: Load) -> Self {
        self.load = Some(load);
        self
    }

    /// Sets the votes of the nodes, and by which rules they count; by default a majority of one vote each.
    #[must_use]
    pub fn electorate(mut self, electorate: Electorate) -> Self {
        self.electorate = electorate;
        self
    }

    /// Has applications that act as DC give signs of life: who gives none for this long loses the role. By default nobody
    /// looks. On the turmoil engine, a task beside the service gives them for it.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.world.heartbeat = every;
        self
    }

    /// Sets how much the operator wants a node to be DC (`dc_priority`), by default 1; 0: never.
    #[must_use]
    pub fn dc_priority(mut self, node: u32, priority: u32) -> Self {
        self.world.priorities.0.insert(node, priority);
        self
    }

    /// Has a DC hand over to a member of higher priority that joins; by default it stays.
    #[must_use]
    pub fn preempt(mut self) -> Self {
        self.world.preempt = true;
        self
    }

    /// Has nodes believe hosts that say that a process is gone, and probe each other this often while no token goes round; zero:
    /// no probes. By default, members are lost by timeouts alone. For bare members.
    #[must_use]
    pub fn by_evidence(mut self, probe: Duration) -> Self {
        self.totem.failure_evidence = true;
        self.totem.probe = probe;
        self
    }

    /// Lets something go wrong, or heal, at this time.
    #[must_use]
    pub fn at(mut self, at: Duration, fault: Fault) -> Self {
        self.timeline.push((at, fault));
        self
    }

    /// From then on nothing goes wrong any more: the network heals, who stands still goes on, no fault of the timeline
    /// happens. Those that are up then have to form one ring, to deliver everything and to name their DC, each within a
    /// bound that follows from the timeouts; [`Scenario::run_core`] and [`Scenario::run_nodes`] look at that. Then they have to
    /// be quiet, and to do without one of them as soon as it leaves: only the core engine looks at that.
    #[must_use]
    pub fn calm(mut self, from: Duration) -> Self {
        self.calm_at = Some(from);
        self
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// How many faults the timeline has.
    pub fn faults(&self) -> usize {
        self.timeline.len()
    }

    /// All that has a default, with its name in the text.
    pub(crate) fn settings(&mut self) -> [(&'static str, Setting<'_>); 32] {
        let World {
            latency,
            loss,
            disk,
            receive_buffer,
            node_list,
            fresh,
            ring_seq,
            lease,
            rate_error,
            dc_deadtime,
            heartbeat,
            preempt,
            priorities,
        } = &mut self.world;
        let TotemConfig {
            token: _,
            token_coefficient: _,
            token_retransmit,
            hold,
            join,
            send_join,
            consensus,
            merge,
            fail_recv_const,
            seqno_unchanged_const,
            window_size,
            max_messages,
            largest_window,
            miss_count_const,
            netmtu,
            cancel_token_hold_on_retransmit,
            failure_evidence,
            probe,
            unread_limit,
            first_seq,
        } = &mut self.totem;
        [
            ("latency", Setting::Time(latency)),
            ("loss", Setting::Count(loss)),
            ("disk", Setting::Time(disk)),
            ("receive_buffer", Setting::Count(receive_buffer)),
            ("node_list", Setting::Flag(node_list)),
            ("fresh", Setting::Flag(fresh)),
            ("ring_seq", Setting::Number(ring_seq)),
            ("quorum", Setting::Electorate(&mut self.electorate)),
            ("lease", Setting::Time(lease)),
            ("rate_error", Setting::Count(rate_error)),
            ("dc_deadtime", Setting::Time(dc_deadtime)),
            ("heartbeat", Setting::Time(heartbeat)),
            ("preempt", Setting::Flag(preempt)),
            ("dc_priority", Setting::Priorities(priorities)),
            ("token_retransmit", Setting::Time(token_retransmit)),
            ("hold", Setting::Time(hold)),
            ("join", Setting::Time(join)),
            ("send_join", Setting::Time(send_join)),
            ("consensus", Setting::Time(consensus)),
            ("merge", Setting::Time(merge)),
            ("fail_recv_const", Setting::Count(fail_recv_const)),
            ("seqno_unchanged_const", Setting::Count(seqno_unchanged_const)),
            ("window_size", Setting::Count(window_size)),
            ("max_messages", Setting::Count(max_messages)),
            ("largest_window", Setting::Count(largest_window)),
            ("miss_count_const", Setting::Count(miss_count_const)),
            ("netmtu", Setting::Count(netmtu)),
            ("cancel_token_hold_on_retransmit", Setting::Flag(cancel_token_hold_on_retransmit)),
            ("failure_evidence", Setting::Flag(failure_evidence)),
            ("probe", Setting::Time(probe)),
            ("unread_limit", Setting::Size(unread_limit)),
            ("first_seq", Setting::Seq(first_seq)),
        ]
    }

    /// The electorate, as a history has it.
    pub(crate) fn voters(&self) -> Electorate {
        let refiled = self.timeline.iter().any(|(_, fault)| matches!(fault, Fault::File { .. }));
        Electorate { unlisted: !self.world.node_list, refiled, ..self.electorate.clone() }
    }

    /// The same with only these of its nodes, which are numbered anew, and what happens to them.
    pub(crate) fn of_nodes(&self, kept: &[u32]) -> Self {
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        let number = |node: u32| kept.iter().position(|kept| *kept == node).map(|place| place as u32 + 1);
        let fault = |(at, fault): &(Duration, Fault)| Some((*at, fault.renumbered(&number)?));
        Self {
            nodes: kept.len() as u32,
            timeline: self.timeline.iter().filter_map(fault).collect(),
            electorate: self.electorate.renumbered(&number),
            world: World { priorities: self.world.priorities.renumbered(&number), ..self.world.clone() },
            ..self.clone()
        }
    }

    /// How long after the last fault it takes at most until there is one ring of all who can hear each other, with its
    /// DC: `T + 3 * (merge + consensus + token + 7 rotations)`, then three rotations to exchange what members say
    /// of themselves, and until the DC may act: the longest lease of another, and the proof of its own.
    pub fn settles_within(&self) -> Duration {
        let TotemConfig { token, consensus, merge, join, send_join, .. } = self.totem;
        let rotation = self.nodes * self.world.latency;
        let form = merge + consensus + token + join + send_join + 7 * rotation;
        token + 3 * form + 3 * rotation + self.lease_wait() + 4 * rotation + 3 * self.totem.hold
    }

    /// Who is to be DC, and how long it may act.
    pub(crate) fn dc(&self) -> DcConfig {
        let World { lease, rate_error, dc_deadtime, preempt, .. } = self.world;
        let lease = (!lease.is_zero()).then_some(lease);
        DcConfig { lease, rate_error, deadtime: dc_deadtime, preempt, ..DcConfig::default() }
    }

    /// The same, of one node.
    pub(crate) fn dc_of(&self, node: NodeId) -> DcConfig {
        DcConfig { priority: self.world.priorities.of(node), ..self.dc() }
    }

    /// How long a DC waits for the leases of others: `L(1+rho)`.
    pub(crate) fn lease_wait(&self) -> Duration {
        let dc = self.dc();
        dc.lease(&self.totem) * (1_000_000 + dc.rate_error) / 1_000_000 + Duration::from_micros(1)
    }

    /// The protocol's timeouts in this scenario.
    pub fn totem(&self) -> TotemConfig {
        self.totem.clone()
    }

    /// Runs complete nodes, driver and election included, on a simulated network, and checks what they did against
    /// the [invariants]. At most 64 nodes, for turmoil takes time.
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
        if let Err(why) = self.check().and_then(|()| engine::turmoil::can_run(self)) {
            return Err(self.fail(Reason::Impossible(why), History::default()));
        }
        match engine::turmoil::run(self, service) {
            Err((error, history)) => Err(self.fail(Reason::Error(error), history)),
            // As on the core engine: where bytes are changed, nothing is promised but that nobody panics.
            Ok(history) if self.is_damaged() => Ok(history),
            Ok(history) => match invariants::check(&history) {
                Err(violation) => Err(self.fail(Reason::Violation(violation), history)),
                Ok(()) => Ok(history),
            },
        }
    }

    /// As [`Scenario::run`], and looks at what came of it once there was [calm](Scenario::calm): one ring of all that are
    /// up, and one DC, each within [`Scenario::settles_within`].
    ///
    /// # Errors
    /// As [`Scenario::run`]; also if that was not reached.
    pub fn run_nodes(&self) -> Result<Summary, Failure> {
        self.run_nodes_traced().0
    }

    /// As [`Scenario::run_nodes`], with every line of what happened.
    pub fn run_nodes_traced(&self) -> (Result<Summary, Failure>, History) {
        let history = match self.run() {
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

    /// Runs bare members, without driver and runtime, on the core engine, which knows every fault and is a hundred times
    /// as fast; and checks what they did against the [invariants], and what came of it once there was
    /// [calm](Scenario::calm).
    ///
    /// # Errors
    /// If an invariant is violated, something that has to be reached after the trouble is not, a node panics, or the
    /// scenario is impossible. The error prints all that is needed to look into it.
    pub fn run_core(&self) -> Result<Summary, Failure> {
        self.check_core().map_err(|why| self.fail(Reason::Impossible(why), History::default()))?;
        let (summary, result, _) = self.run_kept(Keeps::Nothing);
        let Err(violation) = result else { return Ok(summary) };
        // The same again, and now every line is wanted.
        let (_, _, history) = self.run_kept(Keeps::All);
        Err(self.fail(Reason::Violation(violation), history))
    }

    /// As [`Scenario::run_core`] without a look at the invariants: for measuring what members cost.
    ///
    /// # Errors
    /// If a node panics, or the scenario is impossible.
    pub fn run_core_unchecked(&self) -> Result<Summary, Failure> {
        let fail = |reason| self.fail(reason, History::default());
        self.check_core().map_err(|why| fail(Reason::Impossible(why)))?;
        let (summary, result, _) = self.run_with(Checker::blind(), Keeps::Nothing);
        result.map(|()| summary).map_err(|violation| fail(Reason::Violation(violation)))
    }

    /// How the scenario fails on the core engine, if it does.
    pub(crate) fn first_violation(&self) -> Option<Violation> {
        self.check_core().ok()?;
        let (_, result, _) = self.run_kept(Keeps::Nothing);
        result.err()
    }

    /// As [`Scenario::run_core`], with every line of what happened.
    pub fn run_core_traced(&self) -> (Result<Summary, Failure>, History) {
        if let Err(why) = self.check_core() {
            return (Err(self.fail(Reason::Impossible(why), History::default())), History::default());
        }
        let (summary, result, history) = self.run_kept(Keeps::All);
        let result = result.map(|()| summary);
        (result.map_err(|violation| self.fail(Reason::Violation(violation), history.clone())), history)
    }

    fn fail(&self, reason: Reason, history: History) -> Failure {
        Failure::new(self.clone(), reason, history)
    }

    fn run_kept(&self, keeps: Keeps) -> (Summary, Result<(), Violation>, History) {
        let nodes = (1..=self.nodes).filter_map(NodeId::new);
        let listed = self.world.node_list.then(|| nodes.clone().collect());
        let checker = match self.is_damaged() {
            true => Checker::blind(),
            false => Checker::new(
                nodes.clone().collect(),
                self.voters(),
                &self.totem,
                self.world.rate_error,
                self.world.heartbeat,
                listed,
            ),
        };
        self.run_with(checker, keeps)
    }

    fn run_with(&self, checker: Checker, keeps: Keeps) -> (Summary, Result<(), Violation>, History) {
        let nodes = (1..=self.nodes).filter_map(NodeId::new);
        let journal = Journal::new(nodes, checker, keeps).of(self.voters());
        let run = engine::core::run(self, journal);
        (run.summary, run.result, run.journal.into_history())
    }

    /// Whether bytes are changed on the way: nothing is promised then but that nobody panics, as long as nothing is
    /// authenticated.
    pub(crate) fn is_damaged(&self) -> bool {
        self.timeline.iter().any(|(_, fault)| {
            matches!(fault, Fault::Disturb { trouble: Trouble::Flip { .. } | Trouble::Resize(_), .. })
        })
    }

    fn check_core(&self) -> Result<(), String> {
        self.check().and_then(|()| engine::core::can_run(self))
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

/// The timeouts of a simulated cluster, where a token goes a hop in about a millisecond.
fn totem(token: Duration) -> TotemConfig {
    TotemConfig {
        join: Duration::from_millis(30),
        send_join: Duration::from_millis(8),
        merge: Duration::from_millis(60),
        ..TotemConfig::for_token(token).plain()
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, length, seed, load, timeline, calm_at, .. } = self;
        let token = self.totem.token;
        writeln!(f, "{nodes} nodes for {length:?}, token timeout {token:?}, seed {seed}")?;
        if let Some(Load { every, until, longest, safe_percent }) = load {
            writeln!(
                f,
                "each sends every {every:?} until {until:?}, up to {longest} bytes, {safe_percent} % safe"
            )?;
        }
        let (mut this, mut default) = (self.clone(), Self::new(*nodes, *length).token(token));
        for ((name, value), (_, usual)) in this.settings().into_iter().zip(default.settings()) {
            if value != usual {
                writeln!(f, "with {name} {value}")?;
            }
        }
        timeline.iter().try_for_each(|(at, fault)| writeln!(f, "at {at:?} {fault}"))?;
        calm_at.iter().try_for_each(|at| writeln!(f, "calm from {at:?}"))
    }
}

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
