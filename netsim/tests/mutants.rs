//! Known bugs, put back one at a time: the swarm has to find each.
//!
//! `MUTANTS=A,B` hunts these only, `SEEDS=n` for so long.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::panic;
use std::sync::Mutex;
use std::thread;

use quorate_netsim::Scenario;
use quorate_netsim::mutants::{Hunt, Mutant, hunt};

/// No mutant lives longer than this many seeds.
const SEEDS: u64 = 300;

/// Those that the lab of `quorate-membership` finds (its `tests/mutants.rs`), in scenarios made for them: what they take is
/// too rare here, or cannot happen (members with different windows, messages without a byte, a network with an MTU).
const NOT_HERE: &[Mutant] = &[
    Mutant::AruStopsAtLongGap,
    Mutant::WindowUnderflow,
    Mutant::WrapUnsafeRecovery,
    Mutant::WrapUnsafeInstall,
    Mutant::ObligationsForgotten,
    Mutant::ObligationsNotShared,
    Mutant::NoRoomForSecondHeader,
    Mutant::FramesTakenInCommit,
    Mutant::StaleCommitTokenAccepted,
    Mutant::LeaveSaidOnce,
    Mutant::StaleJoinEndsRing,
    Mutant::StallForgotten,
    Mutant::EmptyMessageLost,
];

#[test]
fn every_known_bug_is_found() {
    let chosen: Vec<Mutant> = match std::env::var("MUTANTS") {
        Ok(names) => names.split(',').map(|name| name.parse().unwrap()).collect(),
        Err(_) => Mutant::ALL.iter().copied().filter(|mutant| !NOT_HERE.contains(mutant)).collect(),
    };
    let seeds = std::env::var("SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    panic::set_hook(Box::new(|_| {}));
    let queue = Mutex::new(chosen.into_iter());
    let next = || queue.lock().unwrap().next();
    let hunting = || std::iter::from_fn(next).map(|mutant| hunt(mutant, seeds)).collect::<Vec<Hunt>>();
    let mut hunts: Vec<Hunt> = thread::scope(|scope| {
        let hunters: Vec<_> = (0..2).map(|_| scope.spawn(hunting)).collect();
        hunters.into_iter().flat_map(|hunter| hunter.join().unwrap()).collect()
    });
    drop(panic::take_hook());
    hunts.sort_by_key(|hunt| hunt.mutant);
    println!("{}", Hunt::HEADER);
    hunts.iter().for_each(|hunt| println!("{hunt}"));
    let survivors: Vec<Mutant> =
        hunts.iter().filter(|hunt| hunt.killed_by.is_none()).map(|hunt| hunt.mutant).collect();
    assert!(survivors.is_empty(), "{survivors:?} survive");
}

#[test]
fn what_finds_the_bugs_finds_nothing_where_there_are_none() {
    for seed in 0..50 {
        if let Err(failure) = Scenario::random(seed).run_core() {
            panic!("seed {seed}: {failure}");
        }
    }
}
