//! The sockets that clients connect to, and the services behind them.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate::{Config, Event, Guarantee, MulticastError, Node};
use rustix::io::Errno;
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::code::Code;
use crate::outbox::Outbox;
use crate::qb::connection::{Ended, serve};
use crate::qb::{Owner, sweep};
use crate::services::{ConnectionId, Done, Effect, Order, Service, Services, Step, Value};

/// The directory of the files that clients share with this process. libqb's clients take any path,
/// and corosync uses this one.
const SHARED: &str = "/dev/shm";

/// Why the services' sockets cannot be opened.
#[derive(Debug, thiserror::Error)]
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
    /// A socket cannot be opened.
    #[error("cannot open the socket @{service}: {error}")]
    Socket {
        /// The service whose socket it is.
        service: &'static str,
        /// The reason.
        error: io::Error,
    },
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
    /// If another process has a socket of the same name, or the system refuses one.
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
    pub fn bind() -> Result<Self, BindError> {
        let listeners = Service::ALL.into_iter().map(|service| {
            let listener = listen(service.name()).map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => BindError::InUse { service: service.name() },
                _ => BindError::Socket { service: service.name(), error },
            });
            Ok((service, listener?))
        });
        let listeners = listeners.collect::<Result<_, BindError>>()?;
        let swept = sweep(Path::new(SHARED), &Service::ALL.map(Service::name));
        if swept > 0 {
            tracing::info!("removed {swept} directories from {SHARED} that a killed process had left there");
        }
        Ok(Self { listeners })
    }

    /// Answers clients on behalf of a node. At most `limit` are connected at a time. Clients are
    /// asked to try again until the node's first ring has formed.
    ///
    /// `keys` are the contents of the map ([`keys`](crate::keys)).
    pub fn serve(
        self,
        node: Node,
        config: &Config,
        keys: impl IntoIterator<Item = (String, Value)>,
        limit: usize,
    ) -> Clients {
        let front = Arc::new(Front {
            services: Mutex::new(Services::new(config, keys)),
            node,
            limit,
            shutdown: Notify::new(),
        });
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
        let mut services = self.front.lock();
        services.event(event);
        self.front.carry_on(services);
    }

    /// Waits until the clients have agreed that the node shuts down (`corosync-cfgtool -H`).
    pub async fn shutdown(&self) {
        self.front.shutdown.notified().await;
    }

    /// Returns the number of requests that did not have the layout of their kind.
    pub fn malformed(&self) -> u64 {
        self.front.lock().malformed()
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
                    let front = front.clone();
                    connections.spawn(async move { note(service, &serve(stream, service, front).await) });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a client of {}: {error}", service.name());
                    // Without a free descriptor, the next attempt would fail at once, too.
                    sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
    connections.shutdown().await;
}

/// Waits until the sockets are to be closed.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone.
    let _ = closing.wait_for(|closing| *closing).await;
}

fn note(service: Service, ended: &Ended) {
    let service = service.name();
    match ended {
        Ended::Gone => tracing::debug!(service, "a client has gone"),
        Ended::TurnedAway(Errno::ACCESS) => {
            tracing::warn!("a client of {service} was turned away; see uidgid in corosync.conf(5)");
        }
        // Any process of the host can do that as often as it likes.
        Ended::TurnedAway(_) | Ended::NotOurs | Ended::Silent => {
            tracing::debug!(service, "a client was turned away: {ended}");
        }
        _ => tracing::warn!("a client of {service} was disconnected: {ended}"),
    }
}

/// The services, and the node that they act on.
pub(crate) struct Front {
    services: Mutex<Services>,
    node: Node,
    limit: usize,
    shutdown: Notify,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Front {
    fn lock(&self) -> MutexGuard<'_, Services> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what the services want done and no connection waits for.
    fn carry_on(self: &Arc<Self>, mut services: MutexGuard<'_, Services>) {
        let effects = services.take_effects();
        drop(services);
        for effect in effects {
            match effect {
                Effect::Shutdown => self.shutdown.notify_one(),
                Effect::Abandon { pid, group, parting } => {
                    let node = self.node.of_process(pid);
                    // This fails only if the node itself has left.
                    tokio::spawn(async move { node.leave_group(&group, parting).await });
                }
                Effect::EndVote { vote, after } => {
                    let front = self.clone();
                    tokio::spawn(async move {
                        sleep(after).await;
                        let mut services = front.lock();
                        services.end_vote(vote);
                        front.carry_on(services);
                    });
                }
            }
        }
    }

    pub(crate) fn root(&self) -> &'static str {
        SHARED
    }

    /// Returns why a client is not let in, if it is not.
    pub(crate) fn admit(&self, owner: Owner) -> Result<(), Errno> {
        let services = self.lock();
        if services.clients() >= self.limit {
            return Err(Errno::MFILE);
        }
        services.admit(owner.uid, owner.gid).map_err(|code| match code {
            Code::TryAgain => Errno::AGAIN,
            _ => Errno::ACCESS,
        })
    }

    pub(crate) fn open(&self, service: Service) -> (ConnectionId, Arc<Outbox>) {
        self.lock().open(service)
    }

    pub(crate) fn close(self: &Arc<Self>, id: ConnectionId) {
        let mut services = self.lock();
        services.close(id);
        self.carry_on(services);
    }

    pub(crate) fn request(self: &Arc<Self>, id: ConnectionId, request: Bytes) -> Step {
        let mut services = self.lock();
        let step = services.request(id, request);
        self.carry_on(services);
        step
    }

    /// Carries out an order. Returns the response to its request.
    pub(crate) async fn carry_out(&self, id: ConnectionId, order: Order) -> Option<Bytes> {
        let done = match order {
            Order::Join { pid, group } => Done::Joined(self.node.of_process(pid).join(&group).await),
            Order::LeaveGroup { pid, group } => {
                let node = self.node.of_process(pid);
                Done::LeftGroup(node.leave_group(&group, quorate::Parting::Left).await)
            }
            Order::Multicast { pid, group, payload, answered } => {
                let node = self.node.of_process(pid);
                let sent = loop {
                    match node.multicast(&group, Guarantee::Agreed, payload.clone()).await {
                        // The events are taken by another task.
                        Err(MulticastError::EventsUnread) => node.caught_up().await,
                        sent => break sent,
                    }
                };
                Done::Multicast { sent, answered }
            }
            Order::Kill { node, reason } => {
                self.node.kill(node, reason).await;
                Done::Killed
            }
            Order::ReadStats(request) => Done::Stats(Box::new(self.node.stats().await), request),
        };
        self.lock().done(id, done)
    }
}
