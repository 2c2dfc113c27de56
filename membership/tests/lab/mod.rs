//! A ring of bare cores in lockstep: a clock, a queue of datagrams, no sockets and no sleeping.
//!
//! What is wrong panics with the name of the invariant first (`S8: ...`; ARCHITECTURE.md lists where they are from).

#![allow(clippy::unwrap_used, reason = "tests panic")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod chaos;
pub mod scenarios;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::config::{Config, TotemConfig};
use quorate_membership::wire::{self, Message};
use quorate_membership::{
    Delivery, Destination, Event, Group, GroupChange, GroupError, Guarantee, MulticastError, NodeId, Origin,
    Parting, Phase, Process, Regular, RingId, Service, Stored, Time, Totem,
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

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What the network does with a datagram.
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
    /// A record that is being written, and when that is done.
    writing: Option<(Time, Stored)>,
    /// Which life this is, and the events of each.
    lives: Vec<Vec<Event>>,
    reads_events: bool,
    sent: u64,
    /// The numbers of the messages that this life's core accepted.
    accepted: Vec<u64>,
    /// Stands still until then: its timers run late, its datagrams wait in its socket.
    still_until: Time,
    /// How late its timers run.
    late: Duration,
    watch: Watch,
}

pub struct Lab {
    pub now: Time,
    pub config: TotemConfig,
    latency: Duration,
    hosts: BTreeMap<NodeId, Host>,
    /// Datagrams under way, by arrival and order of sending.
    flying: BTreeMap<(Time, u64), (NodeId, NodeId, Bytes)>,
    sent: u64,
    cuts: BTreeSet<(NodeId, NodeId)>,
    filter: Filter,
    pub rng: ChaCha8Rng,
    /// Tokens seen on the network.
    pub tokens: u64,
    /// Nothing is under way any more: whatever was promised has to be there.
    pub at_rest: bool,
    /// How long a disk takes for a record.
    pub disk: Duration,
    seen: Seen,
    /// Some of the datagrams that were ever sent: from whom, to whom.
    sample: Vec<(NodeId, NodeId, Bytes)>,
}

impl Lab {
    /// A network without nodes. The timers are short ones: token 300 ms.
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
            filter: Box::new(|_, _, _, _| Fate::Deliver),
            rng: ChaCha8Rng::seed_from_u64(seed),
            tokens: 0,
            at_rest: false,
            disk: Duration::ZERO,
            seen: Seen::default(),
            sample: Vec::new(),
        }
    }

    /// The same, with nodes that believe hosts which refuse, and probe each other.
    pub fn with_evidence(n: u32) -> Self {
        let mut lab = Self::new(u64::from(n));
        lab.config.failure_evidence = true;
        lab.config.probe = ms(20);
        for id in 1..=n {
            lab.start(id);
        }
        lab.until_ring(&(1..=n).collect::<Vec<_>>());
        lab
    }

    /// A ring of nodes 1 to `n` that stands.
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
        let host = self.hosts.entry(id).or_insert_with(|| Host {
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
        });
        assert!(host.totem.is_none(), "node {id} runs already");
        let mut totem = Totem::new(&config, host.stored, [0; 32], self.now).unwrap();
        totem.set_sync_message(Service::Quorate, format!("candidacy of {id}").into());
        host.watch = Watch::of(&totem, config.totem);
        host.totem = Some(totem);
        host.lives.push(Vec::new());
        host.accepted.clear();
        self.drain(id);
    }

    pub fn crash(&mut self, id: u32) {
        let host = self.hosts.get_mut(&node(id)).unwrap();
        host.totem = None;
        host.writing = None;
        host.still_until = Time::default();
    }

    /// Whether the node was ever started.
    pub fn exists(&self, id: u32) -> bool {
        self.hosts.contains_key(&node(id))
    }

    /// Whether the node runs and has not left.
    pub fn is_up(&self, id: u32) -> bool {
        let totem = self.hosts.get(&node(id)).and_then(|host| host.totem.as_ref());
        totem.is_some_and(|totem| totem.snapshot().phase != Phase::Left)
    }

    /// Loses all that is under way.
    pub fn lose_all(&mut self) {
        self.flying.clear();
    }

    /// Makes a node's timers run this late.
    pub fn late(&mut self, id: u32, late: Duration) {
        self.hosts.get_mut(&node(id)).unwrap().late = late;
    }

    /// Makes a node stand still for this long.
    pub fn stall(&mut self, id: u32, length: Duration) {
        self.hosts.get_mut(&node(id)).unwrap().still_until = self.now + length;
    }

    /// Stops taking a node's events, or goes on.
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

    /// How many frames there may be in a rotation, by each of these.
    pub fn windows(&self, members: &[u32]) -> Vec<u32> {
        members.iter().map(|&id| self.totem_of(id).snapshot().window).collect()
    }

    pub fn totem_of(&self, id: u32) -> &Totem {
        self.hosts[&node(id)].totem.as_ref().expect("the node runs")
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
        let result = self.totem(id).multicast(now, 0, &group, guarantee, payload.clone());
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

    /// Sends a message that nobody has sent before.
    pub fn send_numbered(&mut self, id: u32, guarantee: Guarantee, length: usize) {
        let host = self.hosts.get_mut(&node(id)).unwrap();
        host.sent += 1;
        let mut text = format!("{id}/{}/{}", host.lives.len(), host.sent);
        // No part of it looks like another.
        text.extend((text.len()..length).map(|n| char::from(b'a' + (n * n % 23) as u8)));
        self.send(id, guarantee, &text);
        let host = self.hosts.get_mut(&node(id)).unwrap();
        host.accepted.push(host.sent);
    }

    pub fn deliver_raw(&mut self, to: u32, origin: Option<u32>, datagram: &Bytes) {
        let now = self.now;
        let origin = Origin { peer: origin.map(node) };
        self.totem(to).handle_datagram(now, origin, datagram);
        self.drain(node(to));
    }

    /// A node is told that the process of another one is gone.
    pub fn refuse(&mut self, to: NodeId, node: NodeId) {
        let now = self.now;
        if let Some(totem) = &mut self.hosts.get_mut(&to).unwrap().totem {
            totem.handle_refused(now, node);
            self.drain(to);
        }
    }

    fn drain(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).unwrap();
        let Some(totem) = &mut host.totem else { return };
        if host.writing.is_none()
            && let Some(stored) = totem.must_store()
        {
            host.writing = Some((self.now + self.disk, stored));
        }
        if let Some((at, stored)) = host.writing
            && at <= self.now
        {
            host.writing = None;
            host.stored = stored;
            totem.handle_stored(self.now, stored);
            return self.drain(id);
        }
        let mut out = Vec::new();
        while let Some(transmit) = totem.poll_transmit() {
            out.push(transmit);
        }
        let mut events = Vec::new();
        while let Some(event) = totem.poll_event() {
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
            // As where fragments do not pass (F9).
            if transmit.datagram.len() > self.config.netmtu as usize {
                continue;
            }
            self.tokens += u64::from(matches!(message, Message::Token(_)));
            let to = match transmit.to {
                Destination::Everyone => everyone.iter().copied().filter(|&to| to != id).collect(),
                Destination::Member(to) => vec![to],
            };
            for to in to {
                if self.cuts.contains(&(id, to)) {
                    continue;
                }
                let down = self.hosts.get(&to).is_some_and(|host| host.totem.is_none());
                if down && transmit.to == Destination::Member(to) && !self.cuts.contains(&(to, id)) {
                    self.sent += 1;
                    self.flying.insert((self.now + 2 * self.latency, self.sent), (to, id, Self::REFUSAL));
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
                let due = [due, host.writing.map(|(at, _)| at)].into_iter().flatten().min()?;
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

    /// What a host says of a port that nobody listens at: no datagram of a core is empty.
    const REFUSAL: Bytes = Bytes::new();

    fn receive(&mut self, to: NodeId, from: NodeId, datagram: &Bytes) {
        if *datagram == Self::REFUSAL {
            return self.refuse(to, from);
        }
        self.watch_input(to, datagram);
        if let Some(totem) = &mut self.hosts.get_mut(&to).unwrap().totem {
            totem.handle_datagram(self.now, Origin { peer: Some(from) }, datagram);
            self.drain(to);
        }
    }

    pub fn run(&mut self, length: Duration) {
        let until = self.now + length;
        while self.step(until) {}
    }

    /// Runs until `done`, at most fifteen simulated seconds; returns how long it took.
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

    /// The ring that a node has installed and synchronised.
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

    /// Randomly loses this share of all datagrams, tokens too.
    pub fn lose(&mut self, share: f64) {
        self.filter(move |_, _, _, rng| if rng.random_bool(share) { Fate::Drop } else { Fate::Deliver });
    }

    /// Checks what extended virtual synchrony promises, on everything that happened so far
    /// (numbers: the invariants of ARCHITECTURE.md).
    pub fn check(&self) {
        self.check_rings();
        self.check_senders();
        self.check_safe();
        self.check_one_order();
        self.check_groups();
        // S11: the regular deliveries of a ring are prefixes of one sequence.
        let mut of_ring: BTreeMap<RingId, Vec<String>> = BTreeMap::new();
        // S8: who goes from one ring to the same next one has delivered the same, at the same places.
        let mut of_change: BTreeMap<(RingId, RingId), (NodeId, Vec<String>)> = BTreeMap::new();
        for (&id, host) in &self.hosts {
            for life in &host.lives {
                let mut seen = BTreeSet::new();
                let mut ring: Option<&Regular> = None;
                let mut transitional = false;
                let mut history: Vec<String> = Vec::new();
                for event in life {
                    match event {
                        Event::Regular(regular) => {
                            assert!(regular.members.contains(&id), "S5: node {id} not in its own ring");
                            assert!(
                                ring.is_none() || transitional,
                                "S6: no transitional before {}",
                                regular.ring
                            );
                            if let Some(previous) = ring {
                                assert!(previous.ring.seq < regular.ring.seq, "M2: ring sequence fell");
                                let change = (previous.ring, regular.ring);
                                let first = of_change.entry(change).or_insert((id, history.clone()));
                                assert_eq!(first.1, history, "S8: nodes {} and {id} at {change:?}", first.0);
                            }
                            assert!(!regular.causes.is_empty());
                            history.clear();
                            ring = Some(regular);
                            transitional = false;
                        }
                        Event::Transitional(change) => {
                            let regular = ring.expect("S6: a ring before the transitional configuration");
                            assert!(!transitional && change.previous == regular.ring, "S6: shape");
                            assert!(change.members.contains(&id), "S5: in the transitional configuration");
                            assert!(change.members.is_subset(&regular.members), "S6: transitional members");
                            history.push("transitional".into());
                            transitional = true;
                        }
                        Event::Deliver(delivery) => {
                            let regular = ring.expect("S6: a ring before the first message");
                            assert_eq!(delivery.ring, regular.ring, "S4: containment");
                            let text = format!(
                                "{} {:?} {:?}",
                                delivery.seq,
                                delivery.from,
                                &delivery.payload[..delivery.payload.len().min(24)]
                            );
                            assert!(
                                seen.insert((delivery.from, delivery.payload.clone())),
                                "S2: twice: {text}"
                            );
                            if !transitional {
                                let order = of_ring.entry(regular.ring).or_default();
                                let place = history.len();
                                match order.get(place) {
                                    Some(first) => assert_eq!(*first, text, "S11: order in {}", regular.ring),
                                    None => order.push(text.clone()),
                                }
                            }
                            history.push(text);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Every life, and whose it is.
    fn lives(&self) -> impl Iterator<Item = Life<'_>> {
        self.hosts.iter().flat_map(|(&id, host)| {
            host.lives.iter().enumerate().map(move |(n, events)| Life {
                id,
                ended: n + 1 < host.lives.len() || host.totem.is_none(),
                number: n + 1,
                events,
            })
        })
    }

    /// G1: at the same point of a ring's order, its members have the same lists of group members. What they have before
    /// its sync is their own affair.
    fn check_groups(&self) {
        type Lists = BTreeMap<Group, BTreeSet<Process>>;
        let mut synced: BTreeMap<RingId, Lists> = BTreeMap::new();
        let mut changes: BTreeMap<RingId, Vec<&GroupChange>> = BTreeMap::new();
        for life in self.lives() {
            let mut lists = Lists::new();
            let mut ring = None;
            let mut since_sync = 0;
            let mut transitional = false;
            for event in life.events {
                match event {
                    Event::Transitional(_) => transitional = true,
                    Event::Regular(_) => (ring, transitional) = (None, false),
                    Event::Synced(now) => {
                        (ring, since_sync) = (Some(*now), 0);
                        let first = synced.entry(*now).or_insert_with(|| lists.clone());
                        assert_eq!(*first, lists, "G1: groups of node {} in {now}", life.id);
                    }
                    Event::GroupChange(change) => {
                        let list = lists.entry(change.group.clone()).or_default();
                        assert!(list.is_disjoint(&change.joined), "G1: joined twice: {change}");
                        assert!(list.is_superset(&change.left), "G1: left without being in: {change}");
                        list.extend(&change.joined);
                        list.retain(|process| !change.left.contains(process));
                        assert_eq!(*list, change.members, "G1: members at node {}", life.id);
                        if list.is_empty() {
                            lists.remove(&change.group);
                        }
                        if let Some(ring) = ring.filter(|_| !transitional) {
                            assert_eq!(change.ring, ring, "S4: containment");
                            let order = changes.entry(ring).or_default();
                            match order.get(since_sync) {
                                Some(first) => assert_eq!(*first, change, "G1: order at node {}", life.id),
                                None => order.push(change),
                            }
                            since_sync += 1;
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// M3: a ring has one list of members; M4: who comes along is just who says that it came from the same ring.
    fn check_rings(&self) {
        let mut members: BTreeMap<RingId, &BTreeSet<NodeId>> = BTreeMap::new();
        // Who went from which ring to which, and whom it took along.
        let mut changes: Vec<(NodeId, RingId, RingId, &BTreeSet<NodeId>)> = Vec::new();
        let mut came_from: BTreeMap<(NodeId, RingId), Option<RingId>> = BTreeMap::new();
        for life in self.lives() {
            let mut ring = None;
            let mut along = None;
            for event in life.events {
                match event {
                    Event::Transitional(change) => along = Some(&change.members),
                    Event::Regular(regular) => {
                        let same = members.entry(regular.ring).or_insert(&regular.members);
                        assert_eq!(**same, regular.members, "M3: members of {}", regular.ring);
                        let before = came_from.insert((life.id, regular.ring), ring);
                        assert!(before.is_none(), "M1: {} twice at node {}", regular.ring, life.id);
                        if let (Some(from), Some(along)) = (ring, along.take()) {
                            changes.push((life.id, from, regular.ring, along));
                            let joined = &regular.members - along;
                            assert_eq!(regular.joined, joined, "S6: joined of {}", regular.ring);
                        }
                        ring = Some(regular.ring);
                    }
                    _ => {}
                }
            }
        }
        for (id, from, to, along) in changes {
            for &other in members[&to] {
                if let Some(before) = came_from.get(&(other, to)) {
                    let same = *before == Some(from);
                    assert_eq!(along.contains(&other), same, "M4: node {id} on node {other}, {from} to {to}");
                }
            }
        }
    }

    /// S9: what a sender's life sent comes in its order; S7, S16: a life that goes on delivers all that it sent, once
    /// the ring is at rest.
    fn check_senders(&self) {
        for life in self.lives() {
            let mut last: BTreeMap<(NodeId, usize), u64> = BTreeMap::new();
            let mut own = Vec::new();
            for delivery in life.deliveries() {
                let Some((from, of_life, n)) = numbered(&delivery.payload) else { continue };
                assert_eq!(from, delivery.from, "S1: sender");
                let before = last.insert((from, of_life), n);
                assert!(before < Some(n), "S9: node {} saw {n} of node {from} after {before:?}", life.id);
                if (from, of_life) == (life.id, life.number) {
                    own.push(n);
                }
            }
            let host = &self.hosts[&life.id];
            let left = life.events.iter().any(|event| matches!(event, Event::Left(_)));
            if !life.ended && !left && self.at_rest {
                let accepted: Vec<u64> = host.accepted.clone();
                assert_eq!(own, accepted, "S7: own messages of node {}", life.id);
            }
        }
    }

    /// S14, S15: what is delivered as safe is delivered by all that go on from its configuration.
    fn check_safe(&self) {
        let mut delivered: BTreeMap<(NodeId, RingId), Story<'_>> = BTreeMap::new();
        for life in self.lives() {
            let mut ring = None;
            let mut ended = life.ended;
            for event in life.events {
                match event {
                    Event::Left(_) => ended = true,
                    Event::Regular(regular) => {
                        if let Some(ring) = ring {
                            delivered.entry((life.id, ring)).or_default().went_on = true;
                        }
                        ring = Some(regular.ring);
                        delivered.entry((life.id, regular.ring)).or_default();
                    }
                    Event::Deliver(delivery) => {
                        let story = delivered.entry((life.id, delivery.ring)).or_default();
                        story.messages.insert(&delivery.payload);
                    }
                    _ => {}
                }
            }
            if let (Some(ring), false, true) = (ring, ended, self.at_rest) {
                delivered.entry((life.id, ring)).or_default().went_on = true;
            }
        }
        for life in self.lives() {
            let mut members: &BTreeSet<NodeId> = &BTreeSet::new();
            let mut what = "S14";
            for event in life.events {
                match event {
                    Event::Regular(regular) => (members, what) = (&regular.members, "S14"),
                    Event::Transitional(change) => (members, what) = (&change.members, "S15"),
                    Event::Deliver(delivery) if delivery.guarantee == Guarantee::Safe => {
                        for &other in members {
                            let Some(theirs) = delivered.get(&(other, delivery.ring)) else {
                                continue;
                            };
                            assert!(
                                !theirs.went_on || theirs.messages.contains(&delivery.payload[..]),
                                "{what}: node {} delivered {:?} of {} and node {other} did not",
                                life.id,
                                &delivery.payload[..delivery.payload.len().min(24)],
                                delivery.ring,
                            );
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// S12: the orders of all lives, over all configurations, fit into one.
    fn check_one_order(&self) {
        let mut after: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let mut incoming: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for life in self.lives() {
            let mut last: Option<Vec<u8>> = None;
            for event in life.events {
                let point = match event {
                    Event::Regular(regular) => format!("R{}", regular.ring).into_bytes(),
                    Event::Transitional(change) => {
                        format!("T{} {}", change.previous, change.ring).into_bytes()
                    }
                    Event::Deliver(delivery) => {
                        [format!("M{} {} ", delivery.ring, delivery.from).as_bytes(), &delivery.payload]
                            .concat()
                    }
                    _ => continue,
                };
                incoming.entry(point.clone()).or_default();
                if let Some(last) = last
                    && after.entry(last).or_default().insert(point.clone())
                {
                    *incoming.entry(point.clone()).or_default() += 1;
                }
                last = Some(point);
            }
        }
        let mut ready: Vec<Vec<u8>> =
            incoming.iter().filter(|(_, n)| **n == 0).map(|(point, _)| point.clone()).collect();
        let mut placed = 0;
        while let Some(point) = ready.pop() {
            placed += 1;
            for next in after.remove(&point).unwrap_or_default() {
                let left = incoming.get_mut(&next).unwrap();
                *left -= 1;
                if *left == 0 {
                    ready.push(next);
                }
            }
        }
        assert_eq!(placed, incoming.len(), "S12: the orders go in a circle");
    }
}

/// What a node delivered in a ring and the transitional configuration behind it, and whether it went on.
#[derive(Default)]
struct Story<'a> {
    messages: BTreeSet<&'a [u8]>,
    went_on: bool,
}

struct Life<'a> {
    id: NodeId,
    number: usize,
    ended: bool,
    events: &'a [Event],
}

impl<'a> Life<'a> {
    fn deliveries(&self) -> impl Iterator<Item = &'a Delivery> {
        self.events.iter().filter_map(|event| match event {
            Event::Deliver(delivery) => Some(delivery),
            _ => None,
        })
    }
}

/// Who sent this message of [`Lab::send_numbered`], in which life, and as which.
fn numbered(payload: &[u8]) -> Option<(NodeId, usize, u64)> {
    let text = std::str::from_utf8(payload).ok()?.trim_end_matches(char::is_alphabetic);
    let mut parts = text.split('/').map(str::parse::<u64>);
    let (id, life, n) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    Some((NodeId::new(u32::try_from(id).ok()?)?, usize::try_from(life).ok()?, n))
}
