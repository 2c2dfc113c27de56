//! The job on a simulated network. Its holder crashes or is cut off, and no other node holds the
//! address meanwhile.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use quorate_examples::singleton::{Address, Claim, hold};
use quorate_netsim::{Failure, Fault, Scenario};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The address, and the nodes that claimed it, each with the start of its series of claims.
#[derive(Default)]
struct Log {
    address: Address,
    holders: Vec<(Duration, u32)>,
}

/// Runs the job on three nodes. The first holder is node 1, which has the lowest id, so faults can
/// target the holder.
fn run(scenario: &Scenario) -> Result<Log, Failure> {
    let log = Rc::new(RefCell::new(Log::default()));
    let claims = log.clone();
    scenario.run_service(move |host| {
        let log = claims.clone();
        async move {
            let me = host.id.get();
            drop(host.events);
            hold(host.dc, |term| {
                let mut log = log.borrow_mut();
                let accepted = log.address.claim(Claim { node: me, term: term.as_u128() });
                assert!(accepted, "{me} may act under {term:?}, and is refused");
                if log.holders.last().is_none_or(|(_, holder)| *holder != me) {
                    log.holders.push((turmoil::sim_elapsed().unwrap_or_default(), me));
                }
                std::future::ready(())
            })
            .await;
            Ok(())
        }
    })?;
    Ok(log.take())
}

fn holders(log: &Log) -> Vec<u32> {
    log.holders.iter().map(|(_, holder)| *holder).collect()
}

#[test]
fn the_address_moves_at_a_crash_and_does_not_return() {
    let scenario = Scenario::new(3, ms(8000)).at(ms(2000), Fault::Crash(1)).at(ms(5000), Fault::Restart(1));
    let log = run(&scenario).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(holders(&log), [1, 2], "{:?}", log.holders);
    assert_eq!(log.address.refused(), 0);
}

#[test]
fn the_address_moves_at_a_cut_and_does_not_return() {
    let cut = Fault::Partition(vec![vec![1], vec![2, 3]]);
    let scenario = Scenario::new(3, ms(8000)).at(ms(2000), cut).at(ms(5000), Fault::Heal);
    let log = run(&scenario).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(holders(&log), [1, 2], "{:?}", log.holders);
}

#[test]
fn no_node_holds_the_address_without_quorum() {
    let parts = Fault::Partition(vec![vec![1], vec![2], vec![3]]);
    let scenario = Scenario::new(3, ms(6000)).at(ms(2000), parts).at(ms(4000), Fault::Heal);
    let log = run(&scenario).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(log.holders[0].1, 1);
    assert!(log.holders.iter().all(|(at, _)| *at < ms(2500) || *at > ms(4000)), "{:?}", log.holders);
}
