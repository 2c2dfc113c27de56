//! The core on tokio: one task owns it; channels reach it.
//!
//! The task is one loop. A turn of it waits for whatever comes first, then gives everybody a turn, so that no flood of
//! one kind keeps the others out:
//!
//! 1. the datagrams of one batch, and what this node has sent to itself: that does not go through the network, or a node
//!    that has lost its address could not even be alone,
//! 2. what the application took of its events, and its commands, up to a bound; if nothing was heard, what these let this node
//!    deliver is handed over before they are sent,
//! 3. the timers, if one is due; but a timer that is late may be so because this process stood still, and then its
//!    answer waits in the socket. So all that waits there is heard first,
//! 4. events, up to a bound: last, so that a token is on its way before what came with it is delivered.
//!
//! After each input the core's other outputs are polled until each is empty. Nothing here blocks: the record is written
//! beside the loop, and what may not be sent before it is durable is held back by the core.

mod node;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::{Future, pending, ready};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rustix::rand::GetRandomFlags;
use rustix::time::ClockId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TryRecvError};
use tokio::time::Instant;

use self::node::{Command, Multicast, Request, Shared};
pub use self::node::{Events, Node};
use crate::transport::Transport;
use crate::{
    Config, ConfigError, Destination, Event, Group, GroupError, Guarantee, MulticastError, NodeId, Notice,
    Origin, Parting, Stats, Store, Stored, Time, Totem, Transmit,
};

/// Requests that may wait in their channel, and the most that one turn of the loop takes.
const REQUESTS: usize = 64;
/// The most commands that one turn of the loop takes.
const COMMANDS: usize = 256;
/// Events are handed over, and as a rule in one turn of the loop, until so many bytes are reached.
const EVENTS: usize = 64 << 10;
/// Turns after which all events are handed over: what comes in must not outrun what goes out.
const TURNS: u32 = 8;
/// Batches heard before a due timer runs, at most: more than a socket buffer holds, less than a flood has.
const CATCH_UP: usize = 64;
/// tokio's timers are no finer than this; a deadline nearer than this still sleeps, so that the loop never spins.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// tokio's clock stands still while the machine is suspended, so a long sleep would end that much too late.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// How long until a write that failed is tried again.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// How long a write may take until it is reported, and how often it is after that.
const STORE_SLOW: Duration = Duration::from_secs(1);
const STORE_REMINDER: Duration = Duration::from_secs(60);
/// Bytes of taken events at which the core is told even if more are unread.
const TAKEN: usize = 64 << 10;

/// What the driver drives: the ring's core, or that core with a layer folded over its events (the election's
/// `Member`). The contract is that of [`Totem`]: after each input, outputs are polled until each is empty, in the order
/// `must_store`, `poll_transmit`, `poll_event`, `poll_timeout`; events may wait for later inputs, and those of commands may
/// come first.
pub trait Core: Send + 'static {
    /// What it tells the application.
    type Event: Send + 'static;

    /// See [`Totem::me`].
    fn me(&self) -> NodeId;
    /// See [`Totem::handle_datagram`].
    fn handle_datagram(&mut self, now: Time, origin: Origin, datagram: &Bytes);
    /// See [`Totem::handle_refused`].
    fn handle_refused(&mut self, now: Time, node: NodeId);
    /// See [`Totem::handle_notice`].
    fn handle_notice(&mut self, now: Time, notice: Notice, source: Option<SocketAddr>);
    /// See [`Totem::handle_timeout`].
    fn handle_timeout(&mut self, now: Time);
    /// See [`Totem::handle_stored`].
    fn handle_stored(&mut self, now: Time, stored: Stored);
    /// See [`Totem::multicast`].
    ///
    /// # Errors
    /// As [`Totem::multicast`].
    fn multicast(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        guarantee: Guarantee,
        payload: &Bytes,
    ) -> Result<(), MulticastError>;
    /// See [`Totem::join_group`].
    ///
    /// # Errors
    /// As [`Totem::join_group`].
    fn join_group(&mut self, now: Time, pid: u32, group: &Group) -> Result<(), GroupError>;
    /// See [`Totem::leave_group`].
    ///
    /// # Errors
    /// As [`Totem::leave_group`].
    fn leave_group(&mut self, now: Time, pid: u32, group: &Group, parting: Parting)
    -> Result<(), GroupError>;
    /// See [`Totem::consumed`].
    fn consumed(&mut self, now: Time, cost: usize);
    /// See [`Totem::leave`].
    fn leave(&mut self, now: Time);
    /// See [`Totem::must_store`].
    fn must_store(&self) -> Option<Stored>;
    /// See [`Totem::poll_transmit`].
    fn poll_transmit(&mut self) -> Option<Transmit>;
    /// See [`Totem::poll_event`].
    fn poll_event(&mut self) -> Option<Self::Event>;
    /// See [`Totem::poll_timeout`].
    fn poll_timeout(&self) -> Option<Time>;
    /// See [`Totem::queued`].
    fn queued(&self) -> usize;
    /// See [`Totem::is_slow`].
    fn is_slow(&self) -> bool;
    /// See [`Totem::members`].
    fn members(&self) -> &BTreeSet<NodeId>;
    /// See [`Totem::stats`].
    fn stats(&self) -> &Stats;
    /// What an event costs of the bound on unread events, in bytes ([`Event::cost`]).
    fn cost(event: &Self::Event) -> usize;
    /// Whether this is the event after which nothing comes ([`Event::Left`]): the driver ends with it.
    fn is_last(event: &Self::Event) -> bool;
}

impl Core for Totem {
    type Event = Event;

    fn me(&self) -> NodeId {
        Totem::me(self)
    }
    fn handle_datagram(&mut self, now: Time, origin: Origin, datagram: &Bytes) {
        Totem::handle_datagram(self, now, origin, datagram);
    }
    fn handle_refused(&mut self, now: Time, node: NodeId) {
        Totem::handle_refused(self, now, node);
    }
    fn handle_notice(&mut self, now: Time, notice: Notice, source: Option<SocketAddr>) {
        Totem::handle_notice(self, now, notice, source);
    }
    fn handle_timeout(&mut self, now: Time) {
        Totem::handle_timeout(self, now);
    }
    fn handle_stored(&mut self, now: Time, stored: Stored) {
        Totem::handle_stored(self, now, stored);
    }
    fn multicast(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        guarantee: Guarantee,
        payload: &Bytes,
    ) -> Result<(), MulticastError> {
        Totem::multicast(self, now, pid, group, guarantee, payload)
    }
    fn join_group(&mut self, now: Time, pid: u32, group: &Group) -> Result<(), GroupError> {
        Totem::join_group(self, now, pid, group)
    }
    fn leave_group(
        &mut self,
        now: Time,
        pid: u32,
        group: &Group,
        parting: Parting,
    ) -> Result<(), GroupError> {
        Totem::leave_group(self, now, pid, group, parting)
    }
    fn consumed(&mut self, now: Time, cost: usize) {
        Totem::consumed(self, now, cost);
    }
    fn leave(&mut self, now: Time) {
        Totem::leave(self, now);
    }
    fn must_store(&self) -> Option<Stored> {
        Totem::must_store(self)
    }
    fn poll_transmit(&mut self) -> Option<Transmit> {
        Totem::poll_transmit(self)
    }
    fn poll_event(&mut self) -> Option<Event> {
        Totem::poll_event(self)
    }
    fn poll_timeout(&self) -> Option<Time> {
        Totem::poll_timeout(self)
    }
    fn queued(&self) -> usize {
        Totem::queued(self)
    }
    fn is_slow(&self) -> bool {
        Totem::is_slow(self)
    }
    fn members(&self) -> &BTreeSet<NodeId> {
        Totem::members(self)
    }
    fn stats(&self) -> &Stats {
        Totem::stats(self)
    }
    fn cost(event: &Event) -> usize {
        event.cost()
    }
    fn is_last(event: &Event) -> bool {
        matches!(event, Event::Left(_))
    }
}

/// Starts a plain member of the ring: the record in `state_dir`, the boot-time clock, the system's randomness.
///
/// Has to be called within a tokio runtime with time enabled, which `transport` needs too
///.
///
/// # Errors
/// If the configuration contradicts itself or the record cannot be used; the message says what to do.
pub async fn spawn(
    mut config: Config,
    transport: impl Transport,
    state_dir: impl AsRef<Path>,
) -> Result<(Node, Events<Event>), SpawnError> {
    config.totem = config.totem.fitting(transport.receive_buffer());
    let (store, stored) = Store::open_beside(state_dir, config.node).await.map_err(SpawnError::Store)?;
    let clock = Clock::boot_time();
    let totem = Totem::new(&config, stored, entropy().map_err(SpawnError::Entropy)?, clock.now())?;
    let effective = config.effective()?;
    effective.ring_warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let (node, events) = run(totem, transport, store, clock);
    Ok((node.of_process(std::process::id()), events))
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The stored record cannot be used.
    #[error(transparent)]
    Store(io::Error),
    /// The system gave no randomness.
    #[error("the system has no random numbers: {0}")]
    Entropy(io::Error),
}

/// Randomness from the system, for [`Totem::new`].
///
/// # Errors
/// If the system has none.
pub fn entropy() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    // Up to 256 bytes come whole, once the system has gathered enough to give any.
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}

/// Spawns the task that drives `core`, and gives the ends of it that the application holds.
///
/// The task ends when the core has left the ring: because [`Node::leave`] asked for it, because every [`Node`] and the
/// [`Events`] were dropped, because the core itself gave up, or because the transport failed.
///
/// The [`Node`] speaks for no process ([`Node::of_process`]).
///
/// # Panics
/// Outside of a tokio runtime.
pub fn run<C: Core>(
    core: C,
    transport: impl Transport,
    store: Store,
    clock: Clock,
) -> (Node, Events<C::Event>) {
    let (command_sender, commands) = mpsc::unbounded_channel();
    let (request_sender, requests) = mpsc::channel(REQUESTS);
    let (event_sender, event_receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let driver = Driver {
        core,
        transport,
        store,
        clock,
        saving: None,
        saving_since: None,
        commands,
        waiting: None,
        promised: 0,
        requests,
        events: event_sender,
        telling: Vec::new(),
        untold: 0,
        shared: Arc::clone(&shared),
        received: Vec::new(),
        own: VecDeque::new(),
        outgoing: VecDeque::new(),
        rings: 0,
        nodes_gone: false,
        abandoned: false,
        left: false,
    };
    tokio::spawn(driver.drive());
    let node =
        Node { pid: 0, commands: command_sender, requests: request_sender, shared: Arc::clone(&shared) };
    (node, Events { receiver: event_receiver, ready: Vec::new().into_iter(), taken: 0, shared })
}

/// Where the core's `now` comes from: a plain function.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// Any function that never goes back.
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time since this call by the clock that counts suspend too (`CLOCK_BOOTTIME`): for production, where a lease
    /// must not outlive a closed lid.
    pub fn boot_time() -> Self {
        let now = || {
            let now = rustix::time::clock_gettime(ClockId::Boottime);
            Duration::try_from(now).unwrap_or_default()
        };
        let start = now();
        Self::new(move || Time::default() + now().saturating_sub(start))
    }

    /// The time since this call by tokio's clock: for simulators and tests that stop it.
    pub fn tokio() -> Self {
        let start = Instant::now();
        Self::new(move || Time::default() + start.elapsed())
    }

    /// The time.
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

type Saving = Pin<Box<dyn Future<Output = Stored> + Send>>;

struct Driver<C: Core, T> {
    core: C,
    transport: T,
    store: Store,
    clock: Clock,
    /// The write that is under way.
    saving: Option<Saving>,
    /// When it began.
    saving_since: Option<Time>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// What is to be tried next; for a multicast the core had no room.
    waiting: Option<Command>,
    /// The room that multicasts have which the core has accepted and may not have sent yet.
    promised: usize,
    requests: mpsc::Receiver<Request>,
    events: mpsc::UnboundedSender<Vec<(C::Event, usize)>>,
    /// Events that the application is to be told of, and their costs.
    telling: Vec<(C::Event, usize)>,
    /// Turns after which there may have been more.
    untold: u32,
    shared: Arc<Shared>,
    received: Vec<(Origin, Bytes)>,
    /// What this node has sent to itself.
    own: VecDeque<Bytes>,
    outgoing: VecDeque<Transmit>,
    /// Rings that the core had installed when the transport was last told who is in it.
    rings: u64,
    /// Every [`Node`] has been dropped.
    nodes_gone: bool,
    /// So have the [`Events`], and the core has been told to leave.
    abandoned: bool,
    /// The last event is out.
    left: bool,
}

impl<C: Core, T: Transport> Driver<C, T> {
    async fn drive(mut self) {
        if let Err(error) = self.turn_until_left().await {
            tracing::error!(%error, "the transport has failed; this node leaves");
            self.core.leave(self.clock.now());
            // Nothing goes out any more, so nothing is waited for.
            self.core.leave(self.clock.now());
            while self.take_event().is_some() {}
            self.hand_over();
        }
        let _ = self.shared.last_stats.set(self.core.stats().clone());
        self.shared.room.close();
        // Whoever still waits learns from the dropped channels that the node has left.
    }

    async fn turn_until_left(&mut self) -> io::Result<()> {
        self.settle().await?;
        self.tell().await?;
        while !self.left {
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                stored = saved(&mut self.saving) => {
                    self.saving_since = None;
                    self.core.handle_stored(self.clock.now(), stored);
                    self.settle().await?;
                }
                received = self.transport.recv(&mut self.received) => received?,
                () = ready(()), if self.untold > 0 || !self.own.is_empty() => {}
                request = self.requests.recv(), if !self.nodes_gone => match request {
                    Some(request) => self.answer(request).await?,
                    None => self.nodes_gone = true,
                },
                Some(command) = self.commands.recv(), if self.waiting.is_none() => {
                    self.waiting = Some(command);
                }
                () = self.shared.taken_more.notified() => {}
                () = self.events.closed(), if !self.events.is_closed() => {}
                () = tokio::time::sleep_until(wake_at) => {}
            }
            let heard = !self.received.is_empty() || !self.own.is_empty();
            self.hear().await?;
            self.hear_itself().await?;
            self.serve(heard).await?;
            self.run_timers().await?;
            self.tell().await?;
            self.make_room();
            if self.untold > 0 {
                // Who takes the events is to keep up.
                tokio::task::yield_now().await;
            }
            // A transport that always has something never waits, and then neither would this task.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    /// When to look at the timers at the latest. Those that were due have run.
    fn wake_at(&self) -> Instant {
        let sleep = match self.core.poll_timeout() {
            Some(due) => (due - self.clock.now()).clamp(SLEEP_MIN, SLEEP_MAX),
            None => SLEEP_MAX,
        };
        Instant::now() + sleep
    }

    /// Hands the received datagrams to the core, and then what hosts refused.
    async fn hear(&mut self) -> io::Result<()> {
        let mut received = std::mem::take(&mut self.received);
        // All of them had come by now, and what is sent in answer goes later: a lease that counts from here is none too long.
        let now = self.clock.now();
        for (origin, datagram) in received.drain(..) {
            if self.left {
                break;
            }
            self.core.handle_datagram(now, origin, &datagram);
            self.settle().await?;
        }
        self.received = received;
        while !self.left
            && let Some(node) = self.transport.refused()
        {
            self.core.handle_refused(self.clock.now(), node);
            self.settle().await?;
        }
        while let Some((notice, source)) = self.transport.notice() {
            self.core.handle_notice(self.clock.now(), notice, source);
        }
        Ok(())
    }

    /// Hands what this node has sent to itself to the core: what there is, for each may be followed by another.
    async fn hear_itself(&mut self) -> io::Result<()> {
        for _ in 0..self.own.len() {
            let Some(datagram) = self.own.pop_front().filter(|_| !self.left) else { break };
            let origin = Origin::of(Some(self.core.me()));
            self.core.handle_datagram(self.clock.now(), origin, &datagram);
            self.settle().await?;
        }
        Ok(())
    }

    /// Tells the core what the application took and what it wants.
    async fn serve(&mut self, heard: bool) -> io::Result<()> {
        let taken = self.shared.taken.swap(0, Ordering::Relaxed);
        if taken > 0 && !self.left {
            self.core.consumed(self.clock.now(), taken);
            self.settle().await?;
        }
        for _ in 0..REQUESTS {
            if self.left {
                break;
            }
            match self.requests.try_recv() {
                Ok(request) => self.answer(request).await?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.nodes_gone = true;
                    break;
                }
            }
        }
        let now = self.clock.now();
        for _ in 0..COMMANDS {
            if self.left {
                break;
            }
            let Some(command) = self.waiting.take().or_else(|| self.commands.try_recv().ok()) else {
                break;
            };
            if !self.obey(now, command) {
                break;
            }
        }
        if !heard && self.untold == 0 {
            self.tell_at_once().await;
        }
        self.settle().await?;
        if self.nodes_gone && self.events.is_closed() && !self.abandoned && !self.left {
            self.abandoned = true;
            self.core.leave(self.clock.now());
            self.settle().await?;
        }
        Ok(())
    }

    /// Whether there was room for it; if not, it waits.
    fn obey(&mut self, now: Time, command: Command) -> bool {
        match command {
            Command::Multicast(multicast) => {
                let Multicast { pid, group, guarantee, payload } = &multicast;
                let room = multicast.room();
                match self.core.multicast(now, *pid, group, *guarantee, payload) {
                    Err(MulticastError::Full | MulticastError::EventsUnread) => {
                        self.waiting = Some(Command::Multicast(multicast));
                        return false;
                    }
                    Ok(()) => self.promised += room,
                    // It leaves, which its caller was told of as a thing that may happen.
                    Err(_) => self.shared.room.add_permits(room),
                }
            }
            Command::Join { reply, .. } | Command::LeaveGroup { reply, .. } if reply.is_closed() => {}
            Command::Join { pid, group, reply } => {
                let _ = reply.send(self.core.join_group(now, pid, &group));
            }
            Command::LeaveGroup { pid, group, parting, reply } => {
                let _ = reply.send(self.core.leave_group(now, pid, &group, parting));
            }
        }
        true
    }

    /// Lets in as much more as has gone out, and those know who wait that nothing will while events are not taken.
    fn make_room(&mut self) {
        let queued = self.core.queued();
        if self.promised > queued {
            self.shared.room.add_permits(self.promised - queued);
            self.promised = queued;
        }
        let slow = self.core.is_slow();
        self.shared.slow.send_if_modified(|before| std::mem::replace(before, slow) != slow);
    }

    async fn answer(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Leave => self.core.leave(self.clock.now()),
            Request::Stats(reply) => {
                let mut stats = self.core.stats().clone();
                let now = self.clock.now();
                stats.notices.forget_old(now);
                if self.saving_since.is_some_and(|since| now - since >= STORE_SLOW) {
                    stats.notices.list(now, Notice::Unstored, None);
                }
                let _ = reply.send(stats);
            }
        }
        self.settle().await
    }

    /// Runs the timer that is due, if one is, once all that waited in the socket has been heard.
    async fn run_timers(&mut self) -> io::Result<()> {
        for _ in 0..CATCH_UP {
            if !self.is_due() {
                return Ok(());
            }
            let waited = tokio::select! {
                biased;
                received = self.transport.recv(&mut self.received) => received.map(|()| true)?,
                () = ready(()) => false,
            };
            if !waited {
                break;
            }
            self.hear().await?;
        }
        if self.is_due() {
            self.core.handle_timeout(self.clock.now());
            self.settle().await?;
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        !self.left && self.core.poll_timeout().is_some_and(|due| due <= self.clock.now())
    }

    /// Stores and sends what the core wants stored and sent.
    async fn settle(&mut self) -> io::Result<()> {
        if self.saving.is_none() {
            let store = &self.store;
            self.saving = self.core.must_store().map(|stored| save(store.clone(), stored));
            self.saving_since = self.saving.as_ref().map(|_| self.clock.now());
        }
        let rings = self.core.stats().rings;
        if std::mem::replace(&mut self.rings, rings) != rings {
            self.transport.set_members(self.core.members());
        }
        while let Some(transmit) = self.core.poll_transmit() {
            if transmit.to == Destination::Member(self.core.me()) {
                self.own.push_back(transmit.datagram);
            } else {
                self.outgoing.push_back(transmit);
            }
        }
        if self.outgoing.is_empty() { Ok(()) } else { self.transport.send(&mut self.outgoing).await }
    }

    /// Hands over the events there are: some, so that a token which has come meanwhile need not wait for all of them, but all
    /// if that has been so for some turns.
    async fn tell(&mut self) -> io::Result<()> {
        let all = self.untold >= TURNS;
        self.untold += 1;
        loop {
            let mut handed = 0;
            while handed < EVENTS
                && let Some(cost) = self.take_event()
            {
                handed += cost;
            }
            let more = handed >= EVENTS;
            self.hand_over();
            if !more {
                self.untold = 0;
            }
            if !more || !all {
                break;
            }
        }
        // A core that folds them may have more to send.
        self.settle().await
    }

    /// Hands over what commands have let this node deliver, as they do if the token rests here: to send takes many times as
    /// long as to deliver, and nobody waits for a token that rests. Whoever takes the events has his turn, and the others get
    /// the message that much later.
    async fn tell_at_once(&mut self) {
        if self.take_event().is_some() {
            while self.take_event().is_some() {}
            self.hand_over();
            tokio::task::yield_now().await;
        }
    }

    /// Takes the next event, if there is one, to be handed over. Returns what it costs.
    fn take_event(&mut self) -> Option<usize> {
        let event = if self.left { None } else { self.core.poll_event() }?;
        self.left = C::is_last(&event);
        let cost = C::cost(&event);
        self.telling.push((event, cost));
        Some(cost)
    }

    /// Many events at once cost as much as one.
    fn hand_over(&mut self) {
        if self.telling.is_empty() {
            return;
        }
        // There will be about as many the next time.
        let next = Vec::with_capacity(self.telling.len());
        if let Err(SendError(untold)) = self.events.send(std::mem::replace(&mut self.telling, next)) {
            let costs = untold.iter().map(|(_, cost)| cost).sum();
            self.core.consumed(self.clock.now(), costs);
        }
    }
}

/// Writes the record, again and again if need be: until it is durable, the core holds back what depends on it, and the
/// ring that stands goes on.
fn save(store: Store, stored: Stored) -> Saving {
    Box::pin(async move {
        while let Err(error) = reporting_delays(store.save(&stored)).await {
            tracing::error!(%error, "the record cannot be stored; no new ring until it is");
            tokio::time::sleep(STORE_AGAIN).await;
        }
        stored
    })
}

/// Waits for a write, and says so in the log if it takes long.
async fn reporting_delays<T>(write: impl Future<Output = T>) -> T {
    let mut write = pin!(write);
    let started = Instant::now();
    let mut patience = STORE_SLOW;
    loop {
        tokio::select! {
            biased;
            written = &mut write => return written,
            () = tokio::time::sleep(patience) => {
                let waited = started.elapsed().as_secs();
                tracing::warn!("the disk has not stored the record for {waited} s; no new ring until it has");
                patience = STORE_REMINDER;
            }
        }
    }
}

/// Waits for the write that is under way, for ever if there is none. Cancel safe.
async fn saved(saving: &mut Option<Saving>) -> Stored {
    let Some(write) = saving else { return pending().await };
    let stored = write.await;
    *saving = None;
    stored
}

#[cfg(test)]
mod tests;
