//! Three bare cores in one ring whose datagrams arrive at once and in order. It serves only to
//! count and to time what a core does; `lab` simulates the network.

#![allow(clippy::unwrap_used, reason = "tests panic")]
#![allow(dead_code, unreachable_pub, reason = "each binary uses its part")]

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::config::TotemConfig;
use quorate_membership::{
    Config, Destination, Event, Group, Guarantee, MulticastError, NodeId, Origin, Stored, Time, Totem,
};

/// A datagram in flight.
#[derive(Clone)]
pub struct Datagram {
    pub to: usize,
    pub from: NodeId,
    pub bytes: Bytes,
}

impl Datagram {
    pub fn is_token(&self) -> bool {
        self.bytes[3] == 0
    }

    pub fn is_frame(&self) -> bool {
        self.bytes[3] == 1
    }

    pub fn is_hold_cancel(&self) -> bool {
        self.bytes[3] == 5
    }
}

/// A ring of three cores.
pub struct Lockstep {
    pub now: Time,
    pub cores: Vec<Totem>,
    /// The number of messages delivered at each member.
    pub delivered: Vec<u64>,
    /// A member whose application does not take events.
    pub busy: Option<usize>,
    under_way: VecDeque<Datagram>,
    group: Group,
}

impl Lockstep {
    pub const NODES: u32 = 3;

    /// Returns an established ring with corosync's defaults, except for the windows, which become
    /// as large as all members can take.
    pub fn ring() -> Self {
        Self::of(&TotemConfig::default())
    }

    /// Like [`Lockstep::ring`], with members that send nothing beyond Totem.
    pub fn plain() -> Self {
        Self::of(&TotemConfig::default().plain())
    }

    fn of(totem: &TotemConfig) -> Self {
        let now = Time::from_micros(0);
        let core = |id| {
            let mut config = Config::new(NodeId::new(id).unwrap());
            config.totem = totem.clone();
            Totem::new(&config, Stored::default(), [0; 32], now).unwrap()
        };
        let mut ring = Self {
            now,
            cores: (1..=Self::NODES).map(core).collect(),
            delivered: vec![0; Self::NODES as usize],
            busy: None,
            under_way: VecDeque::with_capacity(1 << 16),
            group: Group::new(Bytes::from_static(b"bench")).unwrap(),
        };
        for core in 0..ring.cores.len() {
            ring.drain(core);
        }
        let all: BTreeSet<NodeId> = (1..=Self::NODES).filter_map(NodeId::new).collect();
        while ring.cores.iter().any(|core| *core.members() != all || core.whole_since().is_none()) {
            ring.step();
        }
        ring
    }

    /// Like [`Lockstep::ring`], once all members have announced their largest windows.
    pub fn agreed() -> Self {
        let mut ring = Self::ring();
        let alone = TotemConfig::default().window_size;
        while ring.cores.iter().any(|core| core.snapshot().window == alone) {
            ring.step();
        }
        ring
    }

    /// Like [`Lockstep::ring`], under load. The first member always has more messages of `size`
    /// bytes to send than it may, and its sending rate has reached the maximum.
    pub fn under_load(size: usize) -> Self {
        let mut ring = Self::ring();
        for _ in 0..100 {
            ring.fill(size);
            ring.rotate();
        }
        ring.fill(size);
        ring
    }

    /// Gives the first member messages of this size until it accepts no more. Returns the number
    /// accepted.
    pub fn fill(&mut self, size: usize) -> u64 {
        self.offer(size, u64::MAX)
    }

    /// Gives the first member up to `count` messages of this size. Returns the number accepted.
    pub fn offer(&mut self, size: usize, count: u64) -> u64 {
        self.offer_to(0, Guarantee::Agreed, size, count)
    }

    /// Like [`Lockstep::offer`], for any member and guarantee.
    pub fn offer_to(&mut self, member: usize, guarantee: Guarantee, size: usize, count: u64) -> u64 {
        static MESSAGE: [u8; 1 << 16] = [7; 1 << 16];
        let payload = Bytes::from_static(&MESSAGE[..size]);
        let (core, now, group) = (&mut self.cores[member], self.now, &self.group);
        let mut take = || match core.multicast(now, 1, group, guarantee, &payload) {
            Ok(()) => true,
            Err(MulticastError::Full) => false,
            Err(error) => panic!("{error}"),
        };
        let taken = (0..count).take_while(|_| take()).count();
        self.drain(member);
        taken as u64
    }

    /// Returns the next datagram to arrive, if any is in flight.
    pub fn next(&mut self) -> Option<Datagram> {
        self.under_way.pop_front()
    }

    /// Delivers a datagram.
    pub fn arrive(&mut self, datagram: &Datagram) {
        self.now = self.now + Duration::from_micros(1);
        let origin = Origin::of(Some(datagram.from));
        self.cores[datagram.to].handle_datagram(self.now, origin, &datagram.bytes);
        self.drain(datagram.to);
    }

    /// Performs the next step: a datagram arrives, or a timer fires.
    pub fn step(&mut self) {
        if let Some(datagram) = self.next() {
            return self.arrive(&datagram);
        }
        let due = |core: usize| self.cores[core].poll_timeout().unwrap();
        let core = (0..self.cores.len()).min_by_key(|&core| due(core)).unwrap();
        self.now = self.now.max(due(core));
        self.cores[core].handle_timeout(self.now);
        self.drain(core);
    }

    /// Returns the receivers of the datagrams in flight, in order.
    pub fn receivers(&self) -> Vec<usize> {
        self.under_way.iter().map(|datagram| datagram.to).collect()
    }

    /// Continues until nothing is in flight, so the token rests.
    pub fn until_rest(&mut self) {
        while let Some(datagram) = self.next() {
            self.arrive(&datagram);
        }
    }

    /// Returns `true` if the next step is the arrival of the token at the first member.
    pub fn token_is_next(&self) -> bool {
        self.under_way.front().is_some_and(|datagram| datagram.to == 0 && datagram.is_token())
    }

    /// Continues until the token is about to arrive at the first member, and returns it.
    pub fn until_token(&mut self) -> Datagram {
        while !self.token_is_next() {
            self.step();
        }
        self.under_way[0].clone()
    }

    /// Delivers the token to the first member and lets it go round once.
    pub fn rotate(&mut self) {
        self.until_token();
        self.step();
        self.until_token();
    }

    fn drain(&mut self, core: usize) {
        let Self { cores, under_way, delivered, busy, now, .. } = self;
        let from = cores[core].me();
        let nodes = cores.len();
        let totem = &mut cores[core];
        if let Some(stored) = totem.must_store() {
            totem.handle_stored(*now, stored);
        }
        while let Some(transmit) = totem.poll_transmit() {
            let to = |to| Datagram { to, from, bytes: transmit.datagram.clone() };
            match transmit.to {
                Destination::Everyone => {
                    under_way.extend((0..nodes).filter(|&other| other != core).map(to));
                }
                Destination::Member(node) => under_way.push_back(to(node.get() as usize - 1)),
            }
        }
        while *busy != Some(core)
            && let Some(event) = totem.poll_event()
        {
            delivered[core] += u64::from(matches!(event, Event::Deliver(_)));
            totem.consumed(*now, event.cost());
        }
    }
}
