//! What a node is told before it starts: corosync.conf, read as corosync reads it, and checked once.
//!
//! [`load`] reads a file, [`parse`] a text; both give the [`Config`], every effective value with where it comes from,
//! and what the user should be warned about. A [`Config`] can as well be made by hand, for embedding and for tests.

mod check;
pub mod defaults;
mod error;
pub mod grammar;
mod host;
mod load;
mod network;
mod nodes;
mod quorum;
mod reader;
mod remarks;
mod spelling;
mod structure;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub use error::{ConfigError, Place, Problem, Rejected};
pub use host::{Host, Interface};
pub use load::{Loaded, Overrides, parse, parse_document};
#[cfg(feature = "tokio")]
pub use load::{load, read};
pub use quorum::{QuorumConfig, QuorumOptions, TieBreaker};
pub use reader::{Setting, Source, Value, Warning};

use crate::wire::ClusterTag;
use crate::{NodeId, Seq};

/// A node's configuration: what a `corosync.conf` says, or what a program sets.
///
/// Fields that follow from others when they are not set are derived when the node starts ([`Config::effective`]), so a node
/// list in code counts as one in a file does.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// This node's id.
    pub node: NodeId,
    /// This node's name as status shows it (`nodelist.node.name`, or the host's).
    pub name: String,
    /// The cluster's name (`totem.cluster_name`), if it has one. The multicast group follows from it, and in code the port,
    /// too ([`NetworkConfig`]). Its bytes count as they stand in the file, also where they are not UTF-8.
    pub cluster_name: Option<OsString>,
    /// The node list, this node included. Empty: peers are learnt from their JOINs.
    pub nodes: Vec<Member>,
    /// The protocol's timeouts and limits.
    pub totem: TotemConfig,
    /// Where its datagrams go.
    pub network: NetworkConfig,
    /// Who decides how many votes are enough.
    pub quorum: QuorumConfig,
    /// Who is to be DC, and how long it may act.
    pub dc: DcConfig,
}

/// An entry of the node list (`nodelist.node`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Its address (`ring0_addr`).
    pub address: IpAddr,
    /// The host name that led to the address, if it was not given as an address: [`Udp`](crate::transport::Udp) resolves
    /// it again when the node is heard from elsewhere.
    pub host: Option<String>,
    /// Its port, if it differs from the interface's: several nodes on one host (ours, not corosync's).
    pub port: Option<u16>,
    /// Its votes (`quorum_votes`), 1 by default.
    pub votes: u32,
}

/// Totem's timeouts and limits; the fields are named for corosync.conf's keys in section `totem`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TotemConfig {
    /// How long without a token until it counts as lost, for a list of up to two nodes.
    pub token: Duration,
    /// The time that every listed node beyond the second adds to `token` when the node starts. It is 650 ms in
    /// [`TotemConfig::default`]. It is zero in [`TotemConfig::for_token`] and in what is read from a file, where `token` is the
    /// effective value.
    pub token_coefficient: Duration,
    /// How long until a token that brought no answer is sent again: no longer than a DC's lease allows.
    pub token_retransmit: Duration,
    /// How long the token of an idle ring is held: by who sent last where all members are Quorate nodes, else by the
    /// representative. No longer than a DC's lease allows.
    pub hold: Duration,
    /// How often a JOIN is repeated.
    pub join: Duration,
    /// Upper bound of a random delay before each JOIN.
    pub send_join: Duration,
    /// How long consensus may take until the silent ones count as failed.
    pub consensus: Duration,
    /// How long after a token without news the representative probes for other rings.
    pub merge: Duration,
    /// Rotations without progress at one member until it counts as failed to receive.
    pub fail_recv_const: u32,
    /// Rotations without news until the token is held. Where all members are Quorate nodes, three are enough in which nobody
    /// lacked anything.
    pub seqno_unchanged_const: u32,
    /// Frames that all members together may send in a rotation.
    pub window_size: u32,
    /// Frames that a member may send at a visit of the token.
    pub max_messages: u32,
    /// Frames that this node can take in a rotation. Where every member has said so much, in the ring and in its order, the
    /// least of it counts instead of `window_size`, and as large a part of it as before instead of `max_messages`; real
    /// corosync daemons say nothing of the kind. 0, or no more than `window_size`: what is above counts always
    /// (`quorate.window_size`; ours, not corosync's).
    pub largest_window: u32,
    /// Visits for which a frame must be missing before it is asked for.
    pub miss_count_const: u32,
    /// The size of a network packet (`netmtu`), from which a frame's payload is derived as corosync does.
    pub netmtu: u32,
    /// Whether a held token goes on at once if something is to be retransmitted.
    pub cancel_token_hold_on_retransmit: bool,
    /// Whether this node believes a host that says that a member's process is gone, and gives up silent nodes without waiting
    /// for the whole of `consensus` (`quorate.failure_evidence`; ours, not corosync's).
    pub failure_evidence: bool,
    /// How long after a token was due both neighbours in the ring are probed, so that their hosts can say that they are gone and
    /// this one shows itself to them, and how often from then on; zero: never (`quorate.probe`). A host is believed that a
    /// process is gone once it has said so for two and a half of these and the member has said nothing.
    pub probe: Duration,
    /// Bytes of events that the application may leave unread: with more for a whole token timeout this node leaves the ring.
    /// From half of it on the ring is slowed down to a frame a rotation (`quorate.unread_limit`; ours, not corosync's).
    pub unread_limit: usize,
    /// The number before the first frame of each ring: 0, as with corosync, but for tests of the wrap.
    pub first_seq: Seq,
}

impl Default for TotemConfig {
    /// corosync 3.1's defaults, for a node list of any length.
    fn default() -> Self {
        Self {
            token_coefficient: Duration::from_millis(defaults::TOKEN_COEFFICIENT),
            ..Self::for_token(Duration::from_millis(defaults::TOKEN))
        }
    }
}

impl TotemConfig {
    /// The same without what this protocol has beyond Totem: members are lost by timeouts alone, and windows stay as they are.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { failure_evidence: false, probe: Duration::ZERO, largest_window: 0, ..self }
    }

    /// The same for a node whose transport has so much room for what it has not received yet
    /// ([`Transport::receive_buffer`](crate::transport::Transport::receive_buffer)).
    #[must_use]
    pub fn fitting(self, receive_buffer: Option<usize>) -> Self {
        // The system counts its own data on a datagram, about so much, and a rotation's frames may come while those of the one
        // before wait.
        let frame = self.netmtu as usize + 800;
        let fits = receive_buffer.and_then(|bytes| u32::try_from(bytes / frame / 2).ok());
        Self { largest_window: self.largest_window.min(fits.unwrap_or(u32::MAX)), ..self }
    }

    /// The timeouts that count with a node list of this length: `token` with its coefficient, and what was derived from `token`
    /// derived again. Values that differ from the derived ones stay as they are.
    #[must_use]
    pub fn for_list(self, listed_nodes: usize) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let coefficient = millis(self.token_coefficient);
        let token = defaults::effective_token(millis(self.token), coefficient, listed_nodes);
        let grown = Self { token_coefficient: Duration::ZERO, ..self };
        if token == millis(grown.token) {
            return grown;
        }
        let (before, after) = (Self::for_token(grown.token), Self::for_token(Duration::from_millis(token)));
        let follow = |value, before, after| if value == before { after } else { value };
        Self {
            token: after.token,
            token_retransmit: follow(grown.token_retransmit, before.token_retransmit, after.token_retransmit),
            hold: follow(grown.hold, before.hold, after.hold),
            consensus: follow(grown.consensus, before.consensus, after.consensus),
            ..grown
        }
    }

    /// The defaults for this effective token timeout, with what corosync derives from it (4 retransmits before loss,
    /// hold, consensus), and a hold and a retransmission that suit the default lease.
    pub fn for_token(token: Duration) -> Self {
        let ms = Duration::from_millis;
        let token_ms = u64::try_from(token.as_millis()).unwrap_or(u64::MAX);
        let slowest = defaults::token_retransmit(token_ms, defaults::TOKEN_RETRANSMITS_BEFORE_LOSS);
        let hold = defaults::hold_for(defaults::LEASE, slowest);
        Self {
            token,
            token_coefficient: Duration::ZERO,
            token_retransmit: ms(defaults::retransmit_after(hold, slowest)),
            hold: ms(hold),
            join: ms(defaults::JOIN),
            send_join: Duration::ZERO,
            consensus: ms(defaults::consensus(token_ms)),
            merge: ms(defaults::MERGE),
            fail_recv_const: defaults::FAIL_RECV,
            seqno_unchanged_const: defaults::SEQNO_UNCHANGED,
            window_size: defaults::WINDOW_SIZE,
            max_messages: defaults::MAX_MESSAGES,
            largest_window: defaults::LARGEST_WINDOW,
            miss_count_const: defaults::MISS_COUNT,
            netmtu: defaults::NETMTU,
            cancel_token_hold_on_retransmit: false,
            failure_evidence: true,
            probe: ms(defaults::PROBE),
            unread_limit: defaults::UNREAD_LIMIT as usize,
            first_seq: Seq::new(0),
        }
    }
}

/// Where datagrams go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkConfig {
    /// How.
    pub transport: TransportKind,
    /// The node's own address (`bindnetaddr`). `None`: the one of its entry in the node list, else 127.0.0.1
    /// ([`Config::bind`]).
    pub bind: Option<IpAddr>,
    /// The multicast group (`mcastaddr`). `None`: it follows from the cluster's name, as with corosync ([`Config::group`]).
    pub group: Option<IpAddr>,
    /// The port of the group and of tokens (`mcastport`); the port below it is the source of all sends. `None`: it follows from
    /// the cluster's name ([`Config::port`]). A file always gives one, 5405 by default.
    pub port: Option<u16>,
    /// Time to live of multicasts.
    pub ttl: u8,
}

/// The transports (`totem.transport`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportKind {
    /// `udp`: IP multicast between hosts.
    Multicast,
    /// `local`: several nodes on one host, ours only.
    Local,
}

/// Who is to be DC and how long it may act: the node list's `dc_priority` and section `quorate`, which are ours, not
/// corosync's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DcConfig {
    /// How much the operator wants this node to be DC (`dc_priority`); the higher wins, 0: never.
    pub priority: u32,
    /// Whether a DC hands over to a member of higher priority (`preempt`).
    pub preempt: bool,
    /// How long a cluster that starts waits for all expected votes until those present elect (`dc_deadtime`).
    pub deadtime: Duration,
    /// How much faster or slower than real time any node's clock may run, in millionths (`rate_error`).
    pub rate_error: u32,
    /// How long a DC may act after a token that all members had (`lease`), the same on all nodes. `None`: it follows from
    /// the timeouts ([`DcConfig::lease`]).
    pub lease: Option<Duration>,
}

impl Default for DcConfig {
    fn default() -> Self {
        Self {
            priority: defaults::DC_PRIORITY,
            preempt: false,
            deadtime: Duration::from_millis(defaults::DC_DEADTIME),
            rate_error: defaults::RATE_ERROR,
            lease: None,
        }
    }
}

const MILLION: u128 = 1_000_000;

impl DcConfig {
    /// The lease that counts in a ring with these timeouts. By default it is 300 ms, or the token timeout less the rate error if
    /// that is shorter. It is at least five hold times, and at least what it takes to send a lost token again: two hold times
    /// and a retransmission, whatever the clock's error.
    pub fn lease(&self, totem: &TotemConfig) -> Duration {
        let error = u128::from(self.rate_error);
        self.lease.unwrap_or_else(|| {
            let for_token = totem.token.as_micros().saturating_mul(MILLION) / (MILLION + error);
            let holds = totem.hold.saturating_mul(defaults::HOLDS);
            let again = (2 * totem.hold + totem.token_retransmit).as_micros().saturating_mul(MILLION);
            let for_renewal = again.div_ceil(MILLION.saturating_sub(error).max(1)).max(holds.as_micros());
            let wished = for_token.min(Duration::from_millis(defaults::LEASE).as_micros());
            Duration::from_micros(u64::try_from(wished.max(for_renewal)).unwrap_or(u64::MAX))
        })
    }
}

impl Config {
    /// What tells this cluster from others on the same group and port; `None` without a `cluster_name`.
    pub fn cluster_tag(&self) -> Option<ClusterTag> {
        self.cluster_name.as_ref().map(|name| ClusterTag::of(name.as_encoded_bytes()))
    }

    /// A node with this id, no node list, and defaults: for embedding and for tests.
    ///
    /// Give it a [`cluster_name`](Self::cluster_name). All programs on a network that leave it out share group 239.192.0.1
    /// and port 5405: two such services form one ring.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            name: format!("node{node}"),
            cluster_name: None,
            nodes: Vec::new(),
            totem: TotemConfig::default(),
            network: NetworkConfig {
                transport: TransportKind::Local,
                bind: None,
                group: None,
                port: None,
                ttl: defaults::TTL,
            },
            quorum: QuorumConfig::default(),
            dc: DcConfig::default(),
        }
    }

    /// The multicast group that counts: the given one, else the one that corosync derives from the cluster's name, else
    /// 239.192.0.1.
    pub fn group(&self) -> IpAddr {
        let named = || self.cluster_name.as_ref().map(|name| defaults::group(name.as_encoded_bytes()));
        self.network.group.unwrap_or_else(|| named().unwrap_or(defaults::GROUP).into())
    }

    /// The port that counts: the given one, else one from 10001 to 31999 that follows from the cluster's name, else 5405.
    pub fn port(&self) -> u16 {
        let named = || self.cluster_name.as_ref().map(|name| defaults::port(name.as_encoded_bytes()));
        self.network.port.unwrap_or_else(|| named().unwrap_or(defaults::PORT))
    }

    /// The node's own address that counts: the given one, else the one of its entry in the node list, else 127.0.0.1.
    pub fn bind(&self) -> IpAddr {
        let listed = || self.listed().map(|member| member.address);
        self.network.bind.or_else(listed).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// The node's own votes that count: the given ones, else those of its entry in the node list, else 1.
    pub fn votes(&self) -> u32 {
        self.quorum.votes.or_else(|| self.listed().map(|member| member.votes)).unwrap_or(1)
    }

    /// This node's entry in the node list.
    fn listed(&self) -> Option<&Member> {
        self.nodes.iter().find(|member| member.id == self.node)
    }

    /// The configuration that a node runs with: checked, and with the timeouts that count for its node list.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn effective(&self) -> Result<Self, ConfigError> {
        let effective = Self { totem: self.totem.clone().for_list(self.nodes.len()), ..self.clone() };
        effective.check()?;
        Ok(effective)
    }
}
