//! Resolves host names of the node list again while the node runs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use quorate_membership::{Config, NodeId};

/// The names, and the look-ups in progress.
#[derive(Debug)]
pub(super) struct Names {
    hosts: BTreeMap<NodeId, String>,
    asked_at: BTreeMap<NodeId, Instant>,
    sender: mpsc::Sender<Found>,
    found: mpsc::Receiver<Found>,
}

/// The addresses of a node's host name.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) node: NodeId,
    pub(super) addresses: Vec<Ipv4Addr>,
}

impl Names {
    /// The shortest time between two look-ups of one name.
    const AGAIN: Duration = Duration::from_secs(5);

    pub(super) fn of(config: &Config) -> Self {
        let hosts = config.nodes.iter().filter(|member| member.id != config.node);
        let hosts =
            hosts.filter_map(|member| Some((member.id, member.host.clone()?))).collect::<BTreeMap<_, _>>();
        let (sender, found) = mpsc::channel(hosts.len().max(1));
        Self { hosts, asked_at: BTreeMap::new(), sender, found }
    }

    pub(super) fn host(&self, node: NodeId) -> Option<&str> {
        self.hosts.get(&node).map(String::as_str)
    }

    /// Looks up the name of a node, if it has one and the last look-up is not too recent. A
    /// resolver may take minutes, so it runs in a thread of its own.
    pub(super) fn look_up(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get(&node) else { return };
        let now = Instant::now();
        if self.asked_at.get(&node).is_some_and(|at| now - *at < Self::AGAIN) {
            return;
        }
        // Each node has room for one answer. A resolver that has not answered is not asked again.
        let Ok(answer) = self.sender.clone().try_reserve_owned() else { return };
        self.asked_at.insert(node, now);
        let host = host.clone();
        tokio::task::spawn_blocking(move || {
            let found = (host.as_str(), 0).to_socket_addrs().into_iter().flatten();
            let addresses = found.filter_map(|address| match address {
                SocketAddr::V4(address) => Some(*address.ip()),
                SocketAddr::V6(_) => None,
            });
            answer.send(Found { node, addresses: addresses.collect() });
        });
    }

    /// Waits for the next answer.
    pub(super) fn poll_found(&mut self, context: &mut Context<'_>) -> Poll<Found> {
        match self.found.poll_recv(context) {
            Poll::Ready(Some(found)) => Poll::Ready(found),
            // The sender is kept, so the channel never closes.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
