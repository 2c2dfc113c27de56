//! The key-value store on a simulated network: five replicas, partitions and crashes, and clients
//! that record which writes were acknowledged.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use quorate_examples::kv::Store;
use quorate_netsim::{Failure, Fault, Host, Scenario};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const NODES: u32 = 5;
/// The time of the first fault, in milliseconds.
const BEGINS: u64 = 1500;
/// The time when the network is healed.
const HEALED: u64 = 4000;
/// The time when clients stop writing. Late enough for a single ring of all nodes to take writes.
const WRITTEN: u64 = 6500;
/// The end of the run, when the last writes have arrived.
const LENGTH: u64 = 6700;

/// Returns a scenario with partitions and crashes. Only two of the five nodes crash, repeatedly, so
/// a majority remembers at any time.
fn trouble(seed: u64) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut nodes: Vec<u32> = (1..=NODES).collect();
    let mut scenario = Scenario::new(NODES, ms(LENGTH)).seed(seed);
    nodes.shuffle(&mut rng);
    let mortal = [nodes[0], nodes[1]];
    let mut at = BEGINS;
    while at < HEALED {
        nodes.shuffle(&mut rng);
        let fault = match rng.random_range(0..8) {
            0..4 => {
                let (some, others) = nodes.split_at(rng.random_range(1..3));
                Fault::Partition(vec![some.to_vec(), others.to_vec()])
            }
            4 => Fault::CutOneWay { from: nodes[0], to: nodes[1] },
            5 => Fault::Heal,
            6 => Fault::Crash(mortal[rng.random_range(0..2)]),
            _ => Fault::Restart(mortal[rng.random_range(0..2)]),
        };
        scenario = scenario.at(ms(at), fault);
        at += rng.random_range(20..900);
    }
    // A node that is down starts again; one that is up crashes once more.
    let [one, other] = mortal;
    scenario
        .at(ms(HEALED), Fault::Heal)
        .at(ms(HEALED), Fault::Restart(one))
        .at(ms(HEALED), Fault::Restart(other))
}

/// The records of clients and stores, which survive crashes.
#[derive(Default)]
struct Account {
    acknowledged: Vec<String>,
    unacknowledged: usize,
    /// The stores of the latest run of each node.
    stores: BTreeMap<u32, Store>,
    /// Whether each of them accepts writes at the end.
    open: BTreeMap<u32, bool>,
}

/// The service under test with its client. It writes each of its own keys once, and one key that
/// all clients share.
async fn write(host: Host, account: Rc<RefCell<Account>>) -> Result<(), Box<dyn Error>> {
    let store = Store::open(host.node, host.events)?;
    account.borrow_mut().stores.insert(host.id.get(), store.clone());
    loop {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        if now >= ms(WRITTEN) {
            tokio::time::sleep(ms(LENGTH - 1) - now).await;
            let is_open = store.status().closed.is_none();
            account.borrow_mut().open.insert(host.id.get(), is_open);
            return Ok(());
        }
        let key = format!("{} at {now:?}", host.id);
        match store.put(&key, "written").await {
            Ok(_) => account.borrow_mut().acknowledged.push(key.clone()),
            Err(_) => account.borrow_mut().unacknowledged += 1,
        }
        // This write may fail. In the end all members must have the same value for this key.
        let _ = store.put("the latest", &key).await;
        tokio::time::sleep(ms(5)).await;
    }
}

/// Runs the store in this scenario. Returns the promise that it broke, if any, and the record of
/// its clients.
fn promises(scenario: &Scenario) -> Result<(Result<(), String>, Account), Failure> {
    let account = Rc::new(RefCell::new(Account::default()));
    let of_nodes = Rc::clone(&account);
    scenario.run_service(move |host| write(host, Rc::clone(&of_nodes)))?;
    let account = account.take();
    Ok((kept(&account), account))
}

fn kept(account: &Account) -> Result<(), String> {
    let contents: Vec<_> = account.stores.iter().map(|(node, store)| (node, store.entries())).collect();
    for (node, entries) in &contents {
        if let Some(lost) = account.acknowledged.iter().find(|key| !entries.0.contains_key(*key)) {
            return Err(format!(
                "the write of node {lost} was acknowledged, and node {node} does not have it"
            ));
        }
        let (first, those_of_first) = &contents[0];
        if entries != those_of_first {
            return Err(format!("node {node} has not the same as node {first}"));
        }
    }
    Ok(())
}

#[test]
fn no_acknowledged_write_is_lost_and_replicas_agree_in_the_end() {
    let (mut acknowledged, mut unacknowledged) = (0, 0);
    for seed in 0..25 {
        let scenario = trouble(seed);
        let (kept, account) = promises(&scenario).unwrap_or_else(|failure| panic!("{failure}"));
        kept.unwrap_or_else(|broken| panic!("{broken}\n{scenario}"));
        assert!(account.open.values().all(|&open| open), "in the end\n{scenario}");
        acknowledged += account.acknowledged.len();
        unacknowledged += account.unacknowledged;
    }
    println!("{acknowledged} writes acknowledged, {unacknowledged} not");
    assert!(acknowledged > 10_000 && unacknowledged > 500, "{acknowledged}, {unacknowledged} not");
}

/// Writes large values at node 1 until `size` bytes are acknowledged.
async fn write_much(
    host: Host,
    size: usize,
    stores: Rc<RefCell<BTreeMap<u32, Store>>>,
) -> Result<(), Box<dyn Error>> {
    const VALUE: usize = 100_000;
    let id = host.id.get();
    let store = Store::open(host.node, host.events)?;
    stores.borrow_mut().insert(id, store.clone());
    if id != 1 {
        std::future::pending::<()>().await;
    }
    store.opened(3).await?;
    for n in 0..size / VALUE {
        while store.put(&format!("value {n}"), &"x".repeat(VALUE)).await.is_err() {
            tokio::time::sleep(ms(20)).await;
        }
    }
    std::future::pending::<()>().await;
    Ok(())
}

/// Checks that a node that restarts gets a state of `size` bytes. Each node may leave
/// `unread_limit` bytes of events unread.
fn large_snapshot(size: usize, unread_limit: usize) {
    let stores = Rc::default();
    let of_nodes = Rc::clone(&stores);
    let mut scenario = Scenario::new(3, ms(15_000)).at(ms(7000), Fault::Restart(3));
    let mut totem = scenario.totem();
    totem.unread_limit = unread_limit;
    scenario = scenario.protocol(totem);
    let run = scenario.run_service(move |host| write_much(host, size, Rc::clone(&of_nodes)));
    run.unwrap_or_else(|failure| panic!("{failure}"));
    let stores: BTreeMap<u32, Store> = stores.take();
    for (node, store) in &stores {
        let held: usize = store.entries().0.values().map(String::len).sum();
        assert_eq!(held, size, "node {node}");
    }
}

#[test]
fn a_snapshot_longer_than_a_message_reaches_a_restarted_node() {
    large_snapshot(2_400_000, 4 << 20);
}

#[test]
fn a_store_continues_after_events_unread() {
    large_snapshot(6_000_000, 200 << 10);
}
