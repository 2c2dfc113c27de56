//! A ring of bare cores in lockstep, with a clock and a queue of datagrams, but without sockets and
//! sleeps.
//!
//! A violated invariant panics with its name first (`S8: ...`; docs/invariants.md lists them).

#![allow(clippy::unwrap_used, reason = "tests panic")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod chaos;
mod evs;
pub mod scenarios;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::config::{Config, Member, TotemConfig};
use quorate_membership::wire::{self, Message};
use quorate_membership::{
    Delivery, Destination, Event, Group, GroupChange, GroupError, Guarantee, MulticastError, NodeId, Notice,
    Origin, Parting, Phase, Regular, RingId, Service, Stored, Time, Totem,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use watch::{Seen, Watch};

pub fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

pub fn ids(ids: &[u32]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(node).collect()
}

fn listed(id: NodeId) -> Member {
    let address = [10, 0, (id.get() >> 8) as u8, id.get() as u8].into();
    Member::new(id, address).named(format!("node{id}"))
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The network's treatment of a datagram.
pub enum Fate {
    Deliver,
    Drop,
    Delay(Duration),
    Duplicate(Duration),
}

type Filter = Box<dyn FnMut(NodeId, NodeId, &Message, &mut ChaCha8Rng) -> Fate>;

struct Host {
    totem: Option<Totem>,
    stored: Stored,
    /// A record that is being written, with the time at which it will be on disk.
    writing: Option<(Time, Stored)>,
    /// The events of each life of the host. The last entry is the current life.
    lives: Vec<Vec<Event>>,
    reads_events: bool,
    sent: u64,
    /// The numbers of the messages that the core of this life accepted.
    accepted: Vec<u64>,
    /// The end of a pause. During a pause, timers do not run and datagrams wait in the socket.
    still_until: Time,
    /// The delay with which its timers run.
    late: Duration,
    watch: Watch,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            totem: None,
            stored: Stored::default(),
            writing: None,
            lives: Vec::new(),
            reads_events: true,
            sent: 0,
            accepted: Vec::new(),
            still_until: Time::default(),
            late: Duration::ZERO,
            watch: Watch::default(),
        }
    }
}

pub struct Lab {
    pub now: Time,
    pub config: TotemConfig,
    latency: Duration,
    hosts: BTreeMap<NodeId, Host>,
    /// Datagrams in flight, by arrival time and sending order.
    flying: BTreeMap<(Time, u64), (NodeId, NodeId, Bytes)>,
    sent: u64,
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that hold up the sync of every new ring.
    pub holding: BTreeSet<NodeId>,
    /// Nodes whose hosts reject incoming datagrams.
    rejecting: BTreeSet<NodeId>,
    /// For a host and a peer, when the host will have sent no more than one refusal a second.
    refused_until: BTreeMap<(NodeId, NodeId), Time>,
    filter: Filter,
    pub rng: ChaCha8Rng,
    /// The number of tokens seen on the network.
    pub tokens: u64,
    /// Whether nothing is in flight any more, so that all promises must have been kept.
    pub at_rest: bool,
    /// The time that a disk takes to write a record.
    pub disk: Duration,
    seen: Seen,
    /// The node list. Without one, any node that is heard takes part.
    list: Option<BTreeSet<NodeId>>,
    /// The lists of nodes that have a different node list.
    lists: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// The multicasts sent since they were last taken, if they are kept.
    multicasts: Option<Vec<Bytes>>,
    /// A sample of all datagrams sent, each with its sender and its receiver.
    sample: Vec<(NodeId, NodeId, Bytes)>,
}

impl Lab {
    /// Creates a network without nodes. Its timers are short (token 300 ms).
    pub fn new(seed: u64) -> Self {
        let mut config = TotemConfig::for_token(ms(300)).plain();
        config.join = ms(30);
        config.merge = ms(40);
        Self {
            now: Time::from_micros(0),
            config,
            latency: Duration::from_micros(100),
            hosts: BTreeMap::new(),
            flying: BTreeMap::new(),
            sent: 0,
            cuts: BTreeSet::new(),
            holding: BTreeSet::new(),
            rejecting: BTreeSet::new(),
            refused_until: BTreeMap::new(),
            filter: Box::new(|_, _, _, _| Fate::Deliver),
            rng: ChaCha8Rng::seed_from_u64(seed),
            tokens: 0,
            at_rest: false,
            disk: Duration::ZERO,
            seen: Seen::default(),
            list: None,
            lists: BTreeMap::new(),
            multicasts: None,
            sample: Vec::new(),
        }
    }

    /// Like [`Lab::new`], with a node list.
    pub fn listing(nodes: impl IntoIterator<Item = u32>) -> Self {
        Self { list: Some(nodes.into_iter().map(node).collect()), ..Self::new(0) }
    }

    /// Gives a node its own node list from its next start on.
    pub fn list(&mut self, id: u32, nodes: impl IntoIterator<Item = u32>) {
        self.lists.insert(node(id), nodes.into_iter().map(node).collect());
    }

    /// Keeps all multicasts from now on, for [`Lab::take_sent`].
    pub fn keep_sent(&mut self) {
        self.multicasts = Some(Vec::new());
    }

    pub fn take_sent(&mut self) -> Vec<Bytes> {
        self.multicasts.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Creates a ring of nodes 1 to `n` that probe each other and believe the refusals of hosts.
    pub fn with_evidence(n: u32) -> Self {
        Self::with_evidence_and_token(n, ms(300))
    }

    pub fn with_evidence_and_token(n: u32, token: Duration) -> Self {
        let mut lab = Self::new(u64::from(n));
        lab.config.token = token;
        lab.start_with_evidence(n)
    }

    /// Creates the same ring with a hold time.
    pub fn with_evidence_and_hold(n: u32, hold: Duration) -> Self {
        let mut lab = Self::new(u64::from(n));
        (lab.config.token, lab.config.hold) = (ms(300), hold);
        lab.config.token_retransmit = hold + hold / 4;
        lab.start_with_evidence(n)
    }

    fn start_with_evidence(mut self, n: u32) -> Self {
        let lab = &mut self;
        lab.config.failure_evidence = true;
        lab.config.probe = ms(8);
        lab.config.largest_window = 400;
        for id in 1..=n {
            lab.start(id);
        }
        lab.until_ring(&(1..=n).collect::<Vec<_>>());
        self
    }

    /// Creates an established ring of nodes 1 to `n`.
    pub fn ring(n: u32) -> Self {
        let mut lab = Self::new(u64::from(n));
        for id in 1..=n {
            lab.start(id);
        }
        lab.until_ring(&(1..=n).collect::<Vec<_>>());
        lab
    }

    pub fn filter(
        &mut self,
        filter: impl FnMut(NodeId, NodeId, &Message, &mut ChaCha8Rng) -> Fate + 'static,
    ) {
        self.filter = Box::new(filter);
    }

    pub fn calm(&mut self) {
        self.filter(|_, _, _, _| Fate::Deliver);
        self.cuts.clear();
    }

    /// Makes a host's firewall reject incoming datagrams, or stops that.
    pub fn reject(&mut self, id: u32, rejects: bool) {
        if rejects {
            self.rejecting.insert(node(id));
        } else {
            self.rejecting.remove(&node(id));
        }
    }

    pub fn cut_one_way(&mut self, from: u32, to: u32) {
        self.cuts.insert((node(from), node(to)));
    }

    pub fn cut(&mut self, one: &[u32], other: &[u32]) {
        for &a in one {
            for &b in other {
                self.cut_one_way(a, b);
                self.cut_one_way(b, a);
            }
        }
    }

    pub fn start(&mut self, id: u32) {
        let id = node(id);
        let mut config = Config::new(id);
        config.totem = self.config.clone();
        let lists = self.lists.get(&id).or(self.list.as_ref());
        config.nodes = lists.into_iter().flatten().map(|id| listed(*id)).collect();
        let host = self.hosts.entry(id).or_default();
        assert!(host.totem.is_none(), "node {id} runs already");
        let mut totem = Totem::new(&config, host.stored.clone(), [0; 32], self.now).unwrap();
        totem.set_sync_messages(Service::Quorate, vec![format!("candidacy of {id}").into()]);
        host.watch = Watch::of(&totem, config.totem);
        host.totem = Some(totem);
        host.lives.push(Vec::new());
        host.accepted.clear();
        self.drain(id);
    }

    /// Puts a record with this ring number on the disk of a stopped node.
    pub fn store(&mut self, id: u32, ring_seq: u64) {
        self.hosts.entry(node(id)).or_default().stored.ring_seq = ring_seq;
    }

    pub fn crash(&mut self, id: u32) {
        let host = self.hosts.get_mut(&node(id)).unwrap();
        host.totem = None;
        host.writing = None;
        host.still_until = Time::default();
    }

    /// Returns `true` if the node was ever started.
    pub fn exists(&self, id: u32) -> bool {
        self.hosts.contains_key(&node(id))
    }

    /// Returns `true` if the node runs and has not left.
    pub fn is_up(&self, id: u32) -> bool {
        let totem = self.hosts.get(&node(id)).and_then(|host| host.totem.as_ref());
        totem.is_some_and(|totem| totem.snapshot().phase != Phase::Left)
    }

    /// Loses all datagrams in flight.
    pub fn lose_all(&mut self) {
        self.flying.clear();
    }

    /// Delays a node's timers by `late`.
    pub fn late(&mut self, id: u32, late: Duration) {
        self.hosts.get_mut(&node(id)).unwrap().late = late;
    }

    /// Pauses a node for `length`.
    pub fn stall(&mut self, id: u32, length: Duration) {
        self.hosts.get_mut(&node(id)).unwrap().still_until = self.now + length;
    }

    /// Starts or stops reading a node's events.
    pub fn read_events(&mut self, id: u32, reads: bool) {
        let host = self.hosts.get_mut(&node(id)).unwrap();
        host.reads_events = reads;
        if reads {
            host.totem.as_mut().unwrap().consumed(self.now, usize::MAX);
        }
    }

    pub fn leave(&mut self, id: u32) {
        let now = self.now;
        self.totem(id).leave(now);
        self.drain(node(id));
    }

    pub fn totem(&mut self, id: u32) -> &mut Totem {
        self.hosts.get_mut(&node(id)).unwrap().totem.as_mut().expect("the node runs")
    }

    /// Returns each member's window, in frames per rotation.
    pub fn windows(&self, members: &[u32]) -> Vec<u32> {
        members.iter().map(|&id| self.totem_of(id).snapshot().window).collect()
    }

    pub fn totem_of(&self, id: u32) -> &Totem {
        self.hosts[&node(id)].totem.as_ref().expect("the node runs")
    }

    /// Returns `true` if a node has recorded this notice, which may have been a while ago.
    pub fn noted(&self, id: u32, notice: Notice) -> bool {
        self.totem_of(id).stats().notices.iter().any(|(noted, _)| *noted == notice)
    }

    pub fn try_send(
        &mut self,
        id: u32,
        guarantee: Guarantee,
        payload: impl Into<Bytes>,
    ) -> Result<(), MulticastError> {
        let now = self.now;
        let group: Group = "test".parse().unwrap();
        let payload = payload.into();
        let result = self.totem(id).multicast(now, 0, &group, guarantee, &payload);
        if result.is_ok() {
            self.watch_accepted(node(id), payload);
        }
        self.drain(node(id));
        result
    }

    pub fn join(&mut self, id: u32, pid: u32, group: &str) -> Result<(), GroupError> {
        let now = self.now;
        let result = self.totem(id).join_group(now, pid, &group.parse().unwrap());
        self.drain(node(id));
        result
    }

    pub fn part(&mut self, id: u32, pid: u32, group: &str, parting: Parting) -> Result<(), GroupError> {
        let now = self.now;
        let result = self.totem(id).leave_group(now, pid, &group.parse().unwrap(), parting);
        self.drain(node(id));
        result
    }

    pub fn send(&mut self, id: u32, guarantee: Guarantee, payload: &str) {
        self.try_send(id, guarantee, payload.as_bytes().to_vec()).unwrap();
    }

    /// Sends a unique message.
    pub fn send_numbered(&mut self, id: u32, guarantee: Guarantee, length: usize) {
        let host = self.hosts.get_mut(&node(id)).unwrap();
        host.sent += 1;
        let mut text = format!("{id}/{}/{}", host.lives.len(), host.sent);
        // No two parts of it look alike.
        text.extend((text.len()..length).map(|n| char::from(b'a' + (n * n % 23) as u8)));
        self.send(id, guarantee, &text);
        let host = self.hosts.get_mut(&node(id)).unwrap();
        host.accepted.push(host.sent);
    }

    pub fn deliver_raw(&mut self, to: u32, origin: Option<u32>, datagram: &Bytes) {
        self.deliver_from(to, Origin::of(origin.map(node)), datagram);
    }

    pub fn deliver_from(&mut self, to: u32, origin: Origin, datagram: &Bytes) {
        let now = self.now;
        self.totem(to).handle_datagram(now, origin, datagram);
        self.drain(node(to));
    }

    /// Lets an operator at node `by` kill a node.
    pub fn kill(&mut self, by: u32, id: u32, reason: &str) {
        let now = self.now;
        self.totem(by).kill(now, node(id), reason);
        self.drain(node(by));
    }

    /// Tells node `to` that the process of `node` is gone.
    pub fn refuse(&mut self, to: NodeId, node: NodeId) {
        let now = self.now;
        if let Some(totem) = &mut self.hosts.get_mut(&to).unwrap().totem {
            totem.handle_refused(now, node);
            self.drain(to);
        }
    }

    /// Limits a host's refusals to a peer like Linux does: at most six in a row, and then one a
    /// second.
    fn may_refuse(&mut self, host: NodeId, peer: NodeId) -> bool {
        let until = self.refused_until.entry((host, peer)).or_default();
        let may = *until <= self.now + ms(5000);
        if may {
            *until = self.now.max(*until) + ms(1000);
        }
        may
    }

    fn drain(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).unwrap();
        let Some(totem) = &mut host.totem else { return };
        if host.writing.is_none()
            && let Some(stored) = totem.must_store()
        {
            host.writing = Some((self.now + self.disk, stored));
        }
        if let Some((at, stored)) = host.writing.clone()
            && at <= self.now
        {
            host.writing = None;
            host.stored = stored.clone();
            totem.handle_stored(self.now, stored);
            return self.drain(id);
        }
        let mut out = Vec::new();
        while let Some(transmit) = totem.poll_transmit() {
            out.push(transmit);
        }
        let mut events = Vec::new();
        while let Some(event) = totem.poll_event() {
            if matches!(event, Event::Regular(_)) && self.holding.contains(&id) {
                totem.hold_sync();
            }
            if host.reads_events {
                totem.consumed(self.now, event.cost());
            }
            events.push(event);
        }
        host.lives.last_mut().unwrap().extend(events.iter().cloned());
        self.watch_outputs(id, &out, &events);
        let everyone: Vec<NodeId> = self.hosts.keys().copied().collect();
        for transmit in out {
            let message = wire::decode(&transmit.datagram).expect("what a core sends, it can read");
            // As on a network that drops fragments (F9).
            if transmit.datagram.len() > self.config.netmtu as usize {
                continue;
            }
            self.tokens += u64::from(matches!(message, Message::Token(_)));
            if let Some(kept) = self.multicasts.as_mut().filter(|_| transmit.to == Destination::Everyone) {
                kept.push(transmit.datagram.clone());
            }
            let to = match transmit.to {
                Destination::Everyone => everyone.iter().copied().filter(|&to| to != id).collect(),
                Destination::Member(to) => vec![to],
            };
            for to in to {
                if self.cuts.contains(&(id, to)) {
                    continue;
                }
                let rejects = to != id && self.rejecting.contains(&to);
                let down = rejects || self.hosts.get(&to).is_some_and(|host| host.totem.is_none());
                let refuses =
                    down && transmit.to == Destination::Member(to) && !self.cuts.contains(&(to, id));
                if refuses && self.may_refuse(to, id) {
                    self.sent += 1;
                    self.flying.insert((self.now + 2 * self.latency, self.sent), (to, id, Self::REFUSAL));
                }
                if rejects {
                    continue;
                }
                let mut arrivals = vec![self.now + self.latency];
                if to != id {
                    match (self.filter)(id, to, &message, &mut self.rng) {
                        Fate::Deliver => {}
                        Fate::Drop => continue,
                        Fate::Delay(delay) => arrivals = vec![self.now + self.latency + delay],
                        Fate::Duplicate(delay) => arrivals.push(self.now + self.latency + delay),
                    }
                }
                if self.sent.is_multiple_of(16) {
                    self.sample.push((id, to, transmit.datagram.clone()));
                }
                for arrival in arrivals {
                    self.sent += 1;
                    self.flying.insert((arrival, self.sent), (id, to, transmit.datagram.clone()));
                }
            }
        }
    }

    fn step(&mut self, until: Time) -> bool {
        let datagram_at = self.flying.keys().next().map(|&(at, _)| at);
        let timer = self
            .hosts
            .iter()
            .filter_map(|(&id, host)| {
                let due = host.totem.as_ref()?.poll_timeout().map(|due| due + host.late);
                let due = [due, host.writing.as_ref().map(|(at, _)| *at)].into_iter().flatten().min()?;
                Some((due.max(host.still_until), id))
            })
            .min();
        let next = [datagram_at, timer.map(|(at, _)| at)].into_iter().flatten().min();
        match next {
            Some(at) if at <= until => self.now = self.now.max(at),
            _ => {
                self.now = until;
                return false;
            }
        }
        if datagram_at == next {
            let ((_, number), (from, to, datagram)) = self.flying.pop_first().unwrap();
            let awake = self.hosts[&to].still_until;
            if awake > self.now {
                self.flying.insert((awake, number), (from, to, datagram));
                return true;
            }
            self.receive(to, from, &datagram);
        } else if let Some((_, id)) = timer {
            let totem = self.hosts.get_mut(&id).unwrap().totem.as_mut().unwrap();
            if totem.poll_timeout().is_some_and(|due| due <= self.now) {
                totem.handle_timeout(self.now);
            }
            assert!(totem.poll_timeout().is_none_or(|at| at > self.now), "H5: a timer that fired is over");
            self.drain(id);
        }
        true
    }

    /// The reply of a host to a datagram for a closed port. No datagram of a core is empty.
    const REFUSAL: Bytes = Bytes::new();

    fn receive(&mut self, to: NodeId, from: NodeId, datagram: &Bytes) {
        if *datagram == Self::REFUSAL {
            return self.refuse(to, from);
        }
        self.watch_input(to, datagram);
        if let Some(totem) = &mut self.hosts.get_mut(&to).unwrap().totem {
            totem.handle_datagram(self.now, Origin::of(Some(from)), datagram);
            self.drain(to);
        }
    }

    pub fn run(&mut self, length: Duration) {
        let until = self.now + length;
        while self.step(until) {}
    }

    /// Returns the share of this time, in percent, in which `members` are in one established ring.
    pub fn share_of_a_ring(&mut self, members: &[u32], length: Duration) -> u32 {
        self.share_of_rings(&[members], length)
    }

    /// Returns the share of this time, in percent, in which at least one of these sets is in one
    /// established ring.
    pub fn share_of_rings(&mut self, sets: &[&[u32]], length: Duration) -> u32 {
        let together = |lab: &Self, wanted: &BTreeSet<NodeId>| {
            let snapshots = || wanted.iter().map(|id| lab.hosts[id].totem.as_ref().unwrap().snapshot());
            let first = snapshots().next().unwrap().ring;
            snapshots().all(|snapshot| snapshot.phase == Phase::Operational && snapshot.ring.id == first.id)
                && wanted.is_subset(first.members)
        };
        let sets: Vec<_> = sets.iter().map(|members| ids(members)).collect();
        let steps = 1000;
        let good = (0..steps).filter(|_| {
            self.run(length / steps);
            sets.iter().any(|wanted| together(self, wanted))
        });
        u32::try_from(good.count()).unwrap() * 100 / steps
    }

    /// Runs until `done`, for at most fifteen simulated seconds. Returns the time that it took.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            assert!(self.step(start + ms(15_000)), "L1: {what}: not within 15 s; {}", self.describe());
        }
        self.now - start
    }

    pub fn until_ring(&mut self, members: &[u32]) -> Duration {
        let wanted = ids(members);
        self.until(&format!("a ring of {members:?}"), |lab| {
            let rings: BTreeSet<_> = wanted.iter().map(|&id| lab.synced_ring(id)).collect();
            match rings.first() {
                Some(Some((_, members))) => rings.len() == 1 && *members == wanted,
                _ => false,
            }
        })
    }

    fn describe(&self) -> String {
        let rings = self.hosts.keys().map(|&id| format!("{id}: {:?}", self.synced_ring(id)));
        rings.collect::<Vec<_>>().join(", ")
    }

    /// Returns the ring that a node has installed and synchronised, with its members.
    pub fn synced_ring(&self, id: NodeId) -> Option<(RingId, BTreeSet<NodeId>)> {
        let events = self.hosts[&id].lives.last()?;
        let synced = events.iter().rev().find_map(|event| match event {
            Event::Synced(ring) => Some(*ring),
            _ => None,
        })?;
        let regular = events.iter().rev().find_map(|event| match event {
            Event::Regular(regular) => Some(regular),
            _ => None,
        })?;
        (regular.ring == synced).then(|| (synced, regular.members.clone()))
    }

    pub fn events(&self, id: u32) -> &[Event] {
        self.hosts[&node(id)].lives.last().unwrap()
    }

    pub fn regular(&self, id: u32) -> &Regular {
        self.events(id)
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::Regular(regular) => Some(regular),
                _ => None,
            })
            .expect("a ring")
    }

    pub fn deliveries(&self, id: u32) -> Vec<&Delivery> {
        self.events(id)
            .iter()
            .filter_map(|event| match event {
                Event::Deliver(delivery) => Some(delivery),
                _ => None,
            })
            .collect()
    }

    pub fn changes(&self, id: u32) -> Vec<&GroupChange> {
        self.events(id)
            .iter()
            .filter_map(|event| match event {
                Event::GroupChange(change) => Some(change),
                _ => None,
            })
            .collect()
    }

    pub fn texts(&self, id: u32) -> Vec<String> {
        self.deliveries(id)
            .iter()
            .map(|delivery| String::from_utf8(delivery.payload.to_vec()).unwrap())
            .collect()
    }

    /// Loses this share of all datagrams at random, including tokens.
    pub fn lose(&mut self, share: f64) {
        self.filter(move |_, _, _, rng| if rng.random_bool(share) { Fate::Drop } else { Fate::Deliver });
    }
}
