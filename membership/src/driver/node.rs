//! What an application holds of a running node: [`Node`] to speak, [`Events`] to hear.

use std::mem;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready as ready_or_return};
use std::vec;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, TryAcquireError, mpsc, oneshot, watch};
use tokio::task::coop::consume_budget;

use super::TAKEN;
use crate::{Group, GroupError, Guarantee, MulticastError, Parting, Stats, Totem};

/// A running node, as the application speaks to it. Cheap to clone; all clones are the same node.
#[derive(Clone, Debug)]
pub struct Node {
    /// The process that this one speaks for.
    pub(super) pid: u32,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) shared: Arc<Shared>,
}

impl Node {
    /// The same node, speaking for a process of this id: that is what joins groups, leaves them, and sends. Ids have to
    /// be unique on this node, as process ids are. [`spawn`](super::spawn) gives a node that speaks for this very process.
    #[must_use]
    pub fn of_process(&self, pid: u32) -> Self {
        Self { pid, ..self.clone() }
    }

    /// Makes the process a member of a group, which is so once [`Event::GroupChange`](crate::Event::GroupChange) says it; see
    /// [`Totem::join_group`]. What is multicast from now on, by any clone of this node, is sent as a member's.
    ///
    /// Whether or not it is one, [`Events`] has the messages of all groups: take those that are wanted. Joining makes
    /// the process known to the others, and real corosync daemons hand its messages to their processes only then.
    ///
    /// Cancel safe, as [`Node::multicast`].
    ///
    /// # Errors
    /// If the process is a member already, or there are too many.
    pub async fn join(&self, group: &Group) -> Result<(), GroupError> {
        let (pid, group) = (self.pid, group.clone());
        self.command(|reply| Command::Join { pid, group, reply }).await.unwrap_or(Err(GroupError::Left))
    }

    /// Takes the process out of a group, behind what it has multicast so far. [`Node::leave`] does so for all of this
    /// node's processes and groups.
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

    /// Sends a message to a group, and waits until there is room for it: that is the back-pressure. Once it has
    /// returned `Ok`, this node sends the message unless it leaves first, in the order of the calls on this node.
    ///
    /// That an agreed message is delivered here does not say that it has been sent: a node that holds the ring's resting token
    /// knows the message's place at once. Who ends his process then waits for [`Node::leave`], or asks for [`Guarantee::Safe`].
    ///
    /// Cancel safe: if the future is dropped before it is ready, nothing of the message was accepted.
    ///
    /// # Errors
    /// Never [`MulticastError::Full`]. The others are returned at once, [`MulticastError::EventsUnread`] among them, if there
    /// is no room: who waited here without taking events would wait for himself.
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
        self.shared.enter(multicast.room()).await?;
        self.commands.send(Command::Multicast(multicast)).map_err(|_| MulticastError::Left)
    }

    /// Gives the driver a command, and waits for the answer; `None` if the node has left.
    async fn command<A>(&self, command: impl FnOnce(oneshot::Sender<A>) -> Command) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).ok()?;
        answer.await.ok()
    }

    /// Leaves the ring; ready when the last event is on its way to [`Events`]. Dropping the future takes nothing back
    /// once it has been polled.
    pub async fn leave(&self) {
        // That nobody receives it means that the node has left.
        let _ = self.requests.send(Request::Leave).await;
        self.requests.closed().await;
    }

    /// The counters; after the end, as they were then.
    pub async fn stats(&self) -> Stats {
        let (reply, answer) = oneshot::channel();
        let _ = self.requests.send(Request::Stats(reply)).await;
        match answer.await {
            Ok(stats) => stats,
            Err(_) => self.shared.last_stats.get().cloned().unwrap_or_default(),
        }
    }
}

/// A running node's events, in the ring's order. Ends with the event that says why the node left.
///
/// Events that are not taken slow the ring down and in the end make this node leave
/// ([`unread_limit`](crate::config::TotemConfig::unread_limit)). Dropping this takes all events, those to come too.
///
/// Take them in a task (`tokio::spawn`) if their rate or latency matters: the future that a single-threaded runtime was started
/// with (`block_on`, `#[tokio::main]`) is woken by a system call each time.
#[derive(Debug)]
pub struct Events<E> {
    pub(super) receiver: mpsc::UnboundedReceiver<Vec<(E, usize)>>,
    /// Those handed over that have not been taken.
    pub(super) ready: vec::IntoIter<(E, usize)>,
    /// The cost of those that have been, and that the driver cannot know of.
    pub(super) taken: usize,
    pub(super) shared: Arc<Shared>,
}

impl<E> Events<E> {
    /// Events that count as one for tokio, which lets a task do 128 things before others have their turn; and after which
    /// the driver may know that they are taken.
    const SHARE: usize = 8;

    /// The next event, `None` after the last. Cancel safe: a dropped future has taken nothing.
    pub async fn next(&mut self) -> Option<E> {
        std::future::poll_fn(|context| self.poll_recv(context)).await
    }

    fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<E>> {
        // Who takes them without end must not keep the driver from its turn, but is to keep up with what it hands over.
        if self.ready.len().is_multiple_of(Self::SHARE) {
            ready_or_return!(pin!(consume_budget()).poll(context));
        }
        let (event, cost) = loop {
            match self.ready.next() {
                Some(next) => break next,
                None => match ready_or_return!(self.receiver.poll_recv(context)) {
                    Some(more) => self.ready = more.into_iter(),
                    None => return Poll::Ready(None),
                },
            }
        };
        self.taken += cost;
        let left = self.ready.len();
        if left.is_multiple_of(Self::SHARE) || self.taken >= TAKEN {
            let taken = mem::take(&mut self.taken);
            let before = self.shared.taken.fetch_add(taken, Ordering::Relaxed);
            // Waking the driver costs more than the events did, and it asks by itself in each of its turns: it is woken if that
            // much is taken, or if the core waits for it.
            let much = before < TAKEN && before + taken >= TAKEN;
            if much || left == 0 && *self.shared.slow.borrow() {
                self.shared.taken_more.notify_one();
            }
        }
        Poll::Ready(Some(event))
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

/// What both ends look at.
#[derive(Debug)]
pub(super) struct Shared {
    /// Room for messages that the core has not sent yet, in bytes. Taken by who multicasts, given back by the driver: so nobody
    /// has to be asked as long as there is some. Closed when the node has left.
    pub(super) room: Semaphore,
    /// The core says that the application falls behind.
    pub(super) slow: watch::Sender<bool>,
    /// The cost of events taken that the core has not been told of.
    pub(super) taken: AtomicUsize,
    pub(super) taken_more: Notify,
    pub(super) last_stats: OnceLock<Stats>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            room: Semaphore::new(Totem::QUEUE),
            slow: watch::Sender::new(false),
            taken: AtomicUsize::new(0),
            taken_more: Notify::new(),
            last_stats: OnceLock::new(),
        }
    }
}

impl Shared {
    /// Waits for room, unless there will be none.
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

/// What is done in the order in which it was asked for.
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
    /// How much room it takes: about what it will be in the core's queue.
    pub(super) fn room(&self) -> usize {
        const BESIDE: usize = 320;
        self.payload.len() + BESIDE
    }
}

/// What has not to wait behind multicasts that find no room.
#[derive(Debug)]
pub(super) enum Request {
    Leave,
    Stats(oneshot::Sender<Stats>),
}
