//! The model check, within bounds that are small enough to run on every change, and known bugs that
//! it has to find within them.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use quorate_netsim::model::{Begin, Bounds, Explored, explore};

fn ring() -> Bounds {
    Bounds { messages: 2, timers: 1, rings: 2, ..Bounds::default() }
}

#[track_caller]
fn check(bounds: &Bounds) -> Explored {
    let explored = explore(bounds, |_| {}).unwrap_or_else(|found| panic!("{found}"));
    println!("{explored}");
    assert!(explored.exhausted, "{explored}");
    explored
}

#[test]
fn two_nodes_that_start_break_no_promise() {
    let explored = check(&Bounds { begin: Begin::Apart, timers: 2, rings: 2, ..Bounds::default() });
    assert!(explored.states > 10_000, "{explored}");
}

#[test]
fn two_nodes_that_lose_a_datagram_break_no_promise() {
    let explored = check(&Bounds { losses: 1, ..ring() });
    assert!(explored.states > 10_000, "{explored}");
}

#[test]
fn two_nodes_with_duplicates_and_overtakings_break_no_promise() {
    check(&Bounds { duplicates: 1, overtakings: 1, messages: 1, ..ring() });
}

#[test]
fn two_nodes_with_a_crash_break_no_promise() {
    check(&Bounds { crashes: 1, messages: 1, ..ring() });
}

/// Bounds in which one consensus timeout ends too early and nothing is lost. Each node then has an
/// accusation of the other under way (B16).
fn early() -> Bounds {
    Bounds { begin: Begin::Apart, messages: 0, timers: 1, losses: 0, rings: 30, ..Bounds::default() }
}

#[test]
fn two_nodes_that_accuse_each_other_stop_forming_rings() {
    assert_eq!(check(&early()).cut, 0);
}

#[test]
fn the_same_bounds_give_the_same_states() {
    let bounds = Bounds { losses: 1, messages: 1, ..ring() };
    let (one, two) = (check(&bounds), check(&bounds));
    assert_eq!((one.states, one.transitions, one.local), (two.states, two.transitions, two.local));
}

#[cfg(feature = "mutants")]
mod mutants {
    use quorate_netsim::model::Counterexample;
    use quorate_netsim::mutants::Mutant;

    use super::*;

    /// Puts the bug back, and asserts that the check finds a violation of `property` on a path that
    /// contains `step`.
    #[track_caller]
    fn is_found(mutant: Mutant, bounds: &Bounds, property: &str, step: &str) {
        let _active = mutant.activate();
        let found: Box<Counterexample> = match explore(bounds, |_| {}) {
            Err(found) => found,
            Ok(explored) => panic!("{mutant} survives: {explored}"),
        };
        println!("{mutant}: {found}");
        assert_eq!(found.violation.property, property);
        assert!(found.steps.iter().any(|text| text.contains(step)), "no {step:?} in\n{found}");
    }

    fn lossy() -> Bounds {
        Bounds { losses: 1, ..ring() }
    }

    fn patient() -> Bounds {
        Bounds { timers: 2, messages: 1, ..lossy() }
    }

    #[test]
    fn a_copy_of_a_token_that_is_accepted_is_found() {
        is_found(Mutant::CopyOfTokenAccepted, &lossy(), "T1", "the next timer fires");
    }

    #[test]
    fn a_safe_message_that_does_not_wait_is_found() {
        is_found(Mutant::SafeAsAgreed, &lossy(), "S14", "sends a message, safe");
    }

    #[test]
    fn a_message_that_is_safe_a_rotation_too_early_is_found() {
        is_found(Mutant::SafeAfterOneRotation, &lossy(), "S8", "is lost");
    }

    #[test]
    fn a_delivery_behind_a_hole_is_found() {
        is_found(Mutant::DeliveredPastHole, &lossy(), "S11", "is lost");
    }

    #[test]
    fn an_unsafe_message_in_a_ring_that_ends_is_found() {
        is_found(Mutant::UnsafeDeliveredBeforeTransitional, &patient(), "S14", "the next timer fires late");
    }

    #[test]
    fn a_forgotten_safe_message_is_found() {
        is_found(Mutant::HighDeliveredForgotten, &lossy(), "S8", "gather to commit");
    }

    #[test]
    fn a_false_transitional_member_is_found() {
        is_found(Mutant::TransitionalByIdOnly, &patient(), "M4", "transitional");
    }

    #[test]
    fn an_old_ring_that_is_overwritten_is_found() {
        is_found(Mutant::FailedCommitOverwritesOldRing, &patient(), "S6", "gather to commit");
        is_found(Mutant::FailedRecoveryKeepsRingId, &patient(), "S6", "commit to recovery");
    }

    #[test]
    fn answered_accusations_continue_forever() {
        let _active = Mutant::AccusationsAnswered.activate();
        assert!(check(&early()).cut > 0);
    }

    #[test]
    fn a_record_that_is_not_read_is_found() {
        is_found(Mutant::RecordNotRead, &Bounds { crashes: 1, ..ring() }, "T1", "1 crashes");
    }
}
