//! Resolves host names of the node list again while the node runs.

use std::net::{IpAddr, ToSocketAddrs};
use std::thread;

use quorate_membership::NodeId;
use tokio::sync::mpsc;

/// The look-ups in progress, at most one for each node.
#[derive(Debug)]
pub(crate) struct Resolver {
    sender: mpsc::UnboundedSender<(NodeId, Vec<IpAddr>)>,
    found: mpsc::UnboundedReceiver<(NodeId, Vec<IpAddr>)>,
}

impl Resolver {
    pub(crate) fn new() -> Self {
        let (sender, found) = mpsc::unbounded_channel();
        Self { sender, found }
    }

    /// Looks up the name of a node. A resolver may take minutes, so it runs in a thread of its own,
    /// and not in the runtime's pool: that would panic if the host has no thread left, and would
    /// keep the runtime from ending.
    pub(crate) fn look_up(&self, node: NodeId, host: String) {
        let answer = self.sender.clone();
        let look_up = move || {
            let found = (host.as_str(), 0).to_socket_addrs().into_iter().flatten();
            // The node may have left.
            let _ = answer.send((node, found.map(|address| address.ip()).collect()));
        };
        if thread::Builder::new().name("quorate-lookup".into()).spawn(look_up).is_err() {
            // The path asks again after an answer.
            let _ = self.sender.send((node, Vec::new()));
        }
    }

    /// Waits for the next answer. Cancel safe.
    pub(crate) async fn found(&mut self) -> (NodeId, Vec<IpAddr>) {
        match self.found.recv().await {
            Some(found) => found,
            // The sender is kept, so the channel never closes.
            None => std::future::pending().await,
        }
    }
}
