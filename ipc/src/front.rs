//! The sockets that clients connect to, and the services behind them.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use quorate::{Config, Event, Guarantee, MulticastError, Node};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::code::Code;
use crate::outbox::Outbox;
use crate::qb::connection::{Ended, serve};
use crate::qb::{Owner, sweep};
use crate::services::{ConnectionId, Done, Effect, Order, Service, Services, Step, Value};

/// The directory of the files that clients share with this process. libqb's clients take any path,
/// and corosync uses this one.
const SHARED: &str = "/dev/shm";

/// The time that connections have for their last responses when the node ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The clients without a permission that can be connected at a time, until they are turned away.
const STRANGERS: usize = 16;

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
        let front = Arc::new(Front {
            services: Mutex::new(Services::new(config, keys)),
            node,
            places: Arc::new(Semaphore::new(limit)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            runtime: Handle::current(),
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

/// Waits until the sockets are to be closed.
pub(crate) async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone.
    let _ = closing.wait_for(|closing| *closing).await;
}

fn note(service: Service, ended: &Ended) {
    let service = service.name();
    match ended {
        Ended::Gone | Ended::Closing => tracing::debug!(service, "a client has gone"),
        // Any process of the host can do that as often as it likes.
        Ended::TurnedAway(_) | Ended::NotOurs | Ended::Silent | Ended::Crowded => {
            tracing::debug!(service, "a client was turned away: {ended}");
        }
        _ => tracing::warn!("a client of {service} was disconnected: {ended}"),
    }
}

/// A place among the clients that are connected at a time.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    /// Whether the client can be let in, as far as places go.
    is_full: bool,
}

/// The services, and the node that they act on.
pub(crate) struct Front {
    services: Mutex<Services>,
    node: Node,
    /// The places of clients with a permission, and those of others, which are turned away. A
    /// process without a permission cannot use up the descriptors of the node.
    places: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    /// The runtime, which a connection that is dropped may be outside of.
    runtime: Handle,
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
                    // This fails if the process has left already, or the node.
                    let mut leaving = Box::pin(async move { node.leave_group(&group, parting).await });
                    // The first poll hands the request to the node, before the process can join
                    // again through another connection.
                    if leaving.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                        self.runtime.spawn(leaving);
                    }
                }
                Effect::EndVote { vote, after } => {
                    let front = self.clone();
                    self.runtime.spawn(async move {
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

    /// Returns a place for a client that has connected.
    ///
    /// # Errors
    /// If even the places of those that are turned away are taken.
    pub(crate) fn place(&self, owner: Owner) -> Result<Place, Ended> {
        let permitted = self.lock().admit(owner.uid, owner.gid) != Err(Code::Access);
        let place = permitted.then(|| self.places.clone().try_acquire_owned().ok()).flatten();
        match place {
            Some(permit) => Ok(Place { _permit: permit, is_full: false }),
            None => match self.strangers.clone().try_acquire_owned() {
                Ok(permit) => Ok(Place { _permit: permit, is_full: true }),
                Err(_) => Err(Ended::Crowded),
            },
        }
    }

    /// Returns why a client is not let in, if it is not.
    pub(crate) fn admit(&self, owner: Owner, place: &Place) -> Result<(), Errno> {
        match self.lock().admit(owner.uid, owner.gid) {
            Err(Code::TryAgain) => Err(Errno::AGAIN),
            Err(_) => Err(Errno::ACCESS),
            Ok(()) if place.is_full => Err(Errno::MFILE),
            Ok(()) => Ok(()),
        }
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
