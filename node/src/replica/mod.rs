//! A state that every member has: [`Replica`].
//!
//! An application gives a [`State`] that writes are applied to. Members apply the same writes in
//! the same order. The library brings joining members up to date, tells the caller of each write
//! whether it was acknowledged, and refuses writes where a majority does not take part.
//!
//! ```
//! use std::error::Error;
//!
//! use bytes::Bytes;
//! use quorate::replica::{Replica, State};
//! use quorate::{Events, Node};
//!
//! /// A number that everyone can add to.
//! #[derive(Default)]
//! struct Counter(u64);
//!
//! impl State for Counter {
//!     type Output = u64;
//!
//!     fn apply(&mut self, write: &[u8]) -> u64 {
//!         self.0 += u64::from(write.first().copied().unwrap_or(0));
//!         self.0
//!     }
//!
//!     fn snapshot(&self) -> Bytes {
//!         self.0.to_le_bytes().to_vec().into()
//!     }
//!
//!     fn restore(snapshot: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
//!         Ok(Self(u64::from_le_bytes(snapshot.try_into()?)))
//!     }
//! }
//!
//! async fn count(node: Node, events: Events) -> Result<(), Box<dyn Error>> {
//!     let counter = Replica::open(node, "counter".parse()?, Counter::default(), events);
//!     counter.opened().await?; // until the cluster accepts writes here
//!     match counter.write(vec![5]).await {
//!         Ok(sum) => println!("added 5, which makes {sum}"),
//!         Err(why) if why.in_doubt() => println!("perhaps added 5: {why}"),
//!         Err(why) => println!("not added: {why}"),
//!     }
//!     println!("{}", counter.read(|counter| counter.0)); // this member's copy
//!     Ok(())
//! }
//! ```
//!
//! # What is guaranteed
//! - **An acknowledged write is kept.** `Ok` means that a majority of the cluster's votes has the
//!   write, and that no member will ever have a state that a majority agrees on without it, as long
//!   as the conditions below hold.
//! - **No write is applied twice,** and all members apply the same writes in the same order. Where
//!   parts of a cluster have applied different writes when their ring broke, one state wins, and
//!   the others are replaced by it. None of the writes that disappear was acknowledged.
//! - **A minority accepts nothing.** Writes fail with [`WriteError::Closed`], which says why. Reads
//!   continue, and may be stale.
//! - **Joining members do not stop the others.** A member that was away receives a snapshot in
//!   parts, and the writes since, while the members that have the state accept writes. If their
//!   ring changes, the snapshot continues where it was.
//!
//! # What is not
//! - **The state is in memory.** If the members that have it fail before others have received it,
//!   it is lost. Members that forget count for nothing until they have received the state again. If
//!   a majority forgets, the others keep their state, show it to readers, and accept no write
//!   ([`Closed::Forgotten`]), because they may lack acknowledged ones. If all members forget, the
//!   cluster starts again with the initial state.
//! - **Half is not a majority.** Where a ring is quorate with half of the votes or fewer
//!   (`two_node`, a quorum device, `auto_tie_breaker`), writes fail.
//! - **Reads are local.** [`Replica::read`] shows this member's copy. After [`Replica::confirm`] it
//!   has all writes that were acknowledged before the call.
//!
//! Nodes with votes must run a replica, one in each group, with the same initial state. The first
//! time, all voters must be present, and all members must run one. Change the voters only while all
//! members have the state ([`ReplicaStatus::holders`]). If no voter has it, the voters begin with
//! the initial state, and there are two histories. Applying a write must depend on the state and
//! the write only: no clock, no randomness, no iteration over a `HashMap`.
//!
//! # Several replicas, and other events
//! [`Replica::open`] takes all events of the node. An application that also needs them, or that has
//! several replicas, takes the events itself and passes each of them to [`Feed::handle`]:
//!
//! ```
//! use quorate::replica::{Replica, State};
//! use quorate::{Event, Events, Node};
//!
//! # async fn run<S: State>(node: Node, mut events: Events, users: S, orders: S)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let (users, mut of_users) = Replica::attach(node.clone(), "users".parse()?, users);
//! let (orders, mut of_orders) = Replica::attach(node, "orders".parse()?, orders);
//! while let Some(event) = events.next().await {
//!     of_users.handle(&event);
//!     of_orders.handle(&event);
//!     if let Event::Regular(ring) = event {
//!         println!("members {:?}: {}", ring.members, ring.why());
//!     }
//! }
//! # drop((users, orders));
//! # Ok(())
//! # }
//! ```
//!
//! [Why no acknowledged write is lost](proof) has the rules and the proof.

mod fold;
mod message;
#[doc = include_str!("../../replica.md")]
pub mod proof {}
mod round;
mod send;
#[cfg(test)]
mod tests;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate_election::Event;
use quorate_membership::{Group, Guarantee, NodeId, bug};
use tokio::sync::{oneshot, watch};
use tracing::error;

use self::fold::{Action, Fold};
use self::message::Message;
use self::send::Sender;
use crate::{Events, Node};

/// The state that a [`Replica`] replicates.
pub trait State: Sized + Send + 'static {
    /// The result of a write. The caller of [`Replica::write`] receives it, at one member.
    type Output: Send + 'static;

    /// Applies a write. Called at every member, in the same order.
    ///
    /// The result must depend on the state and the write only, and the state must be the same at
    /// every member afterwards. A write that makes no sense must be ignored in the same way
    /// everywhere. A panic ends the replica.
    fn apply(&mut self, write: &[u8]) -> Self::Output;

    /// Returns the whole state, for a member that lacks it. This may be of any length, and the
    /// library sends it in parts.
    ///
    /// The ring waits meanwhile, as in [`State::restore`]. Both should take less than the token
    /// timeout allows for events that are not taken
    /// ([`unread_limit`](quorate_membership::TotemConfig::unread_limit)).
    fn snapshot(&self) -> Bytes;

    /// Makes the state from a snapshot.
    ///
    /// # Errors
    /// If the bytes are no snapshot, for instance because they are of a later version of the
    /// program. The replica then ends with [`WriteError::Left`], and the log has this error.
    fn restore(snapshot: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>>;
}

/// Why a write was not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The write is never applied, because this member does not accept writes now.
    #[error("not written: {0}")]
    Closed(Closed),
    /// The ring broke while the write was under way, or this member did not have the state. Whether
    /// the write was applied is not known here. It may be tried again, if applying it twice does no
    /// harm.
    #[error("perhaps written: the write was under way when the ring changed")]
    Unknown,
    /// The write was not sent, because it is longer than [`Replica::MAX_WRITE`].
    #[error("not written: a write has at most {max} bytes, and this one {length}", max = Message::MAX_PAYLOAD)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// This member has left the ring, or its replica has ended. If that happened while the write
    /// was under way, whether it was applied is not known here.
    #[error("this member's replica has ended")]
    Left,
}

impl WriteError {
    /// Returns `true` if the write may have been applied, or may still be. A caller that tries
    /// again risks to write twice, whatever the second attempt returns.
    pub fn in_doubt(&self) -> bool {
        match self {
            Self::Unknown | Self::Left => true,
            Self::Closed(_) | Self::TooLong { .. } => false,
        }
    }
}

/// Why a member does not accept writes.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Closed {
    /// The member has no ring, or the members of its ring have not counted their votes yet.
    Unsettled,
    /// The ring is not quorate by a majority of the votes of its members.
    NotQuorate,
    /// These members have not said yet what they remember. A node without a replica never does.
    Awaits {
        /// The members.
        nodes: BTreeSet<NodeId>,
    },
    /// No member has the state, so the cluster is starting, which takes all voters.
    Starts {
        /// The votes present.
        votes: u64,
        /// The votes of all nodes.
        expected: u64,
    },
    /// Too few members remember an earlier state. The others were started later. They may have
    /// acknowledged later writes before, and forgotten them.
    Forgotten {
        /// The votes of the members that remember.
        votes: u64,
        /// The votes needed.
        needed: u64,
    },
    /// Too few members have received the state so far.
    TooFewHold {
        /// The votes of the members that have it.
        votes: u64,
        /// The votes needed.
        needed: u64,
    },
    /// The ring accepts writes, but this member has not received the state yet.
    CatchingUp,
    /// This member has left the ring, or its replica has ended.
    Ended,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsettled => write!(f, "the members of the ring have not counted their votes yet"),
            Self::NotQuorate => write!(f, "the members of the ring have no majority of the votes"),
            Self::Awaits { nodes } => write!(
                f,
                "nodes {nodes:?} have not said what they remember; every node has to run this replica"
            ),
            Self::Starts { votes, expected } => write!(
                f,
                "no member has the state, and the first time all nodes have to be present: {votes} of \
                 {expected} votes are"
            ),
            Self::Forgotten { votes, needed } => write!(
                f,
                "members with {votes} of the {needed} votes needed remember an earlier state, and the others \
                 may have forgotten a later one when they were restarted; start nodes that remember, or \
                 restart all to begin without a state"
            ),
            Self::TooFewHold { votes, needed } => {
                write!(f, "members with {votes} of the {needed} votes needed have the state so far")
            }
            Self::CatchingUp => write!(f, "this member is receiving the state"),
            Self::Ended => write!(f, "this member's replica has ended"),
        }
    }
}

/// The state of a member's replica, as the member knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ReplicaStatus {
    /// Why this member does not accept writes. `None` if it does.
    pub closed: Option<Closed>,
    /// The number of members of the ring that have the state.
    pub holders: usize,
    /// The bytes that this member has received of a snapshot. `None` if it needs none.
    pub received: Option<usize>,
    /// The number of messages in the group that were ignored, because they are not those of a
    /// replica, or claim what cannot be true.
    pub rejected: u64,
}

/// A handle to this member's copy of a replicated state. Cheap to clone.
pub struct Replica<S: State> {
    shared: Arc<Shared<S>>,
    /// Also shows that there are handles.
    status: watch::Receiver<ReplicaStatus>,
    node: Node,
    group: Group,
}

struct Shared<S: State> {
    fold: Mutex<Fold<S>>,
    calls: Mutex<Calls<S::Output>>,
    next: AtomicU64,
    status: watch::Sender<ReplicaStatus>,
}

/// The calls that wait for an outcome, by the numbers of their messages.
struct Calls<O> {
    /// Whether the replica has ended.
    ended: bool,
    waiting: BTreeMap<u64, Call<O>>,
}

type Call<O> = oneshot::Sender<Result<Option<O>, WriteError>>;

impl<S: State> Clone for Replica<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            status: self.status.clone(),
            node: self.node.clone(),
            group: self.group.clone(),
        }
    }
}

impl<S: State> fmt::Debug for Replica<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("group", &self.group).field("status", &self.status()).finish()
    }
}

impl<S: State> Replica<S> {
    /// The longest write, in bytes.
    pub const MAX_WRITE: usize = Message::MAX_PAYLOAD;

    /// Makes this node a replica of the state that the members of a group share, and takes the
    /// node's events in a task. The node leaves when the last clone of this, and of `node`, is
    /// dropped.
    ///
    /// `events` must be those of a node that has just started. Must be called within a tokio
    /// runtime.
    pub fn open(node: Node, group: Group, initial: S, mut events: Events) -> Self {
        let (replica, mut feed) = Self::attach(node, group, initial);
        let shared = Arc::clone(&feed.shared);
        tokio::spawn(async move {
            let no_handle_is_left = shared.status.closed();
            tokio::pin!(no_handle_is_left);
            loop {
                tokio::select! {
                    biased;
                    () = &mut no_handle_is_left => return,
                    event = events.next() => match event {
                        Some(event) => feed.handle(&event),
                        None => return,
                    },
                }
            }
        });
        replica
    }

    /// Makes this node a replica, as [`Replica::open`] does, and leaves its events to the caller.
    /// The caller passes each of them to the [`Feed`]. Must be called within a tokio runtime.
    pub fn attach(node: Node, group: Group, initial: S) -> (Self, Feed<S>) {
        let fold = Fold::new(node.id(), node.pid(), group.clone(), initial);
        let (sender, status) = watch::channel(fold.status());
        let shared = Arc::new(Shared {
            fold: Mutex::new(fold),
            calls: Mutex::new(Calls { ended: false, waiting: BTreeMap::new() }),
            next: AtomicU64::new(0),
            status: sender,
        });
        let feed = Feed { shared: Arc::clone(&shared), sender: Some(Sender::spawn(&node, &group)) };
        (Self { shared, status, node, group }, feed)
    }

    /// Writes, and waits until the write is acknowledged. Returns what
    /// [`apply`](State::apply) has returned at this member.
    ///
    /// Writes of one member are applied in the order of the calls, as with [`Node::multicast`]. If
    /// the future is dropped, the write may still be applied.
    ///
    /// In a ring that stands, this takes about two rotations of the token. If the ring breaks, the
    /// answer comes soon after the next one stands, also in a minority.
    ///
    /// # Errors
    /// If the write was not applied, or if its outcome is not known. See [`WriteError`].
    pub async fn write(&self, write: impl AsRef<[u8]>) -> Result<S::Output, WriteError> {
        let write = write.as_ref();
        if write.len() > Self::MAX_WRITE {
            return Err(WriteError::TooLong { length: write.len() });
        }
        let outcome = self.call(|number| Message::Write { number }, write).await?;
        outcome.ok_or(WriteError::Unknown)
    }

    /// Waits until this member has all writes that were acknowledged before the call, at any
    /// member. [`Replica::read`] then shows them.
    ///
    /// # Errors
    /// As [`Replica::write`]. Nothing is written in any case.
    pub async fn confirm(&self) -> Result<(), WriteError> {
        self.call(|number| Message::Confirm { number }, &[]).await.map(drop)
    }

    async fn call(
        &self,
        message: impl FnOnce(u64) -> Message,
        payload: &[u8],
    ) -> Result<Option<S::Output>, WriteError> {
        match &self.status.borrow().closed {
            None => {}
            Some(Closed::Ended) => return Err(WriteError::Left),
            Some(closed) => return Err(WriteError::Closed(closed.clone())),
        }
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (call, outcome) = oneshot::channel();
        {
            let mut calls = self.shared.calls();
            if calls.ended {
                return Err(WriteError::Left);
            }
            calls.waiting.insert(number, call);
        }
        let _waiting = Waiting { shared: &self.shared, number };
        let message = message(number).encode(payload);
        let guarantee = bug!(AgreedAcknowledged: Guarantee::Agreed; Guarantee::Safe);
        let sent = self.node.multicast_beside_reader(&self.group, guarantee, message).await;
        sent.map_err(|_| WriteError::Left)?;
        outcome.await.unwrap_or(Err(WriteError::Left))
    }

    /// Reads this member's copy. It may be stale: see [`Replica::confirm`]. Until this member has
    /// received the state ([`Replica::opened`]), the copy is the initial state.
    ///
    /// No write is applied while `read` runs, so it should be short. It must not use the replica.
    pub fn read<R>(&self, read: impl FnOnce(&S) -> R) -> R {
        let fold = self.shared.fold();
        read(&fold.state)
    }

    /// Returns what this member knows of its replica.
    pub fn status(&self) -> ReplicaStatus {
        self.status.borrow().clone()
    }

    /// Waits until this member accepts writes.
    ///
    /// # Errors
    /// [`WriteError::Left`] if that never happens.
    pub async fn opened(&self) -> Result<(), WriteError> {
        self.wait_for(|status| status.closed.is_none()).await
    }

    /// Waits for such a status.
    ///
    /// # Errors
    /// [`WriteError::Left`] if that never happens.
    pub async fn wait_for(&self, mut is: impl FnMut(&ReplicaStatus) -> bool) -> Result<(), WriteError> {
        let mut status = self.status.clone();
        let ended = |status: &ReplicaStatus| status.closed == Some(Closed::Ended);
        let status = status.wait_for(|status| ended(status) || is(status)).await;
        match status {
            Ok(status) if !ended(&status) => Ok(()),
            _ => Err(WriteError::Left),
        }
    }
}

impl<S: State> Shared<S> {
    fn fold(&self) -> MutexGuard<'_, Fold<S>> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, Calls<S::Output>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No event follows, so no call has an outcome any more.
    fn end(&self) {
        *self.calls() = Calls { ended: true, waiting: BTreeMap::new() };
        self.status.send_modify(|status| status.closed = Some(Closed::Ended));
    }
}

/// Forgets a call whose future is dropped.
struct Waiting<'a, S: State> {
    shared: &'a Shared<S>,
    number: u64,
}

impl<S: State> Drop for Waiting<'_, S> {
    fn drop(&mut self) {
        self.shared.calls().waiting.remove(&self.number);
    }
}

/// The end of a [`Replica`] that takes the node's events.
pub struct Feed<S: State> {
    shared: Arc<Shared<S>>,
    /// `None` when the replica has ended.
    sender: Option<Sender>,
}

impl<S: State> fmt::Debug for Feed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl<S: State> Feed<S> {
    /// Handles an event of the node. All of them must be passed on, from the first, in their order.
    pub fn handle(&mut self, event: &Event) {
        let Some(sender) = &self.sender else { return };
        let (actions, status) = {
            let mut fold = self.shared.fold();
            (fold.handle(event), fold.changed())
        };
        if let Some(status) = status {
            self.shared.status.send_if_modified(|before| {
                let is_new = *before != status;
                *before = status;
                is_new
            });
        }
        let mut ends = matches!(event, Event::Left(_));
        for action in actions {
            match action {
                Action::Say(message) => sender.say(message),
                Action::Send(transfer, snapshot, first) => sender.send(transfer, snapshot, first),
                Action::Sent => sender.sent(),
                Action::Stop => sender.stop(),
                Action::Answer(number, outcome) => {
                    let call = self.shared.calls().waiting.remove(&number);
                    // The caller may have dropped its future.
                    let _ = call.map(|call| call.send(outcome));
                }
                Action::Fail(why) => {
                    error!("the replica ends, because a snapshot cannot be restored: {why}");
                    ends = true;
                }
            }
        }
        if ends {
            self.sender = None;
            self.shared.end();
        }
    }
}

impl<S: State> Drop for Feed<S> {
    fn drop(&mut self) {
        self.shared.end();
    }
}
