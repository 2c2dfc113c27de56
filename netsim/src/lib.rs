//! A deterministic simulator for rings. It runs complete nodes on a simulated network with a
//! schedule of partitions, crashes and restarts, and checks the protocol's guarantees.
//!
//! This project tests itself with it, and you can test a service of your own that builds on the
//! ring. The node and its events are those of production. Only the network, the clock and the disk
//! are simulated, so time passes at least ten times as fast as in reality, and the same seed gives
//! the same run, byte for byte.
//!
//! This page is the guide:
//! - [Write a service](#a-service).
//! - [Cut its cluster in two](#a-split).
//! - [Add its clients, and what it uses](#clients-and-resources).
//! - [Write that down as text](#a-scenario-as-text).
//! - [Look at the history](#a-history).
//! - [Try many seeds](#many-seeds).
//! - [Reproduce a failure](#reproducing-a-failure).
//! - [Run bare members](#bare-members), which is much faster.
//!
//! The last two sections list [the checks](#checks) and [the limits of the
//! simulation](#limits-of-the-simulation). Each code block compiles as it stands, and runs as a
//! test of this page. A service that uses this crate in its tests has these dependencies, as the
//! crates are not on crates.io yet:
//!
//! ```toml
//! [dependencies]
//! quorate = { git = "https://github.com/quorate/quorate" }
//! tokio = { version = "1", features = ["full"] }
//!
//! [dev-dependencies]
//! quorate-netsim = { git = "https://github.com/quorate/quorate" }
//! turmoil = "0.7" # for its clients and resources
//! ```
//!
//! # A service
//! A service is an async function. It gets what `quorate::Builder::start` gives in production: the
//! [node](quorate::Node) to send with, and the [events](quorate::Events) of
//! the ring and the election. The function that you test is therefore the one that you ship. The
//! simulator passes them in a [`Host`], one for each start of a node.
//!
//! Every service has to get four things right, and its tests should cover them:
//! - **Events come in one order,** the same for all members. They are messages, rings, and the
//!   verdict on each ring. Members that compute a decision by folding over these events reach the
//!   same decision.
//! - **Apply every message, but acknowledge only with quorum.** Apply each delivered message, in
//!   order. Acknowledge it, to a buyer or to anything else outside the service, only if it was sent
//!   as a [safe](quorate::Guarantee::Safe) message and the last
//!   [status](quorate::Status) says that there is quorum. When a ring breaks, each side
//!   still delivers the ring's last messages
//!   ([`Delivery::transitional`](quorate::Delivery::transitional)), and no member can
//!   tell whether the other side delivers them too. Quorum is therefore withdrawn before the first
//!   of them. A side that acknowledged them would make promises that the other side never sees. A
//!   side that did not apply them would lack messages that the other side acknowledged just before.
//!   When the sides meet again, the side without quorum replaces its state by that of the other.
//!   [`quorate::replica`] does all of that for a state in memory.
//! - **`multicast` waits** while the ring has no room. A service that sends a lot needs a separate
//!   task for sending, so that it can keep taking events.
//! - **A delivery names its group.** Other services, and the simulator's [`Load`], send to groups
//!   of their own. Check [`group`](quorate::Delivery::group).
//!
//! # A split
//! A [`Scenario`] says how many nodes there are, how long the run is, and what goes wrong when.
//! This one cuts two of five nodes off for two seconds, while all of them sell tickets:
//!
//! ```
//! use std::cell::RefCell;
//! use std::collections::{BTreeMap, BTreeSet};
//! use std::error::Error;
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! use quorate::{Event, Group, Guarantee, MulticastError, Node};
//! use quorate_netsim::{Fault, Host, Scenario};
//!
//! /// The sales of a node, and those that it has confirmed to the buyer.
//! #[derive(Default)]
//! struct Shop {
//!     sold: BTreeSet<String>,
//!     confirmed: BTreeSet<String>,
//! }
//!
//! /// The shops of all nodes. The test owns them, so they survive crashes.
//! type Shops = Rc<RefCell<BTreeMap<u32, Shop>>>;
//!
//! /// The service under test: every node sells a ticket every few milliseconds. A sale is a safe
//! /// message. It is made wherever it is delivered, and confirmed if there is quorum just then.
//! async fn sell(mut host: Host, shops: Shops) -> Result<(), Box<dyn Error>> {
//!     let tickets: Group = "tickets".parse()?;
//!     tokio::spawn(offer(host.node.clone(), host.id.get(), tickets.clone()));
//!     let mut quorate = false;
//!     while let Some(event) = host.events.next().await {
//!         match event {
//!             Event::Status(status) => quorate = status.quorate,
//!             Event::Deliver(sale) if sale.group == tickets => {
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
//!     // Sales end long before the run does, so that the last one is delivered everywhere.
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
//!     // Only the majority had quorum during the cut; in the end, every node has it.
//!     let quorate = |node, at| history.status(node, ms(at)).is_some_and(|status| status.quorate);
//!     assert!([1, 2, 3].iter().all(|&node| quorate(node, 3900)));
//!     assert!([4, 5].iter().all(|&node| !quorate(node, 3900)));
//!     assert!([1, 2, 3, 4, 5].iter().all(|&node| quorate(node, 6000)));
//!
//!     // The majority has every sale that the minority confirmed to a buyer.
//!     let shops = shops.borrow();
//!     assert!(shops[&4].confirmed.is_subset(&shops[&1].sold));
//!     assert!(shops[&5].confirmed.is_subset(&shops[&1].sold));
//!     // During the cut, the minority made sales that the majority lacks. It confirmed none.
//!     assert!(!shops[&4].sold.is_subset(&shops[&1].sold));
//!     assert!(shops[&4].confirmed.len() < shops[&1].confirmed.len());
//!     Ok(())
//! }
//! ```
//!
//! [`Scenario::run_service`] returns when the simulated time is over. Assert in the service itself,
//! or afterwards on what it left behind. A panic or an error in the service fails the run, but not
//! a panic in a task that it has spawned, as HTTP servers do for their handlers: take such a panic
//! down, and assert after the run. The run also fails if the ring breaks one of its [invariants].
//!
//! Leave enough time. After a start, a cut or a heal, the members need up to
//! [`Scenario::settles_within`] (about two seconds with the usual timeouts) until they are one ring
//! that knows its quorum. A crash drops the service's future. A [restart](Fault::Restart) calls the
//! service again, with only the state that the test itself has kept.
//!
//! A seed reproduces a run only if everything that the service does depends on its inputs alone.
//! Use tokio's clock and channels, but no wall clock, no threads and no randomness of your own.
//! [`Scenario::run_service`] lists what to avoid. `turmoil::sim_elapsed()` is the time of the run.
//!
//! The example `replicated` is a complete service of this kind: a key-value store that is tested
//! under random cuts and crashes.
//!
//! # Clients and resources
//! [`Others`] adds hosts that run no node: clients of the service, and the resources that it uses.
//! Nodes and hosts talk over `turmoil::net`, and find each other by name. A cut separates the nodes
//! only, so a DC that has lost its ring still reaches the resource.
//!
//! Here the resource is a ledger. It checks fencing tokens: it takes no entry with a lower token
//! than the last one. The service makes entries while its node may act.
//!
//! ```
//! use std::cell::RefCell;
//! use std::error::Error;
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! use quorate_netsim::{Fault, Host, Others, Scenario};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use turmoil::net::{TcpListener, TcpStream};
//!
//! /// The node and the token of each entry.
//! type Entries = Rc<RefCell<Vec<(u32, u128)>>>;
//!
//! /// The resource.
//! async fn ledger(entries: Entries) -> Result<(), Box<dyn Error>> {
//!     let listener = TcpListener::bind("0.0.0.0:80").await?;
//!     loop {
//!         let (connection, _) = listener.accept().await?;
//!         tokio::task::spawn_local(write_entries(connection, Rc::clone(&entries)));
//!     }
//! }
//!
//! /// Takes entries until the node closes the connection.
//! async fn write_entries(mut connection: TcpStream, entries: Entries) -> std::io::Result<()> {
//!     loop {
//!         let (node, token) = (connection.read_u32().await?, connection.read_u128().await?);
//!         let fenced = entries.borrow().last().is_some_and(|&(_, last)| token < last);
//!         if !fenced {
//!             entries.borrow_mut().push((node, token));
//!         }
//!         connection.write_u8(fenced.into()).await?;
//!     }
//! }
//!
//! /// The service under test.
//! async fn make_entries(host: Host) -> Result<(), Box<dyn Error>> {
//!     let mut ledger = TcpStream::connect("ledger:80").await?;
//!     while let Ok(guard) = host.dc.guard().await {
//!         while let Ok(term) = guard.check() {
//!             ledger.write_u32(host.id.get()).await?;
//!             ledger.write_u128(term.as_u128()).await?;
//!             ledger.read_u8().await?;
//!             tokio::time::sleep(Duration::from_millis(5)).await;
//!         }
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     let ms = Duration::from_millis;
//!     let entries = Entries::default();
//!     let others = Others::new().host("ledger", ledger(Rc::clone(&entries)));
//!     Scenario::new(3, ms(5000))
//!         .at(ms(2000), Fault::Partition(vec![vec![1], vec![2, 3]]))
//!         .run_service_among(others, make_entries)?;
//!
//!     let entries = entries.borrow();
//!     assert!(entries.is_sorted_by_key(|&(_, token)| token), "the ledger takes no lower token");
//!     // Node 1 is the DC at first. Another one follows it, and takes over for good.
//!     let of_first = entries.iter().take_while(|&&(node, _)| node == 1).count();
//!     assert!(of_first > 100, "{of_first}");
//!     assert!(entries.len() > of_first && entries[of_first..].iter().all(|&(node, _)| node != 1));
//!     Ok(())
//! }
//! ```
//!
//! # A scenario as text
//! A scenario prints as lines and is parsed from them, so it can be a file next to the test, or
//! part of a bug report. Every [`Fault`] prints as one sentence.
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
//!     let split: Scenario = SPLIT.parse()?; // or fs::read_to_string("split.scenario")?.parse()?
//!     split.run()?; // without a service: the load is enough to check the ring
//!     Ok(())
//! }
//! ```
//!
//! The first line is required. The load (`each sends ...`), settings (`with window_size 4`) and
//! faults are optional, and `#` begins a comment. A line that cannot be parsed is an error that
//! names the line and the reason.
//!
//! # A history
//! A [`History`] records what every node saw, and when. It prints as one line an event, and has
//! functions for the most common questions.
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
//!     // Which node was the DC before the crash, and which one after it?
//!     let dc = |at| history.status(3, ms(at)).and_then(|status| status.dc).map(|dc| dc.get());
//!     assert_eq!((dc(1900), dc(4000)), (Some(1), Some(2)));
//!
//!     // Which messages did the application of node 3 get?
//!     assert!(history.delivered(3).len() > 100);
//!
//!     // Which rings was each node in, and how many messages were delivered in each?
//!     for (life, stays) in history.stays() {
//!         for stay in stays {
//!             println!("{life}: {}: {}", stay.regular.ring, stay.in_regular.len());
//!         }
//!     }
//!
//!     // The records are the lines that `println!("{history}")` prints.
//!     for record in history.records() {
//!         if let What::Regular(_) = record.what {
//!             println!("{record}");
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Many seeds
//! One seed gives one interleaving. Another seed changes the order in which nodes run and the
//! messages that they send, and a test can also use it to choose what goes wrong when. This one
//! searches for the worst moment to cut a ring in two:
//!
//! ```
//! use std::error::Error;
//! use std::time::Duration;
//!
//! use quorate_netsim::{Fault, Scenario};
//!
//! /// Returns a scenario whose parts and whose moment depend only on the seed.
//! fn split(seed: u64) -> Scenario {
//!     let ms = Duration::from_millis;
//!     let nodes: Vec<u32> = (0..5).map(|n| 1 + (n + seed as u32) % 5).collect();
//!     let (majority, minority) = nodes.split_at(3);
//!     let cut = Fault::Partition(vec![majority.to_vec(), minority.to_vec()]);
//!     Scenario::new(5, ms(4500))
//!         .seed(seed)
//!         .at(ms(1500 + seed * 37 % 500), cut)
//!         .at(ms(2500), Fault::Heal)
//! }
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     for seed in 0..10 {
//!         let scenario = split(seed);
//!         // Call `scenario.run_service(...)` here, and assert what your service promises.
//!         let history = scenario.run()?;
//!         let end = scenario.settles_within() + Duration::from_millis(2500);
//!         for node in 1..=5 {
//!             let status = history.status(node, end);
//!             assert!(status.is_some_and(|status| status.quorate), "\n{scenario}");
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Reproducing a failure
//! A [`Failure`] prints what was wrong, the scenario with its seed, and the last lines of the
//! history. The scenario is all that you need to reproduce it. Put it into a file, and the file
//! into a test.
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
//!         if let quorate::Event::Status(status) = event {
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
//!     // Pasted from the part of the report that is headed `scenario`:
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
//! [`Scenario::run_core`] runs the ring and the election without the driver, the runtime and a
//! service. It is a hundred times as fast, has a clock of microseconds, and knows every fault there
//! is. [`Scenario::random`] draws a cluster, its load and its faults from a seed. If the faults of
//! a scenario end (`calm from ...`), the members also have to form one ring and deliver everything
//! within the time that the timeouts promise.
//!
//! ```
//! use std::error::Error;
//!
//! use quorate_netsim::{Scenario, Situation};
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
//!     assert!(summary.situations[&Situation::TokenLost] > 0, "it is what the scenario is for");
//!
//!     for seed in 0..5 {
//!         Scenario::random(seed).run_core()?;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The command `quorate sim run` does this with thousands of seeds. `quorate sim replay SEED` shows
//! one of them, and `quorate sim scenario FILE` runs a scenario from a file.
//!
//! [`Scenario::live`] advances a run on request, and takes faults in between. The page of `quorate
//! lab` is built on it, and exports each run as a scenario.
//!
//! # Checks
//! An observer between the driver and the core records what each node accepted, delivered and
//! installed at the moment when it happens, whether or not the service reads it. The observer also
//! adds a mark of 16 bytes to each payload, and removes it before the service sees the message. The
//! checker identifies messages by their marks, so it does not depend on the protocol's own numbers.
//!
//! The [invariants] are functions of this record. Some of them:
//! - Members deliver the same messages in the same order.
//! - No member delivers a message twice, or one that was never sent.
//! - Two quorate rings share a member.
//! - Terms rise.
//! - A message that is acknowledged by the rule above is not lost.
//!
//! They are checked in every run, whatever the service does. Only your own test can check what the
//! *service* promises.
//!
//! # Limits of the simulation
//! Simulated:
//! - One network with IP multicast, on [turmoil]. A datagram takes a millisecond, and a token moves
//!   one hop in that time. Timeouts are scaled to it ([`Scenario::totem`]).
//! - Crashes, restarts with the stored record, partitions into any parts, one-way cuts, and single
//!   datagrams that are lost, duplicated, delayed or damaged: [`Fault`].
//! - Disks that are slow or full, or lose the record, and clocks that drift.
//! - An operator who asks a DC to give up its role ([`Fault::Release`]), prefers nodes as DC
//!   ([`Scenario::dc_priority`], [`Scenario::preempt`]), and has the cluster detect hung
//!   applications ([`Scenario::heartbeat`], [`Fault::Hang`]). For whole nodes, the simulator sends
//!   the heartbeats in place of the service, and a hang withholds them; the service itself does not
//!   hang. For bare members, the simulator also models what acts as the DC, and how a hung one
//!   continues under its old guard.
//! - For bare members: hosts that report that a process is gone, and false reports
//!   ([`Scenario::by_evidence`], [`Fault::Lie`]), firewalls that reject for a moment
//!   ([`Fault::Reject`]), links that are never mended ([`Fault::Deafen`]), and datagrams that no
//!   node has sent ([`Fault::Forge`]).
//! - A load of messages of any length, agreed and safe: [`Load`].
//! - The service's own connections, if it opens any with `turmoil::net`. A cut between two nodes
//!   cuts theirs too.
//! - Clients and resources on hosts of their own: [`Others`].
//!
//! Not simulated:
//! - Operators who change votes or expected votes while nodes run.
//! - Real time. A service takes no simulated time to compute, however long it computes.
//! - For whole nodes: paused hosts. turmoil runs every host in every millisecond, and no task of a
//!   host can keep its other tasks from running. What a service sees of a pause is a right to act
//!   that ends between the check and the act. It can be tested with a resource that answers late:
//!   the term changes while the service waits. For bare members, pauses are simulated
//!   ([`Scenario::run_core`]).
//!
//! Besides these runs, whose faults are drawn at random or written down, a [model check](model)
//! follows every possibility for a few nodes, within bounds.

pub mod cases;
mod columns;
mod electorate;
mod engine;
mod failure;
pub mod fault;
pub mod history;
pub mod invariants;
mod journal;
mod live;
pub mod model;
#[cfg(feature = "mutants")]
pub mod mutants;
mod observed;
mod others;
mod picture;
mod run;
mod scenario;
pub mod shrink;
mod situation;
mod swarm;
mod text;
mod totals;
mod value;

pub use electorate::Electorate;
pub use engine::core::{Goal, Reached, Summary};
pub use failure::Failure;
pub use fault::Fault;
pub use history::History;
pub use live::{Ended, InjectError, Live};
pub use others::Others;
pub use scenario::{Host, Load, Scenario};
pub use situation::{Hop, Situation};
pub use text::ParseScenarioError;
pub use totals::{Count, Totals};
