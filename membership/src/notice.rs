//! Problems that keep a peer out of the ring, reported for an operator.
//!
//! A rejected datagram is only counted, and a counter tells an operator neither which peer it
//! concerns nor what to do. A [`Notice`] gives peer, cause and remedy. Code that detects such a
//! problem records it in [`Notices`], which logs it at a limited rate and keeps the recent ones for
//! [`Stats::notices`](crate::Stats::notices).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::wire::ClusterTag;
use crate::{NodeId, Refusal, Time};

/// A problem that an operator should know of. Prints as cause and remedy: "node 4 is not in this
/// node's list; give all nodes the same list, ...".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A node on this network is not in this node's list.
    Unlisted {
        /// The id that the sender claims.
        node: NodeId,
    },
    /// A node's id is used at an address other than the known one.
    OtherAddress {
        /// The id.
        node: NodeId,
    },
    /// Another process uses this node's own id.
    OwnIdElsewhere {
        /// The id.
        node: NodeId,
    },
    /// Another cluster uses the same multicast group and port.
    OtherCluster {
        /// The tag that the other cluster announces.
        cluster: ClusterTag,
    },
    /// A listed node has not been heard since this node started.
    NeverHeard {
        /// The node.
        node: NodeId,
    },
    /// This node hears none of the other listed nodes.
    HearsNobody,
    /// This node hears a peer, and the peer's datagrams show that the peer does not hear this node.
    NotHeardBy {
        /// The peer.
        node: NodeId,
    },
    /// A member asks for the same frame again and again.
    LacksFrame {
        /// The member.
        node: NodeId,
        /// The frame's length in bytes.
        length: usize,
    },
    /// This node asks for the same frame again and again.
    FrameMissing,
    /// No interface has this node's address.
    NoAddress {
        /// The address.
        address: IpAddr,
    },
    /// The name of a listed node has no address that the node can have.
    NoAddressOf {
        /// The node.
        node: NodeId,
    },
    /// Datagrams of this node come back with another source address.
    SourceRewritten {
        /// The address from which they were sent.
        address: IpAddr,
    },
    /// The operating system fails to send datagrams.
    Unsent {
        /// The node that the datagrams are for. `None` stands for all nodes.
        node: Option<NodeId>,
        /// The operating system's error number. `None` means that the node's address is not known.
        errno: Option<i32>,
    },
    /// The record cannot be stored, or the disk has not answered for more than a second. This node
    /// joins no new ring until the record is stored.
    Unstored,
    /// A peer asks to form a ring with a node that this node's list does not have.
    NamesUnlisted {
        /// The peer.
        peer: NodeId,
        /// A node that the peer names.
        node: NodeId,
    },
    /// A peer leaves out a node that asks to join, because it does not list the node or does not
    /// hear it.
    LeavesOut {
        /// The peer.
        peer: NodeId,
        /// The node.
        node: NodeId,
    },
    /// A peer states a ring number that no cluster can have reached by itself.
    RingNumber {
        /// The peer.
        peer: NodeId,
    },
    /// This node is alone, and a peer does not follow it because this node's ring number is too far
    /// above the peer's.
    OwnRingNumber {
        /// The peer.
        peer: NodeId,
    },
    /// Datagrams are rejected.
    Rejected {
        /// The node at the source address, if one is known there.
        peer: Option<NodeId>,
        /// The reason.
        reason: Refusal,
    },
}

impl Notice {
    /// Returns the peer that the notice concerns, if it is known.
    pub fn peer(&self) -> Option<NodeId> {
        match self {
            Self::Unlisted { node } | Self::OtherAddress { node } | Self::OwnIdElsewhere { node } => {
                Some(*node)
            }
            Self::NeverHeard { node } | Self::NotHeardBy { node } | Self::LacksFrame { node, .. } => {
                Some(*node)
            }
            Self::NoAddressOf { node } => Some(*node),
            Self::Unsent { node, .. } => *node,
            Self::Unstored => None,
            Self::NamesUnlisted { peer, .. } | Self::LeavesOut { peer, .. } => Some(*peer),
            Self::RingNumber { peer } | Self::OwnRingNumber { peer } => Some(*peer),
            Self::Rejected { peer, .. } => *peer,
            Self::OtherCluster { .. }
            | Self::HearsNobody
            | Self::FrameMissing
            | Self::NoAddress { .. }
            | Self::SourceRewritten { .. } => None,
        }
    }

    /// Returns the kind of the notice. Notices of one kind share a limit on log lines whatever
    /// peers they name, because forged datagrams can name any peer.
    fn kind(&self) -> (u8, Option<Refusal>) {
        match self {
            Self::Unlisted { .. } => (0, None),
            Self::OtherAddress { .. } => (1, None),
            Self::OwnIdElsewhere { .. } => (2, None),
            Self::Unstored => (13, None),
            Self::Rejected { reason, .. } => (3, Some(*reason)),
            Self::OtherCluster { .. } => (4, None),
            Self::NeverHeard { .. } => (5, None),
            Self::HearsNobody => (6, None),
            Self::NotHeardBy { .. } => (7, None),
            Self::LacksFrame { .. } => (8, None),
            Self::FrameMissing => (9, None),
            Self::NoAddress { .. } => (10, None),
            Self::SourceRewritten { .. } => (11, None),
            Self::Unsent { .. } => (12, None),
            Self::NamesUnlisted { .. } => (14, None),
            Self::LeavesOut { .. } => (15, None),
            Self::RingNumber { .. } => (16, None),
            Self::OwnRingNumber { .. } => (17, None),
            Self::NoAddressOf { .. } => (18, None),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted { node } => write!(
                f,
                "node {node} is not in this node's list; give all nodes the same list, or stop that node"
            ),
            Self::OtherAddress { node } => write!(
                f,
                "the id of node {node} is used at an address other than the known one; correct that node's address, \
                 or give the other process an id of its own"
            ),
            Self::OwnIdElsewhere { node } => {
                write!(f, "another process uses this node's id, {node}; give it an id of its own")
            }
            Self::OtherCluster { .. } => f.write_str(
                "a cluster with another name uses the same group and port and is ignored; give one of the \
                 two another mcastport or mcastaddr, or correct cluster_name if it belongs to this cluster",
            ),
            Self::NeverHeard { node } => write!(
                f,
                "node {node} has not been heard since this node started; start it, or check for a switch \
                 that blocks multicast, and there for a firewall, another cluster_name or another address"
            ),
            Self::HearsNobody => f.write_str(
                "this node hears none of the other listed nodes; start them, or check this host's interface \
                 and firewall, and whether a switch blocks multicast",
            ),
            Self::NotHeardBy { node } => write!(
                f,
                "node {node} does not hear this node, although this node hears it; check that its node list \
                 has this node, and that nothing drops this host's datagrams or rewrites their source: a \
                 firewall, address translation, or a switch that blocks multicast"
            ),
            Self::LacksFrame { node, length } => write!(
                f,
                "node {node} does not receive a frame of {length} bytes that is sent to it repeatedly; if \
                 only long frames get lost, fix the MTU of the path, or lower netmtu on all nodes"
            ),
            Self::FrameMissing => f.write_str(
                "this node does not receive a frame that it requests repeatedly; if only long frames get \
                 lost, fix the MTU of the path, or lower netmtu on all nodes",
            ),
            Self::NoAddress { address } => write!(
                f,
                "no interface has this node's address {address}; bring the interface up, or correct \
                 ring0_addr"
            ),
            Self::NoAddressOf { node } => write!(
                f,
                "the name of node {node} has no address that the node can have; correct the node list, or \
                 check the resolver and the version of IP"
            ),
            Self::SourceRewritten { address } => write!(
                f,
                "this node's datagrams from {address} get another source address on the way, so peers reject \
                 them; exempt the ring's ports from address translation (masquerade, SNAT)"
            ),
            Self::Unsent { node, errno } => {
                f.write_str("datagrams")?;
                if let Some(node) = node {
                    write!(f, " for node {node}")?;
                }
                match errno.map(std::io::Error::from_raw_os_error) {
                    Some(error) => {
                        write!(
                            f,
                            " cannot be sent: {error}; check this host's interface, routes and firewall"
                        )
                    }
                    None => f.write_str(" cannot be sent: its address is unknown until it sends a JOIN"),
                }
            }
            Self::Unstored => f.write_str(
                "this node waits for its disk and joins no new ring until its record is stored; free some \
                 space, or find out why the disk does not respond",
            ),
            Self::NamesUnlisted { peer, node } => write!(
                f,
                "node {peer} names node {node}, which is not in this node's list; give all nodes the same list"
            ),
            Self::LeavesOut { peer, node } => write!(
                f,
                "node {peer} leaves node {node} out of the ring; give all nodes the same list, and check \
                 that these two can reach each other"
            ),
            Self::RingNumber { peer } => write!(
                f,
                "node {peer} announces a ring number that no ring can have reached, so it is not followed; \
                 if this continues, stop that node, remove its record (quorate_{peer} in its state \
                 directory) and start it again"
            ),
            Self::OwnRingNumber { peer } => write!(
                f,
                "this node's ring number is too far above that of node {peer}, so this node is not followed; \
                 if this continues, stop this node, remove its record (quorate_ID in its state directory, \
                 where ID is its id) and start it again"
            ),
            Self::Rejected { peer: Some(peer), reason } => {
                write!(f, "datagrams from node {peer} are rejected ({reason}); {}", remedy(*reason))
            }
            Self::Rejected { peer: None, reason } => {
                write!(f, "datagrams are rejected ({reason}); {}", remedy(*reason))
            }
        }
    }
}

fn remedy(reason: Refusal) -> &'static str {
    match reason {
        Refusal::OldCorosync | Refusal::Version => "run corosync 3 or Quorate on all nodes",
        Refusal::Unlisted => "give all nodes the same list, or stop that node",
        Refusal::Magic => "find out what else sends to this port, or whether that cluster is encrypted",
        _ => "find out what sends them, since they are damaged or forged",
    }
}

/// The occurrences of a [`Notice`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// The source address of the latest datagram, if a datagram caused the notice.
    pub source: Option<SocketAddr>,
    /// The number of occurrences since the first one.
    pub count: u64,
    /// The time of the latest occurrence.
    pub last_at: Time,
    /// The time of the latest log line, and the count at that time.
    logged: Option<(Time, u64)>,
}

/// The recent notices.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Notices {
    seen: BTreeMap<Notice, Sighting>,
    /// The time of the latest log line of each kind.
    logged: BTreeMap<(u8, Option<Refusal>), Time>,
}

impl Notices {
    /// The time for which a notice stays listed after its latest occurrence, and the shortest time
    /// between two of its log lines.
    pub const RECENT: Duration = Duration::from_secs(60);
    /// The shortest time between two log lines of one kind.
    const BETWEEN: Duration = Duration::from_secs(1);
    /// The largest number of notices kept, since forged datagrams can name any node.
    const MOST: usize = 64;

    /// Records an occurrence, and logs it unless a line was logged lately.
    pub(crate) fn note(&mut self, now: Time, notice: Notice, source: Option<SocketAddr>) {
        self.list(now, notice, source);
        let Some(seen) = self.seen.get_mut(&notice) else { return };
        let peer_waits = seen.logged.is_some_and(|(at, _)| now - at < Self::RECENT);
        let kind_waits = self.logged.get(&notice.kind()).is_some_and(|at| now - *at < Self::BETWEEN);
        if peer_waits || kind_waits {
            return;
        }
        let times = seen.count - seen.logged.map_or(0, |(_, count)| count);
        seen.logged = Some((now, seen.count));
        self.logged.insert(notice.kind(), now);
        let source = source.map(tracing::field::display);
        tracing::warn!(source, times, "{notice}");
    }

    /// Records a notice that other code logs.
    pub fn list(&mut self, now: Time, notice: Notice, source: Option<SocketAddr>) {
        if self.seen.len() >= Self::MOST && !self.seen.contains_key(&notice) {
            self.forget_old(now);
            if self.seen.len() >= Self::MOST {
                return;
            }
        }
        let fresh = Sighting { source, count: 0, last_at: now, logged: None };
        let seen = self.seen.entry(notice).or_insert(fresh);
        seen.count += 1;
        (seen.source, seen.last_at) = (source.or(seen.source), now);
    }

    /// Removes the notices whose latest occurrence is more than [`Notices::RECENT`] before `now`.
    pub fn forget_old(&mut self, now: Time) {
        self.seen.retain(|_, seen| now - seen.last_at <= Self::RECENT);
    }

    /// Returns the notices, ordered by kind and peer.
    pub fn iter(&self) -> impl Iterator<Item = (&Notice, &Sighting)> {
        self.seen.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn at(seconds: u64) -> Time {
        Time::default() + Duration::from_secs(seconds)
    }

    fn logged(notices: &Notices, notice: Notice) -> Option<Time> {
        notices.seen[&notice].logged.map(|(at, _)| at)
    }

    #[test]
    fn a_case_is_logged_once_a_minute_and_counted_each_time() {
        let mut notices = Notices::default();
        let notice = Notice::Unlisted { node: node(4) };
        for second in 0..60 {
            notices.note(at(second), notice, None);
            assert_eq!(logged(&notices, notice), Some(at(0)));
        }
        notices.note(at(60), notice, None);
        assert_eq!(logged(&notices, notice), Some(at(60)));
        assert_eq!(notices.seen[&notice].count, 61);
    }

    #[test]
    fn forged_ids_cost_one_line_a_second_and_bounded_memory() {
        let mut notices = Notices::default();
        for id in 1..=100_000 {
            notices.note(at(0), Notice::Unlisted { node: node(id) }, None);
        }
        let lines = notices.seen.values().filter(|seen| seen.logged.is_some()).count();
        assert_eq!((lines, notices.seen.len()), (1, Notices::MOST));
        notices.note(at(61), Notice::Unlisted { node: node(7_000_000) }, None);
        assert_eq!(notices.iter().count(), 1);
    }

    #[test]
    fn a_case_that_no_longer_comes_up_is_not_listed() {
        let mut notices = Notices::default();
        let notice = Notice::OtherAddress { node: node(2) };
        notices.note(at(0), notice, Some("10.0.0.9:5404".parse().unwrap()));
        notices.forget_old(at(60));
        assert_eq!(notices.iter().count(), 1);
        notices.forget_old(at(61));
        assert_eq!(notices.iter().count(), 0);
    }
}
