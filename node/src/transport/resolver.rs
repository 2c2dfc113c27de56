//! Resolves host names of the node list again while the node runs.

use std::net::{IpAddr, ToSocketAddrs};

use quorate_membership::NodeId;
use tokio::sync::mpsc;

/// The look-ups in progress.
#[derive(Debug)]
pub(crate) struct Resolver {
    sender: mpsc::Sender<(NodeId, Vec<IpAddr>)>,
    found: mpsc::Receiver<(NodeId, Vec<IpAddr>)>,
}

impl Resolver {
    /// The most look-ups at a time. A resolver that does not answer must not collect threads.
    const AT_ONCE: usize = 16;

    pub(crate) fn new() -> Self {
        let (sender, found) = mpsc::channel(Self::AT_ONCE);
        Self { sender, found }
    }

    /// Looks up the name of a node. A resolver may take minutes, so it runs in a thread of its own.
    pub(crate) fn look_up(&self, node: NodeId, host: String) {
        let Ok(answer) = self.sender.clone().try_reserve_owned() else { return };
        tokio::task::spawn_blocking(move || {
            let found = (host.as_str(), 0).to_socket_addrs().into_iter().flatten();
            answer.send((node, found.map(|address| address.ip()).collect()));
        });
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
