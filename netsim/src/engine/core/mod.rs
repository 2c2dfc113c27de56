//! Bare members in a loop of discrete events, without a runtime or sockets, and with a clock of
//! microseconds. This engine knows every class of faults, and is about a hundred times as fast as
//! complete nodes.
//!
//! The loop takes one event at a time from a heap: a datagram arrives, a timer is due, an
//! application sends, a disk has written, or a fault happens. It then does everything that the
//! member wants before it takes the next event. All randomness comes from the seed, so the same
//! scenario gives the same run, byte for byte.

mod acts;
mod host;
mod host_set;
mod liveness;
mod network;
mod refusals;
mod seen;
mod situations;
mod summary;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use quorate_election::Term;
use quorate_membership::{Guarantee, NodeId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::acts::Leases;
use self::host::Host;
use self::host_set::HostSet;
pub use self::liveness::{Goal, Reached};
use self::liveness::{Liveness, Next};
use self::network::{Network, Packet};
use self::situations::Situations;
pub use self::summary::Summary;
use super::{Micros, micros, noise, stream};
use crate::fault::{Forged, Point};
use crate::history::{Life, Outcome, What};
use crate::invariants::Violation;
use crate::journal::Journal;
use crate::{Fault, Scenario, Situation};

/// A finished run, whether it succeeded or not.
pub(crate) struct Run {
    pub(crate) summary: Summary,
    pub(crate) journal: Journal,
    pub(crate) result: Result<(), Violation>,
}

/// Returns an error if a node would not start.
pub(crate) fn can_run(scenario: &Scenario) -> Result<(), String> {
    let mut nodes = (1..=scenario.nodes).filter_map(NodeId::new);
    nodes.try_for_each(|id| host::config(id, scenario).check().map_err(|error| error.to_string()))
}

/// Runs the scenario, which must have been checked.
pub(crate) fn run(scenario: &Scenario, journal: Journal) -> Run {
    let mut engine = Engine::new(scenario, journal);
    let result = engine.run_until(Micros::MAX);
    let (summary, result) = engine.end(result.map(drop));
    Run { summary, journal: engine.journal, result }
}

/// The next event of the loop.
enum Happening {
    /// A datagram arrives at these hosts.
    Arrive(Rc<Packet>, HostSet),
    /// A host is informed that the process of another is gone.
    Refused(usize, NodeId),
    /// A host's timer may be due.
    Timer(usize),
    /// A host that was busy or paused continues.
    Work(usize),
    /// The application of a host's life sends a message.
    Load(usize, u32),
    /// A host's disk has completed a write of this life.
    Written(usize, u32),
    /// A fault of the timeline.
    Fault(usize),
    /// The calm begins.
    Calm,
    /// An application reads again.
    Read(usize),
    /// The application of a host's life checks whether it may act as DC.
    Act(usize, u32),
    /// An act of a host's life reaches its target.
    Land(usize, u32, Term),
    /// The status of this life of a host is queried, and again later if the query belongs to a
    /// series.
    Ask(usize, u32, bool),
}

struct Entry {
    at: Micros,
    order: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A run in progress.
pub(crate) struct Engine {
    scenario: Scenario,
    begun: bool,
    panicked: bool,
    now: Micros,
    queue: BinaryHeap<Reverse<Entry>>,
    order: u64,
    /// The place of the latest fault among the events of one moment.
    fault_order: u64,
    hosts: Vec<Host>,
    network: Network,
    pub(crate) journal: Journal,
    rng: ChaCha8Rng,
    timeline: Vec<(Micros, Fault)>,
    /// Faults that wait for a node to get to a point.
    armed: Vec<(usize, Point, Fault)>,
    liveness: Option<Liveness>,
    situations: Situations,
    faults: BTreeMap<&'static str, u64>,
    /// A buffer that is emptied after each use. It is a field so that its memory is reused.
    arrivals: Vec<(Micros, Rc<Packet>, HostSet)>,
    leases: Leases,
    summary: Summary,
}

impl Engine {
    pub(crate) fn new(scenario: &Scenario, journal: Journal) -> Self {
        let mut timeline: Vec<_> =
            scenario.timeline.iter().map(|(at, fault)| (micros(*at), fault.clone())).collect();
        timeline.sort_by_key(|(at, _)| *at);
        let ids = (1..=scenario.nodes).filter_map(NodeId::new);
        Self {
            scenario: scenario.clone(),
            begun: false,
            panicked: false,
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            fault_order: 0,
            hosts: ids.map(|id| Host::new(id, scenario)).collect(),
            network: Network::new(scenario),
            journal,
            rng: ChaCha8Rng::seed_from_u64(scenario.seed),
            timeline,
            armed: Vec::new(),
            liveness: None,
            situations: Situations::default(),
            faults: BTreeMap::new(),
            arrivals: Vec::new(),
            leases: Leases::default(),
            summary: Summary::default(),
        }
    }

    pub(crate) fn at(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn schedule(&mut self, at: Micros, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Entry { at: at.max(self.now), order: self.order, happening }));
    }

    fn schedule_fault(&mut self, n: usize) {
        self.fault_order += 1;
        let at = self.timeline[n].0;
        self.queue.push(Reverse(Entry { at, order: self.fault_order, happening: Happening::Fault(n) }));
    }

    /// Lets a fault happen one microsecond from now. Returns that time. Nothing has happened at
    /// that time yet, so a scenario with the same fault in its timeline runs in the same way.
    pub(crate) fn inject(&mut self, fault: Fault) -> Micros {
        let at = self.now + 1;
        self.scenario.timeline.push((Duration::from_micros(at), fault.clone()));
        self.timeline.push((at, fault));
        if self.begun {
            self.schedule_fault(self.timeline.len() - 1);
        }
        at
    }

    /// Runs up to this time. Returns `true` if the run is over. A panic counts as a violation.
    pub(crate) fn run_until(&mut self, until: Micros) -> Result<bool, Violation> {
        self.catch(|engine| engine.go_until(until))
    }

    /// Takes the next event, if there is one. Returns `true` if the run is over.
    pub(crate) fn step(&mut self) -> Result<bool, Violation> {
        self.catch(|engine| {
            engine.begin();
            match engine.queue.peek().map(|Reverse(entry)| entry.at) {
                Some(at) if at <= engine.ends_at() => engine.take(),
                Some(_) => engine.go_until(engine.ends_at()),
                None => Ok(false),
            }
        })
    }

    fn catch(&mut self, run: impl FnOnce(&mut Self) -> Result<bool, Violation>) -> Result<bool, Violation> {
        catch_unwind(AssertUnwindSafe(|| run(self))).unwrap_or_else(|panic| {
            self.panicked = true;
            let at = self.at();
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            self.journal.record(at, None, What::Panicked);
            Err(Violation { property: "H1", at, what: format!("panicked: {text}") })
        })
    }

    /// Returns the scenario, with the faults that were injected.
    pub(crate) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Returns the number of events so far.
    pub(crate) fn events(&self) -> u64 {
        self.summary.events
    }

    /// Returns `true` if datagrams of one node can reach another.
    pub(crate) fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        self.network.reaches(from.get() as usize - 1, to.get() as usize - 1)
    }

    /// Starts the nodes, and schedules the timeline.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let calm_at = self.scenario.calm_at.map_or(Micros::MAX, micros);
        // Nodes that crash at time 0 have not been started.
        let absent: Vec<u32> = self.timeline.iter().filter_map(absent_at_start).collect();
        for index in 0..self.hosts.len() {
            if !absent.contains(&self.hosts[index].id.get()) {
                self.start(index);
            }
        }
        // This leaves room for faults that are injected later. At their time, they come before
        // everything but the starts.
        self.fault_order = self.order;
        self.order += 1 << 32;
        for n in 0..self.timeline.len() {
            if self.timeline[n].0 < calm_at && absent_at_start(&self.timeline[n]).is_none() {
                self.schedule_fault(n);
            }
        }
        if calm_at < Micros::MAX {
            self.schedule(calm_at, Happening::Calm);
        }
    }

    /// Returns the time at which the run ends in any case.
    pub(crate) fn ends_at(&self) -> Micros {
        self.scenario.calm_at.map_or(micros(self.scenario.length), |_| Micros::MAX)
    }

    fn go_until(&mut self, until: Micros) -> Result<bool, Violation> {
        self.begin();
        let ends_at = self.ends_at();
        let until = until.min(ends_at);
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= until) {
            if self.take()? {
                return Ok(true);
            }
        }
        if until < Micros::MAX {
            self.now = self.now.max(until);
        }
        // Nodes that are all down reach nothing.
        let is_dead = self.liveness.is_some() && self.queue.is_empty();
        Ok(is_dead || until == ends_at)
    }

    /// Takes the next event. Returns `true` if everything that had to be reached was reached.
    fn take(&mut self) -> Result<bool, Violation> {
        let Some(Reverse(Entry { at, happening, .. })) = self.queue.pop() else { return Ok(true) };
        self.now = at;
        self.summary.events += 1;
        self.happen(happening);
        self.journal.violation()?;
        self.is_over(micros(self.scenario.length))
    }

    /// Ends the run, and returns its verdict.
    pub(crate) fn end(&mut self, result: Result<(), Violation>) -> (Summary, Result<(), Violation>) {
        if !self.panicked {
            self.end_leases();
        }
        self.journal.end(self.at());
        let result = result.and_then(|()| self.journal.verdict());
        (self.summary(), result)
    }

    /// Returns `true` if everything that had to be reached has been reached, and lasted.
    fn is_over(&mut self, length: Micros) -> Result<bool, Violation> {
        let Some(liveness) = &mut self.liveness else { return Ok(false) };
        match liveness.look(self.now, &self.hosts)? {
            Next::Settled(Some(leaver)) if self.now >= length => {
                liveness.leaves(self.now, leaver);
                self.leave(leaver.get() as usize - 1);
                Ok(false)
            }
            Next::Settled(Some(_)) | Next::GoOn => Ok(false),
            Next::Settled(None) | Next::Over => Ok(self.now >= length),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(packet, receivers) => self.arrive(&packet, receivers),
            Happening::Refused(index, node) => drop(self.tell_refused(index, node)),
            Happening::Timer(index) => {
                if let Some(living) = &mut self.hosts[index].living {
                    living.timer_at = None;
                    self.go_on(index);
                }
            }
            Happening::Work(index) => {
                if let Some(living) = &mut self.hosts[index].living {
                    living.work_at = None;
                    self.go_on(index);
                }
            }
            Happening::Load(index, start) => self.load(index, start),
            Happening::Written(index, start) => self.written(index, start),
            Happening::Fault(n) => {
                let fault = self.timeline[n].1.clone();
                self.apply(fault);
            }
            Happening::Calm => self.calm(),
            Happening::Read(index) => self.read_on(index),
            Happening::Act(index, start) => self.act(index, start),
            Happening::Land(index, start, term) => self.land(index, start, term),
            Happening::Ask(index, start, again) => self.ask(index, start, again),
        }
    }

    fn arrive(&mut self, packet: &Rc<Packet>, receivers: HostSet) {
        let heard = receivers & self.network.heard_by(packet);
        self.note_outcome(packet, receivers - heard, Outcome::Cut);
        for index in heard {
            let rejects = self.now < self.hosts[index].rejects_until && packet.from != Some(index);
            let Some(living) = self.hosts[index].living.as_mut().filter(|_| !rejects) else {
                let outcome = if rejects { Outcome::Rejected } else { Outcome::Nobody };
                self.note_outcome(packet, HostSet::only(index), outcome);
                self.refuse(packet, index);
                continue;
            };
            if living.is_free(self.now) {
                self.note_outcome(packet, HostSet::only(index), Outcome::Arrived);
                self.handle(index, packet);
                self.go_on(index);
            } else if living.wait(packet, self.scenario.world.receive_buffer) {
                self.note_outcome(packet, HostSet::only(index), Outcome::Arrived);
                self.go_on(index);
            } else {
                self.note_outcome(packet, HostSet::only(index), Outcome::Full);
                self.situations.hit(Situation::ReceiveBufferOverflowed);
            }
        }
    }

    /// Takes down the fate of a datagram, if datagrams are kept.
    fn note_outcome(&mut self, packet: &Packet, receivers: HostSet, outcome: Outcome) {
        let at = self.at();
        let Some(traffic) = self.journal.traffic() else { return };
        // A node's datagrams can be decoded, unless the network has changed them.
        let damaged = outcome == Outcome::Arrived && packet.from.is_some() && packet.message.is_none();
        let outcome = if damaged { Outcome::Damaged } else { outcome };
        for index in receivers {
            traffic.fate(packet.number, self.hosts[index].id, at, outcome);
        }
    }

    /// Takes down a datagram that no node sends, if datagrams are kept.
    fn note_foreign(&mut self, packet: Rc<Packet>) -> Rc<Packet> {
        let at = self.at();
        let Some(traffic) = self.journal.traffic() else { return packet };
        let number = traffic.sent(at, None, packet.bytes.clone(), []);
        Rc::new(packet.numbered(number))
    }

    /// Refuses a unicast on behalf of a host that has no process or whose firewall rejects, if the
    /// host may still send a refusal and the way back is open.
    fn refuse(&mut self, packet: &Packet, index: usize) {
        if let Some(from) =
            packet.from.filter(|_| !packet.to_everyone && self.scenario.totem.failure_evidence)
            && self.hosts[index].refusals.may_send(from, self.now)
            && self.network.reaches(index, from)
        {
            let at = self.now + micros(self.scenario.world.latency);
            self.schedule(at, Happening::Refused(from, self.hosts[index].id));
        }
    }

    /// Counts an effective fault.
    fn count(&mut self, class: &'static str) {
        *self.faults.entry(class).or_default() += 1;
    }

    fn apply(&mut self, fault: Fault) {
        let at = self.at();
        let class = fault.class();
        let index = |node: u32| node as usize - 1;
        let mut counts = true;
        match &fault {
            Fault::Crash(_) | Fault::Restart(_) | Fault::When { .. } => {}
            _ => self.journal.record(at, None, What::Network(fault.clone())),
        }
        match fault {
            Fault::Crash(node) => counts = self.crash(index(node)),
            Fault::Restart(node) => {
                self.crash(index(node));
                self.start(index(node));
            }
            Fault::Leave(node) => {
                counts = self.hosts[index(node)].living.is_some();
                self.leave(index(node));
            }
            Fault::Hang { node, lasts } => counts = self.hang(index(node), lasts),
            Fault::Release(node) => counts = self.release(index(node)),
            Fault::Reject { node, lasts } => {
                self.hosts[index(node)].rejects_until = self.now + micros(lasts);
            }
            Fault::Forge { to, of, says } => counts = self.forge(index(to), index(of), says),
            Fault::Lie { to, of } => counts = self.tell_refused(index(to), self.hosts[index(of)].id),
            Fault::LoseRecord(node) => self.hosts[index(node)].disk.lose(),
            Fault::File { node, voters, waits } => self.hosts[index(node)].refile(&voters, waits),
            Fault::RollBackRecord(node) => counts = self.hosts[index(node)].disk.roll_back(),
            Fault::Pause { node, lasts } => counts = self.pause(index(node), lasts, false),
            Fault::Freeze { node, lasts } => {
                self.note_lease(index(node));
                counts = self.pause(index(node), lasts, true);
            }
            Fault::Slow { node, each, lasts } => {
                let until = self.now + micros(lasts);
                self.hosts[index(node)].slow = Some((micros(each), until));
            }
            Fault::SlowDisk { node, each, lasts } => {
                let until = self.now + micros(lasts);
                self.hosts[index(node)].disk.slow = Some((micros(each), until));
            }
            Fault::FullDisk { node, lasts } => {
                self.hosts[index(node)].disk.full_until = self.now + micros(lasts);
            }
            Fault::Unread { node, lasts } => {
                let until = self.now + micros(lasts);
                match &mut self.hosts[index(node)].living {
                    Some(living) => living.reads_at = until,
                    None => counts = false,
                }
                self.schedule(until, Happening::Read(index(node)));
            }
            Fault::Drift { node, ppm } => {
                self.note_lease(index(node));
                self.hosts[index(node)].drift(self.now, ppm);
            }
            Fault::Send { node, count, length, guarantee } => {
                counts = self.burst(index(node), count, length, guarantee);
            }
            Fault::When { node, point, then } => {
                self.armed.push((index(node), point, *then));
                counts = false;
            }
            Fault::Replay(count) | Fault::Foreign(count) => {
                for _ in 0..count {
                    let one = match &fault {
                        Fault::Replay(_) => self.network.old_one(&mut self.rng),
                        _ => self.network.foreign(&mut self.rng),
                    };
                    let Some((packet, to)) = one else { break };
                    let at = self.now + self.rng.random_range(0..20_000);
                    let packet = self.note_foreign(packet);
                    self.schedule(at, Happening::Arrive(packet, to));
                }
            }
            Fault::Partition(_)
            | Fault::CutOneWay { .. }
            | Fault::Deafen { .. }
            | Fault::Cut(..)
            | Fault::Mend(..)
            | Fault::LoseAddress(_)
            | Fault::RegainAddress(_)
            | Fault::Heal
            | Fault::Catch { .. }
            | Fault::Disturb { .. } => counts = self.network.apply(&fault, self.now),
        }
        if counts {
            self.count(class);
        }
    }

    /// Sends a forged datagram to a node. Returns `true` if the node is up.
    fn forge(&mut self, to: usize, of: usize, says: Forged) -> bool {
        let Some(living) = &self.hosts[to].living else { return false };
        let ring = living.member.totem().snapshot().ring;
        let packet = self.network.forged(says, self.hosts[of].id, ring.id, ring.high);
        let packet = self.note_foreign(Rc::new(packet));
        self.schedule(self.now, Happening::Arrive(packet, HostSet::only(to)));
        true
    }

    /// Triggers the faults that wait for the node to get to this point. Returns `true` if the node
    /// is still in the same life.
    fn reach(&mut self, index: usize, point: Point) -> bool {
        if self.armed.is_empty() {
            return true;
        }
        let life = self.hosts[index].starts;
        while let Some(n) =
            self.armed.iter().position(|(at, waits_for, _)| *at == index && matches(*waits_for, point))
        {
            let (_, _, fault) = self.armed.remove(n);
            self.count("fault at a point");
            self.apply(fault);
        }
        let host = &self.hosts[index];
        host.starts == life && host.living.is_some()
    }

    /// Ends all trouble.
    fn calm(&mut self) {
        self.armed.clear();
        self.network.calm();
        for index in 0..self.hosts.len() {
            self.note_lease(index);
            let now = self.now;
            let host = &mut self.hosts[index];
            host.slow = None;
            host.disk.slow = None;
            host.disk.full_until = 0;
            host.rejects_until = 0;
            if let Some(living) = &mut host.living {
                living.clock.thaw(now);
                living.busy_until = now;
                living.reads_at = now;
                living.actor.hangs_until = now;
            }
            self.read_on(index);
            self.write_on(index);
        }
        // Late datagrams count as trouble too.
        let latest = self.now + micros(self.scenario.world.latency);
        self.queue
            .retain(|Reverse(entry)| !matches!(entry.happening, Happening::Arrive(..)) || entry.at <= latest);
        let at = self.at();
        self.journal.record(at, None, What::Network(Fault::Heal));
        self.liveness = Some(Liveness::begin(self.now, &self.hosts, &self.network, &self.scenario));
    }

    /// Sends a message of one life's load, and schedules the next one.
    fn load(&mut self, index: usize, start: u32) {
        let Some(load) = &self.scenario.load else { return };
        if self.now >= micros(load.until) || self.hosts[index].starts != start {
            return;
        }
        let Some(living) = &mut self.hosts[index].living else { return };
        let length = living.rng.random_range(0..=load.longest);
        let safe = living.rng.random_ratio(load.safe_percent.min(100), 100);
        let guarantee = if safe { Guarantee::Safe } else { Guarantee::Agreed };
        // An application that waits for room sends no more messages meanwhile.
        if living.waiting.is_empty() {
            living.waiting.push_back((guarantee, length));
        }
        let pause = 2 * micros(load.every) * living.rng.random_range(0..=1000) / 1000;
        self.schedule(self.now + pause.max(1), Happening::Load(index, start));
        self.go_on(index);
    }

    fn summary(&mut self) -> Summary {
        let mut summary = std::mem::take(&mut self.summary);
        summary.simulated = self.at();
        summary.reached = self.liveness.as_ref().map(|liveness| liveness.reached.clone());
        summary.fingerprint = self.journal.fingerprint();
        summary.datagrams = self.journal.datagrams();
        summary.configurations = self.situations.configurations;
        summary.accepted = self.situations.accepted;
        summary.deliveries = self.situations.deliveries;
        for (class, times) in self.network.happened() {
            *self.faults.entry(class).or_default() += times;
        }
        summary.faults = std::mem::take(&mut self.faults);
        summary.situations = self.situations.take();
        summary.vacuous = summary.proves_nothing(&self.scenario);
        summary
    }

    fn record(&mut self, life: Life, what: What) {
        let at = self.at();
        self.situations.see(self.now, life, &what);
        self.journal.record(at, Some(life), what);
    }
}

fn absent_at_start(entry: &(Micros, Fault)) -> Option<u32> {
    match *entry {
        (0, Fault::Crash(node)) => Some(node),
        _ => None,
    }
}

fn matches(waits_for: Point, point: Point) -> bool {
    use crate::fault::Kind;
    match (waits_for, point) {
        (Point::Sends(Kind::Any), Point::Sends(_)) | (Point::HasSent(Kind::Any), Point::HasSent(_)) => true,
        (one, other) => one == other,
    }
}
