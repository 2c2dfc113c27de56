//! `transport: local`: several nodes on one host, without root. Ours, not corosync's.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use super::names::Names;
use super::peers::{Peers, Ports};
use super::udp::{Addresses, BindError, Udp, v4};
use quorate_membership::Config;

impl Udp {
    /// Opens a transport with multicast within this host.
    ///
    /// Nodes are distinguished by loopback addresses (127.0.0.1, 127.0.0.2, ..., all of which exist
    /// on Linux) or by ports (`nodelist.node.port`). Ports must be at least two apart, because a
    /// node sends from the port below its own. All nodes share the group at `mcastport`.
    ///
    /// This node's address is that of its entry in the node list, else the one that `Config::bind`
    /// returns. A node list is complete. Without one, peers are learnt from their JOINs, whose
    /// source port is one below the port at which their sender receives tokens.
    ///
    /// Must be called within a tokio runtime with IO enabled.
    ///
    /// # Errors
    /// If a socket cannot be opened. The message says what to do.
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
