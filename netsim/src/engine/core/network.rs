//! The network between the nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use quorate_membership::wire::{
    self, Announcement, ClusterTag, CommitToken, HoldCancel, Join, MergeDetect, Message, Multicast, Order,
    Token,
};
use quorate_membership::{Guarantee, NodeId, RingId, Seq};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::host_set::HostSet;
use super::{Micros, micros, noise, stream};
use crate::engine::disturb::{Copy, Disturbance};
use crate::fault::{Fate, Forged, Kind, Share, Trouble};
use crate::{Fault, Scenario};

/// The port at which nodes receive.
pub(super) const PORT: u16 = 5405;

/// Returns the address of a node's host.
pub(super) fn address(id: NodeId) -> IpAddr {
    [10, 0, (id.get() >> 8) as u8, id.get() as u8].into()
}

/// Returns the address that a node's datagrams come from.
pub(super) fn source(id: NodeId) -> SocketAddr {
    SocketAddr::new(address(id), PORT - 1)
}

/// A datagram under way.
pub(super) struct Packet {
    /// The host that sent it now. `None`: it comes from elsewhere or from the past, and no cut
    /// affects it.
    pub(super) from: Option<usize>,
    /// The address that it comes from.
    pub(super) source: SocketAddr,
    pub(super) bytes: Bytes,
    pub(super) kind: Kind,
    /// Whether it is a multicast.
    pub(super) to_everyone: bool,
    /// The decoded message. `None` if the datagram was damaged.
    pub(super) message: Option<Message>,
    /// Its number among the datagrams that are kept, if any are.
    pub(super) number: usize,
}

impl Packet {
    /// Returns the same packet under this number.
    pub(super) fn numbered(&self, number: usize) -> Self {
        let Self { from, source, kind, to_everyone, .. } = *self;
        let (bytes, message) = (self.bytes.clone(), self.message.clone());
        Self { from, source, bytes, kind, to_everyone, message, number }
    }

    /// Returns the same packet with other bytes.
    fn damaged(&self, bytes: Bytes) -> Self {
        let Self { from, source, kind, to_everyone, number, .. } = *self;
        Self { from, source, bytes, kind, to_everyone, message: None, number }
    }
}

pub(super) struct Network {
    latency: Micros,
    nodes: usize,
    seed: u64,
    /// All hosts.
    pub(super) everybody: HostSet,
    /// For each host, the hosts that its datagrams reach.
    hears: Vec<HostSet>,
    /// For each host, the hosts that its datagrams reach despite cuts that calm does not mend.
    hears_for_good: Vec<HostSet>,
    /// The hosts that have lost their address.
    without_address: HostSet,
    disturbances: Vec<Disturbance>,
    /// Datagrams to catch: the kind, the number that pass first, and the fate.
    catches: Vec<(Kind, u32, Fate)>,
    /// The latest datagrams that were sent.
    recent: VecDeque<(Rc<Packet>, HostSet)>,
    /// A random sample of older datagrams.
    old: Vec<(Rc<Packet>, HostSet)>,
    sent: u64,
    remembers: bool,
    happened: BTreeMap<&'static str, u64>,
    rng: ChaCha8Rng,
}

impl Network {
    /// The number of datagrams to remember, separately for the latest and for older ones.
    const MEMORY: usize = 256;

    pub(super) fn new(scenario: &Scenario) -> Self {
        let nodes = scenario.nodes as usize;
        let mut network = Self {
            latency: micros(scenario.world.latency),
            nodes,
            seed: scenario.seed,
            everybody: HostSet::before(nodes),
            hears: vec![HostSet::before(nodes); nodes],
            hears_for_good: vec![HostSet::before(nodes); nodes],
            without_address: HostSet::default(),
            disturbances: Vec::new(),
            catches: Vec::new(),
            recent: VecDeque::new(),
            old: Vec::new(),
            sent: 0,
            remembers: scenario.timeline.iter().any(|(_, fault)| matches!(fault, Fault::Replay(_))),
            happened: BTreeMap::new(),
            rng: stream(scenario.seed, u64::MAX),
        };
        if scenario.world.loss > 0 {
            let trouble = Trouble::Lose(Share(scenario.world.loss));
            let lasts = Duration::MAX;
            network.apply(&Fault::Disturb { lasts, trouble, kind: Kind::Any, from: None, to: None }, 0);
        }
        network
    }

    /// Returns the hosts that a packet can reach at this moment.
    pub(super) fn heard_by(&self, packet: &Packet) -> HostSet {
        let hears = packet
            .from
            .map_or(HostSet::EVERY, |from| (self.hears[from] & self.hears_for_good[from]).with(from));
        match packet.from {
            // A node's datagrams to itself do not use the network.
            Some(from) if self.without_address.contains(from) => HostSet::only(from),
            _ => hears - self.without_address,
        }
    }

    /// Returns `true` if datagrams of one host reach another.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        let without = self.without_address;
        (self.hears[from] & self.hears_for_good[from]).contains(to)
            && !without.contains(from)
            && !without.contains(to)
    }

    /// Returns the size of the largest group of these hosts that can all reach each other despite
    /// permanent cuts, or `None` if no link between them is cut for good.
    pub(super) fn apart(&self, hosts: &[usize]) -> Option<usize> {
        let apart =
            |a: usize, b: usize| !self.hears_for_good[a].contains(b) || !self.hears_for_good[b].contains(a);
        // Only hosts with a cut link are missing from some groups. The other hosts are in every
        // group.
        let some: Vec<usize> = hosts
            .iter()
            .copied()
            .filter(|&host| hosts.iter().any(|&other| other != host && apart(host, other)))
            .collect();
        let fits = |chosen: u32| {
            let mut set = (0..some.len()).filter(|n| chosen & 1 << n != 0).map(|n| some[n]);
            let all: Vec<usize> = set.clone().collect();
            set.all(|a| all.iter().all(|&b| a == b || !apart(a, b)))
        };
        let largest =
            (0..1_u32 << some.len().min(16)).filter(|chosen| fits(*chosen)).map(u32::count_ones).max();
        let largest = largest.filter(|_| !some.is_empty())?;
        Some(hosts.len() - some.len() + largest as usize)
    }

    /// Applies a fault. Returns `true` if that had an immediate effect and the fault is to be
    /// counted now.
    pub(super) fn apply(&mut self, fault: &Fault, now: Micros) -> bool {
        let index = |node: &u32| *node as usize - 1;
        match fault {
            Fault::Partition(parts) => {
                let of = |part: &[u32]| part.iter().map(index).fold(HostSet::default(), HostSet::with);
                let rest = self.everybody - of(&parts.concat());
                for (me, hears) in self.hears.iter_mut().enumerate() {
                    let part = parts.iter().map(|part| of(part)).find(|part| part.contains(me));
                    *hears = part.unwrap_or(rest);
                }
            }
            Fault::CutOneWay { from, to } => self.cut(index(from), index(to)),
            Fault::Cut(a, b) => {
                self.cut(index(a), index(b));
                self.cut(index(b), index(a));
            }
            Fault::Mend(a, b) => {
                let (a, b) = (index(a), index(b));
                self.hears[a] = self.hears[a].with(b);
                self.hears[b] = self.hears[b].with(a);
            }
            Fault::Deafen { from, to } => {
                let from = index(from);
                self.hears_for_good[from] = self.hears_for_good[from].without(index(to));
            }
            Fault::LoseAddress(node) => self.without_address = self.without_address.with(index(node)),
            Fault::RegainAddress(node) => self.without_address = self.without_address.without(index(node)),
            Fault::Heal => self.calm(),
            Fault::Catch { kind, after, fate } => {
                self.catches.push((*kind, *after, *fate));
                return false;
            }
            Fault::Disturb { .. } => {
                self.disturbances.extend(Disturbance::begin(fault, self.seed, now));
                return false;
            }
            _ => return false,
        }
        true
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.hears[from] = self.hears[from].without(to);
    }

    /// Ends all trouble except for permanent loss and permanent cuts.
    pub(super) fn calm(&mut self) {
        self.hears.fill(self.everybody);
        self.without_address = HostSet::default();
        self.disturbances.retain(|disturbance| disturbance.until == Micros::MAX);
        self.catches.clear();
    }

    /// Returns how often single datagrams were affected, by class of fault.
    pub(super) fn happened(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.happened.iter().map(|(class, times)| (*class, *times))
    }

    /// Sends a packet to these hosts, and queues its arrivals.
    pub(super) fn send(
        &mut self,
        packet: &Rc<Packet>,
        to: HostSet,
        now: Micros,
        arrivals: &mut Vec<(Micros, Rc<Packet>, HostSet)>,
    ) {
        let from = packet.from.unwrap_or_default();
        self.remember(packet, to);
        let reachable = to & self.heard_by(packet);
        let at = now + self.latency;
        if to == HostSet::only(from) {
            return arrivals.push((at, Rc::clone(packet), reachable));
        }
        let fate = self.catch(packet);
        match fate {
            Some(Fate::Lost) => return,
            Some(Fate::Late(by)) => return arrivals.push((at + micros(by), Rc::clone(packet), reachable)),
            Some(Fate::Twice(after)) => {
                arrivals.push((at, Rc::clone(packet), reachable));
                return arrivals.push((at + micros(after), Rc::clone(packet), reachable));
            }
            None => {}
        }
        self.disturbances.retain(|disturbance| disturbance.until > now);
        let concerns =
            |disturbance: &Disturbance| disturbance.concerns(from, packet.kind, packet.to_everyone);
        if !self.disturbances.iter().any(concerns) {
            if !reachable.is_empty() {
                arrivals.push((at, Rc::clone(packet), reachable));
            }
            return;
        }
        let mut undisturbed = HostSet::default();
        for receiver in reachable {
            if receiver == from || !self.disturb(packet, from, receiver, at, now, arrivals) {
                undisturbed = undisturbed.with(receiver);
            }
        }
        if !undisturbed.is_empty() {
            arrivals.push((at, Rc::clone(packet), undisturbed));
        }
    }

    fn catch(&mut self, packet: &Packet) -> Option<Fate> {
        for n in 0..self.catches.len() {
            let (kind, after, fate) = &mut self.catches[n];
            if !kind.includes(packet.kind, packet.to_everyone) {
                continue;
            }
            if *after > 0 {
                *after -= 1;
                continue;
            }
            let class = Fault::Catch { kind: *kind, after: 0, fate: *fate }.class();
            let fate = *fate;
            self.catches.remove(n);
            *self.happened.entry(class).or_default() += 1;
            return Some(fate);
        }
        None
    }

    /// Returns `true` if a disturbance affects this packet on its way to this receiver. In that
    /// case, the resulting arrivals have been queued.
    fn disturb(
        &mut self,
        packet: &Rc<Packet>,
        from: usize,
        to: usize,
        at: Micros,
        now: Micros,
        arrivals: &mut Vec<(Micros, Rc<Packet>, HostSet)>,
    ) -> bool {
        let mut copies = vec![Copy { at, bytes: packet.bytes.clone(), damaged: false }];
        let mut touched = false;
        for disturbance in &mut self.disturbances {
            if disturbance.concerns(from, packet.kind, packet.to_everyone)
                && disturbance.work(from, to, now, &mut copies)
            {
                touched = true;
                *self.happened.entry(disturbance.class).or_default() += 1;
            }
        }
        if touched {
            arrivals.extend(copies.into_iter().map(|Copy { at, bytes, damaged }| {
                let packet = if damaged { Rc::new(packet.damaged(bytes)) } else { Rc::clone(packet) };
                (at, packet, HostSet::only(to))
            }));
        }
        touched
    }

    fn remember(&mut self, packet: &Rc<Packet>, to: HostSet) {
        if !self.remembers {
            return;
        }
        self.sent += 1;
        self.recent.push_back((Rc::clone(packet), to));
        if self.recent.len() <= Self::MEMORY {
            return;
        }
        let Some(oldest) = self.recent.pop_front() else { return };
        if self.old.len() < Self::MEMORY {
            self.old.push(oldest);
        } else {
            let place = self.rng.random_range(0..self.sent) as usize;
            if let Some(slot) = self.old.get_mut(place) {
                *slot = oldest;
            }
        }
    }

    /// Returns a datagram from the past, either for its receivers of that time or for another host.
    pub(super) fn old_one(&self, rng: &mut ChaCha8Rng) -> Option<(Rc<Packet>, HostSet)> {
        let known = self.recent.len() + self.old.len();
        if known == 0 {
            return None;
        }
        let place = rng.random_range(0..known);
        let (packet, to) = self.recent.get(place).or_else(|| self.old.get(place - self.recent.len()))?;
        let to = if rng.random_ratio(1, 4) { HostSet::only(rng.random_range(0..self.nodes)) } else { *to };
        let again = Packet {
            from: None,
            source: packet.source,
            bytes: packet.bytes.clone(),
            kind: packet.kind,
            to_everyone: packet.to_everyone,
            message: packet.message.clone(),
            number: usize::MAX,
        };
        Some((Rc::new(again), to))
    }

    /// Returns a datagram in the name of this node, for a receiver that is in this ring and has
    /// heard of frames up to `high`.
    pub(super) fn forged(&self, says: Forged, of: NodeId, ring: RingId, high: Seq) -> Packet {
        /// A number that no ring reaches.
        const ABSURD: u64 = 1 << 62;
        // It sorts before the nodes' addresses.
        let stranger = SocketAddr::from(([9, 0, 0, 66], 5404));
        let its_own = source(of);
        let join = |ring_seq| {
            Message::Join(Join { from: of, leave: false, ring_seq, proc: vec![of], failed: Vec::new() })
        };
        let (source, message) = match says {
            Forged::Claim => (stranger, join(ring.seq)),
            Forged::JoinNumber => (its_own, join(ABSURD)),
            Forged::CommitNumber => {
                let members: Vec<NodeId> = (1..).map_while(NodeId::new).take(self.nodes).collect();
                let ring = RingId { representative: *members.first().unwrap_or(&of), seq: ABSURD };
                let token = CommitToken { from: of, token_seq: 0, ring, members, entries: Vec::new() };
                (its_own, Message::Commit(token))
            }
            Forged::Frame => (
                stranger,
                Message::Multicast(Multicast {
                    from: of,
                    seq: high.next(),
                    this_seqno: 0,
                    ring,
                    guarantee: Guarantee::Agreed,
                    encapsulated: false,
                    payload: Bytes::from_static(b"forged"),
                    raw: Bytes::new(),
                }),
            ),
        };
        Packet {
            from: None,
            source,
            bytes: wire::encode(&message, Order::Little),
            kind: Kind::of(&message),
            to_everyone: false,
            message: Some(message),
            number: usize::MAX,
        }
    }

    /// Returns a well-formed datagram of another cluster on the same group and port. The nodes of
    /// that cluster have ids of their own or, as is common, ids that ours have too.
    pub(super) fn foreign(&self, rng: &mut ChaCha8Rng) -> Option<(Rc<Packet>, HostSet)> {
        let host = rng.random_range(0..4);
        let ours = 1 + u32::from(host) % u32::try_from(self.nodes).unwrap_or(1);
        let from = NodeId::new(if rng.random() { ours } else { 1000 + u32::from(host) })?;
        let ring = RingId { representative: from, seq: rng.random_range(0..1 << 20) };
        let seq = Seq::new(rng.random_range(0..2000));
        let nodes = || (1000..1004).filter_map(NodeId::new).chain([from]).collect::<BTreeSet<_>>();
        let message = match rng.random_range(0..5) {
            0 => Message::Join(Join {
                from,
                leave: false,
                ring_seq: ring.seq,
                proc: nodes().into_iter().collect(),
                failed: Vec::new(),
            }),
            1 => Message::Join(Join {
                from,
                leave: true,
                ring_seq: ring.seq,
                proc: nodes().into_iter().collect(),
                failed: vec![from],
            }),
            2 => Message::MergeDetect(MergeDetect { from, ring }),
            3 => Message::Token(Token {
                from,
                seq,
                token_seq: seq,
                aru: seq,
                aru_addr: None,
                ring,
                backlog: 0,
                fcc: 0,
                retrans_flg: false,
                rtr: Vec::new(),
            }),
            4 if rng.random() => Message::HoldCancel(HoldCancel { from, ring }),
            _ => Message::Multicast(Multicast {
                from,
                seq,
                this_seqno: 0,
                ring,
                guarantee: Guarantee::Agreed,
                encapsulated: false,
                payload: noise(rng, 100).into(),
                raw: Bytes::new(),
            }),
        };
        let bytes = wire::encode(&message, Order::Little);
        let announces = matches!(message, Message::Join(_) | Message::MergeDetect(_));
        let another = Announcement { cluster: Some(ClusterTag::of(b"another")), listed: None };
        let packet = Packet {
            from: None,
            source: SocketAddr::from(([192, 168, 0, host], 5404)),
            bytes: if announces { another.append_to(&bytes) } else { bytes },
            kind: Kind::of(&message),
            to_everyone: true,
            message: Some(message),
            number: usize::MAX,
        };
        Some((Rc::new(packet), self.everybody))
    }
}
