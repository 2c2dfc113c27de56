//! A laboratory for rings: complete nodes on a simulated network that is cut, healed, crashed and restarted on
//! schedule, and a checker for what they promised.
//!
//! It is how this project tests itself, and for those who build on the ring to test *their* service: the node and
//! its events are those of production; only the network, the clock and the disk are simulated, so time passes ten times
//! as fast or more, and the same seed gives the same run to the last byte.
//!
//! This page is the guide: [write a service](#a-service), [cut it in two](#a-split), [write that down as
//! text](#a-scenario-as-text), [look at what happened](#what-happened), [try many seeds](#many-seeds) and [see a failure
//! again](#a-failure-again); then [what is checked](#what-is-checked) and [what is simulated](#what-is-simulated). Each block
//! of code is whole: it compiles as it stands, and is run as a test of this page. A program that uses this crate has
//!
//! ```toml
//! [dependencies]
//! quorate-membership = "0.1"
//! quorate-election = "0.1"
//!
//! [dev-dependencies]
//! quorate-netsim = "0.1"
//! ```
//!
//! # A service
//! A service is an async function that gets what `quorate_election::spawn` gives in production: the
//! [node](quorate_membership::Node) to send with, and the [events](quorate_membership::Events) of ring and election. So the
//! function that is tested is the one that is shipped. In the laboratory they come in a [`Host`], one for each start of
//! a node.
//!
//! Four things to get right in every service, and to test:
//! - **Events come in one order,** the same for all members: messages, rings, what a ring was judged to be. What is decided by
//!   folding over them is decided alike everywhere.
//! - **Make every message, acknowledge what has quorum.** Whatever is delivered is made, in its order. It is acknowledged, to a
//!   buyer or to whatever else is outside, only if it was sent as a [safe](quorate_membership::Guarantee::Safe) message and
//!   the last [status](quorate_election::Status) says that there is quorum. When a ring breaks, each side of it is still
//!   delivered the ring's last messages ([`Delivery::transitional`](quorate_membership::Delivery::transitional)), and
//!   nobody can say whether the other side is: quorum is withdrawn before the first of them. A side that acknowledged them
//!   would have promised what the other one never sees. A side that did not make them would lack what the other one has
//!   acknowledged just before. What a side without quorum has made is replaced by the state of the other one when they
//!   meet; the example `replicated` does that.
//! - **`multicast` waits** while the ring has no room. Who sends a lot sends from a task of its own, and goes on taking
//!   events.
//! - **A delivery names its group.** Other services, and the laboratory's [`Load`], send to groups of theirs: look at
//!   [`group`](quorate_membership::Delivery::group).
//!
//! # A split
//! A [`Scenario`] says how many nodes there are, for how long, and what goes wrong when. This one cuts two of five nodes
//! off for two seconds, while all of them sell:
//!
//! ```
//! use std::cell::RefCell;
//! use std::collections::{BTreeMap, BTreeSet};
//! use std::error::Error;
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! use quorate_election::Event;
//! use quorate_membership::{Event as RingEvent, Group, Guarantee, MulticastError, Node};
//! use quorate_netsim::{Fault, Host, Scenario};
//!
//! /// What a node has sold, and of which sales it has told the buyer.
//! #[derive(Default)]
//! struct Shop {
//!     sold: BTreeSet<String>,
//!     confirmed: BTreeSet<String>,
//! }
//!
//! /// All of them. It is the test's, not the nodes': no crash takes it away.
//! type Shops = Rc<RefCell<BTreeMap<u32, Shop>>>;
//!
//! /// The service under test: every node sells a ticket every few milliseconds. A sale is a safe message: it is made
//! /// wherever it is delivered, and confirmed where that is with quorum.
//! async fn sell(mut host: Host, shops: Shops) -> Result<(), Box<dyn Error>> {
//!     let tickets: Group = "tickets".parse()?;
//!     tokio::spawn(offer(host.node.clone(), host.id.get(), tickets.clone()));
//!     let mut quorate = false;
//!     while let Some(event) = host.events.next().await {
//!         match event {
//!             Event::Status(status) => quorate = status.quorate,
//!             Event::Ring(RingEvent::Deliver(sale)) if sale.group == tickets => {
//!                 let ticket = String::from_utf8(sale.payload.to_vec())?;
//!                 let mut shops = shops.borrow_mut();
//!                 let shop = shops.entry(host.id.get()).or_default();
//!                 if quorate {
//!                     shop.confirmed.insert(ticket.clone());
//!                 }
//!                 shop.sold.insert(ticket);
//!             }
//!             _ => {}
//!         }
//!     }
//!     Ok(())
//! }
//!
//! async fn offer(node: Node, seller: u32, tickets: Group) {
//!     // The last sale is long delivered everywhere when the run ends.
//!     for number in 0..1500 {
//!         let ticket = format!("ticket {number} of node {seller}");
//!         match node.multicast(&tickets, Guarantee::Safe, ticket.into()).await {
//!             Ok(()) | Err(MulticastError::EventsUnread) => {}
//!             Err(_) => return,
//!         }
//!         tokio::time::sleep(Duration::from_millis(3)).await;
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     let ms = Duration::from_millis;
//!     let shops = Shops::default();
//!     let of_nodes = Rc::clone(&shops);
//!     let scenario = Scenario::new(5, ms(6000))
//!         .seed(42)
//!         .at(ms(2000), Fault::Partition(vec![vec![1, 2, 3], vec![4, 5]]))
//!         .at(ms(4000), Fault::Heal);
//!     let history = scenario.run_service(move |host| sell(host, Rc::clone(&of_nodes)))?;
//!
//!     // What the nodes knew while they were apart, and in the end:
//!     let quorate = |node, at| history.status(node, ms(at)).is_some_and(|status| status.quorate);
//!     assert!([1, 2, 3].iter().all(|&node| quorate(node, 3900)));
//!     assert!([4, 5].iter().all(|&node| !quorate(node, 3900)));
//!     assert!([1, 2, 3, 4, 5].iter().all(|&node| quorate(node, 6000)));
//!
//!     // What the service did: the majority has every ticket of which the minority has told a buyer.
//!     let shops = shops.borrow();
//!     assert!(shops[&4].confirmed.is_subset(&shops[&1].sold));
//!     assert!(shops[&5].confirmed.is_subset(&shops[&1].sold));
//!     // While they were apart, the minority has sold what the majority knows nothing of; no buyer was told.
//!     assert!(!shops[&4].sold.is_subset(&shops[&1].sold));
//!     assert!(shops[&4].confirmed.len() < shops[&1].confirmed.len());
//!     Ok(())
//! }
//! ```
//!
//! [`Scenario::run_service`] returns when the time is over. What the service has to prove is asserted in it, or
//! afterwards on what it left behind; a panic or an error in it fails the run. The run also fails if the ring itself
//! broke one of its [invariants].
//!
//! Times have to leave room: after a start, a cut or a heal, the members need up to [`Scenario::settles_within`]
//! (some two seconds with the usual timeouts) until they are one ring that knows its quorum. A crash drops the
//! service's future; a [restart](Fault::Restart) calls it anew, with nothing but what the test itself has kept.
//!
//! Everything the service does has to be a function of what it is given, or a seed replays nothing: tokio's clock and
//! channels, but no wall clock, threads or randomness of its own. [`Scenario::run_service`] lists what to keep away from;
//! `turmoil::sim_elapsed()` is the time of the run.
//!
//! The example `replicated` is a whole service of this kind: a key-value store whose replicas take over each other's
//! state, tested under random cuts and crashes, with mistakes that can be switched on to see that the test finds them.
//!
//! # A scenario as text
//! A scenario prints as lines, and is read from them again. So a scenario can be a file, next to the test or sent by
//! somebody; every [`Fault`] prints as the sentence that stands for it.
//!
//! ```
//! use std::error::Error;
//!
//! use quorate_netsim::Scenario;
//!
//! const SPLIT: &str = "
//! 5 nodes for 6s, token timeout 200ms, seed 42
//! each sends every 20ms until 5s, up to 3000 bytes, 50 % safe
//! at 2s partition [1, 2, 3] | [4, 5]  # three keep quorum,
//! at 2.5s node 2 crashes              # for half a second
//! at 3s node 2 starts again
//! at 4s the network heals
//! ";
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     let split: Scenario = SPLIT.parse()?; // or std::fs::read_to_string("split.scenario")?.parse()?
//!     split.run()?; // without a service: the load is enough to check the ring
//!     Ok(())
//! }
//! ```
//!
//! The first line has to be there; the load (`each sends ...`), settings (`with window_size 4`) and faults are as one
//! wants, `#` begins a comment. A line that is not understood is an error that says which and why.
//!
//! # What happened
//! A [`History`] is what every node saw, and when. It prints as lines, one an event; functions pick out what one asks for
//! most.
//!
//! ```
//! use std::error::Error;
//! use std::time::Duration;
//!
//! use quorate_netsim::history::What;
//! use quorate_netsim::{Fault, Load, Scenario};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     let ms = Duration::from_millis;
//!     let history = Scenario::new(3, ms(4000))
//!         .load(Load { every: ms(20), until: ms(3500), longest: 100, safe_percent: 50 })
//!         .at(ms(2000), Fault::Crash(1))
//!         .run()?;
//!
//!     // Who was DC before and after?
//!     let dc = |at| history.status(3, ms(at)).and_then(|status| status.dc).map(|dc| dc.get());
//!     assert_eq!((dc(1900), dc(4000)), (Some(1), Some(2)));
//!
//!     // Which messages did an application get?
//!     assert!(history.delivered(3).len() > 100);
//!
//!     // In which rings was each node, and what was delivered in each?
//!     for (life, stays) in history.stays() {
//!         let rings: Vec<_> = stays.iter().map(|stay| (stay.regular.ring, stay.in_regular.len())).collect();
//!         println!("{life}: {rings:?}");
//!     }
//!
//!     // Or all of it, line by line, as `println!("{history}")` prints it.
//!     let changes = history.records().iter().filter(|record| matches!(record.what, What::Regular(_)));
//!     changes.for_each(|change| println!("{change}"));
//!     Ok(())
//! }
//! ```
//!
//! # Many seeds
//! One seed is one order of things. With another, the nodes take their turns and send their messages otherwise; and it may
//! as well decide what goes wrong when. This looks for the worst moment to cut a ring in two:
//!
//! ```
//! use std::error::Error;
//! use std::time::Duration;
//!
//! use quorate_netsim::{Fault, Scenario};
//!
//! /// The parts and the moment depend on the seed, and on nothing else.
//! fn split(seed: u64) -> Scenario {
//!     let ms = Duration::from_millis;
//!     let nodes: Vec<u32> = (0..5).map(|n| 1 + (n + seed as u32) % 5).collect();
//!     let (majority, minority) = nodes.split_at(3);
//!     Scenario::new(5, ms(4500))
//!         .seed(seed)
//!         .at(ms(1500 + seed * 37 % 500), Fault::Partition(vec![majority.to_vec(), minority.to_vec()]))
//!         .at(ms(2500), Fault::Heal)
//! }
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     for seed in 0..10 {
//!         let scenario = split(seed);
//!         // Here goes `scenario.run_service(...)`, and what your service has to prove.
//!         let history = scenario.run()?;
//!         let all = |node| history.status(node, scenario.settles_within() + Duration::from_millis(2500));
//!         assert!((1..=5).all(|node| all(node).is_some_and(|status| status.quorate)), "\n{scenario}");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # A failure again
//! A [`Failure`] prints what was wrong, the scenario with its seed, and the last lines of the history. The scenario is all that
//! it takes to see the same again: put it into a file, and the file into a test.
//!
//! ```
//! use std::error::Error;
//! use std::time::Duration;
//!
//! use quorate_netsim::{Fault, Host, Scenario};
//!
//! /// A service with an assumption that does not hold under a partition.
//! async fn naive(mut host: Host) -> Result<(), Box<dyn Error>> {
//!     let mut was_quorate = false;
//!     while let Some(event) = host.events.next().await {
//!         if let quorate_election::Event::Status(status) = event {
//!             if was_quorate && status.settled && !status.quorate {
//!                 return Err(format!("quorum was lost: {}", status.cause).into());
//!             }
//!             was_quorate |= status.quorate;
//!         }
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     let ms = Duration::from_millis;
//!     let failure = Scenario::new(5, ms(6000))
//!         .seed(42)
//!         .at(ms(2000), Fault::Partition(vec![vec![1, 2, 3], vec![4, 5]]))
//!         .run_service(naive)
//!         .unwrap_err();
//!     let report = failure.to_string();
//!     assert!(report.contains("quorum was lost: no token came for 200 ms"), "{report}");
//!
//!     // What stands in the report under `scenario`, pasted:
//!     let again: Scenario = "
//! 5 nodes for 6s, token timeout 200ms, seed 42
//! at 2s partition [1, 2, 3] | [4, 5]
//! "
//!     .parse()?;
//!     assert_eq!(again.run_service(naive).unwrap_err().to_string(), report);
//!     Ok(())
//! }
//! ```
//!
//! # Bare members
//! [`Scenario::run_core`] runs the ring and the election without driver, runtime and service: a hundred times as fast, on a
//! clock of microseconds, with every fault there is. [`Scenario::random`] draws a cluster, its load and its trouble from a
//! seed. A scenario with an end of its trouble (`calm from ...`) has to come to one ring with everything delivered, too,
//! in the time that the timeouts promise.
//!
//! ```
//! use std::error::Error;
//!
//! use quorate_netsim::Scenario;
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     let tokens_get_lost: Scenario = "
//! 3 nodes for 5s, token timeout 200ms, seed 7
//! each sends every 5ms until 3s, up to 2000 bytes, 30 % safe
//! at 500ms for 2s lose 10 % of tokens
//! at 900ms when node 3 enters recovery: node 3 crashes
//! at 1.5s node 3 starts again
//! calm from 3s
//! "
//!     .parse()?;
//!     let summary = tokens_get_lost.run_core()?;
//!     assert!(summary.points["a ring lost its token"] > 0, "it is what the scenario is for");
//!
//!     for seed in 0..5 {
//!         Scenario::random(seed).run_core()?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! `quorate sim run` does that with thousands of seeds, `quorate sim replay SEED` shows one of them, `quorate sim scenario FILE`
//! runs one from a file.
//!
//! # What is checked
//! Between the driver and the core sits an observer. It writes down what each node accepted, delivered and installed,
//! when it did so, whether or not the service reads it; and it gives each message a mark of its own, 16 bytes inside
//! the payload, taken off again before the service sees it, so that the checker need not believe the protocol's
//! numbers. The [invariants] are functions of what was written down: that members see the same messages in the same
//! order, that nobody sees a message twice or one that nobody sent, that two quorate rings share a member, that terms rise,
//! that what is acknowledged by the rule above is not lost.
//! They are checked in every run, whatever the service does.
//!
//! What the *service* promises only its own test can check.
//!
//! # What is simulated
//! - One network with IP multicast, on [turmoil]: a datagram takes a millisecond, a token goes one hop in
//!   that time. Timeouts are scaled to it ([`Scenario::totem`]).
//! - Crashes, restarts with the stored record, partitions into any parts, one-way cuts, and single datagrams that are
//!   lost, come twice, late or damaged: [`Fault`].
//! - An operator who asks a DC to give up its role ([`Fault::Release`]), prefers nodes ([`Scenario::dc_priority`],
//!   [`Scenario::preempt`]), and has hung applications found ([`Scenario::heartbeat`], [`Fault::Hang`]). For whole nodes, the
//!   laboratory gives the signs of life that a hang withholds, beside the service; the service itself does not hang. What acts
//!   as DC do, and how a hung one goes on under its old guard, is simulated for bare members.
//! - For bare members, hosts that say that a process is gone, and lies about that ([`Scenario::by_evidence`], [`Fault::Lie`]),
//!   firewalls that reject for a moment ([`Fault::Reject`]), links that are never mended ([`Fault::Deafen`]), and datagrams that no
//!   node has sent ([`Fault::Forge`]).
//! - A load of messages of any length, agreed and safe: [`Load`].
//! - The service's own connections, if it opens any with `turmoil::net`: a cut cuts them too.
//!
//! Not simulated: operators who change votes or expected votes while nodes run; real time. A service takes no time to compute, however long it computes.
//!
//! Not simulated for whole nodes: clocks that drift; paused hosts; disks that are slow or lose what they stored. For bare
//! members they are ([`Scenario::run_core`]).
//!
//! Beside runs that draw what goes wrong there is a [model check](model), which follows every possibility, for a few nodes
//! and within bounds.

pub mod cases;
mod columns;
mod electorate;
mod engine;
mod failure;
pub mod fault;
pub mod history;
pub mod invariants;
mod journal;
pub mod model;
#[cfg(feature = "mutants")]
pub mod mutants;
mod observed;
mod scenario;
pub mod shrink;
mod swarm;
mod text;
mod totals;

pub use electorate::Electorate;
pub use engine::core::{Goal, POINTS, Reached, Summary};
pub use failure::Failure;
pub use fault::Fault;
pub use history::History;
pub use scenario::{Host, Load, Scenario};
pub use text::ParseScenarioError;
pub use totals::{Count, Totals};
