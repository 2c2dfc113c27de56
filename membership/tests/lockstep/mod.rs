//! Three bare cores in one ring, each of whose datagrams arrives at once and in order: for counting and timing what a core
//! does, and nothing else. (What a network does to them is `lab`'s.)

#![allow(clippy::unwrap_used, reason = "tests panic")]
#![allow(dead_code, unreachable_pub, reason = "each binary uses its part")]

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::config::TotemConfig;
use quorate_membership::{
    Config, Destination, Event, Group, Guarantee, MulticastError, NodeId, Origin, Stored, Time, Totem,
};

/// A datagram under way.
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

/// The ring.
pub struct Lockstep {
    pub now: Time,
    pub cores: Vec<Totem>,
    /// Messages delivered at each.
    pub delivered: Vec<u64>,
    /// A member whose application asks for nothing.
    pub busy: Option<usize>,
    under_way: VecDeque<Datagram>,
    group: Group,
}

impl Lockstep {
    pub const NODES: u32 = 3;

    /// A ring that stands, with corosync's defaults but for the windows, which are as large as all can take.
    pub fn ring() -> Self {
        Self::of(&TotemConfig::default())
    }

    /// The same of members that have nothing to say beyond Totem.
    pub fn plain() -> Self {
        Self::of(&TotemConfig::default().plain())
    }

    fn of(totem: &TotemConfig) -> Self {
        let now = Time::from_micros(0);
        let core = |id| {
            let config = Config { totem: totem.clone(), ..Config::new(NodeId::new(id).unwrap()) };
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

    /// The same, once all have said how large windows they can take.
    pub fn agreed() -> Self {
        let mut ring = Self::ring();
        let alone = TotemConfig::default().window_size;
        while ring.cores.iter().any(|core| core.snapshot().window == alone) {
            ring.step();
        }
        ring
    }

    /// The same, in which the first member has always more to send than it may, of this size, and sends as much as it ever
    /// will.
    pub fn under_load(size: usize) -> Self {
        let mut ring = Self::ring();
        for _ in 0..100 {
            ring.fill(size);
            ring.rotate();
        }
        ring.fill(size);
        ring
    }

    /// Gives the first member messages of this size until it takes no more; how many it took.
    pub fn fill(&mut self, size: usize) -> u64 {
        self.offer(size, u64::MAX)
    }

    /// Gives the first member so many messages of this size, if it takes them; how many it took.
    pub fn offer(&mut self, size: usize, count: u64) -> u64 {
        self.offer_to(0, Guarantee::Agreed, size, count)
    }

    /// The same to any member, with this guarantee.
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

    /// The next datagram to arrive, if any is under way.
    pub fn next(&mut self) -> Option<Datagram> {
        self.under_way.pop_front()
    }

    /// A datagram arrives.
    pub fn arrive(&mut self, datagram: &Datagram) {
        self.now = self.now + Duration::from_micros(1);
        let origin = Origin::of(Some(datagram.from));
        self.cores[datagram.to].handle_datagram(self.now, origin, &datagram.bytes);
        self.drain(datagram.to);
    }

    /// The next thing happens: a datagram arrives, or a timer fires.
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

    /// Those to whom what is under way will come, in order.
    pub fn receivers(&self) -> Vec<usize> {
        self.under_way.iter().map(|datagram| datagram.to).collect()
    }

    /// Goes on until nothing is under way: the token rests.
    pub fn until_rest(&mut self) {
        while let Some(datagram) = self.next() {
            self.arrive(&datagram);
        }
    }

    /// Whether the next thing to happen is that the token arrives at the first member.
    pub fn token_is_next(&self) -> bool {
        self.under_way.front().is_some_and(|datagram| datagram.to == 0 && datagram.is_token())
    }

    /// Goes on until then. The token.
    pub fn until_token(&mut self) -> Datagram {
        while !self.token_is_next() {
            self.step();
        }
        self.under_way[0].clone()
    }

    /// The token comes to the first member, and goes round once.
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
