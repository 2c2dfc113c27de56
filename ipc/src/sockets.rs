//! The sockets that clients connect to.

use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate::{Config, Event, Node};
use rustix::process::{getegid, geteuid};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::front::Front;
use crate::qb::connection::{Ended, closed, serve};
use crate::qb::{Broken, sweep};
use crate::services::{Service, Value};

/// The time that connections have for their last responses when the node ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why the services' sockets cannot be opened.
#[derive(thiserror::Error)]
pub enum BindError {
    /// Another process serves corosync's clients in this network namespace.
    #[error(
        "a corosync daemon, or another node that serves corosync's clients, already runs on this host (the \
         socket @{service} is in use); stop it first"
    )]
    InUse {
        /// The service whose socket is in use.
        service: &'static str,
    },
    /// The process does not run as root.
    #[error("corosync's clients can only be served as root: they accept no other server")]
    NotRoot,
    /// A socket cannot be opened.
    #[error("cannot open the socket @{service}: {error}")]
    Socket {
        /// The service whose socket it is.
        service: &'static str,
        /// The reason.
        error: io::Error,
    },
}

/// As [`Display`](fmt::Display), because `main` and `unwrap` print this.
impl fmt::Debug for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The sockets of the services, on which no client is answered yet.
#[derive(Debug)]
pub struct Sockets {
    listeners: Vec<(Service, UnixListener)>,
}

impl Sockets {
    /// Opens the sockets, and removes what a process that was killed has left in `/dev/shm`.
    ///
    /// Clients can connect from now on, and wait until [`Sockets::serve`].
    ///
    /// # Errors
    /// If this process does not run as root, if another one has a socket of the same name, or if
    /// the system refuses one.
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
    pub fn bind() -> Result<Self, BindError> {
        if !geteuid().is_root() && !getegid().is_root() {
            return Err(BindError::NotRoot);
        }
        let listeners = Service::ALL.into_iter().map(|service| {
            let listener = listen(service.name()).map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => BindError::InUse { service: service.name() },
                _ => BindError::Socket { service: service.name(), error },
            });
            Ok((service, listener?))
        });
        let listeners = listeners.collect::<Result<_, BindError>>()?;
        let swept = sweep(Path::new(Front::ROOT), &Service::ALL.map(Service::name));
        if swept > 0 {
            tracing::info!(
                "removed {swept} directories from {} that a killed process had left there",
                Front::ROOT
            );
        }
        Ok(Self { listeners })
    }

    /// Answers clients on behalf of a node. At most `limit` are connected at a time. Clients are
    /// asked to try again until the node's first ring has formed.
    ///
    /// `keys` are the contents of the map ([`keys`](crate::keys)).
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
    pub fn serve(
        self,
        node: Node,
        config: &Config,
        keys: impl IntoIterator<Item = (String, Value)>,
        limit: usize,
    ) -> Clients {
        let front = Arc::new(Front::new(node, config, keys, limit));
        let closing = watch::Sender::new(false);
        for (service, listener) in self.listeners {
            tokio::spawn(accept(service, listener, front.clone(), closing.subscribe()));
        }
        Clients { front, closing }
    }
}

fn listen(service: &str) -> io::Result<UnixListener> {
    /// Clients use the whole length of an address. A shorter name would be another one.
    const LENGTH: usize = 107;
    let mut name = [0; LENGTH];
    name[..service.len()].copy_from_slice(service.as_bytes());
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// The clients of a node.
#[derive(Debug)]
pub struct Clients {
    front: Arc<Front>,
    /// Whether the sockets are closed. Each has a receiver as long as it has connections.
    closing: watch::Sender<bool>,
}

impl Clients {
    /// Passes an event of the ring to the clients that it concerns. Call it with all events, in
    /// their order. It does not wait for any client.
    pub fn handle(&self, event: &Event) {
        self.front.event(event);
    }

    /// Sets the function that reads the configuration again when an operator asks all nodes to do
    /// so (`corosync-cfgtool -R`, on any node of the ring). It returns the keys of the map
    /// ([`keys`](crate::keys)), or `None` if the configuration cannot be used, and logs why.
    /// Without such a function, an operator who asks at this node gets an error.
    pub fn set_reload(&self, reload: impl Fn() -> Option<Vec<(String, Value)>> + Send + Sync + 'static) {
        // A second one is ignored.
        let _ = self.front.reload.set(Box::new(reload));
    }

    /// Waits until the clients have agreed that the node shuts down (`corosync-cfgtool -H`).
    pub async fn shutdown(&self) {
        self.front.shutdown().await;
    }

    /// Returns the number of requests that did not have the layout of their kind.
    pub fn malformed(&self) -> u64 {
        self.front.malformed()
    }

    /// Closes the sockets, ends all connections, and removes their files.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        self.closing.closed().await;
    }
}

async fn accept(
    service: Service,
    listener: UnixListener,
    front: Arc<Front>,
    mut closing: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = closed(&mut closing) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let served = serve(stream, service, front.clone(), closing.clone());
                    connections.spawn(async move { note(service, &served.await) });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a client of {}: {error}", service.name());
                    // Without a free descriptor, the next attempt would fail at once, too.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    // They end by themselves, after their last responses.
    if timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await.is_err() {
        connections.shutdown().await;
    }
}

fn note(service: Service, ended: &Ended) {
    let service = service.name();
    match ended {
        Ended::Broken(Broken::Gone) | Ended::Closing => tracing::debug!(service, "a client has gone"),
        // Any process of the host can do that as often as it likes.
        Ended::TurnedAway(_) | Ended::NotOurs | Ended::Silent | Ended::Crowded => {
            tracing::debug!(service, "a client was turned away: {ended}");
        }
        _ => tracing::warn!("a client of {service} was disconnected: {ended}"),
    }
}
