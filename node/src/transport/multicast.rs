//! `transport: udp`: IPv4 multicast between hosts, as corosync does it.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use if_addrs::IfAddr;

use super::interfaces::Interfaces;
use super::names::Names;
use super::peers::{Peers, Ports};
use super::udp::{Addresses, BindError, Udp, v4};
use quorate_membership::Config;

impl Udp {
    /// Opens a transport with multicast on the interface that has the address `interface`
    /// ([`Udp::bind`] determines it).
    ///
    /// A host has one node per group. The kernel's own loopback is off, as with corosync, so a
    /// second node on the same host would not be heard. Peers are identified by their address
    /// alone, whatever port they send from. A node list is complete. Without one, peers are learnt
    /// from their JOINs.
    ///
    /// The transport follows the address to an interface that is created again, or to another one.
    /// If this node is listed at `interface` and no interface has that address yet, the transport
    /// waits for it, and sends and receives nothing until then.
    ///
    /// Must be called within a tokio runtime with IO enabled.
    ///
    /// # Errors
    /// If a socket cannot be opened. The message says what to do.
    pub fn multicast(config: &Config, interface: Ipv4Addr) -> Result<Self, BindError> {
        let port = config.port();
        let home = SocketAddrV4::new(interface, port);
        let peers = if config.nodes.is_empty() {
            Peers::learning(config.node, home, Ports::Same(port))
        } else {
            let mut list = Vec::new();
            for member in &config.nodes {
                list.push((member.id, SocketAddrV4::new(v4(member.address)?, port)));
            }
            Peers::listed(config.node, home, Ports::Same(port), list)?
        };
        let group = SocketAddrV4::new(v4(config.group())?, port);
        let interfaces = Interfaces::with(interface)
            .inspect_err(|error| {
                tracing::warn!(
                    "the kernel does not report changes of addresses ({error}); restart this node after such a change"
                );
            })
            .ok();
        let absent = interfaces.as_ref().is_some_and(|interfaces| interfaces.having(None).is_none());
        if absent && listed_address(config) != Some(interface.into()) {
            return Err(BindError::NoSuchAddress { address: interface });
        }
        let addresses = Addresses {
            home,
            group,
            ttl: config.network.ttl,
            loopback: false,
            cluster: config.cluster_tag(),
        };
        Self::open(&addresses, interfaces, peers, Names::of(config))
    }
}

/// Returns this node's address in the node list.
fn listed_address(config: &Config) -> Option<IpAddr> {
    config.nodes.iter().find(|member| member.id == config.node).map(|member| member.address)
}

/// Returns the address to bind. This is the listed one, whether or not an interface has it yet.
/// Without a list it is the one that `network.bind` names, or if no interface has that exact
/// address, the first in whose network it lies.
///
/// The kernel lists an interface's primary address in a network before the others.
pub(super) fn own_address(config: &Config) -> Result<Ipv4Addr, BindError> {
    if let Some(listed) = listed_address(config) {
        return v4(listed);
    }
    let bind = v4(config.bind())?;
    let interfaces = if_addrs::get_if_addrs().map_err(|source| BindError::Interfaces { source })?;
    let networks = interfaces.into_iter().filter_map(|interface| match interface.addr {
        IfAddr::V4(address) => Some((address.ip, address.netmask)),
        IfAddr::V6(_) => None,
    });
    choose(bind, &networks.collect::<Vec<_>>()).ok_or(BindError::NoSuchNetwork { address: bind })
}

fn choose(bind: Ipv4Addr, networks: &[(Ipv4Addr, Ipv4Addr)]) -> Option<Ipv4Addr> {
    let exact = networks.iter().find(|(address, _)| *address == bind);
    let within = || networks.iter().find(|(address, mask)| address & mask == bind & mask);
    exact.or_else(within).map(|(address, _)| *address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::NodeId;

    fn check(bind: [u8; 4], chosen: Option<[u8; 4]>) {
        let networks = [
            ([127, 0, 0, 1], [255, 0, 0, 0]),
            ([10, 0, 0, 7], [255, 255, 255, 0]),
            ([10, 0, 0, 8], [255, 255, 255, 0]),
        ]
        .map(|(address, mask)| (Ipv4Addr::from(address), Ipv4Addr::from(mask)));
        assert_eq!(choose(bind.into(), &networks), chosen.map(Ipv4Addr::from));
    }

    #[test]
    fn an_exact_address_wins_over_the_first_of_its_network() {
        check([10, 0, 0, 8], Some([10, 0, 0, 8]));
        check([10, 0, 0, 0], Some([10, 0, 0, 7]));
        check([10, 0, 1, 0], None);
    }

    #[test]
    fn a_network_without_interface_is_a_clear_error() {
        let mut config = Config::new(NodeId::new(1).unwrap());
        config.network.bind = Some([240, 0, 0, 1].into());
        let error = own_address(&config).unwrap_err().to_string();
        assert!(error.starts_with("no interface of this host is in the network of 240.0.0.1"), "{error}");
    }
}
