//! A laboratory for rings: complete nodes on a simulated network that is cut, healed, crashed and restarted on
//! schedule, and a checker for what they promised.
//!
//! It is how this project tests itself, and for those who build on the ring to test *their* service: the node and
//! its events are those of production; only the network, the clock and the disk are simulated, so time passes ten times
//! as fast or more, and the same seed gives the same run to the last byte.
//!
//! # Testing a service under a partition
//! A service is an async function that gets a [`Host`]: the [node](quorate_membership::Node) to send with, and the
//! [events](quorate_membership::Events) of ring and election. A [`Scenario`] says how many nodes there are, for how
//! long, and what goes wrong when. This one cuts two of five nodes off for two seconds:
//!
//! ```
//! use std::cell::RefCell;
//! use std::collections::BTreeMap;
//! use std::error::Error;
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! use quorate_election::Event;
//! use quorate_membership::{Event as RingEvent, Group, Guarantee};
//! use quorate_netsim::{Fault, Host, Scenario};
//!
//! /// What each node has sold, in its order.
//! type Sold = Rc<RefCell<BTreeMap<u32, Vec<String>>>>;
//!
//! /// The service under test: every node sells a ticket when its ring gets quorum. A sale is a message, and it is valid
//! /// where it is delivered with quorum.
//! async fn sell(mut host: Host, sold: Sold) -> Result<(), Box<dyn Error>> {
//!     let tickets: Group = "tickets".parse()?;
//!     let mut quorate = false;
//!     while let Some(event) = host.events.next().await {
//!         match event {
//!             Event::Status(status) => {
//!                 quorate = status.quorate;
//!                 if quorate {
//!                     let sale = format!("node {} in ring {:?}", host.id, status.ring);
//!                     host.node.multicast(&tickets, Guarantee::Safe, sale.into()).await?;
//!                 }
//!             }
//!             Event::Ring(RingEvent::Deliver(sale)) if quorate => {
//!                 let text = String::from_utf8(sale.payload.to_vec())?;
//!                 sold.borrow_mut().entry(host.id.get()).or_default().push(text);
//!             }
//!             _ => {}
//!         }
//!     }
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), Box<dyn Error>> {
//! let ms = Duration::from_millis;
//! let sold = Sold::default();
//! let of_nodes = Rc::clone(&sold);
//! let scenario = Scenario::new(5, ms(6000))
//!     .seed(42)
//!     .at(ms(2000), Fault::Partition(vec![vec![1, 2, 3], vec![4, 5]]))
//!     .at(ms(4000), Fault::Heal);
//! let history = scenario.run_service(move |host| sell(host, Rc::clone(&of_nodes)))?;
//!
//! // What the nodes knew, at any time:
//! let apart = ms(3900);
//! assert!(history.status(1, apart).is_some_and(|status| status.quorate));
//! assert!(history.status(4, apart).is_some_and(|status| !status.quorate));
//!
//! // What the service did: the same on each side, and nothing on the smaller one.
//! let sold = sold.borrow();
//! assert_eq!(sold[&1], sold[&3]);
//! assert_eq!(sold[&4], sold[&5]);
//! assert!(sold[&4].len() < sold[&1].len());
//! # Ok(())
//! # }
//! ```
//!
//! [`Scenario::run_service`] returns when the time is over. What the service has to prove is asserted in it, or
//! afterwards on what it left behind; a panic or an error in it fails the run. The run also fails if the ring itself
//! broke one of its [invariants]; and if it does, the [`Failure`] prints the invariant, the scenario with its seed, and
//! the last lines of the [`History`]. A scenario and a seed are all that it takes to see the same again.
//!
//! Everything the service does has to be a function of what it is given, or a seed replays nothing:
//! [`Scenario::run_service`] lists what to keep away from.
//!
//! # What is simulated
//! - One network with IP multicast, on [turmoil]: a datagram takes a millisecond, a token goes one hop in
//!   that time. Timeouts are scaled to it ([`Scenario::totem`]).
//! - Crashes, restarts with the stored record, partitions into any parts, one-way cuts: [`Fault`].
//! - A load of messages of any length, agreed and safe: [`Load`].
//!
//! Not simulated so far: loss, delay, reordering, duplication and damage of single datagrams; clocks that drift; paused
//! hosts; disks that lose what they stored.
//!
//! # How it is checked
//! Between the driver and the core sits an observer. It writes down what each node accepted, delivered and installed,
//! when it did so, whether or not the service reads it; and it gives each message a mark of its own, 16 bytes inside
//! the payload, taken off again before the service sees it, so that the checker need not believe the protocol's
//! numbers. The [invariants] are functions of what was written down.
//!
//! Beside runs that draw what goes wrong there is a [model check](model), which follows every possibility, for a few nodes
//! and within bounds.

mod engine;
pub mod fault;
pub mod history;
pub mod invariants;
mod journal;
pub mod model;
#[cfg(feature = "mutants")]
pub mod mutants;
mod observed;
mod scenario;
mod swarm;
mod text;
mod totals;

pub use engine::core::{Goal, POINTS, Reached, Summary};
pub use fault::Fault;
pub use history::History;
pub use scenario::{Failure, Host, Load, Scenario};
pub use text::ParseScenarioError;
pub use totals::Totals;
