//! Complete nodes on turmoil, with driver, channels, election, and the user's service.
//!
//! Turmoil needs these settings. Each was found by measurement:
//! - `fail_rate` stays 0. It does not lose packets. It breaks whole links, loses everything that is
//!   under way on them, and heals one-way cuts.
//! - A receive queue holds 64 datagrams by default, which a window of frames overflows.
//! - A tick is 1 ms. With a shorter tick, timers go wrong silently. A token therefore moves one hop
//!   in a millisecond.
//! - The minimum and maximum latency are equal. Otherwise datagrams overtake each other all the
//!   time.
//! - The epoch is fixed, and the seed decides the order in which hosts run.
//!
//! Disturbances of single datagrams are our own code, and happen at the receiver. Loss, duplication
//! and delay are drawn as on the core engine.

mod calm;
mod disk;
mod udp;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::future::{Future, pending};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quorate::transport::{Path, Sockets};
use quorate::{Clock, Dc, DcMember, Memory, Node};
use quorate_membership::config::{Member, TransportKind};
use quorate_membership::{Config, Group, Guarantee, NodeId, Stored};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::mpsc;
use tokio::time::Instant;
use turmoil::Sim;

pub(crate) use self::calm::reached;
use self::disk::Disk;
use self::udp::{Air, Hosts, SimulatedUdp};
use crate::engine::{clock, micros};
use crate::history::{Life, What};
use crate::journal::Keeps;
use crate::observed::{Log, Observed};
use crate::scenario::World;
use crate::{Fault, History, Host, Load, Others, Scenario};

const TICK: Duration = Duration::from_millis(1);
/// The most nodes that run in a reasonable time.
const MAX_NODES: u32 = 64;

/// Returns an error if the scenario needs something that only the core engine can do.
pub(crate) fn can_run(scenario: &Scenario) -> Result<(), String> {
    let fault = scenario.timeline.iter().map(|(_, fault)| fault).find(|fault| {
        !matches!(
            fault,
            Fault::Crash(_)
                | Fault::Restart(_)
                | Fault::Partition(_)
                | Fault::CutOneWay { .. }
                | Fault::Cut(..)
                | Fault::Mend(..)
                | Fault::Disturb { .. }
                | Fault::Hang { .. }
                | Fault::Release(_)
                | Fault::LoseRecord(_)
                | Fault::SlowDisk { .. }
                | Fault::FullDisk { .. }
                | Fault::Drift { .. }
                | Fault::Heal
        )
    });
    let World { latency, loss, .. } = scenario.world;
    let beyond = match fault {
        Some(fault) => fault.to_string(),
        None if scenario.nodes > MAX_NODES => format!("{} nodes: at most {MAX_NODES}", scenario.nodes),
        None if latency < TICK || latency.subsec_micros() % 1000 != 0 => {
            format!("a latency of {latency:?}: whole milliseconds only")
        }
        None if loss > 0 => "loss that does not end with the trouble".to_owned(),
        None => return Ok(()),
    };
    Err(format!("the turmoil engine cannot do this: {beyond} (the core engine can)"))
}

/// Runs the scenario. An error comes with the history up to it.
pub(crate) fn run<S, F>(
    scenario: &Scenario,
    service: S,
    others: Others,
    keeps: Keeps,
) -> Result<History, (Box<dyn Error>, History)>
where
    S: Fn(Host) -> F + 'static,
    F: Future<Output = Result<(), Box<dyn Error>>> + 'static,
{
    let nodes: Vec<NodeId> = (1..=scenario.nodes).filter_map(NodeId::new).collect();
    let history = History::new(nodes.iter().copied()).of(scenario.voters());
    let log = Log::new(if keeps == Keeps::Traffic { history.with_traffic() } else { history });
    let mut network = Network::build(scenario, &nodes, &log, service, others);
    let ran = network.run(scenario);
    let length = network.sim.elapsed();
    drop(network);
    let mut history = log.take();
    history.end(length);
    match ran {
        Ok(()) => Ok(history),
        Err(error) => Err((error, history)),
    }
}

/// The simulated hosts and the network between them.
struct Network {
    sim: Sim<'static>,
    addresses: BTreeMap<NodeId, IpAddr>,
    air: Air,
    disks: BTreeMap<NodeId, Disk>,
    lives: Lives,
    log: Log,
}

/// The latest life of each node that was ever started.
type Lives = Rc<RefCell<BTreeMap<NodeId, Latest>>>;

#[derive(Default)]
struct Latest {
    start: u32,
    alive: bool,
    /// The drift of the host's clock, in millionths.
    ppm: i32,
    clock: Option<NodeClock>,
    /// The channel for orders to its application that acts as DC.
    orders: Option<mpsc::UnboundedSender<Order>>,
}

/// The clock of a node, which a fault may change.
type NodeClock = Arc<Mutex<clock::Clock>>;

/// An order to an application that acts as DC.
enum Order {
    Hang(Duration),
    GoOn,
    Release,
}

impl Network {
    fn build<S, F>(scenario: &Scenario, nodes: &[NodeId], log: &Log, service: S, others: Others) -> Self
    where
        S: Fn(Host) -> F + 'static,
        F: Future<Output = Result<(), Box<dyn Error>>> + 'static,
    {
        let mut sim = turmoil::Builder::new()
            .fail_rate(0.0)
            .udp_capacity(scenario.world.receive_buffer as usize)
            .tick_duration(TICK)
            .min_message_latency(scenario.world.latency)
            .max_message_latency(scenario.world.latency)
            .epoch(SystemTime::UNIX_EPOCH)
            .simulation_duration(scenario.length + TICK)
            .enable_random_order()
            .rng_seed(scenario.seed)
            .build();
        let addresses: BTreeMap<NodeId, IpAddr> =
            nodes.iter().map(|&id| (id, sim.lookup(name(id.get())))).collect();
        let air = Air::new(scenario.seed, scenario.world.latency);
        let hosts = Hosts::new(addresses.clone(), air.clone());
        let lives = Lives::default();
        let mut disks = BTreeMap::new();
        let service = Rc::new(service);
        for (&id, &address) in &addresses {
            let config = config(scenario, id, &addresses);
            let World { fresh, ring_seq, disk, .. } = scenario.world;
            let kept = if fresh { String::new() } else { scenario.electorate.record(&config).text() };
            let disk = Disk::new(Stored { ring_seq, kept, ..Stored::default() }, disk);
            let home = Home {
                config,
                seed: scenario.seed,
                load: scenario.load.clone(),
                heartbeat: scenario.world.heartbeat,
                hosts: hosts.clone(),
                disk: disk.memory(),
                lives: Rc::clone(&lives),
                log: log.clone(),
            };
            disks.insert(id, disk);
            let service = Rc::clone(&service);
            sim.host(address, move || {
                let (home, service) = (home.clone(), Rc::clone(&service));
                async move {
                    let lived = home.live(|host| service(host)).await;
                    lived.map_err(|error| format!("node {id}: {error}").into())
                }
            });
        }
        // They come last, so that they change nothing about the nodes' addresses and seeds.
        for (name, other) in others.into_hosts() {
            let host = name.clone();
            sim.client(
                name,
                async move { other.await.map_err(|error| format!("host {host}: {error}").into()) },
            );
        }
        Self { sim, addresses, air, disks, lives, log: log.clone() }
    }

    fn run(&mut self, scenario: &Scenario) -> Result<(), Box<dyn Error>> {
        let mut timeline = scenario.timeline.clone();
        timeline.sort_by_key(|(at, _)| *at);
        if let Some(calm_at) = scenario.calm_at {
            timeline.retain(|(at, _)| *at < calm_at);
            timeline.push((calm_at, Fault::Heal));
        }
        let mut timeline = timeline.into_iter().peekable();
        let mut calm_at = scenario.calm_at;
        while self.sim.elapsed() < scenario.length {
            if calm_at.take_if(|at| *at <= self.sim.elapsed()).is_some() {
                (1..=scenario.nodes).for_each(|node| self.order(node, Order::GoOn));
                let now = self.sim.elapsed();
                self.disks.values_mut().for_each(|disk| disk.mend(now));
            }
            while let Some((_, fault)) = timeline.next_if(|(at, _)| *at <= self.sim.elapsed()) {
                self.apply(fault);
            }
            let now = self.sim.elapsed();
            self.disks.values_mut().for_each(|disk| disk.pass(now));
            self.sim.step()?;
        }
        Ok(())
    }

    fn apply(&mut self, fault: Fault) {
        let at = self.sim.elapsed();
        tracing::info!(?at, "{fault}");
        match &fault {
            Fault::Crash(node) => return self.crash(*node),
            Fault::Restart(node) => {
                self.crash(*node);
                return self.sim.bounce(self.address(*node));
            }
            Fault::Partition(parts) => {
                self.heal();
                let part_of = |id: NodeId| parts.iter().position(|part| part.contains(&id.get()));
                for (&a, &from) in &self.addresses {
                    for (&b, &to) in self.addresses.range(..a) {
                        if part_of(a) != part_of(b) {
                            self.sim.partition(from, to);
                        }
                    }
                }
            }
            Fault::CutOneWay { from, to } if from == to => {}
            Fault::CutOneWay { from, to } => {
                self.sim.partition_oneway(self.address(*from), self.address(*to));
            }
            Fault::Cut(a, b) if a == b => {}
            Fault::Cut(a, b) => self.sim.partition(self.address(*a), self.address(*b)),
            Fault::Mend(a, b) if a == b => {}
            Fault::Mend(a, b) => self.sim.repair(self.address(*a), self.address(*b)),
            Fault::Disturb { .. } => self.air.disturb(&fault, at),
            Fault::Hang { node, lasts } => self.order(*node, Order::Hang(*lasts)),
            Fault::Release(node) => self.order(*node, Order::Release),
            Fault::LoseRecord(node) => self.on_disk(*node, |disk| disk.lose()),
            Fault::SlowDisk { node, each, lasts } => {
                self.on_disk(*node, |disk| disk.slow_down(at, *each, *lasts));
            }
            Fault::FullDisk { node, lasts } => self.on_disk(*node, |disk| disk.fill(at, *lasts)),
            Fault::Drift { node, ppm } => self.drift(*node, *ppm),
            Fault::Heal => {
                self.heal();
                self.air.clear();
            }
            // Such faults are rejected by `can_run`.
            _ => {}
        }
        self.log.write().record(at, None, What::Network(fault));
    }

    fn crash(&mut self, node: u32) {
        let address = self.address(node);
        if !self.sim.is_host_running(address) {
            return;
        }
        self.sim.crash(address);
        let mut lives = self.lives.borrow_mut();
        // A host that has not had its first tick has no life yet.
        if let Some((&node, latest)) = lives.iter_mut().find(|(id, latest)| id.get() == node && latest.alive)
        {
            latest.alive = false;
            latest.orders = None;
            let life = Life { node, start: latest.start };
            self.log.write().record(self.sim.elapsed(), life, What::Crashed);
        }
    }

    fn order(&self, node: u32, order: Order) {
        let lives = self.lives.borrow();
        let latest = NodeId::new(node).and_then(|node| lives.get(&node));
        if let Some(orders) = latest.and_then(|latest| latest.orders.as_ref()) {
            // A node that has left cannot give up anything.
            let _ = orders.send(order);
        }
    }

    fn on_disk(&mut self, node: u32, change: impl FnOnce(&mut Disk)) {
        if let Some(disk) = NodeId::new(node).and_then(|node| self.disks.get_mut(&node)) {
            change(disk);
        }
    }

    /// Changes the rate of a host's clock. The sleeps of the node do not follow, so a timer may run
    /// late by that share of the longest sleep of the driver, a tenth of a second.
    fn drift(&self, node: u32, ppm: i32) {
        let Some(node) = NodeId::new(node) else { return };
        let mut lives = self.lives.borrow_mut();
        let latest = lives.entry(node).or_default();
        latest.ppm = ppm;
        if let Some(clock) = &latest.clock {
            let now = micros(self.sim.elapsed());
            clock.lock().unwrap_or_else(PoisonError::into_inner).drift(now, ppm);
        }
    }

    fn heal(&self) {
        for (&a, &from) in &self.addresses {
            for &to in self.addresses.range(..a).map(|(_, address)| address) {
                self.sim.repair(from, to);
            }
        }
    }

    fn address(&self, node: u32) -> IpAddr {
        self.sim.lookup(name(node))
    }
}

/// Returns the name of a host, in turmoil and in the node list.
fn name(node: u32) -> String {
    format!("node{node}")
}

fn config(scenario: &Scenario, id: NodeId, addresses: &BTreeMap<NodeId, IpAddr>) -> Config {
    let mut config = Config::new(id);
    let member = |(&id, &address): (&NodeId, &IpAddr)| Member::new(id, address).named(name(id.get()));
    if scenario.world.node_list {
        config.nodes = addresses.iter().map(member).collect();
    }
    config.network.transport = match scenario.world.unicast {
        true => TransportKind::Unicast,
        false => TransportKind::Multicast,
    };
    config.network.bind = Some(addresses[&id]);
    config.network.port = Some(udp::PORT);
    config.totem = scenario.totem();
    config.dc = scenario.dc_of(id);
    scenario.electorate.configure(&mut config, scenario.nodes);
    config
}

/// The data of a host: what it needs to run, and what survives its lives.
#[derive(Clone)]
struct Home {
    config: Config,
    seed: u64,
    load: Option<Load>,
    heartbeat: Duration,
    hosts: Hosts,
    disk: Memory,
    lives: Lives,
    log: Log,
}

impl Home {
    /// Runs one life, which ends with a crash or an error.
    async fn live<F>(self, service: impl FnOnce(Host) -> F) -> Result<(), Box<dyn Error>>
    where
        F: Future<Output = Result<(), Box<dyn Error>>>,
    {
        let id = self.config.node;
        let began_at = turmoil::sim_elapsed().unwrap_or_default();
        let (sender, orders) = mpsc::unbounded_channel();
        let (life, clock) = {
            let mut lives = self.lives.borrow_mut();
            let Latest { start, ppm, .. } = *lives.entry(id).or_default();
            let clock = Arc::new(Mutex::new(clock::Clock::new(micros(began_at), ppm)));
            let (start, of_host) = (start + 1, Some(Arc::clone(&clock)));
            lives.insert(id, Latest { start, alive: true, ppm, clock: of_host, orders: Some(sender) });
            (Life { node: id, start }, own(clock, began_at))
        };
        self.log.write().record(began_at, life, What::Started);

        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(id.get()) << 32 | u64::from(life.start));
        let sockets = SimulatedUdp::bind(id, self.hosts, self.log.clone()).await?;
        let path = Path::new(&self.config, sockets.home())?;
        let (store, stored) = disk::open(&self.disk, began_at);
        let member = DcMember::new(&self.config, stored, rng.random(), clock.now())?;
        let dc = member.dc(clock.clone());
        let observed = Observed::new(member, life, began_at, self.log);
        let (node, events) = quorate::run(observed, path, sockets, store, clock);
        if let Some(load) = self.load {
            tokio::spawn(send(load, node.clone(), rng));
        }
        tokio::spawn(act(dc.clone(), self.heartbeat, orders));
        service(Host { id, node: node.clone(), events, dc }).await?;
        // The node stops if its last handle is dropped.
        let _node = node;
        pending().await
    }
}

/// Returns a node's view of its clock. `now` is the simulated time.
fn own(clock: NodeClock, now: Duration) -> Clock {
    let started = Instant::now();
    Clock::new(move || {
        let clock = *clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock.show(micros(now + started.elapsed()))
    })
}

/// Acts as the application of a DC: sends heartbeats if they are required, and executes the
/// operator's orders.
async fn act(dc: Dc, heartbeat: Duration, mut orders: mpsc::UnboundedReceiver<Order>) {
    let looks = !heartbeat.is_zero();
    if looks {
        dc.set_heartbeat(Some(heartbeat));
    }
    let beats = || Instant::now() + heartbeat / 4;
    let mut beats_at = beats();
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                None => return,
                Some(Order::Hang(lasts)) => beats_at = beats_at.max(Instant::now() + lasts),
                Some(Order::GoOn) => beats_at = beats_at.min(beats()),
                Some(Order::Release) => {
                    let dc = dc.clone();
                    tokio::spawn(async move {
                        let released = dc.release().await;
                        tracing::info!(?released, "asked to give up the role");
                    });
                }
            },
            () = tokio::time::sleep_until(beats_at), if looks => {
                dc.beat();
                beats_at = beats();
            }
        }
    }
}

/// Sends the load of one life. Ends early if the ring accepts no more, because the node has left or
/// its service takes no events.
async fn send(load: Load, node: Node, mut rng: ChaCha8Rng) {
    let Ok(group) = Group::new("load") else { return };
    loop {
        tokio::time::sleep(2 * load.every * rng.random_range(0..=1000) / 1000).await;
        if turmoil::sim_elapsed().is_none_or(|now| now >= load.until) {
            return;
        }
        let mut payload = vec![0; rng.random_range(0..=load.longest)];
        rng.fill_bytes(&mut payload);
        let safe = rng.random_ratio(load.safe_percent.min(100), 100);
        let guarantee = if safe { Guarantee::Safe } else { Guarantee::Agreed };
        if let Err(error) = node.multicast(&group, guarantee, Bytes::from(payload)).await {
            tracing::info!(%error, "the load ends");
            return;
        }
    }
}
