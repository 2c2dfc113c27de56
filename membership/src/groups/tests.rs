use super::*;

fn node(id: u32) -> NodeId {
    NodeId::new(id).unwrap()
}

fn group(name: &str) -> Group {
    name.parse().unwrap()
}

fn ring(seq: u64) -> RingId {
    RingId { seq, representative: node(1) }
}

fn process(node_id: u32, pid: u32) -> Process {
    Process { node: node(node_id), pid }
}

fn said(body: Body) -> (CpgProcess, bool) {
    match body {
        Body::CpgJoin(process) => (process, true),
        Body::CpgLeave(process) => (process, false),
        other => panic!("{other:?}"),
    }
}

/// Nodes that deliver the same messages.
struct World(Vec<Groups>);

impl World {
    fn new(nodes: u32) -> Self {
        Self((1..=nodes).map(|id| Groups::new(node(id))).collect())
    }

    fn of(&mut self, id: u32) -> &mut Groups {
        self.0.iter_mut().find(|groups| groups.me == node(id)).unwrap()
    }

    /// Delivers the message at all nodes. Returns the change, which must be the same everywhere.
    fn deliver(&mut self, from: u32, body: Body) -> Option<String> {
        let (process, joins) = said(body);
        let told: Vec<_> = self
            .0
            .iter_mut()
            .map(|groups| groups.handle_process(ring(4), node(from), process.clone(), joins).unwrap())
            .map(|change| change.as_ref().map(text))
            .collect();
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
        told[0].clone()
    }

    fn join(&mut self, id: u32, name: &str, pid: u32) -> Option<String> {
        let body = self.of(id).join(&group(name), pid).unwrap();
        self.deliver(id, body)
    }

    /// Forms a new ring of these nodes, each given with the nodes that it lost. Returns the changes
    /// at each node.
    fn sync(&mut self, members: &[(u32, &[u32])]) -> Vec<Vec<String>> {
        let all: BTreeSet<NodeId> = members.iter().map(|(id, _)| node(*id)).collect();
        for (id, lost) in members {
            self.of(*id).begin_sync(&lost.iter().copied().map(node).collect());
        }
        for (id, _) in members {
            for body in self.of(*id).sync_messages() {
                if let Body::CpgJoinList(list) = body {
                    for (other, _) in members {
                        self.of(*other).handle_join_list(node(*id), list.clone()).unwrap();
                    }
                }
            }
        }
        let settled = members.iter().map(|(id, _)| self.of(*id).settle(ring(8), &all));
        settled.map(|changes| changes.iter().map(text).collect()).collect()
    }
}

/// Formats a change as `group reason: processes -> members`.
fn text(change: &GroupChange) -> String {
    let list = |processes: &BTreeSet<Process>| {
        processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert!(change.joined.is_empty() != change.left.is_empty());
    let who = change.joined.union(&change.left).copied().collect();
    format!("{} {}: {} -> {}", change.group, change.reason, list(&who), list(&change.members))
}

#[test]
fn processes_join_and_leave_where_their_message_is_delivered() {
    let mut world = World::new(2);
    assert_eq!(world.join(1, "g", 70), Some("g join: 1:70 -> 1:70".into()));
    assert_eq!(world.join(2, "g", 5), Some("g join: 2:5 -> 1:70 2:5".into()));
    assert_eq!(world.join(1, "g", 9), Some("g join: 1:9 -> 1:9 1:70 2:5".into()));
    let leave = world.of(1).leave(&group("g"), 70, Parting::Left).unwrap();
    assert_eq!(world.deliver(1, leave), Some("g leave: 1:70 -> 1:9 2:5".into()));
    let died = world.of(2).leave(&group("g"), 5, Parting::Died).unwrap();
    assert_eq!(world.deliver(2, died), Some("g procdown: 2:5 -> 1:9".into()));
    assert_eq!(world.of(1).members(&group("g")), Some(&[process(1, 9)].into()));
}

#[test]
fn repeated_joins_and_leaves_change_nothing() {
    let mut groups = Groups::new(node(1));
    let g = group("g");
    assert_eq!(groups.leave(&g, 7, Parting::Left), Err(GroupError::NotMember));
    let join = groups.join(&g, 7).unwrap();
    assert_eq!(groups.join(&g, 7), Err(GroupError::AlreadyMember));
    groups.join(&g, 8).unwrap();
    groups.join(&group("other"), 7).unwrap();
    groups.handle_process(ring(4), node(1), said(join.clone()).0, true).unwrap().unwrap();
    assert_eq!(groups.handle_process(ring(4), node(1), said(join).0, true), Ok(None), "said twice");
    assert_eq!(groups.join(&g, 7), Err(GroupError::AlreadyMember));
    let leave = groups.leave(&g, 7, Parting::Left).unwrap();
    assert_eq!(groups.join(&g, 7), Err(GroupError::StillLeaving));
    assert_eq!(groups.leave(&g, 7, Parting::Left), Err(GroupError::NotMember));
    groups.handle_process(ring(4), node(1), said(leave.clone()).0, false).unwrap().unwrap();
    assert_eq!(groups.handle_process(ring(4), node(1), said(leave).0, false), Ok(None), "said twice");
    assert!(groups.join(&g, 7).is_ok());
}

#[test]
fn a_process_that_leaves_before_its_join_is_delivered_does_both() {
    let mut world = World::new(2);
    let join = world.of(1).join(&group("g"), 7).unwrap();
    let leave = world.of(1).leave(&group("g"), 7, Parting::Left).unwrap();
    assert!(world.of(1).any_local());
    assert_eq!(world.deliver(1, join), Some("g join: 1:7 -> 1:7".into()));
    assert_eq!(world.deliver(1, leave), Some("g leave: 1:7 -> ".into()));
    assert!(!world.of(1).any_local());
}

#[test]
fn a_crashed_nodes_processes_leave_each_group_in_one_change() {
    let mut world = World::new(3);
    for (id, name, pid) in [(3, "b", 1), (3, "b", 2), (3, "a", 1), (1, "b", 1), (2, "c", 1)] {
        world.join(id, name, pid);
    }
    let told = world.sync(&[(1, &[3]), (2, &[3])]);
    let expect = ["a nodedown: 3:1 -> ", "b nodedown: 3:1 3:2 -> 1:1"];
    assert_eq!(told, [expect, expect]);
}

#[test]
fn two_halves_that_meet_again_learn_of_each_others_processes() {
    let mut world = World::new(4);
    for id in 1..=4 {
        world.join(id, "g", 10 * id);
    }
    world.sync(&[(1, &[3, 4]), (2, &[3, 4])]);
    world.sync(&[(3, &[1, 2]), (4, &[1, 2])]);
    let told = world.sync(&[(1, &[]), (2, &[]), (3, &[]), (4, &[])]);
    assert_eq!(told[0], ["g nodeup: 3:30 4:40 -> 1:10 2:20 3:30 4:40"]);
    assert_eq!(told[1], told[0]);
    assert_eq!(told[2], ["g nodeup: 1:10 2:20 -> 1:10 2:20 3:30 4:40"]);
    assert_eq!(told[3], told[2]);
}

#[test]
fn a_restart_within_one_ring_change_drops_the_old_processes() {
    let mut world = World::new(2);
    world.join(2, "g", 20);
    world.join(1, "g", 10);
    *world.of(2) = Groups::new(node(2));
    let told = world.sync(&[(1, &[2]), (2, &[])]);
    assert_eq!(told[0], ["g nodedown: 2:20 -> 1:10"]);
    assert_eq!(told[1], ["g nodeup: 1:10 -> 1:10"]);
}

#[test]
fn an_absence_during_an_unfinished_sync_counts() {
    let mut world = World::new(3);
    world.join(3, "g", 30);
    world.join(1, "g", 10);
    // The sync of a ring without node 3 is still unfinished when node 3 returns.
    world.of(1).begin_sync(&[node(3)].into());
    world.of(2).begin_sync(&[node(3)].into());
    world.of(3).begin_sync(&[node(1), node(2)].into());
    let told = world.sync(&[(1, &[]), (2, &[]), (3, &[])]);
    assert_eq!(told[0], ["g nodedown: 3:30 -> 1:10", "g nodeup: 3:30 -> 1:10 3:30"]);
    assert_eq!(told[2], ["g nodedown: 1:10 -> 3:30", "g nodeup: 1:10 -> 1:10 3:30"]);
}

#[test]
fn a_process_that_its_node_no_longer_lists_is_dead() {
    let mut world = World::new(2);
    world.join(1, "g", 10);
    world.join(2, "g", 20);
    world.join(2, "g", 21);
    let seats = [CpgMember { pid: 21, group: group("g") }];
    world.of(1).begin_sync(&BTreeSet::new());
    world.of(1).handle_join_list(node(2), seats.to_vec()).unwrap();
    let changes = world.of(1).settle(ring(8), &[node(1), node(2)].into());
    assert_eq!(changes.iter().map(text).collect::<Vec<_>>(), ["g procdown: 2:20 -> 1:10 2:21"]);
}

#[test]
fn lists_of_strangers_and_of_earlier_rings_are_ignored() {
    let mut groups = Groups::new(node(1));
    let seats = || vec![CpgMember { pid: 1, group: group("g") }];
    groups.handle_join_list(node(2), seats()).unwrap();
    groups.begin_sync(&BTreeSet::new());
    groups.handle_join_list(node(9), seats()).unwrap();
    assert_eq!(groups.settle(ring(8), &[node(1), node(2)].into()), []);
}

#[test]
fn every_sync_lists_exactly_the_delivered_local_processes() {
    let mut world = World::new(2);
    assert_eq!(world.of(1).sync_messages(), []);
    world.join(1, "b", 7);
    world.join(1, "a", 8);
    world.join(2, "a", 9);
    world.of(1).join(&group("c"), 7).unwrap();
    let list = |pid, name| CpgMember { pid, group: group(name) };
    let expect = Body::CpgJoinList(vec![list(8, "a"), list(7, "b")]);
    for _ in 0..2 {
        world.of(1).begin_sync(&BTreeSet::new());
        assert_eq!(world.of(1).sync_messages(), std::slice::from_ref(&expect));
        world.of(1).settle(ring(8), &[node(1)].into());
    }
    world.of(1).begin_sync(&[node(2)].into());
    let down = Body::CpgDownList { old_members: 1, left: vec![node(2)] };
    assert_eq!(world.of(1).sync_messages(), [down, expect]);
}

#[test]
fn a_group_takes_no_more_members_than_libcpg_has_room_for() {
    let mut world = World::new(2);
    for pid in 1..=127 {
        world.join(2, "g", pid);
    }
    world.of(1).join(&group("g"), 1).unwrap();
    assert_eq!(world.of(1).join(&group("g"), 2), Err(GroupError::GroupFull));
    assert!(world.of(1).join(&group("other"), 2).is_ok());
}

#[test]
fn the_number_of_seats_of_every_node_is_bounded() {
    let mut groups = Groups::new(node(1));
    for n in 0..Groups::MAX_SEATS {
        groups.join(&group(&format!("g{n}")), 1).unwrap();
    }
    assert_eq!(groups.join(&group("more"), 1), Err(GroupError::NodeFull));
    let many: Vec<CpgMember> =
        (0..Groups::MAX_SEATS_OF_OTHERS as u32).map(|pid| CpgMember { pid, group: group("g") }).collect();
    groups.handle_join_list(node(2), many.clone()).unwrap();
    assert_eq!(groups.handle_join_list(node(2), vec![many[0].clone()]), Err(Refusal::TooMany));
    groups.settle(ring(4), &[node(1), node(2)].into());
    let one_more = CpgProcess { group: group("h"), pid: 1, reason: CpgProcess::JOIN };
    assert_eq!(groups.handle_process(ring(4), node(2), one_more, true), Err(Refusal::TooMany));
}

#[test]
fn leaving_for_good_leaves_every_group() {
    let mut world = World::new(2);
    world.join(1, "a", 7);
    world.join(2, "a", 7);
    let joining = world.of(1).join(&group("b"), 7).unwrap();
    let leaves = world.of(1).leave_all();
    assert_eq!(leaves.len(), 2);
    assert_eq!(world.of(1).leave_all(), [], "all is said");
    world.deliver(1, joining);
    for leave in leaves {
        assert!(world.of(1).any_local());
        world.deliver(1, leave);
    }
    assert!(!world.of(1).any_local());
    assert_eq!(world.of(2).members(&group("a")), Some(&[process(2, 7)].into()));
}
