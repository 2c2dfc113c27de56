//! The addresses of nodes: node ids, and where each node receives tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::PathError;
use crate::wire::Join;
use crate::{NodeId, Origin, Time};

/// The address book. A node's *home* is the address and port at which it receives unicasts. As in
/// corosync, a node sends from the port below, so the source of a datagram identifies the home of
/// its sender.
///
/// One id has one home, and one home has one id.
#[derive(Debug)]
pub(super) struct Peers {
    own: NodeId,
    own_home: SocketAddr,
    homes: BTreeMap<NodeId, SocketAddr>,
    ids: BTreeMap<SocketAddr, NodeId>,
    ports: Ports,
    /// The state of learning addresses. `None` if only the node list is used.
    learnt: Option<Learnt>,
}

/// The state of learning addresses.
#[derive(Debug, Default)]
struct Learnt {
    /// The time of the last datagram from each home.
    heard_at: BTreeMap<SocketAddr, Time>,
    /// The members of the installed ring, whose addresses are kept.
    members: BTreeSet<NodeId>,
}

/// The meaning of a source port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ports {
    /// The port means nothing. A host has one node, at this port, and is identified by its address.
    Same(u16),
    /// The port identifies one of a host's nodes: the one whose home port is one above.
    PerNode,
}

impl Peers {
    /// Time of silence after which the id of a node outside of the ring may be claimed at another
    /// address.
    const AGE: Duration = Duration::from_secs(10);

    /// Creates an address book with this node, which learns the other nodes from their JOINs.
    pub(super) fn learning(own: NodeId, home: SocketAddr, ports: Ports) -> Self {
        Self {
            own,
            own_home: home,
            homes: BTreeMap::from([(own, home)]),
            ids: BTreeMap::from([(home, own)]),
            ports,
            learnt: Some(Learnt::default()),
        }
    }

    /// Creates an address book with this node and the listed ones, which learns no others.
    ///
    /// # Errors
    /// If this node is listed at another address than `home`, or if two nodes are listed at the
    /// same address. The list decides which node owns an id, so a node at another address must not
    /// start.
    pub(super) fn listed(
        own: NodeId,
        home: SocketAddr,
        ports: Ports,
        list: impl IntoIterator<Item = (NodeId, SocketAddr)>,
    ) -> Result<Self, PathError> {
        let mut peers = Self { learnt: None, ..Self::learning(own, home, ports) };
        for (id, listed) in list {
            if id == own {
                if listed != home {
                    return Err(PathError::ListedElsewhere { node: own, listed, home });
                }
                continue;
            }
            let home = listed;
            if let Some(other) = peers.ids.insert(home, id) {
                return Err(PathError::SharedAddress { first: other, second: id, address: home });
            }
            peers.homes.insert(id, home);
        }
        Ok(peers)
    }

    /// Returns the address for unicasts to this node.
    pub(super) fn home(&self, id: NodeId) -> Option<SocketAddr> {
        self.homes.get(&id).copied()
    }

    /// Returns the address at which this node receives unicasts.
    pub(super) fn own_home(&self) -> SocketAddr {
        self.own_home
    }

    /// Returns the addresses of all other nodes, in the order of their ids.
    pub(super) fn others(&self) -> impl Iterator<Item = SocketAddr> {
        self.homes.iter().filter(|(id, _)| **id != self.own).map(|(_, home)| *home)
    }

    /// Returns the node that receives at this address and port.
    pub(super) fn exactly_at(&self, home: SocketAddr) -> Option<NodeId> {
        self.ids.get(&home).copied()
    }

    /// Returns the node at this address, if there is exactly one.
    pub(super) fn at(&self, address: IpAddr) -> Option<NodeId> {
        let mut there = self.homes.iter().filter(|(_, home)| home.ip() == address);
        there.next().filter(|_| there.next().is_none()).map(|(id, _)| *id)
    }

    /// Moves a listed node to this address, and to this port if its home was not known. Returns
    /// `false` if the node is already there, or another one that does not give way.
    pub(super) fn move_to(
        &mut self,
        id: NodeId,
        address: IpAddr,
        port: u16,
        gives_way: impl Fn(NodeId) -> bool,
    ) -> bool {
        let former = self.homes.get(&id).copied();
        let home = SocketAddr::new(address, former.map_or(port, |former| former.port()));
        match self.ids.get(&home) {
            _ if id == self.own => return false,
            Some(&other) if other == id || other == self.own || !gives_way(other) => return false,
            Some(other) => drop(self.homes.remove(other)),
            None => {}
        }
        if let Some(former) = former {
            self.ids.remove(&former);
        }
        self.ids.insert(home, id);
        self.homes.insert(id, home);
        true
    }

    /// Returns `true` if this node sent the datagram: it came from the port below its own. Others
    /// behind this node's address are not it.
    pub(super) fn is_own(&self, source: SocketAddr) -> bool {
        source.ip() == self.own_home.ip() && source.port().checked_add(1) == Some(self.own_home.port())
    }

    /// Sets the members of the installed ring.
    pub(super) fn set_members(&mut self, members: &BTreeSet<NodeId>) {
        if let Some(learnt) = &mut self.learnt {
            learnt.members.clone_from(members);
        }
    }

    /// Returns the sender of a datagram, given its claimed sender
    /// ([`claimed_sender`](crate::wire::claimed_sender)).
    ///
    /// If the id is known at another address, the origin has no peer, and the core reports that.
    /// This applies to this node's own id, too. Without a list, an id belongs to the address that
    /// claimed it first, while that node is in the ring or has been heard recently. A new id at a
    /// known address replaces the old one, because a port belongs to one process at a time.
    pub(super) fn origin(&mut self, source: SocketAddr, claim: Option<(NodeId, bool)>, now: Time) -> Origin {
        let home = self.home_of(source);
        let outranks_us = home.is_some_and(|home| home < self.own_home);
        let of = |peer| Origin { peer, source: Some(source), outranks_us };
        let Some(home) = home else { return of(None) };
        if let Some((id, joins)) = claim
            && (joins || id == self.own)
        {
            self.forget_silent(id, home, now);
            match self.homes.get(&id) {
                Some(known) if *known != home => return of(None),
                None => self.learn(id, home),
                _ => {}
            }
        }
        let peer = self.ids.get(&home).copied();
        if let Some(learnt) = self.learnt.as_mut().filter(|_| peer.is_some()) {
            learnt.heard_at.insert(home, now);
        }
        of(peer)
    }

    /// Frees an id that is claimed at `home`, if it is known at another address, outside of the
    /// ring, and silent for long.
    fn forget_silent(&mut self, id: NodeId, home: SocketAddr, now: Time) {
        let Some(learnt) = &mut self.learnt else { return };
        let Some(known) = self.homes.get(&id).copied().filter(|known| *known != home) else { return };
        let silent = learnt.heard_at.get(&known).is_none_or(|at| now - *at >= Self::AGE);
        if id != self.own && silent && !learnt.members.contains(&id) {
            tracing::debug!(node = %id, home = %known, "forgotten: silent and in no ring");
            learnt.heard_at.remove(&known);
            self.ids.remove(&known);
            self.homes.remove(&id);
        }
    }

    fn learn(&mut self, id: NodeId, home: SocketAddr) {
        let Some(learnt) = &mut self.learnt else { return };
        if self.ids.get(&home) == Some(&self.own) {
            return;
        }
        // The bound limits the memory that forged JOINs can take. The node that was silent longest
        // is removed.
        if self.homes.len() >= Join::MAX_NODES && !self.ids.contains_key(&home) {
            let free = self.ids.iter().filter(|(_, id)| **id != self.own && !learnt.members.contains(id));
            let Some((&silent, &former)) = free.min_by_key(|(home, _)| learnt.heard_at.get(home)) else {
                return;
            };
            learnt.heard_at.remove(&silent);
            self.ids.remove(&silent);
            self.homes.remove(&former);
        }
        tracing::debug!(node = %id, %home, "learnt from a JOIN");
        if let Some(former) = self.ids.insert(home, id) {
            self.homes.remove(&former);
        }
        self.homes.insert(id, home);
    }

    fn home_of(&self, source: SocketAddr) -> Option<SocketAddr> {
        let port = match self.ports {
            Ports::Same(port) => port,
            Ports::PerNode => source.port().checked_add(1)?,
        };
        Some(SocketAddr::new(source.ip(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOINS: bool = true;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn learning() -> Peers {
        Peers::learning(node(1), at("127.0.0.1:5405"), Ports::PerNode)
    }

    fn listed(ports: Ports) -> Peers {
        let list = [(node(1), at("10.0.0.1:5405")), (node(2), at("10.0.0.2:5405"))];
        Peers::listed(node(1), at("10.0.0.1:5405"), ports, list).unwrap()
    }

    #[track_caller]
    fn check(peers: &mut Peers, source: &str, claim: Option<(u32, bool)>, peer: Option<u32>) {
        let claim = claim.map(|(id, joins)| (node(id), joins));
        assert_eq!(peers.origin(at(source), claim, Time::default()).peer, peer.map(node));
    }

    #[test]
    fn without_a_list_ids_are_learnt_from_joins_only() {
        let mut peers = learning();
        check(&mut peers, "127.0.0.2:5404", Some((2, false)), None);
        assert_eq!(peers.home(node(2)), None);
        check(&mut peers, "127.0.0.2:5404", Some((2, JOINS)), Some(2));
        assert_eq!(peers.home(node(2)), Some(at("127.0.0.2:5405")));
        check(&mut peers, "127.0.0.2:5404", None, Some(2));
        check(&mut peers, "127.0.0.2:5406", None, None);
    }

    #[test]
    fn an_id_claimed_at_two_addresses_belongs_to_the_first() {
        let mut peers = learning();
        check(&mut peers, "127.0.0.2:5404", Some((2, JOINS)), Some(2));
        check(&mut peers, "127.0.0.3:5404", Some((2, JOINS)), None);
        assert_eq!(peers.home(node(2)), Some(at("127.0.0.2:5405")));
    }

    #[test]
    fn a_node_that_returns_under_another_id_is_known_by_it() {
        let mut peers = learning();
        check(&mut peers, "127.0.0.2:5404", Some((2, JOINS)), Some(2));
        check(&mut peers, "127.0.0.2:5404", Some((3, JOINS)), Some(3));
        assert_eq!((peers.home(node(2)), peers.home(node(3))), (None, Some(at("127.0.0.2:5405"))));
    }

    #[test]
    fn a_silent_id_outside_the_ring_may_be_claimed_elsewhere() {
        let start = Time::default();
        let join = Some((node(2), JOINS));
        for (after, in_ring, moves) in [(9, false, false), (10, false, true), (1000, true, false)] {
            let mut peers = learning();
            peers.origin(at("127.0.0.2:5404"), join, start);
            peers.set_members(&if in_ring { [node(2)].into() } else { BTreeSet::new() });
            let later = peers.origin(at("127.0.0.3:5404"), join, start + Duration::from_secs(after));
            assert_eq!(later.peer, moves.then_some(node(2)), "after {after} s, in the ring: {in_ring}");
        }
    }

    #[test]
    fn the_lower_address_outranks_the_higher_one() {
        let mut peers = Peers::learning(node(1), at("10.0.0.2:5405"), Ports::Same(5405));
        for (source, outranks) in
            [("10.0.0.1:5404", true), ("10.0.0.2:5404", false), ("10.0.0.3:5404", false)]
        {
            assert_eq!(peers.origin(at(source), None, Time::default()).outranks_us, outranks, "{source}");
        }
    }

    #[test]
    fn a_node_that_is_listed_elsewhere_cannot_start() {
        let list = [(node(1), at("10.0.0.1:5405")), (node(2), at("10.0.0.2:5405"))];
        let error = Peers::listed(node(2), at("10.0.0.4:5405"), Ports::Same(5405), list).unwrap_err();
        let text = "node 2 is listed at 10.0.0.2:5405 but would run at 10.0.0.4:5405";
        assert!(error.to_string().starts_with(text), "{error}");
    }

    #[test]
    fn another_address_cannot_claim_this_nodes_id() {
        for mut peers in [learning(), listed(Ports::PerNode)] {
            let home = peers.home(node(1));
            for joins in [JOINS, false] {
                check(&mut peers, "10.0.0.2:5404", Some((1, joins)), None);
            }
            assert_eq!(peers.home(node(1)), home);
        }
    }

    #[test]
    fn this_nodes_address_cannot_be_claimed_by_another_id() {
        let mut peers = learning();
        check(&mut peers, "127.0.0.1:5404", Some((7, JOINS)), Some(1));
        assert_eq!(peers.home(node(7)), None);
        assert!(peers.is_own(at("127.0.0.1:5404")) && !peers.is_own(at("127.0.0.1:5406")));
    }

    #[test]
    fn with_a_list_no_ids_are_learnt() {
        let mut peers = listed(Ports::PerNode);
        check(&mut peers, "10.0.0.2:5404", None, Some(2));
        check(&mut peers, "10.0.0.3:5404", Some((3, JOINS)), None);
        check(&mut peers, "10.0.0.3:5404", Some((2, JOINS)), None);
        assert_eq!((peers.home(node(3)), peers.home(node(2))), (None, Some(at("10.0.0.2:5405"))));
    }

    #[test]
    fn the_source_port_is_ignored_with_one_node_per_host() {
        let mut peers = listed(Ports::Same(5405));
        check(&mut peers, "10.0.0.2:40000", None, Some(2));
        let mut peers = listed(Ports::PerNode);
        check(&mut peers, "10.0.0.2:40000", None, None);
        check(&mut peers, "10.0.0.2:65535", None, None);
    }

    #[test]
    fn forged_joins_use_bounded_memory_and_evict_no_member() {
        let mut peers = learning();
        let start = Time::default();
        let join = |peers: &mut Peers, id: u32| {
            let source = SocketAddr::new(IpAddr::V4((0x7f00_0000 + id).into()), 5404);
            peers.origin(source, Some((node(id), JOINS)), start + Duration::from_micros(id.into())).peer
        };
        join(&mut peers, 2);
        peers.set_members(&[node(1), node(2)].into());
        for id in 3..10_000 {
            assert_eq!(join(&mut peers, id), Some(node(id)));
        }
        assert_eq!(peers.homes.len(), Join::MAX_NODES);
        assert_eq!(peers.ids.len(), Join::MAX_NODES);
        assert!(peers.learnt.as_ref().unwrap().heard_at.len() <= Join::MAX_NODES);
        assert!(peers.home(node(1)).is_some() && peers.home(node(2)).is_some(), "a ring's members stay");
    }

    #[test]
    fn a_listed_node_moves_to_an_address_that_is_free() {
        let mut peers = listed(Ports::PerNode);
        let moves = |peers: &mut Peers, id, address: [u8; 4], gives_way| {
            peers.move_to(node(id), address.into(), 5405, |_| gives_way)
        };
        assert!(moves(&mut peers, 2, [10, 0, 0, 9], false));
        check(&mut peers, "10.0.0.9:5404", Some((2, JOINS)), Some(2));
        check(&mut peers, "10.0.0.2:5404", Some((2, JOINS)), None);
        for (id, address) in [(2, [10, 0, 0, 1]), (2, [10, 0, 0, 9]), (1, [10, 0, 0, 7])] {
            assert!(!moves(&mut peers, id, address, true));
        }
        assert!(moves(&mut peers, 3, [10, 0, 0, 7], false));
        assert_eq!(peers.home(node(3)), Some(at("10.0.0.7:5405")));
        // It has the address of a node that has gone.
        assert!(!moves(&mut peers, 3, [10, 0, 0, 9], false) && moves(&mut peers, 3, [10, 0, 0, 9], true));
        assert_eq!((peers.home(node(2)), peers.home(node(3))), (None, Some(at("10.0.0.9:5405"))));
    }

    #[test]
    fn two_listed_nodes_at_one_address_are_an_error_that_names_both() {
        let list = [(node(2), at("127.0.0.1:5407")), (node(3), at("127.0.0.1:5407"))];
        let error = Peers::listed(node(1), at("127.0.0.1:5405"), Ports::PerNode, list).unwrap_err();
        assert!(error.to_string().starts_with("nodes 2 and 3 are both at 127.0.0.1:5407"), "{error}");
    }
}
