//! The search. It is breadth first, so that it finds a failure by a shortest path.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use bytes::Bytes;
use quorate_membership::{Destination, NodeId, RingId, Seq, Transmit};

use super::node::{Input, Node, Output};
use super::trail::{Cluster, Counterexample, Step, guarantee};
use super::{Bounds, Explored, properties};
use crate::invariants::{self, Violation};

/// Visits all states within these bounds, and checks each of them. `progress` is called after each
/// step of depth.
///
/// # Errors
/// The shortest path to a state in which a property fails.
pub fn explore(
    bounds: &Bounds,
    mut progress: impl FnMut(&Explored),
) -> Result<Explored, Box<Counterexample>> {
    let began = Instant::now();
    let mut model = Model::default();
    let mut trail: Vec<(u32, Step)> = Vec::new();
    let mut known = BTreeSet::new();
    let first = model.first(bounds);
    model.check(&first, 0, first.nodes[0]).map_err(|wrong| Counterexample::new(bounds, Vec::new(), wrong))?;
    known.insert(first.fingerprint());
    trail.push((0, Step::Start(0)));
    let mut level = vec![(first, 0u32)];
    let mut explored = Explored { states: 1, ..Explored::default() };
    let mut steps = Vec::new();
    let mut full = false;
    while !level.is_empty() && !full && bounds.depth.is_none_or(|depth| explored.depth < depth) {
        let mut next = Vec::new();
        for (state, place) in level.drain(..) {
            if model.rings(&state) > bounds.rings {
                explored.cut += 1;
                continue;
            }
            steps.clear();
            model.steps(&state, &mut steps);
            for &step in &steps {
                explored.transitions += 1;
                let after = match model.apply(&state, step) {
                    Ok(after) => after,
                    Err(violation) => {
                        return Err(Box::new(Counterexample::new(
                            bounds,
                            way(&trail, place, step),
                            violation,
                        )));
                    }
                };
                if !known.insert(after.fingerprint()) {
                    continue;
                }
                let here = trail.len() as u32;
                trail.push((place, step));
                next.push((after, here));
            }
            full = bounds.states.is_some_and(|most| trail.len() as u64 >= most);
            if full {
                break;
            }
        }
        if !next.is_empty() {
            explored.depth += 1;
        }
        explored.states = trail.len() as u64;
        explored.local = model.nodes.len() as u64;
        explored.took = began.elapsed();
        level = next;
        explored.open = level.len() as u64;
        progress(&explored);
    }
    explored.exhausted = level.is_empty() && !full;
    Ok(explored)
}

/// Returns the steps from the first state to this one, followed by the last step.
fn way(trail: &[(u32, Step)], mut place: u32, last: Step) -> Vec<Step> {
    let mut steps = vec![last];
    while place != 0 {
        let (before, step) = trail[place as usize];
        steps.push(step);
        place = before;
    }
    steps.reverse();
    steps
}

/// A state of the cluster. Nodes and datagrams are given by their numbers in the [`Model`].
#[derive(Clone, Hash)]
struct State {
    nodes: Box<[u32]>,
    /// The datagrams under way, by sender and receiver, in the order of sending.
    links: Box<[Vec<u32>]>,
    left: Left,
}

/// The remaining budget of each kind of event.
#[derive(Clone, Copy, Hash)]
struct Left {
    messages: u8,
    timers: u8,
    losses: u8,
    duplicates: u8,
    overtakings: u8,
    crashes: u8,
}

impl State {
    fn fingerprint(&self) -> u64 {
        let mut state = DefaultHasher::new();
        self.hash(&mut state);
        state.finish()
    }

    fn link(&self, from: u8, to: u8) -> usize {
        usize::from(from) * self.nodes.len() + usize::from(to)
    }
}

/// All states of single nodes and all datagrams seen so far, with the effect of each input on each
/// node. Each effect is computed once. The states of the cluster are far more, but they are
/// combinations of these.
#[derive(Default)]
struct Model {
    nodes: Vec<Node>,
    numbers: BTreeMap<u64, u32>,
    /// The number of rings that each node had installed before the first state.
    at_first: u8,
    datagrams: Vec<Bytes>,
    datagram_numbers: BTreeMap<Bytes, u32>,
    effects: BTreeMap<(u32, Key), Effect>,
    /// The combinations of logs that have been checked.
    checked: BTreeSet<Vec<u64>>,
}

/// An [`Input`] as a key for lookups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Datagram { from: u8, datagram: u32 },
    Timer { late: bool },
    Multicast { safe: bool },
    Crash,
    Start,
}

/// The effect of an input on a node.
#[derive(Clone)]
struct Effect {
    node: u32,
    sent: Box<[(Option<u8>, u32)]>,
    token: Option<(RingId, Seq)>,
    told: bool,
}

impl Model {
    fn first(&mut self, bounds: &Bounds) -> State {
        let Cluster { nodes, links } = Cluster::at(bounds);
        self.at_first = nodes.iter().map(|node| node.rings).max().unwrap_or_default();
        let links =
            links.into_iter().map(|link| link.iter().map(|bytes| self.datagram(bytes)).collect()).collect();
        State {
            nodes: nodes.into_iter().map(|node| self.node(node)).collect(),
            links,
            left: Left {
                messages: bounds.messages,
                timers: bounds.timers,
                losses: bounds.losses,
                duplicates: bounds.duplicates,
                overtakings: bounds.overtakings,
                crashes: bounds.crashes,
            },
        }
    }

    fn node(&mut self, node: Node) -> u32 {
        let Self { nodes, numbers, .. } = self;
        *numbers.entry(node.fingerprint()).or_insert_with(|| {
            nodes.push(node);
            nodes.len() as u32 - 1
        })
    }

    fn datagram(&mut self, bytes: &Bytes) -> u32 {
        if let Some(&number) = self.datagram_numbers.get(bytes) {
            return number;
        }
        let number = self.datagrams.len() as u32;
        self.datagrams.push(bytes.clone());
        self.datagram_numbers.insert(bytes.clone(), number);
        number
    }

    /// Returns the number of rings installed since the first state, by the node that installed the
    /// most.
    fn rings(&self, state: &State) -> u8 {
        let installed = |&number: &u32| self.nodes[number as usize].rings.saturating_sub(self.at_first);
        state.nodes.iter().map(installed).max().unwrap_or_default()
    }

    /// Collects the steps that are possible next.
    fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        let Left { messages, timers, losses, duplicates, overtakings, crashes } = state.left;
        let count = state.nodes.len() as u8;
        for from in 0..count {
            for to in 0..count {
                let link = &state.links[state.link(from, to)];
                if link.is_empty() {
                    continue;
                }
                steps.push(Step::Deliver(from, to));
                if from == to {
                    continue;
                }
                if losses > 0 {
                    steps.push(Step::Lose(from, to));
                }
                if duplicates > 0 {
                    steps.push(Step::Duplicate(from, to));
                }
                if overtakings > 0 && link.len() > 1 && link[0] != link[1] {
                    steps.push(Step::Overtake(from, to));
                }
            }
        }
        for node in 0..count {
            if !self.nodes[state.nodes[usize::from(node)] as usize].is_up() {
                steps.push(Step::Start(node));
                continue;
            }
            if timers > 0 {
                steps.push(Step::Timer(node, false));
                steps.push(Step::Timer(node, true));
            }
            if messages > 0 {
                steps.push(Step::Multicast(node, messages % 2 == 1));
            }
            if crashes > 0 {
                steps.push(Step::Crash(node));
            }
        }
    }

    fn apply(&mut self, state: &State, step: Step) -> Result<State, Violation> {
        let mut next = state.clone();
        let (node, key) = match step {
            Step::Deliver(from, to) => {
                let datagram = next.links[state.link(from, to)].remove(0);
                (to, Key::Datagram { from, datagram })
            }
            Step::Duplicate(from, to) => {
                let link = &mut next.links[state.link(from, to)];
                let datagram = link.remove(0);
                link.push(datagram);
                next.left.duplicates -= 1;
                (to, Key::Datagram { from, datagram })
            }
            Step::Lose(from, to) => {
                next.links[state.link(from, to)].remove(0);
                next.left.losses -= 1;
                return Ok(next);
            }
            Step::Overtake(from, to) => {
                next.links[state.link(from, to)].swap(0, 1);
                next.left.overtakings -= 1;
                return Ok(next);
            }
            Step::Timer(node, late) => {
                next.left.timers -= 1;
                (node, Key::Timer { late })
            }
            Step::Multicast(node, safe) => {
                next.left.messages -= 1;
                (node, Key::Multicast { safe })
            }
            Step::Crash(node) => {
                next.left.crashes -= 1;
                next.links[state.link(node, node)].clear();
                (node, Key::Crash)
            }
            Step::Start(node) => (node, Key::Start),
        };
        let index = usize::from(node);
        let before = state.nodes[index];
        let Effect { node: after, sent, token, told } = self.effect(before, key);
        next.nodes[index] = after;
        for (to, datagram) in sent {
            for other in 0..state.nodes.len() as u8 {
                if to.is_none_or(|to| to == other) && (to.is_some() || other != node) {
                    next.links[state.link(node, other)].push(datagram);
                }
            }
        }
        if let Some(token) = token {
            let all = state.nodes.iter().map(|&number| &self.nodes[number as usize]);
            properties::one_token(all, self.nodes[before as usize].id(), token)?;
        }
        if told {
            self.check(&next, index, before)?;
        }
        Ok(next)
    }

    /// Checks what a node's application received against what the others received.
    fn check(&mut self, state: &State, index: usize, before: u32) -> Result<(), Violation> {
        let nodes: Vec<&Node> = state.nodes.iter().map(|&number| &self.nodes[number as usize]).collect();
        properties::deliveries(&nodes, index, self.nodes[before as usize].log.len())?;
        let combination: Vec<u64> = nodes.iter().map(|node| node.log_print()).collect();
        if self.checked.contains(&combination) {
            return Ok(());
        }
        invariants::check(&properties::history(&nodes))?;
        self.checked.insert(combination);
        Ok(())
    }

    fn effect(&mut self, number: u32, key: Key) -> Effect {
        if let Some(effect) = self.effects.get(&(number, key)) {
            return effect.clone();
        }
        let mut node = self.nodes[number as usize].clone();
        let Output { sent, told, token } = node.take(match key {
            Key::Datagram { from, datagram } => {
                let from = NodeId::new(u32::from(from) + 1).unwrap_or_else(|| unreachable!("above 0"));
                Input::Datagram(from, &self.datagrams[datagram as usize])
            }
            Key::Timer { late } => Input::Timer { late },
            Key::Multicast { safe } => Input::Multicast(guarantee(safe)),
            Key::Crash => Input::Crash,
            Key::Start => Input::Start,
        });
        let sent = sent
            .iter()
            .map(|Transmit { to, datagram }| {
                let to = match to {
                    Destination::Everyone => None,
                    Destination::Member(node) => Some((node.get() - 1) as u8),
                };
                (to, self.datagram(datagram))
            })
            .collect();
        let effect = Effect { node: self.node(node), sent, token, told: !told.is_empty() };
        self.effects.insert((number, key), effect.clone());
        effect
    }
}
