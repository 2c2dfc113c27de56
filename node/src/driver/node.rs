//! The application's ends of a running node: [`Node`] to send, [`Events`] to receive.

use std::mem;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
#[cfg(feature = "metrics")]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready as ready_or_return};
use std::vec;

use bytes::Bytes;
use quorate_election::Event;
use quorate_membership::wire::body::{Reconfigure, VoteParameter};
use quorate_membership::{
    Cause, DeviceError, DeviceRequest, DeviceState, Group, GroupError, Guarantee, Metadata, MulticastError,
    NodeId, Parting, Stats, Totem,
};
use tokio::sync::{Notify, Semaphore, TryAcquireError, mpsc, oneshot, watch};
use tokio::task::coop::consume_budget;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::{TAKEN, TURN};

/// The application's handle to a running node. Cheap to clone; all clones refer to the same node.
#[derive(Clone, Debug)]
pub struct Node {
    /// The process that this handle acts for.
    pid: u32,
    ends: Arc<Ends>,
}

/// The ends of a node that all handles to it have. The node leaves when the last handle and the
/// [`Events`] are dropped.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) id: NodeId,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) shared: Arc<Shared>,
}

impl Node {
    pub(super) fn new(ends: Ends) -> Self {
        Self { pid: 0, ends: Arc::new(ends) }
    }

    /// Returns the node's id.
    pub fn id(&self) -> NodeId {
        self.ends.id
    }

    /// Returns the process that this handle acts for.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the counters as last published.
    #[cfg(feature = "metrics")]
    pub(crate) fn published(&self) -> MutexGuard<'_, Stats> {
        self.ends.shared.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a handle to the same node. Joins, leaves and multicasts through it are made on
    /// behalf of the process with this id. Ids must be unique on this node, as process ids are. The
    /// handle of a started node acts for the current process.
    #[must_use]
    pub fn of_process(&self, pid: u32) -> Self {
        Self { pid, ends: Arc::clone(&self.ends) }
    }

    /// Makes the process a member of a group. The process is a member once
    /// [`Event::GroupChange`] reports it; see [`Totem::join_group`].
    /// Later multicasts through any clone of this handle are sent as a member's.
    ///
    /// [`Events`] has the messages of all groups, joined or not, and the application filters them.
    /// Joining makes the process known to the other members. Real corosync daemons pass its
    /// messages on to their processes only after that.
    ///
    /// If the process is still leaving the group, waits for that to complete. Cancel safe, as
    /// [`Node::multicast`].
    ///
    /// # Errors
    /// If the process is already a member, or if the group or this node is full.
    pub async fn join(&self, group: &Group) -> Result<(), GroupError> {
        let (pid, group) = (self.pid, group.clone());
        self.command(|reply| Command::Join { pid, group, reply }).await.unwrap_or(Err(GroupError::Left))
    }

    /// Removes the process from a group, after the messages that it has multicast so far.
    /// [`Node::leave`] does so for all of this node's processes and groups.
    ///
    /// Cancel safe, as [`Node::multicast`].
    ///
    /// # Errors
    /// If the process is not a member.
    pub async fn leave_group(&self, group: &Group, parting: Parting) -> Result<(), GroupError> {
        let (pid, group) = (self.pid, group.clone());
        let command = |reply| Command::LeaveGroup { pid, group, parting, reply };
        self.command(command).await.unwrap_or(Err(GroupError::Left))
    }

    /// Sends a message to a group, after waiting for room if necessary (back-pressure). After `Ok`,
    /// this node sends the message unless it leaves first. Messages are sent in the order of the
    /// calls on this node. A message has at most [`Totem::MAX_PAYLOAD`] bytes. One that is longer
    /// than [`Totem::QUEUE`] waits until all earlier messages have been sent.
    ///
    /// Delivery at this node does not imply that an agreed message has left it: while a node holds
    /// the ring's resting token, it knows the message's place in the order at once. Call
    /// [`Node::leave`], or use [`Guarantee::Safe`], before ending the process.
    ///
    /// Cancel safe: if the future is dropped before it is ready, no part of the message has been
    /// accepted.
    ///
    /// # Errors
    /// Never [`MulticastError::Full`]. The other errors are returned at once, or as soon as they
    /// arise while the call waits. [`MulticastError::EventsUnread`] is returned if there is no
    /// room, because a task that also owns the event stream would otherwise deadlock. If another
    /// task takes the events, wait with [`Node::caught_up`] and try again.
    pub async fn multicast(
        &self,
        group: &Group,
        guarantee: Guarantee,
        payload: Bytes,
    ) -> Result<(), MulticastError> {
        let length = payload.len();
        if length > Totem::MAX_PAYLOAD {
            return Err(MulticastError::TooLong { length });
        }
        let multicast = Multicast { pid: self.pid, group: group.clone(), guarantee, payload };
        self.ends.shared.enter(multicast.room()).await?;
        self.ends.commands.send(Command::Multicast(multicast)).map_err(|_| MulticastError::Left)
    }

    /// Waits until the application has caught up with its events, so that multicasts no longer fail
    /// with [`MulticastError::EventsUnread`], or until the node has left. Cancel safe.
    ///
    /// This is for a task that sends while another one takes the events. A task that does both has
    /// to take events instead, or it waits forever.
    ///
    /// ```
    /// use quorate::{Group, Guarantee, MulticastError, Node};
    ///
    /// async fn send(node: &Node, group: &Group, text: &str) -> Result<(), MulticastError> {
    ///     loop {
    ///         match node.multicast(group, Guarantee::Agreed, text.to_owned().into()).await {
    ///             Err(MulticastError::EventsUnread) => node.caught_up().await,
    ///             sent => return sent,
    ///         }
    ///     }
    /// }
    /// ```
    pub async fn caught_up(&self) {
        let mut slow = self.ends.shared.slow.subscribe();
        tokio::select! {
            biased;
            _ = slow.wait_for(|slow| !*slow) => {}
            () = self.ends.requests.closed() => {}
        }
    }

    /// Sends a message, as [`Node::multicast`] does, while another task takes the events. Waits
    /// while that task is behind.
    pub(crate) async fn multicast_beside_reader(
        &self,
        group: &Group,
        guarantee: Guarantee,
        payload: Bytes,
    ) -> Result<(), MulticastError> {
        loop {
            match self.multicast(group, guarantee, payload.clone()).await {
                Err(MulticastError::EventsUnread) => self.caught_up().await,
                sent => return sent,
            }
        }
    }

    /// Sends a command to the driver and waits for the answer. Returns `None` if the node has left.
    async fn command<A>(&self, command: impl FnOnce(oneshot::Sender<A>) -> Command) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        self.ends.commands.send(command(reply)).ok()?;
        answer.await.ok()
    }

    /// Leaves the ring. The future completes when the last event has been queued for [`Events`].
    /// Dropping it after the first poll does not cancel the leave, unless 64 other requests wait
    /// for the driver.
    pub async fn leave(&self) {
        // An error means that the node has left already.
        let _ = self.ends.requests.send(Request::Leave).await;
        self.ends.requests.closed().await;
    }

    /// Waits until this node has left the ring, and returns why. This is final: a program that
    /// wants to be a member again starts another node. Cancel safe.
    ///
    /// If the node's sockets have failed, the cause is
    /// [`LeaveRequested`](Cause::LeaveRequested), and the log has the failure. Returns `None` if
    /// the node's task ended without leaving: its runtime was shut down, or it panicked.
    ///
    /// ```
    /// use quorate::Node;
    ///
    /// /// Serves requests for as long as this node is a member.
    /// async fn serve(node: &Node, requests: impl Future<Output = ()>) -> Result<(), String> {
    ///     tokio::select! {
    ///         biased;
    ///         left = node.left() => match left {
    ///             Some(cause) => Err(format!("this node has left the ring: {cause}")),
    ///             None => Err("this node has ended; see the log".to_owned()),
    ///         },
    ///         () = requests => Ok(()),
    ///     }
    /// }
    /// ```
    pub async fn left(&self) -> Option<Cause> {
        self.ends.requests.closed().await;
        self.ends.shared.cause.get().cloned()
    }

    /// Asks a member to leave the ring, as `corosync-cfgtool -k` does. It leaves with
    /// [`Cause::Killed`](quorate_membership::Cause::Killed), which has the reason. See
    /// [`Totem::kill`]. Cancel safe.
    ///
    /// This does not wait for the member. [`Event::Regular`] reports the ring without it.
    pub async fn kill(&self, node: NodeId, reason: impl Into<String>) {
        // An error means that this node has left.
        let _ = self.ends.requests.send(Request::Kill(node, reason.into())).await;
    }

    /// Sets the votes that the ring expects in total, as `corosync-quorumtool -e` does. 0 has no
    /// effect. Cancel safe.
    ///
    /// Every member follows the order until it is restarted or the members agree on other votes. An
    /// operator who lowers the number in one part of a cluster vouches for the other part being
    /// down: otherwise both can be quorate.
    pub async fn set_expected_votes(&self, votes: u32) {
        let parameter = VoteParameter::ExpectedVotes;
        self.reconfigure(Reconfigure { node: 0, value: votes, parameter }).await;
    }

    /// Sets the votes of a listed member, as `corosync-quorumtool -v` does. The member keeps them
    /// until it is restarted. Cancel safe.
    pub async fn set_votes(&self, node: NodeId, votes: u32) {
        let parameter = VoteParameter::Votes;
        self.reconfigure(Reconfigure { node: node.get(), value: votes, parameter }).await;
    }

    /// Ends the wait for all nodes (`quorum.wait_for_all`) in this node's ring, although some of
    /// them were never there. Cancel safe.
    ///
    /// An operator who does this vouches for the missing nodes being down: otherwise they can be
    /// quorate, too.
    pub async fn cancel_wait_for_all(&self) {
        let parameter = VoteParameter::CancelWaitForAll;
        self.reconfigure(Reconfigure { node: 0, value: 0, parameter }).await;
    }

    /// Asks all members to read their configuration again, as `corosync-cfgtool -R` does. Each of
    /// them has [`Event::Reload`] with this node and this number, and decides what to do about it.
    /// Cancel safe.
    ///
    /// A node applies a changed configuration when it is started.
    pub async fn ask_to_reload(&self, request: u64) {
        // An error means that this node has left.
        let _ = self.ends.requests.send(Request::Reload(request)).await;
    }

    /// Changes what this node tells the others about itself
    /// ([`Builder::metadata`](crate::Builder::metadata)). [`Event::Status`] has it at each member
    /// ([`NodeStatus::metadata`](crate::NodeStatus)), at the same place in the ring's order. Cancel
    /// safe.
    pub async fn set_metadata(&self, metadata: Metadata) {
        // An error means that this node has left.
        let _ = self.ends.requests.send(Request::Metadata(metadata)).await;
    }

    /// Sends an operator's order. [`Event::Status`] reports what follows from it.
    async fn reconfigure(&self, order: Reconfigure) {
        // An error means that this node has left.
        let _ = self.ends.requests.send(Request::Reconfigure(order)).await;
    }

    /// Passes on a request of the quorum device, a program on this host that asks an arbiter
    /// outside of the cluster ([`QuorumConfig::device`](crate::config::QuorumConfig::device)).
    /// Returns what the node now says of the device. [`Event::Status`] reports what follows. Cancel
    /// safe.
    ///
    /// # Errors
    /// If the request does not fit what the node knows of the device.
    pub async fn device(&self, request: DeviceRequest) -> Result<DeviceState, DeviceError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.ends.requests.send(Request::Device(request, reply)).await;
        answer.await.unwrap_or(Err(DeviceError::NoDevice))
    }

    /// Returns the counters. After the node has left, these are the final counters.
    pub async fn stats(&self) -> Stats {
        let (reply, answer) = oneshot::channel();
        let _ = self.ends.requests.send(Request::Stats(reply)).await;
        match answer.await {
            Ok(stats) => stats,
            Err(_) => self.ends.shared.last_stats.get().cloned().unwrap_or_default(),
        }
    }
}

/// The events of a running node, in the ring's order. The last event says why the node left.
///
/// Events that are not taken slow the ring down, and eventually make this node leave
/// ([`unread_limit`](quorate_membership::TotemConfig::unread_limit)). Dropping this value counts
/// all events as taken, including later ones.
///
/// tokio may run the node on the thread of the task that takes the events, on a runtime with many
/// threads as well. The node then waits while that task works on up to eight events. Let such work
/// take much less than the token timeout, or give it to `tokio::task::spawn_blocking`.
///
/// If the rate or the latency of events matters, take them in a task (`tokio::spawn`). On a
/// single-threaded runtime, each wakeup of the main future (`block_on`, `#[tokio::main]`) costs a
/// system call.
#[derive(Debug)]
pub struct Events<E = Event> {
    pub(super) receiver: mpsc::UnboundedReceiver<Vec<(E, usize)>>,
    /// Events that the driver has delivered and the application has not taken.
    pub(super) ready: vec::IntoIter<(E, usize)>,
    /// The cost of taken events that has not been reported to the driver.
    pub(super) taken: usize,
    /// The start of this turn of the task that takes the events.
    pub(super) turn: Option<Instant>,
    pub(super) shared: Arc<Shared>,
}

impl<E> Events<E> {
    /// Taken events are reported to the driver in groups of this size, or of [`TAKEN`] bytes. A
    /// group counts as one operation in tokio's budget of 128 per turn of a task.
    const SHARE: usize = 8;

    /// Returns the next event, or `None` after the last. Cancel safe: dropping the future loses no
    /// event.
    pub async fn next(&mut self) -> Option<E> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<E>> {
        // The consumer yields between groups only, so that it keeps up with the events handed over.
        if self.taken == 0 {
            ready_or_return!(self.poll_turn(context));
        }
        let (event, cost) = loop {
            match self.ready.next() {
                Some(next) => break next,
                None => match self.receiver.poll_recv(context) {
                    Poll::Ready(Some(more)) => self.ready = more.into_iter(),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => {
                        self.turn = None;
                        return Poll::Pending;
                    }
                },
            }
        };
        self.taken += cost;
        let left = self.ready.len();
        if left.is_multiple_of(Self::SHARE) || self.taken >= TAKEN {
            let taken = mem::take(&mut self.taken);
            let before = self.shared.taken.fetch_add(taken, Ordering::Relaxed);
            // The driver checks this in each of its turns, and waking it costs more than the events
            // did. Wake it only after `TAKEN` bytes, or if the core waits for reads.
            let much = before < TAKEN && before + taken >= TAKEN;
            if much || left == 0 && *self.shared.slow.borrow() {
                self.shared.taken_more.notify_one();
            }
        }
        Poll::Ready(Some(event))
    }

    /// Yields regularly, so that a consumer with a lot to do cannot starve the driver.
    ///
    /// A driver that the consumer has woken is the next task of the consumer's thread, and tokio
    /// lets no other thread take it over. Tokio's budget counts events but not the time that each
    /// of them takes the consumer.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready_or_return!(pin!(consume_budget()).poll(context));
        let now = Instant::now();
        // A consumer that has waited for something else meanwhile may yield too early.
        if now - *self.turn.get_or_insert(now) < TURN {
            return Poll::Ready(());
        }
        self.turn = None;
        // Its first poll wakes this task once sockets and timers have been looked at, too.
        pin!(yield_now()).poll(context)
    }
}

impl<E> futures_core::Stream for Events<E> {
    type Item = E;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<E>> {
        self.get_mut().poll_recv(context)
    }
}

// The event is owned and never pinned.
impl<E> Unpin for Events<E> {}

impl<E> Drop for Events<E> {
    fn drop(&mut self) {
        self.receiver.close();
        let costs = |events: &[(E, usize)]| events.iter().map(|(_, cost)| cost).sum::<usize>();
        let mut unread = self.taken + costs(self.ready.as_slice());
        while let Ok(events) = self.receiver.try_recv() {
            unread += costs(&events);
        }
        self.shared.taken.fetch_add(unread, Ordering::Relaxed);
        self.shared.taken_more.notify_one();
    }
}

/// State shared by the driver and the application's ends.
#[derive(Debug)]
pub(super) struct Shared {
    /// Send-queue capacity left for multicasts, in bytes. Senders take permits, and the driver
    /// returns them, so a multicast needs no answer from the driver while permits are left. Closed
    /// when the node has left.
    pub(super) room: Semaphore,
    /// Whether the core reports that the application has fallen behind.
    pub(super) slow: watch::Sender<bool>,
    /// The cost of taken events that has not been reported to the core.
    pub(super) taken: AtomicUsize,
    pub(super) taken_more: Notify,
    /// Why the node has left.
    pub(super) cause: OnceLock<Cause>,
    pub(super) last_stats: OnceLock<Stats>,
    /// The counters as last published.
    #[cfg(feature = "metrics")]
    published: Mutex<Stats>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            room: Semaphore::new(Totem::QUEUE),
            slow: watch::Sender::new(false),
            taken: AtomicUsize::new(0),
            taken_more: Notify::new(),
            cause: OnceLock::new(),
            last_stats: OnceLock::new(),
            #[cfg(feature = "metrics")]
            published: Mutex::default(),
        }
    }
}

impl Shared {
    /// Waits for room, unless the application has fallen behind or the node has left.
    async fn enter(&self, room: usize) -> Result<(), MulticastError> {
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let entered = match self.room.try_acquire_many(room) {
            Ok(permits) => Some(permits),
            Err(TryAcquireError::Closed) => None,
            Err(TryAcquireError::NoPermits) => {
                let mut slow = self.slow.subscribe();
                tokio::select! {
                    biased;
                    permits = self.room.acquire_many(room) => permits.ok(),
                    _ = slow.wait_for(|slow| *slow) => return Err(MulticastError::EventsUnread),
                }
            }
        };
        entered.ok_or(MulticastError::Left)?.forget();
        Ok(())
    }
}

/// Commands, executed in the order in which they were sent.
#[derive(Debug)]
pub(super) enum Command {
    Multicast(Multicast),
    Join { pid: u32, group: Group, reply: oneshot::Sender<Result<(), GroupError>> },
    LeaveGroup { pid: u32, group: Group, parting: Parting, reply: oneshot::Sender<Result<(), GroupError>> },
}

#[derive(Debug)]
pub(super) struct Multicast {
    pub(super) pid: u32,
    pub(super) group: Group,
    pub(super) guarantee: Guarantee,
    pub(super) payload: Bytes,
}

impl Multicast {
    /// Returns the send-queue capacity that the message takes, about its size in the core's queue.
    /// A message beyond the queue takes all of it, because the core accepts it if no other waits.
    pub(super) fn room(&self) -> usize {
        const BESIDE: usize = 320;
        (self.payload.len() + BESIDE).min(Totem::QUEUE)
    }
}

/// Requests that bypass the multicast queue.
#[derive(Debug)]
pub(super) enum Request {
    Leave,
    Kill(NodeId, String),
    Reconfigure(Reconfigure),
    Reload(u64),
    Metadata(Metadata),
    Device(DeviceRequest, oneshot::Sender<Result<DeviceState, DeviceError>>),
    Stats(oneshot::Sender<Stats>),
}
