//! The guide's ticket shop, over many seeds. Every sale that the side without quorum has confirmed
//! has also been made by the other side.

#![allow(clippy::unwrap_used, reason = "tests panic")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use quorate::{Event, Group, Guarantee, MulticastError, Node};
use quorate_netsim::{Fault, Host, Scenario};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Default)]
struct Shop {
    sold: BTreeSet<String>,
    confirmed: BTreeSet<String>,
}

type Shops = Rc<RefCell<BTreeMap<u32, Shop>>>;

/// The condition under which a sale is confirmed.
#[derive(Clone, Copy)]
enum Rule {
    /// The last status has quorum.
    Quorate,
    /// The ring in which the sale was delivered has quorum, even if the ring is over.
    QuorumOfItsRing,
    /// The last status has quorum. Without it, the sale is not even made.
    MadeWithQuorum,
}

async fn sell(mut host: Host, rule: Rule, shops: Shops) -> Result<(), Box<dyn Error>> {
    let tickets: Group = "tickets".parse()?;
    tokio::spawn(offer(host.node.clone(), host.id.get(), tickets.clone()));
    let (mut quorate, mut ring_is) = (false, false);
    while let Some(event) = host.events.next().await {
        match event {
            Event::Status(status) => {
                quorate = status.quorate;
                if status.settled {
                    ring_is = status.quorate;
                }
            }
            Event::Regular(_) => ring_is = false,
            Event::Deliver(sale) if sale.group == tickets => {
                let ticket = String::from_utf8(sale.payload.to_vec())?;
                let mut shops = shops.borrow_mut();
                let shop = shops.entry(host.id.get()).or_default();
                let (makes, confirms) = match rule {
                    Rule::Quorate => (true, quorate),
                    Rule::QuorumOfItsRing => (true, ring_is),
                    Rule::MadeWithQuorum => (quorate, quorate),
                };
                if confirms {
                    shop.confirmed.insert(ticket.clone());
                }
                if makes {
                    shop.sold.insert(ticket);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

async fn offer(node: Node, seller: u32, tickets: Group) {
    for number in 0_u64.. {
        let ticket = format!("ticket {number} of node {seller}");
        match node.multicast(&tickets, Guarantee::Safe, ticket.into()).await {
            Ok(()) | Err(MulticastError::EventsUnread) => {}
            Err(_) => return,
        }
        tokio::time::sleep(ms(3)).await;
    }
}

/// Cuts off nodes 4 and 5 at a moment that depends on the seed. Returns the sales that they have
/// confirmed and the others have not made, and the number of sales that they have confirmed.
fn split(seed: u64, rule: Rule) -> (Vec<String>, usize) {
    let shops = Shops::default();
    let of_nodes = Rc::clone(&shops);
    let run = Scenario::new(5, ms(2000))
        .seed(seed)
        .at(ms(1000 + seed * 7 % 13), Fault::Partition(vec![vec![1, 2, 3], vec![4, 5]]))
        .run_service(move |host| sell(host, rule, Rc::clone(&of_nodes)));
    run.unwrap_or_else(|failure| panic!("{failure}"));
    let shops = shops.take();
    let confirmed: BTreeSet<&String> = [4, 5].iter().flat_map(|node| &shops[node].confirmed).collect();
    let lost = |ticket: &&&String| [1, 2, 3].iter().any(|node| !shops[node].sold.contains(**ticket));
    (confirmed.iter().filter(lost).map(|ticket| (*ticket).clone()).collect(), confirmed.len())
}

#[test]
fn no_sale_confirmed_by_a_minority_is_lost() {
    for seed in 0..20 {
        let (lost, confirmed) = split(seed, Rule::Quorate);
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
        assert!(confirmed > 100, "seed {seed}: {confirmed} confirmed");
    }
}

#[test]
fn sales_confirmed_after_the_ring_broke_are_lost() {
    let found = (0..60).find_map(|seed| split(seed, Rule::QuorumOfItsRing).0.pop());
    assert!(found.is_some(), "not found");
}

#[test]
fn sales_made_with_quorum_only_are_lost() {
    let found = (0..60).find_map(|seed| split(seed, Rule::MadeWithQuorum).0.pop());
    assert!(found.is_some(), "not found");
}
