//! The services of a node, and the node that they act on.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;
use quorate::{Config, DeviceRequest, Event, Guarantee, MulticastError, Node};
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::code::Code;
use crate::outbox::Outbox;
use crate::qb::{Owner, Transport};
use crate::services::{ConnectionId, Done, Effect, Order, Peer, Service, Services, Step, Value};

/// The clients without a permission that can be connected at a time, until they are turned away.
const STRANGERS: usize = 16;

/// A place among the clients that are connected at a time.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    /// Whether the client can be let in, as far as places go.
    is_full: bool,
}

/// Reads the configuration again. Returns the contents of the map, or `None` if it cannot be used.
pub(crate) type Reload = Box<dyn Fn() -> Option<Vec<(String, Value)>> + Send + Sync>;

/// The services, and the node that they act on.
pub(crate) struct Front {
    services: Mutex<Services>,
    node: Node,
    /// `None` if there is no configuration that could be read again.
    pub(crate) reload: OnceLock<Reload>,
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
    /// The directory of the files that clients share with this process. libqb's clients take any
    /// path, and corosync uses this one.
    pub(crate) const ROOT: &str = "/dev/shm";

    /// Creates the front of a node, with places for `limit` clients.
    pub(crate) fn new(
        node: Node,
        config: &Config,
        keys: impl IntoIterator<Item = (String, Value)>,
        limit: usize,
    ) -> Self {
        Self {
            services: Mutex::new(Services::new(config, keys)),
            node,
            reload: OnceLock::new(),
            places: Arc::new(Semaphore::new(limit)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            runtime: Handle::current(),
            shutdown: Notify::new(),
        }
    }

    /// Passes an event of the ring to the services.
    pub(crate) fn event(self: &Arc<Self>, event: &Event) {
        let mut services = self.lock();
        services.event(event);
        self.carry_on(services);
    }

    /// Waits until the clients have agreed on a shutdown.
    pub(crate) async fn shutdown(&self) {
        self.shutdown.notified().await;
    }

    pub(crate) fn malformed(&self) -> u64 {
        self.lock().malformed()
    }

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
                Effect::CancelWaitForAll => {
                    let node = self.node.clone();
                    self.runtime.spawn(async move { node.cancel_wait_for_all().await });
                }
                Effect::DeviceEnded => {
                    let node = self.node.clone();
                    self.runtime.spawn(async move { node.device(DeviceRequest::Ended).await });
                }
                Effect::AskToReload { request } => {
                    let node = self.node.clone();
                    self.runtime.spawn(async move { node.ask_to_reload(request).await });
                }
                Effect::Reload => {
                    let front = self.clone();
                    self.runtime.spawn(async move {
                        let reader = front.clone();
                        // Reading files takes time, and a name in them may have to be resolved.
                        let read = spawn_blocking(move || reader.reload.get().and_then(|reload| reload()));
                        let keys = read.await.unwrap_or_default();
                        let mut services = front.lock();
                        services.reloaded(keys);
                        front.carry_on(services);
                    });
                }
                Effect::WatchCounters { after } => {
                    let front = self.clone();
                    self.runtime.spawn(async move {
                        sleep(after).await;
                        let stats = front.node.stats().await;
                        let mut services = front.lock();
                        services.watch_counters(&stats);
                        front.carry_on(services);
                    });
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

    /// Returns a place for a client that has connected.
    ///
    /// Returns `None` if even the places of those that are turned away are taken.
    pub(crate) fn place(&self, owner: Owner) -> Option<Place> {
        let permitted = self.lock().admit(owner.uid, owner.gid) != Err(Code::Access);
        let place = permitted.then(|| self.places.clone().try_acquire_owned().ok()).flatten();
        if let Some(permit) = place {
            return Some(Place { _permit: permit, is_full: false });
        }
        let permit = self.strangers.clone().try_acquire_owned().ok()?;
        Some(Place { _permit: permit, is_full: true })
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

    /// Returns the transport that the configuration chooses for clients.
    pub(crate) fn transport(&self) -> Transport {
        if self.lock().wants_sockets() { Transport::Sockets } else { Transport::Memory }
    }

    pub(crate) fn open(&self, service: Service, peer: Peer) -> (ConnectionId, Arc<Outbox>) {
        self.lock().open(service, peer)
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

    /// Carries out an order. Returns the response to its request, if there is one.
    pub(crate) async fn carry_out(self: &Arc<Self>, id: ConnectionId, order: Order) -> Option<Bytes> {
        let done = match order {
            Order::Join { pid, group } => Done::Joined(self.node.of_process(pid).join(&group).await),
            Order::LeaveGroup { pid, group } => {
                let node = self.node.of_process(pid);
                Done::LeftGroup(node.leave_group(&group, quorate::Parting::Left).await)
            }
            Order::Multicast { pid, group, payload } => {
                let node = self.node.of_process(pid);
                // Another error means that the node has left, so that its clients are disconnected.
                while let Err(MulticastError::EventsUnread) =
                    node.multicast(&group, Guarantee::Agreed, payload.clone()).await
                {
                    // The events are taken by another task.
                    node.caught_up().await;
                }
                return None;
            }
            Order::Kill { node, reason } => {
                self.node.kill(node, reason).await;
                Done::Killed
            }
            Order::SetExpectedVotes(votes) => {
                self.node.set_expected_votes(votes).await;
                Done::VotesSet
            }
            Order::SetVotes { node, votes } => {
                self.node.set_votes(node, votes).await;
                Done::VotesSet
            }
            Order::Device(request) => Done::Device(self.node.device(request).await),
            Order::ReadStats(request) => Done::Stats(Box::new(self.node.stats().await), request),
        };
        let mut services = self.lock();
        let response = services.done(id, done);
        self.carry_on(services);
        response
    }
}
