//! Replicas on an abstract ring: one order of messages for each ring, and changes of rings at any
//! moment, with crashes. Only what extended virtual synchrony promises is given.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::catch_unwind;

use quorate_election::{NodeStatus, Status};
use quorate_membership::{Delivery, DeviceState, Metadata, Regular, RingId, Seq, Transitional};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fold::{Action, Fold};
use super::message::{Message, Transfer};
use super::*;

/// All writes so far.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Log(Vec<u64>);

impl State for Log {
    type Output = usize;

    fn apply(&mut self, write: &[u8]) -> usize {
        self.0.push(u64::from_le_bytes(write.try_into().expect("a write")));
        self.0.len()
    }

    fn snapshot(&self) -> Bytes {
        self.0.iter().flat_map(|write| write.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn restore(snapshot: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let (writes, []) = snapshot.as_chunks() else { return Err("not a log".into()) };
        Ok(Self(writes.iter().map(|write| u64::from_le_bytes(*write)).collect()))
    }
}

/// A message on its way.
#[derive(Clone)]
struct Sent {
    from: NodeId,
    safe: bool,
    bytes: Bytes,
}

/// A ring: its messages in their order.
#[derive(Default)]
struct Ring {
    order: Vec<Sent>,
    /// The number of messages that every member has received, because a member has delivered a safe
    /// one before the ring broke.
    promised: usize,
}

struct Member {
    fold: Fold<Log>,
    /// Messages that have no place in the order yet.
    queue: VecDeque<Sent>,
    ring: Option<(RingId, BTreeSet<NodeId>)>,
    /// How many messages of the ring it has received, and how many of these it has delivered.
    received: usize,
    delivered: usize,
    /// The snapshot that it sends, and the next part.
    sending: Option<(Transfer, Bytes, usize)>,
    under_way: usize,
    calls: BTreeMap<u64, u64>,
    number: u64,
}

/// The part of a snapshot that one message carries: 2 writes.
const PART: usize = 16;

struct World {
    rng: ChaCha8Rng,
    nodes: Vec<NodeId>,
    up: BTreeMap<NodeId, Member>,
    rings: BTreeMap<RingId, Ring>,
    seq: u64,
    /// The voters on which the cluster has agreed, one agreement after the other.
    lists: Vec<BTreeSet<NodeId>>,
    /// The latest agreement that each node knows of, over restarts.
    knows: BTreeMap<NodeId, usize>,
    /// A node without votes and without a replica.
    silent: Option<NodeId>,
    writes: u64,
    /// The log up to the last write that was acknowledged.
    acknowledged: Vec<u64>,
    /// Whether there was a time when no voter remembered this, so that other histories may begin.
    is_lost: bool,
    outcomes: [usize; 3],
    transfers: usize,
    resumed: usize,
    agreed: usize,
}

fn id(n: u32) -> NodeId {
    NodeId::new(n).expect("not 0")
}

impl World {
    fn new(seed: u64, nodes: u32) -> Self {
        let silent = (seed % 4 == 3).then(|| id(nodes + 1));
        let nodes: Vec<NodeId> = (1..=nodes).map(id).collect();
        let voters = nodes.iter().copied().take(2 + seed as usize % 4).collect();
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            nodes: nodes.clone(),
            up: BTreeMap::new(),
            rings: BTreeMap::new(),
            seq: 0,
            lists: vec![voters],
            knows: nodes.iter().map(|&node| (node, 0)).collect(),
            silent,
            writes: 0,
            acknowledged: Vec::new(),
            is_lost: false,
            outcomes: [0; 3],
            transfers: 0,
            resumed: 0,
            agreed: 0,
        };
        nodes.iter().for_each(|&node| world.start(node));
        world
    }

    fn start(&mut self, node: NodeId) {
        self.up.entry(node).or_insert_with(|| Member {
            fold: Fold::new(node, 0, "log".parse().expect("a name"), Log::default()),
            queue: VecDeque::new(),
            ring: None,
            received: 0,
            delivered: 0,
            sending: None,
            under_way: 0,
            calls: BTreeMap::new(),
            number: 0,
        });
    }

    /// Does one thing, anywhere.
    fn step(&mut self) {
        let Some(&node) = self.up.keys().copied().collect::<Vec<_>>().choose(&mut self.rng) else {
            return self.start(id(1));
        };
        match self.rng.random_range(0..1000) {
            0..420 => self.deliver(node),
            420..620 => self.receive(node),
            620..860 => self.send(node),
            860..980 => self.write(node),
            980 => self.crash(node),
            981..984 => self.agree(node),
            984..991 => {
                let node = self.nodes.choose(&mut self.rng).copied();
                node.into_iter().for_each(|node| self.start(node));
            }
            _ => self.change(),
        }
    }

    /// A member ends without notice.
    fn crash(&mut self, node: NodeId) {
        let mut voters = self.lists.last().expect("the first").clone();
        voters.remove(&node);
        if self.may_leave_it_to(&voters) {
            self.up.remove(&node);
        }
    }

    /// The state is lost when no voter remembers it. Returns `false`, in most cases, if that would
    /// be so with these voters.
    fn may_leave_it_to(&mut self, voters: &BTreeSet<NodeId>) -> bool {
        let remembers = |node: &NodeId| self.up.get(node).is_some_and(|member| member.fold.remembers());
        // Nodes without a vote can have a state that voters begin anew without.
        let none = self.acknowledged.is_empty() && !self.up.keys().any(remembers);
        let keeps = none || voters.iter().any(remembers);
        let may = keeps || self.rng.random_bool(0.05);
        self.is_lost |= may && !keeps;
        may
    }

    fn write(&mut self, node: NodeId) {
        let Some(member) = self.up.get_mut(&node) else { return };
        // Some callers do not ask first.
        if member.fold.closed().is_some() && self.rng.random_bool(0.9) {
            return;
        }
        self.writes += 1;
        member.number += 1;
        let number = member.number;
        member.calls.insert(number, self.writes);
        let bytes = Message::Write { number }.encode(&self.writes.to_le_bytes());
        let safe = bug!(AgreedAcknowledged: false; true);
        member.queue.push_back(Sent { from: node, safe, bytes });
    }

    /// A member gives a message its place in the order.
    fn send(&mut self, node: NodeId) {
        let Some(member) = self.up.get_mut(&node) else { return };
        let Some(ring) = member.ring.as_ref().and_then(|(ring, _)| self.rings.get_mut(ring)) else { return };
        // Only the holder of the token sends, and it has all earlier messages.
        member.received = ring.order.len();
        if self.rng.random_bool(0.5)
            && member.under_way < 2
            && let Some((transfer, snapshot, next)) = &mut member.sending
        {
            let at = *next * PART;
            let part = snapshot.slice(at..snapshot.len().min(at + PART));
            let is_last = at + part.len() == snapshot.len();
            let index = u32::try_from(*next).expect("few");
            let bytes = Message::Part { transfer: *transfer, index, is_last }.encode(&part);
            member.queue.push_back(Sent { from: node, safe: false, bytes });
            member.under_way += 1;
            *next += 1;
            if is_last {
                member.sending = None;
            }
        }
        ring.order.extend(member.queue.pop_front());
        member.received = ring.order.len();
    }

    fn receive(&mut self, node: NodeId) {
        let Some(member) = self.up.get_mut(&node) else { return };
        let Some((ring, _)) = &member.ring else { return };
        let all = self.rings[ring].order.len();
        member.received = self.rng.random_range(member.received..=all);
    }

    /// A member delivers the next message, if the ring's rules permit that.
    fn deliver(&mut self, node: NodeId) {
        let Some(member) = self.up.get(&node) else { return };
        let Some((ring, members)) = member.ring.clone() else { return };
        let at = member.delivered;
        let Some(sent) = self.rings[&ring].order.get(at).filter(|_| at < member.received).cloned() else {
            return;
        };
        let has = |other: &NodeId| {
            let other =
                self.up.get(other).filter(|other| other.ring.as_ref().is_some_and(|(r, _)| *r == ring));
            other.is_some_and(|other| other.received > at)
        };
        if !sent.safe || members.iter().filter(|&&member| Some(member) != self.silent).all(has) {
            if sent.safe {
                let ring = self.rings.get_mut(&ring).expect("its ring");
                ring.promised = ring.promised.max(at + 1);
            }
            self.hand_over(node, ring, &sent, false);
        }
    }

    fn hand_over(&mut self, node: NodeId, ring: RingId, sent: &Sent, transitional: bool) {
        self.up.get_mut(&node).expect("up").delivered += 1;
        self.event(
            node,
            &Event::Deliver(Delivery {
                ring,
                seq: Seq::default(),
                from: sent.from,
                pid: 0,
                group: "log".parse().expect("a name"),
                guarantee: Guarantee::Safe,
                transitional,
                payload: sent.bytes.clone(),
            }),
        );
    }

    fn event(&mut self, node: NodeId, event: &Event) {
        let member = self.up.get_mut(&node).expect("up");
        for action in member.fold.handle(event) {
            match action {
                Action::Say(bytes) => member.queue.push_back(Sent { from: node, safe: true, bytes }),
                Action::Send(transfer, snapshot, first) => {
                    self.transfers += 1;
                    self.resumed += usize::from(first > 0);
                    member.sending = Some((transfer, snapshot, first as usize));
                }
                Action::Sent => member.under_way -= 1,
                Action::Stop => member.sending = None,
                Action::Fail(why) => panic!("{why}"),
                Action::Answer(number, outcome) => {
                    let write = member.calls.remove(&number).expect("answered once");
                    let kind = match outcome {
                        Ok(Some(length)) => {
                            let log = &member.fold.state.0;
                            assert_eq!(log.get(length - 1), Some(&write), "node {node}: its output");
                            let (older, newer) = match length <= self.acknowledged.len() {
                                true => (&log[..length], &self.acknowledged[..]),
                                false => (&self.acknowledged[..], &log[..length]),
                            };
                            assert!(
                                self.is_lost || newer.starts_with(older),
                                "node {node} acknowledges {write} in {newer:?}, after {older:?}"
                            );
                            self.acknowledged = newer.to_vec();
                            0
                        }
                        Ok(None) => panic!("a write has an output"),
                        Err(WriteError::Unknown) => 1,
                        Err(WriteError::Closed(_)) => {
                            assert!(!member.fold.state.0.contains(&write), "it was not to be applied");
                            2
                        }
                        Err(other) => panic!("{other}"),
                    };
                    self.outcomes[kind] += 1;
                }
            }
        }
        assert!(member.fold.is_as_said(), "node {node} lacks the state that others think it has");
        let log = &member.fold.state.0;
        let distinct: BTreeSet<&u64> = log.iter().collect();
        assert_eq!(distinct.len(), log.len(), "node {node} has applied a write twice: {log:?}");
    }

    /// Nodes that can reach each other form a new ring.
    fn change(&mut self) {
        let mut nodes: Vec<NodeId> = self.up.keys().copied().collect();
        nodes.shuffle(&mut self.rng);
        let most = self.nodes.len();
        let size = if self.rng.random_bool(0.5) { most } else { self.rng.random_range(1..=most) };
        nodes.truncate(size);
        let with_silent = self.rng.random_bool(0.7);
        self.form(&nodes.into_iter().collect(), with_silent);
    }

    /// The members of a node's ring agree that one node more, or one less, has a vote.
    fn agree(&mut self, node: NodeId) {
        let Some((ring, members)) = self.up[&node].ring.clone() else { return };
        let is_there = |node: &NodeId| {
            let member = self.up.get(node).and_then(|member| member.ring.as_ref());
            Some(*node) == self.silent || member.is_some_and(|(other, _)| *other == ring)
        };
        let before = self.lists.last().expect("the first").clone();
        let changed = *self.nodes.choose(&mut self.rng).expect("nodes");
        let mut list = before.clone();
        if !list.remove(&changed) {
            list.insert(changed);
        }
        let is_majority = |list: &BTreeSet<NodeId>| members.intersection(list).count() > list.len() / 2;
        let is_known = members.iter().any(|node| self.knows.get(node) == Some(&(self.lists.len() - 1)));
        let is_new = list.contains(&changed);
        let agrees = is_known && is_majority(&before) && is_majority(&list);
        if !agrees
            || list.is_empty()
            || is_new && !members.contains(&changed)
            || !members.iter().all(is_there)
        {
            return;
        }
        if !self.may_leave_it_to(&list) {
            return;
        }
        self.lists.push(list);
        self.agreed += 1;
        let latest = self.lists.len() - 1;
        self.knows.extend(members.iter().map(|&node| (node, latest)));
        let status = self.status(ring, &members);
        let silent = self.silent;
        let folds = members.iter().copied().filter(|&node| Some(node) != silent);
        for node in folds {
            self.event(node, &Event::Status(Box::new(status.clone())));
        }
    }

    fn status(&self, ring: RingId, members: &BTreeSet<NodeId>) -> Status {
        let latest = members.iter().filter_map(|node| self.knows.get(node)).max().expect("a member");
        let list = &self.lists[*latest];
        let node_status = |&node: &NodeId| NodeStatus {
            id: node,
            name: node.to_string(),
            online: members.contains(&node),
            votes: list.contains(&node).into(),
            device: DeviceState::default(),
            metadata: Metadata::default(),
        };
        Status {
            ring: Some(ring),
            settled: true,
            nodes: self.nodes.iter().chain(&self.silent).map(node_status).collect(),
            quorate: members.intersection(list).count() > list.len() / 2,
            expected_votes: u32::try_from(list.len()).ok(),
            ..Status::default()
        }
    }

    fn form(&mut self, members: &BTreeSet<NodeId>, with_silent: bool) {
        self.seq += 4;
        let next = RingId { seq: self.seq, representative: *members.first().expect("a member") };
        let mut from: BTreeMap<RingId, BTreeSet<NodeId>> = BTreeMap::new();
        for node in members {
            if let Some((old, _)) = &self.up[node].ring {
                from.entry(*old).or_default().insert(*node);
            }
        }
        for (old, moving) in from {
            let all = |of: fn(&Member) -> usize| moving.iter().map(|node| of(&self.up[node])).max();
            let (delivered, received) = (all(|member| member.delivered), all(|member| member.received));
            let (delivered, received) = (delivered.unwrap_or(0), received.unwrap_or(0));
            let order = self.rings[&old].order[..received].to_vec();
            // Behind a hole come only the messages of members that move along.
            let promised = self.rings[&old].promised.clamp(delivered, received);
            let hole = match self.rng.random_bool(0.3) {
                true => self.rng.random_range(promised..=received),
                false => received,
            };
            let mut rest = order[delivered..hole].to_vec();
            rest.extend(order[hole..].iter().filter(|sent| moving.contains(&sent.from)).cloned());
            for &node in &moving {
                for sent in &order[self.up[&node].delivered..delivered] {
                    self.hand_over(node, old, sent, false);
                }
                let left = BTreeSet::new();
                let members = moving.clone();
                self.event(
                    node,
                    &Event::Transitional(Transitional { ring: next, previous: old, members, left }),
                );
                for sent in &rest {
                    self.hand_over(node, old, sent, true);
                }
                // What it had sent and no member that moves along has received is sent again.
                let lost = self.rings[&old].order[received..].iter().filter(|sent| sent.from == node);
                let lost: Vec<Sent> = lost.cloned().collect();
                let member = self.up.get_mut(&node).expect("up");
                lost.into_iter().rev().for_each(|sent| member.queue.push_front(sent));
            }
        }
        self.rings.insert(next, Ring::default());
        let folds = members;
        let mut members = folds.clone();
        members.extend(self.silent.filter(|_| with_silent));
        let status = self.status(next, &members);
        for &node in folds {
            let member = self.up.get_mut(&node).expect("up");
            member.ring = Some((next, members.clone()));
            (member.received, member.delivered) = (0, 0);
            let none = BTreeSet::new;
            let causes = Vec::new();
            let (joined, left) = (none(), none());
            self.event(
                node,
                &Event::Regular(Regular { ring: next, members: members.clone(), joined, left, causes }),
            );
            self.event(node, &Event::Status(Box::new(status.clone())));
        }
    }

    /// All nodes form one ring and deliver everything.
    fn heal(&mut self) {
        for node in self.nodes.clone() {
            self.start(node);
        }
        // A cluster that starts waits for all of its nodes to speak.
        let with_silent = self.up.values().any(|member| member.fold.remembers());
        self.form(&self.nodes.iter().copied().collect(), with_silent);
        for _ in 0..10_000 {
            for node in self.nodes.clone() {
                self.send(node);
                self.up.get_mut(&node).expect("up").received = self.rings[&self.last()].order.len();
                self.deliver(node);
            }
        }
    }

    fn last(&self) -> RingId {
        *self.rings.last_key_value().expect("a ring").0
    }
}

/// Runs nodes through changes at random, and checks what they have in the end, when all of them are
/// there.
fn run(seed: u64) -> World {
    let mut world = World::new(seed, 3 + u32::try_from(seed % 3).expect("small"));
    world.form(&world.nodes.iter().copied().collect(), false);
    for _ in 0..3000 {
        world.step();
    }
    world.heal();
    let closed: Vec<_> = world.up.values().map(|member| member.fold.closed()).collect();
    let logs: Vec<&Log> = world.up.values().map(|member| &member.fold.state).collect();
    // If too many have forgotten the state, the others keep theirs.
    let forgot = |why: &Option<Closed>| match why {
        Some(Closed::Forgotten { .. }) => true,
        Some(Closed::Awaits { nodes }) => nodes.iter().all(|&node| Some(node) == world.silent),
        _ => false,
    };
    if !closed.iter().all(forgot) {
        assert!(closed.iter().all(Option::is_none), "in the end: {closed:?}");
        assert!(logs.iter().all(|log| *log == logs[0]), "in the end: {logs:?}");
        assert!(world.is_lost || logs[0].0.starts_with(&world.acknowledged), "in the end: {logs:?}");
    }
    assert!(world.up.values().all(|member| member.calls.is_empty()), "a call has no outcome");
    world
}

#[test]
fn acknowledged_writes_have_one_history_whatever_happens() {
    let (mut outcomes, mut transfers, mut resumed, mut agreed) = ([0; 3], 0, 0, 0);
    let (mut forgotten, mut lost) = (0, 0);
    for seed in 0..300 {
        let world = catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        (0..3).for_each(|kind| outcomes[kind] += world.outcomes[kind]);
        transfers += world.transfers;
        resumed += world.resumed;
        agreed += world.agreed;
        lost += usize::from(world.is_lost);
        forgotten += usize::from(world.up.values().all(|member| member.fold.closed().is_some()));
    }
    println!(
        "writes: {} acknowledged, {} in doubt, {} refused; {transfers} snapshots, {resumed} of them resumed; \
         {agreed} agreements; {forgotten} runs forgot the state, and {lost} lost it",
        outcomes[0], outcomes[1], outcomes[2]
    );
    assert!(outcomes.iter().all(|&count| count > 1000), "{outcomes:?}");
    assert!(transfers > 300 && resumed > 30 && agreed > 300, "{transfers}, {resumed} resumed, {agreed}");
    assert!((1..200).contains(&forgotten) && lost < 100, "{forgotten}, {lost} lost");
}

/// `cargo test --release -p quorate --lib -- --ignored many_more_runs`
#[test]
#[ignore = "takes minutes"]
fn acknowledged_writes_have_one_history_in_many_more_runs() {
    let seeds = 300..30_000;
    let next = AtomicU64::new(seeds.start);
    let more = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = more() {
                    catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
                }
            });
        }
    });
}

/// Each of these breaks a rule, and the runs above have to show it.
#[cfg(feature = "mutants")]
#[test]
fn replicas_that_break_a_rule_are_found() {
    use quorate_membership::mutants::Mutant;

    for &mutant in Mutant::OF_REPLICAS {
        let _active = mutant.activate();
        let seed = (0..300).find(|&seed| catch_unwind(|| run(seed)).is_err());
        println!("{mutant}: {seed:?}");
        assert!(seed.is_some(), "{mutant} survives");
    }
}
