//! From node ids to addresses, and back.
//!
//! The core knows nodes by id. Sockets know addresses. A [`Path`] stands between them: it says
//! where a datagram for a member or for everyone goes, and whose datagram it is that came from an
//! address. It does no input or output, and reads no clock, so simulators run the path of
//! production.
//!
//! There are two ways to everyone: one datagram to a multicast group (`udp`, and `local` within a
//! host), or one to each listed node (`udpu`). A node sends from its own address, and receives at
//! its *home*, which is that address and its port. `peers` decides who may send from where.

mod peers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

use self::peers::{Peers, Ports};
use crate::bug;
use crate::config::TransportKind;
use crate::wire::{ClusterTag, announced, claimed_sender};
use crate::{Config, Destination, NodeId, Notice, Origin, Time, Transmit};

/// The shortest time between two look-ups of one host name.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(5);
/// The shortest time between two notices of one kind.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// A datagram with the address that it goes to, or comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The address.
    pub address: SocketAddr,
    /// The datagram.
    pub datagram: Bytes,
}

/// The addresses of the nodes, as one node sees them.
#[derive(Debug)]
pub struct Path {
    peers: Peers,
    spread: Spread,
    /// The cluster whose JOINs are used to learn addresses.
    cluster: Option<ClusterTag>,
    /// The host names of listed nodes.
    hosts: BTreeMap<NodeId, Named>,
    /// Nodes whose host names are to be looked up.
    lookups: VecDeque<NodeId>,
    /// The time when absent nodes were last looked for.
    looked_at: Option<Time>,
    /// The members of the installed ring, whose host names need no look-up.
    members: BTreeSet<NodeId>,
    /// The port of nodes whose addresses were not known at the start.
    port: u16,
    notice: Option<Notice>,
    noted_at: Option<Time>,
    unknown: u64,
}

/// A node whose address is looked up by name.
#[derive(Clone, Debug)]
struct Named {
    host: String,
    /// The time when the name was last looked up.
    asked_at: Option<Time>,
    /// Whether the answer is still to come.
    is_asked: bool,
    /// Whether the node has been heard at its address since then.
    heard: bool,
}

impl Named {
    /// Returns `true` if the name is to be looked up now. One look-up is under way at a time.
    fn ask(&mut self, now: Time) -> bool {
        let is_due = !self.is_asked && self.asked_at.is_none_or(|at| now - at >= LOOK_UP_AGAIN);
        if is_due {
            (self.asked_at, self.is_asked, self.heard) = (Some(now), true, false);
        }
        is_due
    }
}

/// The way to everyone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spread {
    /// To the group at this address.
    Multicast(SocketAddr),
    /// To each other node.
    Unicast,
}

/// The reason why a configuration has no path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The address is not a loopback address, and the transport stays within the host.
    #[error(
        "{address} is not a loopback address; transport `local` works within one host, so use 127.0.0.1, \
         127.0.0.2, ..."
    )]
    NotLoopback {
        /// The address.
        address: IpAddr,
    },
    /// Linux carries no IPv6 multicast within a host.
    #[error("transport `local` works with IPv4 only; use 127.0.0.1, 127.0.0.2, ... instead of {address}")]
    LocalIpv6 {
        /// The address.
        address: IpAddr,
    },
    /// The addresses of the nodes are of both versions of IP.
    #[error("{address}, the address of node {node}, is of another IP version than this node's {home}")]
    OtherVersion {
        /// The node.
        node: NodeId,
        /// The node's address.
        address: IpAddr,
        /// This node's address.
        home: IpAddr,
    },
    /// Two nodes of the list have the same address and port.
    #[error("nodes {first} and {second} are both at {address}; give them different addresses or ports")]
    SharedAddress {
        /// The first of the two nodes.
        first: NodeId,
        /// The second of the two nodes.
        second: NodeId,
        /// Their address and port.
        address: SocketAddr,
    },
    /// The node list has this node at another address, where another process may run under its id.
    #[error(
        "node {node} is listed at {listed} but would run at {home}; correct its ring0_addr, or give this process \
         the id of the node that is listed at its address"
    )]
    ListedElsewhere {
        /// This node.
        node: NodeId,
        /// The node's address in the list.
        listed: SocketAddr,
        /// The address at which it would run.
        home: SocketAddr,
    },
    /// The transport sends to listed nodes, and there is no list.
    #[error("transport `udpu` sends to the nodes of the node list, and there is none; add a nodelist")]
    NoList,
}

impl Path {
    /// Creates the path of a node that receives at `home`.
    ///
    /// A node list is complete: no other nodes are learnt, and the list decides which node owns an
    /// id, so a node at another address must not start. Without a list, addresses are learnt from
    /// the JOINs of the nodes.
    ///
    /// # Errors
    /// If the node list contradicts `home` or itself, or is needed and missing.
    pub fn new(config: &Config, home: SocketAddr) -> Result<Self, PathError> {
        let port = config.port();
        let transport = config.network.transport;
        let ports = if transport == TransportKind::Local { Ports::PerNode } else { Ports::Same(home.port()) };
        let mut list = Vec::new();
        for member in &config.nodes {
            let own_port = member.port.filter(|_| transport == TransportKind::Local);
            let listed =
                member.known_address().map(|address| SocketAddr::new(address, own_port.unwrap_or(port)));
            list.extend(listed.map(|home| (member.id, home)));
        }
        let another = list.iter().find(|(_, listed)| listed.is_ipv4() != home.is_ipv4());
        if let Some(&(node, address)) = another {
            return Err(PathError::OtherVersion { node, address: address.ip(), home: home.ip() });
        }
        if transport == TransportKind::Local && home.is_ipv6() {
            return Err(PathError::LocalIpv6 { address: home.ip() });
        }
        if transport == TransportKind::Local {
            let addresses = list.iter().map(|(_, listed)| listed.ip()).chain([home.ip()]);
            if let Some(address) = addresses.into_iter().find(|address| !address.is_loopback()) {
                return Err(PathError::NotLoopback { address });
            }
        }
        let spread = match transport {
            TransportKind::Multicast | TransportKind::Local => {
                Spread::Multicast(SocketAddr::new(config.group(), port))
            }
            TransportKind::Unicast if config.nodes.is_empty() => return Err(PathError::NoList),
            TransportKind::Unicast => Spread::Unicast,
        };
        let peers = match config.nodes.is_empty() {
            true => Peers::learning(config.node, home, ports),
            false => Peers::listed(config.node, home, ports, list)?,
        };
        let hosts = config.nodes.iter().filter(|member| member.id != config.node);
        let named =
            |host: &String| Named { host: host.clone(), asked_at: None, is_asked: false, heard: false };
        let hosts = hosts.filter_map(|member| Some((member.id, member.host.as_ref().map(named)?)));
        Ok(Self {
            peers,
            spread,
            cluster: config.cluster_tag(),
            hosts: hosts.collect(),
            lookups: VecDeque::new(),
            looked_at: None,
            members: BTreeSet::new(),
            port,
            notice: None,
            noted_at: None,
            unknown: 0,
        })
    }

    /// Returns the address at which this node receives.
    pub fn home(&self) -> SocketAddr {
        self.peers.own_home()
    }

    /// Returns the group that this node receives multicasts of, if it uses one.
    pub fn group(&self) -> Option<SocketAddr> {
        match self.spread {
            Spread::Multicast(group) => Some(group),
            Spread::Unicast => None,
        }
    }

    /// Sets the members of the installed ring. Without a node list, their addresses are kept while
    /// they are members.
    pub fn set_members(&mut self, members: &BTreeSet<NodeId>) {
        self.peers.set_members(members);
        self.members.clone_from(members);
    }

    /// Handles a packet that arrived. Returns the origin of its datagram, or `None` if this node
    /// sent it itself.
    ///
    /// The origin has a peer only if the address is that of a known node. The core judges the rest:
    /// a datagram that claims another sender than its address has is counted there.
    pub fn handle_packet(&mut self, now: Time, source: SocketAddr, datagram: &[u8]) -> Option<Origin> {
        if self.peers.is_own(source) {
            return None;
        }
        let claim = self.claim(datagram);
        let origin = self.peers.origin(source, claim, now);
        match (claim, origin.peer) {
            // A listed node may have moved to another address, which its name then has.
            (Some((node, _)), None) => self.look_up(node, now),
            (Some((node, _)), Some(peer)) if node == peer && !self.members.contains(&node) => {
                if let Some(named) = self.hosts.get_mut(&node) {
                    named.heard = true;
                }
            }
            _ => {}
        }
        Some(origin)
    }

    /// Returns the claimed sender of a datagram. Datagrams of another cluster are left out, because
    /// ids are learnt within a cluster.
    fn claim(&self, datagram: &[u8]) -> Option<(NodeId, bool)> {
        let claimed = claimed_sender(datagram)?;
        match (announced(datagram).and_then(|announced| announced.cluster), self.cluster) {
            (Some(other), Some(own)) if bug!(OtherClusterHeard: false; other != own) => None,
            _ => Some(claimed),
        }
    }

    /// Returns the addresses that a datagram goes to. There are none for a member whose address is
    /// not known.
    pub fn addresses(&self, to: Destination) -> impl Iterator<Item = SocketAddr> {
        let (one, others) = match (to, self.spread) {
            (Destination::Member(node), _) => (self.peers.home(node), None),
            (Destination::Everyone, Spread::Multicast(group)) => (Some(group), None),
            (Destination::Everyone, Spread::Unicast) => (None, Some(self.peers.others())),
        };
        one.into_iter().chain(others.into_iter().flatten())
    }

    /// Turns datagrams into packets, in order, and empties the batch. Packets for one address
    /// stay together, so that sockets can send a train of them.
    pub fn send(&mut self, now: Time, batch: &mut VecDeque<Transmit>, packets: &mut VecDeque<Packet>) {
        self.look_up_absent(now);
        while let Some(&Transmit { to, .. }) = batch.front() {
            let count = batch.iter().take_while(|other| other.to == to).count();
            let mut addresses = self.addresses(to).peekable();
            let known = addresses.peek().is_some();
            while let Some(address) = addresses.next() {
                if addresses.peek().is_none() {
                    let packet = |Transmit { datagram, .. }| Packet { address, datagram };
                    packets.extend(batch.drain(..count).map(packet));
                    break;
                }
                let packet = |sent: &Transmit| Packet { address, datagram: sent.datagram.clone() };
                packets.extend(batch.iter().take(count).map(packet));
            }
            if !known {
                drop(addresses);
                batch.drain(..count);
                self.lose(now, to, count);
            }
        }
    }

    /// Counts datagrams for a node without a known address. A list of this node alone has no others
    /// to send to.
    fn lose(&mut self, now: Time, to: Destination, count: usize) {
        let Destination::Member(node) = to else { return };
        self.unknown += count as u64;
        if self.noted_at.is_none_or(|at| now - at >= NOTE_EVERY) {
            self.noted_at = Some(now);
            self.notice = Some(Notice::Unsent { node: Some(node), errno: None });
        }
    }

    /// Returns the number of datagrams for members without a known address.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Returns the node that receives at this address and port.
    pub fn node_at_home(&self, home: SocketAddr) -> Option<NodeId> {
        self.peers.exactly_at(home)
    }

    /// Returns the node at an address, if there is exactly one.
    pub fn node_at(&self, address: IpAddr) -> Option<NodeId> {
        self.peers.at(address)
    }

    /// Returns the next notice for the operator.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    /// Returns the next host name to look up, with its node. The addresses go to
    /// [`handle_resolved`](Self::handle_resolved).
    pub fn poll_lookup(&mut self) -> Option<(NodeId, String)> {
        let node = self.lookups.pop_front()?;
        self.hosts.get(&node).map(|named| (node, named.host.clone()))
    }

    /// Looks up the nodes that are not in the ring. If all nodes are started elsewhere, each of
    /// them has to find another first.
    fn look_up_absent(&mut self, now: Time) {
        if self.looked_at.is_some_and(|at| now - at < LOOK_UP_AGAIN) {
            return;
        }
        self.looked_at = Some(now);
        for (&node, named) in &mut self.hosts {
            if !self.members.contains(&node) && named.ask(now) {
                self.lookups.push_back(node);
            }
        }
    }

    /// Looks up a node that may have moved. The ring may not have lost it yet, and then an answer
    /// comes too early.
    fn look_up(&mut self, node: NodeId, now: Time) {
        if self.members.contains(&node) {
            return;
        }
        if self.hosts.get_mut(&node).is_some_and(|named| named.ask(now)) {
            self.lookups.push_back(node);
        }
    }

    /// Handles the addresses of a host name that was looked up. If its node has moved, its address
    /// is replaced. A node that is a member, or that was heard meanwhile, is where it was: the
    /// answer may be old.
    pub fn handle_resolved(&mut self, node: NodeId, addresses: &[IpAddr]) {
        let Some(named) = self.hosts.get_mut(&node) else { return };
        named.is_asked = false;
        let Some(Named { host, heard, .. }) = self.hosts.get(&node) else { return };
        if *heard || self.members.contains(&node) {
            return;
        }
        let former = self.peers.home(node).map(|home| home.ip());
        if former.is_some_and(|former| addresses.contains(&former)) {
            return;
        }
        let home = self.home().ip();
        let can_be_its = |address: &&IpAddr| {
            address.is_ipv4() == home.is_ipv4()
                && address.is_loopback() == home.is_loopback()
                && !address.is_unspecified()
                && !address.is_multicast()
        };
        let Some(address) = addresses.iter().find(can_be_its).copied() else {
            // One that had an address may be gone, and its name with it.
            if former.is_none() {
                self.notice = Some(Notice::NoAddressOf { node });
            }
            return;
        };
        // Names are newer than addresses: another node of that address may have gone.
        let (hosts, members) = (&self.hosts, &self.members);
        let gives_way = |other: NodeId| hosts.contains_key(&other) && !members.contains(&other);
        if self.peers.move_to(node, address, self.port, gives_way) {
            match former {
                Some(former) => {
                    tracing::info!("{host} (node {node}) is now at {address} and was at {former}");
                }
                None => tracing::info!("{host} (node {node}) is at {address}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RingId;
    use crate::wire::{self, MergeDetect, Message, Order};

    fn config(transport: TransportKind) -> Config {
        let nodes = (1..=3).map(|id| (id, format!("10.0.0.{id}")));
        let mut config = Config::of_cluster("test", 1, nodes).unwrap();
        config.network.transport = transport;
        config.network.port = Some(5405);
        config
    }

    fn path(transport: TransportKind) -> Path {
        Path::new(&config(transport), "10.0.0.1:5405".parse().unwrap()).unwrap()
    }

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    /// Returns the packets of datagrams with these destinations (0 stands for everyone), as
    /// address and text.
    fn sent(path: &mut Path, datagrams: &[(u32, &'static str)]) -> Vec<(String, String)> {
        let mut batch = datagrams
            .iter()
            .map(|(to, text)| Transmit {
                to: NodeId::new(*to).map_or(Destination::Everyone, Destination::Member),
                datagram: Bytes::from_static(text.as_bytes()),
            })
            .collect();
        let mut packets = VecDeque::new();
        path.send(Time::default(), &mut batch, &mut packets);
        assert!(batch.is_empty());
        let text = |packet: Packet| {
            (packet.address.to_string(), String::from_utf8(packet.datagram.to_vec()).unwrap())
        };
        packets.into_iter().map(text).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(address, text)| ((*address).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_multicast_goes_to_the_group_once() {
        let mut path = path(TransportKind::Multicast);
        let group = path.group().unwrap().to_string();
        let packets = sent(&mut path, &[(0, "a"), (0, "b"), (2, "token")]);
        assert_eq!(packets, pairs(&[(&group, "a"), (&group, "b"), ("10.0.0.2:5405", "token")]));
    }

    #[test]
    fn without_a_group_frames_go_to_each_node_before_the_token() {
        let mut path = path(TransportKind::Unicast);
        let packets = sent(&mut path, &[(0, "a"), (0, "b"), (2, "token")]);
        let (two, three) = ("10.0.0.2:5405", "10.0.0.3:5405");
        assert_eq!(packets, pairs(&[(two, "a"), (two, "b"), (three, "a"), (three, "b"), (two, "token")]));
    }

    #[test]
    fn a_datagram_for_an_unknown_node_is_counted_and_noted() {
        let mut path = path(TransportKind::Unicast);
        assert_eq!(sent(&mut path, &[(9, "a"), (9, "b"), (2, "c")]), pairs(&[("10.0.0.2:5405", "c")]));
        assert_eq!(path.unknown(), 2);
        assert_eq!(path.poll_notice(), Some(Notice::Unsent { node: Some(node(9)), errno: None }));
        assert_eq!(path.poll_notice(), None);
    }

    #[test]
    fn unicast_needs_a_node_list() {
        let mut config = config(TransportKind::Unicast);
        config.nodes.clear();
        assert_eq!(Path::new(&config, "10.0.0.1:5405".parse().unwrap()).err(), Some(PathError::NoList));
    }

    #[test]
    fn a_local_path_stays_on_the_host() {
        let error = Path::new(&config(TransportKind::Local), "127.0.0.1:5405".parse().unwrap()).err();
        assert_eq!(error, Some(PathError::NotLoopback { address: [10, 0, 0, 1].into() }));
    }

    #[test]
    fn absent_nodes_are_looked_up_again_and_again() {
        let mut config = config(TransportKind::Unicast);
        config.nodes[1].host = Some("b".to_owned());
        config.nodes[2] = crate::config::Member::at_host(node(3), "c");
        let mut path = Path::new(&config, "10.0.0.1:5405".parse().unwrap()).unwrap();
        let sent_at = |path: &mut Path, seconds| {
            let to = Destination::Everyone;
            let mut batch = VecDeque::from([Transmit { to, datagram: Bytes::from_static(b"a") }]);
            let mut packets = VecDeque::new();
            path.send(Time::default() + Duration::from_secs(seconds), &mut batch, &mut packets);
            let looked_up: Vec<String> =
                std::iter::from_fn(|| path.poll_lookup()).map(|(_, host)| host).collect();
            (packets.iter().map(|packet| packet.address.to_string()).collect::<Vec<_>>(), looked_up.join(" "))
        };
        let (two, three) = ("10.0.0.2:5405".to_owned(), "10.0.0.7:5405".to_owned());
        assert_eq!(sent_at(&mut path, 0), (vec![two.clone()], "b c".to_owned()));
        assert_eq!(sent_at(&mut path, 5), (vec![two.clone()], String::new()), "the answers are to come");
        path.handle_resolved(node(2), &["10.0.0.2".parse().unwrap()]);
        path.handle_resolved(node(3), &["10.0.0.7".parse().unwrap()]);
        assert_eq!(sent_at(&mut path, 9), (vec![two.clone(), three.clone()], String::new()));
        path.set_members(&[node(1), node(2)].into());
        assert_eq!(sent_at(&mut path, 10), (vec![two.clone(), three], "c".to_owned()));
        // A member has not moved, whatever a late answer says.
        path.set_members(&[node(1), node(2), node(3)].into());
        path.handle_resolved(node(3), &["10.0.0.8".parse().unwrap()]);
        assert_eq!(path.node_at_home("10.0.0.7:5405".parse().unwrap()), Some(node(3)));
        // It has another address after a restart, and so has the other one.
        path.set_members(&[node(1)].into());
        path.handle_resolved(node(3), &["10.0.0.8".parse().unwrap()]);
        assert_eq!(sent_at(&mut path, 15), (vec![two, "10.0.0.8:5405".to_owned()], "b c".to_owned()));
        // They have each other's.
        path.handle_resolved(node(2), &["10.0.0.8".parse().unwrap()]);
        path.handle_resolved(node(3), &["10.0.0.2".parse().unwrap()]);
        assert_eq!(path.node_at_home("10.0.0.8:5405".parse().unwrap()), Some(node(2)));
        assert_eq!(path.node_at_home("10.0.0.2:5405".parse().unwrap()), Some(node(3)));
    }

    #[test]
    fn a_name_without_an_address_that_can_be_its_nodes_is_noted() {
        let mut config = config(TransportKind::Unicast);
        config.nodes[2] = crate::config::Member::at_host(node(3), "c");
        let mut path = Path::new(&config, "10.0.0.1:5405".parse().unwrap()).unwrap();
        for wrong in [vec![], vec!["127.0.0.1"], vec!["0.0.0.0"], vec!["239.1.1.1"], vec!["fd00::1"]] {
            let addresses: Vec<IpAddr> = wrong.iter().map(|text| text.parse().unwrap()).collect();
            path.handle_resolved(node(3), &addresses);
            assert_eq!(path.poll_notice(), Some(Notice::NoAddressOf { node: node(3) }), "{wrong:?}");
        }
        path.handle_resolved(node(3), &["127.0.1.1".parse().unwrap(), "10.0.0.7".parse().unwrap()]);
        assert_eq!(path.node_at_home("10.0.0.7:5405".parse().unwrap()), Some(node(3)));
        path.handle_resolved(node(3), &[]);
        assert_eq!(path.poll_notice(), None, "it had one");
    }

    #[test]
    fn a_node_that_is_heard_during_a_look_up_is_not_moved() {
        let mut config = config(TransportKind::Unicast);
        config.nodes[1].host = Some("b".to_owned());
        let mut path = Path::new(&config, "10.0.0.1:5405".parse().unwrap()).unwrap();
        let (two, moved) = ("10.0.0.2:5405".parse().unwrap(), ["10.0.0.8".parse().unwrap()]);
        let mut batch =
            VecDeque::from([Transmit { to: Destination::Everyone, datagram: Bytes::from_static(b"a") }]);
        path.send(Time::default(), &mut batch, &mut VecDeque::new());
        assert_eq!(path.poll_lookup(), Some((node(2), "b".to_owned())));
        let ring = RingId { seq: 8, representative: node(2) };
        let probe = Message::MergeDetect(MergeDetect { from: node(2), ring });
        path.handle_packet(Time::default(), two, &wire::encode(&probe, Order::Little));
        path.handle_resolved(node(2), &moved);
        assert_eq!(path.node_at_home(two), Some(node(2)));
    }

    #[test]
    fn an_own_multicast_is_no_input() {
        let mut path = path(TransportKind::Multicast);
        let mut peer = |source: &str| {
            let origin = path.handle_packet(Time::default(), source.parse().unwrap(), b"");
            origin.map(|origin| origin.peer)
        };
        assert_eq!(peer("10.0.0.1:5404"), None);
        assert_eq!((peer("10.0.0.2:5404"), peer("10.0.0.9:5404")), (Some(Some(node(2))), Some(None)));
    }
}
