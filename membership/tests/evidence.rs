//! How members detect that another is gone, by its host's report or by its silence, and the effect
//! of false reports.

#![allow(clippy::unwrap_used, reason = "tests panic")]

mod lab;

use std::time::Duration;

use lab::{Lab, ms, node};
use quorate_membership::Cause;
use quorate_membership::Guarantee::{Agreed, Safe};

/// Any member whose process is gone is removed on its host's report, once that has lasted for two
/// and a half probes. The time counts from when a token is sent to that member. Under load that is
/// at once, and in an idle ring after the hold time. It is a probe later if the member had the
/// token.
#[test]
fn a_process_that_is_gone_is_removed_at_once() {
    for (n, load) in [2, 3, 5, 8].into_iter().flat_map(|n| [(n, false), (n, true)]) {
        for victim in 1..=n {
            let mut lab = Lab::with_evidence(n);
            lab.run(ms(500));
            let others: Vec<u32> = (1..=n).filter(|id| *id != victim).collect();
            for k in 0..if load { 200 } else { 0 } {
                lab.send_numbered(k % n + 1, if k % 5 == 0 { Safe } else { Agreed }, 700);
                lab.run(Duration::from_micros(100));
            }
            lab.crash(victim);
            let took = lab.until_ring(&others);
            let due = if load { ms(0) } else { lab.config.hold };
            assert!(took < due + ms(36), "{n} nodes, node {victim}, load {load}: took {took:?}");
            let stats = others.iter().map(|id| lab.totem_of(*id).stats());
            assert!(stats.map(|stats| stats.accusations).sum::<u64>() >= 1);
            let said = |id: &&u32| lab.regular(**id).causes.contains(&Cause::Refused { node: node(victim) });
            let witness = *others.iter().find(said).unwrap();
            let why = lab.regular(witness).why();
            assert!(
                why.starts_with(&format!("the host of node {victim} reported that no process listens")),
                "{why}"
            );
            lab.run(ms(500));
            lab.check();
        }
    }
}

#[test]
fn several_processes_that_are_gone_are_removed_at_once() {
    for victims in [[1, 2], [2, 3], [2, 4], [5, 1]] {
        let mut lab = Lab::with_evidence(5);
        lab.run(ms(500));
        victims.into_iter().for_each(|id| lab.crash(id));
        let others: Vec<u32> = (1..=5).filter(|id| !victims.contains(id)).collect();
        let took = lab.until_ring(&others);
        assert!(took < ms(200), "{victims:?}: took {took:?}");
        lab.check();
    }
}

#[test]
fn a_process_that_restarts_before_its_host_is_asked_is_new() {
    for pause in [0, 1, 5, 15, 25, 60] {
        let mut lab = Lab::with_evidence(3);
        lab.run(ms(500));
        lab.crash(2);
        lab.run(ms(pause));
        lab.start(2);
        let took = lab.until_ring(&[1, 2, 3]);
        assert!(took < ms(150), "after {pause} ms: took {took:?}");
        lab.check();
    }
}

/// No host reports that the member is gone. The token timeout shows that something is wrong, and a
/// few JOINs show what.
#[test]
fn a_silent_host_is_removed_after_the_token_timeout() {
    for victim in 1..=4 {
        let mut lab = Lab::with_evidence(4);
        lab.run(ms(500));
        let others: Vec<u32> = (1..=4).filter(|id| *id != victim).collect();
        lab.cut(&[victim], &others);
        let took = lab.until_ring(&others);
        let bound = lab.config.token + 5 * lab.config.join;
        assert!(
            took < bound && took < lab.config.token + lab.config.consensus,
            "node {victim}: took {took:?}"
        );
        lab.check();
    }
}

#[test]
fn a_process_in_a_crash_loop_is_removed_at_once_each_time() {
    lab::scenarios::a_process_is_killed_every_three_seconds();
}

#[test]
fn a_host_that_refuses_once_a_second_is_believed() {
    lab::scenarios::a_host_has_used_up_its_refusals();
}

#[test]
fn a_single_refusal_does_not_break_the_ring() {
    lab::scenarios::a_host_is_asked_again_before_it_is_believed();
}

/// A live member answers when it is asked, so the accusation is not believed.
#[test]
fn a_false_accusation_costs_nothing() {
    lab::scenarios::a_member_is_accused_falsely();
}

/// A firewall rejects datagrams to a member for a moment, as while its rules are loaded. There is
/// no other fault.
#[test]
fn a_short_firewall_rejection_does_not_break_the_ring() {
    lab::scenarios::a_firewall_rejects_for_a_moment();
}

#[test]
fn refusals_are_ignored_without_failure_evidence() {
    let mut lab = Lab::ring(3);
    let ring = lab.regular(1).ring;
    lab.refuse(node(1), node(3));
    lab.refuse(node(1), node(3));
    lab.run(ms(100));
    assert_eq!((lab.regular(1).ring, lab.totem_of(1).stats().hints), (ring, 0));
}
