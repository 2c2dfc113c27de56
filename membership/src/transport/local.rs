//! `transport: local`: several nodes on one host, without root. Ours alone, not corosync's.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use super::names::Names;
use super::peers::{Peers, Ports};
use super::udp::{Addresses, BindError, Udp, v4};
use crate::Config;

impl Udp {
    /// Multicast within this host.
    ///
    /// Nodes are told apart by loopback addresses (127.0.0.1, 127.0.0.2, ...: Linux has them all) or by ports
    /// (`nodelist.node.port`, at least two apart, for a node sends from the port below its own). All share the group at
    /// `mcastport`. This node's address is its entry's in the node list, else the one that `Config::bind` gives. As everywhere, a node
    /// list says who there is; without one, peers are learnt from their JOINs, whose source port is one below the port
    /// at which their sender receives tokens.
    ///
    /// Has to be called within a tokio runtime with IO enabled.
    ///
    /// # Errors
    /// If a socket cannot be had; the message says what to do.
    pub fn local(config: &Config) -> Result<Self, BindError> {
        let network = &config.network;
        let mut list = Vec::new();
        for member in &config.nodes {
            list.push((member.id, home(member.address, member.port.unwrap_or(config.port()))?));
        }
        let peers;
        let own;
        if list.is_empty() {
            own = home(config.bind(), config.port())?;
            peers = Peers::learning(config.node, own, Ports::PerNode);
        } else {
            own = match list.iter().find(|(id, _)| *id == config.node) {
                Some((_, listed)) => *listed,
                None => home(config.bind(), config.port())?,
            };
            peers = Peers::listed(config.node, own, Ports::PerNode, list)?;
        }
        let group = SocketAddrV4::new(v4(config.group())?, config.port());
        Self::open(
            &Addresses { home: own, group, ttl: network.ttl, loopback: true, cluster: config.cluster_tag() },
            None,
            peers,
            Names::of(config),
        )
    }
}

fn home(address: IpAddr, port: u16) -> Result<SocketAddrV4, BindError> {
    let address: Ipv4Addr = v4(address)?;
    if !address.is_loopback() {
        return Err(BindError::NotLoopback { address });
    }
    Ok(SocketAddrV4::new(address, port))
}
