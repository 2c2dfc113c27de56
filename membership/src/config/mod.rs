//! The configuration of a node: `corosync.conf`, read as corosync reads it, and checked once.
//!
//! [`parse`] reads a text, and returns the [`Config`], the origin of every effective value, and
//! warnings for the user. The crate `quorate` reads files. Embedding programs and tests can also
//! build a [`Config`] by hand.

mod check;
pub mod defaults;
mod device;
mod error;
pub mod grammar;
mod host;
mod load;
mod metadata;
mod network;
mod nodes;
mod quorum;
mod reader;
mod remarks;
mod spelling;
mod structure;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub use device::DeviceConfig;
pub use error::{ConfigError, Place, Problem, Rejected};
pub use host::{Host, Interface};
use load::IpVersion;
pub use load::{Loaded, Overrides, parse, parse_document};
pub use metadata::{Metadata, MetadataError};
pub use quorum::{QuorumConfig, QuorumOptions, TieBreaker};
pub use reader::{Setting, Source, Value, Warning};

use crate::wire::ClusterTag;
use crate::{NodeId, Seq};

/// A node's configuration, read from a `corosync.conf` or set by a program.
///
/// Unset fields that follow from other fields are derived when the node starts
/// ([`Config::effective`]). A node list set in code therefore has the same effect as one in a file.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Config {
    /// This node's id.
    pub node: NodeId,
    /// The node's name in status output (`nodelist.node.name`, or the host's name).
    pub name: String,
    /// The cluster's name (`totem.cluster_name`), if any. The multicast group is derived from it,
    /// and in code also the port ([`NetworkConfig`]). The name consists of bytes as they stand in
    /// the file, which need not be UTF-8.
    pub cluster_name: Option<OsString>,
    /// The node list, including this node. If it is empty, peers are learnt from their JOINs.
    pub nodes: Vec<Member>,
    /// The protocol's timeouts and limits.
    pub totem: TotemConfig,
    /// The addresses and ports that datagrams use.
    pub network: NetworkConfig,
    /// The settings that decide how many votes make a quorum.
    pub quorum: QuorumConfig,
    /// The settings of the DC election and of the DC's lease.
    pub dc: DcConfig,
    /// The texts that this node tells the others about itself. A file has none.
    pub metadata: Metadata,
}

/// An entry of the node list (`nodelist.node`).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Member {
    /// The node's id.
    pub id: NodeId,
    /// The node's name, if any.
    pub name: Option<String>,
    /// The node's address (`ring0_addr`). The unspecified address, 0.0.0.0, stands for that of
    /// `host`, which is not known yet.
    pub address: IpAddr,
    /// The host name of the address, if it was not given as an address. While the node is not in
    /// the ring, the transport looks the name up again and again, because a node that is started
    /// elsewhere has another address.
    pub host: Option<String>,
    /// The node's port, if it differs from the interface's. Allows several nodes on one host (our
    /// extension).
    pub port: Option<u16>,
    /// The node's votes (`quorum_votes`), 1 by default.
    pub votes: u32,
}

impl Member {
    /// Creates an entry with one vote and no name.
    pub fn new(id: NodeId, address: IpAddr) -> Self {
        Self { id, name: None, address, host: None, port: None, votes: 1 }
    }

    /// Creates an entry with one vote, whose address the transport looks up while the node runs.
    /// This suits hosts that get another address with each start, such as containers. The entry of
    /// the node itself needs an address.
    pub fn at_host(id: NodeId, host: impl Into<String>) -> Self {
        Self { host: Some(host.into()), ..Self::new(id, IpAddr::V4(Ipv4Addr::UNSPECIFIED)) }
    }

    /// Returns the address, or `None` if it is not known yet.
    pub fn known_address(&self) -> Option<IpAddr> {
        Some(self.address).filter(|address| !address.is_unspecified())
    }

    /// Gives the node a name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Gives the node this number of votes. A node without votes takes part in everything else.
    #[must_use]
    pub fn with_votes(self, votes: u32) -> Self {
        Self { votes, ..self }
    }
}

/// Totem's timeouts and limits. The fields are named after the keys of section `totem` in
/// corosync.conf.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TotemConfig {
    /// Time without a token after which the token is lost, for a list of up to two nodes.
    pub token: Duration,
    /// The time that every listed node beyond the second adds to `token` when the node starts. It
    /// is 650 ms in [`TotemConfig::default`]. It is zero in [`TotemConfig::for_token`] and in
    /// configurations read from a file, where `token` is the effective value.
    pub token_coefficient: Duration,
    /// Time after which an unanswered token is sent again. At most the time that a DC's lease
    /// allows.
    pub token_retransmit: Duration,
    /// Time for which the token of an idle ring is held. If all members are Quorate nodes, the last
    /// sender holds it, otherwise the representative. At most the time that a DC's lease allows.
    pub hold: Duration,
    /// Interval at which a JOIN is repeated.
    pub join: Duration,
    /// Upper bound of the random delay before each JOIN.
    pub send_join: Duration,
    /// Time without consensus after which the silent nodes are declared failed.
    pub consensus: Duration,
    /// Time after an idle token until the representative probes for other rings.
    pub merge: Duration,
    /// Rotations without progress after which a member has failed to receive.
    pub fail_recv_const: u32,
    /// Idle rotations after which the token is held. If all members are Quorate nodes, three
    /// rotations suffice in which no member lacked a frame.
    pub seqno_unchanged_const: u32,
    /// The most frames that all members together may send in a rotation.
    pub window_size: u32,
    /// The most frames that a member may send at a visit of the token.
    pub max_messages: u32,
    /// Largest window this node accepts, in frames per rotation (`quorate.window_size`; ours, not
    /// corosync's). Once every member has announced its own, by a message in the ring's order, the
    /// ring uses the minimum in place of `window_size`, and scales `max_messages` by the same
    /// factor. corosync daemons announce none. With 0, or a value up to `window_size`, the
    /// configured window always applies.
    pub largest_window: u32,
    /// Visits during which a frame must be missing before it is requested.
    pub miss_count_const: u32,
    /// The size of a network packet (`netmtu`). A frame's payload size is derived from it as in
    /// corosync. The default, 1500, becomes 1480 over IPv6, whose header is longer.
    pub netmtu: u32,
    /// Whether a held token is passed on at once if a frame has to be retransmitted.
    pub cancel_token_hold_on_retransmit: bool,
    /// Whether this node trusts a host's report that a member's process is gone, and gives up
    /// silent nodes without waiting for all of `consensus` (`quorate.failure_evidence`; ours, not
    /// corosync's).
    pub failure_evidence: bool,
    /// Time after an overdue token until both neighbours in the ring are probed, and the interval
    /// of further probes (`quorate.probe`). A probe makes the neighbour's host report a process
    /// that is gone, and shows the neighbour that this node is alive. The report is trusted once it
    /// has been repeated for two and a half intervals without a sign of life from the member. Zero
    /// disables probes.
    pub probe: Duration,
    /// Bytes of events that the application may leave unread (`quorate.unread_limit`; ours, not
    /// corosync's). If more are unread for a whole token timeout, this node leaves the ring. From
    /// half of the limit, the ring is slowed down to one frame per rotation.
    pub unread_limit: usize,
    /// The sequence number before the first frame of each ring. It is 0, as with corosync, except
    /// in tests of the wrap.
    pub first_seq: Seq,
}

impl Default for TotemConfig {
    /// Returns corosync 3.1's defaults, for a node list of any length.
    fn default() -> Self {
        Self {
            token_coefficient: Duration::from_millis(defaults::TOKEN_COEFFICIENT),
            ..Self::for_token(Duration::from_millis(defaults::TOKEN))
        }
    }
}

impl TotemConfig {
    /// Returns this configuration without our extensions of Totem. Members are then lost by
    /// timeouts alone, and windows stay as configured.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { failure_evidence: false, probe: Duration::ZERO, largest_window: 0, ..self }
    }

    /// Returns this configuration, with the window limited to the frames that fit into the
    /// transport's receive buffer, if it has one.
    #[must_use]
    pub fn fitting(self, receive_buffer: Option<usize>) -> Self {
        // The system adds its own data to each datagram, about 800 bytes. Half of the buffer must
        // hold a rotation's frames, because they may arrive while those of the previous rotation
        // still wait.
        let frame = self.netmtu as usize + 800;
        let fits = receive_buffer.and_then(|bytes| u32::try_from(bytes / frame / 2).ok());
        Self { largest_window: self.largest_window.min(fits.unwrap_or(u32::MAX)), ..self }
    }

    /// Returns the effective timeouts for a node list of this length. Applies the coefficient to
    /// `token`, and derives again every value that was derived from `token`. Values that differ
    /// from the derived ones are kept.
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

    /// Returns the defaults for this effective token timeout. Other timeouts are derived as in
    /// corosync (4 retransmits before loss, hold, consensus), except that hold and retransmission
    /// are short enough for the default lease.
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

/// The addresses and ports that datagrams use.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// The transport.
    pub transport: TransportKind,
    /// The node's own address (`bindnetaddr`). By default the address of its entry in the node
    /// list, or 127.0.0.1 without one ([`Config::bind`]).
    pub bind: Option<IpAddr>,
    /// The multicast group (`mcastaddr`). By default it is derived from the cluster's name, as with
    /// corosync ([`Config::group`]).
    pub group: Option<IpAddr>,
    /// The port of the group and of tokens (`mcastport`). The port below it is the source of all
    /// sends. By default it is derived from the cluster's name ([`Config::port`]). A file always
    /// sets it, to 5405 by default.
    pub port: Option<u16>,
    /// The time to live of multicasts.
    pub ttl: u8,
}

/// The transports (`totem.transport`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TransportKind {
    /// `udp`: IP multicast between hosts.
    Multicast,
    /// `udpu`: unicast to each node of the node list, for networks without multicast, as in clouds.
    /// A frame is sent once per node.
    Unicast,
    /// `local`: several nodes on one host. Ours, not corosync's.
    Local,
}

/// Settings of the DC election and of the DC's lease: the node list's `dc_priority` and section
/// `quorate`. Ours, not corosync's.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DcConfig {
    /// The operator's preference for this node as DC (`dc_priority`). The highest wins, and 0
    /// excludes the node.
    pub priority: u32,
    /// Whether a DC hands over to a member of higher priority (`preempt`).
    pub preempt: bool,
    /// Time for which a starting cluster waits for all expected votes before the nodes present
    /// elect a DC (`dc_deadtime`).
    pub deadtime: Duration,
    /// The most by which any node's clock may run faster or slower than real time, in millionths
    /// (`rate_error`).
    pub rate_error: u32,
    /// Time for which a DC may act after a token that all members had (`lease`). It is the same on
    /// all nodes. By default it is derived from the timeouts ([`DcConfig::lease`]).
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
    /// Returns the effective lease in a ring with these timeouts. The default is 300 ms, or the
    /// token timeout less the rate error if that is shorter. It is at least five hold times. It is
    /// also at least the time that resending a lost token takes (two hold times and a
    /// retransmission), whatever the clock's error.
    pub fn lease(&self, totem: &TotemConfig) -> Duration {
        let error = u128::from(self.rate_error);
        self.lease.unwrap_or_else(|| {
            let for_token = totem.token.as_micros().saturating_mul(MILLION) / (MILLION + error);
            let holds = totem.hold.saturating_mul(defaults::LEASE_OF_HOLDS);
            let again = (2 * totem.hold + totem.token_retransmit).as_micros().saturating_mul(MILLION);
            let for_renewal = again.div_ceil(MILLION.saturating_sub(error).max(1)).max(holds.as_micros());
            let wished = for_token.min(Duration::from_millis(defaults::LEASE).as_micros());
            Duration::from_micros(u64::try_from(wished.max(for_renewal)).unwrap_or(u64::MAX))
        })
    }
}

impl Config {
    /// Returns the tag that distinguishes this cluster from others on the same group and port.
    /// Returns `None` without a `cluster_name`.
    pub fn cluster_tag(&self) -> Option<ClusterTag> {
        self.cluster_name.as_ref().map(|name| ClusterTag::of(name.as_encoded_bytes()))
    }

    /// Creates the configuration of a node with this id, without a node list and with defaults. For
    /// embedding and for tests.
    ///
    /// Set a [`cluster_name`](Self::cluster_name). All programs on a network that leave it out
    /// share group 239.192.0.1 and port 5405, so two such services form one ring.
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
            metadata: Metadata::default(),
        }
    }

    /// Creates the configuration of one of a cluster's nodes: its id, and all nodes with their ids
    /// and addresses. All nodes get the same name and the same list. Each node has one vote. Other
    /// settings have their defaults and can be changed in the result.
    ///
    /// If all addresses are loopback addresses of IPv4, the nodes are on this host
    /// ([`TransportKind::Local`]). Otherwise they use IP multicast, unless the result's
    /// [`transport`](NetworkConfig::transport) is changed.
    ///
    /// ```
    /// # use quorate_membership::Config;
    /// let nodes = [(1, "10.0.0.1"), (2, "10.0.0.2"), (3, "10.0.0.3")];
    /// let config = Config::of_cluster("shop", 2, nodes)?;
    /// assert_eq!(config.bind().to_string(), "10.0.0.2");
    /// # Ok::<(), quorate_membership::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// If an id is 0, if an address cannot be parsed, or if the node is not in the list.
    pub fn of_cluster<A: AsRef<str>>(
        name: &str,
        node: u32,
        nodes: impl IntoIterator<Item = (u32, A)>,
    ) -> Result<Self, ConfigError> {
        let broken = |key, value: &dyn fmt::Display, rule: &str| Problem::Broken {
            key,
            value: value.to_string(),
            rule: rule.to_owned(),
            other: None,
        };
        let id = |id| NodeId::new(id).ok_or_else(|| broken("a node's id", &id, "not be 0"));
        let mut config = Self::new(id(node)?);
        config.cluster_name = Some(name.into());
        for (node, address) in nodes {
            let address = address.as_ref();
            let rule = "be an address, such as 10.0.0.1";
            let parsed = address.parse().map_err(|_| broken("a node's address", &address, rule))?;
            config.nodes.push(Member::new(id(node)?, parsed));
        }
        if config.nodes.iter().any(|member| !member.address.is_loopback() || member.address.is_ipv6()) {
            config.network.transport = TransportKind::Multicast;
        }
        config.check()?;
        Ok(config)
    }

    /// Returns the effective multicast group. It is the configured one, else the one that corosync
    /// derives from the cluster's name, else 239.192.0.1 or ff15::.
    pub fn group(&self) -> IpAddr {
        let name = self.cluster_name.as_ref().map(|name| name.as_encoded_bytes());
        self.network.group.unwrap_or_else(|| match (self.bind(), name) {
            (IpAddr::V4(_), Some(name)) => defaults::group(name).into(),
            (IpAddr::V4(_), None) => defaults::GROUP.into(),
            (IpAddr::V6(_), name) => defaults::group_v6(name.unwrap_or_default()).into(),
        })
    }

    /// Returns the effective port. It is the configured one, else one from 10001 to 31999 that is
    /// derived from the cluster's name, else 5405.
    pub fn port(&self) -> u16 {
        let named = || self.cluster_name.as_ref().map(|name| defaults::port(name.as_encoded_bytes()));
        self.network.port.unwrap_or_else(|| named().unwrap_or(defaults::PORT))
    }

    /// Returns the node's effective address. It is the configured one, else that of its entry in
    /// the node list, else 127.0.0.1.
    pub fn bind(&self) -> IpAddr {
        let listed = || self.listed().map(|member| member.address);
        self.network.bind.or_else(listed).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Returns the node's effective votes. They are the configured ones, else those of its entry in
    /// the node list, else 1.
    pub fn votes(&self) -> u32 {
        self.quorum.votes.or_else(|| self.listed().map(|member| member.votes)).unwrap_or(1)
    }

    /// Returns this node's entry in the node list.
    fn listed(&self) -> Option<&Member> {
        self.nodes.iter().find(|member| member.id == self.node)
    }

    /// Returns the configuration that a node runs with: checked, and with the effective timeouts
    /// for its node list.
    ///
    /// # Errors
    /// As [`Config::check`].
    pub fn effective(&self) -> Result<Self, ConfigError> {
        let mut totem = self.totem.clone().for_list(self.nodes.len());
        if self.bind().is_ipv6() && totem.netmtu == defaults::NETMTU {
            totem.netmtu = defaults::NETMTU_V6;
        }
        let effective = Self { totem, ..self.clone() };
        effective.check()?;
        Ok(effective)
    }
}
