//! Scenarios drawn from a seed.
//!
//! A seed first draws the classes of faults, so that each class occurs both with and without each
//! of the others. It then draws how often they happen and how severe they are. Small windows,
//! buffers and limits make rare branches common.

mod faults;

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_membership::config::{TieBreaker, TotemConfig};
use quorate_membership::{NodeId, Seq, Totem};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fault::{Forged, Share};
use crate::{Electorate, Fault, Load, Scenario};

impl Scenario {
    /// Returns the scenario of this seed for bare members ([`Scenario::run_core`]). It draws a
    /// cluster of one to seven nodes, or occasionally sixteen, its timeouts and limits, its load
    /// and its faults, and a calm at the end.
    pub fn random(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1 << 63);
        let nodes =
            *[1, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 6, 7, 7, 16].choose(&mut rng).unwrap_or(&3);
        let token = Duration::from_millis(rng.random_range(130..=500));
        let calm_at = Duration::from_millis(rng.random_range(2000..8000));
        let mut scenario = Self::new(nodes, calm_at).token(token).seed(seed).calm(calm_at);
        let mut draw = Draw { rng, nodes, token, calm_at, timeline: Vec::new() };
        draw.limits(&mut scenario.totem);
        draw.world(&mut scenario);
        draw.load(&mut scenario);
        draw.trouble();
        let mut timeline = draw.timeline;
        timeline.sort_by_key(|(at, _)| *at);
        // A lost record is replaced from the wall clock, which works only while the clock is ahead
        // of every ring.
        if scenario.world.ring_seq > 1 << 40 {
            timeline.retain(|(_, fault)| !matches!(fault, Fault::LoseRecord(_)));
        }
        // A message that is longer than the limit for unread events makes its receiver leave the
        // ring, with or without faults.
        if scenario.totem.unread_limit < Draw::MOST_UNREAD {
            timeline.retain(|(_, fault)| !matches!(fault, Fault::Send { length: Draw::MEGABYTE, .. }));
        }
        scenario.timeline = timeline;
        scenario.world.loss = always_lost(seed, nodes, &scenario.totem);
        // Nodes check quorum options against the votes in their list, so without a list there are
        // no options.
        if scenario.world.node_list {
            scenario.electorate = electorate(seed, nodes, token);
        }
        tenures(seed, &mut scenario);
        preferences(seed, &mut scenario);
        evidence(seed, &mut scenario);
        windows(seed, &mut scenario);
        views(seed, &mut scenario);
        files(seed, &mut scenario);
        paths(seed, &mut scenario);
        firewalls(seed, &mut scenario);
        forgeries(seed, &mut scenario);
        apart(seed, &mut scenario);
        scenario
    }

    /// Returns the scenario of this seed for complete nodes ([`Scenario::run_nodes`]). It is
    /// smaller and shorter, with the faults that turmoil and the layers above it can produce.
    pub fn random_nodes(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream((1 << 63) + 1);
        let nodes = *[2, 3, 3, 3, 4, 5, 5].choose(&mut rng).unwrap_or(&3);
        let token = Duration::from_millis(rng.random_range(150..=250));
        let calm_at = Duration::from_millis(rng.random_range(1500..3000));
        let mut scenario = Self::new(nodes, calm_at).token(token).seed(seed).calm(calm_at);
        preferences(seed, &mut scenario);
        let load = Load {
            every: Duration::from_millis(rng.random_range(8..40)),
            until: calm_at,
            longest: *[50, 300, 1400, 5000].choose(&mut rng).unwrap_or(&300),
            safe_percent: *[0, 30, 100].choose(&mut rng).unwrap_or(&30),
        };
        let mut draw = Draw { rng, nodes, token, calm_at, timeline: Vec::new() };
        let share = *[0.1, 0.2, 0.4].choose(&mut draw.rng).unwrap_or(&0.2);
        for class in faults::of_nodes() {
            if draw.rng.random_bool(share) {
                class(&mut draw);
            }
        }
        let mut timeline = [draw.timeline, scenario.timeline.clone()].concat();
        timeline.sort_by_key(|(at, _)| *at);
        windows(seed, &mut scenario);
        paths(seed, &mut scenario);
        let length = calm_at + scenario.settles_within() + 2 * token;
        Self { length, timeline, ..scenario.load(load) }
    }
}

/// Draws the share of datagrams, in a million, that are lost all the time in a few scenarios. It is
/// at most 5 %, and less if the token has many hops or its timeout is too short to send it three
/// more times. Otherwise the token would be lost again and again without any bug. Drawn from a
/// separate stream, so that the other scenarios do not depend on it.
fn always_lost(seed: u64, nodes: u32, totem: &TotemConfig) -> u32 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 1);
    let share: u32 = *[1_000, 5_000, 10_000, 20_000, 50_000].choose(&mut rng).unwrap_or(&0);
    let in_a_rotation = if totem.token >= 4 * totem.token_retransmit { 350_000 } else { 70_000 };
    if rng.random_ratio(1, 15) { share.min(in_a_rotation / nodes) } else { 0 }
}

/// Draws the votes. In every third scenario they count by other rules than a majority of one each.
/// Drawn from a separate stream.
fn electorate(seed: u64, nodes: u32, token: Duration) -> Electorate {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 2);
    let mut electorate = Electorate::default();
    if !rng.random_ratio(1, 3) {
        return electorate;
    }
    let mut ids: Vec<NodeId> = (1..=nodes).filter_map(NodeId::new).collect();
    let quorum = &mut electorate.quorum;
    quorum.two_node = rng.random_ratio(1, if nodes == 2 { 2 } else { 10 });
    if rng.random_ratio(1, 2) {
        quorum.wait_for_all = Some(rng.random_ratio(4, 5));
    }
    if rng.random_ratio(1, 3) {
        quorum.last_man_standing = true;
        quorum.last_man_standing_window = token * rng.random_range(1..8);
    }
    if rng.random_ratio(1, 2) {
        ids.shuffle(&mut rng);
        ids.truncate(rng.random_range(1..=nodes as usize));
        let choices = [TieBreaker::Lowest, TieBreaker::Highest, TieBreaker::List(ids)];
        quorum.auto_tie_breaker = choices.choose(&mut rng).cloned();
    }
    quorum.allow_downscale = rng.random_ratio(1, 5);
    quorum.expected_votes_tracking = rng.random_ratio(1, 8);
    if rng.random_ratio(1, 10) {
        quorum.expected_votes = Some(rng.random_range(1..=nodes + 1));
    }
    if rng.random_ratio(1, 4) {
        let heavy = rng.random_range(1..=nodes);
        electorate.votes.insert(heavy, rng.random_range(2..=3));
        let light = rng.random_range(1..=nodes);
        electorate.votes.entry(light).or_insert(0);
    }
    if rng.random_ratio(1, 10) {
        electorate.dissenter = Some(rng.random_range(1..=nodes));
    }
    // No node would start with these options.
    if electorate.quorum.auto_tie_breaker.is_some() && electorate.quorum.last_man_standing {
        electorate.quorum.wait_for_all = Some(true);
        electorate.dissenter = None;
    }
    electorate
}

/// Draws the length of leases, the assumed error of clocks, and the wait at a start. Drawn from a
/// separate stream.
fn tenures(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 3);
    let token = scenario.totem.token;
    // These leases are longer than a ring takes to exclude a member, so that only the wait keeps
    // two nodes from acting at once.
    if rng.random_ratio(1, 2) {
        let lease = token * rng.random_range(100..600) / 100;
        scenario.world.lease = lease.max(5 * scenario.totem.hold);
    }
    scenario.world.rate_error = *[500, 10_000, 50_000, 50_000].choose(&mut rng).unwrap_or(&10_000);
    if rng.random_ratio(1, 5) {
        scenario.world.dc_deadtime = token * rng.random_range(50..300) / 100;
    }
}

/// Draws when an application counts as hung, and the nodes that the operator prefers as DC. Drawn
/// from a separate stream.
fn preferences(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 4);
    // An acting application sends at least four heartbeats in a token timeout.
    if rng.random_ratio(1, 2) {
        scenario.world.heartbeat = scenario.totem.token * rng.random_range(50..300) / 100;
    }
    if rng.random_ratio(1, 3) {
        scenario.world.preempt = rng.random_ratio(2, 3);
        for node in 1..=scenario.nodes {
            let priority = *[0, 1, 1, 1, 2, 3].choose(&mut rng).unwrap_or(&1);
            if priority != 1 {
                scenario.world.priorities.0.insert(node, priority);
            }
        }
    }
    // A preferred node would be the DC from the start. It has to start late to be handed the role.
    let preferred = scenario.world.priorities.0.iter().max_by_key(|(_, priority)| **priority);
    if let Some((&node, 2..)) = preferred.filter(|_| scenario.world.preempt)
        && let Some(calm_at) = scenario.calm_at
    {
        let at = calm_at * rng.random_range(20..60) / 100;
        scenario.timeline.push((at, Fault::Crash(node)));
        scenario.timeline.push((at + (calm_at - at) * rng.random_range(20..60) / 100, Fault::Restart(node)));
        scenario.timeline.sort_by_key(|(at, _)| *at);
    }
}

/// In half of the scenarios, members agree on larger windows, if these exceed the configured ones.
/// Drawn from a separate stream.
fn windows(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 6);
    if rng.random_ratio(1, 2) {
        scenario.totem.largest_window = *[20, 60, 200, 1024, 4096].choose(&mut rng).unwrap_or(&200);
    }
}

/// In every fourth scenario, a node is kept out of every ring but hears some of the traffic. Either
/// its disk is full while others restart, so that ring sequence numbers outrun its record, or its
/// address is gone. Drawn from a separate stream.
fn views(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 11);
    let Some(calm_at) = scenario.calm_at.filter(|_| rng.random_ratio(1, 4)) else { return };
    let (nodes, token) = (scenario.nodes, scenario.totem.token);
    for _ in 0..rng.random_range(1..=3) {
        let at = calm_at * rng.random_range(1..90) / 100;
        let lasts = token * rng.random_range(50..1000) / 100;
        let node = rng.random_range(1..=nodes);
        if rng.random_ratio(1, 2) {
            scenario.timeline.push((at, Fault::LoseAddress(node)));
            scenario.timeline.push((at + lasts, Fault::RegainAddress(node)));
            continue;
        }
        scenario.timeline.push((at, Fault::FullDisk { node, lasts }));
        for _ in 0..rng.random_range(1..=3) {
            let other = rng.random_range(1..=nodes);
            let at = at + lasts * rng.random_range(1..80) / 100;
            if other != node {
                scenario.timeline.push((at, Fault::Restart(other)));
            }
        }
    }
    scenario.timeline.retain(|(at, _)| *at < calm_at);
    scenario.timeline.sort_by_key(|(at, _)| *at);
}

/// In every tenth scenario, firewalls reject incoming datagrams for a moment. Drawn from a separate
/// stream.
fn firewalls(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 12);
    let Some(calm_at) = scenario.calm_at.filter(|_| rng.random_ratio(1, 10)) else { return };
    for _ in 0..rng.random_range(1..=4) {
        let at = calm_at * rng.random_range(1..95) / 100;
        let lasts = Duration::from_millis(rng.random_range(5..400));
        let node = rng.random_range(1..=scenario.nodes);
        scenario.timeline.push((at, Fault::Reject { node, lasts }));
    }
    scenario.timeline.sort_by_key(|(at, _)| *at);
}

/// In every tenth scenario, datagrams arrive that no node has sent. Without a node list, an id
/// belongs to the first node that claims it, so there are no forged claims then. Drawn from a
/// separate stream.
fn forgeries(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 13);
    let Some(calm_at) = scenario.calm_at.filter(|_| rng.random_ratio(1, 10)) else { return };
    for _ in 0..rng.random_range(1..=20) {
        let at = calm_at * rng.random_range(0..99) / 100;
        let [to, of] = [0; 2].map(|_| rng.random_range(1..=scenario.nodes));
        let (says, _) = *Forged::ALL.choose(&mut rng).unwrap_or(&Forged::ALL[0]);
        if says != Forged::Claim || scenario.world.node_list {
            scenario.timeline.push((at, Fault::Forge { to, of, says }));
        }
    }
    // A forged number may be ahead of the wall clock, from which a lost record is replaced.
    scenario.timeline.retain(|(_, fault)| !matches!(fault, Fault::LoseRecord(_)));
    scenario.timeline.sort_by_key(|(at, _)| *at);
}

/// In every twelfth scenario, some links are cut for good. Either two nodes do not reach each
/// other, or one node is cut off from all others, in one direction or both. If one node lacked only
/// some of several links, two halves could continue without each other, and nothing is required of
/// that case. Drawn from a separate stream.
fn apart(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 14);
    let nodes = scenario.nodes;
    let refiled = scenario.timeline.iter().any(|(_, fault)| matches!(fault, Fault::File { .. }));
    let Some(calm_at) = scenario.calm_at.filter(|_| nodes > 2 && !refiled && rng.random_ratio(1, 12)) else {
        return;
    };
    let at = calm_at * rng.random_range(0..99) / 100;
    let mut others: Vec<u32> = (1..=nodes).collect();
    others.shuffle(&mut rng);
    let one = others.pop().unwrap_or(1);
    if rng.random_ratio(1, 2) {
        others.truncate(1);
    }
    let ways = rng.random_range(1..=3);
    for other in others {
        if ways & 1 != 0 {
            scenario.timeline.push((at, Fault::Deafen { from: one, to: other }));
        }
        if ways & 2 != 0 {
            scenario.timeline.push((at, Fault::Deafen { from: other, to: one }));
        }
    }
    scenario.timeline.sort_by_key(|(at, _)| *at);
}

/// Draws the path: without multicast in every sixth scenario with a node list. Drawn from a
/// separate stream.
fn paths(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 15);
    scenario.world.unicast = scenario.world.node_list && rng.random_ratio(1, 6);
}

/// In every eighth scenario, nodes have configuration files of their own. They begin with a file
/// that lists some of them, are given other files, old and new, and in the end all get the same
/// file with all nodes in it.
///
/// Every file lists a node that is there from the beginning, because a node without a record that
/// lists no node of a cluster is another cluster. Another case without any promise is a voter that
/// loses its record and is given another list at once.
///
/// Every eighth scenario with plain quorum begins with nodes that were never started. Drawn from a
/// separate stream.
fn files(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 7);
    let refiled = scenario.nodes > 2 && scenario.world.node_list && rng.random_ratio(1, 8);
    scenario.world.fresh =
        rng.random_ratio(1, 8) && (refiled || scenario.electorate == Electorate::default());
    let Some(calm_at) = scenario.calm_at.filter(|_| refiled) else { return };
    scenario.timeline.retain(|(_, fault)| !matches!(fault, Fault::LoseRecord(_)));
    scenario.electorate = Electorate::default();
    let nodes = scenario.nodes;
    let always = rng.random_range(1..=nodes);
    let draw = |rng: &mut ChaCha8Rng| {
        let mut ids: Vec<u32> = (1..=nodes).collect();
        ids.shuffle(rng);
        ids.truncate(rng.random_range(1..=nodes as usize));
        let votes = |rng: &mut ChaCha8Rng| if rng.random_ratio(1, 12) { 2 } else { 1 };
        ids.retain(|node| *node != always);
        ids.push(always);
        let voters: BTreeMap<u32, u32> = ids.into_iter().map(|node| (node, votes(rng))).collect();
        (voters, rng.random_ratio(1, 6))
    };
    let first = draw(&mut rng);
    let mut old = vec![first.clone()];
    let mut timeline = Vec::new();
    let mut file = |at: Duration, node: u32, (mut voters, waits): (BTreeMap<u32, u32>, bool)| {
        // No node would start with a file that does not list it.
        voters.entry(node).or_insert(1);
        timeline.push((at, Fault::File { node, voters, waits }));
        if !at.is_zero() {
            timeline.push((at, Fault::Restart(node)));
        }
    };
    first.0.keys().for_each(|&node| file(Duration::ZERO, node, first.clone()));
    for _ in 0..rng.random_range(1..=nodes) {
        if rng.random_ratio(1, 2) {
            old.push(draw(&mut rng));
        }
        let given = old.choose(&mut rng).cloned().unwrap_or_default();
        file(calm_at * rng.random_range(5..70) / 100, rng.random_range(1..=nodes), given);
    }
    let all: BTreeMap<u32, u32> = (1..=nodes).map(|node| (node, 1)).collect();
    for node in 1..=nodes {
        file(calm_at * rng.random_range(70..98) / 100, node, (all.clone(), false));
    }
    let strangers = (1..=nodes).filter(|node| !first.0.contains_key(node));
    timeline.extend(strangers.map(|node| (Duration::ZERO, Fault::Crash(node))));
    scenario.timeline.extend(timeline);
    scenario.timeline.sort_by_key(|(at, _)| *at);
}

/// In every second scenario, nodes accept reports that a process is gone, probe each other, and
/// receive false reports. Drawn from a separate stream.
fn evidence(seed: u64, scenario: &mut Scenario) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((1 << 63) + 5);
    if rng.random_ratio(1, 2) {
        return;
    }
    scenario.totem.failure_evidence = true;
    if rng.random_ratio(3, 4) {
        scenario.totem.probe = Duration::from_millis(rng.random_range(5..=50));
    }
    let Some(calm_at) = scenario.calm_at.filter(|_| rng.random_ratio(1, 2)) else { return };
    for _ in 0..rng.random_range(1..=6) {
        let mut at = calm_at * rng.random_range(1..99) / 100;
        let [to, of] = [0; 2].map(|_| rng.random_range(1..=scenario.nodes));
        // A single report is verified, and two are believed.
        for _ in 0..rng.random_range(1..=3) {
            scenario.timeline.push((at, Fault::Lie { to, of }));
            at += Duration::from_micros(rng.random_range(1..20_000));
        }
    }
    scenario.timeline.retain(|(at, fault)| *at < calm_at || !matches!(fault, Fault::Lie { .. }));
    scenario.timeline.sort_by_key(|(at, _)| *at);
}

struct Draw {
    rng: ChaCha8Rng,
    nodes: u32,
    token: Duration,
    calm_at: Duration,
    timeline: Vec<(Duration, Fault)>,
}

impl Draw {
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(least..=most))
    }

    /// Draws a time span between `least` and `most` token timeouts.
    fn tokens(&mut self, least: f64, most: f64) -> Duration {
        let times = self.rng.random_range(least..most);
        Duration::from_micros((self.token.as_micros() as f64 * times) as u64)
    }

    fn node(&mut self) -> u32 {
        self.rng.random_range(1..=self.nodes)
    }

    fn two(&mut self) -> Option<(u32, u32)> {
        let a = self.node();
        let b = self.node();
        (a != b).then_some((a, b))
    }

    fn percent(&mut self, choices: &[f64]) -> Share {
        let percent = choices.choose(&mut self.rng).copied().unwrap_or_default();
        Share((percent * 10_000.0) as u32)
    }

    /// Draws a time before the calm.
    fn when(&mut self) -> Duration {
        Duration::from_micros(self.rng.random_range(1000..self.calm_at.as_micros() as u64))
    }

    /// Draws a number of repetitions, from 1 to `most`.
    fn times(&mut self, most: u32) -> u32 {
        self.rng.random_range(1..=most)
    }

    fn at(&mut self, at: Duration, fault: Fault) {
        if at < self.calm_at {
            self.timeline.push((at, fault));
        }
    }

    fn limits(&mut self, totem: &mut TotemConfig) {
        let ms = |time: Duration| time.as_millis() as u64;
        let token = ms(totem.token);
        if self.one_in(4) {
            totem.token_retransmit = self.ms(30, token / 2);
        }
        if self.one_in(4) {
            totem.hold = self.ms(14, ms(totem.token_retransmit).min(token * 2 / 5).max(15));
        }
        totem.consensus = match self.rng.random_range(0..20) {
            0 => totem.token,
            1..5 => self.ms(token * 12 / 10, token * 3),
            _ => totem.consensus,
        };
        totem.join = self.ms(30, 60);
        totem.send_join = self.ms(0, 20);
        totem.merge = self.ms(30, 200);
        if self.one_in(2) {
            totem.window_size = self.rng.random_range(1..=50);
        }
        if self.one_in(2) {
            totem.max_messages = self.rng.random_range(1..=17);
        }
        if self.one_in(2) {
            totem.miss_count_const = self.rng.random_range(1..=5);
        }
        if self.one_in(3) {
            totem.seqno_unchanged_const = self.rng.random_range(1..=30);
        }
        if self.one_in(3) {
            totem.fail_recv_const = self.rng.random_range(20..=500);
        }
        if self.one_in(4) {
            totem.netmtu = self.rng.random_range(300..=1500);
        }
        totem.cancel_token_hold_on_retransmit = self.one_in(2);
        if self.one_in(5) {
            totem.unread_limit = self.rng.random_range(1 << 20..Self::MOST_UNREAD);
        }
        if self.one_in(5) {
            totem.first_seq = Seq::new(u32::MAX - self.rng.random_range(0..2000));
        }
    }

    fn world(&mut self, scenario: &mut Scenario) {
        let micros: &[u64] = if self.nodes > 7 { &[100, 300, 500] } else { &[100, 300, 1000, 1000, 2000] };
        let latency = micros.choose(&mut self.rng).copied().unwrap_or(1000);
        scenario.world.latency = Duration::from_micros(latency);
        if self.one_in(3) {
            scenario.world.disk = self.ms(1, 30);
        }
        if self.one_in(3) {
            scenario.world.receive_buffer = self.rng.random_range(8..=256);
        }
        scenario.world.node_list = !self.one_in(10);
        if self.one_in(10) {
            let near = [1 << 32, Totem::MAX_RING_SEQ / 2].choose(&mut self.rng).copied().unwrap_or(1 << 32);
            scenario.world.ring_seq = near - self.rng.random_range(0..3000);
        }
    }

    /// Draws the load. It is at most half of what the ring can carry, or it would never be
    /// delivered.
    fn load(&mut self, scenario: &mut Scenario) {
        let totem = &scenario.totem;
        let longest = *[50, 300, 1400, 1400, 5000, 20_000].choose(&mut self.rng).unwrap_or(&300);
        let safe_percent = *[0, 30, 50, 100].choose(&mut self.rng).unwrap_or(&50);
        let frames = longest as u64 / 2 / u64::from(totem.netmtu - 100) + 1;
        let window = u64::from(totem.window_size.min(totem.max_messages * self.nodes));
        let rotation = u64::from(self.nodes) * scenario.world.latency.as_micros() as u64;
        let least = 2 * u64::from(self.nodes) * frames * rotation / window;
        let every = self.rng.random_range(2000..40_000u64).max(least);
        scenario.load =
            Some(Load { every: Duration::from_micros(every), until: self.calm_at, longest, safe_percent });
    }
}
