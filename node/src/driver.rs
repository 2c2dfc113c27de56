//! The core on tokio. One task owns the core, and channels connect the application to it.
//!
//! The task is one loop. Each turn waits for the first input of any kind, then serves every kind,
//! so a flood of one kind cannot starve the others:
//!
//! 1. The datagrams of one batch, and those that this node has sent to itself. The latter bypass
//!    the network. Otherwise a node that has lost its address could not even form a ring alone.
//! 2. The events that the application has taken, and its commands, up to a bound. If no datagram
//!    arrived, the events that these commands let this node deliver are handed over before anything
//!    is sent.
//! 3. The timer, if it is due. A late timer may mean that this process was paused, and then the
//!    awaited datagram may already be in the socket. All datagrams waiting in the socket are
//!    therefore processed first.
//! 4. Events, up to a bound. They come last, so that a token is sent on before the messages that
//!    came with it are delivered.
//!
//! After each input the core's other outputs are polled until each is empty. Nothing here blocks.
//! The record is written concurrently with the loop, and the core holds back everything that must
//! not be sent before the record is durable.

mod node;

use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::{
    Core, CoreView, Destination, GroupError, GroupRequest, Input, MulticastError, Notice, Origin, Stats,
    Stored, Time, Transmit,
};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TryRecvError};
use tokio::time::Instant;
use tracing::Instrument;

use self::node::{Command, Ends, Multicast, Request, Shared};
pub use self::node::{Events, Node};
use crate::transport::{News, Packet, Path, Resolver, Sockets};
use crate::{Clock, Store};

/// Capacity of the request channel, and the most requests that one turn of the loop takes.
const REQUESTS: usize = 64;
/// The most commands that one turn of the loop takes.
const COMMANDS: usize = 256;
/// Byte budget for the events handed over in one turn of the loop (see [`TURNS`]).
const EVENTS: usize = 64 << 10;
/// Turns with events left over, after which all events are handed over, so that input cannot outrun
/// output.
const TURNS: u32 = 8;
/// The most batches processed before a due timer runs. They hold more than a socket buffer does,
/// and a flood exceeds them.
const CATCH_UP: usize = 64;
/// Resolution of tokio's timers. A nearer deadline still sleeps this long, so that the loop never
/// spins.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// Longest sleep of the loop. tokio's clock stops while the machine is suspended, so a longer sleep
/// would end late by the length of a suspend.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// The most timers of a core that leaves without sockets. It needs fewer.
const LAST_TIMERS: u32 = 100;
/// Time until a failed write is tried again.
const STORE_AGAIN: Duration = Duration::from_secs(1);
/// Time after which a pending write is first reported.
const STORE_SLOW: Duration = Duration::from_secs(1);
/// Interval at which a pending write is reported again.
const STORE_REMINDER: Duration = Duration::from_secs(60);
/// Bytes of taken events at which the driver is woken to report them, even if more are unread.
const TAKEN: usize = 64 << 10;
/// Time after which a consumer that has more events lets the driver run. Yielding takes
/// microseconds.
const TURN: Duration = Duration::from_millis(1);

/// Spawns the task that drives `core`, and returns the application's ends of it.
///
/// The task ends when the core has left the ring. The cause is a call of [`Node::leave`], the drop
/// of every [`Node`] and of the [`Events`], the core's own decision, or a failure of the sockets.
///
/// The returned [`Node`] acts for no process (see [`Node::of_process`]).
///
/// The task logs in the span `quorate`, whose field `node` is the id of the node.
///
/// # Panics
/// If called outside of a tokio runtime.
pub fn run<C: Core<Event: Send> + Send + 'static>(
    core: C,
    path: Path,
    sockets: impl Sockets,
    store: Store,
    clock: Clock,
) -> (Node, Events<C::Event>) {
    let (command_sender, commands) = mpsc::unbounded_channel();
    let (request_sender, requests) = mpsc::channel(REQUESTS);
    let (event_sender, event_receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let id = core.view().me;
    let driver = Driver {
        core,
        path,
        sockets,
        resolver: Resolver::new(),
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
        packets: VecDeque::new(),
        rings: 0,
        nodes_gone: false,
        abandoned: false,
        left: false,
    };
    // A process may run several nodes. The target of its own lets a log leave this out.
    let span = tracing::info_span!(target: "quorate::span", "quorate", node = %id);
    tokio::spawn(driver.drive().instrument(span));
    let ends = Ends { id, commands: command_sender, requests: request_sender, shared: Arc::clone(&shared) };
    let node = Node::new(ends);
    (node, Events { receiver: event_receiver, ready: Vec::new().into_iter(), taken: 0, turn: None, shared })
}

type Saving = Pin<Box<dyn Future<Output = Stored> + Send>>;

struct Driver<C: Core, S> {
    core: C,
    path: Path,
    sockets: S,
    resolver: Resolver,
    store: Store,
    clock: Clock,
    /// The write in progress.
    saving: Option<Saving>,
    /// The time at which the write in progress began.
    saving_since: Option<Time>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The command to try next. A multicast waits here while the core has no room for it, and a
    /// join while the process still leaves the group.
    waiting: Option<Command>,
    /// Bytes of send-queue capacity held by multicasts that the core has accepted but not sent.
    promised: usize,
    requests: mpsc::Receiver<Request>,
    events: mpsc::UnboundedSender<Vec<(C::Event, usize)>>,
    /// Events for the application that have not been handed over yet, with their costs.
    telling: Vec<(C::Event, usize)>,
    /// Consecutive turns that may have left events behind.
    untold: u32,
    shared: Arc<Shared>,
    received: Vec<Packet>,
    /// Datagrams that this node has sent to itself.
    own: VecDeque<Bytes>,
    outgoing: VecDeque<Transmit>,
    /// The packets of `outgoing` that have not been sent.
    packets: VecDeque<Packet>,
    /// The core's count of installed rings when the path last got the members.
    rings: u64,
    /// Every [`Node`] has been dropped.
    nodes_gone: bool,
    /// The [`Events`] and every [`Node`] have been dropped, and the core has been told to leave.
    abandoned: bool,
    /// The last event has been polled.
    left: bool,
}

impl<C: Core<Event: Send> + Send + 'static, S: Sockets> Driver<C, S> {
    async fn drive(mut self) {
        if let Err(error) = self.turn_until_left().await {
            tracing::error!(%error, "the sockets have failed; this node leaves the ring");
            self.leave_unheard().await;
        }
        let _ = self.shared.last_stats.set(self.stats());
        self.shared.room.close();
        // Waiting callers see from the dropped channels that the node has left.
    }

    /// Lets the core leave without the sockets. It repeats what no other node hears, which takes
    /// some timers.
    async fn leave_unheard(&mut self) {
        self.core.handle(self.clock.now(), Input::Leave);
        // The second time, it does not wait for others.
        self.core.handle(self.clock.now(), Input::Leave);
        for _ in 0..LAST_TIMERS {
            while self.core.poll_transmit().is_some() {}
            while self.take_event().is_some() {}
            self.hand_over();
            if self.left || self.core.poll_timeout().is_none() {
                return;
            }
            tokio::time::sleep_until(self.wake_at()).await;
            self.core.handle(self.clock.now(), Input::Timeout);
        }
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
                    self.core.handle(self.clock.now(), Input::Stored(stored));
                    self.settle().await?;
                }
                received = self.sockets.recv(&mut self.received) => received?,
                (node, addresses) = self.resolver.found() => self.path.handle_resolved(node, &addresses),
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
            let heard = self.hear().await? || !self.own.is_empty();
            self.hear_itself().await?;
            self.serve(heard).await?;
            self.run_timers().await?;
            self.tell().await?;
            self.make_room();
            if self.untold > 0 {
                // Let the consumer of the events keep up.
                tokio::task::yield_now().await;
            }
            // Sockets that always have data never wait, and then this task would not yield
            // either.
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    /// Returns the latest time at which the loop wakes to check the timers. Called when no timer is
    /// due.
    fn wake_at(&self) -> Instant {
        let sleep = match self.core.poll_timeout() {
            Some(due) => (due - self.clock.now()).clamp(SLEEP_MIN, SLEEP_MAX),
            None => SLEEP_MAX,
        };
        Instant::now() + sleep
    }

    /// Passes the received datagrams to the core, and then the reports of hosts. Returns `true` if
    /// there was a datagram of another node.
    async fn hear(&mut self) -> io::Result<bool> {
        let mut heard = false;
        let mut received = std::mem::take(&mut self.received);
        // All datagrams had arrived by now, and answers are sent later. A lease counted from here
        // is therefore not too long.
        let now = self.clock.now();
        for packet in received.drain(..) {
            if self.left {
                break;
            }
            if let Some(origin) = self.path.handle_packet(now, packet.address, &packet.datagram) {
                heard = true;
                self.core.handle(now, Input::Datagram(origin, &packet.datagram));
                self.settle().await?;
            }
        }
        self.received = received;
        while !self.left
            && let Some(news) = self.sockets.poll_news()
        {
            self.heed(news).await?;
        }
        while let Some(notice) = self.path.poll_notice() {
            self.core.handle(self.clock.now(), Input::Notice(notice, None));
        }
        while let Some((node, host)) = self.path.poll_lookup() {
            self.resolver.look_up(node, host);
        }
        Ok(heard)
    }

    /// Passes what the sockets noticed to the core, which knows nodes and no addresses.
    async fn heed(&mut self, news: News) -> io::Result<()> {
        let now = self.clock.now();
        let input = match news {
            News::Refused(address) => match self.path.node_at(address) {
                Some(node) => Input::Refused(node),
                None => return Ok(()),
            },
            News::Unsent(address, errno) => {
                let everyone = self.path.group() == Some(address);
                let at_home = || self.path.node_at_home(address);
                let node = if everyone { None } else { at_home() };
                Input::Notice(Notice::Unsent { node, errno: Some(errno) }, None)
            }
            News::Notice(notice, source) => Input::Notice(notice, source),
        };
        self.core.handle(now, input);
        self.settle().await
    }

    /// Passes the datagrams that this node has sent to itself to the core. Only those queued now
    /// are taken, because each may lead to another.
    async fn hear_itself(&mut self) -> io::Result<()> {
        for _ in 0..self.own.len() {
            let Some(datagram) = self.own.pop_front().filter(|_| !self.left) else { break };
            let origin = Origin::of(Some(self.core.view().me));
            self.core.handle(self.clock.now(), Input::Datagram(origin, &datagram));
            self.settle().await?;
        }
        Ok(())
    }

    /// Passes the application's taken events, requests and commands to the core.
    async fn serve(&mut self, heard: bool) -> io::Result<()> {
        let taken = self.shared.taken.swap(0, Ordering::Relaxed);
        if taken > 0 && !self.left {
            self.core.handle(self.clock.now(), Input::Consumed(taken));
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
            self.core.handle(self.clock.now(), Input::Leave);
            self.settle().await?;
        }
        Ok(())
    }

    /// Executes a command. Returns `false` if the core could not do so yet; the command then waits.
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
                    // The core is leaving. The caller knows that this may happen.
                    Err(_) => self.shared.room.add_permits(room),
                }
            }
            Command::Join { reply, .. } | Command::LeaveGroup { reply, .. } if reply.is_closed() => {}
            Command::Join { pid, group, reply } => {
                match self.core.change_group(now, GroupRequest::Join(pid, &group)) {
                    // The leave is on its way, and what was asked for later has to wait too.
                    Err(GroupError::StillLeaving) => {
                        self.waiting = Some(Command::Join { pid, group, reply });
                        return false;
                    }
                    joined => drop(reply.send(joined)),
                }
            }
            Command::LeaveGroup { pid, group, parting, reply } => {
                let request = GroupRequest::Leave(pid, &group, parting);
                let _ = reply.send(self.core.change_group(now, request));
            }
        }
        true
    }

    /// Returns permits for what the core has sent. If the application has stopped reading, wakes
    /// blocked senders so that they fail with `EventsUnread`.
    fn make_room(&mut self) {
        let CoreView { queued, slow, .. } = self.core.view();
        if self.promised > queued {
            self.shared.room.add_permits(self.promised - queued);
            self.promised = queued;
        }
        self.shared.slow.send_if_modified(|before| std::mem::replace(before, slow) != slow);
    }

    async fn answer(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Leave => self.core.handle(self.clock.now(), Input::Leave),
            Request::Kill(node, reason) => self.core.handle(self.clock.now(), Input::Kill(node, &reason)),
            Request::Reconfigure(order) => {
                self.core.handle(self.clock.now(), Input::Reconfigure(order));
            }
            Request::Reload(request) => self.core.handle(self.clock.now(), Input::Reload(request)),
            Request::Metadata(metadata) => {
                self.core.handle(self.clock.now(), Input::Metadata(metadata));
            }
            Request::Device(request, reply) => {
                let handled = self.core.handle_device(self.clock.now(), request);
                // The caller may have gone.
                let _ = reply.send(handled);
            }
            Request::Stats(reply) => {
                let mut stats = self.stats();
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

    /// Returns the counters of the core and of what is below it.
    fn stats(&self) -> Stats {
        let CoreView { stats, queued, window, .. } = self.core.view();
        let mut stats = stats.clone();
        stats.queued = queued as u64;
        stats.window = window;
        stats.unsent = self.sockets.unsent();
        stats.unaddressed = self.path.unknown();
        stats
    }

    /// Runs the timer if it is due, after all datagrams waiting in the socket have been processed.
    async fn run_timers(&mut self) -> io::Result<()> {
        for _ in 0..CATCH_UP {
            if !self.is_due() {
                return Ok(());
            }
            let waited = tokio::select! {
                biased;
                received = self.sockets.recv(&mut self.received) => received.map(|()| true)?,
                () = ready(()) => false,
            };
            if !waited {
                break;
            }
            self.hear().await?;
        }
        if self.is_due() {
            self.core.handle(self.clock.now(), Input::Timeout);
            self.settle().await?;
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        !self.left && self.core.poll_timeout().is_some_and(|due| due <= self.clock.now())
    }

    /// Starts the write that the core needs, and sends its datagrams.
    async fn settle(&mut self) -> io::Result<()> {
        if self.saving.is_none() {
            let store = &self.store;
            self.saving = self.core.must_store().map(|stored| save(store.clone(), stored));
            self.saving_since = self.saving.as_ref().map(|_| self.clock.now());
        }
        let rings = self.core.view().stats.rings;
        if std::mem::replace(&mut self.rings, rings) != rings {
            self.path.set_members(self.core.view().members);
        }
        while let Some(transmit) = self.core.poll_transmit() {
            if transmit.to == Destination::Member(self.core.view().me) {
                self.own.push_back(transmit.datagram);
            } else {
                self.outgoing.push_back(transmit);
            }
        }
        if !self.outgoing.is_empty() {
            self.path.send(self.clock.now(), &mut self.outgoing, &mut self.packets);
        }
        if self.packets.is_empty() { Ok(()) } else { self.sockets.send(&mut self.packets).await }
    }

    /// Hands over events within a budget, so that a token that has arrived meanwhile does not wait
    /// for all of them. After several turns with events left, hands over all.
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
        // A core with a layer folded over its events may have more to send.
        self.settle().await
    }

    /// Hands over the events of commands before their datagrams are sent. A command causes events
    /// at once if the token rests here. Sending takes many times as long as delivering, and no
    /// other member waits for a resting token. The consumer of the events runs first, which delays
    /// the message to the other members by that time.
    async fn tell_at_once(&mut self) {
        if self.take_event().is_some() {
            while self.take_event().is_some() {}
            self.hand_over();
            tokio::task::yield_now().await;
        }
    }

    /// Moves the next event, if any, into the batch for the application. Returns its cost.
    fn take_event(&mut self) -> Option<usize> {
        let event = if self.left { None } else { self.core.poll_event() }?;
        if let Some(cause) = C::left(&event) {
            self.left = true;
            let _ = self.shared.cause.set(cause.clone());
        }
        let cost = C::cost(&event);
        self.telling.push((event, cost));
        Some(cost)
    }

    /// Hands over the batch of events. A batch costs as much as a single event.
    fn hand_over(&mut self) {
        if self.telling.is_empty() {
            return;
        }
        // The next batch will be about as large.
        let next = Vec::with_capacity(self.telling.len());
        if let Err(SendError(untold)) = self.events.send(std::mem::replace(&mut self.telling, next)) {
            let costs = untold.iter().map(|(_, cost)| cost).sum();
            self.core.handle(self.clock.now(), Input::Consumed(costs));
        }
    }
}

/// Writes the record, and retries until it succeeds. Until the record is durable, the core holds
/// back everything that depends on it. The current ring continues.
fn save(store: Store, stored: Stored) -> Saving {
    Box::pin(async move {
        while let Err(error) = reporting_delays(store.save(&stored)).await {
            tracing::error!(%error, "cannot store the record; this node joins no new ring until it can");
            tokio::time::sleep(STORE_AGAIN).await;
        }
        stored
    })
}

/// Waits for a write, and logs a warning if it takes long.
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
                tracing::warn!(
                    "the disk has not stored the record for {waited} s; this node joins no new ring until it \
                     has"
                );
                patience = STORE_REMINDER;
            }
        }
    }
}

/// Waits for the write in progress, or forever if there is none. Cancel safe.
async fn saved(saving: &mut Option<Saving>) -> Stored {
    let Some(write) = saving else { return pending().await };
    let stored = write.await;
    *saving = None;
    stored
}

#[cfg(test)]
mod tests;
