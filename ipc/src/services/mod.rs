//! corosync's services, as pure values: they take requests and the ring's events, and return
//! responses, events and orders.

mod cfg;
mod cmap;
mod counters;
mod cpg;
mod quorum;
mod value;
mod view;
mod votequorum;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate::{DeviceError, DeviceRequest, DeviceState, Event, Group, GroupError, NodeId, Parting, Stats};

use self::cfg::Cfg;
use self::cmap::Cmap;
use self::counters::{Counters, of_connection};
use self::cpg::Cpg;
use self::quorum::Quorum;
pub use self::value::Value;
use self::view::View;
use self::votequorum::Votequorum;
use crate::code::Code;
use crate::layout::{Malformed, Message, Request};
use crate::outbox::Outbox;

/// The time from one look at the counters to the next, as with corosync.
const WATCH: Duration = Duration::from_millis(1500);

/// A service that clients connect to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Service {
    Cmap,
    Cfg,
    Cpg,
    Quorum,
    Votequorum,
}

impl Service {
    pub(crate) const ALL: [Self; 5] = [Self::Cmap, Self::Cfg, Self::Cpg, Self::Quorum, Self::Votequorum];

    /// Returns the name of its socket.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cmap => "cmap",
            Self::Cfg => "cfg",
            Self::Cpg => "cpg",
            Self::Quorum => "quorum",
            Self::Votequorum => "votequorum",
        }
    }

    /// Returns corosync's number of it.
    fn id(self) -> u8 {
        match self {
            Self::Cmap => 0,
            Self::Cfg => 1,
            Self::Cpg => 2,
            Self::Quorum => 3,
            Self::Votequorum => 5,
        }
    }
}

/// The process at the other end of a connection.
pub(crate) struct Peer {
    pub(crate) pid: u32,
    /// Its name, as the system knows it.
    pub(crate) name: String,
}

/// What is known of a connection, and the way to its client.
struct Connection {
    service: Service,
    peer: Peer,
    outbox: Arc<Outbox>,
    /// The requests, the responses to them, and the requests without the layout of their kind.
    requests: u64,
    responses: u64,
    malformed: u64,
}

impl Connection {
    /// Sets its counters to 0.
    fn clear(&mut self) {
        (self.requests, self.responses, self.malformed) = (0, 0, 0);
        self.outbox.clear_counts();
    }
}

/// A connection, for as long as the node runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ConnectionId(u64);

/// The consequence of a request.
pub(crate) enum Step {
    Reply(Bytes),
    /// No response follows, or it comes later through the outbox.
    Silent,
    /// The connection carries out an order before its next request.
    Do(Order),
    /// The same, after the response. Only a message that has come in parts is sent in this way.
    ReplyAndDo(Bytes, Order),
}

/// Work on the node that a connection waits for.
pub(crate) enum Order {
    Join {
        pid: u32,
        group: Group,
    },
    LeaveGroup {
        pid: u32,
        group: Group,
    },
    Multicast {
        pid: u32,
        group: Group,
        payload: Bytes,
    },
    Kill {
        node: NodeId,
        reason: String,
    },
    SetExpectedVotes(u32),
    SetVotes {
        node: NodeId,
        votes: u32,
    },
    /// Passes on a request of the quorum device.
    Device(DeviceRequest),
    /// Reads the counters, for a request to the map that they are in.
    ReadStats(Request),
}

/// The result of an order.
pub(crate) enum Done {
    Joined(Result<(), GroupError>),
    LeftGroup(Result<(), GroupError>),
    Killed,
    VotesSet,
    Device(Result<DeviceState, DeviceError>),
    Stats(Box<Stats>, Request),
}

/// Work on the node that no connection waits for.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A process is removed from its group, because its connection has ended.
    Abandon { pid: u32, group: Group, parting: Parting },
    /// The members no longer wait for all nodes.
    CancelWaitForAll,
    /// The program of the quorum device has ended.
    DeviceEnded,
    /// All members are asked to read their configuration again, by this number.
    AskToReload { request: u64 },
    /// [`Services::reloaded`] is due with the configuration as it is now.
    Reload,
    /// The node leaves the ring, and its process ends.
    Shutdown,
    /// [`Services::watch_counters`] is due after this time.
    WatchCounters { after: Duration },
    /// [`Services::end_vote`] is due after this time.
    EndVote { vote: u64, after: Duration },
}

/// The services of a node.
pub(crate) struct Services {
    view: View,
    cmap: Cmap,
    cfg: Cfg,
    cpg: Cpg,
    quorum: Quorum,
    votequorum: Votequorum,
    connections: Connections,
    counters: Counters,
    /// Whether the counters are being watched for clients that track one.
    watches: bool,
    last: u64,
    /// Requests that did not have the layout of their kind.
    malformed: u64,
    effects: Vec<Effect>,
}

impl Services {
    /// Creates the services of a node that is in no ring yet. `keys` are the contents of its map.
    pub(crate) fn new(config: &quorate::Config, keys: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self {
            view: View::new(config),
            cmap: Cmap::new(keys),
            cfg: Cfg::default(),
            cpg: Cpg::new(config.node),
            quorum: Quorum::default(),
            votequorum: Votequorum::default(),
            connections: BTreeMap::new(),
            counters: Counters::default(),
            watches: false,
            last: 0,
            malformed: 0,
            effects: Vec::new(),
        }
    }

    /// Returns why a client with this user and group is not let in.
    pub(crate) fn admit(&self, uid: u32, gid: u32) -> Result<(), Code> {
        match uid == 0 || gid == 0 || self.cmap.allows(uid, gid) {
            false => Err(Code::Access),
            true if !self.view.status.settled => Err(Code::TryAgain),
            true => Ok(()),
        }
    }

    /// Returns `true` if clients are to be served over sockets.
    pub(crate) fn wants_sockets(&self) -> bool {
        self.cmap.is_text("system.qb_ipc_type", "socket")
    }

    pub(crate) fn open(&mut self, service: Service, peer: Peer) -> (ConnectionId, Arc<Outbox>) {
        self.last += 1;
        let (id, outbox) = (ConnectionId(self.last), Arc::<Outbox>::default());
        let connection =
            Connection { service, peer, outbox: outbox.clone(), requests: 0, responses: 0, malformed: 0 };
        self.cmap.counters_changed(&of_connection(id, &connection), true, &self.connections);
        self.connections.insert(id, connection);
        (id, outbox)
    }

    pub(crate) fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.counters.connection_ended();
        self.cmap.counters_changed(&of_connection(id, &connection), false, &self.connections);
        let service = connection.service;
        match service {
            Service::Cmap => self.cmap.close(id),
            Service::Cfg => self.cfg.close(id, &self.connections, &mut self.effects),
            Service::Cpg => self.cpg.close(id, &mut self.effects),
            Service::Quorum => self.quorum.close(id),
            Service::Votequorum => self.votequorum.close(id, &mut self.effects),
        }
    }

    /// Serves a request.
    pub(crate) fn request(&mut self, id: ConnectionId, request: Bytes) -> Step {
        self.count(id, |connection| connection.requests += 1);
        let is_answered = !self.is_multicast(id, &request);
        let step = Request::new(request).and_then(|request| self.serve(id, request));
        let step = step.unwrap_or_else(|Malformed| {
            let response = self.malformed_request(id);
            if is_answered { Step::Reply(response) } else { Step::Silent }
        });
        if let Step::Reply(_) | Step::ReplyAndDo(..) = step {
            self.count(id, |connection| connection.responses += 1);
        }
        step
    }

    /// Returns `true` for a multicast. The client does not wait for a response to it, and would
    /// take one for the response to its next request.
    fn is_multicast(&self, id: ConnectionId, request: &[u8]) -> bool {
        let service = self.connections.get(&id).map(|connection| connection.service);
        service == Some(Service::Cpg) && request.starts_with(&cpg::MULTICAST.to_ne_bytes())
    }

    fn count(&mut self, id: ConnectionId, count: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.get_mut(&id) {
            count(connection);
        }
    }

    /// Counts a request that does not have the layout of its kind, and returns the response.
    fn malformed_request(&mut self, id: ConnectionId) -> Bytes {
        self.malformed += 1;
        self.count(id, |connection| connection.malformed += 1);
        Message::status(0, Code::InvalidParam)
    }

    fn serve(&mut self, id: ConnectionId, request: Request) -> Result<Step, Malformed> {
        let Some(Connection { service, outbox, .. }) = self.connections.get(&id) else {
            return Ok(Step::Silent);
        };
        match service {
            Service::Cmap => self.cmap.request(id, request, &self.connections, &mut self.effects),
            Service::Cfg => {
                let limit = self.cmap.number("cfg.shutdown_timeout");
                self.cfg.request(id, &request, &self.view, limit, &self.connections, &mut self.effects)
            }
            Service::Cpg => self.cpg.request(id, &request, &self.view, outbox),
            Service::Quorum => self.quorum.request(id, &request, &self.view, outbox),
            Service::Votequorum => self.votequorum.request(id, &request, &self.view, outbox),
        }
    }

    /// Returns the response to a request whose order has been carried out.
    pub(crate) fn done(&mut self, id: ConnectionId, done: Done) -> Option<Bytes> {
        self.connections.get(&id)?;
        let response = match done {
            Done::Joined(joined) => self.cpg.joined(id, joined),
            Done::LeftGroup(left) => cpg::left(&left),
            Done::Killed => cfg::killed(Code::Ok),
            Done::VotesSet => votequorum::done(Code::Ok),
            Done::Device(handled) => self.votequorum.device_handled(id, handled, &mut self.view),
            Done::Stats(stats, request) => self
                .stats_request(id, &request, &stats)
                .unwrap_or_else(|Malformed| self.malformed_request(id)),
        };
        self.count(id, |connection| connection.responses += 1);
        Some(response)
    }

    /// Serves a request to the map of the counters.
    fn stats_request(
        &mut self,
        id: ConnectionId,
        request: &Request,
        stats: &Stats,
    ) -> Result<Bytes, Malformed> {
        if request.id() == 0 {
            let known = self.counters.clear(&request.key(16)?, stats, &mut self.connections);
            return Ok(Message::status(0, if known { Code::Ok } else { Code::NotSupported }));
        }
        let Self { cmap, counters, connections, .. } = self;
        let response = cmap.stats_request(
            id,
            request,
            |key| counters.value(key, stats, connections),
            || counters.values(stats, connections),
        )?;
        if !self.watches && self.cmap.watches_counters() {
            self.watches = true;
            self.effects.push(Effect::WatchCounters { after: WATCH });
        }
        Ok(response)
    }

    /// Tells the clients that track a counter how it has changed, and looks again later.
    pub(crate) fn watch_counters(&mut self, stats: &Stats) {
        let values = self.counters.values(stats, &self.connections);
        self.cmap.tell_counters(&values, &self.connections);
        self.watches = self.cmap.watches_counters();
        if self.watches {
            self.effects.push(Effect::WatchCounters { after: WATCH });
        }
    }

    /// Takes note of an event of the ring, and passes it to the clients that it concerns.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Deliver(delivery) => self.cpg.deliver(delivery, &self.connections),
            Event::Reload { from, request } => {
                let request = (*from == self.view.me).then_some(*request);
                self.cfg.reload(request, &mut self.effects);
            }
            Event::GroupChange(change) => self.cpg.change(change, &self.view, &self.connections),
            Event::Regular(regular) => {
                self.view.regular(regular);
                // The quorum device must hear of the ring before its members have exchanged their
                // state, which waits for the device.
                self.votequorum.ring(&self.view, &self.connections);
            }
            Event::Synced(_) => {
                self.view.synced();
                self.cpg.ring(&self.view, &self.connections);
                self.quorum.ring(&self.view, &self.connections);
                for (key, value) in self.view.member_keys() {
                    self.cmap.set(&key, &value, &self.connections);
                }
            }
            Event::Status(status) if self.view.status(status) => {
                self.quorum.status(&self.view, &self.connections);
                self.votequorum.status(&self.view, &self.connections);
            }
            _ => {}
        }
    }

    /// Replaces the keys of the configuration, and answers the clients of this node that asked for
    /// it. `None` stands for a configuration that cannot be used, which changes nothing.
    pub(crate) fn reloaded(&mut self, keys: Option<Vec<(String, Value)>>) {
        let code = if keys.is_some() { Code::Ok } else { Code::InvalidParam };
        if let Some(keys) = keys {
            self.view.add_addresses(&keys);
            self.cmap.reload(keys, &self.connections);
        }
        for id in self.cfg.reloaded(&mut self.effects) {
            self.count(id, |connection| {
                connection.responses += 1;
                connection.outbox.response(cfg::reloaded(code));
            });
        }
    }

    /// Ends a shutdown vote, if it still runs.
    pub(crate) fn end_vote(&mut self, vote: u64) {
        self.cfg.end_vote(vote, &self.connections, &mut self.effects);
    }

    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Returns the number of malformed requests.
    pub(crate) fn malformed(&self) -> u64 {
        self.malformed
    }
}

/// The flags of a request to track quorum or votes (`CS_TRACK_*`).
#[derive(Clone, Copy)]
struct Tracking(u32);

impl Tracking {
    const CURRENT: u32 = 1;
    const CHANGES: u32 = 2;
    const CHANGES_ONLY: u32 = 4;

    /// Whether the client wants the current state first.
    fn wants_current(self) -> bool {
        self.0 & (Self::CURRENT | Self::CHANGES) != 0
    }

    /// Whether the client wants later changes.
    fn wants_changes(self) -> bool {
        self.0 & (Self::CHANGES | Self::CHANGES_ONLY) != 0
    }
}

type Connections = BTreeMap<ConnectionId, Connection>;

/// Sends an event to a client that may have gone.
fn tell(connections: &Connections, id: ConnectionId, event: Bytes) {
    if let Some(connection) = connections.get(&id) {
        connection.outbox.event(event);
    }
}

/// Sends an event to clients.
fn tell_all(connections: &Connections, ids: impl Iterator<Item = ConnectionId>, event: Bytes) {
    // The first copy of an event costs an allocation. Most groups have one member here.
    let mut ids = ids.peekable();
    while let Some(id) = ids.next() {
        if ids.peek().is_none() {
            return tell(connections, id, event);
        }
        tell(connections, id, event.clone());
    }
}
