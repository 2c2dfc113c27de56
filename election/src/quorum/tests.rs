//! Tests of rings of nodes: the messages that each node sends, and the verdict that all derive from
//! them.

mod device;
mod options;
mod parts;

use std::time::Duration;

use itertools::Itertools as _;
use proptest::prelude::*;
use quorate_membership::config::Member;

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

fn id(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

fn ids(nodes: &[u32]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(id).collect()
}

/// Nodes with ids from 1 on, and the rings that they form. A test fails unless all members judge
/// alike.
struct World {
    configs: BTreeMap<NodeId, Config>,
    nodes: BTreeMap<NodeId, Quorum>,
    ring_seq: u64,
    now: Time,
}

impl World {
    /// Creates listed nodes with these votes and options.
    fn with_votes(votes: &[u32], options: impl Fn(&mut Config)) -> Self {
        let listed: Vec<Member> = (1..)
            .zip(votes)
            .map(|(n, &votes)| Member::new(id(n), [10, 0, 0, n as u8].into()).with_votes(votes))
            .collect();
        let config = |member: &Member| {
            let mut config = Config::new(member.id);
            config.nodes = listed.clone();
            config.quorum.votes = Some(member.votes);
            config.quorum.expected_votes = Some(votes.iter().sum());
            options(&mut config);
            (member.id, config)
        };
        let configs: BTreeMap<NodeId, Config> = listed.iter().map(config).collect();
        let node = |(&id, config): (&NodeId, &Config)| {
            (id, Quorum::new(config).with_record(Record::of_old(Electorate::of(config))))
        };
        let nodes = configs.iter().map(node).collect();
        Self { configs, nodes, ring_seq: 0, now: Time::default() }
    }

    /// Returns the same nodes without a record: they have never been in a ring.
    fn fresh(mut self) -> Self {
        self.nodes = self.configs.iter().map(|(&id, config)| (id, Quorum::new(config))).collect();
        self
    }

    fn new(nodes: u32, options: impl Fn(&mut Config)) -> Self {
        Self::with_votes(&vec![1; nodes as usize], options)
    }

    fn plain(nodes: u32) -> Self {
        Self::new(nodes, |_| {})
    }

    fn configure(&mut self, n: u32, change: impl FnOnce(&mut Config)) {
        change(self.configs.get_mut(&id(n)).unwrap());
        self.restart(&[n]);
    }

    fn restart(&mut self, nodes: &[u32]) {
        for node in ids(nodes) {
            let record = self.nodes[&node].record().clone();
            self.nodes.insert(node, Quorum::new(&self.configs[&node]).with_record(record));
        }
    }

    fn ring(&mut self, nodes: &[u32]) -> Verdict {
        self.ring_with(nodes, |_, _| {})
    }

    /// Forms a ring whose messages `change` alters first.
    fn ring_with(
        &mut self,
        nodes: &[u32],
        change: impl FnOnce(&mut BTreeMap<NodeId, NodeInfo>, &mut BTreeMap<NodeId, Ballot>),
    ) -> Verdict {
        let members = ids(nodes);
        self.ring_seq += 4;
        let ring = RingId { seq: self.ring_seq, representative: *members.first().unwrap() };
        let (mut said, mut ballots) = (BTreeMap::new(), BTreeMap::new());
        for &member in &members {
            let (node_info, ballot) = self.nodes.get_mut(&member).unwrap().open(&members);
            said.insert(member, node_info);
            ballots.insert(member, ballot);
        }
        change(&mut said, &mut ballots);
        let ballots: BTreeMap<NodeId, &Ballot> =
            ballots.iter().map(|(&node, ballot)| (node, ballot)).collect();
        let now = self.now;
        let judged = self
            .all(nodes, |quorum| Some(quorum.judge(now, ring, &members, &said, &ballots, &BTreeSet::new())))
            .unwrap();
        // All members store the proposal at once.
        let mut agreed = None;
        for &member in &members {
            let quorum = &self.nodes[&member];
            if ballots.contains_key(&member) && quorum.has_stored(&quorum.record().text()) {
                agreed = self.all(nodes, |quorum| quorum.hear_stored(member)).or(agreed);
            }
        }
        agreed.unwrap_or(judged)
    }

    /// Returns the verdict that each of these nodes reaches on the same input, and checks that they
    /// agree.
    fn all(
        &mut self,
        nodes: &[u32],
        mut judge: impl FnMut(&mut Quorum) -> Option<Verdict>,
    ) -> Option<Verdict> {
        let verdicts: Vec<_> =
            ids(nodes).iter().map(|node| judge(self.nodes.get_mut(node).unwrap())).collect();
        // Options are each node's own.
        let judged = |verdict: &Option<Verdict>| verdict.clone().map(|v| Verdict { flags: Vec::new(), ..v });
        assert!(verdicts.iter().all(|verdict| judged(verdict) == judged(&verdicts[0])), "{verdicts:#?}");
        verdicts.into_iter().next().unwrap()
    }

    /// Lets time pass. Returns the verdict if a timer was due.
    fn wait(&mut self, nodes: &[u32], time: Duration) -> Option<Verdict> {
        self.now = self.now + time;
        let now = self.now;
        self.all(nodes, |quorum| quorum.handle_timeout(now))
    }
}

fn is_quorate(verdict: &Verdict) -> bool {
    verdict.inquorate.is_none()
}

/// Returns the votes present, expected and needed.
fn counted(verdict: &Verdict) -> (u32, u32, u32) {
    (verdict.total_votes, verdict.expected_votes.unwrap(), verdict.quorum.unwrap())
}

fn two_node(config: &mut Config) {
    config.quorum.two_node = true;
}

fn wait_for_all(config: &mut Config) {
    config.quorum.wait_for_all = Some(true);
}

fn tie_break(tie_breaker: TieBreaker) -> impl Fn(&mut Config) {
    move |config| config.quorum.auto_tie_breaker = Some(tie_breaker.clone())
}

fn list(nodes: &[u32]) -> TieBreaker {
    TieBreaker::List(nodes.iter().copied().map(id).collect())
}

fn last_man(config: &mut Config) {
    config.quorum.last_man_standing = true;
    config.quorum.last_man_standing_window = WINDOW;
    config.quorum.wait_for_all = Some(true);
}

fn downscale(config: &mut Config) {
    config.quorum.allow_downscale = true;
}

#[test]
fn a_majority_is_quorate_and_a_half_is_not() {
    for (expected, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (8, 5)] {
        for present in 1..=expected {
            let nodes: Vec<u32> = (1..=present).collect();
            let verdict = World::plain(expected).ring(&nodes);
            assert_eq!(counted(&verdict), (present, expected, quorum));
            assert_eq!(is_quorate(&verdict), present >= quorum, "{present} of {expected}");
        }
    }
}

#[test]
fn votes_count_and_not_nodes() {
    let mut world = World::with_votes(&[3, 1, 1], |_| {});
    assert!(is_quorate(&world.ring(&[1])));
    assert_eq!(world.ring(&[2, 3]).inquorate, Some(Inquorate::TooFewVotes { total: 2, quorum: 3 }));
}

#[test]
fn without_expected_votes_no_node_is_quorate() {
    let mut world = World::new(3, |config| {
        config.nodes.clear();
        config.quorum.expected_votes = None;
    });
    let verdict = world.ring(&[1, 2, 3]);
    assert_eq!(verdict.inquorate, Some(Inquorate::NoExpectedVotes));
    assert_eq!((verdict.total_votes, verdict.expected_votes, verdict.quorum), (3, None, None));
}

#[test]
fn members_adopt_expected_votes_from_one_that_knows_them() {
    let mut world = World::plain(3);
    world.configure(1, |config| config.quorum.expected_votes = None);
    assert!(is_quorate(&world.ring(&[1, 2])));
    assert_eq!(world.nodes[&id(1)].expected_votes(), Some(3));
}

#[test]
fn expected_votes_grow_with_the_votes_present_and_stay() {
    let mut world = World::new(5, |config| config.quorum.expected_votes = Some(2));
    assert_eq!(counted(&world.ring(&[1, 2, 3, 4, 5])), (5, 5, 3));
    let verdict = world.ring(&[1, 2]);
    assert_eq!(counted(&verdict), (2, 5, 3));
    assert!(!is_quorate(&verdict));
}

#[test]
fn an_inquorate_node_adopts_what_a_quorate_one_expects() {
    let mut world = World::plain(3);
    world.configure(3, |config| config.quorum.expected_votes = Some(9));
    assert!(is_quorate(&world.ring(&[1, 2])));
    let verdict = world.ring(&[1, 2, 3]);
    assert!(is_quorate(&verdict));
    assert_eq!(counted(&verdict), (3, 3, 2));
    assert_eq!(world.nodes[&id(3)].expected_votes(), Some(3));
}

#[test]
fn an_unreached_highest_setting_leaves_no_trace() {
    let mut world = World::new(3, |config| config.quorum.wait_for_all = Some(false)).fresh();
    world.configure(3, |config| config.quorum.expected_votes = Some(1000));
    let verdict = world.ring(&[1, 2, 3]);
    assert_eq!(verdict.inquorate, Some(Inquorate::TooFewVotes { total: 3, quorum: 501 }));
    assert!(is_quorate(&world.ring(&[1, 2])));
}

#[test]
fn a_member_without_node_info_makes_the_ring_inquorate() {
    let mut world = World::plain(2);
    let verdict = world.ring_with(&[1, 2], |said, _| said.retain(|node, _| *node == id(1)));
    assert_eq!(verdict.inquorate, Some(Inquorate::NoNodeInfo(ids(&[2]))));
    assert_eq!(verdict.inquorate.unwrap().to_string(), "no node info was received from nodes {2}");
}

#[test]
fn messages_of_outsiders_do_not_count() {
    let mut world = World::plain(3);
    let stranger = NodeInfo { node: Some(id(2)), votes: 5, expected_votes: 1, flags: NodeInfo::QUORATE };
    let verdict = world.ring_with(&[1], |said, ballots| {
        said.insert(id(2), stranger);
        ballots.insert(id(2), Ballot { lost: true, ..Ballot::default() });
    });
    assert_eq!(counted(&verdict), (1, 3, 2));
}

#[test]
fn a_node_sends_the_first_flag_until_it_has_had_peers() {
    let mut world = World::plain(3);
    let node = world.nodes.get_mut(&id(1)).unwrap();
    assert_eq!(node.open(&ids(&[1])).0.flags, NodeInfo::FIRST);
    assert_eq!(node.open(&ids(&[1, 2])).0.flags, 0);
    assert_eq!(node.open(&ids(&[1])).0.flags, 0);
}

#[test]
fn an_operator_cannot_expect_fewer_votes_than_are_present() {
    let mut world = World::plain(3);
    world.ring(&[1, 2, 3]);
    let order = Reconfigure { node: 1, value: 1, parameter: VoteParameter::ExpectedVotes };
    let verdict = world.all(&[1, 2, 3], |quorum| quorum.reconfigure(&order)).unwrap();
    assert_eq!(counted(&verdict), (3, 3, 2));
}

#[test]
fn an_operator_changes_a_nodes_votes() {
    let mut world = World::plain(3);
    world.ring(&[1, 2, 3]);
    let order = |node, value| Reconfigure { node, value, parameter: VoteParameter::Votes };
    let verdict = world.all(&[1, 2, 3], |quorum| quorum.reconfigure(&order(2, 3))).unwrap();
    assert_eq!(counted(&verdict), (5, 5, 3));
    assert_eq!(counted(&world.ring(&[2])), (3, 5, 3));
    world.ring(&[1, 2, 3]);
    let verdict = world.all(&[1, 2, 3], |quorum| quorum.reconfigure(&order(2, 1))).unwrap();
    assert_eq!(counted(&verdict), (3, 5, 3), "what is expected does not fall");
    assert_eq!(world.all(&[2], |quorum| quorum.reconfigure(&order(9, 3))), None, "of no member");
}

#[test]
fn options_that_differ_before_an_agreement_prevent_quorum() {
    let mut world = World::new(3, wait_for_all).fresh();
    world.configure(2, |config| config.quorum.wait_for_all = None);
    let verdict = world.ring(&[1, 2, 3]);
    let inquorate = Inquorate::OptionsDiffer { option: "wait_for_all", one: id(1), other: id(2) };
    assert_eq!(verdict.inquorate, Some(inquorate.clone()));
    let text = "nodes 1 and 2 differ in quorum.wait_for_all; give all nodes the same value";
    assert_eq!(inquorate.to_string(), text);
}

#[test]
fn new_options_are_agreed_on_when_a_voters_file_changes() {
    let mut world = World::plain(3);
    world.ring(&[1, 2, 3]);
    world.configure(2, wait_for_all);
    let verdict = world.ring(&[1, 2, 3]);
    assert!(is_quorate(&verdict));
    assert_eq!(
        verdict.flags,
        ["Quorate", "WaitForAll"],
        "a voter's change, by which no fewer may fail, is agreed on"
    );
    assert_eq!(
        verdict.differences,
        [
            "the file of node 1 has a different quorum.wait_for_all",
            "the file of node 3 has a different quorum.wait_for_all"
        ]
    );
    world.restart(&[1, 3]);
    assert_eq!(world.ring(&[1, 2, 3]).flags, ["Quorate", "WaitForAll"], "the old files are no proposal");
}

/// Puts a list of these nodes into a node's file.
fn list_of(nodes: &[u32]) -> impl Fn(&mut Config) {
    let nodes = nodes.to_vec();
    move |config| {
        let member = |&n: &u32| Member::new(id(n), [10, 0, 0, n as u8].into());
        config.nodes = nodes.iter().map(member).collect();
        config.quorum.expected_votes = Some(nodes.len() as u32);
    }
}

#[test]
fn the_first_time_all_voters_must_be_present() {
    let mut world = World::plain(3).fresh();
    let verdict = world.ring(&[1, 2]);
    let inquorate = Inquorate::NeverAgreed { missing: ids(&[3]), total: 2, expected: 3 };
    assert_eq!(verdict.inquorate, Some(inquorate.clone()));
    assert_eq!(
        inquorate.to_string(),
        "the cluster is starting for the first time and needs all of its voters once: start node 3, or \
         remove it from the node lists"
    );
    assert!(is_quorate(&world.ring(&[1, 2, 3])));
    assert!(is_quorate(&world.ring(&[1, 2])));
    world.restart(&[1, 2]);
    assert!(is_quorate(&world.ring(&[1, 2])), "once");

    let mut hasty = World::new(3, |config| config.quorum.wait_for_all = Some(false)).fresh();
    assert!(is_quorate(&hasty.ring(&[1, 2])), "unless the operator wants no waiting at all");

    let mut unlisted = World::new(3, |config| config.nodes.clear()).fresh();
    let verdict = unlisted.ring(&[1, 2]);
    let text = verdict.inquorate.unwrap().to_string();
    assert_eq!(
        text,
        "the cluster is starting for the first time and needs all of its voters once: 2 of 3 votes are \
         present"
    );
    assert!(is_quorate(&unlisted.ring(&[1, 2, 3])));
}

/// The report `old-list-two-quorate-parts`: a cluster of 5 becomes one of 3, and a removed node
/// comes back with an old file, as does node 3.
#[test]
fn an_old_list_and_unlisted_votes_make_no_second_part() {
    let mut world = World::plain(5);
    (1..=3).for_each(|n| world.configure(n, list_of(&[1, 2, 3])));
    assert_eq!(counted(&world.ring(&[1, 2, 3])), (3, 3, 2));
    world.configure(3, list_of(&[1, 2, 3, 4, 5]));
    let verdict = world.ring(&[3, 5]);
    assert_eq!(verdict.inquorate, Some(Inquorate::TooFewVotes { total: 1, quorum: 2 }));
    assert!(is_quorate(&world.ring(&[1, 2])));
}

#[test]
fn votes_of_unlisted_members_do_not_count() {
    let mut world = World::plain(5);
    for n in 1..=5 {
        world.configure(n, list_of(&[1, 2, 3]));
    }
    assert!(is_quorate(&world.ring(&[1, 2, 3])));
    let verdict = world.ring(&[3, 4, 5]);
    assert_eq!(counted(&verdict), (1, 3, 2));
    assert!(!is_quorate(&verdict));
}

#[test]
fn a_stale_file_takes_no_votes_and_is_named() {
    let mut world = World::plain(4);
    world.ring(&[1, 2, 4]);
    world.configure(3, list_of(&[1, 2, 3]));
    let verdict = world.ring(&[1, 2, 3, 4]);
    assert_eq!((counted(&verdict), is_quorate(&verdict)), ((4, 4, 3), true));
    assert_eq!(verdict.differences, ["the file of node 3 does not list 4"]);
}

#[test]
fn new_nodes_do_not_make_themselves_voters() {
    let mut world = World::plain(5);
    (1..=3).for_each(|n| world.configure(n, list_of(&[1, 2, 3])));
    world =
        World { nodes: world.configs.iter().map(|(&n, config)| (n, Quorum::new(config))).collect(), ..world };
    assert!(!is_quorate(&world.ring(&[4, 5])), "4 and 5 list all five");
    for n in 1..=3 {
        let record = Record::of_old(Electorate::of(&world.configs[&id(n)]));
        world.nodes.insert(id(n), Quorum::new(&world.configs[&id(n)]).with_record(record));
    }
    let verdict = world.ring(&[1, 2, 3, 4, 5]);
    assert_eq!(counted(&verdict), (3, 3, 2));
    assert!(!is_quorate(&world.ring(&[3, 4, 5])));
}

/// Replaces these nodes by ones with this file that have never been in a ring.
fn new_nodes(world: &mut World, nodes: &[u32], file: &[u32]) {
    for &n in nodes {
        list_of(file)(world.configs.get_mut(&id(n)).unwrap());
        world.nodes.insert(id(n), Quorum::new(&world.configs[&id(n)]));
    }
}

#[test]
fn a_cluster_of_one_does_not_outvote_a_cluster() {
    let mut world = World::plain(4);
    new_nodes(&mut world, &[1, 2, 3], &[1, 2, 3]);
    assert!(is_quorate(&world.ring(&[1, 2, 3])));
    new_nodes(&mut world, &[4], &[4]);
    assert!(is_quorate(&world.ring(&[4])), "a cluster by itself");
    (1..=4).for_each(|n| world.configure(n, list_of(&[1, 2, 3, 4])));
    let verdict = world.ring(&[1, 4]);
    assert_eq!(verdict.inquorate, Some(Inquorate::TooFewVotes { total: 1, quorum: 2 }));
    assert!(is_quorate(&world.ring(&[2, 3])));
    assert_eq!(counted(&world.ring(&[1, 2, 3, 4])), (4, 4, 3), "its list ends, and the change is made");
}

#[test]
fn parts_of_two_clusters_do_not_make_one() {
    let mut world = World::plain(6);
    new_nodes(&mut world, &[1, 2, 3], &[1, 2, 3]);
    new_nodes(&mut world, &[4, 5, 6], &[4, 5, 6]);
    assert!(is_quorate(&world.ring(&[1, 2, 3])) && is_quorate(&world.ring(&[4, 5, 6])));
    let verdict = world.ring(&[1, 2, 4, 5]);
    assert_eq!(verdict.inquorate, Some(Inquorate::Apart { one: id(1), other: id(4) }));
    // Each cluster keeps its own agreement.
    assert!(is_quorate(&world.ring(&[1, 2])) && is_quorate(&world.ring(&[4, 5])));
    let verdict = world.ring(&[1, 2, 4, 5, 6]);
    assert_eq!(counted(&verdict), (2, 3, 2), "the second one is complete, and ends");
    assert!(is_quorate(&verdict));
}

#[test]
fn a_cluster_is_quorate_once_all_have_stored_the_agreement() {
    let mut world = World::plain(3).fresh();
    let members = ids(&[1, 2, 3]);
    let ring = RingId { seq: 4, representative: id(1) };
    let opened: Vec<(NodeInfo, Ballot)> =
        members.iter().map(|node| world.nodes.get_mut(node).unwrap().open(&members)).collect();
    let said = members.iter().copied().zip(opened.iter().map(|(info, _)| *info)).collect();
    let ballots = members.iter().copied().zip(opened.iter().map(|(_, ballot)| ballot)).collect();
    let node = world.nodes.get_mut(&id(1)).unwrap();
    let judged = node.judge(Time::default(), ring, &members, &said, &ballots, &BTreeSet::new());
    assert_eq!(judged.inquorate, Some(Inquorate::Founding));
    assert!(node.has_stored(&node.record().text()));
    assert_eq!((node.hear_stored(id(1)), node.hear_stored(id(3))), (None, None));
    assert!(is_quorate(&node.hear_stored(id(2)).unwrap()));
}

/// A node that lost its record has no say in a change that its file would make.
#[test]
fn a_file_of_a_node_without_a_record_is_no_proposal() {
    let mut world = World::plain(3);
    wait_for_all(world.configs.get_mut(&id(3)).unwrap());
    world.nodes.insert(id(3), Quorum::new(&world.configs[&id(3)]));
    let verdict = world.ring(&[1, 2, 3]);
    assert_eq!((is_quorate(&verdict), verdict.flags), (true, vec!["Quorate"]));
    assert_eq!(verdict.differences, ["the file of node 3 has a different quorum.wait_for_all"]);
}

/// A step of an operator that changes the size of a cluster, node by node.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Restarts a node with the new file, whether or not it was up.
    Restart(u32),
    Stop(u32),
}

/// Returns all orders of these steps.
fn orders(steps: &[Step]) -> impl Iterator<Item = Vec<Step>> {
    steps.iter().copied().permutations(steps.len())
}

/// Returns the nodes that are up in each ring of such an order, and whether that ring had quorum.
fn quorum_in(order: &[Step], before: u32, list: &[u32]) -> Vec<(Vec<u32>, bool)> {
    let mut world = World::plain(5);
    let old: Vec<u32> = (1..=before).collect();
    (1..=5).for_each(|n| world.configure(n, list_of(&old)));
    for n in 1..=5 {
        let config = &world.configs[&id(n)];
        let record = if n <= before { Record::of_old(Electorate::of(config)) } else { Record::default() };
        world.nodes.insert(id(n), Quorum::new(config).with_record(record));
    }
    let mut up: BTreeSet<u32> = (1..=before).collect();
    let mut seen = Vec::new();
    let mut ring = |world: &mut World, up: &BTreeSet<u32>| {
        let up: Vec<u32> = up.iter().copied().collect();
        seen.push((up.clone(), is_quorate(&world.ring(&up))));
    };
    ring(&mut world, &up);
    for step in order {
        let (Step::Restart(node) | Step::Stop(node)) = *step;
        if up.remove(&node) {
            ring(&mut world, &up);
        }
        if let Step::Restart(node) = *step {
            world.configure(node, list_of(list));
            up.insert(node);
            ring(&mut world, &up);
        }
    }
    let agreed = world.nodes[&id(1)].record().agreed.clone().unwrap().electorate;
    assert_eq!(agreed.votes.len(), list.len(), "after {order:?} all know the new list");
    seen
}

#[test]
fn a_growing_cluster_keeps_quorum_in_every_restart_order() {
    let all = [1, 2, 3, 4, 5];
    for order in orders(&all.map(Step::Restart)) {
        for (up, quorate) in quorum_in(&order, 3, &all) {
            assert!(quorate, "{up:?}, {order:?}");
        }
    }
}

#[test]
fn a_shrinking_cluster_keeps_quorum_in_every_restart_order() {
    let steps = [Step::Restart(1), Step::Restart(2), Step::Restart(3), Step::Stop(4), Step::Stop(5)];
    for order in orders(&steps) {
        // If both nodes are stopped before any node knows that they will not come back, a third
        // node that is down is one too many.
        let unannounced = order[..2].iter().all(|step| matches!(step, Step::Stop(_)));
        for (up, quorate) in quorum_in(&order, 5, &[1, 2, 3]) {
            assert!(quorate || unannounced && up.len() < 3, "{up:?}, {order:?}");
        }
    }
}

#[test]
fn two_nodes_become_three_in_every_restart_order() {
    let all = [1, 2, 3];
    for order in orders(&all.map(Step::Restart)) {
        let seen = quorum_in(&order, 2, &all);
        let last = seen.last().unwrap();
        assert!(last.1, "{seen:?}");
        // With two nodes, both must be up.
        let both = |up: &[u32]| up.contains(&1) && up.contains(&2);
        assert!(seen.iter().all(|(up, quorate)| *quorate || !both(up)), "{seen:?}, {order:?}");
    }
}

#[test]
fn a_corosync_member_has_the_options_of_the_others() {
    let mut world = World::new(2, two_node);
    let verdict = world.ring_with(&[1, 2], |_, ballots| drop(ballots.remove(&id(2))));
    assert!(is_quorate(&verdict));
}

proptest! {
    /// Any claims, including hostile ones.
    #[test]
    fn the_rules_hold_for_any_claims(
        claims in proptest::collection::vec((any::<u32>(), any::<u32>(), 0_u32..16), 1..8),
        silent in any::<bool>(),
    ) {
        let members: BTreeSet<NodeId> = (1..).take(claims.len()).map(id).collect();
        let mut said: BTreeMap<NodeId, NodeInfo> = members.iter().zip(&claims)
            .map(|(&id, &(votes, expected_votes, flags))| (id, NodeInfo { node: Some(id), votes, expected_votes, flags }))
            .collect();
        if silent {
            said.pop_last();
        }
        let ring = RingId { seq: 4, representative: id(1) };
        let judge = |expected: Option<u32>| {
            let mut config = Config::new(id(1));
            config.quorum.expected_votes = expected;
            let mut quorum = Quorum::new(&config);
            let verdict = quorum.judge(Time::default(), ring, &members, &said, &BTreeMap::new(), &BTreeSet::new());
            (quorum, verdict)
        };
        let ((judge, verdict), (_, others)) = (judge(Some(3)), judge(None));
        prop_assert_eq!(&verdict, &others, "a judgement depends on nothing private");
        if is_quorate(&verdict) {
            let (total, expected, quorum) = counted(&verdict);
            prop_assert!(!silent);
            prop_assert!(expected >= total && total >= quorum);
            prop_assert!(u64::from(quorum) * 2 > u64::from(expected), "two quorums share a vote");
            prop_assert_eq!(quorum, (expected / 2 + 1).max(total / 2 + 1));
            prop_assert_eq!(judge.expected_votes(), Some(expected));
        }
    }

    /// With strict options, no two rings without a common member are quorate in turn, whichever
    /// rings form. A node in part 3 has not noticed yet that its ring is over.
    #[test]
    fn with_strict_options_two_quorate_rings_meet(
        rings in proptest::collection::vec((proptest::collection::vec(0_u8..4, 4), 0_u32..9), 1..20),
        highest: bool,
    ) {
        let tie_breaker = if highest { TieBreaker::Highest } else { list(&[2, 3]) };
        let mut world = World::new(4, |config| {
            config.quorum.wait_for_all = Some(true);
            config.quorum.auto_tie_breaker = Some(tie_breaker.clone());
        });
        let mut last: Option<Vec<u32>> = None;
        for (parts, restarts) in rings {
            if (1..=4).contains(&restarts) {
                world.restart(&[restarts]);
            }
            for part in 0..3 {
                let nodes: Vec<u32> = (1..).zip(&parts).filter(|(_, of)| **of == part).map(|(n, _)| n).collect();
                if nodes.is_empty() {
                    continue;
                }
                if is_quorate(&world.ring(&nodes)) {
                    if let Some(last) = last.filter(|last| !last.iter().any(|node| nodes.contains(node))) {
                        prop_assert!(false, "{last:?} and {nodes:?}");
                    }
                    last = Some(nodes);
                }
            }
        }
    }
}
