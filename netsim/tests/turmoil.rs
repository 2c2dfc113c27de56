//! Complete nodes, including driver and election, on a simulated network with faults. Every run is
//! checked against all invariants (`Scenario::run`). The tests also check the outcome of each
//! scenario.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use quorate_election::{Event, Status};
use quorate_membership::{Group, GroupReason, Guarantee, NodeId, Parting};
use quorate_netsim::history::What;
use quorate_netsim::{Fault, History, Host, Load, Others, Scenario};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::{TcpListener, TcpStream};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn ids(nodes: &[u32]) -> Vec<NodeId> {
    nodes.iter().filter_map(|&node| NodeId::new(node)).collect()
}

/// A time that is long enough for any cluster here to settle.
const SETTLED: Duration = Duration::from_millis(2500);

#[track_caller]
fn run(scenario: &Scenario) -> History {
    scenario.run().unwrap_or_else(|failure| panic!("{failure}"))
}

fn status(history: &History, node: u32, at: Duration) -> &Status {
    history.status(node, at).unwrap_or_else(|| panic!("node {node} knows nothing at {at:?}\n{history}"))
}

/// Asserts that exactly these nodes form a settled ring and name the same DC, and returns the DC.
#[track_caller]
fn one_ring(history: &History, at: Duration, members: &[u32], quorate: bool) -> u32 {
    let first = status(history, members[0], at);
    for &node in members {
        let status = status(history, node, at);
        let online: Vec<NodeId> =
            status.nodes.iter().filter(|node| node.online).map(|node| node.id).collect();
        assert_eq!(online, ids(members), "members at {at:?} as node {node} knows them\n{history}");
        assert!(status.settled, "node {node} at {at:?}\n{history}");
        assert_eq!(
            (status.ring, status.dc, status.term),
            (first.ring, first.dc, first.term),
            "node {node}\n{history}"
        );
        assert_eq!((status.quorate, status.term.is_some()), (quorate, quorate), "node {node}\n{history}");
    }
    first.dc.unwrap_or_else(|| panic!("no dc at {at:?}\n{history}")).get()
}

/// Returns the time at which the last of these nodes first had a DC other than `than`.
fn last_to_know_another_dc(history: &History, nodes: &[u32], than: u32, after: Duration) -> Duration {
    let first = |node: u32| {
        let mut statuses = history.statuses().into_iter().filter(|stated| stated.life.node.get() == node);
        statuses
            .find(|s| s.at > after && s.status.quorate && s.status.dc.is_some_and(|dc| dc.get() != than))
            .unwrap_or_else(|| panic!("node {node} knows no other dc\n{history}"))
            .at
    };
    nodes.iter().map(|&node| first(node)).max().unwrap_or_default()
}

#[test]
fn any_number_of_nodes_forms_one_ring_with_one_dc() {
    for nodes in [1, 3, 5, 9] {
        let scenario = Scenario::new(nodes, SETTLED).seed(u64::from(nodes));
        assert!(scenario.settles_within() <= SETTLED);
        let history = run(&scenario);
        let members: Vec<u32> = (1..=nodes).collect();
        let dc = one_ring(&history, scenario.settles_within(), &members, true);
        assert!(members.contains(&dc));
        let rings = history.stays().into_values().map(|stays| stays.len()).max();
        assert!(rings <= Some(3), "once it stands, a ring is left alone\n{history}");
    }
}

#[test]
fn when_the_dc_dies_another_one_is_elected_in_time() {
    // Node 1 starts late. It represents the ring, and node 2 stays the DC.
    let scenario = Scenario::new(5, ms(6500))
        .at(ms(0), Fault::Crash(1))
        .at(SETTLED, Fault::Restart(1))
        .at(2 * SETTLED, Fault::Crash(2));
    let history = run(&scenario);
    let before = 2 * SETTLED - ms(1);
    assert_eq!(one_ring(&history, before, &[1, 2, 3, 4, 5], true), 2);
    assert_eq!(status(&history, 5, before).ring.unwrap().representative, ids(&[1])[0]);

    let dc = one_ring(&history, ms(6499), &[1, 3, 4, 5], true);
    assert_eq!(dc, 3, "the longest in the ring, then the lowest id");
    let totem = scenario.totem();
    let took = last_to_know_another_dc(&history, &[1, 3, 4, 5], 2, before) - 2 * SETTLED;
    assert!(took <= totem.token + totem.consensus + ms(200), "took {took:?}\n{history}");
    let term = |at| status(&history, 3, at).term;
    assert!(term(before) < term(ms(6499)));
}

#[test]
fn a_dc_that_hangs_or_is_released_gives_up_the_role() {
    let scenario = Scenario::new(3, ms(8000))
        .heartbeat(ms(300))
        .at(ms(3000), Fault::Hang { node: 1, lasts: ms(1500) })
        .at(ms(5000), Fault::Release(3))
        .at(ms(6000), Fault::Release(2));
    let history = run(&scenario);
    let dc = |at| one_ring(&history, ms(at), &[1, 2, 3], true);
    assert_eq!([2900, 3200, 3600, 4900, 5900, 7900].map(dc), [1, 1, 2, 2, 2, 1]);
    assert_eq!(
        status(&history, 1, ms(2900)).ring,
        status(&history, 1, ms(7900)).ring,
        "one ring all the time"
    );
    let hung: Vec<bool> = history
        .records()
        .iter()
        .filter_map(|record| if let What::Hung(hung) = record.what { Some(hung) } else { None })
        .collect();
    assert_eq!(hung, [true, false]);
}

#[test]
fn a_preferred_node_that_joins_is_handed_the_role() {
    for preempt in [false, true] {
        let scenario = Scenario::new(3, ms(6000))
            .dc_priority(3, 2)
            .at(ms(0), Fault::Crash(3))
            .at(ms(3000), Fault::Restart(3));
        let history = run(&if preempt { scenario.preempt() } else { scenario });
        assert_eq!(one_ring(&history, ms(2900), &[1, 2], true), 1);
        assert_eq!(one_ring(&history, ms(5900), &[1, 2, 3], true), if preempt { 3 } else { 1 });
    }
}

#[test]
fn when_the_representative_dies_the_dc_stays_in_office() {
    let scenario = Scenario::new(5, ms(6500))
        .at(ms(0), Fault::Crash(1))
        .at(SETTLED, Fault::Restart(1))
        .at(2 * SETTLED, Fault::Crash(1));
    let history = run(&scenario);
    assert_eq!(one_ring(&history, 2 * SETTLED - ms(1), &[1, 2, 3, 4, 5], true), 2);
    assert_eq!(one_ring(&history, ms(6499), &[2, 3, 4, 5], true), 2);
    assert_eq!(status(&history, 5, ms(6499)).ring.unwrap().representative, ids(&[2])[0]);
}

#[test]
fn the_majority_of_a_split_keeps_quorum_and_its_dc() {
    for (seed, majority, minority) in [(1, [1, 2, 3], [4, 5]), (2, [3, 4, 5], [1, 2])] {
        let scenario = Scenario::new(5, 3 * SETTLED)
            .seed(seed)
            .at(SETTLED, Fault::Partition(vec![majority.to_vec(), minority.to_vec()]))
            .at(2 * SETTLED, Fault::Heal);
        let history = run(&scenario);
        let apart = 2 * SETTLED - ms(1);
        let incumbent = one_ring(&history, apart, &majority, true);
        assert_eq!(incumbent, majority[0]);
        assert_eq!(one_ring(&history, apart, &minority, false), minority[0], "shown, but without a term");
        let healed = one_ring(&history, 3 * SETTLED, &[1, 2, 3, 4, 5], true);
        assert_eq!(healed, incumbent, "the quorate side's DC keeps its office");
    }
}

#[test]
fn a_split_without_a_majority_leaves_no_part_quorate() {
    let scenario = Scenario::new(5, 3 * SETTLED)
        .at(SETTLED, Fault::Partition(vec![vec![1, 2], vec![3, 4], vec![5]]))
        .at(2 * SETTLED, Fault::Heal);
    let history = run(&scenario);
    for members in [&[1, 2][..], &[3, 4], &[5]] {
        one_ring(&history, 2 * SETTLED - ms(1), members, false);
    }
    let healed = one_ring(&history, 3 * SETTLED, &[1, 2, 3, 4, 5], true);
    assert_eq!(healed, 1, "the last DC with quorum");
}

fn cut_one_way(from: u32, to: u32) -> (History, bool) {
    let scenario = Scenario::new(3, 3 * SETTLED)
        .load(Load { every: ms(20), until: 2 * SETTLED, longest: 500, safe_percent: 50 })
        .at(SETTLED, Fault::CutOneWay { from, to })
        .at(2 * SETTLED, Fault::Heal);
    let history = run(&scenario);
    one_ring(&history, 3 * SETTLED, &[1, 2, 3], true);
    let noticed = history.records().iter().any(|record| {
        record.at > SETTLED && record.at < 2 * SETTLED && matches!(record.what, What::Transitional(_))
    });
    (history, noticed)
}

#[test]
fn a_one_way_cut_on_the_tokens_path_breaks_no_promise_and_heals() {
    // The two sides see different rings during the cut, so one ring is not promised then.
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        let (history, noticed) = cut_one_way(from, to);
        assert!(noticed, "the token cannot go from {from} to {to}\n{history}");
    }
}

#[test]
fn a_one_way_cut_off_the_tokens_path_costs_only_resends() {
    for (from, to) in [(1, 3), (2, 1), (3, 2)] {
        let (history, noticed) = cut_one_way(from, to);
        assert!(!noticed, "the ring goes on\n{history}");
        assert_eq!(history.delivered(1).len(), history.delivered(3).len());
        assert!(history.delivered(to).iter().any(|message| message.from == ids(&[from])[0]));
    }
}

#[test]
fn a_restart_within_the_token_timeout_changes_the_ring() {
    for node in 1..=3 {
        let scenario = Scenario::new(3, 2 * SETTLED)
            .seed(u64::from(node))
            .load(Load { every: ms(10), until: ms(4000), longest: 1000, safe_percent: 30 })
            .at(SETTLED, Fault::Crash(node))
            .at(SETTLED + ms(50), Fault::Restart(node));
        let history = run(&scenario);
        let dc = one_ring(&history, 2 * SETTLED, &[1, 2, 3], true);
        assert_eq!(dc, if node == 1 { 2 } else { 1 }, "who started again is no incumbent");
        // M4: no node that saw the restart was told that the restarted node came along.
        let other = if node == 1 { 2 } else { 1 };
        let told = history.records().iter().rev().find_map(|record| match &record.what {
            What::Transitional(change) if record.life.is_some_and(|life| life.node.get() == other) => {
                Some(change)
            }
            _ => None,
        });
        assert!(!told.expect("a change").members.contains(&ids(&[node])[0]), "{history}");
    }
}

#[test]
fn messages_survive_crashes_cuts_and_restarts() {
    // Short messages share a frame. Long ones take many frames each, so a change always breaks one
    // in the middle.
    for (seed, every, longest) in
        [(1, ms(8), 2000), (2, ms(8), 2000), (3, ms(30), 60_000), (4, ms(30), 60_000)]
    {
        let scenario = Scenario::new(5, ms(9000))
            .seed(seed)
            .load(Load { every, until: ms(7000), longest, safe_percent: 40 })
            .at(ms(1500), Fault::Crash(5))
            .at(ms(2300), Fault::Restart(5))
            .at(ms(3200), Fault::Partition(vec![vec![1, 4], vec![2, 3, 5]]))
            .at(ms(4300), Fault::Partition(vec![vec![1, 2, 3], vec![4, 5]]))
            .at(ms(4500), Fault::Restart(2))
            .at(ms(5200), Fault::Heal)
            .at(ms(5250), Fault::CutOneWay { from: 4, to: 2 })
            .at(ms(6000), Fault::Heal);
        let history = run(&scenario);
        one_ring(&history, ms(9000), &[1, 2, 3, 4, 5], true);
        for guarantee in [Guarantee::Agreed, Guarantee::Safe] {
            let delivered =
                history.delivered(1).iter().filter(|message| message.guarantee == guarantee).count();
            assert!(delivered > 300, "{delivered} {guarantee}");
        }
        let in_transitional: usize =
            history.stays().values().flatten().map(|stay| stay.in_transitional.len()).sum();
        assert!(in_transitional > 0, "some message came between two rings");
    }
}

fn eventful(seed: u64) -> Scenario {
    Scenario::new(5, ms(3500))
        .seed(seed)
        .load(Load { every: ms(10), until: ms(3000), longest: 3000, safe_percent: 30 })
        .at(ms(1000), Fault::Partition(vec![vec![1, 2], vec![3, 4, 5]]))
        .at(ms(1700), Fault::Restart(3))
        .at(ms(2200), Fault::Heal)
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_last_byte() {
    let (once, again) = (run(&eventful(7)), run(&eventful(7)));
    assert_eq!(once.to_string(), again.to_string());
    assert_eq!(once.fingerprint(), again.fingerprint());
    assert_eq!(once.datagrams(), again.datagrams());
}

#[test]
fn another_seed_gives_another_run() {
    let (one, other) = (run(&eventful(7)), run(&eventful(8)));
    assert_ne!(one.to_string(), other.to_string());
    assert_ne!(one.fingerprint(), other.fingerprint());
    // Seeds differ even without a load, because the nodes' turns and delays are drawn as well.
    let idle = |seed| run(&Scenario::new(3, ms(1000)).seed(seed)).fingerprint();
    assert_ne!(idle(1), idle(2));
}

#[test]
fn a_failing_service_fails_the_run_and_names_the_node() {
    let scenario = Scenario::new(2, ms(100));
    let failed = scenario.run_service(async |host| match host.id.get() {
        2 => Err("out of tickets".into()),
        _ => Ok(()),
    });
    let why = failed.unwrap_err().to_string();
    assert!(why.starts_with("node 2: out of tickets\n\nscenario\n2 nodes for 100ms"), "{why}");
    let panicked = scenario.run_service(async |_| panic!("no more tickets"));
    assert!(panicked.unwrap_err().to_string().contains("no more tickets"));
}

#[test]
fn a_node_stays_a_member_when_its_service_returns() {
    let scenario = Scenario::new(3, SETTLED);
    let history = scenario.run_service(async |_| Ok(())).unwrap();
    one_ring(&history, SETTLED, &[1, 2, 3], true);
}

/// Runs a scenario with one disturbance of single datagrams.
fn disturbed(trouble: &str) -> History {
    let fault = |text: &str| text.parse().expect("a fault");
    let scenario = Scenario::new(3, 2 * SETTLED)
        .load(Load { every: ms(20), until: 2 * SETTLED - ms(500), longest: 500, safe_percent: 50 })
        .at(SETTLED, fault(trouble));
    let history = run(&scenario);
    one_ring(&history, 2 * SETTLED, &[1, 2, 3], true);
    history
}

#[test]
fn single_datagrams_can_be_lost_doubled_and_late() {
    let undisturbed = disturbed("for 1ms lose 0 % of datagrams");
    for trouble in [
        "for 1s lose 10 % of datagrams",
        "for 1s lose 50 % of frames from node 1 to node 2",
        "for 1s lose bursts of 20ms every 200ms of datagrams",
        "for 1s duplicate 50 % within 30ms of datagrams",
        "for 1s delay 50 % by up to 5ms of datagrams",
    ] {
        let history = disturbed(trouble);
        assert_ne!(history.fingerprint(), undisturbed.fingerprint(), "{trouble}");
        assert_eq!(history.fingerprint(), disturbed(trouble).fingerprint(), "{trouble}");
        assert_eq!(history.delivered(1).len(), history.delivered(3).len(), "{trouble}");
    }
}

#[test]
fn a_node_whose_disk_is_full_is_out_until_there_is_space() {
    let mut scenario = Scenario::new(3, ms(9000)).at(SETTLED, Fault::FullDisk { node: 3, lasts: ms(3000) });
    for restart in 1..=4 {
        scenario = scenario.at(SETTLED + ms(500) * restart, Fault::Restart(2));
    }
    let history = run(&scenario);
    one_ring(&history, SETTLED + ms(2950), &[1, 2], true);
    one_ring(&history, ms(9000), &[1, 2, 3], true);
}

#[test]
fn a_slow_disk_delays_the_ring_that_its_node_joins() {
    let back = |each: u64| {
        let (slow, restarts) = (SETTLED - ms(1), SETTLED);
        let history = run(&Scenario::new(3, ms(9000))
            .at(slow, Fault::SlowDisk { node: 3, each: ms(each), lasts: ms(5000) })
            .at(restarts, Fault::Restart(3)));
        one_ring(&history, ms(9000), &[1, 2, 3], true);
        let joined = history.statuses().into_iter().find(|stated| {
            let online = stated.status.nodes.iter().filter(|node| node.online).count();
            stated.life.node.get() == 3 && stated.at > restarts && online == 3
        });
        joined.expect("it joins").at
    };
    assert!(back(100) >= back(1) + ms(80));
}

#[test]
fn a_lost_record_is_replaced_from_the_wall_clock() {
    let history = run(&Scenario::new(3, 3 * SETTLED)
        .at(SETTLED, Fault::Crash(1))
        .at(SETTLED, Fault::LoseRecord(1))
        .at(SETTLED + ms(500), Fault::Restart(1)));
    one_ring(&history, 3 * SETTLED, &[1, 2, 3], true);
    let seq = |at| status(&history, 2, at).ring.expect("a ring").seq;
    assert!(seq(SETTLED) < 1 << 32 && seq(3 * SETTLED) > 1 << 40);
}

#[test]
fn clocks_at_half_the_speed_wait_twice_as_long() {
    let waited = |ppm: i32| {
        let mut scenario = Scenario::new(3, 3 * SETTLED).at(2 * SETTLED, Fault::Crash(1));
        for node in 1..=3 {
            scenario = scenario.at(ms(0), Fault::Drift { node, ppm });
        }
        last_to_know_another_dc(&run(&scenario), &[2, 3], 1, 2 * SETTLED) - 2 * SETTLED
    };
    let (right, slow) = (waited(0), waited(-500_000));
    assert!(slow > right * 3 / 2, "{slow:?} and {right:?}");
}

#[test]
fn a_host_beside_the_nodes_reaches_those_that_a_cut_separates() {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let answers = Rc::clone(&asked);
    let client = async move {
        tokio::time::sleep(SETTLED + ms(1500)).await;
        for node in 1..=3 {
            let mut connection = TcpStream::connect(format!("node{node}:80")).await?;
            let is_quorate = connection.read_u8().await? == 1;
            answers.borrow_mut().push((node, is_quorate));
        }
        Ok(())
    };
    Scenario::new(3, 2 * SETTLED)
        .at(SETTLED, Fault::Partition(vec![vec![1], vec![2, 3]]))
        .run_service_among(Others::new().host("client", client), tell_quorum)
        .unwrap();
    assert_eq!(*asked.borrow(), [(1, false), (2, true), (3, true)]);
}

/// Tells each client whether the node is quorate.
async fn tell_quorum(host: Host) -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    loop {
        let (mut connection, _) = listener.accept().await?;
        connection.write_u8(host.dc.status().quorate.into()).await?;
    }
}

#[test]
fn a_host_that_fails_or_has_a_name_twice_fails_the_run() {
    let why = |others| {
        let run = Scenario::new(2, ms(100)).run_service_among(others, async |_| Ok(()));
        run.unwrap_err().to_string()
    };
    let fails = Others::new().host("shop", async { Err("out of tickets".into()) });
    assert!(why(fails).starts_with("host shop: out of tickets\n\nscenario\n2 nodes for 100ms"));
    let idle = || std::future::pending();
    for (name, said) in [("node2", "two hosts are called node2"), ("", "has no name")] {
        let why = why(Others::new().host(name, idle()));
        assert!(why.starts_with("impossible scenario: ") && why.contains(said), "{why}");
    }
}

#[test]
fn random_scenarios_keep_every_promise_and_end_in_one_ring() {
    let mut vacuous = 0;
    for seed in 0..20 {
        match Scenario::random_nodes(seed).run_nodes() {
            Ok(summary) => vacuous += u32::from(summary.vacuous.is_some()),
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(vacuous < 6, "{vacuous} of 20 runs prove nothing");
}

#[test]
fn the_calm_heals_the_network_but_starts_no_node() {
    let scenario = Scenario::new(3, 2 * SETTLED).calm(ms(1)).at(ms(0), Fault::Crash(1));
    assert!(scenario.run_nodes().is_ok());
    let cut = Fault::Partition(vec![vec![1], vec![2, 3]]);
    assert!(Scenario::new(3, 2 * SETTLED).at(ms(0), cut).calm(ms(500)).run_nodes().is_ok());
}

/// A process that joins a group when it starts, and leaves and rejoins the group with alternate
/// rings.
async fn come_and_go(mut host: Host) -> Result<(), Box<dyn std::error::Error>> {
    let node = host.node.of_process(1000 + host.id.get());
    let group: Group = "comers and goers".parse()?;
    node.join(&group).await?;
    let mut rings = 0;
    while let Some(event) = host.events.next().await {
        if let Event::Synced(_) = event {
            rings += 1;
            if rings % 2 == 0 {
                node.leave_group(&group, Parting::Left).await?;
            } else if rings > 1 {
                // The join fails if the earlier leave has not been seen yet. The node continues all
                // the same.
                let _ = node.join(&group).await;
            }
        }
    }
    Ok(())
}

#[test]
fn groups_of_a_service_agree_through_cuts_and_crashes() {
    let scenario = Scenario::new(5, ms(12_000))
        .seed(7)
        .at(ms(2500), Fault::Partition(vec![vec![1, 2, 3], vec![4, 5]]))
        .at(ms(5000), Fault::Crash(2))
        .at(ms(7000), Fault::Heal)
        .at(ms(7000), Fault::Restart(2));
    let history = scenario.run_service(come_and_go).unwrap_or_else(|failure| panic!("{failure}"));
    let changes = |reason: GroupReason| {
        history.records().iter().any(|record| match &record.what {
            What::GroupChange(change) => change.reason == reason,
            _ => false,
        })
    };
    for reason in [GroupReason::Join, GroupReason::Leave, GroupReason::NodeDown, GroupReason::NodeUp] {
        assert!(changes(reason), "nobody was told of a {reason}\n{history}");
    }
}
