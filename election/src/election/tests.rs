//! Elections in a simulated world of nodes, where the test chooses which of them form the next
//! ring.

mod device;
mod roles;
mod tenure;

use std::time::Duration;

use proptest::prelude::*;
use quorate_membership::wire::body::{Reconfigure, VoteParameter};

use super::*;
use crate::{Electorate, Vacancy};

fn id(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

fn ids(nodes: &[u32]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(id).collect()
}

#[derive(Clone)]
struct Node {
    config: Config,
    priority: u32,
    features: u32,
    /// Whether this is a corosync daemon, which announces its votes and is not a candidate.
    corosync: bool,
    election: Election,
    ring: Option<(RingId, BTreeSet<NodeId>)>,
    /// The ring sequence number, which survives a restart.
    ring_seq: u64,
}

struct World {
    nodes: BTreeMap<NodeId, Node>,
    /// The highest term of any ring so far.
    highest: Option<Term>,
    /// The time by every node's clock.
    now: Time,
}

/// A ring whose members have not yet received each other's messages.
struct Opened {
    ring: RingId,
    said: Vec<(NodeId, Say)>,
}

impl World {
    /// Creates nodes 1 to `n` with one vote each, which expect `n` votes.
    fn new(n: u32) -> Self {
        Self::with_votes(&vec![1; n as usize])
    }

    fn with_votes(votes: &[u32]) -> Self {
        let nodes = (1..).zip(votes).map(|(n, &votes_of_one)| {
            let mut config = Config::new(id(n));
            config.quorum.votes = Some(votes_of_one);
            config.dc.deadtime = Duration::ZERO;
            config.quorum.expected_votes = Some(votes.iter().sum());
            let election = Election::new(&config).with_kept(&of_old(&config));
            let node =
                Node { config, priority: 1, features: 1, corosync: false, election, ring: None, ring_seq: 0 };
            (id(n), node)
        });
        Self { nodes: nodes.collect(), highest: None, now: Time::default() }
    }

    fn node(&mut self, n: u32) -> &mut Node {
        self.nodes.get_mut(&id(n)).unwrap()
    }

    fn prefer(&mut self, n: u32, priority: u32) {
        self.node(n).priority = priority;
        self.restart(n);
    }

    fn restart(&mut self, n: u32) {
        let node = self.node(n);
        let kept = of_old(&node.config);
        node.election = Election::new(&node.config).with_priority(node.priority).with_kept(&kept);
        node.ring = None;
    }

    /// Installs a ring of these nodes, with the configurations that extended virtual synchrony
    /// gives each of them.
    fn open(&mut self, nodes: &[u32]) -> Opened {
        let members = ids(nodes);
        let seq = members.iter().map(|member| self.nodes[member].ring_seq).max().unwrap() + 4;
        let ring = RingId { seq, representative: *members.first().unwrap() };
        let before: BTreeMap<NodeId, Option<(RingId, BTreeSet<NodeId>)>> =
            members.iter().map(|&member| (member, self.nodes[&member].ring.clone())).collect();
        let mut said = Vec::new();
        for &member in &members {
            let (came_along, previous) = match &before[&member] {
                None => (BTreeSet::new(), BTreeSet::new()),
                Some((ring, previous)) => {
                    let same_ring = |m: &&NodeId| before[m].as_ref().is_some_and(|(other, _)| other == ring);
                    (members.iter().filter(same_ring).copied().collect(), previous.clone())
                }
            };
            let regular = Regular {
                ring,
                members: members.clone(),
                joined: &members - &came_along,
                left: &previous - &came_along,
                causes: vec![Cause::Consensus],
            };
            let now = self.now;
            let node = self.nodes.get_mut(&member).unwrap();
            let outcome = node.election.handle(now, &Event::Regular(regular));
            node.ring = Some((ring, members.clone()));
            node.ring_seq = seq;

            let status = outcome.status.unwrap();
            assert_eq!((status.ring, status.settled), (Some(ring), false));
            assert_eq!((status.dc, status.term, status.quorate), (None, None, false), "withdrawn at once");
            let mut say = outcome.say.unwrap();
            say.candidacy.features = Reverse(node.features);
            said.push((member, say));
        }
        Opened { ring, said }
    }

    fn hear(&mut self, listener: NodeId, ring: RingId, from: NodeId, say: &Say) {
        let now = self.now;
        let candidate = !self.nodes[&from].corosync;
        let election = &mut self.nodes.get_mut(&listener).unwrap().election;
        let outcome = election.handle(now, &node_info_message(ring, from, say.node_info));
        assert_eq!(outcome, Outcome::default(), "nothing follows before all have spoken");
        if candidate {
            let outcome = election.handle(now, &quorate_message(ring, from, say.candidacy.encode()));
            assert_eq!(outcome, Outcome::default(), "nothing follows before all have spoken");
        }
    }

    /// Ends the sync for this member, and checks properties that hold for any status.
    fn sync(&mut self, member: NodeId, ring: RingId) -> Status {
        let now = self.now;
        let node = self.nodes.get_mut(&member).unwrap();
        let known = node.election.known;
        let status = node.election.handle(now, &Event::Synced(ring)).status.unwrap();
        assert_eq!(&status, node.election.status());
        assert!(status.settled);
        assert!(node.election.known >= known, "a node's term never falls");
        assert!(node.election.known >= status.term);
        assert_eq!(status.quorate, status.inquorate.is_none());
        assert!(status.quorate || status.term.is_none(), "only a quorate ring has a term");
        let decides = status.vacant == Some(Vacancy::DeviceDecides);
        assert_eq!(status.term.is_some(), status.quorate && status.dc.is_some() && !decides);
        assert_eq!(status.vacant.is_some(), status.quorate && (status.dc.is_none() || decides));
        if let Some(dc) = status.dc {
            assert!(status.nodes.iter().any(|node| node.id == dc && node.online), "the DC is a member");
            assert!(!self.nodes[&dc].corosync, "the DC is a candidate");
            assert!(status.term.is_none_or(|term| term.node == dc));
        }
        status
    }

    /// Lets all members of a ring receive each other's messages, in the given order of senders.
    fn settle(&mut self, opened: &Opened) -> Status {
        let everyone: Vec<NodeId> = opened.said.iter().map(|(member, _)| *member).collect();
        for &listener in &everyone {
            for (from, say) in &opened.said {
                self.hear(listener, opened.ring, *from, say);
            }
        }
        let statuses = everyone.iter().map(|&member| self.sync(member, opened.ring)).collect();
        self.agreed(statuses)
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    /// Changes the configuration of all nodes and restarts them.
    fn configure(&mut self, change: impl Fn(&mut Config)) {
        for n in 1..=self.nodes.len() as u32 {
            change(&mut self.node(n).config);
            self.restart(n);
        }
    }

    /// Passes the token once round the ring. Returns each node's lease after that.
    fn turn(&mut self, nodes: &[u32]) -> Vec<Lease> {
        let now = self.now;
        let turn = |n: &u32| {
            let election = &mut self.node(*n).election;
            election.handle_timeout(now);
            election.handle_token(now, Some(now));
            assert_eq!(election.lease().is_some(), election.status().lease == Lease::Held);
            election.status().lease
        };
        nodes.iter().map(turn).collect()
    }

    /// Delivers a member's message to all members of its ring.
    fn say(&mut self, from: u32, message: &bytes::Bytes) -> Status {
        let now = self.now;
        let (ring, members) = self.node(from).ring.clone().unwrap();
        let statuses = members.iter().map(|member| {
            let election = &mut self.nodes.get_mut(member).unwrap().election;
            election.handle(now, &quorate_message(ring, id(from), message.clone())).status.unwrap()
        });
        let statuses = statuses.collect();
        self.agreed(statuses)
    }

    /// Lets a member's application, which hung, respond again. Returns the messages that members
    /// then send, with their ids.
    fn answers(&mut self, node: u32) -> Vec<(u32, bytes::Bytes)> {
        let now = self.now;
        let (ring, members) = self.node(node).ring.clone().unwrap();
        let answer = self.node(node).election.set_hung(now, false).send.unwrap();
        let hear = |member: &NodeId| {
            let election = &mut self.nodes.get_mut(member).unwrap().election;
            let outcome = election.handle(now, &quorate_message(ring, id(node), answer.clone()));
            Some((member.get(), outcome.send?))
        };
        members.iter().filter_map(hear).collect()
    }

    fn ring(&mut self, nodes: &[u32]) -> Status {
        let opened = self.open(nodes);
        self.settle(&opened)
    }

    /// Checks that all settled members of a ring agree, and that a quorate ring's term is above all
    /// earlier terms. Two quorate rings share a member, whose ring sequence number only rises.
    fn agreed(&mut self, statuses: Vec<Status>) -> Status {
        for status in &statuses {
            let said = |s: &Status| {
                (s.ring, s.dc, s.term, s.inquorate.clone(), s.total_votes, s.expected_votes, s.quorum)
            };
            assert_eq!(said(status), said(&statuses[0]));
        }
        let status = statuses.into_iter().next().unwrap();
        if status.term.is_some() {
            assert!(status.term > self.highest, "{:?} after {:?}", status.term, self.highest);
            self.highest = status.term;
        }
        status
    }
}

/// Returns the record of a node whose cluster agreed on its files' content long ago.
fn of_old(config: &Config) -> String {
    Record::of_old(Electorate::of(config)).text()
}

fn quorate_message(ring: RingId, from: NodeId, message: bytes::Bytes) -> Event {
    Event::Service(ServiceMessage { ring, from, service: Service::Quorate, message })
}

fn node_info_message(ring: RingId, from: NodeId, node_info: NodeInfo) -> Event {
    votequorum_message(ring, from, &Body::NodeInfo(node_info))
}

fn votequorum_message(ring: RingId, from: NodeId, body: &Body) -> Event {
    Event::Service(ServiceMessage { ring, from, service: Service::Votequorum, message: body.encode() })
}

fn dc(status: &Status) -> u32 {
    status.dc.unwrap().get()
}

#[test]
fn a_quorate_ring_elects_at_once() {
    let mut world = World::new(3);
    let status = world.ring(&[1, 2]);
    assert!(status.quorate);
    assert_eq!(dc(&status), 1);
    assert_eq!(status.term, Some(Term { ring_seq: 4, hand_over: 0, node: id(1) }));
    assert_eq!((status.total_votes, status.expected_votes, status.quorum), (2, Some(3), Some(2)));
    assert_eq!(status.cause, "all nodes agreed on the members");
}

#[test]
fn a_ring_without_quorum_names_a_dc_without_a_term() {
    let mut world = World::new(3);
    let status = world.ring(&[2]);
    assert_eq!(status.inquorate, Some(Inquorate::TooFewVotes { total: 1, quorum: 2 }));
    assert_eq!((dc(&status), status.term), (2, None));
}

#[test]
fn the_incumbent_stays_when_nodes_join_and_its_term_rises() {
    let mut world = World::new(4);
    world.prefer(1, 9);
    let elected = world.ring(&[2, 3, 4]);
    world.ring(&[1]);
    let joined = world.ring(&[1, 2, 3, 4]);
    assert_eq!((dc(&elected), dc(&joined)), (2, 2));
    assert!(joined.term > elected.term);
}

#[test]
fn the_incumbent_keeps_office_when_others_leave() {
    let mut world = World::new(4);
    world.prefer(2, 9);
    assert_eq!(dc(&world.ring(&[1, 2, 3, 4])), 2);
    assert_eq!(dc(&world.ring(&[2, 3, 4])), 2);
}

#[test]
fn the_successor_of_a_lost_dc_has_a_higher_term() {
    let mut world = World::new(3);
    let first = world.ring(&[1, 2, 3]);
    let second = world.ring(&[2, 3]);
    assert_eq!((dc(&first), dc(&second)), (1, 2));
    assert!(second.term > first.term);
}

#[test]
fn a_restarted_dc_does_not_return_to_office() {
    let mut world = World::new(3);
    assert_eq!(dc(&world.ring(&[1, 2, 3])), 1);
    world.restart(1);
    // The restart is shorter than the token timeout: the others never were in a ring without node
    // 1.
    assert_eq!(dc(&world.ring(&[1, 2, 3])), 2);
}

#[test]
fn the_operators_priority_decides_when_there_is_no_incumbent() {
    let mut world = World::new(3);
    world.prefer(2, 2);
    world.prefer(3, 3);
    assert_eq!(dc(&world.ring(&[1, 2, 3])), 3);
    assert_eq!(dc(&world.ring(&[1, 2])), 2);
}

#[test]
fn the_oldest_features_are_elected_before_older_members() {
    let mut world = World::new(4);
    world.node(1).features = 2;
    world.node(2).features = 2;
    world.ring(&[1, 2]);
    assert_eq!(dc(&world.ring(&[1, 2, 3, 4])), 3);
}

#[test]
fn the_longest_in_the_ring_is_elected_before_a_lower_id() {
    let mut world = World::new(4);
    world.ring(&[2, 3, 4]);
    world.ring(&[1, 2, 3, 4]);
    assert_eq!(dc(&world.ring(&[1, 3, 4])), 3, "node 1 came last");
}

#[test]
fn a_ring_that_never_settled_changes_no_members_age() {
    let mut world = World::new(4);
    world.ring(&[2, 3, 4]);
    world.open(&[2, 3, 4]);
    world.open(&[2, 3, 4]);
    assert_eq!(dc(&world.ring(&[1, 2, 3, 4])), 2, "still the incumbent");
    assert_eq!(dc(&world.ring(&[1, 3, 4])), 3, "node 1 came last");
}

#[test]
fn the_quorate_sides_dc_stays_when_a_partition_heals() {
    let mut world = World::new(3);
    world.prefer(1, 9);
    let whole = world.ring(&[1, 2, 3]);
    assert_eq!(dc(&whole), 1);
    let lone = world.ring(&[1]);
    assert_eq!((dc(&lone), lone.quorate, lone.term), (1, false, None));
    let majority = world.ring(&[2, 3]);
    assert_eq!(dc(&majority), 2);
    let healed = world.ring(&[1, 2, 3]);
    assert_eq!(dc(&healed), 2, "whatever the other side's id, age or priority");
    assert!(healed.term > majority.term && majority.term > whole.term);
}

#[test]
fn the_latest_dc_stays_if_the_superseded_one_never_noticed() {
    let mut world = World::new(3);
    world.prefer(1, 9);
    world.ring(&[1, 2, 3]);
    assert_eq!(dc(&world.ring(&[2, 3])), 2);
    // Node 1 comes straight from the old ring, where it was a quorate DC.
    assert_eq!(dc(&world.ring(&[1, 2, 3])), 2);
}

#[test]
fn inquorate_halves_heal_under_the_last_quorate_dc() {
    let mut world = World::new(4);
    world.prefer(3, 2);
    assert_eq!(dc(&world.ring(&[1, 2, 4])), 1);
    assert_eq!(dc(&world.ring(&[1, 2, 3, 4])), 1);
    let (left, right) = (world.ring(&[1, 2]), world.ring(&[3, 4]));
    assert_eq!((dc(&left), left.term, dc(&right), right.term), (1, None, 3, None));
    assert_eq!(dc(&world.ring(&[1, 2, 3, 4])), 1);
}

#[test]
fn a_corosync_daemon_votes_and_is_never_dc() {
    let mut world = World::new(3);
    world.node(1).corosync = true;
    world.node(2).corosync = true;
    let status = world.ring(&[1, 2, 3]);
    assert!(status.quorate);
    assert_eq!(dc(&status), 3);
    let status = world.ring(&[1, 2]);
    assert!(status.quorate);
    assert_eq!((status.dc, status.term), (None, None));
}

#[test]
fn without_expected_votes_there_is_a_dc_and_no_quorum() {
    let mut world = World::new(2);
    for n in [1, 2] {
        world.node(n).config.quorum.expected_votes = None;
        world.restart(n);
    }
    let status = world.ring(&[1, 2]);
    assert_eq!(status.inquorate, Some(Inquorate::NoExpectedVotes));
    assert_eq!((dc(&status), status.term, status.expected_votes, status.quorum), (1, None, None, None));
}

#[test]
fn a_member_whose_votes_are_missing_makes_the_ring_inquorate() {
    let mut world = World::new(3);
    let opened = world.open(&[1, 2, 3]);
    for (from, say) in &opened.said[..2] {
        world.hear(id(1), opened.ring, *from, say);
    }
    let status = world.sync(id(1), opened.ring);
    assert_eq!(status.inquorate, Some(Inquorate::NoNodeInfo(ids(&[3]))));
    assert_eq!((dc(&status), status.term), (1, None));
}

#[test]
fn a_member_counts_its_own_votes_only_and_the_last_it_names() {
    let mut world = World::new(3);
    let opened = world.open(&[1, 2]);
    for (from, say) in &opened.said {
        world.hear(id(1), opened.ring, *from, say);
    }
    let info = |node, votes| NodeInfo { node, votes, expected_votes: 3, flags: 0 };
    let election = &mut world.node(1).election;
    election.handle(Time::default(), &node_info_message(opened.ring, id(2), info(Some(id(2)), 3)));
    election.handle(Time::default(), &node_info_message(opened.ring, id(2), info(Some(id(1)), 100)));
    election.handle(Time::default(), &node_info_message(opened.ring, id(2), info(None, 100)));
    election.handle(
        Time::default(),
        &Event::Service(ServiceMessage {
            ring: opened.ring,
            from: id(2),
            service: Service::Votequorum,
            message: bytes::Bytes::from_static(b"votes"),
        }),
    );
    assert_eq!(world.sync(id(1), opened.ring).total_votes, 4);
}

#[test]
fn the_status_shows_votes_that_an_operator_changed() {
    let mut world = World::new(3);
    let ring = world.ring(&[1, 2, 3]).ring.unwrap();
    let order = Reconfigure { node: 1, value: 2, parameter: VoteParameter::Votes };
    let message = votequorum_message(ring, id(2), &Body::Reconfigure(order));
    let status = world.node(3).election.handle(Time::default(), &message).status.unwrap();
    let shown: Vec<_> = status.nodes.iter().map(|node| (node.votes, node.online)).collect();
    assert_eq!(shown, [(2, true), (1, true), (1, true)]);
    assert_eq!((status.total_votes, status.quorum), (4, Some(3)));
}

#[test]
fn only_the_first_candidacy_of_a_member_on_its_ring_counts() {
    let mut world = World::new(4);
    let opened = world.open(&[2, 3]);
    let stranger = Candidacy { priority: 9, node: Reverse(id(1)), ..opened.said[0].1.candidacy.clone() };
    let again = Candidacy { priority: 9, ..opened.said[1].1.candidacy.clone() };
    let elsewhere = RingId { seq: 400, ..opened.ring };
    let election = &mut world.node(2).election;
    election.handle(Time::default(), &quorate_message(opened.ring, id(1), stranger.encode()));
    election.handle(Time::default(), &quorate_message(elsewhere, id(3), again.encode()));
    election.handle(Time::default(), &quorate_message(opened.ring, id(3), stranger.encode()));
    election.handle(
        Time::default(),
        &quorate_message(opened.ring, id(3), bytes::Bytes::from_static(b"candidate")),
    );
    assert!(election.collecting.as_ref().unwrap().candidacies.is_empty());
    for (from, say) in &opened.said {
        world.hear(id(2), opened.ring, *from, say);
    }
    world.node(2).election.handle(Time::default(), &quorate_message(opened.ring, id(3), again.encode()));
    assert_eq!(dc(&world.sync(id(2), opened.ring)), 2);
}

#[test]
fn a_candidate_that_claims_a_term_of_the_future_is_a_voter_only() {
    let mut world = World::new(3);
    let mut opened = world.open(&[1, 2, 3]);
    let future = Term { ring_seq: opened.ring.seq, hand_over: 0, node: id(1) };
    opened.said[0].1.candidacy.tenure = Some(future);
    opened.said[0].1.candidacy.known = Some(future);
    let status = world.settle(&opened);
    assert!(status.quorate);
    assert_eq!(dc(&status), 2);
}

/// Judged by its node info alone, node 3 would be a corosync daemon, whose votes count as
/// announced.
#[test]
fn a_member_whose_candidacy_cannot_be_read_counts_no_votes() {
    let mut world = World::new(3);
    let opened = world.open(&[1, 2, 3]);
    let unread = bytes::Bytes::from_static(b"candidate");
    for (from, say) in &opened.said {
        match *from == id(3) {
            true => {
                let info = votequorum_message(opened.ring, id(3), &Body::NodeInfo(say.node_info));
                let election = &mut world.node(1).election;
                election.handle(Time::default(), &info);
                election.handle(Time::default(), &quorate_message(opened.ring, id(3), unread.clone()));
            }
            false => world.hear(id(1), opened.ring, *from, say),
        }
    }
    let status = world.sync(id(1), opened.ring);
    assert_eq!(status.inquorate, Some(Inquorate::NoNodeInfo([id(3)].into())));
}

#[test]
fn the_end_of_another_rings_exchange_settles_nothing() {
    let mut world = World::new(3);
    let (first, second) = (world.open(&[1, 2, 3]), world.open(&[1, 2]));
    let election = &mut world.node(1).election;
    assert_eq!(election.handle(Time::default(), &Event::Synced(first.ring)), Outcome::default());
    assert!(!election.status().settled);
    world.settle(&second);
    let election = &mut world.node(1).election;
    assert_eq!(election.handle(Time::default(), &Event::Synced(second.ring)), Outcome::default(), "twice");
}

#[test]
fn messages_after_the_judgement_change_nothing() {
    let mut world = World::new(3);
    let opened = world.open(&[1, 2, 3]);
    let settled = world.settle(&opened);
    let election = &mut world.node(1).election;
    let late = Candidacy { priority: 9, ..opened.said[2].1.candidacy.clone() };
    assert_eq!(
        election.handle(Time::default(), &quorate_message(opened.ring, id(3), late.encode())),
        Outcome::default()
    );
    assert_eq!(election.handle(Time::default(), &Event::Stalled(Duration::from_secs(9))), Outcome::default());
    assert_eq!(election.status(), &settled);
}

#[test]
fn a_node_that_left_has_no_ring_no_quorum_and_no_dc() {
    let mut world = World::new(3);
    world.ring(&[1, 2, 3]);
    let status =
        world.node(1).election.handle(Time::default(), &Event::Left(Cause::LeaveRequested)).status.unwrap();
    assert_eq!((status.ring, status.settled, status.quorate), (None, false, false));
    assert_eq!((status.dc, status.term), (None, None));
    assert!(status.nodes.iter().all(|node| !node.online));
    assert_eq!(status.cause, "this node was asked to leave");
}

/// Asserts that nothing of the judgement remains.
fn assert_withdrawn(status: &Status) {
    assert_eq!((status.settled, status.quorate, status.total_votes), (false, false, 0));
    assert_eq!((status.dc, status.term, status.lease), (None, None, Lease::None));
    assert_eq!((status.quorum, &status.vacant), (None, &None));
    assert!(status.inquorate.is_some() && !status.flags.contains(&"Quorate"));
}

#[test]
fn quorum_ends_a_token_timeout_after_the_last_token() {
    let mut world = World::new(3);
    world.ring(&[1, 2, 3]);
    world.wait(100);
    world.turn(&[1]);
    let (token, last) = (world.node(1).config.totem.token, world.now);
    let election = &mut world.node(1).election;
    assert!(election.poll_timeout() <= Some(last + token));
    let before = last + (token - Duration::from_micros(1));
    let status = election.handle_timeout(before).status;
    assert!(election.status().quorate, "{status:?}");
    let lost = election.handle_timeout(last + token).status.unwrap();
    assert_withdrawn(&lost);
    assert_eq!((lost.ring, lost.inquorate.as_ref()), (None, Some(&Inquorate::RingLost { after: token })));
    assert_eq!(lost.cause, "no token came for 3000 ms");
    assert!(lost.nodes.iter().all(|node| !node.online));
    assert_eq!(election.status(), &lost);
    assert_eq!(election.poll_timeout(), None, "it is not told again");
    assert_eq!(election.handle_timeout(last + 2 * token), Outcome::default());
}

#[test]
fn a_new_ring_without_a_token_is_lost_after_the_token_timeout() {
    let mut world = World::new(3);
    world.wait(50_000);
    let opened = world.open(&[1, 2, 3]);
    let entered = world.now;
    let token = world.node(1).config.totem.token;
    let election = &mut world.node(1).election;
    assert_eq!(election.stands_until(), Some(entered + token));
    let lost = election.handle_timeout(entered + token).status.unwrap();
    assert_eq!((lost.ring, lost.inquorate), (None, Some(Inquorate::RingLost { after: token })));
    // The ring's sync ends in frames that arrived earlier. Nothing is published about a ring that
    // is lost.
    for (from, say) in &opened.said {
        world.hear(id(1), opened.ring, *from, say);
    }
    let election = &mut world.node(1).election;
    assert_eq!(election.handle(entered + token, &Event::Synced(opened.ring)).status, None);
    let back = election.handle_token(entered + token, None).status.unwrap();
    assert!(back.settled && back.quorate);
}

#[test]
fn quorum_comes_back_with_a_late_token_of_the_same_ring() {
    let mut world = World::new(3);
    let settled = world.ring(&[1, 2, 3]);
    let now = world.now + 2 * world.node(1).config.totem.token;
    let election = &mut world.node(1).election;
    assert_withdrawn(&election.handle_timeout(now).status.unwrap());
    assert_eq!(election.handle_token(now, None).status.as_ref(), Some(&settled));
    assert_eq!(election.stands_until(), Some(now + world.node(1).config.totem.token));
}

#[test]
fn quorum_is_withdrawn_in_a_transitional_configuration() {
    let mut world = World::new(3);
    let settled = world.ring(&[1, 2, 3]);
    let (ring, members) = world.node(1).ring.clone().unwrap();
    let next = RingId { seq: ring.seq + 4, ..ring };
    let over = Event::Transitional(quorate_membership::Transitional {
        ring: next,
        previous: ring,
        members: ids(&[1, 2]),
        left: &members - &ids(&[1, 2]),
    });
    let (now, token) = (world.now, world.node(1).config.totem.token);
    let election = &mut world.node(1).election;
    let ends = election.handle(now, &over).status.unwrap();
    assert_withdrawn(&ends);
    assert_eq!((ends.ring, ends.inquorate), (settled.ring, Some(Inquorate::Unsettled)));
    // A ring that was lost before does not reappear in the status.
    let election = &mut world.node(2).election;
    let lost = election.handle_timeout(now + token).status.unwrap();
    assert_eq!((lost.ring, election.handle(now + token, &over).status), (None, None));
    assert!(world.ring(&[1, 2]).quorate);
}

#[test]
fn members_with_other_timeouts_are_named_on_both_sides() {
    let mut world = World::new(3);
    world.node(2).config.dc.lease = Some(Duration::from_secs(1));
    world.restart(2);
    world.node(3).config.totem.token *= 3;
    world.restart(3);
    world.ring(&[1, 2, 3]);
    let differ = |world: &mut World, n| {
        let election = &world.node(n).election;
        assert_eq!(election.status().differences, election.differ);
        election.differ.iter().map(|clause| clause[5..6].parse().unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!([1, 2, 3].map(|n| differ(&mut world, n)), [vec![2, 3], vec![1, 3], vec![1, 2]]);
    world.ring(&[1]);
    assert!(differ(&mut world, 1).is_empty());
}

#[test]
fn an_operators_name_precedes_the_nodes_own_and_its_id() {
    let mut world = World::new(3);
    let address = std::net::IpAddr::from([127, 0, 0, 1]);
    let listed = |n| quorate_membership::config::Member::new(id(n), address);
    world.node(1).config.name = "alpha".into();
    world.node(1).config.nodes = vec![listed(1), listed(2).named("beta"), listed(9)];
    world.restart(1);
    world.node(2).config.name = "two".into();
    world.restart(2);
    world.node(3).config.name = "gamma".into();
    world.restart(3);
    let names = |status: &Status| {
        status.nodes.iter().map(|node| (node.name.clone(), node.online)).collect::<Vec<_>>()
    };
    let expected = |gamma: &str, online: bool| {
        let names = [("alpha", online), ("beta", online), (gamma, online), ("node9", false)];
        names.map(|(name, online)| (name.to_owned(), online)).to_vec()
    };
    assert_eq!(names(world.node(1).election.status()).len(), 3, "node 3 is not yet known");
    let opened = world.open(&[1, 2, 3]);
    assert_eq!(names(world.node(1).election.status()), expected("node3", true));
    assert_eq!(names(&world.settle(&opened)), expected("gamma", true));
}

#[test]
fn an_own_name_that_cannot_be_shown_is_replaced() {
    let mut config = Config::new(id(7));
    config.name = "\u{7}".into();
    assert_eq!(Election::new(&config).status().nodes[0].name, "node7");
}

#[derive(Clone, Debug)]
enum Step {
    Restart(u32),
    /// Forms a ring: `members` is a bit mask, `order` determines the order of senders, and `heard`
    /// is the number of messages each member receives if the ring ends early.
    Ring {
        members: u32,
        order: u64,
        heard: Option<Vec<usize>>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let heard = proptest::option::weighted(0.3, proptest::collection::vec(0..20_usize, 6));
    let ring = (1..64_u32, any::<u64>(), heard).prop_map(|(members, order, heard)| Step::Ring {
        members,
        order,
        heard,
    });
    prop_oneof![1 => (1..7_u32).prop_map(Step::Restart), 6 => ring]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Runs nodes with different votes, priorities and features, some of them corosync daemons,
    /// through any sequence of rings. Some rings end before all members have received all messages.
    #[test]
    fn ring_members_agree_and_terms_rise_over_all_quorate_rings(
        votes in proptest::collection::vec(0..4_u32, 1..7),
        priorities in proptest::collection::vec(0..3_u32, 6),
        features in proptest::collection::vec(1..3_u32, 6),
        corosync in proptest::collection::vec(proptest::bool::weighted(0.2), 6),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = World::with_votes(&votes);
        let count = u32::try_from(votes.len()).unwrap();
        for (n, i) in (1..=count).zip(0..) {
            world.node(n).features = features[i];
            world.node(n).corosync = corosync[i];
            world.prefer(n, priorities[i]);
        }
        for step in steps {
            match step {
                Step::Restart(n) => world.restart((n - 1) % count + 1),
                Step::Ring { members, order, heard } => {
                    let members: Vec<u32> = (1..=count).filter(|n| members >> (n - 1) & 1 == 1).collect();
                    if members.is_empty() {
                        continue;
                    }
                    let mut opened = world.open(&members);
                    let by_order = |(from, _): &(NodeId, Say)| {
                        order.wrapping_mul(u64::from(from.get()) | 1).rotate_left(29).wrapping_mul(order | 1)
                    };
                    opened.said.sort_by_key(by_order);
                    let mut statuses = Vec::new();
                    for (i, &listener) in members.iter().enumerate() {
                        let heard = heard.as_ref().map_or(usize::MAX, |heard| heard[i]);
                        for (from, say) in opened.said.iter().take(heard) {
                            world.hear(id(listener), opened.ring, *from, say);
                        }
                        if heard >= opened.said.len() {
                            statuses.push(world.sync(id(listener), opened.ring));
                        }
                    }
                    if !statuses.is_empty() {
                        world.agreed(statuses);
                    }
                }
            }
        }
    }
}
