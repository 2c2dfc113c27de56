//! The node as its clients see it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use quorate::{Config, DeviceState, NodeId, NodeStatus, Regular, RingId, Status};

use super::value::Value;

/// Returns `true` if two statuses are the same for the clients, which do not see what nodes tell
/// about themselves.
fn says_the_same(one: &Status, other: &Status) -> bool {
    let nodes = |status: &Status| {
        let seen = |node: &NodeStatus| (node.id, node.name.clone(), node.online, node.votes, node.device);
        status.nodes.iter().map(seen).collect::<Vec<_>>()
    };
    let numbers = |status: &Status| (status.total_votes, status.expected_votes, status.quorum);
    (one.ring, one.quorate, nodes(one), &one.flags) == (other.ring, other.quorate, nodes(other), &other.flags)
        && one.device == other.device
        && numbers(one) == numbers(other)
}

/// The state that all services show to clients.
pub(super) struct View {
    pub(super) me: NodeId,
    /// The addresses of the nodes that are known.
    pub(super) addresses: BTreeMap<NodeId, IpAddr>,
    pub(super) mtu: u32,
    /// The last ring whose members have exchanged their state.
    pub(super) ring: Option<RingId>,
    pub(super) members: BTreeSet<NodeId>,
    /// The members that the last ring change added, and those that it removed.
    pub(super) joined: BTreeSet<NodeId>,
    pub(super) left: BTreeSet<NodeId>,
    /// How often each node has joined.
    joins: BTreeMap<NodeId, u32>,
    /// The last status of a settled ring.
    pub(super) status: Status,
    /// The state of this node's quorum device, which may be newer than the status.
    pub(super) device: DeviceState,
    /// A ring whose members have not exchanged their state yet.
    forming: Option<Regular>,
}

impl View {
    pub(super) fn new(config: &Config) -> Self {
        let listed = config.nodes.iter().map(|node| (node.id, node.address));
        Self {
            me: config.node,
            addresses: listed.chain([(config.node, config.bind())]).collect(),
            mtu: config.totem.netmtu,
            ring: None,
            members: BTreeSet::new(),
            joined: BTreeSet::new(),
            left: BTreeSet::new(),
            joins: BTreeMap::new(),
            status: Status::default(),
            device: DeviceState::default(),
            forming: None,
        }
    }

    /// Adds the addresses of nodes that a configuration lists, by the keys of the map. Names are
    /// left out.
    pub(super) fn add_addresses(&mut self, keys: &[(String, Value)]) {
        for (key, value) in keys {
            let Some(node) = key.strip_suffix(".nodeid").filter(|node| node.starts_with("nodelist.node."))
            else {
                continue;
            };
            let at = format!("{node}.ring0_addr");
            let address = keys.iter().find(|(key, _)| *key == at).and_then(|(_, value)| value.as_text());
            let id = value.as_u32().and_then(NodeId::new);
            if let (Some(id), Some(Ok(address))) = (id, address.map(str::parse)) {
                self.addresses.entry(id).or_insert(address);
            }
        }
    }

    pub(super) fn regular(&mut self, regular: &Regular) {
        // A ring that ended before its members had exchanged their state was never shown.
        self.forming = Some(regular.clone());
    }

    /// The members of the new ring have exchanged their state.
    pub(super) fn synced(&mut self) {
        let Some(Regular { ring, members, .. }) = self.forming.take() else { return };
        self.joined = &members - &self.members;
        self.left = &self.members - &members;
        for node in &self.joined {
            *self.joins.entry(*node).or_default() += 1;
        }
        (self.ring, self.members) = (Some(ring), members);
    }

    /// Keeps a status if it belongs to the ring that is shown. Returns `true` if it says anything
    /// new about members, votes or quorum.
    ///
    /// Clients learn of a new ring once its members have exchanged their state. A lost token is not
    /// shown before it has led to another ring, as with corosync.
    pub(super) fn status(&mut self, status: &Status) -> bool {
        if !status.settled || status.ring.is_none() || status.ring != self.ring {
            return false;
        }
        let is_new = !says_the_same(&self.status, status);
        self.status = status.clone();
        if let Some(own) = status.nodes.iter().find(|node| node.id == self.me) {
            self.device = own.device;
        }
        is_new
    }

    /// Returns `true` while a new ring's members exchange their state, so that the votes are those
    /// of the old ring.
    pub(super) fn is_forming(&self) -> bool {
        self.forming.is_some() || self.status.ring != self.ring
    }

    /// Returns the newest ring and its members, whether or not they have exchanged their state.
    pub(super) fn newest(&self) -> (Option<RingId>, &BTreeSet<NodeId>) {
        match &self.forming {
            Some(forming) => (Some(forming.ring), &forming.members),
            None => (self.ring, &self.members),
        }
    }

    /// Returns the ring's number.
    pub(super) fn seq(&self) -> u64 {
        self.ring.map_or(0, |ring| ring.seq)
    }

    /// Returns the representative of the ring.
    pub(super) fn representative(&self) -> u32 {
        self.ring.map_or(self.me, |ring| ring.representative).get()
    }

    /// Returns the keys of the map that the last ring change has set.
    pub(super) fn member_keys(&self) -> Vec<(String, Value)> {
        let state = |node: &NodeId| if self.members.contains(node) { "joined" } else { "left" };
        let changed = self.joined.iter().chain(&self.left);
        let keys = changed.flat_map(|node| {
            let key = |what: &str| format!("runtime.members.{node}.{what}");
            let ip = self.addresses.get(node).map(|ip| (key("ip"), Value::text(&format!("r(0) ip({ip}) "))));
            let joins = self.joins.get(node).copied().unwrap_or_default();
            ip.into_iter().chain([
                (key("config_version"), Value::u64(0)),
                (key("join_count"), Value::u32(joins)),
                (key("status"), Value::text(state(node))),
            ])
        });
        let ends = [("lowest", self.members.first()), ("highest", self.members.last())];
        let ends = ends.into_iter().filter_map(|(which, node)| {
            Some((format!("runtime.votequorum.{which}_node_id"), Value::u32(node?.get())))
        });
        keys.chain(ends).collect()
    }
}
