//! `transport: udp`: IPv4 multicast between hosts, as corosync does it.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use if_addrs::IfAddr;

use super::peers::{Peers, Ports};
use super::udp::{Addresses, BindError, Udp, v4};
use crate::Config;

impl Udp {
    /// Multicast on the interface that has the address `interface` ([`Udp::bind`] finds it out).
    ///
    /// One node a host and group: the kernel's own loopback is off, as with corosync, so a second one on the same host
    /// would not be heard. Peers are known by their address alone, whatever port they send from. With a node list,
    /// those are all; without one, peers are learnt from their JOINs.
    ///
    /// Has to be called within a tokio runtime with IO enabled.
    ///
    /// # Errors
    /// If a socket cannot be had; the message says what to do.
    pub fn multicast(config: &Config, interface: Ipv4Addr) -> Result<Self, BindError> {
        let port = config.network.port;
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
        let group = SocketAddrV4::new(v4(config.network.group)?, port);
        Self::open(&Addresses { home, group, ttl: config.network.ttl, loopback: false }, peers)
    }
}

/// The address of the interface that `bind` (`bindnetaddr`, `ring0_addr`) names: the one with this very address, else
/// the first one in whose network it is.
pub(super) fn interface_of(bind: IpAddr) -> Result<Ipv4Addr, BindError> {
    let bind = v4(bind)?;
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
    fn a_network_of_no_interface_is_an_error_that_says_so() {
        let error = interface_of([240, 0, 0, 1].into()).unwrap_err().to_string();
        assert!(error.starts_with("no interface of this host is in the network of 240.0.0.1"), "{error}");
    }
}
