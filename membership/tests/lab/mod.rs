//! A ring of bare cores in lockstep: a clock, a queue of datagrams, no sockets and no sleeping.

#![allow(clippy::unwrap_used, reason = "tests panic")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::config::{Config, TotemConfig};
use quorate_membership::wire::{self, Message};
use quorate_membership::{
    Delivery, Destination, Event, Group, Guarantee, MulticastError, NodeId, Origin, Regular, RingId, Stored,
    Time, Totem,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

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
    /// Which life this is, and the events of each.
    lives: Vec<Vec<Event>>,
    reads_events: bool,
    sent: u64,
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
}

impl Lab {
    /// A network without nodes. The timers are short ones: token 300 ms.
    pub fn new(seed: u64) -> Self {
        let mut config = TotemConfig::for_token(ms(300));
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
        }
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
            lives: Vec::new(),
            reads_events: true,
            sent: 0,
        });
        assert!(host.totem.is_none(), "node {id} runs already");
        host.totem = Some(Totem::new(&config, host.stored, [0; 32], self.now).unwrap());
        host.lives.push(Vec::new());
        self.drain(id);
    }

    pub fn crash(&mut self, id: u32) {
        self.hosts.get_mut(&node(id)).unwrap().totem = None;
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

    pub fn try_send(
        &mut self,
        id: u32,
        guarantee: Guarantee,
        payload: impl Into<Bytes>,
    ) -> Result<(), MulticastError> {
        let now = self.now;
        let group: Group = "test".parse().unwrap();
        let result = self.totem(id).multicast(now, &group, guarantee, payload.into());
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
        while text.len() < length {
            text.push('.');
        }
        self.send(id, guarantee, &text);
    }

    pub fn deliver_raw(&mut self, to: u32, origin: Option<u32>, datagram: &Bytes) {
        let now = self.now;
        let origin = Origin { peer: origin.map(node) };
        self.totem(to).handle_datagram(now, origin, datagram);
        self.drain(node(to));
    }

    fn drain(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).unwrap();
        let Some(totem) = &mut host.totem else { return };
        while let Some(stored) = totem.must_store() {
            host.stored = stored;
            totem.handle_stored(self.now, stored);
        }
        let mut out = Vec::new();
        while let Some(transmit) = totem.poll_transmit() {
            out.push(transmit);
        }
        while let Some(event) = totem.poll_event() {
            if host.reads_events {
                totem.consumed(self.now, event.cost());
            }
            host.lives.last_mut().unwrap().push(event);
        }
        let everyone: Vec<NodeId> = self.hosts.keys().copied().collect();
        for transmit in out {
            let message = wire::decode(&transmit.datagram).expect("what a core sends, it can read");
            self.tokens += u64::from(matches!(message, Message::Token(_)));
            let to = match transmit.to {
                Destination::Everyone => everyone.iter().copied().filter(|&to| to != id).collect(),
                Destination::Member(to) => vec![to],
            };
            for to in to {
                if self.cuts.contains(&(id, to)) {
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
            .filter_map(|(&id, host)| Some((host.totem.as_ref()?.poll_timeout()?, id)))
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
            let (_, (from, to, datagram)) = self.flying.pop_first().unwrap();
            if let Some(totem) = &mut self.hosts.get_mut(&to).unwrap().totem {
                totem.handle_datagram(self.now, Origin { peer: Some(from) }, &datagram);
                self.drain(to);
            }
        } else if let Some((_, id)) = timer {
            let totem = self.hosts.get_mut(&id).unwrap().totem.as_mut().unwrap();
            totem.handle_timeout(self.now);
            assert!(totem.poll_timeout().is_none_or(|at| at > self.now), "a timer that fired is over");
            self.drain(id);
        }
        true
    }

    pub fn run(&mut self, length: Duration) {
        let until = self.now + length;
        while self.step(until) {}
    }

    /// Runs until `done`, at most fifteen simulated seconds; returns how long it took.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            assert!(self.step(start + ms(15_000)), "{what}: not within 15 s; {}", self.describe());
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
}
