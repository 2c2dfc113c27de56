//! Hosts of a scenario that run no node.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

type Running = Pin<Box<dyn Future<Output = Result<(), Box<dyn Error>>>>>;

/// Hosts of a scenario that run no node: the clients of a service, and the resources that it uses,
/// such as a database that checks fencing tokens. Passed to [`Scenario::run_service_among`].
///
/// Each host runs one async function. It uses `turmoil::net` and tokio's time and channels, and is
/// bound by the same rules as a service ([`Scenario::run_service`]). Hosts and nodes find each
/// other by name; the nodes are called `node1`, `node2`, ...
///
/// No fault of the scenario reaches these hosts. A partition separates nodes from each other, and
/// each of them still reaches the other hosts, as in a cluster with a network of its own. A host
/// that is to lose a node calls `turmoil::partition`, and later `turmoil::repair`. A node that
/// crashes loses its connections.
///
/// ```
/// use quorate_netsim::Others;
///
/// let others = Others::new()
///     .host("database", async {
///         let listener = turmoil::net::TcpListener::bind("0.0.0.0:5432").await?;
///         loop {
///             let (connection, client) = listener.accept().await?;
///             // ...
/// #           drop((connection, client));
///         }
///     })
///     .host("buyer", async {
///         let shop = turmoil::net::TcpStream::connect("node1:80").await?;
///         // ...
/// #       drop(shop);
///         Ok(())
///     });
/// # drop(others);
/// ```
///
/// [`Scenario::run_service`]: crate::Scenario::run_service
/// [`Scenario::run_service_among`]: crate::Scenario::run_service_among
#[derive(Default)]
pub struct Others(Vec<(String, Running)>);

impl Others {
    /// Returns no hosts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a host that starts with the nodes. When its function returns `Ok`, the host is idle. An
    /// error fails the run, and names the host. A panic fails it, too, unless it is in a task that
    /// the function has spawned.
    #[must_use]
    pub fn host(
        mut self,
        name: impl Into<String>,
        run: impl Future<Output = Result<(), Box<dyn Error>>> + 'static,
    ) -> Self {
        self.0.push((name.into(), Box::pin(run)));
        self
    }

    /// Returns an error if two hosts, or a host and a node, would have the same name.
    pub(crate) fn check(&self, nodes: u32) -> Result<(), String> {
        let mut names: BTreeSet<String> = (1..=nodes).map(|node| format!("node{node}")).collect();
        match self.0.iter().find(|(name, _)| name.is_empty() || !names.insert(name.clone())) {
            Some((name, _)) if name.is_empty() => Err("a host that runs no node has no name".into()),
            Some((name, _)) => Err(format!("two hosts are called {name}")),
            None => Ok(()),
        }
    }

    pub(crate) fn into_hosts(self) -> impl Iterator<Item = (String, Running)> {
        self.0.into_iter()
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
