//! A host, and the member that runs on it, driven as the driver and an application would drive it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use quorate::DcMember;
use quorate_election::{Electorate, Event, Record, Status, Term};
use quorate_membership::config::{Member, QuorumConfig, TransportKind};
use quorate_membership::path::Path;
use quorate_membership::wire::{self, Message};
use quorate_membership::{
    Config, Core, CoreView, Destination, Group, Guarantee, Input, MulticastError, NodeId, Origin, Phase,
    Stored, Time, Totem, Transmit,
};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

use super::acts::Actor;
use super::host_set::HostSet;
use super::network::{PORT, Packet, address, source};
use super::refusals::Refusals;
use super::seen::Seen;
use super::{Engine, Happening, Micros, micros, stream};
use crate::engine::clock::Clock;
use crate::fault::{Fault, Kind, Point};
use crate::history::{Content, Inside, Life, MessageId, Outcome, What};
use crate::observed;
use crate::{Scenario, Situation};

/// The state of a host that survives the lives of its node.
pub(super) struct Host {
    pub(super) id: NodeId,
    config: Config,
    pub(super) starts: u32,
    pub(super) disk: Disk,
    /// The drift of its clock, in millionths.
    ppm: i32,
    /// The time that it takes for a datagram, and the time until which it does.
    pub(super) slow: Option<(Micros, Micros)>,
    /// The time until which its firewall rejects incoming datagrams.
    pub(super) rejects_until: Micros,
    pub(super) refusals: Refusals,
    pub(super) living: Option<Living>,
}

/// The disk that stores the record.
pub(super) struct Disk {
    stored: Option<Stored>,
    before: Option<Stored>,
    latency: Micros,
    pub(super) slow: Option<(Micros, Micros)>,
    /// The time until which the disk is full.
    pub(super) full_until: Micros,
}

impl Disk {
    fn latency(&self, now: Micros) -> Micros {
        let write = self.slow.filter(|(_, until)| now < *until).map_or(self.latency, |(each, _)| each);
        write + self.full_until.saturating_sub(now)
    }

    fn save(&mut self, stored: Stored) {
        self.before = self.stored.take();
        self.stored = Some(stored);
    }

    pub(super) fn lose(&mut self) {
        self.stored = None;
        self.before = None;
    }

    /// Restores the older record. Returns `true` if there was one.
    pub(super) fn roll_back(&mut self) -> bool {
        if self.before.is_some() {
            self.stored = self.before.clone();
        }
        self.before.is_some()
    }

    /// Loads the record as a real store does: a node without one derives its numbers from the wall
    /// clock.
    fn load(&self, now: Micros) -> Stored {
        const EPOCH_MS: u64 = 1_700_000_000_000;
        self.stored.clone().unwrap_or(Stored {
            ring_seq: EPOCH_MS + now / 1000,
            boots: 0,
            lost: true,
            ..Stored::default()
        })
    }
}

/// One life of a node.
pub(super) struct Living {
    pub(super) member: DcMember,
    /// The path of production, over the engine's network.
    path: Path,
    /// The number of rings that the path knows the members of.
    rings: u64,
    pub(super) life: Life,
    pub(super) clock: Clock,
    /// Frames and other multicasts that wait in its socket. The driver reads them before unicasts.
    multicasts: VecDeque<Rc<Packet>>,
    /// Unicasts that wait in its socket.
    unicasts: VecDeque<Rc<Packet>>,
    /// The time before which it does nothing.
    pub(super) busy_until: Micros,
    /// The earliest scheduled check of its timers.
    pub(super) timer_at: Option<Micros>,
    /// The earliest scheduled check whether it is still busy.
    pub(super) work_at: Option<Micros>,
    writing: Option<Stored>,
    /// The time before which its application takes no events.
    pub(super) reads_at: Micros,
    unread: usize,
    /// Messages for which there was no room.
    pub(super) waiting: VecDeque<(Guarantee, usize)>,
    pub(super) accepted: u64,
    /// The number of its own messages that were delivered to it.
    pub(super) delivered: u64,
    pub(super) status: Option<Status>,
    /// The time at which it installed its ring, by its own clock.
    pub(super) entered_at: Time,
    /// Whether it was told to leave. A DC leaves only after it has been relieved.
    pub(super) leaves: bool,
    /// The term of its lease when last checked, and the end of the lease by its own clock.
    pub(super) lease: Option<(Term, Time)>,
    /// Its application that acts as DC.
    pub(super) actor: Actor,
    /// Whether the member considers that application hung.
    pub(super) hung: bool,
    pub(super) rng: ChaCha8Rng,
    pub(super) seen: Seen,
    /// Whether its memory use is to be recorded.
    pub(super) weigh: bool,
}

/// Returns a node's configuration in this scenario.
pub(super) fn config(id: NodeId, scenario: &Scenario) -> Config {
    let mut config = Config::new(id);
    config.cluster_name = Some("laboratory".into());
    config.network.transport = match scenario.world.unicast {
        true => TransportKind::Unicast,
        false => TransportKind::Multicast,
    };
    config.network.bind = Some(address(id));
    config.network.port = Some(PORT);
    if scenario.world.node_list {
        config.nodes = (1..=scenario.nodes).filter_map(NodeId::new).map(|id| listed(id, 1)).collect();
    }
    config.totem = scenario.totem();
    config.dc = scenario.dc_of(id);
    scenario.electorate.configure(&mut config, scenario.nodes);
    config
}

/// Returns the path of a node that starts with this configuration.
fn path(config: &Config) -> Path {
    let home = SocketAddr::new(address(config.node), PORT);
    Path::new(config, home).unwrap_or_else(|error| panic!("{error}"))
}

/// Writes these voters and `wait_for_all` into a node's file.
fn refile(config: &mut Config, voters: &BTreeMap<u32, u32>, waits: bool) {
    let listed = |(&node, &votes): (&u32, &u32)| Some(listed(NodeId::new(node)?, votes));
    config.nodes = voters.iter().filter_map(listed).collect();
    config.quorum = QuorumConfig::default();
    config.quorum.wait_for_all = waits.then_some(true);
    config.quorum.expected_votes = Some(voters.values().sum());
}

/// Returns a member of a node list.
fn listed(id: NodeId, votes: u32) -> Member {
    Member::new(id, address(id)).named(format!("node{id}")).with_votes(votes)
}

/// Returns the index of the host at this address.
fn host_at(address: IpAddr) -> Option<usize> {
    let IpAddr::V4(address) = address else { return None };
    let [10, 0, high, low] = address.octets() else { return None };
    (usize::from(high) << 8 | usize::from(low)).checked_sub(1)
}

impl Host {
    pub(super) fn refile(&mut self, voters: &BTreeMap<u32, u32>, waits: bool) {
        refile(&mut self.config, voters, waits);
    }

    pub(super) fn new(id: NodeId, scenario: &Scenario) -> Self {
        let mut config = config(id, scenario);
        let mut record = scenario.electorate.record(&config);
        let first = || {
            scenario.timeline.iter().filter(|(at, _)| at.is_zero()).filter_map(|(_, fault)| match fault {
                Fault::File { node, voters, waits } => Some((*node, voters, *waits)),
                _ => None,
            })
        };
        if let Some((_, voters, waits)) = first().find(|(node, ..)| *node == id.get()) {
            refile(&mut config, voters, waits);
            record = Record::of_old(Electorate::of(&config));
        } else if first().next().is_some() {
            record = Record::default();
        }
        let kept = if scenario.world.fresh { String::new() } else { record.text() };
        let stored = Stored { ring_seq: scenario.world.ring_seq, kept, ..Stored::default() };
        Self {
            id,
            config,
            starts: 0,
            disk: Disk {
                stored: Some(stored),
                before: None,
                latency: micros(scenario.world.disk),
                slow: None,
                full_until: 0,
            },
            ppm: 0,
            slow: None,
            rejects_until: 0,
            refusals: Refusals::default(),
            living: None,
        }
    }

    pub(super) fn drift(&mut self, now: Micros, ppm: i32) {
        self.ppm = ppm;
        if let Some(living) = &mut self.living {
            living.clock.drift(now, ppm);
        }
    }
}

impl Living {
    /// Returns `true` if this is the given start of the node, and the node does not pause.
    pub(super) fn is_awake(&self, start: u32, now: Micros) -> bool {
        self.life.start == start && now >= self.busy_until
    }

    /// Returns `true` if it can handle a datagram at once.
    pub(super) fn is_free(&self, now: Micros) -> bool {
        now >= self.busy_until && self.multicasts.is_empty() && self.unicasts.is_empty()
    }

    /// Puts a datagram into the receive buffer. Returns `true` if there was room.
    pub(super) fn wait(&mut self, packet: &Rc<Packet>, room: u32) -> bool {
        if self.multicasts.len() + self.unicasts.len() >= room as usize {
            return false;
        }
        let queue = if packet.to_everyone { &mut self.multicasts } else { &mut self.unicasts };
        queue.push_back(Rc::clone(packet));
        true
    }

    pub(super) fn show(&self, now: Micros) -> Time {
        self.clock.show(now)
    }

    /// Polls for an event. A driver handles all datagrams that have arrived before it asks for
    /// messages.
    fn next_event(&mut self) -> Option<Event> {
        if self.multicasts.is_empty() && self.unicasts.is_empty() {
            self.member.poll_event()
        } else {
            self.member.poll_urgent_event()
        }
    }
}

impl Engine {
    pub(super) fn start(&mut self, index: usize) {
        let (now, seed) = (self.now, self.scenario.seed);
        let host = &mut self.hosts[index];
        host.starts += 1;
        let start = host.starts;
        let life = Life { node: host.id, start };
        let mut rng = stream(seed, u64::from(host.id.get()) << 32 | u64::from(start));
        let stored = host.disk.load(now);
        let clock = Clock::new(now, host.ppm);
        let member = match DcMember::new(&host.config, stored, rng.random(), clock.show(now)) {
            Ok(member) => member,
            // The scenario has been checked.
            Err(error) => panic!("{error}"),
        };
        let whims = stream(seed, 1 << 62 | u64::from(host.id.get()) << 31 | u64::from(start));
        let actor = Actor::new(&member, self.scenario.world.heartbeat, whims);
        let seen = Seen::of(&member, 0);
        host.living = Some(Living {
            member,
            path: path(&host.config),
            rings: 0,
            life,
            clock,
            multicasts: VecDeque::new(),
            unicasts: VecDeque::new(),
            busy_until: now,
            timer_at: None,
            work_at: None,
            writing: None,
            reads_at: now,
            unread: 0,
            waiting: VecDeque::new(),
            accepted: 0,
            delivered: 0,
            status: None,
            entered_at: Time::default(),
            leaves: false,
            lease: None,
            actor,
            hung: false,
            rng,
            seen,
            weigh: false,
        });
        self.record(life, What::Started);
        if self.scenario.load.is_some() {
            self.schedule(now, Happening::Load(index, start));
        }
        self.schedule(now, Happening::Act(index, start));
        self.schedule(now, Happening::Ask(index, start, true));
        self.settle(index, 0, 0);
    }

    /// Crashes a node. Returns `true` if it was up.
    pub(super) fn crash(&mut self, index: usize) -> bool {
        self.drop_lease(index);
        match self.hosts[index].living.take() {
            Some(living) => self.record(living.life, What::Crashed),
            None => return false,
        }
        true
    }

    pub(super) fn leave(&mut self, index: usize) {
        let now = self.now;
        if let Some(living) = &mut self.hosts[index].living {
            living.leaves = true;
            living.member.handle(living.clock.show(now), Input::Leave);
            // A leaving node may have something to send first.
            let life = living.life;
            self.record(life, What::Inside(Inside::Woken));
            self.after(index, None);
        }
    }

    /// Asks a node on behalf of an operator to give up the role of DC. Returns `true` if it did.
    pub(super) fn release(&mut self, index: usize) -> bool {
        let now = self.now;
        // A paused node does not receive the request.
        let Some(living) = self.hosts[index].living.as_mut().filter(|living| now >= living.busy_until) else {
            return false;
        };
        let until = living.lease.map_or(now, |(_, until)| living.clock.when(until));
        let released = living.member.release(living.show(now)).map(|()| Duration::from_micros(until));
        let life = living.life;
        self.record(life, What::Inside(Inside::Released(released)));
        self.after(index, None);
        released.is_ok()
    }

    /// Informs a node that the process of another one is gone. Returns `true` if the node received
    /// that. A paused node receives it later.
    pub(super) fn tell_refused(&mut self, index: usize, node: NodeId) -> bool {
        let now = self.now;
        let Some(living) = &mut self.hosts[index].living else { return false };
        if !living.is_free(now) {
            let at = living.busy_until.max(now + 1);
            self.schedule(at, Happening::Refused(index, node));
            return true;
        }
        let accusations = |living: &Living| living.member.totem().stats().accusations;
        let before = accusations(living);
        if let Some(node) = living.path.node_at(address(node)) {
            living.member.handle(living.clock.show(now), Input::Refused(node));
        }
        if accusations(living) > before {
            let lives = self.hosts[node.get() as usize - 1].living.is_some();
            self.situations.hit(if lives {
                Situation::FalseReportBelieved
            } else {
                Situation::HostReportedDeath
            });
        }
        self.after(index, None);
        true
    }

    /// Returns this life of a host if its application is active now. If it pauses or hangs, the
    /// action is scheduled for later.
    pub(super) fn awake(
        &mut self,
        index: usize,
        start: u32,
        later: impl FnOnce(usize, u32) -> Happening,
    ) -> Option<&mut Living> {
        let now = self.now;
        let living = self.hosts[index].living.as_ref().filter(|living| living.life.start == start)?;
        let until = living.busy_until.max(living.actor.hangs_until);
        if now < until {
            // The calm may begin sooner.
            let at = until.min(now + micros(self.scenario.totem.token) / 8);
            self.schedule(at, later(index, start));
            return None;
        }
        self.hosts[index].living.as_mut()
    }

    /// Pauses a node. Returns `true` if it is up.
    pub(super) fn pause(&mut self, index: usize, lasts: Duration, clock_too: bool) -> bool {
        let now = self.now;
        let Some(living) = &mut self.hosts[index].living else { return false };
        living.busy_until = living.busy_until.max(now + micros(lasts));
        if clock_too {
            living.clock.freeze(now, living.busy_until);
        }
        // A status query during the pause is answered at its end, before the node has received or
        // done anything.
        let (until, start) = (living.busy_until, living.life.start);
        self.schedule(until, Happening::Ask(index, start, false));
        self.go_on(index);
        true
    }

    /// Sends many messages at once. Returns `true` if the node is up.
    pub(super) fn burst(&mut self, index: usize, count: u32, length: usize, guarantee: Guarantee) -> bool {
        let Some(living) = &mut self.hosts[index].living else { return false };
        living.waiting.extend((0..count).map(|_| (guarantee, length)));
        self.go_on(index);
        true
    }

    /// Makes the application read its unread events.
    pub(super) fn read_on(&mut self, index: usize) {
        let now = self.now;
        if let Some(living) = &mut self.hosts[index].living
            && now >= living.reads_at
        {
            let unread = std::mem::take(&mut living.unread);
            living.member.handle(living.clock.show(now), Input::Consumed(unread));
            self.after(index, None);
            self.go_on(index);
        }
    }

    /// Lets a host work while nothing holds it up: it handles what waits in its sockets, then
    /// sends, and then checks its timers.
    pub(super) fn go_on(&mut self, index: usize) {
        loop {
            let now = self.now;
            let host = &mut self.hosts[index];
            let Some(living) = &mut host.living else { return };
            if now < living.busy_until {
                let at = living.busy_until;
                if living.work_at.is_none_or(|work_at| at < work_at) {
                    living.work_at = Some(at);
                    self.schedule(at, Happening::Work(index));
                }
                return;
            }
            if let Some(packet) = living.multicasts.pop_front().or_else(|| living.unicasts.pop_front()) {
                self.handle(index, &packet);
            } else if !living.waiting.is_empty() && living.member.totem().queued() < Totem::QUEUE {
                if !self.send_waiting(index) {
                    break;
                }
            } else {
                break;
            }
        }
        let now = self.now;
        let Some(living) = &mut self.hosts[index].living else { return };
        let local = living.show(now);
        if living.member.poll_timeout().is_some_and(|due| due <= local) {
            living.member.handle(local, Input::Timeout);
            self.after(index, None);
        }
        self.set_timer(index);
    }

    fn set_timer(&mut self, index: usize) {
        let Some(living) = &mut self.hosts[index].living else { return };
        let Some(due) = living.member.poll_timeout() else {
            if living.seen.phase != Phase::Left {
                let life = living.life;
                self.record(life, What::Inside(Inside::NoTimer));
            }
            return;
        };
        let at = living.clock.when(due).max(self.now + 1);
        if living.timer_at.is_none_or(|timer_at| at < timer_at) {
            living.timer_at = Some(at);
            self.schedule(at, Happening::Timer(index));
        }
    }

    pub(super) fn handle(&mut self, index: usize, packet: &Rc<Packet>) {
        let now = self.now;
        let host = &mut self.hosts[index];
        let Some(living) = &mut host.living else { return };
        if let Some((each, until)) = host.slow
            && now < until
        {
            living.busy_until = now + each;
        }
        self.situations.input(living.seen.phase, packet.kind);
        let local = living.clock.show(now);
        let own = packet.from == Some(index);
        // A node's datagrams to itself do not use the path.
        let origin = match own {
            true => Some(Origin::of(Some(living.life.node))),
            false => living.path.handle_packet(local, packet.source, &packet.bytes),
        };
        if let Some(origin) = origin {
            living.member.handle(local, Input::Datagram(origin, &packet.bytes));
        }
        let life = living.life;
        // A probe requests nothing.
        if packet.message.as_ref().is_some_and(|m| matches!(m, Message::HoldCancel(c) if c.ring.seq > 0)) {
            self.record(life, What::Inside(Inside::Woken));
        }
        self.after(index, Some(packet));
    }

    /// Sends the first waiting message. Returns `true` if the ring accepted it.
    fn send_waiting(&mut self, index: usize) -> bool {
        let now = self.now;
        let Some(living) = &mut self.hosts[index].living else { return false };
        let Some((guarantee, length)) = living.waiting.pop_front() else { return false };
        let life = living.life;
        let message = MessageId { sender: life, number: living.accepted + 1 };
        let mut payload = vec![0; length];
        living.rng.fill_bytes(&mut payload);
        let payload = Bytes::from(payload);
        let group = group();
        match living.member.multicast(living.show(now), 0, &group, guarantee, &message.mark(&payload)) {
            Ok(()) => {
                living.accepted += 1;
                let content = Content::of(&payload);
                self.record(life, What::Accepted { message, group, guarantee, content });
                self.after_message(index, message.number);
                true
            }
            Err(MulticastError::Full | MulticastError::EventsUnread) => {
                living.waiting.push_front((guarantee, length));
                // The attempt was an input all the same, so a timer that was due has run.
                self.after(index, None);
                false
            }
            Err(_) => {
                living.waiting.clear();
                false
            }
        }
    }

    /// Completes a waiting write in the disk's usual time.
    pub(super) fn write_on(&mut self, index: usize) {
        let host = &self.hosts[index];
        if let Some(living) = host.living.as_ref().filter(|living| living.writing.is_some()) {
            let (at, start) = (self.now + host.disk.latency(self.now), living.life.start);
            self.schedule(at, Happening::Written(index, start));
        }
    }

    pub(super) fn written(&mut self, index: usize, start: u32) {
        let now = self.now;
        let host = &mut self.hosts[index];
        let Some(living) = &mut host.living else { return };
        let Some(stored) = living.writing.take() else { return };
        if living.life.start != start {
            return;
        }
        host.disk.save(stored.clone());
        let life = living.life;
        living.member.handle(living.show(now), Input::Stored(stored.clone()));
        self.record(life, What::Inside(Inside::Persisted(stored)));
        if self.reach(index, Point::HasStored) {
            self.after(index, None);
            self.go_on(index);
        }
    }

    /// Records what an input changed, and does what the member wants.
    fn after(&mut self, index: usize, input: Option<&Rc<Packet>>) {
        if self.look(index, input) {
            self.settle(index, 0, 0);
        }
    }

    /// Records what a message of the application changed, and does what the member wants. For every
    /// other message, events are delivered before anything is sent, as the driver does if nothing
    /// else has arrived.
    fn after_message(&mut self, index: usize, number: u64) {
        if !self.look(index, None) {
            return;
        }
        let (mut sent, mut told) = (0, 0);
        if number.is_multiple_of(2) {
            let batch = self.outgoing(index, &mut sent);
            self.tell(index, &mut told);
            if !self.transmit_batch(index, batch) {
                return;
            }
        }
        self.settle(index, sent, told);
    }

    /// Records what an input changed. Returns `true` if the node is still up.
    fn look(&mut self, index: usize, input: Option<&Rc<Packet>>) -> bool {
        self.note_hung(index);
        let phase = self.observe(index, input);
        phase.is_none_or(|phase| self.reach(index, Point::Enters(phase)))
    }

    /// Does what the member wants, and sets its timer. `sent` and `told` count what has been sent
    /// and delivered before.
    fn settle(&mut self, index: usize, mut sent: u32, mut told: u32) {
        loop {
            if !self.store(index) || !self.transmit_all(index, &mut sent) {
                return;
            }
            if self.tell(index, &mut told) {
                continue;
            }
            // The events that only the election consumes may have given it something to send.
            let before = sent;
            if !self.transmit_all(index, &mut sent) {
                return;
            }
            if sent == before {
                break;
            }
        }
        if let Some(living) = &mut self.hosts[index].living {
            let CoreView { members, stats, .. } = living.member.view();
            if std::mem::replace(&mut living.rings, stats.rings) != stats.rings {
                living.path.set_members(members);
            }
        }
        self.note_lease(index);
        self.weigh(index, sent, told);
        self.set_timer(index);
    }

    /// Sends what the member wants to send. Returns `true` if the node is still up.
    fn transmit_all(&mut self, index: usize, sent: &mut u32) -> bool {
        let batch = self.outgoing(index, sent);
        self.transmit_batch(index, batch)
    }

    /// Returns the datagrams that the member wants to send, each with its decoded message. A core's
    /// frame has its number from here on.
    fn outgoing(&mut self, index: usize, sent: &mut u32) -> Vec<(Transmit, Option<Message>)> {
        let mut batch = Vec::new();
        while let Some(transmit) =
            self.hosts[index].living.as_mut().and_then(|living| living.member.poll_transmit())
        {
            // A core can decode what it sends. A datagram that it could not decode would be sent
            // all the same.
            let message = wire::decode(&transmit.datagram).ok();
            // The sender has the frame before the token reports it, even if the frame leaves after
            // the token.
            if let Some(frame @ Message::Multicast(_)) = &message {
                self.note_sent(index, transmit.to, frame);
            }
            batch.push((transmit, message));
        }
        *sent += batch.len() as u32;
        batch
    }

    fn transmit_batch(&mut self, index: usize, batch: Vec<(Transmit, Option<Message>)>) -> bool {
        batch.into_iter().all(|(transmit, message)| self.transmit(index, &transmit, message))
    }

    /// Records what sending this message reveals.
    fn note_sent(&mut self, index: usize, to: Destination, message: &Message) {
        if let Some(inside) = self.inside(index, to, message)
            && let Some(living) = &self.hosts[index].living
        {
            let life = living.life;
            self.record(life, What::Inside(inside));
        }
    }

    /// Stores the record if there is a new one. Returns `true` if the node is still up.
    fn store(&mut self, index: usize) -> bool {
        loop {
            let now = self.now;
            let host = &mut self.hosts[index];
            let Some(living) = &mut host.living else { return false };
            let Some(stored) = living.member.must_store().filter(|_| living.writing.is_none()) else {
                return true;
            };
            let life = living.life;
            living.writing = Some(stored.clone());
            let latency = host.disk.latency(now);
            self.record(life, What::Inside(Inside::Persist(stored.clone())));
            if !self.reach(index, Point::Stores) {
                return false;
            }
            if latency > 0 {
                self.schedule(now + latency, Happening::Written(index, life.start));
                return true;
            }
            let host = &mut self.hosts[index];
            let Some(living) = &mut host.living else { return false };
            living.writing = None;
            host.disk.save(stored.clone());
            living.member.handle(living.clock.show(now), Input::Stored(stored.clone()));
            self.record(life, What::Inside(Inside::Persisted(stored)));
            if !self.reach(index, Point::HasStored) {
                return false;
            }
        }
    }

    /// Returns the hosts that a datagram goes to. One to the node itself does not use the path.
    fn receivers(&self, index: usize, to: Destination) -> HostSet {
        let Some(living) = &self.hosts[index].living else { return HostSet::default() };
        if to == Destination::Member(living.life.node) {
            return HostSet::only(index);
        }
        let group = living.path.group();
        let mut hosts = HostSet::default();
        for address in living.path.addresses(to) {
            match host_at(address.ip()) {
                _ if Some(address) == group => return self.network.everybody.without(index),
                Some(host) if host < self.hosts.len() => hosts = hosts.with(host),
                _ => {}
            }
        }
        hosts
    }

    /// Sends a datagram. Returns `true` if the node is still up.
    fn transmit(&mut self, index: usize, transmit: &Transmit, message: Option<Message>) -> bool {
        let Some(living) = &mut self.hosts[index].living else { return false };
        let life = living.life;
        let kind = message.as_ref().map_or(Kind::Any, Kind::of);
        let everyone = transmit.to == Destination::Everyone && living.path.group().is_some();
        if !self.armed.is_empty() && !self.reach(index, Point::Sends(kind)) {
            return false;
        }
        let at = self.at();
        self.journal.sent(at, life, transmit);
        if let Some(message) = message.as_ref().filter(|message| !matches!(message, Message::Multicast(_))) {
            self.note_sent(index, transmit.to, message);
        }
        let to = self.receivers(index, transmit.to);
        let packet = Rc::new(Packet {
            from: Some(index),
            source: source(life.node),
            bytes: transmit.datagram.clone(),
            kind,
            to_everyone: everyone,
            message,
            number: self.journal.traffic().map_or(usize::MAX, |traffic| traffic.latest()),
        });
        let mut arrivals = std::mem::take(&mut self.arrivals);
        self.network.send(&packet, to, self.now, &mut arrivals);
        self.note_under_way(&packet, to, &arrivals);
        if arrivals.is_empty()
            && let (Destination::Member(node), Some(message)) = (transmit.to, &packet.message)
            && let Some(receiver) =
                self.hosts.get(node.get() as usize - 1).and_then(|host| host.living.as_ref())
        {
            self.situations.lost(message, node, receiver.seen.phase);
        }
        for (at, packet, to) in arrivals.drain(..) {
            self.schedule(at, Happening::Arrive(packet, to));
        }
        self.arrivals = arrivals;
        self.armed.is_empty() || self.reach(index, Point::HasSent(kind))
    }

    /// Takes down which receivers a datagram will not reach, if datagrams are kept.
    fn note_under_way(&mut self, packet: &Packet, to: HostSet, arrivals: &[(Micros, Rc<Packet>, HostSet)]) {
        let at = self.at() + self.scenario.world.latency;
        let reachable = self.network.heard_by(packet);
        let Some(traffic) = self.journal.traffic() else { return };
        traffic.address(packet.number, to.into_iter().map(|index| self.hosts[index].id));
        for index in to {
            if !arrivals.iter().any(|(_, _, receivers)| receivers.contains(index)) {
                let outcome = if reachable.contains(index) { Outcome::Lost } else { Outcome::Cut };
                traffic.fate(packet.number, self.hosts[index].id, at, outcome);
            }
        }
    }

    /// Delivers the events to the application. Returns `true` if it took any that count.
    fn tell(&mut self, index: usize, told: &mut u32) -> bool {
        let now = self.now;
        let mut cost = 0;
        loop {
            let Some(living) = &mut self.hosts[index].living else { return false };
            let Some(mut event) = living.next_event() else { break };
            cost += DcMember::cost(&event);
            *told += 1;
            let (what, _) = observed::what(&mut event);
            match event {
                Event::Status(status) => living.status = Some(*status),
                Event::Regular(_) => living.entered_at = living.show(now),
                Event::Deliver(_) => {
                    if let What::Delivered(delivered) = &what
                        && delivered.message.is_some_and(|message| message.sender == living.life)
                    {
                        living.delivered += 1;
                    }
                }
                _ => {}
            }
            let life = living.life;
            self.record(life, what);
        }
        let Some(living) = &mut self.hosts[index].living else { return false };
        let reads = now >= living.reads_at;
        if !reads {
            living.unread += cost;
        } else if cost > 0 {
            living.member.handle(living.clock.show(now), Input::Consumed(cost));
        }
        // Polling for events can change a member that has none: the poll may make it leave (seed
        // 404697).
        self.observe(index, None);
        reads && cost > 0
    }
}

/// Returns the group that the load is sent to.
fn group() -> Group {
    Group::new("load").unwrap_or_else(|_| unreachable!("a short name"))
}
