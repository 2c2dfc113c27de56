//! The address at which a node runs.

use std::net::{IpAddr, SocketAddr};

use quorate_membership::Config;
use quorate_membership::config::{Host, TransportKind};

use super::BindError;
use crate::config::this_host;

/// Returns this node's address in the node list.
pub(super) fn listed(config: &Config) -> Option<IpAddr> {
    config.nodes.iter().find(|member| member.id == config.node).map(|member| member.address)
}

/// Returns the address and port at which this node receives.
///
/// The address is the listed one, whether or not an interface has it yet. Without a list it is the
/// one that `network.bind` names, or if no interface has that exact address, the first in whose
/// network it lies. Within a host, each node of the list can have a port of its own.
pub(super) fn home(config: &Config) -> Result<SocketAddr, BindError> {
    let port = config.port();
    if config.network.transport == TransportKind::Local {
        let own = config.nodes.iter().find(|member| member.id == config.node);
        return Ok(match own {
            Some(member) => SocketAddr::new(member.address, member.port.unwrap_or(port)),
            None => SocketAddr::new(config.bind(), port),
        });
    }
    if let Some(listed) = listed(config) {
        return Ok(SocketAddr::new(listed, port));
    }
    let host = this_host().map_err(|source| BindError::Interfaces { source })?;
    Ok(SocketAddr::new(choose(config.bind(), &host)?, port))
}

fn choose(bind: IpAddr, host: &Host) -> Result<IpAddr, BindError> {
    let interface = host.interface(bind).ok_or(BindError::NoSuchNetwork { address: bind })?;
    Ok(interface.address)
}

#[cfg(test)]
mod tests {
    use quorate_membership::NodeId;

    use super::*;

    #[test]
    fn a_network_without_interface_is_a_clear_error() {
        let mut config = Config::new(NodeId::new(1).unwrap());
        config.network.transport = TransportKind::Multicast;
        config.network.bind = Some([240, 0, 0, 1].into());
        let error = home(&config).unwrap_err().to_string();
        assert!(error.starts_with("no interface of this host is in the network of 240.0.0.1"), "{error}");
    }

    #[test]
    fn a_node_of_this_host_has_its_own_port() {
        let mut config = Config::of_cluster("test", 1, [(1, "127.0.0.1")]).unwrap();
        config.nodes[0].port = Some(7000);
        assert_eq!(home(&config).unwrap(), "127.0.0.1:7000".parse().unwrap());
    }
}
