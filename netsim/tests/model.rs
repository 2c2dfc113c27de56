//! The model check, within bounds that are small enough for every change; and known bugs, which it has to find within
//! them.

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
fn two_nodes_that_get_a_datagram_twice_and_another_late_break_no_promise() {
    check(&Bounds { duplicates: 1, overtakings: 1, messages: 1, ..ring() });
}

#[test]
fn two_nodes_of_which_one_crashes_and_starts_again_break_no_promise() {
    check(&Bounds { crashes: 1, messages: 1, ..ring() });
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

    fn hunt(mutant: Mutant, bounds: &Bounds) -> Option<Box<Counterexample>> {
        let _active = mutant.activate();
        explore(&Bounds { states: Some(400_000), ..bounds.clone() }, |_| {}).err()
    }

    #[test]
    fn survey() {
        let sets = [
            ("loss", Bounds { losses: 1, ..ring() }),
            ("loss2", Bounds { losses: 1, timers: 2, messages: 1, ..ring() }),
            ("dup", Bounds { duplicates: 1, ..ring() }),
            ("crash", Bounds { crashes: 1, timers: 2, messages: 1, ..ring() }),
            ("apart", Bounds { begin: Begin::Apart, timers: 2, ..Bounds::default() }),
        ];
        for &mutant in Mutant::ALL {
            for (name, bounds) in &sets {
                let began = std::time::Instant::now();
                let found = std::panic::catch_unwind(|| hunt(mutant, bounds));
                if let Ok(Some(found)) = found {
                    println!(
                        "{mutant:<34} {name:<6} {:>3} steps {:>5.1} s {}",
                        found.steps.len(),
                        began.elapsed().as_secs_f64(),
                        found.violation.property
                    );
                    break;
                } else if found.is_err() {
                    println!("{mutant:<34} {name} panics");
                    break;
                }
            }
        }
    }
}
