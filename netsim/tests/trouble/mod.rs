//! Scenarios with partitions, crashes and restarts of whole nodes, and ways to run many of them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use quorate_netsim::{Fault, Scenario};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The number of nodes. Each of them has a vote.
pub(crate) const NODES: u32 = 5;
/// The time of the first fault, in milliseconds.
pub(crate) const BEGINS: u64 = 1500;
/// The time at which the network is healed and all nodes are up, in milliseconds.
pub(crate) const HEALED: u64 = 4500;
/// The length of the run, in milliseconds. Clients stop a little before its end.
pub(crate) const LENGTH: u64 = 7500;

/// Returns a scenario with partitions, and with crashes of all nodes but one.
pub(crate) fn trouble(seed: u64) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut nodes: Vec<u32> = (1..=NODES).collect();
    let mut scenario = Scenario::new(NODES, ms(LENGTH)).seed(seed);
    let immortal = rng.random_range(1..=NODES);
    // In most runs, only two nodes ever crash, so a majority keeps its memory.
    let mortals: Vec<u32> = match rng.random_bool(0.7) {
        true => nodes.iter().copied().filter(|&node| node != immortal).take(2).collect(),
        false => nodes.iter().copied().filter(|&node| node != immortal).collect(),
    };
    let mut at = BEGINS;
    while at < HEALED {
        nodes.shuffle(&mut rng);
        let mortal = mortals[rng.random_range(0..mortals.len())];
        let fault = match rng.random_range(0..10) {
            0..4 => {
                let (some, others) = nodes.split_at(rng.random_range(1..3));
                Fault::Partition(vec![some.to_vec(), others.to_vec()])
            }
            4 => Fault::CutOneWay { from: nodes[0], to: nodes[1] },
            5..7 => Fault::Heal,
            7 => Fault::Crash(mortal),
            _ => Fault::Restart(mortal),
        };
        scenario = scenario.at(ms(at), fault);
        at += rng.random_range(20..600);
    }
    let heal = scenario.at(ms(HEALED), Fault::Heal);
    mortals.iter().fold(heal, |scenario, &node| scenario.at(ms(HEALED), Fault::Restart(node)))
}

/// Returns the seeds of the environment variable `SEEDS` (`FIRST..END`), or else `by_default`.
pub(crate) fn seeds(by_default: Range<u64>) -> Range<u64> {
    let Ok(seeds) = std::env::var("SEEDS") else { return by_default };
    let (first, end) = seeds.split_once("..").unwrap();
    first.parse().unwrap()..end.parse().unwrap()
}

/// Calls `run` with each of the seeds, on all processors.
pub(crate) fn each(seeds: Range<u64>, run: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    run(seed);
                }
            });
        }
    });
}
