//! Replicas on whole nodes: partitions, crashes and restarts of a majority, also while snapshots
//! are under way.
//!
//! `SEEDS=a..b` runs these seeds.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod trouble;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate::replica::{Closed, Replica, State, WriteError};
use quorate_netsim::{Fault, Host, Scenario};

use self::trouble::{LENGTH, each, ms, seeds, trouble};

/// All writes so far. Its snapshot is longer than these: it ends with zeros.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Log {
    writes: Vec<u64>,
    padding: usize,
}

impl State for Log {
    /// The number of writes so far.
    type Output = usize;

    fn apply(&mut self, write: &[u8]) -> usize {
        self.writes.push(u64::from_le_bytes(write.try_into().unwrap()));
        self.writes.len()
    }

    fn snapshot(&self) -> Bytes {
        let mut bytes = (self.writes.len() as u64).to_le_bytes().to_vec();
        bytes.extend(self.writes.iter().flat_map(|write| write.to_le_bytes()));
        bytes.resize(bytes.len() + self.padding, 0);
        bytes.into()
    }

    fn restore(snapshot: &[u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let (words, _) = snapshot.as_chunks();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let length = usize::try_from(words.next().ok_or("no length")?)?;
        let writes: Vec<u64> = words.take(length).collect();
        if writes.len() < length {
            return Err("a part is missing".into());
        }
        let padding = snapshot.len() - 8 * (1 + length);
        Ok(Self { writes, padding })
    }
}

/// The outcomes that clients have seen, and the replicas of the latest run of each node.
#[derive(Default)]
struct Account {
    next: u64,
    /// The log up to the last write that was acknowledged.
    acknowledged: Vec<u64>,
    doubtful: usize,
    refused: BTreeSet<u64>,
    replicas: BTreeMap<u32, Replica<Log>>,
    /// Why each of them accepts no writes at the end.
    closed: BTreeMap<u32, Option<Closed>>,
    broken: Option<String>,
}

impl Account {
    fn acknowledge(&mut self, write: u64, log: &[u64]) {
        let shorter = log.len().min(self.acknowledged.len());
        if log.last() != Some(&write) || log[..shorter] != self.acknowledged[..shorter] {
            self.broken.get_or_insert(format!("{write} was acknowledged in another history"));
        }
        if log.len() > shorter {
            self.acknowledged = log.to_vec();
        }
    }

    /// Returns the promise that is broken at the end of the run, if one is.
    fn broken(&self) -> Option<String> {
        if self.broken.is_some() {
            return self.broken.clone();
        }
        let logs: Vec<Log> = self.replicas.values().map(|replica| replica.read(Log::clone)).collect();
        for log in &logs {
            let distinct: BTreeSet<&u64> = log.writes.iter().collect();
            if distinct.len() < log.writes.len() {
                return Some("a write was applied twice".to_owned());
            }
            if distinct.iter().any(|write| self.refused.contains(write)) {
                return Some("a write was applied that was refused".to_owned());
            }
        }
        if self.closed.values().all(|why| matches!(why, Some(Closed::Forgotten { .. }))) {
            return None;
        }
        if let Some(why) = self.closed.values().flatten().next() {
            return Some(format!("in the end, a member does not accept writes: {why}"));
        }
        if logs.iter().any(|log| *log != logs[0]) {
            return Some("members have different states in the end".to_owned());
        }
        let kept = logs[0].writes.starts_with(&self.acknowledged);
        (!kept).then(|| "an acknowledged write is lost".to_owned())
    }
}

/// The snapshots of the replicas are at least `padding` bytes long.
async fn write(
    host: Host,
    padding: usize,
    end: Duration,
    account: Rc<RefCell<Account>>,
) -> Result<(), Box<dyn Error>> {
    let initial = Log { writes: Vec::new(), padding };
    let replica = Replica::open(host.node, "log".parse()?, initial, host.events);
    account.borrow_mut().replicas.insert(host.id.get(), replica.clone());
    // Two clients: one waits until writes are accepted, the other does not.
    for patient in [true, false] {
        let (replica, account) = (replica.clone(), Rc::clone(&account));
        tokio::task::spawn_local(async move {
            while turmoil::sim_elapsed().unwrap_or_default() < end - ms(500) {
                tokio::time::sleep(ms(3)).await;
                if patient && replica.opened().await.is_err() {
                    return;
                }
                account.borrow_mut().next += 1;
                let write = account.borrow().next;
                let outcome = replica.write(write.to_le_bytes()).await;
                let account = &mut account.borrow_mut();
                match outcome {
                    Ok(length) => replica.read(|log| account.acknowledge(write, &log.writes[..length])),
                    Err(WriteError::Closed(_)) => drop(account.refused.insert(write)),
                    Err(_) => account.doubtful += 1,
                }
            }
        });
    }
    tokio::time::sleep(end - ms(1) - turmoil::sim_elapsed().unwrap_or_default()).await;
    account.borrow_mut().closed.insert(host.id.get(), replica.status().closed);
    std::future::pending().await
}

/// Runs replicas in this scenario, up to `end`.
fn run(scenario: &Scenario, padding: usize, end: Duration) -> Account {
    let account = Rc::new(RefCell::new(Account::default()));
    let of_nodes = Rc::clone(&account);
    scenario
        .run_service(move |host| write(host, padding, end, Rc::clone(&of_nodes)))
        .unwrap_or_else(|failure| panic!("{failure}"));
    account.take()
}

/// Returns the length of snapshots. Some of them take a while.
fn padding(seed: u64) -> usize {
    if seed.is_multiple_of(3) { 1_500_000 } else { 1000 }
}

#[test]
fn acknowledged_writes_have_one_history_on_whole_nodes() {
    let [acknowledged, doubtful, refused, forgotten] = [const { AtomicU64::new(0) }; 4];
    let seeds = seeds(0..30);
    each(seeds.clone(), |seed| {
        let scenario = trouble(seed);
        let account = run(&scenario, padding(seed), ms(LENGTH));
        if let Some(broken) = account.broken() {
            panic!("seed {seed}: {broken}\n{scenario}");
        }
        acknowledged.fetch_add(account.acknowledged.len() as u64, Ordering::Relaxed);
        doubtful.fetch_add(account.doubtful as u64, Ordering::Relaxed);
        refused.fetch_add(account.refused.len() as u64, Ordering::Relaxed);
        let closed = account.closed.values().all(Option::is_some);
        forgotten.fetch_add(u64::from(closed), Ordering::Relaxed);
    });
    println!(
        "{seeds:?}: {acknowledged:?} writes in histories of acknowledged ones, {doubtful:?} in doubt, {refused:?} refused; {forgotten:?} runs forgot"
    );
    let runs = seeds.end - seeds.start;
    assert!(acknowledged.into_inner() > 100 * runs && refused.into_inner() > 10 * runs);
    assert!(doubtful.into_inner() > runs / 2 && forgotten.into_inner() < runs / 2);
}

#[test]
fn a_state_of_100_mb_reaches_a_node_over_ring_changes() {
    let length = ms(60_000);
    let scenario = Scenario::new(3, length)
        .at(ms(3000), Fault::Restart(3))
        .at(ms(4500), Fault::Partition(vec![vec![1, 2], vec![3]]))
        .at(ms(5500), Fault::Heal)
        .at(ms(8500), Fault::Restart(2))
        .at(ms(10_000), Fault::Partition(vec![vec![1, 3], vec![2]]))
        .at(ms(11_000), Fault::Heal);
    let account = run(&scenario, 100_000_000, length);
    assert_eq!(account.broken(), None);
    assert!(account.closed.values().all(Option::is_none), "{:?}", account.closed);
    assert!(account.acknowledged.len() > 1000, "{}", account.acknowledged.len());
}

#[cfg(feature = "mutants")]
#[test]
fn replicas_that_break_a_rule_are_found() {
    use quorate_netsim::mutants::Mutant;

    for &mutant in Mutant::OF_REPLICAS {
        let _active = mutant.activate();
        let found = (0..200).find_map(|seed| {
            let broken = std::panic::catch_unwind(|| run(&trouble(seed), padding(seed), ms(LENGTH)).broken());
            Some((seed, broken.unwrap_or_else(|_| Some("it panics".to_owned()))?))
        });
        println!("{mutant}: {found:?}");
        assert!(found.is_some(), "{mutant} survives");
    }
}
