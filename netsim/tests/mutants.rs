//! Known bugs, put back one at a time. The swarm has to find each of them.
//!
//! `MUTANTS=A,B` hunts only these, and `SEEDS=n` sets the number of seeds.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::ops::ControlFlow;
use std::panic;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use quorate_netsim::Scenario;
use quorate_netsim::mutants::{Hunt, Mutant, hunt};

/// The most seeds that a mutant may survive.
const SEEDS: u64 = 400;

/// The most runs for shrinking a scenario.
const RUNS: u64 = 1000;

/// Mutants that are found only in scenarios made for them, by the lab of `quorate-membership` (its
/// `tests/mutants.rs`) or by the regressions (`tests/regress.rs`, `tests/leases.rs`). Their
/// conditions are too rare here (quorum options, long leases) or impossible (members with different
/// windows, messages without a byte, a network with an MTU).
const NOT_HERE: &[Mutant] = &[
    // Found by `tests/electorates.rs` and by the tests of `quorate-election`. A second part takes a
    // certain order of restarts.
    Mutant::ForeignVotesCount,
    Mutant::NodeListsIgnored,
    Mutant::AgreedUnstored,
    // Found by the tests of `quorate-election`. The swarm has no quorum device.
    Mutant::DeviceVotesAgree,
    Mutant::DeviceGrantsTerms,
    Mutant::DeviceNotAwaited,
    // Found by `tests/clusters.rs` of `quorate-membership`. Here, most worlds have a node list, and
    // no stranger answers.
    Mutant::OtherClusterHeard,
    Mutant::TokenFromAnybody,
    Mutant::HoldNeverCancelled,
    Mutant::AruStopsAtLongGap,
    Mutant::WindowUnderflow,
    Mutant::FullWindowBelieved,
    Mutant::FlagBelieved,
    Mutant::HintNotChecked,
    Mutant::StrangersGivenUpSoon,
    Mutant::CommitTokenToStranger,
    Mutant::YouthDecides,
    Mutant::FramesFromAnybody,
    Mutant::StrangersDelayAgreement,
    Mutant::JoinRefusedWhole,
    Mutant::NoBackOff,
    Mutant::SameOneAnswers,
    Mutant::EvidenceOfAMoment,
    Mutant::ProbesGoOneWay,
    Mutant::TokenMissedAtOnce,
    Mutant::QuestionUnanswered,
    Mutant::SuspectsProbed,
    Mutant::SuspicionForgotten,
    Mutant::ForeignHoldAwaited,
    Mutant::AnyRingSeqBelieved,
    Mutant::WidenedUnasked,
    Mutant::WrapUnsafeRecovery,
    Mutant::WrapUnsafeInstall,
    Mutant::ObligationsForgotten,
    Mutant::ObligationsNotShared,
    Mutant::RetransFlagMarkKept,
    Mutant::NoRoomForSecondHeader,
    Mutant::FramesTakenInCommit,
    Mutant::StaleCommitTokenAccepted,
    Mutant::FailedNotMerged,
    Mutant::LeaveSaidOnce,
    Mutant::AllWhoDifferAccused,
    Mutant::StaleJoinEndsRing,
    Mutant::StallForgotten,
    Mutant::EmptyMessageLost,
    Mutant::TwoNodeOfMany,
    Mutant::ExpectedFromInquorate,
    Mutant::TieBreakOdd,
    Mutant::TieBreakAtStart,
    Mutant::StartsWithoutAll,
    Mutant::WaitNotRearmed,
    Mutant::LastManFallsAtOnce,
    Mutant::LastManFallsInquorate,
    Mutant::OptionsNotCompared,
    Mutant::LeaseFromReceipt,
    Mutant::LeaseFromResend,
    Mutant::LeaseWithoutRateError,
    Mutant::NoWaitInNewRing,
    Mutant::LeaseKeptUnasked,
    Mutant::RemovalCountsAsRelease,
    Mutant::TermNotPersisted,
    Mutant::DcKeptWithoutQuorum,
];

/// Returns `true` if this laboratory has to find the mutant.
fn is_here(mutant: &Mutant) -> bool {
    [NOT_HERE, Mutant::OF_REPLICAS, Mutant::OF_LEADERS].iter().all(|others| !others.contains(mutant))
}

#[test]
fn every_known_bug_is_found() {
    let chosen: Vec<Mutant> = match std::env::var("MUTANTS") {
        Ok(names) => names.split(',').map(|name| name.parse().unwrap()).collect(),
        Err(_) => Mutant::ALL.iter().copied().filter(is_here).collect(),
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

/// A few mutants that are found soon, by T1, S14 and L1. `MUTANTS=A,B` shrinks these instead.
const SHRUNK: [Mutant; 4] = [
    Mutant::CopyOfTokenAccepted,
    Mutant::CopyOfTokenConfirms,
    Mutant::RetransmissionDefersLoss,
    Mutant::AruRaisedByAnybody,
];

#[test]
fn a_scenario_that_finds_a_bug_shrinks_and_still_finds_it() {
    let chosen: Vec<Mutant> = match std::env::var("MUTANTS") {
        Ok(names) => names.split(',').map(|name| name.parse().unwrap()).collect(),
        Err(_) => SHRUNK.to_vec(),
    };
    panic::set_hook(Box::new(|_| {}));
    println!("mutant                            seed by   faults nodes     runs      s");
    for mutant in chosen {
        let began = Instant::now();
        let Hunt { seeds, killed_by, .. } = hunt(mutant, SEEDS);
        let (property, _) = killed_by.unwrap();
        let _active = mutant.activate();
        let shrunk = Scenario::random(seeds - 1).shrink(RUNS, |_| ControlFlow::Continue(())).unwrap();
        let (before, after) = (&shrunk.original, &shrunk.scenario);
        println!(
            "{mutant:<34}{:>4} {property:<3} {:>4}>{:<2} {:>2}>{:<2} {:>8} {:>6.1}",
            seeds - 1,
            before.faults(),
            after.faults(),
            before.nodes(),
            after.nodes(),
            shrunk.runs,
            began.elapsed().as_secs_f64()
        );
        assert!(after.faults() <= 20 && after.nodes() <= 4, "{shrunk}");
        let again: Scenario = shrunk.to_string().parse().unwrap();
        let failure = again.run_core().unwrap_err();
        assert_eq!(failure.violation().map(|violation| violation.property), Some(property), "{failure}");
    }
    drop(panic::take_hook());
}

#[test]
fn random_scenarios_pass_without_a_mutant() {
    for seed in 0..50 {
        if let Err(failure) = Scenario::random(seed).run_core() {
            panic!("seed {seed}: {failure}");
        }
    }
}
