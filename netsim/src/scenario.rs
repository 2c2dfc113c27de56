//! Scenarios: clusters, their load, and what goes wrong in a run.

use std::fmt;
use std::time::Duration;

use quorate::{Dc, Events, Node};
use quorate_membership::config::{DcConfig, TotemConfig};
use quorate_membership::{Config, NodeId, Seq, Totem};
use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::electorate::{Electorate, Priorities};
use crate::fault::Trouble;

/// A cluster, its load, and its faults, with times counted from the start. A scenario and its seed
/// determine a run completely.
///
/// The nodes are numbered from 1, have one vote each unless the scenario says otherwise, and start
/// together.
///
/// # As text
/// A scenario prints as lines and is parsed from them, and it is stored in this form too. The text
/// contains everything that a run needs, so a failure that was found by chance becomes a file, and
/// the file a test.
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
    /// The protocol's options. They follow from the token timeout, except for those that were
    /// changed.
    pub(crate) totem: TotemConfig,
    pub(crate) world: World,
    /// The nodes' votes, and the rules by which they count.
    pub(crate) electorate: Electorate,
    pub(crate) load: Option<Load>,
    pub(crate) timeline: Vec<(Duration, Fault)>,
    pub(crate) calm_at: Option<Duration>,
}

/// The environment of the nodes. The turmoil engine has only whole milliseconds, and loses
/// datagrams only in faults.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct World {
    /// The time that a datagram takes.
    pub(crate) latency: Duration,
    /// Datagrams per million that are lost on each way, on top of all faults and even without one.
    pub(crate) loss: u32,
    /// The time that a disk takes for a write.
    pub(crate) disk: Duration,
    /// The most datagrams that can wait at a node.
    pub(crate) receive_buffer: u32,
    /// Whether the nodes have a node list. Without one, they learn of each other.
    pub(crate) node_list: bool,
    /// Whether a datagram for everyone is sent to each node instead of a multicast group.
    pub(crate) unicast: bool,
    /// Whether the nodes start for the first time and have agreed on nothing yet. Otherwise they
    /// are an old cluster.
    pub(crate) fresh: bool,
    /// The ring sequence number that all nodes' records begin with.
    pub(crate) ring_seq: u64,
    /// The length of a DC's lease. Zero derives it from the token timeout.
    pub(crate) lease: Duration,
    /// The assumed error of clocks, in millionths.
    pub(crate) rate_error: u32,
    /// The time that a starting cluster waits for missing nodes.
    pub(crate) dc_deadtime: Duration,
    /// The interval at which applications that act as DC have to show that they are alive. Zero
    /// turns the check off.
    pub(crate) heartbeat: Duration,
    /// Whether a DC hands over to a member of higher priority.
    pub(crate) preempt: bool,
    /// The nodes that the operator prefers as DC.
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
            unicast: false,
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
    /// Copies the value of the same setting of another scenario.
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
            // The settings differ in kind.
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

/// The messages that every node sends, in addition to those of its service. A node that starts late
/// or again joins in.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Load {
    /// The average pause between two messages of a node. A message that the ring has no room for
    /// waits.
    pub every: Duration,
    /// The time at which the load ends.
    pub until: Duration,
    /// The length of the longest message, in bytes. A network packet holds about 1400, and longer
    /// messages are fragmented.
    pub longest: usize,
    /// The percentage of messages that are sent as safe.
    pub safe_percent: u32,
}

/// A simulated host, passed to a service under test when its node starts. The node and its events
/// are those of production: [`quorate::run`].
#[derive(Debug)]
pub struct Host {
    /// The id of the node.
    pub id: NodeId,
    /// The node.
    pub node: Node,
    /// The events of the node.
    pub events: Events,
    /// Whether the node may act as DC, and the latest status for services that need only that.
    pub dc: Dc,
}

impl Scenario {
    /// The longest payload in a simulated ring, in bytes. Each payload also carries the checker's
    /// mark.
    pub const MAX_PAYLOAD: usize = Totem::MAX_PAYLOAD - crate::history::MessageId::MARK;
    /// The most nodes, which is the most members that a ring can have. For complete nodes the limit
    /// is 64 ([`Scenario::run`]).
    pub const MAX_NODES: u32 = Config::MAX_NODES as u32;

    /// Returns a cluster of `nodes` nodes that runs for `length` without faults, with seed 0.
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

    /// Sets the seed of everything that is random: which node runs first in each millisecond, the
    /// delays of JOINs, and when the load sends which messages.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the token timeout (corosync.conf: `token`), by default 200 ms. A token moves one hop in
    /// a millisecond.
    #[must_use]
    pub fn token(mut self, token: Duration) -> Self {
        self.totem = totem(token);
        self
    }

    /// Sets all options of the protocol, as production does with `totem`. By default, the
    /// extensions beyond Totem are off ([`TotemConfig::plain`]).
    #[must_use]
    pub fn protocol(mut self, totem: TotemConfig) -> Self {
        self.totem = totem;
        self
    }

    /// Sets the time that a datagram takes, by default 1 ms.
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

    /// Sets the votes of the nodes, and the rules by which they count. By default, each node has
    /// one vote, and a majority is quorate.
    #[must_use]
    pub fn electorate(mut self, electorate: Electorate) -> Self {
        self.electorate = electorate;
        self
    }

    /// Makes applications that act as DC send heartbeats. A DC whose application sends none for
    /// `every` loses the role. By default, this is not checked. On the turmoil engine, a task next
    /// to the service sends the heartbeats for it.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.world.heartbeat = every;
        self
    }

    /// Sets the preference of the operator for a node as DC (`dc_priority`), by default 1. A node
    /// with 0 is never the DC.
    #[must_use]
    pub fn dc_priority(mut self, node: u32, priority: u32) -> Self {
        self.world.priorities.0.insert(node, priority);
        self
    }

    /// Makes a DC hand over to a member of higher priority that joins. By default, the DC stays.
    #[must_use]
    pub fn preempt(mut self) -> Self {
        self.world.preempt = true;
        self
    }

    /// Makes nodes accept reports from hosts that a process is gone, and probe each other at this
    /// interval while no token circulates. Zero turns probes off. By default, only timeouts detect
    /// lost members. For bare members.
    #[must_use]
    pub fn by_evidence(mut self, probe: Duration) -> Self {
        self.totem.failure_evidence = true;
        self.totem.probe = probe;
        self
    }

    /// Schedules a fault, or its end, for this time.
    #[must_use]
    pub fn at(mut self, at: Duration, fault: Fault) -> Self {
        self.timeline.push((at, fault));
        self
    }

    /// Ends all trouble at this time: the network heals, paused nodes continue, and later faults of
    /// the timeline do not happen.
    ///
    /// The nodes that are up then have to form one ring, deliver everything and name their DC, each
    /// within a bound that follows from the timeouts. [`Scenario::run_core`] and
    /// [`Scenario::run_nodes`] check that. Afterwards they have to be quiet, and to form a ring
    /// without one of them as soon as it leaves. Only the core engine checks that.
    #[must_use]
    pub fn calm(mut self, from: Duration) -> Self {
        self.calm_at = Some(from);
        self
    }

    /// Returns the number of nodes.
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// Returns the number of faults in the timeline.
    pub fn faults(&self) -> usize {
        self.timeline.len()
    }

    /// Returns every setting that has a default, with its name in the text.
    pub(crate) fn settings(&mut self) -> [(&'static str, Setting<'_>); 33] {
        let World {
            latency,
            loss,
            disk,
            receive_buffer,
            node_list,
            unicast,
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
            ..
        } = &mut self.totem;
        [
            ("latency", Setting::Time(latency)),
            ("loss", Setting::Count(loss)),
            ("disk", Setting::Time(disk)),
            ("receive_buffer", Setting::Count(receive_buffer)),
            ("node_list", Setting::Flag(node_list)),
            ("unicast", Setting::Flag(unicast)),
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

    /// Returns the votes and quorum options, in the form that a history needs.
    pub(crate) fn voters(&self) -> Electorate {
        let refiled = self.timeline.iter().any(|(_, fault)| matches!(fault, Fault::File { .. }));
        let preferred =
            if self.world.preempt { self.world.priorities.clone() } else { Priorities::default() };
        Electorate { unlisted: !self.world.node_list, refiled, preferred, ..self.electorate.clone() }
    }

    /// Returns the scenario with only these nodes and what happens to them. The nodes are
    /// renumbered.
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

    /// Returns the most time after the last fault until all nodes that can reach each other are one
    /// ring with a DC.
    ///
    /// Forming the ring takes `T + 3 * (merge + consensus + token + 7 rotations)`. Three rotations
    /// follow in which members announce their options, and then the wait until the DC may act: the
    /// longest lease of another node, and the proof of its own.
    pub fn settles_within(&self) -> Duration {
        let TotemConfig { token, consensus, merge, join, send_join, .. } = self.totem;
        let rotation = self.nodes * self.world.latency;
        let form = merge + consensus + token + join + send_join + 7 * rotation;
        token + 3 * form + 3 * rotation + self.lease_wait() + 4 * rotation + 3 * self.totem.hold
    }

    /// Returns the options of the election: which node becomes DC, and how long it may act.
    pub(crate) fn dc(&self) -> DcConfig {
        let World { lease, rate_error, dc_deadtime, preempt, .. } = self.world;
        let lease = (!lease.is_zero()).then_some(lease);
        let mut dc = DcConfig::default();
        (dc.lease, dc.rate_error, dc.deadtime, dc.preempt) = (lease, rate_error, dc_deadtime, preempt);
        dc
    }

    /// Returns the options of the election for one node.
    pub(crate) fn dc_of(&self, node: NodeId) -> DcConfig {
        let mut dc = self.dc();
        dc.priority = self.world.priorities.of(node);
        dc
    }

    /// Returns the time that a DC waits for the leases of others: `L(1+rho)`.
    pub(crate) fn lease_wait(&self) -> Duration {
        let dc = self.dc();
        dc.lease(&self.totem) * (1_000_000 + dc.rate_error) / 1_000_000 + Duration::from_micros(1)
    }

    /// Returns the options of the protocol in this scenario.
    pub fn totem(&self) -> TotemConfig {
        self.totem.clone()
    }

    /// Returns `true` if bytes are changed on the way. While nothing is authenticated, the only
    /// promise in that case is that no node panics.
    pub fn is_damaged(&self) -> bool {
        self.timeline.iter().any(|(_, fault)| {
            matches!(fault, Fault::Disturb { trouble: Trouble::Flip { .. } | Trouble::Resize(_), .. })
        })
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=Self::MAX_NODES).contains(&self.nodes) {
            return Err(format!("{} nodes: at least 1 and at most {}", self.nodes, Self::MAX_NODES));
        }
        if let Some(load) = &self.load
            && load.longest > Self::MAX_PAYLOAD
        {
            return Err(format!("a load of {} bytes: at most {}", load.longest, Self::MAX_PAYLOAD));
        }
        self.timeline.iter().try_for_each(|(_, fault)| fault.check())?;
        let named = self.timeline.iter().flat_map(|(_, fault)| fault.nodes());
        match named.into_iter().find(|node| !(1..=self.nodes).contains(node)) {
            Some(node) => Err(format!("a fault of node {node}: nodes are numbered from 1 to {}", self.nodes)),
            None => Ok(()),
        }
    }
}

/// Returns the options of a simulated cluster, in which a token moves one hop in about a
/// millisecond.
fn totem(token: Duration) -> TotemConfig {
    let mut totem = TotemConfig::for_token(token).plain();
    totem.join = Duration::from_millis(30);
    totem.send_join = Duration::from_millis(8);
    totem.merge = Duration::from_millis(60);
    totem
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
    use quorate_membership::Guarantee;

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
    fn a_stored_scenario_is_read_back() {
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
        let load = Load { every: ms(1), until: ms(1), longest: 16 << 20, safe_percent: 0 };
        assert!(why(scenario().load(load)).contains("a load of 16777216 bytes: at most 16777200"));
        let send = |count, length| Fault::Send { node: 1, count, length, guarantee: Guarantee::Safe };
        assert!(why(scenario().at(ms(1), send(1, 16 << 20))).contains("at most 16777200 bytes"));
        assert!(why(scenario().at(ms(1), send(100_001, 1))).contains("at most 100000 at once"));
        let timeout = why(scenario().token(ms(5)));
        assert!(timeout.contains("token"), "{timeout}");
    }
}
