//! The properties of a host on which its configuration depends.

use std::fmt;
use std::net::IpAddr;

/// A host: its name, its addresses, and a resolver for the names of other hosts.
///
/// This is a value, so that tests can read a file for any host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The host's name, which may include its domain.
    pub name: String,
    /// The host's interfaces, with one entry per address, in the system's order.
    pub interfaces: Vec<Interface>,
    /// Resolves the name of another host. Returns an empty list if it has no addresses.
    pub resolve: fn(&str) -> Vec<IpAddr>,
}

/// An address of an interface. Prints as `eth0 10.0.0.1/24`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The interface's name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// The number of address bits that identify the network.
    pub prefix: u8,
}

impl Host {
    /// Returns `true` if this is an unknown host. Any other host has an
    /// interface.
    pub fn is_unknown(&self) -> bool {
        self.interfaces.is_empty()
    }

    /// Returns the interface that has this address.
    pub fn at(&self, address: IpAddr) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.address == address)
    }

    /// Returns the interface that `bindnetaddr` refers to: the one with this exact address, else
    /// the first whose network contains it. The kernel lists an interface's primary address in a
    /// network before its secondary ones.
    pub fn interface(&self, wanted: IpAddr) -> Option<&Interface> {
        self.at(wanted).or_else(|| self.in_network_of(wanted).next())
    }

    /// Returns the interfaces whose networks contain this address.
    pub fn in_network_of(&self, wanted: IpAddr) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().filter(move |interface| interface.is_in_network_of(wanted))
    }

    /// Returns `true` if an interface has this address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.interfaces.iter().any(|interface| interface.address == address)
    }
}

impl Interface {
    /// Returns `true` if this address is the network's own, with a host part of 0.
    pub fn is_network(&self, address: IpAddr) -> bool {
        let host_bits = |bits: u8| u32::from(bits.saturating_sub(self.prefix));
        match address {
            IpAddr::V4(address) => u32::from(address).trailing_zeros() >= host_bits(32),
            IpAddr::V6(address) => u128::from(address).trailing_zeros() >= host_bits(128),
        }
    }

    fn is_in_network_of(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same_prefix(u32::from(own).into(), u32::from(other).into(), 32, self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same_prefix(own.into(), other.into(), 128, self.prefix),
            _ => false,
        }
    }
}

/// Returns `true` if two addresses of this many bits agree in the first `prefix` bits.
fn same_prefix(one: u128, other: u128, bits: u32, prefix: u8) -> bool {
    let host_bits = bits.saturating_sub(prefix.into());
    (one ^ other).checked_shr(host_bits).unwrap_or(0) == 0
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.name, self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindnetaddr_finds_the_exact_address_first_then_the_network() {
        let interface = |name: &str, address: &str, prefix| Interface {
            name: name.to_owned(),
            address: address.parse().unwrap(),
            prefix,
        };
        let host = Host {
            name: "here".to_owned(),
            interfaces: vec![
                interface("lo", "127.0.0.1", 8),
                interface("eth0", "10.0.0.1", 24),
                interface("eth0", "10.0.0.2", 24),
                interface("eth1", "10.0.1.1", 32),
                interface("eth2", "fd00::1", 64),
            ],
            resolve: |_| Vec::new(),
        };
        let check = |wanted: &str, expect: Option<&str>| {
            let found = host.interface(wanted.parse().unwrap());
            assert_eq!(found.map(|i| i.address), expect.map(|a| a.parse().unwrap()), "{wanted}");
        };
        check("10.0.0.2", Some("10.0.0.2"));
        check("10.0.0.0", Some("10.0.0.1"));
        check("10.0.0.9", Some("10.0.0.1"));
        check("10.0.1.0", None);
        check("10.0.1.1", Some("10.0.1.1"));
        check("127.0.0.0", Some("127.0.0.1"));
        check("192.168.0.0", None);
        check("fd00::", Some("fd00::1"));
        check("::", None);
    }

    #[test]
    fn a_network_address_has_no_host_part() {
        let check = |address: &str, prefix, expect| {
            let interface = Interface { name: "eth0".to_owned(), address: [10, 0, 0, 1].into(), prefix };
            assert_eq!(interface.is_network(address.parse().unwrap()), expect, "{address}/{prefix}");
        };
        check("10.0.0.0", 24, true);
        check("10.0.0.128", 25, true);
        check("10.0.0.128", 24, false);
        check("10.0.0.1", 32, true);
        check("fd00::", 64, true);
    }
}
